//! Watches of one replica: what is told, from where, to whom, and how they end.

use std::time::Duration;

use bytes::Bytes;
use mortise_core::ids::{LogIndex, TenantId};
use mortise_core::layer::Effect;
use mortise_core::outcome::Outcome;
use mortise_core::replica::Position;
use mortise_node::replica::{
    Kept, QueryError, Replica, Watch, WatchBatch, WatchError, WatchFrom, WatchRequest,
};
use tokio::time::timeout;

use crate::kit::{Node, delete_all, get, put, put_if_absent, put_ok, put_ttl, upload, write};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node with a tenant `watched` that keeps what watchers want.
async fn start(node: &Node) -> (Replica, TenantId) {
    let replica = node.start().await;
    upload(&replica, "mortise-plugin-kv").await;
    replica.create_tenant("watched", "kv", true).await.unwrap();
    let tenant = replica.tenant("watched").unwrap();
    (replica, tenant)
}

fn request(tenant: TenantId, from: WatchFrom) -> WatchRequest {
    let progress = Duration::from_secs(5);
    WatchRequest { tenant, from, key_prefix: Bytes::new(), any_member: false, progress }
}

fn from(sequence: u64) -> WatchFrom {
    WatchFrom::Sequence { sequence, after: None }
}

async fn watch(replica: &Replica, tenant: TenantId, from: WatchFrom) -> Watch {
    replica.watch(request(tenant, from)).await.unwrap()
}

async fn batch(watch: &mut Watch) -> Result<WatchBatch, WatchError> {
    timeout(PATIENCE, watch.next()).await.expect("the watch says nothing")
}

/// The next so many events; what else is told in between is left out.
async fn events(watch: &mut Watch, count: usize) -> Vec<Kept> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(batch(watch).await.unwrap().events);
    }
    assert_eq!(events.len(), count, "more was told than was written");
    events
}

async fn end(watch: &mut Watch) -> WatchError {
    loop {
        if let Err(error) = batch(watch).await {
            return error;
        }
    }
}

fn sequences(events: &[Kept]) -> Vec<u64> {
    events.iter().map(|event| event.sequence).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_is_told_once_with_its_outcome_and_effects() {
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    let mut watch = watch(&replica, tenant, WatchFrom::Now).await;
    let first = batch(&mut watch).await.unwrap();
    assert_eq!((first.events.len(), first.next, first.caught_up), (0, 1, true));

    let written = put_ok(&replica, tenant, "a", "1").await;
    replica.write(write(tenant, put_if_absent("a", "2"))).await.unwrap_err();
    replica.write(write(tenant, delete_all())).await.unwrap();
    let told = events(&mut watch, 3).await;
    assert_eq!(sequences(&told), [1, 2, 3]);
    assert_eq!(Some(told[0].position), written.position);
    assert_eq!(told[0].command, Some(put("a", "1")));
    assert_eq!(told[0].outcome, Outcome::Applied(written.reply));
    assert!(matches!(told[0].effects.as_slice(), [Effect::Put(key, _)] if *key == "ka"));
    assert!(matches!(&told[1].outcome, Outcome::Rejected(rejection) if rejection.code == "already_exists"));
    assert_eq!(told[1].effects, []);
    assert!(matches!(told[2].effects.as_slice(), [Effect::DeleteRange(_)]));
    assert!(told.windows(2).all(|pair| pair[0].time <= pair[1].time));

    // The same again, for one who comes later.
    let mut later = self::watch(&replica, tenant, WatchFrom::Oldest).await;
    assert_eq!(events(&mut later, 3).await, told);
    let mut later = self::watch(&replica, tenant, from(3)).await;
    assert_eq!(events(&mut later, 1).await, told[2..]);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiration_is_told_like_a_command() {
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    let mut watch = watch(&replica, tenant, WatchFrom::Now).await;
    replica.write(write(tenant, put_ttl("short", "1", 50))).await.unwrap();
    let told = events(&mut watch, 2).await;
    assert_eq!((told[1].sequence, &told[1].command), (2, &None));
    assert!(told[1].effects.contains(&Effect::Delete("kshort".into())), "{:?}", told[1].effects);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_passes_over_what_is_not_wanted_and_says_how_far_it_is() {
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    let wanted = WatchRequest { key_prefix: "kb".into(), ..request(tenant, WatchFrom::Oldest) };
    let progress = Duration::from_millis(100);
    let mut watch = replica.watch(WatchRequest { progress, ..wanted }).await.unwrap();
    for key in ["a", "b1", "a", "c", "b2", "a", "a"] {
        put_ok(&replica, tenant, key, "1").await;
    }
    let told = events(&mut watch, 2).await;
    assert_eq!(sequences(&told), [2, 5]);
    // Both lie far back when the mark comes: whoever resumes does not look at all that again.
    loop {
        let batch = batch(&mut watch).await.unwrap();
        assert_eq!(batch.events, []);
        if batch.next == 8 {
            assert!(batch.caught_up);
            assert_eq!(batch.after.unwrap().index, LogIndex(replica.status().applied_index));
            break;
        }
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_restart_and_after_a_lost_state() {
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    for n in 0..50 {
        put_ok(&replica, tenant, &format!("k{n}"), "1").await;
    }
    let mut watch = watch(&replica, tenant, WatchFrom::Oldest).await;
    let told = events(&mut watch, 50).await;
    let after = told.last().unwrap().position;
    let (kept, _) = (told, replica.snapshot().await.unwrap());
    for n in 50..60 {
        put_ok(&replica, tenant, &format!("k{n}"), "1").await;
    }
    replica.shutdown().await;
    assert!(matches!(end(&mut watch).await, WatchError::Query(QueryError::ShuttingDown)));

    // The state comes from the snapshot and the log: what is kept for watchers, too.
    std::fs::remove_dir_all(node.options.data.join("state")).unwrap();
    let replica = node.start().await;
    let resume = WatchFrom::Sequence { sequence: 51, after: Some(after) };
    let mut watch = self::watch(&replica, tenant, resume).await;
    assert_eq!(sequences(&events(&mut watch, 10).await), (51..=60).collect::<Vec<_>>());
    let mut all = self::watch(&replica, tenant, WatchFrom::Oldest).await;
    assert_eq!(events(&mut all, 60).await[..50], kept[..]);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_are_not_there_are_refused_with_where_to_begin() {
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    put_ok(&replica, tenant, "a", "1").await;
    let ahead = replica.watch(request(tenant, from(3))).await.err().unwrap();
    assert!(matches!(ahead, WatchError::Ahead { wanted: 3, newest: 1 }), "{ahead}");
    let foreign = Position { index: LogIndex(1), epoch: mortise_core::ids::Epoch(77) };
    let lost = WatchFrom::Sequence { sequence: 2, after: Some(foreign) };
    let lost = replica.watch(request(tenant, lost)).await.err().unwrap();
    assert!(matches!(lost, WatchError::Lost), "{lost}");
    replica.create_tenant("unwatched", "kv", false).await.unwrap();
    let unwatched = replica.tenant("unwatched").unwrap();
    let refused = replica.watch(request(unwatched, WatchFrom::Now)).await.err().unwrap();
    assert!(matches!(refused, WatchError::NotKept), "{refused}");
    let nobody = replica.watch(request(TenantId(99), WatchFrom::Now)).await.err().unwrap();
    assert!(matches!(nobody, WatchError::Query(QueryError::NoSuchTenant)), "{nobody}");
    replica.shutdown().await;
}

/// 64 MiB are kept: a watcher that sleeps through more finds out, and one that reads on does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_is_told_that_its_place_is_gone() {
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    let mut slow = watch(&replica, tenant, WatchFrom::Now).await;
    put_ok(&replica, tenant, "first", "1").await;
    assert_eq!(sequences(&events(&mut slow, 1).await), [1]);
    let mut quick = watch(&replica, tenant, WatchFrom::Now).await;
    let large = "v".repeat(3 << 20);
    for _ in 0..12 {
        put_ok(&replica, tenant, "large", &large).await;
        assert_eq!(events(&mut quick, 1).await.len(), 1);
    }
    // A command is kept beside its effects: 6 MiB each.
    let error = end(&mut slow).await;
    let WatchError::Compacted { wanted: 2, oldest } = error else { panic!("{error}") };
    assert!((3..=4).contains(&oldest), "{oldest}");
    let mut anew = watch(&replica, tenant, from(oldest)).await;
    assert_eq!(events(&mut anew, 1).await[0].sequence, oldest);
    let mut all = watch(&replica, tenant, WatchFrom::Oldest).await;
    assert_eq!(events(&mut all, 1).await[0].sequence, oldest);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_tenant_and_survives_a_switch() {
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    let mut watch = watch(&replica, tenant, WatchFrom::Now).await;
    replica.switch_tenant("watched", "kv").await.unwrap();
    put_ok(&replica, tenant, "a", "1").await;
    assert_eq!(sequences(&events(&mut watch, 1).await), [1]);
    replica.drop_tenant("watched").await.unwrap();
    assert!(matches!(end(&mut watch).await, WatchError::Query(QueryError::NoSuchTenant)));
    // Another one of that name has another number.
    replica.create_tenant("watched", "kv", true).await.unwrap();
    assert!(matches!(end(&mut watch).await, WatchError::Query(QueryError::NoSuchTenant)));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watchers_of_a_flood_are_all_told_everything() {
    const WRITES: u64 = 2_000;
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    let watchers = (0..20).map(|number| {
        let replica = replica.clone();
        tokio::spawn(async move {
            let mut watch = watch(&replica, tenant, WatchFrom::Oldest).await;
            let mut next = 1;
            while next <= WRITES {
                let batch = batch(&mut watch).await.unwrap();
                for event in &batch.events {
                    assert_eq!(event.sequence, next, "watcher {number}");
                    next += 1;
                }
                assert_eq!(batch.next, next);
            }
        })
    });
    let watchers: Vec<_> = watchers.collect();
    let writes = (0..WRITES).map(|n| {
        let replica = replica.clone();
        async move { put_ok(&replica, tenant, &format!("k{}", n % 7), "1").await }
    });
    futures::future::join_all(writes).await;
    for watcher in watchers {
        watcher.await.unwrap();
    }
    assert_eq!(get(&replica, tenant, "k0").await.as_deref(), Some("1"));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_given_up_loses_nothing() {
    let node = Node::new();
    let (replica, tenant) = start(&node).await;
    let mut watch = watch(&replica, tenant, WatchFrom::Now).await;
    let mut told = Vec::new();
    for n in 0..200u64 {
        put_ok(&replica, tenant, "a", &n.to_string()).await;
        // Given up at once, and after a while.
        for wait in [Duration::ZERO, Duration::from_micros(n * 7)] {
            if let Ok(batch) = timeout(wait, watch.next()).await {
                told.extend(batch.unwrap().events);
            }
        }
    }
    let left = 200 - told.len();
    told.extend(events(&mut watch, left).await);
    assert_eq!(sequences(&told), (1..=200).collect::<Vec<_>>());
    replica.shutdown().await;
}
