//! Snapshots, compaction, export and import.

use bytes::Bytes;
use mortise_node::replica::{AdminError, Replica, StartError, verify};
use tokio::sync::mpsc;

use crate::kit::{Node, get, put_ok, runtime, upload_bad, write};

async fn export(replica: &Replica, tenant: &str) -> Vec<u8> {
    let (sender, mut receiver) = mpsc::channel::<Result<Bytes, AdminError>>(4);
    let gather = tokio::spawn(async move {
        let mut bytes = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        bytes
    });
    replica.export(tenant, sender).await.unwrap();
    gather.await.unwrap()
}

async fn import(replica: &Replica, name: &str, bytes: &[u8]) -> Result<(), AdminError> {
    let chunks: Vec<Result<Bytes, AdminError>> =
        bytes.chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    replica.import(name, futures::stream::iter(chunks)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_lets_the_log_go_and_rebuilds_a_lost_state() {
    let mut node = Node::new();
    node.options.segment_bytes = 64 << 10;
    let (replica, tenant) = node.start_kv().await;
    let (session, _) = replica.open_session(tenant, 0).await.unwrap();
    let value = "v".repeat(1_000);
    for n in 0..300 {
        put_ok(&replica, tenant, &format!("k{n}"), &value).await;
    }
    let taken = replica.snapshot().await.unwrap();
    for n in 300..400 {
        put_ok(&replica, tenant, &format!("k{n}"), &value).await;
    }
    assert!(replica.status().log_first_index > 1, "the log was compacted");
    assert!(replica.status().snapshot_index == taken.index.0);
    let before = replica.tenant_info("kv", true).await.unwrap();
    assert_eq!(before.snapshot_section, "plugin");
    replica.shutdown().await;

    std::fs::remove_dir_all(node.options.data.join("state")).unwrap();
    let replica = node.start().await;
    let after = replica.tenant_info("kv", true).await.unwrap();
    assert_eq!((after.state, after.effect_digest), (before.state, before.effect_digest));
    replica.close_session(tenant, session).await.expect("sessions are in the snapshot");
    put_ok(&replica, tenant, "more", "1").await;
    replica.shutdown().await;

    let path = node.options.data.clone();
    let report = tokio::task::spawn_blocking(move || verify(&path, &runtime()).unwrap()).await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.tenants.len(), report.snapshots.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_snapshot_enough_log_has_to_gather_for_the_next() {
    let mut node = Node::new();
    node.options.segment_bytes = 64 << 10;
    node.options.snapshot_log_bytes = 512 << 10;
    let (replica, tenant) = node.start_kv().await;
    let value = "v".repeat(2_000);
    let mut taken = vec![];
    while taken.len() < 4 {
        put_ok(&replica, tenant, &format!("k{}", taken.len()), &value).await;
        let index = replica.status().snapshot_index;
        if index > 0 && taken.last() != Some(&index) {
            taken.push(index);
        }
        assert!(replica.status().applied_index < 5_000, "{taken:?}");
    }
    replica.shutdown().await;
    // 256 entries of 2 KB, less the segment that is kept; what was written while one was taken counts for the next.
    assert!(taken.windows(2).all(|pair| pair[1] - pair[0] > 64), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_state_and_every_snapshot_gone_the_start_says_what_is_missing() {
    let mut node = Node::new();
    node.options.segment_bytes = 64 << 10;
    let (replica, tenant) = node.start_kv().await;
    let value = "v".repeat(1_000);
    for n in 0..200 {
        put_ok(&replica, tenant, &format!("k{n}"), &value).await;
    }
    replica.snapshot().await.unwrap();
    put_ok(&replica, tenant, "last", "1").await;
    replica.shutdown().await;
    std::fs::remove_dir_all(node.options.data.join("state")).unwrap();
    for file in std::fs::read_dir(node.options.data.join("snapshots")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let error = node.try_start().await.err().unwrap();
    assert!(matches!(error, StartError::Gap { .. }), "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(error.advice(true).contains("from a copy") && error.advice(false).contains("other members"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfaithful_plugin_gets_a_raw_section_and_loses_nothing() {
    let mut node = Node::new();
    node.options.segment_bytes = 64 << 10;
    let (replica, _) = node.start_kv().await;
    let digest = upload_bad(&replica, "unfaithful-snapshot").await;
    replica.create_tenant("liar", &digest, false).await.unwrap();
    let liar = replica.tenant("liar").unwrap();
    for n in 0..20 {
        replica.write(write(liar, format!("put k{n} v").into())).await.unwrap();
    }
    replica.write(write(liar, format!("put large {}", "v".repeat(3 << 20)).into())).await.unwrap();
    replica.snapshot().await.unwrap();
    let before = replica.tenant_info("liar", true).await.unwrap();
    assert!(before.snapshot_section.starts_with("raw: "), "{}", before.snapshot_section);
    let file = export(&replica, "liar").await;
    import(&replica, "copy", &file).await.unwrap();
    assert_eq!(replica.tenant_info("copy", true).await.unwrap().state, before.state);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_becomes_an_equal_tenant_also_on_another_node() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    for n in 0..100 {
        put_ok(&replica, tenant, &format!("k{n}"), "v").await;
    }
    let file = export(&replica, "kv").await;
    let original = replica.tenant_info("kv", true).await.unwrap();
    assert!(matches!(import(&replica, "kv", &file).await, Err(AdminError::AlreadyExists { .. })));
    replica.shutdown().await;

    let other = Node::new();
    let replica = other.start().await;
    import(&replica, "copy", &file).await.unwrap();
    let copy = replica.tenant_info("copy", true).await.unwrap();
    assert_eq!((copy.state, copy.commands), (original.state, original.commands));
    let tenant = replica.tenant("copy").unwrap();
    assert_eq!(get(&replica, tenant, "k7").await.as_deref(), Some("v"));
    replica.shutdown().await;
    let replica = other.start().await;
    assert_eq!(replica.tenant_info("copy", true).await.unwrap().state, original.state);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_import_is_refused_and_leaves_nothing() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    put_ok(&replica, tenant, "a", "1").await;
    let file = export(&replica, "kv").await;
    let last = replica.status().last_index;
    for at in (0..file.len()).step_by(file.len() / 60) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x40;
        assert!(import(&replica, "copy", &damaged).await.is_err(), "byte {at} flipped");
        assert!(import(&replica, "copy", &file[..at]).await.is_err(), "cut at {at}");
    }
    assert_eq!(replica.list_tenants().len(), 1);
    assert_eq!(replica.status().last_index, last, "nothing of it reached the log");
    replica.shutdown().await;
}
