//! The dependency graph of a run, by dense index. Knows nothing of states or time.

use std::borrow::Borrow;
use std::collections::HashMap;

use crate::model::id::TaskId;
use crate::model::task::Task;

/// Index of a task in its run, in plan order.
pub(crate) type Ix = u32;

/// Tasks and the edges between them. Only grows.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    index: HashMap<TaskId, Ix>,
    needs: Vec<Vec<Ix>>,
    dependents: Vec<Vec<Ix>>,
}

/// Why tasks do not form a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GraphError {
    #[error("two tasks are named `{0}`")]
    Duplicate(TaskId),
    #[error("task `{task}` needs `{need}`, which is not in the plan")]
    Missing { task: TaskId, need: TaskId },
    #[error("tasks need each other in a circle: {}", .0.iter().map(TaskId::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle(Vec<TaskId>),
}

impl Graph {
    /// Adds tasks that may need each other and tasks added before. On error nothing is added.
    pub(crate) fn add<T: Borrow<Task>>(&mut self, tasks: &[T]) -> Result<std::ops::Range<Ix>, GraphError> {
        let first = self.needs.len() as Ix;
        for (offset, task) in tasks.iter().map(Borrow::borrow).enumerate() {
            if self.index.contains_key(&task.id) {
                self.index.retain(|_, at| *at < first);
                return Err(GraphError::Duplicate(task.id.clone()));
            }
            self.index.insert(task.id.clone(), first + offset as Ix);
        }
        let mut edges = Vec::with_capacity(tasks.len());
        for task in tasks.iter().map(Borrow::borrow) {
            let found: Result<Vec<Ix>, _> =
                task.needs.iter().map(|need| self.index.get(need).copied().ok_or_else(|| need.clone())).collect();
            match found {
                Ok(mut needs) => {
                    needs.sort_unstable();
                    needs.dedup();
                    edges.push(needs);
                }
                Err(need) => {
                    self.index.retain(|_, at| *at < first);
                    return Err(GraphError::Missing { task: task.id.clone(), need });
                }
            }
        }
        if let Some(cycle) = find_cycle(&edges, first) {
            self.index.retain(|_, at| *at < first);
            return Err(GraphError::Cycle(
                cycle.iter().map(|ix| tasks[(ix - first) as usize].borrow().id.clone()).collect(),
            ));
        }
        self.dependents.resize_with(self.needs.len() + tasks.len(), Vec::new);
        for (offset, needs) in edges.into_iter().enumerate() {
            for need in &needs {
                self.dependents[*need as usize].push(first + offset as Ix);
            }
            self.needs.push(needs);
        }
        Ok(first..self.needs.len() as Ix)
    }

    /// What a task waits for.
    pub(crate) fn needs(&self, ix: Ix) -> &[Ix] {
        &self.needs[ix as usize]
    }

    /// What waits for a task.
    pub(crate) fn dependents(&self, ix: Ix) -> &[Ix] {
        &self.dependents[ix as usize]
    }

    /// The upward rank of each task: the longest way from its start to the end of the run, in the unit of `cost`.
    /// Starting the highest rank first is "critical path first".
    pub(crate) fn ranks(&self, cost: impl Fn(Ix) -> u64) -> Vec<u64> {
        let count = self.needs.len();
        let mut ranks = vec![0u64; count];
        let mut open: Vec<u32> = self.dependents.iter().map(|d| d.len() as u32).collect();
        let mut stack: Vec<Ix> = (0..count as Ix).filter(|ix| open[*ix as usize] == 0).collect();
        while let Some(ix) = stack.pop() {
            let longest = self.dependents(ix).iter().map(|d| ranks[*d as usize]).max().unwrap_or(0);
            ranks[ix as usize] = longest.saturating_add(cost(ix));
            for need in self.needs(ix) {
                open[*need as usize] -= 1;
                if open[*need as usize] == 0 {
                    stack.push(*need);
                }
            }
        }
        ranks
    }
}

/// A circle among new tasks (edges to older tasks cannot be part of one), first task repeated at the end.
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
    use super::Graph;
    use crate::model::id::TaskId;
    use crate::model::task::{Run, Task};

    fn tasks(spec: &[(&str, &[&str])]) -> Vec<Task> {
        let id = |text: &str| TaskId::new(text).expect("a good id");
        spec.iter()
            .map(|(name, needs)| {
                let mut task = Task::new(id(name), Run::Argv(vec!["true".into()]));
                task.needs = needs.iter().map(|need| id(need)).collect();
                task
            })
            .collect()
    }

    #[test]
    fn errors_name_the_tasks_and_leave_the_graph_as_it_was() {
        let mut graph = Graph::default();
        graph.add(&tasks(&[("a", &[])])).expect("one task");
        let errors = [
            graph.add(&tasks(&[("b", &[]), ("b", &[])])).expect_err("a double"),
            graph.add(&tasks(&[("a", &[])])).expect_err("a double of an older task"),
            graph.add(&tasks(&[("b", &["x"])])).expect_err("a missing need"),
            graph.add(&tasks(&[("b", &["d"]), ("c", &["b"]), ("d", &["c"])])).expect_err("a circle"),
            graph.add(&tasks(&[("b", &["b"])])).expect_err("a task that needs itself"),
        ];
        assert_eq!(
            errors.map(|e| e.to_string()),
            [
                "two tasks are named `b`",
                "two tasks are named `a`",
                "task `b` needs `x`, which is not in the plan",
                "tasks need each other in a circle: b -> d -> c -> b",
                "tasks need each other in a circle: b -> b",
            ]
        );
        assert_eq!(graph.add(&tasks(&[("b", &["a", "a"])])), Ok(1..2));
        assert_eq!(graph.needs(1), [0]);
    }

    #[test]
    fn the_rank_is_the_longest_way_to_the_end() {
        let mut graph = Graph::default();
        graph.add(&tasks(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])])).expect("a diamond");
        let costs = [1, 10, 2, 5];
        assert_eq!(graph.ranks(|ix| costs[ix as usize]), [16, 15, 7, 5]);
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let names: Vec<String> = (0..100_000).map(|n| format!("t{n}")).collect();
        let mut list = tasks(&[("t0", &[])]);
        for pair in names.windows(2) {
            list.extend(tasks(&[(&pair[1], &[&pair[0]])]));
        }
        let mut graph = Graph::default();
        graph.add(&list).expect("a chain");
        assert_eq!(graph.ranks(|_| 1)[0], 100_000);
    }
}
