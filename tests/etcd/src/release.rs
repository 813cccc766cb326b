//! Which etcd is tested.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use mortise_artifacts::tools;

/// A release of etcd that Mortise works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// 3.4.
    V3_4,
    /// 3.5.
    V3_5,
}

impl Release {
    /// The folder with `etcd` and `etcdctl`. The variable `MORTISE_ETCD` names another one, so that the tests run
    /// against any etcd.
    ///
    /// # Errors
    /// There is none.
    pub fn folder(self) -> Result<PathBuf> {
        let name = match self {
            Self::V3_4 => "etcd-3.4",
            Self::V3_5 => "etcd-3.5",
        };
        let given = std::env::var_os("MORTISE_ETCD").map(PathBuf::from);
        let folder = given.unwrap_or_else(|| tools::folder().join(name));
        let is_whole = ["etcd", "etcdctl"].iter().all(|program| folder.join(program).is_file());
        ensure!(is_whole, "no etcd and etcdctl in {}; `cargo xtask setup` installs them", folder.display());
        Ok(folder)
    }
}
