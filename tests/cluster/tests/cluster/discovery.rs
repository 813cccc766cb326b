//! Clients that know etcd alone.

use std::time::Duration;

use mortise_client::discovery::{Discovery, DiscoveryOptions, GroupEvent, GroupEvents};
use mortise_client::kv::Kv;
use mortise_client::{Client, Options, WriterOptions};
use mortise_cluster_kit::{LocalCluster, PATIENCE, Setup, plugins};

/// The next event that is what is looked for.
async fn until<T>(events: &mut GroupEvents, mut found: impl FnMut(GroupEvent) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = found(events.next().await.unwrap()) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_follows_groups_as_they_come_and_change_leaders() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = LocalCluster::start(&Setup::new(folder.path())).unwrap();
    cluster.create_tenant(&plugins().unwrap(), "kv").unwrap();
    let options = DiscoveryOptions::new("local", cluster.etcd().endpoints());
    let discovery = Discovery::start(&options).await.unwrap();
    assert_eq!(discovery.nodes().len(), 3);
    let mut events = discovery.events();
    let first = until(&mut events, |event| match event {
        GroupEvent::Added(group) => Some(group),
        _ => None,
    })
    .await;
    assert_eq!((first.id.0, first.members.len()), (1, 3));
    let led = first.leader.unwrap();
    assert_eq!(discovery.any_leader().map(|node| node.id), Some(led.id));

    let tenant = Client::discover(&Options::default(), &discovery).unwrap().tenant("kv");
    let writer = tenant.writer(WriterOptions::default()).await.unwrap();
    let kv = Kv::with_writer(tenant, writer);
    kv.put("before", "1", 0).await.unwrap();

    // The leader dies: its session's end, and another leader, are told, and writes go on.
    cluster.node(led.id.0 as usize).kill().unwrap();
    kv.put("after", "2", 0).await.unwrap();
    let next = until(&mut events, |event| match event {
        GroupEvent::Changed(group) => group.leader.filter(|leader| leader.id != led.id),
        _ => None,
    })
    .await;
    discovery.failed(next.id);
    assert_eq!(discovery.any_leader().map(|node| node.id), Some(next.id), "there is no other");

    // A second group takes part without a restart, with the node that comes back among its members.
    cluster.node(led.id.0 as usize).start().unwrap();
    cluster.ok(&["group", "create", "2", "--nodes", "1,2,3"]).unwrap();
    until(&mut events, |event| match event {
        GroupEvent::Added(group) | GroupEvent::Changed(group) => {
            (group.id.0 == 2 && group.leader.is_some()).then_some(())
        }
        GroupEvent::Removed(group) => panic!("group {group} is gone"),
    })
    .await;
    assert_eq!(discovery.groups().len(), 2);
    let seen = kv.get("before").await.unwrap().map(|record| record.value);
    assert_eq!(seen.as_deref(), Some(b"1".as_slice()));
    drop(kv);
    // Nothing is told of an etcd that is not there.
    cluster.etcd().kill_all().unwrap();
    let error =
        Discovery::start(&DiscoveryOptions { timeout: Duration::from_secs(2), ..options }).await.unwrap_err();
    assert!(error.to_string().contains("etcd"), "{error}");
}
