//! What the descriptors of processes are, and what went through each. The kernel's records name numbers alone; a number is
//! looked up in /proc when it is first seen, which is a moment later. A name that was read after the descriptor had been
//! closed belongs to something else: then there is no name.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs;

/// Descriptors of all processes that are kept in mind.
const DESCRIPTORS_MAX: usize = 65_536;
/// Of one process that are looked up before it does anything.
const KNOWN_MAX: usize = 1024;
/// Files with numbers of their own; the rest share a row.
const NAMES_MAX: usize = 8192;
/// Standard streams are seldom closed by an execve, other descriptors often.
const STREAMS: i32 = 2;

/// In the order of the columns of the table: read, written, calls, waited, syncs, time of syncs.
pub(crate) type Totals = [u64; 6];

/// A descriptor from its opening to its closing.
#[derive(Clone, Debug, Default)]
struct Descriptor {
    name: Option<String>,
    /// When its name had been read.
    looked: u64,
    is_socket: bool,
    totals: Totals,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    of: HashMap<u32, HashMap<i32, Descriptor>>,
    count: usize,
    rows: BTreeMap<String, Totals>,
    /// Those that were closed before they were looked at.
    pub(crate) nameless: u64,
}

/// What a descriptor of a process is, and when that was read.
pub(crate) type Look<'a> = &'a dyn Fn(u32, i32) -> (Option<String>, u64);

impl Descriptors {
    /// What is open in a process now.
    pub(crate) fn know(&mut self, pid: u32, look: Look<'_>) {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(KNOWN_MAX);
        for fd in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            self.get(pid, fd, look);
        }
    }

    /// Adds what a call did, which may be one of sockets alone.
    pub(crate) fn add(&mut self, pid: u32, fd: i32, is_socket: bool, more: &Totals, look: Look<'_>) {
        match self.get(pid, fd, look) {
            Some(one) => {
                one.is_socket |= is_socket;
                add(&mut one.totals, more);
            }
            None => self.put("[others]", more),
        }
    }

    /// Whether it is a socket, as far as is known.
    pub(crate) fn is_socket(&self, pid: u32, fd: i32) -> bool {
        self.of.get(&pid).and_then(|all| all.get(&fd)).is_some_and(|one| one.is_socket)
    }

    fn get(&mut self, pid: u32, fd: i32, look: Look<'_>) -> Option<&mut Descriptor> {
        match self.of.entry(pid).or_default().entry(fd) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(_) if fd < 0 || self.count >= DESCRIPTORS_MAX => None,
            Entry::Vacant(new) => {
                let (name, looked) = look(pid, fd);
                let is_socket = name.as_ref().is_some_and(|name| name.starts_with("socket:"));
                self.count += 1;
                Some(new.insert(Descriptor { name, looked, is_socket, ..Descriptor::default() }))
            }
        }
    }

    /// It is a socket: the call that made it said so.
    pub(crate) fn made_socket(&mut self, pid: u32, fd: i32, look: Look<'_>) {
        if let Some(one) = self.get(pid, fd, look) {
            one.is_socket = true;
        }
    }

    /// Descriptors of these numbers were closed.
    pub(crate) fn closed(&mut self, pid: u32, first: i32, last: i32, at: u64) {
        let Some(all) = self.of.get_mut(&pid) else { return };
        let gone: Vec<(i32, Descriptor)> = all.extract_if(|fd, _| (first..=last).contains(fd)).collect();
        for (fd, one) in gone {
            self.fold(pid, fd, one, at);
        }
    }

    /// A child has what its parent has, as far as that is known for sure.
    pub(crate) fn forked(&mut self, parent: u32, child: u32, at: u64) {
        let known = self.of.get(&parent).into_iter().flatten().filter(|(_, one)| one.looked < at);
        let known: HashMap<i32, Descriptor> =
            known.map(|(fd, one)| (*fd, Descriptor { totals: Totals::default(), ..one.clone() })).collect();
        if self.count + known.len() <= DESCRIPTORS_MAX && !known.is_empty() {
            self.count += known.len();
            self.ended(child, at);
            self.of.insert(child, known);
        }
    }

    /// Another program: what it did not inherit is closed.
    pub(crate) fn replaced(&mut self, pid: u32, at: u64) {
        self.closed(pid, STREAMS + 1, i32::MAX, at);
        let late = |one: &&Descriptor| one.looked >= at;
        if self.of.get(&pid).is_some_and(|all| all.values().any(|one| late(&one))) {
            self.closed(pid, 0, STREAMS, at);
        }
    }

    /// A process ended.
    pub(crate) fn ended(&mut self, pid: u32, at: u64) {
        for (fd, one) in self.of.remove(&pid).unwrap_or_default() {
            self.fold(pid, fd, one, at);
        }
    }

    fn fold(&mut self, pid: u32, fd: i32, one: Descriptor, at: u64) {
        self.count -= 1;
        if one.totals == Totals::default() {
            return;
        }
        let name = one.name.filter(|name| !name.is_empty() && one.looked < at);
        self.nameless += u64::from(name.is_none() && !one.is_socket);
        let name = name.unwrap_or_else(|| match one.is_socket {
            true => format!("short-lived sockets of process {pid}"),
            false => format!("descriptor {fd} of process {pid}"),
        });
        self.put(&name, &one.totals);
    }

    fn put(&mut self, name: &str, totals: &Totals) {
        let is_full = self.rows.len() >= NAMES_MAX && !self.rows.contains_key(name);
        add(self.rows.entry(if is_full { "[others]" } else { name }.to_owned()).or_default(), totals);
    }

    /// The end: what went through each file.
    pub(crate) fn finish(&mut self) -> BTreeMap<String, Totals> {
        for pid in self.of.keys().copied().collect::<Vec<_>>() {
            self.ended(pid, u64::MAX);
        }
        std::mem::take(&mut self.rows)
    }
}

fn add(sum: &mut Totals, more: &Totals) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

#[cfg(test)]
mod tests {
    use super::{DESCRIPTORS_MAX, Descriptors};

    const ONE: [u64; 6] = [1, 0, 1, 0, 0, 0];

    #[test]
    fn a_name_that_was_read_too_late_is_none() {
        let mut all = Descriptors::default();
        let at_10 = |_: u32, fd: i32| (Some(format!("/{fd}")), 10);
        all.add(1, 3, false, &ONE, &at_10);
        all.add(1, 4, false, &ONE, &at_10);
        all.closed(1, 3, 3, 9);
        all.closed(1, 4, 4, 11);
        let rows = all.finish();
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["/4", "descriptor 3 of process 1"]);
        assert_eq!(all.nameless, 1);
    }

    #[test]
    fn a_child_has_its_parents_files_and_another_program_its_streams() {
        let mut all = Descriptors::default();
        let old = |_: u32, fd: i32| (Some(format!("/old{fd}")), 5);
        let new = |_: u32, fd: i32| (Some(format!("/new{fd}")), 50);
        all.add(1, 1, false, &ONE, &old);
        all.add(1, 7, false, &ONE, &old);
        all.forked(1, 2, 20);
        all.add(2, 7, false, &ONE, &new);
        all.replaced(2, 30);
        all.add(2, 1, false, &ONE, &new);
        all.add(2, 7, false, &ONE, &new);
        let rows = all.finish();
        let found: Vec<(&str, u64)> = rows.iter().map(|(name, row)| (name.as_str(), row[0])).collect();
        assert_eq!(found, [("/new7", 1), ("/old1", 2), ("/old7", 2)]);
    }

    #[test]
    fn sockets_stay_sockets_and_all_have_a_bound() {
        let mut all = Descriptors::default();
        let look = |_: u32, fd: i32| (Some(if fd == 1 { "socket:[9]".to_owned() } else { String::new() }), 0);
        all.made_socket(1, 2, &look);
        for fd in [1, 2, -1, 3] {
            all.add(1, fd, fd == 3, &ONE, &look);
        }
        assert_eq!([1, 2, -1, 3, 4].map(|fd| all.is_socket(1, fd)), [true, true, false, true, false]);
        for fd in 0..DESCRIPTORS_MAX as i32 + 9 {
            all.add(2, fd, false, &ONE, &look);
        }
        assert!(all.count <= DESCRIPTORS_MAX);
        assert_eq!(all.finish().values().map(|row| row[0]).sum::<u64>(), DESCRIPTORS_MAX as u64 + 13);
        assert_eq!(all.count, 0);
    }
}
