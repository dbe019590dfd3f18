//! `apm run qa`: everything there is to check in a repository.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};

use crate::cli::run::Qa;
use crate::command::context::Context;
use crate::command::execute::{self, Work};
use crate::command::failure::{Exit, Failure};
use crate::command::{request, versions};
use crate::config::git;
use crate::config::repository::{self, Repository};
use crate::engine::plan::Source;
use crate::model::bytestring::ByteString;
use crate::model::request::{ChecksAsked, PlanSource, Selection};
use crate::model::task::{Skip, Task};
use crate::text::{number, transcript};
use crate::workflow::qa::facts::{FILES_MAX, Facts};
use crate::workflow::qa::wanted::Wanted;
use crate::workflow::qa::{self, PinnedTool};

/// Tools that the plan for a folder would skip because they are missing: name, how to get it.
pub(crate) fn missing_tools(context: &Context, root: &Path) -> Result<Vec<(String, String)>, String> {
    let facts = read_facts(context, root)?;
    let qa::Plan { tasks, .. } = qa::plan(&facts, &Wanted::default()).map_err(|error| error.to_string())?;
    let mut missing: Vec<(String, String)> = tasks
        .into_iter()
        .filter_map(|task| match task.skip.map(|skip| *skip) {
            Some(Skip::ToolMissing { tool, install }) => Some((transcript::line(&tool), transcript::line(&install))),
            _ => None,
        })
        .collect();
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// `apm run qa`
pub(crate) fn main(context: &Context, words: Qa) -> Result<Exit, Failure> {
    let mut request = request::read(context, words.options)?;
    let settings = &request.settings;
    let said = |flag: &str, key: &str, words: Vec<String>, settings: &[String]| {
        let (by, names) = if words.is_empty() { (key, settings.to_vec()) } else { (flag, words) };
        Selection { by: by.to_owned(), names }
    };
    let named = (words.dir != Path::new(".")).then_some(words.dir);
    let only = said("--only", "qa.only", words.only, &settings.qa_only);
    let skip = said("--skip", "qa.skip", words.skip, &settings.qa_skip);
    let strict = request.options.strict || settings.qa_strict;
    request.options.fail_fast |= settings.qa_fail_fast;
    request.options.strict = strict;
    let asked = Asked { dir: named.as_deref(), only: &only, skip: &skip, fix: words.fix, strict };
    let checks = checks(context, &context.environment.cwd, asked)?;
    request.warnings.extend(checks.warnings);
    if !request.options.dry_run {
        request.warnings.extend(versions::other_than_pinned(context, &checks.pins));
    }
    if checks.tasks.is_empty() {
        let what = if only.names.is_empty() { String::new() } else { format!(" by {}", only.by) };
        return Err(Failure::nothing(format!("nothing to check{what} in `{}`", checks.place.display())).hint(
            "it looks for Cargo.toml, pyproject.toml, package.json, go.mod, shell scripts and more: `apm help run qa`",
        ));
    }
    let asked = ChecksAsked { dir: named.map(Into::into), only, skip, fix: words.fix, files: checks.files };
    let plan = PlanSource { checks: Some(asked.into()), ..PlanSource::default() };
    let work = Work {
        title: "qa".to_owned(),
        cwd: context.environment.cwd.clone(),
        root: checks.root,
        tasks: checks.tasks,
        resources: std::collections::BTreeMap::new(),
        plan: Some(plan),
        independent: false,
        joblog: None,
        source: Source::Fixed,
        halt: None,
        relay: None,
        sinks: Vec::new(),
        eta: false,
        silent: false,
        may_be_empty: false,
    };
    let (root, is_dry) = (work.root.clone(), request.options.dry_run);
    let before = if words.fix && !is_dry { stamps(&root, &checks.names) } else { Vec::new() };
    let exit = execute::execute(context, request, work, None);
    if words.fix && !is_dry {
        let after = stamps(&root, &checks.names);
        let changed = checks.names.iter().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
        say_changed(context, &changed.map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    }
    exit
}

/// Files named of those that fixers changed.
const CHANGED_MAX: usize = 20;

/// Length and time of change of each file; absent where it is gone.
fn stamps(root: &Path, names: &[String]) -> Vec<Option<(u64, SystemTime)>> {
    let stamp = |name: &String| {
        let meta = std::fs::symlink_metadata(root.join(ByteString::decode(name).as_path())).ok()?;
        Some((meta.len(), meta.modified().ok()?))
    };
    names.iter().map(stamp).collect()
}

/// Says what fixers changed: their own output is not shown where they succeed.
fn say_changed(context: &Context, names: &[&str]) {
    let shown: Vec<String> =
        names.iter().take(CHANGED_MAX).map(|name| format!("  {}\n", transcript::line(name))).collect();
    let more = match names.len().saturating_sub(CHANGED_MAX) {
        0 => String::new(),
        more => format!("  ... and {more} more\n"),
    };
    let count = match names.len() {
        0 => "no file".to_owned(),
        count => number::count(count as u64, "file"),
    };
    context.ui.say(&format!("apm: --fix changed {count}\n{}{more}", shown.concat()));
}

/// What is asked of the checks.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The folder that was named.
    pub(crate) dir: Option<&'a Path>,
    pub(crate) only: &'a Selection,
    pub(crate) skip: &'a Selection,
    pub(crate) fix: bool,
    pub(crate) strict: bool,
}

/// The checks of a repository as it is.
pub(crate) struct Checks {
    pub(crate) root: PathBuf,
    /// The folder that is looked at: the root, or one in it.
    place: PathBuf,
    pub(crate) tasks: Vec<Task>,
    pub(crate) warnings: Vec<String>,
    /// Programs of which the project pins a version.
    pins: Vec<PinnedTool>,
    /// The names of its files.
    names: Vec<String>,
    /// Digest of names, sizes and times of its files; absent where there were too many.
    pub(crate) files: Option<String>,
    /// The file that was changed last, and when.
    pub(crate) newest: Option<(String, SystemTime)>,
}

/// Plans the checks of the repository around a folder.
pub(crate) fn checks(context: &Context, cwd: &Path, asked: Asked<'_>) -> Result<Checks, Failure> {
    let shown = asked.dir.unwrap_or(cwd).display();
    let dir = asked.dir.map_or_else(|| cwd.to_owned(), |dir| cwd.join(dir));
    let dir = dir.canonicalize().with_context(|| format!("open the folder `{shown}`")).map_err(Failure::usage)?;
    if !dir.is_dir() {
        return Err(Failure::usage(anyhow!("`{shown}` is not a folder")));
    }
    let (mut root, mut facts) = match repository::repository(&context.environment, &dir) {
        Repository::At(root) => (root.clone(), facts(context, &root)?),
        Repository::None => {
            if asked.dir.is_none() {
                check_is_project(context, &dir)?;
            }
            // Without a repository the project that apm was started in is what a folder of it belongs to.
            let is_part = dir.starts_with(cwd) && qa::is_project(cwd) && !qa::is_project(&dir);
            let root = if is_part { cwd.to_owned() } else { dir.clone() };
            (root.clone(), facts(context, &root)?)
        }
        // One that was named is believed as it is.
        Repository::Foreign(..) if asked.dir.is_some() => (dir.clone(), facts(context, &dir)?),
        Repository::Foreign(root, distrust) => {
            let shown = root.display();
            return Err(Failure::usage(anyhow!("the repository `{shown}` is not believed: {distrust}")).hint(format!(
                "its checks would run its programs; `apm run qa {shown}` names it, {}",
                repository::allowing(&root)
            )));
        }
    };
    let mut within = String::new();
    if asked.dir.is_some() && root != dir {
        let inside = dir.strip_prefix(&root).unwrap_or(Path::new(""));
        within = ByteString::from(inside.to_owned()).encode();
        // Material of tests, or what git ignores: the repository has no checks for it, and yet it was named.
        if !qa::has_checks_within(&facts, &within) {
            (root, facts, within) = (dir.clone(), self::facts(context, &dir)?, String::new());
        }
    }
    let builds = context.environment.builds_dir().context("make a folder for caches").map_err(Failure::machine)?;
    let wanted = Wanted {
        only_by: asked.only.by.clone(),
        skip_by: asked.skip.by.clone(),
        only: asked.only.names.clone(),
        skip: asked.skip.names.clone(),
        fix: asked.fix,
        strict: asked.strict,
        within,
        pytest_addopts: context
            .environment
            .get("PYTEST_ADDOPTS")
            .and_then(|text| text.to_str())
            .unwrap_or_default()
            .to_owned(),
        build_dir: builds.display().to_string(),
    };
    let qa::Plan { tasks, pins, warnings: unread } = qa::plan(&facts, &wanted)
        .map_err(|error| Failure::usage(error).hint("`apm run qa --dry-run` lists the checks of this repository"))?;
    let mut warnings = facts.not_believed();
    warnings.extend(unread);
    if facts.cut_off {
        warnings.push(format!("more than {FILES_MAX} files: those beyond were not looked at"));
    }
    if facts.is_index_unread {
        let text = "the index of git cannot be read: files that are tracked and yet ignored were not looked at";
        warnings.push(text.to_owned());
    }
    Ok(Checks {
        pins,
        root,
        place: dir,
        tasks,
        warnings,
        names: facts.files,
        files: facts.digest,
        newest: facts.newest,
    })
}

/// Entries looked at to find repositories.
const ENTRIES_MAX: usize = 10_000;

/// Refuses a folder that nobody means as a project when it is not named: hundreds of checks of other people's code would
/// start in the home directory, in `/`, and in a folder of clones.
fn check_is_project(context: &Context, dir: &Path) -> Result<(), Failure> {
    let is_repository = |entry: &std::fs::DirEntry| entry.path().join(".git").symlink_metadata().is_ok();
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let repositories = entries.filter(is_repository).count();
    let is_home = context.environment.get("HOME").is_some_and(|home| Path::new(home) == dir);
    let shown = dir.display();
    let why = match repositories {
        _ if dir.parent().is_none() => "the root directory".to_owned(),
        _ if is_home => "the home directory".to_owned(),
        0 | 1 => return Ok(()),
        count => format!("a folder of {count} repositories"),
    };
    Err(Failure::usage(anyhow!("`{shown}` is {why}, not a project"))
        .hint(format!("`apm run qa DIR` checks one; `apm run qa {shown}` checks everything in it")))
}

fn facts(context: &Context, root: &Path) -> Result<Facts, Failure> {
    read_facts(context, root).map_err(|error| Failure::machine(anyhow!(error)))
}

fn read_facts(context: &Context, root: &Path) -> Result<Facts, String> {
    let owners = repository::owners(&context.environment, Some(root));
    Facts::read(root, context.environment.path(), owners, git::ignoring(&context.environment))
}
