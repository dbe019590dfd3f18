//! Programs that run without the preloaded library: which, why, and what the kernel says that they used. Nothing inside of
//! them is seen: neither what they allocate nor where they read and write.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::probe::stat::Stat;
use crate::profile::record::preload::FOLDER;
use crate::profile::record::target::{self, Obstacle};
use crate::sys::stage;

/// Programs that are remembered.
const PROGRAMS_MAX: usize = 10_000;
/// Bytes of a memory map or an environment that are searched.
const TEXT_MAX: u64 = 4 << 20;
/// Looks at the memory of a program until it is settled that the library is not in it: the loader may be at work.
const LOOKS_MAX: u32 = 3;
/// Programs that are reported, those with the most memory first.
const REPORTED_MAX: usize = 5;

/// What tells one program of a process from the next: where its stack begins, which an exec changes.
type Key = (u32, u64);

/// A program in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// Its file; nothing where the kernel does not let this user know.
    pub(crate) file: Option<PathBuf>,
    /// It was started with an environment that names the library; nothing where that is not known.
    pub(crate) is_asked: Option<bool>,
    /// Most memory that it had in RAM, bytes.
    pub(crate) rss_peak: u64,
    is_inside: bool,
    /// It was over at the first look.
    is_over: bool,
    looks: u32,
}

/// What the library has said from within.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced {
    /// Programs that began with it.
    pub(crate) programs: HashSet<(u32, PathBuf)>,
    /// What processes have become since they were last heard of: the program, and whether its environment names the library.
    pub(crate) executing: HashMap<u32, (PathBuf, bool)>,
    /// Processes that had it.
    pub(crate) processes: HashSet<u32>,
}

/// All programs of a recording.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    all: BTreeMap<Key, Program>,
    own: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn new() -> Self {
        Self { all: BTreeMap::new(), own: fs::read_link("/proc/self/exe").ok() }
    }

    /// Whether a process is still apm, which has not become the program that it is to start.
    pub(crate) fn is_stage(&self, pid: u32) -> bool {
        let file = fs::read_link(format!("/proc/{pid}/exe")).ok();
        file.is_some()
            && file == self.own
            && text(&format!("/proc/{pid}/cmdline")).is_some_and(|line| stage::is_it(&line))
    }

    /// Looks at what a process is now. `rss_peak` is of this program: the kernel begins anew at an exec.
    pub(crate) fn look(&mut self, pid: u32, stat: &Stat<'_>, rss_peak: u64) {
        let name = String::from_utf8_lossy(stat.name).into_owned();
        let of = |name: &str| text(&format!("/proc/{pid}/{name}"));
        let key = (pid, stat.field::<u64>(25).unwrap_or_default());
        if self.all.get(&key).is_some_and(|program| program.is_inside || program.looks >= LOOKS_MAX) {
            self.all.entry(key).and_modify(|program| program.rss_peak = program.rss_peak.max(rss_peak));
            return;
        }
        if self.all.len() >= PROGRAMS_MAX {
            return;
        }
        let file = match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(_) => return self.over(pid, name),
        };
        let maps = of("maps");
        if stat.state == 'Z' || (file.is_some() && maps.as_ref().is_some_and(Vec::is_empty)) {
            return self.over(pid, name);
        }
        // apm becomes the program when it is let through its gate, and loads no library itself.
        let is_apm = file.is_some() && file == self.own;
        let program = self.all.entry(key).or_default();
        program.rss_peak = program.rss_peak.max(rss_peak);
        program.looks += 1;
        (program.pid, program.name) = (pid, name);
        program.file = file.or(program.file.take());
        program.is_inside = is_apm || maps.is_some_and(|maps| contains(&maps, FOLDER.as_bytes()));
        if !program.is_inside {
            let is_asked = of("environ").map(|variables| names_library(&variables));
            program.is_asked = is_asked.or(program.is_asked);
        }
    }

    /// One that has ended: its memory is gone, and its file with it. Of one that was executed since the last look the name
    /// is left.
    fn over(&mut self, pid: u32, name: String) {
        let mut known = self.all.range((pid, 0)..=(pid, u64::MAX));
        if !known.any(|(_, program)| program.name == name) {
            let program = Program { pid, name, is_over: true, ..Program::default() };
            self.all.insert((pid, u64::MAX), program);
        }
    }

    /// The one with the library that had the most memory in RAM.
    pub(crate) fn largest(&self) -> Option<&Program> {
        self.all.values().filter(|program| program.is_inside).max_by_key(|program| program.rss_peak)
    }

    /// Those without the library. One that was looked at while it was loaded had nothing in its memory yet, but has
    /// announced itself since.
    pub(crate) fn outside(self, announced: &Announced) -> Vec<Program> {
        let is_outside = |program: &Program| {
            let file = program.file.clone().map(without_mark);
            let is_announced = file.is_some_and(|file| announced.programs.contains(&(program.pid, file)));
            // Of one that was heard of it is known what it became.
            let has_ended_inside = program.is_over && announced.processes.contains(&program.pid);
            !(program.is_inside || is_announced || has_ended_inside)
        };
        // Those that ended before a look. Of others more is known.
        let is_seen: HashSet<u32> =
            self.all.values().filter(|it| is_outside(it) && !it.is_over).map(|it| it.pid).collect();
        let vanished: Vec<Program> = announced
            .executing
            .iter()
            .filter(|(pid, _)| !is_seen.contains(pid))
            .map(|(pid, (file, is_asked))| {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Program { pid: *pid, name, file: Some(file.clone()), is_asked: Some(*is_asked), ..Program::default() }
            })
            .collect();
        let known: HashSet<u32> = vanished.iter().map(|program| program.pid).collect();
        let seen = self.all.into_values().filter(is_outside).filter(|program| !known.contains(&program.pid));
        seen.chain(vanished).collect()
    }
}

/// The path of a file that was deleted ends in a mark of the kernel.
pub(crate) fn without_mark(path: PathBuf) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_suffix(b" (deleted)") {
        Some(name) => PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())),
        None => path,
    }
}

fn text(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(TEXT_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether an environment asks the loader for the library.
fn names_library(variables: &[u8]) -> bool {
    variables
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.strip_prefix(b"LD_PRELOAD="))
        .any(|libraries| contains(libraries, FOLDER.as_bytes()))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// Which programs, why and how much they used, a sentence for each program. `moved` is what a process has read and written
/// itself, where that is known; `amount` writes bytes.
pub(crate) fn sentences(
    programs: Vec<Program>,
    moved: impl Fn(u32) -> Option<[u64; 2]>,
    amount: impl Fn(u64) -> String,
) -> Vec<String> {
    let mut reasons: HashMap<PathBuf, Option<Obstacle>> = HashMap::new();
    let mut groups: BTreeMap<(String, String), Vec<Program>> = BTreeMap::new();
    for program in programs {
        let obstacle = program.file.as_ref().and_then(|file| {
            reasons.entry(file.clone()).or_insert_with(|| target::obstacle_of(&without_mark(file.clone()))).clone()
        });
        let why = reason(&program, obstacle.filter(Obstacle::is_total));
        groups.entry((program.name.clone(), why)).or_default().push(program);
    }
    let mut groups: Vec<((String, String), Vec<Program>)> = groups.into_iter().collect();
    let peak = |programs: &[Program]| programs.iter().map(|program| program.rss_peak).max().unwrap_or_default();
    groups.sort_by_key(|(_, programs)| std::cmp::Reverse(peak(programs)));
    let more = groups.len().saturating_sub(REPORTED_MAX);
    let each = |((name, why), programs): &((String, String), Vec<Program>)| {
        let pids: HashSet<u32> = programs.iter().map(|program| program.pid).collect();
        let who = match pids.len() {
            1 => format!("{name}[{}]", programs[0].pid),
            count => format!("{name} ({count} processes)"),
        };
        let each = pids.into_iter().map(&moved).collect::<Option<Vec<_>>>();
        let sum = each
            .map(|each| each.into_iter().fold([0_u64; 2], |[a, b], [c, d]| [a.saturating_add(c), b.saturating_add(d)]));
        let peak = amount(peak(programs));
        let used = match sum.map(|sum| sum.map(&amount)) {
            _ if programs.iter().all(|program| program.rss_peak == 0) => "it ended before apm could look".to_owned(),
            Some([read, written]) => format!("by /proc it had up to {peak} in RAM, read {read} and wrote {written}"),
            None => format!("by /proc it had up to {peak} in RAM"),
        };
        format!("{who} ran without the preloaded library: {why}; {used}")
    };
    let mut all: Vec<String> = groups.iter().take(REPORTED_MAX).map(each).collect();
    if more > 0 {
        all.push(format!("{more} more programs ran without the preloaded library"));
    }
    all
}

fn reason(program: &Program, obstacle: Option<Obstacle>) -> String {
    if program.is_over {
        return "it ended before it could be looked at".to_owned();
    }
    match (obstacle, &program.file, program.is_asked) {
        (Some(obstacle), ..) => obstacle.to_string(),
        (None, None, _) => {
            "it is another user's, or setuid, setgid or has file capabilities: the loader drops preloaded libraries then"
                .to_owned()
        }
        (None, _, Some(false)) => {
            "it was started with an environment without `LD_PRELOAD` (as by `env -i` or `sudo`)".to_owned()
        }
        (None, ..) => "its loader did not load it, though the environment asks for it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::path::PathBuf;

    use super::{Announced, Program, Programs, sentences, without_mark};
    use crate::probe::stat::Stat;

    fn program(pid: u32, name: &str, file: Option<&str>, is_asked: Option<bool>, rss_peak: u64) -> Program {
        let (name, file) = (name.to_owned(), file.map(PathBuf::from));
        Program { pid, name, file, is_asked, rss_peak, ..Program::default() }
    }

    #[test]
    fn which_programs_why_and_how_much_is_said() {
        let all = vec![
            program(7, "worker", Some("/none/worker"), Some(false), 10),
            program(8, "worker", Some("/none/worker"), Some(false), 30),
            program(9, "su", None, None, 20),
            program(10, "odd", Some("/none/odd"), Some(true), 5),
        ];
        let said = sentences(all, |pid| (pid != 9).then_some([u64::from(pid), 1]), |bytes| format!("{bytes} B"));
        let expected = [
            "worker (2 processes) ran without the preloaded library: it was started with an environment without \
             `LD_PRELOAD` (as by `env -i` or `sudo`); by /proc it had up to 30 B in RAM, read 15 B and wrote 2 B",
            "su[9] ran without the preloaded library: it is another user's, or setuid, setgid or has file capabilities: the \
             loader drops preloaded libraries then; by /proc it had up to 20 B in RAM",
            "odd[10] ran without the preloaded library: its loader did not load it, though the environment asks for it; by \
             /proc it had up to 5 B in RAM, read 10 B and wrote 1 B",
        ];
        assert_eq!(said, expected);
        let many = (0..7).map(|at| program(at, &format!("p{at}"), None, None, 1)).collect();
        let said = sentences(many, |_| None, |bytes| bytes.to_string());
        assert!(said[0].ends_with("; by /proc it had up to 1 in RAM"), "{}", said[0]);
        assert_eq!((said.len(), said[5].as_str()), (6, "2 more programs ran without the preloaded library"));
    }

    #[test]
    fn one_that_has_announced_itself_is_inside() {
        let all = [(1, "/bin/a"), (2, "/bin/a (deleted)"), (3, "/bin/b")];
        let all = all.map(|(pid, file)| ((pid, 0), program(pid, "a", Some(file), None, 0))).into();
        let mut programs = Programs { all, own: None };
        for pid in [1, 4, 5] {
            let text = format!("{pid} (true) Z 1 2 3");
            programs.look(pid, &Stat::parse(text.as_bytes()).expect("a process"), 0);
        }
        let known = HashSet::from([(1, PathBuf::from("/bin/a")), (2, PathBuf::from("/bin/a"))]);
        let executing = HashMap::from([(5, (PathBuf::from("/bin/fast"), true)), (3, (PathBuf::from("/bin/b"), true))]);
        let announced = Announced { programs: known, executing, processes: HashSet::from([1, 4]) };
        let outside = programs.outside(&announced);
        let outside: Vec<(u32, &str)> = outside.iter().map(|program| (program.pid, program.name.as_str())).collect();
        assert_eq!(outside, [(3, "a"), (5, "fast")]);
        assert_eq!(without_mark(PathBuf::from("/a (deleted)")), PathBuf::from("/a"));
    }
}
