//! Takes apart the records of the kernel's perf rings. Pure; bytes that make no sense end the reading.

use crate::sys::perf::{Callers, REGISTERS};

/// A record.
#[derive(Debug, PartialEq)]
pub(crate) enum Record<'a> {
    Sample(Sample<'a>),
    /// A file, or memory, was mapped to be executed.
    Mapped(Mapped<'a>),
    /// A process got a name; by execve, which makes it another program.
    Named {
        pid: u32,
        tid: u32,
        name: &'a [u8],
        by_exec: bool,
        at: u64,
    },
    /// A process or thread was started.
    Forked {
        pid: u32,
        parent: u32,
        tid: u32,
        at: u64,
    },
    Exited {
        pid: u32,
        tid: u32,
        at: u64,
    },
    /// A thread left its CPU or came back.
    Switched {
        pid: u32,
        tid: u32,
        out: bool,
        preempted: bool,
        at: u64,
    },
    /// So many records did not fit into the ring of this event.
    Lost {
        event: u64,
        count: u64,
    },
}

impl Record<'_> {
    /// When it was made, nanoseconds of the monotonic clock.
    pub(crate) fn at(&self) -> u64 {
        match self {
            Self::Sample(sample) => sample.at,
            Self::Mapped(mapped) => mapped.at,
            Self::Named { at, .. } | Self::Forked { at, .. } | Self::Exited { at, .. } | Self::Switched { at, .. } => {
                *at
            }
            Self::Lost { .. } => 0,
        }
    }
}

/// A sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample<'a> {
    /// Number of the event.
    pub(crate) event: u64,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) at: u64,
    /// Events since the sample before.
    pub(crate) period: u64,
    pub(crate) ip: u64,
    /// It was in the kernel.
    pub(crate) in_kernel: bool,
    /// What the kernel found, the innermost first, with marks of contexts between.
    pub(crate) chain: Chain<'a>,
    /// Data of the tracepoint.
    pub(crate) raw: &'a [u8],
    /// Of a program of 32 bits, whose system calls have other numbers.
    pub(crate) is_narrow: bool,
    /// Registers of the program, in the order of [`REGISTERS`]; none of a thread of the kernel.
    pub(crate) registers: Option<[u64; REGISTERS.len()]>,
    /// Copy of its stack, from the stack pointer on.
    pub(crate) stack: &'a [u8],
}

/// A mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Mapped<'a> {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// In the file.
    pub(crate) offset: u64,
    pub(crate) inode: u64,
    pub(crate) is_executable: bool,
    pub(crate) path: &'a [u8],
    pub(crate) at: u64,
}

/// Words of a call chain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Chain<'a>(&'a [u8]);

/// An address of a call chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Kernel(u64),
    User(u64),
}

/// `PERF_CONTEXT_MAX`: words from here on say whose the next addresses are.
const CONTEXT: u64 = -4095_i64 as u64;
const CONTEXT_KERNEL: u64 = -128_i64 as u64;
const CONTEXT_USER: u64 = -512_i64 as u64;

impl Chain<'_> {
    /// Its addresses, the innermost first.
    pub(crate) fn links(self) -> impl Iterator<Item = Link> {
        let mut whose: Option<fn(u64) -> Link> = None;
        self.0.as_chunks::<8>().0.iter().filter_map(move |word| match u64::from_ne_bytes(*word) {
            CONTEXT_KERNEL => {
                whose = Some(Link::Kernel);
                None
            }
            CONTEXT_USER => {
                whose = Some(Link::User);
                None
            }
            other if other >= CONTEXT => {
                whose = None;
                None
            }
            address => whose.map(|whose| whose(address)),
        })
    }
}

/// What an event puts into its samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) callers: Callers,
    pub(crate) raw: bool,
}

const LOST: u32 = 2;
const COMM: u32 = 3;
const EXIT: u32 = 4;
const FORK: u32 = 7;
const SAMPLE: u32 = 9;
const MMAP2: u32 = 10;
const LOST_SAMPLES: u32 = 13;
const SWITCH: u32 = 14;
const MISC_EXEC: u16 = 1 << 13;
const MISC_OUT: u16 = 1 << 13;
const MISC_PREEMPT: u16 = 1 << 14;
const MISC_MODE: u16 = 7;
const MODE_KERNEL: u16 = 1;
/// `PERF_SAMPLE_REGS_ABI_32`.
const NARROW: u64 = 1;
/// Kind, flags and size at the start of a record.
const HEADER: usize = 8;
/// Thread, time and number of the event at the end of every record that is no sample.
const TRAILER: usize = 24;

/// Bytes that are taken off one after the other.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// The first record of drained bytes and how many of them it takes; no record where it is of no kind that is known.
/// `form` says what the samples of an event have. Nothing at the end, also an untimely one.
pub(crate) fn first<'a>(bytes: &'a [u8], form: &impl Fn(u64) -> Option<Form>) -> Option<(usize, Option<Record<'a>>)> {
    let mut header = Bytes(bytes.get(..HEADER)?);
    let (kind, flags) = (header.u32()?, header.u32()?);
    let (misc, size) = (flags as u16, ((flags >> 16) as usize).max(HEADER));
    Some((size, one(kind, misc, bytes.get(HEADER..size)?, form)))
}

fn one<'a>(kind: u32, misc: u16, body: &'a [u8], form: &impl Fn(u64) -> Option<Form>) -> Option<Record<'a>> {
    if kind == SAMPLE {
        return sample(misc, body, form).map(Record::Sample);
    }
    if kind == LOST_SAMPLES {
        // Its own number is at the end of every record.
        let event = Bytes(body.get(body.len().checked_sub(8)?..)?).u64()?;
        return Some(Record::Lost { event, count: Bytes(body).u64()? });
    }
    let (body, trailer) = body.split_at_checked(body.len().checked_sub(TRAILER)?)?;
    let mut trailer = Bytes(trailer);
    let (own_pid, own_tid, at) = (trailer.u32()?, trailer.u32()?, trailer.u64()?);
    let mut body = Bytes(body);
    let text = |bytes: &'a [u8]| bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(match kind {
        LOST => {
            let event = body.u64()?;
            Record::Lost { event, count: body.u64()? }
        }
        COMM => {
            let (pid, tid) = (body.u32()?, body.u32()?);
            Record::Named { pid, tid, name: text(body.0), by_exec: misc & MISC_EXEC != 0, at }
        }
        FORK | EXIT => {
            let (pid, parent, tid) = (body.u32()?, body.u32()?, body.u32()?);
            if kind == FORK { Record::Forked { pid, parent, tid, at } } else { Record::Exited { pid, tid, at } }
        }
        MMAP2 => {
            let (pid, _tid) = (body.u32()?, body.u32()?);
            let (start, len, offset) = (body.u64()?, body.u64()?, body.u64()?);
            let (_device, inode, _generation) = (body.u64()?, body.u64()?, body.u64()?);
            let (protection, _flags) = (body.u32()?, body.u32()?);
            let is_executable = protection & libc::PROT_EXEC as u32 != 0;
            Record::Mapped(Mapped { pid, start, len, offset, inode, is_executable, path: text(body.0), at })
        }
        SWITCH => Record::Switched {
            pid: own_pid,
            tid: own_tid,
            out: misc & MISC_OUT != 0,
            preempted: misc & MISC_PREEMPT != 0,
            at,
        },
        _ => return None,
    })
}

fn sample<'a>(misc: u16, body: &'a [u8], form: &impl Fn(u64) -> Option<Form>) -> Option<Sample<'a>> {
    let mut body = Bytes(body);
    let event = body.u64()?;
    let form = form(event)?;
    let (ip, pid, tid, at, period) = (body.u64()?, body.u32()?, body.u32()?, body.u64()?, body.u64()?);
    let length = usize::try_from(body.u64()?).ok()?;
    let chain = Chain(body.take(length.checked_mul(8)?)?);
    let mut raw: &[u8] = &[];
    if form.raw {
        let length = body.u32()? as usize;
        raw = body.take(length)?;
    }
    let (mut registers, mut is_narrow, mut stack): (_, _, &[u8]) = (None, false, &[]);
    if matches!(form.callers, Callers::Stack(_)) {
        let abi = body.u64()?;
        is_narrow = abi == NARROW;
        if abi != 0 {
            let mut found = [0; REGISTERS.len()];
            for register in &mut found {
                *register = body.u64()?;
            }
            registers = Some(found);
        }
        let length = usize::try_from(body.u64()?).ok()?;
        if length > 0 {
            let copied = body.take(length)?;
            // How much of it is the program's, at the end.
            let real = usize::try_from(body.u64()?).ok()?;
            stack = copied.get(..real.min(length))?;
        }
    }
    let in_kernel = misc & MISC_MODE == MODE_KERNEL;
    Some(Sample { event, pid, tid, at, period, ip, in_kernel, chain, raw, is_narrow, registers, stack })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Form, Link, Record, first};
    use crate::sys::perf::Callers;

    fn each<'a>(bytes: &'a [u8], form: impl Fn(u64) -> Option<Form>, mut sink: impl FnMut(Record<'a>)) {
        let mut rest = bytes;
        while let Some((length, record)) = first(rest, &form) {
            record.into_iter().for_each(&mut sink);
            rest = &rest[length..];
        }
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
        let flags = u32::from(misc) | ((body.len() as u32 + 8) << 16);
        [&kind.to_ne_bytes()[..], &flags.to_ne_bytes(), body].concat()
    }

    fn both(low: u32, high: u32) -> u64 {
        u64::from(low) | u64::from(high) << 32
    }

    #[test]
    fn records_are_taken_apart_by_the_layout_of_the_manual() {
        let chain = [-128_i64 as u64, 0xffff_ffff_8000_0001, -512_i64 as u64, 0x4000];
        let sample =
            [&[7, 0x4000, both(10, 11), 99, 1_000_000, 4][..], &chain, &[2, 0xb, 0x5, 0x1], &[16, 0xaa, 0xbb, 8]]
                .concat();
        let name = [&words(&[both(10, 11)])[..], b"sleep\0\0\0", &words(&[both(10, 11), 5, 7])].concat();
        let bytes = [record(9, 1, &words(&sample)), record(3, 1 << 13, &name), record(13, 0, &words(&[3, 0, 0, 0]))];
        let mut seen = Vec::new();
        let form = |event| (event == 7).then_some(Form { callers: Callers::Stack(16), raw: false });
        each(&bytes.concat(), form, |record| match record {
            Record::Sample(sample) => {
                let links: Vec<Link> = sample.chain.links().collect();
                assert_eq!(links, [Link::Kernel(0xffff_ffff_8000_0001), Link::User(0x4000)]);
                assert_eq!((sample.pid, sample.tid, sample.at, sample.period), (10, 11, 99, 1_000_000));
                assert_eq!((sample.registers, sample.stack.len()), (Some([0xb, 0x5, 0x1]), 8));
                assert!(sample.in_kernel && !sample.is_narrow);
                seen.push("sample".to_owned());
            }
            other => seen.push(format!("{other:?}")),
        });
        let named = r#"Named { pid: 10, tid: 11, name: [115, 108, 101, 101, 112], by_exec: true, at: 5 }"#;
        assert_eq!(seen, ["sample", named, "Lost { event: 0, count: 3 }"]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end_the_reading(bytes in prop::collection::vec(any::<u8>(), 0..400), raw in any::<bool>()) {
            let form = |_| Some(Form { callers: Callers::Stack(8), raw });
            each(&bytes, form, |record| {
                if let Record::Sample(sample) = &record {
                    assert!(sample.chain.links().count() <= bytes.len());
                }
                assert!(record.at() < u64::MAX || bytes.len() > 8);
            });
            let wrapped = record(9, 0, &bytes);
            each(&wrapped, form, |_| {});
        }
    }
}
