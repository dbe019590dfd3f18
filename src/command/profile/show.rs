//! `apm profile show` and `diff`: profiles of files, whoever wrote them.

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::cli::profile::{By, Diff, DiffForm, Form, Show};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::input::{self, Bounds};
use crate::model::profile::Profile;
use crate::report::profile::tree::Roots;
use crate::report::profile::{detect, diff, flame, folded, html, json, pprof, speedscope, text};
use crate::sink::file::Whole;
use crate::text::layout::Layout;
use crate::text::{suggest, transcript};

/// Longest file that is read.
const FILE_MAX: usize = 256 << 20;
/// Longest line of a text that is no JSON: a stack.
const LINE_MAX: usize = 16 << 20;
/// The file of a folder that has everything.
const FILE: &str = "profile.json";
/// Bytes by which it is seen whether a file has lines.
const HEAD: u64 = 4096;
/// Processes that are named where another was asked for.
const PROCESSES_MAX: usize = 10;
/// Lines of the paths.
const LINES: usize = 60;

pub(super) fn show(context: &Context, words: &Show) -> Result<Exit, Failure> {
    let mut profile = read(context, &words.file)?;
    if let Some(pid) = words.pid {
        only(&mut profile, pid)?;
    }
    let kind = match &words.kind {
        Some(name) => kind_of(&profile, name)?,
        None => text::kinds(&profile).first().copied().unwrap_or(0),
    };
    let roots = match words.by {
        By::Code => Roots::Code,
        By::Process => Roots::Process,
        By::Thread => Roots::Thread,
        By::Task => Roots::Task,
    };
    let look = |is_icicle| flame::Look { is_icicle, roots, ..flame::Look::default() };
    if words.kind.is_some() && words.format == Form::Text {
        profile.choose(&[kind]);
    }
    let layout = layout(context, words.output.as_deref());
    put(context, words.output.as_deref(), |out| match words.format {
        Form::Text => {
            let extent = text::Extent { top: words.top, lines: LINES, roots, ..text::Extent::default() };
            text::write(&profile, &extent, &layout, out)
        }
        Form::Svg => out.write_all(flame::write(&profile, kind, look(false)).as_bytes()),
        Form::Icicle => out.write_all(flame::write(&profile, kind, look(true)).as_bytes()),
        Form::Html => html::write(&profile, roots, out),
        Form::Pprof => pprof::write(&profile, out),
        Form::Folded => folded::write(&profile, kind, folded::Form { roots, is_marked: false }, out),
        Form::Speedscope => speedscope::write(&profile, out),
        Form::Json => json::write(&profile, out),
    })
}

/// Leaves out what was measured in other processes.
fn only(profile: &mut Profile, pid: u32) -> Result<(), Failure> {
    if profile.threads.iter().any(|thread| thread.pid == pid) {
        profile.keep_process(pid);
        return Ok(());
    }
    let failure = Failure::usage(anyhow!("the profile has no process {pid}"));
    let mut known: Vec<(u32, String)> =
        profile.threads.iter().map(|thread| (thread.pid, transcript::line(&thread.process))).collect();
    known.sort();
    known.dedup_by_key(|(pid, _)| *pid);
    let more = known.len().saturating_sub(PROCESSES_MAX);
    let named: Vec<String> = known.iter().take(PROCESSES_MAX).map(|(pid, name)| format!("{name} ({pid})")).collect();
    Err(failure.hint(match (named.is_empty(), more) {
        (true, _) => "it does not say which process anything was measured in".to_owned(),
        (false, 0) => format!("it has {}", named.join(", ")),
        (false, more) => format!("it has {} and {more} more", named.join(", ")),
    }))
}

pub(super) fn compare(context: &Context, words: &Diff) -> Result<Exit, Failure> {
    let (before, mut after) = (read(context, &words.before)?, read(context, &words.after)?);
    if let Some((new, old)) = after.take_name_of_program(&before) {
        let (new, old) = (transcript::line(&new), transcript::line(&old));
        after.quality.notes.push(format!("its program `{new}` is compared with `{old}`"));
    }
    let kind = match &words.kind {
        Some(name) => {
            kind_of(&before, name)?;
            kind_of(&after, name)?;
            name.clone()
        }
        None => {
            let both = text::kinds(&after).into_iter().map(|kind| &after.kinds[kind].name);
            both.into_iter().find(|name| before.kind(name).is_some()).cloned().ok_or_else(|| {
                let names = |profile: &Profile| {
                    let names = profile.kinds.iter().map(|kind| transcript::line(&kind.name)).collect::<Vec<_>>();
                    names.join(", ")
                };
                Failure::usage(anyhow!("the two have no values in common: {} and {}", names(&before), names(&after)))
            })?
        }
    };
    let none = || Failure::usage(anyhow!("both have no `{}`", transcript::line(&kind)));
    let output = words.output.as_deref();
    if words.format == DiffForm::Svg {
        let picture = flame::write_difference(&before, &after, &kind, flame::Look::default()).ok_or_else(none)?;
        return put(context, output, |out| out.write_all(picture.as_bytes()));
    }
    let comparison = diff::compare(&before, &after, &kind).ok_or_else(none)?;
    put(context, output, |out| match words.format {
        DiffForm::Json => diff::json(&comparison, out),
        _ => diff::text(&comparison, words.top, &layout(context, output), out),
    })
}

/// A file gets what a pipe would.
fn layout(context: &Context, output: Option<&Path>) -> Layout {
    if output.is_some() { context.ui.file_layout() } else { context.ui.stdout_layout() }
}

fn kind_of(profile: &Profile, name: &str) -> Result<usize, Failure> {
    profile.kind(name).ok_or_else(|| {
        let names = || profile.kinds.iter().map(|kind| kind.name.as_str());
        let failure = Failure::usage(anyhow!("the profile has no `{}`", transcript::line(name)));
        let near = suggest::likely(name, names()).map(|near| format!("did you mean `{near}`?"));
        let all = || format!("it has {}", transcript::line(&names().collect::<Vec<_>>().join(", ")));
        failure.hint(near.unwrap_or_else(all))
    })
}

#[expect(clippy::disallowed_methods, reason = "named: a file on the command line")]
fn read(context: &Context, named: &Path) -> Result<Profile, Failure> {
    let named = if named == Path::new("-") { Path::new("/dev/stdin") } else { named };
    let path = context.environment.cwd.join(named);
    let path: PathBuf = if path.is_dir() { path.join(FILE) } else { path };
    let shown = named.display();
    let mut file = std::fs::File::open(&path)
        .with_context(|| format!("read `{shown}`"))
        .map_err(|error| Failure::usage(error).hint("a file, or a folder that `apm profile` has written"))?;
    let mut head = Vec::new();
    let unread = |error: io::Error| Failure::usage(anyhow::Error::new(error).context(format!("read `{shown}`")));
    (&mut file).take(HEAD).read_to_end(&mut head).map_err(unread)?;
    let profile = if detect::has_lines(&head) {
        let bounds = Bounds { size: FILE_MAX, line: Some(LINE_MAX) };
        detect::read_lines(input::read_lines(file, head, bounds).map_err(unread)?)
    } else {
        detect::read(input::read(file, head, Bounds { size: FILE_MAX, line: None }).map_err(unread)?)
    };
    profile.map_err(|error| {
        let has_way_out = error.has_way_out();
        let failure = Failure::usage(anyhow::Error::new(error).context(format!("read `{shown}`")));
        if has_way_out { failure } else { failure.hint(format!("apm reads {}", detect::READABLE)) }
    })
}

fn put(
    context: &Context,
    output: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Exit, Failure> {
    match output {
        None => context.ui.stream(write).map(|_| Exit::Good).map_err(Failure::machine),
        Some(named) => Whole::create(&context.environment.cwd.join(named))
            .and_then(|whole| whole.write(write))
            .with_context(|| format!("write `{}`", named.display()))
            .map(|()| Exit::Good)
            .map_err(Failure::machine),
    }
}
