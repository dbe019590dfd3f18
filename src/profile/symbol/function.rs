//! A function at a place, as its name and its source are known, and how mangled names are read.

use serde::{Deserialize, Serialize};

/// Longest name; templates have longer ones that nobody reads.
const NAME_MAX: usize = 4096;
/// Functions at one place that are inlined into each other; compilers stop before a hundred.
pub(super) const FUNCTIONS_MAX: usize = 256;

/// A function at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    /// It has no name but is told from others by where it begins: `fn_11a9`.
    pub(crate) is_nameless: bool,
}

/// A function by its mangled name and its place.
pub(super) fn function(name: &str, file: Option<&str>, line: Option<u32>) -> Function {
    Function {
        name: demangled(name).chars().take(NAME_MAX).collect(),
        file: file.map(|file| file.chars().take(NAME_MAX).collect()),
        line: line.filter(|line| *line > 0),
        is_nameless: false,
    }
}

/// Only what is mangled: taken for C++, the C function `a` would be `signed char`.
pub(super) fn demangled(name: &str) -> String {
    let plain = || name.to_owned();
    if !name.starts_with("_Z") && !name.starts_with("_R") {
        return plain();
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    cpp_demangle::Symbol::new(name).ok().and_then(|symbol| symbol.demangle().ok()).unwrap_or_else(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::demangled;

    #[test]
    fn mangled_names_are_read_and_others_left() {
        let cases = [
            ("a", "a"),
            ("main", "main"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_ZN3foo3barEi", "foo::bar(int)"),
            ("_RNvC1a4main", "a::main"),
            ("_Zgarbage", "_Zgarbage"),
        ];
        for (mangled, plain) in cases {
            assert_eq!(demangled(mangled), plain);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_names_are_some_text(name in "(_Z|_R|_ZN)?[ -~]{0,60}") {
            let _ = demangled(&name);
        }
    }
}
