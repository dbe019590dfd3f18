//! The first minutes of somebody who comes from make, xargs, GNU parallel, pytest or GitHub's workflows.

use std::fs;

use crate::sandbox::{Ran, Sandbox};

#[test]
fn words_of_other_tools_lead_to_what_apm_has() {
    let sandbox = Sandbox::new("words");
    assert_eq!(
        sandbox.apm(["qa"]).fails(2),
        "error: unrecognized subcommand 'qa'\n\n  tip: did you mean `apm run qa`?\n\nFor more information, try '--help'.\n"
    );
    let error = sandbox.apm(["run", "each", "-I{}", "--", "echo", "{}", ":::", "a"]).fails(2);
    assert!(error.contains("tip: `{}` is always replaced") && !error.contains("to pass '-I' as a value"), "{error}");
    assert_eq!(sandbox.apm(["run", "each", "--jobs", "2", "-k", "echo", ":::", "a", "b"]).good(), "a\nb\n");
}

#[test]
fn a_run_of_nothing_names_what_there_is_to_run() {
    let sandbox = Sandbox::new("bare");
    let error = sandbox.apm(["run"]).fails(2);
    for part in ["`apm run qa`", "`apm run plan.yaml` runs the tasks", "`apm run each", "`apm run --resume`"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    sandbox.file("plan.yml", "version: 1\ntasks: []\n");
    let error = sandbox.apm(["run", "-j", "4"]).fails(2);
    assert!(error.contains("`apm run plan.yml` runs the plan that is in this folder"), "{error}");
}

#[test]
fn a_number_of_tasks_that_cannot_be_is_refused_in_one_sentence() {
    let sandbox = Sandbox::new("agents");
    for words in [["run", "each", "-j0", "echo"].as_slice(), &["run", "qa", "-j", "+0"], &["run", "p.yaml", "--jobs=0"]]
    {
        let error = sandbox.apm(words).fails(2);
        assert!(error.starts_with("apm: error: -j 0: from 1 to 10000 tasks run at once\n"), "{error}");
    }
}

/// `timeout 0 COMMAND` has no limit.
#[test]
fn a_time_limit_of_0_is_none() {
    let sandbox = Sandbox::new("timeout0");
    let each =
        ["run", "each", "--timeout", "0", "--deadline", "0s", "--", "sh", "-c", "sleep 0.1; echo {}", ":::", "a"];
    assert_eq!(sandbox.apm(each).good(), "a\n");
    sandbox.file(
        "p.yaml",
        "version: 1\ndefaults: {timeout: 50ms}\ntasks:\n- {id: a, run: sleep 0.3, timeout: 0}\n\
         - {id: b, run: sleep 0.3, limits: {timeout: 0, idle_timeout: 0, cpu_time: 0}}\n",
    );
    let dry = sandbox.apm(["run", "p.yaml", "--dry-run"]).good();
    assert!(!dry.contains("limits:"), "{dry}");
    // The command line gives way to the plan, which says that there is none.
    sandbox.apm(["run", "p.yaml", "--timeout", "60ms"]).good();
    sandbox.file("q.yaml", "version: 1\ntasks:\n- {id: a, run: sleep 0.1}\n");
    let set = ["run", "q.yaml", "--set", "sub_agents.resource_limits.max_execution_time_seconds=0"];
    sandbox.apm(set).good();
}

#[test]
fn the_folder_of_a_report_is_made_and_a_longer_path_is_a_slip() {
    let sandbox = Sandbox::new("reports");
    let run = |words: &[&str]| {
        let tail = ["--", "echo", ":::", "a"];
        sandbox.apm(["run", "each"].iter().chain(words).chain(&tail).copied().collect::<Vec<_>>())
    };
    run(&["-o", "junit=junit/report.xml", "-o", "ndjson=./events/e.ndjson", "--joblog", "log/job"]).good();
    assert!(["junit/report.xml", "events/e.ndjson", "log/job"].iter().all(|file| sandbox.has(file)));
    let error = run(&["-o", "junit=a/b/report.xml"]).fails(2);
    assert!(error.contains("create the file of `-o junit=a/b/report.xml`") && !sandbox.has("a"), "{error}");
    run(&["-o", "junit=dry/report.xml", "--dry-run"]).good();
    assert!(!sandbox.has("dry"), "a dry run writes nothing");
    sandbox.apm(["run", "show", "last", "-o", "html=pages/run.html"]).good();
    assert!(sandbox.has("pages/run.html"));
    // A file in the place of the folder is no folder.
    sandbox.file("file", "");
    run(&["-o", "junit=file/x.xml"]).fails(2);
}

#[test]
fn placeholders_of_github_have_a_hint() {
    let sandbox = Sandbox::new("github");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: 'echo ${{ matrix.os }}', matrix: {os: [x]}}\n");
    let error = sandbox.apm(["run", "p.yaml"]).fails(2);
    assert!(error.contains("p.yaml:3:16") && error.contains("hint: a plan has `${matrix.os}`"), "{error}");
    // Others of them are not ours to judge: a command may take them.
    sandbox.file("q.yaml", "version: 1\ntasks:\n- {id: a, run: [echo, '${{ env.X }}']}\n");
    sandbox.apm(["run", "q.yaml"]).good();
}

#[test]
fn a_folder_that_is_no_project_has_to_be_named_to_be_checked() {
    let sandbox = Sandbox::new("clones");
    for clone in ["one", "two"] {
        fs::create_dir_all(sandbox.work().join("clones").join(clone).join(".git")).expect("made");
        sandbox.file(&format!("clones/{clone}/run.sh"), "#!/bin/sh\necho\n");
    }
    let qa = |folder: &std::path::Path, words: &[&str]| {
        let mut command = sandbox.command(["run", "qa", "--dry-run"].iter().chain(words));
        command.current_dir(folder).env("HOME", sandbox.work().join("me"));
        Ran::of(command)
    };
    let clones = sandbox.work().join("clones");
    let error = qa(&clones, &[]).fails(2);
    assert!(error.contains("a folder of 2 repositories") && error.contains("`apm run qa /"), "{error}");
    let named = qa(&clones, &[clones.to_str().expect("text")]);
    assert!(!named.stderr.contains("not a project"), "{}", named.stderr);
    assert!(qa(std::path::Path::new("/"), &[]).fails(2).contains("`/` is the root directory"));
    fs::create_dir_all(sandbox.work().join("me")).expect("made");
    assert!(qa(&sandbox.work().join("me"), &[]).fails(2).contains("is the home directory"));
    // One repository in a folder is not yet a collection of them.
    fs::remove_dir_all(clones.join("two/.git")).expect("removed");
    assert!(!qa(&clones, &[]).stderr.contains("not a project"));
}

#[test]
fn a_command_that_is_cut_ends_with_a_mark() {
    let sandbox = Sandbox::new("long");
    let long = "x".repeat(10_000);
    let dry = sandbox.apm(["run", "each", "--dry-run", "--", "echo", long.as_str(), ":::", "a"]).good();
    assert!(dry.lines().next().expect("a line").ends_with("xxx..."), "{dry}");
    assert!(dry.len() < 5000);
}
