//! Takes one stream of one attempt, of any length, in bounded memory and bounded disk space. What fits is kept whole;
//! of what does not, the beginning and the end.

use std::fs::File;
use std::io::{self, Write};

use crate::executor::store::Store;
use crate::model::event::{Output, Stored};

/// Bounds of one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Kept in memory before a file is opened.
    pub(crate) memory: usize,
    /// Kept on disk.
    pub(crate) disk: u64,
    /// The end that is kept of a longer stream.
    pub(crate) tail: usize,
}

/// One stream being captured.
#[derive(Debug)]
pub(crate) struct Capture {
    bounds: Bounds,
    bytes: u64,
    head: Vec<u8>,
    spill: Option<Spill>,
    /// The last bytes past the disk bound, at most twice the tail.
    tail: Vec<u8>,
    /// What could not be written, for a note.
    error: Option<io::Error>,
}

#[derive(Debug)]
struct Spill {
    name: String,
    file: File,
    written: u64,
    hasher: blake3::Hasher,
}

impl Spill {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl Capture {
    /// An empty stream.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, bytes: 0, head: Vec::new(), spill: None, tail: Vec::new(), error: None }
    }

    /// Takes the next bytes. `name` names the file should one be needed.
    pub(crate) fn push(&mut self, bytes: &[u8], store: &Store, name: impl FnOnce() -> String) {
        self.bytes += bytes.len() as u64;
        if self.error.is_some() {
            return self.keep_tail(bytes);
        }
        if self.spill.is_none() {
            if self.head.len() + bytes.len() <= self.bounds.memory {
                return self.head.extend_from_slice(bytes);
            }
            if let Err(error) = self.open_spill(store, name()) {
                self.error = Some(error);
                return self.keep_tail(bytes);
            }
        }
        let Some(spill) = &mut self.spill else { return };
        let room = usize::try_from(self.bounds.disk.saturating_sub(spill.written)).unwrap_or(usize::MAX);
        let (kept, rest) = bytes.split_at(bytes.len().min(room));
        if let Err(error) = spill.write(kept) {
            self.error = Some(error);
        }
        if !rest.is_empty() {
            self.keep_tail(rest);
        }
    }

    /// Ends the stream and says where it is; with a sentence about what was lost, if anything was.
    pub(crate) fn finish(mut self, store: &Store) -> (Output, Option<String>) {
        if self.bytes == 0 {
            return (Output::default(), None);
        }
        if self.spill.is_none() && self.error.is_none() {
            return match store.append(&self.head) {
                Ok(stored) => (Output { bytes: self.bytes, stored: Some(stored), truncated: false }, None),
                Err(error) => self.lost(&error),
            };
        }
        if let Some(error) = self.error.take() {
            return self.lost(&error);
        }
        let Some(mut spill) = self.spill.take() else {
            return (Output::default(), None);
        };
        let truncated = self.bytes > spill.written;
        if truncated {
            let tail = &self.tail[self.tail.len().saturating_sub(self.bounds.tail)..];
            let omitted = self.bytes - spill.written - tail.len() as u64;
            let mark = format!("\n[{omitted} bytes not kept]\n");
            if let Err(error) = spill.write(mark.as_bytes()).and_then(|()| spill.write(tail)) {
                return self.lost(&error);
            }
        }
        let digest = spill.hasher.finalize().to_hex().to_string();
        let stored = Stored { file: spill.name, offset: 0, len: spill.written, digest };
        (Output { bytes: self.bytes, stored: Some(stored), truncated }, None)
    }

    fn open_spill(&mut self, store: &Store, name: String) -> io::Result<()> {
        let file = store.create(&name)?;
        let mut spill = Spill { name, file, written: 0, hasher: blake3::Hasher::new() };
        spill.write(&self.head)?;
        self.head = Vec::new();
        self.spill = Some(spill);
        Ok(())
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(self.bounds.tail)..];
        self.tail.extend_from_slice(last);
        if self.tail.len() > 2 * self.bounds.tail {
            let cut = self.tail.len() - self.bounds.tail;
            self.tail.drain(..cut);
        }
    }

    fn lost(&self, error: &io::Error) -> (Output, Option<String>) {
        let output = Output { bytes: self.bytes, stored: None, truncated: true };
        (output, Some(format!("{} bytes of output could not be kept: {error}", self.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Bounds, Capture};
    use crate::executor::store::{Store, read};
    use crate::model::event::Output;

    fn capture(name: &str, chunks: &[&[u8]]) -> (Output, Vec<u8>) {
        let folder: PathBuf = std::env::temp_dir().join(format!("apm-capture-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let store = Store::open(&folder).expect("a store");
        let mut capture = Capture::new(Bounds { memory: 8, disk: 16, tail: 4 });
        for chunk in chunks {
            capture.push(chunk, &store, || "t.1.out".to_owned());
        }
        let (output, lost) = capture.finish(&store);
        assert_eq!(lost, None);
        let kept = output.stored.as_ref().map(|stored| read(&folder, stored, 999).expect("kept")).unwrap_or_default();
        std::fs::remove_dir_all(&folder).expect("removed");
        (output, kept)
    }

    #[test]
    fn small_and_middling_outputs_are_kept_whole() {
        assert_eq!(capture("none", &[]).0, Output::default());
        assert_eq!(capture("small", &[b"abc", b"de"]).1, b"abcde");
        let (output, kept) = capture("middling", &[b"abcdef", b"ghijkl"]);
        assert_eq!((output.bytes, output.truncated, kept.as_slice()), (12, false, b"abcdefghijkl".as_slice()));
    }

    #[test]
    fn of_a_long_output_the_beginning_and_the_end_are_kept() {
        let (output, kept) = capture("long", &[b"0123456789", b"abcdefghij", b"klmnopqrstuvwxyz"]);
        assert_eq!((output.bytes, output.truncated), (36, true));
        assert_eq!(kept, b"0123456789abcdef\n[16 bytes not kept]\nwxyz");
    }
}
