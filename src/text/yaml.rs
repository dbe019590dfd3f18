//! YAML (and JSON, which is YAML) as a tree in which every node knows its position, so that an error found while reading a
//! meaning can still point at the text. Bounded: depth, nodes, and what aliases blow them up to.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::text::snippet::Fault;

/// Line and column, from 1.
pub(crate) type Position = (usize, usize);

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node<'a> {
    pub(crate) at: Position,
    pub(crate) kind: Kind<'a>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind<'a> {
    /// Nothing, `~` or `null`.
    Null,
    /// A word without quotes: its type depends on who reads it.
    Plain(Cow<'a, str>),
    /// A text in quotes or a block.
    Quoted(Cow<'a, str>),
    List(Vec<Node<'a>>),
    /// In the order of the file, without duplicates.
    Map(Vec<Entry<'a>>),
}

/// A key of a map and its value.
pub(crate) type Entry<'a> = (Key<'a>, Node<'a>);

/// A key of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key<'a> {
    pub(crate) at: Position,
    pub(crate) text: Cow<'a, str>,
}

/// Deepest nesting: far more than any configuration, far less than a stack.
pub(crate) const DEPTH_MAX: usize = 64;
/// Keys of a map up to which each is compared with each, which costs less than to hash them.
const COMPARED_MAX: usize = 16;

/// Takes the items of a list as they are read, with the entries of the map that stand before the list.
pub(crate) type Each<'e, 'a> = &'e mut dyn FnMut(&[Entry<'a>], Node<'a>) -> Result<(), Fault>;

/// Reads one document; nothing (or comments only) is `Null`. At most `nodes_max` nodes, aliases expanded.
pub(crate) fn read(source: &str, nodes_max: usize) -> Result<Node<'_>, Fault> {
    load(source, nodes_max, None)
}

/// Reads one document without holding all of it: where its root is a map, each item of the list under `key` goes to `each`
/// and is not kept, and the list in the result is empty. A list with an anchor is kept, since an alias may ask for it.
pub(crate) fn read_items<'a>(
    source: &'a str,
    nodes_max: usize,
    key: &str,
    each: Each<'_, 'a>,
) -> Result<Node<'a>, Fault> {
    load(source, nodes_max, Some((key, each)))
}

fn load<'a>(source: &'a str, nodes_max: usize, mut items: Option<(&str, Each<'_, 'a>)>) -> Result<Node<'a>, Fault> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    // The parser would take it for the end of the file.
    if let Some(before) = source.find('\0').map(|at| &source[..at]) {
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        return Err(Fault::at((before.matches('\n').count() + 1, column), "a NUL character, which no text has"));
    }
    let mut loader = Loader { anchors: HashMap::new(), nodes: 0, nodes_max };
    let mut open: Vec<Open<'a>> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(source) {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            Fault::at((mark.line(), mark.col() + 1), format!("not valid YAML: {}", error.info()))
        })?;
        let at = position(&span);
        let is_alias = matches!(event, Event::Alias(_));
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(at, text, style), anchor),
            Event::Alias(anchor) => {
                let node = loader.anchors.get(&anchor).cloned();
                (node.ok_or_else(|| Fault::at(at, "this alias has no anchor before it"))?, 0)
            }
            Event::SequenceStart(anchor, _) => {
                let handed_over = anchor == 0 && items.as_ref().is_some_and(|(key, _)| is_under(&open, key));
                open.push(Open { at, anchor, items: Vec::new(), map: None, handed_over });
                check_depth(&open, at)?;
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { at, anchor, items: Vec::new(), map: Some(Vec::new()), handed_over: false });
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
        match (open.as_mut_slice(), &mut items) {
            ([], _) => root = Some(node),
            ([before, Open { handed_over: true, .. }], Some((_, each))) => {
                each(before.map.as_deref().unwrap_or_default(), node)?;
            }
            ([.., parent], _) => {
                parent.items.push(node);
                parent.pair()?;
            }
        }
    }
    Ok(root.unwrap_or(Node { at: (1, 1), kind: Kind::Null }))
}

/// Whether what comes next is the value of this key in the map that is the root.
fn is_under(open: &[Open<'_>], key: &str) -> bool {
    let [Open { map: Some(_), items, .. }] = open else { return false };
    matches!(items.as_slice(), [Node { kind: Kind::Plain(text) | Kind::Quoted(text), .. }] if text == key)
}

struct Loader<'a> {
    anchors: HashMap<usize, Node<'a>>,
    nodes: usize,
    nodes_max: usize,
}

impl Loader<'_> {
    fn count(&mut self, values: usize, at: Position) -> Result<(), Fault> {
        self.nodes += values;
        if self.nodes > self.nodes_max {
            return Err(Fault::at(at, format!("more than {} values, aliases expanded", self.nodes_max)));
        }
        Ok(())
    }
}

fn size(node: &Node<'_>) -> usize {
    1 + match &node.kind {
        Kind::List(items) => items.iter().map(size).sum::<usize>(),
        Kind::Map(entries) => entries.iter().map(|(_, value)| 1 + size(value)).sum(),
        Kind::Null | Kind::Plain(_) | Kind::Quoted(_) => 0,
    }
}

/// A collection whose end has not come.
struct Open<'a> {
    at: Position,
    anchor: usize,
    items: Vec<Node<'a>>,
    map: Option<Vec<Entry<'a>>>,
    /// A list whose items go to whoever asked for them.
    handed_over: bool,
}

impl<'a> Open<'a> {
    /// Makes a pair of a key and the value that has just come.
    fn pair(&mut self) -> Result<(), Fault> {
        let Some(map) = &mut self.map else { return Ok(()) };
        if self.items.len() < 2 {
            return Ok(());
        }
        let (Some(value), Some(key)) = (self.items.pop(), self.items.pop()) else { return Ok(()) };
        let text = match key.kind {
            Kind::Plain(text) | Kind::Quoted(text) => text,
            Kind::Null => "null".into(),
            Kind::List(_) | Kind::Map(_) => return Err(Fault::at(key.at, "a key must be a word")),
        };
        // Duplicates are found when the map is closed: looking each time would cost the square of its size.
        map.push((Key { at: key.at, text }, value));
        Ok(())
    }

    fn close(self) -> Result<Node<'a>, Fault> {
        let Some(entries) = self.map else { return Ok(Node { at: self.at, kind: Kind::List(self.items) }) };
        if let Some((first, second)) = find_duplicate(&entries) {
            let message = format!("`{}` is set twice, first in line {}", second.text, first.at.0);
            return Err(Fault::at(second.at, message));
        }
        let is_merge = |key: &Key<'_>| key.text == MERGE;
        let entries = if entries.iter().any(|(key, _)| is_merge(key)) { merge(entries)? } else { entries };
        Ok(Node { at: self.at, kind: Kind::Map(entries) })
    }
}

/// The key whose maps are merged into the one it stands in. May stand there more than once.
pub(crate) const MERGE: &str = "<<";

/// The first key that comes again, and where it does.
pub(crate) fn find_duplicate<'e, 'a>(entries: &'e [Entry<'a>]) -> Option<(&'e Key<'a>, &'e Key<'a>)> {
    let key = |at: usize| &entries[at].0;
    let earlier = |at: usize| (0..at).map(key).find(|first| first.text == key(at).text);
    let mut own = (0..entries.len()).filter(|at| key(*at).text != MERGE);
    if entries.len() <= COMPARED_MAX {
        return own.find_map(|at| Some((earlier(at)?, key(at))));
    }
    let mut seen: HashSet<&str> = HashSet::with_capacity(entries.len());
    let second = own.find(|at| !seen.insert(&key(*at).text))?;
    Some((earlier(second)?, key(second)))
}

/// The map with what its `<<` bring; its own keys win.
fn merge(entries: Vec<Entry<'_>>) -> Result<Vec<Entry<'_>>, Fault> {
    let (merged, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.text == MERGE);
    let mut known: HashSet<String> = own.iter().map(|(key, _)| key.text.to_string()).collect();
    for (key, value) in merged {
        let sources = match value.kind {
            Kind::List(items) => items,
            _ => vec![value],
        };
        for source in sources {
            let Kind::Map(entries) = source.kind else {
                return Err(Fault::at(key.at, "`<<` merges maps, and this is none"));
            };
            own.extend(entries.into_iter().filter(|(key, _)| known.insert(key.text.to_string())));
        }
    }
    Ok(own)
}

fn check_depth(open: &[Open<'_>], at: Position) -> Result<(), Fault> {
    if open.len() > DEPTH_MAX {
        return Err(Fault::at(at, format!("nested deeper than {DEPTH_MAX} levels")));
    }
    Ok(())
}

fn position(span: &Span) -> Position {
    (span.start.line(), span.start.col() + 1)
}

fn scalar(at: Position, text: Cow<'_, str>, style: ScalarStyle) -> Node<'_> {
    let kind = match style {
        ScalarStyle::Plain if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => Kind::Null,
        ScalarStyle::Plain => Kind::Plain(text),
        _ => Kind::Quoted(text),
    };
    Node { at, kind }
}

impl<'a> Node<'a> {
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
            Kind::Plain(text) => match text.as_ref() {
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
    pub(crate) fn map(&self) -> Result<&[Entry<'a>], Fault> {
        match &self.kind {
            Kind::Map(entries) => Ok(entries),
            Kind::Null => Ok(&[]),
            _ => Err(self.expected("a map")),
        }
    }

    /// The items of a list; `Null` is an empty one.
    pub(crate) fn list(&self) -> Result<&[Node<'a>], Fault> {
        match &self.kind {
            Kind::List(items) => Ok(items),
            Kind::Null => Ok(&[]),
            _ => Err(self.expected("a list")),
        }
    }

    /// The texts of a list, or the one text that stands in its place.
    pub(crate) fn texts(&self) -> Result<Vec<&str>, Fault> {
        self.texts_with_positions()?.map(|text| text.map(|(text, _)| text)).collect()
    }

    /// The same, each with its position.
    pub(crate) fn texts_with_positions(
        &self,
    ) -> Result<impl ExactSizeIterator<Item = Result<(&str, Position), Fault>>, Fault> {
        let items = match &self.kind {
            Kind::Plain(_) | Kind::Quoted(_) => std::slice::from_ref(self),
            _ => self.list()?,
        };
        Ok(items.iter().map(|item| item.text().map(|text| (text, item.at))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Kind, Node, read, read_items};

    fn fault(source: &str) -> String {
        let fault = read(source, 1000).expect_err("a fault");
        format!("{}:{} {}", fault.line, fault.column, fault.message)
    }

    fn get<'n, 'a>(node: &'n Node<'a>, path: &str) -> &'n Node<'a> {
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

    #[test]
    fn items_are_handed_over_one_by_one() {
        let taken = |source: &str| {
            let mut taken = Vec::new();
            let root = read_items(source, 1000, "items", &mut |before, item| {
                taken.push(format!("{} after {}", item.text()?, before.len()));
                Ok(())
            });
            let root = root.expect("good");
            let kept =
                root.map().expect("a map").iter().map(|(key, value)| format!("{} {}", key.text, value.describe()));
            (taken.join(", "), kept.collect::<Vec<_>>().join(", "))
        };
        let expected = |taken: &str, kept: &str| (taken.to_owned(), kept.to_owned());
        assert_eq!(
            taken("a: 1\nitems: [x, y]\n\"b\": 2\n"),
            expected("x after 1, y after 1", "a \"1\", items a list, b \"2\"")
        );
        assert_eq!(taken("a: {items: [x]}\nitems: &kept [x]\n").0, "", "of the root only, and not what has a name");
        assert_eq!(taken("items: x\n"), expected("", "items \"x\""));
        let mut count = 0;
        let fault = read_items("items: [x, y, z", 1000, "items", &mut |_, _| {
            count += 1;
            Ok(())
        });
        assert!(fault.is_err() && count == 3);
        let twice = read_items("items: [x]\nitems: [y]\n", 1000, "items", &mut |_, _| Ok(()));
        assert_eq!(twice.expect_err("twice").message, "`items` is set twice, first in line 1");
        assert!(read_items("items: [x, y]", 3, "items", &mut |_, _| Ok(())).is_err(), "they count too");
    }

    #[test]
    fn a_map_of_many_keys_has_no_duplicates_either() {
        let many: String = (0..100).map(|n| format!("k{n}: 1\n")).collect();
        assert!(read(&many, 1000).is_ok());
        assert_eq!(fault(&(many + "k7: 2\n")), "101:1 `k7` is set twice, first in line 8");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-\\[\\]{}&*!|>'\"%@`#:,? \\na-c0-9<]{0,80}") {
            let _ = read(&text, 200);
        }
    }
}
