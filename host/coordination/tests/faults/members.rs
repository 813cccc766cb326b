//! Members of etcd that die, hang, or hand over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mortise_coordination::backend::Backend;
use mortise_coordination::{
    Change, Config, Coordination, Coordinator, Etcd, EtcdConfig, Interest, Moment, RoleChange, RoleEvents,
    SessionState, Told, Viewpoint,
};
use mortise_core::group::{BootId, GroupRecord, Incarnation, NodeId};
use mortise_core::ids::Epoch;
use mortise_etcd_kit::Release;

use crate::kit::{
    GROUP, Node, TTL, create, elect, elected, etcd, live, node, observer, observer_with, offline, shown,
    until,
};

/// Nodes that depose each other all the time; and which leader every epoch was seen with, by anybody.
struct Strife {
    stop: Arc<AtomicBool>,
    nodes: Vec<tokio::task::JoinHandle<Vec<(Epoch, NodeId)>>>,
    watcher: tokio::task::JoinHandle<Vec<(Epoch, NodeId)>>,
}

impl Strife {
    fn begin(nodes: &[Node], observer: Node) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let fight = |(node, number): (&Node, u64)| {
            let (node, stop) = (node.clone(), stop.clone());
            tokio::spawn(async move {
                let mut led = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    if let Some(seen) = elect(&node, number).await {
                        led.push((seen.record.unwrap().epoch, NodeId(number)));
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                led
            })
        };
        let nodes = nodes.iter().zip(1..).map(fight).collect();
        let watcher = tokio::spawn(watch(observer, stop.clone()));
        Self { stop, nodes, watcher }
    }

    /// Ends it: no epoch had two leaders. Returns how many epochs there were.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Release);
        let mut all = self.watcher.await.unwrap();
        for node in self.nodes {
            all.extend(node.await.unwrap());
        }
        let mut leaders = BTreeMap::new();
        for (epoch, leader) in all {
            let before = leaders.insert(epoch, leader);
            assert!(
                before.is_none_or(|before| before == leader),
                "two leaders in {epoch}: {before:?}, {leader}"
            );
        }
        leaders.len()
    }
}

async fn watch(observer: Node, stop: Arc<AtomicBool>) -> Vec<(Epoch, NodeId)> {
    let mut events = RoleEvents::new(observer.changes(Interest::Group(GROUP)), Viewpoint::Observer);
    let mut seen = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let Ok(told) = tokio::time::timeout(Duration::from_millis(100), events.next()).await else {
            continue;
        };
        if let Told::Role(event) = told
            && let RoleChange::LeaderChanged { epoch, leader: Some(leader) } = event.change
        {
            assert!(seen.last().is_none_or(|(last, _)| *last < epoch), "epochs go up");
            seen.push((epoch, leader));
        }
    }
    seen
}

async fn member_dies(release: Release) {
    let mut etcd = etcd(release, 3);
    let nodes = [node(&etcd, 1).await, node(&etcd, 2).await, node(&etcd, 3).await];
    create(&nodes[0]).await;
    let strife = Strife::begin(&nodes, observer(&etcd));
    for member in 0..3 {
        etcd.kill(member).unwrap();
        elected(&nodes[0], 1).await;
        etcd.restart(member).unwrap();
        etcd.wait_ready().unwrap();
        elected(&nodes[1], 2).await;
    }
    // The same with all of them.
    etcd.kill_all().unwrap();
    assert!(nodes[0].read_group(GROUP).await.is_err(), "an etcd that is not there answered");
    etcd.restart_all().unwrap();
    elected(&nodes[2], 3).await;
    for node in &nodes {
        live(node).await;
    }
    assert!(strife.end().await > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_etcd_3_4_are_killed_one_by_one_and_all_at_once() {
    member_dies(Release::V3_4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_etcd_3_5_are_killed_one_by_one_and_all_at_once() {
    member_dies(Release::V3_5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_hands_its_leadership_over() {
    let etcd = etcd(Release::V3_5, 3);
    let nodes = [node(&etcd, 1).await, node(&etcd, 2).await];
    let lease = live(&nodes[0]).await;
    create(&nodes[0]).await;
    let strife = Strife::begin(&nodes, observer(&etcd));
    for _ in 0..3 {
        let (leader, ids) = etcd.leader().unwrap();
        let next = &ids[(leader + 1) % 3];
        let endpoint = &etcd.endpoints()[leader];
        etcd.ctl(&["--endpoints", endpoint, "move-leader", next]).unwrap();
        assert_ne!(etcd.leader().unwrap().0, leader, "the fault happened");
        elected(&nodes[1], 2).await;
    }
    assert_eq!(live(&nodes[0]).await, lease, "a change of etcd's leader costs no session");
    assert!(strife.end().await > 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_member_is_left() {
    let etcd = etcd(Release::V3_5, 3);
    // Long enough for one attempt at the hanging member, and for etcd to elect another leader.
    let ttl = Duration::from_secs(6);
    let node = observer_with(&etcd, ttl);
    node.open_session(NodeId(1), BootId(1)).unwrap();
    let lease = live(&node).await;
    create(&node).await;
    // The node uses the first endpoint.
    etcd.freeze(0, true).unwrap();
    let frozen = Moment::now();
    elected(&node, 1).await;
    let mut changes = node.changes(Interest::Group(GROUP));
    let seen = elected(&node, 1).await;
    shown(&mut changes, &seen).await;
    let mut own = node.changes(Interest::All);
    let renewed = until(&mut own, "a renewal sent since then", |change| match change {
        Change::Session(SessionState::Live { lease, deadline }) => {
            (deadline > frozen.after(ttl)).then_some(lease)
        }
        _ => None,
    });
    assert_eq!(renewed.await, lease, "the session outlives the member");
    etcd.freeze(0, false).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_a_ttl_after_the_last_answered_renewal_was_sent() {
    let etcd = etcd(Release::V3_4, 1);
    let node = node(&etcd, 1).await;
    create(&node).await;
    etcd.freeze(0, true).unwrap();
    let frozen = Moment::now();
    let mut changes = node.changes(Interest::All);
    let mut deadline = Moment::now().after(TTL);
    let noticed = until(&mut changes, "the loss of the session", |change| match change {
        Change::Session(SessionState::Live { deadline: newer, .. }) => {
            deadline = newer;
            None
        }
        Change::Session(SessionState::Offline(_)) => Some(Moment::now()),
        _ => None,
    })
    .await;
    assert!(deadline <= frozen.after(TTL), "a renewal that was not answered counted");
    // The node's own statement is exact; the task that says so may be scheduled late.
    let late = noticed.since(deadline);
    assert!(late < Duration::from_millis(500), "noticed {late:?} late");
    assert!(node.swap_group(GROUP, mortise_coordination::Expected::Absent, record()).await.is_err());
    etcd.freeze(0, false).unwrap();
    live(&node).await;
    elected(&node, 1).await;
}

fn record() -> GroupRecord {
    let nonce = mortise_coordination::new_nonce().unwrap();
    GroupRecord::create(1, &[(NodeId(1), Incarnation(1))], 1, nonce).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_an_etcd_that_hangs_are_bounded() {
    let etcd = etcd(Release::V3_5, 1);
    let node = node(&etcd, 1).await;
    create(&node).await;
    etcd.freeze(0, true).unwrap();
    let asked = Moment::now();
    let error = node.read_group(GROUP).await.unwrap_err();
    assert!(error.to_string().contains(&etcd.endpoints()[0]), "{error}");
    let took = Moment::now().since(asked);
    let request_timeout = Config::new("faults").request_timeout;
    assert!(took < request_timeout + Duration::from_millis(500), "{took:?}");
    offline(&node).await;
    etcd.freeze(0, false).unwrap();
}

/// Of two endpoints, whoever leaves the dead one twice is back at it; and a renewal has to leave it by itself, because
/// nothing else may be asked before the session ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_among_two_costs_neither_start_nor_session() {
    let etcd = etcd(Release::V3_5, 1);
    let (dead, alive) = ("http://127.0.0.1:1".to_owned(), etcd.endpoints().swap_remove(0));
    for endpoints in [[dead.clone(), alive.clone()], [alive, dead]] {
        let backend = Etcd::new(EtcdConfig::new(endpoints.clone())).unwrap();
        let node = Coordination::start(Config::new("faults"), None, backend).unwrap();
        node.ready().await.unwrap();

        let backend = Etcd::new(EtcdConfig::new(endpoints)).unwrap();
        for _ in 0..4 {
            // One of the two is the dead one, and the attempt after it succeeds.
            let granted = match backend.grant(2).await {
                Ok(granted) => granted,
                Err(_) => backend.grant(2).await.unwrap(),
            };
            backend.turn_away();
            let renewed = backend.renew(granted.value.lease).await;
            assert!(renewed.is_err(), "the renewal was not sent to the dead endpoint");
            backend.renew(granted.value.lease).await.unwrap();
        }
    }
}
