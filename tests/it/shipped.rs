//! What users get: a binary that needs nothing, completions that shells accept, pages that man shows, a
//! README whose commands exist.

use std::path::{Path, PathBuf};

use crate::sandbox::{Ran, Sandbox, has_program, skip};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The release binary that `tests/all.sh` built.
pub fn release() -> Option<PathBuf> {
    let path = std::env::var_os("APM_RELEASE_BIN").map(PathBuf::from);
    if path.is_none() {
        skip("APM_RELEASE_BIN does not name a release binary; `tests/all.sh` builds one");
    }
    path
}

/// What ELF calls a file that may lie anywhere, the program that loads it, and a library that it needs.
const ET_DYN: usize = 3;
const PT_DYNAMIC: usize = 2;
const PT_INTERP: usize = 3;
const DT_NEEDED: usize = 1;

#[test]
fn the_binary_is_truly_static_and_may_lie_anywhere() {
    for path in release().into_iter().chain([env!("CARGO_BIN_EXE_apm").into()]) {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(&bytes[..5], b"\x7fELF\x02", "64 bit");
        let number =
            |at: usize, len: usize| (0..len).rev().fold(0usize, |sum, byte| sum << 8 | usize::from(bytes[at + byte]));
        assert_eq!(number(16, 2), ET_DYN, "{}: RUSTFLAGS hides .cargo/config.toml?", path.display());
        let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        let headers: Vec<usize> = (0..count).map(|header| table + header * size).collect();
        let of = |kind| headers.iter().copied().find(|header| number(*header, 4) == kind);
        assert_eq!(of(PT_INTERP), None, "{}: an interpreter is asked for, it is not static", path.display());
        let dynamic = of(PT_DYNAMIC).expect("relocations");
        let (start, length) = (number(dynamic + 8, 8), number(dynamic + 32, 8));
        let mut tags = (start..start + length).step_by(16).map(|entry| number(entry, 8));
        assert!(tags.all(|tag| tag != DT_NEEDED), "{}: a library is needed", path.display());
    }
}

#[test]
fn no_two_starts_have_the_same_addresses() {
    let is_random = std::fs::read_to_string("/proc/sys/kernel/randomize_va_space").unwrap_or_default();
    let personality = std::fs::read_to_string("/proc/self/personality").unwrap_or_default();
    let personality = u32::from_str_radix(personality.trim(), 16).unwrap_or_default();
    if is_random.trim() == "0" || personality & libc::ADDR_NO_RANDOMIZE as u32 != 0 {
        return skip("addresses are not randomised here");
    }
    for program in release().into_iter().chain([env!("CARGO_BIN_EXE_apm").into()]) {
        let sandbox = Sandbox::new("addresses");
        let start = || {
            // The parent of a task is apm.
            let path = program.to_str().expect("UTF-8");
            let script = "grep -m 1 -F \"$0\" /proc/$PPID/maps";
            let args = ["run", "each", "--no-journal", "--", "sh", "-c", script, ":::", path];
            let text = Ran::of(sandbox.program(path, args)).good();
            text.split_once('-').expect("an address").0.to_owned()
        };
        let first = start();
        assert!((0..3).any(|_| start() != first), "{}: always at {first}", program.display());
    }
}

#[test]
fn the_binary_runs_where_there_is_nothing_else() {
    let Some(path) = release() else { return };
    if !has_program("chroot")
        || std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) != 0)
    {
        return skip("only root can change its root");
    }
    let sandbox = Sandbox::new("chroot");
    std::fs::copy(&path, sandbox.work().join("apm")).expect("copied");
    let text = Ran::of(sandbox.program("chroot", [".", "/apm", "--version"])).good();
    assert_eq!(text, format!("apm {}\n", env!("CARGO_PKG_VERSION")));
    // It runs itself, the only program there is.
    let mut command =
        sandbox.program("chroot", [".", "/apm", "run", "each", "--no-journal", "/apm", ":::", "--version"]);
    command.env("TMPDIR", "/");
    assert_eq!(Ran::of(command).good(), text);
}

#[test]
fn shells_accept_the_completions() {
    let bash = root().join("completions/apm.bash");
    let sandbox = Sandbox::new("shells");
    if has_program("bash") {
        let script = format!(
            "source {}; COMP_WORDS=(apm run qa --on); COMP_CWORD=3; COMP_LINE='apm run qa --on'; COMP_POINT=15; _apm apm --on qa; echo \"${{COMPREPLY[@]}}\"; \
             COMP_WORDS=(apm ''); COMP_CWORD=1; _apm apm '' apm; echo \"${{COMPREPLY[@]}}\"",
            bash.display()
        );
        let text = Ran::of(sandbox.program("bash", ["-c", &script])).good();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("--only"));
        assert!(lines.next().is_some_and(|line| line.contains("run") && line.contains("config")), "{text}");
    }
    if has_program("zsh") {
        let folder = root().join("completions");
        let script = format!(
            "fpath=({} $fpath); autoload -Uz compinit && compinit -u -D && print -r -- ${{_comps[apm]}} && autoload +X _apm",
            folder.display()
        );
        let ran = Ran::of(sandbox.program("zsh", ["-f", "-c", &script]));
        assert!(ran.code == Some(0) && ran.stdout.contains("_apm"), "{}{}", ran.stdout, ran.stderr);
    }
    if has_program("fish") {
        let script = format!("source {}; complete -C 'apm run qa --on'", root().join("completions/apm.fish").display());
        let ran = Ran::of(sandbox.program("fish", ["--no-config", "-c", &script]));
        assert!(ran.stdout.contains("--only"), "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn man_shows_every_page_without_a_warning() {
    if !has_program("man") {
        return;
    }
    let sandbox = Sandbox::new("man");
    for entry in std::fs::read_dir(root().join("man")).expect("man") {
        let path = entry.expect("an entry").path();
        let mut command = sandbox.program("man", ["--warnings", "-l", path.to_str().expect("UTF-8")]);
        command.env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8");
        let ran = Ran::of(command);
        assert!(
            ran.code == Some(0) && ran.stdout.contains("NAME") && ran.stderr.is_empty(),
            "{}: {}",
            path.display(),
            ran.stderr
        );
    }
}

#[test]
fn the_readme_says_what_is_there() {
    let text = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let commands: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("cargo run ") || line.starts_with("tests/"))
        .collect();
    assert!(commands.contains(&"cargo run --release -- run qa") && commands.contains(&"tests/all.sh"), "{commands:?}");
    let ci = std::fs::read_to_string(root().join(".ci/run")).expect("CI");
    assert!(ci.contains("tests/all.sh"));
    // Every `apm ...` line of a code block is a command line that parses.
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let Some(words) = line.trim().strip_prefix("apm ").filter(|_| in_block) else { continue };
        let words = words.split(" #").next().unwrap_or(words).split(" | ").next().unwrap_or(words);
        let argv = std::iter::once("apm").chain(words.split_whitespace());
        let parsed = <apm::cli::Cli as clap::Parser>::try_parse_from(argv);
        assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
    }
    assert!(links_lead_somewhere("README.md") > 0);
}

#[test]
fn the_security_policy_names_tests_that_are_there() {
    assert!(links_lead_somewhere(".github/SECURITY.md") > 10);
}

/// How many links of a document lead to files of this repository.
fn links_lead_somewhere(document: &str) -> usize {
    let path = root().join(document);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"));
    let links = text.match_indices("](").map(|(at, _)| text[at + 2..].split(')').next().unwrap_or_default());
    let files: Vec<&str> = links.filter(|link| !link.starts_with("http") && !link.starts_with('#')).collect();
    for file in &files {
        assert!(path.with_file_name(file).exists(), "{document}: {file}");
    }
    files.len()
}

#[test]
fn help_is_whole_and_fits() {
    let sandbox = Sandbox::new("help");
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["run", "qa", "--help"],
        &["run", "each", "--help"],
        &["config", "--help"],
        &["doctor", "--help"],
        &["help", "run", "each"],
        &["help", "exit-codes"],
    ] {
        let text = sandbox.apm(words).good();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{words:?}\n{text}");
    }
    let error = sandbox.apm(["confg"]).fails(2);
    assert!(error.contains("config"), "{error}");
    let error = sandbox.apm(["help", "nothing"]).fails(2);
    assert!(error.contains("apm help"), "{error}");
}
