//! Hostile plugins: each gets its error, and every other tenant goes on.

use mortise_core::outcome::Failure;
use mortise_core::replica::Freshness;
use mortise_node::replica::{AdminError, QueryError, WriteError};
use mortise_runtime::{Runtime, RuntimeOptions};

use crate::kit::{Node, get, put_ok, upload_bad, write};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_at_upload() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let uploads = ["not-wasm", "core-module", "empty-component", "wrong-world", "wasi-clock", "truncated"];
    for name in uploads {
        let component = mortise_artifacts::bad_guest(name).unwrap();
        let error =
            replica.upload_plugin(component.into()).await.err().unwrap_or_else(|| panic!("{name} passed"));
        assert!(matches!(error, AdminError::Plugin(_)), "{name}: {error}");
        if name == "wasi-clock" {
            assert!(error.to_string().contains("wasi:clocks/"), "{error}");
        }
    }
    let large = vec![0; (32 << 20) + 1];
    assert!(replica.upload_plugin(large.into()).await.is_err());
    assert_eq!(replica.list_plugins().len(), 1);
    put_ok(&replica, tenant, "a", "1").await;
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_command_fails_alone_and_is_remembered_after_a_restart() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let digest = upload_bad(&replica, "hostile").await;
    replica.create_tenant("hostile", &digest, false).await.unwrap();
    let hostile = replica.tenant("hostile").unwrap();
    let commands =
        ["loop", "eat-memory", "overflow-stack", "reply-gigabyte", "flood-host", "trap", "put-big"];
    for command in commands {
        let error = replica.write(write(hostile, command.into())).await.unwrap_err();
        assert!(matches!(error, WriteError::Failed(_)), "{command}: {error}");
        put_ok(&replica, tenant, command, "still here").await;
    }
    let rejected = replica.write(write(hostile, "reject".into())).await.unwrap_err();
    assert!(matches!(rejected, WriteError::Rejected(_)), "{rejected}");
    let before = replica.tenant_info("hostile", true).await.unwrap();
    assert_eq!(before.failures, commands.len() as u64);
    replica.shutdown().await;

    std::fs::remove_dir_all(node.options.data.join("state")).unwrap();
    let replica = node.start().await;
    let after = replica.tenant_info("hostile", true).await.unwrap();
    assert_eq!((after.effect_digest, after.failures), (before.effect_digest, before.failures));
    for command in commands {
        assert_eq!(get(&replica, tenant, command).await.as_deref(), Some("still here"));
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_any_export_stays_inside_its_tenant() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    for name in ["trap-in-validate", "trap-in-query", "trap-in-expire", "trap-in-snapshot", "trap-in-restore"]
    {
        let digest = upload_bad(&replica, name).await;
        replica.create_tenant(name, &digest, false).await.unwrap();
        let bad = replica.tenant(name).unwrap();
        let written = replica.write(write(bad, "put k v".into())).await;
        if name == "trap-in-validate" {
            assert!(matches!(written, Err(WriteError::Failed(Failure::Trapped { .. }))), "{written:?}");
        }
        let query = replica.query(bad, None, "x".into(), Freshness::Linearizable).await;
        assert_eq!(matches!(query, Err(QueryError::Failed(_))), name == "trap-in-query", "{name}: {query:?}");
        replica.snapshot().await.unwrap();
        put_ok(&replica, tenant, name, "1").await;
    }
    assert!(
        replica.tenant_info("trap-in-snapshot", false).await.unwrap().snapshot_section.starts_with("raw")
    );
    assert!(replica.tenant_info("trap-in-restore", false).await.unwrap().snapshot_section.starts_with("raw"));
    assert_eq!(replica.tenant_info("kv", false).await.unwrap().snapshot_section, "plugin");
    let refused = mortise_artifacts::bad_guest("trap-in-describe").unwrap();
    assert!(replica.upload_plugin(refused.into()).await.is_err());
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_instance_left_a_query_is_told_to_come_again_and_the_replica_goes_on() {
    let mut node = Node::new();
    node.runtime = Runtime::new(RuntimeOptions { pool_instances: 4, ..RuntimeOptions::default() }).unwrap();
    let (replica, tenant) = node.start_kv().await;
    let digest = upload_bad(&replica, "hostile").await;
    let names: Vec<_> = (0..9).map(|n| format!("t{n}")).collect();
    for name in &names {
        replica.create_tenant(name, &digest, false).await.unwrap();
    }
    let mut refused = 0;
    for name in &names {
        let hostile = replica.tenant(name).unwrap();
        // Each tenant's instance is kept for its next query.
        match replica.query(hostile, None, "ok".into(), Freshness::Linearizable).await {
            Ok(_) => {}
            Err(QueryError::Overloaded(_)) => {
                refused += 1;
                replica.query(hostile, None, "ok".into(), Freshness::Linearizable).await.unwrap();
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(refused > 0, "nine tenants share four instances");
    put_ok(&replica, tenant, "a", "1").await;
    replica.shutdown().await;
}
