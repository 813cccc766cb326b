//! Debian packages without installing them: downloaded and unpacked into a folder of ours.
//!
//! apt is given a state folder of its own, with fresh package lists. So it needs no root, works in images that come
//! without lists, and leaves the system as it was; what the system has installed already it does not bring again.

use crate::run::{output, run};
use anyhow::{Context, Result, ensure};
use mortise_artifacts::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether this machine can use Debian's packages.
pub(super) fn is_here() -> bool {
    tools::find("apt-get").is_some() && tools::find("dpkg").is_some()
}

/// Downloads `packages` and all they depend on that is not installed, and unpacks them below `root`, whole or not
/// at all.
pub(super) fn unpack(packages: &[&str], root: &Path) -> Result<()> {
    ensure!(is_here(), "this machine has no apt-get and dpkg to get {} with", packages.join(", "));
    let apt = Apt::new()?;
    // A third-party list that is out of reach must not stop us; a package that is missing will.
    let updated = output(apt.command().arg("update"));
    let plan =
        output(apt.command().args(["install", "--simulate", "--no-install-recommends"]).args(packages))
            .with_context(|| format!("plan packages (lists updated: {})", updated.is_ok()))?;
    let planned = planned(&plan);
    // apt plans nothing for what the system has already; unpacking that too keeps one way to find it.
    let missing = packages.iter().copied().filter(|name| !planned.contains(name));
    let all: Vec<&str> = planned.iter().copied().chain(missing).collect();

    let debs = fresh(&root.with_extension("debs"))?;
    run(apt.command().arg("--quiet=2").arg("download").args(all).current_dir(&debs).stdout(Stdio::null()))?;
    let aside = fresh(&root.with_extension("new"))?;
    for deb in fs::read_dir(&debs).with_context(|| format!("list {}", debs.display()))? {
        run(Command::new("dpkg").arg("--extract").arg(deb?.path()).arg(&aside))?;
    }
    fs::remove_dir_all(&debs).with_context(|| format!("remove {}", debs.display()))?;
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))?;
    }
    fs::rename(&aside, root).with_context(|| format!("rename {} into place", aside.display()))
}

/// The packages that apt would install: lines `Inst NAME (…)`.
fn planned(plan: &str) -> Vec<&str> {
    let names = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
    names.filter_map(|line| line.split_ascii_whitespace().next()).collect()
}

/// An empty folder at `path`, whatever an interrupted run left there.
fn fresh(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    Ok(path.to_path_buf())
}

/// apt with its state below `target/tools/apt`.
struct Apt {
    state: PathBuf,
}

impl Apt {
    fn new() -> Result<Self> {
        let state = tools::folder().join("apt");
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(folder)).with_context(|| format!("create {folder} for apt"))?;
        }
        Ok(Self { state })
    }

    fn command(&self) -> Command {
        let mut apt = Command::new("apt-get");
        let option = |name: &str, folder: &str| format!("{name}={}", self.state.join(folder).display());
        let options = [
            option("Dir::State", "state"),
            option("Dir::Cache", "cache"),
            // What the system has installed.
            "Dir::State::status=/var/lib/dpkg/status".to_string(),
            // As root apt would change to a user that may not write below our folder.
            "APT::Sandbox::User=".to_string(),
            "Acquire::Retries=3".to_string(),
            "Acquire::http::Timeout=30".to_string(),
        ];
        apt.env("LC_ALL", "C").args(options.iter().flat_map(|option| ["-o", option]));
        apt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_names_each_package_once() {
        let plan = "NOTE: only a simulation\nInst libgit2-1.5 (1.5.1 Debian:12 [amd64])\n\
                    Inst cargo-web [1.0] (1.96 Debian:12 [amd64])\nConf cargo-web (1.96)\n";
        assert_eq!(planned(plan), ["libgit2-1.5", "cargo-web"]);
        assert!(planned("").is_empty());
    }
}
