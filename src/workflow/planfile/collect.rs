//! The tasks of one plan together: no name twice, and every need is a task.

use std::collections::HashMap;
use std::ops::Range;

use super::plan::PlanFile;
use super::rules::TASKS_MAX;
use super::task::{Need, TaskReader};
use crate::model::id::TaskId;
use crate::model::task::Task;
use crate::text::snippet::Fault;
use crate::text::suggest;
use crate::text::yaml::{Node, Position};

/// Collects tasks. A need may name a task that comes later, so needs are looked up as soon as they can be, and what is left
/// at the end.
pub(super) struct Collector<'a> {
    reader: TaskReader<'a>,
    tasks: Vec<Task>,
    places: Vec<Position>,
    names: HashMap<TaskId, u32>,
    /// What a matrix made: a need may name all of it at once.
    groups: HashMap<String, Range<u32>>,
    /// Tasks that need what has not come yet, with all their needs.
    open: Vec<(u32, Vec<(String, Position)>)>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(reader: TaskReader<'a>) -> Self {
        let (tasks, places, open) = (Vec::new(), Vec::new(), Vec::new());
        Self { reader, tasks, places, names: HashMap::new(), groups: HashMap::new(), open }
    }

    /// Reads a task, or the tasks of its matrix. `line` is added to each place in it.
    pub(super) fn add(&mut self, node: &Node, line: usize) -> Result<(), Fault> {
        let place = (node.at.0 + line, node.at.1);
        let first = self.tasks.len() as u32;
        let Self { reader, tasks, places, names, groups, open } = self;
        let (id, is_matrix) = reader.read(node, |id, mut task, needs| {
            if tasks.len() >= TASKS_MAX {
                return Err(Fault::at(node.at, format!("more than {TASKS_MAX} tasks")));
            }
            let ix = tasks.len() as u32;
            let name = task.id.as_str();
            let other = groups.get(name).map(|group| group.start).or_else(|| names.get(name).copied());
            if let Some(other) = other {
                let message = format!("two tasks are named `{name}`, the first in line {}", places[other as usize].0);
                return Err(Fault::at(id.at, message));
            }
            names.insert(task.id.clone(), ix);
            if !find(&needs, names, groups, tasks, &mut task.needs) {
                let owned = |(need, at): Need<'_>| (need.into_owned(), (at.0 + line, at.1));
                open.push((ix, needs.into_iter().map(owned).collect()));
            }
            tasks.push(task);
            places.push(place);
            Ok(())
        })?;
        if is_matrix {
            let base = id.text()?;
            let all = first..self.tasks.len() as u32;
            let is_other = self.names.get(base).is_some_and(|ix| *ix != first);
            if self.groups.insert(base.to_owned(), all).is_some() || is_other {
                return Err(Fault::at(id.at, format!("two tasks are named `{base}`")));
            }
        }
        Ok(())
    }

    /// Looks up the needs that were open.
    pub(super) fn finish(self) -> Result<PlanFile, Fault> {
        let Self { reader, mut tasks, places, names, groups, open } = self;
        for (ix, needs) in open {
            let mut found = Vec::new();
            let is_found = find(&needs, &names, &groups, &tasks, &mut found);
            if !is_found && reader.rules.open_needs {
                for (need, at) in &needs {
                    match groups.get(need.as_str()) {
                        Some(group) => found
                            .extend(tasks[group.start as usize..group.end as usize].iter().map(|task| task.id.clone())),
                        None => found.push(TaskId::new(need).map_err(|error| Fault::at(*at, error.to_string()))?),
                    }
                }
            } else if !is_found {
                let known = |need: &str| names.contains_key(need) || groups.contains_key(need);
                if let Some((need, at)) = needs.iter().find(|(need, _)| !known(need)) {
                    let message = format!("`{}` needs `{need}`, and no task has that name", tasks[ix as usize].id);
                    let all = names.keys().map(TaskId::as_str).chain(groups.keys().map(String::as_str));
                    let likely = suggest::likely(need, all);
                    return Err(Fault::at(*at, message).hint(likely.map(|word| format!("did you mean `{word}`?"))));
                }
            }
            tasks[ix as usize].needs = found;
        }
        Ok(PlanFile { tasks, places, resources: reader.resources })
    }
}

/// Adds the tasks that are needed, or nothing where one of them is not there.
fn find<N: AsRef<str>>(
    needs: &[(N, Position)],
    names: &HashMap<TaskId, u32>,
    groups: &HashMap<String, Range<u32>>,
    tasks: &[Task],
    found: &mut Vec<TaskId>,
) -> bool {
    found.reserve_exact(needs.len());
    for (need, _) in needs {
        let need = need.as_ref();
        if let Some(group) = groups.get(need) {
            found.extend(tasks[group.start as usize..group.end as usize].iter().map(|task| task.id.clone()));
        } else if let Some((id, _)) = names.get_key_value(need) {
            found.push(id.clone());
        } else {
            found.clear();
            return false;
        }
    }
    true
}
