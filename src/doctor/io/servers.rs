//! The rule about mounts that wait for a server or a process which does not answer.

use crate::doctor::culprit;
use crate::doctor::io::mount::{may_be_unmounted, quoted};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::Field;
use crate::model::snapshot::disk::Mount;

/// What statvfs says of a mount whose other side is gone, in the kernel's words.
const GONE: &[&str] =
    &["not connected", "stale file handle", "input/output error", "host is down", "connection timed out"];
/// Where tasks wait for an answer.
const PLACES: &[&str] = &["nfs", "rpc_", "cifs", "smb", "ceph", "fuse", "request_wait_answer", "p9_"];

/// `fs.network`.
pub(super) fn answers(context: &RuleContext<'_>) -> Verdict {
    let mounts = context.now().disk.mounts.get()?;
    let mut findings = Vec::new();
    let mut open = None;
    for mount in mounts.iter().filter(|mount| mount.answer_ms.is_some()) {
        let seconds = mount.answer_ms.unwrap_or_default() as f64 / 1e3;
        let gone = match &mount.space {
            Field::Unavailable(why) if GONE.iter().any(|text| why.why.contains(text)) => Some(why.why.as_str()),
            _ => None,
        };
        let waiting = waiting(context);
        let severity = match (gone, context.judge(seconds, mount.is_hanging || !waiting.is_empty())) {
            (_, Some(severity)) => severity,
            (Some(_), None) if context.warn.is_some() => Severity::Warn,
            _ if mount.is_hanging => {
                open = Some(Skip(format!("statvfs {}: no answer yet, look longer", mount.point)));
                continue;
            }
            _ => continue,
        };
        let title = match gone {
            Some(why) => format!("{why}: {}", mount.point),
            None if mount.is_hanging => format!("no answer for {seconds:.1} s from {}", mount.point),
            None => format!("{seconds:.1} s to an answer from {}", mount.point),
        };
        let finding = context
            .finding(severity, seconds, title)
            .read(&format!("statvfs {}", mount.point), "time", seconds, "s")
            .agreed(1 + u32::from(!waiting.is_empty()))
            .by([place(mount)])
            .by(waiting);
        // One that is only slow must not be taken away.
        let may_detach = (gone.is_some() || mount.is_hanging) && may_be_unmounted(&mount.point);
        let command = quoted(&mount.point).filter(|_| may_detach).map(|point| format!("umount -l {point}"));
        findings.push(match command {
            None => finding.fix("see to its server, and to the network on the way", None),
            command => finding.interrupt("bring its server back; if it is gone for good, detach it", command),
        });
    }
    // Those that were never asked because others hang.
    let unasked = mounts.iter().find_map(|mount| match &mount.space {
        Field::Unavailable(why) if why.why.starts_with("not asked") => Some(Skip::from(why)),
        _ => None,
    });
    match open.or(unasked) {
        Some(skip) if findings.is_empty() => Err(skip),
        _ => Ok(findings),
    }
}

fn place(mount: &Mount) -> Culprit {
    culprit::thing("mount", &mount.point, format!("{} from {}", mount.kind, mount.source))
}

/// Tasks that wait for an answer of some server.
fn waiting(context: &RuleContext<'_>) -> Vec<Culprit> {
    let is_waiting = |task: &&crate::model::snapshot::process::Task| {
        task.wchan.as_deref().is_some_and(|wchan| PLACES.iter().any(|place| wchan.contains(place)))
    };
    let tasks = context.window.activity.tasks.iter().filter(|task| task.blocked > 1).filter(is_waiting);
    tasks
        .take(culprit::NAMED)
        .map(|task| {
            culprit::of_pid(context.window, task.pid, format!("waits in {}", task.wchan.as_deref().unwrap_or("it")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{ask, severities};
    use crate::doctor::io::mount::example::{GIB, mount, window};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Warn};
    use crate::model::snapshot::Field;
    use crate::model::snapshot::disk::Mount;

    fn server(answer_ms: u64, is_hanging: bool, why: Option<&str>) -> Mount {
        let mut mount = mount("/mnt/nfs", "nfs4", "0:60", 99 * GIB, 90 * GIB);
        (mount.answer_ms, mount.is_hanging) = (Some(answer_ms), is_hanging);
        if let Some(why) = why {
            mount.space = Field::unavailable("statvfs /mnt/nfs", why);
        }
        mount
    }

    #[test]
    fn a_server_that_does_not_answer_is_found() {
        for (answer_ms, is_hanging, why, expected) in [
            (2, false, None, vec![]),
            (1_500, false, None, vec![Warn]),
            (2_000, true, Some("no answer in 2.0 s"), vec![Warn]),
            (9_000, true, Some("no answer in 9.0 s"), vec![Crit]),
            (1, false, Some("transport endpoint is not connected"), vec![Warn]),
            (1, false, Some("stale file handle"), vec![Warn]),
            // The FUSE mount of another user, which denies even root.
            (1, false, Some("permission denied"), vec![]),
        ] {
            let found = ask(&window(vec![server(answer_ms, is_hanging, why)]), "fs.network");
            assert_eq!(severities(&found), expected, "{why:?}");
            // A mount that answers late must not be detached.
            let detaches = found.iter().any(|finding| finding.remedies[0].command.is_some());
            assert_eq!(detaches, !expected.is_empty() && (is_hanging || why.is_some()), "{why:?}");
        }
    }

    #[test]
    fn too_short_a_look_says_nothing() {
        let question = Question { only: vec!["fs.network".to_owned()], ..Question::default() };
        let diagnosis = diagnose(&window(vec![server(100, true, Some("no answer in 0.1 s"))]), &question);
        assert_eq!(diagnosis.skipped[0].reason, "statvfs /mnt/nfs: no answer yet, look longer");
    }
}
