//! An etcd that was wiped, restored or exchanged: frozen, until an operator accepts it.

use mortise_coordination::{Config, Coordination, Coordinator};
use mortise_coordination::{
    CoordinationError, Expected, History, Interest, Known, RoleEvents, SwapOutcome, Told, Viewpoint,
};
use mortise_core::group::{GroupRecord, Incarnation, NodeId};
use mortise_etcd_kit::{Release, TestEtcd};

use crate::kit::{
    GROUP, Node, backend, broken, create, elected, etcd, live, node, observer_with, offline, shown,
};

/// What must be so while a node is frozen, and after it was accepted.
async fn frozen_until_accepted(etcd: &TestEtcd, node: &Node, before: Known) {
    let mut events = RoleEvents::new(node.changes(Interest::Group(GROUP)), Viewpoint::Observer);
    let found = broken(node).await;
    assert_eq!(found.known_cluster, before.cluster);
    offline(node).await;
    let nonce = mortise_coordination::new_nonce().unwrap();
    let next = GroupRecord::create(1, &[(NodeId(1), Incarnation(1))], 1, nonce);
    for expected in
        [Expected::Absent, Expected::Present { mod_revision: before.revision, nonce: Default::default() }]
    {
        let refused = node.swap_group(GROUP, expected, next.clone().unwrap()).await;
        // Without a session it says that; an observer is told of the break.
        assert!(
            matches!(refused, Err(CoordinationError::NoSession | CoordinationError::Broken(_))),
            "{refused:?}"
        );
    }
    // Reads answer, so that an operator can look; whose answer it is, is to be seen.
    let read = node.read_group(GROUP).await.unwrap();
    assert!(read.cluster != before.cluster || read.revision < before.revision);
    while let Some(told) = events.try_next() {
        assert!(!matches!(told, Told::Role(ref event) if event.revision < before.revision), "{told:?}");
    }
    assert!(etcd.ctl(&["get", "/faults/sessions/1", "--print-value-only"]).unwrap().trim().is_empty());

    assert!(node.accept(mortise_coordination::ClusterId(1)).is_err());
    assert_ne!(node.history(), History::Continuous);
    node.accept(found.seen_cluster).unwrap();
    live(node).await;
    assert_eq!(node.history(), History::Continuous);
}

async fn begin(release: Release) -> (TestEtcd, Node) {
    let etcd = etcd(release, 1);
    let node = node(&etcd, 1).await;
    create(&node).await;
    (etcd, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_was_wiped_freezes_the_node() {
    for (release, token) in [(Release::V3_4, None), (Release::V3_5, Some("second"))] {
        let (mut etcd, node) = begin(release).await;
        for _ in 0..19 {
            elected(&node, 1).await;
        }
        let last = elected(&node, 1).await;
        // What the watch has not told by then, it cannot tell afterwards.
        shown(&mut node.changes(Interest::Group(GROUP)), &last).await;
        let before = node.known().unwrap();
        etcd.kill_all().unwrap();
        etcd.wipe(token).unwrap();
        etcd.restart_all().unwrap();
        frozen_until_accepted(&etcd, &node, before).await;
        assert_eq!(node.read_group(GROUP).await.unwrap().record, None, "nobody recreates a record by itself");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_was_restored_from_an_old_backup_freezes_the_node() {
    for (release, token) in [(Release::V3_5, None), (Release::V3_4, Some("second"))] {
        let (mut etcd, node) = begin(release).await;
        node.close().await;
        let node = crate::kit::node(&etcd, 1).await;
        // The backup is taken while nobody is there, as the checks of the session's key want it.
        let backup = etcd.backup().unwrap();
        for _ in 0..19 {
            elected(&node, 1).await;
        }
        let last = elected(&node, 1).await;
        // What the watch has not told by then, it cannot tell afterwards.
        shown(&mut node.changes(Interest::Group(GROUP)), &last).await;
        let before = node.known().unwrap();
        etcd.ctl(&["del", "/faults/sessions/1"]).unwrap();
        etcd.kill_all().unwrap();
        etcd.wipe(token).unwrap();
        etcd.restore(&backup).unwrap();
        etcd.restart_all().unwrap();
        etcd.ctl(&["del", "/faults/sessions/1"]).unwrap();
        frozen_until_accepted(&etcd, &node, before).await;
        // It builds on what is there now.
        let now = elected(&node, 1).await;
        assert!(now.revision < before.revision || token.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_start_knew_counts() {
    let (etcd, first) = begin(Release::V3_5).await;
    let known = first.known().unwrap();
    for wrong in [
        Known { revision: mortise_coordination::Revision(known.revision.0 + 1_000), ..known },
        Known { cluster: mortise_coordination::ClusterId(known.cluster.0 ^ 1), ..known },
    ] {
        let later = Coordination::start(Config::new("faults"), Some(wrong), backend(&etcd)).unwrap();
        let later: Node = std::sync::Arc::new(later);
        let found = broken(&later).await;
        assert_eq!((found.known_cluster, found.known_revision), (wrong.cluster, wrong.revision));
        let record = first.read_group(GROUP).await.unwrap().record.unwrap();
        let swapped = later.swap_group(GROUP, Expected::Absent, record).await;
        assert!(matches!(swapped, Err(CoordinationError::Broken(_))), "{swapped:?}");
    }
    let same = Coordination::start(Config::new("faults"), Some(known), backend(&etcd)).unwrap();
    same.ready().await.unwrap();
    let record = same.read_group(GROUP).await.unwrap().record.unwrap();
    assert!(matches!(same.swap_group(GROUP, Expected::Absent, record).await, Ok(SwapOutcome::Refused(_))));
}

/// The session's lease lies in the backup, so etcd goes on renewing it; it ends because the history broke.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_a_backup_brought_back_ends_all_the_same() {
    let mut etcd = etcd(Release::V3_5, 1);
    let first = observer_with(&etcd, std::time::Duration::from_secs(60));
    first.open_session(NodeId(1), mortise_core::group::BootId(1)).unwrap();
    let lease = live(&first).await;
    create(&first).await;
    let backup = etcd.backup().unwrap();
    for _ in 0..5 {
        elected(&first, 1).await;
    }
    etcd.kill_all().unwrap();
    etcd.wipe(None).unwrap();
    etcd.restore(&backup).unwrap();
    etcd.restart_all().unwrap();
    let found = broken(&first).await;
    offline(&first).await;
    assert!(etcd.ctl(&["lease", "list"]).unwrap().contains(&format!("{:x}", lease.0)), "the fault happened");
    first.accept(found.seen_cluster).unwrap();
    assert_ne!(live(&first).await, lease);
    assert!(!etcd.ctl(&["lease", "list"]).unwrap().contains(&format!("{:x}", lease.0)), "and it is revoked");
}
