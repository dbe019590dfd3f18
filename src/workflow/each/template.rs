//! The placeholders of `apm run each`, with the meaning GNU parallel's users expect:
//! `{}` `{.}` `{/}` `{//}` `{/.}` `{#}` `{%}` and, for columns and groups, `{1}` `{2.}` `{3/}` `{4//}` `{5/.}`.
//! Bytes in, bytes out: values need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::model::bytestring::ByteString;
use crate::model::id::TaskId;
use crate::model::raw::is_hidden;
use crate::model::task::{Run, Task};

/// A command with placeholders.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    words: Vec<Vec<Piece>>,
    shell: bool,
    tag: bool,
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
    #[error(
        "`{{{0}}}` is a placeholder of GNU parallel, and apm has none like it: it has {{}} {{.}} {{/}} {{//}} {{/.}} {{#}} {{%}} and \
         columns {{1}} {{2}}, counted from the first"
    )]
    Foreign(String),
    #[error("there is no command before the values")]
    Empty,
    #[error("value {sequence} contains a NUL byte, which no argument can carry; `-0` separates values at NUL")]
    Nul { sequence: u64 },
    #[error("`{{%}}` (the slot) needs --shell: it is known when a task starts, not before")]
    SlotWithoutShell,
}

/// Longest command made of several values: a script is one argument, of which the kernel takes 128 KiB (MAX_ARG_STRLEN),
/// and of all arguments with the environment it takes that much under any `ulimit -s`. xargs keeps to the same.
const COMMAND_MAX: usize = 127 << 10;
/// Longest part of a value shown in a task's name.
const NAME_MAX: usize = 200;

impl Template {
    /// Reads the words. Without any placeholder for a value, the value is appended.
    pub(crate) fn new(words: &[OsString], shell: bool) -> Result<Self, TemplateError> {
        if words.is_empty() {
            return Err(TemplateError::Empty);
        }
        if let Some(inside) = words.iter().find_map(|word| foreign(word.as_bytes())) {
            return Err(TemplateError::Foreign(inside));
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
        Ok(Self { words: pieces, shell, tag: false, key: format!("each:{}", &hasher.finalize().to_hex()[..16]) })
    }

    /// Its tasks carry their values as tags.
    pub(crate) fn tagged(self, tag: bool) -> Self {
        Self { tag, ..self }
    }

    /// Bytes of values that fit into one command, as `values` counts them.
    pub(crate) fn room(&self) -> usize {
        let pieces = || self.words.iter().flatten();
        let uses = pieces().filter(|piece| matches!(piece, Piece::Value { .. })).count();
        let own: usize = pieces()
            .map(|piece| match piece {
                Piece::Text(text) => text.len(),
                _ => 0,
            })
            .sum();
        COMMAND_MAX.saturating_sub(own + self.words.len()) / uses.max(1)
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
                self.fill(&mut word, piece, sequence, columns);
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
        task.tag = self.tag.then(|| columns.join(&b' ').into());
        Ok(task)
    }

    /// Stands for the values that could not be read: it breaks, so that the record knows that something is missing,
    /// and the run ends as incomplete, also when it is resumed.
    pub(crate) fn unread(sequence: u64, fault: &str) -> Task {
        let mut task = Task::new(name(sequence, &[fault.as_bytes().to_vec()]), Run::Argv(Vec::new()));
        task.reason = "no value could be taken from here on".into();
        task
    }

    fn fill(&self, out: &mut Vec<u8>, piece: &Piece, sequence: u64, columns: &[Vec<u8>]) {
        let quote = |out: &mut Vec<u8>, bytes: &[u8]| {
            if self.shell { quoted(out, bytes) } else { out.extend(bytes) }
        };
        match piece {
            Piece::Text(text) => out.extend(text),
            Piece::Sequence => out.extend(sequence.to_string().bytes()),
            // `APM_SLOT` counts from 0, parallel's `{%}` from 1.
            Piece::Slot => out.extend(b"\"$((APM_SLOT + 1))\""),
            Piece::Value { column: Some(number), part } => {
                // As with GNU parallel: the last of `-n 2` may have only one.
                let column = columns.get(number - 1).map_or(&b""[..], |column| column);
                quote(out, if column.is_empty() { column } else { view(column, *part) });
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
    }
}

/// `17: the value`, unique by its number; what could break a line is shown as `?`.
fn name(sequence: u64, columns: &[Vec<u8>]) -> TaskId {
    let value = String::from_utf8_lossy(&columns.join(&b' ')).into_owned();
    let mut shown: String =
        value.chars().map(|c| if c.is_control() || is_hidden(c) { '?' } else { c }).take(NAME_MAX).collect();
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

/// What stands in the first placeholder of GNU parallel that is none here: it would be passed on as it is.
fn foreign(word: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(word);
    let mut inside = text.match_indices('{').filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        // An expression of Perl, which may hold braces.
        let perl = rest.strip_prefix('=').and_then(|perl| perl.find("=}")).map(|end| &rest[..end + 2]);
        perl.or_else(|| rest.split_once('}').map(|(inside, _)| inside))
    });
    let is_foreign = |inside: &&str| {
        let from_the_end = inside.strip_prefix('-').and_then(|rest| placeholder(rest.as_bytes()));
        let is_column = |piece| matches!(piece, Piece::Value { column: Some(_), .. });
        let part = inside.trim_start_matches(|c: char| c.is_ascii_digit());
        from_the_end.is_some_and(is_column)
            || inside.starts_with('=') && inside.ends_with('=') && inside.len() > 2
            || ["+/", "+.", "+..", "##", "0#", "0%"].contains(inside)
            || ["..", "...", "/..", "/..."].contains(&part)
    };
    inside.find(is_foreign).map(str::to_owned)
}

fn view(value: &[u8], part: Part) -> &[u8] {
    let slash = value.iter().rposition(|b| *b == b'/');
    let base = slash.map_or(value, |at| &value[at + 1..]);
    // All of `.profile` is an extension, as GNU parallel has it.
    let without_extension = |name: &[u8]| name.iter().rposition(|b| *b == b'.').unwrap_or(name.len());
    match part {
        Part::Whole => value,
        Part::Base => base,
        Part::BaseNoExtension => &base[..without_extension(base)],
        Part::NoExtension => &value[..value.len() - base.len() + without_extension(base)],
        Part::Folder => folder(value),
    }
}

/// As dirname(1): slashes at the end, and several in a row, mean nothing.
fn folder(value: &[u8]) -> &[u8] {
    let trimmed = |path: &[u8]| path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let path = &value[..trimmed(value)];
    match path.iter().rposition(|b| *b == b'/').map(|at| trimmed(&path[..at])) {
        None if path.is_empty() && !value.is_empty() => b"/",
        None => b".",
        Some(0) => b"/",
        Some(end) => &path[..end],
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
    let group = |word: &OsStr| {
        let (from_files, linked) = match word.as_bytes() {
            b":::" => (false, false),
            b"::::" => (true, false),
            b":::+" => (false, true),
            b"::::+" => (true, true),
            _ => return None,
        };
        Some(Group { from_files, linked })
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
pub(crate) struct Group {
    /// `::::`: files with one value a line, not the values themselves.
    pub(crate) from_files: bool,
    /// `:::+`, `::::+`: each value goes with one of the group before, not with every one.
    pub(crate) linked: bool,
}

/// The words of a command line as one task's display.
pub(crate) fn shown(words: &[OsString]) -> String {
    Run::Argv(words.iter().map(|word| ByteString::from(word.clone())).collect()).display()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Template, separate};

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
        assert_eq!(ok(&parts, &["/.profile"]), "x /.profile / .profile / '' 7");
        assert_eq!(ok(&["{.}"], &[".bashrc"]), "''");
        for (value, folder) in [("a/", "."), ("a//b", "a"), ("a/b/", "a"), ("//a", "/"), ("//", "/"), ("", ".")] {
            assert_eq!(ok(&["{//}"], &[value]), folder, "{value}");
        }
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

    /// Too few columns ended the run.
    #[test]
    fn a_column_that_is_not_there_is_empty() {
        assert_eq!(ok(&["x", "{1}", "-", "{2}", "<{3//}>"], &["c"]), "x c - '' '<>'");
    }

    #[test]
    fn errors_name_the_value() {
        assert!(run(&["x"], false, &["a\0b"]).expect_err("refused").contains("NUL"));
        assert!(run(&["x", "{%}"], false, &["a"]).expect_err("refused").contains("--shell"));
        assert!(run(&[], false, &["a"]).is_err());
        for foreign in ["{-1}", "{-2/.}", "{..}", "{2/...}", "{+/}", "{##}", "{0%}", "a{= s/{x}/y/ =}b"] {
            let error = run(&["x", foreign], false, &["a"]).expect_err(foreign);
            assert!(error.contains("GNU parallel") && error.contains("{//}"), "{foreign}: {error}");
        }
        for literal in ["{print}", "{-x}", "{1..3}", "{=}", "{a,b}", "{-}", r#"{"a": -1}"#, "{ .. }"] {
            assert!(ok(&["x", literal], &["v"]).ends_with(" v"), "{literal}");
        }
    }

    #[test]
    fn the_command_ends_at_the_first_separator() {
        let words = ["c", "-x", ":::", "a", "b", "::::", "f", ":::", ":::+", "g", "::::+", "h"];
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let (command, groups) = separate(&words);
        assert_eq!(command, ["c", "-x"]);
        let kinds: Vec<(bool, bool, usize)> =
            groups.iter().map(|(group, words)| (group.from_files, group.linked, words.len())).collect();
        assert_eq!(kinds, [(false, false, 2), (true, false, 1), (false, false, 0), (false, true, 1), (true, true, 1)]);
    }
}
