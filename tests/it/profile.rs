//! `apm profile` from outside: programs whose stacks and proportions are known, by command and by pid; what passes through;
//! what is refused.

use std::process::Stdio;

use serde_json::Value;

use crate::sandbox::{Ended, Ran, Sandbox, eventually, has_program, processes_with, signal, skip};

/// Half, three tenths, two tenths; the last below twenty frames of a recursion.
const HOT: &str = r#"
#include <stdlib.h>
volatile unsigned long sink;
#define SPIN(n) unsigned long x = 1; for (unsigned long i = 0; i < n; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; } sink = x;
__attribute__((noinline)) void a(void) { SPIN(500000) }
__attribute__((noinline)) void beta(void) { SPIN(300000) }
__attribute__((noinline)) unsigned long deep(int depth) {
    if (depth == 0) { SPIN(200000) return x; }
    return deep(depth - 1) + sink;
}
int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 100;
    for (int i = 0; i < rounds; i++) { a(); beta(); deep(20); }
    return argc > 2 ? atoi(argv[2]) : 0;
}
"#;

/// The same in a process that has deleted its own file, and has a child that works in a thread. It lives longer than the
/// recorder lets mappings wait: of one that is gone before they are read nothing can be opened any more.
const GONE: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
volatile unsigned long sink;
__attribute__((noinline)) void spin(unsigned long n) { unsigned long x = 1; for (unsigned long i = 0; i < n; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; } sink = x; }
__attribute__((noinline)) void in_thread(void) { spin(400000000); sink++; }
__attribute__((noinline)) void in_parent(void) { spin(400000000); sink++; }
void *work(void *unused) { pthread_setname_np(pthread_self(), "worker"); in_thread(); return unused; }
int main(int argc, char **argv) {
    unlink(argv[0]);
    if (fork() == 0) { pthread_t thread; pthread_create(&thread, 0, work, 0); pthread_join(thread, 0); _exit(0); }
    in_parent();
    wait(0);
    return 0;
}
"#;

/// Compiles a program; where that cannot be, the test is skipped.
fn compiled(sandbox: &Sandbox, name: &str, source: &str) -> bool {
    if !has_program("gcc") {
        return false;
    }
    sandbox.file(&format!("{name}.c"), source);
    let flags = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread", "-w"];
    let file = format!("{name}.c");
    let ran = Ran::of(sandbox.program("gcc", flags.iter().copied().chain(["-o", name, file.as_str()])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    true
}

/// Whether this machine lets apm sample at all.
fn is_refused(ran: &Ran) -> bool {
    let refused = ran.code == Some(3) && ran.stderr.contains("grants no way to sample");
    if refused {
        skip("the kernel grants no way to sample");
    }
    refused
}

struct Profile(Value);

impl Profile {
    fn read(sandbox: &Sandbox, folder: &str) -> Self {
        Self(serde_json::from_str(&sandbox.read(&format!("{folder}/profile.json"))).expect("a profile"))
    }

    /// Stacks by their names, the innermost first, with the name of the thread and the samples.
    fn stacks(&self) -> Vec<(Vec<String>, String, u64)> {
        self.stacks_of(1)
    }

    fn stacks_of(&self, kind: usize) -> Vec<(Vec<String>, String, u64)> {
        let number = |value: &Value| value.as_u64().expect("a number") as usize;
        let row = |row: &Value| {
            let mut names = Vec::new();
            let mut next = Some(number(&row["node"]));
            while let Some(at) = next {
                let node = &self.0["nodes"][at];
                names.push(self.0["frames"][number(&node["frame"])]["name"].as_str().expect("a name").to_owned());
                next = node["caller"].as_u64().map(|caller| caller as usize);
            }
            let thread = &self.0["threads"][number(&row["thread"])];
            (names, thread["name"].as_str().expect("a name").to_owned(), row["values"][kind].as_u64().expect("a value"))
        };
        self.0["rows"].as_array().expect("rows").iter().map(row).collect()
    }

    /// Samples of stacks that a function is in.
    fn samples(&self, name: &str) -> u64 {
        self.total(name, 1)
    }

    fn total(&self, name: &str, kind: usize) -> u64 {
        self.stacks_of(kind)
            .iter()
            .filter(|(names, ..)| names.iter().any(|each| each == name))
            .map(|(.., count)| count)
            .sum()
    }

    fn quality(&self, name: &str) -> u64 {
        self.0["quality"][name].as_u64().expect("a number")
    }
}

/// Shares of the three functions, with room for a machine that is busy with others.
fn check_shares(profile: &Profile) {
    let all = profile.samples("main");
    assert!(all > 50, "{all} samples");
    for (name, share) in [("a", 0.5), ("beta", 0.3), ("deep", 0.2)] {
        let found = profile.samples(name) as f64 / all as f64;
        assert!((found - share).abs() < 0.12, "{name}: {found}");
    }
    let deepest =
        profile.stacks().into_iter().filter(|(names, ..)| names[0] == "deep").max_by_key(|(.., count)| *count);
    let (names, ..) = deepest.expect("a recursion");
    assert_eq!(names.iter().filter(|name| *name == "deep").count(), 21, "{names:?}");
    assert!(names.contains(&"main".to_owned()), "{names:?}");
}

/// One profile for each process of a recording, in every format.
#[test]
fn a_process_can_be_shown_alone() {
    let sandbox = Sandbox::new("profile-one-process");
    if !compiled(&sandbox, "hot", HOT) {
        return skip("no gcc");
    }
    let script = "cp hot other; ./hot 300 & ./other 300; wait";
    let ran = sandbox.apm(["profile", "cpu", "-o", "out", "--", "sh", "-c", script]);
    if ran.code == Some(3) && ran.stderr.contains("grants no way to sample") {
        return skip("the kernel grants no way to sample");
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile: Value = serde_json::from_str(&sandbox.read("out/profile.json")).expect("a profile");
    let threads = profile["threads"].as_array().expect("threads");
    let pid = |name: &str| threads.iter().find(|thread| thread["process"] == name).expect(name)["pid"].to_string();
    let folded = |words: &[&str]| {
        let words = ["profile", "show", "out", "--format", "folded", "--by", "process"].iter().chain(words);
        sandbox.apm(words).good()
    };
    let (hot, other) = (pid("hot"), pid("other"));
    let [both, one, two] = [folded(&[]), folded(&["--pid", &hot]), folded(&["--pid", &other])];
    // Before it executes its program a process is a copy of the shell.
    let is_of = |line: &str, pid: &str| line.split(';').next().is_some_and(|it| it.ends_with(&format!(" ({pid})")));
    assert!(one.lines().all(|line| is_of(line, &hot)) && one.contains(&format!("hot ({hot});")), "{one}");
    assert!(two.lines().all(|line| is_of(line, &other)) && two.contains(&format!("other ({other});")), "{two}");
    assert!(one.lines().chain(two.lines()).all(|line| both.lines().any(|of_both| of_both == line)));
    // Each as a file of its own, for other tools.
    sandbox.apm(["profile", "show", "out", "--pid", &hot, "--format", "pprof", "-o", "hot.pb.gz"]).good();
    assert!(sandbox.apm(["profile", "show", "hot.pb.gz", "--by", "process"]).good().contains(&format!("hot ({hot})")));
    let said = sandbox.apm(["profile", "show", "out", "--pid", "1"]).fails(2);
    assert!(said.contains("the profile has no process 1") && said.contains(&format!("hot ({hot})")), "{said}");
}

#[test]
fn a_command_has_its_proportions_its_recursion_and_its_exit_code() {
    let sandbox = Sandbox::new("profilecommand");
    if !compiled(&sandbox, "hot", HOT) {
        return;
    }
    let ran = sandbox.apm(["profile", "cpu", "-o", "out", "--", "./hot", "300", "3"]);
    if is_refused(&ran) {
        return;
    }
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    check_shares(&profile);
    let samples = profile.quality("samples");
    assert!(profile.quality("truncated") * 20 <= samples, "{}", profile.0["quality"]);
    assert_eq!(profile.0["schema"], "apm.profile/1");
    assert_eq!(profile.0["kinds"][0]["name"], "cpu");
}

#[test]
fn a_process_that_runs_is_joined_and_left_running() {
    let sandbox = Sandbox::new("profilepid");
    if !compiled(&sandbox, "hot", HOT) {
        return;
    }
    let mut child = Ended(sandbox.program("./hot", ["1000000"]).stdout(Stdio::null()).spawn().expect("a program"));
    let pid = child.0.id().to_string();
    let words = ["profile", "cpu", "--pid", &pid, "-F", "499", "--duration", "1500ms", "-o", "out"];
    let ran = sandbox.apm(words);
    if is_refused(&ran) {
        return;
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(child.0.try_wait().expect("asked").is_none(), "it goes on");
    check_shares(&Profile::read(&sandbox, "out"));
}

#[test]
fn children_threads_and_deleted_programs_have_names() {
    let sandbox = Sandbox::new("profilegone");
    if !compiled(&sandbox, "gone", GONE) {
        return;
    }
    let ran = sandbox.apm(["profile", "cpu", "-o", "out", "--", "./gone"]);
    if is_refused(&ran) {
        return;
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!sandbox.has("gone"));
    let profile = Profile::read(&sandbox, "out");
    assert!(profile.samples("in_parent") > 0 && profile.samples("in_thread") > 0, "{:?}", profile.stacks());
    let worker = profile.stacks().into_iter().find(|(names, ..)| names.contains(&"in_thread".to_owned()));
    assert_eq!(worker.map(|(_, thread, _)| thread).as_deref(), Some("worker"));
}

/// A tenth of the time in one function, the rest in another, and a thread that waits for the lock all that time.
const WAIT: &str = r#"
#include <pthread.h>
#include <unistd.h>
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
__attribute__((noinline)) void nap_long(void) { usleep(180000); __asm__ volatile(""); }
__attribute__((noinline)) void nap_short(void) { usleep(20000); __asm__ volatile(""); }
__attribute__((noinline)) void wait_lock(void) { pthread_mutex_lock(&lock); pthread_mutex_unlock(&lock); __asm__ volatile(""); }
void *work(void *unused) { wait_lock(); return unused; }
int main(void) {
    pthread_t thread;
    pthread_mutex_lock(&lock);
    pthread_create(&thread, 0, work, 0);
    nap_long();
    nap_short();
    pthread_mutex_unlock(&lock);
    pthread_join(thread, 0);
    return 0;
}
"#;

#[test]
fn time_without_a_cpu_belongs_to_what_waits() {
    let sandbox = Sandbox::new("profilewait");
    if !compiled(&sandbox, "wait", WAIT) {
        return;
    }
    let ran = sandbox.apm(["profile", "cpu", "--off-cpu", "-o", "out", "--", "./wait"]);
    if is_refused(&ran) {
        return;
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    if ran.stderr.contains("looks a second at threads that wait") {
        return skip("the kernel does not let this user sample the kernel");
    }
    let off = |name| profile.total(name, 2);
    // Both slept at least for so long; what the machine adds is for both the same.
    assert!(off("nap_long") >= 180_000_000 && off("nap_short") >= 20_000_000, "{:?}", profile.stacks());
    assert!(off("nap_long") > off("nap_short") && off("wait_lock") >= off("nap_long"), "{:?}", profile.stacks());
}

#[test]
fn where_the_kernel_does_not_tell_who_waits_it_is_looked_at() {
    let sandbox = Sandbox::new("profilelook");
    // Ten times as long: looks come fifty times a second, on a machine with nothing else to do.
    if !compiled(&sandbox, "wait", &WAIT.replace("0000)", "00000)")) {
        return;
    }
    // Ticks from within see the program itself, looks what it waits for: with neither events nor ptrace.
    let words = ["profile", "cpu", "--wall", "-o", "out", "--", "./wait"];
    let Some(ran) = refused(&sandbox, &[PERF_EVENT_OPEN, PTRACE], words) else { return };
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    let kinds: Vec<&str> =
        profile.0["kinds"].as_array().expect("kinds").iter().filter_map(|k| k["name"].as_str()).collect();
    assert_eq!(kinds, ["wall", "cpu", "samples", "off_cpu"], "{}", ran.stderr);
    let (wall, off) = (|name| profile.total(name, 0), |name| profile.total(name, 3));
    if off("main") == 0 {
        return skip("the kernel does not tell this user where threads wait");
    }
    assert!(off("nap_long") > 5 * off("nap_short") && off("wait_lock") > off("nap_short"), "{:?}", profile.stacks());
    assert!(wall("nap_long") >= off("nap_long") && off("nap_long") > 900_000_000, "{:?}", profile.stacks());
}

#[test]
fn streams_signals_and_codes_pass_through() {
    let sandbox = Sandbox::new("profilepass");
    let script = "cat; echo said >&2; exit 9";
    let ran = sandbox.apm_with(["profile", "cpu", "-q", "-o", "out", "--", "sh", "-c", script], b"typed");
    if is_refused(&ran) {
        return;
    }
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(9), "typed", "said\n"));
    let ran = sandbox.apm(["profile", "cpu", "-o", "out", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(ran.code, None, "it dies of what its command died of: {}", ran.stderr);
}

/// Regression: apm ended by the signal of its command with a core dump of its own, which overwrote the command's where
/// `core_pattern` is `core`.
#[test]
fn the_core_of_a_command_that_crashed_is_not_overwritten() {
    use std::os::unix::process::ExitStatusExt as _;

    let sandbox = Sandbox::new("profilecore");
    if !compiled(&sandbox, "crash", "#include <signal.h>\nint main(void) { return raise(SIGSEGV); }") {
        return;
    }
    let apm = env!("CARGO_BIN_EXE_apm");
    let folder = sandbox.work().join("out");
    let mut command = sandbox.program("sh", ["-c", "ulimit -c unlimited; mkdir dumped; cd dumped; exec \"$@\"", "sh"]);
    command.args([apm, "profile", "io", "-q", "-o"]).arg(folder).args(["--", "../crash"]);
    let status = command.status().expect("a shell");
    assert_eq!((status.signal(), status.core_dumped()), (Some(11), false), "{status}");
    // With `kernel.core_pattern` = `core` and `core_uses_pid` = 0 there is one file for both.
    for core in std::fs::read_dir(sandbox.work().join("dumped")).expect("the folder").flatten() {
        let bytes = std::fs::read(core.path()).expect("a core");
        assert!(bytes.windows(7).any(|part| part == b"./crash"), "the core is not of the command");
        let of_apm = b"-q\0-o\0";
        assert!(!bytes.windows(of_apm.len()).any(|part| part == of_apm), "the core is of apm");
    }
}

#[test]
fn a_signal_reaches_the_command_and_its_profile_is_written() {
    let sandbox = Sandbox::new("profilesignal");
    // It says when it listens, and works until then.
    let script = "trap 'exit 7' TERM; echo > ready; while :; do :; done";
    let mut command = sandbox.command(["profile", "cpu", "-o", "out", "--", "sh", "-c", script]);
    let mut child = Ended(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("apm"));
    let mut ended = None;
    eventually("the command listens", || {
        ended = child.0.try_wait().expect("asked");
        sandbox.has("ready") || ended.is_some()
    });
    if ended.is_some_and(|status| status.code() == Some(3)) {
        skip("the kernel grants no way to sample");
        return;
    }
    signal(child.0.id(), "TERM");
    let status = child.0.wait().expect("its end");
    assert_eq!(status.code(), Some(7));
    assert!(Profile::read(&sandbox, "out").quality("samples") > 0);
}

#[test]
fn wrong_words_start_nothing() {
    let sandbox = Sandbox::new("profilewords");
    let cases: [(&[&str], &str); 6] = [
        (&["--", "there-is-no-such-program"], "program `there-is-no-such-program` not found in PATH"),
        (&["--frequency", "0", "--", "true"], "--frequency 0 is out of range"),
        (&["--stack", "1MiB", "--", "true"], "--stack 1MiB is out of range"),
        (&["--duration", "0s", "--", "true"], "--duration: 0s is out of range"),
        (&["--pid", "4194305"], "there is no process 4194305"),
        (&["-o", "/proc/none", "--", "true"], "create the folder `/proc/none`"),
    ];
    for (words, said) in cases {
        let ran = sandbox.apm(["profile", "cpu"].iter().chain(words));
        let stderr = ran.fails(2);
        assert!(stderr.contains(said), "{words:?}: {stderr}");
    }
    sandbox.file("text", "no program");
    Ran::of(sandbox.program("chmod", ["+x", "text"])).good();
    let ran = sandbox.apm(["profile", "cpu", "--", "./text"]);
    if !is_refused(&ran) {
        assert!(ran.fails(2).contains("Exec format error"));
    }
}

/// Runs a program under a filter that answers EPERM to these system calls.
const REFUSING: &str = r#"
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0)]
for number in sys.argv[1].split(","):
    code += [(0x15, 0, 1, int(number)), (0x06, 0, 0, 0x00050001)]
code += [(0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head) == 0
os.execv(sys.argv[2], sys.argv[2:])
"#;
const PERF_EVENT_OPEN: &str = "298";
const PTRACE: &str = "101";

/// apm where the kernel refuses these calls; nothing where that cannot be arranged.
fn refused<'a>(sandbox: &Sandbox, calls: &[&str], words: impl IntoIterator<Item = &'a str>) -> Option<Ran> {
    if !cfg!(target_arch = "x86_64") {
        skip("numbers of system calls are those of x86-64");
        return None;
    }
    if !has_program("python3") {
        return None;
    }
    sandbox.file("refusing.py", REFUSING);
    let calls = calls.join(",");
    let head = ["refusing.py".to_owned(), calls, env!("CARGO_BIN_EXE_apm").to_owned()];
    let words = head.into_iter().chain(words.into_iter().map(str::to_owned));
    Some(Ran::of(sandbox.program("python3", words)))
}

/// Compiles it without any library that could be preloaded.
fn compiled_static(sandbox: &Sandbox, name: &str, source: &str) -> bool {
    if !has_program("gcc") {
        return false;
    }
    let file = format!("{name}.c");
    sandbox.file(&file, source);
    let flags = ["-O2", "-static", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-w", "-o", name, &file];
    assert_eq!(Ran::of(sandbox.program("gcc", flags)).code, Some(0));
    true
}

#[test]
fn where_events_are_refused_and_nothing_is_preloaded_threads_are_stopped() {
    let sandbox = Sandbox::new("profileptrace");
    if !compiled_static(&sandbox, "hot", HOT) {
        return;
    }
    let words = ["profile", "cpu", "-o", "out", "--", "./hot", "800", "3"];
    let Some(ran) = refused(&sandbox, &[PERF_EVENT_OPEN], words) else { return };
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    let quality = &profile.0["quality"];
    assert!(quality["sampler"].as_str().expect("a name").starts_with("ptrace"), "{quality}");
    assert!(quality["refused"].to_string().contains("linked statically"), "{quality}");
    check_shares(&profile);

    let mut child = Ended(sandbox.program("./hot", ["1000000"]).stdout(Stdio::null()).spawn().expect("a program"));
    let pid = child.0.id().to_string();
    let words = ["profile", "cpu", "--pid", &pid, "--duration", "3s", "-o", "joined"];
    let ran = refused(&sandbox, &[PERF_EVENT_OPEN], words).expect("as before");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(child.0.try_wait().expect("asked").is_none(), "it goes on");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its state");
    assert!(status.contains("TracerPid:\t0") && !status.contains("State:\tt"), "{status}");
    let profile = Profile::read(&sandbox, "joined");
    assert!(profile.samples("main") > 0 && profile.samples("a") > profile.samples("deep"), "{:?}", profile.stacks());
}

/// Signals, and children whose exit codes count.
const FORKS: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
volatile unsigned long sink; volatile int ticks;
static void tick(int signal) { ticks++; }
int main(void) {
    int bad = 0;
    struct itimerval timer = { {0, 1000}, {0, 1000} };
    signal(SIGALRM, tick);
    setitimer(ITIMER_REAL, &timer, 0);
    for (int i = 0; i < 60; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) { for (unsigned long n = 0; n < 3000000; n++) sink += n; _exit(i % 7); }
        while (waitpid(pid, &status, 0) < 0);
        bad += !WIFEXITED(status) || WEXITSTATUS(status) != i % 7;
    }
    printf("%d wrong, %s ticks\n", bad, ticks > 50 ? "many" : "few");
    return 0;
}
"#;

#[test]
fn a_program_that_is_stopped_sees_its_signals_and_children_as_ever() {
    let sandbox = Sandbox::new("profileforks");
    if !compiled_static(&sandbox, "forks", FORKS) {
        return;
    }
    let words = ["profile", "cpu", "-q", "-o", "out", "--", "./forks"];
    let Some(ran) = refused(&sandbox, &[PERF_EVENT_OPEN], words) else { return };
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "0 wrong, many ticks\n", ""));
}

#[test]
fn where_everything_is_refused_there_are_counters_and_it_is_said() {
    let sandbox = Sandbox::new("profilecounters");
    if !compiled_static(&sandbox, "hot", HOT) {
        return;
    }
    for what in ["cpu", "mem"] {
        let words = ["profile", what, "-o", "out", "--", "./hot", "200", "3"];
        let Some(ran) = refused(&sandbox, &[PERF_EVENT_OPEN, PTRACE], words) else { return };
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        assert!(ran.stderr.contains("data  counters only"), "{}", ran.stderr);
        let profile = Profile::read(&sandbox, "out");
        assert_eq!(
            (&profile.0["quality"]["sampler"], profile.0["rows"].as_array().map(Vec::len)),
            (&"counters only".into(), Some(0))
        );
        assert_eq!(profile.0["tables"]["lists"][0]["name"], "processes");
        assert!(!profile.0["tables"]["timelines"].as_array().expect("curves").is_empty());
    }
}

#[test]
fn apm_profiles_itself() {
    let sandbox = Sandbox::new("profileself");
    let values: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let words =
        ["profile", "self", "-F", "250", "-o", "out", "--", "run", "each", "-j", "4", "--", "echo", "{}", ":::"];
    let ran = sandbox.apm(words.into_iter().chain(values.iter().map(String::as_str)));
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 400), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    let stacks = profile.stacks();
    assert!(stacks.iter().any(|(names, ..)| names.iter().any(|name| name.contains("apm::"))), "{stacks:?}");
    assert!(!stacks.iter().any(|(names, ..)| names.iter().any(|name| name.contains("with_first_tick"))), "{stacks:?}");
    assert!(sandbox.has("out/cpu.svg") && sandbox.has("out/profile.pb.gz"));

    // A child starts with SIGPROF as it always is.
    let script = "grep -E 'SigIgn|SigBlk' /proc/self/status | cut -f2 | tr '\\n' ' '";
    let said =
        sandbox.apm(["profile", "self", "-q", "-o", "two", "--", "run", "each", "--", "sh", "-c", script, ":::", "x"]);
    for mask in said.good().split_ascii_whitespace() {
        let mask = u64::from_str_radix(mask, 16).expect("a mask");
        assert_eq!(mask & 1 << 26, 0, "SIGPROF: {mask:x}");
    }

    let ran = sandbox.apm(["profile", "self", "-o", "three", "--", "apm", "run", "each", "--", "false", ":::", "1"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let said = sandbox.apm(["profile", "self", "-o", "four", "--", "run", "--no-such-word"]).fails(2);
    assert!(said.contains("--no-such-word") && !sandbox.has("four"), "{said}");
    let said = sandbox.apm(["profile", "self", "-F", "999", "--", "run", "list"]).fails(2);
    assert!(said.contains("--frequency 999 is out of range"), "{said}");
}

/// First words of folded stacks.
fn roots(sandbox: &Sandbox, file: &str) -> Vec<String> {
    let text = sandbox.read(file);
    let mut roots: Vec<String> = text.lines().filter_map(|line| Some(line.split_once(';')?.0.to_owned())).collect();
    roots.sort();
    roots.dedup();
    roots
}

#[test]
fn tasks_of_a_run_stand_apart() {
    let sandbox = Sandbox::new("profiletasks");
    if !compiled(&sandbox, "hot", HOT) {
        return;
    }
    let apm = env!("CARGO_BIN_EXE_apm");
    // One of them in a child of its own.
    let script = "./hot $1; true";
    let run = ["run", "each", "-j", "2", "--", "sh", "-c", script, "sh", "{}", ":::"];
    let words = ["profile", "cpu", "-o", "out", "--", apm].into_iter().chain(run).chain(["200", "201"]);
    let ran = sandbox.apm(words);
    if is_refused(&ran) {
        return;
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let found = roots(&sandbox, "out/cpu.folded");
    assert!(found.starts_with(&["1: 200".to_owned(), "2: 201".to_owned()]), "{found:?}");
    assert!(found.iter().skip(2).all(|root| root.starts_with("apm (")), "{found:?}");
    assert!(sandbox.read("out/cpu.svg").contains("1: 200"));

    let said = sandbox.apm(["profile", "cpu", "--run"]).fails(2);
    assert!(said.contains("no apm run goes on"), "{said}");
    // A time that no other run of this test asks for.
    let long = (1_000_000 + std::process::id()).to_string();
    let mut child = Ended(sandbox.command(run.into_iter().chain([&*long])).stdout(Stdio::null()).spawn().expect("apm"));
    eventually("the task runs", || !processes_with(&format!("./hot\u{0}{long}")).is_empty());
    let ran = sandbox.apm(["profile", "cpu", "--run", "-F", "499", "--duration", "2s", "-o", "joined"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("run 2"), "{}", ran.stderr);
    let found = roots(&sandbox, "joined/cpu.folded");
    assert!(found.contains(&format!("1: {long}")), "{found:?}");
    assert!(child.0.try_wait().expect("asked").is_none(), "it goes on");
    signal(child.0.id(), "INT");
    child.0.wait().expect("its end");
}

#[test]
fn runtimes_name_their_code_where_they_are_asked_to() {
    let sandbox = Sandbox::new("profilejit");
    if !has_program("node") {
        return;
    }
    let script = "function looper(n) { let x = 1; for (let i = 0; i < n; i++) { x = (x * 31 + i) | 0; } return x; }\n\
                  const end = Date.now() + 1000; while (Date.now() < end) { looper(500000); }\n";
    sandbox.file("hot.js", script);
    let ran = sandbox.apm(["profile", "cpu", "-o", "without", "--", "node", "hot.js"]);
    if is_refused(&ran) {
        return;
    }
    assert!(ran.stderr.contains("made at run time, without names: `--jit`"), "{}", ran.stderr);
    let ran = sandbox.apm(["profile", "cpu", "--jit", "-o", "with", "--", "node", "hot.js"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("without names: `--jit`"), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "with");
    let named = |(names, ..): &(Vec<String>, String, u64)| names.iter().any(|name| name.contains("looper"));
    let found: u64 = profile.stacks().iter().filter(|stack| named(stack)).map(|(.., count)| count).sum();
    assert!(found * 2 > profile.quality("samples"), "{found} samples in it");
    for pid in profile.0["threads"].as_array().expect("threads").iter().filter_map(|thread| thread["pid"].as_u64()) {
        let _ = std::fs::remove_file(format!("/tmp/perf-{pid}.map"));
    }
}

/// A thread that is not the first of its process executes another program.
const EXECUTES: &str = r#"
#include <pthread.h>
#include <unistd.h>
volatile unsigned long sink;
__attribute__((noinline)) void spin(unsigned long n) { for (unsigned long i = 0; i < n; i++) sink += i; }
void *work(void *unused) { spin(50000000); execl("./hot", "hot", "400", "5", (char *)0); return 0; }
int main(void) { pthread_t thread; pthread_create(&thread, 0, work, 0); spin(40000000000); return 0; }
"#;

#[test]
fn a_program_that_a_thread_executes_is_seen() {
    let sandbox = Sandbox::new("profileexec");
    if !compiled_static(&sandbox, "hot", HOT) || !compiled_static(&sandbox, "executes", EXECUTES) {
        return;
    }
    let words = ["profile", "cpu", "-o", "out", "--", "./executes"];
    let Some(ran) = refused(&sandbox, &[PERF_EVENT_OPEN], words) else { return };
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    assert!(
        profile.samples("spin") > 0 && profile.samples("a") > profile.samples("deep"),
        "{:?} {}",
        profile.stacks(),
        profile.0["quality"]
    );
    assert_eq!(profile.quality("lost"), 0, "{}", profile.0["quality"]);
}

#[test]
fn tasks_that_end_before_they_are_asked_are_known_too() {
    let sandbox = Sandbox::new("profileshort");
    if !compiled(&sandbox, "hot", HOT) {
        return;
    }
    let apm = env!("CARGO_BIN_EXE_apm");
    let values: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let words = ["profile", "cpu", "-o", "out", "--", apm, "run", "each", "-j", "2", "--", "./hot", "2", "{}", ":::"];
    let ran = sandbox.apm(words.into_iter().chain(values.iter().map(String::as_str)));
    if is_refused(&ran) {
        return;
    }
    let profile = Profile::read(&sandbox, "out");
    let threads = profile.0["threads"].as_array().expect("threads");
    let of_tasks = |thread: &&Value| thread["process"] == "hot";
    let (all, known) = (
        threads.iter().filter(of_tasks).count(),
        threads.iter().filter(of_tasks).filter(|thread| thread["task"].is_string()).count(),
    );
    assert!(all > 20 && known * 4 > all * 3, "{known} of {all}");
}

/// Writes 3,000,000 bytes in one function and 700,000 in another to one file, 5,000,000 in a third to another file, which is
/// synced three times and read again.
const MOVES: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
static char block[65536];
__attribute__((noinline)) void write_log(int fd) { for (int i = 0; i < 300; i++) write(fd, block, 10000); }
__attribute__((noinline)) void write_data(int fd) { for (int i = 0; i < 100; i++) pwrite(fd, block, 50000, i * 50000L); }
__attribute__((noinline)) void write_parts(int fd) { struct iovec v[2] = {{block, 3000}, {block, 4000}}; for (int i = 0; i < 100; i++) writev(fd, v, 2); }
__attribute__((noinline)) void sync_all(int fd) { for (int i = 0; i < 3; i++) fsync(fd); __asm__ volatile(""); }
__attribute__((noinline)) void read_back(int fd) { lseek(fd, 0, SEEK_SET); while (read(fd, block, 40000) > 0); __asm__ volatile(""); }
int main(int argc, char **argv) {
    char go;
    if (argc > 1) { write(1, "ready\n", 6); read(0, &go, 1); }
    int log = open("log", O_RDWR | O_CREAT | O_TRUNC, 0600), data = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
    write_log(log); write_data(data); write_parts(log); sync_all(data); read_back(data);
    /* Who wants to know what these are may look now. */
    usleep(200000);
    close(log); close(data);
    return 0;
}
"#;

/// The same over a connection to itself: 2,000,000 bytes and 500,000.
const SENDS: &str = r#"
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
static char block[65536];
static int listener;
__attribute__((noinline)) void send_big(int fd) { for (int i = 0; i < 50; i++) send(fd, block, 40000, 0); }
__attribute__((noinline)) void send_small(int fd) { for (int i = 0; i < 500; i++) write(fd, block, 1000); }
__attribute__((noinline)) void receive_all(int fd) { static char own[65536]; while (read(fd, own, sizeof own) > 0); __asm__ volatile(""); }
void *serve(void *unused) { int fd = accept(listener, 0, 0); receive_all(fd); close(fd); return unused; }
int main(void) {
    struct sockaddr_in at = {AF_INET};
    socklen_t length = sizeof at;
    pthread_t thread;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&at, sizeof at); listen(listener, 5);
    getsockname(listener, (struct sockaddr *)&at, &length);
    pthread_create(&thread, 0, serve, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    connect(fd, (struct sockaddr *)&at, sizeof at);
    send_big(fd); send_small(fd);
    close(fd);
    pthread_join(thread, 0);
    return 0;
}
"#;

/// apm where tracepoints can be used; it needs no mount for that. Nothing where they cannot.
fn traced(sandbox: &Sandbox, words: &[&str]) -> Option<std::process::Command> {
    use std::os::unix::fs::MetadataExt as _;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !is_root {
        skip("tracepoints are for root");
        return None;
    }
    let mount = "mount -t tracefs tracefs /sys/kernel/tracing && test -e /sys/kernel/tracing/events/raw_syscalls";
    let is_there = Ran::of(sandbox.program("unshare", ["-m", "sh", "-c", mount])).code == Some(0);
    if !is_there {
        // No machine setting brings it: the kernel has no tracing, or a container has no right to it.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: no tracefs here\n"));
        return None;
    }
    Some(sandbox.command(words))
}

impl Profile {
    /// Sum of a kind over the stacks that a function is in.
    fn of(&self, kind: &str, function: &str) -> u64 {
        let number = |value: &Value| value.as_u64().expect("a number") as usize;
        let kinds = self.0["kinds"].as_array().expect("kinds");
        let Some(kind) = kinds.iter().position(|one| one["name"] == kind) else { return 0 };
        let is_in = |row: &&Value| {
            let mut next = Some(number(&row["node"]));
            std::iter::from_fn(|| {
                let node = &self.0["nodes"][next?];
                next = node["caller"].as_u64().map(|caller| caller as usize);
                Some(self.0["frames"][number(&node["frame"])]["name"].clone())
            })
            .any(|name| name == function)
        };
        let rows = self.0["rows"].as_array().expect("rows").iter().filter(is_in);
        rows.map(|row| row["values"][kind].as_u64().expect("a value")).sum()
    }

    /// Rows of a list.
    fn list(&self, name: &str) -> Vec<(String, Vec<u64>)> {
        let lists = self.0["tables"]["lists"].as_array().cloned().unwrap_or_default();
        let rows = lists.into_iter().find(|list| list["name"] == name).map(|list| list["rows"].clone());
        rows.map_or_else(Vec::new, |rows| serde_json::from_value(rows).expect("rows"))
    }
}

/// Within 2 %.
fn close_to(found: u64, truth: u64, what: &str) {
    assert!(found.abs_diff(truth) * 50 <= truth, "{what}: {found}, and not {truth}");
}

fn check_moves(profile: &Profile) {
    for (function, kind, bytes) in [
        ("write_log", "written", 3_000_000),
        ("write_data", "written", 5_000_000),
        ("write_parts", "written", 700_000),
        ("read_back", "read", 5_000_000),
        ("sync_all", "synced", 3),
    ] {
        close_to(profile.of(kind, function), bytes, function);
    }
    let files = profile.list("files");
    let file = |name: &str| files.iter().find(|(path, _)| path.ends_with(name)).map(|(_, row)| row.clone());
    let (log, data) = (file("/log").expect("log"), file("/data").expect("data"));
    assert_eq!((log[1], data[0], data[1], data[4]), (3_700_000, 5_000_000, 5_000_000, 3), "{files:?}");
    assert!(data[5] > 0, "time of syncs");
}

#[test]
fn a_static_programs_bytes_are_those_of_its_functions_and_files() {
    let sandbox = Sandbox::new("profilemoves");
    if !compiled(&sandbox, "moves", MOVES) {
        return;
    }
    let link = ["-O2", "-static", "-fno-optimize-sibling-calls", "-w", "-o", "moves", "moves.c"];
    Ran::of(sandbox.program("gcc", link)).good();
    let Some(apm) = traced(&sandbox, &["profile", "io", "-o", "out", "--", "./moves"]) else { return };
    let ran = Ran::of(apm);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    assert_eq!(profile.0["quality"]["sampler"], "tracepoints, system calls");
    check_moves(&profile);
}

#[test]
fn bytes_of_a_process_that_runs_are_seen_too() {
    use std::io::{Read as _, Write as _};
    let sandbox = Sandbox::new("profilemovespid");
    if !compiled(&sandbox, "moves", MOVES) {
        return;
    }
    let mut command = sandbox.program("./moves", ["wait"]);
    let mut child = Ended(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program"));
    let mut said = [0; 6];
    child.0.stdout.take().expect("a pipe").read_exact(&mut said).expect("it is ready");
    let pid = child.0.id().to_string();
    let Some(mut apm) = traced(&sandbox, &["profile", "io", "--pid", &pid, "-o", "out"]) else { return };
    let apm = apm.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("apm");
    // When apm listens it has its events: those are what it holds open.
    let is_open = |pid: u32| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("perf_event")).count() > 0
    };
    eventually("apm listens", || is_open(apm.id()));
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.0.stdin.take().expect("a pipe").write_all(b"x").expect("it goes on");
    let ran = Ran::from(apm.wait_with_output().expect("its end"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    check_moves(&Profile::read(&sandbox, "out"));
}

#[test]
fn what_a_static_program_sends_is_its_functions() {
    let sandbox = Sandbox::new("profilesends");
    if !compiled(&sandbox, "sends", SENDS) {
        return;
    }
    let link = ["-O2", "-static", "-fno-optimize-sibling-calls", "-pthread", "-w", "-o", "sends", "sends.c"];
    Ran::of(sandbox.program("gcc", link)).good();
    let Some(apm) = traced(&sandbox, &["profile", "net", "-o", "out", "--", "./sends"]) else { return };
    let ran = Ran::of(apm);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    close_to(profile.of("sent", "send_big"), 2_000_000, "send_big");
    close_to(profile.of("sent", "send_small"), 500_000, "send_small");
    close_to(profile.of("received", "receive_all"), 2_500_000, "receive_all");
}

/// Fifty connections to itself, one after the other; 1,000 bytes there and 300 back over each.
const SHORT: &str = r#"
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
static int listener;
static void take(int fd, int count) { char block[1000]; while (count > 0) { int got = read(fd, block, count); if (got <= 0) return; count -= got; } }
void *serve(void *unused) {
    char block[1000] = {0};
    for (int i = 0; i < 50; i++) { int fd = accept(listener, 0, 0); take(fd, 1000); write(fd, block, 300); take(fd, 1); close(fd); }
    return unused;
}
int main(void) {
    struct sockaddr_in at = {AF_INET};
    socklen_t length = sizeof at;
    pthread_t thread;
    char block[1000] = {0};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&at, sizeof at); listen(listener, 5);
    getsockname(listener, (struct sockaddr *)&at, &length);
    pthread_create(&thread, 0, serve, 0);
    for (int i = 0; i < 50; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        connect(fd, (struct sockaddr *)&at, sizeof at);
        write(fd, block, 1000); take(fd, 300); close(fd);
    }
    pthread_join(thread, 0);
    return 0;
}
"#;

#[test]
fn connections_that_end_between_two_looks_are_in_the_table() {
    let sandbox = Sandbox::new("profileshort");
    if !compiled(&sandbox, "short", SHORT) {
        return;
    }
    let Some(apm) = traced(&sandbox, &["profile", "net", "-o", "out", "--", "./short"]) else { return };
    let ran = Ran::of(apm);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let rows = Profile::read(&sandbox, "out").list("connections");
    let ends = |received, sent| rows.iter().filter(|(_, row)| (row[0], row[1]) == (received, sent)).count();
    // Both ends of each.
    assert_eq!((rows.len(), ends(300, 1000), ends(1000, 300)), (100, 50, 50), "{rows:?}");
}

#[test]
fn requests_to_devices_have_percentiles_in_order() {
    let sandbox = Sandbox::new("profiledevices");
    let write = "dd if=/dev/zero of=file bs=64k count=64 conv=fsync status=none";
    let Some(apm) = traced(&sandbox, &["profile", "io", "-o", "out", "--", "sh", "-c", write]) else { return };
    let ran = Ran::of(apm);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // Nothing of a file system without a device: memory, or one over the network.
    for (name, row) in Profile::read(&sandbox, "out").list("devices") {
        assert_eq!(row.len(), 6, "{name}");
        assert!(row[0] > 0 && row[2..].is_sorted(), "{name}: {row:?}");
    }
}

/// Where tracepoints are refused that is said, and what there is without them is there.
#[test]
fn a_static_program_without_tracepoints_has_its_sums_and_the_reason() {
    let sandbox = Sandbox::new("profileuntraced");
    if !compiled_static(&sandbox, "moves", MOVES) {
        return;
    }
    let words = ["profile", "io", "-o", "out", "--", "./moves"];
    let Some(ran) = refused(&sandbox, &[PERF_EVENT_OPEN], words) else { return };
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile = Profile::read(&sandbox, "out");
    let refused = profile.0["quality"]["refused"].to_string();
    assert!(refused.contains("calls by stack and by file: "), "{refused}");
    assert!(refused.contains("Operation not permitted") || refused.contains("for root"), "{refused}");
    let written: u64 = profile.list("processes").iter().map(|(_, row)| row[3]).sum();
    close_to(written, 8_700_000, "bytes of the process");
}
