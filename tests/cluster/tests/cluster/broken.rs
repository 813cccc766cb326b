//! The checker of histories notices nodes in which a rule of the protocol is out of force: in the same story, nothing is
//! wrong with nodes that keep it.

use std::sync::Mutex;
use std::time::Duration;

use mortise_client::kv::Kv as KvClient;
use mortise_client::{Client, Options};
use tokio::runtime::Runtime;

use crate::history::{History, read, write};
use crate::kit::Kv;

/// How long a client waits for what may never be answered.
const SHORTLY: Duration = Duration::from_secs(2);

/// A client that knows of some nodes.
async fn client(kv: &Kv, nodes: &[usize]) -> KvClient {
    let endpoints = nodes.iter().map(|node| kv.cluster.nodes()[node - 1].data_url()).collect();
    let options = Options { endpoints, timeout: SHORTLY, ..Options::default() };
    KvClient::new(Client::connect(&options).await.unwrap().tenant("kv"))
}

/// The leader, and the others.
fn places(kv: &Kv) -> (usize, [usize; 2]) {
    let leader = kv.cluster.wait_leader().unwrap();
    (leader, [leader % 3 + 1, (leader + 1) % 3 + 1])
}

/// A leader is cut off from everybody but a client, which goes on reading what another client writes elsewhere.
fn read_from_a_leader_that_is_cut_off(broken: Option<&'static str>) -> Vec<String> {
    let kv = Kv::start_broken(broken);
    let links = kv.cluster.links().unwrap();
    let (leader, others) = places(&kv);
    let (runtime, history) = (Runtime::new().unwrap(), Mutex::new(History::default()));
    let old = runtime.block_on(client(&kv, &[leader]));
    runtime.block_on(write(&old, &history, 1, 10)).unwrap();
    runtime.block_on(read(&old, &history, 1)).unwrap();

    links.isolate(leader, true);
    links.isolate_from_etcd(leader, true);
    let next = kv.cluster.wait_leader_at(others[0]).unwrap();
    assert_ne!(next, leader);
    let new = runtime.block_on(client(&kv, &[next]));
    runtime.block_on(write(&new, &history, 1, 11)).unwrap();
    let answered = runtime.block_on(read(&old, &history, 1));
    assert_eq!(answered.is_ok(), broken.is_some(), "{answered:?}");

    links.isolate(leader, false);
    links.isolate_from_etcd(leader, false);
    kv.cluster.wait_in_sync().unwrap();
    runtime.block_on(read(&old, &history, 1)).unwrap();
    history.into_inner().unwrap().problems()
}

/// A leader is cut off from its followers, given a write, and killed.
fn kill_a_leader_whose_followers_have_nothing(broken: Option<&'static str>) -> Vec<String> {
    let mut kv = Kv::start_broken(broken);
    let (leader, others) = places(&kv);
    let (runtime, history) = (Runtime::new().unwrap(), Mutex::new(History::default()));
    let old = runtime.block_on(client(&kv, &[leader]));
    runtime.block_on(write(&old, &history, 1, 10)).unwrap();

    let links = kv.cluster.links().unwrap();
    links.isolate(leader, true);
    // Nor does it hear from etcd of a leader in its place, to whom it could send the client.
    links.isolate_from_etcd(leader, true);
    let acknowledged = runtime.block_on(write(&old, &history, 1, 11));
    assert_eq!(acknowledged.is_ok(), broken.is_some(), "{acknowledged:?}");
    kv.cluster.node(leader).kill().unwrap();
    let next = kv.cluster.wait_leader_at(others[0]).unwrap();
    // What was on its way to the followers comes too late now.
    let links = kv.cluster.links().unwrap();
    links.isolate(leader, false);
    links.isolate_from_etcd(leader, false);
    let new = runtime.block_on(client(&kv, &[next]));
    runtime.block_on(read(&new, &history, 1)).unwrap();

    // Where it believes that it has committed what the others do not have, it stops rather than truncate that.
    if broken.is_none() {
        kv.restart(leader);
        kv.cluster.wait_in_sync().unwrap();
        runtime.block_on(read(&new, &history, 1)).unwrap();
    }
    history.into_inner().unwrap().problems()
}

#[test]
fn reads_without_confirmation_are_noticed() {
    let problems = read_from_a_leader_that_is_cut_off(Some("read-unconfirmed"));
    assert!(problems.iter().any(|problem| problem.contains("a read of 1 saw")), "{problems:?}");
    let problems = read_from_a_leader_that_is_cut_off(None);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn acknowledgements_before_followers_are_noticed() {
    let problems = kill_a_leader_whose_followers_have_nothing(Some("commit-alone"));
    assert!(problems.iter().any(|problem| problem.contains("a read of 1 saw")), "{problems:?}");
    let problems = kill_a_leader_whose_followers_have_nothing(None);
    assert!(problems.is_empty(), "{problems:?}");
}
