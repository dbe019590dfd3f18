//! apm: one static binary that runs checks, plans and commands in parallel, within limits, with one report.
//!
//! # Bird's eye
//!
//! A command turns what the user asked for into tasks (`workflow`). The pure scheduler decides what starts when
//! (`engine::scheduler`); the one owner of the run (`engine::dispatch`) feeds it with what happened, numbers every event,
//! hands it to the journal first and to the sinks next, and only then starts or ends anything. What an attempt is only its
//! executor knows (`executor`: process trees on this machine, steps of apm itself, scripted ones for the simulation); a
//! thread whose attempt has ended steps the owner's state itself and leaves with the next attempt. The plan may change while
//! the run goes on: tasks arrive from a source, from a step, from a planner (`engine::plan`), or from another process of the
//! user through a socket in the folder of the run (`control`), and every change is an event. Reports are folds over the
//! events and nothing else, so a recorded run renders as the live one did, a resume is a fold too (`journal::resume`), and
//! whoever watches a run reads its journal (`journal::follow`).
//!
//! # The code in reading order
//!
//! - `model`: plain data: tasks, attempts, outcomes, edits, findings, the event stream. A wire format; knows nobody.
//! - `engine`: `graph`, `queue`, `pool`, `capacity`, `admit`, `retry`, `history` and `scheduler` are pure and take `now` as a
//!   value. `scheduler::node` has the states of a task and the one function that changes them; `ready` starts, `finish` takes
//!   ends, `stop`, `sample`, `edit` and `explain` say what they do. `plan` is where tasks come from, `dispatch` owns the run,
//!   `live` keeps the newest output of what runs.
//! - `simulate`: the same scheduler under a virtual clock; its laws are checked over random runs.
//! - `executor`: the boundary (`Executor`, `Owner`), `local` process trees, `step` code of apm, `scripted` ones without a
//!   thread; output, the files tasks read and make.
//! - `control`: the socket of a running run: what is said over it, who answers, who asks.
//! - `sys`: the only unsafe: spawn, signals, priorities, control groups. `probe`: read-only looks at Linux.
//! - `journal`: the state directory, writing and reading the journal, resume, what is learned about durations.
//! - `workflow`: `each` (templates, values), `planfile`, `qa` (facts, projects, the table of tools, readers of outputs, what
//!   they mean).
//! - `doctor`: pure rules over a window of two `model::snapshot`s that `probe` reads: a table for each area (`catalogue`),
//!   what a `rule` gets and says, and `diagnose`, which asks them; findings are `model::diagnosis`, `report::doctor` writes
//!   them, `command::{doctor,watch}` look once or go on looking.
//! - `tune`: settings of the machine: one table (`catalogue`: `memory`, `kernel`, `network`, `block`, `limits`), the laws
//!   (`decide`), the files (`dropin`), lists from elsewhere (`judge`), all pure; `apply` is the one place that writes to the
//!   machine, beneath a folder that is held open (`root`), and takes back what a `record` says that it could have written.
//! - `profile`: `record` takes what the kernel samples, `session` unwinds it while the program runs (`process`, `modules`,
//!   `unwind`) into a tree (`stacks`), `symbol` names it, `outcome` makes the `model::profile` of it; `heap` is the arithmetic of
//!   sampled memory, `watch` looks at processes meanwhile.
//! - `shim`: a library of its own, built by its `build.rs` and carried by apm as bytes; it is preloaded into programs that
//!   are profiled, and shares one file with apm, `layout.rs`. Unsafe throughout, without a runtime or dependencies.
//! - `report`: a summary of bounded size (`run`), the rows of all tasks as a stream (`rows`), and one leaf a format; a
//!   diagnosis has its own leaves. `sink`: consumers of events while a run goes on.
//! - `config`: layers, keys, settings. `cli`: words only. `command`: wires all of it; `text` and `ui`: how it is said.
//!
//! # If you look for
//!
//! 1. what may start next, and why a task waits: `engine::scheduler::ready`, `engine::capacity`, `engine::admit`
//! 2. how a process is started without a fork: `sys::spawn`
//!    how it is confined: `executor::sandbox` decides what it may do, `sys::confine` makes it so, `sys::launch` enters it
//! 3. what happens at Ctrl-C (and Ctrl-\): `engine::signals`, then `Input::Stop` in `engine::scheduler::stop`
//! 4. how a limit is kept: `sys::cgroup`, by polling in `engine::scheduler::sample`
//! 5. how leftovers of a killed apm are found: `command::place::sweep`, `sys::process::has_marker`
//! 6. a new tool for `apm run qa`: a row in `workflow::qa::tools`, a reader in `workflow::qa::parse`;
//!    its words: `workflow::qa::call`; whether the project runs its tests otherwise: `workflow::qa::own`; why a check failed
//!    or is broken: `workflow::qa::judge`
//! 7. a new key of the configuration: a row in `config::keys`, a field in `config::settings`, a test in `tests/it/config.rs`
//! 8. a new format of reports: a leaf in `report`, a line in `command::output`
//! 9. what a resume runs again: `journal::resume`; what it reads again: `command::resume`
//! 10. exit codes: `command::failure`
//! 11. a new rule of the doctor: a row in `RULES` of its area in `doctor`, what it needs to see in `probe` and
//!     `model::snapshot`, a fault that makes it speak in `tests/faults`
//! 12. a format of the doctor: a leaf in `report::doctor`, a line in `command::doctor`; its words: `report::doctor::phrase`
//! 13. a setting of `apm tune`: a row in a table of `tune::catalogue`, a line in `tests/tune/*/changes`; what survives a
//!     kill: `tune::apply`; what is believed of the files of another machine: `tune::root`, `tune::record`, `probe::foreign`
//! 14. what a saved look may be: `command::doctor::saved`
//! 15. how a command is profiled from its first instruction: `sys::gate`, `command::profile::target`
//!     names in files that may break their reader: `profile::symbol::ask`, which asks another process by `sys::worker`
//! 16. a way to sample, and what is reported where it is refused: `profile::record::sampler`; where the kernel grants none,
//!     `profile::ptrace_sampler`, then `profile::watch` alone (`command::profile::record` tries them in this order);
//!     off-CPU time where the kernel does not report it: `profile::off_cpu`; the processes that these two look at:
//!     `profile::procfs`; the threads they run on: `command::profile::beside`
//! 17. what is seen inside of a profiled program: `shim`; how it gets there and comes out: `profile::record::{preload,ring}`
//!     of programs that take no library: `profile::calls` by tracepoints (`profile::record::trace`); of devices and short
//!     connections: `profile::{devices,owners}`
//! 18. a format of profiles: a leaf in `report::profile`; what foreign bytes are: `report::profile::detect`
//! 19. which task of an apm run a sampled process belongs to: `sys::process::task_of`, `profile::process`
//! 20. how a task enters a running plan: `State::join` in `engine::dispatch`, then `Scheduler::add`; those who call it:
//!     a source (`State::add`), a step (`Owner::add`), a planner (`State::change`), another process (`control::server`)
//! 21. where a new kind of attempt goes: an executor in `executor`, a variant of `model::task::Run`, a line in `Executors::of`
//! 22. a new change of a running plan: `model::edit::Edit`, `engine::scheduler::edit` (made, refused, replayed by a resume),
//!     `command::steer`
//! 23. what a newer or older journal may hold: `journal::read`, `model::event` (VERSION, FEATURES), `tests/it/journals.rs`
//! 24. what a text from outside may not do in a report, and where that is seen to: `model::raw`, `text::escape`
//! 25. whose files are believed: `sys::owner`, repositories and project files `config::repository`; how they are opened:
//!     `sys::beneath`; how results are written where others may write too: `sys::output`; why no name service is linked:
//!     `sys::nss`, hosts are found by `probe::net::names`
//!
//! # Invariants, mostly absences
//!
//! - What is not in the journal has not happened: an event is written before the action it announces.
//! - `report(live) == report(replayed)`: durations are whole microseconds from the start, sinks see events only.
//! - Only `config` reads the environment, only `ui` and the sinks print, only `sys` (and `shim`) is unsafe,
//!   nothing calls `exit`.
//! - Nothing in the state directory is believed that this user has not put there: `journal::folder` says how.
//! - No fork: a child is started by `clone` with our memory until it executes (`sys::launch`), also with a folder, a group and
//!   limits, whatever memory apm holds.
//! - Values of task environments are in no event and no report.
//! - Text from outside is `model::raw::Raw` or an id that hides nothing. A function of `text::escape` or `text::transcript` makes
//!   it fit for the place it goes to; all that is printed for people passes `text::transcript::printed`. Output of tasks that
//!   is passed on, not reported, stays as it is.
//! - Every queue, buffer, wait and recursion has a bound with a name.
//!
//! `tests/it/architecture.rs` holds the list of imports. Where it differs from what one might expect:
//! `text::yaml` builds its own located tree on `saphyr-parser`, because errors found while reading a meaning must still
//! point at the text, which serde's data model has forgotten by then; `text::json` makes the same tree without positions,
//! and what it cannot read is read by `text::yaml` again; `ui` asks `sys` for the width of the terminal;
//! `engine::admit` takes a `probe` reading as a value. An executor has no way to take over an attempt of an earlier apm, and
//! events say nothing between the start and the end of an attempt but pauses: both come with the first executor whose attempts
//! outlive apm or have something to tell. The name of a task that has passed is remembered for tasks that need it later, but
//! not in `each`, whose values are independent and may be millions. The state of a run lies behind a lock, not behind a
//! channel to a loop of its own: `cargo bench -- spawn` measured 1.5 times the wall time of the physical limit with the loop, 1.1
//! without (`engine::dispatch` says why). `pprof` writes no files
//! here: only `profile::itself` uses it, for samples of apm's own threads; `report::profile` has a writer of its own.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files of their own"))]

pub mod cli;
mod command;
mod config;
mod control;
mod doctor;
mod engine;
mod executor;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
#[path = "../tests/fuzz/targets.rs"]
pub mod fuzz;
mod journal;
mod model;
mod probe;
mod profile;
mod report;
pub mod simulate;
mod sink;
mod sys;
mod text;
mod tune;
mod ui;
mod workflow;

/// Runs apm with this command line and says how it went.
pub fn run(argv: Vec<std::ffi::OsString>) -> std::process::ExitCode {
    command::main(argv)
}
