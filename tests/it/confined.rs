//! Confined tasks: what they cannot do, what they still can, what is recorded of it, and what happens where the kernel gives
//! less. `escapes.py` tries to get out; what comes of each attempt is one table here.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, has_program, skip};

const ESCAPES: &str = include_str!("escapes.py");
const PLANTED: &str = "planted-secret-9f3a";

/// What comes of an escape.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Refused,
    /// The manual page of `apm run` says so, at `--sandbox`.
    Listed,
}

use Expected::{Listed, Refused};

/// Every escape of `escapes.py`, and what comes of it by Landlock (ABI 6 or newer) and seccomp.
const TABLE: &[(&str, Expected)] = &[
    ("write a file outside", Refused),
    ("create a file outside", Refused),
    ("write by ..", Refused),
    ("write by a link", Refused),
    ("write by /proc/self/root", Refused),
    ("write by /proc/self/cwd", Refused),
    ("write by a hard link", Refused),
    ("rename out", Refused),
    ("rename in", Refused),
    ("truncate outside", Refused),
    ("remove outside", Refused),
    ("make a folder outside", Refused),
    ("make a link outside", Refused),
    ("make a FIFO outside", Refused),
    ("write to /tmp", Refused),
    ("write to /dev/shm", Refused),
    ("write to the home of the user", Refused),
    ("write a file of the system", Refused),
    ("read a secret", Refused),
    ("read a secret by a link", Refused),
    ("read a secret by a link of the user", Refused),
    ("read a secret by a hard link", Refused),
    ("read a secret by /proc/self/root", Refused),
    ("read a secret by ..", Refused),
    ("read a file of secrets", Refused),
    ("read apm's configuration", Refused),
    ("read apm's state", Refused),
    ("write apm's state", Refused),
    ("read /etc/shadow", Refused),
    ("find the key in the environment", Refused),
    ("read the environment of apm", Refused),
    ("read the memory of apm", Refused),
    ("read the maps of apm", Refused),
    ("go through the root of apm", Refused),
    ("go through the folder of apm", Refused),
    ("read the descriptors of apm", Refused),
    ("trace apm", Refused),
    ("read memory by process_vm_readv", Refused),
    ("take a descriptor of apm", Refused),
    ("signal apm", Refused),
    ("use an inherited descriptor", Refused),
    ("connect by TCP", Refused),
    ("connect by multipath TCP", Refused),
    ("listen on TCP", Refused),
    ("send by UDP", Refused),
    ("send by UDP over IPv6", Refused),
    ("make a raw socket", Refused),
    ("make a packet socket", Refused),
    ("make a netlink socket", Refused),
    ("connect by vsock", Refused),
    ("connect to a unix socket", Refused),
    ("connect to an abstract socket", Refused),
    ("send to a unix socket", Refused),
    ("send to a unix socket from a pair", Refused),
    ("use io_uring", Refused),
    ("make a user namespace", Refused),
    ("make a mount namespace", Refused),
    ("make a user namespace by clone", Refused),
    ("make a user namespace by clone3", Refused),
    ("enter a namespace", Refused),
    ("mount", Refused),
    ("make a mount by fsopen", Refused),
    ("change the root", Refused),
    ("load a program of BPF", Refused),
    ("sample by perf", Refused),
    ("handle page faults", Refused),
    ("read a keyring", Refused),
    ("open by handle", Refused),
    ("call by another ABI", Refused),
    ("write from a memfd", Refused),
    ("write from a session of its own", Refused),
    ("have a capability", Refused),
    ("open the terminal", Refused),
    ("push characters into the terminal", Refused),
    ("read a device", Refused),
    ("write a sysctl", Refused),
    ("leave the control group", Refused),
    ("change a mode outside", Listed),
    ("change times outside", Listed),
    ("change a group outside", Listed),
    ("set an attribute outside", Listed),
    ("list names outside", Listed),
    ("change a hook", Listed),
    ("change the configuration of git", Listed),
    ("fill the disk", Listed),
];

/// An ordinary user.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn can_confine() -> bool {
    let can = has_program("python3") && cfg!(target_arch = "x86_64");
    let sandbox = Sandbox::new("can-confine");
    let ran = sandbox.apm(["run", "each", "--sandbox", "require", "true", ":::", "1"]);
    if ran.code != Some(0) {
        skip(&format!("this kernel confines less: {}", ran.stderr));
    }
    can && ran.code == Some(0)
}

/// Something to get at: files, secrets, sockets. Beside the working folder, so that nothing of it is the task's.
struct Targets {
    sandbox: Sandbox,
    _listeners: (TcpListener, UdpSocket, UnixListener, UnixDatagram, UnixListener),
    arguments: String,
}

impl Targets {
    fn new(name: &str, user: u32) -> Self {
        let sandbox = Sandbox::new(name);
        let root = sandbox.work().parent().expect("a parent").to_owned();
        let (outside, home) = (root.join("outside"), root.join("home"));
        for folder in [outside.clone(), home.join(".ssh"), home.join(".config/apm")] {
            fs::create_dir_all(folder).expect("made");
        }
        for (path, text) in [
            (outside.join("file"), "untouched"),
            (outside.join("movable"), "untouched"),
            (outside.join("removable"), "untouched"),
            (home.join(".ssh/id"), "a secret"),
            (home.join(".netrc"), "a secret"),
            (home.join(".config/apm/config.yaml"), "run: {retries: 0}\n"),
        ] {
            fs::write(path, text).expect("written");
        }
        symlink(home.join(".ssh"), home.join("keys")).expect("a link");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
        let udp = UdpSocket::bind("[::]:0").expect("bound");
        let stream = UnixListener::bind(outside.join("socket")).expect("bound");
        let datagrams = UnixDatagram::bind(outside.join("datagrams")).expect("bound");
        let name = format!("apm-it-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let named = UnixListener::bind_addr(&address).expect("bound");
        let ports = (tcp.local_addr().expect("bound").port(), udp.local_addr().expect("bound").port());
        // $PPID of the shell that starts it is apm.
        let arguments = format!(
            "{} {} {} $PPID {PLANTED} {} {} {name}",
            outside.display(),
            home.display(),
            root.join("state").display(),
            ports.0,
            ports.1
        );
        fs::write(sandbox.work().join("escapes.py"), ESCAPES).expect("written");
        // By a program: a file that this process writes may be open in a child of another test, and cannot be executed then.
        let apm = root.join("apm").display().to_string();
        Ran::of(sandbox.program("cp", [env!("CARGO_BIN_EXE_apm"), &apm])).good();
        own(&root, user);
        Self { sandbox, _listeners: (tcp, udp, stream, datagrams, named), arguments }
    }

    fn root(&self) -> PathBuf {
        self.sandbox.work().parent().expect("a parent").to_owned()
    }

    /// apm as this user.
    fn apm(&self, user: u32, words: &[&str]) -> Ran {
        let apm = self.root().join("apm").display().to_string();
        let mut command = if user == 0 {
            self.sandbox.program(&apm, words)
        } else {
            let who = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"];
            self.sandbox.program("setpriv", who.into_iter().chain([apm.as_str()]).chain(words.iter().copied()))
        };
        command.env("PLANTED_API_KEY", PLANTED).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        Ran::of(command)
    }

    /// What came of these escapes, or of all of them.
    fn escapes(&self, user: u32, keys: &str, names: &[&str]) -> Vec<(String, String)> {
        let names: String = names.iter().map(|name| format!(" \"{name}\"")).collect();
        let run = format!("exec /usr/bin/python3 escapes.py {}{names}", self.arguments);
        let plan = format!("version: 1\ntasks:\n- {{id: escape, run: '{run}', {keys}}}\n");
        self.sandbox.file("plan.yaml", plan);
        let ran = self.apm(user, &["run", "plan.yaml"]);
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
        let shown = self.apm(user, &["run", "show", "last", "escape"]).good();
        let lines = shown.lines().filter_map(|line| line.split_once(' '));
        let known = ["worked", "refused", "unsupported"];
        lines.filter(|(word, _)| known.contains(word)).map(|(word, name)| (name.to_owned(), word.to_owned())).collect()
    }
}

/// Gives all of it to a user.
fn own(path: &Path, user: u32) {
    if user == 0 {
        return;
    }
    std::os::unix::fs::lchown(path, Some(user), Some(user)).expect("given");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("a folder") {
            own(&entry.expect("an entry").path(), user);
        }
    }
}

fn nothing_gets_out(user: u32) {
    let targets = Targets::new(&format!("escapes-{user}"), user);
    let outside = targets.root().join("outside");
    let found = targets.escapes(user, "sandbox: require", &[]);
    assert_eq!(
        found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        TABLE.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "the table has every escape"
    );
    let wrong: Vec<_> = found
        .iter()
        .zip(TABLE)
        .filter(|((_, word), (_, expected))| {
            let fits = match expected {
                Refused => word == "refused",
                Listed => word == "worked",
            };
            !fits && word != "unsupported"
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(fs::read_to_string(outside.join("file")).expect("there"), "untouched");
    let mut names: Vec<_> =
        fs::read_dir(&outside).expect("there").map(|entry| entry.expect("one").file_name()).collect();
    names.sort();
    assert_eq!(names, ["datagrams", "file", "movable", "removable", "socket"]);
    // Nothing of the planted key is in what apm keeps.
    for entry in fs::read_dir(targets.root().join("state/runs")).expect("runs") {
        for file in fs::read_dir(entry.expect("a run").path()).expect("its files").flatten() {
            let bytes = fs::read(file.path()).unwrap_or_default();
            let has_it = bytes.windows(PLANTED.len()).any(|part| part == PLANTED.as_bytes());
            // It is an argument of the script, so the plan has it; the environment has it nowhere.
            assert!(!has_it || file.file_name() == "journal.ndjson", "{:?}", file.path());
            assert!(file.file_name() != "sandbox", "the folders of attempts are removed");
        }
    }
}

#[test]
fn root_does_not_get_out() {
    if !can_confine() {
        return;
    }
    if !is_root() {
        return skip("needs root");
    }
    nothing_gets_out(0);
}

#[test]
fn an_ordinary_user_does_not_get_out() {
    if !can_confine() || !has_program("setpriv") {
        return;
    }
    if !is_root() {
        return skip("only root can become another user");
    }
    nothing_gets_out(NOBODY);
}

/// The escapes are real: without confinement these work, which stay in the folders of the test.
#[test]
fn without_confinement_the_escapes_work() {
    if !can_confine() || !is_root() {
        return;
    }
    let names = [
        "write a file outside",
        "write by /proc/self/root",
        "read a secret",
        "read a secret by a hard link",
        "read the environment of apm",
        "find the key in the environment",
        "signal apm",
        "connect by TCP",
        "send to a unix socket from a pair",
        "connect to an abstract socket",
        "write from a memfd",
    ];
    let targets = Targets::new("unconfined", 0);
    let found = targets.escapes(0, "sandbox: off", &names);
    assert_eq!(found, names.map(|name| (name.to_owned(), "worked".to_owned())));
}

#[test]
fn a_confined_task_works_in_its_own_folder() {
    if !can_confine() || !has_program("git") {
        return;
    }
    let sandbox = Sandbox::new("confined-work");
    let outside = sandbox.work().parent().expect("a parent").join("outside");
    fs::create_dir(&outside).expect("made");
    sandbox.file(
        "plan.yaml",
        "version: 1\ndefaults: {sandbox: require}\ntasks:\n\
         - {id: files, run: 'mkdir -p a/b && echo x > a/b/c && mv a/b d && rm -r a && ln -s d e && cat e/c > /dev/null'}\n\
         - {id: home, run: 'echo x > ~/x && echo y > $TMPDIR/y && test -s ~/x && chmod 0 $TMPDIR && echo $HOME'}\n\
         - {id: git, run: 'git init -q r && cd r && git -c user.name=n -c user.email=e commit -q --allow-empty -m m'}\n\
         - {id: declared, run: 'echo x > ../outside/x', sandbox: {mode: require, write: [../outside]}}\n\
         - {id: pipe, run: 'seq 9 | sort -r | head -1'}\n",
    );
    sandbox.apm(["run", "plan.yaml"]).good();
    assert!(sandbox.has("d/c") && outside.join("x").exists());
    let home = sandbox.apm(["run", "show", "last", "home"]).good();
    assert!(home.contains("/sandbox/1.1/home") && !Path::new(home.trim()).exists(), "{home}");
    let report = sandbox.report();
    let how = &report["tasks"][0]["attempts"][0]["confinement"];
    assert_eq!(
        (how["tier"].as_u64(), how["seccomp"].as_bool(), how["network"].as_bool()),
        (Some(1), Some(true), Some(false))
    );
    let shown = sandbox.apm(["run", "show"]).good();
    assert!(
        shown.contains("sandbox: 5 attempts, tier 1 (capabilities dropped, no_new_privs, Landlock ABI "),
        "{shown}"
    );
    let html = sandbox.apm(["run", "--replay", "last", "--format", "html"]).good();
    assert!(html.contains("sandbox: 5 attempts, tier 1"), "{html}");
    let events = sandbox.events();
    assert_eq!(events[0]["event"]["run_started"]["needs"], serde_json::json!(["sandbox"]));
}

#[test]
fn a_failed_task_says_what_was_refused() {
    if !can_confine() {
        return;
    }
    let sandbox = Sandbox::new("confined-refused");
    let ran = sandbox.apm(["run", "each", "--sandbox", "best", "sh", "-c", "echo x > ../{}", ":::", "outside"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(!sandbox.has("../outside"));
    let shown = sandbox.apm(["run", "show"]).good();
    assert!(shown.contains("it was confined, and its output says that actions were refused"), "{shown}");
    let report = sandbox.report();
    let refused = report["tasks"][0]["attempts"][0]["confinement"]["refused"][0].as_str().expect("a line").to_owned();
    assert!(refused.contains("ermission denied"), "{refused}");
}

#[test]
fn the_network_is_allowed_where_the_plan_says_so() {
    if !can_confine() {
        return;
    }
    let sandbox = Sandbox::new("confined-network");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port();
    sandbox.file("connect.py", format!("import socket\nsocket.create_connection(('127.0.0.1', {port}))\n"));
    sandbox.file(
        "plan.yaml",
        "version: 1\ntasks:\n\
         - {id: on, run: python3 connect.py, sandbox: {mode: require, network: true}}\n\
         - {id: off, run: python3 connect.py, sandbox: require}\n\
         - {id: vsock, run: python3 -c 'import socket; socket.socket(40)', sandbox: {mode: require, network: true}}\n\
         - {id: mptcp, run: \"python3 -c 'import socket; socket.socket(2, 1, 262)'\", sandbox: {mode: require, network: true}}\n",
    );
    sandbox.apm(["run", "plan.yaml"]).fails(1);
    let report = sandbox.report();
    let states: Vec<_> =
        (0..4).map(|at| report["tasks"][at]["state"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(states, ["passed", "failed", "failed", "failed"], "{report}");
}

/// A fork bomb meets the limit of its task, and nothing of it stays.
#[test]
fn a_confined_fork_bomb_ends_with_its_task() {
    if !can_confine() {
        return;
    }
    let sandbox = Sandbox::new("confined-bomb");
    let mark = format!("600.{}", std::process::id());
    let bomb = format!("for i in $(seq 200); do sleep {mark} & done; wait");
    sandbox.file(
        "plan.yaml",
        format!("version: 1\ntasks:\n- {{id: bomb, run: '{bomb}', limits: {{processes: 20, timeout: 3s}}, sandbox: require}}\n"),
    );
    sandbox.apm(["run", "plan.yaml"]).fails(1);
    assert!(crate::sandbox::processes_with(&mark).is_empty());
}

/// What the user asked for is neither lost at a resume nor taken away by a plan, and an older apm does not read the record.
#[test]
fn a_resume_confines_again() {
    if !can_confine() {
        return;
    }
    let sandbox = Sandbox::new("confined-resume");
    sandbox
        .file("plan.yaml", "version: 1\ntasks:\n- {id: a, run: 'test -e go && echo x > ../escaped', sandbox: off}\n");
    sandbox.apm(["run", "--sandbox", "require", "plan.yaml"]).fails(1);
    sandbox.file("go", "");
    sandbox.apm(["run", "--resume"]).fails(1);
    assert!(!sandbox.has("../escaped"));
    let events = sandbox.events();
    let ends: Vec<&Value> =
        events.iter().map(|event| &event["event"]["attempt_finished"]).filter(|end| end.is_object()).collect();
    assert!(ends.len() == 2 && ends.iter().all(|end| end["confinement"]["tier"] == 1), "{ends:?}");
    let ran = sandbox.apm(["run", "--resume", "--sandbox", "off"]);
    assert!(ran.code == Some(0) && sandbox.has("../escaped"), "the command line of a resume wins: {}", ran.stderr);
}

/// apm under a filter that answers an error to some system calls.
fn without(sandbox: &Sandbox, error: i32, calls: &[i64], words: &[&str]) -> Ran {
    const FILTER: &str = r#"
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0)]
for number in sys.argv[2].split(","):
    code += [(0x15, 0, 1, int(number)), (0x06, 0, 0, 0x00050000 | int(sys.argv[1]))]
code += [(0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head) == 0
os.execv(sys.argv[3], sys.argv[3:])
"#;
    let calls = calls.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let first = ["-c".to_owned(), FILTER.to_owned(), error.to_string(), calls, env!("CARGO_BIN_EXE_apm").to_owned()];
    Ran::of(sandbox.program("python3", first.into_iter().chain(words.iter().map(|word| (*word).to_owned()))))
}

#[test]
fn without_landlock_require_refuses_and_best_says_what_is_missing() {
    if !can_confine() {
        return;
    }
    let calls = [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];
    for (error, why) in [(libc::ENOSYS, "it came with Linux 5.13"), (libc::EOPNOTSUPP, "add `landlock` to `lsm=`")] {
        let sandbox = Sandbox::new("no-landlock");
        let apm = |words: &[&str]| without(&sandbox, error, &calls, words);
        let ran = apm(&["run", "each", "--sandbox", "require", "touch", ":::", "made"]);
        assert_eq!(ran.code, Some(3), "{}\n{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("`sandbox: require` cannot be kept: files are not protected"), "{}", ran.stderr);
        assert!(ran.stderr.contains(why) && ran.stderr.contains("`apm doctor agents`"), "{}", ran.stderr);
        assert!(!sandbox.has("made"));
        apm(&["run", "each", "--sandbox", "best", "touch", ":::", "made"]).good();
        let shown = sandbox.apm(["run", "show"]).good();
        assert!(shown.contains("tier 0 (capabilities dropped, no_new_privs, seccomp), network off"), "{shown}");
        assert!(shown.contains("not enforced: files are not protected"), "{shown}");
        let said = apm(&["doctor", "agents", "--duration", "100ms", "--fail-on", "never"]).good();
        assert!(said.contains("commands can be confined by tier 0 (no Landlock, seccomp)"), "{said}");
    }
}

#[test]
fn the_doctor_says_what_this_machine_gives() {
    if !can_confine() {
        return;
    }
    let sandbox = Sandbox::new("doctor-sandbox");
    let words = ["doctor", "agents", "--duration", "100ms", "--fail-on", "never"];
    let said = sandbox.apm(words).good();
    assert!(said.contains("agent.sandbox: commands can be confined by tier 1 (Landlock ABI "), "{said}");
    let json = sandbox.apm(words.into_iter().chain(["--format", "json"])).good();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let findings = json["findings"].as_array().expect("findings");
    assert!(findings.iter().any(|finding| finding["rule"] == "agent.sandbox" && finding["value"] == 1.0), "{json}");
}

/// A folder that holds the secrets cannot be written and leave them unreadable.
#[test]
fn the_home_of_the_user_is_no_folder_to_confine() {
    if !can_confine() {
        return;
    }
    let sandbox = Sandbox::new("confined-home");
    let apm = |mode: &str| {
        let mut command = sandbox.command(["run", "each", "--sandbox", mode, "touch", ":::", "made"]);
        command.env("HOME", sandbox.work());
        Ran::of(command)
    };
    let said = apm("require").fails(3);
    assert!(said.contains("which the task may write, contains `"), "{said}");
    apm("best").good();
    let shown = sandbox.apm(["run", "show"]).good();
    assert!(shown.contains("not enforced: `"), "{shown}");
}

#[test]
fn wrong_words_are_refused_at_their_place() {
    let sandbox = Sandbox::new("confined-words");
    for (keys, said) in [
        ("sandbox: requires", "did you mean `require`?"),
        ("sandbox: {mode: best, wirte: [x]}", "did you mean `write`?"),
        ("sandbox: {network: maybe}", "true or false"),
    ] {
        sandbox.file("plan.yaml", format!("version: 1\ntasks:\n- {{id: a, run: 'true', {keys}}}\n"));
        let stderr = sandbox.apm(["run", "plan.yaml"]).fails(2);
        assert!(stderr.contains(said), "{keys}: {stderr}");
    }
    sandbox.file("plan.yaml", "version: 1\ntasks:\n- {id: a, run: 'true', sandbox: {mode: best, write: [none]}}\n");
    let stderr = sandbox.apm(["run", "plan.yaml"]).fails(3);
    assert!(stderr.contains("`sandbox: write` names `") && stderr.contains("which does not exist"), "{stderr}");
    sandbox.file("apm.yaml", "run: {sandbox: off}\n");
    let dry = sandbox.apm(["run", "--dry-run", "--sandbox", "best", "plan.yaml"]).good();
    assert!(dry.contains("sandbox: best, network off, may write none"), "{dry}");
}

/// Regression guard: folders that a tool made read-only were left behind.
#[test]
fn read_only_folders_of_a_task_are_removed_too() {
    if !can_confine() {
        return;
    }
    let sandbox = Sandbox::new("confined-mode");
    let made = "mkdir -p ~/a/b && touch ~/a/b/c && chmod 500 ~/a/b ~/a && echo $HOME";
    let home = sandbox.apm(["run", "each", "--sandbox", "best", "--shell", made, ":::", "1"]);
    assert_eq!(home.code, Some(0), "{}", home.stderr);
    let home = PathBuf::from(home.stdout.split_whitespace().next().expect("a path").to_owned());
    assert!(home.is_absolute() && !home.exists(), "{}", home.display());
    assert!(fs::metadata(sandbox.state()).expect("there").permissions().mode() & 0o077 == 0);
}
