//! What is acknowledged is on the disk, and is there after every crash.

use std::sync::Arc;

use mortise_core::ids::{LogIndex, TenantId};
use mortise_node::replica::{Replica, StartError, WriteError};
use mortise_storage::disk::FaultyDisk;
use mortise_storage::{Log, LogOptions};

use crate::kit::{Node, eventually, get, is_stopped, put, put_ok, upload, write};

/// The index up to which the log on `disk`, crashed without anything unsynced, reaches.
fn durable_index(disk: &FaultyDisk) -> LogIndex {
    let (log, _) = Log::open(Arc::new(disk.clone()), LogOptions::default()).unwrap();
    log.last_index()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_was_covered_by_a_finished_fsync() {
    let disk = FaultyDisk::new();
    let node = Node::on(Arc::new(disk.clone()));
    let (replica, tenant) = node.start_kv().await;
    for round in 0..40 {
        let written = put_ok(&replica, tenant, &format!("k{round}"), "v").await;
        let crashed = disk.survivor();
        let index = written.position.unwrap().index;
        assert!(durable_index(&crashed) >= index, "round {round}: acknowledged before its fsync");
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_crashes_that_lose_or_tear_everything_unsynced() {
    for seed in 0..6 {
        let disk = FaultyDisk::new();
        let node = Node::on(Arc::new(disk.clone()));
        let (replica, tenant) = node.start_kv().await;
        let writers: Vec<_> =
            (0..4).map(|n| tokio::spawn(write_until_stopped(replica.clone(), tenant, n))).collect();
        eventually("some writes", || async { replica.status().applied_index > 40 + seed * 7 }).await;
        // The disk loses power under a running replica.
        disk.crash(seed);
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        replica.shutdown().await;
        assert!(acknowledged.len() > 20);
        // The state was never synced: what the machine lost with its power it is rebuilt from.
        std::fs::remove_dir_all(node.options.data.join("state")).unwrap();
        let replica = node.start().await;
        for key in acknowledged {
            assert_eq!(get(&replica, tenant, &key).await.as_deref(), Some("v"), "seed {seed}: lost {key}");
        }
        replica.shutdown().await;
    }
}

async fn write_until_stopped(replica: Replica, tenant: TenantId, writer: u32) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let key = format!("{writer}-{n}");
        match replica.write(write(tenant, put(&key, "v"))).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => {
                assert!(is_stopped(&error), "{error}");
                break;
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fsync_stops_the_replica_and_is_not_tried_again() {
    let disk = FaultyDisk::new();
    let node = Node::on(Arc::new(disk.clone()));
    let (replica, tenant) = node.start_kv().await;
    put_ok(&replica, tenant, "a", "1").await;
    disk.fail_syncs(1);
    let failed = replica.write(write(tenant, put("a", "2"))).await.unwrap_err();
    assert!(is_stopped(&failed), "{failed}");
    let later = replica.write(write(tenant, put("a", "3"))).await.unwrap_err();
    assert!(is_stopped(&later), "{later}");
    assert!(replica.fault().borrow().as_ref().is_some_and(|fault| fault.contains("log")));
    replica.shutdown().await;
    disk.crash_losing_all();
    let replica = node.start().await;
    assert_eq!(get(&replica, tenant, "a").await.as_deref(), Some("1"));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_low_water_mark_writes_are_refused_and_reads_go_on() {
    let disk = FaultyDisk::new();
    let mut node = Node::on(Arc::new(disk.clone()));
    node.options.free_disk_bytes_min = 8 << 20;
    let (replica, tenant) = node.start_kv().await;
    put_ok(&replica, tenant, "a", "1").await;
    disk.fill_after(4 << 20);
    eventually("a refusal", || async { replica.status().writes_refused.is_some() }).await;
    let refused = replica.write(write(tenant, put("a", "2"))).await.unwrap_err();
    assert!(matches!(refused, WriteError::DiskFull { .. }), "{refused}");
    assert!(replica.create_tenant("other", "kv", false).await.is_err());
    assert_eq!(get(&replica, tenant, "a").await.as_deref(), Some("1"));
    disk.make_room();
    eventually("the refusal's end", || async { replica.status().writes_refused.is_none() }).await;
    put_ok(&replica, tenant, "a", "2").await;
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_is_rebuilt_from_the_log_and_equals_the_old_one() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    upload(&replica, "mortise-plugin-ledger").await;
    replica.create_tenant("money", "ledger", true).await.unwrap();
    for n in 0..200 {
        put_ok(&replica, tenant, &format!("k{}", n % 50), &n.to_string()).await;
    }
    let before = replica.tenant_info("kv", true).await.unwrap();
    replica.shutdown().await;
    std::fs::remove_dir_all(node.options.data.join("state")).unwrap();
    let replica = node.start().await;
    let after = replica.tenant_info("kv", true).await.unwrap();
    assert_eq!((after.state, after.effect_digest), (before.state, before.effect_digest));
    assert!(before.state.unwrap().pairs >= 50);
    assert!(replica.tenant_info("money", false).await.unwrap().watch);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_what_the_state_holds_is_an_error_and_stays_as_it_is() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    put_ok(&replica, tenant, "a", "1").await;
    replica.shutdown().await;
    let log = node.options.data.join("log");
    std::fs::rename(&log, node.folder.path().join("aside")).unwrap();
    std::fs::create_dir(&log).unwrap();
    let error = node.try_start().await.err().unwrap();
    assert!(matches!(error, StartError::LogLost { .. }), "{error}");
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(node.folder.path().join("aside"), &log).unwrap();
    let replica = node.start().await;
    assert_eq!(get(&replica, tenant, "a").await.as_deref(), Some("1"));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_in_use_is_refused() {
    let node = Node::new();
    let replica = node.start().await;
    let error = node.try_start().await.err().unwrap();
    assert!(error.to_string().contains("is in use by process"), "{error}");
    replica.shutdown().await;
    node.start().await.shutdown().await;
}
