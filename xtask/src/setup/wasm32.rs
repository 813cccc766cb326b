//! A compiler with a standard library for wasm32: rustup's, else Debian's with the library's sources.

use super::debian;
use crate::run::{output, run_within, say};
use anyhow::{Context, Result};
use mortise_artifacts::toolchain::{self, FORCE_DEBIAN, TARGET, Toolchain};
use std::time::Duration;

/// The longest that rustup may take. The download has 20 MB; without a route to its server it tries for long.
const RUSTUP_WITHIN: Duration = Duration::from_secs(180);

/// Debian keeps this compiler current for its web browsers; the ordinary `rustc` package is too old.
const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

pub(super) fn found() -> Option<String> {
    match toolchain::find().ok()? {
        Toolchain::Installed => Some("of the installed toolchain".to_string()),
        Toolchain::Debian { root, .. } => Some(format!("from Debian's sources below {}", root.display())),
    }
}

pub(super) fn install() -> Result<()> {
    if std::env::var_os(FORCE_DEBIAN).is_none() {
        say(&format!("running `rustup target add {TARGET}`"));
        let mut rustup = toolchain::clean("rustup");
        rustup.args(["target", "add", TARGET]).current_dir(mortise_artifacts::workspace_root());
        match run_within(&mut rustup, RUSTUP_WITHIN) {
            Ok(()) if toolchain::installed_target() => return Ok(()),
            Ok(()) => say("the compiler in use is still without it, so we take Debian's"),
            Err(error) => say(&format!("that did not work ({error:#}), so we take Debian's compiler")),
        }
    }
    let root = toolchain::debian_root();
    say(&format!("unpacking Debian's {} (about 150 MB to download)", PACKAGES.join(", ")));
    debian::unpack(PACKAGES, &root)?;
    toolchain::rust_lld().context("find rust-lld, the linker for wasm, in the installed toolchain")?;
    // They link to libraries of their own packages: see that all of them came along.
    let compiler = toolchain::find()?;
    for program in ["cargo", "rustc"] {
        output(compiler.program(program).arg("--version"))?;
    }
    Ok(())
}
