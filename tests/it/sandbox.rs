//! A folder of its own, an environment of its own, a state directory of its own: nothing of the machine's user gets in.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for anything: far more than it takes, so that only a hang fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox; gone with the value.
pub struct Sandbox {
    root: PathBuf,
}

/// What a run of apm left behind.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("apm-it-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir_all(root.join("work")).expect("a folder");
        Self { root: root.canonicalize().expect("its path") }
    }

    /// Where apm is started.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Writes a file below the working folder.
    pub fn file(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("written");
        self
    }

    /// Writes the user's own configuration.
    pub fn own_configuration(&self, text: &str) {
        let path = self.root.join("home/.config/apm/config.yaml");
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("written");
    }

    /// Reads a file below the working folder.
    pub fn read(&self, path: &str) -> String {
        let bytes = std::fs::read(self.work().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it is there.
    pub fn has(&self, path: &str) -> bool {
        self.work().join(path).exists()
    }

    /// A command of apm, not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.program(env!("CARGO_BIN_EXE_apm"), args)
    }

    /// Any command in the sandbox.
    pub fn program<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.root.join("home"))
            .env("APM_STATE_DIR", self.state())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        // The toolchain of the tests, where `HOME` would hide it.
        for name in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            if std::env::var_os(name).is_none() {
                command.env(name, home.join(folder));
            }
        }
        command
    }

    /// Runs apm.
    pub fn apm<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.command(args))
    }

    /// Runs a command line of apm on a terminal of its own (by `script`).
    pub fn on_a_terminal(&self, environment: &[(&str, &str)], line: &str) -> String {
        let command = format!("{} {line}", env!("CARGO_BIN_EXE_apm"));
        let mut script = self.program("script", ["-qec", &command, "/dev/null"]);
        script.env("TERM", "xterm").envs(environment.iter().copied());
        Ran::of(script).good()
    }

    /// Runs apm with this on its standard input.
    pub fn apm_with<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &[u8]) -> Ran {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("apm");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // Where apm stops reading early the rest is not wanted.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("its end");
        writer.join().expect("no panic");
        Ran::from(output)
    }

    /// The events of the last run.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = self.apm(["run", "--replay", "last", "--format", "ndjson"]).good();
        text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
    }

    /// The report of the last run.
    pub fn report(&self) -> serde_json::Value {
        let text = self.apm(["run", "--replay", "last", "--format", "json"]).good();
        serde_json::from_str(&text).expect("a report")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(mut command: Command) -> Self {
        Self::from(command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Its standard output, if it ended with 0.
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its standard error, if it ended with this code.
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Waits until something holds; a hang fails with what was waited for.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends a child whatever happens to the test.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes whose command line contains a text, apart from the asker.
pub fn processes_with(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() as i32 && String::from_utf8_lossy(&command).contains(text)
    })
    .collect()
}

/// Sends a signal.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("kill");
    assert!(status.success(), "kill -{name} {pid}");
}

/// Says that a test needs what this machine lacks. Under CI that is a failure: `tests/all.sh` installs it there.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "skipped under CI: {why}");
    // The harness shows this of a test that passed only with --show-output; `tests/all.sh` lists what is missing.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Whether a program is in PATH; where not, the test is skipped.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder: PathBuf| Path::new(&folder).join(name).is_file());
    if !found {
        skip(&format!("`{name}` is not installed"));
    }
    found
}

/// Whether python3 has a module; where not, the test is skipped.
pub fn python_with(module: &str) -> bool {
    if !has_program("python3") {
        return false;
    }
    let status = Command::new("python3").args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    let has = status.is_ok_and(|status| status.success());
    if !has {
        skip(&format!("python3 has no module `{module}`"));
    }
    has
}
