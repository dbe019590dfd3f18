//! Which file of a crate imports from which, read from its sources, and the circles among them.
//!
//! It follows `mod` declarations from `lib.rs` as the compiler does and leaves out what is declared under `#[cfg(test)]`, or
//! for the fuzzer, `#[cfg(any(fuzzing, test))]`.
//! A declaration is no import, and neither is naming a module on the way to another: `crate::a::b::C` is an import from
//! `a/b.rs` alone. Names are resolved as far as modules go: an item that a module re-exports counts as that module's own.
//! This reads tokens, not the whole grammar, and so needs no parser among the dependencies.

use std::collections::{BTreeMap, BTreeSet};

/// The names of a path, `["crate", "a", "B"]`, or of a module, then without `crate`.
type Names = Vec<String>;

/// For each file, the files that it imports from, each with one of the paths that do so.
pub(crate) type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// The imports of the crate whose sources these are: the path of each file below `src`, and its text.
pub(crate) fn imports(sources: &BTreeMap<String, String>) -> Imports {
    let mut modules: BTreeMap<Names, Module> = BTreeMap::new();
    let mut declared = vec![(Names::new(), "lib.rs".to_owned())];
    while let Some((names, file)) = declared.pop() {
        let text = sources.get(&file).unwrap_or_else(|| panic!("no source `{file}`"));
        let module = Module::read(file, text);
        declared.extend(module.children.iter().map(|child| {
            let names = [names.as_slice(), &child.scope, std::slice::from_ref(&child.name)].concat();
            (names, module.file_of(child, sources))
        }));
        modules.insert(names, module);
    }
    modules.iter().map(|(names, module)| (module.file.clone(), module.imports(names, &modules))).collect()
}

/// The circles: files that import from each other, be it by way of others. Each file is in at most one.
pub(crate) fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = imports
        .keys()
        .map(|file| {
            let mut reached = BTreeSet::new();
            let mut open = vec![file];
            while let Some(next) = open.pop() {
                open.extend(imports[next].keys().filter(|to| reached.insert(*to)));
            }
            (file, reached)
        })
        .collect();
    let circles: BTreeSet<Vec<String>> = imports
        .keys()
        .map(|file| reached[file].iter().filter(|other| reached[**other].contains(file)).map(|to| (*to).clone()))
        .map(Iterator::collect)
        .filter(|circle: &Vec<String>| circle.len() > 1)
        .collect();
    circles.into_iter().collect()
}

/// What a file says about modules.
#[derive(Default)]
struct Module {
    file: String,
    children: Vec<Child>,
    uses: Vec<Use>,
    /// Paths in the code, each with the inline modules around it.
    paths: Vec<(Names, Names)>,
}

/// `mod name;`
struct Child {
    /// The inline modules around it.
    scope: Names,
    name: String,
    /// What `#[path = ""]` says.
    path: Option<String>,
}

/// One leaf of a `use`.
struct Use {
    scope: Names,
    path: Names,
    alias: String,
    is_glob: bool,
}

impl Module {
    fn read(file: String, text: &str) -> Self {
        let tokens = tokens(text);
        let at = |i: usize| tokens.get(i).map_or("", String::as_str);
        let starts = |i: usize, words: &[&str]| words.iter().enumerate().all(|(n, word)| at(i + n) == *word);
        let mut module = Self { file, ..Self::default() };
        let (mut scope, mut ends): (Names, Vec<usize>) = Default::default();
        let (mut depth, mut path, mut i) = (0_usize, None, 0);
        while i < tokens.len() {
            let only_tests: [&[&str]; 2] = [
                &["#", "[", "cfg", "(", "test", ")", "]"],
                &["#", "[", "cfg", "(", "any", "(", "fuzzing", ",", "test", ")", ")", "]"],
            ];
            if let Some(only) = only_tests.into_iter().find(|only| starts(i, only)) {
                i = after_item(&tokens, i + only.len());
                continue;
            }
            if starts(i, &["#", "[", "path", "="]) {
                path = Some(at(i + 4).trim_start_matches('"').to_owned());
                i += 6;
                continue;
            }
            match at(i) {
                // A visibility names a module but takes nothing from it.
                "pub" if starts(i + 1, &["(", "in"]) => i = after_group(&tokens, i + 1),
                "mod" if at(i + 2) == ";" => {
                    module.children.push(Child {
                        scope: scope.clone(),
                        name: tokens[i + 1].clone(),
                        path: path.take(),
                    });
                    i += 3;
                }
                "mod" if at(i + 2) == "{" => {
                    scope.push(tokens[i + 1].clone());
                    ends.push(depth);
                    depth += 1;
                    i += 3;
                }
                "{" => {
                    depth += 1;
                    i += 1;
                }
                "}" => {
                    depth = depth.saturating_sub(1);
                    if ends.last() == Some(&depth) {
                        ends.pop();
                        scope.pop();
                    }
                    i += 1;
                }
                "use" if is_name(at(i + 1)) || matches!(at(i + 1), "{" | "::") => {
                    let mut leaves = Vec::new();
                    i = leaves_of_use(&tokens, i + 1, &[], &mut leaves);
                    let leaf = |(path, alias, is_glob)| Use { scope: scope.clone(), path, alias, is_glob };
                    module.uses.extend(leaves.into_iter().map(leaf));
                }
                // `#[serde(with = "crate::a::b")]`
                text if text.starts_with('"') => {
                    let names: Names = text[1..].split("::").map(str::to_owned).collect();
                    if names.len() > 1 && names.iter().all(|name| is_name(name)) {
                        module.paths.push((scope.clone(), names));
                    }
                    i += 1;
                }
                name if is_name(name) && at(i + 1) == "::" => {
                    let mut names = vec![name.to_owned()];
                    i += 1;
                    while at(i) == "::" && is_name(at(i + 1)) {
                        names.push(tokens[i + 1].clone());
                        i += 2;
                    }
                    module.paths.push((scope.clone(), names));
                }
                _ => i += 1,
            }
        }
        module
    }

    fn file_of(&self, child: &Child, sources: &BTreeMap<String, String>) -> String {
        let folder = self.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = |folder: &str, rest: &str| {
            let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
            for part in rest.split('/') {
                match part {
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            parts.join("/")
        };
        if let Some(path) = &child.path {
            return below(folder, path);
        }
        let is_folder = self.file == "lib.rs" || self.file.ends_with("/mod.rs");
        let own = if is_folder { folder } else { self.file.trim_end_matches(".rs") };
        let place = below(own, &[child.scope.as_slice(), std::slice::from_ref(&child.name)].concat().join("/"));
        let [file, folder] = [format!("{place}.rs"), format!("{place}/mod.rs")];
        if sources.contains_key(&file) { file } else { folder }
    }

    fn imports(&self, own: &Names, modules: &BTreeMap<Names, Self>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut import = |path: &[String]| {
            let module = (0..=path.len()).rev().find_map(|len| modules.get(&path[..len]));
            if let Some(module) = module.filter(|module| module.file != self.file) {
                found.entry(module.file.clone()).or_insert_with(|| format!("crate::{}", path.join("::")));
            }
        };
        // Modules that are imported by name. What is imported from them is known where the name is used.
        let mut aliases: BTreeMap<&str, BTreeSet<Names>> = BTreeMap::new();
        for leaf in &self.uses {
            for path in absolute(own, &leaf.scope, &leaf.path, modules, &aliases) {
                if modules.contains_key(&path) && !leaf.is_glob {
                    aliases.entry(&leaf.alias).or_default().insert(path);
                } else {
                    import(&path);
                }
            }
        }
        for (scope, path) in &self.paths {
            absolute(own, scope, path, modules, &aliases).iter().for_each(|path| import(path));
        }
        // A module that is imported and not named again is re-exported, or is an item of the same name.
        let uses = self.uses.iter().map(|leaf| &leaf.path);
        let named: BTreeSet<&String> =
            self.paths.iter().map(|(_, path)| path).chain(uses).map(|path| &path[0]).collect();
        for (_, paths) in aliases.iter().filter(|(alias, _)| !named.iter().any(|name| name == *alias)) {
            paths.iter().for_each(|path| import(path));
        }
        found
    }
}

/// What a path may mean, from the root of the crate on. Nothing if it leads to another crate.
fn absolute(
    own: &[String],
    scope: &[String],
    path: &[String],
    modules: &BTreeMap<Names, Module>,
    aliases: &BTreeMap<&str, BTreeSet<Names>>,
) -> Vec<Names> {
    let here = [own, scope].concat();
    let supers = path.iter().take_while(|name| *name == "super").count();
    match path[0].as_str() {
        "crate" => vec![path[1..].to_vec()],
        "self" => vec![[&here, &path[1..]].concat()],
        "super" => vec![[&here[..here.len().saturating_sub(supers)], &path[supers..]].concat()],
        first => {
            let child = [own, &path[..1]].concat();
            let child = modules.contains_key(&child).then_some(child);
            let imported = aliases.get(first).into_iter().flatten().cloned();
            child.into_iter().chain(imported).map(|module| [&module, &path[1..]].concat()).collect()
        }
    }
}

/// Reads a tree of `use` up to the comma, brace or semicolon that ends it. A leaf is its path, its name here, and whether
/// it is a `*`.
fn leaves_of_use(tokens: &[String], mut i: usize, prefix: &[String], leaves: &mut Vec<(Names, String, bool)>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(i).map_or("", String::as_str) {
            // Another crate; no module has an empty name.
            "::" if path.is_empty() => path.push(String::new()),
            "::" => {}
            "*" => {
                leaves.push((path, String::new(), true));
                return i + 1;
            }
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|token| token != "}") {
                    i = leaves_of_use(tokens, i, &path, leaves);
                    i += usize::from(tokens.get(i).is_some_and(|token| token != "}"));
                }
                return i + 1;
            }
            // `{self}` is the module before it.
            "self" if !path.is_empty() => {}
            name if is_name(name) && name != "as" => path.push(name.to_owned()),
            end => {
                let alias = if end == "as" { tokens.get(i + 1) } else { path.last() };
                if let Some(alias) = alias.cloned() {
                    leaves.push((path, alias, false));
                }
                return if end == "as" { i + 2 } else { i };
            }
        }
        i += 1;
    }
}

/// Past the item at `i` with its attributes.
fn after_item(tokens: &[String], mut i: usize) -> usize {
    while let Some(token) = tokens.get(i) {
        i = match token.as_str() {
            "{" => return after_group(tokens, i),
            ";" => return i + 1,
            "(" | "[" => after_group(tokens, i),
            _ => i + 1,
        };
    }
    i
}

/// Past the bracket that closes the first one at or behind `i`.
fn after_group(tokens: &[String], i: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(i) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, single other characters, and strings, which begin with a quotation mark and have none at their end.
/// Comments and characters are left out.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_hashes = rest.trim_start_matches(['b', 'c', 'r']).trim_start_matches('#');
        let raw_prefix = &rest[..rest.len() - after_hashes.len()];
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_len(rest)
        } else if after_hashes.starts_with('"') && matches!(raw_prefix.trim_end_matches('#'), "r" | "br" | "cr") {
            let end = format!("\"{}", "#".repeat(raw_prefix.matches('#').count()));
            let body = after_hashes[1..].find(&end).unwrap_or(after_hashes.len() - 1);
            tokens.push(format!("\"{}", &after_hashes[1..=body]));
            rest.len().min(raw_prefix.len() + 1 + body + end.len())
        } else if first == '"' {
            let len = literal_len(rest, '"');
            tokens.push(rest[..len].trim_end_matches('"').to_owned());
            len
        } else if first == '\'' && (rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'')) {
            literal_len(rest, '\'')
        } else if rest.starts_with("r#") {
            "r#".len()
        } else if is_name(rest) {
            let name = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            let len = rest.len() - name.len();
            // The letter before a string or a character belongs to it.
            if !(matches!(&rest[..len], "b" | "c") && name.starts_with(['"', '\''])) {
                tokens.push(rest[..len].to_owned());
            }
            len
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    tokens
}

/// The length of a string or a character with both its quotation marks.
fn literal_len(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a comment with those inside of it.
fn comment_len(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let (step, change) = match (rest.starts_with(b"/*"), rest.starts_with(b"*/")) {
            (true, _) => (2, 1),
            (_, true) => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth = depth.saturating_add_signed(change);
        if depth == 0 {
            break;
        }
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::{circles, imports};

    /// Sources as `FILE: CODE` blocks, separated by lines of dashes.
    fn sources(text: &str) -> std::collections::BTreeMap<String, String> {
        text.split("----")
            .map(|part| part.trim().split_once(": ").expect("FILE: CODE"))
            .map(|(file, code)| (file.to_owned(), code.to_owned()))
            .collect()
    }

    #[track_caller]
    fn check_imports(text: &str, expected: &[&str]) {
        let found: Vec<String> = imports(&sources(text))
            .iter()
            .flat_map(|(from, all)| all.iter().map(move |(to, path)| format!("{from} -> {to} {path}")))
            .collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn check_circles(text: &str, expected: &[&[&str]]) {
        assert_eq!(circles(&imports(&sources(text))), expected);
    }

    #[test]
    fn groups_within_groups_are_read() {
        check_imports(
            "lib.rs: mod a; mod d;
            ---- a/mod.rs: pub mod b; pub mod e;
            ---- a/b.rs: pub struct C;
            ---- a/e.rs: pub struct F; pub fn g() {}
            ---- d.rs: use std::{fmt, io::{self, Read}};
                use crate::{a::{b::{self, C}, e::{
                    F as Other,
                }}};",
            &["d.rs -> a/b.rs crate::a::b::C", "d.rs -> a/e.rs crate::a::e::F"],
        );
    }

    #[test]
    fn paths_in_the_code_count_wherever_they_start() {
        check_imports(
            "lib.rs: mod a; mod d; ;
            ---- a/mod.rs: mod b; mod c; mod e; fn f() { b::f(); } 
            ---- a/b.rs: use super::c; fn f() { c::g::<u8>(); std::fmt::f(); }
            ---- a/c.rs: fn g() -> super::e::T { self::h(); }
            ---- a/e.rs: mod inner { use super::super::d_of_a; fn f() { super::own(); super::super::super::d::x(); } }
            ---- d.rs: #[serde(with = \"crate::a::c\")] struct S; pub(in crate::a) fn f() -> <crate::a::b::T as X>::Y {}",
            &[
                "a/b.rs -> a/c.rs crate::a::c::g",
                "a/c.rs -> a/e.rs crate::a::e::T",
                "a/e.rs -> a/mod.rs crate::a::d_of_a",
                "a/e.rs -> d.rs crate::d::x",
                "a/mod.rs -> a/b.rs crate::a::b::f",
                "d.rs -> a/b.rs crate::a::b::T",
                "d.rs -> a/c.rs crate::a::c",
            ],
        );
    }

    #[test]
    fn comments_texts_and_tests_bind_nobody() {
        check_imports(
            "lib.rs: mod a; mod b; #[cfg(test)] mod only_tests; #[cfg(any(fuzzing, test))] #[path = \"../c.rs\"] mod c;
            ---- a.rs: // crate::b::C
                /* crate::b::C /* */ crate::b::C */
                const A: &[&str] = &[\"use crate::b::C;\", r#\"\"crate::b::C\"#]; const Q: [char; 2] = ['\"', '\\''];
                #[cfg(test)] use crate::b::C;
                #[cfg(test)]
                #[allow(unused)]
                fn f(a: [u8; 2]) { crate::b::f(); }
                #[cfg(test)]
                mod tests { use crate::b::C; }
            ---- b.rs: pub struct C; fn after<'a>(_: &'a u8) { crate::a::x(); }
            ---- only_tests.rs: use crate::a::A;",
            &["b.rs -> a.rs crate::a::x"],
        );
    }

    #[test]
    fn a_declaration_is_no_import_and_a_re_export_is_one() {
        check_imports(
            "lib.rs: mod a; #[path = \"../other/c.rs\"] mod c; mod d;
            ---- a/mod.rs: mod b; pub use b::B; pub use self::e::e; mod e;
            ---- a/b.rs: pub struct B;
            ---- a/e.rs: pub fn e() {}
            ---- other/c.rs: pub struct C;
            ---- d.rs: use crate::a::B; use crate::c::C;",
            &[
                "a/mod.rs -> a/b.rs crate::a::b::B",
                "a/mod.rs -> a/e.rs crate::a::e::e",
                "d.rs -> a/mod.rs crate::a::B",
                "d.rs -> other/c.rs crate::c::C",
            ],
        );
    }

    #[test]
    fn circles_are_found_whole_and_apart() {
        check_circles(
            "lib.rs: mod a; mod b; mod c; mod d; mod e;
            ---- a.rs: use crate::b::B;
            ---- b.rs: use crate::{c::{C}, d::D};
            ---- c.rs: fn f() { crate::a::f() }
            ---- d.rs: pub struct D;
            ---- e/mod.rs: mod f; mod g; pub struct E; fn e() { f::f() }
            ---- e/f.rs: use super::E;
            ---- e/g.rs: use super::E; use crate::a::A;",
            &[&["a.rs", "b.rs", "c.rs"], &["e/f.rs", "e/mod.rs"]],
        );
    }

    #[test]
    fn a_parent_that_only_declares_is_in_no_circle() {
        check_circles("lib.rs: mod a; ---- a/mod.rs: pub mod b; pub struct A; ---- a/b.rs: use crate::a::A;", &[]);
    }
}
