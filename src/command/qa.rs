//! `apm run qa`: everything there is to check in a repository.

use anyhow::{Context as _, anyhow};

use crate::cli::run::Qa;
use crate::command::context::Context;
use crate::command::execute::{self, Work};
use crate::command::failure::{Exit, Failure};
use crate::command::request;
use crate::config::git;
use crate::config::repository::{self, Repository};
use crate::engine::plan::Source;
use crate::model::task::Skip;
use crate::text::transcript;
use crate::workflow::qa;
use crate::workflow::qa::facts::{FILES_MAX, Facts};
use crate::workflow::qa::wanted::Wanted;

/// Tools that the plan for a folder would skip because they are missing: name, how to get it.
pub(crate) fn missing_tools(context: &Context, root: &std::path::Path) -> Result<Vec<(String, String)>, String> {
    let owners = repository::owners(&context.environment, Some(root));
    let facts = Facts::read(root, context.environment.path(), owners, git::ignoring(&context.environment))
        .map_err(|error| error.to_string())?;
    let tasks = qa::plan(&facts, &Wanted::default()).map_err(|error| error.to_string())?;
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
    let dir = context.environment.cwd.join(&words.dir);
    let dir = dir
        .canonicalize()
        .with_context(|| format!("open the folder `{}`", words.dir.display()))
        .map_err(Failure::usage)?;
    if !dir.is_dir() {
        return Err(Failure::usage(anyhow!("`{}` is not a folder", words.dir.display())));
    }
    // Inside a repository its root; a folder named explicitly is taken as it is.
    let is_named = words.dir != std::path::Path::new(".");
    let found = if is_named { Repository::None } else { repository::repository(&context.environment, &dir) };
    let root = match found {
        Repository::At(root) => root,
        Repository::None => dir,
        Repository::Foreign(root, distrust) => {
            let shown = root.display();
            return Err(Failure::usage(anyhow!("the repository `{shown}` is not believed: {distrust}")).hint(format!(
                "its checks would run its programs; `apm run qa {shown}` names it, {}",
                repository::allowing(&root)
            )));
        }
    };
    let mut request = request::read(context, words.options)?;
    let settings = &request.settings;
    let said =
        |flag: &str, key: &str, words: &[String]| if words.is_empty() { key.to_owned() } else { flag.to_owned() };
    let cache = context.environment.cache_dir().context("make a folder for caches").map_err(Failure::machine)?;
    let wanted = Wanted {
        only_by: said("--only", "qa.only", &words.only),
        skip_by: said("--skip", "qa.skip", &words.skip),
        only: if words.only.is_empty() { settings.qa_only.clone() } else { words.only },
        skip: if words.skip.is_empty() { settings.qa_skip.clone() } else { words.skip },
        fix: words.fix,
        strict: request.options.strict || settings.qa_strict,
        build_dir: cache.join("build").display().to_string(),
    };
    request.options.fail_fast |= settings.qa_fail_fast;
    request.options.strict |= settings.qa_strict;
    let owners = repository::owners(&context.environment, Some(&root));
    let facts = Facts::read(&root, context.environment.path(), owners, git::ignoring(&context.environment))
        .map_err(|error| Failure::machine(anyhow!(error)))?;
    let tasks = qa::plan(&facts, &wanted)
        .map_err(|error| Failure::usage(error).hint("`apm run qa --dry-run` lists the checks of this repository"))?;
    request.warnings.extend(facts.not_believed());
    if facts.cut_off {
        request.warnings.push(format!("more than {FILES_MAX} files: those beyond were not looked at"));
    }
    if facts.is_index_unread {
        let text = "the index of git cannot be read: files that are tracked and yet ignored were not looked at";
        request.warnings.push(text.to_owned());
    }
    if tasks.is_empty() {
        let what = if wanted.only.is_empty() { String::new() } else { format!(" by {}", wanted.only_by) };
        return Err(Failure::nothing(format!("nothing to check{what} in `{}`", root.display())).hint(
            "it looks for Cargo.toml, pyproject.toml, package.json, go.mod, shell scripts and more: `apm help run qa`",
        ));
    }
    let work = Work {
        title: "qa".to_owned(),
        cwd: context.environment.cwd.clone(),
        root,
        tasks,
        resources: std::collections::BTreeMap::new(),
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
    execute::execute(context, request, work, None)
}
