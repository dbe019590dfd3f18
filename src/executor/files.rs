//! The files a task names: a digest of its inputs, and whether its outputs are there. Patterns are globs relative to
//! the task's folder; `**` crosses folders.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::sys::beneath;

/// Most files one pattern may match; more is a mistake such as `/**`.
const FILES_MAX: usize = 200_000;

/// A digest over names and contents of all files the patterns match; changes when a file appears, goes or changes.
pub(crate) fn digest(patterns: &[String], base: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    for pattern in patterns {
        matching(pattern, base, &mut |path| {
            files.push(path);
            files.len() < FILES_MAX
        })
        .map_err(|error| format!("inputs `{pattern}`: {error}"))?;
        if files.len() >= FILES_MAX {
            return Err(format!("inputs `{pattern}`: more than {FILES_MAX} files match"));
        }
    }
    files.sort_unstable();
    files.dedup();
    let digests: Result<Vec<blake3::Hash>, String> = files
        .par_iter()
        .map(|path| {
            let mut hasher = blake3::Hasher::new();
            let file = beneath::regular(path).and_then(|file| hasher.update_reader(file).map(drop));
            file.map_err(|error| format!("inputs: read `{}`: {error}", path.display()))?;
            Ok(hasher.finalize())
        })
        .collect();
    let mut all = blake3::Hasher::new();
    for (path, digest) in files.iter().zip(digests?) {
        let name = path.strip_prefix(base).unwrap_or(path).as_os_str().as_bytes();
        all.update(&(name.len() as u64).to_le_bytes());
        all.update(name);
        all.update(digest.as_bytes());
    }
    Ok(all.finalize().to_hex()[..32].to_owned())
}

/// The first pattern that matches nothing.
pub(crate) fn missing<'a>(patterns: &'a [String], base: &Path) -> Option<&'a str> {
    let exists = |pattern: &str| {
        let mut found = false;
        let walked = matching(pattern, base, &mut |_| {
            found = true;
            false
        });
        walked.is_ok() && found
    };
    patterns.iter().map(String::as_str).find(|pattern| !exists(pattern))
}

/// Calls `take` for each file until it says no. A pattern without glob characters is a path; a folder among the inputs
/// stands for everything in it.
fn matching(pattern: &str, base: &Path, take: &mut dyn FnMut(PathBuf) -> bool) -> io::Result<()> {
    let magic = pattern.find(['*', '?', '[', '{']);
    let Some(magic) = magic else {
        let path = base.join(pattern);
        return match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => walk(&path, None, take),
            Ok(_) => {
                take(path);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
    };
    // Walk from the last folder before the first glob character, not from the root of the project.
    let fixed = pattern[..magic].rfind('/').map_or("", |slash| &pattern[..=slash]);
    let whole = base.join(pattern);
    let glob = GlobBuilder::new(&whole.to_string_lossy())
        .literal_separator(true)
        .build()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?
        .compile_matcher();
    walk(&base.join(fixed), Some(&glob), take)
}

fn walk(from: &Path, glob: Option<&GlobMatcher>, take: &mut dyn FnMut(PathBuf) -> bool) -> io::Result<()> {
    for entry in ignore::WalkBuilder::new(from).standard_filters(false).build() {
        match entry {
            Ok(entry) if entry.file_type().is_some_and(|kind| !kind.is_dir()) => {
                if glob.is_none_or(|glob| glob.is_match(entry.path())) && !take(entry.into_path()) {
                    return Ok(());
                }
            }
            Ok(_) => {}
            Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {}
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{digest, missing};

    #[test]
    fn the_digest_follows_names_and_contents_of_matching_files() {
        let base = std::env::temp_dir().join(format!("apm-files-{}", std::process::id()));
        fs::create_dir_all(base.join("src/deep")).expect("folders");
        fs::write(base.join("src/a.c"), "a").expect("written");
        fs::write(base.join("src/deep/b.c"), "b").expect("written");
        fs::write(base.join("src/deep/b.h"), "h").expect("written");
        let of = |patterns: &[&str]| digest(&patterns.iter().map(ToString::to_string).collect::<Vec<_>>(), &base);
        let before = of(&["src/**/*.c"]).expect("a digest");
        fs::write(base.join("src/deep/b.h"), "other").expect("written");
        assert_eq!(of(&["src/**/*.c"]), Ok(before.clone()), "a header does not match");
        assert_ne!(of(&["src"]), Ok(before.clone()), "a folder is everything in it");
        fs::write(base.join("src/deep/b.c"), "changed").expect("written");
        assert_ne!(of(&["src/**/*.c"]), Ok(before));
        assert_eq!(of(&["none/*.c"]), of(&["nor/this"]), "nothing is nothing");
        let outputs = ["src/*.c".to_owned(), "src/deep".to_owned(), "gone.o".to_owned()];
        assert_eq!(missing(&outputs, &base), Some("gone.o"));
        assert_eq!(missing(&outputs[..2], &base), None);
        assert!(of(&["src/[a.c"]).expect_err("refused").starts_with("inputs `src/[a.c`: "));
        fs::remove_dir_all(base).expect("removed");
    }
}
