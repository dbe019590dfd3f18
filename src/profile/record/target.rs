//! Whether a program can take the preloaded library: its file and its permissions come in, an answer with its reason comes
//! out.
//!
//! Reads ELF by hand: three tables, 64 bits, this machine's byte order. The file may be anything, so every read is
//! checked, and what makes no sense is "not a program that is known here".

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::sys::{beneath, file_system, process};

/// Longest program file that is looked at: it is read whole, and can be anybody's. Of a longer one nothing is known.
const PROGRAM_MAX: u64 = 256 << 20;

/// What keeps the library out of a program, or makes it see less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// No loader: nothing is ever preloaded.
    Static { is_go: bool },
    /// The loader drops preloaded libraries when a program changes its user or capabilities.
    Privileged,
    /// Another word size or processor.
    Foreign,
    /// A script or something else that is not ELF.
    NotElf,
    /// Go asks the kernel itself, also where it is linked to a C library: only C parts are seen.
    Go,
    /// A sanitizer wants to be the first library, and ends or breaks the program otherwise.
    Sanitizer(String),
    /// Allocations that do not go through `malloc`, by a symbol that shows it.
    OwnAllocator(String),
}

impl Obstacle {
    /// Whether the library is not loaded at all; else it sees less.
    pub(crate) fn is_total(&self) -> bool {
        match self {
            Self::Static { .. } | Self::Privileged | Self::Foreign | Self::Sanitizer(_) => true,
            // Its interpreter may well take it.
            Self::NotElf | Self::Go | Self::OwnAllocator(_) => false,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static { is_go: true } => {
                f.write_str("it is a static Go program, and static programs load no library")
            }
            Self::Static { is_go: false } => f.write_str("it is linked statically, and such programs load no library"),
            Self::Privileged => {
                f.write_str("it is setuid, setgid or has file capabilities: the loader drops preloaded libraries then")
            }
            Self::Foreign => f.write_str("it is made for another word size or processor than this apm"),
            Self::NotElf => f.write_str("it is no ELF file; its interpreter is watched instead"),
            Self::Go => f.write_str("it is a Go program: its own memory and calls do not go through the C library"),
            Self::Sanitizer(symbol) => {
                write!(f, "it is built with a sanitizer (`{symbol}`), which suffers no other library before its own")
            }
            Self::OwnAllocator(symbol) => {
                write!(f, "it has an allocator of its own (`{symbol}`): what does not call `malloc` is not seen")
            }
        }
    }
}

/// A program's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File<'a> {
    pub(crate) bytes: &'a [u8],
    /// Its mode bits as `stat` has them.
    pub(crate) mode: u32,
    /// It has the extended attribute `security.capability`.
    pub(crate) has_capabilities: bool,
    /// apm runs as its owner anyway, so that setuid changes nothing.
    pub(crate) is_owner: bool,
}

/// The same of a program's file; nothing where it cannot be read.
pub(crate) fn obstacle_of(program: &Path) -> Option<Obstacle> {
    let meta = fs::metadata(program).ok()?;
    let bytes = beneath::read(program, PROGRAM_MAX).ok()?;
    let is_owner = meta.uid() == process::uid();
    // Root gains nothing by them.
    let has_capabilities = process::uid() != 0 && file_system::has_attribute(program, c"security.capability");
    obstacle(&File { bytes: &bytes, mode: meta.mode(), has_capabilities, is_owner })
}

/// What stands between this program and the library, the most important first.
pub(crate) fn obstacle(file: &File<'_>) -> Option<Obstacle> {
    const SETUID: u32 = 0o4000;
    const SETGID: u32 = 0o2000;
    let Some(elf) = Elf::read(file.bytes) else { return Some(Obstacle::NotElf) };
    if !elf.is_native() {
        return Some(Obstacle::Foreign);
    }
    let is_go = elf.sections().any(|section| elf.name_of(&section).is_some_and(|name| name == b".go.buildinfo"));
    if !elf.has_interpreter() {
        return Some(Obstacle::Static { is_go });
    }
    if file.mode & SETGID != 0 || file.has_capabilities || (file.mode & SETUID != 0 && !file.is_owner) {
        return Some(Obstacle::Privileged);
    }
    if is_go {
        return Some(Obstacle::Go);
    }
    elf.telling_symbol()
}

/// Symbols of allocators that go by other names, and those that take the place of the C library's.
const ALLOCATORS: &[&[u8]] =
    &[b"malloc", b"je_malloc", b"_rjem_malloc", b"_rjem_mallocx", b"mallocx", b"mi_malloc", b"tc_malloc", b"rpmalloc"];
const SANITIZERS: &[&[u8]] = &[b"__asan_init", b"__hwasan_init", b"__msan_init", b"__tsan_init"];
/// Symbols that are looked at in one file, in all its tables together.
const SYMBOLS_MAX: u64 = 4 << 20;

struct Elf<'a> {
    bytes: &'a [u8],
}

#[derive(Clone, Copy)]
struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
}

impl<'a> Elf<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= 64 && bytes.starts_with(b"\x7fELF")).then_some(Self { bytes })
    }

    fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn half(&self, at: u64) -> Option<u16> {
        self.array(at).map(u16::from_ne_bytes)
    }

    fn word(&self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    fn long(&self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_ne_bytes)
    }

    fn is_native(&self) -> bool {
        let machine = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        self.bytes[4] == 2 && self.bytes[5] == order && self.half(18) == Some(machine)
    }

    fn has_interpreter(&self) -> bool {
        const INTERPRETER: u32 = 3;
        let (Some(table), Some(size), Some(count)) = (self.long(32), self.half(54), self.half(56)) else {
            return false;
        };
        (0..count).any(|index| {
            let at = table.checked_add(u64::from(index) * u64::from(size));
            at.and_then(|at| self.word(at)) == Some(INTERPRETER)
        })
    }

    fn section(&self, index: u16) -> Option<Section> {
        let at = self.long(40)?.checked_add(u64::from(index) * u64::from(self.half(58)?))?;
        let field = |offset: u64| at.checked_add(offset);
        Some(Section {
            name: self.word(at)?,
            kind: self.word(field(4)?)?,
            offset: self.long(field(24)?)?,
            size: self.long(field(32)?)?,
            link: self.word(field(40)?)?,
        })
    }

    fn sections(&self) -> impl Iterator<Item = Section> {
        (0..self.half(60).unwrap_or(0)).map_while(|index| self.section(index))
    }

    fn text(&self, table: &Section, at: u32) -> Option<&'a [u8]> {
        let start = usize::try_from(table.offset.checked_add(at.into())?).ok()?;
        let rest = self.bytes.get(start..)?;
        // No name that is looked for here is longer.
        let rest = &rest[..rest.len().min(32)];
        rest.iter().position(|byte| *byte == 0).map(|end| &rest[..end])
    }

    fn name_of(&self, section: &Section) -> Option<&'a [u8]> {
        self.text(&self.section(self.half(62)?)?, section.name)
    }

    /// What its symbols say: one that it defines and that belongs to an allocator, or any of a sanitizer.
    fn telling_symbol(&self) -> Option<Obstacle> {
        const SYMBOLS: u32 = 2;
        const DYNAMIC_SYMBOLS: u32 = 11;
        const SIZE: u64 = 24;
        let mut allocator = None;
        let mut left = SYMBOLS_MAX;
        let tables = self.sections().filter(|section| section.kind == SYMBOLS || section.kind == DYNAMIC_SYMBOLS);
        for table in tables {
            let Some(names) = u16::try_from(table.link).ok().and_then(|link| self.section(link)) else { continue };
            let count = (table.size / SIZE).min(left);
            left -= count;
            for index in 0..count {
                let Some(at) = table.offset.checked_add(index * SIZE) else { break };
                let (Some(name), Some(section)) = (self.word(at), self.half(at.saturating_add(6))) else { break };
                let Some(name) = self.text(&names, name) else { continue };
                let text = || String::from_utf8_lossy(name).into_owned();
                if SANITIZERS.contains(&name) {
                    return Some(Obstacle::Sanitizer(text()));
                }
                let is_function = self.array::<1>(at.saturating_add(4)).is_some_and(|[info]| info & 0xf == 2);
                if allocator.is_none() && section != 0 && is_function && ALLOCATORS.contains(&name) {
                    allocator = Some(Obstacle::OwnAllocator(text()));
                }
            }
        }
        allocator
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

    use std::process::Command;

    use proptest::prelude::*;

    use super::{File, Obstacle, obstacle};

    fn of(bytes: &[u8]) -> Option<Obstacle> {
        obstacle(&File { bytes, mode: 0o755, has_capabilities: false, is_owner: false })
    }

    /// Compiles a program; none where there is no compiler.
    fn compile(source: &str, flags: &[&str]) -> Option<Vec<u8>> {
        let stem = format!("apm-test-target-{}-{:x}", std::process::id(), std::ptr::from_ref(source).addr());
        let (file, program) = (std::env::temp_dir().join(format!("{stem}.c")), std::env::temp_dir().join(stem));
        std::fs::write(&file, source).expect("write the program");
        let output = Command::new("gcc").args(flags).arg("-o").arg(&program).arg(&file).output();
        let bytes = std::fs::read(&program);
        let _ = (std::fs::remove_file(&file), std::fs::remove_file(&program));
        match output {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                Some(bytes.expect("the program"))
            }
            Err(error) => {
                eprintln!("skipped: gcc: {error}");
                assert!(std::env::var_os("CI").is_none(), "CI has gcc");
                None
            }
        }
    }

    #[test]
    fn what_keeps_the_library_out_is_said() {
        let Some(plain) = compile("int main(void) { return 0; }", &[]) else { return };
        assert_eq!(of(&plain), None);
        for (mode, has_capabilities, is_owner, is_kept_out) in [
            (0o4755, false, false, true),
            (0o4755, false, true, false),
            (0o2755, false, true, true),
            (0o755, true, true, true),
        ] {
            let found = obstacle(&File { bytes: &plain, mode, has_capabilities, is_owner });
            assert_eq!(found == Some(Obstacle::Privileged), is_kept_out, "{mode:o}");
        }
        let linked = compile("int main(void) { return 1; }", &["-static"]).expect("gcc is there");
        let found = of(&linked).expect("an obstacle");
        assert!(found.is_total() && found == Obstacle::Static { is_go: false }, "{found:?}");
        assert_eq!(found.to_string(), "it is linked statically, and such programs load no library");

        let own = "void *_rjem_malloc(unsigned long n) { return 0; } int main(void) { return !!_rjem_malloc(1); }";
        let found = of(&compile(own, &["-O0"]).expect("gcc is there")).expect("an obstacle");
        assert!(!found.is_total() && found == Obstacle::OwnAllocator("_rjem_malloc".to_owned()));

        let go = "__attribute__((section(\".go.buildinfo\"))) int x = 1; int main(void) { return 2; }";
        assert_eq!(of(&compile(go, &[]).expect("gcc is there")), Some(Obstacle::Go));
        assert_eq!(of(&compile(go, &["-static"]).expect("gcc is there")), Some(Obstacle::Static { is_go: true }));

        let checked = "void __tsan_init(void) {} int main(void) { __tsan_init(); return 4; }";
        let found = of(&compile(checked, &["-O0"]).expect("gcc is there")).expect("an obstacle");
        assert!(found.is_total() && found == Obstacle::Sanitizer("__tsan_init".to_owned()));

        let mut foreign = plain;
        foreign[18] = 40;
        assert_eq!(of(&foreign), Some(Obstacle::Foreign));
        assert_eq!(of(b"#!/bin/sh\n"), Some(Obstacle::NotElf));
        assert_eq!(of(&std::fs::read("/proc/self/exe").expect("this test")), Some(Obstacle::Static { is_go: false }));
    }

    proptest! {
        #[test]
        fn damaged_files_are_answered_too(at in 0..4096_usize, bytes: [u8; 8], cut in 0..20_000_usize) {
            static PLAIN: std::sync::OnceLock<Option<Vec<u8>>> = std::sync::OnceLock::new();
            let plain = PLAIN.get_or_init(|| compile("int main(void) { return 3; }", &[]));
            if let Some(plain) = plain {
                let mut damaged = plain.clone();
                for (offset, byte) in bytes.iter().enumerate() {
                    if let Some(place) = damaged.get_mut(if at < 2048 { at % 64 } else { at } + offset) {
                        *place = *byte;
                    }
                }
                let end = damaged.len().saturating_sub(if cut < 10_000 { 0 } else { cut });
                let _ = of(&damaged[..end]);
            }
        }
    }
}
