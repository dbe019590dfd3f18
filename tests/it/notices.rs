//! LICENSE-THIRD-PARTY: whose code is in the binary, and the notices that its licences ask for. Made of what cargo knows of
//! the crates and of the texts in their sources, without a network; `generated` holds it against the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::shipped::root;

/// The target with the most dependencies: the others have the same without `cpufeatures`.
const TARGET: &str = "x86_64-unknown-linux-gnu";

const PREFACE: &str = "\
apm is licensed under MIT OR Apache-2.0, see LICENSE-MIT and LICENSE-APACHE. Its binary also contains code of others:

- The GNU C Library, under LGPL-2.1-or-later, statically linked. Its notices and the text of that licence are at the end of
  this file. You may change the library and link apm anew: apm's source and the way to build it are public.
- libgcc of GCC, under GPL-3.0-or-later with the GCC Runtime Library Exception, which lets the binary have terms of its own.
- The standard library of Rust, under MIT OR Apache-2.0, by the Rust Project's contributors.
- These crates. Where one offers a choice, MIT is taken if it is among the offers, else Apache-2.0. Each is unchanged, and
  its source is to be had where the link leads to.
";

/// Of crates that hold no text of it.
const MIT: &str = "\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the \"Software\"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
";

/// The whole file.
pub fn third_party() -> String {
    let mut text = PREFACE.to_owned();
    // Texts that differ in blanks only are one.
    let mut texts: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for package in linked() {
        let (name, version) = (word(&package, "name"), word(&package, "version"));
        let license = word(&package, "license");
        assert!(!license.is_empty(), "{name} names no licence");
        let authors: Vec<&str> =
            package["authors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        // Without their mail addresses.
        let authors: Vec<&str> = authors.iter().map(|author| author.split(" <").next().unwrap_or(author)).collect();
        let by = if authors.is_empty() { String::new() } else { format!(", by {}", authors.join(", ")) };
        text.push_str(&format!("\n{name} {version}: {license}{by}\n  https://crates.io/crates/{name}/{version}\n"));
        let folder = Path::new(word(&package, "manifest_path")).parent().expect("a folder");
        for text in notices(folder, name, license) {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.entry(words).or_insert_with(|| (text, BTreeSet::new())).1.insert(format!("{name} {version}"));
        }
    }
    let mut sorted: Vec<_> = texts.into_values().map(|(text, crates)| (Vec::from_iter(crates), text)).collect();
    sorted.sort();
    for (crates, notice) in sorted {
        chapter(&mut text, &crates.join(", "), &notice);
    }
    for (title, file) in [("The GNU C Library", "glibc.txt"), ("LGPL-2.1", "lgpl-2.1.txt")] {
        chapter(&mut text, title, &read(&root().join("tests/data/notices").join(file)));
    }
    text
}

fn chapter(text: &mut String, title: &str, notice: &str) {
    text.push_str(&format!("\n{}\n{title}\n\n{notice}", "=".repeat(120)));
}

/// The packages whose code is in the binary, by name and version.
fn linked() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform", TARGET];
    let output = Command::new(cargo).args(args).current_dir(root()).output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let by_id = |list: &'static str| {
        let list = list.split('/').fold(&metadata, |value, key| &value[key]);
        list.as_array().expect("a list").iter().map(|value| (word(value, "id"), value)).collect::<BTreeMap<_, _>>()
    };
    let (packages, nodes) = (by_id("packages"), by_id("resolve/nodes"));
    let own = word(&metadata["resolve"], "root");
    let mut found = BTreeMap::new();
    let mut open = vec![own];
    while let Some(id) = open.pop() {
        let package = packages[id];
        let kinds = package["targets"].as_array().into_iter().flatten().flat_map(|target| target["kind"].as_array());
        // A macro and what it needs run in the compiler.
        if kinds.flatten().any(|kind| kind == "proc-macro") || found.insert(id, package.clone()).is_some() {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            if kinds.into_iter().any(|kind| kind["kind"].is_null()) {
                open.push(word(dependency, "pkg"));
            }
        }
    }
    found.remove(own);
    let mut packages = Vec::from_iter(found.into_values());
    packages.sort_by_key(|package| (word(package, "name").to_owned(), word(package, "version").to_owned()));
    packages
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The texts that a crate asks to be passed on.
fn notices(folder: &Path, name: &str, license: &str) -> Vec<String> {
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let upper = |path: &Path| path.file_name().expect("a name").to_string_lossy().to_uppercase();
    let mut files: Vec<PathBuf> = list(folder)
        .into_iter()
        .filter(|path| {
            let words = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
            words.iter().any(|word| upper(path).starts_with(word)) && path.is_file()
        })
        .collect();
    // What the texts beside the manifest refer to.
    files.extend(list(&folder.join(".licenses")));
    // Of a choice the first that is there.
    if license.contains(" OR ") || license.contains('/') {
        let of = |file: &Path, names: &[&str]| names.contains(&upper(file).trim_end_matches(".MD"));
        let choices = [&["LICENSE-MIT"][..], &["LICENSE-APACHE", "LICENSE_A2"]];
        if let Some(names) = choices.into_iter().find(|names| files.iter().any(|path| of(path, names))) {
            files.retain(|path| {
                of(path, names) || ["COPYRIGHT", "NOTICE"].iter().any(|word| upper(path).starts_with(word))
            });
        }
    }
    if files.is_empty() {
        assert!(license.contains("MIT"), "{name} holds no text of its licence, {license}");
        return vec![MIT.to_owned()];
    }
    files.iter().map(|path| read(path)).collect()
}

/// A text without blanks at the ends of its lines.
fn read(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_matches('\n'))
}

#[test]
fn what_asks_for_a_notice_is_in_the_list() {
    let text = third_party();
    assert_eq!(text, third_party());
    for word in [
        // Licences that have a single text in one crate.
        "\nblazesym 0",
        "Redistributions in binary form must reproduce",
        "\noption-ext 0",
        "Mozilla Public License Version 2.0",
        "\nzlib-rs 0",
        "GNU LESSER GENERAL PUBLIC LICENSE",
        "Copyright (c) Tokio Contributors",
    ] {
        assert!(text.contains(word), "{word}");
    }
    // In no binary: what tests use, macros, and what is built for them.
    for name in ["apm", "inferno", "proptest", "serde_derive", "syn", "cc"] {
        assert!(!text.contains(&format!("\n{name} ")), "{name}");
    }
}
