//! A plan as one document in YAML or JSON: `version`, `tasks`, and what tasks have in common. Its tasks are read one by one,
//! since the tree of 100,000 of them takes ten times the memory of the tasks themselves.

use super::collect::Collector;
use super::plan::PlanFile;
use super::resource::{self, Capacities};
use super::rules::{Rules, VALUES_MAX};
use super::task::{Defaults, TaskReader};
use super::value::unknown;
use crate::text::snippet::Fault;
use crate::text::yaml::{self, Entry, Kind, Node};

const EXAMPLE: &str = "a plan looks like this:\n\
    \x20   version: 1\n\
    \x20   tasks:\n\
    \x20     - {id: build, run: make}\n\
    \x20     - {id: test, run: make test, needs: [build]}";

/// Reads a document. Where something is wrong, or stands behind the tasks that depend on it, the whole tree is read once more:
/// what is wrong first is then the same whatever the order of the file.
pub(super) fn read(source: &str, rules: &Rules) -> Result<PlanFile, Fault> {
    read_task_by_task(source, rules).or_else(|_| read_whole(&yaml::read(source, VALUES_MAX)?, rules))
}

/// What stands around the tasks.
struct Header<'n, 'a> {
    version: Option<&'n Node<'a>>,
    tasks: Option<&'n Node<'a>>,
    defaults: Option<&'n Node<'a>>,
    resources: Option<&'n Node<'a>>,
}

impl<'n, 'a> Header<'n, 'a> {
    fn of(entries: &'n [Entry<'a>]) -> Result<Self, Fault> {
        let mut header = Self { version: None, tasks: None, defaults: None, resources: None };
        for (key, value) in entries {
            match key.text.as_ref() {
                "version" => header.version = Some(value),
                "tasks" => header.tasks = Some(value),
                "defaults" => header.defaults = Some(value),
                "resources" => header.resources = Some(value),
                other => return Err(unknown(key, other, "a plan", &["version", "tasks", "defaults", "resources"])),
            }
        }
        Ok(header)
    }

    fn reader<'r>(&self, rules: &'r Rules) -> Result<TaskReader<'r>, Fault> {
        let defaults = self.defaults.map_or_else(|| Ok(Defaults::default()), Defaults::read)?;
        let mut resources = rules.resources.clone();
        resources.extend(self.resources.map_or_else(|| Ok(Capacities::new()), resource::declared)?);
        Ok(TaskReader { rules, resources, defaults })
    }

    /// The tasks, once it is sure that this is a plan.
    fn tasks(&self, root: &Node<'_>) -> Result<&'n [Node<'a>], Fault> {
        let missing = |key: &str| Fault::at(root.at, format!("`{key}` is missing")).hint(Some(EXAMPLE.to_owned()));
        let version = self.version.ok_or_else(|| missing("version: 1"))?;
        if version.number().ok() != Some(1.0) {
            return Err(version.expected("version 1, the only one there is"));
        }
        self.tasks.ok_or_else(|| missing("tasks:"))?.list()
    }
}

fn read_whole(root: &Node<'_>, rules: &Rules) -> Result<PlanFile, Fault> {
    if root.kind == Kind::Null {
        return Err(Fault::at((0, 0), "the plan is empty").hint(Some(EXAMPLE.to_owned())));
    }
    let header = Header::of(root.map()?)?;
    let reader = header.reader(rules)?;
    let mut collector = Collector::new(reader);
    header.tasks(root)?.iter().try_for_each(|node| collector.add(node, 0))?;
    collector.finish()
}

fn read_task_by_task(source: &str, rules: &Rules) -> Result<PlanFile, Fault> {
    let mut started = None;
    let root = yaml::read_items(source, VALUES_MAX, "tasks", &mut |before, node| {
        let (collector, _) = match &mut started {
            Some(started) => started,
            None => {
                let header = Header::of(before)?;
                let known = (header.defaults.is_some(), header.resources.is_some());
                started.insert((Collector::new(header.reader(rules)?), known))
            }
        };
        collector.add(&node, 0)
    })?;
    let Some((collector, known)) = started else { return read_whole(&root, rules) };
    let header = Header::of(root.map()?)?;
    if known != (header.defaults.is_some(), header.resources.is_some()) || !header.tasks(&root)?.is_empty() {
        return Err(Fault::at(root.at, "the tasks depend on what stands behind them"));
    }
    collector.finish()
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::{read, read_task_by_task, read_whole};
    use crate::text::yaml;

    const TASKS: &str = "tasks:\n\
        - &a {id: a, run: x, env: &env {A: '1'}, needs: [late]}\n\
        - {<<: *a, id: b, needs: [a, m]}\n\
        - {id: m, run: 'x ${matrix.n}', matrix: {n: [1, 2]}, env: *env}\n\
        - {id: late, run: x}\n";

    #[test]
    fn task_by_task_it_is_the_same_as_read_whole() {
        let source = format!("version: 1\ndefaults: {{cwd: sub}}\n{TASKS}");
        let parts = read_task_by_task(&source, &rules()).expect("a good plan");
        let whole = read_whole(&yaml::read(&source, 1000).expect("YAML"), &rules()).expect("a good plan");
        assert_eq!((&parts.tasks, &parts.places), (&whole.tasks, &whole.places));
        let needs: Vec<String> = parts.tasks.iter().map(|task| format!("{} {:?}", task.id, task.needs)).collect();
        assert_eq!(needs.join("; "), r#"a ["late"]; b ["a", "m (1)", "m (2)"]; m (1) []; m (2) []; late []"#);
    }

    #[test]
    fn what_stands_behind_the_tasks_holds_for_them_too() {
        let source = format!("version: 1\n{TASKS}defaults: {{cwd: sub}}\n");
        assert!(read_task_by_task(&source, &rules()).is_err());
        let plan = read(&source, &rules()).expect("a good plan");
        assert!(plan.tasks.iter().all(|task| task.cwd == Some("sub".into())));
        let kept = "version: 1\ntasks: &all [{id: a, run: x}]\n";
        assert_eq!(read(kept, &rules()).expect("a good plan").tasks.len(), 1);
    }

    /// Tasks are read before what stands behind them, and the error of a file is still its first.
    #[test]
    fn an_error_of_the_syntax_comes_before_one_of_a_task() {
        let fault = |source: &str| read(source, &rules()).expect_err("a fault");
        assert_eq!(fault("version: 1\ntasks:\n- {id: a}\n- [\n").message.split(':').next(), Some("not valid YAML"));
        assert_eq!(fault("version: 2\ntasks:\n- {id: a}\n").line, 1);
        assert_eq!(fault("tasks:\n- {id: a}\n").message, "`version: 1` is missing");
        assert_eq!(fault("# nothing\n").message, "the plan is empty");
    }
}
