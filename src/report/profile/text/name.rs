//! Names of functions in so many columns. Templates and parameters go first, then the midst of the name.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::report::profile::tree::Function;
use crate::text::layout::{Layout, Style};
use crate::text::transcript;

/// A name and its module in so many columns: the module gives way first.
pub(super) fn named(function: Function<'_>, columns: usize, layout: &Layout) -> String {
    let columns = columns.max(8);
    let name = transcript::line(function.name);
    let module = transcript::line(function.module);
    if module.is_empty() || name == module || name == format!("[{module}]") {
        return shorten(&name, columns, layout);
    }
    let room = columns.saturating_sub(name.width() + 3);
    if room < 4 {
        return shorten(&name, columns, layout);
    }
    let module = layout.cut(&module, room);
    let module = if module.starts_with('[') { module } else { format!("[{module}]") };
    format!("{name} {}", layout.paint(Style::Dim, &module))
}

/// A name without what templates and parameters are; then cut in its midst: it begins with where the function is and ends
/// with what it is.
pub(crate) fn shorten(name: &str, columns: usize, layout: &Layout) -> String {
    if name.width() <= columns {
        return name.to_owned();
    }
    let name = &brief(name);
    if name.width() <= columns {
        return name.to_owned();
    }
    let head = layout.cut(name, columns / 3);
    let room = columns.saturating_sub(head.width());
    let mut tail = Vec::new();
    let mut used = 0;
    for c in name.chars().rev() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        tail.push(c);
    }
    head + &tail.iter().rev().collect::<String>()
}

/// `ns::map<int, char>::find(int const&) const` as `ns::map<>::find() const`. What stands in brackets that do not follow a
/// name stays: `<T as Trait>::f`, `(anonymous namespace)::f`, `operator<`.
fn brief(name: &str) -> String {
    let mut out = String::new();
    // The brackets that are left out, closing ones.
    let mut open: Vec<char> = Vec::new();
    for c in name.chars() {
        let close = match c {
            '<' => Some('>'),
            '(' => Some(')'),
            _ => None,
        };
        if open.last() == Some(&c) && !(c == '>' && out.ends_with('-')) {
            open.pop();
            if open.is_empty() {
                out.push(c);
            }
        } else if let Some(close) = close.filter(|_| !open.is_empty()) {
            open.push(close);
        } else if open.is_empty() {
            let follows_name = out.ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '>')
                || (c == '(' && ends_in_operator(&out));
            out.push(c);
            let is_operator = ["operator<", "operator(", "operator<<"].iter().any(|word| out.ends_with(word));
            if let Some(close) = close.filter(|_| follows_name && !is_operator) {
                open.push(close);
            }
        }
    }
    if open.is_empty() { out } else { name.to_owned() }
}

/// Whether a name ends in an operator, whose parameters come next: `operator<`, `operator()`, `operator[]`.
fn ends_in_operator(name: &str) -> bool {
    let sign = name.rsplit_once("operator").map_or("", |(_, sign)| sign);
    sign == "()" || (!sign.is_empty() && sign.chars().all(|c| "<>=!+-*/%^&|~[],".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::brief;

    #[test]
    fn what_was_called_stays_of_a_long_name() {
        let cases = [
            ("ns::map<int, std::less<int> >::find(int const&) const", "ns::map<>::find() const"),
            ("<alloc::vec::Vec<T> as core::fmt::Debug>::fmt", "<alloc::vec::Vec<> as core::fmt::Debug>::fmt"),
            ("(anonymous namespace)::f(int (*)(char))", "(anonymous namespace)::f()"),
            ("bool operator< <int>(A<int>, B)", "bool operator< <int>()"),
            ("A::operator()(int) const", "A::operator()() const"),
            ("ns::Store<int>::operator<(ns::Store<int> const&) const", "ns::Store<>::operator<() const"),
            ("A::operator[](unsigned long)", "A::operator[]()"),
            ("broken<<<", "broken<<<"),
            ("plain", "plain"),
        ];
        for (name, expected) in cases {
            assert_eq!(brief(name), expected);
        }
    }
}
