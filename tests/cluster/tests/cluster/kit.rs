//! A cluster for one test.

use mortise_cluster_kit::{LocalCluster, Setup, plugins};
use tempfile::TempDir;

/// Segments and snapshots so small that a log is compacted after a second of load.
const SMALL_LOGS: &str = "[storage]\nlog_segment_bytes = 1048576\nsnapshot_log_bytes = 262144\n";

/// A cluster of three, with a kv tenant and a ledger tenant of these names. The folder goes with it.
pub(crate) struct Kv {
    pub(crate) cluster: LocalCluster,
    _folder: TempDir,
}

impl Kv {
    pub(crate) fn start() -> Self {
        Self::launch(|setup| setup)
    }

    /// The same with links that can be cut.
    pub(crate) fn start_with_links() -> Self {
        Self::launch(|setup| Setup { links: true, ..setup })
    }

    /// The same with links, and a rule that is out of force, if any.
    pub(crate) fn start_broken(broken: Option<&'static str>) -> Self {
        Self::launch(|setup| Setup { links: true, broken, ..setup })
    }

    /// The same with a fourth node that is no member yet.
    pub(crate) fn start_with_spare() -> Self {
        Self::launch(|setup| Setup { nodes: 4, ..setup })
    }

    /// The same with logs that are compacted soon.
    pub(crate) fn start_with_small_logs() -> Self {
        Self::launch(|setup| Setup { settings: SMALL_LOGS.into(), ..setup })
    }

    /// The same with nodes that count in their folders every second.
    pub(crate) fn start_counting() -> Self {
        let settings = format!("folder_count_seconds = 1\n{SMALL_LOGS}");
        Self::launch(|setup| Setup { settings, ..setup })
    }

    fn launch(change: impl FnOnce(Setup) -> Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = LocalCluster::start(&change(Setup::new(folder.path()))).unwrap();
        let plugins = plugins().unwrap();
        for name in ["kv", "ledger"] {
            cluster.create_tenant(&plugins, name).unwrap();
        }
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

    /// The life of a node's copy that the group lists.
    pub(crate) fn incarnation(&self, node: usize) -> String {
        let status = self.cluster.status().unwrap();
        let members = status["record"]["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["node"] == node).unwrap();
        member["incarnation"].as_str().unwrap().to_owned()
    }

    /// How often a rare thing happened to a node's replica since it started.
    pub(crate) fn rare(&mut self, node: usize, what: &str) -> f64 {
        self.cluster.node(node).metric(&format!("replica_rare_total{{what=\"{what}\"}}")).unwrap()
    }

    /// A member that does not lead.
    pub(crate) fn follower(&self) -> usize {
        self.cluster.wait_leader().unwrap() % 3 + 1
    }

    /// Kills a node, and waits until the group goes on without it.
    pub(crate) fn kill(&mut self, node: usize) {
        self.cluster.node(node).kill().unwrap();
        let is_out = |status: &serde_json::Value| {
            let isr = status["record"]["isr"].as_array()?;
            (!isr.contains(&serde_json::json!(node))).then_some(())
        };
        self.cluster.wait("a set without the killed node", is_out).unwrap();
    }

    /// Starts a node, and waits until it is in sync.
    pub(crate) fn restart(&mut self, node: usize) {
        self.cluster.node(node).start().unwrap();
        self.cluster.wait_in_sync_while_written().unwrap();
    }
}
