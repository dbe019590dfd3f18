//! The dependency graph of a run, by dense index. Knows nothing of states or time. Tasks without edges take no room in
//! it, and a task that has ended is forgotten: a run of a million tasks keeps those that are still open.

use std::borrow::Borrow;
use std::collections::HashMap;

use crate::engine::ix_map::IxMap;
use crate::model::attempt::Ix;
use crate::model::id::TaskId;
use crate::model::task::Task;

/// Open tasks by name, and the edges between them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    index: HashMap<TaskId, Ix>,
    links: IxMap<Links>,
    next: Ix,
}

#[derive(Debug, Default)]
struct Links {
    /// Tasks that it waits for, ended ones included until it ends itself.
    needs: Vec<Ix>,
    /// Open tasks that wait for it.
    dependents: Vec<Ix>,
}

/// Why tasks do not form a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GraphError {
    #[error("two tasks are named `{0}`")]
    Duplicate(TaskId),
    #[error("task `{task}` needs `{need}`, which is not in the plan")]
    Missing { task: TaskId, need: TaskId },
    #[error("tasks need each other in a cycle: {}", .0.iter().map(TaskId::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle(Vec<TaskId>),
}

impl Graph {
    /// Adds tasks that may need each other and tasks added before. `has_ended` tells of names that are not in the graph any
    /// more: to need one of them is no edge. On error nothing is added.
    pub(crate) fn add<T: Borrow<Task>>(
        &mut self,
        tasks: &[T],
        has_ended: impl Fn(&TaskId) -> bool,
    ) -> Result<std::ops::Range<Ix>, GraphError> {
        let first = self.next;
        for (offset, task) in tasks.iter().map(Borrow::borrow).enumerate() {
            if self.index.contains_key(&task.id) || has_ended(&task.id) {
                self.take_back(&tasks[..offset], first);
                return Err(GraphError::Duplicate(task.id.clone()));
            }
            self.index.insert(task.id.clone(), first + offset as Ix);
        }
        let mut edges = Vec::with_capacity(tasks.len());
        for task in tasks.iter().map(Borrow::borrow) {
            let mut needs = Vec::with_capacity(task.needs.len());
            for need in &task.needs {
                match self.index.get(need) {
                    Some(ix) => needs.push(*ix),
                    None if has_ended(need) => {}
                    None => {
                        self.take_back(tasks, first);
                        return Err(GraphError::Missing { task: task.id.clone(), need: need.clone() });
                    }
                }
            }
            needs.sort_unstable();
            needs.dedup();
            edges.push(needs);
        }
        if let Some(cycle) = find_cycle(&edges, first) {
            self.take_back(tasks, first);
            return Err(GraphError::Cycle(
                cycle.iter().map(|ix| tasks[(ix - first) as usize].borrow().id.clone()).collect(),
            ));
        }
        for (offset, needs) in edges.into_iter().enumerate().filter(|(_, needs)| !needs.is_empty()) {
            let ix = first + offset as Ix;
            for need in &needs {
                self.links.or_default(*need).dependents.push(ix);
            }
            self.links.or_default(ix).needs = needs;
        }
        self.next += tasks.len() as Ix;
        Ok(first..self.next)
    }

    fn take_back<T: Borrow<Task>>(&mut self, tasks: &[T], first: Ix) {
        for task in tasks.iter().map(Borrow::borrow) {
            if self.index.get(&task.id).is_some_and(|ix| *ix >= first) {
                self.index.remove(&task.id);
            }
        }
    }

    /// Makes a task wait for open tasks besides its needs. The answer names a task among them that waits for it in turn,
    /// where there is one: then nothing is changed.
    pub(crate) fn await_on(&mut self, ix: Ix, on: &[Ix]) -> Result<(), Ix> {
        let mut seen: std::collections::HashSet<Ix> = [ix].into();
        let mut stack = vec![ix];
        while let Some(one) = stack.pop() {
            if let Some(circular) = on.iter().find(|other| **other == one) {
                return Err(*circular);
            }
            stack.extend(self.dependents(one).iter().filter(|dependent| seen.insert(**dependent)));
        }
        for need in on {
            self.links.or_default(*need).dependents.push(ix);
        }
        self.links.or_default(ix).needs.extend_from_slice(on);
        Ok(())
    }

    /// The index of an open task.
    pub(crate) fn find(&self, id: &TaskId) -> Option<Ix> {
        self.index.get(id).copied()
    }

    /// Forgets a task that has ended; returns what waited for it.
    pub(crate) fn end(&mut self, ix: Ix, id: &TaskId) -> Vec<Ix> {
        self.index.remove(id);
        self.links.remove(&ix).map(|links| links.dependents).unwrap_or_default()
    }

    /// What a task waits for; some of it may have ended.
    pub(crate) fn needs(&self, ix: Ix) -> &[Ix] {
        self.links.get(&ix).map_or(&[], |links| &links.needs)
    }

    /// Open tasks that wait for a task.
    pub(crate) fn dependents(&self, ix: Ix) -> &[Ix] {
        self.links.get(&ix).map_or(&[], |links| &links.dependents)
    }

    /// Tasks of a range in an order in which each comes after all of the range that need it.
    pub(crate) fn dependents_first(&self, range: std::ops::Range<Ix>) -> Vec<Ix> {
        let first = range.start;
        let mut open: Vec<u32> = range
            .clone()
            .map(|ix| self.dependents(ix).iter().filter(|dependent| range.contains(dependent)).count() as u32)
            .collect();
        let mut order: Vec<Ix> = range.clone().filter(|ix| open[(ix - first) as usize] == 0).collect();
        let mut at = 0;
        while let Some(ix) = order.get(at).copied() {
            at += 1;
            for need in self.needs(ix).iter().filter(|need| range.contains(need)) {
                let left = &mut open[(need - first) as usize];
                *left -= 1;
                if *left == 0 {
                    order.push(*need);
                }
            }
        }
        order
    }
}

/// A cycle among new tasks (edges to older tasks cannot be part of one), first task repeated at the end.
fn find_cycle(edges: &[Vec<Ix>], first: Ix) -> Option<Vec<Ix>> {
    const OPEN: u8 = 1;
    const CLOSED: u8 = 2;
    let mut colour = vec![0u8; edges.len()];
    // An explicit stack: a chain of 100,000 tasks must not overflow the thread's.
    let mut path: Vec<(usize, usize)> = Vec::new();
    for start in 0..edges.len() {
        if colour[start] != 0 {
            continue;
        }
        colour[start] = OPEN;
        path.push((start, 0));
        while let Some((node, next)) = path.last_mut() {
            let Some(need) = edges[*node].get(*next) else {
                colour[*node] = CLOSED;
                path.pop();
                continue;
            };
            *next += 1;
            let Some(need) = need.checked_sub(first).map(|n| n as usize) else {
                continue;
            };
            match colour[need] {
                0 => {
                    colour[need] = OPEN;
                    path.push((need, 0));
                }
                OPEN => {
                    let from = path.iter().position(|(node, _)| *node == need).unwrap_or(0);
                    let mut cycle: Vec<Ix> = path[from..].iter().map(|(node, _)| *node as Ix + first).collect();
                    cycle.push(need as Ix + first);
                    return Some(cycle);
                }
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Graph, GraphError};
    use crate::model::id::TaskId;
    use crate::model::task::{Run, Task};

    fn id(text: &str) -> TaskId {
        TaskId::new(text).expect("a good id")
    }

    fn tasks(spec: &[(&str, &[&str])]) -> Vec<Task> {
        spec.iter()
            .map(|(name, needs)| {
                let mut task = Task::new(id(name), Run::Argv(vec!["true".into()]));
                task.needs = needs.iter().map(|need| id(need)).collect();
                task
            })
            .collect()
    }

    fn add(graph: &mut Graph, spec: &[(&str, &[&str])]) -> Result<std::ops::Range<u32>, GraphError> {
        graph.add(&tasks(spec), |_| false)
    }

    #[test]
    fn errors_name_the_tasks_and_leave_the_graph_as_it_was() {
        let mut graph = Graph::default();
        add(&mut graph, &[("a", &[])]).expect("one task");
        let errors = [
            add(&mut graph, &[("b", &[]), ("b", &[])]).expect_err("a double"),
            add(&mut graph, &[("a", &[])]).expect_err("a double of an older task"),
            add(&mut graph, &[("b", &["x"])]).expect_err("a missing need"),
            add(&mut graph, &[("b", &["d"]), ("c", &["b"]), ("d", &["c"])]).expect_err("a cycle"),
            add(&mut graph, &[("b", &["b"])]).expect_err("a task that needs itself"),
        ];
        assert_eq!(
            errors.map(|e| e.to_string()),
            [
                "two tasks are named `b`",
                "two tasks are named `a`",
                "task `b` needs `x`, which is not in the plan",
                "tasks need each other in a cycle: b -> d -> c -> b",
                "tasks need each other in a cycle: b -> b",
            ]
        );
        assert_eq!(add(&mut graph, &[("b", &["a", "a"])]), Ok(1..2));
        assert_eq!(graph.needs(1), [0]);
    }

    #[test]
    fn an_ended_task_is_forgotten_and_may_be_needed_but_not_added_again() {
        let mut graph = Graph::default();
        add(&mut graph, &[("a", &[]), ("b", &["a"])]).expect("two tasks");
        assert_eq!(graph.end(0, &id("a")), [1]);
        assert!(graph.find(&id("a")).is_none());
        let ended = |name: &TaskId| name.as_str() == "a";
        assert_eq!(graph.add(&tasks(&[("c", &["a"])]), ended), Ok(2..3));
        assert_eq!(graph.needs(2), [] as [u32; 0]);
        assert_eq!(graph.add(&tasks(&[("a", &[])]), ended), Err(GraphError::Duplicate(id("a"))));
    }

    #[test]
    fn waiting_for_what_waits_is_refused() {
        let mut graph = Graph::default();
        add(&mut graph, &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])]).expect("tasks");
        assert_eq!(graph.await_on(0, &[3, 2]), Err(2));
        assert_eq!(graph.needs(0), [] as [u32; 0]);
        assert_eq!(graph.await_on(0, &[3]), Ok(()));
        assert_eq!(graph.dependents(3), [0]);
        assert_eq!(graph.await_on(3, &[3]), Err(3));
    }

    #[test]
    fn dependents_come_first() {
        let mut graph = Graph::default();
        add(&mut graph, &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])]).expect("a diamond");
        let order = graph.dependents_first(0..4);
        assert_eq!((order[0], order[3], order.len()), (3, 0, 4));
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let names: Vec<String> = (0..100_000).map(|n| format!("t{n}")).collect();
        let mut list = tasks(&[("t0", &[])]);
        for pair in names.windows(2) {
            list.extend(tasks(&[(&pair[1], &[&pair[0]])]));
        }
        let mut graph = Graph::default();
        graph.add(&list, |_| false).expect("a chain");
        assert_eq!(graph.dependents_first(0..100_000)[0], 99_999);
    }
}
