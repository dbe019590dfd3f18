//! The versions of the tools that `apm run qa` calls, beside those that the project pins.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::context::Context;
use crate::sys::ask;
use crate::sys::spawn::Environment;
use crate::text::transcript;
use crate::workflow::qa::PinnedTool;
use crate::workflow::qa::pinned::Pin;

/// How long a tool may take to print its version.
const VERSION_WITHIN: Duration = Duration::from_secs(2);

/// A warning for each tool that is installed in another version than the project pins: it may find what the project's own
/// CI does not.
pub(crate) fn other_than_pinned(context: &Context, pins: &[PinnedTool]) -> Vec<String> {
    let env = Environment::new(context.environment.variables.iter().cloned());
    let folders = context.environment.path();
    std::thread::scope(|scope| {
        let ask = |(program, name, pin): &PinnedTool| {
            let version = version(&found(program, &folders)?, &env)?;
            let Pin { version: pinned, file } = pin;
            let text = format!("`{name}` is {version} here, `{file}` pins {pinned}: what it finds may differ");
            (!pin.fits(&version)).then(|| transcript::line(&text))
        };
        // One that cannot be had asks nobody: the checks themselves will say why.
        let started: Vec<_> = pins
            .iter()
            .filter_map(|pin| std::thread::Builder::new().spawn_scoped(scope, move || ask(pin)).ok())
            .collect();
        started.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

/// The path of a program: it is one, or a name in these folders.
fn found(program: &str, folders: &OsStr) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    std::env::split_paths(folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// What a program prints as its version: the first word with a number, a dot and a number.
fn version(program: &Path, env: &Environment) -> Option<String> {
    let output = ask::output(program, "--version", env, VERSION_WITHIN)?;
    let text = String::from_utf8_lossy(&output);
    let words =
        text.split(|c: char| c.is_whitespace() || c == ',').map(|word| word.trim_start_matches(['v', 'V', '(']));
    let is_version = |word: &&str| {
        let (major, rest) = word.split_once('.').unwrap_or_default();
        !major.is_empty()
            && major.bytes().all(|byte| byte.is_ascii_digit())
            && rest.starts_with(|c: char| c.is_ascii_digit())
    };
    words.into_iter().find(is_version).map(|word| word.trim_end_matches(')').to_owned())
}
