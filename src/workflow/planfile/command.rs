//! The command of a task: a list of arguments is executed as it is; a line without anything a shell would act on is split into
//! arguments and executed directly, which saves a process; any other line goes to a shell.

use std::borrow::Cow;

use crate::model::bytestring::ByteString;
use crate::model::task::Run;
use crate::text::snippet::Fault;
use crate::text::yaml::{Kind, Node};

/// Characters that mean nothing to a shell, whatever stands around them.
const PLAIN: &str = "-_./:,+@%^=";
/// Commands that only a shell knows.
const BUILTINS: [&str; 37] = [
    ".", ":", "alias", "bg", "break", "case", "cd", "command", "continue", "do", "done", "eval", "exec", "exit",
    "export", "fg", "for", "getopts", "hash", "if", "jobs", "read", "readonly", "return", "set", "shift", "source",
    "time", "times", "trap", "type", "ulimit", "umask", "unalias", "unset", "until", "while",
];

/// Who runs a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shell {
    /// Nobody: the line is split at blanks, quotes mean nothing.
    None,
    /// This shell with its options; the script is appended.
    Argv(Vec<String>),
}

impl Shell {
    /// `true`, `false`, `bash`, or arguments such as `[bash, -euo, pipefail, -c]`.
    pub(super) fn read(node: &Node) -> Result<Self, Fault> {
        match &node.kind {
            Kind::Plain(word) if word == "true" => Ok(Self::standard("/bin/sh")),
            Kind::Plain(word) if word == "false" => Ok(Self::None),
            Kind::Plain(word) | Kind::Quoted(word) if !word.is_empty() && !word.contains(' ') => {
                Ok(Self::standard(word))
            }
            Kind::List(_) => {
                let argv = node.texts()?;
                if argv.is_empty() {
                    Err(node.expected("the arguments of a shell"))
                } else {
                    Ok(Self::Argv(argv.into_iter().map(str::to_owned).collect()))
                }
            }
            _ => Err(node.expected("true, false, the name of a shell, or a list such as [bash, -euo, pipefail, -c]")),
        }
    }

    /// A failing command ends the script: a task of three lines whose second fails has failed.
    fn standard(program: &str) -> Self {
        Self::Argv(vec![program.to_owned(), "-ec".to_owned()])
    }
}

/// A list of arguments.
pub(super) fn argv(node: &Node, argv: Vec<Cow<'_, str>>, shell: Option<&Shell>) -> Result<Run, Fault> {
    if argv.is_empty() {
        return Err(node.expected("a command"));
    }
    if matches!(shell, Some(Shell::Argv(_))) {
        return Err(Fault::at(node.at, "a list of arguments is executed directly; `shell` goes with a text"));
    }
    argv.iter().try_for_each(|argument| check(node, argument))?;
    Ok(Run::Argv(argv.iter().map(|argument| ByteString::from(&**argument)).collect()))
}

/// A command line.
pub(super) fn line(node: &Node, text: &str, shell: Option<&Shell>) -> Result<Run, Fault> {
    if text.trim().is_empty() {
        return Err(node.expected("a command"));
    }
    check(node, text)?;
    let split = || Run::Argv(text.split_whitespace().map(ByteString::from).collect());
    match shell {
        Some(Shell::None) => Ok(split()),
        Some(Shell::Argv(shell)) => Ok(script(shell, text)),
        None if is_plain(text.trim()) => Ok(split()),
        None => Ok(script(&["/bin/sh".to_owned(), "-ec".to_owned()], text)),
    }
}

fn script(shell: &[String], text: &str) -> Run {
    Run::Script { shell: shell.iter().cloned().map(ByteString::from).collect(), script: text.into() }
}

fn check(node: &Node, text: &str) -> Result<(), Fault> {
    if text.contains('\0') {
        return Err(Fault::at(node.at, "a command cannot hold a NUL character"));
    }
    Ok(())
}

/// Whether executing the arguments directly is the same as what a shell would do.
fn is_plain(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    text.chars().all(|c| c == ' ' || c.is_alphanumeric() || PLAIN.contains(c))
        && !first.contains('=')
        && !BUILTINS.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn only_what_a_shell_would_leave_alone_is_plain() {
        for plain in ["make test", "cargo test --all -j2", "./x a=b ü", "git log HEAD^"] {
            assert!(is_plain(plain), "{plain}");
        }
        for shell in [
            "a | b",
            "a; b",
            "A=1 b",
            "cd x",
            "exit 3",
            "a\nb",
            "echo $HOME",
            "ls *.rs",
            "a 'b'",
            "a ~",
            "a && b",
            "a > b",
            "! a",
            "a # b",
        ] {
            assert!(!is_plain(shell), "{shell}");
        }
    }
}
