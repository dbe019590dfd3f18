//! Words of `apm profile`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Say where the time of a command or process goes, by function
#[derive(Subcommand, Debug)]
pub enum Profile {
    /// Show a recorded profile, apm's own or that of other tools, in another form
    ///
    /// Reads pprof (.pb.gz), apm's JSON, folded stacks (py-spy -f raw, rbspy and async-profiler collapsed, difffolded.pl), the
    /// output of `perf script` with any fields, Go's ?debug=1, V8's .cpuprofile; a folder of `apm profile` too. Of other
    /// formats it says what makes one of these.
    ///
    /// Example: apm profile show cpu.pb.gz --format svg -o cpu.svg
    Show(Show),
    /// Compare two profiles: what grew, what shrank, and what is chance
    ///
    /// Amounts are compared first (bytes, seconds), and whether a change is more than sampling by chance explains; shares of
    /// the whole come second. Two runs of one program may differ by more than sampling does.
    ///
    /// Example: apm profile diff before/ after/
    Diff(Diff),
    /// Sample CPU time, by stack
    ///
    /// Runs a command, or looks at a process that runs. The command has the terminal, its exit code is apm's; Ctrl-C
    /// ends both, and what was recorded is written all the same. Nothing needs to be installed, and no privileges: how
    /// samples were taken, and how good they are, stands in the result.
    ///
    /// These ways are tried, the best first; the result says which one it was and why not a better one.
    ///
    /// (1) cycles, and (2) cpu-clock, user and kernel: perf events, for root or where kernel.perf_event_paranoid is 1 or less.
    /// Every program, static, Go and code made at run time too, by command and by pid, with the functions of the kernel.
    /// cycles needs a hardware counter, which most virtual machines do not have; cpu-clock sees code of the kernel that
    /// runs with interrupts off only at its end. A process that ends before its first period is in no sample.
    ///
    /// (3) cycles, and (4) cpu-clock, user only: the same without the kernel, for everybody where
    /// kernel.perf_event_paranoid is 2. Time in the kernel is in no sample.
    ///
    /// (5) a timer in each thread, by a preloaded library: where perf events are refused, as in most containers. Only
    /// commands that load libraries: not static programs, Go, setuid or a process that runs already. It ticks as often as
    /// the kernel does, 100 to 1000 times a second; time in the kernel counts for the function that called it; a program
    /// that takes SIGPROF for itself has no samples from then on.
    ///
    /// (6) ptrace: threads that run are stopped for some microseconds, 99 times a second. Every program of the same user,
    /// also by pid, except where somebody else traces it or kernel.yama.ptrace_scope forbids it; time in the kernel counts
    /// for the function that called it.
    ///
    /// (7) counters only: CPU time, memory and bytes of each process, without functions.
    ///
    /// Time without a CPU (--off-cpu, --wall) comes from the kernel's switches for a command in (1) and (2), each wait
    /// exactly: `off_cpu` is the time in which threads wait for something (a lock, a timer, a disk), `sched_delay` that in
    /// which they are runnable and others have the CPUs. Else, and with --pid always, it is looked some 50 times a second where threads wait: waits shorter than
    /// that are seen by chance, and where code keeps frame pointers a caller may be wrong.
    ///
    /// Example: apm profile cpu -- gcc -O2 -c large.c
    Cpu(Cpu),
    /// Sample allocations of memory, by stack: what lives at the peak, what is left at the end, what was allocated
    ///
    /// A library is preloaded that samples `malloc` and its kin. Where that is not possible (static programs, Go, a process
    /// that runs already) first touches of pages are sampled instead, and the result says so: these tell where memory came
    /// to be used for the first time, not what was given back, and nothing of memory that is used again.
    ///
    /// The library sees malloc, calloc, realloc, aligned and C++ allocation, in every thread and child. It does not see
    /// mmap, and a program with an allocator of its own (jemalloc, tcmalloc, mimalloc, Go) gets its memory past it: the result
    /// names such programs, and children that did not load the library (static, setuid, an environment without LD_PRELOAD),
    /// with the memory that the kernel says they had. --faults sees them all.
    ///
    /// Example: apm profile mem -- git log -p
    Mem(Mem),
    /// Count bytes, calls and waiting of files and sockets, by stack and by file
    ///
    /// A library is preloaded that counts calls of the C library (read, write, send, fsync and their kin). Bytes by file
    /// are exact, those by stack are sampled. By process it sees everything, also what the library does not.
    ///
    /// Where no library can be preloaded (static programs, Go, a process that runs already) root gets the same from
    /// tracepoints of system calls, for every call. Requests to block devices, with percentiles
    /// of their times for root, are those of the whole machine.
    ///
    /// Example: apm profile io -- tar cf x.tar src
    Io(Io),
    /// Count bytes, retransmits and round trips of connections, by process and peer, and bytes by stack
    ///
    /// The kernel's counters of each TCP connection, ten times a second; no privileges are needed for own processes. For root
    /// short connections are there too, as tracepoints and sock_diag tell of them. Of UDP there are bytes by stack alone: the
    /// kernel counts nothing for each peer.
    ///
    /// Example: apm profile net -- git fetch
    Net(Io),
    /// CPU time, memory, files and connections in one run and one result
    ///
    /// Example: apm profile all -- cargo build
    All(All),
    /// Sample apm's own CPU time while it does what the words say
    ///
    /// By a timer within apm (the pprof crate): no privileges and nothing of the kernel is needed. The tasks that it starts
    /// are not in it: `apm profile cpu -- apm run ...` shows them, by task.
    ///
    /// Example: apm profile self -- run each -j 8 -- true {} ::: $(seq 5000)
    #[command(name = "self")]
    Itself(Itself),
}

/// What every recording has.
#[derive(Args, Debug)]
pub struct Recording {
    /// End the recording after this time; the command goes on
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// Look at this process and what it has started, until it ends or Ctrl-C
    #[arg(short, long, value_name = "PID", conflicts_with = "command")]
    pub pid: Option<u32>,
    /// Look at an apm run that goes on, the newest or this one, until it ends; stacks stand apart by task
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "last", conflicts_with_all = ["command", "pid"])]
    pub run: Option<String>,
    /// Not the processes that it starts
    #[arg(long)]
    pub no_children: bool,
    /// Have Node, Java (17 or later) and Python (3.12 or later) name the code they make, by switches in the environment:
    /// they write /tmp/perf-PID.map, which stays there
    #[arg(long, conflicts_with_all = ["pid", "run"])]
    pub jit: bool,
    /// The folder for the results; files of an earlier one in it are replaced [default: apm-profile/TIME]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Functions in the table on the terminal
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub top: usize,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// How CPU time is sampled.
#[derive(Args, Debug)]
pub struct Sampling {
    /// Samples a second of CPU time [default: 999 for a command, 99 with --pid]
    #[arg(short = 'F', long, value_name = "HZ")]
    pub frequency: Option<u64>,
    /// How much of the stack each sample copies, up to 63KiB: more where outer functions are missing
    #[arg(long, value_name = "SIZE", default_value = "16KiB")]
    pub stack: String,
    /// Find callers by frame pointers, not by copies of the stack: cheaper, right only where all code keeps them
    #[arg(long, conflicts_with = "stack")]
    pub fp: bool,
    /// Not the time in the kernel
    #[arg(long)]
    pub no_kernel: bool,
    /// Also the time without a CPU: what threads wait for, by stack
    #[arg(long)]
    pub off_cpu: bool,
    /// The time of threads as the clock on the wall goes: with a CPU and without, in one graph first
    #[arg(long)]
    pub wall: bool,
}

/// Sample CPU time, by stack
#[derive(Args, Debug)]
pub struct Cpu {
    /// How
    #[command(flatten)]
    pub sampling: Sampling,
    /// Of what, and where to
    #[command(flatten)]
    pub recording: Recording,
}

/// Sample allocations of memory, by stack
#[derive(Args, Debug)]
pub struct Mem {
    /// Bytes between two samples, on average: less is more exact and slower
    #[arg(long, value_name = "SIZE", default_value = "512KiB")]
    pub every: String,
    /// Sample first touches of pages instead, as is done by itself where a program cannot be looked into
    #[arg(long, conflicts_with = "every")]
    pub faults: bool,
    /// Of what, and where to
    #[command(flatten)]
    pub recording: Recording,
}

/// Bytes, calls and time of files and connections, by stack
#[derive(Args, Debug)]
pub struct Io {
    /// Every call, by tracepoints of the kernel: for root. Without it the preloaded library counts, where it can be loaded:
    /// cheaper and with the name of every file, but blind for stdio (fwrite and its kin call within the C library)
    #[arg(long)]
    pub trace: bool,
    /// Of what, and where to
    #[command(flatten)]
    pub recording: Recording,
}

/// Everything in one run
#[derive(Args, Debug)]
pub struct All {
    /// Every call of files and sockets, by tracepoints of the kernel, as of `apm profile io --trace`: for root
    #[arg(long)]
    pub trace: bool,
    /// How
    #[command(flatten)]
    pub sampling: Sampling,
    /// Of what, and where to
    #[command(flatten)]
    pub recording: Recording,
}

/// Sample apm's own CPU time
#[derive(Args, Debug)]
pub struct Itself {
    /// Samples a second of CPU time, up to 250: the timer runs by the kernel's tick
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99)]
    pub frequency: u64,
    /// The folder for the results; files of an earlier one in it are replaced [default: apm-profile/TIME]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Functions in the table on the terminal
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub top: usize,
    /// What apm is to do, as after the word `apm`
    #[arg(last = true, value_name = "WORDS", required = true)]
    pub words: Vec<OsString>,
}

/// A form of a profile
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people: functions and paths
    Text,
    /// A flame graph
    Svg,
    /// A flame graph with the outermost functions on top
    Icicle,
    /// A page: curves, flame graphs, tables
    Html,
    /// For `go tool pprof` and others, packed
    Pprof,
    /// A line for each stack
    Folded,
    /// For speedscope.app
    Speedscope,
    /// One document, everything that is known
    Json,
}

/// Show a recorded profile
#[derive(Args, Debug)]
pub struct Show {
    /// A file, `-` for standard input, or a folder of `apm profile`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to make of it
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub format: Form,
    /// Of which values: cpu, samples, alloc_space and so on [default: the first]
    #[arg(long, value_name = "NAME")]
    pub kind: Option<String>,
    /// Functions in the table
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub top: usize,
    /// What each stack begins with; pprof and JSON name process, thread and task of each anyway
    #[arg(long, value_name = "WHAT", default_value = "code")]
    pub by: By,
    /// Only of this process; `--by process` shows which there are
    #[arg(short, long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Write here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What a stack begins with
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Nothing: all threads are one
    Code,
    /// Processes
    Process,
    /// Processes, and threads in them
    Thread,
    /// Tasks of an apm run
    Task,
}

/// Compare two profiles
#[derive(Args, Debug)]
pub struct Diff {
    /// The earlier: a file, or a folder of `apm profile`
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// The later
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// What to make of it
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub format: DiffForm,
    /// Of which values [default: the first that both have]
    #[arg(long, value_name = "NAME")]
    pub kind: Option<String>,
    /// Functions in the table
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub top: usize,
    /// Write here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A form of a comparison
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffForm {
    /// For people: functions by how their share changed
    Text,
    /// A flame graph of AFTER: red grew, blue shrank, grey is chance
    Svg,
    /// One document
    Json,
}
