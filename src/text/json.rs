//! JSON as the tree of `text::yaml`, read by a parser that takes a fifth of the time and knows no positions. What it cannot
//! read as YAML would be read is `None`: whoever asks reads the text as YAML then, which also says what is wrong and where.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::text::yaml::{self, DEPTH_MAX, Key, Kind, MERGE, Node, Position};

/// Reads one value. Each node of it has the position `at`.
pub(crate) fn read(source: &str, at: Position) -> Option<Node<'_>> {
    let mut deserializer = serde_json::Deserializer::from_str(source);
    let node = Value { at, depth: 0 }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(node)
}

#[derive(Clone, Copy)]
struct Value {
    at: Position,
    depth: usize,
}

impl Value {
    fn node<'a>(self, kind: Kind<'a>) -> Node<'a> {
        Node { at: self.at, kind }
    }

    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom("nested too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Node<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(self.node(Kind::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(self.node(Kind::Plain(if value { "true" } else { "false" }.into())))
    }

    // A whole number is written in one way only, so its text can be made again. Others are written in many: no
    // `visit_f64`.
    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(self.node(Kind::Plain(value.to_string().into())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(self.node(Kind::Plain(value.to_string().into())))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'de>, E> {
        Ok(self.node(Kind::Quoted(text.to_owned().into())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'de>, E> {
        Ok(self.node(Kind::Quoted(text.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node<'de>, A::Error> {
        let inner = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(self.node(Kind::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
        let inner = self.inner()?;
        let mut entries = Vec::new();
        while let Some(text) = map.next_key_seed(Text)? {
            if text == MERGE {
                return Err(A::Error::custom("a merge key"));
            }
            entries.push((Key { at: self.at, text }, map.next_value_seed(inner)?));
        }
        if yaml::find_duplicate(&entries).is_some() {
            return Err(A::Error::custom("a duplicate key"));
        }
        Ok(self.node(Kind::Map(entries)))
    }
}

/// A key, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(text.to_owned().into())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MERGE, read};
    use crate::text::yaml::{self, Key, Kind, Node};

    /// Without positions, which JSON does not have here.
    fn flat(node: Node<'_>) -> Node<'_> {
        let kind = match node.kind {
            Kind::List(items) => Kind::List(items.into_iter().map(flat).collect()),
            Kind::Map(entries) => Kind::Map(
                entries.into_iter().map(|(key, value)| (Key { at: (0, 0), text: key.text }, flat(value))).collect(),
            ),
            kind => kind,
        };
        Node { at: (0, 0), kind }
    }

    fn same(text: &str) {
        let node = read(text, (0, 0)).unwrap_or_else(|| panic!("{text} is read"));
        assert_eq!(node, flat(yaml::read(text, 1000).expect("YAML")), "{text}");
    }

    #[test]
    fn it_reads_what_yaml_would_read() {
        for text in [
            r#"{"id": "t1", "run": ["echo", 1, -5, true, null], "env": {"A": "", "B": "x\ty\n\"\\\/ä\u00e4"}}"#,
            "  [ ] ",
            "\"~\"",
            "null",
            "12345678901234567890",
            "{\"a\\u0041\": {}}\n",
        ] {
            same(text);
        }
        for text in [
            "1.50",
            "1e3",
            "-0",
            r#"{"a": 1, "a": 2}"#,
            r#"{"<<": {}}"#,
            "{a: 1}",
            "[1",
            "1 2",
            "",
            "[1,]",
            "\"\\ud800\"",
        ] {
            assert_eq!(read(text, (0, 0)), None, "{text} is left to YAML");
        }
        assert_eq!(read(&("[".repeat(65) + &"]".repeat(65)), (0, 0)), None);
    }

    proptest! {
        #[test]
        fn any_json_of_texts_is_the_same_in_yaml(texts in proptest::collection::btree_map("[ -~äß€]{1,9}", "[ -~äß€\\n\\t]{0,9}", 0..4)) {
            let json = serde_json::to_string(&texts).expect("a map serialises");
            if !texts.contains_key(MERGE) {
                same(&json);
            }
        }
    }
}
