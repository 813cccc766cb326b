//! The tools that `cargo xtask setup` puts below `target/tools`, and the binaries of this workspace.

use crate::{toolchain, workspace_root};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// `target/tools`: what set-up installs. Nothing outside the repository is changed, besides rustup's targets.
pub fn folder() -> PathBuf {
    workspace_root().join("target/tools")
}

/// The program `name` in `target/tools/bin`, else on the PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder().join("bin")).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Builds the binary `name` of this workspace in the dev profile and returns its path: `cargo test` alone does not
/// rebuild the binaries of other packages. The whole workspace is named, so that its features are chosen as for
/// `cargo test --workspace`, and the same compiled wasmtime serves both.
///
/// # Errors
/// It does not compile.
pub fn binary(name: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // A panic elsewhere cannot leave the map half-written: an insert is its only change.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let output = toolchain::host_cargo()
        .args(["build", "--quiet", "--workspace", "--bin", name])
        .output()
        .with_context(|| format!("start cargo to compile {name}"))?;
    ensure!(output.status.success(), "compile {name}:\n{}", String::from_utf8_lossy(&output.stderr));
    let path = host_target().join("debug").join(name);
    ensure!(path.is_file(), "cargo built {name}, but not at {}", path.display());
    built.insert(name.to_string(), path.clone());
    Ok(path)
}

/// Where cargo puts what it compiles for this machine.
pub fn host_target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace_root().join(folder),
        None => workspace_root().join("target"),
    }
}
