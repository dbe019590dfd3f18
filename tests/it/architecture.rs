//! The law of imports: which part of the crate may know which. An edge that is not listed fails here; a new one needs
//! its line, and a sentence in the commit message.

use std::collections::BTreeSet;
use std::path::Path;

/// `from -> to`, as the sources have them today.
const EDGES: &[(&str, &[&str])] = &[
    ("cli", &[]),
    (
        "command",
        &[
            "cli", "config", "doctor", "engine", "executor", "journal", "model", "probe", "profile", "report", "sink",
            "sys", "text", "tune", "ui", "workflow",
        ],
    ),
    ("config", &["model", "text"]),
    ("doctor", &["model"]),
    ("engine", &["executor", "model", "probe", "sys"]),
    ("executor", &["model", "sys"]),
    ("journal", &["model", "sys"]),
    ("model", &[]),
    ("probe", &["model", "sys"]),
    ("profile", &["model", "probe", "sys"]),
    ("report", &["model", "text"]),
    ("sink", &["journal", "model", "report", "text"]),
    ("sys", &["model"]),
    ("text", &[]),
    ("tune", &["model", "probe"]),
    ("ui", &["sys", "text"]),
    ("workflow", &["model", "text"]),
];

fn sources(folder: &Path, out: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            // What tests import binds nobody.
            let tests = ["#[cfg(test)]\nmod ", "#[cfg(test)]\npub(crate) mod "];
            let end = tests.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
            let text = text[..end].to_owned();
            out.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn nobody_imports_what_he_may_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    let mut files = Vec::new();
    sources(&root, &mut files);
    for (path, text) in &files {
        let inside = path.strip_prefix(&format!("{}/", root.display())).expect("below src");
        let Some((from, _)) = inside.split_once('/') else { continue };
        if from == "shim" {
            // A crate of its own, whose `crate::` is another.
            continue;
        }
        for (at, _) in text.match_indices("crate::") {
            let name: String = text[at + 7..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let is_comment = text[..at].lines().last().is_some_and(|line| line.trim_start().starts_with("//"));
            if name != from && !is_comment && root.join(&name).exists() {
                found.insert((from.to_owned(), name));
            }
        }
    }
    let allowed: BTreeSet<(String, String)> =
        EDGES.iter().flat_map(|(from, all)| all.iter().map(|to| ((*from).to_owned(), (*to).to_owned()))).collect();
    let new: Vec<_> = found.difference(&allowed).collect();
    let gone: Vec<_> = allowed.difference(&found).collect();
    assert!(new.is_empty() && gone.is_empty(), "new edges {new:?}, edges that are gone {gone:?}");
}

/// Absences: who may print, read the environment, be unsafe.
#[test]
fn only_some_may_do_some_things() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let rules: &[(&str, &[&str])] = &[
        // `shim` is a library of its own, for other processes.
        ("unsafe {", &["sys/", "shim/"]),
        ("std::env::var", &["config/environment.rs"]),
        ("io::stdout()", &["ui/", "command/output.rs", "sink/relay.rs", "sink/file.rs"]),
        ("io::stderr()", &["ui/", "sink/", "sys/stage.rs"]),
        ("std::process::exit", &[]),
        ("println!", &["shim/build.rs"]),
        ("Command::new(", &["shim/build.rs"]),
    ];
    for (path, text) in &files {
        let inside = path.strip_prefix(&format!("{}/", root.display())).expect("below src");
        for (what, places) in rules {
            let code: String =
                text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            let allowed = places.iter().any(|place| inside.starts_with(place));
            assert!(allowed || !code.contains(what), "{inside} has `{what}`");
        }
    }
}
