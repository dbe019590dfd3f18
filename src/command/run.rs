//! `apm run`: which of its commands is meant.

use crate::cli::run::{Run, What};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::{each, follow, plan, qa, recorded, resume, steer, words};

/// `apm run ...`
pub(crate) fn main(context: &Context, run: Run) -> Result<Exit, Failure> {
    match (run.what, run.file) {
        (Some(What::Qa(words)), _) => qa::main(context, words),
        (Some(What::Each(words)), _) => each::main(context, words),
        (Some(What::List(words)), _) => recorded::list(context, &words),
        (Some(What::Show(words)), _) if words.waiting => steer::waiting(context, &words),
        (Some(What::Show(words)), _) => recorded::show(context, &words),
        (Some(What::Watch(words)), _) => follow::main(context, &words),
        (Some(What::Cancel(words)), _) => steer::cancel(context, words),
        (Some(What::Pause(words)), _) => steer::pause(context, words),
        (Some(What::Unpause(words)), _) => steer::unpause(context, words),
        (Some(What::Set(words)), _) => steer::set(context, words),
        (Some(What::Add(words)), _) => steer::add(context, words),
        (None, Some(file)) if run.resume.is_some() => {
            let name = run.resume.unwrap_or_default();
            resume::resume(context, &name, Some(&file), run.options)
        }
        (None, Some(file)) => plan::main(context, &file, run.relay, run.options),
        (None, None) => match (run.resume, run.replay) {
            (Some(name), _) => resume::resume(context, &name, None, run.options),
            (None, Some(name)) => recorded::replay(context, &name, &run.options),
            (None, None) => {
                let hints = words::nothing_named(|name| context.environment.cwd.join(name).is_file());
                let failure = Failure::usage(anyhow::anyhow!("nothing to run is named"));
                Err(hints.into_iter().fold(failure, Failure::hint))
            }
        },
    }
}
