//! What concurrent clients see, while leaders are killed, stopped and cut off, can have happened one after the other, each
//! write once.
//!
//! Every write of the kv plugin is answered with a version that no other write of the tenant has, and every read with the
//! version it saw. So the only order that can explain a history is known, and what is left to check is that it agrees
//! with time: an operation that began after another was answered must not be older (Herlihy and Wing, 1990).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mortise_client::kv::Kv as KvClient;
use mortise_client::{Client, Options, WriterOptions, parse_endpoints};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::kit::Kv;

const CLIENTS: u64 = 6;
const KEYS: u64 = 4;
/// How long a fault lasts, and the calm after it.
const FAULT: Duration = Duration::from_millis(2500);
const CALM: Duration = Duration::from_millis(500);

#[derive(Default)]
struct History {
    /// The newest version that was answered of each key.
    newest: BTreeMap<u64, u64>,
    /// The newest version that any write was answered with.
    newest_write: u64,
    /// What each acknowledged write wrote.
    written: BTreeMap<u64, u64>,
    acknowledged: u64,
    read: u64,
    problems: Vec<String>,
}

impl History {
    fn wrote(&mut self, key: u64, floor: u64, version: u64, value: u64) {
        if version <= floor {
            self.problems
                .push(format!("a write made version {version}, but {floor} was answered before it began"));
        }
        if let Some(other) = self.written.insert(version, value) {
            self.problems.push(format!("version {version} was given to {value} and to {other}"));
        }
        self.acknowledged += 1;
        self.newest_write = self.newest_write.max(version);
        let newest = self.newest.entry(key).or_default();
        *newest = version.max(*newest);
    }

    fn saw(&mut self, key: u64, floor: u64, version: u64) {
        if version < floor {
            self.problems.push(format!(
                "a read of {key} saw version {version}, but {floor} was answered before it began"
            ));
        }
        self.read += 1;
        let newest = self.newest.entry(key).or_default();
        *newest = version.max(*newest);
    }
}

/// Clients that read and write until told to stop.
pub(crate) struct Load {
    runtime: Runtime,
    history: Arc<Mutex<History>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Each on a connection of its own, in the tenant `kv`.
    pub(crate) fn start(endpoints: &str) -> Self {
        let options = Options { endpoints: parse_endpoints(endpoints).unwrap(), ..Options::default() };
        Self::launch("kv", || Client::lazy(&options).unwrap())
    }

    /// All on the connections of one client.
    pub(crate) fn through(client: &Client, tenant: &'static str) -> Self {
        Self::launch(tenant, || client.clone())
    }

    fn launch(tenant: &'static str, client: impl Fn() -> Client) -> Self {
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let (history, stop) = (Arc::new(Mutex::new(History::default())), Arc::new(AtomicBool::new(false)));
        let tasks = (0..CLIENTS).map(|number| {
            let (history, stop, tenant) = (history.clone(), stop.clone(), client().tenant(tenant));
            runtime.spawn(async move {
                let writer = tenant.writer(WriterOptions::default()).await.unwrap();
                let kv = KvClient::with_writer(tenant, writer);
                for operation in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    operate(&kv, &history, number, operation).await;
                }
            })
        });
        let tasks = tasks.collect();
        drop(entered);
        Self { runtime, history, stop, tasks }
    }

    fn acknowledged(&self) -> u64 {
        self.history.lock().unwrap().acknowledged
    }

    /// Waits until so many more writes are acknowledged.
    pub(crate) fn wait_acknowledged(&self, more: u64) {
        let wanted = self.acknowledged() + more;
        let begun = std::time::Instant::now();
        while self.acknowledged() < wanted {
            assert!(begun.elapsed() < mortise_cluster_kit::PATIENCE, "writes stand still");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the load; the number of acknowledged writes.
    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            self.runtime.block_on(task).unwrap();
        }
        let history = self.history.lock().unwrap();
        assert!(history.problems.is_empty(), "{}", history.problems.join("\n"));
        assert!(history.read > 0);
        history.acknowledged
    }
}

async fn operate(kv: &KvClient, history: &Mutex<History>, client: u64, number: u64) {
    let key = (client + number / 3) % KEYS;
    if number.is_multiple_of(3) {
        let (value, floor) = (client << 32 | number, history.lock().unwrap().newest_write);
        let reply = kv.put(key.to_string(), value.to_le_bytes(), 0).await.unwrap();
        history.lock().unwrap().wrote(key, floor, reply.version, value);
    } else {
        let floor = history.lock().unwrap().newest.get(&key).copied().unwrap_or(0);
        let record = kv.get(key.to_string()).await.unwrap();
        history.lock().unwrap().saw(key, floor, record.map_or(0, |record| record.version));
    }
}

/// Ends the load, and checks that the cluster has what it was told, once.
pub(crate) fn finish(kv: &Kv, load: Load) {
    finish_in(kv, load, 1, "kv");
}

/// The same of a tenant in another group.
pub(crate) fn finish_in(kv: &Kv, load: Load, group: u64, tenant: &str) {
    let acknowledged = load.finish();
    let status = kv.cluster.wait_in_sync_of(group).unwrap();
    let commands = kv.cluster.json(&["tenant", "show", tenant]).unwrap()["commands"].as_u64().unwrap();
    assert_eq!(commands, acknowledged, "every write once: {status}");
}

fn epoch(kv: &Kv) -> u64 {
    kv.cluster.status().unwrap()["record"]["epoch"].as_u64().unwrap()
}

#[test]
fn histories_are_linearizable_while_nodes_are_killed_and_stopped() {
    let mut kv = Kv::start("");
    let load = Load::start(&kv.cluster.endpoints());
    let before = epoch(&kv);
    for _ in 0..2 {
        load.wait_acknowledged(50);
        let leader = kv.cluster.wait_leader().unwrap();
        kv.cluster.node(leader).kill().unwrap();
        load.wait_acknowledged(50);
        kv.cluster.node(leader).start().unwrap();
        kv.cluster.wait_in_sync_while_written().unwrap();

        let leader = kv.cluster.wait_leader().unwrap();
        kv.cluster.node(leader).freeze(true).unwrap();
        std::thread::sleep(FAULT);
        kv.cluster.node(leader).freeze(false).unwrap();
        load.wait_acknowledged(50);
        kv.cluster.wait_in_sync_while_written().unwrap();
    }
    assert!(epoch(&kv) >= before + 4, "four leaders were taken away");
    finish(&kv, load);
}

#[test]
fn histories_are_linearizable_while_links_are_cut() {
    let kv = Kv::start_with_links();
    let links = kv.cluster.links().unwrap();
    let load = Load::start(&kv.cluster.endpoints());
    let before = epoch(&kv);
    for _ in 0..2 {
        load.wait_acknowledged(50);
        let leader = kv.cluster.wait_leader().unwrap();
        let held = links.held_bytes();
        links.isolate(leader, true);
        std::thread::sleep(FAULT);
        load.wait_acknowledged(50);
        links.isolate(leader, false);
        assert!(links.held_bytes() > held, "nothing was cut off");
        kv.cluster.wait_in_sync_while_written().unwrap();
        std::thread::sleep(CALM);

        // One way only: a follower hears the leader, and is not heard.
        let leader = kv.cluster.wait_leader().unwrap();
        let follower = leader % 3 + 1;
        links.set(leader, follower, mortise_cluster_kit::Cut { forth: false, back: true });
        links.set(follower, leader, mortise_cluster_kit::Cut { forth: true, back: false });
        std::thread::sleep(FAULT);
        load.wait_acknowledged(50);
        links.isolate(follower, false);
        kv.cluster.wait_in_sync_while_written().unwrap();
        std::thread::sleep(CALM);
    }
    assert!(epoch(&kv) >= before + 2, "two leaders were cut off");
    finish(&kv, load);
}
