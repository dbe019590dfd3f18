//! Plan files: what they mean, and what is said about wrong ones.

use expect_test::{Expect, expect};

use crate::sandbox::{Ran, Sandbox};

fn wrong(text: impl AsRef<[u8]>, expected: &Expect) {
    let sandbox = Sandbox::new("wrong");
    sandbox.file("p.yaml", text);
    let error = sandbox.apm(["run", "p.yaml"]).fails(2);
    expected.assert_eq(&error);
    let dry = sandbox.apm(["run", "p.yaml", "--dry-run"]).fails(2);
    assert_eq!(dry, error, "a dry run finds the same");
    assert!(!sandbox.state().exists(), "nothing was started or recorded");
}

#[test]
fn every_mistake_is_shown_at_its_place() {
    wrong(
        "version: 1\ntasks:\n  - id: a\n    run: echo\n    nedes: [b]\n",
        &expect![[r#"
            apm: error: p.yaml:5:5: `nedes` is not a key of a task
              3 |   - id: a
              4 |     run: echo
              5 |     nedes: [b]
                |     ^
              hint: did you mean `needs`?
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n  - {id: build, run: echo}\n  - {id: b, run: echo, needs: [biuld]}\n",
        &expect![[r#"
            apm: error: p.yaml:4:32: `b` needs `biuld`, and no task has that name
              2 | tasks:
              3 |   - {id: build, run: echo}
              4 |   - {id: b, run: echo, needs: [biuld]}
                |                                ^
              hint: did you mean `build`?
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a, run: x, needs: c}\n- {id: b, run: x, needs: a}\n- {id: c, run: x, needs: b}\n",
        &expect![[r#"
            apm: error: p.yaml:3:3: tasks need each other in a cycle: a -> c -> b -> a
              1 | version: 1
              2 | tasks:
              3 | - {id: a, run: x, needs: c}
                |   ^
              4 | - {id: b, run: x, needs: a}
              5 | - {id: c, run: x, needs: b}
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a, run: x}\n- {id: a, run: y}\n",
        &expect![[r#"
            apm: error: p.yaml:4:8: two tasks are named `a`, the first in line 3
              2 | tasks:
              3 | - {id: a, run: x}
              4 | - {id: a, run: y}
                |        ^
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a, run: x, timeout: soon}\n",
        &expect![[r#"
            apm: error: p.yaml:3:28: `soon` is not a duration such as `30s`, `1m30s` or `250ms`
              1 | version: 1
              2 | tasks:
              3 | - {id: a, run: x, timeout: soon}
                |                            ^
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a, run: x, priority: 9}\n",
        &expect![[r#"
            apm: error: p.yaml:3:29: expected a priority from 0 (normal) to 4 (first), found "9"
              1 | version: 1
              2 | tasks:
              3 | - {id: a, run: x, priority: 9}
                |                             ^
              hint: `scheduling.strategies.priority_based.priority_levels` sets how many there are
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a}\n",
        &expect![[r#"
            apm: error: p.yaml:3:4: task `a` has no `run`
              1 | version: 1
              2 | tasks:
              3 | - {id: a}
                |    ^
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a, run: x, outputs: [good, 'b[']}\n",
        &expect![[r#"
        apm: error: p.yaml:3:35: `b[` is not a glob: unclosed character class; missing ']'
          1 | version: 1
          2 | tasks:
          3 | - {id: a, run: x, outputs: [good, 'b[']}
            |                                   ^
    "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a, run: \0x}\n",
        &expect![[r#"
        apm: error: p.yaml:3:16: a NUL character, which no text has
          1 | version: 1
          2 | tasks:
          3 | - {id: a, run: �x}
            |                ^
    "#]],
    );
    wrong(
        "version: 2\ntasks: []\n",
        &expect![[r#"
            apm: error: p.yaml:1:10: expected version 1, the only one there is, found "2"
              1 | version: 2
                |          ^
              2 | tasks: []
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a, run: [x, run: y}\n",
        &expect![[r#"
            apm: error: p.yaml:4:1: not valid YAML: while parsing a flow sequence, expected ',' or ']'
              2 | tasks:
              3 | - {id: a, run: [x, run: y}
        "#]],
    );
    wrong(
        "version: 1\ntasks:\n- {id: a, run: 'echo ${matrix.x}', matrix: {y: [1]}}\n",
        &expect![[r#"
            apm: error: p.yaml:3:16: the task's matrix has no `x`
              1 | version: 1
              2 | tasks:
              3 | - {id: a, run: 'echo ${matrix.x}', matrix: {y: [1]}}
                |                ^
        "#]],
    );
}

#[test]
fn files_that_are_no_text_or_not_there() {
    wrong(
        b"version: 1\n\xff\n",
        &expect![[r#"
            apm: error: p.yaml:2: not UTF-8 (byte 0xff)
              hint: a plan is text; names of files that are not UTF-8 go through `apm run each`
        "#]],
    );
    let sandbox = Sandbox::new("nofile");
    let error = sandbox.apm(["run", "eahc"]).fails(2);
    assert!(error.contains("read the plan `eahc`") && error.contains("did you mean `apm run each`?"), "{error}");
    // Aliases that would blow up, and nesting without end.
    let mut bomb = "version: 1\na: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 0..9 {
        let (this, before) = (char::from(b'b' + level), char::from(b'a' + level));
        bomb += &format!("{this}: &{this} [{}]\n", vec![format!("*{before}"); 10].join(","));
    }
    sandbox.file("bomb.yaml", bomb);
    let error = sandbox.apm(["run", "bomb.yaml"]).fails(2);
    assert!(error.contains("values, aliases expanded"), "{error}");
    sandbox.file("deep.yaml", "[".repeat(100_000));
    let error = sandbox.apm(["run", "deep.yaml"]).fails(2);
    assert!(error.contains("recursion limit") || error.contains("nested deeper"), "{error}");
}

#[test]
fn needs_conditions_matrices_and_retries() {
    let sandbox = Sandbox::new("needs");
    sandbox.file(
        "p.yaml",
        "version: 1
defaults: {env: {A: from-defaults}}
tasks:
  - {id: build, run: 'echo $A > built; echo $B >> built', env: {B: own}}
  - {id: test, run: test -e built, needs: [build]}
  - {id: bad, run: exit 3, needs: [test], retries: {max: 2, delay: 1ms}}
  - {id: never, run: touch never, needs: [bad]}
  - {id: onfail, run: touch onfail, needs: [bad], when: failure}
  - {id: onfail2, run: touch onfail2, needs: [test], when: failure}
  - {id: always, run: touch always, needs: [never], when: always}
  - {id: m, run: 'touch m-${matrix.a}-${matrix.b}', matrix: {a: [1, 2], b: [x]}, needs: [build]}
  - {id: all, run: test -e m-1-x -a -e m-2-x, needs: [m]}
  - {id: flaky, run: 'test -e once || { touch once; exit 1; }', retries: 1}
  - {id: words, run: [printf, '%s', $HOME]}
  - {id: lost, run: 'true', outputs: [nothing.txt]}
",
    );
    sandbox.apm(["run", "p.yaml"]).fails(1);
    let report = sandbox.report();
    let states: Vec<(String, String)> = report["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| (task["id"].as_str().expect("id").to_owned(), task["state"].as_str().expect("state").to_owned()))
        .collect();
    let states: Vec<(&str, &str)> = states.iter().map(|(id, state)| (id.as_str(), state.as_str())).collect();
    assert_eq!(
        states,
        [
            ("build", "passed"),
            ("test", "passed"),
            ("bad", "failed"),
            ("never", "skipped"),
            ("onfail", "passed"),
            ("onfail2", "skipped"),
            ("always", "passed"),
            ("m (1, x)", "passed"),
            ("m (2, x)", "passed"),
            ("all", "passed"),
            ("flaky", "flaky"),
            ("words", "passed"),
            ("lost", "failed"),
        ]
    );
    assert_eq!(sandbox.read("built"), "from-defaults\nown\n");
    assert!(!sandbox.has("never") && sandbox.has("onfail") && !sandbox.has("onfail2") && sandbox.has("always"));
    let bad = &report["tasks"][2];
    assert_eq!(bad["attempts"].as_array().map(Vec::len), Some(3), "{bad}");
    assert_eq!(sandbox.apm(["run", "show", "last", "words"]).good(), "$HOME");
}

#[test]
fn json_json_lines_and_standard_input_are_plans_too() {
    let sandbox = Sandbox::new("json");
    sandbox
        .file("p.json", r#"{"version": 1, "tasks": [{"id": "a\u00e4\ud83d\ude00", "run": ["touch", "from-json"]}]}"#);
    sandbox.apm(["run", "p.json"]).good();
    sandbox.file(
        "p.jsonl",
        "{\"id\": \"a\", \"run\": \"touch a\"}\n\n{\"id\": \"b\", \"run\": \"touch b\", \"needs\": [\"a\"]}\n",
    );
    sandbox.apm(["run", "p.jsonl"]).good();
    sandbox.apm_with(["run", "-"], b"version: 1\ntasks: [{id: x, run: touch from-stdin}]\n").good();
    assert!(["from-json", "a", "b", "from-stdin"].iter().all(|file| sandbox.has(file)));
    sandbox.file("q.jsonl", "{\"id\": \"a\", \"run\": \"x\"}\n{\"id\": \"b\", \"rum\": \"x\"}\n");
    let error = sandbox.apm(["run", "q.jsonl"]).fails(2);
    assert!(error.starts_with("apm: error: q.jsonl:2:13: `rum` is not a key of a task"), "{error}");
}

#[test]
fn what_cleans_up_runs_after_the_first_failure_too() {
    let sandbox = Sandbox::new("cleanup");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: server, run: 'touch up; sleep 60'}\n- {id: test, run: 'while [ ! -e up ]; do sleep 0.01; done; exit 1'}\n\
         - {id: stop, run: 'touch stopped', needs: [server, test], when: always}\n- {id: next, run: 'touch next', needs: [server]}\n",
    );
    sandbox.apm(["run", "p.yaml", "-j2", "--fail-fast"]).fails(1);
    assert!(sandbox.has("stopped") && !sandbox.has("next"));
    let report = sandbox.report();
    let states = report["tasks"].as_array().expect("tasks").iter().map(|task| task["state"].as_str().expect("a word"));
    assert_eq!(states.collect::<Vec<_>>(), ["cancelled", "failed", "passed", "cancelled"]);
}

#[test]
fn deadlines_of_runs_and_tasks() {
    let sandbox = Sandbox::new("deadline");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: late, run: sleep 0.3, deadline: 100ms}\n");
    let text = sandbox.apm(["run", "p.yaml"]).good();
    assert!(text.contains("late: late by"), "{text}");
    sandbox.file(
        "q.yaml",
        "version: 1\ntasks:\n- {id: long, run: sleep 60}\n- {id: next, run: touch next, needs: [long]}\n",
    );
    let ran = sandbox.apm(["run", "q.yaml", "--deadline", "300ms"]);
    assert_eq!(ran.code, Some(5), "{}{}", ran.stdout, ran.stderr);
    assert!(!sandbox.has("next"));
}

#[test]
fn dry_run_explains_each_task() {
    let sandbox = Sandbox::new("plandry");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: make all, description: it all starts here, limits: {memory: 1GiB, cpu: 150}}\n- {id: b, run: 'a | b', needs: a, priority: 2, timeout: 10s}\n");
    let text = sandbox.apm(["run", "p.yaml", "--dry-run"]).good();
    expect![[r#"
        a: make all
            why: it all starts here
            limits: memory 1 GiB, CPU 150% of one
        b: a | b
            by: /bin/sh -ec
            after passed: a
            limits: time 10.0s, priority 2
        2 tasks; nothing was started
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_program_that_an_earlier_task_makes_is_found() {
    let sandbox = Sandbox::new("makes");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: makes, run: 'mkdir -p bin; printf \"#!/bin/sh\\necho made\\n\" > bin/tool-of-mine; chmod +x bin/tool-of-mine'}\n- {id: uses, run: [tool-of-mine], needs: [makes]}\n",
    );
    let mut command = sandbox.command(["run", "p.yaml"]);
    let path = format!("{}:{}", sandbox.work().join("bin").display(), std::env::var("PATH").expect("a PATH"));
    command.env("PATH", path);
    let ran = Ran::of(command);
    assert!(ran.code == Some(0) && !ran.stderr.contains("not found"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn the_base_name_of_a_matrix_of_one_is_a_need() {
    let sandbox = Sandbox::new("matrixone");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: t, run: touch made, matrix: {a: [1]}}\n- {id: after, run: test -e made, needs: [t]}\n",
    );
    sandbox.apm(["run", "p.yaml"]).good();
}

/// A server that a task left behind was gone for the next one, without a word.
#[test]
fn processes_that_a_task_leaves_are_ended_and_said() {
    let sandbox = Sandbox::new("leaves");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: start, run: 'nohup sleep 1000 >/dev/null 2>&1 & echo started'}\n- {id: calm, run: echo}\n",
    );
    let text = sandbox.apm(["run", "p.yaml"]).good();
    assert!(text.contains("warning: `start` left 1 process running, which was ended"), "{text}");
    assert_eq!(text.matches("warning:").count(), 1, "{text}");
}

#[test]
fn a_flaky_task_fails_the_run_on_request_and_its_failure_can_be_seen() {
    let sandbox = Sandbox::new("flaky");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: a, retries: 2, run: 'if test -e x; then echo second; else touch x; echo first; exit 1; fi'}\n",
    );
    let again = || drop(std::fs::remove_file(sandbox.work().join("x")));
    sandbox.apm(["run", "p.yaml"]).good();
    again();
    sandbox.apm(["run", "p.yaml", "--fail-on", "flaky", "-o", "junit=j.xml"]).fails(1);
    assert_eq!(sandbox.apm(["run", "show", "last", "a"]).good(), "second\n");
    assert_eq!(sandbox.apm(["run", "show", "last", "a", "--attempt", "1"]).good(), "first\n");
    let none = sandbox.apm(["run", "show", "last", "a", "--attempt", "3"]).fails(2);
    assert!(none.contains("there are attempts 1, 2"), "{none}");
    let junit = sandbox.read("j.xml");
    let (_, failure) = junit.split_once("<flakyFailure").expect("a flaky failure");
    assert!(failure.contains("first"), "{junit}");
    let github = sandbox.apm(["run", "--replay", "last", "--format", "github"]).good();
    assert!(github.contains("::warning title=a::flaky: it passed at attempt 2; before: exit code 1"), "{github}");
}

#[test]
fn what_fixers_changed_is_said() {
    let sandbox = Sandbox::new("fixed");
    // A formatter that would change only one of the two.
    sandbox.file("bin/shfmt", "#!/bin/sh\n[ \"$1\" = -w ] && echo '# more' >> a.sh\nexit 0\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(sandbox.work().join("bin/shfmt"), mode).expect("a mode");
    sandbox.file("tree/a.sh", "echo a\n").file("tree/b.sh", "echo b\n").file("tree/.editorconfig", "[shell]\n");
    let run = || {
        let mut command = sandbox.command(["run", "qa", "--fix", "--only", "shfmt"]);
        let path = format!("{}:{}", sandbox.work().join("bin").display(), std::env::var("PATH").expect("a PATH"));
        command.current_dir(sandbox.work().join("tree")).env("PATH", path);
        crate::sandbox::Ran::of(command).stderr
    };
    assert!(run().contains("apm: --fix changed 1 file\n  a.sh\n"));
    std::fs::write(sandbox.work().join("bin/shfmt"), "#!/bin/sh\n").expect("written");
    assert!(run().contains("apm: --fix changed no file\n"));
}

/// The output of tasks goes through pipes, so that by themselves they print no colours.
#[test]
fn tasks_are_asked_for_colours_where_they_are_asked_of_apm() {
    let sandbox = Sandbox::new("colours");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: 'echo \"<$FORCE_COLOR-$CLICOLOR_FORCE>\"'}\n");
    let asked = |environment: &[(&str, &str)], words: &[&str]| {
        let mut command = sandbox.command(["run", "p.yaml", "--relay"]);
        command.args(words).env_remove("FORCE_COLOR").env_remove("CLICOLOR_FORCE").envs(environment.iter().copied());
        Ran::of(command).good()
    };
    assert!(asked(&[], &["--color", "always"]).contains("<1-1>"));
    assert!(asked(&[], &[]).contains("<->"));
    assert!(asked(&[("NO_COLOR", "1")], &["--color", "always"]).contains("<->"));
    assert!(asked(&[("FORCE_COLOR", "3")], &["--color", "always"]).contains("<3->"));
}
