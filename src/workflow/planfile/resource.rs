//! Resources: what a plan declares (`resources: {db: 2}`) and what its tasks need of them (`uses: {db: 1}`). Slots and memory
//! are known without a declaration, because every run has them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::matrix::Combination;
use super::value::{memory, whole};
use crate::model::id::TaskId;
use crate::model::task::{MEMORY, SLOTS};
use crate::text::snippet::Fault;
use crate::text::suggest;
use crate::text::yaml::{Key, Kind, Node};

/// Largest capacity of a resource.
const CAPACITY_MAX: i64 = 1_000_000;
/// Most slots that one task may hold; none for one that hardly computes.
const SLOTS_MAX: i64 = 10_000;

/// Name and capacity of each resource.
pub(super) type Capacities = BTreeMap<String, u64>;

/// `resources: {db: 2, gpu: 1}`
pub(super) fn declared(node: &Node) -> Result<Capacities, Fault> {
    let mut capacities = Capacities::new();
    for (key, value) in node.map()? {
        check_name(key)?;
        capacities.insert(key.text.to_string(), whole(value, 1..=CAPACITY_MAX)? as u64);
    }
    Ok(capacities)
}

fn check_name(key: &Key) -> Result<(), Fault> {
    let name = key.text.as_ref();
    let reserved = |flag: &str| {
        let message = format!("every run has the resource `{name}`; a plan does not declare it");
        Err(Fault::at(key.at, message).hint(Some(format!("`{flag}` sets how much of it a run has"))))
    };
    match name {
        SLOTS => return reserved("-j N"),
        MEMORY => return reserved("--memory SIZE"),
        _ => {}
    }
    TaskId::new(name)
        .map_err(|error| Fault::at(key.at, error.to_string().replacen("an id", "the name of a resource", 1)))?;
    if name.contains(char::is_whitespace) {
        return Err(Fault::at(key.at, format!("the name of a resource must not contain whitespace: `{name}`")));
    }
    Ok(())
}

/// `uses: {db: 1, slots: 2, memory: 1GiB}` of a task.
pub(super) fn uses(
    node: &Node,
    task: &str,
    matrix: &Combination,
    capacities: &Capacities,
) -> Result<BTreeMap<String, u64>, Fault> {
    let mut uses = BTreeMap::new();
    for (key, value) in node.map()? {
        let name = matrix.fill(&key.text, key.at)?;
        let value = &filled(value, matrix)?;
        let amount = match name.as_ref() {
            SLOTS => whole(value, 0..=SLOTS_MAX)? as u64,
            MEMORY => memory(value)?.0,
            _ => {
                let capacity = capacities.get(&*name).ok_or_else(|| undeclared(key, &name, capacities))?;
                let amount = whole(value, 1..=CAPACITY_MAX)? as u64;
                if amount > *capacity {
                    let message = format!(
                        "task `{task}` needs {amount} of `{name}`, which has {capacity}: it would wait for ever"
                    );
                    return Err(Fault::at(value.at, message));
                }
                amount
            }
        };
        if uses.insert(name.into_owned(), amount).is_some() {
            return Err(Fault::at(key.at, format!("task `{task}` uses `{}` twice", key.text)));
        }
    }
    Ok(uses)
}

/// A number may come from the matrix, which stands in quotes: `uses: {db: "${matrix.connections}"}`.
fn filled<'n>(node: &'n Node, matrix: &Combination) -> Result<Cow<'n, Node<'n>>, Fault> {
    if let Kind::Quoted(text) | Kind::Plain(text) = &node.kind
        && let Cow::Owned(text) = matrix.fill(text, node.at)?
    {
        return Ok(Cow::Owned(Node { at: node.at, kind: Kind::Plain(text.into()) }));
    }
    Ok(Cow::Borrowed(node))
}

fn undeclared(key: &Key, name: &str, capacities: &Capacities) -> Fault {
    let known = || capacities.keys().map(String::as_str).chain([SLOTS, MEMORY]);
    let hint = match suggest::likely(name, known()) {
        Some(likely) => format!("did you mean `{likely}`?"),
        None => {
            let known = known().collect::<Vec<_>>().join(", ");
            format!("known are {known}; a plan in YAML or JSON declares more with `resources: {{{name}: 1}}`")
        }
    };
    Fault::at(key.at, format!("no resource is named `{name}`")).hint(Some(hint))
}
