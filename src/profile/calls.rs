//! System calls that move bytes, as the kernel's tracepoints tell of them: their beginning says which descriptor, their
//! end how much and how long. Stacks come apart, through a ring of their own: they are a hundred times as large, and where
//! there are too many of them the sums stay exact, and what there is of stacks is brought to these sums. What is not seen:
//! files that are mapped, and what io_uring moves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use crate::model::profile::{Kind, List};
use crate::profile::descriptors::{Descriptors, Totals};
use crate::profile::files::{self, CALLS};
use crate::profile::record::perf::Sample;
use crate::profile::record::sampler::{Recording, Sampler, Target};
use crate::profile::record::trace::{self, Field, Refused, Wanted, Whose};
use crate::profile::stacks::Spot;
use crate::sys::perf::{self, Callers};

/// Of a stack at a call: there are many more of them than samples of time.
const STACK: u32 = 8 << 10;
/// Calls a second of all CPUs for which the rings are emptied often enough.
const CALLS_EXPECTED: u64 = 100_000;
/// Threads in a call that are kept in mind.
const PENDING_MAX: usize = 65_536;
/// Bytes of a CPU's ring of sums and of that of stacks.
const RINGS: [usize; 2] = [2 << 20, 8 << 20];
/// Values of nodes that are kept.
const VALUES_MAX: usize = 1 << 20;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Read,
    Write,
    Receive,
    Send,
    /// From the descriptor at one place of its arguments to that at another.
    Move {
        from: usize,
        to: usize,
    },
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

impl Does {
    /// Its stack is of interest: it moves something, or may wait.
    fn has_stack(self) -> bool {
        !matches!(self, Self::Close | Self::CloseMany | Self::Onto)
    }

    fn is_of_sockets(self) -> bool {
        matches!(self, Self::Receive | Self::Send)
    }

    /// The descriptors that bytes come from and go to; the second is an end of the latter kind.
    fn ends(self, args: &[i32; 3]) -> [Option<(i32, bool)>; 2] {
        match self {
            Self::Read | Self::Receive => [Some((args[0], false)), None],
            Self::Write | Self::Send => [Some((args[0], true)), None],
            Self::Move { from, to } => {
                let arg = |at: usize| args.get(at).copied().unwrap_or(-1);
                [Some((arg(from), false)), Some((arg(to), true))]
            }
            _ => [None, None],
        }
    }

    fn moves(self) -> bool {
        self.has_stack() && !matches!(self, Self::Sync | Self::Connect | Self::Socket | Self::Messages | Self::Queue)
    }
}

/// What a call does, and its place in the table.
fn does(number: u64) -> Option<(u8, Does)> {
    let place = TABLE.iter().position(|(one, _)| *one as u64 == number)?;
    Some((u8::try_from(place).ok()?, TABLE.get(place)?.1))
}

/// Calls that are like each other: of one number, and of about the same size. Where stacks are missing those that are there
/// stand for their like: a burst of small calls that lost some says nothing of large ones.
type Class = (u8, u32);

/// A thread in its last call. It stays until the next one: who comes for its end comes twice.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u64,
    args: [i32; 3],
    since: u64,
}

/// In the order of [`CALLS`].
type Values = [u64; CALLS.len()];

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pid: u32,
    class: Class,
    does: Does,
    args: [i32; 3],
    result: i64,
    since: u64,
    bytes: u64,
    ns: u64,
    is_whole: bool,
}

/// What an event of tracepoints tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    Begin,
    End,
    Stack,
}

/// Where the fields of both tracepoints lie.
#[derive(Clone, Copy, Debug)]
struct Fields {
    enter: Field,
    args: Field,
    exit: Field,
    result: Field,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) values: Vec<(Spot, Vec<u64>)>,
    pub(crate) files: List,
    pub(crate) notes: Vec<String>,
}

/// The calls of the profiled processes.
#[derive(Debug)]
pub(crate) struct Calls {
    fields: Fields,
    events: HashMap<u64, Tells>,
    pending: HashMap<u32, Pending>,
    descriptors: Descriptors,
    /// Of all calls.
    sums: BTreeMap<Class, Values>,
    /// Of those with a stack.
    values: BTreeMap<(Spot, Class), Values>,
    /// Calls whose beginning was not seen.
    halves: u64,
    /// Calls of programs of 32 bits.
    narrow: u64,
    messages: u64,
    queues: u64,
}

/// Whether the kernel tells this user of calls. Only the attempt knows.
pub(crate) fn are_told() -> Result<(), Refused> {
    open(Target::Running(&[std::process::id()]), false).map(drop)
}

/// Opens the tracepoints of calls: the events, and what makes calls of their records.
pub(crate) fn open(target: Target<'_>, children: bool) -> Result<(Recording, Calls), Refused> {
    let (enter, exit) = (trace::find("raw_syscalls/sys_enter")?, trace::find("raw_syscalls/sys_exit")?);
    let fields = Fields {
        enter: enter.field("id")?,
        args: enter.field("args")?,
        exit: exit.field("id")?,
        result: exit.field("ret")?,
    };
    let these = |wanted: fn(Does) -> bool| {
        let these = TABLE.iter().filter(|(_, does)| wanted(*does)).map(|(number, _)| format!("id == {number}"));
        Some(these.collect::<Vec<_>>().join(" || "))
    };
    let small = |number, track| Wanted { number, filter: these(|_| true), callers: Callers::None, track, ring: 0 };
    let (callers, filter) = (Callers::Stack(STACK), these(Does::has_stack));
    let wanted = [
        small(enter.number, true),
        small(exit.number, false),
        Wanted { number: exit.number, filter, callers, track: false, ring: 1 },
    ];
    let whose = match target {
        Target::Starting(pid) => Whose::Starting(pid),
        Target::Running(tids) => Whose::Running(tids),
    };
    let opened = trace::open(&wanted, whose, children, &RINGS)?;
    let tells = [Tells::Begin, Tells::End, Tells::Stack];
    let events = opened.which.iter().filter_map(|(number, place)| Some((*number, *tells.get(*place)?))).collect();
    let mut calls = Calls::new(fields, events);
    if let Target::Starting(pid) = target {
        calls.know(pid);
    }
    let recording = Recording {
        sampler: Sampler::calls(),
        refused: Vec::new(),
        frequency: CALLS_EXPECTED,
        events: opened.events,
        rings: opened.rings,
        forms: opened.forms,
        leaving: HashSet::new(),
        ring_min: opened.ring_min,
        notes: Vec::new(),
    };
    Ok((recording, calls))
}

/// What a descriptor is, and when that was known: after it was read, so that a doubt is decided against the name.
fn look(pid: u32, fd: i32) -> (Option<String>, u64) {
    let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
    (target.map(|path| path.to_string_lossy().into_owned()), perf::now())
}

impl Calls {
    fn new(fields: Fields, events: HashMap<u64, Tells>) -> Self {
        Self {
            fields,
            events,
            pending: HashMap::new(),
            descriptors: Descriptors::default(),
            sums: BTreeMap::new(),
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

    /// Takes a record; a call comes out that has a stack.
    pub(crate) fn take(&mut self, sample: &Sample<'_>) -> Option<Done> {
        match self.events.get(&sample.event)? {
            Tells::Begin => self.begin(sample)?,
            Tells::End => {
                let done = self.done(sample)?;
                self.count(&done);
            }
            Tells::Stack if sample.is_narrow => self.narrow += 1,
            Tells::Stack => return self.done(sample),
        }
        None
    }

    fn begin(&mut self, sample: &Sample<'_>) -> Option<()> {
        let Fields { enter, args, .. } = self.fields;
        if self.pending.len() < PENDING_MAX || self.pending.contains_key(&sample.tid) {
            let number = enter.value(sample.raw)?;
            // A descriptor is an int: the upper half of its register says nothing.
            let arg = |at| args.word(at, sample.raw).map(|word| word as i32);
            let args = [arg(0)?, arg(1)?, arg(2)?];
            self.pending.insert(sample.tid, Pending { number, args, since: sample.at });
        }
        Some(())
    }

    fn done(&self, sample: &Sample<'_>) -> Option<Done> {
        let Fields { exit, result, .. } = self.fields;
        let number = exit.value(sample.raw)?;
        let result = result.value(sample.raw)? as i64;
        let (place, does) = does(number)?;
        let begun = self.pending.get(&sample.tid).filter(|begun| begun.number == number);
        let (args, since) = begun.map_or(([-1; 3], sample.at), |begun| (begun.args, begun.since));
        let bytes = if does.moves() { u64::try_from(result).unwrap_or(0) } else { 0 };
        let ns = sample.at.saturating_sub(since);
        let class = (place, bytes.checked_ilog2().map_or(0, |power| power + 1));
        Some(Done { pid: sample.pid, class, does, args, result, since, bytes, ns, is_whole: begun.is_some() })
    }

    /// Adds a call to the sums, and keeps up with what is closed.
    fn count(&mut self, done: &Done) {
        let Done { pid, does, args, result, since, bytes, ns, is_whole, .. } = *done;
        self.halves += u64::from(!is_whole);
        let is_sync = does == Does::Sync;
        match does {
            Does::Close => self.descriptors.closed(pid, args[0], args[0], since),
            Does::CloseMany if result == 0 => {
                // Unsigned: up to the last one that can be.
                let last = if args[1] < 0 { i32::MAX } else { args[1] };
                self.descriptors.closed(pid, args[0].max(0), last, since);
            }
            Does::Onto if result >= 0 && args[0] != args[1] => self.descriptors.closed(pid, args[1], args[1], since),
            Does::CloseMany | Does::Onto => {}
            Does::Socket => {
                if let Ok(fd) = i32::try_from(result) {
                    self.descriptors.made_socket(pid, fd, &look);
                }
            }
            Does::Sync | Does::Connect | Does::Messages | Does::Queue => {
                self.messages += u64::from(does == Does::Messages);
                self.queues += u64::from(does == Does::Queue);
                let totals = [0, 0, 1, ns, is_sync.into(), if is_sync { ns } else { 0 }];
                let is_socket = !matches!(does, Does::Sync | Does::Queue);
                self.descriptors.add(pid, args[0], is_socket, &totals, &look);
            }
            Does::Read | Does::Write | Does::Receive | Does::Send | Does::Move { .. } => {
                let ends = does.ends(&args);
                for (at, (fd, is_out)) in ends.iter().copied().flatten().enumerate() {
                    // The time of a move is that of what it came from.
                    let ns = if at > 0 { 0 } else { ns };
                    let totals: Totals = if is_out { [0, bytes, 1, ns, 0, 0] } else { [bytes, 0, 1, ns, 0, 0] };
                    self.descriptors.add(pid, fd, does.is_of_sockets(), &totals, &look);
                }
            }
        }
        if does.has_stack() {
            let row = self.row(done);
            add(self.sums.entry(done.class).or_default(), &row);
        }
    }

    /// Adds a call at its place in the tree of stacks.
    pub(crate) fn add(&mut self, spot: Spot, done: &Done) {
        let row = self.row(done);
        let key = (spot, done.class);
        if self.values.len() < VALUES_MAX || self.values.contains_key(&key) {
            add(self.values.entry(key).or_default(), &row);
        }
    }

    /// The values of one call.
    fn row(&self, done: &Done) -> Values {
        let mut row = Values::default();
        row[4] = u64::from(done.does == Does::Sync);
        row[5] = done.ns;
        for (fd, is_out) in done.does.ends(&done.args).into_iter().flatten() {
            let is_socket = done.does.is_of_sockets() || self.descriptors.is_socket(done.pid, fd);
            row[usize::from(is_out) + if is_socket { 2 } else { 0 }] = done.bytes;
        }
        row
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

    /// Values by place: where stacks are missing, those that are there stand for all of their class.
    fn calibrated(&self) -> BTreeMap<Spot, Values> {
        let mut there: BTreeMap<Class, Values> = BTreeMap::new();
        self.values.iter().for_each(|((_, class), row)| add(there.entry(*class).or_default(), row));
        let none = Values::default();
        let mut found: BTreeMap<Spot, Values> = BTreeMap::new();
        for ((spot, class), values) in &self.values {
            let (all, there) = (self.sums.get(class).unwrap_or(&none), there.get(class).unwrap_or(&none));
            let row = std::array::from_fn(|at| match (all[at], there[at]) {
                (all, there) if all > there && there > 0 => {
                    (values[at] as f64 * (all as f64 / there as f64)).round() as u64
                }
                _ => values[at],
            });
            add(found.entry(*spot).or_default(), &row);
        }
        found
    }

    /// The end. `lost` says how many records were, by event.
    pub(crate) fn finish(mut self, lost: &HashMap<u64, u64>) -> Counted {
        let kinds = CALLS.iter().map(|(name, unit)| Kind { name: (*name).to_owned(), unit: *unit }).collect();
        let rows = self.descriptors.finish().into_iter().map(|(name, row)| (name, row.to_vec())).collect();
        let mut notes = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        };
        note(
            self.descriptors.nameless,
            "descriptors were closed before apm could read what they were: they have no names",
        );
        note(self.halves, "calls whose beginning was not seen: their file and their time are unknown");
        note(self.narrow, "calls of programs of 32 bits are not counted");
        note(self.messages, "calls of recvmmsg and sendmmsg: the kernel tells how many messages, not how many bytes");
        note(self.queues, "calls of io_uring_enter: what io_uring moves is not in the stacks");
        let lost_of = |is: fn(Tells) -> bool| {
            let these = lost.iter().filter(|(event, _)| self.events.get(event).is_some_and(|tells| is(*tells)));
            these.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
        };
        let (stacks, sums) = (lost_of(|tells| tells == Tells::Stack), lost_of(|tells| tells != Tells::Stack));
        note(stacks, "stacks of calls were lost: those that are there are brought to the sums of all calls");
        note(sums, "calls were lost: bytes of stacks and of files are too low, those of processes are not");
        let values = self.calibrated().into_iter().map(|(spot, row)| (spot, row.to_vec())).collect();
        Counted { kinds, values, files: files::table(rows), notes }
    }
}

fn add(sum: &mut Values, more: &Values) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::{Calls, Counted, Fields, TABLE, Tells, does};
    use crate::profile::record::perf::Sample;
    use crate::profile::record::trace::Format;

    const ENTER: u64 = 1;
    const EXIT: u64 = 2;
    const STACK: u64 = 3;
    /// Of nobody: what it has open is not to be found.
    const NOBODY: u32 = 4_194_900;

    fn calls() -> Calls {
        let line =
            |name: &str, offset, size| format!("\tfield:long {name};\toffset:{offset};\tsize:{size};\tsigned:1;\n");
        let text = format!("ID: 1\n{}{}{}", line("id", 0, 8), line("args[6]", 8, 48), line("ret", 8, 8));
        let format = Format::parse(&text).expect("a format");
        let field = |name| format.field(name).expect("a field");
        let fields = Fields { enter: field("id"), args: field("args"), exit: field("id"), result: field("ret") };
        Calls::new(fields, HashMap::from([(ENTER, Tells::Begin), (EXIT, Tells::End), (STACK, Tells::Stack)]))
    }

    fn bytes(words: &[i64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn see(calls: &mut Calls, event: u64, at: u64, words: &[i64]) -> Option<super::Done> {
        calls.take(&Sample { event, pid: NOBODY, tid: NOBODY, at, raw: &bytes(words), ..Sample::default() })
    }

    fn call(calls: &mut Calls, number: libc::c_long, args: [i64; 3], result: i64) {
        assert!(see(calls, ENTER, 100, &[number, args[0], args[1], args[2], 0, 0, 0]).is_none());
        assert!(see(calls, EXIT, 130, &[number, result]).is_none());
        // The kernel does not make stacks of the others.
        let has_stack = does(number as u64).is_some_and(|(_, does)| does.has_stack());
        if let Some(done) = see(calls, STACK, 130, &[number, result]).filter(|_| has_stack) {
            calls.add((7, 1), &done);
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
        let Counted { values, files, .. } = calls.finish(&HashMap::new());
        assert_eq!(values, [((7, 1), vec![1060, 101, 8, 1009, 1, 9 * 30])]);
        let row = |fd: i32| {
            files.rows.iter().filter(move |(name, _)| name.contains(&format!(" {fd} "))).map(|(_, row)| row.clone())
        };
        assert_eq!(row(3).collect::<Vec<_>>(), [[1060, 0, 2, 60, 0, 0]]);
        assert_eq!(row(4).collect::<Vec<_>>(), [[0, 100, 3, 90, 1, 30]]);
    }

    #[test]
    fn stacks_that_are_there_stand_for_those_that_were_lost() {
        let mut calls = calls();
        call(&mut calls, libc::SYS_write, [4, 0, 100], 100);
        // Its stack is missing.
        see(&mut calls, ENTER, 100, &[libc::SYS_write, 4, 0, 0, 0, 0, 0]);
        see(&mut calls, EXIT, 130, &[libc::SYS_write, 101]);
        // Of its like there is one stack; others stay as they are.
        call(&mut calls, libc::SYS_write, [4, 0, 0], 50_000);
        call(&mut calls, libc::SYS_read, [4, 0, 0], 100);
        let Counted { values, files, notes, .. } = calls.finish(&HashMap::from([(STACK, 1)]));
        assert_eq!((&values[0].1[..2], files.rows[0].1[1]), (&[100, 50_201][..], 50_201));
        assert!(notes.iter().any(|note| note.starts_with("1 stacks of calls were lost")), "{notes:?}");
    }

    #[test]
    fn a_call_is_in_the_table_once() {
        let numbers: HashSet<_> = TABLE.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers.len(), does(u64::MAX)), (TABLE.len(), None));
    }

    proptest! {
        #[test]
        fn no_record_is_a_panic(records in prop::collection::vec(
            (1_u64..5, 0_usize..TABLE.len(), any::<[i64; 3]>(), any::<u64>(), 0_usize..56), 0..40)) {
            let mut calls = calls();
            for (event, which, args, at, length) in &records {
                let raw = bytes(&[TABLE[*which].0, args[0], args[1], args[2], 0, 0, 0]);
                let sample = Sample { event: *event, pid: NOBODY, tid: 1, at: *at, raw: &raw[..*length], ..Sample::default() };
                if let Some(done) = calls.take(&sample) {
                    calls.add((0, 0), &done);
                }
                calls.forked(NOBODY, NOBODY + 1, *at);
                calls.replaced(NOBODY, *at);
            }
            calls.finish(&HashMap::from([(2, u64::MAX), (1, u64::MAX)]));
        }
    }
}
