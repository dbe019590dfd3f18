//! The placeholders of `apm run each`, with the meaning GNU parallel's users expect:
//! `{}` `{.}` `{/}` `{//}` `{/.}` `{#}` `{%}` and, for columns and groups, `{1}` `{2.}` `{3/}` `{4//}` `{5/.}`.
//! Bytes in, bytes out: values need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::model::bytestring::ByteString;
use crate::model::id::TaskId;
use crate::model::task::{Run, Task};

/// A command with placeholders.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    words: Vec<Vec<Piece>>,
    shell: bool,
    /// What the history of this command is filed under.
    key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    /// The value, or one of its columns counted from 1, seen through `part`.
    Value {
        column: Option<usize>,
        part: Part,
    },
    Sequence,
    /// Only known when the task starts, so the engine fills it in through the environment.
    Slot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    NoExtension,
    Base,
    Folder,
    BaseNoExtension,
}

/// Why a template does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("there is no command before the values")]
    Empty,
    #[error("value {sequence} has {have} columns, the command asks for {{{want}}}")]
    MissingColumn { sequence: u64, have: usize, want: usize },
    #[error("value {sequence} contains a NUL byte, which no argument can carry; `-0` separates values at NUL")]
    Nul { sequence: u64 },
    #[error("`{{%}}` (the slot) needs --shell: it is known when a task starts, not before")]
    SlotWithoutShell,
}

/// Longest part of a value shown in a task's name.
const NAME_MAX: usize = 200;

impl Template {
    /// Reads the words. Without any placeholder for a value, the value is appended.
    pub(crate) fn new(words: &[OsString], shell: bool) -> Result<Self, TemplateError> {
        if words.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut pieces: Vec<Vec<Piece>> = words.iter().map(|word| split(word.as_bytes())).collect();
        let takes_value = |piece: &Piece| matches!(piece, Piece::Value { .. });
        if !pieces.iter().flatten().any(takes_value) {
            pieces.push(vec![Piece::Value { column: None, part: Part::Whole }]);
        }
        if !shell && pieces.iter().flatten().any(|piece| *piece == Piece::Slot) {
            return Err(TemplateError::SlotWithoutShell);
        }
        let mut hasher = blake3::Hasher::new();
        for word in words {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        Ok(Self { words: pieces, shell, key: format!("each:{}", &hasher.finalize().to_hex()[..16]) })
    }

    /// The task for one value. `columns` holds the value in one piece, or its columns, or one value of each group.
    pub(crate) fn task(&self, sequence: u64, columns: &[Vec<u8>]) -> Result<Task, TemplateError> {
        if columns.iter().any(|column| column.contains(&0)) {
            return Err(TemplateError::Nul { sequence });
        }
        let mut words = Vec::with_capacity(self.words.len());
        for pieces in &self.words {
            // A word that is nothing but the value becomes as many words as there are values (`-n`, `:::` groups).
            if let [Piece::Value { column: None, part }] = pieces[..]
                && !self.shell
            {
                words.extend(columns.iter().map(|column| view(column, part).to_vec()));
                continue;
            }
            let mut word = Vec::new();
            for piece in pieces {
                self.fill(&mut word, piece, sequence, columns)?;
            }
            words.push(word);
        }
        let run = if self.shell {
            Run::Script { shell: vec!["/bin/sh".into(), "-c".into()], script: words.join(&b' ').into() }
        } else {
            Run::Argv(words.into_iter().map(|word| OsString::from_vec(word).into()).collect())
        };
        let mut task = Task::new(name(sequence, columns), run);
        task.history_key = Some(self.key.clone());
        Ok(task)
    }

    fn fill(&self, out: &mut Vec<u8>, piece: &Piece, sequence: u64, columns: &[Vec<u8>]) -> Result<(), TemplateError> {
        let quote = |out: &mut Vec<u8>, bytes: &[u8]| {
            if self.shell { quoted(out, bytes) } else { out.extend(bytes) }
        };
        match piece {
            Piece::Text(text) => out.extend(text),
            Piece::Sequence => out.extend(sequence.to_string().bytes()),
            // `APM_SLOT` counts from 0, parallel's `{%}` from 1.
            Piece::Slot => out.extend(b"\"$((APM_SLOT + 1))\""),
            Piece::Value { column: Some(number), part } => {
                let missing = TemplateError::MissingColumn { sequence, have: columns.len(), want: *number };
                let column = columns.get(number - 1).ok_or(missing)?;
                quote(out, view(column, *part));
            }
            Piece::Value { column: None, part } => {
                for (at, column) in columns.iter().enumerate() {
                    if at > 0 {
                        out.push(b' ');
                    }
                    quote(out, view(column, *part));
                }
            }
        }
        Ok(())
    }
}

/// `17: the value`, unique by its number; what could break a line is shown as `?`.
fn name(sequence: u64, columns: &[Vec<u8>]) -> TaskId {
    let value = String::from_utf8_lossy(&columns.join(&b' ')).into_owned();
    let mut shown: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).take(NAME_MAX).collect();
    while shown.len() > NAME_MAX {
        shown.pop();
    }
    TaskId::new(format!("{sequence}: {shown}").trim_end())
        .or_else(|_| TaskId::new(&sequence.to_string()))
        .expect("a number is a good id")
}

fn split(word: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut at = 0;
    while at < word.len() {
        let close = (word[at] == b'{').then(|| word[at..].iter().position(|b| *b == b'}')).flatten();
        if let Some(piece) = close.and_then(|close| placeholder(&word[at + 1..at + close])) {
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(piece);
            at += close.unwrap_or(0) + 1;
        } else {
            text.push(word[at]);
            at += 1;
        }
    }
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

fn placeholder(inside: &[u8]) -> Option<Piece> {
    match inside {
        b"#" => return Some(Piece::Sequence),
        b"%" => return Some(Piece::Slot),
        _ => {}
    }
    let digits = inside.iter().take_while(|b| b.is_ascii_digit()).count();
    let column = match std::str::from_utf8(&inside[..digits]).ok()? {
        "" => None,
        number => Some(number.parse().ok().filter(|number| *number > 0)?),
    };
    let part = match &inside[digits..] {
        b"" => Part::Whole,
        b"." => Part::NoExtension,
        b"/" => Part::Base,
        b"//" => Part::Folder,
        b"/." => Part::BaseNoExtension,
        _ => return None,
    };
    Some(Piece::Value { column, part })
}

fn view(value: &[u8], part: Part) -> &[u8] {
    let slash = value.iter().rposition(|b| *b == b'/');
    let base = slash.map_or(value, |at| &value[at + 1..]);
    let without_extension = |name: &[u8]| match name.iter().rposition(|b| *b == b'.') {
        // `.profile` has no extension.
        Some(dot) if dot > 0 => dot,
        _ => name.len(),
    };
    match part {
        Part::Whole => value,
        Part::Base => base,
        Part::BaseNoExtension => &base[..without_extension(base)],
        Part::NoExtension => &value[..value.len() - base.len() + without_extension(base)],
        Part::Folder => match slash {
            None => b".",
            Some(0) => b"/",
            Some(at) => &value[..at],
        },
    }
}

fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return out.extend(bytes);
    }
    out.push(b'\'');
    for byte in bytes {
        match byte {
            b'\'' => out.extend(br"'\''"),
            _ => out.push(*byte),
        }
    }
    out.push(b'\'');
}

/// Splits `COMMAND ... ::: values` at the first separator: the command, and the groups as (separator, words).
pub(crate) fn separate(words: &[OsString]) -> (&[OsString], Vec<(Group, &[OsString])>) {
    let group = |word: &OsStr| match word.as_bytes() {
        b":::" => Some(Group::Values),
        b"::::" => Some(Group::Files),
        _ => None,
    };
    let first = words.iter().position(|word| group(word).is_some()).unwrap_or(words.len());
    let mut groups = Vec::new();
    let mut at = first;
    while let Some(kind) = words.get(at).and_then(|word| group(word)) {
        let end = words[at + 1..].iter().position(|word| group(word).is_some()).map_or(words.len(), |n| at + 1 + n);
        groups.push((kind, &words[at + 1..end]));
        at = end;
    }
    (&words[..first], groups)
}

/// What follows a separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// `:::`: the values themselves.
    Values,
    /// `::::`: files with one value a line.
    Files,
}

/// The words of a command line as one task's display.
pub(crate) fn shown(words: &[OsString]) -> String {
    Run::Argv(words.iter().map(|word| ByteString::from(word.clone())).collect()).display()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Group, Template, separate};

    fn run(words: &[&str], shell: bool, columns: &[&str]) -> Result<String, String> {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let columns: Vec<Vec<u8>> = columns.iter().map(|c| c.as_bytes().to_vec()).collect();
        let template = Template::new(&words, shell).map_err(|e| e.to_string())?;
        template.task(7, &columns).map(|task| task.run.display()).map_err(|e| e.to_string())
    }

    fn ok(words: &[&str], columns: &[&str]) -> String {
        run(words, false, columns).expect("a good template")
    }

    #[test]
    fn placeholders_mean_what_users_of_parallel_expect() {
        let parts = ["x", "{}", "{.}", "{/}", "{//}", "{/.}", "{#}"];
        assert_eq!(ok(&parts, &["a.d/b.tar.gz"]), "x a.d/b.tar.gz a.d/b.tar b.tar.gz a.d b.tar 7");
        assert_eq!(ok(&parts, &["/.profile"]), "x /.profile /.profile .profile / .profile 7");
        assert_eq!(ok(&parts, &["plain"]), "x plain plain plain . plain 7");
        assert_eq!(ok(&["x", "{2}-{1.}"], &["a.c", "b"]), "x b-a");
        assert_eq!(ok(&["x", "{nope}", "{", "}"], &["v"]), "x '{nope}' '{' '}' v");
    }

    #[test]
    fn a_value_without_placeholder_is_appended_and_groups_become_words() {
        assert_eq!(ok(&["echo"], &["a b"]), "echo 'a b'");
        assert_eq!(ok(&["echo", "{}"], &["a", "b"]), "echo a b");
        assert_eq!(ok(&["echo", "<{}>"], &["a", "b"]), "echo '<a b>'");
    }

    #[test]
    fn a_shell_gets_its_values_quoted() {
        let shell = |words: &[&str], value: &str| run(words, true, &[value]).expect("a good template");
        assert_eq!(shell(&["echo {} | wc -c"], "it's $HOME; rm *"), r"echo 'it'\''s $HOME; rm *' | wc -c");
        assert_eq!(shell(&["echo", "{%}"], "v"), "echo \"$((APM_SLOT + 1))\" v");
    }

    #[test]
    fn errors_name_the_value() {
        assert_eq!(
            run(&["x", "{3}"], false, &["a"]),
            Err("value 7 has 1 columns, the command asks for {3}".to_owned())
        );
        assert!(run(&["x"], false, &["a\0b"]).expect_err("refused").contains("NUL"));
        assert!(run(&["x", "{%}"], false, &["a"]).expect_err("refused").contains("--shell"));
        assert!(run(&[], false, &["a"]).is_err());
    }

    #[test]
    fn the_command_ends_at_the_first_separator() {
        let words: Vec<OsString> = ["c", "-x", ":::", "a", "b", "::::", "f", ":::"].iter().map(Into::into).collect();
        let (command, groups) = separate(&words);
        assert_eq!(command, ["c", "-x"]);
        let kinds: Vec<(Group, usize)> = groups.iter().map(|(kind, words)| (*kind, words.len())).collect();
        assert_eq!(kinds, [(Group::Values, 2), (Group::Files, 1), (Group::Values, 0)]);
    }
}
