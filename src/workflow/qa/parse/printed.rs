//! What a tool has printed, as readers get it, and what they make of it.

use std::path::{Component, Path};

use crate::model::finding::Results;

/// What a reader is given.
pub(crate) struct Printed<'a> {
    /// The exit code; absent where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: &'a [u8],
    pub(crate) stderr: &'a [u8],
    /// Folder of the files it wrote.
    pub(crate) written: Option<&'a Path>,
    /// Makes a path relative to the repository.
    pub(crate) place: Place<'a>,
}

/// Turns the paths of a tool into paths of the repository.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Root of the repository.
    pub(crate) root: &'a Path,
    /// Folder the tool ran in, relative to it.
    pub(crate) dir: &'a str,
}

/// A reader's answer: what it read, or why it could not.
pub(crate) type Read = Result<Results, String>;

impl Place<'_> {
    /// The path relative to the repository, with `/`; a path outside stays as it is.
    pub(crate) fn file(&self, path: &str) -> String {
        let path = path.strip_prefix("file://").unwrap_or(path);
        let joined = self.root.join(self.dir).join(path);
        let mut parts: Vec<Component<'_>> = Vec::new();
        for part in joined.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir if matches!(parts.last(), Some(Component::Normal(_))) => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let clean: std::path::PathBuf = parts.iter().collect();
        clean.strip_prefix(self.root).unwrap_or(&clean).to_string_lossy().into_owned()
    }
}

/// Text of a stream. Also JSON is not always UTF-8: names of files are in it as they are.
pub(super) fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A stream that is one JSON document.
pub(super) fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_str(&text(bytes)).map_err(|error| format!("not the JSON it promised: {error}"))
}

/// A stream that is one JSON document for each call of the tool.
pub(super) fn json_documents<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, String> {
    let text = text(bytes);
    let documents: Result<Vec<T>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
    match documents {
        Ok(documents) if documents.is_empty() => Err("not the JSON it promised: it printed nothing".to_owned()),
        documents => documents.map_err(|error| format!("not the JSON it promised: {error}")),
    }
}

/// The lines of a stream that are JSON objects; others are passed over.
pub(super) fn json_lines(bytes: &[u8]) -> impl Iterator<Item = serde_json::Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| line.first() == Some(&b'{'))
        .filter_map(|line| serde_json::from_str(&text(line)).ok())
}
