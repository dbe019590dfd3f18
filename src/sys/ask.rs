//! Asks a program something before a run: it has no task, no limits and no record, and a short time.

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys::spawn::{self, Command, Environment};

/// Output that is read; what is beyond is not waited for.
const OUTPUT_MAX: usize = 4 << 10;

/// What a program, by its path, prints to standard output when it is called with one word; nothing where it takes longer
/// or cannot be started.
pub(crate) fn output(program: &Path, word: &str, env: &Environment, within: Duration) -> Option<Vec<u8>> {
    let command = Command {
        program,
        argv: &[program.as_os_str(), OsStr::new(word)],
        env,
        extra_env: &[],
        cwd: None,
        pipe_size: None,
        also: None,
        joins: &[],
        confinement: None,
    };
    let child = spawn::spawn(&command).ok()?;
    let spawn::Child { pid, end, stdout, stderr, writers } = child;
    // Nobody reads what it says beside; it must not wait for that.
    drop((stderr, writers));
    let until = Instant::now() + within;
    let mut output = Vec::new();
    let mut buffer = [0; 1024];
    let mut has_ended = false;
    while output.len() < OUTPUT_MAX && !has_ended {
        let left = until.saturating_duration_since(Instant::now());
        let ready = spawn::poll([Some(stdout.as_raw_fd()), Some(end.as_raw_fd())], Some(left));
        let Ok([has_output, ended]) = ready else { break };
        if has_output {
            match spawn::read(stdout.as_raw_fd(), &mut buffer) {
                Ok(count) if count > 0 => output.extend_from_slice(&buffer[..count]),
                // The end of its output; of one that goes on without any nothing more is wanted.
                _ => has_ended = true,
            }
        } else if ended {
            has_ended = true;
        } else if left.is_zero() {
            break;
        }
    }
    if !has_ended {
        // It is a leader of a group of its own, and not waited for yet: its number is nobody else's.
        let _ =
            rustix::process::kill_process_group(rustix::process::Pid::from_raw(pid)?, rustix::process::Signal::KILL);
    }
    drop(stdout);
    let waited = spawn::wait(pid);
    (has_ended && waited.is_ok()).then_some(output)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::output;
    use crate::sys::spawn::Environment;

    #[test]
    fn what_does_not_answer_is_left_alone() {
        let env = Environment::new(std::env::vars_os());
        let ask =
            |program: &str, word: &str, millis| output(Path::new(program), word, &env, Duration::from_millis(millis));
        assert_eq!(ask("/bin/echo", "--", 60_000).as_deref(), Some(&b"--\n"[..]));
        assert_eq!(ask("/no-such-program-at-all", "--version", 1000), None);
        assert_eq!(ask("/bin/sleep", "1000", 50), None);
    }
}
