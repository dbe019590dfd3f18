//! Completions and man pages are checked in and derive from the command line's own description, the notices of others from
//! what is linked. `UPDATE_EXPECT=1` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::notices;

/// Every generated file and what it should hold.
fn generated() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (shell, name) in [(Shell::Bash, "apm.bash"), (Shell::Zsh, "_apm"), (Shell::Fish, "apm.fish")] {
        // Nobody edits what is generated, so nobody has to hear of it.
        let mut text = if shell == Shell::Bash { b"# shellcheck disable=all\n".to_vec() } else { Vec::new() };
        clap_complete::generate(shell, &mut apm::cli::Cli::command(), "apm", &mut text);
        files.insert(format!("completions/{name}"), text);
    }
    let folder = std::env::temp_dir().join(format!("apm-man-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    clap_mangen::generate_to(apm::cli::Cli::command(), &folder).expect("pages");
    for entry in std::fs::read_dir(&folder).expect("pages") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        files.insert(format!("man/{name}"), std::fs::read(&path).expect("a page"));
    }
    std::fs::remove_dir_all(&folder).expect("removed");
    files.insert("LICENSE-THIRD-PARTY".to_owned(), notices::third_party().into_bytes());
    files
}

#[test]
fn completions_man_pages_and_notices_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let files = generated();
    for (name, text) in &files {
        let path = root.join(name);
        if update {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            std::fs::write(&path, text).expect("written");
        }
        let found = std::fs::read(&path).unwrap_or_default();
        assert!(
            found == *text,
            "{name} is stale: `UPDATE_EXPECT=1 cargo test generated` writes it anew, look at the difference"
        );
    }
    for folder in ["completions", "man"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
            let name = format!("{folder}/{}", entry.expect("an entry").file_name().to_string_lossy());
            assert!(files.contains_key(&name), "{name} is generated from nothing");
        }
    }
}
