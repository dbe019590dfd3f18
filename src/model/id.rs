//! Names of things: tasks and runs. Parsed once, valid ever after.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::raw::is_hidden;

/// Longest task id in bytes. Ids appear in file names of reports and in one-line progress.
pub const TASK_ID_MAX: usize = 512;

/// The name of a task inside its plan: not empty, no control or invisible characters, at most [`TASK_ID_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(Arc<str>);

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("an id must not be empty")]
    Empty,
    /// Over [`TASK_ID_MAX`].
    #[error("an id has at most {TASK_ID_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A line break, an escape or the like.
    #[error("an id must not contain the control character {0:?}")]
    Control(char),
    /// It could hide or reorder what stands beside it, and make two names look the same.
    #[error("an id must not contain the invisible character U+{:04X}", u32::from(*.0))]
    Hidden(char),
}

impl TaskId {
    /// Checks and keeps the text.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > TASK_ID_MAX {
            return Err(IdError::TooLong(text.len()));
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            return Err(IdError::Control(control));
        }
        if let Some(hidden) = text.chars().find(|c| is_hidden(*c)) {
            return Err(IdError::Hidden(hidden));
        }
        Ok(Self(text.into()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TaskId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TaskId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        match Self::new(&text) {
            // An apm that let them pass may have written it; they are shown as what they are, so that ids stay distinct.
            Err(IdError::Hidden(_)) => {
                let escape = |c: char| if is_hidden(c) { c.escape_unicode().collect() } else { String::from(c) };
                Ok(Self(text.chars().map(escape).collect::<String>().into()))
            }
            other => other,
        }
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The name of a run: `20261124-122531-3f2a9c`, time first so that names sort by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Takes a text that is safe as a folder name: ASCII letters, digits and `-`.
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        fits.then(|| Self(text.to_owned()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{IdError, RunId, TaskId};

    #[test]
    fn ids_refuse_what_would_break_a_line() {
        assert_eq!(TaskId::new(""), Err(IdError::Empty));
        assert_eq!(TaskId::new("a\nb"), Err(IdError::Control('\n')));
        assert_eq!(TaskId::new("a\u{202e}b"), Err(IdError::Hidden('\u{202e}')));
        assert_eq!(IdError::Hidden('\u{ad}').to_string(), "an id must not contain the invisible character U+00AD");
        assert_eq!(TaskId::new(&"x".repeat(513)), Err(IdError::TooLong(513)));
        assert_eq!(TaskId::new("lint:ruff [web]").map(|id| id.to_string()), Ok("lint:ruff [web]".into()));
    }

    /// Records of an apm that let invisible characters pass are still read, and no two names become one.
    #[test]
    fn a_recorded_id_is_shown_clean() {
        let read = |text: &str| serde_json::from_str::<TaskId>(text).map(|id| id.to_string()).ok();
        assert_eq!(read("\"a\u{200b}b\""), Some("a\\u{200b}b".to_owned()));
        assert_eq!((read("\"ab\""), read("\"a\\nb\""), read("\"\"")), (Some("ab".to_owned()), None, None));
    }

    #[test]
    fn run_ids_are_safe_folder_names() {
        assert!(RunId::new("20261124-122531-3f2a9c").is_some());
        for bad in ["", "..", "a/b", "a b", "é"] {
            assert_eq!(RunId::new(bad), None, "{bad:?}");
        }
    }
}
