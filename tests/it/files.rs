//! The rules by which apm opens, makes and removes files. The lint `disallowed_methods` refuses every other call, so that
//! the reasons of its `expect`s are the list of all places; here each of them has to name a rule.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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
