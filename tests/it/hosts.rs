//! Captured and hand-made machines: exactly these findings, in text and JSON. What each is stands in its README line.
//!
//! A host is a folder of `tests/hosts`: `about` (what it is, captured or made by hand), `findings` (by hand: one line for
//! each expected finding, `warn mem.available`, worst first) and either `saved.json` (from `apm doctor --save`) or the
//! trees `0` and `1` (/proc, /sys, /etc before and after two seconds). `doctor.txt` and `doctor.json` beside them are what
//! apm says; `UPDATE_EXPECT=1` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sandbox::Sandbox;

fn hosts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let mut hosts: Vec<PathBuf> =
        fs::read_dir(folder).expect("hosts").map(|entry| entry.expect("one").path()).collect();
    hosts.sort();
    hosts
}

fn same_or_update(path: &Path, is: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, is).expect("written");
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(is, expected, "{}", path.display());
}

#[test]
fn each_host_gives_exactly_its_findings() {
    let hosts = hosts();
    assert!(hosts.len() >= 12, "{}", hosts.len());
    for host in hosts {
        let name = host.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(!fs::read_to_string(host.join("about")).unwrap_or_default().trim().is_empty(), "{name}: what is it?");
        let sandbox = Sandbox::new(&name);
        // Messages quote paths: the same wherever this checkout lies.
        std::os::unix::fs::symlink(&host, sandbox.work().join("host")).expect("a link");
        let from: &[&str] = match host.join("saved.json").exists() {
            true => &["--from", "host/saved.json"],
            false => &["--root", "host/0", "--root", "host/1"],
        };
        let run =
            |format: &str| sandbox.apm(["doctor", "--fail-on", "never", "--format", format].iter().chain(from)).good();
        let json = run("json");
        let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let found: Vec<String> = report["findings"]
            .as_array()
            .expect("findings")
            .iter()
            .map(|finding| {
                let text = |key: &str| finding[key].as_str().expect("text").to_owned();
                format!("{} {}", text("severity"), text("rule"))
            })
            .collect();
        let expected = fs::read_to_string(host.join("findings")).expect("what is expected");
        assert_eq!(found, expected.lines().collect::<Vec<_>>(), "{name}");
        same_or_update(&host.join("doctor.json"), &json);
        same_or_update(&host.join("doctor.txt"), &run("text"));
    }
}
