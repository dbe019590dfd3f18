//! The files that settings are kept in, where the system looks for them: rendered, and read back. Each line has its reason
//! above it, which is also how apm finds its own lines again. Pure: texts in, texts out.

use std::collections::BTreeMap;

use crate::model::setting::{Place, Setting, Workload};
use crate::probe::tunables::one_line;
use crate::tune::value::is_same;

/// A line of a file that apm wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) value: String,
    pub(crate) why: String,
}

/// The files below /etc, by place.
pub(crate) const FILES: &[(Place, &str)] = &[
    (Place::Sysctl, "sysctl.d/60-apm.conf"),
    (Place::Sys, "tmpfiles.d/60-apm.conf"),
    (Place::Pam, "security/limits.d/60-apm.conf"),
    (Place::Manager, "systemd/system.conf.d/60-apm.conf"),
    (Place::Slice, "systemd/system/apm.slice"),
];

/// How a file begins that apm wrote.
const MARK: &str = "# Written by `apm tune`";

/// Whether apm wrote a file.
pub(crate) fn is_own(text: &str) -> bool {
    text.starts_with(MARK)
}

/// Whether it was written for this workload. One of an apm that did not say so yet was for its default.
pub(crate) fn is_for(text: &str, workload: Workload) -> bool {
    let said = text.lines().next().and_then(|line| line.strip_prefix(MARK)?.strip_prefix(" for ")?.split(',').next());
    said.unwrap_or(Workload::Agents.word()) == workload.word()
}

/// What a file has to say, for each place; absent where there is nothing to say.
pub(crate) fn render(settings: &[Setting], workload: Workload) -> BTreeMap<Place, String> {
    let mut files: BTreeMap<Place, String> = BTreeMap::new();
    for setting in settings {
        let Some(value) = &setting.proposed else { continue };
        let text = files.entry(setting.place).or_insert_with(|| head(setting.place, workload));
        *text += &format!("\n# {}: {}\n{}\n", setting.key, one_line(&setting.why), line(setting, value));
    }
    files
}

fn head(place: Place, workload: Workload) -> String {
    let (after, section) = match place {
        Place::Sysctl => ("A later file wins: 99-*.conf. In effect at boot, or by `apm tune apply`.", ""),
        Place::Sys => ("In effect at boot, or by `apm tune apply`.", ""),
        Place::Pam => ("A later file wins. In effect from the next login on.", ""),
        Place::Manager => ("A later file wins. In effect after `systemctl daemon-reexec`.", "\n[Manager]\n"),
        Place::Slice => (
            "For what is started by `systemd-run --slice=apm.slice`, after `systemctl daemon-reload`.",
            "\n[Unit]\nDescription=Agents and builds of apm\n\n[Slice]\n",
        ),
    };
    format!(
        "{MARK} for {}, and anew when it runs again.\n# {after}\n# More of a line: `apm tune explain KEY`.\n{section}",
        workload.word()
    )
}

fn line(setting: &Setting, value: &str) -> String {
    match setting.place {
        Place::Sysctl => format!("{} = {value}", setting.key),
        // Of all CPUs, where it is of the first.
        Place::Sys => {
            format!("w {} - - - - {value}", setting.path.as_deref().unwrap_or_default().replace("/cpu0/", "/cpu*/"))
        }
        Place::Pam => {
            let words: Vec<&str> = setting.key.split('.').skip(1).collect();
            format!("{} {value}", words.join(" "))
        }
        Place::Manager | Place::Slice => {
            format!("{}={value}", setting.key.rsplit('.').next().unwrap_or_default())
        }
    }
}

/// The lines of a file that apm wrote, by key: a comment `# KEY: why`, then the line that sets it.
pub(crate) fn parse(place: Place, text: &str) -> BTreeMap<String, Own> {
    let mut own = BTreeMap::new();
    let mut above: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            above = comment.split_once(": ");
            continue;
        }
        let value = match place {
            Place::Sysctl | Place::Manager | Place::Slice => line.split_once('=').map(|(_, value)| value.trim()),
            Place::Sys => line.split_once(" - - - - ").map(|(_, value)| value.trim()),
            Place::Pam => line.rsplit_once(' ').map(|(_, value)| value.trim()),
        };
        if let (Some((key, why)), Some(value)) = (above.take(), value) {
            own.insert(key.to_owned(), Own { value: value.to_owned(), why: why.to_owned() });
        }
    }
    own
}

/// What `apm tune check` finds wrong with one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drift {
    pub(crate) key: String,
    pub(crate) what: String,
}

/// Settings that are not as they should be, live or in the files.
pub(crate) fn drift(settings: &[Setting], own: &BTreeMap<String, Own>) -> Vec<Drift> {
    let mut found = Vec::new();
    for setting in settings {
        let Some(wanted) = &setting.proposed else { continue };
        let live = setting.current.as_deref().unwrap_or("not set");
        let mut what = Vec::new();
        if setting.is_change() && own.get(&setting.key).is_none_or(|own| own.value != live) {
            what.push(format!("is {live}, should be {wanted}"));
        }
        match own.get(&setting.key) {
            Some(own) if is_same(&own.value, wanted) => {}
            Some(own) => what.push(format!("the file says {}", own.value)),
            None => what.push("no file says so".to_owned()),
        }
        if !what.is_empty() {
            found.push(Drift { key: setting.key.clone(), what: what.join("; ") });
        }
    }
    // A line for what is to be left alone now.
    let wanted = |key: &str| settings.iter().any(|setting| setting.key == key && setting.proposed.is_some());
    let stale = own.iter().filter(|(key, _)| !wanted(key));
    found.extend(stale.map(|(key, own)| Drift {
        key: key.clone(),
        what: format!("the file says {}, which is to be left alone now", own.value),
    }));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{FILES, is_for, is_own, parse, render};
    use crate::model::setting::{Place, Risk, Setting, Verdict, Workload};

    fn setting(key: &str, place: Place, value: &str) -> Setting {
        Setting {
            key: key.to_owned(),
            place,
            path: Some("/sys/block/sda/queue/scheduler".to_owned()),
            current: None,
            proposed: Some(value.to_owned()),
            verdict: Verdict::Set,
            reason: None,
            why: "20 % of\n23 GiB".to_owned(),
            rule: None,
            risk: Risk::Low,
            revert: None,
        }
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let settings = [
            setting("net.ipv4.tcp_rmem", Place::Sysctl, "4096 131072 67108864"),
            setting("sys.block.sda.scheduler", Place::Sys, "none"),
            setting("pam.*.hard.nofile", Place::Pam, "524288"),
            setting("systemd.manager.DefaultTasksMax", Place::Manager, "6400"),
            setting("systemd.slice.CPUWeight", Place::Slice, "50"),
        ];
        let files = render(&settings, Workload::Ci);
        assert!(
            files.values().all(|text| is_own(text) && is_for(text, Workload::Ci) && !is_for(text, Workload::Agents))
        );
        assert_eq!(files.len(), FILES.len());
        for setting in &settings {
            let own = parse(setting.place, &files[&setting.place]);
            assert_eq!(own.len(), 1, "{}", files[&setting.place]);
            assert_eq!(Some(&own[&setting.key].value), setting.proposed.as_ref());
            assert_eq!(own[&setting.key].why, "20 % of 23 GiB");
        }
        assert!(files[&Place::Pam].ends_with("# pam.*.hard.nofile: 20 % of 23 GiB\n* hard nofile 524288\n"));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            for (place, _) in FILES {
                let _ = parse(*place, &text);
            }
        }
    }
}
