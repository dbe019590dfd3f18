//! Compiles the library that `apm profile` preloads into programs, and finds out how apm can be linked. apm carries the bytes
//! of the library; `shim.rs` says what it does.
//!
//! With the compiler that cargo uses, and nothing else: no C compiler, no crate. Where the library cannot be made for a
//! target it is empty, and apm says that there is none.

#![expect(clippy::disallowed_methods, reason = "own: what cargo gives a build script to write to")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Without a C library and with symbols that have no version, so that one file fits every glibc and musl.
const FLAGS: &[&str] = &[
    "--crate-name=apm_shim",
    "--crate-type=cdylib",
    "--edition=2024",
    "-Copt-level=3",
    "-Ccodegen-units=1",
    "-Cpanic=abort",
    "-Cstrip=symbols",
    "-Coverflow-checks=no",
    "-Cforce-unwind-tables=yes",
    "-Ctarget-feature=-crt-static",
    "-Cdefault-linker-libraries=no",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-nostartfiles",
];

/// Relative relocations as a bitmap: 0.8 MB less of the file and of the memory of every start.
const PACKED: &str = "-Wl,-z,pack-relative-relocs";

/// Whether a program like apm starts when it is linked so. It has to apply these relocations itself, which the static C
/// library knows since glibc 2.36; with an older one it would crash. What is built for another machine cannot be tried.
fn starts_with_packed_relocations(folder: &Path) -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|set| set.split(',').any(|one| one == value));
    let own = env::var("HOST").unwrap_or_default();
    if !is("TARGET", &own) || !is("CARGO_CFG_TARGET_ENV", "gnu") || !is("CARGO_CFG_TARGET_FEATURE", "crt-static") {
        return false;
    }
    let (source, program) = (folder.join("starts.rs"), folder.join("starts"));
    std::fs::write(&source, "fn main() { println!(\"{:?}\", std::env::args_os()) }").expect("write to OUT_DIR");
    let mut rustc = compiler();
    rustc.args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Clink-arg"]).arg(PACKED);
    rustc.arg("-o").arg(&program).arg(&source);
    let quiet = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    quiet(&mut rustc) && quiet(&mut Command::new(&program))
}

/// The compiler that cargo uses, for the same target, without the flags that are meant for apm.
fn compiler() -> Command {
    let variable = |name: &str| env::var_os(name).unwrap_or_default();
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.arg("--target").arg(variable("TARGET"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", PathBuf::from(linker).display()));
    }
    rustc.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
    rustc
}

fn main() {
    println!("cargo::rerun-if-changed=src/shim");
    let variable = |name: &str| env::var_os(name).unwrap_or_default();
    let folder = PathBuf::from(variable("OUT_DIR"));
    if starts_with_packed_relocations(&folder) {
        println!("cargo::rustc-link-arg-bins={PACKED}");
    }
    let output = folder.join("apm-shim.so");
    println!("cargo::rustc-env=SHIM_OF_APM={}", output.display());
    let is_supported = variable("CARGO_CFG_TARGET_OS") == "linux"
        && ["x86_64", "aarch64"].iter().any(|arch| variable("CARGO_CFG_TARGET_ARCH") == *arch);
    if !is_supported {
        std::fs::write(&output, b"").expect("write the empty library");
        return;
    }
    // `crt-static`, which is meant for apm, would make this something that cannot be loaded.
    let mut rustc = compiler();
    rustc.args(FLAGS).arg("-o").arg(&output).arg("src/shim/shim.rs");
    let status = rustc.status().expect("start the compiler");
    assert!(status.success(), "the library of `apm profile` does not compile");
}
