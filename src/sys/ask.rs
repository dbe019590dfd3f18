//! Asks a program something before a run: it has no task, no limits and no record, and a short time.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Output that is read; what is beyond is not waited for.
const OUTPUT_MAX: u64 = 4 << 10;

/// What a program prints when it is called with one word; nothing where it takes longer or cannot be started.
pub(crate) fn output(program: &str, word: &str, within: Duration) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command.arg(word).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let end = Instant::now() + within;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut output = Vec::new();
    // A process that it left behind may hold the pipe: what is there is enough.
    rustix::fs::fcntl_setfl(child.stdout.as_ref()?, rustix::fs::OFlags::NONBLOCK).ok()?;
    let _ = child.stdout.take()?.take(OUTPUT_MAX).read_to_end(&mut output);
    Some(output)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::output;

    #[test]
    fn what_does_not_answer_is_left_alone() {
        assert_eq!(output("echo", "--", Duration::from_secs(60)).as_deref(), Some(&b"--\n"[..]));
        assert_eq!(output("no-such-program-at-all", "--version", Duration::from_secs(1)), None);
        assert_eq!(output("sleep", "1000", Duration::from_millis(50)), None);
    }
}
