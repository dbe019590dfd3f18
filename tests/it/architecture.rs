//! The law of imports. Which part of the crate may know which: an edge that is not listed fails here; a new one needs its
//! line, and a sentence in the commit message. And inside of the parts: no files that import from each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::imports::{circles, imports};

/// `from -> to`, as the sources have them today.
const EDGES: &[(&str, &[&str])] = &[
    ("cli", &[]),
    (
        "command",
        &[
            "cli", "config", "control", "doctor", "engine", "executor", "journal", "model", "probe", "profile",
            "report", "sink", "sys", "text", "tune", "ui", "workflow",
        ],
    ),
    ("config", &["model", "sys", "text"]),
    ("control", &["engine", "model", "sys"]),
    ("doctor", &["model"]),
    ("engine", &["executor", "model", "probe"]),
    ("executor", &["model", "probe", "sys"]),
    ("journal", &["model", "sys"]),
    ("model", &[]),
    ("probe", &["model", "sys"]),
    // Of `shim`, which is a crate of its own, it includes the one file `layout.rs`.
    ("profile", &["model", "probe", "shim", "sys"]),
    ("report", &["model", "text"]),
    ("simulate", &["engine", "executor", "model", "probe"]),
    ("sink", &["journal", "model", "report", "sys", "text"]),
    ("sys", &["model"]),
    ("text", &["model"]),
    ("tune", &["model", "probe", "sys"]),
    ("ui", &["sys", "text"]),
    ("workflow", &["model", "sys", "text"]),
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
    let part = |file: &str| file.split_once('/').map(|(part, _)| part.to_owned());
    let imports = imports(&whole_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    let edges = imports.iter().flat_map(|(from, all)| all.keys().map(move |to| (part(from), part(to))));
    let found: BTreeSet<(String, String)> =
        edges.filter_map(|(from, to)| Some((from?, to?))).filter(|(from, to)| from != to).collect();
    let allowed: BTreeSet<(String, String)> =
        EDGES.iter().flat_map(|(from, all)| all.iter().map(|to| ((*from).to_owned(), (*to).to_owned()))).collect();
    let new: Vec<_> = found.difference(&allowed).collect();
    let gone: Vec<_> = allowed.difference(&found).collect();
    assert!(new.is_empty() && gone.is_empty(), "new edges {new:?}, edges that are gone {gone:?}");
}

/// The texts of all files below a folder, whole, by their paths below it.
fn whole_sources(root: &Path) -> BTreeMap<String, String> {
    let mut open = vec![root.to_owned()];
    let mut found = BTreeMap::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let inside = path.strip_prefix(root).expect("below the root").display().to_string();
            found.insert(inside, std::fs::read_to_string(&path).expect("a source"));
        }
    }
    found
}

/// Files in a circle can only be read together, and none of them can be moved or tested without the others. The way out
/// is to move what both need into a file of its own, below both.
#[test]
fn no_files_import_from_each_other_in_a_circle() {
    let imports = imports(&whole_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    let found = circles(&imports);
    let mut text = String::new();
    for circle in &found {
        text += &format!("\n{} files import from each other:", circle.len());
        for from in circle {
            for (to, path) in imports[from].iter().filter(|(to, _)| circle.contains(to)) {
                text += &format!("\n  {from} imports from {to}: {path}");
            }
        }
    }
    assert!(text.is_empty(), "{text}");
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
        // It brings glibc's `fork`, and with that the name services.
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
