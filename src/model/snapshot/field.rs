//! A value of a snapshot, or why it is absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A value, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field<T> {
    /// It was read.
    Known(T),
    /// It could not be.
    Unavailable(Unavailable),
}

/// What could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// The file or the call.
    pub path: String,
    /// In words.
    pub why: String,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self::unavailable("", "not looked at")
    }
}

impl<T> Field<T> {
    /// A value that is not there.
    pub fn unavailable(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unavailable(Unavailable { path: path.into(), why: why.into() })
    }

    /// The value, or why there is none.
    pub fn get(&self) -> Result<&T, &Unavailable> {
        match self {
            Self::Known(value) => Ok(value),
            Self::Unavailable(unavailable) => Err(unavailable),
        }
    }

    /// The value, if there is one.
    pub fn known(&self) -> Option<&T> {
        self.get().ok()
    }
}

/// Named counters of one file, as the kernel names them.
pub type Counters = BTreeMap<String, u64>;
