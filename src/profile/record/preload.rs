//! Puts the preloaded library (`src/shim`) where programs can load it, and makes the ring that it writes into.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layout as l;
use super::ring::{FILES, RING_AT, Ring};
use crate::sys::owner;
use crate::sys::process;
use crate::sys::shared::{self, Shared};

/// The library. Empty where there is none for this processor.
static LIBRARY: &[u8] = include_bytes!(env!("SHIM_OF_APM"));

/// What the library is to record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Allocations: bytes between two samples, on average.
    pub(crate) heap_mean: Option<u64>,
    /// Calls: bytes between two stacks, on average.
    pub(crate) call_mean: Option<u64>,
    /// CPU time between two ticks of a thread. Rates above that of the kernel's own tick are not kept.
    pub(crate) tick: Option<Duration>,
    /// Calls that take longer have their stacks recorded all.
    pub(crate) slow: Duration,
    /// Of a stack.
    pub(crate) stack_max: usize,
    /// Room for records that are not read yet; a power of two.
    pub(crate) ring: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            heap_mean: None,
            call_mean: None,
            tick: None,
            slow: Duration::from_millis(1),
            stack_max: 16 << 10,
            ring: 16 << 20,
        }
    }
}

/// How names of folders begin; the number of the apm that made it follows.
pub(crate) const FOLDER: &str = "apm-preload-";

/// Removes what an apm of this user left that was killed.
#[expect(clippy::disallowed_methods, reason = "own: a new folder with a random name, made for this recording")]
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.split('-').next()?.parse::<i32>().ok());
        let is_own = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == process::uid());
        if pid.is_some_and(|pid| process::start_of(pid).is_none()) && is_own {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Why there is no preloading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("there is no preload library for this processor")]
    Processor,
    #[error("no folder for the preload library: {}", .0.iter().map(|(place, why)| format!("`{}`: {why}", place.display())).collect::<Vec<_>>().join(", "))]
    Folder(Vec<(PathBuf, io::Error)>),
}

/// The library in its folder and the ring. Dropping it removes both; who has them mapped keeps them.
#[derive(Debug)]
pub(crate) struct Preload {
    folder: Folder,
    /// What came in.
    pub(crate) ring: Ring,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    #[expect(clippy::disallowed_methods, reason = "own: a new folder with a random name, made for this recording")]
    fn drop(&mut self) {
        // It lies in a temporary place: what cannot be removed the system removes some day.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Preload {
    /// Installs in the first of these places where code may run and the ring has room. With `for_everyone`, as root
    /// wants it, processes that change their user can still use it: the folder's name cannot be guessed then, and cannot
    /// be listed.
    pub(crate) fn install(places: &[PathBuf], wanted: &Wanted, for_everyone: bool) -> Result<Self, Unavailable> {
        assert!(wanted.ring.is_power_of_two() && wanted.ring >= 64 << 10, "a ring of {} bytes", wanted.ring);
        if LIBRARY.is_empty() {
            return Err(Unavailable::Processor);
        }
        let mut refused = Vec::new();
        for place in places {
            match Self::install_in(place, wanted, for_everyone) {
                Ok(preload) => return Ok(preload),
                Err(error) => refused.push((place.clone(), error)),
            }
        }
        Err(Unavailable::Folder(refused))
    }

    #[expect(clippy::disallowed_methods, reason = "own: a new folder with a random name, made for this recording")]
    fn install_in(place: &Path, wanted: &Wanted, for_everyone: bool) -> io::Result<Self> {
        // The loader splits `LD_PRELOAD` at both, and knows no quotes.
        if !place.is_absolute() || place.as_os_str().as_bytes().iter().any(|byte| b" :\t\n".contains(byte)) {
            return Err(io::Error::other("the loader cannot take this name"));
        }
        // Who could put another folder in its place would choose what the program loads.
        let place = &owner::judged_way_to_new(place)?;
        let (folder_mode, ring_mode) = if for_everyone { (0o711, 0o666) } else { (0o700, 0o600) };
        sweep(place);
        let random = RandomState::new().build_hasher().finish();
        let folder = place.join(format!("{FOLDER}{}-{random:016x}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let folder = Folder(folder);
        let create = |name: &str, mode: u32| -> io::Result<File> {
            let path = folder.0.join(name);
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&path)?;
            // Whatever the umask is.
            file.set_permissions(Permissions::from_mode(mode))?;
            Ok(file)
        };
        let mut library = create("apm.so", 0o755)?;
        library.write_all(LIBRARY)?;
        shared::may_execute(&library)?;
        let file = create("ring", ring_mode)?;
        let shared = Shared::create(&file, RING_AT, wanted.ring)?;
        let features = [
            (wanted.heap_mean.is_some(), l::HEAP),
            (wanted.tick.is_some(), l::TICKS),
            (wanted.call_mean.is_some(), l::CALLS),
        ];
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for (word, value) in [
            (l::CAPACITY, wanted.ring as u64),
            (l::FEATURES, features.iter().filter(|(is_on, _)| *is_on).map(|(_, bit)| bit).sum()),
            (l::HEAP_MEAN, wanted.heap_mean.unwrap_or(0).max(1)),
            (l::CALL_MEAN, wanted.call_mean.unwrap_or(0).max(1)),
            (l::TICK_NS, wanted.tick.map_or(0, nanoseconds)),
            (l::SLOW_NS, nanoseconds(wanted.slow)),
            (l::STACK_MAX, wanted.stack_max as u64),
            (l::FILES, FILES as u64),
        ] {
            shared.store(word, value);
        }
        // Last: without it nobody takes the rest for what it is.
        shared.store(0, l::MAGIC);
        fs::set_permissions(&folder.0, Permissions::from_mode(folder_mode))?;
        Ok(Self { folder, ring: Ring::new(shared, wanted.ring) })
    }

    /// What the program needs in its environment; `preloaded` is what `LD_PRELOAD` is there already.
    pub(crate) fn environment(&self, preloaded: Option<&OsStr>) -> [(&'static str, OsString); 2] {
        let mut preload = self.folder.0.join("apm.so").into_os_string();
        if let Some(others) = preloaded.filter(|others| !others.is_empty()) {
            preload.push(":");
            preload.push(others);
        }
        [("LD_PRELOAD", preload), ("APM_RING", self.folder.0.join("ring").into_os_string())]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::super::ring::{CallKind, Event, FileTotals, Loss, What};
    use super::{Preload, Wanted};
    use crate::profile::heap::Heap;
    use crate::sys::process;

    /// Regression: whoever could put another folder in its place chose what the profiled program loaded.
    #[test]
    fn nothing_is_installed_where_others_could_replace_it() {
        let place = Place::new("open");
        let mode = |mode| fs::set_permissions(&place.0, PermissionsExt::from_mode(mode)).expect("set");
        let install = || Preload::install(std::slice::from_ref(&place.0), &Wanted::default(), false).map(drop);
        for (open, fits) in [(0o777, false), (0o1777, true), (0o755, true)] {
            mode(open);
            match install() {
                Ok(()) => assert!(fits, "{open:o}"),
                // No such library for this processor.
                Err(super::Unavailable::Processor) => return,
                Err(error) => {
                    assert!(!fits && error.to_string().contains("can be changed by other users"), "{open:o} {error}");
                }
            }
        }
    }

    #[test]
    fn what_a_killed_apm_left_is_removed() {
        let place = Place::new("sweep");
        // A number that no process has.
        let (left, other) = (place.0.join("apm-preload-4194999-0123"), place.0.join("apm-preload-x"));
        fs::create_dir_all(left.join("inside")).expect("a folder");
        fs::create_dir_all(&other).expect("a folder");
        let preload = place.preload(&Wanted::default());
        assert!(!left.exists() && other.exists(), "only that of one that is gone");
        drop(preload);
        assert_eq!(fs::read_dir(&place.0).expect("a folder").count(), 1);
    }

    /// A folder of its own for each test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let place = std::env::temp_dir().join(format!("apm-test-preload-{name}-{}", std::process::id()));
            fs::create_dir_all(&place).expect("a folder");
            Self(place)
        }

        /// Compiles a program; none where there is no compiler.
        fn compile(&self, source: &str, flags: &[&str]) -> Option<PathBuf> {
            let program = self.compile_by("gcc", source, flags);
            assert!(program.is_some() || std::env::var_os("CI").is_none(), "CI has gcc");
            program
        }

        fn compile_by(&self, compiler: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
            let (file, program) = (self.0.join("program.c"), self.0.join("program"));
            fs::write(&file, source).expect("write the program");
            let mut gcc = Command::new(compiler);
            gcc.args(["-O1", "-fno-inline", "-fno-builtin", "-no-pie", "-pthread", "-o"])
                .arg(&program)
                .arg(&file)
                .args(flags);
            match gcc.output() {
                Ok(output) => {
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                    Some(program)
                }
                Err(error) => {
                    eprintln!("skipped: {compiler}: {error}");
                    None
                }
            }
        }

        fn preload(&self, wanted: &Wanted) -> Preload {
            Preload::install(std::slice::from_ref(&self.0), wanted, false).expect("the library")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Functions of a program by address, as `nm` has them.
    struct Functions(BTreeMap<u64, String>);

    impl Functions {
        fn of(program: &Path) -> Self {
            let output = Command::new("nm").arg(program).output().expect("nm");
            let text = String::from_utf8(output.stdout).expect("text");
            let line = |line: &str| {
                let mut words = line.split(' ');
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                words.next().filter(|kind| "tT".contains(kind))?;
                Some((address, words.next()?.to_owned()))
            };
            Self(text.lines().filter_map(line).collect())
        }

        fn at(&self, address: u64) -> &str {
            // Programs of these tests lie below 16 MiB, libraries far above.
            let near = address < 16 << 20;
            near.then(|| self.0.range(..address).next_back()).flatten().map_or("?", |(_, name)| name)
        }
    }

    /// What the tests look at.
    #[derive(Debug, Default)]
    struct Seen {
        stdout: String,
        code: Option<i32>,
        caught: Vec<One>,
        started: Vec<(u32, u32, bool)>,
        ended: Vec<u32>,
        maps: BTreeMap<u32, String>,
        files: BTreeMap<u32, String>,
        totals: Vec<FileTotals>,
        taken: Vec<u32>,
        loss: Loss,
    }

    #[derive(Debug)]
    struct One {
        pid: u32,
        tid: u32,
        ip: u64,
        words: Vec<u64>,
        what: What,
    }

    impl Seen {
        fn take(&mut self, event: Event<'_>) {
            match event {
                Event::Started { pid, parent, is_new_program, .. } => self.started.push((pid, parent, is_new_program)),
                Event::Maps { pid, text } => {
                    self.maps.insert(pid, String::from_utf8_lossy(&text).into_owned());
                }
                Event::File { entry, path, .. } => {
                    self.files.insert(entry, path.display().to_string());
                }
                Event::Caught(caught) => self.caught.push(One {
                    pid: caught.pid,
                    tid: caught.tid,
                    ip: caught.regs.ip,
                    words: caught.stack.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect(),
                    what: caught.what,
                }),
                Event::SignalTaken { pid } => self.taken.push(pid),
                Event::Ending { pid } => self.ended.push(pid),
                Event::Executing { .. } | Event::NotExecuted { .. } => {}
            }
        }

        /// Runs the heap over it; a function for each stack.
        fn heap(&self, mean: u64, functions: &Functions) -> BTreeMap<String, super::super::super::heap::Values> {
            let mut heap = Heap::new(mean);
            let mut names: Vec<&str> = Vec::new();
            for one in &self.caught {
                match one.what {
                    What::Alloc { pointer, size } => {
                        let name = functions.at(one.ip);
                        let number = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                            names.push(name);
                            names.len() - 1
                        });
                        heap.alloc(one.pid, pointer, size, number as u32);
                    }
                    What::Free { pointer } => heap.free(one.pid, pointer),
                    _ => {}
                }
            }
            heap.values().map(|(number, values)| (names[number as usize].to_owned(), values)).collect()
        }
    }

    /// Runs a command under the library and reads along.
    fn run(preload: &mut Preload, command: &mut Command) -> Seen {
        let mut child = command
            .envs(preload.environment(None))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut stdout = child.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text).unwrap_or_default()
        });
        let mut seen = Seen::default();
        let began = Instant::now();
        let status = loop {
            if began.elapsed() > Duration::from_secs(60) {
                child.kill().expect("kill");
            }
            let alive = |pid: u32| process::start_of(pid as i32).is_some();
            let count = preload.ring.drain(Instant::now(), alive, |event| seen.take(event));
            match child.try_wait().expect("wait") {
                Some(status) => break status,
                None if count == 0 => std::thread::sleep(Duration::from_millis(1)),
                None => {}
            }
        };
        preload.ring.finish(|event| seen.take(event));
        seen.stdout = reader.join().expect("the reader");
        seen.code = status.code();
        seen.loss = preload.ring.loss();
        seen.totals = preload.ring.files();
        seen
    }

    const HEAP: Wanted = Wanted {
        heap_mean: Some(16 << 10),
        call_mean: None,
        tick: None,
        slow: Duration::from_millis(1),
        stack_max: 16 << 10,
        ring: 16 << 20,
    };

    fn check_within(what: &str, estimate: crate::profile::heap::Estimate, truth: f64) {
        let error = estimate.variance.max(0.0).sqrt();
        // Four errors: the tests are many and run often.
        assert!((estimate.value - truth).abs() <= 4.0 * error + 1.0, "{what}: {estimate:?}, truth {truth}");
    }

    const SITES: &str = r#"
        #include <stdlib.h>
        #include <string.h>
        #include <pthread.h>
        #include <malloc.h>
        static void *kept[4096];
        void *leak(size_t n) { return malloc(n); }
        void *peak(size_t n) { return calloc(n, 1); }
        void churn(void) { for (int i = 0; i < 100000; i++) { void *p = malloc(500); __asm__ volatile("" :: "r"(p) : "memory"); free(p); } }
        void *aligned(size_t n) { void *p = 0; return posix_memalign(&p, 64, n) ? 0 : p; }
        void *grow(void) { char *p = 0; for (int i = 1; i <= 2000; i++) p = realloc(p, i * 1000); return p; }
        void *thread(void *x) { for (int i = 0; i < 1000; i++) kept[2000 + (long)x * 1000 + i] = leak(3000); return 0; }
        int main(void) {
            for (int i = 0; i < 2000; i++) kept[i] = peak(20000);
            churn();
            for (int i = 0; i < 2000; i++) free(kept[i]);
            pthread_t t[2];
            for (long i = 0; i < 2; i++) pthread_create(&t[i], 0, thread, (void *)i);
            for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
            for (int i = 0; i < 500; i++) free(aligned(1024));
            free(grow());
            return 0;
        }
    "#;

    #[test]
    fn peak_leak_and_churn_are_found_with_their_sizes() {
        let place = Place::new("sites");
        let Some(program) = place.compile(SITES, &[]) else { return };
        let seen = run(&mut place.preload(&HEAP), &mut Command::new(&program));
        assert_eq!((seen.code, seen.loss), (Some(0), Loss::default()));
        let functions = Functions::of(&program);
        let values = seen.heap(16 << 10, &functions);
        check_within("peak", values["peak"].peak_space, 40e6);
        check_within("peak in use", values["peak"].inuse_space, 0.0);
        check_within("leak", values["leak"].inuse_space, 6e6);
        check_within("leaks", values["leak"].alloc_objects, 2000.0);
        check_within("churn", values["churn"].alloc_space, 50e6);
        check_within("churns", values["churn"].alloc_objects, 100_000.0);
        assert!(values["churn"].inuse_space.value <= 1.0, "{:?}", values["churn"]);
        check_within("aligned", values["aligned"].alloc_space, 512_000.0);
        check_within("grow", values["grow"].alloc_space, 2_001_000_000.0);
        check_within("grow in use", values["grow"].inuse_space, 0.0);

        let threads: std::collections::BTreeSet<u32> = seen.caught.iter().map(|one| one.tid).collect();
        assert_eq!(threads.len(), 3, "{threads:?}");
        // What called the caller is on the stack that came along.
        for one in seen.caught.iter().filter(|one| matches!(one.what, What::Alloc { .. })) {
            let caller = match functions.at(one.ip) {
                "leak" => "thread",
                "?" => continue,
                _ => "main",
            };
            assert!(one.words.iter().any(|word| functions.at(*word) == caller), "no {caller} above {:x}", one.ip);
        }
        let maps = seen.maps.values().next().expect("maps");
        assert!(maps.contains("/program\n") && maps.contains("libc") && maps.ends_with('\n'), "{maps}");
        assert_eq!((seen.started.len(), seen.ended.len()), (1, 1));
    }

    #[test]
    fn a_child_by_fork_is_a_process_of_its_own() {
        let place = Place::new("fork");
        let source = r#"
            #include <stdlib.h>
            #include <unistd.h>
            #include <sys/wait.h>
            void *before(size_t n) { return malloc(n); }
            void *child(size_t n) { return malloc(n); }
            int main(void) {
                void *p = before(1 << 20);
                for (int i = 0; i < 20; i++) if (fork() == 0) { free(p); child(1 << 20); _exit(i); }
                while (wait(0) > 0) ;
                return 7;
            }
        "#;
        let Some(program) = place.compile(source, &[]) else { return };
        let seen = run(&mut place.preload(&HEAP), &mut Command::new(&program));
        assert_eq!((seen.code, seen.loss), (Some(7), Loss::default()));
        assert_eq!((seen.started.len(), seen.ended.len(), seen.maps.len()), (21, 21, 21), "{seen:?}");
        let parent = seen.started[0].0;
        assert!(seen.started[0].2 && seen.started[1..].iter().all(|started| started.1 == parent && !started.2));
        let values = seen.heap(16 << 10, &Functions::of(&program));
        assert_eq!(values["child"].inuse_space.value.round() as u64, 20 << 20);
        assert_eq!(values["before"].inuse_space.value.round() as u64, 1 << 20, "children free their copies only");
    }

    #[test]
    fn a_process_killed_while_it_writes_holds_up_nobody() {
        let place = Place::new("kill");
        let source = r#"
            #include <stdlib.h>
            #include <pthread.h>
            void *work(void *x) { for (;;) free(malloc(1 << 20)); }
            int main(void) { pthread_t t; for (int i = 0; i < 3; i++) pthread_create(&t, 0, work, 0); work(0); }
        "#;
        let Some(program) = place.compile(source, &[]) else { return };
        let mut preload = place.preload(&Wanted { ring: 1 << 20, ..HEAP });
        for round in 0..20 {
            let mut child = Command::new(&program).envs(preload.environment(None)).spawn().expect("start the program");
            let mut count = 0;
            let began = Instant::now();
            while count < 50 * round && began.elapsed() < Duration::from_secs(20) {
                count += preload.ring.drain(Instant::now(), |_| true, |_| {});
            }
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
        // What the last one left fills the ring, and the next may run before anybody reads.
        let began = Instant::now();
        while !preload.ring.is_empty() && began.elapsed() < Duration::from_secs(20) {
            preload.ring.drain(Instant::now(), |_| false, |_| {});
        }
        let seen = run(&mut preload, Command::new("true").arg("x"));
        assert!(seen.ended.len() == 1 && !seen.loss.is_broken && seen.loss.garbled == 0, "{seen:?}");
        assert!(seen.loss.abandoned <= 20 * 4, "{:?}", seen.loss);
    }

    #[test]
    fn ticks_come_at_their_rate_in_every_thread() {
        let place = Place::new("ticks");
        let source = r#"
            #include <pthread.h>
            #include <time.h>
            #include <errno.h>
            #include <stdio.h>
            static double used(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec + t.tv_nsec / 1e9; }
            void burn(void) { errno = 33; while (used() < 1.0) for (volatile int i = 0; i < 100000; i++) ; if (errno != 33) puts("errno"); }
            void *thread(void *x) { burn(); return 0; }
            int main(void) { pthread_t t; pthread_create(&t, 0, thread, 0); burn(); pthread_join(t, 0); return 0; }
        "#;
        let Some(program) = place.compile(source, &[]) else { return };
        let wanted = Wanted { heap_mean: None, tick: Some(Duration::from_nanos(1_000_000_000 / 99)), ..HEAP };
        let seen = run(&mut place.preload(&wanted), &mut Command::new(&program));
        assert_eq!((seen.code, seen.stdout.as_str()), (Some(0), ""));
        let functions = Functions::of(&program);
        let mut by_thread: BTreeMap<u32, u64> = BTreeMap::new();
        let mut in_burn = 0;
        for one in &seen.caught {
            let What::Tick { missed } = one.what else { panic!("{one:?}") };
            *by_thread.entry(one.tid).or_default() += 1 + missed;
            in_burn += u64::from(functions.at(one.ip) == "burn");
        }
        assert!(by_thread.len() == 2 && by_thread.values().all(|ticks| (50..=200).contains(ticks)), "{by_thread:?}");
        assert!(in_burn > 60, "{in_burn} ticks in the loop");
    }

    #[test]
    fn a_program_that_wants_the_signal_gets_it() {
        let place = Place::new("signal");
        let source = r#"
            #include <signal.h>
            #include <stdio.h>
            #include <time.h>
            static volatile int count;
            static void mine(int s) { count++; }
            static double used(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec + t.tv_nsec / 1e9; }
            int main(void) {
                struct sigaction old, new = { .sa_handler = SIG_IGN };
                sigaction(SIGPROF, &new, &old);
                int first = old.sa_handler == SIG_DFL;
                while (used() < 0.2) ;
                new.sa_handler = mine;
                sigaction(SIGPROF, &new, &old);
                while (used() < 0.5) ;
                int silent = count <= 1;
                raise(SIGPROF);
                printf("%d %d %d %d\n", first, old.sa_handler == SIG_IGN, silent, count >= 1);
                return 0;
            }
        "#;
        let Some(program) = place.compile(source, &[]) else { return };
        let wanted = Wanted { heap_mean: None, tick: Some(Duration::from_millis(10)), ..HEAP };
        let seen = run(&mut place.preload(&wanted), &mut Command::new(&program));
        assert_eq!((seen.code, seen.stdout.as_str()), (Some(0), "1 1 1 1\n"));
        assert_eq!(seen.taken.len(), 1);
        assert!((2..40).contains(&seen.caught.len()), "{}", seen.caught.len());
    }

    #[test]
    fn a_cancelled_thread_is_unwound_through_the_wrappers_with_glibc_and_with_musl() {
        let place = Place::new("cancel");
        let source = r#"
            #include <pthread.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <unistd.h>
            static int ends[2], cleaned;
            static void clean(void *x) { cleaned = 1; }
            void *block(void *x) { char c; pthread_cleanup_push(clean, 0); read(ends[0], &c, 1); pthread_cleanup_pop(0); return 0; }
            void *leave(void *x) { for (int i = 0; i < 100; i++) free(malloc(10000)); pthread_exit(x); }
            int main(void) {
                pthread_t t;
                void *result;
                if (pipe(ends)) return 1;
                for (int i = 0; i < 50; i++) { pthread_create(&t, 0, leave, &t); pthread_join(t, &result); if (result != &t) return 2; }
                pthread_create(&t, 0, block, 0);
                usleep(20000);
                pthread_cancel(t);
                pthread_join(t, &result);
                printf("%d %d\n", result == PTHREAD_CANCELED, cleaned);
                return 0;
            }
        "#;
        for compiler in ["gcc", "musl-gcc"] {
            let Some(program) = place.compile_by(compiler, source, &[]) else { continue };
            let wanted = Wanted { call_mean: Some(64 << 10), tick: Some(Duration::from_millis(10)), ..HEAP };
            let seen = run(&mut place.preload(&wanted), &mut Command::new(&program));
            assert_eq!((seen.code, seen.stdout.as_str()), (Some(0), "1 1\n"), "{compiler}");
            let truth = 50.0 * 100.0 * 10_000.0;
            check_within(compiler, seen.heap(16 << 10, &Functions::of(&program))["leave"].alloc_space, truth);
        }
    }

    #[test]
    fn calls_are_counted_by_file_and_sampled_by_bytes() {
        let place = Place::new("calls");
        let source = r#"
            #include <fcntl.h>
            #include <stdlib.h>
            #include <unistd.h>
            #include <sys/socket.h>
            static char buffer[8192];
            void writer(int fd) { for (int i = 0; i < 4000; i++) if (write(fd, buffer, 8192) != 8192) exit(1); }
            void reader(int fd) { for (int i = 0; i < 2000; i++) if (pread(fd, buffer, 4096, i * 4096L) != 4096) exit(2); }
            void sync_it(int fd) { fsync(fd); }
            void sender(int fd) { for (int i = 0; i < 50; i++) if (send(fd, buffer, 1000, 0) != 1000) exit(3); }
            void receiver(int fd) { for (int i = 0; i < 50; i++) if (recv(fd, buffer, 1000, MSG_WAITALL) != 1000) exit(4); }
            int main(int argc, char **argv) {
                int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600), pair[2];
                writer(fd); reader(fd); sync_it(fd); close(fd);
                if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 5;
                sender(pair[1]); receiver(pair[0]);
                return read(-1, buffer, 1) == -1 ? 0 : 6;
            }
        "#;
        let Some(program) = place.compile(source, &[]) else { return };
        let wanted = Wanted { heap_mean: None, call_mean: Some(64 << 10), ..HEAP };
        let file = place.0.join("data");
        let seen = run(&mut place.preload(&wanted), Command::new(&program).arg(&file));
        assert_eq!((seen.code, seen.loss), (Some(0), Loss::default()));
        let of = |wanted: &str| {
            let entry = seen.files.iter().find(|(_, path)| path.contains(wanted)).expect(wanted).0;
            *seen.totals.iter().find(|totals| totals.entry == *entry).expect(wanted)
        };
        let data = of("/data");
        assert_eq!((data.writes.calls, data.writes.bytes), (4000, 4000 * 8192));
        assert_eq!((data.reads.calls, data.reads.bytes, data.syncs.calls), (2000, 2000 * 4096, 1));
        assert!(data.writes.ns > 0 && data.pid == seen.started[0].0);
        let sockets: Vec<&FileTotals> = seen
            .totals
            .iter()
            .filter(|totals| seen.files.get(&totals.entry).is_some_and(|path| path.starts_with("socket:")))
            .collect();
        assert_eq!(sockets.len(), 2, "the descriptor of the closed file is a new one: {:?}", seen.totals);
        assert_eq!(sockets.iter().map(|totals| totals.writes.bytes + totals.reads.bytes).sum::<u64>(), 100_000);

        let functions = Functions::of(&program);
        let mut bytes: BTreeMap<(&str, CallKind), (u64, f64)> = BTreeMap::new();
        for one in &seen.caught {
            let What::Call(call) = one.what else { panic!("{one:?}") };
            let sum = bytes.entry((functions.at(one.ip), call.kind)).or_default();
            sum.0 += 1;
            if call.is_sampled {
                sum.1 += call.result as f64 / -(-(call.result as f64) / 65536.0).exp_m1();
            }
        }
        let written = bytes[&("writer", CallKind::Write)].1;
        assert!((written / (4000.0 * 8192.0) - 1.0).abs() < 0.25, "{bytes:?}");
        assert!(bytes.contains_key(&("reader", CallKind::Read)) && bytes.contains_key(&("sync_it", CallKind::Sync)));
    }

    #[test]
    fn programs_run_as_without_it() {
        let place = Place::new("unharmed");
        let all = Wanted { call_mean: Some(64 << 10), tick: Some(Duration::from_millis(10)), ..HEAP };
        let source = place.0.join("unit.c");
        fs::write(&source, "#include <stdio.h>\nint main(void) { return printf(\"x\"); }\n").expect("a source");
        let python = "import subprocess,threading,os,sys;t=[threading.Thread(target=lambda:[bytes(1000) for _ in range(1000)]) for _ in range(4)];[x.start() for x in t];[x.join() for x in t];print(subprocess.run(['/bin/echo','a'],capture_output=True).stdout);sys.exit(3)";
        let node = "const t=[];for(let i=0;i<1e5;i++)t.push({i});console.log(t.length,require('child_process').execSync('echo b').toString())";
        let shell = "for i in 1 2 3; do echo $i | cat; done; exec ls /";
        let unit = source.display().to_string();
        let commands: [&[&str]; 7] = [
            &["python3", "-c", python],
            &["git", "--version"],
            &["node", "-e", node],
            &["gcc", "-O2", "-S", "-o", "-", &unit],
            &["sh", "-c", shell],
            &["true"],
            &["/nonexistent"],
        ];
        for words in commands {
            let plain = Command::new(words[0]).args(&words[1..]).output();
            let Ok(plain) = plain else {
                eprintln!("skipped: no {}", words[0]);
                continue;
            };
            let mut preload = place.preload(&all);
            let seen = run(&mut preload, Command::new(words[0]).args(&words[1..]));
            assert_eq!((seen.code, &*seen.stdout), (plain.status.code(), &*String::from_utf8_lossy(&plain.stdout)));
            assert!(!seen.started.is_empty() && seen.loss.garbled == 0, "{words:?}: {:?}", seen.loss);
            assert!(seen.ended.len() >= seen.started.iter().filter(|(_, _, is_new)| *is_new).count() / 2, "{words:?}");
        }
    }

    #[test]
    fn a_static_program_is_not_touched() {
        let place = Place::new("static");
        let Some(program) = place.compile("int main(void) { return 9; }", &["-static"]) else { return };
        let seen = run(&mut place.preload(&HEAP), &mut Command::new(&program));
        assert!(seen.code == Some(9) && seen.started.is_empty());
    }

    #[test]
    fn the_library_stands_before_others_and_goes_with_its_folder() {
        let place = Place::new("folder");
        let preload = place.preload(&HEAP);
        let [(_, first), (_, ring)] = preload.environment(Some("/lib/other.so".as_ref()));
        let first = first.into_string().expect("text");
        assert!(first.ends_with("/apm.so:/lib/other.so") && Path::new(&ring).exists(), "{first}");
        drop(preload);
        assert!(!Path::new(&ring).exists() && fs::read_dir(&place.0).expect("the place").next().is_none());

        let nowhere = [PathBuf::from("/nonexistent"), PathBuf::from("/tmp/a b")];
        let error = Preload::install(&nowhere, &HEAP, false).expect_err("no place").to_string();
        assert!(error.contains("`/nonexistent`") && error.contains("cannot take this name"), "{error}");
    }
}
