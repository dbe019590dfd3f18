//! What `perf script` prints: a line for each sample, its frames on indented lines below, the innermost first.
//!
//! `-F` chooses what it prints (perf-script(1)): any of command, process and thread, CPU, time, period and event may be
//! missing, or the whole line above the frames. Frames always begin with a tab and an address.
//!
//! Addresses are dropped: whether they are of the process or of the file depends on the version of perf. By default perf
//! prints the thread only; its process is then taken to be of the same number.

use std::collections::HashMap;

use crate::model::profile::{Builder, Frame, Kind, Module, Origin, Profile, Thread, Unit};
use crate::report::profile::tree::file_name;
use crate::text::lines::Lines;
use crate::text::number;

/// The command where none is printed.
const NO_NAME: &str = "[no name]";
/// Frames of a sample that are read.
const DEPTH_MAX: usize = 10_000;
/// Events of one file; a table of values has a column for each.
const EVENTS_MAX: usize = 32;

/// What is not as perf prints it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not of `perf script`: {why}")]
pub(crate) struct PerfError {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) why: &'static str,
}

/// The line above the frames of a sample.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head<'a> {
    comm: &'a str,
    pid: u32,
    tid: u32,
    time_ns: Option<u64>,
    /// Empty where it is not printed.
    event: &'a str,
    period: Option<u64>,
    /// What follows the event: the only frame, or the fields of a tracepoint.
    rest: &'a str,
}

/// A frame that a line of source may follow.
#[derive(Debug, Default)]
struct Pending {
    name: String,
    module: Option<u32>,
    file: Option<String>,
    line: Option<u32>,
    is_inlined: bool,
    origin: Origin,
}

/// A sample of which more frames may come.
#[derive(Debug)]
struct Sample {
    /// Nothing where only frames are printed.
    thread: Option<u32>,
    /// Nothing where it is not printed.
    event: Option<usize>,
    period: u64,
    /// The innermost first.
    frames: Vec<Pending>,
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    /// Its first kind counts samples, the others are of events.
    builder: Builder,
    events: Vec<String>,
    /// Whether an event has periods.
    has_period: Vec<bool>,
    modules: HashMap<String, u32>,
    threads: HashMap<Thread, u32>,
    open: Option<Sample>,
    samples: u64,
    unknown: u64,
    lost: u64,
    /// The first and the last time of a sample.
    time_ns: Option<[u64; 2]>,
    /// Lines that are neither a sample nor a frame, and the first of them, from 1.
    odd: usize,
    odd_first: usize,
}

/// Whether a text looks like it.
pub(crate) fn is_it<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let mut lines = lines.filter(|line| !is_remark(line));
    let Some(first) = lines.next() else { return false };
    // A sample without callers has its only frame in its line; a folded stack ends with a number.
    let has_frame = || {
        let is_number = first.trim_end().ends_with(|c: char| c.is_ascii_digit());
        short_head(first).is_some_and(|head| head.rest.contains(' ') && !is_number)
    };
    head(first).is_some() || is_frame(first) || has_frame() || lines.next().is_some_and(is_frame)
}

/// A frame below a sample: a tab, then its address.
fn is_frame(line: &str) -> bool {
    let address = || line.split_ascii_whitespace().next();
    line.starts_with('\t') && address().is_some_and(|address| u64::from_str_radix(address, 16).is_ok())
}

fn is_remark(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

/// Reads it: a kind for each event, by its periods where there are some, and one of samples.
pub(crate) fn read(text: Lines) -> Result<Profile, PerfError> {
    let samples = Kind { name: "samples".to_owned(), unit: Unit::Count };
    let mut reader = Reader { builder: Builder::new(vec![samples]), ..Reader::default() };
    text.consume(|at, line, next| reader.line(at, line, next))?;
    reader.finish()
}

impl Reader {
    fn line(&mut self, at: usize, line: &str, next: Option<&str>) -> Result<(), PerfError> {
        // An empty line is between two samples.
        if line.trim().is_empty() {
            self.close();
            return Ok(());
        }
        if line.starts_with('#') {
            return Ok(());
        }
        if let Some((_, record)) = line.split_once(": PERF_RECORD_") {
            let lost = record.strip_prefix("LOST").and_then(|rest| rest.split_whitespace().last()?.parse().ok());
            self.lost = self.lost.saturating_add(lost.unwrap_or(0));
            return Ok(());
        }
        // A command may be indented too, but then a time follows, or a number where the address would have a symbol.
        let is_sample = || {
            let short =
                || short_head(line).is_some_and(|head| head.tid > 0 && head.comm != NO_NAME && !head.rest.is_empty());
            head(line).is_some() || (line.starts_with(' ') && short())
        };
        let is_indented = line.starts_with([' ', '\t']) && !is_sample();
        if is_indented && (self.open.is_some() || is_frame(line)) {
            self.frame(at, line);
            return Ok(());
        }
        let short = || {
            let has_frames = next.is_some_and(is_frame);
            short_head(line).filter(|head| has_frames || !head.event.is_empty() || !head.rest.is_empty())
        };
        match head(line).or_else(short) {
            Some(head) => self.head(at, &head),
            None => {
                self.is_odd(at);
                Ok(())
            }
        }
    }

    /// A line above the frames of a sample.
    fn head(&mut self, at: usize, head: &Head<'_>) -> Result<(), PerfError> {
        self.close();
        let event = match self.events.iter().position(|event| event == head.event) {
            _ if head.event.is_empty() => None,
            Some(event) => Some(event),
            None if self.events.len() < EVENTS_MAX => {
                self.events.push(head.event.to_owned());
                self.has_period.push(false);
                self.builder.kind(Kind { name: head.event.to_owned(), unit: Unit::Count });
                Some(self.events.len() - 1)
            }
            None => return Err(PerfError { line: at + 1, why: "there are too many events" }),
        };
        if let Some(event) = event.filter(|_| head.period.is_some()) {
            self.has_period[event] = true;
        }
        if let Some(time) = head.time_ns {
            let [first, last] = self.time_ns.unwrap_or([time, time]);
            self.time_ns = Some([first.min(time), last.max(time)]);
        }
        let name = head.comm.to_owned();
        let thread = Thread { pid: head.pid, tid: head.tid, process: name.clone(), name, task: None };
        let threads = &mut self.builder.profile.threads;
        let thread = *self.threads.entry(thread).or_insert_with_key(|thread| {
            threads.push(thread.clone());
            threads.len() as u32 - 1
        });
        // What a tracepoint says of itself never ends in a module.
        let has_frame = head.rest.ends_with(')') || head.time_ns.is_none();
        let only = has_frame.then(|| self.pending(head.rest)).flatten();
        let frames = only.into_iter().collect();
        self.open = Some(Sample { thread: Some(thread), event, period: head.period.unwrap_or(1), frames });
        Ok(())
    }

    /// A line below one.
    fn frame(&mut self, at: usize, line: &str) {
        let frame = self.pending(line.trim());
        let open = self.open.get_or_insert_with(|| Sample { thread: None, event: None, period: 1, frames: Vec::new() });
        if let Some(frame) = frame {
            if open.frames.len() < DEPTH_MAX {
                open.frames.push(frame);
            }
        } else if let (Some((file, line)), Some(last)) = (source(line.trim()), open.frames.last_mut()) {
            (last.file, last.line) = (Some(file.to_owned()), Some(line));
        } else if !is_unknown_source(line) {
            self.is_odd(at);
        }
    }

    fn is_odd(&mut self, at: usize) {
        self.odd += 1;
        if self.odd_first == 0 {
            self.odd_first = at + 1;
        }
    }

    /// Adds the sample that was open.
    fn close(&mut self) {
        let Some(Sample { thread, event, period, frames }) = self.open.take() else { return };
        let builder = &mut self.builder;
        let mut node = None;
        for it in frames.iter().rev() {
            let Pending { module, line, is_inlined, origin, .. } = *it;
            let (name, file) = (it.name.as_str(), it.file.as_deref());
            let frame = builder.frame(Frame { name, module, file, line, is_inlined, origin, address: None });
            node = Some(builder.node(node, frame));
        }
        let node = node.unwrap_or_else(|| {
            let frame = builder.frame(Frame { name: "[no stack]", origin: Origin::Unknown, ..Frame::default() });
            builder.node(None, frame)
        });
        if let Some(event) = event {
            builder.add(node, thread, event + 1, period);
        }
        builder.add(node, thread, 0, 1);
        self.samples += 1;
        self.unknown += u64::from(frames.first().is_none_or(|frame| frame.name.starts_with('[')));
    }

    fn finish(mut self) -> Result<Profile, PerfError> {
        self.close();
        if self.odd as u64 > self.samples || self.samples == 0 {
            let why = "neither a sample nor a frame of one";
            return Err(PerfError { line: self.odd_first.max(1), why });
        }
        let mut profile = self.builder.build();
        // The count of samples says least.
        let order: Vec<usize> = (1..=self.events.len()).chain([0]).collect();
        profile.choose(&order);
        for (kind, has_period) in profile.kinds.iter_mut().zip(self.has_period) {
            // Without a period nothing tells how much time a sample stands for.
            if is_clock(&kind.name) && has_period {
                *kind = Kind { name: "cpu".to_owned(), unit: Unit::Nanoseconds };
            }
        }
        profile.duration_ns = self.time_ns.map_or(0, |[first, last]| last - first);
        let quality = &mut profile.quality;
        quality.sampler = match self.events.join(" and ") {
            events if events.is_empty() => "perf".to_owned(),
            events => format!("perf, {events}"),
        };
        if self.odd > 0 {
            let lines = number::count(self.odd as u64, "line");
            let note = format!("{lines} left out, the first is line {}: no sample, no frame", self.odd_first);
            quality.notes.push(note);
        }
        (quality.samples, quality.unknown, quality.lost) = (self.samples, self.unknown, self.lost);
        quality.is_foreign = true;
        Ok(profile)
    }

    /// `2724a __libc_start_call_main+0x7a (/usr/lib/libc.so.6)`
    fn pending(&mut self, text: &str) -> Option<Pending> {
        let (address, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        u64::from_str_radix(address, 16).ok()?;
        let (symbol, path) = module(rest.trim()).unwrap_or((rest.trim(), ""));
        if path == "inlined" {
            return Some(Pending { name: strip_offset(symbol).to_owned(), is_inlined: true, ..Pending::default() });
        }
        let has_module = !path.is_empty() && path != "[unknown]";
        let module = has_module.then(|| self.module(path));
        let file = file_name(path);
        let is_kernel = file.starts_with("[kernel") || file.starts_with("[guest.kernel") || file.ends_with(".ko");
        let is_kernel_module = path.starts_with('[') && !["[vdso]", "[heap]", "[stack]", "[unknown]"].contains(&path);
        let is_jit =
            file.starts_with("perf-") && file.ends_with(".map") || path.starts_with("[JIT") || path == "//anon";
        let name = match strip_offset(symbol) {
            "" | "[unknown]" if !has_module => "[unknown]".to_owned(),
            "" | "[unknown]" if file.starts_with('[') => file.to_owned(),
            "" | "[unknown]" => format!("[{file}]"),
            name => name.to_owned(),
        };
        let origin = match (is_jit, is_kernel || is_kernel_module, has_module) {
            (true, _, _) => Origin::Jit,
            (_, true, _) => Origin::Kernel,
            (_, _, true) => Origin::Native,
            _ if name == "[unknown]" => Origin::Unknown,
            _ => Origin::Native,
        };
        Some(Pending { name, module, origin, ..Pending::default() })
    }

    fn module(&mut self, path: &str) -> u32 {
        if let Some(known) = self.modules.get(path) {
            return *known;
        }
        let modules = &mut self.builder.profile.modules;
        modules.push(Module { path: path.to_owned(), build_id: String::new() });
        let at = modules.len() as u32 - 1;
        self.modules.insert(path.to_owned(), at);
        at
    }
}

fn is_clock(event: &str) -> bool {
    ["cpu-clock", "task-clock"].iter().any(|clock| event.split(':').next() == Some(clock))
}

/// `comm pid/tid [cpu] 12.345678: 250000 event: rest`; pid, cpu and period may be absent.
fn head(line: &str) -> Option<Head<'_>> {
    let words: Vec<(usize, &str)> = words(line).collect();
    let time = words.iter().position(|(_, word)| time(word).is_some())?;
    let mut at = time.checked_sub(1)?;
    if words[at].1.starts_with('[') {
        at = at.checked_sub(1)?;
    }
    let (pid, tid) = words[at].1.split_once('/').unwrap_or((words[at].1, words[at].1));
    // The kernel's own idle task has no number but -1 in some versions.
    let number = |text: &str| if text == "-1" { Some(0) } else { text.parse().ok() };
    let (pid, tid) = (number(pid)?, number(tid)?);
    let mut next = time + 1;
    let period = words.get(next).and_then(|(_, word)| word.parse().ok());
    next += usize::from(period.is_some());
    let (start, event) = words.get(next)?;
    let rest = &line[start + event.len()..];
    let event = event.strip_suffix(':')?.trim_end_matches(':');
    let comm = line[..words[at].0].trim();
    let comm = if comm.is_empty() { NO_NAME } else { comm };
    Some(Head { comm, pid, tid, time_ns: self::time(words[time].1), event, period, rest: rest.trim() })
}

/// The same without a time: `comm pid/tid [cpu] 250000 event: rest`, each of which may be absent.
fn short_head(line: &str) -> Option<Head<'_>> {
    let words: Vec<(usize, &str)> = words(line).collect();
    let number = |word: &str| word.parse::<u32>().ok();
    let task = |word: &str| {
        let (pid, tid) = word.split_once('/').unwrap_or((word, word));
        Some((number(pid)?, number(tid)?))
    };
    // What follows the number of the thread tells it from a number in the name of the command.
    let rest = |mut at: usize| {
        let word = |at: usize| words.get(at).map(|(_, word)| *word);
        let is_cpu =
            |word: &str| word.starts_with('[') && word.ends_with(']') && number(&word[1..word.len() - 1]).is_some();
        at += usize::from(word(at).is_some_and(is_cpu));
        let event_at =
            |at: usize| word(at).and_then(|word| word.strip_suffix(':')).map(|event| event.trim_end_matches(':'));
        let (period, event) = match (event_at(at), word(at).and_then(|word| word.parse::<u64>().ok())) {
            (Some(event), _) => (None, event),
            (None, Some(period)) if event_at(at + 1).is_some() => (Some(period), event_at(at + 1)?),
            // A number alone is a period, before others the address of the only frame.
            (None, Some(period)) if at + 1 == words.len() => (Some(period), ""),
            _ => (None, ""),
        };
        at += usize::from(period.is_some()) + usize::from(!event.is_empty());
        let rest = words.get(at).map_or("", |(start, _)| line[*start..].trim());
        let is_frame = rest.split_ascii_whitespace().next().is_some_and(|it| u64::from_str_radix(it, 16).is_ok());
        (rest.is_empty() || is_frame).then_some((period, event, rest))
    };
    let with_task = (0..words.len()).find_map(|at| {
        let (pid, tid) = task(words[at].1)?;
        let (period, event, rest) = rest(at + 1)?;
        Some((at, Head { pid, tid, period, event, rest, ..Head::default() }))
    });
    let (at, head) = match with_task {
        Some(found) => found,
        // Only the command, or the command and an event.
        None => match words.last() {
            Some((_, last)) if last.ends_with(':') && words.len() > 1 => {
                let event = last.trim_end_matches(':');
                (words.len() - 1, Head { event, ..Head::default() })
            }
            _ => (words.len(), Head::default()),
        },
    };
    let end = words.get(at).map_or(line.len(), |(start, _)| *start);
    let comm = line[..end].trim();
    Some(Head { comm: if comm.is_empty() { NO_NAME } else { comm }, ..head })
}

fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split_ascii_whitespace().map(|word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
}

/// `1331.950175:` in nanoseconds.
fn time(word: &str) -> Option<u64> {
    let (seconds, part) = word.strip_suffix(':')?.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(part) || part.len() > 9 {
        return None;
    }
    let part = part.parse::<u64>().ok()? * 10u64.pow(9 - part.len() as u32);
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part)
}

/// `symbol (path)` apart.
fn module(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_suffix(')')?;
    // A path may itself end in ` (deleted)`.
    let end = inner.strip_suffix(" (deleted)").map_or(inner.len(), str::len);
    let open = inner[..end].rfind(" (").map(|at| at + 1).or_else(|| inner.starts_with('(').then_some(0))?;
    Some((inner[..open].trim(), inner[open + 1..].trim()))
}

/// `main.c:12`, which stands below a frame on demand.
fn source(text: &str) -> Option<(&str, u32)> {
    let (file, line) = text.rsplit_once(':')?;
    let line = line.parse().ok().filter(|line| *line > 0)?;
    (!file.is_empty()).then_some((file, line))
}

/// What `-F +srcline` prints where no source is known: `libc.so.6[9c11]`, `??:0`, `:0`.
fn is_unknown_source(text: &str) -> bool {
    let text = text.trim();
    let address = text.strip_suffix(']').and_then(|text| text.rsplit_once('['));
    text.ends_with(":0") || address.is_some_and(|(_, address)| u64::from_str_radix(address, 16).is_ok())
}

/// Without `+0x7a`.
fn strip_offset(symbol: &str) -> &str {
    match symbol.rsplit_once("+0x") {
        Some((name, offset)) if !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => symbol,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Head, PerfError, Reader, head};
    use crate::model::profile::{Origin, Profile, Unit};
    use crate::text::lines::Lines;

    fn read(text: &str) -> Result<Profile, PerfError> {
        super::read(Lines::of(text))
    }

    fn is_it(text: &str) -> bool {
        super::is_it(text.lines())
    }

    #[test]
    fn heads_of_all_fashions_are_read() {
        let expected = Head {
            comm: "fix me",
            pid: 20924,
            tid: 20925,
            time_ns: Some(1_331_950_175_000),
            event: "cpu-clock",
            period: Some(5_025_125),
            rest: "",
        };
        assert_eq!(head("fix me 20924/20925  1331.950175:    5025125 cpu-clock: "), Some(expected));
        let trace =
            head("swapper     0 [001] 12.000000001: sched:sched_switch: prev_comm=a next_pid=2").expect("a head");
        assert_eq!((trace.comm, trace.event, trace.period), ("swapper", "sched:sched_switch", None));
        let user = head("a 7 [000]  3.1: 9 cycles:u:  7f01 main+0x1 (/bin/a)").expect("a head");
        assert_eq!((user.event, user.rest), ("cycles:u", "7f01 main+0x1 (/bin/a)"));
        assert_eq!(head("main;f 3"), None);
    }

    #[test]
    fn frames_of_all_fashions_are_read() {
        let mut reader = Reader::default();
        let mut read = |text: &str| {
            let frame = reader.pending(text)?;
            Some((frame.name, frame.origin, frame.is_inlined))
        };
        let found = |name: &str, origin, is_inlined| Some((name.to_owned(), origin, is_inlined));
        assert_eq!(read("1175 f(int, char*)+0x21 (/tmp/fix me)"), found("f(int, char*)", Origin::Native, false));
        assert_eq!(read("1 g (/tmp/a (deleted))"), found("g", Origin::Native, false));
        assert_eq!(read("ffff81 do_idle+0x1 ([kernel.kallsyms])"), found("do_idle", Origin::Kernel, false));
        assert_eq!(read("2 [unknown] (/lib/libz.so.1)"), found("[libz.so.1]", Origin::Native, false));
        assert_eq!(read("3 [unknown] ([unknown])"), found("[unknown]", Origin::Unknown, false));
        assert_eq!(read("4 h (inlined)"), found("h", Origin::Native, true));
        assert_eq!(read("5 JS:*run a.js:1 (/tmp/perf-3.map)"), found("JS:*run a.js:1", Origin::Jit, false));
        assert_eq!(read("7f01"), found("[unknown]", Origin::Unknown, false));
        assert_eq!(read("6 only_a_symbol"), found("only_a_symbol", Origin::Native, false));
        assert_eq!(read("not a frame"), None);
        assert_eq!(reader.builder.profile.modules[1].path, "/tmp/a (deleted)");
    }

    #[test]
    fn code_compiled_at_run_time_is_no_kernel() {
        let origin = |text: &str| Reader::default().pending(text).expect("a frame").origin;
        assert_eq!(origin("9c51fd34 java.lang.String.hashCode ([JIT app cache])"), Origin::Jit);
        assert_eq!(origin("9c51fd34 nf_hook ([nf_tables])"), Origin::Kernel);
    }

    #[test]
    fn a_recording_is_read_whole() {
        let text = include_str!("../../../tests/data/profile/perf-script.txt");
        assert!(is_it(text));
        let profile = read(text).expect("perf wrote it");
        assert_eq!(profile.flaw(), None);
        assert_eq!((profile.kinds[0].name.as_str(), profile.kinds[0].unit), ("cpu", Unit::Nanoseconds));
        let heads = text.lines().filter(|line| line.contains("cpu-clock")).count() as u64;
        assert_eq!((profile.total(1), profile.quality.samples), (heads, heads));
        assert_eq!(profile.total(0), heads * 5_025_125);
        assert_eq!(profile.threads[0].process, "fix me");
        for name in ["alpha", "beta", "rec", "main"] {
            assert!(profile.frames.iter().any(|frame| frame.name == name), "{name}");
        }
    }

    #[test]
    fn losses_and_source_lines_are_read() {
        let text = "a 7 1.5: 9 cycles: \n\t 12 f+0x1 (/bin/a)\n  a.c:12\n\na 7 1.6: PERF_RECORD_LOST lost 5\n";
        let profile = read(text).expect("samples");
        assert_eq!(profile.frames.get(0).map(|frame| (frame.file, frame.line)), Some((Some("a.c"), Some(12))));
        assert_eq!((profile.quality.lost, profile.total(0), profile.total(1)), (5, 9, 1));
        let lost = "a 7 1.6: PERF_RECORD_LOST lost 18446744073709551615\n".repeat(2);
        assert_eq!(read(&format!("{text}{lost}")).expect("samples").quality.lost, u64::MAX);
    }

    /// The samples of a text by `process/pid/tid: innermost;outer event=value`.
    fn told(text: &str) -> Vec<String> {
        assert!(is_it(text), "{text}");
        let profile = read(text).expect("samples");
        assert_eq!(profile.flaw(), None);
        let row = |row: crate::model::profile::Row<'_>| {
            let thread = row.thread.map(|thread| &profile.threads[thread as usize]);
            let thread = thread.map_or("-".to_owned(), |it| format!("{}/{}/{}", it.process, it.pid, it.tid));
            let stack: Vec<&str> = profile.stack(row.node).map(|frame| frame.name).collect();
            let values = profile.kinds.iter().zip(row.values).map(|(kind, value)| format!(" {}={value}", kind.name));
            format!("{thread}: {}{}", stack.join(";"), values.collect::<String>())
        };
        profile.rows.iter().map(row).collect()
    }

    /// As perf 6.1 prints them with `-F comm,tid,ip,sym`, `-F ip,sym`, `-F comm,ip,sym,dso`, `-F comm,pid,tid,cpu,period,
    /// event,ip,sym`, and of a recording without stacks.
    #[test]
    fn any_choice_of_fields_is_read() {
        let frames = "\t    55d011a9 hot+0x10 (/tmp/loop)\n\t    55d01300 main\n\n";
        let two = |head: &str| told(&format!("{head}{frames}{head}{frames}"));
        assert_eq!(two("loop  1234 \n"), ["loop/1234/1234: hot;main samples=2"]);
        assert_eq!(two(""), ["-: hot;main samples=2"]);
        assert_eq!(two("my loop \n"), ["my loop/0/0: hot;main samples=2"]);
        assert_eq!(
            two("worker 1  1234/1235 [001]     250000 cpu-clock:u: \n"),
            ["worker 1/1234/1235: hot;main cpu=500000 samples=2"]
        );
        assert_eq!(two("loop     7 cycles: \n"), ["loop/7/7: hot;main cycles=2 samples=2"]);
        assert_eq!(
            told("loop  1234     55d011a9 hot+0x10 (/tmp/loop)\nloop  1234     55d01300 main\n\t1 x\n"),
            ["loop/1234/1234: hot samples=1", "loop/1234/1234: main;x samples=1"]
        );
        assert!(!is_it("main;f 3\nmain;g 4\n"));
    }

    #[test]
    fn source_lines_that_are_not_known_cost_nothing() {
        // Regression: a file of `perf script -F +srcline` was refused where most frames have no source.
        let text = "ls 11634 [002] 15.123456:     250000 cycles:u: \n\t    7f9c11 _dl_map_object+0x21 (/usr/lib/ld-2.29.so)\n  \
                    ld-2.29.so[11634]\n\t    7f9c22 dl_main+0x5 (/usr/lib/ld-2.29.so)\n  rtld.c:1234\n\t    7f9c33 _start+0x5 \
                    (/usr/lib/ld-2.29.so)\n  :0\n";
        let profile = read(text).expect("a profile");
        assert_eq!(profile.quality.notes, Vec::<String>::new());
        let lines: Vec<(&str, Option<u32>)> = profile.frames.iter().map(|frame| (frame.name, frame.line)).collect();
        assert_eq!(lines, [("_start", None), ("dl_main", Some(1234)), ("_dl_map_object", None)]);
    }

    #[test]
    fn samples_of_a_clock_without_a_period_are_counted() {
        // Regression: each stood for one nanosecond, as old versions of perf print no period.
        let kind = |text: &str| {
            let profile = read(text).expect("a profile");
            (profile.kinds[0].name.clone(), profile.kinds[0].unit, profile.total(0))
        };
        let frame = "\t 8877 f (/a)\n";
        assert_eq!(kind(&format!("t 9 1.5: cpu-clock: \n{frame}")), ("cpu-clock".to_owned(), Unit::Count, 1));
        assert_eq!(kind(&format!("t 9 1.5: 70 cpu-clock: \n{frame}")), ("cpu".to_owned(), Unit::Nanoseconds, 70));
    }

    #[test]
    fn a_line_that_is_neither_is_counted_and_said() {
        let text = "a 7 1.5: 9 cycles: \n\t 12 f+0x1 (/bin/a)\n  what is this\n\n\t13 g\n";
        let profile = read(text).expect("samples");
        assert_eq!((profile.total(1), profile.quality.notes.len()), (2, 1), "{:?}", profile.quality.notes);
        assert!(profile.quality.notes[0].starts_with("1 line left out, the first is line 3"));
        let refused = read("  \tnothing\n").expect_err("no sample").to_string();
        assert_eq!(refused, "line 1 is not of `perf script`: neither a sample nor a frame of one");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z0-9.:/ \\t()\\[\\]+x-]{0,40}\n){0,9}") {
            if let Ok(profile) = read(&format!("a 1 1.0: 1 cycles: \n{text}")) {
                prop_assert_eq!(profile.flaw(), None);
            }
        }
    }
}
