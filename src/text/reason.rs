//! Why a test failed, in few lines: its message, the assertion, the difference and the place first, then the end. Runners put
//! them anywhere: pytest at the end of a message; node, Go and Rust at its start.

use std::collections::HashSet;

use crate::text::transcript;

/// Lines shown of a message.
const LINES_MAX: usize = 20;
/// Of a longer one: lines from its start, and from its end. The lines between that tell most fill the rest.
const FIRST: usize = 6;
const LAST: usize = 4;
/// Frames kept of a backtrace: where it went wrong, and who called that.
const FRAMES_MAX: usize = 3;
/// What stands for lines that are left out.
const LEFT_OUT: &str = "...";

/// The lines of a test's message that tell why it failed.
pub(crate) fn of(message: &str) -> Vec<String> {
    let clean = transcript::clean(message.as_bytes());
    let lines = without_frames(&clean.lines().map(str::trim_end).collect::<Vec<_>>());
    if lines.len() <= LINES_MAX {
        return lines;
    }
    let mut is_shown: Vec<bool> = (0..lines.len()).map(|at| at < FIRST || at + LAST >= lines.len()).collect();
    let shown = lines.iter().zip(&is_shown).filter(|(_, shown)| **shown);
    let mut said: HashSet<String> = shown.map(|(line, _)| essence(line)).collect();
    let mut room = LINES_MAX - FIRST - LAST;
    // What is plainly the reason goes before what may be one. What was said is not said again.
    for tells in [is_reason, is_difference, is_place] {
        for (line, shown) in lines.iter().zip(&mut is_shown) {
            if room > 0 && !*shown && tells(line) && said.insert(essence(line)) {
                *shown = true;
                room -= 1;
            }
        }
    }
    let mut out: Vec<String> = Vec::new();
    for (line, shown) in lines.into_iter().zip(is_shown) {
        if shown {
            out.push(line);
        } else if out.last().is_some_and(|last| last != LEFT_OUT) {
            out.push(LEFT_OUT.to_owned());
        }
    }
    out
}

/// A line without what only marks it.
fn essence(line: &str) -> String {
    line.trim_start().trim_start_matches("E ").split_whitespace().collect()
}

/// Whether a line says what went wrong, in the words of pytest, unittest, Rust, Go, node and their like.
fn is_reason(line: &str) -> bool {
    let text = line.trim_start();
    text.starts_with("E  ")
        || text.contains("panicked at")
        || text.starts_with("panic:")
        || text.starts_with("assertion ")
        || text.starts_with("fatal error:")
        || ["Error: ", "Exception: ", "AssertionError", "Error ["].iter().any(|word| text.contains(word))
}

/// Whether a line is one side of a comparison.
fn is_difference(line: &str) -> bool {
    const SIDES: [&str; 14] = [
        "left:", "right:", "expected", "Expected", "actual", "Actual", "Received", "got:", "want:", "got ", "want ",
        "+ ", "- ", "Diff",
    ];
    let text = line.trim_start();
    SIDES.iter().any(|side| text.starts_with(side))
}

/// Whether a line names a line of a file.
fn is_place(line: &str) -> bool {
    let numbered = |(at, _): (usize, &str)| line[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    line.match_indices(':').any(|found| numbered(found) && line[..found.0].contains('.'))
}

/// What a line is of a backtrace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    /// A frame of the program.
    Own,
    /// A frame of the language's own libraries or of the runner.
    Runtime,
    /// More about the frame before.
    Detail,
    /// Nothing that tells anything.
    Hint,
}

fn part(line: &str, next: Option<&&str>) -> Part {
    let text = line.trim_start();
    let kind = |is_runtime: bool| if is_runtime { Part::Runtime } else { Part::Own };
    if text.starts_with("note: run with `RUST_BACKTRACE=") || text.starts_with("note: Some details are omitted") {
        return Part::Hint;
    }
    // Go: a call, then its place behind a tab, of which blanks were made.
    let is_go_place = |line: &str| line.starts_with([' ', '\t']) && line.contains(".go:") && line.contains(" +0x");
    if is_go_place(line) {
        return Part::Detail;
    }
    if next.is_some_and(|next| is_go_place(next)) {
        let runtime = ["testing.", "runtime.", "panic(", "created by testing", "reflect."];
        return kind(runtime.iter().any(|start| text.starts_with(start)));
    }
    // Rust: `3: name`, then `at file:line` indented.
    if let Some((number, name)) = text.split_once(": ")
        && line.starts_with(' ')
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        const RUNTIME: [&str; 12] = [
            "std::",
            "core::",
            "alloc::",
            "test::",
            "__rust",
            "rust_begin",
            "<alloc::",
            "<core::",
            "<std::",
            "__libc",
            "_start",
            "start_thread",
        ];
        return kind(RUNTIME.iter().any(|start| name.starts_with(start)) || name.starts_with("clone"));
    }
    if text.starts_with("at ") && text.contains("/rustc/") {
        return Part::Detail;
    }
    // JavaScript: `at name (file:line:column)`.
    if text.starts_with("at ") {
        let is_rust_place = text.contains(".rs:");
        return if is_rust_place {
            Part::Detail
        } else {
            kind(text.contains("node:") || text.contains("node_modules/") || text.contains("<anonymous>"))
        };
    }
    Part::None
}

/// The lines without what tells nothing of a backtrace: frames of libraries, and those of the program beyond the first ones.
fn without_frames(lines: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let (mut own, mut is_kept) = (0, true);
    for (at, line) in lines.iter().enumerate() {
        match part(line, lines.get(at + 1)) {
            Part::Hint => continue,
            Part::Own => {
                own += 1;
                is_kept = own <= FRAMES_MAX;
            }
            Part::Runtime => is_kept = false,
            Part::Detail => {}
            Part::None => {
                if !line.is_empty() {
                    own = 0;
                }
                is_kept = !line.is_empty() || out.last().is_some_and(|last| !last.is_empty() && last != LEFT_OUT);
                if is_kept {
                    out.push((*line).to_owned());
                }
                continue;
            }
        }
        if is_kept {
            out.push((*line).to_owned());
        } else if out.last().is_some_and(|last| last != LEFT_OUT) {
            out.push(LEFT_OUT.to_owned());
        }
    }
    while out.last().is_some_and(|line| line.is_empty() || line == LEFT_OUT) {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::of;

    /// Its last eight lines were shown, all of the runtime's.
    #[test]
    fn a_rust_backtrace_keeps_the_message_and_the_frames_of_the_program() {
        let message = [
            "",
            "thread 'a' (3966) panicked at src/lib.rs:9:5:",
            "assertion `left == right` failed: sum",
            "  left: 1",
            " right: 2",
            "stack backtrace:",
            "   0: __rustc::rust_begin_unwind",
            "             at /rustc/5980/library/std/src/panicking.rs:689:5",
            "   1: core::panicking::panic_fmt",
            "             at /rustc/5980/library/core/src/panicking.rs:80:14",
            "   2: x::sum",
            "             at ./src/lib.rs:9:5",
            "   3: x::tests::a",
            "             at ./src/lib.rs:20:9",
            "   4: core::ops::function::FnOnce::call_once",
            "             at /rustc/5980/library/core/src/ops/function.rs:250:5",
            "note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.",
        ];
        let expected = [&message[1..6], &["..."], &message[10..14]].concat();
        assert_eq!(of(&message.join("\n")), expected);
    }

    #[test]
    fn a_go_panic_keeps_what_panicked() {
        let frames: String = (0..30).map(|at| format!("main.f{at}(...)\n\t/src/a.go:{at} +0x1d\n")).collect();
        let message = format!(
            "panic: assignment to entry in nil map [recovered]\n\tpanic: assignment to entry in nil map\n\ngoroutine 7 [running]:\n\
             testing.tRunner.func1.2({{0x1, 0x2}})\n\t/go/src/testing/testing.go:1632 +0x230\n{frames}"
        );
        let lines = of(&message);
        assert_eq!(lines[0], "panic: assignment to entry in nil map [recovered]");
        assert!(lines.iter().any(|line| line.trim() == "/src/a.go:0 +0x1d") && lines.len() < 15, "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("testing.go")), "{lines:?}");
    }

    #[test]
    fn pytest_keeps_its_assertion_and_the_place() {
        let source: String = (0..40).map(|at| format!("        step({at})\n")).collect();
        let message = format!(
            "def test_a():\n{source}>       assert f() == 2, 'why'\nE       AssertionError: why\nE       assert 1 == 2\nE        +  where 1 = f()\n\n\
             tests/test_a.py:44: AssertionError\n--- Captured stdout call ---\n{}",
            "noise\n".repeat(50)
        );
        let lines = of(&message);
        for wanted in ["E       AssertionError: why", "E       assert 1 == 2", "tests/test_a.py:44: AssertionError"] {
            assert!(lines.iter().any(|line| line == wanted), "{wanted}: {lines:?}");
        }
        assert!(lines.len() <= 25, "{lines:?}");
    }

    #[test]
    fn node_keeps_the_message_and_one_difference() {
        let difference =
            "Error: my message 12345\n+ actual - expected\n\n  {\n    k: 1,\n+   k7: 7,\n-   k7: 99,\n  }\n";
        let message = format!("{difference}{}{difference}operator: 'deepStrictEqual'\n}}", "    more: 1,\n".repeat(40));
        let text = of(&message).join("\n");
        assert!(text.starts_with("Error: my message 12345\n+ actual - expected"), "{text}");
        assert_eq!((text.matches("+   k7: 7,").count(), text.matches("-   k7: 99,").count()), (1, 1), "{text}");
    }

    #[test]
    fn what_is_short_is_shown_whole_and_made_safe() {
        assert_eq!(of("\n  one\n\n\n\u{1b}[31mtwo\u{1b}[0m  \n\n"), ["  one", "", "two"]);
        assert_eq!(of(""), [""; 0]);
    }
}
