//! `apm run each`, as users of xargs and GNU parallel expect it.

use std::process::Stdio;

use crate::sandbox::{Ended, Ran, Sandbox, eventually};

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn values_come_from_the_command_line_files_and_standard_input() {
    let sandbox = Sandbox::new("values");
    sandbox.file("list", "x y\nz\n");
    assert_eq!(sandbox.apm(["run", "each", "-k", "--", "echo", "v={}", ":::", "1", "2"]).good(), "v=1\nv=2\n");
    assert_eq!(
        sandbox.apm(["run", "each", "-k", "echo", "{1}-{2}", ":::", "a", "b", ":::", "1", "2"]).good(),
        "a-1\na-2\nb-1\nb-2\n"
    );
    assert_eq!(sandbox.apm(["run", "each", "-k", "-a", "list", "echo"]).good(), "x y\nz\n");
    assert_eq!(sandbox.apm(["run", "each", "-k", "echo", "::::", "list"]).good(), "x y\nz\n");
    assert_eq!(sandbox.apm_with(["run", "each", "-k", "-0", "echo", "[{}]"], b"a\nb\0c\0").good(), "[a\nb]\n[c]\n");
    assert_eq!(
        sandbox.apm_with(["run", "each", "-k", "--colsep", ",", "echo", "{2}{1}"], b"a,b\nc,d\n").good(),
        "ba\ndc\n"
    );
    assert_eq!(sandbox.apm_with(["run", "each", "-n", "2", "-k", "echo"], b"1\n2\n3\n").good(), "1 2\n3\n");
    assert_eq!(sandbox.apm_with(["run", "each", "echo"], b"").good(), "");
}

/// Regression: children of the main thread are taken for orphans that came to apm and are reaped as such. A command that
/// was started from the thread that owns the run was one, since that was the main thread.
#[test]
fn the_run_has_a_thread_of_its_own_and_the_main_thread_no_children() {
    let sandbox = Sandbox::new("threads");
    let mut command = sandbox.command(["run", "each", "sh", "-c", "touch started; sleep 60", "sh"]);
    let mut child = Ended(command.arg(":::").arg("x").stdout(Stdio::null()).spawn().expect("apm"));
    eventually("the task runs", || sandbox.has("started"));
    let pid = child.0.id();
    let read = |path: String| std::fs::read_to_string(path).expect("a file of /proc");
    let threads: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("threads")
        .map(|entry| entry.expect("a thread").file_name().to_string_lossy().into_owned())
        .collect();
    let names: Vec<String> = threads.iter().map(|tid| read(format!("/proc/{pid}/task/{tid}/comm"))).collect();
    assert!(names.contains(&"apm-run\n".to_owned()), "{names:?}");
    assert_eq!(read(format!("/proc/{pid}/task/{pid}/children")), "");
    crate::sandbox::signal(pid, "INT");
    child.0.wait().expect("its end");
}

#[test]
fn options_stand_before_the_command_also_glued_together() {
    let sandbox = Sandbox::new("options");
    // `-j2` was once taken for the command.
    assert_eq!(sandbox.apm(["run", "each", "-j2", "-k", "echo", "-n", "{}", ":::", "a", "b"]).good(), "ab");
}

#[test]
fn a_slow_producer_is_not_waited_for() {
    let sandbox = Sandbox::new("slow");
    let mut command = sandbox.command(["run", "each", "touch"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("apm");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, b"first\n").expect("written");
    eventually("the first task runs while the input is open", || sandbox.has("first"));
    drop(stdin);
    assert!(child.wait().expect("its end").success());
}

#[test]
fn order_tags_and_both_streams_are_kept() {
    let sandbox = Sandbox::new("order");
    let script = "sleep 0.$1; echo out$1; echo err$1 >&2";
    let ran = sandbox.apm(["run", "each", "-j3", "-k", "--", "sh", "-c", script, "x", "{}", ":::", "3", "2", "1"]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("out3\nout2\nout1\n", Some(0)));
    assert_eq!(ran.stderr, "err3\nerr2\nerr1\n");
    let tagged = sandbox.apm(["run", "each", "--tag", "-k", "printf", "a\\nb\\n%s", ":::", "x", "y"]).good();
    assert_eq!(tagged, "x\ta\nx\tb\nx\tx\ny\ta\ny\tb\ny\ty\n");
}

#[test]
fn lines_come_as_they_are_written() {
    let sandbox = Sandbox::new("live");
    let script = "echo early; while [ ! -e go ]; do sleep 0.01; done; echo late";
    let mut command = sandbox.command(["run", "each", "--line-buffer", "--shell", script, ":::", "x"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("apm");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
    assert_eq!(line, "early\n");
    sandbox.file("go", "");
    line.clear();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
    assert_eq!(line, "late x\n");
    assert!(child.wait().expect("its end").success());
}

#[test]
fn failures_set_the_exit_code_and_halt_stops() {
    let sandbox = Sandbox::new("halt");
    let ran = sandbox.apm(["run", "each", "-j1", "--", "sh", "-c", "exit $1", "x", "{}", ":::", "0", "3", "0"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("exit code 3"), "{}", ran.stderr);
    let script = "touch ran$1; [ $1 != 2 ]";
    sandbox
        .apm(["run", "each", "-j1", "--halt", "now,fail=1", "sh", "-c", script, "x", "{}", ":::", "1", "2", "3"])
        .fails(1);
    assert!(sandbox.has("ran1") && sandbox.has("ran2") && !sandbox.has("ran3"));
    let error = sandbox.apm(["run", "each", "--halt", "perhaps", "echo", ":::", "1"]).fails(2);
    assert!(error.contains("--halt perhaps: expected"), "{error}");
}

#[test]
fn the_job_log_is_the_one_of_gnu_parallel() {
    let sandbox = Sandbox::new("joblog");
    sandbox.apm(["run", "each", "-j1", "--joblog", "log", "sh", "-c", "exit $1", "x", "{}", ":::", "0", "7"]).fails(1);
    let log = sandbox.read("log");
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0], ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"]);
    let shown: Vec<(&str, &str)> = lines[1..].iter().map(|line| (line[0], line[6])).collect();
    assert_eq!(shown, [("1", "0"), ("2", "7")]);
}

#[test]
fn dry_run_starts_nothing_and_eta_prints_lines() {
    let sandbox = Sandbox::new("dry");
    let text = sandbox.apm(["run", "each", "--dry-run", "touch", "made", ":::", "x"]).good();
    assert!(text.contains("touch made x") && !sandbox.has("made"), "{text}");
    assert!(!sandbox.state().exists(), "a dry run keeps no record");
    let ran = sandbox.apm(["run", "each", "--eta", "-j1", "sleep", ":::", "0.3", "0.3"]);
    assert!(ran.stderr.contains("2"), "{}", ran.stderr);
}

/// `{%}` counted from 0.
#[test]
fn the_slot_counts_from_one_as_parallels_does() {
    let sandbox = Sandbox::new("slot");
    assert_eq!(sandbox.apm(["run", "each", "-j1", "--shell", "echo {%} $APM_SLOT", ":::", "x"]).good(), "1 0 x\n");
}

#[test]
fn any_bytes_are_values() {
    let sandbox = Sandbox::new("bytes");
    let out = sandbox.command(["run", "each", "-k", "printf", "%s\\n", "{}"]);
    let mut command = out;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("apm");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"a\xffb\n$(reboot); `x`\n-rf\n")
        .expect("written");
    let output = child.wait_with_output().expect("its end");
    assert_eq!(output.stdout, b"a\xffb\n$(reboot); `x`\n-rf\n");
    assert_eq!(
        sandbox.apm(["run", "each", "--shell", "-k", "echo {} | cat", ":::", "it's $HOME"]).good(),
        "it's $HOME\n"
    );
}

#[test]
fn values_that_cannot_be_used_are_named_and_the_rest_is_done() {
    let sandbox = Sandbox::new("badvalues");
    let ran = sandbox.apm_with(["run", "each", "-j1", "touch"], b"good\nb\0d\nnever\n");
    assert!(sandbox.has("good") && !sandbox.has("never"));
    let error = ran.fails(3);
    assert!(error.contains("value 2 contains a NUL byte"), "{error}");
    // The record had it as passed.
    let report = sandbox.report();
    assert_eq!(report["exit_code"], 3, "{report}");
    assert!(report["verdict"].as_str().expect("text").starts_with("incomplete: 2 tasks"), "{report}");
    sandbox.apm(["run", "--resume"]).fails(3);
    let huge = vec![b'x'; 300 << 10];
    let error = sandbox.apm_with(["run", "each", "echo"], &huge).fails(3);
    assert!(error.contains("longer than 131072 bytes"), "{error}");
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let sandbox = Sandbox::new("pipe");
    let script = format!("{} run each -- seq ::: 100000 100000 100000 | head -n 1", env!("CARGO_BIN_EXE_apm"));
    let ran = Ran::of(sandbox.program("sh", ["-c", &script]));
    assert_eq!(ran.stdout.lines().count(), 1);
    assert!(!ran.stderr.contains("panic") && !ran.stderr.contains("Broken pipe"), "{}", ran.stderr);
}

#[test]
fn a_million_values_need_no_memory() {
    let sandbox = Sandbox::new("many");
    // The queue is bounded: with a command that never ends only so many values are read.
    let script = format!(
        "yes | {} run each -j1 -- sh -c 'sleep 30' & sleep 1; grep VmHWM /proc/$!/status; kill -TERM $!; wait $!",
        env!("CARGO_BIN_EXE_apm")
    );
    let ran = Ran::of(sandbox.program("bash", ["-c", &script]));
    let peak: u64 = ran
        .stdout
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_else(|| panic!("{}", ran.stdout));
    assert!(peak < 64 << 10, "{peak} KiB");
    let sorted_lines = sorted(&ran.stderr).len();
    assert!(sorted_lines < 100, "{}", ran.stderr);
}

#[test]
fn columns_groups_and_numbers_of_values_are_those_of_gnu_parallel() {
    let sandbox = Sandbox::new("groups");
    sandbox.file("list", "1\n2\n");
    let each = |words: &str| sandbox.apm(["run", "each", "-k"].into_iter().chain(words.split(' ')));
    assert_eq!(each("-n2 echo {1} - {2} ::: a b c").good(), "a - b\nc - \n");
    assert_eq!(each("echo {1}{2} ::: a b :::+ 1 2 3").good(), "a1\nb2\n");
    assert_eq!(each("echo {1}{2} ::: a b ::::+ list").good(), "a1\nb2\n");
    assert_eq!(each("--colsep , echo {1} {2} {3} ::: a,b ::: c").good(), "a b c\n");
    let error = each("-n2 echo ::: a b ::: c").fails(2);
    assert!(error.contains("--max-args 2: with several groups"), "{error}");
    let error = each("echo :::+ a").fails(2);
    assert!(error.contains("there is none"), "{error}");
    for words in ["-a . echo", "echo :::: ."] {
        let error = each(words).fails(2);
        assert!(error.contains("read values from `.`") && error.contains("directory"), "{error}");
    }
}

/// One command of all of them is more than the kernel takes.
#[test]
fn as_many_values_as_fit_go_into_a_command() {
    let sandbox = Sandbox::new("fit");
    let input: String = (0..100_000).map(|n| format!("a value with a number {n}\n")).collect();
    for command in [&["printf", "%s\\n"][..], &["--shell", "printf '%s\\n'"]] {
        let words = ["run", "each", "-k", "-n", "100000"].iter().chain(command);
        assert!(sandbox.apm_with(words, input.as_bytes()).good() == input, "{command:?}");
        assert!(sandbox.report()["totals"]["tasks"].as_u64().expect("a number") < 100);
    }
}

/// Control characters were `?`, long values cut.
#[test]
fn a_tag_is_the_value_itself() {
    let sandbox = Sandbox::new("tag");
    let long = "x".repeat(500);
    let input = format!("a\tb\n{long}\n");
    for order in ["-k", "--line-buffer"] {
        let words = ["run", "each", "-j1", order, "--tag", "sh", "-c", "echo y", "x"];
        assert_eq!(sandbox.apm_with(words, input.as_bytes()).good(), format!("a\tb\ty\n{long}\ty\n"));
    }
}

/// It read to the end first, which never comes.
#[test]
fn a_dry_run_of_an_endless_input_prints_as_it_reads() {
    let sandbox = Sandbox::new("endless");
    let script = format!("yes | {} run each --dry-run echo | head -n 3", env!("CARGO_BIN_EXE_apm"));
    let ran = Ran::of(sandbox.program("bash", ["-c", &script]));
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("1: y: echo y\n2: y: echo y\n3: y: echo y\n", ""));
}

/// Exitval was -1.
#[test]
fn a_signal_in_the_job_log_is_no_exit_value() {
    let sandbox = Sandbox::new("logsignal");
    sandbox.apm(["run", "each", "--joblog", "log", "sh", "-c", "kill -9 $$", ":::", "x"]).fails(1);
    let log = sandbox.read("log");
    let row: Vec<&str> = log.lines().nth(1).expect("a row").split('\t').collect();
    assert_eq!((row[6], row[7]), ("0", "9"));
}
