//! From the registers and the copied stack of a sample to the places in its callers. One unwinder for all processes: it
//! knows files, not mappings. Each file has a range of addresses of its own that no process has, and an address is
//! carried over before it is looked up. So nothing is copied at a fork, and what was learned about a place in the C
//! library holds in every process that has it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use framehop::{
    CacheNative, Error, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Module, UnwindRegsNative,
    Unwinder as _, UnwinderNative,
};

use crate::profile::image::{Image, Section};
use crate::profile::modules::{ModuleId, Modules};
use crate::profile::process::{Process, What};
use crate::profile::record::perf::Link;
use crate::profile::stacks::Code;
use crate::sys::perf::REGISTERS;

/// Frames of one stack; the outer ones of more are not looked for.
pub(crate) const FRAMES_MAX: usize = 1024;
/// Where the ranges of files begin: processes have no addresses there.
const BASE: u64 = 1 << 56;
/// How much further a frame may be than what was copied, to be on the same stack.
const NEAR: u64 = 1 << 20;
/// Distance of two ranges.
const STRIDE: u64 = 1 << 33;
/// Code of a file beyond which it is not unwound by tables: framehop counts in 32 bits.
const CODE_MAX: u64 = 1 << 32;

/// Finds callers.
pub(crate) struct Unwinder {
    framehop: UnwinderNative<Arc<[u8]>, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
    /// Stacks whose callers are on another stack, far from the one that was copied.
    pub(crate) elsewhere: u64,
    /// Stacks that end where the address of the caller is no code: the function before has no tables of unwinding and no
    /// frame pointer, as those in assembly.
    pub(crate) no_code: u64,
}

/// What a sample has of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied<'a> {
    /// In the order of [`REGISTERS`].
    pub(crate) registers: [u64; REGISTERS.len()],
    /// From the stack pointer on.
    pub(crate) stack: &'a [u8],
}

/// How the search for callers ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// At the outermost frame.
    Whole,
    /// Before it.
    Truncated,
}

/// How to get from a place to its caller.
enum Rule {
    /// As framehop says for this address.
    Framehop(FrameAddress),
    /// `CFA = rsp + 16`.
    Trampoline,
}

impl Unwinder {
    /// One that knows no file.
    pub(crate) fn new() -> Self {
        Self { framehop: UnwinderNative::new(), cache: CacheNative::new(), elsewhere: 0, no_code: 0 }
    }

    /// Adds the callers of a sample to `out`, the innermost first.
    pub(crate) fn walk(
        &mut self,
        process: &Process,
        modules: &mut Modules,
        copied: &Copied<'_>,
        out: &mut Vec<Code>,
    ) -> Walked {
        let (mut registers, pointer) = registers(copied);
        let stack_start = stack_pointer(copied);
        let is_far = |address: u64| address < stack_start || address - stack_start > copied.stack.len() as u64 + NEAR;
        let mut missed = None;
        let mut read = |address: u64| {
            missed = Some(address);
            let at = usize::try_from(address.checked_sub(stack_start).ok_or(())?).map_err(|_| ())?;
            let word = copied.stack.get(at..).and_then(<[u8]>::first_chunk::<8>).ok_or(())?;
            missed = None;
            Ok(u64::from_ne_bytes(*word))
        };
        let mut address = FrameAddress::from_instruction_pointer(pointer);
        loop {
            let Some((code, rule)) = self.place(process, modules, address) else {
                // The first address is what the processor said; the others are read from a stack, perhaps wrongly. In the
                // middle of an execve it is the one of the program before.
                if out.is_empty() {
                    out.push(Code::Nowhere);
                } else {
                    self.no_code += 1;
                }
                return Walked::Truncated;
            };
            out.push(code);
            if out.len() >= FRAMES_MAX {
                return Walked::Truncated;
            }
            let before = registers;
            let next = match rule {
                Rule::Framehop(address) => {
                    let frame = || self.framehop.unwind_frame(address, &mut registers, &mut self.cache, &mut read);
                    // The tables are of a foreign file: a bug of their reader must not cost the profile.
                    let Ok(next) = catch_unwind(AssertUnwindSafe(frame)) else { return Walked::Truncated };
                    next
                }
                Rule::Trampoline => trampoline(&mut registers, &mut read),
            };
            let next = match next {
                // Code without tables amid code that has some, as V8's builtins are: framehop takes the innermost of it
                // for a function that has not begun yet. What it finds is no code then, and the frame pointer is right.
                Ok(Some(caller)) if process.at(caller.saturating_sub(1)).is_none() => {
                    registers = before;
                    let found = by_frame_pointer(&mut registers, &mut read);
                    let is_code = |caller: u64| process.at(caller.saturating_sub(1)).is_some();
                    found.filter(|found| is_code(*found)).map(Some).map_or(Ok(Some(caller)), Ok)
                }
                other => other,
            };
            match next {
                Ok(Some(caller)) => match FrameAddress::from_return_address(caller) {
                    Some(caller) => address = caller,
                    None => return Walked::Whole,
                },
                Ok(None) | Err(Error::ReturnAddressIsNull) => return Walked::Whole,
                // The start of a thread or program has cleared it; the loader's has no tables that would say so.
                Err(Error::FramepointerUnwindingMovedBackwards) if frame_pointer(&before) == 0 => return Walked::Whole,
                Err(_) => {
                    self.elsewhere += u64::from(missed.is_some_and(is_far));
                    return Walked::Truncated;
                }
            }
        }
    }

    fn place(&mut self, process: &Process, modules: &mut Modules, address: FrameAddress) -> Option<(Code, Rule)> {
        let lookup = address.address_for_lookup();
        let area = process.at(lookup)?;
        let (module, offset) = match area.what {
            What::File(module, offset) => (module, offset.wrapping_add(lookup - area.start)),
            What::Memory => {
                let code = Code::Made { program: process.program, address: lookup };
                let is_trampoline = process.is_python && address.is_return_address() && cfg!(target_arch = "x86_64");
                // No file has this address: framehop follows the frame pointer, which V8 and most others keep.
                return Some((code, if is_trampoline { Rule::Trampoline } else { Rule::Framehop(address) }));
            }
        };
        let code = Code::File { module, offset };
        let (image, is_new) = modules.image(module)?;
        if is_new {
            self.add(module, image);
        }
        let carried = image
            .span()
            .zip(image.address(offset))
            .filter(|(span, _)| span.end - span.start < CODE_MAX)
            .map(|(span, own)| base(module) + (own - span.start));
        let carried = match carried {
            Some(carried) if address.is_return_address() => FrameAddress::from_return_address(carried + 1)?,
            Some(carried) => FrameAddress::from_instruction_pointer(carried),
            None => address,
        };
        Some((code, Rule::Framehop(carried)))
    }

    fn add(&mut self, id: ModuleId, image: &Image) {
        let Some(span) = image.span().filter(|span| span.end - span.start < CODE_MAX) else { return };
        let bytes = |section: &Option<Section>| section.as_ref().map(|section| Arc::clone(&section.bytes));
        let range = |section: &Option<Section>| section.as_ref().map(|section| section.range.clone());
        // From zero where the numbers allow it: the tables may speak of code that the linker has thrown away.
        let (base_svma, base_avma) = if span.end < CODE_MAX && span.start < base(id) {
            (0, base(id) - span.start)
        } else {
            (span.start, base(id))
        };
        let sections = ExplicitModuleSectionInfo {
            base_svma,
            text_svma: image.text.clone(),
            got_svma: image.got.clone(),
            eh_frame_svma: range(&image.eh_frame),
            eh_frame: bytes(&image.eh_frame),
            eh_frame_hdr_svma: range(&image.eh_frame_hdr),
            eh_frame_hdr: bytes(&image.eh_frame_hdr),
            debug_frame: bytes(&image.debug_frame),
            ..Default::default()
        };
        let addresses = base(id)..base(id) + (span.end - span.start);
        self.framehop.add_module(Module::new(String::new(), addresses, base_avma, sections));
    }
}

fn base(id: ModuleId) -> u64 {
    BASE + u64::from(id) * STRIDE
}

#[cfg(target_arch = "x86_64")]
fn registers(copied: &Copied<'_>) -> (UnwindRegsNative, u64) {
    let [bp, sp, ip] = copied.registers;
    (UnwindRegsNative::new(ip, sp, bp), ip)
}

#[cfg(target_arch = "x86_64")]
fn stack_pointer(copied: &Copied<'_>) -> u64 {
    copied.registers[1]
}

#[cfg(target_arch = "aarch64")]
fn registers(copied: &Copied<'_>) -> (UnwindRegsNative, u64) {
    let [fp, lr, sp, pc] = copied.registers;
    (UnwindRegsNative::new(lr, sp, fp), pc)
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(copied: &Copied<'_>) -> u64 {
    copied.registers[2]
}

/// CPython from 3.12 on calls the evaluation of each Python function through a copy of this code in memory, whose name
/// stands in the perf map: `sub $8,%rsp; call *%rcx; add $8,%rsp; ret`. It keeps no frame pointer and has no tables.
#[cfg(target_arch = "x86_64")]
fn trampoline(
    registers: &mut UnwindRegsNative,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Result<Option<u64>, Error> {
    let sp = registers.sp();
    let at = sp.checked_add(8).ok_or(Error::IntegerOverflow)?;
    let caller = read(at).map_err(|()| Error::CouldNotReadStack(at))?;
    registers.set_sp(sp.checked_add(16).ok_or(Error::IntegerOverflow)?);
    registers.set_ip(caller);
    Ok(Some(caller))
}

/// The one of aarch64 keeps the frame pointer: this is not reached.
#[cfg(not(target_arch = "x86_64"))]
fn trampoline(_: &mut UnwindRegsNative, _: &mut impl FnMut(u64) -> Result<u64, ()>) -> Result<Option<u64>, Error> {
    Ok(None)
}

/// The caller of a function that keeps its frame pointer.
fn by_frame_pointer(registers: &mut UnwindRegsNative, read: &mut impl FnMut(u64) -> Result<u64, ()>) -> Option<u64> {
    let pointer = frame_pointer(registers);
    // It has to lie above the stack pointer: otherwise it is a number like any other.
    let end = pointer.checked_add(16).filter(|_| pointer >= registers.sp())?;
    let (outer, caller) = (read(pointer).ok()?, read(pointer + 8).ok()?);
    set(registers, caller, end, outer);
    Some(caller)
}

#[cfg(target_arch = "x86_64")]
fn frame_pointer(registers: &UnwindRegsNative) -> u64 {
    registers.bp()
}

#[cfg(target_arch = "x86_64")]
fn set(registers: &mut UnwindRegsNative, caller: u64, stack: u64, frame: u64) {
    registers.set_ip(caller);
    registers.set_sp(stack);
    registers.set_bp(frame);
}

#[cfg(target_arch = "aarch64")]
fn frame_pointer(registers: &UnwindRegsNative) -> u64 {
    registers.fp()
}

#[cfg(target_arch = "aarch64")]
fn set(registers: &mut UnwindRegsNative, caller: u64, stack: u64, frame: u64) {
    registers.set_lr(caller);
    registers.set_sp(stack);
    registers.set_fp(frame);
}

/// Adds what the kernel found by frame pointers. Nothing says whether it is whole.
pub(crate) fn follow(process: &Process, links: impl Iterator<Item = Link>, out: &mut Vec<Code>) {
    let mut is_first = true;
    for link in links {
        let Link::User(address) = link else { continue };
        // The instruction after a call may belong to the next function.
        let lookup = if is_first { address } else { address.saturating_sub(1) };
        is_first = false;
        if out.len() >= FRAMES_MAX {
            return;
        }
        out.push(match process.at(lookup) {
            Some(area) => match area.what {
                What::File(module, offset) => Code::File { module, offset: offset.wrapping_add(lookup - area.start) },
                What::Memory => Code::Made { program: process.program, address: lookup },
            },
            None => Code::Nowhere,
        });
    }
}

/// Adds the kernel's part of a chain.
pub(crate) fn kernel(links: impl Iterator<Item = Link>, out: &mut Vec<Code>) {
    let mut is_first = true;
    for link in links {
        let Link::Kernel(address) = link else { continue };
        out.push(Code::Kernel(if is_first { address } else { address.saturating_sub(1) }));
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Copied, FRAMES_MAX, Unwinder, Walked, follow, kernel};
    use crate::profile::modules::Modules;
    use crate::profile::process::{Area, Processes, What};
    use crate::profile::record::perf::Link;
    use crate::profile::stacks::Code;
    use crate::sys::perf::REGISTERS;

    /// A process with code in memory from 0x1000 to 0x2000.
    fn processes() -> Processes {
        let mut processes = Processes::default();
        processes.map(1, Area { start: 0x1000, end: 0x2000, what: What::Memory }, b"//anon");
        processes
    }

    #[test]
    fn links_of_the_kernel_come_first_and_return_addresses_are_of_the_call() {
        let links = [Link::Kernel(0x90), Link::Kernel(0x80), Link::User(0x1500), Link::User(0x1600), Link::User(0x5)];
        let (mut processes, mut codes) = (processes(), Vec::new());
        let process = processes.get(1);
        kernel(links.into_iter(), &mut codes);
        follow(process, links.into_iter(), &mut codes);
        let made = |address| Code::Made { program: process.program, address };
        assert_eq!(codes, [Code::Kernel(0x90), Code::Kernel(0x7f), made(0x1500), made(0x15ff), Code::Nowhere]);
    }

    /// Frame pointers as V8 keeps them: two callers, the outer one without any.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn made_code_is_followed_by_its_frame_pointer() {
        let stack: Vec<u8> = [7_u64, 0x7020, 0x1100, 9, 0, 0x1200].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (mut processes, mut codes) = (processes(), Vec::new());
        let copied = Copied { registers: [0x7008, 0x7000, 0x1050], stack: &stack };
        let walked = Unwinder::new().walk(processes.get(1), &mut Modules::default(), &copied, &mut codes);
        let addresses: Vec<u64> = codes
            .iter()
            .filter_map(|code| if let Code::Made { address, .. } = code { Some(*address) } else { None })
            .collect();
        assert_eq!((walked, addresses), (Walked::Whole, vec![0x1050, 0x10ff, 0x11ff]));
    }

    proptest! {
        #[test]
        fn arbitrary_stacks_have_an_end(
            registers in prop::array::uniform(0x0fff_u64..0x2008),
            words in prop::collection::vec(prop_oneof![0x0fff_u64..0x2008, any::<u64>()], 0..200),
            is_python in any::<bool>(),
        ) {
            let registers: [u64; REGISTERS.len()] = registers;
            let stack: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let (mut processes, mut codes) = (processes(), Vec::new());
            processes.get(1).is_python = is_python;
            Unwinder::new().walk(processes.get(1), &mut Modules::default(), &Copied { registers, stack: &stack }, &mut codes);
            prop_assert!(codes.len() <= FRAMES_MAX);
        }
    }
}
