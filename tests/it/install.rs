//! `install.sh`: it installs everything or nothing, where it may, and takes it away again.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sandbox::{Ended, Ran, Sandbox, eventually, has_program, signal, skip};
use crate::shipped::{release, root};

/// What an installation puts below its prefix; of pages and licences some.
const FILES: [&str; 7] = [
    "bin/apm",
    "share/bash-completion/completions/apm",
    "share/zsh/site-functions/_apm",
    "share/fish/vendor_completions.d/apm.fish",
    "share/man/man1/apm.1",
    "share/doc/apm/LICENSE-MIT",
    "share/doc/apm/LICENSE-THIRD-PARTY",
];

/// An installer that is called in a sandbox, with a small program in the place of apm.
struct Installer(Sandbox);

impl Installer {
    fn new(name: &str) -> Self {
        let sandbox = Sandbox::new(name);
        sandbox.file("binary", "#!/bin/sh\necho apm 0\n");
        Self(sandbox)
    }

    fn path(&self, path: &str) -> String {
        self.0.work().join(path).to_str().expect("UTF-8").to_owned()
    }

    /// The shell script, run by `sh` after what `before` says.
    fn command(&self, before: &str, args: &[&str]) -> Command {
        let script = format!("{before}\nexec sh \"$0\" \"$@\"");
        let installer = root().join("install.sh");
        self.0.program("sh", ["-c", &script, installer.to_str().expect("UTF-8")].iter().chain(args))
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command("", args))
    }

    fn install(&self, prefix: &str) -> Ran {
        self.run(&["--prefix", prefix, "--binary", "binary"])
    }

    /// Every file, folder and link below a folder, and a hash of what files hold.
    fn tree(&self, folder: &str) -> BTreeMap<PathBuf, u64> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.0.work().join(folder)];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let meta = path.symlink_metadata().expect("its kind");
                let mut hash = DefaultHasher::new();
                if meta.is_file() {
                    std::fs::read(&path).expect("a file").hash(&mut hash);
                }
                found.insert(path.clone(), hash.finish());
                if meta.is_dir() {
                    open.push(path);
                }
            }
        }
        found
    }

    /// Whether some temporary file is left.
    fn has_leftovers(&self, folder: &str) -> bool {
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().starts_with(".apm.");
        self.tree(folder).keys().any(|path| name(path))
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

#[test]
fn install_uninstall_and_nothing_else() {
    let Some(path) = release() else { return };
    let installer = Installer::new("install");
    let prefix = installer.path("prefix");
    installer.run(&["--prefix", &prefix, "--binary", path.to_str().expect("UTF-8")]).good();
    for file in FILES {
        assert!(installer.0.has(&format!("prefix/{file}")), "{file}");
    }
    assert_eq!(
        Ran::of(installer.0.program(&format!("{prefix}/bin/apm"), ["--version"])).good(),
        format!("apm {}\n", env!("CARGO_PKG_VERSION"))
    );
    installer.0.file("prefix/bin/other", "").file("prefix/share/man/man1/other.1", "");
    installer.run(&["--prefix", &prefix, "--uninstall"]).good();
    let files: Vec<_> = installer.tree("prefix").into_keys().filter(|path| path.is_file()).collect();
    assert_eq!(files, ["bin/other", "share/man/man1/other.1"].map(|path| Path::new(&prefix).join(path)));
    assert!(!installer.0.has("prefix/share/doc/apm"));
}

#[test]
fn what_the_installer_does_not_take_is_refused() {
    let installer = Installer::new("install-refused");
    for (args, word) in [
        (&["--frefix", "x"][..], "--help"),
        (&["--prefix", "", "--binary", "binary"], "needs a value"),
        (&["--prefix"], "needs a value"),
        (&["--prefix", "new\nline", "--binary", "binary"], "line break"),
        (&["--binary", "binary", "--url", "https://localhost/apm"], "exclude"),
        (&["--url", "https://localhost/apm"], "--sha256"),
        (&["--url", "http://localhost/apm", "--sha256", "00"], "https://"),
        (&["--uninstall", "--binary", "binary"], "--prefix"),
        (&["--prefix", "prefix", "--binary", "missing"], "missing"),
        (&["--prefix", "prefix", "--binary", "binary", "--sha256", "00"], "checksum"),
    ] {
        let error = installer.run(args).fails(1);
        assert!(error.contains(word), "{args:?}: {error}");
    }
    assert!(!installer.0.has("prefix"), "a wrong checksum installs nothing");
    assert!(installer.run(&["--help"]).good().contains("--uninstall"));
    // A binary that does not run replaces nothing.
    installer.install("prefix").good();
    let before = installer.tree("prefix");
    installer.0.file("binary", "#!/bin/sh\nexit 1\n");
    let error = installer.install("prefix").fails(1);
    assert!(error.contains("does not run"), "{error}");
    assert_eq!(installer.tree("prefix"), before);
}

#[test]
fn a_checksum_may_be_in_capital_letters() {
    let installer = Installer::new("install-sum");
    let sum = Ran::of(installer.0.program("sha256sum", ["binary"])).good()[..64].to_uppercase();
    assert!(sum.contains(|byte: char| byte.is_ascii_uppercase()), "{sum}");
    installer.run(&["--prefix", "prefix", "--binary", "binary", "--sha256", &sum]).good();
}

#[test]
fn the_prefix_is_named_absolutely() {
    let installer = Installer::new("install-relative");
    let said = installer.install("some/../some folder//").good();
    let bin = installer.path("some folder/bin");
    assert_eq!(said, format!("apm 0 is installed in {bin}\nadd it to your PATH: export PATH=\"{bin}:$PATH\"\n"));
    let mut again = installer.command("PATH=$PWD/prefix/bin:$PATH", &["--prefix", "prefix/", "--binary", "binary"]);
    again.env("CDPATH", "/");
    assert_eq!(Ran::of(again).good(), format!("apm 0 is installed in {}\n", installer.path("prefix/bin")));
    installer.run(&["--prefix", "./prefix/.", "--uninstall"]).good();
    assert!(!installer.0.has("prefix/bin/apm"));
}

/// Regression: with umask 077 the folders that root made could be read by root only.
#[test]
fn what_root_installs_is_for_everyone_whatever_its_umask() {
    if !is_root() {
        return skip("only root installs for everyone");
    }
    for umask in ["077", "000"] {
        let installer = Installer::new("install-umask");
        let args = ["--prefix", "new/prefix", "--binary", "binary"];
        Ran::of(installer.command(&format!("umask {umask}"), &args)).good();
        let mut is_checked = false;
        for path in installer.tree("new").into_keys().chain([installer.0.work().join("new")]) {
            let mode = path.metadata().expect("its mode").mode() & 0o7777;
            let wanted = if path.is_dir() || path.ends_with("bin/apm") { 0o755 } else { 0o644 };
            assert_eq!(mode, wanted, "umask {umask}: {}", path.display());
            is_checked = true;
        }
        assert!(is_checked);
    }
}

/// Regression: a full disk left `bin/.apm.new`, and where it filled up later a new apm with half of its other files.
#[test]
fn a_full_disk_leaves_what_was_there() {
    if !is_root() || !has_program("unshare") {
        return skip("only root mounts a small disk");
    }
    let installer = Installer::new("install-full");
    installer.install("prefix").good();
    let before = installer.tree("prefix");
    let can_mount = "mount -t tmpfs none prefix";
    if Ran::of(installer.0.program("unshare", ["-m", "sh", "-c", can_mount])).code != Some(0) {
        return skip("no file system can be mounted here");
    }
    // From a disk on which not even the binary has room to one on which only the last page lacks it.
    let mut failed = 0;
    for kib in (16..1024).step_by(64) {
        let script = format!(
            "cp -a prefix copy && mount -t tmpfs -o size=512m,mode=755 none prefix && cp -a copy/. prefix && \
             mount -o remount,size=$(($(du -sk prefix | cut -f1) + {kib}))k prefix || exit 99
             sh {}/install.sh --prefix prefix --binary bigger; code=$?; rm -r copy; cp -a prefix copy; exit $code",
            root().display()
        );
        installer.0.file("bigger", format!("#!/bin/sh\necho apm 1\nexit\n{}", "#".repeat(100_000)));
        let ran = Ran::of(installer.0.program("unshare", ["-m", "sh", "-c", &script]));
        let binary = installer.0.read("copy/bin/apm");
        let after: BTreeMap<_, _> = installer
            .tree("copy")
            .into_iter()
            .map(|(path, hash)| {
                let inside = path.strip_prefix(installer.0.work().join("copy")).expect("inside");
                (installer.0.work().join("prefix").join(inside), hash)
            })
            .collect();
        std::fs::remove_dir_all(installer.0.work().join("copy")).expect("removed");
        assert!(!after.keys().any(|path| path.to_string_lossy().contains("/.apm.")), "{after:?}");
        if ran.code == Some(0) {
            assert!(binary.contains("apm 1"), "{binary}");
            break;
        }
        assert!(ran.code == Some(1) && ran.stderr.contains("nothing was installed"), "{:?} {}", ran.code, ran.stderr);
        assert_eq!(after, before, "{kib} KiB were free");
        failed += 1;
    }
    assert!(failed > 2, "the disk was full {failed} times");
}

#[test]
fn a_signal_leaves_what_was_there() {
    for name in ["HUP", "INT", "QUIT", "TERM"] {
        let installer = Installer::new("install-signal");
        installer.install("prefix").good();
        let before = installer.tree("prefix");
        // The installer runs the new binary when that lies beside its place; here it waits for a signal.
        installer.0.file("binary", "#!/bin/sh\ntouch started\nwhile [ ! -e sent ]; do sleep 0.01; done\necho apm 0\n");
        // A shell cannot trap what was ignored before it, as in a job in the background.
        let script = root().join("install.sh");
        let args =
            ["--default-signal", "sh", script.to_str().expect("UTF-8"), "--prefix", "prefix", "--binary", "binary"];
        let mut command = installer.0.program("env", args);
        command.env("TMPDIR", installer.path("tmp")).stdout(Stdio::null()).stderr(Stdio::null());
        installer.0.file("tmp/mine", "");
        let mut child = Ended(command.spawn().expect("started"));
        eventually("the new binary runs", || installer.0.has("started"));
        assert!(installer.has_leftovers("prefix"));
        signal(child.0.id(), name);
        installer.0.file("sent", "");
        assert_eq!(child.0.wait().expect("its end").code(), Some(1), "{name}");
        assert_eq!(installer.tree("prefix"), before, "{name}");
        assert_eq!(installer.tree("tmp").len(), 1, "{name}");
    }
}

#[test]
fn leftovers_of_killed_installations_are_removed() {
    let installer = Installer::new("install-leftovers");
    let old = ["bin/.apm.a1B2c3", "share/man/man1/.apm.XyZ789"];
    let kept = ["bin/.apm.a1B2c", "bin/.apm.a1B2c34", "bin/.apm.a1B-c3", "bin/apm.a1B2c3", "bin/sub/.apm.a1B2c3"];
    let make = || {
        for file in old.iter().chain(&kept) {
            installer.0.file(&format!("prefix/{file}"), "");
        }
        installer.0.file("target", "");
        for file in old.iter().chain(&kept) {
            let path = installer.path(&format!("prefix/{file}"));
            Ran::of(installer.0.program("touch", ["-d", "2 hours ago", &path])).good();
        }
        // A young one belongs to an installation that goes on.
        installer.0.file("prefix/bin/.apm.young1", "");
        let _ = symlink("../../target", installer.0.work().join("prefix/bin/.apm.aLinkA"));
    };
    let check = |when: &str| {
        for file in old {
            assert!(!installer.0.has(&format!("prefix/{file}")), "{when}: {file}");
        }
        for file in kept.iter().chain(&["bin/.apm.young1", "bin/.apm.aLinkA"]) {
            assert!(installer.0.has(&format!("prefix/{file}")), "{when}: {file}");
        }
    };
    make();
    installer.install("prefix").good();
    check("installed");
    make();
    installer.run(&["--prefix", "prefix", "--uninstall"]).good();
    check("uninstalled");
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
    let installer = Installer::new("install-links");
    installer.0.file("victim", "mine");
    for file in FILES {
        let path = installer.0.work().join("prefix").join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        symlink(installer.0.work().join("victim"), &path).expect("a link");
    }
    installer.install("prefix").good();
    for file in FILES {
        let path = installer.0.work().join("prefix").join(file);
        assert!(path.symlink_metadata().expect("there").is_file(), "{file}");
    }
    assert_eq!(installer.0.read("victim"), "mine");
    // Into a folder that has the name of a file nothing is moved.
    let page = installer.0.work().join("prefix/share/man/man1/apm.1");
    std::fs::remove_file(&page).expect("removed");
    std::fs::create_dir(installer.0.work().join("elsewhere")).expect("a folder");
    symlink(installer.0.work().join("elsewhere"), &page).expect("a link");
    let before = installer.tree("prefix");
    let error = installer.install("prefix").fails(1);
    assert!(error.contains("apm.1 is a folder"), "{error}");
    assert_eq!(installer.tree("prefix"), before);
    assert!(installer.tree("elsewhere").is_empty());
}

#[test]
fn root_neither_installs_nor_removes_where_another_user_may_write() {
    if !is_root() {
        return skip("only root is careful here");
    }
    for (folder, change) in [
        ("prefix", "chown 65534 prefix"),
        ("prefix", "chmod 1777 prefix"),
        ("share", "chown 65534 prefix/share"),
        ("man1", "chmod 777 prefix/share/man/man1"),
        ("man1", "mv prefix/share/man/man1 theirs; chown 65534 theirs; ln -s ../../../theirs prefix/share/man/man1"),
    ] {
        let installer = Installer::new("install-foreign");
        installer.install("prefix").good();
        Ran::of(installer.0.program("sh", ["-c", change])).good();
        let before = installer.tree(".");
        for args in [&["--prefix", "prefix", "--binary", "binary"][..], &["--prefix", "prefix", "--uninstall"]] {
            let error = installer.run(args).fails(1);
            assert!(error.contains(&format!("{folder} belongs to another user")), "{change}: {error}");
            assert_eq!(installer.tree("."), before, "{change}");
        }
        // A user does as it likes in its own folders.
        if change == "chown 65534 prefix" {
            std::fs::set_permissions(installer.0.work().join("binary"), Permissions::from_mode(0o644)).expect("mode");
            Ran::of(installer.0.program("chown", ["-R", "65534", "prefix"])).good();
            let install = root().join("install.sh");
            let readable = installer.path("install.sh");
            std::fs::copy(install, &readable).expect("copied");
            let args = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", &readable];
            let args = args.iter().chain(&["--prefix", "prefix", "--binary", "binary"]);
            Ran::of(installer.0.program("setpriv", args)).good();
        }
    }
}

#[test]
fn a_prefix_that_cannot_be_written_is_named() {
    let installer = Installer::new("install-read-only");
    installer.0.file("file", "");
    for prefix in ["file", "file/prefix", "/proc/apm"] {
        let error = installer.install(prefix).fails(1);
        assert!(error.contains("cannot write to") && error.contains(prefix) && error.contains("--prefix"), "{error}");
    }
    if !is_root() || !has_program("unshare") {
        return skip("only root makes a folder read-only for itself");
    }
    installer.install("prefix").good();
    let before = installer.tree("prefix");
    let script = format!(
        "mount --bind prefix/share/man prefix/share/man && mount -o remount,bind,ro prefix/share/man || exit 99
         sh {}/install.sh --prefix prefix --binary binary",
        root().display()
    );
    let ran = Ran::of(installer.0.program("unshare", ["-m", "sh", "-c", &script]));
    if ran.code == Some(99) {
        return skip("no file system can be mounted here");
    }
    assert!(ran.code == Some(1) && ran.stderr.contains("nothing was installed"), "{}", ran.stderr);
    assert_eq!(installer.tree("prefix"), before);
}
