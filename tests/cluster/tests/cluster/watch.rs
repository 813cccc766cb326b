//! Watchers of a cluster whose leaders are killed: every write once, in order, as its writer was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mortise_client::kv::{Change, Reply, put};
use mortise_client::watch::Told;
use mortise_client::{
    Client, Options, Tenant, Watch, WatchEvent, WatchFrom, WatchOptions, WriterOptions, parse_endpoints,
};
use mortise_cluster_kit::PATIENCE;
use prost::Message;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::kit::Kv;

const TENANT: &str = "watched";
const WRITERS: u64 = 4;
/// Leaders that are killed, and writes that are acknowledged in between.
const KILLS: usize = 3;
const WRITES_BETWEEN: u64 = 150;

/// A cluster with a tenant that keeps what watchers want.
fn start() -> Kv {
    let kv = Kv::start();
    kv.cluster.ok(&["tenant", "create", TENANT, "--plugin", "kv", "--watch"]).unwrap();
    kv
}

fn tenant(kv: &Kv, runtime: &Runtime) -> Tenant {
    let _entered = runtime.enter();
    let endpoints = parse_endpoints(&kv.cluster.endpoints()).unwrap();
    Client::lazy(&Options { endpoints, ..Options::default() }).unwrap().tenant(TENANT)
}

/// Writers that put a value of its own with each write, and what they were told.
#[derive(Clone, Default)]
struct Writers {
    stop: Arc<AtomicBool>,
    /// All have stopped.
    done: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    /// Each acknowledged write's command, by the version that it was answered with.
    answers: Arc<Mutex<BTreeMap<u64, Bytes>>>,
}

impl Writers {
    async fn write(self, tenant: Tenant, writer: u64) {
        let pipeline = tenant.writer(WriterOptions::default()).await.unwrap();
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let command = put(format!("{}/{writer}", number % 3), format!("{writer}-{number}"), 0);
            let reply = pipeline.write(command.clone()).await.unwrap();
            let version = Reply::decode(reply).unwrap().version;
            let other = self.answers.lock().unwrap().insert(version, command);
            assert_eq!(other, None, "version {version} was answered twice");
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wait_acknowledged(&self, more: u64) {
        let (wanted, begun) = (self.acknowledged.load(Ordering::Relaxed) + more, Instant::now());
        while self.acknowledged.load(Ordering::Relaxed) < wanted {
            assert!(begun.elapsed() < PATIENCE, "writes stand still");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// All events up to the newest one that was acknowledged, and until nothing more comes.
async fn watch_all(mut watch: Watch, writers: Writers) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    loop {
        let told = timeout(PATIENCE, watch.told()).await.unwrap().unwrap();
        match told {
            Told::Event(event) => events.push(event),
            Told::CaughtUp if writers.done.load(Ordering::Acquire) => {
                let newest = writers.answers.lock().unwrap().keys().next_back().copied();
                if newest < Some(watch.place().sequence) {
                    return events;
                }
            }
            Told::CaughtUp => {}
        }
    }
}

#[test]
fn watchers_see_every_write_once_over_leaders_that_are_killed() {
    let mut kv = start();
    let (runtime, writers) = (Runtime::new().unwrap(), Writers::default());
    let tenant = tenant(&kv, &runtime);
    let begin = |any_member, key_prefix: &str| {
        let key_prefix = key_prefix.as_bytes().to_vec();
        WatchOptions { from: WatchFrom::Oldest, any_member, key_prefix }
    };
    let watches = [begin(false, ""), begin(true, ""), begin(false, "k1/")].map(|options| {
        let watch = runtime.block_on(tenant.watch(options)).unwrap();
        runtime.spawn(watch_all(watch, writers.clone()))
    });
    let writing: Vec<_> =
        (0..WRITERS).map(|writer| runtime.spawn(writers.clone().write(tenant.clone(), writer))).collect();
    for _ in 0..KILLS {
        writers.wait_acknowledged(WRITES_BETWEEN);
        let leader = kv.cluster.wait_leader().unwrap();
        kv.cluster.node(leader).kill().unwrap();
        writers.wait_acknowledged(WRITES_BETWEEN);
        kv.cluster.node(leader).start().unwrap();
        kv.cluster.wait_in_sync_while_written().unwrap();
    }
    writers.stop.store(true, Ordering::Relaxed);
    writing.into_iter().for_each(|writing| runtime.block_on(writing).unwrap());
    writers.done.store(true, Ordering::Release);
    let [led, any, filtered] = watches.map(|watch| runtime.block_on(watch).unwrap());

    let told: Vec<u64> = led.iter().map(|event| event.sequence).collect();
    assert_eq!(told, (1..=led.len() as u64).collect::<Vec<_>>(), "each once, in order");
    let epochs: BTreeSet<u64> = led.iter().map(|event| event.position.epoch).collect();
    assert!(epochs.len() > KILLS, "leaders changed: {epochs:?}");
    let answers = writers.answers.lock().unwrap();
    assert!(answers.len() as u64 >= 2 * WRITES_BETWEEN * KILLS as u64);
    let commands: BTreeMap<u64, Bytes> =
        led.iter().map(|event| (event.sequence, event.command.clone().unwrap())).collect();
    // All is acknowledged in the end, exactly once, and the watcher saw what the writers were told.
    assert_eq!(commands, *answers);
    let shown = |event: &WatchEvent| (event.sequence, event.position, event.effects.clone());
    let all: Vec<_> = led.iter().map(shown).collect();
    assert_eq!(any.iter().map(shown).collect::<Vec<_>>(), all, "any member tells the same");
    let wanted = all.into_iter().filter(|(_, _, effects)| {
        effects.iter().any(
            |effect| matches!(effect, mortise_client::watch::Effect::Put(key, _) if key.starts_with(b"k1/")),
        )
    });
    assert_eq!(filtered.iter().map(shown).collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
}

#[test]
fn a_member_that_was_rebuilt_from_a_snapshot_tells_what_was_before_it() {
    let mut kv = start();
    let kv_put = |kv: &Kv, number: u32| {
        kv.cluster.ok(&["kv", "--tenant", TENANT, "put", &format!("k{number}"), "1"]).unwrap();
    };
    (1..=10).for_each(|number| kv_put(&kv, number));
    let runtime = Runtime::new().unwrap();
    let options = WatchOptions { from: WatchFrom::Sequence(4), ..WatchOptions::default() };
    let mut watch = runtime.block_on(tenant(&kv, &runtime).watch(options)).unwrap();
    let mut next = || runtime.block_on(async { timeout(PATIENCE, watch.next()).await.unwrap().unwrap() });
    assert_eq!(next().sequence, 4);

    let leader = kv.cluster.wait_leader().unwrap();
    let follower = leader % 3 + 1;
    kv.cluster.node(follower).kill().unwrap();
    kv.cluster.node(follower).wipe().unwrap();
    kv_put(&kv, 11);
    // The log that the snapshot covers is gone: the wiped node can only come back by the snapshot.
    kv.cluster.ok_at(leader, &["snapshot"]).unwrap();
    kv.cluster.node(follower).start().unwrap();
    kv.cluster.wait_in_sync().unwrap();
    kv.cluster.ok(&["cluster", "transfer", "1", &follower.to_string()]).unwrap();
    assert_eq!(kv.cluster.wait_leader().unwrap(), follower);
    kv_put(&kv, 12);
    for sequence in 5..=12 {
        assert_eq!(next().sequence, sequence, "the watch goes on at the rebuilt leader");
    }
    let client = mortise_client::kv::Kv::new(tenant(&kv, &runtime));
    let mut keys = runtime.block_on(client.watch("k1", WatchFrom::Oldest)).unwrap();
    for (version, key) in [(1, "k1"), (10, "k10"), (11, "k11"), (12, "k12")] {
        let event = runtime.block_on(async { timeout(PATIENCE, keys.next()).await.unwrap().unwrap() });
        let [Change::Put(record)] = event.changes.as_slice() else { panic!("{event:?}") };
        assert_eq!(
            (event.version, record.version, record.key.as_slice()),
            (version, version, key.as_bytes())
        );
    }
}
