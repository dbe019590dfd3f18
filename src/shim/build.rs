//! Compiles the library that `apm profile` preloads into programs. apm carries its bytes; `shim.rs` says what it does.
//!
//! With the compiler that cargo uses, and nothing else: no C compiler, no crate. Where the library cannot be made for a
//! target it is empty, and apm says that there is none.

#![expect(clippy::disallowed_methods, reason = "own: what cargo gives a build script to write to")]

use std::env;
use std::path::PathBuf;
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

fn main() {
    println!("cargo::rerun-if-changed=src/shim");
    let variable = |name: &str| env::var_os(name).unwrap_or_default();
    let output = PathBuf::from(variable("OUT_DIR")).join("apm-shim.so");
    println!("cargo::rustc-env=SHIM_OF_APM={}", output.display());
    let is_supported = variable("CARGO_CFG_TARGET_OS") == "linux"
        && ["x86_64", "aarch64"].iter().any(|arch| variable("CARGO_CFG_TARGET_ARCH") == *arch);
    if !is_supported {
        std::fs::write(&output, b"").expect("write the empty library");
        return;
    }
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(FLAGS).arg("--target").arg(variable("TARGET")).arg("-o").arg(&output).arg("src/shim/shim.rs");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", PathBuf::from(linker).display()));
    }
    // Meant for apm: `crt-static` would make this something that cannot be loaded.
    rustc.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
    let status = rustc.status().expect("start the compiler");
    assert!(status.success(), "the library of `apm profile` does not compile");
}
