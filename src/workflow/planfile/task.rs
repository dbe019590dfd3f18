//! One entry of `tasks` becomes a task, or all that its matrix makes of it. Knows nothing of other tasks: needs are names
//! here, and `collect` looks them up.

use std::borrow::Cow;

use super::command::{self, Shell};
use super::matrix::{self, Combination};
use super::resource::{self, Capacities};
use super::rules::Rules;
use super::value::{duration, environment, glob, limits, retries, sandbox, unknown, when};
use crate::model::bytestring::ByteString;
use crate::model::id::TaskId;
use crate::model::rare::Rare;
use crate::model::sandbox::Sandbox;
use crate::model::task::{Limits, MEMORY, Retry, Run, SLOTS, Step, Task, When};
use crate::text::snippet::Fault;
use crate::text::yaml::{Entry, Key, Kind, Node, Position};

/// What tasks have that do not say otherwise.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    env: Vec<(ByteString, ByteString)>,
    cwd: Option<ByteString>,
    shell: Option<Shell>,
    limits: Rare<Limits>,
    sandbox: Rare<Sandbox>,
    retry: Option<Retry>,
}

impl Defaults {
    pub(super) fn read(node: &Node) -> Result<Self, Fault> {
        let mut defaults = Self::default();
        for (key, value) in node.map()? {
            match key.text.as_ref() {
                "env" => {
                    let pair = |(name, value, _): (&str, &str, _)| (ByteString::from(name), ByteString::from(value));
                    defaults.env = environment(value)?.into_iter().map(pair).collect();
                }
                "cwd" => defaults.cwd = Some(value.text()?.into()),
                "shell" => defaults.shell = Some(Shell::read(value)?),
                "limits" => limits(value, &mut defaults.limits)?,
                "sandbox" => sandbox(value, &mut defaults.sandbox)?,
                "timeout" => defaults.limits.timeout = Some(duration(value)?),
                "retries" => defaults.retry = Some(retries(value)?),
                other => {
                    let known = ["env", "cwd", "shell", "limits", "sandbox", "timeout", "retries"];
                    return Err(unknown(key, other, "`defaults`", &known));
                }
            }
        }
        Ok(defaults)
    }
}

/// The keys of a task.
const KEYS: [&str; 21] = [
    "id",
    "title",
    "run",
    "plan",
    "needs",
    "env",
    "cwd",
    "inputs",
    "outputs",
    "limits",
    "sandbox",
    "retries",
    "priority",
    "deadline",
    "timeout",
    "when",
    "matrix",
    "shell",
    "locks",
    "uses",
    "description",
];

/// Those that go with `plan`. All others are about processes, and such a task starts none.
const PLAN_KEYS: [&str; 12] =
    ["id", "title", "plan", "needs", "cwd", "priority", "deadline", "when", "matrix", "locks", "uses", "description"];

/// A name in `needs`, and where it stands.
pub(super) type Need<'n> = (Cow<'n, str>, Position);

/// Reads tasks.
pub(super) struct TaskReader<'a> {
    pub(super) rules: &'a Rules,
    pub(super) resources: Capacities,
    pub(super) defaults: Defaults,
}

impl TaskReader<'_> {
    /// Hands over the task, or the tasks of its matrix, with the names in their `needs`. Returns the node of the id, and
    /// whether there is a matrix.
    pub(super) fn read<'n, 'a>(
        &self,
        node: &'n Node<'a>,
        mut add: impl FnMut(&Node, Task, Vec<Need<'n>>) -> Result<(), Fault>,
    ) -> Result<(&'n Node<'a>, bool), Fault> {
        let Kind::Map(entries) = &node.kind else { return Err(node.expected("a task: a map with `id` and `run`")) };
        let find = |name: &str| entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value);
        let id = find("id").ok_or_else(|| Fault::at(node.at, "this task has no `id`"))?;
        let Some(matrix) = find("matrix") else {
            let (task, needs) = self.one(id.text()?, id, entries, &Combination::default())?;
            add(id, task, needs)?;
            return Ok((id, false));
        };
        let base = id.text()?;
        for combination in matrix::read(matrix)? {
            let mut name = combination.fill(base, id.at)?;
            if name == base {
                name.to_mut().push_str(&combination.suffix());
            }
            let (task, needs) = self.one(&name, id, entries, &combination)?;
            add(id, task, needs)?;
        }
        Ok((id, true))
    }

    fn one<'n>(
        &self,
        name: &str,
        id: &Node,
        entries: &'n [Entry<'_>],
        matrix: &Combination,
    ) -> Result<(Task, Vec<Need<'n>>), Fault> {
        let id = TaskId::new(name).map_err(|error| Fault::at(id.at, error.to_string()))?;
        let text = |node: &'n Node<'_>| matrix.fill(node.text()?, node.at);
        let texts = |node: &'n Node<'_>| -> Result<Vec<Cow<'n, str>>, Fault> {
            node.texts()?.into_iter().map(|text| matrix.fill(text, node.at)).collect()
        };
        let globs = |node: &Node| -> Result<Vec<String>, Fault> {
            node.texts_with_positions()?
                .map(|text| text.and_then(|(text, at)| glob(at, matrix.fill(text, node.at)?)))
                .collect()
        };
        let mut task = Task::new(id, Run::Argv(Vec::new()));
        let (mut run, mut plan, mut shell) = (None, None, None);
        let mut needs = Vec::new();
        let mut env = Vec::new();
        task.cwd = self.defaults.cwd.clone();
        for (key, value) in entries {
            match key.text.as_ref() {
                "run" => run = Some((key, value)),
                "plan" => plan = Some((key, value)),
                _ => {}
            }
        }
        match (run, plan) {
            (Some(_), Some((key, _))) => {
                return Err(Fault::at(key.at, format!("task `{name}` has both `run` and `plan`")));
            }
            (None, Some((_, file))) => {
                check_plan_keys(name, entries)?;
                task.run = Run::Step(Step::Plan { file: path(file, &text(file)?)? });
                // A file that cannot be read is not better the second time, and its tasks have retries of their own.
                task.never_repeated = true;
            }
            _ => {
                env.clone_from(&self.defaults.env);
                task.limits = self.defaults.limits.clone();
                task.sandbox = self.defaults.sandbox.clone();
                task.never_repeated = self.defaults.retry.as_ref().is_some_and(|retry| retry.max == 0);
                task.retry = self.defaults.retry.clone().unwrap_or_default();
            }
        }
        for (key, value) in entries {
            match key.text.as_ref() {
                "id" | "matrix" | "run" | "plan" => {}
                "title" => task.title = Some(text(value)?.into()),
                "description" => task.reason = text(value)?.into(),
                "shell" => shell = Some(Shell::read(value)?),
                "needs" => {
                    let need = |text: Result<(&'n str, Position), Fault>| -> Result<Need<'n>, Fault> {
                        text.and_then(|(text, at)| Ok((matrix.fill(text, value.at)?, at)))
                    };
                    needs = value.texts_with_positions()?.map(need).collect::<Result<_, _>>()?;
                }
                "env" => {
                    for (name, one, _) in environment(value)? {
                        env.push((name.into(), matrix.fill(one, value.at)?.as_ref().into()));
                    }
                }
                "cwd" => task.cwd = Some(text(value)?.as_ref().into()),
                "inputs" => task.inputs = globs(value)?.into(),
                "outputs" => task.outputs = globs(value)?.into(),
                "locks" => task.locks = texts(value)?.into_iter().map(Cow::into_owned).collect(),
                "uses" => task.uses = resource::uses(value, name, matrix, &self.resources)?,
                "limits" => limits(value, &mut task.limits)?,
                "sandbox" => sandbox(value, &mut task.sandbox)?,
                "timeout" => task.limits.timeout = Some(duration(value)?),
                "retries" => {
                    task.retry = retries(value)?;
                    task.never_repeated = task.retry.max == 0;
                }
                "deadline" => task.deadline = Some(duration(value)?),
                "priority" => task.priority = self.priority(value)?,
                "when" => task.when = when(value)?,
                other => return Err(unknown(key, other, "a task", &KEYS)),
            }
        }
        task.env = env.into_iter().collect();
        if let Some((_, run)) = run {
            let shell = shell.as_ref().or(self.defaults.shell.as_ref());
            task.run = match &run.kind {
                Kind::List(_) => command::argv(run, texts(run)?, shell)?,
                _ => command::line(run, &text(run)?, shell)?,
            };
        }
        let Some((_, action)) = run.or(plan) else {
            let at = entries.first().map_or((1, 1), |(key, _)| key.at);
            return Err(Fault::at(at, format!("task `{name}` has no `run`")));
        };
        if task.when == When::Failure && needs.is_empty() {
            return Err(Fault::at(
                action.at,
                format!("task `{name}` runs on failure, but `needs` names nothing that could fail"),
            ));
        }
        Ok((task, needs))
    }

    fn priority(&self, node: &Node) -> Result<i32, Fault> {
        let levels = self.rules.priority_levels;
        let wanted = || {
            node.expected(&format!("a priority from 0 (normal) to {} (first)", levels - 1))
                .hint(Some("`scheduling.strategies.priority_based.priority_levels` sets how many there are".to_owned()))
        };
        let number = node.number().map_err(|_| wanted())?;
        if number.fract() != 0.0 || !(0.0..f64::from(levels)).contains(&number) {
            return Err(wanted());
        }
        Ok(number as i32)
    }
}

/// A task with `plan` starts no process: what is about one would have no effect, and is refused instead.
fn check_plan_keys(task: &str, entries: &[Entry<'_>]) -> Result<(), Fault> {
    let refuse = |key: &Key, hint: String| {
        let message = format!("task `{task}` reads a plan and starts no process, so `{}` has no effect", key.text);
        Err(Fault::at(key.at, message).hint(Some(hint)))
    };
    for (key, value) in entries {
        let word = key.text.as_ref();
        if KEYS.contains(&word) && !PLAN_KEYS.contains(&word) {
            let hint = match word {
                "env" | "shell" | "limits" | "sandbox" | "timeout" | "retries" => {
                    "`defaults` in that plan, or its tasks, may have it"
                }
                _ => "the tasks of that plan may have it",
            };
            return refuse(key, hint.to_owned());
        }
        if word == "uses"
            && let Kind::Map(needs) = &value.kind
            && let Some((key, _)) = needs.iter().find(|(key, _)| [SLOTS, MEMORY].contains(&key.text.as_ref()))
        {
            return refuse(key, "it takes no slot and no memory; the tasks of that plan do".to_owned());
        }
    }
    Ok(())
}

fn path(node: &Node, text: &str) -> Result<ByteString, Fault> {
    if text.is_empty() {
        return Err(node.expected("the path of a plan"));
    }
    if text.contains('\0') {
        return Err(Fault::at(node.at, "a path cannot hold a NUL character"));
    }
    Ok(text.into())
}
