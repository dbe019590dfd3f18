//! Text from outside: of a tool, a plan, a file, another process. It may command a terminal, hide or reorder what stands
//! beside it, or be markup.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Text from outside as it came. It has no `Display` and is no `str`, so it does not get into a message by accident: the
/// functions of `text::escape` and `text::transcript` make it fit for a place that shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Raw(Box<str>);

impl Raw {
    /// As it came, for whoever looks into it or writes a format that has escapes for all of it. Not for people.
    pub fn unescaped(&self) -> &str {
        &self.0
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Raw {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Raw {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Cow<'_, str>> for Raw {
    fn from(text: Cow<'_, str>) -> Self {
        Self(text.into())
    }
}

impl AsRef<str> for Raw {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for Raw {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Whether a character shows nothing of its own, so that it can hide in a text, or turns the direction of the text behind
/// it: Unicode's `Default_Ignorable_Code_Point`, the separators of lines, interlinear annotations. Joiners and variation
/// selectors are among them: an emoji of several parts falls into its parts.
pub fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::Raw;

    /// Would not compile if a message could take it: which of the two implementations is meant were not clear then.
    #[test]
    fn it_has_no_display_and_is_no_text() {
        trait Ambiguous<Which> {
            fn named() {}
        }
        struct Displayed;
        struct Derefs;
        impl<T> Ambiguous<()> for T {}
        impl<T: std::fmt::Display> Ambiguous<Displayed> for T {}
        impl<T: std::ops::Deref> Ambiguous<Derefs> for T {}
        <Raw as Ambiguous<_>>::named();
    }
}
