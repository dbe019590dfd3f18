//! The scheduler under a virtual clock, against the laws every run must keep. The seed of a failing run is printed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::admit::Bounds;
use super::graph::Ix;
use super::history::History;
use super::schedule::{Action, Halt, HaltCount, HaltOn, Input, Polled, Restored, Scheduler, Setup, Step, Tree};
use super::unit::Attempted;
use crate::model::event::{Event, Exit, Next, PoolShape, Usage};
use crate::model::id::TaskId;
use crate::model::outcome::{Outcome, Stop};
use crate::model::task::{Retry, Run, Task, When};
use crate::model::unit::{Bytes, Percent};
use crate::probe::machine::Reading;

const TICK: Duration = Duration::from_millis(100);

/// A task of a simulated run and how it behaves.
#[derive(Clone, Debug)]
struct Fake {
    task: Task,
    duration: Duration,
    /// Exit codes of its attempts; the last one repeats.
    exits: Vec<i32>,
    memory: Bytes,
    /// It does not react to TERM.
    stubborn: bool,
}

fn fake(name: &str) -> Fake {
    let id = TaskId::new(name).expect("a good id");
    let mut task = Task::new(id, Run::Argv(vec![name.into()]));
    task.history_key = Some(name.to_owned());
    Fake { task, duration: Duration::from_secs(1), exits: vec![0], memory: Bytes(0), stubborn: false }
}

fn setup(slots: u32) -> Setup {
    Setup {
        shape: PoolShape { initial: slots, max: slots, scale_factor: 2.0, idle_timeout: Duration::from_secs(300) },
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
        interval: TICK,
        grace: Duration::from_secs(5),
        halt: None,
        deadline: None,
        deadline_buffer: Percent(20.0),
    }
}

/// What happened in a simulated run.
#[derive(Debug, Default)]
struct Trace {
    lines: Vec<String>,
    ends: BTreeMap<String, Outcome>,
    starts: Vec<String>,
    end: Duration,
    running_max: usize,
    memory_max: u64,
    requeues: usize,
}

/// Runs to the end and checks the laws after every step.
fn simulate(fakes: &[Fake], setup: Setup, restored: Vec<Restored>, stop_at: Option<Duration>) -> Trace {
    let by_id: HashMap<String, &Fake> = fakes.iter().map(|f| (f.task.id.to_string(), f)).collect();
    let slots = setup.shape.max as usize;
    let mut scheduler = Scheduler::new(setup, History::default(), 1);
    scheduler.add(fakes.iter().map(|f| Arc::new(f.task.clone())).collect()).expect("a good graph");
    let done_before: HashSet<Ix> = restored.iter().filter(|r| r.outcome.is_some()).map(|r| r.ix).collect();
    scheduler.restore(restored);
    let mut trace = Trace::default();
    let mut now = Duration::ZERO;
    let mut step = Step::default();
    // Ends of running attempts: when, which, whether by a signal.
    let mut running: BTreeMap<Ix, (Duration, Duration, u32, bool)> = BTreeMap::new();
    let mut locks: HashSet<String> = HashSet::new();
    let mut used_slots: HashMap<Ix, u32> = HashMap::new();
    let mut stop_at = stop_at;
    let mut tick_at = TICK;
    scheduler.step(now, Input::Closed, &mut step);
    for _ in 0..2_000_000 {
        for event in step.events.drain(..) {
            match &event {
                Event::AttemptStarted { task, .. } => {
                    let fake = by_id[task.as_str()];
                    for need in &fake.task.needs {
                        let ix = fakes.iter().position(|f| f.task.id == *need).expect("in the plan") as Ix;
                        let ended = trace.ends.contains_key(need.as_str()) || done_before.contains(&ix);
                        assert!(ended, "`{task}` started before `{need}` ended");
                    }
                    for lock in &fake.task.locks {
                        assert!(locks.insert(lock.clone()), "lock `{lock}` was held when `{task}` started");
                    }
                    trace.starts.push(task.to_string());
                }
                Event::AttemptFinished(finished) => {
                    for lock in &by_id[finished.task.as_str()].task.locks {
                        locks.remove(lock);
                    }
                    match &finished.next {
                        Next::Done { outcome } => {
                            let before = trace.ends.insert(finished.task.to_string(), outcome.clone());
                            assert_eq!(before, None, "`{}` ended twice", finished.task);
                        }
                        Next::Requeue { .. } => trace.requeues += 1,
                        Next::Retry { .. } => {}
                    }
                }
                Event::TaskEnded { task, outcome } => {
                    assert_eq!(trace.ends.insert(task.to_string(), outcome.clone()), None, "`{task}` ended twice");
                }
                _ => {}
            }
            let text = match &event {
                Event::PoolResized { from, to, .. } => format!("pool {from} -> {to}"),
                Event::AdmissionChanged { reason } => format!("admission: {reason}"),
                Event::DeadlineAtRisk { task, missed, .. } => format!("late: {task} {missed}"),
                _ => continue,
            };
            trace.lines.push(format!("{:.1} {text}", now.as_secs_f64()));
        }
        for action in std::mem::take(&mut step.actions) {
            match action {
                Action::Start { ix, attempt, slot } => {
                    assert!(!used_slots.values().any(|used| *used == slot), "slot {slot} is taken");
                    used_slots.insert(ix, slot);
                    let duration = fakes[ix as usize].duration;
                    assert!(running.insert(ix, (now, now + duration, attempt, false)).is_none(), "it ran already");
                }
                Action::Term(ix) if !fakes[ix as usize].stubborn => {
                    running.entry(ix).and_modify(|r| (r.1, r.3) = (now, true));
                }
                Action::Kill(ix) => {
                    running.entry(ix).and_modify(|r| (r.1, r.3) = (now, true));
                }
                Action::Term(_) | Action::Pause(_) | Action::Resume(_) => {}
            }
        }
        assert!(running.len() <= slots, "{} attempts on {slots} slots", running.len());
        trace.running_max = trace.running_max.max(running.len());
        if scheduler.is_over() {
            trace.end = now;
            assert!(running.is_empty());
            return trace;
        }
        let next_end = running.iter().map(|(ix, (_, end, _, _))| (*end, *ix)).min();
        let wake = scheduler.next_wake().filter(|at| *at > now);
        let candidates = [next_end.map(|(at, _)| at), wake, stop_at, Some(tick_at)];
        now = candidates.into_iter().flatten().min().expect("ticks go on").max(now);
        if stop_at.is_some_and(|at| at <= now) {
            stop_at = None;
            scheduler.step(now, Input::Stop(Stop::Signal { signal: 2 }), &mut step);
        } else if let Some((_, ix)) = next_end.filter(|(at, _)| *at <= now) {
            let (start, _, attempt, signalled) = running.remove(&ix).expect("it runs");
            used_slots.remove(&ix);
            let fake = &fakes[ix as usize];
            let code = fake.exits[(attempt as usize - 1).min(fake.exits.len() - 1)];
            let exit = if signalled { Exit::Signal(15) } else { Exit::Code(code) };
            let usage = Usage { wall: now - start, memory_peak: fake.memory, ..Usage::default() };
            let attempted = Attempted { exit: Some(exit), usage, ..Attempted::default() };
            scheduler.step(now, Input::Finished(ix, Box::new(attempted)), &mut step);
        } else if now >= tick_at {
            tick_at = now + TICK;
            let mut total = 0;
            let trees: Vec<(Ix, Tree)> = running
                .iter()
                .map(|(ix, (start, end, _, _))| {
                    // Memory grows evenly over the first half of a task.
                    let fake = &fakes[*ix as usize];
                    let share = ((now - *start).as_secs_f64() / (*end - *start).as_secs_f64().max(0.1) * 2.0).min(1.0);
                    let memory = Bytes((fake.memory.0 as f64 * share) as u64);
                    total += memory.0;
                    (*ix, Tree { memory, processes: 1, ..Tree::default() })
                })
                .collect();
            trace.memory_max = trace.memory_max.max(total);
            let reading = Reading::default();
            scheduler.step(now, Input::Sampled { trees, reading }, &mut step);
        } else {
            scheduler.step(now, Input::Tick, &mut step);
        }
    }
    panic!("the run does not end: {trace:?}");
}

fn needs(fake: &mut Fake, names: &[String]) {
    fake.task.needs = names.iter().map(|name| TaskId::new(name).expect("a good id")).collect();
}

/// A random run: graph, durations, exit codes, retries, locks, priorities, conditions.
fn any_run() -> impl Strategy<Value = (Vec<Fake>, u32, Option<u64>)> {
    let one = (
        0u64..3000,
        prop::collection::vec(0i32..2, 1..3),
        0u32..3,
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        0u8..10,
        -2i32..3,
        any::<bool>(),
    );
    (prop::collection::vec(one, 1..40), 1u32..6, prop::option::of(0u64..20_000)).prop_map(|(specs, slots, stop)| {
        let names: Vec<String> = (0..specs.len()).map(|n| format!("t{n}")).collect();
        let fakes = specs
            .into_iter()
            .enumerate()
            .map(|(at, (millis, exits, retries, picks, kind, priority, stubborn))| {
                let mut fake = fake(&names[at]);
                fake.duration = Duration::from_millis(millis);
                fake.exits = exits;
                fake.stubborn = stubborn;
                fake.task.retry = Retry { max: retries, delay: TICK, delay_max: TICK * 8 };
                fake.task.priority = priority;
                if at > 0 {
                    let chosen: Vec<String> = picks.iter().map(|pick| names[pick.index(at)].clone()).collect();
                    needs(&mut fake, &chosen);
                }
                match kind {
                    0 | 1 => fake.task.locks = vec![format!("lock{kind}")],
                    2 => fake.task.locks = vec!["lock0".to_owned(), "lock1".to_owned()],
                    3 => fake.task.when = When::Always,
                    4 => fake.task.when = When::Failure,
                    5 => fake.task.limits.timeout = Some(Duration::from_millis(700)),
                    _ => {}
                }
                fake
            })
            .collect();
        (fakes, slots, stop)
    })
}

proptest! {
    #[test]
    fn every_task_ends_once_and_no_law_is_broken((fakes, slots, stop) in any_run(), halt in prop::option::of(any::<bool>())) {
        let mut setup = setup(slots);
        setup.halt = halt.map(|now| Halt { now, on: HaltOn::Fail, count: HaltCount::Number(1) });
        let trace = simulate(&fakes, setup, Vec::new(), stop.map(Duration::from_millis));
        prop_assert_eq!(trace.ends.len(), fakes.len());
        for fake in &fakes {
            let end = &trace.ends[fake.task.id.as_str()];
            if matches!(end, Outcome::Passed) && fake.task.when == When::Success {
                for need in &fake.task.needs {
                    prop_assert!(trace.ends[need.as_str()].is_good(), "{} passed over a bad {}", fake.task.id, need);
                }
            }
            if stop.is_none() && fake.task.when != When::Success && !fake.task.needs.is_empty() {
                prop_assert!(!matches!(end, Outcome::Cancelled { .. }), "{} is what a failure is cleaned up by", fake.task.id);
            }
        }
    }

    /// A list schedule is at most (2 - 1/m) times the bound (Graham 1966); without locks, retries and conditions.
    #[test]
    fn the_schedule_keeps_grahams_bound((mut fakes, slots, _) in any_run()) {
        for fake in &mut fakes {
            fake.task.locks.clear();
            fake.task.limits.timeout = None;
            fake.task.when = When::Success;
            fake.exits = vec![0];
        }
        let mut head: HashMap<String, Duration> = HashMap::new();
        for fake in &fakes {
            let before = fake.task.needs.iter().map(|need| head[need.as_str()]).max().unwrap_or_default();
            head.insert(fake.task.id.to_string(), before + fake.duration);
        }
        let work: Duration = fakes.iter().map(|fake| fake.duration).sum();
        let bound = (work / slots).max(head.values().max().copied().unwrap_or_default());
        let trace = simulate(&fakes, setup(slots), Vec::new(), None);
        let factor = 2.0 - 1.0 / f64::from(slots);
        prop_assert!(trace.end <= bound.mul_f64(factor) + Duration::from_micros(1), "{:?} > {:?}", trace.end, bound);
    }
}

#[test]
fn higher_priority_and_the_longer_path_start_first() {
    let mut chain = fake("after");
    needs(&mut chain, &["first".to_owned()]);
    let mut urgent = fake("urgent");
    urgent.task.priority = 1;
    let trace = simulate(&[fake("plain"), fake("first"), chain, urgent], setup(1), Vec::new(), None);
    assert_eq!(trace.starts, ["urgent", "first", "plain", "after"]);
}

#[test]
fn ten_tasks_of_one_gigabyte_finish_under_a_ceiling_of_four() {
    let fakes: Vec<Fake> = (0..10)
        .map(|n| {
            let mut fake = fake(&format!("t{n}"));
            fake.task.history_key = Some("same".to_owned());
            fake.memory = Bytes::gib(1);
            fake.duration = Duration::from_secs(4);
            fake
        })
        .collect();
    let mut setup = setup(10);
    setup.bounds.memory_ceiling = Some(Bytes::gib(4));
    let trace = simulate(&fakes, setup, Vec::new(), None);
    assert!(trace.ends.values().all(|end| *end == Outcome::Passed), "{trace:?}");
    assert!(trace.memory_max <= Bytes::gib(4).0, "{}", Bytes(trace.memory_max));
    assert!(trace.requeues > 0, "unknown memory is found out by trying");
}

#[test]
fn the_pool_grows_while_work_waits() {
    let fakes: Vec<Fake> = (0..40).map(|n| fake(&format!("t{n}"))).collect();
    let mut setup = setup(8);
    setup.shape.initial = 2;
    let trace = simulate(&fakes, setup, Vec::new(), None);
    assert_eq!(trace.lines, ["0.0 pool 2 -> 4", "0.1 pool 4 -> 8"]);
    assert_eq!(trace.running_max, 8);
}

#[test]
fn a_flaky_task_is_named_so_and_a_failure_ends_what_needs_it() {
    let mut flaky = fake("flaky");
    flaky.exits = vec![1, 0];
    flaky.task.retry = Retry { max: 2, delay: TICK, delay_max: TICK };
    let mut bad = fake("bad");
    bad.exits = vec![3];
    let mut after = fake("after");
    needs(&mut after, &["bad".to_owned()]);
    let mut cleanup = fake("cleanup");
    needs(&mut cleanup, &["bad".to_owned()]);
    cleanup.task.when = When::Failure;
    let trace = simulate(&[flaky, bad, after, cleanup], setup(2), Vec::new(), None);
    let words: Vec<String> = trace.ends.iter().map(|(id, end)| format!("{id} {}", end.word())).collect();
    assert_eq!(words, ["after skipped", "bad failed", "cleanup passed", "flaky flaky"]);
    assert_eq!(trace.ends["flaky"], Outcome::Flaky { attempts: 2 });
}

#[test]
fn halting_soon_lets_running_tasks_end_and_halting_now_does_not() {
    let fakes = || {
        let mut bad = fake("bad");
        bad.exits = vec![1];
        let mut long = fake("long");
        long.duration = Duration::from_secs(9);
        [bad, long, fake("never")]
    };
    let run = |now: bool| {
        let mut setup = setup(2);
        setup.halt = Some(Halt { now, on: HaltOn::Fail, count: HaltCount::Number(1) });
        let trace = simulate(&fakes(), setup, Vec::new(), None);
        trace.ends.values().map(Outcome::word).collect::<Vec<_>>()
    };
    assert_eq!(run(false), ["failed", "passed", "cancelled"]);
    assert_eq!(run(true), ["failed", "cancelled", "cancelled"]);
}

/// It was cancelled with the rest, and what `needs` had made stayed.
#[test]
fn what_cleans_up_runs_after_a_failure_but_not_after_an_interrupt() {
    let fakes = || {
        let mut bad = fake("bad");
        bad.exits = vec![1];
        let mut long = fake("long");
        long.duration = Duration::from_secs(9);
        let mut waiting = fake("waiting");
        needs(&mut waiting, &["long".to_owned()]);
        let mut always = fake("always");
        needs(&mut always, &["waiting".to_owned()]);
        always.task.when = When::Always;
        let mut failure = fake("failure");
        needs(&mut failure, &["bad".to_owned()]);
        failure.task.when = When::Failure;
        // The first try fails: that is one more failure, which must not end the others.
        failure.exits = vec![1, 0];
        failure.task.retry = Retry { max: 1, delay: TICK, delay_max: TICK };
        [bad, long, waiting, always, failure]
    };
    let run = |stop_at: Option<u64>| {
        let mut setup = setup(2);
        setup.halt = Some(Halt { now: true, on: HaltOn::Fail, count: HaltCount::Number(1) });
        let trace = simulate(&fakes(), setup, Vec::new(), stop_at.map(Duration::from_millis));
        let words: Vec<String> = trace.ends.iter().map(|(id, end)| format!("{id} {}", end.word())).collect();
        words.join(", ")
    };
    assert_eq!(run(None), "always passed, bad failed, failure flaky, long cancelled, waiting cancelled");
    let interrupted = "always cancelled, bad failed, failure cancelled, long cancelled, waiting cancelled";
    assert_eq!(run(Some(1500)), interrupted);
}

#[test]
fn a_restored_pass_is_not_run_again_and_attempts_go_on_counting() {
    let mut second = fake("second");
    needs(&mut second, &["first".to_owned()]);
    let restored = vec![
        Restored { ix: 0, attempts: 1, outcome: Some(Outcome::Passed) },
        Restored { ix: 1, attempts: 3, outcome: None },
    ];
    let trace = simulate(&[fake("first"), second], setup(1), restored, None);
    assert_eq!(trace.starts, ["second"]);
}

#[test]
fn a_stubborn_task_is_killed_after_its_grace() {
    let mut stubborn = fake("stubborn");
    stubborn.stubborn = true;
    stubborn.duration = Duration::from_secs(1000);
    stubborn.task.limits.timeout = Some(Duration::from_secs(2));
    let trace = simulate(&[stubborn], setup(1), Vec::new(), None);
    assert_eq!(trace.ends["stubborn"].word(), "timed out");
    assert_eq!(trace.end, Duration::from_secs(7));
}

#[test]
fn with_a_kind_of_work_the_pool_grows_while_the_cpus_have_room() {
    let grows = |busy: Option<f64>| {
        let mut setup = setup(8);
        setup.shape.initial = 2;
        setup.grow_below = Some(Percent(85.0));
        let mut scheduler = Scheduler::new(setup, History::default(), 1);
        scheduler.first_reading(Reading { cpu_busy: busy.map(Percent), ..Reading::default() });
        let tasks = (0..9).map(|n| Arc::new(fake(&format!("t{n}")).task)).collect();
        scheduler.add(tasks).expect("a good graph");
        let mut step = Step::default();
        scheduler.step(Duration::ZERO, Input::Closed, &mut step);
        step.events.iter().any(|event| matches!(event, Event::PoolResized { .. }))
    };
    assert_eq!([Some(20.0), Some(95.0), None].map(grows), [true, false, false]);
}

/// What can be seen of one attempt, fed by hand.
struct Alone {
    scheduler: Scheduler,
    step: Step,
}

impl Alone {
    fn start(fake: &Fake) -> Self {
        let mut scheduler = Scheduler::new(setup(1), History::default(), 1);
        scheduler.add(vec![Arc::new(fake.task.clone())]).expect("a good graph");
        let mut alone = Self { scheduler, step: Step::default() };
        assert!(!alone.ends(0, Input::Closed));
        alone
    }

    /// Whether it is told to end.
    fn ends(&mut self, seconds: u64, input: Input) -> bool {
        self.step = Step::default();
        self.scheduler.step(Duration::from_secs(seconds), input, &mut self.step);
        self.step.actions.contains(&Action::Term(0))
    }
}

fn silent(seconds: u64) -> Input {
    let tree = Tree { silent: Duration::from_secs(seconds), ..Tree::default() };
    Input::Sampled { trees: vec![(0, tree)], reading: Reading::default() }
}

#[test]
fn time_in_which_apm_stood_still_is_no_time_of_its_tasks() {
    let mut timed = fake("timed");
    timed.task.limits.timeout = Some(Duration::from_secs(4));
    let mut alone = Alone::start(&timed);
    assert!(!alone.ends(1, Input::Tick));
    assert!(!alone.ends(11, Input::StoodStill(Duration::from_secs(10))));
    assert!(!alone.ends(13, Input::Tick));
    assert!(alone.ends(14, Input::Tick));

    let mut quiet = fake("quiet");
    quiet.task.limits.idle_timeout = Some(Duration::from_secs(4));
    let mut alone = Alone::start(&quiet);
    assert!(!alone.ends(11, Input::StoodStill(Duration::from_secs(10))));
    assert!(!alone.ends(12, silent(12)), "what it printed may not be read yet");
    assert!(alone.ends(16, silent(16)));
}

/// What ended while apm was stopped was called timed out.
#[test]
fn what_ended_before_it_was_told_to_is_judged_by_its_exit() {
    for (by_itself, word) in [(true, "failed"), (false, "timed out")] {
        let mut timed = fake("timed");
        timed.task.limits.timeout = Some(Duration::from_secs(4));
        let mut alone = Alone::start(&timed);
        assert!(alone.ends(5, Input::Tick));
        let attempted = Attempted { exit: Some(Exit::Code(1)), by_itself, ..Attempted::default() };
        alone.ends(5, Input::Finished(0, Box::new(attempted)));
        let ends = alone.step.events.iter().filter_map(|event| match event {
            Event::AttemptFinished(finished) => Some(finished.outcome.word()),
            _ => None,
        });
        assert_eq!(ends.collect::<Vec<_>>(), [word]);
    }
}

/// The one that ended last of three that filled the ceiling together was blamed for all of them.
#[test]
fn what_the_kernel_ends_at_the_ceiling_goes_back_if_it_ever_had_company() {
    let mut setup = setup(3);
    setup.bounds.memory_ceiling = Some(Bytes::gib(4));
    let mut scheduler = Scheduler::new(setup, History::default(), 1);
    let tasks: Vec<Arc<Task>> = ["a", "b", "c"].iter().map(|name| Arc::new(fake(name).task)).collect();
    scheduler.add(tasks).expect("a good graph");
    let mut step = Step::default();
    scheduler.step(Duration::ZERO, Input::Closed, &mut step);
    let killed = || Attempted { exit: Some(Exit::Signal(9)), oom_kills: 1, ..Attempted::default() };
    let mut ended = |at: u64, ix: Ix| {
        let starts = step.actions.len();
        scheduler.step(Duration::from_millis(at), Input::Finished(ix, Box::new(killed())), &mut step);
        let outcome = step.events.iter().rev().find_map(|event| match event {
            Event::AttemptFinished(finished) => Some(finished.next.clone()),
            _ => None,
        });
        let started = step.actions[starts..].iter().filter(|action| matches!(action, Action::Start { .. })).count();
        (outcome.expect("it ended"), started)
    };
    for (ix, starts) in [(0, 0), (1, 0), (2, 1)] {
        let (next, started) = ended(100 + u64::from(ix), ix);
        assert!(matches!(next, Next::Requeue { .. }), "{next:?}");
        assert_eq!(started, starts, "then one by itself");
    }
    let (next, _) = ended(200, 0);
    let Next::Done { outcome } = next else { panic!("nobody else took its memory: {next:?}") };
    assert_eq!(outcome.word(), "over limit");
}
