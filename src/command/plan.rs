//! `apm run FILE`: the tasks of a plan file.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::cli::run::Options;
use crate::command::failure::{Exit, Failure};
use crate::command::run::{self, Work};
use crate::command::{Context, request};
use crate::engine::dispatch::Source;
use crate::engine::graph::{Graph, GraphError};
use crate::sink::relay::Order;
use crate::workflow::planfile::{self, Rules};

/// Largest plan read: 100,000 tasks with long commands are a tenth of it.
const SIZE_MAX: u64 = 1 << 30;

/// `apm run FILE`
pub(crate) fn main(context: &Context, file: &Path, relay: bool, options: Options) -> Result<Exit, Failure> {
    let request = request::read(context, options)?;
    let source = read(context, file)?;
    let rules = Rules { priority_levels: request.settings.priority_levels };
    let name = file.display().to_string();
    let plan = planfile::read(&name, &source, &rules).map_err(Failure::usage)?;
    if let Err(error) = Graph::default().add(&plan.tasks) {
        let message = error.to_string();
        return Err(Failure::usage(match error {
            GraphError::Cycle(circle) => plan.fault(&name, &source, &circle[0], message),
            GraphError::Duplicate(task) | GraphError::Missing { task, .. } => {
                plan.fault(&name, &source, &task, message)
            }
        }));
    }
    drop(source);
    let work = Work {
        title: name,
        cwd: context.environment.cwd.clone(),
        root: run::root_of(context),
        tasks: plan.tasks,
        source: Source::Fixed,
        halt: None,
        relay: relay.then_some((Order::Grouped, false)),
        sinks: Vec::new(),
        eta: false,
        silent: false,
        may_be_empty: false,
    };
    run::execute(context, request, work, None)
}

fn read(context: &Context, file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let mut bytes = Vec::new();
    let result = if file == Path::new("-") {
        std::io::stdin().take(SIZE_MAX + 1).read_to_end(&mut bytes)
    } else {
        let path: PathBuf = context.environment.cwd.join(file);
        std::fs::File::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes))
    };
    if let Err(error) = result {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let failure = Failure::usage(anyhow::Error::new(error).context(format!("read the plan `{shown}`")));
        let word = file.to_string_lossy();
        let hint = crate::text::suggest::likely(&word, ["qa", "each", "list", "show"]).filter(|_| missing);
        return Err(match hint {
            Some(word) => failure.hint(format!("did you mean `apm run {word}`?")),
            None => failure,
        });
    }
    if bytes.len() as u64 > SIZE_MAX {
        return Err(Failure::usage(anyhow!("the plan `{shown}` is larger than 1 GiB")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::usage(anyhow!("{shown}:{line}: not UTF-8 (byte {:#04x})", error.as_bytes()[at]))
            .hint("a plan is text; names of files that are not UTF-8 go through `apm run each`")
    })
}
