//! The files that keep what attempts print, in the folder of their run. Small outputs share one file, so that
//! thousands of short tasks do not make thousands of files; large ones get a file of their own.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::event::Stored;
use crate::sys::beneath::{self, Folder};

/// The shared file of small outputs.
const SHARED: &str = "outputs.bin";

/// The output files of one run. Used by many attempts at once.
#[derive(Debug)]
pub(crate) struct Store {
    folder: Folder,
    shared: File,
    end: AtomicU64,
}

impl Store {
    /// Opens or creates the files in an existing folder; goes on behind what an earlier part of the run wrote.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let folder = Folder::own(folder)?;
        let shared = folder.own_file_or_new(Path::new(SHARED), 0o600)?;
        let end = AtomicU64::new(shared.metadata()?.len());
        Ok(Self { folder, shared, end })
    }

    /// Keeps a small output.
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<Stored> {
        let offset = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.shared.write_all_at(bytes, offset)?;
        Ok(Stored {
            file: SHARED.to_owned(),
            offset,
            len: bytes.len() as u64,
            digest: blake3::hash(bytes).to_hex().to_string(),
        })
    }

    /// Creates the file of a large output.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        let file = self.folder.own_file_or_new(Path::new(name), 0o600)?;
        file.set_len(0)?;
        Ok(file)
    }

    /// A new empty folder for the files a tool writes its results to.
    #[expect(clippy::disallowed_methods, reason = "own: the folder of the run")]
    pub(crate) fn scratch(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.folder.path().join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }
}

/// Reads at most `max` bytes of what an event refers to. A name that leaves the folder is refused: journals are input.
pub(crate) fn read(folder: &Path, stored: &Stored, max: usize) -> io::Result<Vec<u8>> {
    if stored.file.contains('/') || stored.file.starts_with('.') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is not a file of a run", stored.file)));
    }
    let file = beneath::own_file(&folder.join(&stored.file))?;
    let available = file.metadata()?.len().saturating_sub(stored.offset);
    let len = stored.len.min(available).min(max as u64) as usize;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, stored.offset)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Store, read};
    use crate::model::event::Stored;

    #[test]
    fn outputs_come_back_also_after_the_store_was_opened_again() {
        let folder = std::env::temp_dir().join(format!("apm-store-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let one = Store::open(&folder).and_then(|store| store.append(b"one")).expect("written");
        let two = Store::open(&folder).and_then(|store| store.append(b"second")).expect("written");
        assert_eq!(read(&folder, &one, 99).expect("read"), b"one");
        assert_eq!(read(&folder, &two, 3).expect("read"), b"sec");
        let escape = Stored { file: "../passwd".to_owned(), ..one.clone() };
        assert!(read(&folder, &escape, 9).is_err());
        let wild = Stored { offset: u64::MAX, ..one };
        assert_eq!(read(&folder, &wild, 9).expect("an empty answer"), b"");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
