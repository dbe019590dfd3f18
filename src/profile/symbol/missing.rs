//! What brings the names that a file does not have: the package of its debugging data where a package has installed it,
//! by dpkg's own lists; else an option of whoever builds it.

use std::fs;
use std::path::Path;

use crate::sys::beneath;

/// Lists that are read.
const LISTS_MAX: usize = 20_000;
/// Longest list that is read.
const LIST_MAX: u64 = 16 << 20;

/// Advice for each of these files.
pub(crate) fn hints(paths: &[&Path]) -> Vec<Option<String>> {
    let packages = owners(Path::new("/var/lib/dpkg/info"), paths);
    paths.iter().zip(packages).map(|(path, package)| hint(path, package.as_deref())).collect()
}

fn hint(path: &Path, package: Option<&str>) -> Option<String> {
    if !path.is_absolute() {
        return None;
    }
    Some(match package {
        // The one of the C library has kept its old name, and is in the archive itself.
        Some("libc6") => "package `libc6-dbg`".to_owned(),
        Some(package) => format!("package `{package}-dbgsym` (from the archive of debugging packages)"),
        None => "a build that is not stripped (no `-s`, no `strip`)".to_owned(),
    })
}

/// The packages that have installed these files.
fn owners(folder: &Path, paths: &[&Path]) -> Vec<Option<String>> {
    let mut owners = vec![None; paths.len()];
    if paths.is_empty() {
        return owners;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().take(LISTS_MAX) {
        let name = entry.file_name();
        let Some(package) = name.to_str().and_then(|name| name.strip_suffix(".list")) else { continue };
        let Ok(list) = beneath::read_text(&entry.path(), LIST_MAX) else { continue };
        for (path, owner) in paths.iter().zip(&mut owners).filter(|(_, owner)| owner.is_none()) {
            let Some(path) = path.to_str() else { continue };
            // Where /lib is a link to /usr/lib, lists may still have the old path.
            if has_line(&list, path) || path.strip_prefix("/usr").is_some_and(|old| has_line(&list, old)) {
                // `libc6:amd64`
                *owner = Some(package.split(':').next().unwrap_or(package).to_owned());
            }
        }
    }
    owners
}

fn has_line(text: &str, line: &str) -> bool {
    text.match_indices(line).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + line.len()..]);
        (before.is_empty() || before.ends_with('\n')) && (after.is_empty() || after.starts_with('\n'))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{hint, owners};

    #[test]
    fn the_package_of_a_file_is_found() {
        let folder = std::env::temp_dir().join(format!("apm-dpkg-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("cpp-12.list"), "/.\n/usr/lib/gcc\n/usr/lib/gcc/cc1\n").expect("written");
        std::fs::write(folder.join("libc6:amd64.list"), "/.\n/lib/libc.so.6\n").expect("written");
        let paths = ["/usr/lib/gcc/cc1", "/usr/lib/libc.so.6", "/usr/lib/gcc/cc", "/opt/x"].map(Path::new);
        let found = owners(&folder, &paths);
        assert_eq!(found, [Some("cpp-12".to_owned()), Some("libc6".to_owned()), None, None]);
        std::fs::remove_dir_all(&folder).expect("gone");
        assert_eq!(hint(Path::new("[vdso]"), None), None);
    }
}
