//! Building and starting: the product, the plugins, a node to try, the benchmarks.

use crate::run::{run, say};
use crate::setup::{self, Need};
use anyhow::{Context, Result, bail};
use mortise_artifacts::{SHIPPED, toolchain, tools, workspace_root};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// `cargo xtask build`.
pub(crate) fn release() -> Result<()> {
    setup::ensure(&[Need::Protoc])?;
    say("building the product in release mode: target/release/mortise");
    run(toolchain::host_cargo().args(["build", "--release", "--package", "mortise"]))
}

/// `cargo xtask plugins`.
pub(crate) fn plugins() -> Result<()> {
    setup::ensure(&[Need::Wasm32])?;
    say("compiling the plugins to components: the node loads them from target/plugins");
    for package in SHIPPED {
        let path = mortise_artifacts::component(package)?;
        let bytes = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
        let shown = path.strip_prefix(workspace_root()).unwrap_or(&path);
        say(&format!("  {package}: {} ({} KiB)", shown.display(), bytes.div_ceil(1024)));
    }
    Ok(())
}

/// `cargo xtask plugin FOLDER`.
pub(crate) fn plugin(folder: &Path) -> Result<()> {
    setup::ensure(&[Need::Wasm32])?;
    let path = mortise_artifacts::component_of(folder)?;
    let bytes = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
    say(&format!(
        "{} ({} KiB): upload it with `mortise plugin upload`",
        path.display(),
        bytes.div_ceil(1024)
    ));
    Ok(())
}

/// Builds the host in the dev profile. Its binary is target/debug/mortise.
pub(crate) fn host() -> Result<()> {
    setup::ensure(&[Need::Protoc])?;
    say("building the host in the dev profile (the first time with wasmtime: some minutes)");
    // As `tools::binary` does it, but the user sees how it goes.
    run(toolchain::host_cargo().args(["build", "--workspace", "--bin", "mortise"]))
}

/// `cargo xtask dev`: does not return, this process becomes the node.
pub(crate) fn dev(arguments: &[String]) -> Result<()> {
    host()?;
    plugins()?;
    let mut node = Command::new(tools::host_target().join("debug/mortise"));
    node.args(["dev", "--plugins"]).arg(workspace_root().join("target/plugins")).args(arguments);
    say("starting target/debug/mortise dev --plugins target/plugins; Ctrl-C stops it");
    let error = node.exec();
    bail!("start {}: {error}", node.get_program().display())
}

/// `cargo xtask sim`.
pub(crate) fn sim(arguments: &[String]) -> Result<()> {
    say("building the simulator in release mode, and running it");
    let cargo = ["run", "--release", "--package", "mortise-sim", "--"];
    run(toolchain::host_cargo().args(cargo).args(arguments))
}

/// `cargo xtask model`.
pub(crate) fn model(arguments: &[String]) -> Result<()> {
    say("building the model in release mode, and searching it");
    let cargo = ["run", "--release", "--package", "mortise-model", "--"];
    run(toolchain::host_cargo().args(cargo).args(arguments))
}

/// `cargo xtask cluster`: does not return, this process becomes the cluster.
pub(crate) fn cluster(arguments: &[String]) -> Result<()> {
    setup::ensure(&[Need::Etcd])?;
    host()?;
    plugins()?;
    say("building and starting the cluster");
    run(toolchain::host_cargo().args(["build", "--workspace", "--bin", "local-cluster"]))?;
    let mut cluster = Command::new(tools::host_target().join("debug/local-cluster"));
    let error = cluster.args(arguments).exec();
    bail!("start {}: {error}", cluster.get_program().display())
}

/// `cargo xtask bench`.
pub(crate) fn bench(what: &str, arguments: &[String]) -> Result<()> {
    setup::ensure(&[Need::Protoc])?;
    match what {
        "core" => {}
        "coordination" => setup::ensure(&[Need::Etcd])?,
        "failover" | "cluster" => {
            setup::ensure(&[Need::Etcd])?;
            plugins()?;
        }
        _ => plugins()?,
    }
    if ["single", "failover", "cluster"].contains(&what) {
        // The benchmark starts the binary that lies beside its own.
        release()?;
    }
    say(&format!("building and running the {what} benchmarks in release mode"));
    let cargo = ["run", "--release", "--package", "mortise-bench", "--", what];
    run(toolchain::host_cargo().args(cargo).args(arguments))
}
