//! Plans as JSON lines, a task a line: a whole file at once, or line by line as they come.

use std::collections::HashMap;

use super::collect::Collector;
use super::plan::{PlanFile, PlanFileError};
use super::rules::{Rules, TASKS_MAX, VALUES_MAX};
use super::surrogate::join_surrogates;
use super::task::{Defaults, TaskReader};
use crate::model::id::TaskId;
use crate::model::task::Task;
use crate::text::json;
use crate::text::snippet::{self, Fault};
use crate::text::yaml::{self, Node};

/// Whether a plan whose first line with text is this one is a task a line: the line is a whole object, and that object is a
/// task, not a plan with `tasks`. Enough to start with the first task while the rest has not come yet.
pub(crate) fn starts_as_lines(first: &str) -> bool {
    let first = first.trim();
    let is_task = |value: serde_json::Value| value.get("tasks").is_none() && value.get("id").is_some();
    first.starts_with('{') && first.ends_with('}') && serde_json::from_str(first).is_ok_and(is_task)
}

/// How a line is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parser {
    /// As JSON, which does not tell where something stands; as YAML where that fails. For lines that are right.
    Fast,
    /// As YAML. For the error, where one is wrong.
    Exact,
}

/// All lines of a file.
pub(super) fn read_all(parser: Parser, source: &str, rules: &Rules) -> Result<PlanFile, Fault> {
    let mut collector = Collector::new(reader(rules));
    for (at, line) in source.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let moved = |fault: Fault| Fault { line: if fault.line == 0 { 0 } else { at + 1 }, ..fault };
        parse(parser, line, |node| collector.add(node, at)).map_err(moved)?;
    }
    collector.finish()
}

fn parse<T>(parser: Parser, line: &str, read: impl FnOnce(&Node) -> Result<T, Fault>) -> Result<T, Fault> {
    let indent = line.chars().take_while(|c| c.is_whitespace()).count();
    let fast = || json::read(line, (1, indent + 1));
    // A line of so many values is not worth a hurry, and only the other parser counts them.
    if let Some(node) = (parser == Parser::Fast && line.len() < VALUES_MAX).then(fast).flatten() {
        return read(&node);
    }
    let joined = join_surrogates(line);
    read(&yaml::read(joined.as_deref().unwrap_or(line), VALUES_MAX)?)
}

fn reader(rules: &Rules) -> TaskReader<'_> {
    TaskReader { rules, resources: rules.resources.clone(), defaults: Defaults::default() }
}

/// Reads lines as they come. Keeps the names of tasks that matrices made and nothing else, so that input without end is fine.
pub(crate) struct Lines<'a> {
    name: String,
    reader: TaskReader<'a>,
    /// What the matrix of an earlier line made: a need may name all of it at once.
    groups: HashMap<String, Vec<TaskId>>,
    /// How many tasks are in `groups`.
    grouped: usize,
}

impl<'a> Lines<'a> {
    /// `name` is that of the input, for messages.
    pub(crate) fn new(name: &str, rules: &'a Rules) -> Self {
        Self { name: name.to_owned(), reader: reader(rules), groups: HashMap::new(), grouped: 0 }
    }

    /// The tasks of a line, which is the `number`th of the input: none of an empty one, several of one with a matrix.
    ///
    /// Names and needs are not looked up: who adds the tasks to a run knows which tasks it has. A need that names a matrix of an earlier line becomes needs of all its tasks.
    pub(crate) fn read(&mut self, line: &str, number: usize) -> Result<Vec<Task>, PlanFileError> {
        if line.trim().is_empty() {
            return Ok(Vec::new());
        }
        let tasks = parse(Parser::Fast, line, |node| self.tasks(node));
        tasks.or_else(|_| {
            let joined = join_surrogates(line);
            let line = joined.as_deref().unwrap_or(line);
            parse(Parser::Exact, line, |node| self.tasks(node)).map_err(|fault| self.render(line, number, &fault))
        })
    }

    fn render(&self, line: &str, number: usize, fault: &Fault) -> PlanFileError {
        PlanFileError(snippet::render_line(&self.name, line, number, fault))
    }

    fn tasks(&mut self, node: &Node) -> Result<Vec<Task>, Fault> {
        let mut tasks = Vec::new();
        let groups = &self.groups;
        let (id, is_matrix) = self.reader.read(node, |_, mut task, needs| {
            for (need, at) in needs {
                match groups.get(&*need) {
                    Some(group) => task.needs.extend_from_slice(group),
                    None => task.needs.push(TaskId::new(&need).map_err(|error| Fault::at(at, error.to_string()))?),
                }
            }
            tasks.push(task);
            Ok(())
        })?;
        if is_matrix {
            let base = id.text()?;
            if self.groups.contains_key(base) {
                return Err(Fault::at(id.at, format!("two tasks are named `{base}`")));
            }
            self.grouped += tasks.len();
            if self.grouped > TASKS_MAX {
                return Err(Fault::at(node.at, format!("more than {TASKS_MAX} tasks of matrices")));
            }
            self.groups.insert(base.to_owned(), tasks.iter().map(|task: &Task| task.id.clone()).collect());
        }
        Ok(tasks)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::tests::rules;
    use super::super::{Rules, read};
    use super::{Lines, starts_as_lines};

    #[test]
    fn the_first_line_tells_whether_tasks_come_line_by_line() {
        for line in [r#"{"id": "a", "run": "x"}"#, "  {\"id\": 1}\t\n", r#"{"nedes": 1, "id": "a"}"#] {
            assert!(starts_as_lines(line), "{line}");
        }
        for line in [
            "",
            "version: 1",
            "{",
            r#"{"version": 1, "tasks": []}"#,
            r#"{"id": "a", "tasks": []}"#,
            r#"{"id": "a","#,
            r#"{id: a, run: x}"#,
            r#"["id"]"#,
        ] {
            assert!(!starts_as_lines(line), "{line}");
        }
        // Regression: the escapes of a character beyond U+FFFF in the first line made a document of all lines.
        let two =
            read("p", "{\"id\": \"\\ud83d\\ude00\", \"run\": \"x\"}\n{\"id\": \"b\", \"run\": \"x\"}\n", &rules());
        assert_eq!(two.expect("two lines").tasks[0].id.as_str(), "😀");
        let alone = read("p", "\n{\"id\": \"a\", \"run\": \"x\"}", &rules()).expect("a plan of one line");
        assert_eq!(alone.tasks.len(), 1);
    }

    #[test]
    fn lines_are_read_as_they_come() {
        let rules = rules();
        let mut lines = Lines::new("-", &rules);
        let mut read = |line: &str, number| {
            let tasks = lines.read(line, number).expect("a good line");
            tasks.iter().map(|task| format!("{} after {:?}", task.id, task.needs)).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(read(r#"{"id": "a\ud83d\ude00", "run": "x"}"#, 1), "a😀 after []");
        assert_eq!(read("\n", 2), "");
        assert_eq!(
            read(r#"{"id": "m", "run": "x", "needs": "a", "matrix": {"n": [1, 2]}}"#, 3),
            r#"m (1) after ["a"]; m (2) after ["a"]"#
        );
        assert_eq!(
            read(r#"{"id": "b", "plan": "b.yaml", "needs": ["later", "m"], "uses": {"licence": 1}}"#, 4),
            r#"b after ["later", "m (1)", "m (2)"]"#
        );
    }

    #[test]
    fn errors_name_the_line() {
        let rules = Rules { priority_levels: 5, resources: [("db".to_owned(), 2)].into(), open_needs: false };
        let mut lines = Lines::new("-", &rules);
        let text = r#"{"id": "a", "run": "x", "uses": {"db": 3}}"#;
        expect![[r#"
            -:12345:40: task `a` needs 3 of `db`, which has 2: it would wait for ever
              12345 | {"id": "a", "run": "x", "uses": {"db": 3}}
                    |                                        ^"#]]
        .assert_eq(&lines.read(text, 12345).expect_err("too much").to_string());
        for (line, part) in [
            (r#"{"id": "a", "rum": "x"}"#, "-:9:13: `rum` is not a key of a task"),
            (r#"{"id": "a", "run": "x""#, "-:9:1: not valid YAML"),
            (r#"[1]"#, "-:9:1: expected a task: a map with `id` and `run`, found a list"),
            (r#"{"id": "a", "run": "x", "needs": [""]}"#, "-:9:35: an id must not be empty"),
        ] {
            let error = lines.read(line, 9).expect_err(line).to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}
