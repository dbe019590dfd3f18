//! What the engine itself takes, without processes: for the benchmarks. Public, since those are a crate of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::admit::Bounds;
use crate::engine::dispatch::{self, EndFacts, Observer, RunSpec};
use crate::engine::history::History;
use crate::engine::plan::{Change, Planner, Source};
use crate::engine::scheduler::{BadNeeds, Input, Polled, Scheduler, Setup, Step};
use crate::engine::signals::Signals;
use crate::executor::scripted::{Script, ScriptedExecutor};
use crate::executor::{Executor, Executors};
use crate::model::attempt::{AttemptId, AttemptResult};
use crate::model::edit::Edit;
use crate::model::event::{Envelope, Event, Exit, Next, NoteLevel, PoolShape};
use crate::model::id::TaskId;
use crate::model::outcome::Stop;
use crate::model::request::{Halt, HaltCount, HaltOn};
use crate::model::task::{Retry, Run, Task, When};
use crate::model::unit::{Bytes, Percent};
use crate::probe::Roots;
use crate::probe::machine::Meter;
use crate::simulate::{Intervention, Scenario, ScriptedTask};

/// A pool of so many slots and no other bound.
pub(crate) fn setup(slots: u32) -> Setup {
    Setup {
        shape: PoolShape { initial: slots, max: slots, scale_factor: 2.0, idle_timeout: Duration::from_secs(300) },
        slots_max: slots.max(64),
        resources: BTreeMap::new(),
        bounds: Bounds {
            memory_ceiling: None,
            reserve: Percent(10.0),
            memory_pressure_max: Percent(20.0),
            cpu_max: None,
            memory_max: None,
            io_max: None,
        },
        cpu_ceiling_polled: None,
        polled: Polled { memory: true, cpu: true, processes: true },
        grow_below: None,
        interval: crate::simulate::TICK,
        grace: Duration::from_secs(5),
        cleanup_time: Duration::from_secs(60),
        halt: None,
        deadline: None,
        deadline_buffer: Percent(20.0),
        remembers_passed: true,
    }
}

fn id(n: usize) -> TaskId {
    TaskId::new(&format!("t{n}")).expect("letters and digits")
}

fn task(n: usize) -> Task {
    let mut task = Task::new(id(n), Run::Argv(vec!["true".into()]));
    task.history_key = Some("same".to_owned());
    task
}

/// Simulates so many independent tasks, of 1 to 10 seconds, on so many slots. Returns the virtual time they take.
pub fn simulate_tasks(tasks: usize, slots: u32) -> Duration {
    let scripted = |n: usize| ScriptedTask {
        task: Arc::new(task(n)),
        takes: Duration::from_millis(1000 + (n as u64).wrapping_mul(2_654_435_761) % 9000),
        exits: vec![0],
        memory: Bytes(0),
        is_stubborn: false,
    };
    let scenario = Scenario {
        // Many that run at once take long to look at, and looking decides nothing about these. They are values of `each`.
        setup: Setup { interval: Duration::from_secs(10), remembers_passed: false, ..setup(slots) },
        tasks: Vec::new(),
        later: Vec::new(),
        restored: Vec::new(),
        edits: Vec::new(),
        processes: None,
        checks: false,
    };
    let trace = crate::simulate::run_source(scenario, (0..tasks).map(scripted)).unwrap_or_else(|law| panic!("{law}"));
    assert_eq!(trace.ended, tasks, "every task ends");
    trace.end
}

/// The times of so many decisions (an attempt ends, the next one starts), with so many tasks ready and running.
pub fn decisions(ready: usize, running: u32, rounds: usize) -> Vec<Duration> {
    let mut scheduler = Scheduler::new(setup(running), History::default(), 1);
    let tasks: Vec<Arc<Task>> = (0..ready + running as usize + rounds).map(|n| Arc::new(task(n))).collect();
    scheduler.add(&tasks, BadNeeds::Skipped).expect("independent tasks");
    let mut step = Step::default();
    scheduler.step(Duration::ZERO, Input::Closed, &mut step);
    (0..rounds)
        .map(|n| {
            let id = AttemptId { ix: n as u32, attempt: 1 };
            let result = Box::new(AttemptResult::exited(Exit::Code(0)));
            step = Step::default();
            let started = Instant::now();
            scheduler.step(Duration::from_millis(n as u64), Input::Finished(id, result), &mut step);
            let time = started.elapsed();
            assert_eq!(step.actions.len(), 1, "one ends, one starts");
            time
        })
        .collect()
}

/// Simulates so many random runs and checks the laws of each after every step: plans with needs, resources, locks, retries,
/// conditions and time limits; tasks that join, changes of all kinds, failures and stops at random times. The error names
/// the seed of the run that broke a law.
pub fn check_random_runs(seed: u64, runs: u64) -> Result<(), String> {
    for run in seed..seed + runs {
        crate::simulate::run(random_scenario(run)).map_err(|law| format!("seed {run}: {law}"))?;
    }
    Ok(())
}

/// Numbers that follow from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

fn random_scenario(seed: u64) -> Scenario {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut setup = setup(2 + random.below(5) as u32);
    setup.resources = BTreeMap::from([("db".to_owned(), 4), ("gpu".to_owned(), 1)]);
    setup.halt = (random.below(4) == 0).then_some(Halt { now: true, on: HaltOn::Fail, count: HaltCount::Number(2) });
    let count = 1 + random.below(40) as usize;
    let tasks: Vec<ScriptedTask> = (0..count).map(|at| random_task(&mut random, at, 0)).collect();
    let joining: Vec<ScriptedTask> =
        (0..random.below(10) as usize).map(|at| random_task(&mut random, at, 1000)).collect();
    let mut later = vec![(Duration::from_millis(random.below(9000)), Intervention::Add(joining))];
    for _ in 0..random.below(12) {
        let tasks = vec![id(random.below(count as u64) as usize)];
        let to = 1 + random.below(5);
        let edit = match random.below(9) {
            0 => Edit::Pause { tasks },
            1 => Edit::Unpause { tasks },
            2 => Edit::Cancel { tasks },
            3 => Edit::PauseRun {},
            4 => Edit::UnpauseRun {},
            5 => Edit::Resize { resource: "slots".to_owned(), to },
            6 => Edit::Resize { resource: "db".to_owned(), to },
            7 => Edit::Resize { resource: "memory".to_owned(), to: to << 30 },
            _ => Edit::Prioritise { task: tasks[0].clone(), priority: to as i32 },
        };
        later.push((Duration::from_millis(random.below(12_000)), Intervention::Edit(edit)));
    }
    if random.below(5) == 0 {
        let stop = Intervention::Stop(Stop::Signal { signal: 2 });
        later.push((Duration::from_millis(random.below(20_000)), stop));
    }
    later.sort_by_key(|(at, _)| *at);
    // Nobody stays paused for ever.
    let end = Duration::from_secs(30);
    later.push((end, Intervention::Edit(Edit::UnpauseRun {})));
    later.extend((0..count).map(|n| (end, Intervention::Edit(Edit::Unpause { tasks: vec![id(n)] }))));
    Scenario { setup, tasks, later, restored: Vec::new(), edits: Vec::new(), processes: None, checks: true }
}

fn random_task(random: &mut Random, at: usize, first: usize) -> ScriptedTask {
    let mut task = task(first + at);
    task.history_key = None;
    task.priority = random.below(4) as i32;
    if at > 0 {
        task.needs = (0..random.below(4)).map(|_| id(first + random.below(at as u64) as usize)).collect();
    }
    if random.below(3) == 0 {
        let delay = Duration::from_millis(100 + random.below(900));
        task.retry = Retry { max: 1 + random.below(2) as u32, delay, delay_max: 4 * delay };
    }
    match random.below(12) {
        0 => task.locks = vec!["one".to_owned()],
        1 => task.locks = vec!["one".to_owned(), "two".to_owned()],
        2 => task.when = When::Always,
        3 => task.when = When::Failure,
        4 => task.limits.timeout = Some(Duration::from_millis(700)),
        5 => drop(task.uses.insert("db".to_owned(), 1 + random.below(3))),
        6 => task.uses = BTreeMap::from([("db".to_owned(), 2), ("gpu".to_owned(), 1)]),
        7 => drop(task.uses.insert("slots".to_owned(), random.below(3))),
        8 => drop(task.uses.insert("memory".to_owned(), (1 + random.below(4)) << 29)),
        _ => {}
    }
    ScriptedTask {
        task: Arc::new(task),
        takes: Duration::from_millis(random.below(3000)),
        exits: (0..1 + random.below(3)).map(|_| i32::from(random.below(3) == 0)).collect(),
        memory: Bytes(random.below(2 << 30)),
        is_stubborn: random.below(4) == 0,
    }
}

/// A workflow that grows with its results: each task that passes brings two more, until there are enough.
struct Doubling {
    tasks: usize,
    most: usize,
}

impl Planner for Doubling {
    fn on(&mut self, event: &Envelope) -> Vec<Change> {
        let add = |from: usize, to: usize| Change::Add((from..to).map(task).collect());
        match &event.event {
            // The run has begun.
            Event::Noted { .. } => {
                self.tasks = 1;
                vec![add(0, 1)]
            }
            Event::AttemptFinished(_) if self.tasks < self.most => {
                let from = self.tasks;
                self.tasks = (from + 2).min(self.most);
                let mut changes = vec![add(from, self.tasks)];
                if self.tasks == self.most {
                    // The rest goes on with half of the slots.
                    changes.push(Change::Edit(Edit::Resize { resource: "slots".to_owned(), to: 8 }));
                    changes.push(Change::Close);
                }
                changes
            }
            _ => Vec::new(),
        }
    }
}

/// Runs a workflow through the real engine whose tasks follow from what happens in it, up to so many; returns how many
/// passed.
pub fn planned_attempts(most: usize) -> usize {
    let scheduler = Scheduler::new(setup(16), History::default(), 1);
    let planner = Source::Planner(Box::new(Doubling { tasks: 0, most }));
    let begun = Event::Noted { level: NoteLevel::Info, text: "begun".to_owned() };
    run_scripted(scheduler, planner, vec![begun], Duration::ZERO)
}

/// Counts what passed, keeps nothing.
#[derive(Default)]
struct Counter {
    passed: usize,
}

impl Observer for Counter {
    fn joining(&mut self, _tasks: &[Arc<Task>]) -> Result<(), String> {
        Ok(())
    }

    fn events(&mut self, batch: &[Envelope]) -> Result<(), String> {
        let passes = |envelope: &&Envelope| matches!(&envelope.event, Event::AttemptFinished(finished) if matches!(&finished.next, Next::Done { outcome } if outcome.is_good()));
        self.passed += batch.iter().filter(passes).count();
        Ok(())
    }

    fn live(&mut self, _task: &TaskId, _stderr: bool, _bytes: &[u8]) {}

    fn tick(&mut self) {}

    fn is_closed(&self) -> bool {
        false
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn last(&mut self, _end: &EndFacts) -> Vec<Event> {
        Vec::new()
    }
}

/// Runs so many scripted asynchronous attempts at once through the real engine, each of which takes this time; returns how
/// many passed.
pub fn scripted_attempts(count: u32, takes: Duration) -> usize {
    let mut scheduler = Scheduler::new(setup(count), History::default(), 1);
    let tasks: Vec<Arc<Task>> = (0..count as usize).map(|n| Arc::new(task(n))).collect();
    scheduler.add(&tasks, BadNeeds::Skipped).expect("independent tasks");
    run_scripted(scheduler, Source::Fixed, Vec::new(), takes)
}

fn run_scripted(scheduler: Scheduler, source: Source, opening: Vec<Event>, takes: Duration) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let script = move |_: &Task, _| Script { takes, output: Vec::new(), result: AttemptResult::exited(Exit::Code(0)) };
    let scripted: Arc<dyn Executor> = Arc::new(ScriptedExecutor::new(runtime.handle().clone(), Box::new(script)));
    let spec = RunSpec {
        scheduler,
        source,
        executors: Executors { processes: Arc::clone(&scripted), steps: scripted },
        roots: Roots::default(),
        meter: Meter::default(),
        interval: crate::simulate::TICK,
        buffer: 1,
        live: false,
        next_seq: 0,
        elapsed: Duration::ZERO,
        opening,
        signals: Signals::none(),
    };
    let (end, counter) = runtime.block_on(dispatch::run(spec, Counter::default(), |_| {}));
    assert_eq!(end.fault, None);
    counter.passed
}
