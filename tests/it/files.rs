//! The rules by which apm opens, makes and removes files. The lint `disallowed_methods` refuses every other call, so that
//! the reasons of its `expect`s are the list of all places; here each of them has to name a rule.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::sandbox::{Ran, Sandbox, has_program};

/// The rules that the documentation of `sys` explains.
fn rules(documentation: &str) -> Vec<String> {
    let names = documentation.lines().filter_map(|line| line.strip_prefix("//! - `")?.split_once("`: "));
    names.map(|(name, _)| name.to_owned()).collect()
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).expect("a source")));
        }
    }
}

#[test]
fn every_place_that_opens_or_makes_a_file_names_its_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = rules(&fs::read_to_string(root.join("src/sys/mod.rs")).expect("the rules"));
    assert_eq!(rules, ["beneath", "output", "own", "kernel", "named"]);
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for (path, text) in &files {
        for (at, _) in text.match_indices("clippy::disallowed_methods") {
            let start = text[..at].rfind("#").expect("an attribute");
            // Whoever makes files in tests only.
            if text[start..at].contains("cfg_attr(test") || path.ends_with("shim/build.rs") {
                continue;
            }
            assert!(text[start..at].contains("expect("), "{path}: `allow` would stay where nothing is opened any more");
            let reason = text[at..].split_once("reason = \"").and_then(|(_, rest)| rest.split_once('"'));
            let (reason, _) = reason.unwrap_or_else(|| panic!("{path}: no reason"));
            for part in reason.split("; ") {
                let rule = rules
                    .iter()
                    .find(|rule| part.strip_prefix(rule.as_str()).is_some_and(|rest| rest.starts_with(": ")));
                let rule = rule.unwrap_or_else(|| panic!("{path}: `{part}` begins with none of {rules:?}"));
                *used.entry(rule).or_default() += 1;
            }
        }
    }
    // A list that nobody reads any more would be empty.
    assert!(rules.iter().all(|rule| used.contains_key(rule.as_str())), "{used:?}");
}

/// The lint is what makes the list complete, so it has to know every way to a file that the code may take.
#[test]
fn the_lint_knows_every_way_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lint = fs::read_to_string(root.join(".clippy.toml")).expect("the lint");
    for method in ["std::fs::File::open", "std::fs::OpenOptions::open", "std::fs::read", "std::fs::write"] {
        assert!(lint.contains(&format!("\"{method}\"")), "{method}");
    }
    // Other libraries and calls that open files are not used at all.
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for (path, text) in &files {
        // Calls that are refused to confined tasks open nothing here.
        let text = text.replace("libc::SYS_open_tree,", "").replace("libc::SYS_open_by_handle_at,", "");
        for other in [
            "tokio::fs",
            "libc::creat(",
            "libc::openat2",
            "SYS_open",
            "libc::fopen",
            "libc::mkdir",
            "libc::unlink",
            "libc::rename",
        ] {
            assert!(!text.contains(other), "{path}: {other}");
        }
    }
}

/// What watches the system calls of the whole suite refuses each kind of call that no rule allows, by apm and its threads
/// only. `tests/opened/run.sh` is the suite under its eyes.
#[test]
fn a_call_by_no_rule_is_refused() {
    if !has_program("python3") {
        return;
    }
    let opened = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/opened");
    let recorded = fs::read_to_string(opened.join("recorded.trace")).expect("a trace");
    let sandbox = Sandbox::new("opened");
    let check = |calls: &str| {
        sandbox.file("trace", format!("{recorded}{calls}\n"));
        let words = [opened.join("check.py").into_os_string(), sandbox.work().join("trace").into_os_string()];
        Ran::of(sandbox.program("python3", words))
    };
    assert!(check("").good().contains(" 0 by none"));
    for call in [
        // Found by nobody, named by nobody, not judged.
        r#"openat(AT_FDCWD</w>, "/w/other/file", O_RDONLY|O_CLOEXEC) = 9</w/other/file>"#,
        r#"openat(AT_FDCWD</w>, "other/file", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)"#,
        r#"open("/w/other/file", O_RDONLY|O_CLOEXEC) = 9</w/other/file>"#,
        // A link in its place would be followed.
        r#"openat(AT_FDCWD</w>, "/w/out/report.xml.77.tmp", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 9</w/x>"#,
        r#"openat(AT_FDCWD</w>, "/w/out/report.xml", O_WRONLY|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0666) = 9</w/out/report.xml>"#,
        r#"creat("/w/out/report.xml", 0666) = 9</w/out/report.xml>"#,
        r#"openat(5</w/.git>, "config", O_RDONLY|O_CLOEXEC) = 9</w/other/file>"#,
        r#"openat2(5</w/.git>, "marker", {flags=O_RDWR|O_CREAT|O_CLOEXEC, mode=0600, resolve=RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS}, 24) = 9</w/x>"#,
        r#"openat2(5</w/.git>, "info/exclude", {flags=O_RDONLY|O_CLOEXEC, resolve=RESOLVE_BENEATH}, 24) = 9</w/x>"#,
        r#"openat2(AT_FDCWD</w>, "other/file", {flags=O_RDONLY|O_CLOEXEC, resolve=RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS}, 24) = 9</w/x>"#,
        // It leads out of its folder.
        r#"openat(8</state/runs>, "../marker", O_RDONLY|O_NOFOLLOW|O_CLOEXEC) = 9</state/marker>"#,
        r#"openat(AT_FDCWD</w>, "/state/runs/../../etc/shadow", O_RDONLY|O_CLOEXEC) = 9</etc/shadow>"#,
        r#"openat(AT_FDCWD</w>, "/proc/sys/../../w/other/file", O_RDONLY|O_CLOEXEC) = 9</w/other/file>"#,
        // What another process has, and what is not the kernel's.
        r#"openat(AT_FDCWD</w>, "/proc/79/root/etc/shadow", O_RDONLY|O_CLOEXEC) = 9</etc/shadow>"#,
        r#"openat(AT_FDCWD</w>, "/proc/79/fd/3", O_RDONLY|O_CLOEXEC) = 9</w/other/file>"#,
        r#"openat(AT_FDCWD</w>, "/dev/shm/ring", O_RDWR|O_CLOEXEC) = 9</dev/shm/ring>"#,
        // Not what O_PATH has just found, or found and waited for.
        r#"openat(AT_FDCWD</w>, "/proc/self/fd/3", O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC) = 9</w/apm.yaml>"#,
        "openat(AT_FDCWD</w>, \"/w/x\", O_RDONLY|O_CLOEXEC|O_PATH) = 20</w/x>\n78    openat(AT_FDCWD</w>, \"/w/x\", O_RDONLY|O_CLOEXEC) = 9</w/x>",
        // Named for reading only, and the folder of what is named as little.
        r#"openat(AT_FDCWD</w>, "plan.yaml", O_RDWR|O_CLOEXEC) = 9</w/plan.yaml>"#,
        r#"openat(AT_FDCWD</w>, "out/other.xml", O_RDONLY|O_CLOEXEC) = 9</w/out/other.xml>"#,
        r#"openat(AT_FDCWD</w>, "/etc/passwd", O_RDWR|O_CLOEXEC) = 9</etc/passwd>"#,
        // Changes where nobody has looked, or where the name may be a link by then.
        r#"mkdir("/w/out/new", 0777) = 0"#,
        r#"unlink("/w/other/file") = 0"#,
        r#"unlinkat(AT_FDCWD</w>, "/w/other/file", 0) = 0"#,
        r#"rmdir("/w/other") = 0"#,
        r#"rename("/state/runs/marker", "/w/other/file") = 0"#,
        r#"renameat(10</w/out>, "../file", 10</w/out>, "report.xml") = 0"#,
        r#"chmod("/w/other/file", 0600) = 0"#,
        r#"chmod("/proc/self/fd/4/control", 0600) = 0"#,
        r#"chown("/w/other/file", 0, 0) = 0"#,
        r#"truncate("/w/other/file", 0) = 0"#,
        r#"symlink("/state/runs/marker", "/w/other/file") = 0"#,
        r#"mknod("/w/other/fifo", S_IFIFO|0600) = 0"#,
    ] {
        let ran = check(&format!("78    {call}"));
        let last = call.lines().last().expect("a call").trim_start_matches("78    ");
        assert_eq!(ran.code, Some(1), "{call}: {}", ran.stdout);
        assert!(ran.stdout.contains(&format!("by no rule: {last}\n    by: apm run plan.yaml")), "{}", ran.stdout);
        check(&format!("70    {}", call.replace("\n78", "\n70"))).good();
    }
    // What says nothing of apm, or cannot be read, is no proof.
    sandbox.file("trace", recorded.replace("/w/bin/apm", "/w/bin/other"));
    let words = [opened.join("check.py").into_os_string(), sandbox.work().join("trace").into_os_string()];
    assert_eq!(Ran::of(sandbox.program("python3", words)).code, Some(1));
    assert!(check("78    openat(AT_FDCWD</w>, \"/proc/2/stat\", O_RDON").stdout.contains("not understood"));
}

#[test]
fn the_table_of_attempts_names_tests_that_are_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let table = fs::read_to_string(folder.join("hostile.md")).expect("the table");
    let mut named = 0;
    for name in table.split('`').filter(|name| name.contains("::")) {
        let (module, test) = name.split_once("::").expect("a module");
        let source = fs::read_to_string(folder.join(format!("{module}.rs"))).expect("a module of tests");
        assert!(source.contains(&format!("#[test]\nfn {test}() {{")), "{name}");
        named += 1;
    }
    let rows =
        table.lines().filter(|line| line.starts_with("| ") && !line.contains("**") && !line.ends_with("| Test |"));
    let bare: Vec<&str> = rows.filter(|row| !row.contains("::")).collect();
    assert!(named > 50 && bare.is_empty(), "{named} {bare:?}");
}
