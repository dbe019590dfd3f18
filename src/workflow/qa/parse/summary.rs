//! The summaries that test runners print for people. Of a target of the project, which calls whatever runner it likes, they
//! are all there is: numbers of tests, without their names.

use crate::model::finding::Counts;
use crate::text::transcript;

/// Adds up the summaries in an output. Nothing where there is none.
pub(super) fn of(output: &[u8]) -> Option<Counts> {
    let text = transcript::clean(output);
    let mut found = Found::default();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_summary = line_of(line, &words, &mut found);
        // unittest of Python: the number, then what became of them.
        if !is_summary
            && let ["Ran", number, "test" | "tests", "in", ..] = words[..]
            && let (Ok(all), Some(end)) = (number.parse(), lines.peek())
        {
            let of = |name: &str| after(end, name);
            let failed = of("failures=").saturating_add(of("errors=")).saturating_add(of("unexpected successes="));
            found.add(all, failed, of("skipped=").saturating_add(of("expected failures=")));
        }
    }
    found.end()
}

#[derive(Default)]
struct Found {
    counts: Option<Counts>,
    /// Lines of TAP, which count where no summary follows them.
    tap: Option<Counts>,
    /// `Tests=` of prove, until `Result:` says how it ended.
    prove: u64,
}

impl Found {
    fn counts(&mut self) -> &mut Counts {
        self.counts.get_or_insert_default()
    }

    /// Adds tests, given as all of them.
    fn add(&mut self, all: u64, failed: u64, skipped: u64) {
        let counts = self.counts();
        counts.tests_passed += all.saturating_sub(failed).saturating_sub(skipped);
        counts.tests_failed += failed;
        counts.tests_skipped += skipped;
    }

    /// Adds so many tests of which a word says how they ended. Says whether it is such a word.
    fn put(&mut self, number: u64, word: &str) -> bool {
        match word.trim_end_matches([':', ',', '.', ')']) {
            "passed" | "passing" | "pass" | "PASS" | "Ok" | "xpassed" => self.counts().tests_passed += number,
            "failed" | "failing" | "fail" | "FAIL" | "Fail" | "error" | "errors" | "ERROR" | "XPASS" | "Timeout"
            | "cancelled" => self.counts().tests_failed += number,
            "skipped" | "pending" | "skip" | "SKIP" | "Skipped" | "todo" | "xfailed" | "XFAIL" | "ignored" => {
                self.counts().tests_skipped += number;
            }
            _ => return false,
        }
        true
    }

    fn end(self) -> Option<Counts> {
        self.counts.or(self.tap)
    }
}

/// Takes one line; says whether it is part of a summary.
fn line_of(line: &str, words: &[&str], found: &mut Found) -> bool {
    // `12 passed`, `3 failed`: pairs of a number and a word.
    let number = |word: &&str| word.trim_start_matches(['(', '|']).parse::<u64>().ok();
    let pairs = || words.windows(2).filter_map(|pair| Some((number(&pair[0])?, pair[1])));
    let pytest = line.trim_matches(['=', ' ']);
    let is_pytest = || {
        const ENDS: [&str; 7] = ["passed", "failed", "skipped", "xfailed", "xpassed", "error", "errors"];
        pytest.starts_with(|c: char| c.is_ascii_digit())
            && pytest.contains(" in ")
            && pairs().next().is_some_and(|(_, word)| ENDS.contains(&word.trim_end_matches(',')))
    };
    match words {
        // cargo test; jest and vitest; deno.
        ["test", "result:", ..] | ["Tests:" | "Tests", ..] | ["ok" | "FAILED", "|", ..]
            if pairs().any(|(_, word)| {
                ["passed", "failed", "skipped", "todo"].contains(&word.trim_end_matches([',', ';', '.', ')']))
            }) =>
        {
            pairs().for_each(|(number, word)| {
                found.put(number, word.trim_end_matches(';'));
            });
            true
        }
        _ if is_pytest() => {
            pairs().for_each(|(number, word)| {
                found.put(number, word);
            });
            true
        }
        // mocha, bun.
        [count, word @ ("passing" | "pending" | "failing" | "pass" | "fail" | "skip"), rest @ ..]
            if rest.is_empty() || rest[0].starts_with('(') =>
        {
            number(count).is_some_and(|count| found.put(count, word))
        }
        // node:test and tape; automake.
        ["#" | "\u{2139}", word @ ("pass" | "fail" | "skipped" | "todo" | "cancelled"), count]
        | ["#", word @ ("PASS:" | "FAIL:" | "SKIP:" | "XFAIL:" | "XPASS:" | "ERROR:"), count]
        // Meson.
        | [word @ ("Ok:" | "Fail:" | "Skipped:" | "Timeout:"), count] => {
            number(count).is_some_and(|count| found.put(count, word))
        }
        ["Expected", "Fail:", count] => number(count).is_some_and(|count| found.put(count, "XFAIL")),
        // TAP by itself.
        ["ok", ..] | ["not", "ok", ..] => {
            let counts = found.tap.get_or_insert_default();
            let lower = line.to_ascii_lowercase();
            if lower.contains("# skip") || lower.contains("# todo") {
                counts.tests_skipped += 1;
            } else if words[0] == "ok" {
                counts.tests_passed += 1;
            } else {
                counts.tests_failed += 1;
            }
            true
        }
        // ctest: `95% tests passed, 2 tests failed out of 40`.
        [share, "tests", "passed,", failed, "tests", "failed", "out", "of", all] if share.ends_with('%') => {
            match (number(failed), number(all)) {
                (Some(failed), Some(all)) => found.add(all, failed, 0),
                _ => return false,
            }
            true
        }
        // Gradle, which is silent where all passed; RSpec; minitest.
        [all, "tests" | "test", "completed,", ..] | [all, "examples," | "example," | "runs,", ..] => {
            let of = |wanted: &[&str]| {
                let is_it = |word: &str| wanted.contains(&word.trim_end_matches(','));
                pairs().filter(|(_, word)| is_it(word)).map(|(number, _)| number).fold(0, u64::saturating_add)
            };
            number(all).is_some_and(|all| {
                let failed = of(&["failed", "failure", "failures", "error", "errors"]);
                found.add(all, failed, of(&["skipped", "pending", "skips"]));
                true
            })
        }
        // PHPUnit where all is well.
        ["OK", all, "tests," | "test,", ..] if all.starts_with('(') => number(all).is_some_and(|all| {
            found.add(all, 0, 0);
            true
        }),
        // prove.
        ["Result:", end] if found.prove > 0 => {
            let all = std::mem::take(&mut found.prove);
            if *end == "PASS" { found.add(all, 0, 0) } else { found.add(all, 1, 0) }
            true
        }
        _ if line.starts_with("Files=") => {
            found.prove = after(line, "Tests=");
            true
        }
        // Surefire: a line for each class has its time, the one for all has not.
        _ if line.contains("Tests run:") && !line.contains("Time elapsed") => {
            let failed = after(line, "Failures: ").saturating_add(after(line, "Errors: "));
            found.add(after(line, "Tests run: "), failed, after(line, "Skipped: "));
            true
        }
        _ => false,
    }
}

/// The number right behind a text; 0 where there is none.
fn after(line: &str, text: &str) -> u64 {
    let Some((_, rest)) = line.split_once(text) else { return 0 };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    rest[..digits].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::of;

    /// Passed, failed, skipped.
    fn counted(output: &str) -> Option<(u64, u64, u64)> {
        of(output.as_bytes()).map(|counts| (counts.tests_passed, counts.tests_failed, counts.tests_skipped))
    }

    /// The ends of real outputs: of the runners by their own names.
    #[test]
    fn the_summaries_of_runners_are_read() {
        let cases = [
            ("mocha", "\n  1256 passing (3s)\n  4 pending\n  2 failing\n", (1256, 2, 4)),
            (
                "pytest",
                "====== 2 failed, 1991 passed, 24 skipped, 1 xfailed, 3 warnings in 5.01s (0:00:05) ======\n",
                (1991, 2, 25),
            ),
            ("pytest -q", "615 passed, 15 skipped in 75.33s (0:01:15)\n", (615, 0, 15)),
            (
                "jest",
                "Test Suites: 1 failed, 1 passed, 2 total\nTests:       1 failed, 1 skipped, 2 passed, 4 total\n",
                (2, 1, 1),
            ),
            (
                "vitest",
                " Test Files  1 failed | 1 passed (2)\n      Tests  1 failed | 5 passed | 2 skipped (8)\n",
                (5, 1, 2),
            ),
            (
                "node:test",
                "\u{2139} tests 5\n\u{2139} suites 0\n\u{2139} pass 3\n\u{2139} fail 1\n\u{2139} cancelled 0\n\u{2139} skipped 1\n\u{2139} todo 0\n",
                (3, 1, 1),
            ),
            ("node:test as TAP", "ok 1 - a\nnot ok 2 - b\n# tests 2\n# pass 1\n# fail 1\n# skipped 0\n", (1, 1, 0)),
            ("tap", "TAP version 13\nok 1 - a\nok 2 - b # SKIP later\nnot ok 3 - c\n1..3\n", (1, 1, 1)),
            ("unittest", "FE.s\n----\nRan 4 tests in 0.001s\n\nFAILED (failures=1, errors=1, skipped=1)\n", (1, 2, 1)),
            ("unittest", "..\nRan 2 tests in 0.000s\n\nOK\n", (2, 0, 0)),
            (
                "cargo",
                "test result: ok. 10 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\ntest result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n",
                (14, 1, 1),
            ),
            ("ctest", "95% tests passed, 2 tests failed out of 40\n", (38, 2, 0)),
            (
                "automake",
                "# TOTAL: 8\n# PASS:  5\n# SKIP:  1\n# XFAIL: 1\n# FAIL:  1\n# XPASS: 0\n# ERROR: 0\n",
                (5, 1, 2),
            ),
            (
                "meson",
                "Ok:                 5   \nExpected Fail:      1   \nFail:               1   \nUnexpected Pass:    0   \nSkipped:            2   \nTimeout:            0   \n",
                (5, 1, 3),
            ),
            (
                "Maven",
                "[INFO] Tests run: 3, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.1 s - in a.B\n[INFO] Results:\n[WARNING] Tests run: 5, Failures: 1, Errors: 0, Skipped: 1\n",
                (3, 1, 1),
            ),
            ("Gradle", "12 tests completed, 1 failed, 2 skipped\n", (9, 1, 2)),
            ("RSpec", "3 examples, 1 failure, 1 pending\n", (1, 1, 1)),
            ("minitest", "5 runs, 9 assertions, 1 failures, 1 errors, 1 skips\n", (2, 2, 1)),
            ("PHPUnit", "OK (5 tests, 9 assertions)\n", (5, 0, 0)),
            ("prove", "Files=3, Tests=12,  1 wallclock secs\nResult: PASS\n", (12, 0, 0)),
            ("bun", " 5 pass\n 1 fail\n 9 expect() calls\n", (5, 1, 0)),
        ];
        for (runner, output, expected) in cases {
            assert_eq!(counted(output), Some(expected), "{runner}");
        }
        let coloured = "\u{1b}[92m \u{1b}[0m\u{1b}[32m 3 passing\u{1b}[0m\u{1b}[90m (5ms)\u{1b}[0m\n";
        assert_eq!(counted(coloured), Some((3, 0, 0)));
    }

    #[test]
    fn what_is_no_summary_counts_nothing() {
        for output in [
            "",
            "building 3 files\n5 passed the gate\nok\n".replace("ok\n", "").as_str(),
            "downloaded 12 packages in 3s\n",
            "Tests are good\n",
            "18446744073709551616 passing\n",
        ] {
            assert_eq!(counted(output), None, "{output}");
        }
    }
}
