//! `apm config`: what is in effect, whether it is right, which keys there are.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde_json::json;

use crate::cli::config::{Config, Init};
use crate::cli::run::ListFormat;
use crate::command::context::Context;
use crate::command::doctor::question::Configured;
use crate::command::failure::{Exit, Failure};
use crate::config::keys::{Effect, KEYS, KeyInfo, VARIABLES};
use crate::config::layers::{self, Merged, Origin, Sources, Value};
use crate::config::repository::{self, PROJECT_FILE};
use crate::config::settings::{self, Loaded};
use crate::sys::output::{self, Before};
use crate::sys::owner;
use crate::text::escape;
use crate::text::layout::{Style, pad};

/// `apm config ...`
pub(crate) fn main(context: &Context, words: Config) -> Result<Exit, Failure> {
    match words {
        Config::Show(words) => {
            let merged = loaded(context)?;
            let text = match words.format {
                ListFormat::Json => as_json(&merged)?,
                ListFormat::Text => show(context, &merged, words.origin),
            };
            print(context, &text)
        }
        Config::Check(words) => {
            let merged = match words.file {
                Some(file) => {
                    let files = vec![context.environment.cwd.join(file)];
                    layers::merge(&Sources { files, ..Sources::default() }).map_err(Failure::usage)?
                }
                None => loaded(context)?,
            };
            let loaded = Loaded::of(merged);
            Configured::of(&loaded)?;
            let merged = loaded.merged;
            let mut text = String::new();
            for warning in &merged.warnings {
                let _ = writeln!(text, "warning: {warning}");
            }
            let files: Vec<String> = merged.files.iter().map(|file| file.display().to_string()).collect();
            let files = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
            let set = merged.all().filter(|(_, (_, origin))| *origin != Origin::Default).count();
            let _ = writeln!(text, "good: {files}; {set} keys set");
            print(context, &text)
        }
        Config::Init(words) => init(context, &words),
        Config::Keys(words) => {
            let text = match words.format {
                ListFormat::Json => keys_as_json()?,
                ListFormat::Text => keys(context),
            };
            print(context, &text)
        }
    }
}

fn loaded(context: &Context) -> Result<Merged, Failure> {
    let flags = context.global.set.iter().map(|text| ("--set".to_owned(), text.clone())).collect();
    let loaded = settings::load(&context.environment, context.global.config.clone(), flags);
    loaded.map(|loaded| loaded.merged).map_err(Failure::usage)
}

fn print(context: &Context, text: &str) -> Result<Exit, Failure> {
    context.print(text)
}

fn show(context: &Context, merged: &Merged, with_origin: bool) -> String {
    let layout = context.ui.stdout_layout();
    let mut text = String::new();
    for (path, (value, origin)) in merged.all() {
        if with_origin {
            let _ = writeln!(text, "{path}: {value}  {}", layout.paint(Style::Dim, &format!("# {origin}")));
        } else if *origin != Origin::Default {
            let _ = writeln!(text, "{path}: {value}");
        }
    }
    if text.is_empty() {
        text = "# nothing is set; `apm config show --origin` shows the defaults\n".to_owned();
    }
    text
}

fn as_json(merged: &Merged) -> Result<String, Failure> {
    let value = |value: &Value| match value {
        Value::Number(number) => json!(number),
        Value::Bool(value) => json!(value),
        Value::Text(text) => json!(text),
        Value::Texts(texts) => json!(texts),
        Value::Opaque => json!(null),
    };
    let all: serde_json::Map<String, serde_json::Value> = merged
        .all()
        .map(|(path, (one, origin))| (path.to_owned(), json!({"value": value(one), "origin": origin.to_string()})))
        .collect();
    let mut text = escape::json(&serde_json::to_string_pretty(&all).map_err(Failure::machine)?);
    text.push('\n');
    Ok(text)
}

fn effect(key: &KeyInfo) -> String {
    let personal = if key.is_personal() { "; not in the file of a project" } else { "" };
    match key.effect {
        Effect::Works(what) => format!("see it in: {what}{personal}"),
        Effect::Waits(system) => format!("no effect yet, waits for {system}"),
    }
}

fn keys(context: &Context) -> String {
    let layout = context.ui.stdout_layout();
    let mut text = String::new();
    for key in KEYS {
        let default = if key.default.is_empty() { String::new() } else { format!(" [{}]", key.default) };
        let unit = if key.unit.is_empty() { String::new() } else { format!(" ({})", key.unit) };
        let _ = writeln!(text, "{}{default}", layout.paint(Style::Strong, key.path));
        let _ = writeln!(text, "    {}{unit}; {}", key.meaning, key.takes.expected());
        let _ = writeln!(text, "    {}", layout.paint(Style::Dim, &effect(key)));
    }
    let _ = writeln!(text, "\nEvery key can be set in the environment: a.b_c is APM_A__B_C. Besides:");
    for (variable, path) in VARIABLES {
        let _ = writeln!(text, "    {} {path}", pad(variable, 24));
    }
    text
}

fn keys_as_json() -> Result<String, Failure> {
    let all: Vec<serde_json::Value> = KEYS
        .iter()
        .map(|key| {
            json!({
                "key": key.path, "takes": key.takes.expected(), "default": key.default, "unit": key.unit,
                "meaning": key.meaning, "works": matches!(key.effect, Effect::Works(_)), "effect": effect(key),
            })
        })
        .collect();
    let mut text = escape::json(&serde_json::to_string_pretty(&all).map_err(Failure::machine)?);
    text.push('\n');
    Ok(text)
}

fn init(context: &Context, words: &Init) -> Result<Exit, Failure> {
    let cwd = &context.environment.cwd;
    let path = if words.user {
        let path = context.environment.user_file().ok_or_else(|| {
            Failure::usage(anyhow!("there is no home directory for a user file"))
                .hint("set HOME or XDG_CONFIG_HOME, or leave --user out")
        })?;
        // In the home of another user a link could lead anywhere, and what is written there is theirs.
        owner::judged_way_to_new(&path).with_context(|| format!("create `{}`", path.display())).map_err(|error| {
            Failure::machine(error).hint("`sudo -H apm ...` uses the home of root, without `sudo` it is your own")
        })?
    } else {
        repository::repository(&context.environment, cwd).root().unwrap_or(cwd).join(PROJECT_FILE)
    };
    let mut file = make(&path, words.force).map_err(|error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let failure = anyhow::Error::new(error).context(format!("create `{}`", path.display()));
        if exists { Failure::usage(failure).hint("`--force` replaces it") } else { Failure::machine(failure) }
    })?;
    file.write_all(template().as_bytes())
        .with_context(|| format!("write `{}`", path.display()))
        .map_err(Failure::machine)?;
    context.ui.say(&format!(
        "apm: wrote {}; every line is a comment, remove `# ` where you want another value\n",
        path.display()
    ));
    Ok(Exit::Good)
}

/// Makes the file, and the folders that lead to it. One that is there stays, unless it is to be replaced.
fn make(path: &Path, replaces: bool) -> io::Result<File> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = output::folder(folder)?;
    if replaces { output::open(path, Before::Nothing) } else { folder.new_file(Path::new(name), 0o666) }
}

/// Every key as a comment, nested as in a file.
fn template() -> String {
    let mut text = String::from(
        "# Configuration of apm. `apm config keys` explains each key, `apm config check` checks this file.\n",
    );
    let mut open: Vec<&str> = Vec::new();
    for key in KEYS {
        let parts: Vec<&str> = key.path.split('.').collect();
        let (name, sections) = match parts.split_last() {
            Some((name, sections)) => (*name, sections),
            None => continue,
        };
        let same = open.iter().zip(sections).take_while(|(a, b)| a == b).count();
        open.truncate(same);
        for section in &sections[same..] {
            let _ = writeln!(text, "# {}{section}:", "  ".repeat(open.len()));
            open.push(section);
        }
        let unit = if key.unit.is_empty() { String::new() } else { format!(" ({})", key.unit) };
        let waits = if matches!(key.effect, Effect::Waits(_)) { "; no effect yet" } else { "" };
        let value = if key.default.is_empty() { String::new() } else { format!(" {}", key.default) };
        let _ = writeln!(text, "# {}{name}:{value}  # {}{unit}{waits}", "  ".repeat(open.len()), key.meaning);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::template;
    use crate::config::keys::{KEYS, Takes};
    use crate::config::layers::{Sources, merge};

    #[test]
    fn the_file_of_init_is_good_when_its_comments_are_removed() {
        let lines = template();
        let bare: Vec<&str> = lines.lines().skip(1).filter_map(|line| line.strip_prefix("# ")).collect();
        // A key without a default would read as nothing, which is no value.
        let bare: Vec<&str> = bare.into_iter().filter(|line| !line.contains(":  #")).collect();
        let path = std::env::temp_dir().join(format!("apm-init-{}.yaml", std::process::id()));
        std::fs::write(&path, bare.join("\n")).expect("written");
        let merged = merge(&Sources { files: vec![path.clone()], ..Sources::default() });
        std::fs::remove_file(&path).expect("removed");
        let merged = merged.unwrap_or_else(|error| panic!("{error}"));
        let with_default = KEYS.iter().filter(|key| !key.default.is_empty() && key.takes != Takes::Anything).count();
        let from_file = merged.all().filter(|(_, (_, origin))| origin.to_string() != "default").count();
        assert_eq!(from_file, with_default);
    }
}
