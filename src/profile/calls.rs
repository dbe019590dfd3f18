//! System calls that move bytes, as the kernel's tracepoints tell of them: their beginning says which descriptor, their
//! end how much and how long, and has the stack. Every call is there, so the sums are exact where no record is lost. What
//! is not seen: files that are mapped, and what io_uring moves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use crate::model::profile::{Kind, List};
use crate::profile::descriptors::{Descriptors, Totals};
use crate::profile::inside::{self, CALLS};
use crate::profile::record::ladder::{Recording, Rung, Whom};
use crate::profile::record::perf::Sample;
use crate::profile::record::trace::{self, Field, Refused, Wanted, Whose};
use crate::sys::perf::{self, Callers};

/// Of a stack at a call: there are many more of them than samples of time.
const STACK: u32 = 8 << 10;
/// Calls a second of all CPUs for which the rings are emptied often enough.
const CALLS_EXPECTED: u64 = 100_000;
/// Threads in a call that are kept in mind.
const PENDING_MAX: usize = 65_536;
/// Most bytes of all rings together.
const RING_MAX: usize = 4 << 20;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Read,
    Write,
    Receive,
    Send,
    /// From the descriptor at one place of its arguments to that at another.
    Move { from: usize, to: usize },
    Sync,
    Connect,
    /// Makes a socket.
    Socket,
    /// Receives or sends several messages: how many, and not how much.
    Messages,
    /// Hands over a queue of calls that are not seen.
    Queue,
    Close,
    /// Closes all from the first to the second.
    CloseMany,
    /// Closes the second, if it is open.
    Onto,
}

const TABLE: &[(libc::c_long, Does)] = &[
    (libc::SYS_read, Does::Read),
    (libc::SYS_pread64, Does::Read),
    (libc::SYS_readv, Does::Read),
    (libc::SYS_preadv, Does::Read),
    (libc::SYS_preadv2, Does::Read),
    (libc::SYS_write, Does::Write),
    (libc::SYS_pwrite64, Does::Write),
    (libc::SYS_writev, Does::Write),
    (libc::SYS_pwritev, Does::Write),
    (libc::SYS_pwritev2, Does::Write),
    (libc::SYS_recvfrom, Does::Receive),
    (libc::SYS_recvmsg, Does::Receive),
    (libc::SYS_sendto, Does::Send),
    (libc::SYS_sendmsg, Does::Send),
    (libc::SYS_sendfile, Does::Move { from: 1, to: 0 }),
    (libc::SYS_copy_file_range, Does::Move { from: 0, to: 2 }),
    (libc::SYS_splice, Does::Move { from: 0, to: 2 }),
    (libc::SYS_fsync, Does::Sync),
    (libc::SYS_fdatasync, Does::Sync),
    (libc::SYS_sync_file_range, Does::Sync),
    (libc::SYS_syncfs, Does::Sync),
    (libc::SYS_connect, Does::Connect),
    (libc::SYS_socket, Does::Socket),
    (libc::SYS_accept, Does::Socket),
    (libc::SYS_accept4, Does::Socket),
    (libc::SYS_recvmmsg, Does::Messages),
    (libc::SYS_sendmmsg, Does::Messages),
    (libc::SYS_io_uring_enter, Does::Queue),
    (libc::SYS_close, Does::Close),
    (libc::SYS_close_range, Does::CloseMany),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_dup2, Does::Onto),
    (libc::SYS_dup3, Does::Onto),
];

fn does(number: u64) -> Option<Does> {
    TABLE.iter().find(|(one, _)| *one as u64 == number).map(|(_, does)| *does)
}

/// A thread in a call.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u64,
    args: [i32; 3],
    since: u64,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pid: u32,
    does: Does,
    args: [i32; 3],
    bytes: u64,
    ns: u64,
}

/// Where the fields of both tracepoints lie.
#[derive(Clone, Copy, Debug)]
struct Fields {
    enter: Field,
    args: Field,
    exit: Field,
    result: Field,
}

/// The calls of the profiled processes.
#[derive(Debug)]
pub(crate) struct Calls {
    fields: Fields,
    /// Events that are ends of calls; the others are beginnings.
    ends: HashSet<u64>,
    pending: HashMap<u32, Pending>,
    descriptors: Descriptors,
    /// By node.
    values: BTreeMap<u32, [u64; CALLS.len()]>,
    /// Calls whose beginning was not seen.
    halves: u64,
    /// Calls of programs of 32 bits.
    narrow: u64,
    messages: u64,
    queues: u64,
}

/// Listens to calls.
pub(crate) fn open(whom: Whom<'_>, children: bool) -> Result<Recording, Refused> {
    let (enter, exit) = (trace::find("raw_syscalls/sys_enter")?, trace::find("raw_syscalls/sys_exit")?);
    let fields =
        Fields { enter: enter.field("id")?, args: enter.field("args")?, exit: exit.field("id")?, result: exit.field("ret")? };
    let these: Vec<String> = TABLE.iter().map(|(number, _)| format!("id == {number}")).collect();
    let filter = Some(these.join(" || "));
    let wanted = [
        Wanted { number: enter.number, filter: filter.clone(), callers: Callers::None, track: false },
        Wanted { number: exit.number, filter, callers: Callers::Stack(STACK), track: true },
    ];
    let whose = match whom {
        Whom::Starting(pid) => Whose::Starting(pid),
        Whom::Running(tids) => Whose::Running(tids),
    };
    let opened = trace::open(&wanted, whose, children, RING_MAX)?;
    let ends = opened.which.iter().filter(|(_, place)| **place == 1).map(|(number, _)| *number).collect();
    let mut calls = Calls::new(fields, ends);
    if let Whom::Starting(pid) = whom {
        calls.know(pid);
    }
    Ok(Recording {
        rung: Rung::calls(),
        refused: Vec::new(),
        frequency: CALLS_EXPECTED,
        events: opened.events,
        rings: opened.rings,
        forms: opened.forms,
        leaving: HashSet::new(),
        ring_min: opened.ring_min,
        notes: Vec::new(),
        calls: Some(calls),
    })
}

/// What a descriptor is, and when that was known: after it was read, so that a doubt is decided against the name.
fn look(pid: u32, fd: i32) -> (Option<String>, u64) {
    let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
    (target.map(|path| path.to_string_lossy().into_owned()), perf::now())
}

impl Calls {
    fn new(fields: Fields, ends: HashSet<u64>) -> Self {
        Self {
            fields,
            ends,
            pending: HashMap::new(),
            descriptors: Descriptors::default(),
            values: BTreeMap::new(),
            halves: 0,
            narrow: 0,
            messages: 0,
            queues: 0,
        }
    }

    /// What a process has open.
    pub(crate) fn know(&mut self, pid: u32) {
        self.descriptors.know(pid, &look);
    }

    /// Takes a record; a call that has ended and has a stack comes out.
    pub(crate) fn take(&mut self, sample: &Sample<'_>) -> Option<Done> {
        let Fields { enter, args, exit, result } = self.fields;
        if !self.ends.contains(&sample.event) {
            if self.pending.len() < PENDING_MAX || self.pending.contains_key(&sample.tid) {
                let number = enter.value(sample.raw)?;
                // A descriptor is an int: the upper half of its register says nothing.
                let arg = |at| args.word(at, sample.raw).map(|word| word as i32);
                let args = [arg(0)?, arg(1)?, arg(2)?];
                self.pending.insert(sample.tid, Pending { number, args, since: sample.at });
            }
            return None;
        }
        let number = exit.value(sample.raw)?;
        let result = result.value(sample.raw)? as i64;
        let begun = self.pending.remove(&sample.tid).filter(|begun| begun.number == number);
        if sample.is_narrow {
            self.narrow += 1;
            return None;
        }
        let does = does(number)?;
        self.halves += u64::from(begun.is_none());
        let (args, since) = begun.map_or(([-1; 3], sample.at), |begun| (begun.args, begun.since));
        let fd = |value: i64| i32::try_from(value).ok().filter(|fd| *fd >= 0);
        match does {
            Does::Close => self.descriptors.closed(sample.pid, args[0], args[0], since),
            Does::CloseMany if result == 0 => {
                // Unsigned: up to the last one that can be.
                let last = if args[1] < 0 { i32::MAX } else { args[1] };
                self.descriptors.closed(sample.pid, args[0].max(0), last, since);
            }
            Does::Onto if result >= 0 && args[0] != args[1] => {
                self.descriptors.closed(sample.pid, args[1], args[1], since);
            }
            Does::CloseMany | Does::Onto => {}
            Does::Socket => {
                if let Some(fd) = fd(result) {
                    self.descriptors.made_socket(sample.pid, fd, &look);
                }
            }
            _ => {}
        }
        if matches!(does, Does::Close | Does::CloseMany | Does::Onto) {
            return None;
        }
        self.messages += u64::from(does == Does::Messages);
        self.queues += u64::from(does == Does::Queue);
        let moves = !matches!(does, Does::Sync | Does::Connect | Does::Socket | Does::Messages | Does::Queue);
        let bytes = if moves { u64::try_from(result).unwrap_or(0) } else { 0 };
        Some(Done { pid: sample.pid, does, args, bytes, ns: sample.at.saturating_sub(since) })
    }

    /// Adds a call at its place in the tree of stacks.
    pub(crate) fn add(&mut self, node: u32, done: &Done) {
        let Done { pid, does, args, bytes, ns } = *done;
        let row = self.values.entry(node).or_default();
        row[5] = row[5].saturating_add(ns);
        let is_sync = does == Does::Sync;
        row[4] += u64::from(is_sync);
        let (from, to) = match does {
            Does::Read | Does::Receive => (Some(args[0]), None),
            Does::Write | Does::Send => (None, Some(args[0])),
            Does::Move { from, to } => (Some(args[from]), Some(args[to])),
            Does::Sync | Does::Connect | Does::Messages | Does::Queue => {
                let totals = [0, 0, 1, ns, is_sync.into(), if is_sync { ns } else { 0 }];
                let is_socket = !matches!(does, Does::Sync | Does::Queue);
                self.descriptors.add(pid, args[0], is_socket, &totals, &look);
                return;
            }
            Does::Socket | Does::Close | Does::CloseMany | Does::Onto => return,
        };
        let is_socket = matches!(does, Does::Receive | Does::Send);
        for (fd, is_out) in [(from, false), (to, true)] {
            let Some(fd) = fd else { continue };
            // The time of a move is that of what it came from.
            let ns = if is_out && from.is_some() { 0 } else { ns };
            let totals: Totals = if is_out { [0, bytes, 1, ns, 0, 0] } else { [bytes, 0, 1, ns, 0, 0] };
            let is_socket = self.descriptors.add(pid, fd, is_socket, &totals, &look);
            let kind = usize::from(is_out) + if is_socket { 2 } else { 0 };
            row[kind] = row[kind].saturating_add(bytes);
        }
    }

    /// A process was started by another.
    pub(crate) fn forked(&mut self, parent: u32, pid: u32, at: u64) {
        if pid != parent {
            self.descriptors.forked(parent, pid, at);
        }
    }

    /// A process executes another program.
    pub(crate) fn replaced(&mut self, pid: u32, at: u64) {
        self.descriptors.replaced(pid, at);
    }

    /// A thread ended.
    pub(crate) fn ended(&mut self, pid: u32, tid: u32, at: u64) {
        self.pending.remove(&tid);
        if pid == tid {
            self.descriptors.ended(pid, at);
        }
    }

    /// The end: kinds, values of nodes, the table of files, and what is to be told.
    pub(crate) fn finish(mut self) -> (Vec<Kind>, Vec<(u32, Vec<u64>)>, List, Vec<String>) {
        let kinds = CALLS.iter().map(|(name, unit)| Kind { name: (*name).to_owned(), unit: *unit }).collect();
        let rows = self.descriptors.finish().into_iter().map(|(name, row)| (name, row.to_vec())).collect();
        let mut notes = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        };
        note(self.descriptors.nameless, "descriptors were closed before apm could read what they were: they have no names");
        note(self.halves, "calls whose beginning was not seen: their file and their time are unknown");
        note(self.narrow, "calls of programs of 32 bits are not counted");
        note(self.messages, "calls of recvmmsg and sendmmsg: the kernel tells how many messages, not how many bytes");
        note(self.queues, "calls of io_uring_enter: what io_uring moves is not in the stacks");
        let values = std::mem::take(&mut self.values).into_iter().map(|(node, row)| (node, row.to_vec())).collect();
        (kinds, values, inside::files(rows), notes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::{Calls, Fields, TABLE, does};
    use crate::profile::record::perf::Sample;
    use crate::profile::record::trace::Format;

    const ENTER: u64 = 1;
    const EXIT: u64 = 2;
    /// Of nobody: what it has open is not to be found.
    const NOBODY: u32 = 4_194_900;

    fn calls() -> Calls {
        let line = |name: &str, offset, size| format!("\tfield:long {name};\toffset:{offset};\tsize:{size};\tsigned:1;\n");
        let text = format!("ID: 1\n{}{}{}", line("id", 0, 8), line("args[6]", 8, 48), line("ret", 8, 8));
        let format = Format::parse(&text).expect("a format");
        let field = |name| format.field(name).expect("a field");
        let fields = Fields { enter: field("id"), args: field("args"), exit: field("id"), result: field("ret") };
        Calls::new(fields, HashSet::from([EXIT]))
    }

    fn bytes(words: &[i64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn call(calls: &mut Calls, number: libc::c_long, args: [i64; 3], result: i64) {
        let raw = bytes(&[number, args[0], args[1], args[2], 0, 0, 0]);
        let sample = |event, at, raw| Sample { event, pid: NOBODY, tid: NOBODY, at, raw, ..Sample::default() };
        assert!(calls.take(&sample(ENTER, 100, &raw)).is_none());
        if let Some(done) = calls.take(&sample(EXIT, 130, &bytes(&[number, result]))) {
            calls.add(7, &done);
        }
    }

    #[test]
    fn bytes_are_those_of_the_result_and_of_the_kind_of_the_descriptor() {
        let mut calls = calls();
        call(&mut calls, libc::SYS_read, [3, 0, 100], 60);
        call(&mut calls, libc::SYS_write, [4, 0, 100], -11);
        call(&mut calls, libc::SYS_pwrite64, [4, 0, 100], 100);
        call(&mut calls, libc::SYS_fsync, [4, 0, 0], 0);
        call(&mut calls, libc::SYS_socket, [2, 1, 0], 5);
        call(&mut calls, libc::SYS_write, [5, 0, 9], 9);
        call(&mut calls, libc::SYS_recvfrom, [5, 0, 9], 8);
        call(&mut calls, libc::SYS_sendfile, [5, 3, 0], 1000);
        call(&mut calls, libc::SYS_close, [5, 0, 0], 0);
        call(&mut calls, libc::SYS_write, [5, 0, 9], 1);
        let (_, values, files, _) = calls.finish();
        assert_eq!(values, [(7, vec![1060, 101, 8, 1009, 1, 9 * 30])]);
        let row = |fd: i32| files.rows.iter().filter(|(name, _)| name.contains(&format!(" {fd} "))).map(|(_, row)| row.clone());
        assert_eq!(row(3).collect::<Vec<_>>(), [[1060, 0, 2, 60, 0, 0]]);
        assert_eq!(row(4).collect::<Vec<_>>(), [[0, 100, 3, 90, 1, 30]]);
    }

    #[test]
    fn a_call_is_in_the_table_once() {
        let numbers: HashSet<_> = TABLE.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers.len(), does(u64::MAX)), (TABLE.len(), None));
    }

    proptest! {
        #[test]
        fn no_record_is_a_panic(records in prop::collection::vec(
            (1_u64..3, 0_usize..TABLE.len(), any::<[i64; 3]>(), any::<u64>(), 0_usize..56), 0..40)) {
            let mut calls = calls();
            for (event, which, args, at, length) in &records {
                let raw = bytes(&[TABLE[*which].0, args[0], args[1], args[2], 0, 0, 0]);
                let sample = Sample { event: *event, pid: NOBODY, tid: 1, at: *at, raw: &raw[..*length], ..Sample::default() };
                if let Some(done) = calls.take(&sample) {
                    calls.add(0, &done);
                }
                calls.forked(NOBODY, NOBODY + 1, *at);
                calls.replaced(NOBODY, *at);
            }
            calls.finish();
        }
    }
}
