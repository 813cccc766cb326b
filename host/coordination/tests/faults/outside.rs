//! What others do to our keys, and what a watch misses.

use mortise_coordination::backend::{Backend, BackendError, Watch};
use mortise_coordination::{Interest, Revision, RoleChange, RoleEvents, Told, Viewpoint};
use mortise_core::group::{BootId, NodeId};
use mortise_etcd_kit::Release;

use crate::kit::{GROUP, RECOVERY, backend, create, elected, etcd, live, node, observer};

async fn next(events: &mut RoleEvents) -> RoleChange {
    let search = async {
        loop {
            if let Told::Role(event) = events.next().await {
                return event.change;
            }
        }
    };
    tokio::time::timeout(RECOVERY, search).await.expect("an event in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lease_and_lost_keys_are_told_as_events() {
    let etcd = etcd(Release::V3_5, 1);
    let watcher = observer(&etcd);
    let first = node(&etcd, 1).await;
    let second = node(&etcd, 2).await;
    create(&first).await;
    elected(&first, 1).await;
    watcher.ready().await.unwrap();
    let mut events = RoleEvents::new(watcher.changes(Interest::Group(GROUP)), Viewpoint::Observer);
    let mut own =
        RoleEvents::new(first.changes(Interest::Group(GROUP)), Viewpoint::Node(NodeId(1), BootId(1)));
    let two = RoleChange::FollowersAdded([NodeId(2)].into());
    let gone = RoleChange::FollowersRemoved([NodeId(2)].into());
    while next(&mut events).await != two {}
    assert!(matches!(
        next(&mut own).await,
        RoleChange::BecameLeader { .. } | RoleChange::BecameFollower { .. }
    ));
    while next(&mut own).await != two {}

    let lease = live(&second).await;
    etcd.ctl(&["lease", "revoke", &format!("{:x}", lease.0)]).unwrap();
    assert_eq!((next(&mut events).await, next(&mut events).await), (gone.clone(), two.clone()));
    etcd.ctl(&["del", "/faults/sessions/2"]).unwrap();
    assert_eq!((next(&mut events).await, next(&mut events).await), (gone.clone(), two.clone()));
    // The leader's session is no leadership: its loss changes no role.
    etcd.ctl(&["del", "/faults/sessions/1"]).unwrap();
    // A record that is gone is not believed to be; nobody writes it anew.
    etcd.ctl(&["del", "/faults/groups/0001"]).unwrap();
    let lease = live(&second).await;
    etcd.ctl(&["lease", "revoke", &format!("{:x}", lease.0)]).unwrap();
    second.close().await;
    assert_eq!(first.read_group(GROUP).await.unwrap().record, None);
    // The leader was told nothing of its own role.
    while let Some(told) = own.try_next() {
        if let Told::Role(event) = told {
            assert!(event.change == gone || event.change == two, "{event}");
        }
    }
    live(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_before_a_compaction_is_told_so() {
    for release in [Release::V3_4, Release::V3_5] {
        let etcd = etcd(release, 1);
        let node = observer(&etcd);
        create(&node).await;
        let seen = elected(&node, 1).await;
        etcd.ctl(&["compact", &seen.mod_revision.to_string()]).unwrap();
        let mut watch = backend(&etcd).watch("/faults/".into(), Revision(1)).await.unwrap();
        let compacted = loop {
            match watch.next().await {
                Ok(answer) => assert!(answer.value.is_empty(), "events of a compacted revision"),
                Err(error) => break error,
            }
        };
        assert_eq!(compacted, BackendError::Compacted(seen.mod_revision));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_over_a_compaction_lists_again() {
    let mut etcd = etcd(Release::V3_4, 1);
    let watcher = observer(&etcd);
    let node = observer(&etcd);
    create(&node).await;
    let mut events = RoleEvents::new(watcher.changes(Interest::Group(GROUP)), Viewpoint::Observer);
    assert!(matches!(next(&mut events).await, RoleChange::LeaderChanged { leader: None, .. }));
    etcd.kill_all().unwrap();
    etcd.restart_all().unwrap();
    let mut last = elected(&node, 1).await;
    for _ in 0..5 {
        last = elected(&node, 2).await;
        etcd.ctl(&["compact", &last.mod_revision.to_string()]).unwrap();
    }
    let epoch = last.record.unwrap().epoch;
    while next(&mut events).await != (RoleChange::LeaderChanged { epoch, leader: Some(NodeId(2)) }) {}
}
