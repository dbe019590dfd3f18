//! The cases: what is done, by whom, and what apm is held to.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::case::Metric::{Cpu, CpuRatio, Rss, Wall, WallOver, WallRatio};
use crate::case::{Bound, Case, Contender, bound};
use crate::limit::STAND_IN_MS;
use crate::{engine, million, profile, watch};

/// A case of the list.
pub struct Named {
    pub name: &'static str,
    pub run: Run,
    /// It takes many minutes, or changes the machine.
    pub only_by_name: bool,
}

/// What is run. Either says how many bounds were missed.
pub enum Run {
    /// Writes the files of a case and looks for the peers; the case is measured then.
    Case(fn() -> Case),
    /// Measures and prints by itself.
    Itself(fn() -> usize),
}

impl Run {
    pub fn run(&self) -> usize {
        match self {
            Self::Case(prepare) => prepare().run(),
            Self::Itself(run) => run(),
        }
    }
}

/// All of them.
pub fn all() -> Vec<Named> {
    use Run::{Case, Itself};
    let named = |name, run| Named { name, run, only_by_name: false };
    let rare = |name, run| Named { name, run, only_by_name: true };
    vec![
        named("spawn", Case(spawn)),
        named("spawn-large", Case(spawn_large)),
        named("confined", Case(confined)),
        named("each-100k", Case(each_100k)),
        rare("each-million", Itself(million::run)),
        named("sleep", Case(sleep)),
        named("chain", Case(chain)),
        named("layers", Case(layers)),
        named("diamond", Case(diamond)),
        named("plan-yaml", Case(plan_yaml)),
        named("plan-jsonl", Case(plan_jsonl)),
        named("engine", Itself(engine::run)),
        named("watch", Itself(watch::run)),
        named("startup", Case(startup)),
        named("qa", Case(qa)),
        named("doctor", Case(doctor)),
        named("doctor-crowd", Case(doctor_crowd)),
        named("doctor-watch", Case(doctor_watch)),
        named("profile-cpu", Case(profile::cpu)),
        named("profile-compiler", Case(profile::compiler)),
        named("profile-malloc", Case(profile::malloc)),
        named("profile-heap", Case(profile::heap)),
        rare("tune", Itself(tune)),
    ]
}

/// What settings are worth, in a script of its own: what it counts is no time of a command.
fn tune() -> usize {
    println!("\n## settings of `apm tune`, before and after\n");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/tune.py");
    let status = Command::new("python3").args([script, env!("CARGO_BIN_EXE_apm")]).status();
    usize::from(!status.is_ok_and(|status| status.success()))
}

/// A folder for the files of a case, emptied.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

fn command(folder: &Path, program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).current_dir(folder);
    command
}

/// The physical limit.
fn limit(folder: &Path, threads: usize, count: usize, words: &[&str]) -> Contender {
    let folder = folder.to_owned();
    let own = std::env::current_exe().expect("our own path");
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Contender::new(&format!("limit: {threads} threads"), move || {
        let mut command = Command::new(&own);
        command.arg("limit").arg(threads.to_string()).arg(count.to_string()).args(&words).current_dir(&folder);
        command
    })
}

pub fn apm(folder: &Path, words: &[&str]) -> Contender {
    let (folder, words) = (folder.to_owned(), words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    Contender::new("apm", move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apm"));
        command.args(&words).current_dir(&folder).env("APM_STATE_DIR", folder.with_extension("state"));
        command
    })
}

/// Somebody else, if it is installed.
pub fn peer(folder: &Path, name: &str, words: &[&str]) -> Option<Contender> {
    let program = words[0].to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join(&program).is_file()) {
        println!("({name} is not installed)");
        return None;
    }
    let (folder, rest) = (folder.to_owned(), words[1..].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    Some(Contender::new(name, move || {
        let mut command = Command::new(&program);
        command.args(&rest).current_dir(&folder);
        command
    }))
}

pub fn lines(count: usize) -> Vec<u8> {
    (1..=count).map(|number| format!("{number}\n")).collect::<String>().into_bytes()
}

/// A Makefile and a build.ninja of independent steps that all run `run`.
fn flat_files(folder: &Path, count: usize, run: &str) {
    let names: String = (0..count).map(|n| format!(" t{n}")).collect();
    let make = format!("all:{names}\n.PHONY: all{names}\n{}:\n\t@{run}\n", names.trim());
    std::fs::write(folder.join("Makefile"), make).expect("written");
    let rules: String = (0..count).map(|n| format!("build t{n}: r\n")).collect();
    std::fs::write(folder.join("build.ninja"), format!("rule r\n  command = {run}\n{rules}")).expect("written");
}

fn spawn() -> Case {
    const COUNT: usize = 5000;
    let folder = folder("spawn");
    // With a value, as `each` and xargs give it: GNU `true` looks at it, and that takes a sixth of its time.
    flat_files(&folder, COUNT, "/bin/true 1");
    let few = (COUNT / 10) as f64;
    let contenders = [
        Some(limit(&folder, 2, COUNT, &["/bin/true", "1"])),
        Some(apm(&folder, &["run", "each", "-j2", "/bin/true"]).input(lines(COUNT))),
        peer(&folder, "rust-parallel", &["rust-parallel", "-j2", "/bin/true"]).map(|peer| peer.input(lines(COUNT))),
        peer(&folder, "xargs", &["xargs", "-P2", "-n1", "/bin/true"]).map(|peer| peer.input(lines(COUNT))),
        peer(&folder, "make", &["make", "-j2"]),
        peer(&folder, "ninja", &["ninja", "-j2"]),
        peer(&folder, "GNU parallel (a tenth)", &["parallel", "-j2", "/bin/true"])
            .map(|peer| peer.input(lines(few as usize)).share(10.0)),
    ];
    Case {
        title: format!("{COUNT} x /bin/true, two at a time; apm captures output, exit and usage of each"),
        rounds: 7,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![bound("apm", WallRatio, 1.10), bound("apm", CpuRatio, 1.15), bound("apm", Rss, 12.0)],
    }
}

/// As many values as one would give to a tool for that, read from standard input while they are run.
fn each_100k() -> Case {
    const COUNT: usize = 100_000;
    let folder = folder("each-100k");
    let contenders = [
        Some(limit(&folder, 2, COUNT, &["/bin/true", "1"])),
        Some(apm(&folder, &EACH).input(lines(COUNT))),
        peer(&folder, "xargs", &["xargs", "-P2", "-n1", "/bin/true"]).map(|peer| peer.input(lines(COUNT))),
        peer(&folder, "GNU parallel (a hundredth)", &["parallel", "-j2", "/bin/true"])
            .map(|peer| peer.input(lines(COUNT / 100)).share(100.0)),
    ];
    Case {
        title: format!("{COUNT} x /bin/true, two at a time, values from standard input"),
        rounds: 3,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![bound("apm", Rss, 32.0)],
    }
}

pub const EACH: [&str; 4] = ["run", "each", "-j2", "/bin/true"];

/// Each of 64 threads of apm holds a read buffer of 16 MiB, so apm itself is 1 GiB large; the first is apm with small
/// ones. Filling the buffers once is counted against the large one.
fn spawn_large() -> Case {
    const COUNT: usize = 4000;
    let folder = folder("spawn-large");
    let plan = format!(
        "version: 1\ntasks:\n- {{id: t, matrix: {{n: [{}]}}, run: [/bin/true], cwd: /tmp, env: {{A: b}}, limits: {{processes: 100}}}}\n",
        (0..COUNT).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
    );
    std::fs::write(folder.join("plan.yaml"), plan).expect("written");
    let run = |name: &str, kib: &str| {
        let set = format!("memory.buffer_size_kb={kib}");
        Contender { name: name.to_owned(), ..apm(&folder, &["run", "plan.yaml", "-q", "-j64", "--set", &set]) }
    };
    Case {
        title: format!(
            "{COUNT} x /bin/true with folder, environment, group and limit, 64 at a time; apm small and large"
        ),
        rounds: 5,
        contenders: vec![run("apm, small", "64"), run("apm, 1 GiB", "16384")],
        bounds: vec![bound("apm, 1 GiB", WallRatio, 1.5), bound("apm, 1 GiB", CpuRatio, 1.5)],
    }
}

/// One after the other, so that what is measured over the first is what each start costs: 1 ms is allowed.
fn confined() -> Case {
    const COUNT: usize = 1000;
    let folder = folder("confined");
    let run = |name: &str, mode: &str| {
        let words = ["run", "each", "-j1", "--sandbox", mode, "/bin/true"];
        Contender { name: name.to_owned(), ..apm(&folder, &words).input(lines(COUNT)) }
    };
    Case {
        title: format!("{COUNT} x /bin/true, one at a time; apm without and with confinement"),
        rounds: 7,
        contenders: vec![run("apm", "off"), run("apm, confined", "best")],
        bounds: vec![bound("apm, confined", WallOver, COUNT as f64 / 1000.0)],
    }
}

fn sleep() -> Case {
    const COUNT: usize = 200;
    let folder = folder("sleep");
    flat_files(&folder, COUNT, "sleep 0.05");
    let values = "0.05\n".repeat(COUNT);
    let contenders = [
        Some(limit(&folder, 50, COUNT, &["sleep", "0.05"])),
        Some(apm(&folder, &["run", "each", "-j50", "sleep"]).input(values.as_str())),
        peer(&folder, "rust-parallel", &["rust-parallel", "-j50", "sleep"]).map(|peer| peer.input(values.as_str())),
        peer(&folder, "xargs", &["xargs", "-P50", "-n1", "sleep"]).map(|peer| peer.input(values.as_str())),
        peer(&folder, "make", &["make", "-j50"]),
        peer(&folder, "ninja", &["ninja", "-j50"]),
    ];
    Case {
        title: format!("{COUNT} x `sleep 0.05`, 50 at a time"),
        rounds: 7,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![bound("apm", WallRatio, 1.15)],
    }
}

/// What node `n` of a graph needs.
type Needs = fn(usize) -> Vec<usize>;

/// The same graph for apm, make and ninja.
fn graph(name: &str, title: &str, needs: Needs) -> Case {
    const COUNT: usize = 10_000;
    const RUN: &str = "/bin/true";
    let folder = folder(name);
    let join = |n: usize, before: &str, separator: &str| {
        needs(n).iter().map(|need| format!("{before}t{need}")).collect::<Vec<_>>().join(separator)
    };
    let plan: String =
        (0..COUNT).map(|n| format!("- {{id: t{n}, run: {RUN}, needs: [{}]}}\n", join(n, "", ", "))).collect();
    std::fs::write(folder.join("plan.yaml"), format!("version: 1\ntasks:\n{plan}")).expect("written");
    let all: String = (0..COUNT).map(|n| format!(" t{n}")).collect();
    let make: String = (0..COUNT).map(|n| format!("t{n}: {}\n\t@{RUN}\n", join(n, "", " "))).collect();
    std::fs::write(folder.join("Makefile"), format!("all:{all}\n.PHONY: all{all}\n{make}")).expect("written");
    let ninja: String = (0..COUNT).map(|n| format!("build t{n}: r {}\n", join(n, "", " "))).collect();
    std::fs::write(folder.join("build.ninja"), format!("rule r\n  command = {RUN}\n{ninja}")).expect("written");
    let contenders = [
        Some(limit(&folder, 2, COUNT, &[RUN])),
        Some(apm(&folder, &["run", "plan.yaml", "-j2"])),
        peer(&folder, "make", &["make", "-j2"]),
        peer(&folder, "ninja", &["ninja", "-j2"]),
    ];
    Case {
        title: format!("{COUNT} nodes, {title}, `{RUN}` each, two at a time; the limit knows no needs"),
        rounds: 3,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![bound("apm", CpuRatio, 1.3)],
    }
}

fn chain() -> Case {
    graph("chain", "each needs the one before", |n| n.checked_sub(1).into_iter().collect())
}

fn layers() -> Case {
    graph("layers", "100 layers of 100, each needs three of the layer before", |n| match n.checked_sub(100) {
        None => Vec::new(),
        Some(_) => (0..3).map(|k| (n / 100 - 1) * 100 + (n + 33 * k) % 100).collect(),
    })
}

fn diamond() -> Case {
    graph("diamond", "one, then 9,998, then one", |n| match n {
        0 => Vec::new(),
        9_999 => (1..9_999).collect(),
        _ => vec![0],
    })
}

/// A plan of 100,000 tasks in 100 layers, read and planned. `ratio`: how much longer than ninja it may take.
fn plan(name: &str, file: &str, text: &str, ratio: f64) -> Case {
    const COUNT: usize = 100_000;
    let folder = folder(name);
    std::fs::write(folder.join(file), text).expect("written");
    let rules: String = (0..COUNT)
        .map(|n| {
            format!("build t{n}: r{}\n", n.checked_sub(1000).map(|before| format!(" t{before}")).unwrap_or_default())
        })
        .collect();
    std::fs::write(folder.join("build.ninja"), format!("rule r\n  command = true\n{rules}")).expect("written");
    let ninja = peer(&folder, "ninja -n", &["ninja", "-n", "--quiet"]);
    // Without it there is nothing to compare with: half a second is what it takes at most.
    let wall: Bound = if ninja.is_some() { bound("apm", WallRatio, ratio) } else { bound("apm", Wall, ratio / 2.0) };
    let contenders = [ninja, Some(apm(&folder, &["run", file, "--dry-run"]))];
    Case {
        title: format!("{COUNT} tasks in {file}: read, checked, planned, printed"),
        rounds: 5,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![wall, bound("apm", Rss, 120.0)],
    }
}

fn plan_yaml() -> Case {
    let mut text = "version: 1\ntasks:\n".to_owned();
    for n in 0..100_000usize {
        let needs = n.checked_sub(1000).map(|before| format!("    needs: [t{before}]\n")).unwrap_or_default();
        text.push_str(&format!("  - id: t{n}\n    run: echo {n}\n{needs}    env: {{N: \"{n}\"}}\n"));
    }
    plan("plan-yaml", "plan.yaml", &text, 2.5)
}

fn plan_jsonl() -> Case {
    let task = |n: usize| {
        let needs = n.checked_sub(1000).map(|before| format!(",\"needs\":[\"t{before}\"]")).unwrap_or_default();
        format!("{{\"id\":\"t{n}\",\"run\":\"echo {n}\"{needs},\"env\":{{\"N\":\"{n}\"}}}}\n")
    };
    plan("plan-jsonl", "plan.jsonl", &(0..100_000).map(task).collect::<String>(), 1.5)
}

fn startup() -> Case {
    const COUNT: usize = 200;
    let folder = folder("startup");
    let run = |name: &str, words: &[&str]| {
        Contender { name: name.to_owned(), ..limit(&folder, 1, COUNT, words) }.share(1.0 / COUNT as f64)
    };
    let contenders = vec![
        run("rg --version", &["rg", "--version"]),
        run("apm", &[env!("CARGO_BIN_EXE_apm"), "--version"]),
        run("git --version", &["git", "--version"]),
        run("/bin/true", &["/bin/true"]),
    ];
    Case {
        title: format!("start-up, the mean of {COUNT}"),
        rounds: 7,
        contenders,
        bounds: vec![bound("apm", WallRatio, 1.5), bound("apm", Wall, 0.003)],
    }
}

/// A repository in which ten tools have something to check, each a stand-in that takes a known time.
fn qa() -> Case {
    let folder = folder("qa");
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    let tools = ["ruff", "black", "mypy", "prettier", "eslint", "tsc", "shellcheck", "shfmt", "hadolint", "yamllint"];
    for tool in tools {
        std::fs::copy(std::env::current_exe().expect("our own path"), bin.join(tool)).expect("copied");
    }
    let stand_in = bin.join("mypy");
    let stand_in = stand_in.to_str().expect("UTF-8");
    let repository = folder.join("repository");
    std::fs::create_dir(&repository).expect("a folder");
    for (file, text) in [
        ("pyproject.toml", "[project]\nname = \"x\"\nversion = \"1\"\n[tool.ruff]\n[tool.black]\n[tool.mypy]\n"),
        ("x.py", "x = 1\n"),
        ("x.sh", "#!/bin/sh\ntrue\n"),
        (".editorconfig", "[*.sh]\nshell_variant = posix\n"),
        ("Dockerfile", "FROM scratch\n"),
        (
            "package.json",
            "{\"name\": \"x\", \"prettier\": {}, \"eslintConfig\": {}, \"devDependencies\": {\"typescript\": \"5\"}}\n",
        ),
        ("tsconfig.json", "{}\n"),
        ("lefthook.yml", &lefthook(stand_in)),
        (".pre-commit-config.yaml", &prek(stand_in)),
    ] {
        std::fs::write(repository.join(file), text).expect("written");
    }
    for words in [&["init", "--quiet"][..], &["add", "."]] {
        assert!(command(&repository, "git", words).status().expect("git").success());
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let with_path = |contender: Contender| {
        let path = path.clone();
        let inner = contender.command;
        let command = Box::new(move || {
            let mut command = inner();
            command.env("PATH", &path);
            command
        });
        Contender { command, ..contender }
    };
    let contenders = [
        Some(limit(&folder, 10, 10, &[stand_in])),
        Some(apm(&repository, &["run", "qa", "-j10"])),
        peer(&repository, "prek", &["prek", "run", "--all-files"]),
        peer(&repository, "lefthook", &["lefthook", "run", "pre-commit", "--force"]),
    ];
    Case {
        title: format!("ten stand-in tools of {STAND_IN_MS} ms, ten at a time: found, run, read, reported"),
        rounds: 7,
        contenders: contenders.into_iter().flatten().map(with_path).collect(),
        bounds: vec![bound("apm", WallOver, 0.050)],
    }
}

/// One look of two seconds at a machine with as many processes as the bound is for.
fn doctor() -> Case {
    Case { bounds: vec![bound("apm", WallOver, 0.1), bound("apm", Cpu, 0.040)], ..doctor_among(150) }
}

fn doctor_crowd() -> Case {
    doctor_among(5_000)
}

fn doctor_among(count: usize) -> Case {
    let folder = folder("doctor");
    let crowd = Crowd::up_to(count);
    // What is read by hand for the first minute of an analysis, each over a second where it takes one.
    let checklist = "uptime; dmesg | tail; vmstat 1 2; mpstat -P ALL 1 1; pidstat 1 1; iostat -xz 1 2; free -m; \
                     sar -n DEV 1 1; sar -n TCP,ETCP 1 1; top -bn1; true";
    let contenders = [
        peer(&folder, "limit: sleep 2", &["sleep", "2"]),
        Some(apm(&folder, &["doctor", "--fail-on", "never"]).beside(crowd)),
        peer(&folder, "the 60-second checklist", &["sh", "-c", checklist]),
    ];
    Case {
        title: format!("`apm doctor` with {} processes", processes()),
        rounds: 5,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: Vec::new(),
    }
}

/// Processes that sleep until this is dropped, or this program ends.
struct Crowd(Child);

impl Crowd {
    /// As many as bring the machine to about `count` processes.
    fn up_to(count: usize) -> Self {
        let missing = count.saturating_sub(processes());
        // Its standard input ends with its parent, and `read` with it.
        let script = "for n in $(seq $0); do sleep 600 >/dev/null & done; echo all; read -r _; kill $(jobs -p)";
        let mut bash = Command::new("bash");
        bash.args(["-c", script, &missing.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bash = bash.stderr(Stdio::null()).spawn().expect("bash");
        let mut said = String::new();
        BufReader::new(bash.stdout.take().expect("a pipe")).read_line(&mut said).expect("all of them");
        Self(bash)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Twenty seconds of watching, once a second, on a terminal; beside eight tasks a CPU; and where there is no terminal,
/// asleep until something stalls.
fn doctor_watch() -> Case {
    let folder = folder("doctor-watch");
    let screen = |words: &str| format!("script -qec 'timeout -s INT 20 {words}' /dev/null; true");
    let sh = |name: &'static str, words: String| peer(&folder, name, &["sh", "-c", &words]);
    let watch = format!("{} doctor --watch", env!("CARGO_BIN_EXE_apm"));
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    // What is killed and not waited for does not count as CPU time of the contender.
    let crowded = |command: String| {
        format!("for n in $(seq $(($(nproc) * 8))); do sha256sum /dev/zero & p=\"$p $!\"; done; {command}; kill $p")
    };
    let contenders = [
        sh("top -d1", screen("top -d1")),
        sh("apm", screen(&watch)),
        sh("apm, crowded", crowded(screen(&watch))),
        sh("top -d1, crowded", crowded(screen("top -d1"))),
        sh("apm, no terminal", format!("timeout -s INT 20 {watch}; true")),
        sh("htop -d10", screen("htop -d10")).filter(|_| has("htop")),
        sh("atop 1", screen("atop 1")).filter(|_| has("atop")),
    ];
    Case {
        title: "twenty seconds of watching at 1 Hz".to_owned(),
        rounds: 3,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![
            bound("apm", Cpu, 0.1),
            bound("apm", Rss, 8.0),
            bound("apm, crowded", Cpu, 0.15),
            bound("apm, no terminal", Cpu, 0.03),
        ],
    }
}

fn processes() -> usize {
    let is_process = |name: std::ffi::OsString| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    std::fs::read_dir("/proc").map_or(0, |entries| entries.flatten().filter(|e| is_process(e.file_name())).count())
}

fn lefthook(run: &str) -> String {
    let hooks: String = (0..10).map(|n| format!("    t{n}:\n      run: {run}\n")).collect();
    format!("pre-commit:\n  parallel: true\n  commands:\n{hooks}")
}

fn prek(run: &str) -> String {
    let hook = |n| {
        format!(
            "      - {{id: t{n}, name: t{n}, language: system, entry: {run}, always_run: true, pass_filenames: false, priority: 1}}\n"
        )
    };
    format!("repos:\n  - repo: local\n    hooks:\n{}", (0..10).map(hook).collect::<String>())
}
