//! Why a test failed, in few lines: its message, the assertion, the difference and the place first, then the end. Runners put
//! them anywhere: pytest at the end of a message; node, Go and Rust at its start.

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
    let mut room = LINES_MAX - FIRST - LAST;
    // What is plainly the reason goes before what may be one.
    for tells in [is_reason, is_difference, is_place] {
        for (line, shown) in lines.iter().zip(&mut is_shown) {
            if room > 0 && !*shown && tells(line) {
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
    // Go: a call, then its place behind a tab.
    let is_go_place = |line: &str| line.starts_with('\t') && line.contains(".go:");
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
