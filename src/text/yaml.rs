//! YAML (and JSON, which is YAML) as a tree in which every node knows its place, so that an error found while reading a
//! meaning can still point at the text. Bounded: depth, nodes, and what aliases blow them up to.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::text::snippet::Fault;

/// Line and column, from 1.
pub(crate) type Place = (usize, usize);

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// A word without quotes: its type depends on who reads it.
    Plain(String),
    /// A text in quotes or a block.
    Quoted(String),
    List(Vec<Node>),
    /// In the order of the file, without duplicates.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) at: Place,
    pub(crate) text: String,
}

/// Deepest nesting: far more than any configuration, far less than a stack.
const DEPTH_MAX: usize = 64;

/// Reads one document; nothing (or comments only) is `Null`. At most `nodes_max` nodes, aliases expanded.
pub(crate) fn read(source: &str, nodes_max: usize) -> Result<Node, Fault> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    // The parser would take it for the end of the file.
    if let Some(before) = source.find('\0').map(|at| &source[..at]) {
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        return Err(Fault::at((before.matches('\n').count() + 1, column), "a NUL character, which no text has"));
    }
    let mut loader = Loader { anchors: HashMap::new(), nodes: 0, nodes_max };
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(source) {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            Fault::at((mark.line(), mark.col() + 1), format!("not valid YAML: {}", error.info()))
        })?;
        let at = place(&span);
        let is_alias = matches!(event, Event::Alias(_));
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(at, &text, style), anchor),
            Event::Alias(anchor) => {
                let node = loader.anchors.get(&anchor).cloned();
                (node.ok_or_else(|| Fault::at(at, "this alias has no anchor before it"))?, 0)
            }
            Event::SequenceStart(anchor, _) => {
                open.push(Open { at, anchor, items: Vec::new(), map: None });
                check_depth(&open, at)?;
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { at, anchor, items: Vec::new(), map: Some(Vec::new()) });
                check_depth(&open, at)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(done) => {
                    let anchor = done.anchor;
                    (done.close()?, anchor)
                }
                None => continue,
            },
            Event::DocumentStart(_) if root.is_some() => {
                return Err(Fault::at(at, "only one document is read, and here a second one starts"));
            }
            _ => continue,
        };
        // What an alias stands for is new; the members of a collection were counted when they came.
        loader.count(if is_alias { size(&node) } else { 1 }, at)?;
        if anchor > 0 {
            loader.anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some(parent) => parent.items.push(node),
            None => root = Some(node),
        }
        if let Some(parent) = open.last_mut() {
            parent.pair()?;
        }
    }
    Ok(root.unwrap_or(Node { at: (1, 1), kind: Kind::Null }))
}

struct Loader {
    anchors: HashMap<usize, Node>,
    nodes: usize,
    nodes_max: usize,
}

impl Loader {
    fn count(&mut self, values: usize, at: Place) -> Result<(), Fault> {
        self.nodes += values;
        if self.nodes > self.nodes_max {
            return Err(Fault::at(at, format!("more than {} values, aliases expanded", self.nodes_max)));
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::List(items) => items.iter().map(size).sum::<usize>(),
        Kind::Map(entries) => entries.iter().map(|(_, value)| 1 + size(value)).sum(),
        Kind::Null | Kind::Plain(_) | Kind::Quoted(_) => 0,
    }
}

/// A collection whose end has not come.
struct Open {
    at: Place,
    anchor: usize,
    items: Vec<Node>,
    map: Option<Vec<(Key, Node)>>,
}

impl Open {
    /// Makes a pair of a key and the value that has just come.
    fn pair(&mut self) -> Result<(), Fault> {
        let Some(map) = &mut self.map else { return Ok(()) };
        if self.items.len() < 2 {
            return Ok(());
        }
        let (Some(value), Some(key)) = (self.items.pop(), self.items.pop()) else { return Ok(()) };
        let text = match key.kind {
            Kind::Plain(text) | Kind::Quoted(text) => text,
            Kind::Null => "null".to_owned(),
            Kind::List(_) | Kind::Map(_) => return Err(Fault::at(key.at, "a key must be a word")),
        };
        // Duplicates are found when the map is closed: looking each time would cost the square of its size.
        map.push((Key { at: key.at, text }, value));
        Ok(())
    }

    fn close(self) -> Result<Node, Fault> {
        let Some(entries) = self.map else { return Ok(Node { at: self.at, kind: Kind::List(self.items) }) };
        let mut first: HashMap<String, Place> = HashMap::with_capacity(entries.len());
        let mut merged = Vec::new();
        let mut own = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if key.text == "<<" {
                merged.push((key, value));
                continue;
            }
            if let Some((line, _)) = first.insert(key.text.clone(), key.at) {
                return Err(Fault::at(key.at, format!("`{}` is set twice, first in line {line}", key.text)));
            }
            own.push((key, value));
        }
        for (key, value) in merged {
            let sources = match value.kind {
                Kind::List(items) => items,
                _ => vec![value],
            };
            for source in sources {
                let Kind::Map(entries) = source.kind else {
                    return Err(Fault::at(key.at, "`<<` merges maps, and this is none"));
                };
                for (key, value) in entries {
                    if first.insert(key.text.clone(), key.at).is_none() {
                        own.push((key, value));
                    }
                }
            }
        }
        Ok(Node { at: self.at, kind: Kind::Map(own) })
    }
}

fn check_depth(open: &[Open], at: Place) -> Result<(), Fault> {
    if open.len() > DEPTH_MAX {
        return Err(Fault::at(at, format!("nested deeper than {DEPTH_MAX} levels")));
    }
    Ok(())
}

fn place(span: &Span) -> Place {
    (span.start.line(), span.start.col() + 1)
}

fn scalar(at: Place, text: &str, style: ScalarStyle) -> Node {
    let kind = match style {
        ScalarStyle::Plain if matches!(text, "" | "~" | "null" | "Null" | "NULL") => Kind::Null,
        ScalarStyle::Plain => Kind::Plain(text.to_owned()),
        _ => Kind::Quoted(text.to_owned()),
    };
    Node { at, kind }
}

impl Node {
    /// What it is, for messages: `"lots"`, `a list`.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Plain(text) | Kind::Quoted(text) => {
                let short: String = text.chars().take(40).collect();
                format!("{short:?}{}", if short.len() < text.len() { "..." } else { "" })
            }
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        }
    }

    /// The fault of a node that is not what it should be.
    pub(crate) fn expected(&self, what: &str) -> Fault {
        Fault::at(self.at, format!("expected {what}, found {}", self.describe()))
    }

    /// A text; numbers and words are texts too.
    pub(crate) fn text(&self) -> Result<&str, Fault> {
        match &self.kind {
            Kind::Plain(text) | Kind::Quoted(text) => Ok(text),
            _ => Err(self.expected("a text")),
        }
    }

    /// `true` or `false`, as YAML 1.2 has them. `yes` and `on` are no booleans and are not guessed.
    pub(crate) fn boolean(&self) -> Result<bool, Fault> {
        match &self.kind {
            Kind::Plain(text) => match text.as_str() {
                "true" | "True" | "TRUE" => Ok(true),
                "false" | "False" | "FALSE" => Ok(false),
                "yes" | "on" | "Yes" | "On" => Err(self.expected("true or false").hint(Some("write `true`".into()))),
                "no" | "off" | "No" | "Off" => Err(self.expected("true or false").hint(Some("write `false`".into()))),
                _ => Err(self.expected("true or false")),
            },
            _ => Err(self.expected("true or false")),
        }
    }

    /// A number, not infinite.
    pub(crate) fn number(&self) -> Result<f64, Fault> {
        match &self.kind {
            Kind::Plain(text) => match text.replace('_', "").parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number),
                _ => Err(self.expected("a number")),
            },
            _ => Err(self.expected("a number")),
        }
    }

    /// The entries of a map; `Null` is an empty one.
    pub(crate) fn map(&self) -> Result<&[(Key, Node)], Fault> {
        match &self.kind {
            Kind::Map(entries) => Ok(entries),
            Kind::Null => Ok(&[]),
            _ => Err(self.expected("a map")),
        }
    }

    /// The items of a list; `Null` is an empty one.
    pub(crate) fn list(&self) -> Result<&[Node], Fault> {
        match &self.kind {
            Kind::List(items) => Ok(items),
            Kind::Null => Ok(&[]),
            _ => Err(self.expected("a list")),
        }
    }

    /// The texts of a list, or the one text that stands in its place.
    pub(crate) fn texts(&self) -> Result<Vec<String>, Fault> {
        match &self.kind {
            Kind::Plain(text) | Kind::Quoted(text) => Ok(vec![text.clone()]),
            _ => self.list()?.iter().map(|item| item.text().map(str::to_owned)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Kind, Node, read};

    fn fault(source: &str) -> String {
        let fault = read(source, 1000).expect_err("a fault");
        format!("{}:{} {}", fault.line, fault.column, fault.message)
    }

    fn get<'a>(node: &'a Node, path: &str) -> &'a Node {
        path.split('.').fold(node, |node, name| {
            let entries = node.map().expect("a map");
            &entries.iter().find(|(key, _)| key.text == name).expect("the key").1
        })
    }

    #[test]
    fn places_scalars_and_merge_keys() {
        let source = "a: &x\n  b: [1, 'two']\n  c: ~\nd:\n  <<: *x\n  c: own\n";
        let root = read(source, 1000).expect("good");
        assert_eq!(get(&root, "a.b").at, (2, 6));
        assert_eq!(get(&root, "a.b").texts().expect("texts"), ["1", "two"]);
        assert_eq!(get(&root, "a.c").kind, Kind::Null);
        assert_eq!(get(&root, "d.c").text().expect("own wins"), "own");
        assert_eq!(get(&root, "d.b").list().expect("merged").len(), 2);
        let json = read("{\"a\": {\"b\": true}, \"n\": -5}", 1000).expect("JSON");
        assert_eq!(get(&json, "a.b").boolean(), Ok(true));
        assert_eq!(get(&json, "n").number(), Ok(-5.0));
        assert_eq!(read("# only a comment\n", 9).expect("empty").kind, Kind::Null);
    }

    #[test]
    fn faults_have_their_place() {
        assert_eq!(fault("a: 1\nb: 2\na: 3\n"), "3:1 `a` is set twice, first in line 1");
        assert_eq!(fault("a: [1\n"), "2:1 not valid YAML: while parsing a flow sequence, expected ',' or ']'");
        assert!(fault("---\na: 1\n---\nb: 2\n").contains("a second one starts"));
        assert!(fault(&"[".repeat(100)).contains("nested deeper than 64 levels"));
        assert_eq!(fault("a: 1\nbü: \0\n"), "2:5 a NUL character, which no text has");
        assert!(fault("a: *nothing\n").contains("not valid YAML"));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c]\n";
        assert!(fault(bomb).contains("more than 1000 values"));
        let yes = read("yes", 9).expect("a word").boolean().expect_err("no boolean");
        assert_eq!(yes.hint.as_deref(), Some("write `true`"));
        assert!(read(".nan", 9).expect("a word").number().is_err());
    }

    /// The members of a collection were counted again at each level that closed around them.
    #[test]
    fn nesting_does_not_make_more_values() {
        let source = "- {id: a, needs: [x, y], env: {A: 1}}\n".repeat(100);
        assert!(read(&source, 100 * 11 + 1).is_ok());
        assert!(read(&source, 100 * 11).is_err());
        assert!(read(&("[".repeat(60) + "x" + &"]".repeat(60)), 61).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-\\[\\]{}&*!|>'\"%@`#:,? \\na-c0-9<]{0,80}") {
            let _ = read(&text, 200);
        }
    }
}
