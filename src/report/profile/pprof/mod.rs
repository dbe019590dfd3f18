//! The format of pprof: gzip'd protocol buffers, as `go tool pprof` and its many relatives read it.
//! Fields: <https://github.com/google/pprof/blob/main/proto/profile.proto>.
//!
//! Frames that were inlined share a location with the function they were put into, as lines of it. Functions have no
//! "system name": google/pprof takes such names for demangled already and leaves them whole; otherwise it cuts everything
//! between `<` and `>` out, which leaves `::fmt` of Rust's `<T as U>::fmt`.
//!
//! The reader takes what fits the model: thread and process labels, comments as notes. What it drops it says in a note.

use std::io::{self, Write};

mod packed;
mod protobuf;
mod read;
mod write;

pub(crate) use packed::{PprofError, gunzip};
pub(crate) use read::{may_be, read};

use crate::model::profile::Profile;
use crate::report::profile::pprof::packed::gzip;

/// Writes a `.pb.gz` file.
pub(crate) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    gzip(out, |out| write::message(profile, out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{gunzip, read};
    use crate::model::profile::{Origin, Profile};
    use crate::report::profile::sample;

    fn write(profile: &Profile) -> Vec<u8> {
        let mut out = Vec::new();
        super::write(profile, &mut out).expect("memory takes everything");
        out
    }

    /// Stacks of a kind with what they took: what must survive.
    fn stacks(profile: &Profile, kind: usize) -> Vec<(Vec<String>, u64)> {
        let mut all = std::collections::BTreeMap::<Vec<String>, u64>::new();
        for row in profile.rows.iter().filter(|row| row.values[kind] > 0) {
            let name = |name: &str| if name.is_empty() { "?".to_owned() } else { name.to_owned() };
            *all.entry(profile.stack(row.node).map(|frame| name(frame.name)).collect()).or_default() +=
                row.values[kind];
        }
        all.into_iter().collect()
    }

    #[test]
    fn everything_that_the_format_has_survives() {
        let profile = sample::rich();
        let back = read(&write(&profile)).expect("our own file");
        assert_eq!(back.flaw(), None);
        assert_eq!(
            (back.kinds.clone(), back.duration_ns, back.at.clone()),
            (profile.kinds.clone(), 2_500_000_000, profile.at.clone())
        );
        assert_eq!(back.modules, profile.modules);
        assert!(back.threads.len() == 2 && profile.threads.iter().all(|thread| back.threads.contains(thread)));
        for kind in 0..2 {
            assert_eq!(stacks(&back, kind), stacks(&profile, kind));
        }
        let inlined = back.frames.iter().find(|frame| frame.is_inlined).expect("an inlined frame");
        assert_eq!((inlined.name, inlined.line), ("memchr<&str, 'a'>", Some(30)));
        assert_eq!(back.frames.iter().find(|frame| frame.name == "vfs_read").map(|f| f.origin), Some(Origin::Kernel));
        assert!(back.quality.notes.iter().any(|note| note.contains("999 samples a second asked")));
    }

    /// Regression: "File: ld-linux-x86-64.so.2", because the loader's samples came first.
    #[test]
    fn the_first_mapping_is_the_program() {
        let mut profile = sample::rich();
        profile.modules.reverse();
        profile.frames.renumber_modules(|module| Some(2 - module));
        let back = read(&write(&profile)).expect("our own file");
        assert_eq!(back.modules[0].path, "/opt/server");
        let main = back.frames.iter().find(|frame| frame.name == "main").and_then(|frame| frame.module);
        assert_eq!((main, back.modules.len()), (Some(0), 3));
    }

    /// Regression: values are signed there, so what was larger was read as less than 0, and as 0 by apm itself.
    #[test]
    fn a_value_that_the_format_does_not_have_is_the_largest_it_has() {
        let profile = read(&write(&sample::of(&[("a", u64::MAX), ("b", 7)]))).expect("our own file");
        let values: Vec<u64> = profile.rows.iter().map(|row| row.values[0]).collect();
        assert_eq!(values, [i64::MAX as u64, 7]);
    }

    /// Regression: a file of 1 MiB whose comments all were its longest text took a terabyte of memory.
    #[test]
    fn a_long_text_is_not_copied_for_ever() {
        let mut message = super::protobuf::Message::default();
        message.bytes(1, &[]);
        message.bytes(6, b"");
        message.bytes(6, "x".repeat(10_000).as_bytes());
        message.packed(13, std::iter::repeat_n(1, 10_000));
        let refused = read(&message.0).expect_err("too much").to_string();
        assert_eq!(refused, "not a pprof file: it repeats long texts too often");
    }

    /// Regression: values below 0 were read as 0, and a heap that shrank by 5 MiB was one of 3 MiB.
    #[test]
    fn a_difference_of_two_profiles_keeps_what_shrank() {
        let mut message = super::protobuf::Message::default();
        let mut of_type = super::protobuf::Message::default();
        of_type.number(1, 1);
        of_type.number(2, 2);
        message.bytes(1, &of_type.0);
        for value in [3_i64, -8] {
            let mut sample = super::protobuf::Message::default();
            sample.packed(2, std::iter::once(value as u64));
            message.bytes(2, &sample.0);
        }
        for text in ["", "inuse_space", "megabytes"] {
            message.bytes(6, text.as_bytes());
        }
        let profile = read(&message.0).expect("a difference");
        let kinds: Vec<&str> = profile.kinds.iter().map(|kind| kind.name.as_str()).collect();
        assert_eq!(kinds, ["inuse_space.more", "inuse_space.less"]);
        // Both are of the same stack.
        assert_eq!((profile.total(0), profile.total(1)), (0, 5 << 20));
    }

    #[test]
    fn a_file_that_lacks_something_is_refused_with_the_reason() {
        let refused = |bytes: &[u8]| read(bytes).expect_err("not a profile").to_string();
        assert_eq!(refused(b""), "not a pprof file: it has no table of texts");
        assert_eq!(refused(&[0x32, 0]), "not a pprof file: it says not what its values are");
        assert_eq!(refused(&[0x0a, 9]), "not a pprof file: it ends in the midst of a field");
        assert_eq!(refused(&[0x0a, 2, 0x08, 7, 0x32, 0]), "not a pprof file: text 7 is not there");
        let sample = [0x0a, 0, 0x12, 6, 0x0a, 1, 5, 0x12, 1, 1, 0x32, 0];
        assert_eq!(refused(&sample), "not a pprof file: location 5 is not there");
        let packed = write(&sample::rich());
        assert!(refused(&packed[..packed.len() / 2]).starts_with("gzip: "));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn values_survive(profile in sample::any_profile()) {
            let back = read(&write(&profile)).expect("our own file");
            prop_assert_eq!(back.flaw(), None);
            for kind in 0..2 {
                prop_assert_eq!(back.total(kind), profile.total(kind));
            }
        }

        #[test]
        fn damaged_files_are_read_or_refused(at in any::<usize>(), byte: u8) {
            let mut bytes = gunzip(&write(&sample::rich())).expect("our own file");
            let len = bytes.len();
            bytes[at % len] = byte;
            if let Ok(profile) = read(&bytes) {
                prop_assert_eq!(profile.flaw(), None);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
