//! A cluster for one test.

use std::time::Instant;

use mortise_cluster_kit::{LocalCluster, PATIENCE, Setup, plugin};
use tempfile::TempDir;

/// A cluster of three, with a kv tenant of that name. The folder goes with it.
pub(crate) struct Kv {
    pub(crate) cluster: LocalCluster,
    _folder: TempDir,
}

impl Kv {
    pub(crate) fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup { nodes: 3, folder: folder.path().to_owned(), settings: settings.to_owned() };
        let cluster = LocalCluster::start(&setup).unwrap();
        let component = plugin("kv").unwrap();
        cluster.ok(&["plugin", "upload", component.to_str().unwrap()]).unwrap();
        cluster.ok(&["tenant", "create", "kv", "--plugin", "kv"]).unwrap();
        Self { cluster, _folder: folder }
    }

    /// Writes a key, and sees that it was acknowledged.
    pub(crate) fn put(&self, key: &str, value: &str) {
        self.cluster.ok(&["kv", "put", key, value]).unwrap();
    }

    /// The same while somebody dies, when it may have to be told more than once: a single write whose connection broke is
    /// not sent again by itself.
    pub(crate) fn put_at_last(&self, key: &str, value: &str) {
        let begun = Instant::now();
        while let Err(error) = self.cluster.ok(&["kv", "put", key, value]) {
            assert!(begun.elapsed() < PATIENCE, "{error}");
        }
    }

    /// Reads a key, as fresh as can be.
    pub(crate) fn get(&self, key: &str) -> String {
        self.cluster.ok(&["kv", "get", key]).unwrap()
    }
}
