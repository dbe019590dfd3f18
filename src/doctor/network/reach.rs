//! What answered when it was asked: nameservers, proxies, hosts. Only with --probe, for it sends something.

use crate::doctor::network::endpoint::named;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Finding, Severity};
use crate::model::snapshot::net::Attempt;

/// What no answer counts as, ms: as long as was waited.
const SILENT_MS: f64 = 2_000.0;

/// How long it took; without an answer as long as was waited.
fn took(attempt: &Attempt) -> f64 {
    attempt.took_ms.known().copied().unwrap_or(SILENT_MS)
}

/// `answers after 810 ms`, or why it does not.
fn outcome(attempt: &Attempt) -> String {
    match attempt.took_ms.get() {
        Ok(ms) => format!("answers after {ms:.0} ms"),
        Err(unavailable) => unavailable.why.clone(),
    }
}

/// A finding about one of them.
fn about(context: &RuleContext<'_>, attempt: &Attempt, severity: Severity, kind: &str, path: &str) -> Finding {
    let title = format!("{kind} {}: {}", attempt.target, outcome(attempt));
    let what = if attempt.steps.is_empty() { outcome(attempt) } else { attempt.steps.clone() };
    context.finding(severity, took(attempt), title).read(path, &attempt.target, took(attempt), "ms").by([named(
        "peer",
        &attempt.target,
        what,
    )])
}

/// How bad it is; no answer is at least a warning, unless the user silenced the rule.
fn judge(context: &RuleContext<'_>, attempt: &Attempt, confirmed: bool) -> Option<Severity> {
    let silent = attempt.took_ms.known().is_none();
    context.judge(took(attempt), confirmed).or(context.warn.filter(|_| silent).map(|_| Severity::Warn))
}

pub(super) fn dns(context: &RuleContext<'_>) -> Verdict {
    let asked = &context.now().net.reach.get()?.nameservers;
    let fastest = asked.iter().map(took).fold(f64::INFINITY, f64::min);
    // Another one answers in time: programs wait, but they go on.
    let confirmed = context.crit.is_some_and(|crit| fastest >= crit);
    let mut findings = Vec::new();
    for attempt in asked {
        let Some(severity) = judge(context, attempt, confirmed) else { continue };
        findings.push(
            about(context, attempt, severity, "nameserver", "/etc/resolv.conf nameserver")
                .agreed(1 + u32::from(confirmed))
                .fix(
                    "put one that answers first, or wait less: `options timeout:1 attempts:2`",
                    Some("cat /etc/resolv.conf".to_owned()),
                ),
        );
    }
    Ok(findings)
}

pub(super) fn proxy(context: &RuleContext<'_>) -> Verdict {
    let asked = &context.now().net.reach.get()?.proxies;
    let mut findings = Vec::new();
    for attempt in asked {
        let Some(severity) = judge(context, attempt, false) else { continue };
        let variable = attempt.target.split(' ').next().unwrap_or_default();
        let is_name = !variable.is_empty() && variable.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        findings.push(
            about(context, attempt, severity, "proxy", "environment")
                .fix("start it, or do without", is_name.then(|| format!("unset {variable}"))),
        );
    }
    Ok(findings)
}

pub(super) fn hosts(context: &RuleContext<'_>) -> Verdict {
    let asked = &context.now().net.reach.get()?.hosts;
    if asked.is_empty() {
        let text = "--probe: no host to ask (`--probe=HOST`), or the way to it is a proxy with a password";
        return Err(Skip(text.to_owned()));
    }
    let mut findings = Vec::new();
    for attempt in asked {
        let Some(severity) = judge(context, attempt, false) else { continue };
        findings.push(
            about(context, attempt, severity, "host", "connect")
                .fix("see its steps, then the name, the proxy, the firewall", None),
        );
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{ask, severities};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Warn};
    use crate::model::snapshot::net::{Attempt, Reach};
    use crate::model::snapshot::{Field, Window};

    fn answered(target: &str, ms: f64) -> Attempt {
        Attempt { target: target.to_owned(), took_ms: Field::Known(ms), steps: "connected".to_owned() }
    }

    fn silent(target: &str, why: &str) -> Attempt {
        Attempt { target: target.to_owned(), took_ms: Field::unavailable(target, why), steps: String::new() }
    }

    fn window(reach: Reach) -> Window {
        let mut window = Window::default();
        window.to.net.reach = Field::Known(reach);
        window
    }

    #[test]
    fn a_nameserver_that_is_silent_is_critical_only_if_it_is_the_last() {
        let all = |nameservers: &[Attempt]| window(Reach { nameservers: nameservers.to_vec(), ..Reach::default() });
        let (fast, slow) = (answered("10.0.0.2:53", 4.0), answered("127.0.0.1:53", 810.0));
        let gone = silent("10.0.0.9:53", "no answer in 2 s");
        assert_eq!(severities(&ask(&all(std::slice::from_ref(&fast)), "net.dns")), []);
        let found = ask(&all(&[slow, fast.clone()]), "net.dns");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Warn], "nameserver 127.0.0.1:53: answers after 810 ms")
        );
        assert_eq!(severities(&ask(&all(&[gone.clone(), fast]), "net.dns")), [Warn]);
        let found = ask(&all(&[gone]), "net.dns");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Crit], "nameserver 10.0.0.9:53: no answer in 2 s")
        );
    }

    #[test]
    fn a_proxy_or_a_host_that_refuses_is_told() {
        let reach = Reach {
            proxies: vec![silent("HTTPS_PROXY 127.0.0.1:3128", "connection refused"), answered("http_proxy p:80", 3.0)],
            hosts: vec![answered("api.example:443", 120.0), silent("other.example:443", "its proxy answers 403")],
            ..Reach::default()
        };
        let found = ask(&window(reach.clone()), "net.proxy");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Warn], "proxy HTTPS_PROXY 127.0.0.1:3128: connection refused")
        );
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("unset HTTPS_PROXY"));
        let found = ask(&window(reach), "llm.net");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Warn], "host other.example:443: its proxy answers 403")
        );
    }

    #[test]
    fn nobody_was_asked_is_skipped_with_the_words_to_ask() {
        let rules = ["net.dns", "net.proxy", "llm.net"].map(str::to_owned).to_vec();
        let diagnosis = diagnose(&Window::default(), &Question { only: rules, ..Question::default() });
        assert_eq!((diagnosis.skipped.len(), diagnosis.ok.len()), (3, 0));
        // Without a proxy all is well; without a host nothing is known.
        let only = |id: &str| Question { only: vec![id.to_owned()], ..Question::default() };
        assert_eq!(diagnose(&window(Reach::default()), &only("net.proxy")).ok, ["net.proxy"]);
        assert_eq!(diagnose(&window(Reach::default()), &only("llm.net")).skipped.len(), 1);
    }
}
