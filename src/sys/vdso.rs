//! The code that the kernel lends to every process: there is no file of it, so apm makes one from its own copy, which is
//! the same.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc/self")]

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use crate::sys::memory_file;

/// Longest vdso that is believed; today's have 8 KiB.
const LENGTH_MAX: u64 = 1 << 20;

/// A file in memory with the vdso.
pub(crate) fn file() -> io::Result<File> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).ok_or_else(|| io::Error::other("there is none"))?;
    let (start, end) = range(line).ok_or_else(|| io::Error::other("/proc/self/maps cannot be read"))?;
    let mut bytes = vec![0; end.saturating_sub(start).min(LENGTH_MAX) as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut bytes, start)?;
    let mut file = memory_file::create(c"vdso")?;
    file.write_all(&bytes)?;
    Ok(file)
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    #[test]
    fn it_is_an_elf_file() {
        // Some emulators and sandboxes have none.
        let Ok(file) = super::file() else { return };
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, 0).expect("four bytes");
        assert_eq!(&magic, b"\x7fELF");
    }
}
