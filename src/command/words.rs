//! What apm has for words that other tools have: `apm qa`, `--jobs`, `-I{}`. Puts tips of its own into clap's errors, whose
//! one tip for an unknown option, "to pass it as a value, use `--`", is hardly ever what was meant.

use std::ffi::{OsStr, OsString};

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use crate::cli::Cli;
use crate::cli::run::Format;

/// Options of xargs, GNU parallel, make, pytest and others: those of apm that do the same (a tip is given where the command
/// has that one), and what to say.
const OPTIONS: &[(&[&str], &str, &str)] = &[
    (
        &[
            "-P",
            "--max-procs",
            "--parallel",
            "--max-parallel",
            "--concurrency",
            "--workers",
            "--threads",
            "--max-workers",
        ],
        "agents",
        "`-j N` is how many tasks run at once",
    ),
    (
        &["-I", "-i", "--replace", "--replace-str"],
        "colsep",
        "`{}` is always replaced by the value, without an option; `apm run each -- mv {} {}.old ::: *.log`",
    ),
    (
        &["-d", "--delimiter", "--delim", "--field-separator", "-F"],
        "colsep",
        "values are lines, or end with NUL (`-0`); `--colsep ,` splits each into columns {1} {2} ...",
    ),
    (
        &["-N", "-L", "-l", "-X", "-m", "--max-lines", "--max-replace-args", "--xargs", "--batch-size"],
        "max_args",
        "`-n N` passes up to N values to each command, as many as fit",
    ),
    (&["--bar", "--progress", "--progressbar", "--progress-bar"], "eta", "`--eta` prints progress and an estimate"),
    (
        &["--bar", "--progress", "--progressbar", "--progress-bar", "--eta"],
        "fail_fast",
        "progress is shown on a terminal without an option; `apm run watch` shows it on another one",
    ),
    (&["-u", "--ungroup", "--stream", "--line-buffered"], "line_buffer", "`--line-buffer` prints lines as they come"),
    (
        &["--list", "--list-tests", "--collect-only", "--dryrun", "--just-print", "--print-only", "--plan"],
        "dry_run",
        "`--dry-run` lists the tasks and starts nothing; `apm run list` lists recorded runs",
    ),
    (
        &["--keep-going", "--no-fail-fast", "--continue-on-error"],
        "fail_fast",
        "without an option apm goes on after a failure; `--fail-fast` stops",
    ),
    (&["--retry", "--reruns", "--max-retries"], "retries", "`--retries N` repeats what failed"),
    (&["--results", "--logdir", "--log-dir"], "no_journal", "`apm run show last TASK` prints the output of a task"),
    (
        &["--resume-failed", "--retry-failed", "--last-failed", "--lf"],
        "fail_fast",
        "`apm run --resume` goes on with a run",
    ),
    (&["--no-color", "--no-colour", "--nocolor"], "color", "`--color never`; NO_COLOR is read as well"),
];

/// Words behind `apm` that are a command of other tools.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["test", "tests"], "run qa --only tests"),
    (&["lint", "check", "fmt", "format", "ci", "verify"], "run qa"),
    (&["resume"], "run --resume"),
    (&["replay", "report"], "run --replay"),
    (&["xargs", "parallel"], "run each"),
    (&["cpu", "mem", "memory", "record"], "profile"),
];

/// Puts the tips into an error of the command line.
pub(super) fn mend(error: &mut clap::Error, argv: &[OsString]) {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let mut root = Cli::command();
    root.build();
    let tip = match error.kind() {
        ErrorKind::InvalidSubcommand => text(ContextKind::InvalidSubcommand).and_then(|word| command(&root, &word)),
        ErrorKind::UnknownArgument => {
            let tip = text(ContextKind::InvalidArg).and_then(|word| option(of(&root, argv), &word));
            if tip.is_none() {
                drop_tip_of_values(error);
            }
            tip
        }
        _ => None,
    };
    let Some(tip) = tip else { return };
    // What looks alike is another thing, and so is the usage that clap derives from it.
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::Usage] {
        error.remove(kind);
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

fn drop_tip_of_values(error: &mut clap::Error) {
    if let Some(ContextValue::StyledStrs(tips)) = error.remove(ContextKind::Suggested) {
        let kept: Vec<StyledStr> = tips.into_iter().filter(|tip| !tip.to_string().starts_with("to pass ")).collect();
        if !kept.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(kept));
        }
    }
}

/// The command that a command line is for.
fn of<'a>(root: &'a Command, argv: &[OsString]) -> &'a Command {
    let words = argv.iter().skip(1).filter_map(|word| word.to_str());
    words.take_while(|word| *word != "--").fold(root, |found, word| found.find_subcommand(word).unwrap_or(found))
}

fn command(root: &Command, word: &str) -> Option<String> {
    let named = COMMANDS.iter().find(|(words, _)| words.contains(&word)).map(|(_, meant)| (*meant).to_owned());
    let nested = || {
        let of = root.get_subcommands().find(|command| command.find_subcommand(word).is_some())?;
        Some(format!("{} {word}", of.get_name()))
    };
    named.or_else(nested).map(|meant| format!("did you mean `apm {meant}`?"))
}

fn option(command: &Command, word: &str) -> Option<String> {
    let has = |id: &str| command.get_arguments().any(|arg| arg.get_id() == id);
    let format = command.get_arguments().find(|arg| arg.get_id() == "format");
    let name = word.trim_start_matches('-');
    if let Some(format) = format.filter(|_| word.starts_with("--"))
        && format.get_possible_values().iter().any(|value| value.matches(name, false))
    {
        let file = has("output") && name != Format::Text.as_str();
        let file = if file { format!("; `-o {name}=FILE` writes it to a file") } else { String::new() };
        return Some(format!("`--format {name}`{file}"));
    }
    let row = OPTIONS.iter().find(|(words, id, _)| words.contains(&word) && has(id));
    row.map(|(.., tip)| (*tip).to_owned())
}

/// Names of plan files that are looked for where none is named.
const PLANS: [&str; 4] = ["plan.yaml", "plan.yml", "plan.json", "plan.jsonl"];

/// What `apm run` alone may have been meant for.
pub(super) fn nothing_named(is_there: impl Fn(&OsStr) -> bool) -> [String; 4] {
    let plan = PLANS.iter().find(|name| is_there(OsStr::new(name)));
    [
        "`apm run qa` checks this repository".to_owned(),
        plan.map_or_else(
            || "`apm run plan.yaml` runs the tasks of a plan file".to_owned(),
            |name| format!("`apm run {name}` runs the plan that is in this folder"),
        ),
        "`apm run each -- gzip -k {} ::: *.log` runs a command for each value".to_owned(),
        "`apm run --resume` goes on with the last run; `apm help run` has more".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{CommandFactory, Parser};

    use super::{COMMANDS, OPTIONS, mend};
    use crate::cli::Cli;

    fn said(line: &str) -> String {
        let argv: Vec<OsString> = format!("apm {line}").split(' ').map(OsString::from).collect();
        let mut error = Cli::try_parse_from(&argv).expect_err(line);
        mend(&mut error, &argv);
        error.to_string()
    }

    #[test]
    fn words_of_other_tools_lead_to_what_apm_has() {
        for (line, tip) in [
            ("qa", "did you mean `apm run qa`?"),
            ("each echo", "did you mean `apm run each`?"),
            ("show", "did you mean `apm run show`?"),
            ("ls", "did you mean `apm run ls`?"),
            ("resume", "did you mean `apm run --resume`?"),
            ("test", "did you mean `apm run qa --only tests`?"),
            ("flamegraph", ""),
            ("run each -P4 -- echo", "`-j N` is how many"),
            ("run each -I{} echo {}", "`{}` is always replaced"),
            ("run each -d, echo", "`--colsep ,`"),
            ("run each --bar echo", "`--eta` prints"),
            ("run qa --progress", "`apm run watch` shows it"),
            ("run p.yaml --list", "`--dry-run` lists the tasks"),
            ("run qa --json", "`--format json`; `-o json=FILE`"),
            ("run list --json", "`--format json`\n"),
            ("doctor --sarif", "`--format sarif`"),
            ("run list --zzz", ""),
            ("run each -Z echo", ""),
            ("run qa --no-color", "`--color never`"),
        ] {
            let said = said(line);
            assert!(said.contains(tip), "{line}: {said}");
            assert_eq!(said.contains("tip: "), !tip.is_empty(), "{line}: {said}");
        }
    }

    /// What is not ours stays: clap's own guess at a slip.
    #[test]
    fn a_slip_still_has_the_tip_of_the_parser() {
        assert!(said("run each --keep-oder echo").contains("--keep-order"));
        assert!(said("dotcor").contains("doctor"));
    }

    #[test]
    fn what_a_tip_names_is_there() {
        for (_, meant) in COMMANDS {
            let words = meant.split(' ').map(OsString::from);
            let argv: Vec<OsString> = std::iter::once("apm".into()).chain(words).collect();
            let parsed = Cli::try_parse_from(argv).map_err(|error| error.kind());
            let needs_more = clap::error::ErrorKind::MissingRequiredArgument;
            let shows_help = clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            let is_known = parsed.as_ref().err().is_none_or(|kind| [needs_more, shows_help].contains(kind));
            assert!(is_known, "{meant}: {parsed:?}");
        }
        let mut root = Cli::command();
        root.build();
        for (words, id, _) in OPTIONS {
            let run = root.find_subcommand("run").expect("run");
            let each = run.find_subcommand("each").expect("each");
            assert!(each.get_arguments().any(|arg| arg.get_id() == id), "{words:?}: {id}");
        }
    }
}
