//! Tenants, plugins, profiles, expiry.

use mortise_core::outcome::{Failure, Limit};
use mortise_core::profile::Profile;
use mortise_core::state::{Direction, KeyRange};
use mortise_node::replica::{AdminError, WriteError};
use mortise_storage::{StateDb, StateDbOptions, StateId};

use crate::kit::{Node, eventually, get, put, put_ok, put_ttl, upload, upload_bad, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_fires_on_an_idle_tenant_and_only_once_due() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    replica.write(write(tenant, put_ttl("short", "1", 150))).await.unwrap();
    replica.write(write(tenant, put_ttl("long", "1", 3_600_000))).await.unwrap();
    assert!(replica.tenant_info("kv", true).await.unwrap().next_due_ms.is_some());
    let pairs = replica.tenant_info("kv", true).await.unwrap().state.unwrap().pairs;
    eventually("the expiry", || async {
        replica.tenant_info("kv", true).await.unwrap().state.unwrap().pairs < pairs
    })
    .await;
    assert_eq!(get(&replica, tenant, "short").await, None);
    assert_eq!(get(&replica, tenant, "long").await.as_deref(), Some("1"));
    let idle = replica.status().last_index;
    assert!(
        replica.tenant_info("kv", false).await.unwrap().next_due_ms.is_some(),
        "the long one is still due"
    );
    put_ok(&replica, tenant, "x", "1").await;
    assert_eq!(replica.status().last_index, idle + 1, "nothing else was proposed meanwhile");
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_and_ids_are_not_reused() {
    let node = Node::new();
    let (replica, first) = node.start_kv().await;
    let twice = replica.create_tenant("kv", "kv", false).await.unwrap_err();
    assert!(matches!(twice, AdminError::AlreadyExists { .. }), "{twice}");
    for bad in ["", "-x", "a b", "\u{e9}", &"x".repeat(129)] {
        let error = replica.create_tenant(bad, "kv", false).await.unwrap_err();
        assert!(matches!(error, AdminError::Invalid(_)), "{bad:?}: {error}");
    }
    put_ok(&replica, first, "a", "1").await;
    replica.drop_tenant("kv").await.unwrap();
    let gone = replica.write(write(first, put("a", "2"))).await.unwrap_err();
    assert_eq!(gone, WriteError::NoSuchTenant);
    replica.create_tenant("kv", "kv", false).await.unwrap();
    let second = replica.tenant("kv").unwrap();
    assert!(second > first);
    assert_eq!(get(&replica, second, "a").await, None);
    replica.shutdown().await;
    let replica = node.start().await;
    replica.create_tenant("third", "kv", false).await.unwrap();
    assert!(replica.tenant("third").unwrap() > second);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_switches_only_to_a_plugin_of_its_name_and_schema() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    upload(&replica, "mortise-plugin-ledger").await;
    let foreign = replica.switch_tenant("kv", "ledger").await.unwrap_err();
    assert!(matches!(foreign, AdminError::FailedPrecondition(_)), "{foreign}");
    let unknown = replica.switch_tenant("kv", "nothing").await.unwrap_err();
    assert!(matches!(unknown, AdminError::NotFound { .. }), "{unknown}");
    put_ok(&replica, tenant, "a", "1").await;
    replica.switch_tenant("kv", "kv").await.unwrap();
    assert_eq!(get(&replica, tenant, "a").await.as_deref(), Some("1"));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_changes_by_one_entry_and_holds_after_a_restart() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let stale = replica.set_profile(Profile { version: 1, ..Profile::default() }).await.unwrap_err();
    assert!(matches!(stale, AdminError::FailedPrecondition(_)), "{stale}");
    let broken =
        replica.set_profile(Profile { version: 2, fuel: 1, ..Profile::default() }).await.unwrap_err();
    assert!(matches!(broken, AdminError::Invalid(_)), "{broken}");
    let small = Profile { version: 2, value_bytes_max: 100, ..Profile::default() };
    replica.set_profile(small.clone()).await.unwrap();
    let too_large = replica.write(write(tenant, put("a", &"x".repeat(500)))).await.unwrap_err();
    let limit = Failure::LimitExceeded { limit: Limit::ValueBytes };
    assert_eq!(too_large, WriteError::Failed(limit));
    put_ok(&replica, tenant, "a", "1").await;
    replica.shutdown().await;
    let replica = node.start().await;
    assert_eq!(replica.profile(), small);
    put_ok(&replica, tenant, "a", "2").await;
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_when_unused_for_their_ttl() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    replica.open_session(tenant, 1).await.unwrap();
    replica.open_session(tenant, 0).await.unwrap();
    assert_eq!(replica.status().sessions, 2);
    eventually("the end of the short session", || async { replica.status().sessions == 1 }).await;
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_cannot_begin_makes_no_tenant() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let digest = upload_bad(&replica, "trap-in-migrate").await;
    let error = replica.create_tenant("bad", &digest, false).await.unwrap_err();
    assert!(matches!(error, AdminError::FailedPrecondition(_)), "{error}");
    assert_eq!(replica.tenant("bad"), None);
    put_ok(&replica, tenant, "a", "1").await;
    replica.shutdown().await;
}

/// How many effects lie in the state database of a node that is stopped.
fn effects_kept(node: &Node) -> usize {
    let db = StateDb::open(&node.options.data.join("state"), StateDbOptions::default()).unwrap();
    db.effects_scan(StateId(1), &KeyRange::all(), Direction::Ascending).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_are_kept_for_watched_tenants_and_go_with_them() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    replica.create_tenant("watched", "kv", true).await.unwrap();
    let watched = replica.tenant("watched").unwrap();
    for key in ["a", "b", "c"] {
        put_ok(&replica, watched, key, "1").await;
        put_ok(&replica, tenant, key, "1").await;
    }
    replica.shutdown().await;
    assert_eq!(effects_kept(&node), 3);

    let replica = node.start().await;
    replica.drop_tenant("watched").await.unwrap();
    replica.shutdown().await;
    // Nothing tells when the janitor has made its round.
    eventually("the end of the effects", || async {
        let replica = node.start().await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        replica.shutdown().await;
        effects_kept(&node) == 0
    })
    .await;
}
