//! What linters, type checkers and auditors print, one reader a dialect.

use serde_json::Value;

use crate::model::finding::{Finding, Results, Severity};
use crate::workflow::qa::parse::distinct::{Distinct, finding};
use crate::workflow::qa::parse::printed::{Printed, Read, json, json_documents, json_lines, text};
use crate::workflow::qa::parse::tests::go_place;

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u32 {
    value.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

/// A line or column that counts from 0, as one that counts from 1; 0 where there is none.
fn from_zero(value: &Value, key: &str) -> u32 {
    let at = value.get(key).and_then(Value::as_u64).and_then(|at| u32::try_from(at).ok());
    at.map_or(0, |at| at.saturating_add(1))
}

fn list(value: &Value) -> Result<&[Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| "not the list it promised".to_owned())
}

fn of(findings: Vec<Finding>) -> Read {
    Ok(Results { findings, ..Results::default() })
}

fn unformatted(file: String) -> Finding {
    Finding { file: file.into(), ..finding(Severity::Error, "format", "not formatted") }
}

/// A file a line: those that are not formatted.
pub(super) fn paths(printed: &Printed<'_>) -> Read {
    let lines = text(printed.stdout);
    of(lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| unformatted(printed.place.file(line)))
        .collect())
}

/// `Would reformat: a.py`, and in later versions `unformatted: ...` with the place in the line below.
pub(super) fn ruff_format(printed: &Printed<'_>) -> Read {
    let text = text(printed.stdout);
    let mut findings = Distinct::default();
    let mut announced = false;
    for line in text.lines() {
        let place = line.trim_start().strip_prefix("--> ").filter(|_| announced);
        let file = match (line.strip_prefix("Would reformat: "), place) {
            (Some(file), _) => Some(file),
            (None, Some(place)) => Some(place.trim_end_matches(|c: char| c == ':' || c.is_ascii_digit())),
            (None, None) => None,
        };
        announced = line.starts_with("unformatted:");
        // One file may have several places.
        if let Some(file) = file {
            findings.push(unformatted(printed.place.file(file.trim())));
        }
    }
    of(findings.findings)
}

/// `would reformat /x/a.py`, on standard error.
pub(super) fn black(printed: &Printed<'_>) -> Read {
    let lines = text(printed.stderr);
    let files = lines.lines().filter_map(|line| line.strip_prefix("would reformat "));
    of(files.map(|file| unformatted(printed.place.file(file.trim()))).collect())
}

/// `file:line:column: severity: message [rule]`, on either stream.
pub(super) fn gcc(printed: &Printed<'_>) -> Read {
    let mut findings = Distinct::default();
    for stream in [printed.stdout, printed.stderr] {
        text(stream).lines().filter_map(|line| gcc_line(line, printed)).for_each(|found| findings.push(found));
    }
    of(findings.findings)
}

fn gcc_line(line: &str, printed: &Printed<'_>) -> Option<Finding> {
    // From the right of the first ": ", so that a colon in a file's name does no harm.
    let (place, rest) = line.split_once(": ")?;
    let (severity, message) = rest.split_once(": ")?;
    let severity = match severity.trim() {
        "error" | "fatal error" => Severity::Error,
        "warning" => Severity::Warning,
        "note" | "style" | "performance" | "portability" | "information" => Severity::Note,
        _ => return None,
    };
    let (head, last) = place.rsplit_once(':')?;
    let (file, at, column) = match head.rsplit_once(':') {
        Some((file, at)) if at.parse::<u32>().is_ok() => (file, at.parse().ok()?, last.parse().ok()?),
        _ => (head, last.parse().ok()?, 0),
    };
    let (message, rule) = match message.strip_suffix(']').and_then(|text| text.rsplit_once(" [")) {
        Some((message, rule)) => (message, rule),
        None => (message, ""),
    };
    Some(Finding { file: printed.place.file(file).into(), line: at, column, ..finding(severity, rule, message) })
}

/// `ruff check --output-format json`.
pub(super) fn ruff(printed: &Printed<'_>) -> Read {
    let rows: Value = json(printed.stdout)?;
    let findings = list(&rows)?.iter().map(|row| {
        let (start, end) =
            (row.get("location").unwrap_or(&Value::Null), row.get("end_location").unwrap_or(&Value::Null));
        // A syntax error has no code.
        let rule = if string(row, "code").is_empty() { "syntax-error" } else { string(row, "code") };
        Finding {
            file: printed.place.file(string(row, "filename")).into(),
            line: number(start, "row"),
            column: number(start, "column"),
            line_end: number(end, "row"),
            column_end: number(end, "column"),
            url: string(row, "url").into(),
            ..finding(Severity::Error, rule, string(row, "message"))
        }
    });
    of(findings.collect())
}

/// `mypy --output json`: columns count from 0.
pub(super) fn mypy(printed: &Printed<'_>) -> Read {
    let findings: Vec<Finding> = json_lines(printed.stdout)
        .map(|row| {
            let severity = if string(&row, "severity") == "error" { Severity::Error } else { Severity::Note };
            Finding {
                file: printed.place.file(string(&row, "file")).into(),
                line: number(&row, "line"),
                column: from_zero(&row, "column"),
                line_end: number(&row, "end_line"),
                column_end: from_zero(&row, "end_column"),
                ..finding(severity, string(&row, "code"), string(&row, "message"))
            }
        })
        .collect();
    if findings.is_empty() && !text(printed.stdout).trim().is_empty() {
        return Err("not the JSON it promised".to_owned());
    }
    of(findings)
}

/// `pip-audit -f json`.
pub(super) fn pip_audit(printed: &Printed<'_>) -> Read {
    let report: Value = json(printed.stdout)?;
    let packages = list(report.get("dependencies").unwrap_or(&report))?;
    let findings = packages.iter().flat_map(|package| {
        let all = package.get("vulns").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        all.iter().map(|one| {
            let fixed =
                one.get("fix_versions").and_then(Value::as_array).and_then(|all| all.first()).and_then(Value::as_str);
            let fixed = fixed.map_or_else(|| "no fix yet".to_owned(), |version| format!("fixed in {version}"));
            let message = format!("{} {}: {fixed}", string(package, "name"), string(package, "version"));
            Finding {
                file: printed.place.file("requirements.txt").into(),
                ..finding(Severity::Error, string(one, "id"), &message)
            }
        })
    });
    of(findings.collect())
}

/// `eslint -f json`.
pub(super) fn eslint(printed: &Printed<'_>) -> Read {
    let files: Value = json(printed.stdout)?;
    let findings = list(&files)?.iter().flat_map(|file| {
        let messages = file.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        messages.iter().map(|message| {
            let severity = if number(message, "severity") >= 2 { Severity::Error } else { Severity::Warning };
            Finding {
                file: printed.place.file(string(file, "filePath")).into(),
                line: number(message, "line"),
                column: number(message, "column"),
                line_end: number(message, "endLine"),
                column_end: number(message, "endColumn"),
                ..finding(severity, string(message, "ruleId"), string(message, "message"))
            }
        })
    });
    of(findings.collect())
}

/// `file(line,column): error TS2322: message`.
pub(super) fn tsc(printed: &Printed<'_>) -> Read {
    let lines = text(printed.stdout);
    let parse = |line: &str| {
        let (place, rest) = line.split_once("): ")?;
        let (file, numbers) = place.rsplit_once('(')?;
        let (at, column) = numbers.split_once(',')?;
        let (severity, rest) = rest.split_once(' ')?;
        let (rule, message) = rest.split_once(": ")?;
        let severity = if severity == "error" { Severity::Error } else { Severity::Warning };
        Some(Finding {
            file: printed.place.file(file).into(),
            line: at.parse().ok()?,
            column: column.parse().ok()?,
            ..finding(severity, rule, message)
        })
    };
    // Errors of the configuration have no place.
    let general = |line: &str| {
        let (rule, message) = line.strip_prefix("error ")?.split_once(": ")?;
        Some(finding(Severity::Error, rule, message))
    };
    of(lines.lines().filter_map(|line| parse(line).or_else(|| general(line))).collect())
}

/// `npm audit --json`. A registry that cannot be reached is JSON too, with the same exit code.
pub(super) fn npm_audit(printed: &Printed<'_>) -> Read {
    let report: Value = json(printed.stdout)?;
    let all = report.get("vulnerabilities").and_then(Value::as_object).ok_or("no `vulnerabilities` in it")?;
    let findings = all.iter().map(|(name, one)| {
        let severity = match string(one, "severity") {
            "critical" | "high" => Severity::Error,
            "moderate" => Severity::Warning,
            _ => Severity::Note,
        };
        let title = one.get("via").and_then(Value::as_array).and_then(|via| via.iter().find(|one| one.is_object()));
        let message = format!(
            "{name} {}: {}",
            string(one, "range"),
            title.map_or("a dependency of it", |one| string(one, "title"))
        );
        let url = title.map_or("", |one| string(one, "url")).into();
        Finding {
            file: printed.place.file("package-lock.json").into(),
            url,
            ..finding(severity, string(one, "severity"), &message)
        }
    });
    of(findings.collect())
}

/// `shellcheck -f json1`.
pub(super) fn shellcheck(printed: &Printed<'_>) -> Read {
    let reports: Vec<Value> = json_documents(printed.stdout)?;
    let comments: Vec<&[Value]> =
        reports.iter().map(|report| list(report.get("comments").unwrap_or(&Value::Null))).collect::<Result<_, _>>()?;
    let findings = comments.into_iter().flatten().map(|comment| {
        let code = format!("SC{}", number(comment, "code"));
        Finding {
            file: printed.place.file(string(comment, "file")).into(),
            line: number(comment, "line"),
            column: number(comment, "column"),
            line_end: number(comment, "endLine"),
            column_end: number(comment, "endColumn"),
            url: format!("https://www.shellcheck.net/wiki/{code}").into(),
            ..finding(level(string(comment, "level")), &code, string(comment, "message"))
        }
    });
    of(findings.collect())
}

fn level(word: &str) -> Severity {
    match word {
        "error" => Severity::Error,
        "warning" => Severity::Warning,
        _ => Severity::Note,
    }
}

/// `hadolint -f json`.
pub(super) fn hadolint(printed: &Printed<'_>) -> Read {
    let rows: Value = json(printed.stdout)?;
    let findings = list(&rows)?.iter().map(|row| Finding {
        file: printed.place.file(string(row, "file")).into(),
        line: number(row, "line"),
        column: number(row, "column"),
        ..finding(level(string(row, "level")), string(row, "code"), string(row, "message"))
    });
    of(findings.collect())
}

/// `actionlint -format '{{json .}}'`.
pub(super) fn actionlint(printed: &Printed<'_>) -> Read {
    let rows: Value = json(printed.stdout)?;
    let findings = list(&rows)?.iter().map(|row| Finding {
        file: printed.place.file(string(row, "filepath")).into(),
        line: number(row, "line"),
        column: number(row, "column"),
        column_end: number(row, "end_column"),
        ..finding(Severity::Error, string(row, "kind"), string(row, "message"))
    });
    of(findings.collect())
}

/// `zizmor --format json`.
pub(super) fn zizmor(printed: &Printed<'_>) -> Read {
    let rows: Value = json(printed.stdout)?;
    let findings = list(&rows)?.iter().map(|row| {
        let empty = Value::Null;
        let severity = match row.get("determinations").map_or("", |all| string(all, "severity")) {
            "High" => Severity::Error,
            "Medium" => Severity::Warning,
            _ => Severity::Note,
        };
        let locations = row.get("locations").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let is_primary = |place: &&Value| place.pointer("/symbolic/kind").and_then(Value::as_str) == Some("Primary");
        let place = locations.iter().find(is_primary).or(locations.first()).unwrap_or(&empty);
        let path =
            place.pointer("/symbolic/key/Local/verbatim_path").or(place.pointer("/symbolic/key/Local/given_path"));
        let point = |name: &str| {
            let point = place.pointer(&format!("/concrete/location/{name}")).unwrap_or(&empty);
            // Rows and columns count from 0.
            (from_zero(point, "row"), from_zero(point, "column"))
        };
        let ((line, column), (line_end, column_end)) = (point("start_point"), point("end_point"));
        Finding {
            file: printed.place.file(path.and_then(Value::as_str).unwrap_or_default()).into(),
            line,
            column,
            line_end,
            column_end,
            url: string(row, "url").into(),
            ..finding(severity, string(row, "ident"), string(row, "desc"))
        }
    });
    of(findings.collect())
}

/// `yamllint -f parsable`: `file:1:2: [error] message (rule)`.
pub(super) fn yamllint(printed: &Printed<'_>) -> Read {
    let lines = text(printed.stdout);
    let parse = |line: &str| {
        let (place, rest) = line.split_once(": [")?;
        let (severity, message) = rest.split_once("] ")?;
        let (rest, column) = place.rsplit_once(':')?;
        let (file, at) = rest.rsplit_once(':')?;
        let (message, rule) = match message.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
            Some((message, rule)) => (message, rule),
            None => (message, "syntax"),
        };
        let (line, column) = (at.parse().ok()?, column.parse().ok()?);
        Some(Finding { file: printed.place.file(file).into(), line, column, ..finding(level(severity), rule, message) })
    };
    of(lines.lines().filter_map(parse).collect())
}

/// `markdownlint --json`, on standard error.
pub(super) fn markdownlint(printed: &Printed<'_>) -> Read {
    let said = text(printed.stderr);
    if said.trim().is_empty() {
        return of(Vec::new());
    }
    let rows: Value = json(said.trim().as_bytes())?;
    let findings = list(&rows)?.iter().map(|row| {
        let rule =
            row.get("ruleNames").and_then(Value::as_array).and_then(|names| names.first()).and_then(Value::as_str);
        let detail = string(row, "errorDetail");
        let message = if detail.is_empty() {
            string(row, "ruleDescription").to_owned()
        } else {
            format!("{}: {detail}", string(row, "ruleDescription"))
        };
        Finding {
            file: printed.place.file(string(row, "fileName")).into(),
            line: number(row, "lineNumber"),
            url: string(row, "ruleInformation").into(),
            ..finding(Severity::Error, rule.unwrap_or_default(), &message)
        }
    });
    of(findings.collect())
}

/// `go vet -json`: comments, then an object for each package, on standard error or, with newer Go, on standard output.
pub(super) fn go_vet(printed: &Printed<'_>) -> Read {
    let said = [printed.stdout, printed.stderr].map(text).join("\n");
    let mut findings = Distinct::default();
    said.lines().filter_map(|line| go_place(line, printed)).for_each(|found| findings.push(found));
    let objects: String = said
        .lines()
        // `go: downloading ...` stands between them where a module is new here.
        .filter(|line| !line.starts_with('#') && !line.starts_with("go: ") && go_place(line, printed).is_none())
        .collect::<Vec<_>>()
        .join("\n");
    for package in serde_json::Deserializer::from_str(&objects).into_iter::<Value>() {
        let Ok(package) = package else {
            if findings.findings.is_empty() {
                return Err("not the JSON it promised".to_owned());
            }
            break;
        };
        let analyzers = package
            .as_object()
            .into_iter()
            .flat_map(|packages| packages.values())
            .filter_map(Value::as_object)
            .flatten();
        for (analyzer, rows) in analyzers {
            for row in rows.as_array().map_or(&[][..], Vec::as_slice) {
                let posn = string(row, "posn");
                let mut parts = posn.rsplitn(3, ':');
                let column = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
                let line = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
                let file = printed.place.file(parts.next().unwrap_or(posn)).into();
                let message = string(row, "message");
                findings.push(Finding { file, line, column, ..finding(Severity::Error, analyzer, message) });
            }
        }
    }
    of(findings.findings)
}

/// What the Go compiler prints.
pub(super) fn go_build(printed: &Printed<'_>) -> Read {
    of(text(printed.stderr).lines().filter_map(|line| go_place(line, printed)).collect())
}

/// `staticcheck -f json`: one object a line.
pub(super) fn staticcheck(printed: &Printed<'_>) -> Read {
    let findings = json_lines(printed.stdout).map(|row| {
        let place = row.get("location").unwrap_or(&Value::Null);
        Finding {
            file: printed.place.file(string(place, "file")).into(),
            line: number(place, "line"),
            column: number(place, "column"),
            ..finding(level(string(&row, "severity")), string(&row, "code"), string(&row, "message"))
        }
    });
    of(findings.collect())
}
