//! Builds plugins and bad guests to components, and has what several suites of tests load into them.
//!
//! ```text
//! package ── cargo, profile guest, wasm32 ──▶ core module ── wit-component ──▶ target/plugins/NAME.wasm
//!            (folder target/guest)
//! ```
//! `cargo xtask plugins` and every test that loads a plugin come through here, so a test always sees the component
//! that its sources describe, also under a plain `cargo test`. Three things make that safe:
//!
//! - guests have a target folder of their own: the cargo that runs the test may hold the lock of the usual one;
//! - what `cargo test` puts into the environment (flags, a toolchain, library paths) is kept from the inner cargo;
//! - a lock file serialises test processes, and a component appears by a rename: nobody reads half of one.
//!
//! cargo decides what is fresh; asking it costs about 0.1 s, once for each package and process.

mod bad_guest;
pub mod flights;
mod guest;
mod hostile;
pub mod toolchain;
pub mod tools;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

pub use bad_guest::{bad_guest, bad_guests};

/// The plugins that ship with Mortise, and the one that the tutorial builds.
pub const SHIPPED: &[&str] = &["mortise-plugin-kv", "mortise-plugin-ledger", "mortise-example-counter"];

/// Builds a workspace package to a component and returns its path, `target/plugins/NAME.wasm`, where NAME is the
/// package's name without `mortise-plugin-` or `mortise-example-`.
///
/// # Errors
/// There is no way to compile for wasm32 (`cargo xtask setup` installs one), the package does not compile, or what
/// it compiles to is no component.
pub fn component(package: &str) -> Result<PathBuf> {
    guest::component(package, &workspace_root().join("target/plugins"))
}

/// Builds the crate in `folder`, a plugin of somebody's own, and returns its component's path, `folder/NAME.wasm`.
///
/// # Errors
/// As for [`component`]; `folder` has no Cargo.toml.
pub fn component_of(folder: &Path) -> Result<PathBuf> {
    guest::component_of(folder)
}

/// The bytes of [`component`].
///
/// # Errors
/// As for [`component`].
pub fn bytes(package: &str) -> Result<Vec<u8>> {
    let path = component(package)?;
    std::fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// The root of the workspace that this crate was compiled in.
pub fn workspace_root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // tests/artifacts is two levels below the root; a relocated crate falls back to its own folder.
    here.ancestors().nth(2).unwrap_or(here)
}
