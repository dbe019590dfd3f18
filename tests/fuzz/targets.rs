//! What the fuzzer calls: one function for each kind of foreign input, which gives bytes to the reader that apm itself
//! gives them to, and whatever is read to what apm does with it. A panic is a finding, and so is what breaks a law that is
//! asserted here. `run.sh` fuzzes; the test below feeds what is kept in `corpus/TARGET/` to the same functions.
//!
//! A part of the crate in builds with `cfg(fuzzing)` or `cfg(test)`, so that the readers need not be public.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object::Endianness;
use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::{CompressionHeader as _, FileHeader, SectionHeader as _};

use crate::command::doctor::question::Configured;
use crate::command::doctor::saved;
use crate::config::layers::{Sources, merge};
use crate::config::settings::Loaded;
use crate::control::protocol::{self, ControlRequest};
use crate::doctor::catalogue::asked;
use crate::doctor::diagnose::diagnose;
use crate::doctor::question::Question;
use crate::engine::graph::Graph;
use crate::journal::read::{self as journal, Line};
use crate::journal::resume::outstanding;
use crate::model::event::{Exit, Stored};
use crate::model::id::TaskId;
use crate::model::outcome::Stop;
use crate::model::profile::{Profile, Row};
use crate::model::snapshot::Window;
use crate::model::task::{Check, Run, Task};
use crate::model::unit::Bytes;
use crate::probe::collect::{self, Options, Own};
use crate::probe::net::{names, reach};
use crate::probe::{Roots, container, tunables};
use crate::profile::image;
use crate::profile::modules::{Mapping, Modules};
use crate::profile::process::{Area, Processes, What};
use crate::profile::symbol::{elf, kernel, perf_map};
use crate::profile::unwind::{Copied, FRAMES_MAX, Unwinder};
use crate::report::profile as profiles;
use crate::report::row::TakeRow;
use crate::report::rows::Rows;
use crate::report::run::RunReport;
use crate::report::{RunView, doctor, github, html, json, junit, markdown, text, trace};
use crate::simulate::{self, Intervention, Scenario, ScriptedTask, figures};
use crate::sys::perf::REGISTERS;
use crate::text::layout::Layout;
use crate::text::lines::Lines;
use crate::text::{self as texts, yaml};
use crate::tune::record::Record;
use crate::tune::tuned;
use crate::tune::{catalogue, dropin};
use crate::workflow::each::template::Template;
use crate::workflow::each::values::{self, Cut, Values};
use crate::workflow::planfile;
use crate::workflow::qa::index;
use crate::workflow::qa::judge::{Judgement, judge};
use crate::workflow::qa::parse::Parser;
use crate::workflow::qa::tools::TOOLS;

/// A target and its name.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("tune-record", tune_record),
    ("tune-files", tune_files),
    ("git-index", git_index),
    ("perf-map", a_perf_map),
    ("elf", an_elf_file),
    ("look", look),
    ("journal", a_journal),
    ("plan", plan),
    ("configuration", configuration),
    ("pprof", pprof),
    ("folded", folded),
    ("perf-script", perf_script),
    ("profile-json", profile_json),
    ("junit", junit_xml),
    ("qa-tools", qa_tools),
    ("control", control),
    ("each", each),
    ("machine", machine),
    ("kallsyms", kallsyms),
    ("name-server", name_server),
];

/// Gives these bytes to the target of this name.
///
/// # Panics
/// Where the target is not known, or breaks.
pub fn run(target: &str, bytes: &[u8]) {
    let (_, function) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name");
    function(bytes);
}

/// Files of a machine, and requests to a run, that one input has at most: more say nothing new and take long.
const MACHINE_FILES_MAX: usize = 64;
const REQUESTS_MAX: usize = 32;

const IN_MEMORY: &str = "memory takes everything";

/// Renders into memory.
fn rendered(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).expect(IN_MEMORY);
    out
}

/// A file without a name that holds these bytes, for readers that want one.
fn memory_file(bytes: &[u8]) -> (File, PathBuf) {
    let file = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = File::from(file);
    file.write_all(bytes).expect(IN_MEMORY);
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    (file, path)
}

fn tune_record(bytes: &[u8]) {
    // A record must have the name of its file.
    let id = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let id = id.as_ref().and_then(|record| record.get("id")?.as_str()).unwrap_or_default();
    let name = format!("{id}.json");
    let Ok(record) = Record::parse(&name, bytes) else { return };
    let written = serde_json::to_vec(&record).expect("a record serialises");
    assert_eq!(Record::parse(&name, &written), Ok(record));
}

fn tune_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (place, _) in dropin::FILES {
        let own = dropin::parse(*place, &text);
        assert!(own.len() <= text.lines().count());
    }
    dropin::is_own(&text);
    for is_virtual in [false, true] {
        let profile = tuned::Profile::read(&text);
        let (found, unknown) = profile.settings(is_virtual);
        assert!(found.len() + unknown.len() + profile.sections.len() <= text.lines().count());
        let _ = profile.includes(is_virtual);
    }
}

/// The first byte says how long hashes are; a second index in it is the one that the first shares.
fn git_index(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let second = bytes.windows(4).skip(1).position(|word| word == b"DIRC").map_or(bytes.len(), |at| at + 1);
    let (own, shared) = bytes.split_at(second);
    let hash = if kind & 1 == 0 { 20 } else { 32 };
    // Any bytes are the configuration of some repository.
    assert!([20, 32].contains(&index::hash_len_of(bytes)));
    let Some(entries) = index::entries(own, hash, &|_| Some(shared.to_vec())) else { return };
    assert!(entries.len() <= bytes.len() && entries.iter().all(|(_, name)| !name.is_empty()));
}

fn a_perf_map(bytes: &[u8]) {
    let addresses = [0, 0x1000, 0x1004, 0x2000, 0x7fff_0000, u64::MAX - 1, u64::MAX];
    for budget in [1, u32::MAX] {
        let left = std::cell::Cell::new(budget);
        let go_on = || left.replace(left.get().saturating_sub(1)) > 0;
        let (names, _) = perf_map::read(bytes, &addresses, &go_on);
        assert!(names.keys().all(|address| addresses.contains(address)));
    }
}

/// The most that a compressed section may claim to hold here. In apm a worker reads the file; a claim beyond its memory ends
/// it, which costs a note (`tests/it/hostile_input.rs`).
const CLAIM_MAX: u64 = 16 << 20;

fn claims_too_much(bytes: &[u8]) -> bool {
    fn claimed<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Option<u64> {
        let header = Elf::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        let claim =
            |section: &Elf::SectionHeader| Some(section.compression(endian, bytes).ok()??.0.ch_size(endian).into());
        Some(header.section_headers(endian, bytes).ok()?.iter().filter_map(claim).fold(0, u64::saturating_add))
    }
    let claimed = claimed::<FileHeader64<_>>(bytes).or_else(|| claimed::<FileHeader32<_>>(bytes));
    claimed.is_some_and(|claimed| claimed > CLAIM_MAX)
}

fn an_elf_file(bytes: &[u8]) {
    if claims_too_much(bytes) {
        return;
    }
    let (file, path) = memory_file(bytes);
    let len = bytes.len() as u64;
    let offsets: Vec<u64> = (0..16).map(|at| len * at / 16).chain([len, 0x1000, u64::MAX]).collect();
    let question = serde_json::json!({ "offsets": offsets, "with_lines": true });
    let answer = elf::answer(&serde_json::to_vec(&question).expect("a question serialises"), &file);
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("an answer is JSON");
    assert_eq!(answer["names"].as_array().map(Vec::len), Some(offsets.len()));
    if let Some(image) = image::read(&file, 1 << 20) {
        assert!(image.size() <= 1 << 20);
        assert!(offsets.iter().all(|offset| image.address(*offset).is_none() || !image.segments.is_empty()));
    }
    unwind(&file, &path, len);
}

/// Unwinds a stack full of addresses of this file.
fn unwind(file: &File, path: &Path, len: u64) {
    const START: u64 = 0x10_0000;
    const STACK: u64 = 0x7000_0000;
    let inode = file.metadata().expect("it is open").ino();
    let path = path.to_str().expect("a plain name").as_bytes();
    let (mut modules, mut processes) = (Modules::default(), Processes::default());
    let end = START + len.max(1);
    let mapping = Mapping { pid: std::process::id(), start: START, end, path, inode };
    let module = modules.find(&mapping).expect("a file that is there");
    processes.map(1, Area { start: START, end, what: What::File(module, 0) }, path);
    let stack: Vec<u64> =
        (0..128).map(|at| if at % 2 == 0 { STACK + 8 * at + 16 } else { START + len * at / 128 }).collect();
    let stack: Vec<u8> = stack.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut unwinder = Unwinder::new();
    for at in 0..8 {
        let mut registers = [0; REGISTERS.len()];
        let last = registers.len() - 1;
        (registers[0], registers[last - 1], registers[last]) = (STACK + 16, STACK, START + len * at / 8);
        let mut codes = Vec::new();
        unwinder.walk(processes.get(1), &mut modules, &Copied { registers, stack: &stack }, &mut codes);
        assert!(codes.len() <= FRAMES_MAX);
    }
}

fn look(bytes: &[u8]) {
    if let Ok(window) = saved::parse(bytes) {
        looked(&window);
    }
}

/// Says what is found in a look, in every format, and saves it.
fn looked(window: &Window) {
    let question = Question::default();
    let (diagnosis, rules) = (diagnose(window, &question), asked(&question));
    let sheet = doctor::Sheet { diagnosis: &diagnosis, rules: &rules, fails_from: None, is_verbose: true };
    rendered(|out| doctor::text::write(&sheet, &Layout::PLAIN, out));
    for format in [
        doctor::sarif::write,
        doctor::junit::write,
        doctor::github::write,
        doctor::prometheus::write,
        doctor::html::write,
    ] {
        rendered(|out| format(&sheet, out));
    }
    rendered(|out| doctor::json(&diagnosis, out));
    let written = rendered(|out| saved::write(window, out));
    let again = saved::parse(&written).expect("what was written is a look");
    assert!(written == rendered(|out| saved::write(&again, out)));
}

/// Files of another machine, with a NUL between each two: a path below its root, a line break, and what is in the file.
fn machine(bytes: &[u8]) {
    let folder = own_folder();
    let root = folder.join("machine");
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root).expect("a folder");
    for file in bytes.split(|byte| *byte == 0).take(MACHINE_FILES_MAX) {
        let Some(at) = file.iter().position(|byte| *byte == b'\n') else { continue };
        let path = Path::new(OsStr::from_bytes(&file[..at]));
        if path.components().count() > 8 || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let path = root.join(path);
        // A path may be too long, or be that of a folder.
        let folder = path.parent().map(std::fs::create_dir_all);
        if folder.is_some_and(|made| made.is_ok()) {
            let _ = std::fs::write(path, &file[at + 1..]);
        }
    }
    let roots = Roots::below(&root);
    let own = Own { pid: 1, uid: 0 };
    let options = Options { focus: vec![1, 2], deep: true, ..Options::default() };
    let mut window = collect::window(&roots, own, &options, Duration::ZERO, |_| true);
    window.to.at_us = window.from.at_us + 2_000_000;
    looked(&window);
    let tunables = tunables::read(&roots, &catalogue::sysctls());
    drop(tunables);
    let _ = (container::kind(&roots), container::is_virtual(&roots));
}

fn kallsyms(bytes: &[u8]) {
    let addresses = [0, 0x1000, 0x1fff, 0x2000, 0xffff_ffff_8100_0000, 0xffff_ffff_8100_1000, u64::MAX];
    if let Some(names) = kernel::read(bytes, &addresses) {
        assert!(names.iter().all(|(address, name)| addresses.contains(address) && !name.is_empty()));
    }
}

/// What a nameserver answers to the questions for both kinds of addresses, and as a file `resolv.conf` and `hosts`.
fn name_server(bytes: &[u8]) {
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    for kind in [names::A, names::AAAA] {
        if let Some(answer) = names::answer(bytes, id, kind) {
            assert!(!answer.error().to_string().is_empty());
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let resolver = names::Resolver::parse(&text, text.clone().into_owned());
    assert!(!resolver.nameservers.is_empty());
    for host in text.split_whitespace().take(20) {
        names::in_hosts(&text, host).for_each(drop);
    }
    let _ = reach::tunnel(&mut &bytes[..]);
}

/// Requests on the control socket of a run, a line each, and what the scheduler does with them.
fn control(bytes: &[u8]) {
    let mut later = Vec::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').take(REQUESTS_MAX).enumerate() {
        let Ok(request) = protocol::read(line) else { continue };
        let written = protocol::written(request).expect("a request serialises");
        let request = protocol::read(&written).expect("our own request");
        let intervention = match &request {
            ControlRequest::Add { tasks } => Some(Intervention::Add(tasks.iter().cloned().map(scripted).collect())),
            ControlRequest::Edit { edit } => Some(Intervention::Edit(edit.clone())),
            ControlRequest::Waiting {} | ControlRequest::Output { .. } => None,
        };
        assert_eq!(protocol::written(request).expect("it was before"), written);
        later.extend(intervention.map(|what| (Duration::from_millis(300) * at as u32, what)));
    }
    let end = later.last().map_or(Duration::ZERO, |(at, _)| *at) + Duration::from_secs(60);
    later.push((end, Intervention::Stop(Stop::Signal { signal: 2 })));
    let tasks = ["a", "b", "c"]
        .map(|id| scripted(Task::new(TaskId::new(id).expect("a good name"), Run::Argv(vec!["true".into()]))));
    let mut setup = figures::setup(4);
    setup.resources = [("licence".to_owned(), 4)].into();
    let scenario = Scenario {
        setup,
        tasks: tasks.into(),
        later,
        restored: Vec::new(),
        edits: Vec::new(),
        processes: None,
        checks: true,
    };
    simulate::run(scenario).unwrap_or_else(|law| panic!("{law}"));
}

/// A task that takes a second and fails at first.
fn scripted(task: Task) -> ScriptedTask {
    ScriptedTask {
        task: Arc::new(task),
        takes: Duration::from_secs(1),
        exits: vec![1, 0],
        memory: Bytes(1 << 20),
        is_stubborn: false,
    }
}

/// The first byte has the flags; behind it the words of the command in the first line, and the values.
fn each(bytes: &[u8]) {
    let Some((&flags, rest)) = bytes.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (words, input) = (&rest[..end], &rest[(end + 1).min(rest.len())..]);
    let words: Vec<OsString> =
        words.split(|byte| *byte == b' ').map(|word| OsStr::from_bytes(word).to_owned()).collect();
    let (null, shell) = (flags & 1 != 0, flags & 2 != 0);
    let Ok(template) = Template::new(&words, shell) else { return };
    let template = template.tagged(flags & 4 != 0);
    let max_args = [1, 2, 100, usize::MAX][usize::from(flags >> 3) & 3];
    let colsep = (flags & 32 != 0).then(|| words[0].as_bytes().to_vec());
    let separates = colsep.as_ref().is_some_and(|separator| !separator.is_empty());
    let cut = Cut { null, colsep, max_args, room: template.room() };
    let all = values::all(input, null);
    let mut stream = Values::stream(Box::new(io::Cursor::new(input.to_vec())), cut.clone());
    let mut product = Values::product(vec![(false, all.as_ref().cloned().unwrap_or_default())], cut);
    let (mut read, mut sequence) = (Vec::new(), 0);
    loop {
        match stream.next() {
            Ok(Some(columns)) => {
                sequence += 1;
                assert_eq!(
                    product.next().expect("no reader"),
                    Some(columns.clone()),
                    "both ways have the same commands"
                );
                if let Ok(task) = template.task(sequence, &columns) {
                    assert_eq!(written_and_read(&task), task);
                }
                read.extend(columns);
            }
            Ok(None) => break,
            Err(error) => {
                assert!(all.is_err(), "{error}");
                return;
            }
        }
    }
    assert_eq!(product.next().expect("no reader"), None);
    if !separates {
        assert_eq!(read, all.expect("the stream was read"));
    }
}

/// Behind a NUL: what the journal refers to.
fn a_journal(bytes: &[u8]) {
    let (journal_bytes, outputs) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    let Ok(recorded) = journal::parse(journal_bytes) else { return };
    let mut report = RunReport::default();
    for envelope in &recorded.envelopes {
        report.apply(envelope);
        let line = serde_json::to_vec(envelope).expect("an envelope serialises");
        match journal::read_line(&line, 1, envelope.seq) {
            // A task without retries has no delays, whatever was read.
            Ok(Line::Event(again)) => assert_eq!(serde_json::to_vec(&again).expect("it was before"), line),
            Ok(Line::UnknownKind { kind }) => panic!("`{kind}` was known before"),
            Err(error) => panic!("what was written is refused: {error}"),
        }
    }
    let mut left = outstanding(&recorded.envelopes);
    let now = left.tasks.iter().skip(1).cloned().collect();
    left.replan(now, "the plan", false);
    left.judge(|_, digest| digest.is_empty().then(|| "new".to_owned()));
    assert_eq!(left.tasks.len(), left.done.len());
    let each_row = |take: TakeRow<'_>| {
        let mut rows = Rows::new(report.last_ends());
        recorded.envelopes.iter().try_for_each(|envelope| rows.apply(envelope, take))?;
        rows.finish(take)
    };
    let read = |stored: &Stored, max: usize| {
        let from = usize::try_from(stored.offset).unwrap_or(usize::MAX).min(outputs.len());
        let len = usize::try_from(stored.len).unwrap_or(usize::MAX).min(max).min(outputs.len() - from);
        outputs[from..from + len].to_vec()
    };
    let view = RunView { report: &report, each_row: &each_row, read: &read };
    rendered(|out| text::write(&report, &read, &Layout::PLAIN, out));
    for format in [json::write, junit::write, markdown::write, html::write, trace::write, github::write] {
        rendered(|out| format(&view, out));
    }
}

fn plan(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let resources = [("licence".to_owned(), 4)].into();
    let mut rules = planfile::Rules { priority_levels: 5, resources, open_needs: false };
    match planfile::read("p.yaml", &text, &rules) {
        Ok(plan) => {
            // Whether the tasks are in a circle is asked before anything is started.
            let _ = Graph::default().add(&plan.tasks, |_| false);
            for task in &plan.tasks {
                // Environments are not written.
                let once = written_and_read(task);
                assert_eq!(written_and_read(&once), once);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty() && error.in_one_line().lines().count() <= 1),
    }
    rules.open_needs = true;
    let mut lines = planfile::Lines::new("stdin", &rules);
    for (at, line) in text.lines().enumerate() {
        planfile::starts_as_lines(line);
        let _ = lines.read(line, at + 1);
        // Two parsers of one text agree, or one of them refuses it.
        if let (Some(fast), Ok(exact)) = (texts::json::read(line, (0, 0)), yaml::read(line, 100_000)) {
            assert_eq!(without_places(fast), without_places(exact));
        }
    }
}

fn written_and_read(task: &Task) -> Task {
    let written = serde_json::to_string(task).expect("a task serialises");
    serde_json::from_str(&written).unwrap_or_else(|error| panic!("{written} is refused: {error}"))
}

fn without_places<'a>(node: yaml::Node<'a>) -> yaml::Node<'a> {
    let kind = match node.kind {
        yaml::Kind::List(items) => yaml::Kind::List(items.into_iter().map(without_places).collect()),
        yaml::Kind::Map(entries) => {
            let entry =
                |(key, value): yaml::Entry<'a>| (yaml::Key { at: (0, 0), text: key.text }, without_places(value));
            yaml::Kind::Map(entries.into_iter().map(entry).collect())
        }
        kind => kind,
    };
    yaml::Node { at: (0, 0), kind }
}

/// As a file of the user, as the project's, and each line of it as `--set` and as a variable.
fn configuration(bytes: &[u8]) {
    let (_file, path) = memory_file(bytes);
    for project in [None, Some(path.clone())] {
        if let Ok(merged) = merge(&Sources { files: vec![path.clone()], project, ..Sources::default() }) {
            let loaded = Loaded::of(merged);
            let _ = Configured::of(&loaded);
            loaded.merged.all().for_each(|(_, (value, origin))| drop(format!("{value} {origin}")));
        }
    }
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines().take(100) {
        let flags = vec![("--set".to_owned(), line.to_owned())];
        let variables = line.split_once('=').map(|(name, value)| (name.into(), value.into()));
        for sources in [
            Sources { flags, ..Sources::default() },
            Sources { variables: variables.into_iter().collect(), ..Sources::default() },
        ] {
            if let Ok(merged) = merge(&sources) {
                let _ = Configured::of(&Loaded::of(merged));
            }
        }
    }
}

fn pprof(bytes: &[u8]) {
    if let Ok(profile) = profiles::pprof::read(bytes) {
        all_of(&profile);
    }
    let _ = profiles::detect::read(bytes.to_vec());
}

fn folded(bytes: &[u8]) {
    if let Ok(profile) = profiles::folded::read(Lines::of(&String::from_utf8_lossy(bytes))) {
        all_of(&profile);
    }
    let _ = profiles::detect::read(bytes.to_vec());
}

fn perf_script(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    profiles::perf_script::is_it(text.lines());
    if let Ok(profile) = profiles::perf_script::read(Lines::of(&text)) {
        all_of(&profile);
    }
}

fn profile_json(bytes: &[u8]) {
    if let Ok(profile) = profiles::json::read(bytes) {
        all_of(&profile);
    }
    let _ = profiles::detect::read(bytes.to_vec());
}

/// Writes a profile in every format, and reads back what can be read.
fn all_of(profile: &Profile) {
    use profiles::tree::Roots;
    use profiles::{diff, flame, folded, html, json, pprof, speedscope, text};

    assert_eq!(profile.flaw(), None);
    // The format has signed values.
    let value = |row: Row<'_>, kind: usize| row.values[kind].min(i64::MAX as u64);
    let total =
        |profile: &Profile, kind| profile.rows.iter().fold(0, |sum: u64, row| sum.saturating_add(value(row, kind)));
    let totals = |profile: &Profile| (0..profile.kinds.len()).map(|kind| total(profile, kind)).collect::<Vec<u64>>();
    let written = rendered(|out| json::write(profile, out));
    let again = json::read(&written).expect("our own document");
    assert_eq!(rendered(|out| json::write(&again, out)), written);
    let again = pprof::read(&rendered(|out| pprof::write(profile, out))).expect("our own file");
    // The first of the same name is the default, and comes first.
    let (mut before, mut after) = (totals(profile), totals(&again));
    before.sort_unstable();
    after.sort_unstable();
    // Rows that become one there may together pass what a signed value holds.
    if before.iter().all(|total| i64::try_from(*total).is_ok()) {
        assert_eq!(before, after);
    }
    for roots in [Roots::Code, Roots::Process, Roots::Thread, Roots::Task] {
        let extent = text::Extent { roots, ..text::Extent::default() };
        rendered(|out| text::write(profile, &extent, &Layout::PLAIN, out));
        for kind in text::kinds(profile).into_iter().take(4) {
            flame::write(profile, kind, flame::Look { is_icicle: kind % 2 == 0, roots, ..flame::Look::default() });
            let stacks = rendered(|out| folded::write(profile, kind, folded::Form { roots, is_marked: true }, out));
            folded::read(Lines::of(&String::from_utf8_lossy(&stacks))).expect("our own stacks");
        }
    }
    rendered(|out| html::write(profile, Roots::Thread, out));
    rendered(|out| speedscope::write(profile, out));
    for kind in profile.kinds.iter().take(2) {
        if let Some(comparison) = diff::compare(profile, &again, &kind.name) {
            rendered(|out| diff::json(&comparison, out));
            rendered(|out| diff::text(&comparison, 10, &Layout::PLAIN, out));
        }
        flame::write_difference(&again, profile, &kind.name, flame::Look::default());
    }
    drop(profile.clone().merged(again));
}

fn junit_xml(bytes: &[u8]) {
    let mut check = Check { tool: "pytest".to_owned(), parser: "junit".to_owned(), ..Check::default() };
    judged(&check, Exit::Code(1), &[b"", b"", bytes]);
    check.tool = "ctest".to_owned();
    judged(&check, Exit::Code(8), &[b"", b"", bytes]);
}

/// The first byte names the tool, the second the exit code; behind them standard output, standard error and the file that
/// the tool writes, with a NUL between each two.
fn qa_tools(bytes: &[u8]) {
    let Some((&[tool, code], printed)) = bytes.split_first_chunk() else { return };
    let tool = &TOOLS[usize::from(tool) % TOOLS.len()];
    let exit = if code == u8::MAX { Exit::Signal(9) } else { Exit::Code(code.into()) };
    let mut parts: Vec<&[u8]> = printed.splitn(3, |byte| *byte == 0).collect();
    parts.resize(3, &[]);
    let check = Check {
        tool: tool.name.to_owned(),
        parser: tool.parser.as_str().to_owned(),
        category: tool.category,
        strict: code & 64 != 0,
        ..Check::default()
    };
    judged(&check, exit, &parts);
}

/// A folder of this thread.
fn own_folder() -> PathBuf {
    let thread = std::thread::current().id();
    let folder = std::env::temp_dir().join(format!("apm-fuzz-{}-{thread:?}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn judged(check: &Check, exit: Exit, printed: &[&[u8]]) {
    let [stdout, stderr, written] = printed else { return };
    let folder = own_folder();
    let is_jest = Parser::of(&check.parser) == Some(Parser::Jest);
    std::fs::write(folder.join(if is_jest { "jest.json" } else { "junit.xml" }), written).expect("written");
    let mut task = Task::new(TaskId::new("check").expect("a good name"), Run::Argv(vec!["tool".into()]));
    task.check = Some(Box::new(check.clone()));
    let Judgement { results, outcome } = judge(&task, exit, stdout, stderr, Some(&folder), Path::new("/repository"));
    let len = stdout.len() + stderr.len() + written.len();
    assert!(results.tests.len() + results.findings.len() <= len);
    let written = serde_json::to_string(&(&results, &outcome)).expect("results serialise");
    let again: (crate::model::finding::Results, crate::model::outcome::Outcome) =
        serde_json::from_str(&written).expect("what was written is read");
    // A duration is written in whole microseconds.
    assert_eq!(serde_json::to_string(&again).expect("it was before"), written);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::panic::catch_unwind;
    use std::path::Path;

    use super::{TARGETS, run};

    /// What the fuzzer has found worth keeping, and what was wrong once.
    #[test]
    fn the_corpus_of_every_target_is_read_without_a_panic() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        let names = |folder: &Path| -> BTreeSet<String> {
            let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect()
        };
        let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(&corpus), targets, "each target has a corpus, and each corpus a target");
        for target in &targets {
            let folder = corpus.join(target);
            for name in names(&folder) {
                let bytes = std::fs::read(folder.join(&name)).expect("a file");
                assert!(catch_unwind(|| run(target, &bytes)).is_ok(), "{target}/{name}");
            }
        }
    }
}
