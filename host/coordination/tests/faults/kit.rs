//! Nodes on an etcd of their own, and waiting for what they must see.

use std::sync::Arc;
use std::time::Duration;

use mortise_coordination::{
    Change, Changes, Config, Coordination, Coordinator, Etcd, EtcdConfig, Expected, History, Interest, Seen,
    SessionState, SwapOutcome, new_nonce,
};
use mortise_core::group::{BootId, GroupRecord, Incarnation, LeaseId, NodeId};
use mortise_core::ids::{Epoch, GroupId};
use mortise_etcd_kit::{Release, Setup, TestEtcd};

/// What is documented: 5 s and a TTL of 2 s after etcd serves again; doubled, because other tests share the machine.
pub(crate) const RECOVERY: Duration = Duration::from_secs(14);
pub(crate) const GROUP: GroupId = GroupId(1);
pub(crate) const TTL: Duration = Duration::from_secs(2);

pub(crate) type Node = Arc<dyn Coordinator>;

pub(crate) fn etcd(release: Release, members: usize) -> TestEtcd {
    TestEtcd::start(Setup::new(release, members)).unwrap()
}

pub(crate) fn observer(etcd: &TestEtcd) -> Node {
    observer_with(etcd, TTL)
}

/// One whose session would have another time to live.
pub(crate) fn observer_with(etcd: &TestEtcd, ttl: Duration) -> Node {
    let config = Config { ttl_seconds: ttl.as_secs() as u32, ..Config::new("faults") };
    Arc::new(Coordination::start(config, None, backend(etcd)).unwrap())
}

pub(crate) fn backend(etcd: &TestEtcd) -> Etcd {
    Etcd::new(EtcdConfig::new(etcd.endpoints())).unwrap()
}

pub(crate) async fn node(etcd: &TestEtcd, number: u64) -> Node {
    let node = observer(etcd);
    node.open_session(NodeId(number), BootId(1)).unwrap();
    live(&node).await;
    node
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
    tokio::time::timeout(RECOVERY, search).await.unwrap_or_else(|_| panic!("not within {RECOVERY:?}: {what}"))
}

pub(crate) async fn live(node: &Node) -> LeaseId {
    until(&mut node.changes(Interest::All), "a live session", |change| match change {
        Change::Session(session) => session.live(),
        _ => None,
    })
    .await
}

/// Waits until the watch tells of the group's record as it was written then.
pub(crate) async fn shown(changes: &mut Changes, written: &Seen<GroupRecord>) {
    until(changes, "the record that was written", |change| match change {
        Change::Group(_, state) => {
            state.record.as_ref().is_ok_and(|seen| seen.mod_revision == written.mod_revision).then_some(())
        }
        _ => None,
    })
    .await;
}

pub(crate) async fn offline(node: &Node) -> SessionState {
    until(&mut node.changes(Interest::All), "the loss of the session", |change| match change {
        Change::Session(session @ SessionState::Offline(_)) => Some(session),
        _ => None,
    })
    .await
}

pub(crate) async fn broken(node: &Node) -> mortise_coordination::Broken {
    until(&mut node.changes(Interest::All), "the break of history", |change| match change {
        Change::History(History::Broken(broken)) => Some(broken),
        _ => None,
    })
    .await
}

/// Tries until it works, as a replica would.
pub(crate) async fn create(node: &Node) -> Seen<GroupRecord> {
    let nonce = new_nonce().unwrap();
    let voters = [1, 2, 3].map(|node| (NodeId(node), Incarnation(node)));
    let record = GroupRecord::create(1, &voters, 1, nonce).unwrap();
    match node.swap_group(GROUP, Expected::Absent, record).await.unwrap() {
        SwapOutcome::Applied(seen) => seen,
        other => panic!("{other:?}"),
    }
}

/// Elects `number`, whoever leads. `None` where the swap was not applied, or nobody knows.
pub(crate) async fn elect(node: &Node, number: u64) -> Option<Seen<GroupRecord>> {
    let seen = node.read_group(GROUP).await.ok()?;
    let record = seen.record.as_ref()?;
    let expected = Expected::Present { mod_revision: seen.mod_revision, nonce: record.nonce };
    let epoch = Epoch(record.epoch.0 + 1);
    // All stay in sync, so that everybody may be elected again.
    let next = record.transfer(NodeId(number), epoch, BootId(1), LeaseId(number), new_nonce().ok()?);
    match node.swap_group(GROUP, expected, next).await.ok()? {
        SwapOutcome::Applied(seen) => Some(seen),
        SwapOutcome::Refused(_) | SwapOutcome::Unknown => None,
    }
}

/// Elects until it is in force.
pub(crate) async fn elected(node: &Node, number: u64) -> Seen<GroupRecord> {
    let trying = async {
        loop {
            if let Some(seen) = elect(node, number).await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(RECOVERY, trying).await.expect("an election within the documented time")
}
