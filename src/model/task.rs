//! One task of a plan: what to run, after what, within which limits, and why it is there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::bytestring::ByteString;
use crate::model::id::TaskId;
use crate::model::rare::{Rare, Unset};
use crate::model::raw::Raw;
use crate::model::sandbox::Sandbox;
use crate::model::unit::{Bytes, Percent, micros};
use crate::model::variables::Variables;

/// A task as the engine runs it and the journal keeps it. A plan has 100,000 of them: what most do not have is a pointer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name, unique in the plan.
    pub id: TaskId,
    /// For people; the id where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Raw>,
    /// What an attempt executes.
    pub run: Run,
    /// Tasks that end before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<TaskId>,
    /// Under which outcome of its needs it runs.
    #[serde(default, skip_serializing_if = "When::is_default")]
    pub when: When,
    /// Added to the environment.
    #[serde(default, skip_serializing_if = "Variables::is_empty")]
    pub env: Variables,
    /// Working directory; that of apm where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<ByteString>,
    /// Globs of files that a recorded pass depends on: `--resume` runs the task again when they changed.
    #[serde(default, skip_serializing_if = "Rare::is_unset")]
    pub inputs: Rare<Vec<String>>,
    /// Files that exist after a pass; a missing one fails the task.
    #[serde(default, skip_serializing_if = "Rare::is_unset")]
    pub outputs: Rare<Vec<String>>,
    /// Per attempt, for the whole process tree.
    #[serde(default, skip_serializing_if = "Rare::is_unset")]
    pub limits: Rare<Limits>,
    /// How it is confined.
    #[serde(default, skip_serializing_if = "Rare::is_unset")]
    pub sandbox: Rare<Sandbox>,
    /// What happens after a failure.
    #[serde(default, skip_serializing_if = "Retry::is_none")]
    pub retry: Retry,
    /// Higher starts first; 0 is normal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Wanted end, counted from the start of the run. Orders the queue; being late is reported, not punished.
    #[serde(default, rename = "deadline_us", with = "micros::option", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Names held while it runs: two tasks with a lock in common never run at the same time. Resources of capacity 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    /// How much of which resource it holds while it runs. `slots` is the number of slots (1 where not named), `memory` the
    /// bytes to set aside for it; every other name is one of the run's resources.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uses: BTreeMap<String, u64>,
    /// Why the task is in the plan, for `--dry-run` and reports.
    #[serde(default, skip_serializing_if = "Raw::is_empty")]
    pub reason: Raw,
    /// Set where the plan already knows that it will not run: it stays visible with its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<Box<Skip>>,
    /// Set where the task is a check whose output apm reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Box<Check>>,
    /// What the history of durations and peaks is filed under; the command itself where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_key: Option<String>,
    /// What `--tag` puts before its lines; the id where absent, which shows only text, and not too much of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ByteString>,
    /// Set where the plan itself says that it is not repeated: the settings do not change that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never_repeated: bool,
    /// What the plan left open and the settings of the run filled in.
    #[serde(default, skip_serializing_if = "Filled::is_none")]
    pub filled: Filled,
}

/// Values that came from the settings of the run, not from the plan: a resume with other settings fills them in anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// `limits.memory`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub memory: bool,
    /// `limits.cpu`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cpu: bool,
    /// `limits.timeout`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timeout: bool,
    /// `retry.max`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retries: bool,
    /// The delays of `retry`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub delays: bool,
}

/// What an attempt executes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// A program and its arguments, executed without a shell.
    Argv(Vec<ByteString>),
    /// A script handed to a shell.
    Script {
        /// The shell with its options, for instance `["/bin/sh", "-c"]`; the script is appended.
        shell: Vec<ByteString>,
        /// The text.
        script: ByteString,
    },
    /// Code of apm itself: no process is started.
    Step(Step),
}

/// Code of apm as an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reads a plan file, which a task before it may have written, adds its tasks to the run and waits for them.
    Plan {
        /// The file, relative to the folder of the task.
        file: ByteString,
    },
}

/// `uses` of slots.
pub const SLOTS: &str = "slots";
/// `uses` of memory, in bytes.
pub const MEMORY: &str = "memory";

/// A condition on the tasks in `needs`. A task with another one than the default cleans up or reports: it runs also when
/// `--fail-fast` has stopped the run. After Ctrl-C, TERM, `apm run cancel` and `--deadline` only `always` still runs, where
/// one of its needs was started, for as long as `run.cleanup_seconds` says; a second signal ends it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// All of them passed (the default).
    #[default]
    Success,
    /// At least one of them failed, timed out, went over a limit or was broken.
    Failure,
    /// They ended, no matter how.
    Always,
}

/// Limits of one attempt. Each holds for the whole process tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// CPU rate of the tree in percent of one CPU (150 = one and a half); slows down, never kills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Percent>,
    /// CPU time of the tree, user and system.
    #[serde(default, rename = "cpu_time_us", with = "micros::option", skip_serializing_if = "Option::is_none")]
    pub cpu_time: Option<Duration>,
    /// Processes alive at once in the tree, each of their threads counted: the kernel counts so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Time from start to end. Time in which apm itself stood still (Ctrl-Z, a frozen container) is not counted.
    #[serde(default, rename = "timeout_us", with = "micros::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Time without a byte of output, counted in the same way.
    #[serde(default, rename = "idle_timeout_us", with = "micros::option", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Time between TERM and KILL.
    #[serde(default, rename = "grace_us", with = "micros::option", skip_serializing_if = "Option::is_none")]
    pub grace: Option<Duration>,
    /// Nice level of the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// I/O priority of the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
}

/// I/O priority as in ioprio_set(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IoPriority {
    /// Real time class, level 4; needs CAP_SYS_ADMIN or CAP_SYS_NICE.
    Realtime,
    /// Best effort, level 0.
    High,
    /// Best effort, level 4 (the kernel's default at nice 0).
    Normal,
    /// Best effort, level 7.
    Low,
    /// Only when nobody else wants the disk.
    Idle,
}

/// Retries of a failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts after the first.
    pub max: u32,
    /// Delay before the first retry; doubles with each, up to `delay_max`, then a random share of it is taken off.
    #[serde(rename = "delay_us", with = "micros")]
    pub delay: Duration,
    /// Bound of the delay.
    #[serde(rename = "delay_max_us", with = "micros")]
    pub delay_max: Duration,
}

/// Why a task does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// A need did not end as `when` demands.
    Need {
        /// The need that decided.
        task: TaskId,
    },
    /// No need failed and the task only runs on failure.
    NothingFailed,
    /// The program is not installed.
    ToolMissing {
        /// Its name.
        tool: Raw,
        /// How to get it.
        install: Raw,
    },
    /// The tool needs the network and there is none.
    Offline {
        /// What the tool said.
        detail: Raw,
    },
    /// Deselected by a flag or the configuration.
    Deselected {
        /// Which one.
        by: Raw,
    },
    /// The tool found nothing to work on.
    NothingToDo {
        /// What it said.
        detail: Raw,
    },
}

/// A check: a task whose output is read into tests and findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it looks at.
    pub category: Category,
    /// The tool, for instance `clippy`.
    pub tool: String,
    /// How its output is read; a name of `workflow::qa::parse`.
    pub parser: String,
    /// The project root it belongs to, relative to the repository; empty for the repository itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// Files the tool writes its results to (the placeholder `{results}` of its arguments is their folder).
    #[serde(default, skip_serializing_if = "is_false")]
    pub writes_results: bool,
    /// Regular expressions of files of which findings do not count: those that match one of these,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// and those that do not match each of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Whether exit code and findings of severity warning fail the check.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict: bool,
}

/// The categories of checks, in the order of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Formatting.
    Format,
    /// Linters.
    Lint,
    /// Type checkers.
    Types,
    /// Compilation.
    Build,
    /// Tests, doctests included.
    Tests,
    /// Known vulnerabilities, licences.
    Audit,
    /// Documentation.
    Docs,
}

impl Category {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 7] =
        [Self::Format, Self::Lint, Self::Types, Self::Build, Self::Tests, Self::Audit, Self::Docs];

    /// The word used in flags, ids and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Types => "types",
            Self::Build => "build",
            Self::Tests => "tests",
            Self::Audit => "audit",
            Self::Docs => "docs",
        }
    }
}

impl Task {
    /// A task that runs `run` with every other field at rest.
    pub fn new(id: TaskId, run: Run) -> Self {
        Self {
            id,
            title: None,
            run,
            needs: Vec::new(),
            when: When::Success,
            env: Variables::default(),
            cwd: None,
            inputs: Rare::default(),
            outputs: Rare::default(),
            limits: Rare::default(),
            sandbox: Rare::default(),
            retry: Retry::default(),
            priority: 0,
            deadline: None,
            locks: Vec::new(),
            uses: BTreeMap::new(),
            reason: Raw::default(),
            skip: None,
            check: None,
            history_key: None,
            tag: None,
            never_repeated: false,
            filled: Filled::default(),
        }
    }
}

impl Run {
    /// The command in one line, for people.
    pub fn display(&self) -> String {
        match self {
            Self::Argv(words) => words.iter().map(|w| quote(&w.to_text())).collect::<Vec<_>>().join(" "),
            Self::Script { script, .. } => script.to_text().into_owned(),
            Self::Step(Step::Plan { file }) => format!("plan {}", quote(&file.to_text())),
        }
    }
}

pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

impl When {
    fn is_default(&self) -> bool {
        *self == Self::Success
    }
}

impl Limits {
    /// No limit is set.
    pub fn is_none(&self) -> bool {
        self == Self::unset()
    }
}

impl Unset for Limits {
    fn unset() -> &'static Self {
        static NONE: Limits = Limits {
            memory: None,
            cpu: None,
            cpu_time: None,
            processes: None,
            timeout: None,
            idle_timeout: None,
            grace: None,
            nice: None,
            io_priority: None,
        };
        &NONE
    }
}

impl Filled {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Retry {
    fn is_none(&self) -> bool {
        self.max == 0
    }
}

impl Default for Check {
    fn default() -> Self {
        Self {
            category: Category::Lint,
            tool: String::new(),
            parser: String::new(),
            root: String::new(),
            writes_results: false,
            exclude: Vec::new(),
            files: Vec::new(),
            strict: false,
        }
    }
}

fn is_zero(value: &i32) -> bool {
    *value == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::Task;

    /// Journals outlive the program that wrote them: how a task lies in memory is not how it is written.
    #[test]
    fn a_task_is_written_as_it_was_read() {
        let smallest = r#"{"id":"a","run":{"argv":["true"]}}"#;
        let full = concat!(
            r#"{"id":"a","title":"t","run":{"script":{"shell":["/bin/sh","-ec"],"script":"x | y"}},"needs":["b"],"#,
            r#""when":"always","env":{"A":"1","B":""},"cwd":"sub","inputs":["*.c"],"outputs":["o"],"#,
            r#""limits":{"memory":1048576,"cpu":50.0,"timeout_us":1000000,"nice":5,"io_priority":"idle"},"#,
            r#""sandbox":{"mode":"best","run":"require","write":["w"],"network":true},"#,
            r#""retry":{"max":2,"delay_us":1,"delay_max_us":2},"priority":1,"deadline_us":5,"locks":["l"],"#,
            r#""uses":{"db":1},"reason":"r","skip":{"tool_missing":{"tool":"x","install":"i"}},"#,
            r#""check":{"category":"lint","tool":"x","parser":"p"},"history_key":"k","tag":"g","never_repeated":true,"#,
            r#""filled":{"memory":true}}"#
        );
        for text in [smallest, full] {
            let task: Task = serde_json::from_str(text).expect("a task");
            assert_eq!(serde_json::to_string(&task).expect("a task serialises"), text);
        }
    }

    /// 100,000 tasks of 700 bytes were a third of the memory of a run that reads them.
    #[test]
    fn a_task_is_small() {
        assert!(size_of::<Task>() <= 352, "{} bytes", size_of::<Task>());
    }
}
