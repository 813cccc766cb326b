//! Which cargo compiles for wasm32 on this machine.
//!
//! rustup's own where it has the target; else Debian's, whose packages `cargo xtask setup` unpacks below
//! `target/tools/debian`, and which compiles the standard library from its sources. It has to be a pair: the
//! sources of a standard library fit the compiler they came with only.

use crate::{tools, workspace_root};
use anyhow::{Result, bail};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that guests are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Set to `1` to use Debian's compiler even where rustup has the target. For trying the fallback.
pub const FORCE_DEBIAN: &str = "MORTISE_FORCE_DEBIAN_WASM";

/// A way to compile for wasm32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The cargo on the PATH, whose compiler has the target.
    Installed,
    /// Debian's cargo, compiler and library sources below `root` (`/`, or where the packages were unpacked).
    Debian {
        /// The folder that holds `usr/bin/rustc`.
        root: PathBuf,
        /// rustup's linker for wasm.
        linker: PathBuf,
    },
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => write!(f, "the installed cargo"),
            Self::Debian { root, .. } => write!(f, "Debian's cargo in {}", root.display()),
        }
    }
}

/// Finds a way to compile for wasm32.
///
/// # Errors
/// There is none; the message says what to run.
pub fn find() -> Result<Toolchain> {
    let forced = std::env::var_os(FORCE_DEBIAN).is_some_and(|value| value == "1");
    if !forced && installed_target() {
        return Ok(Toolchain::Installed);
    }
    if let Some(linker) = rust_lld() {
        for root in [debian_root(), PathBuf::from("/")] {
            if debian_is_complete(&root) {
                return Ok(Toolchain::Debian { root, linker });
            }
        }
    }
    bail!("nothing here compiles for {TARGET}: run `cargo xtask setup` once, it installs what is missing")
}

/// Where `cargo xtask setup` unpacks Debian's packages.
pub fn debian_root() -> PathBuf {
    tools::folder().join("debian")
}

impl Toolchain {
    /// A cargo command with a clean environment: see [`clean`].
    pub fn cargo(&self) -> Command {
        let mut cargo = self.program("cargo");
        if let Self::Debian { root, linker } = self {
            cargo
                .env("RUSTC", root.join("usr/bin/rustc"))
                // Debian's compiler is a stable one; building the standard library is an unstable feature.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        cargo
    }

    /// The program of that name of this toolchain.
    pub fn program(&self, name: &str) -> Command {
        let Self::Debian { root, .. } = self else { return clean(name) };
        let mut program = clean(root.join("usr/bin").join(name));
        if root != Path::new("/") {
            program.env("LD_LIBRARY_PATH", library_path(root));
        }
        program
    }

    /// The arguments that let cargo compile the standard library, where it has no compiled one.
    pub fn build_std(&self) -> &'static [&'static str] {
        match self {
            Self::Installed => &[],
            Self::Debian { .. } => &["-Zbuild-std=std,panic_abort"],
        }
    }
}

/// A command without what `cargo run` and `cargo test` add to the environment. A user's flags for the host
/// (`RUSTFLAGS`, wrappers) would be wrong for wasm32, and a toolchain or library path would mix two compilers.
/// How cargo reaches the network, and where it keeps things, stays.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os().filter(|(key, _)| is_from_cargo(key)) {
        command.env_remove(key);
    }
    command
}

/// The cargo for this machine, in the workspace, as the user has set it up: only what an outer cargo says of the
/// package that it runs is removed. Build scripts look at it (ring's does), and would run again for nothing.
pub fn host_cargo() -> Command {
    let mut cargo = Command::new("cargo");
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            cargo.env_remove(&key);
        }
    }
    cargo.env_remove("CARGO").env_remove("LD_LIBRARY_PATH").current_dir(workspace_root());
    cargo
}

fn is_from_cargo(key: &OsStr) -> bool {
    const KEPT: &[&str] =
        &["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    const REMOVED: &[&str] =
        &["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUST_RECURSION_COUNT", "MAKEFLAGS"];
    // Those which are no family of names: what a build script sees, and the library path of cargo's children.
    const EXACTLY: &[&str] =
        &["OUT_DIR", "TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "LD_LIBRARY_PATH"];
    let key = key.to_string_lossy();
    let starts = |names: &[&str]| names.iter().any(|name| key.starts_with(name));
    EXACTLY.contains(&key.as_ref()) || (starts(REMOVED) && !starts(KEPT))
}

/// Whether the installed compiler has a standard library for the target.
pub fn installed_target() -> bool {
    let arguments = ["--print", "target-libdir", "--target", TARGET];
    let Some(folder) = stdout_line(clean("rustc").args(arguments).current_dir(workspace_root())) else {
        return false;
    };
    std::fs::read_dir(folder).is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
    })
}

/// Whether `root` holds Debian's cargo, compiler and the library's sources.
pub fn debian_is_complete(root: &Path) -> bool {
    let parts = ["usr/bin/cargo", "usr/bin/rustc", "usr/lib/rustlib/src/rust/library/std/Cargo.toml"];
    parts.iter().all(|part| root.join(part).exists())
}

/// rustup ships a linker for wasm with every toolchain, also where the target itself is missing.
pub fn rust_lld() -> Option<PathBuf> {
    let sysroot = stdout_line(clean("rustc").args(["--print", "sysroot"]).current_dir(workspace_root()))?;
    let rustlib = Path::new(&sysroot).join("lib/rustlib");
    let hosts = std::fs::read_dir(rustlib).ok()?;
    hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|path| path.exists())
}

/// The folders of shared libraries below `root`: `usr/lib/TRIPLET`, for any machine.
fn library_path(root: &Path) -> OsString {
    let folders = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
    let triplets = folders
        .map(|folder| folder.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-linux-gnu")));
    // A folder with a colon in its name cannot be on any search path.
    std::env::join_paths(triplets).unwrap_or_default()
}

fn stdout_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_test_sets_is_removed_and_what_the_user_needs_stays() {
        let removed = [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTUP_TOOLCHAIN",
            "LD_LIBRARY_PATH",
            "CARGO_PROFILE_DEV_DEBUG",
        ];
        for key in removed {
            assert!(is_from_cargo(OsStr::new(key)), "{key} must be removed");
        }
        for key in ["CARGO_HOME", "RUSTUP_HOME", "PATH", "HOME", "CARGO_HTTP_CAINFO", "CARGO_NET_OFFLINE"] {
            assert!(!is_from_cargo(OsStr::new(key)), "{key} must stay");
        }
    }

    #[test]
    fn an_empty_folder_is_no_debian() {
        assert!(!debian_is_complete(Path::new("/nowhere")));
    }
}
