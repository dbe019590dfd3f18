//! Our own format: the model as it is, `apm.profile/1`; `profile.schema.json` says what is in it. A reader checks that
//! what points into something points into it.

use std::io::{self, Write};

use serde::Deserialize;

use crate::model::profile::{Kind, Profile, SCHEMA};
use crate::text::escape;

/// Why a document is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    // The reason is in the message; as a source it would be printed twice.
    #[error("not a profile: {0}")]
    Shape(String),
    #[error("a profile of the form `{found}`; this apm reads `{SCHEMA}`")]
    Schema {
        /// What it calls itself.
        found: String,
    },
    #[error("a broken profile: {0}")]
    Flaw(String),
}

/// The document, on one line.
pub(crate) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    escape::write_json(profile, out)
}

/// A profile of a document.
pub(crate) fn read(bytes: &[u8]) -> Result<Profile, JsonError> {
    let profile: Profile = serde_json::from_slice(bytes).map_err(|error| JsonError::Shape(error.to_string()))?;
    if profile.schema != SCHEMA {
        return Err(JsonError::Schema { found: profile.schema.chars().take(80).collect() });
    }
    match profile.flaw() {
        Some(flaw) => Err(JsonError::Flaw(flaw)),
        None => Ok(profile),
    }
}

/// The names of the kinds in a document; none if it is no profile.
pub(crate) fn kinds(bytes: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Kinds {
        schema: String,
        kinds: Vec<Kind>,
    }
    let document = serde_json::from_slice::<Kinds>(bytes).ok().filter(|document| document.schema == SCHEMA);
    document.map_or_else(Vec::new, |document| document.kinds.into_iter().map(|kind| kind.name).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{read, write};
    use crate::model::profile::Profile;
    use crate::report::profile::sample;

    fn written(profile: &Profile) -> Vec<u8> {
        let mut out = Vec::new();
        write(profile, &mut out).expect("memory takes everything");
        out
    }

    #[test]
    fn a_broken_document_is_refused_with_the_reason() {
        let refused = |text: &str| read(text.as_bytes()).expect_err("no profile").to_string();
        assert!(refused("{}").starts_with("not a profile: missing field `schema`"));
        let text = String::from_utf8(written(&sample::of(&[("a", 1)]))).expect("text");
        assert!(refused(&text.replace("apm.profile/1", "apm.profile/9")).contains("`apm.profile/9`"));
        assert_eq!(refused(&text.replace("\"node\":0", "\"node\":7")), "a broken profile: row 0 does not fit");
    }

    #[test]
    fn the_schema_names_every_field() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("profile.schema.json")).expect("JSON");
        let value = serde_json::to_value(sample::rich()).expect("a profile serialises");
        let fields = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
        };
        let known = fields(&schema["properties"]);
        assert!(fields(&value).iter().all(|field| known.contains(field)));
        for (list, of) in [("frames", "frame"), ("nodes", "node"), ("rows", "row"), ("threads", "thread")] {
            let known = fields(&schema["$defs"][of]["properties"]);
            for one in value[list].as_array().into_iter().flatten() {
                assert!(fields(one).iter().all(|field| known.contains(field)), "{one}");
            }
        }
        let known = fields(&schema["$defs"]["quality"]["properties"]);
        assert!(fields(&value["quality"]).iter().all(|field| known.contains(field)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn every_profile_survives(profile in sample::any_profile()) {
            prop_assert_eq!(read(&written(&profile)).expect("our own document"), profile);
        }
    }

    #[test]
    fn a_rich_profile_survives() {
        assert_eq!(read(&written(&sample::rich())).expect("our own document"), sample::rich());
        assert_eq!(super::kinds(&written(&sample::rich())), ["cpu", "alloc_space"]);
        assert_eq!(super::kinds(b"{}"), [""; 0]);
    }
}
