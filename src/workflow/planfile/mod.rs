//! A plan file becomes tasks: YAML or JSON (`version: 1`, `tasks:`), or JSON lines with a task a line. Everything wrong
//! in it is shown at its place before anything starts. `document` and `line` read the two kinds of
//! files, `task` reads one task, `collect` puts tasks together.

mod collect;
mod command;
mod document;
mod line;
mod matrix;
mod plan;
mod resource;
mod rules;
mod surrogate;
mod task;
mod value;

use crate::text::snippet;

use line::Parser;
pub(crate) use line::{Lines, starts_as_lines};
pub(crate) use plan::{PlanFile, PlanFileError};
pub(crate) use rules::Rules;
use surrogate::join_surrogates;

/// Reads a plan. `name` is the file's, for messages.
pub(crate) fn read(name: &str, source: &str, rules: &Rules) -> Result<PlanFile, PlanFileError> {
    let is_lines = is_lines(source);
    if is_lines && let Ok(plan) = line::read_all(Parser::Fast, source, rules) {
        return Ok(plan);
    }
    let joined = source.trim_start().starts_with('{').then(|| join_surrogates(source)).flatten();
    let source = joined.as_deref().unwrap_or(source);
    let plan = if is_lines { line::read_all(Parser::Exact, source, rules) } else { document::read(source, rules) };
    plan.map_err(|fault| PlanFileError(snippet::render(name, source, &fault)))
}

fn is_lines(source: &str) -> bool {
    source.lines().find(|line| !line.trim().is_empty()).is_some_and(starts_as_lines)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Rules, read};
    use crate::model::task::{Run, Step, Task};

    pub(super) fn rules() -> Rules {
        Rules { priority_levels: 5, resources: [("licence".to_owned(), 4)].into(), open_needs: false }
    }

    fn wrong(plan: &str, expected: &Expect) {
        let error = read("p.yaml", plan, &rules()).expect_err("an error").to_string();
        expected.assert_eq(&(error + "\n"));
    }

    fn tasks(plan: &str) -> Vec<Task> {
        read("p.yaml", plan, &rules()).expect("a good plan").tasks
    }

    #[test]
    fn tasks_use_what_the_plan_and_the_configuration_declare() {
        let plan = "version: 1\ntasks:\n\
                    - {id: a, run: x, uses: {db: 2, slots: 0, memory: 1GiB, licence: 3, cpu: 1}}\n\
                    - {id: m, run: x, matrix: {db: [db, licence], n: [1]}, uses: {'${matrix.db}': '${matrix.n}'}}\n\
                    resources: {db: 2, cpu: 8, licence: 3}\n";
        let plan = read("p.yaml", plan, &rules()).expect("a good plan");
        let uses: Vec<String> = plan.tasks.iter().map(|task| format!("{} {:?}", task.id, task.uses)).collect();
        expect![[r#"
            a {"cpu": 1, "db": 2, "licence": 3, "memory": 1073741824, "slots": 0}
            m (db, 1) {"db": 1}
            m (licence, 1) {"licence": 1}"#]]
        .assert_eq(&uses.join("\n"));
        let resources: Vec<(&str, u64)> = plan.resources.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(resources, [("cpu", 8), ("db", 2), ("licence", 3)]);
    }

    #[test]
    fn wrong_resources_are_shown_at_their_place() {
        wrong(
            "version: 1\nresources: {slots: 4}\ntasks: []\n",
            &expect![[r#"
                p.yaml:2:13: every run has the resource `slots`; a plan does not declare it
                  1 | version: 1
                  2 | resources: {slots: 4}
                    |             ^
                  3 | tasks: []
                  hint: `-j N` sets how much of it a run has
            "#]],
        );
        wrong(
            "version: 1\nresources: {db: 0}\ntasks: []\n",
            &expect![[r#"
                p.yaml:2:17: expected a whole number from 1 to 1000000, found "0"
                  1 | version: 1
                  2 | resources: {db: 0}
                    |                 ^
                  3 | tasks: []
            "#]],
        );
        wrong(
            "version: 1\nresources: {my db: 1}\ntasks: []\n",
            &expect![[r#"
                p.yaml:2:13: the name of a resource must not contain whitespace: `my db`
                  1 | version: 1
                  2 | resources: {my db: 1}
                    |             ^
                  3 | tasks: []
            "#]],
        );
    }

    #[test]
    fn needs_that_cannot_be_met_are_shown_at_their_place() {
        let plan = |uses: &str| {
            format!("version: 1\nresources: {{database: 2}}\ntasks:\n- id: a\n  run: x\n  uses: {{{uses}}}\n")
        };
        wrong(
            &plan("databsae: 1"),
            &expect![[r#"
                p.yaml:6:10: no resource is named `databsae`
                  4 | - id: a
                  5 |   run: x
                  6 |   uses: {databsae: 1}
                    |          ^
                  hint: did you mean `database`?
            "#]],
        );
        wrong(
            &plan("gpu: 1"),
            &expect![[r#"
                p.yaml:6:10: no resource is named `gpu`
                  4 | - id: a
                  5 |   run: x
                  6 |   uses: {gpu: 1}
                    |          ^
                  hint: known are database, licence, slots, memory; a plan in YAML or JSON declares more with `resources: {gpu: 1}`
            "#]],
        );
        wrong(
            &plan("database: 3"),
            &expect![[r#"
                p.yaml:6:20: task `a` needs 3 of `database`, which has 2: it would wait for ever
                  4 | - id: a
                  5 |   run: x
                  6 |   uses: {database: 3}
                    |                    ^
            "#]],
        );
        for (uses, part) in [
            ("database: 0", "expected a whole number from 1 to 1000000, found \"0\""),
            ("database: '1'", "expected a whole number"),
            ("slots: 10001", "expected a whole number from 0 to 10000"),
            ("memory: lots", "`lots` is not a size such as `512MiB`"),
            ("memory: 512", "expected at least 1MiB; nothing starts with less, found \"512\""),
            ("database: 1, database: 1", "`database` is set twice"),
        ] {
            let error = read("p.yaml", &plan(uses), &rules()).expect_err(uses).to_string();
            assert!(error.starts_with("p.yaml:6:") && error.contains(part), "{uses}: {error}");
        }
        let defaults = "version: 1\ndefaults: {uses: {slots: 2}}\ntasks: []\n";
        let error = read("p.yaml", defaults, &rules()).expect_err("as locks").to_string();
        assert!(error.contains("`uses` is not a key of `defaults`"), "{error}");
    }

    #[test]
    fn a_task_may_read_a_plan() {
        let read = tasks(
            "version: 1\ndefaults: {env: {A: 1}, timeout: 5s, retries: 2, cwd: sub}\ntasks:\n- {id: make, run: make plan.yaml}\n\
             - {id: more, title: t, description: d, plan: plan.yaml, needs: make, when: always, priority: 2, deadline: 1h, locks: l, uses: {licence: 1}}\n",
        );
        assert_eq!(read[1].run, Run::Step(Step::Plan { file: "plan.yaml".into() }));
        assert!(read[1].env.is_empty() && read[1].limits.is_none() && read[1].never_repeated && read[1].retry.max == 0);
        assert_eq!((read[1].cwd.as_ref(), read[0].retry.max), (Some(&"sub".into()), 2));
        let expanded = tasks("version: 1\ntasks:\n- {id: p, plan: '${matrix.n}.yaml', matrix: {n: [1, 2]}}\n");
        assert_eq!(expanded[1].run, Run::Step(Step::Plan { file: "2.yaml".into() }));
    }

    #[test]
    fn what_a_task_with_a_plan_cannot_have_is_refused() {
        wrong(
            "version: 1\ntasks:\n- {id: a, plan: b.yaml, timeout: 5s}\n",
            &expect![[r#"
                p.yaml:3:25: task `a` reads a plan and starts no process, so `timeout` has no effect
                  1 | version: 1
                  2 | tasks:
                  3 | - {id: a, plan: b.yaml, timeout: 5s}
                    |                         ^
                  hint: `defaults` in that plan, or its tasks, may have it
            "#]],
        );
        for (keys, part) in [
            ("run: x", "3:11: task `a` has both `run` and `plan`"),
            ("uses: {slots: 2}", "3:32: task `a` reads a plan and starts no process, so `slots` has no effect"),
            ("inputs: x", "so `inputs` has no effect"),
            ("shell: bash", "so `shell` has no effect"),
            ("nedes: x", "did you mean `needs`?"),
            ("cwd: [x]", "3:30: expected a text, found a list"),
        ] {
            let plan = format!("version: 1\ntasks:\n- {{id: a, plan: b.yaml, {keys}}}\n");
            let error = read("p.yaml", &plan, &rules()).expect_err(keys).to_string();
            assert!(error.contains(part), "{keys}: {error}");
        }
        for (file, part) in [("''", "expected the path of a plan"), ("\"a\\0b\"", "NUL"), ("[]", "expected a text")] {
            let plan = format!("version: 1\ntasks:\n- {{id: a, plan: {file}}}\n");
            let error = read("p.yaml", &plan, &rules()).expect_err(file).to_string();
            assert!(error.contains(part), "{file}: {error}");
        }
    }
}
