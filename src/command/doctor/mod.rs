//! `apm doctor`: looks at the machine, or at what was saved of one, says what is wrong, and writes it in every format
//! asked for. What was looked at before a Ctrl-C is reported as well; then apm dies of it.

pub(crate) mod look;
pub(crate) mod question;
pub(crate) mod saved;

use std::io::{self, Write};

use anyhow::{Context as _, anyhow};

use crate::cli::doctor::{Doctor, Format};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::output;
use crate::config::settings;
use crate::doctor::question::Question;
use crate::doctor::{catalogue, diagnose};
use crate::model::diagnosis::{Finding, Remedy};
use crate::report::doctor::{self as report, Sheet};
use crate::sink::file::Whole;
use crate::text::layout::Layout;
use crate::text::number;
use crate::tune;

/// `apm doctor ...`
pub(crate) fn main(context: &Context, words: Doctor) -> Result<Exit, Failure> {
    let flags = context.global.set.iter().map(|text| ("--set".to_owned(), text.clone())).collect();
    let loaded = settings::load(&context.environment, context.global.config.clone(), flags).map_err(Failure::usage)?;
    let question = question::question(&words, &loaded)?;
    if words.list_rules || words.explain.is_some() {
        return tell(context, &words, &question);
    }
    if words.watch {
        return look::watch(context, &words, question, loaded.settings.doctor.window);
    }
    let outputs = output::parse::<Format>(&words.output)?;
    if words.format == Format::Ndjson || outputs.iter().any(|wanted| wanted.format == Format::Ndjson) {
        return Err(Failure::usage(anyhow!("ndjson is the stream of --watch")).hint("`--format json` is one document"));
    }
    if let Some(save) = &words.save
        && let Some(other) = outputs.iter().find(|wanted| output::place(&wanted.path) == output::place(save))
    {
        return Err(Failure::usage(anyhow!("--save and -o {} both go to `{}`", other.name(), save.display())));
    }
    let create = |path: &std::path::Path, flag: String| {
        Whole::create(path).with_context(|| format!("create the file of `{flag}`")).map_err(Failure::usage)
    };
    // Before the look: a wrong path is said at once.
    let mut files = Vec::new();
    for wanted in &outputs {
        let is_stdout = wanted.path == std::path::Path::new("-");
        files.push(if is_stdout { None } else { Some(create(&wanted.path, format!("-o {}", wanted.name()))?) });
    }
    let save = words.save.as_deref().map(|path| create(path, format!("--save {}", path.display()))).transpose()?;
    if !context.ui.quiet() {
        loaded.merged.warnings.iter().for_each(|warning| context.ui.say(&format!("apm: warning: {warning}\n")));
    }
    let looked = look::look(context, &words, loaded.settings.doctor.window)?;
    if let Some(file) = save {
        file.write(|out| saved::write(&looked.window, out)).context("write the snapshot").map_err(Failure::machine)?;
    }
    let mut diagnosis = diagnose::diagnose(&looked.window, &question);
    diagnosis.findings.iter_mut().for_each(link_to_tune);
    let sheet = Sheet {
        diagnosis: &diagnosis,
        rules: &catalogue::asked(&question),
        fails_from: words.fail_on.map_or(loaded.settings.doctor.fail_on, question::floor),
        is_verbose: context.global.verbose,
    };
    let written = write_all(context, &words, &sheet, outputs.iter().zip(files))?;
    if let Some(signal) = looked.interrupted_by {
        return Ok(Exit::Signal(signal));
    }
    Ok(exit(context, &sheet, words.strict || loaded.settings.doctor.strict, written))
}

/// A remedy that is a setting has more to it: range, risk, a way back.
fn link_to_tune(finding: &mut Finding) {
    let commands = finding.remedies.iter().filter_map(|remedy| remedy.command.as_deref());
    let words: Vec<&str> =
        commands.filter(|command| command.contains("sysctl -w ")).flat_map(str::split_whitespace).collect();
    let is_set = |key: &str| words.iter().any(|word| word.split_once('=').is_some_and(|(name, _)| name == key));
    if let Some(row) = tune::catalogue::rows().find(|row| is_set(row.key)) {
        let command = Some(format!("apm tune explain {}", row.key));
        finding.remedies.push(Remedy {
            text: "what it is, its range and risk, and how to keep it".to_owned(),
            command,
            interrupts: false,
        });
    }
}

/// Writes the files and standard output. `false`: a file could not be written, which has been said.
fn write_all<'a>(
    context: &Context,
    words: &Doctor,
    sheet: &Sheet<'_>,
    outputs: impl Iterator<Item = (&'a output::Wanted<Format>, Option<Whole>)>,
) -> Result<bool, Failure> {
    let mut is_good = true;
    let plain = Layout { width: 100, ..Layout::PLAIN };
    for (wanted, file) in outputs {
        let result = match file {
            Some(file) => file.write(|out| render(wanted.format, sheet, &plain, out)),
            None => show(context, |out| render(wanted.format, sheet, &Layout::PLAIN, out)),
        };
        if let Err(error) = result {
            is_good = false;
            let failure = Failure::machine(anyhow::Error::new(error).context(format!("write `-o {}`", wanted.name())));
            context.ui.say(&failure.render());
        }
    }
    let layout = context.ui.stdout_layout();
    show(context, |out| render(words.format, sheet, &layout, out)).map_err(Failure::machine)?;
    Ok(is_good)
}

/// The code, and on standard error why it is 3 or 4.
fn exit(context: &Context, sheet: &Sheet<'_>, strict: bool, written: bool) -> Exit {
    let summary = &sheet.diagnosis.summary;
    let fails = |finding| sheet.fails_from.is_some_and(|floor| finding >= floor);
    if sheet.diagnosis.findings.iter().any(|finding| fails(finding.severity)) {
        return Exit::Failures;
    }
    if sheet.rules.is_empty() {
        context.ui.say("apm: no rule was asked\n  hint: `apm doctor --list-rules`\n");
        return Exit::Nothing;
    }
    if summary.ok + summary.warn + summary.crit == 0 && summary.skipped > 0 {
        context.ui.say("apm: no rule could look: the reasons are in the report\n");
        return Exit::Incomplete;
    }
    if strict && summary.skipped > 0 {
        let rules = number::count(summary.skipped as u64, "rule");
        context.ui.say(&format!("apm: {rules} could not look, which --strict counts as incomplete\n"));
        return Exit::Incomplete;
    }
    if written { Exit::Good } else { Exit::Incomplete }
}

fn show(context: &Context, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::new();
    write(&mut bytes)?;
    context.ui.result(&bytes).map(|_| ())
}

fn render(format: Format, sheet: &Sheet<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => report::text::write(sheet, layout, out),
        Format::Json | Format::Ndjson => report::json(sheet.diagnosis, out),
        Format::Sarif => report::sarif::write(sheet, out),
        Format::Junit => report::junit::write(sheet, out),
        Format::Github => report::github::write(sheet, out),
        Format::Prometheus => report::prometheus::write(sheet, out),
        Format::Html => report::html::write(sheet, out),
    }
}

/// `--list-rules` and `--explain`.
fn tell(context: &Context, words: &Doctor, question: &Question) -> Result<Exit, Failure> {
    if !matches!(words.format, Format::Text | Format::Json) {
        let flag = if words.list_rules { "--list-rules" } else { "--explain" };
        return Err(Failure::usage(anyhow!("{flag} has the formats text and json")));
    }
    let question = match &words.explain {
        Some(id) => Question { only: vec![question::rule(id)?], ignore: Vec::new(), ..question::everything(question) },
        // All, where nothing else is asked for.
        None if question.areas.is_empty() && question.only.is_empty() => question::everything(question),
        None => question.clone(),
    };
    let rules = catalogue::asked(&question);
    let layout = context.ui.stdout_layout();
    show(context, |out| match (words.format, &words.explain, rules.first()) {
        (Format::Json, ..) => report::rules::json(&rules, out),
        (_, Some(_), Some(rule)) => report::rules::explain(rule, &layout, out),
        _ => report::rules::list(&rules, &layout, out),
    })
    .map_err(Failure::machine)?;
    Ok(Exit::Good)
}
