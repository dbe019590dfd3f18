//! A plan of settings, in every form.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::setting::{Place, Reason, Setting, Verdict, Workload};
use crate::model::unit::Bytes;
use crate::text::escape::Json;
use crate::text::layout::{Layout, Style, pad, wrap};
use crate::text::number::count;
use crate::text::transcript;

/// Columns of keys.
const KEY: usize = 35;
/// Columns before what belongs to a line above.
const MARGIN: usize = 6;

/// A plan and what it is for.
#[derive(Debug, Serialize)]
pub(crate) struct Plan<'a> {
    pub(crate) schema: &'static str,
    pub(crate) kernel: String,
    pub(crate) cpus: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) container: Option<String>,
    pub(crate) workload: Workload,
    pub(crate) agents: u64,
    pub(crate) settings: &'a [Setting],
}

/// The whole, schema apm.tune/1.
pub(crate) fn json(plan: &Plan<'_>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(Json::new(&mut *out), plan)?;
    writeln!(out)
}

/// What a reason is in words.
fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::HigherAlready => "higher already",
        Reason::HostOnly => "host only",
        Reason::NoEvidence => "no evidence",
        Reason::NoEffect => "no effect",
        Reason::NotHere => "not here",
        Reason::Administrator => "set elsewhere",
        Reason::Security => "security",
        Reason::Unreadable => "unreadable",
    }
}

/// For people: what is to change with why, risk and the way back; then how many stay as they are, or with -v each of them.
pub(crate) fn text(plan: &Plan<'_>, is_verbose: bool, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let changes = plan.settings.iter().filter(|setting| setting.is_change()).count();
    let place = plan.container.as_deref().map(|kind| format!(", in a container ({kind})")).unwrap_or_default();
    let head = format!(
        "{} to change for {} ({} at once) on {} CPUs with {}, Linux {}{place}",
        count(changes as u64, "setting"),
        plan.workload.word(),
        plan.agents,
        plan.cpus,
        Bytes(plan.memory_bytes),
        transcript::line(&plan.kernel),
    );
    for line in wrap(&head, layout.width) {
        writeln!(out, "{line}")?;
    }
    for setting in plan.settings.iter().filter(|setting| setting.is_change()) {
        change(setting, layout, out)?;
    }
    writeln!(out)?;
    if is_verbose {
        left(plan, layout, out)?;
    } else {
        let line = format!("{} (`apm tune -v` lists them with their values and reasons)", counts_left(plan));
        wrap(&line, layout.width).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    let next = "next: `apm tune explain KEY`, `apm tune diff`, `sudo apm tune apply`";
    wrap(next, layout.width).iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// How many settings stay as they are, and why.
fn counts_left(plan: &Plan<'_>) -> String {
    let kept = plan.settings.iter().filter(|setting| setting.verdict == Verdict::Keep).count();
    let mut reasons: Vec<Reason> = plan.settings.iter().filter_map(|setting| setting.reason).collect();
    let all = kept + reasons.len();
    reasons.sort();
    let counts = reasons.chunk_by(|one, other| one == other).map(|same| format!("{} {}", same.len(), reason(same[0])));
    let counts: Vec<String> = std::iter::once(format!("{kept} right already")).chain(counts).collect();
    format!("{} left as they are: {}", count(all as u64, "setting"), counts.join(", "))
}

/// Each setting that stays as it is, with its value and the reason.
fn left(plan: &Plan<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    for verdict in [Verdict::Keep, Verdict::Skip] {
        let mut settings: Vec<&Setting> = plan.settings.iter().filter(|it| it.verdict == verdict).collect();
        settings.sort_by_key(|setting| setting.reason);
        for setting in &settings {
            let word = if verdict == Verdict::Keep { "keep" } else { "skip" };
            let why = setting.reason.map(|it| format!("{}: ", reason(it))).unwrap_or_default();
            let now = transcript::line(setting.current.as_deref().unwrap_or("-"));
            writeln!(out, "{word:<5} {} {now}", pad(&setting.key, KEY))?;
            let why = transcript::line(&format!("{why}{}", setting.why));
            for line in wrap(&why, layout.width.saturating_sub(MARGIN)) {
                writeln!(out, "{}{}", " ".repeat(MARGIN), layout.paint(Style::Dim, &line))?;
            }
        }
        if !settings.is_empty() {
            writeln!(out)?;
        }
    }
    Ok(())
}

fn change(setting: &Setting, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let (word, style) = match setting.verdict {
        Verdict::Raise => ("raise", Style::Good),
        _ => ("set", Style::Warn),
    };
    let now = transcript::line(setting.current.as_deref().unwrap_or("-"));
    let proposed = setting.proposed.as_deref().unwrap_or_default();
    writeln!(out)?;
    let head = format!("{} {}", layout.paint(style, &pad(word, 5)), pad(&setting.key, KEY));
    if MARGIN + KEY + 6 + now.len() + proposed.len() <= layout.width {
        writeln!(out, "{head} {now} -> {proposed}")?;
    } else {
        writeln!(out, "{}\n{}{now} -> {proposed}", head.trim_end(), " ".repeat(MARGIN))?;
    }
    let rule = setting.rule.as_deref().map(|rule| format!("{rule}: ")).unwrap_or_default();
    let mut say = |label: &str, text: &str| -> io::Result<()> {
        for (at, line) in wrap(&transcript::line(text), layout.width.saturating_sub(MARGIN + 6)).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            writeln!(out, "{}{} {line}", " ".repeat(MARGIN), layout.paint(Style::Dim, &pad(label, 5)))?;
        }
        Ok(())
    };
    say("why", &format!("{rule}{}", setting.why))?;
    if setting.risk.word() != "low" {
        say("risk", setting.risk.word())?;
    }
    say("back", setting.revert.as_deref().unwrap_or("apm tune rollback"))
}

/// Commands that set the values live.
pub(crate) fn shell(plan: &Plan<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "#!/bin/sh\n# Live values only: gone at the next boot. `apm tune write` keeps them.\nset -e")?;
    for setting in plan.settings.iter().filter(|setting| setting.is_change()) {
        let (Some(value), Some(path)) = (&setting.proposed, &setting.path) else { continue };
        writeln!(out, "\n# {}", transcript::line(&setting.why))?;
        match setting.place {
            Place::Sysctl => writeln!(out, "sysctl -w {}='{value}'", setting.key)?,
            _ => writeln!(out, "for file in {}; do echo {value} >\"$file\"; done", path.replace("/cpu0/", "/cpu*/"))?,
        }
    }
    Ok(())
}

/// One task of a playbook.
#[derive(Serialize)]
struct Task {
    name: String,
    #[serde(rename = "ansible.posix.sysctl", skip_serializing_if = "Option::is_none")]
    sysctl: Option<Sysctl>,
    #[serde(rename = "ansible.builtin.copy", skip_serializing_if = "Option::is_none")]
    copy: Option<Copy>,
}

#[derive(Serialize)]
struct Sysctl {
    name: String,
    value: String,
    sysctl_file: &'static str,
    sysctl_set: bool,
}

#[derive(Serialize)]
struct Copy {
    dest: String,
    content: String,
    mode: &'static str,
}

/// Tasks of an Ansible playbook: sysctl by its module, everything else as files.
pub(crate) fn ansible(plan: &Plan<'_>, files: &[(String, String)], out: &mut dyn Write) -> io::Result<()> {
    let sysctl = plan.settings.iter().filter(|setting| setting.place == Place::Sysctl).filter_map(|setting| {
        let value = setting.proposed.clone()?;
        let name = format!("{}: {}", setting.key, transcript::line(&setting.why));
        let sysctl_file = "/etc/sysctl.d/60-apm.conf";
        let sysctl = Sysctl { name: setting.key.clone(), value, sysctl_file, sysctl_set: true };
        Some(Task { name, sysctl: Some(sysctl), copy: None })
    });
    let copies = files.iter().map(|(dest, content)| {
        let copy = Copy { dest: dest.clone(), content: content.clone(), mode: "0644" };
        Task { name: format!("write {dest}"), sysctl: None, copy: Some(copy) }
    });
    let tasks: Vec<Task> = sysctl.chain(copies).collect();
    let text = serde_yaml::to_string(&tasks).map_err(io::Error::other)?;
    out.write_all(text.as_bytes())
}
