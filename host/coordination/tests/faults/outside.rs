//! What others do to our keys, and what a watch misses.

use mortise_coordination::backend::{Backend, BackendError, Watch};
use mortise_coordination::{Change, Interest, Revision, RoleChange, RoleEvents, Told, Viewpoint, record_of};
use mortise_core::group::{BootId, NodeId};
use mortise_etcd_kit::Release;

use crate::kit::{GROUP, Node, RECOVERY, backend, create, elected, etcd, live, node, observer, until};

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

/// Waits until `who` knows of a session of `node` written after `revision`, while `leader` leads.
async fn knows(who: &Node, leader: NodeId, node: NodeId, revision: Revision) -> Revision {
    until(&mut who.changes(Interest::Group(GROUP)), "the leader, and a newer session", |change| {
        let Change::Group(_, state) = change else { return None };
        let led = record_of(&state.record)?.leader == Some(leader);
        let session = state.sessions.get(&node)?;
        (led && session.mod_revision > revision).then_some(session.mod_revision)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lease_and_lost_keys_are_told_as_events() {
    let etcd = etcd(Release::V3_5, 1);
    let watcher = observer(&etcd);
    let first = node(&etcd, 1).await;
    let second = node(&etcd, 2).await;
    create(&first).await;
    elected(&first, 1).await;
    let (leader, follower) = (NodeId(1), NodeId(2));
    let mut written = knows(&watcher, leader, follower, Revision(0)).await;
    knows(&first, leader, follower, Revision(0)).await;
    let mut events = RoleEvents::new(watcher.changes(Interest::Group(GROUP)), Viewpoint::Observer);
    let mut own = RoleEvents::new(first.changes(Interest::Group(GROUP)), Viewpoint::Node(leader, BootId(1)));
    let two = RoleChange::FollowersAdded([follower].into());
    let gone = RoleChange::FollowersRemoved([follower].into());
    assert!(matches!(next(&mut events).await, RoleChange::LeaderChanged { leader: Some(NodeId(1)), .. }));
    assert_eq!(next(&mut events).await, two);
    assert!(matches!(next(&mut own).await, RoleChange::BecameLeader { initial: true, .. }));
    assert_eq!(next(&mut own).await, two);

    // Both losses are made good by the node itself. Whoever looks late sees no more than the newest state.
    let lease = format!("{:x}", live(&second).await.0);
    for lost in [["lease", "revoke", &lease].as_slice(), &["del", "/faults/sessions/2"]] {
        etcd.ctl(lost).unwrap();
        written = knows(&watcher, leader, follower, written).await;
        let told: Vec<RoleChange> = std::iter::from_fn(|| events.try_next())
            .filter_map(|told| if let Told::Role(event) = told { Some(event.change) } else { None })
            .collect();
        assert!(told.is_empty() || told == [gone.clone(), two.clone()], "{told:?}");
    }
    // The leader's session is no leadership: its loss changes no role.
    etcd.ctl(&["del", "/faults/sessions/1"]).unwrap();
    second.close().await;
    assert_eq!(next(&mut events).await, gone);
    // A record that is gone is not believed to be; nobody writes it anew.
    etcd.ctl(&["del", "/faults/groups/0001"]).unwrap();
    let third = node(&etcd, 2).await;
    assert_eq!(first.read_group(GROUP).await.unwrap().record, None);
    third.close().await;
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
