//! Bytes that are usually text: arguments, paths, values of the environment. Linux does not promise UTF-8,
//! JSON demands it, and nothing may be lost on the way to the journal and back.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An `OsString` that survives JSON unchanged, and takes no room to grow.
///
/// Text is stored as it is. A byte that is not UTF-8 becomes the private-use character U+F700 + byte,
/// and so do the bytes of a real character of that small range, so that reading back is exact.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteString(Box<OsStr>);

const ESCAPE_BASE: u32 = 0xF700;
const ESCAPES: std::ops::RangeInclusive<char> = '\u{F780}'..='\u{F7FF}';

impl ByteString {
    /// As the kernel takes it.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// As a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// For people: what is not UTF-8 becomes U+FFFD.
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        self.0.to_string_lossy()
    }

    /// Text from which the same bytes can be read back: what JSON has of it.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        let escape = |byte: u8| char::from_u32(ESCAPE_BASE + u32::from(byte)).unwrap_or('\u{FFFD}');
        for chunk in self.0.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if ESCAPES.contains(&c) {
                    out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(escape));
                } else {
                    out.push(c);
                }
            }
            out.extend(chunk.invalid().iter().copied().map(escape));
        }
        out
    }

    /// What was encoded.
    pub fn decode(text: &str) -> Self {
        if !text.contains(|c| ESCAPES.contains(&c)) {
            return text.into();
        }
        let mut bytes = Vec::with_capacity(text.len());
        for c in text.chars() {
            match u8::try_from((c as u32).wrapping_sub(ESCAPE_BASE)) {
                Ok(byte) if byte >= 0x80 => bytes.push(byte),
                _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes.into()
    }
}

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) if !text.contains(|c| ESCAPES.contains(&c)) => serializer.serialize_str(text),
            _ => serializer.serialize_str(&self.encode()),
        }
    }
}

impl<'de> Deserialize<'de> for ByteString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = ByteString;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, text: &str) -> Result<ByteString, E> {
                Ok(ByteString::decode(text))
            }
        }
        deserializer.deserialize_str(Visit)
    }
}

impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for ByteString {
    fn from(text: &str) -> Self {
        Self(OsStr::new(text).into())
    }
}

impl From<String> for ByteString {
    fn from(text: String) -> Self {
        OsString::from(text).into()
    }
}

impl From<OsString> for ByteString {
    fn from(text: OsString) -> Self {
        Self(text.into_boxed_os_str())
    }
}

impl From<Vec<u8>> for ByteString {
    fn from(bytes: Vec<u8>) -> Self {
        OsString::from_vec(bytes).into()
    }
}

impl From<PathBuf> for ByteString {
    fn from(path: PathBuf) -> Self {
        path.into_os_string().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ByteString;

    proptest! {
        #[test]
        fn any_bytes_survive_json(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let before = ByteString::from(bytes);
            let json = serde_json::to_string(&before).expect("a string serialises");
            let after: ByteString = serde_json::from_str(&json).expect("it was just written");
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn text_stays_readable_and_the_escape_range_is_exact() {
        let json = |s: ByteString| serde_json::to_string(&s).expect("a string serialises");
        assert_eq!(json("héllo".into()), "\"héllo\"");
        assert_eq!(json(vec![b'a', 0xff].into()), "\"a\u{F7FF}\"");
        assert_eq!(json("\u{F7FF}".into()), "\"\u{F7EF}\u{F79F}\u{F7BF}\"");
    }
}
