//! `matrix: {os: [a, b], n: [1, 2]}`: every combination of the values, written `${matrix.os}` in a task's texts.

use std::borrow::Cow;

use crate::text::snippet::Fault;
use crate::text::suggest;
use crate::text::yaml::{Node, Position};

/// Most combinations of one matrix.
const MAX: usize = 100_000;
const OPEN: &str = "${matrix.";

/// One value of each axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Combination(Vec<(String, String)>);

/// All combinations, the last axis changing fastest.
pub(super) fn read(node: &Node) -> Result<Vec<Combination>, Fault> {
    let mut all = vec![Combination::default()];
    for (key, values) in node.map()? {
        let values = values.texts()?;
        if values.is_empty() {
            return Err(Fault::at(key.at, format!("`{}` has no values, so there would be no task", key.text)));
        }
        if all.len().saturating_mul(values.len()) > MAX {
            return Err(Fault::at(node.at, format!("more than {MAX} combinations")));
        }
        all = all
            .iter()
            .flat_map(|before| {
                values.iter().map(|value| {
                    let mut axes = before.0.clone();
                    axes.push((key.text.to_string(), (*value).to_owned()));
                    Combination(axes)
                })
            })
            .collect();
    }
    Ok(all)
}

impl Combination {
    /// Puts the values in their places.
    pub(super) fn fill<'t>(&self, text: &'t str, at: Position) -> Result<Cow<'t, str>, Fault> {
        if !text.contains(OPEN) {
            return match text.split_once("${{").filter(|(_, name)| name.trim_start().starts_with("matrix.")) {
                Some((_, name)) => {
                    let name = name.trim_start().trim_start_matches("matrix.");
                    let name = name.split([' ', '}']).next().unwrap_or_default();
                    Err(Fault::at(at, "`${{ ... }}` is of GitHub's workflows and means nothing here")
                        .hint(Some(format!("a plan has `{OPEN}{name}}}`"))))
                }
                None => Ok(text.into()),
            };
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let (name, behind) =
                after.split_once('}').ok_or_else(|| Fault::at(at, format!("`{OPEN}` has no `}}` behind it")))?;
            let value = self.0.iter().find(|(axis, _)| axis == name).map(|(_, value)| value).ok_or_else(|| {
                let likely = suggest::likely(name, self.0.iter().map(|(axis, _)| axis.as_str()));
                let hint = likely.map(|word| format!("did you mean `{OPEN}{word}}}`?"));
                Fault::at(at, format!("the task's matrix has no `{name}`")).hint(hint)
            })?;
            out += before;
            out += value;
            rest = behind;
        }
        Ok((out + rest).into())
    }

    /// What makes the task's name unique.
    pub(super) fn suffix(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let values: Vec<&str> = self.0.iter().map(|(_, value)| value.as_str()).collect();
        format!(" ({})", values.join(", "))
    }
}
