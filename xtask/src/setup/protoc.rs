//! protoc, from a crate that carries it. `.cargo/config.toml` tells build scripts where it is.

use crate::run::{output, say};
use anyhow::{Context, Result};
use mortise_artifacts::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn program() -> PathBuf {
    tools::folder().join("bin/protoc")
}

/// protoc looks for the well-known types in `../include` by itself.
fn include() -> PathBuf {
    tools::folder().join("include")
}

pub(super) fn found() -> Option<String> {
    let version = output(Command::new(program()).arg("--version")).ok()?;
    let types = include().join("google/protobuf/descriptor.proto");
    types.is_file().then(|| format!("{} at {}", version.trim(), program().display()))
}

pub(super) fn install() -> Result<()> {
    say("copying protoc and the well-known types out of a crate to target/tools");
    let carried = protoc_bin_vendored::protoc_bin_path().context("find a protoc for this platform")?;
    let types = protoc_bin_vendored::include_path().context("find the well-known types")?;
    copy_folder(&types, &include())?;
    fs::create_dir_all(tools::folder().join("bin")).context("create target/tools/bin")?;
    fs::copy(&carried, program()).with_context(|| format!("copy {}", carried.display())).map(drop)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("copy to {}", target.display()))?;
        }
    }
    Ok(())
}
