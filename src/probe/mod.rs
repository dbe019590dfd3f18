//! Read-only observation of Linux. Never writes; what cannot be read is absent with the reason, not zero.

pub(crate) mod cgroup;
pub(crate) mod collect;
pub(crate) mod container;
pub(crate) mod cpu;
pub(crate) mod disk;
mod foreign;
pub(crate) mod kmsg;
pub(crate) mod locks;
pub(crate) mod looks;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod room;
pub(crate) mod sandbox;
pub(crate) mod stat;
pub(crate) mod system;
pub(crate) mod tasks;
pub(crate) mod tunables;
pub(crate) mod watchers;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use self::foreign::{open, read_dir};
use crate::model::snapshot::{Counters, Field, Pressure, Stall};

/// Page size of x86-64 and of aarch64 as distributions build it.
const PAGE: u64 = 4096;
/// Longest file of the kernel that is read; what is longer is cut. /proc/net/tcp is not read, it has no bound.
const FILE_MAX: u64 = 4 << 20;

/// Where the kernel's files are: a captured host in tests, the host's own below a container's mount.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    pub(crate) proc: PathBuf,
    pub(crate) sys: PathBuf,
    pub(crate) etc: PathBuf,
    /// System calls tell of the same machine as the files.
    pub(crate) is_here: bool,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), etc: "/etc".into(), is_here: true }
    }
}

impl Roots {
    /// Those below a folder.
    pub(crate) fn below(root: &Path) -> Self {
        let is_here = root == Path::new("/");
        if !is_here {
            foreign::remember(root);
        }
        Self { proc: root.join("proc"), sys: root.join("sys"), etc: root.join("etc"), is_here }
    }

    /// The value of a system call, which knows this machine only.
    pub(crate) fn call<T>(&self, name: &str, call: impl FnOnce() -> io::Result<T>) -> Field<T> {
        if !self.is_here {
            return Field::unavailable(name, "the files are of another machine");
        }
        call().map_or_else(|error| Field::unavailable(name, say(&error)), Field::Known)
    }
}

/// An error of reading in few words.
pub(crate) fn say(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not there".to_owned(),
        // It has its own words, and a path in them.
        _ if error.raw_os_error().is_none() => error.to_string(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_ascii_lowercase(),
    }
}

/// Reads a file of the kernel into a buffer that is used again.
pub(crate) fn read_into(path: &Path, text: &mut Vec<u8>) -> io::Result<()> {
    text.clear();
    open(path)?.take(FILE_MAX).read_to_end(text)?;
    Ok(())
}

/// Reads a file of the kernel or of settings; what is longer than any of them is cut.
pub(crate) fn read_bytes(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    // Most files of the kernel are small: one read takes all of them.
    let mut bytes = Vec::with_capacity(1024);
    read_into(path.as_ref(), &mut bytes)?;
    Ok(bytes)
}

/// Reads a file of UTF-8.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = read_bytes(path)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Reads a file and understands it. What is there but makes no sense is unavailable too.
pub(crate) fn field<T>(path: &Path, parse: impl FnOnce(&str) -> Option<T>) -> Field<T> {
    let mut bytes = Vec::new();
    match read_into(path, &mut bytes) {
        Err(error) => Field::unavailable(path.display().to_string(), say(&error)),
        Ok(()) => parse(&String::from_utf8_lossy(&bytes))
            .map_or_else(|| Field::unavailable(path.display().to_string(), "not understood"), Field::Known),
    }
}

/// Reads a file that holds one number.
pub(crate) fn number(path: &Path) -> Option<u64> {
    read_text(path).ok()?.trim().parse().ok()
}

/// A file of a few words; none where it cannot be read or is empty.
pub(crate) fn words(path: &Path) -> Option<String> {
    let bytes = read_bytes(path).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// `NAME VALUE` lines, as in vmstat, cpu.stat, memory.events. Lines that are none are left out; none at all is no file
/// of this kind.
pub(crate) fn counters(text: &str) -> Option<Counters> {
    let pair = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?.trim_end_matches(':');
        Some((name.to_owned(), words.next()?.parse().ok()?))
    };
    let found: Counters = text.lines().filter_map(pair).collect();
    (!found.is_empty()).then_some(found)
}

/// A pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
pub(crate) fn pressure(text: &str) -> Option<Pressure> {
    let stall = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let value =
            |name: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let average = |name: &str| value(name)?.parse::<f64>().ok().filter(|value| value.is_finite());
        Some(Stall {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total_us: value("total")?.parse().ok()?,
        })
    };
    Some(Pressure { some: stall("some ")?, full: stall("full ").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{counters, pressure};

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text =
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=99\n";
        let read = pressure(text).expect("a pressure file");
        assert_eq!((read.some.avg10, read.some.total_us, read.full.total_us), (1.5, 1234, 99));
        assert_eq!(pressure("some avg10=nan avg60=0 avg300=0 total=1"), None);
        assert_eq!(pressure(""), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            let _ = (pressure(&text), counters(&text));
        }
    }
}
