//! How much memory a process has.

use std::path::Path;

use anyhow::{Context, Result};

/// Bytes of physical memory of the process whose folder below `/proc` is `folder`.
pub(crate) fn resident_bytes(folder: &Path) -> Result<u64> {
    let status = std::fs::read_to_string(folder.join("status")).context("read the process's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("find VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("parse VmRSS")?;
    Ok(kib * 1024)
}

/// Bytes of physical memory of this process.
pub(crate) fn own_bytes() -> Result<u64> {
    resident_bytes(Path::new("/proc/self"))
}
