//! A cluster for one test.

use mortise_cluster_kit::{LocalCluster, Setup, plugins};
use tempfile::TempDir;

/// A cluster of three, with a kv tenant of that name. The folder goes with it.
pub(crate) struct Kv {
    pub(crate) cluster: LocalCluster,
    _folder: TempDir,
}

impl Kv {
    pub(crate) fn start(settings: &str) -> Self {
        Self::launch(3, settings, false)
    }

    /// The same with links that can be cut.
    pub(crate) fn start_with_links() -> Self {
        Self::launch(3, "", true)
    }

    /// The same with a fourth node that is no member yet.
    pub(crate) fn start_with_spare() -> Self {
        Self::launch(4, "", false)
    }

    fn launch(nodes: usize, settings: &str, links: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings.to_owned();
        let setup = Setup { nodes, members: 3, folder: folder.path().to_owned(), settings, links };
        let cluster = LocalCluster::start(&setup).unwrap();
        cluster.create_tenant(&plugins().unwrap(), "kv").unwrap();
        Self { cluster, _folder: folder }
    }

    /// Writes a key, and sees that it was acknowledged.
    pub(crate) fn put(&self, key: &str, value: &str) {
        self.cluster.ok(&["kv", "put", key, value]).unwrap();
    }

    /// Reads a key, as fresh as can be.
    pub(crate) fn get(&self, key: &str) -> String {
        self.cluster.ok(&["kv", "get", key]).unwrap()
    }
}
