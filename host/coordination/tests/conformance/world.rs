//! Where a case runs: in this process, or on a real etcd that the cases of one release and size share, each in a
//! cluster of its own.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use mortise_coordination::backend::{Backend, Operation, Transaction};
use mortise_coordination::{
    Change, Changes, Config, Coordination, Coordinator, Etcd, EtcdConfig, Expected, GroupState, Interest,
    Memory, Seen, SessionState, SwapOutcome, new_nonce,
};
use mortise_core::group::{BootId, GroupRecord, Incarnation, LeaseId, NodeId};
use mortise_core::ids::GroupId;
use mortise_etcd_kit::{Release, Setup, TestEtcd};

/// Everything that is waited for comes within this time, also on a machine that does other work.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The group that most cases use.
pub(crate) const GROUP: GroupId = GroupId(1);

/// Which implementation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Memory,
    Etcd(Release, usize),
}

type Shared = Mutex<Vec<((Release, usize), Arc<TestEtcd>)>>;
/// Ends with the process.
static RUNNING: LazyLock<Shared> = LazyLock::new(Shared::default);

fn shared(release: Release, members: usize) -> Arc<TestEtcd> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, etcd)) = running.iter().find(|(which, _)| *which == (release, members)) {
        return etcd.clone();
    }
    let etcd = Arc::new(TestEtcd::start(Setup::new(release, members)).unwrap());
    running.push(((release, members), etcd.clone()));
    etcd
}

enum Keys {
    Memory(Memory),
    Etcd(Arc<TestEtcd>),
}

/// One cluster, and what others than its nodes do to it.
pub(crate) struct World {
    pub(crate) cluster: String,
    keys: Keys,
}

pub(crate) type Node = Arc<dyn Coordinator>;

impl World {
    pub(crate) fn new(kind: Kind) -> Self {
        static CASES: AtomicUsize = AtomicUsize::new(0);
        let cluster = format!("case-{}", CASES.fetch_add(1, Ordering::Relaxed));
        let keys = match kind {
            Kind::Memory => Keys::Memory(Memory::new()),
            Kind::Etcd(release, members) => Keys::Etcd(shared(release, members)),
        };
        Self { cluster, keys }
    }

    pub(crate) fn config(&self) -> Config {
        Config { ttl_seconds: 2, ..Config::new(self.cluster.clone()) }
    }

    /// A node, or an observer as long as it opens no session.
    pub(crate) fn node(&self) -> Node {
        self.node_with(self.config())
    }

    pub(crate) fn node_with(&self, config: Config) -> Node {
        match &self.keys {
            Keys::Memory(memory) => Arc::new(Coordination::start(config, None, memory.clone()).unwrap()),
            Keys::Etcd(etcd) => {
                let backend = Etcd::new(EtcdConfig::new(etcd.endpoints())).unwrap();
                Arc::new(Coordination::start(config, None, backend).unwrap())
            }
        }
    }

    /// A node with a live session.
    pub(crate) async fn live_node(&self, node: u64, boot: u64) -> Node {
        let coordinator = self.node();
        coordinator.open_session(NodeId(node), BootId(boot)).unwrap();
        live(&mut coordinator.changes(Interest::All)).await;
        coordinator
    }

    pub(crate) fn key(&self, rest: &str) -> String {
        format!("/{}/{rest}", self.cluster)
    }

    /// What any other client of etcd might do.
    pub(crate) fn put(&self, key: &str, value: &str) {
        match &self.keys {
            Keys::Memory(memory) => memory.put(key, value.as_bytes()),
            Keys::Etcd(etcd) => _ = etcd.ctl(&["put", "--", key, value]).unwrap(),
        }
    }

    pub(crate) fn delete(&self, key: &str) {
        match &self.keys {
            Keys::Memory(memory) => memory.delete(key),
            Keys::Etcd(etcd) => _ = etcd.ctl(&["del", "--", key]).unwrap(),
        }
    }

    pub(crate) async fn revoke(&self, lease: LeaseId) {
        match &self.keys {
            Keys::Memory(memory) => memory.revoke(lease).await.unwrap(),
            Keys::Etcd(etcd) => _ = etcd.ctl(&["lease", "revoke", &format!("{:x}", lease.0)]).unwrap(),
        }
    }

    /// Drops the history up to now.
    pub(crate) async fn compact(&self, node: &Node) {
        match &self.keys {
            Keys::Memory(memory) => memory.compact(),
            Keys::Etcd(etcd) => {
                let revision = node.read_group(GROUP).await.unwrap().revision;
                // Another case may have compacted further meanwhile, which is as good.
                let _ = etcd.ctl(&["compact", &revision.to_string()]);
            }
        }
    }

    /// The value under a key.
    pub(crate) async fn value(&self, key: &str) -> Option<String> {
        match &self.keys {
            Keys::Memory(memory) => {
                let range = mortise_coordination::backend::Range::Key(key.to_owned());
                let read = memory.read(range).await.unwrap().value;
                read.first().map(|at| String::from_utf8_lossy(&at.value).into_owned())
            }
            Keys::Etcd(etcd) => {
                let text = etcd.ctl(&["get", "--print-value-only", key]).unwrap();
                (!text.is_empty()).then(|| text.trim_end_matches('\n').to_owned())
            }
        }
    }

    /// Writes several keys at one revision, as only a transaction can.
    pub(crate) async fn put_together(&self, keys: &[(String, String)]) {
        let put =
            |(key, value): &(String, String)| Operation::Put(key.clone(), value.clone().into_bytes(), None);
        let transaction =
            Transaction { operations: keys.iter().map(put).collect(), ..Transaction::default() };
        let committed = match &self.keys {
            Keys::Memory(memory) => memory.commit(transaction).await,
            Keys::Etcd(etcd) => {
                Etcd::new(EtcdConfig::new(etcd.endpoints())).unwrap().commit(transaction).await
            }
        };
        committed.unwrap();
    }
}

/// Runs a case.
pub(crate) fn run<F: Future<Output = ()>>(kind: Kind, case: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(2 * SOON, case(World::new(kind))).await })
        .expect("in time");
}

/// Waits for a change that is what is looked for.
pub(crate) async fn until<T>(
    changes: &mut Changes,
    what: &str,
    mut found: impl FnMut(Change) -> Option<T>,
) -> T {
    let search = async {
        loop {
            if let Some(found) = found(changes.next().await) {
                return found;
            }
        }
    };
    tokio::time::timeout(SOON, search).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

pub(crate) async fn live(changes: &mut Changes) -> LeaseId {
    until(changes, "a live session", |change| match change {
        Change::Session(SessionState::Live { lease, .. }) => Some(lease),
        _ => None,
    })
    .await
}

pub(crate) async fn group(
    changes: &mut Changes,
    what: &str,
    found: impl Fn(&GroupState) -> bool,
) -> Arc<GroupState> {
    until(changes, what, |change| match change {
        Change::Group(GROUP, state) if found(&state) => Some(state),
        _ => None,
    })
    .await
}

/// A record of three voters.
pub(crate) fn record() -> GroupRecord {
    let voters = [1, 2, 3].map(|node| (NodeId(node), Incarnation(node)));
    GroupRecord::create(1, &voters, 2, new_nonce().unwrap()).unwrap()
}

pub(crate) fn applied<T: std::fmt::Debug>(outcome: SwapOutcome<T>) -> Seen<T> {
    match outcome {
        SwapOutcome::Applied(seen) => seen,
        other => panic!("not applied: {other:?}"),
    }
}

pub(crate) fn refused<T: std::fmt::Debug>(outcome: SwapOutcome<T>) -> Seen<T> {
    match outcome {
        SwapOutcome::Refused(seen) => seen,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn present(seen: &Seen<GroupRecord>) -> Expected {
    let nonce = seen.record.as_ref().expect("a record").nonce;
    Expected::Present { mod_revision: seen.mod_revision, nonce }
}

/// Creates the group's record.
pub(crate) async fn create(node: &Node) -> Seen<GroupRecord> {
    applied(node.swap_group(GROUP, Expected::Absent, record()).await.unwrap())
}
