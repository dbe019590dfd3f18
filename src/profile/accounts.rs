//! Which process read and wrote how many bytes itself. The kernel adds what a process did to its parent's /proc/PID/io when
//! the parent reaps it, and what a thread did to its process's when the thread ends (proc_pid_io(5)); both happen between
//! two looks, so the last bytes of a child are known from its parent only.
//!
//! Of a process, `whole` is that file, and `threads` the same of each of its threads. What is in the whole and in no thread
//! is of threads that ended and of children that were reaped: the pool. What the pool grew by between two looks, less what
//! was last seen of those that are gone, is what they did after that look.

use std::collections::BTreeMap;

/// Generations of processes that may end between two looks.
const DEPTH_MAX: usize = 64;

/// /proc/PID/io.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Io {
    /// What its calls read and wrote, bytes.
    pub(crate) read: u64,
    pub(crate) written: u64,
    /// Those calls.
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// From and to storage, bytes.
    pub(crate) stored_read: u64,
    pub(crate) stored_written: u64,
}

impl Io {
    pub(crate) fn parse(text: &str) -> Self {
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
        };
        Self {
            read: of("rchar"),
            written: of("wchar"),
            reads: of("syscr"),
            writes: of("syscw"),
            stored_read: of("read_bytes"),
            stored_written: of("write_bytes"),
        }
    }

    fn fields(self) -> [u64; 6] {
        [self.read, self.written, self.reads, self.writes, self.stored_read, self.stored_written]
    }

    fn with(self, other: Self, each: fn(u64, u64) -> u64) -> Self {
        let (one, other) = (self.fields(), other.fields());
        let [read, written, reads, writes, stored_read, stored_written] =
            std::array::from_fn(|at| each(one[at], other[at]));
        Self { read, written, reads, writes, stored_read, stored_written }
    }

    pub(crate) fn less(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }
}

/// A process at one look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) whole: Io,
    /// Of each thread, by its number; nothing where there are too many to be looked at.
    pub(crate) threads: Option<Vec<(u32, Io)>>,
}

#[derive(Clone, Debug, Default)]
struct Account {
    parent: u32,
    /// Before the recording.
    first: Io,
    whole: Io,
    threads: Option<BTreeMap<u32, Io>>,
    /// What is in the whole and was done by children.
    of_children: Io,
    /// What it did after it was last seen, as its parent's pool shows.
    late: Io,
    /// What was done below it by several that ended between two looks, or by some that were never seen.
    unseen: Io,
    is_gone: bool,
}

impl Account {
    fn pool(&self) -> Option<Io> {
        let threads = self.threads.as_ref()?;
        Some(threads.values().fold(self.whole, |left, thread| left.less(*thread)))
    }
}

/// All processes of a recording.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    all: BTreeMap<u32, Account>,
}

impl Accounts {
    /// A process that was there before, or did something for apm before it became the program: what it has done so far is
    /// not counted.
    pub(crate) fn begin(&mut self, reading: Reading) {
        let first = reading.whole;
        let account = self.all.entry(reading.pid).or_default();
        (account.parent, account.first, account.whole) = (reading.parent, first, first);
        account.threads = reading.threads.map(|threads| threads.into_iter().collect());
    }

    /// Takes what all processes have done so far. `is_there`: a process that is not among them may have been adopted.
    pub(crate) fn look(&mut self, now: Vec<Reading>, is_there: impl Fn(u32) -> bool) {
        let seen: std::collections::BTreeSet<u32> = now.iter().map(|reading| reading.pid).collect();
        let gone: Vec<u32> = self
            .all
            .iter()
            .filter(|(pid, account)| !account.is_gone && !seen.contains(pid) && !is_there(**pid))
            .map(|(pid, _)| *pid)
            .collect();
        for reading in now {
            self.take(reading, &gone);
        }
        for pid in gone {
            if let Some(account) = self.all.get_mut(&pid) {
                account.is_gone = true;
            }
        }
    }

    fn take(&mut self, reading: Reading, gone: &[u32]) {
        let ended = self.below(reading.pid, gone);
        let of_ended =
            ended.iter().filter_map(|pid| self.all.get(pid)).fold(Io::default(), |sum, it| sum.and(it.whole));
        // One that is new has nothing in its pool, and may have reaped children before its first look.
        let new = || Account { threads: Some(BTreeMap::new()), ..Account::default() };
        let before = self.all.entry(reading.pid).or_insert_with(new);
        let threads: Option<BTreeMap<u32, Io>> = reading.threads.map(|threads| threads.into_iter().collect());
        let after = Account { whole: reading.whole, threads, parent: reading.parent, ..before.clone() };
        let (Some(pool), Some(pool_before)) = (after.pool(), before.pool()) else {
            // Nothing tells its own threads from its children: these did at least what was seen of them.
            let of_children = after.of_children.and(of_ended);
            *before = Account { of_children, ..after };
            return;
        };
        let ended_threads: Vec<Io> = match (&before.threads, &after.threads) {
            (Some(old), Some(new)) => old.iter().filter(|(tid, _)| !new.contains_key(tid)).map(|(_, io)| *io).collect(),
            _ => Vec::new(),
        };
        let of_threads = ended_threads.iter().fold(Io::default(), |sum, io| sum.and(*io));
        let growth = pool.less(pool_before);
        let rest = growth.less(of_threads).less(of_ended);
        // Whoever ended last did it: a process that had started another waited for that one, most likely.
        let leaves: Vec<u32> = ended.iter().copied().filter(|pid| self.below(*pid, gone).is_empty()).collect();
        let only_threads = ended.is_empty() && !ended_threads.is_empty();
        let own = if only_threads { of_threads.and(rest) } else { of_threads };
        let mut after = Account { of_children: after.of_children.and(growth.less(own)), ..after };
        match leaves[..] {
            _ if only_threads => {}
            [leaf] if ended_threads.is_empty() => {
                if let Some(leaf) = self.all.get_mut(&leaf) {
                    leaf.late = leaf.late.and(rest);
                }
            }
            _ => after.unseen = after.unseen.and(rest),
        }
        self.all.insert(reading.pid, after);
    }

    /// Those of some processes that a process has started, or that these have.
    fn below(&self, pid: u32, among: &[u32]) -> Vec<u32> {
        let is_below = |one: &u32| {
            let mut parent = self.all.get(one).map(|account| account.parent);
            for _ in 0..DEPTH_MAX {
                match parent {
                    Some(parent) if parent == pid => return true,
                    // One between them that lives has reaped it, or will.
                    Some(between) if !among.contains(&between) => return false,
                    Some(between) => parent = self.all.get(&between).map(|account| account.parent),
                    None => return false,
                }
            }
            false
        };
        among.iter().copied().filter(is_below).collect()
    }

    /// Whether the kernel has told what a process did.
    pub(crate) fn is_known(&self, pid: u32) -> bool {
        self.all.contains_key(&pid)
    }

    /// What a process did itself.
    pub(crate) fn own(&self, pid: u32) -> Io {
        let of = |account: &Account| account.whole.less(account.first).less(account.of_children).and(account.late);
        self.all.get(&pid).map(of).unwrap_or_default()
    }

    /// What was done below it and cannot be told apart.
    pub(crate) fn unseen(&self, pid: u32) -> Io {
        self.all.get(&pid).map(|account| account.unseen).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Accounts, Io, Reading};

    fn io(written: u64) -> Io {
        Io { written, ..Io::default() }
    }

    fn reading(pid: u32, parent: u32, whole: u64, threads: &[(u32, u64)]) -> Reading {
        let threads = threads.iter().map(|(tid, written)| (*tid, io(*written))).collect();
        Reading { pid, parent, whole: io(whole), threads: Some(threads) }
    }

    fn look(accounts: &mut Accounts, now: Vec<Reading>) {
        accounts.look(now, |_| false);
    }

    #[test]
    fn the_file_of_the_kernel_is_read_by_its_names() {
        let text =
            "rchar: 5\nwchar: 6\nsyscr: 1\nsyscw: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n";
        let io = Io { read: 5, written: 6, reads: 1, writes: 2, stored_read: 4096, stored_written: 8192 };
        assert_eq!((Io::parse(text), Io::parse("garbage")), (io, Io::default()));
    }

    /// Regression: the shell had the bytes that its child wrote after the last look, and the child none.
    #[test]
    fn bytes_of_a_reaped_child_stay_with_it() {
        let mut accounts = Accounts::default();
        look(&mut accounts, vec![reading(1, 0, 3, &[(1, 3)]), reading(2, 1, 10, &[(2, 10)])]);
        // It wrote 54 more and was reaped.
        look(&mut accounts, vec![reading(1, 0, 69, &[(1, 5)])]);
        assert_eq!((accounts.own(1), accounts.own(2), accounts.unseen(1)), (io(5), io(64), io(0)));
    }

    #[test]
    fn grandchildren_that_end_with_their_parent_keep_theirs() {
        let mut accounts = Accounts::default();
        let all = vec![reading(1, 0, 0, &[(1, 0)]), reading(2, 1, 7, &[(2, 7)]), reading(3, 2, 20, &[(3, 20)])];
        look(&mut accounts, all);
        look(&mut accounts, vec![reading(1, 0, 107, &[(1, 0)])]);
        assert_eq!([1, 2, 3].map(|pid| accounts.own(pid).written), [0, 7, 100]);
        // One that was reaped by a parent that lives is not its grandparent's.
        let mut accounts = Accounts::default();
        let all = vec![reading(1, 0, 0, &[(1, 0)]), reading(2, 1, 7, &[(2, 7)]), reading(3, 2, 20, &[(3, 20)])];
        look(&mut accounts, all);
        look(&mut accounts, vec![reading(1, 0, 0, &[(1, 0)]), reading(2, 1, 107, &[(2, 7)])]);
        assert_eq!([1, 2, 3].map(|pid| accounts.own(pid).written), [0, 7, 100]);
    }

    #[test]
    fn those_that_cannot_be_told_apart_share_what_they_did() {
        let mut accounts = Accounts::default();
        let all = vec![reading(1, 0, 0, &[(1, 0)]), reading(2, 1, 7, &[(2, 7)]), reading(3, 1, 8, &[(3, 8)])];
        look(&mut accounts, all);
        look(&mut accounts, vec![reading(1, 0, 115, &[(1, 0)])]);
        assert_eq!([1, 2, 3].map(|pid| accounts.own(pid).written), [0, 7, 8]);
        assert_eq!(accounts.unseen(1), io(100));
        // One that was never seen.
        look(&mut accounts, vec![reading(1, 0, 215, &[(1, 0)])]);
        assert_eq!((accounts.own(1), accounts.unseen(1)), (io(0), io(200)));
    }

    #[test]
    fn threads_that_end_are_their_processs() {
        let mut accounts = Accounts::default();
        look(&mut accounts, vec![reading(1, 0, 30, &[(1, 10), (5, 20)])]);
        look(&mut accounts, vec![reading(1, 0, 45, &[(1, 10)])]);
        assert_eq!((accounts.own(1), accounts.unseen(1)), (io(45), io(0)));
    }

    #[test]
    fn where_threads_are_not_known_children_had_what_was_seen() {
        let mut accounts = Accounts::default();
        let many = |whole| Reading { threads: None, ..reading(1, 0, whole, &[]) };
        look(&mut accounts, vec![many(10), reading(2, 1, 100, &[(2, 100)])]);
        look(&mut accounts, vec![many(160)]);
        assert_eq!((accounts.own(1), accounts.own(2)), (io(60), io(100)));
    }

    #[test]
    fn what_was_before_is_not_counted_and_one_that_was_adopted_is_there() {
        let mut accounts = Accounts::default();
        accounts.begin(reading(1, 0, 1000, &[(1, 1000)]));
        look(&mut accounts, vec![reading(1, 0, 1007, &[(1, 1007)]), reading(2, 1, 50, &[(2, 50)])]);
        accounts.look(vec![reading(1, 0, 1007, &[(1, 1007)])], |pid| pid == 2);
        assert_eq!((accounts.own(1), accounts.own(2)), (io(7), io(50)));
    }
}
