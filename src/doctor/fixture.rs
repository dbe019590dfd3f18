//! Windows for the tests of the rules, made of what the kernel writes: files as texts, read by the same probes.

use std::path::PathBuf;
use std::time::Instant;

use crate::doctor::diagnose::diagnose;
use crate::doctor::question::Question;
use crate::model::diagnosis::{Finding, Severity};
use crate::model::snapshot::Window;
use crate::probe::Roots;
use crate::probe::collect::{self, Options, Own};

/// A machine before and after, two seconds apart; gone with the value.
pub(crate) struct Fixture {
    root: PathBuf,
}

impl Fixture {
    /// A machine without a file.
    pub(crate) fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("apm-fixture-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        Self { root }
    }

    /// A file that stays as it is. The path starts below the root: `proc/meminfo`.
    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        self.changing(path, text, text)
    }

    /// A file before and after.
    pub(crate) fn changing(&self, path: &str, before: &str, after: &str) -> &Self {
        for (when, text) in [("0", before), ("1", after)] {
            let path = self.root.join(when).join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("written");
        }
        self
    }

    /// A symbolic link, as /sys is full of.
    pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
        for when in ["0", "1"] {
            let path = self.root.join(when).join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::os::unix::fs::symlink(target, path).expect("linked");
        }
        self
    }

    /// What the probes make of it.
    pub(crate) fn window(&self) -> Window {
        let own = Own { pid: 1, uid: 0 };
        let options = Options::default();
        let read = |when: &str| collect::snapshot(&Roots::below(&self.root.join(when)), own, &options, Instant::now());
        let mut window = Window { from: read("0"), to: read("1"), ..Window::default() };
        (window.from.at_us, window.to.at_us) = (0, 2_000_000);
        window
    }

    /// What one rule says of it.
    pub(crate) fn ask(&self, rule: &str) -> Vec<Finding> {
        ask(&self.window(), rule)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// What one rule says of a window. A rule that could not look fails the test.
pub(crate) fn ask(window: &Window, rule: &str) -> Vec<Finding> {
    let diagnosis = diagnose(window, &Question { only: vec![rule.to_owned()], focus: true, ..Question::default() });
    assert_eq!(diagnosis.skipped, []);
    diagnosis.findings
}

/// The severities found, for short tests.
pub(crate) fn severities(findings: &[Finding]) -> Vec<Severity> {
    findings.iter().map(|finding| finding.severity).collect()
}
