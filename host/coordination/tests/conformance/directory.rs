//! Nodes and tenants.

use mortise_coordination::{
    Addresses, Change, CoordinationError, Expected, Interest, NodeRecord, SwapOutcome, TenantRecord,
    TenantState, new_nonce,
};
use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::{Epoch, GroupId, TenantId};

use crate::world::{World, applied, until};

fn tenant(epoch: u64, state: TenantState) -> TenantRecord {
    TenantRecord { group: GroupId(1), epoch: Epoch(epoch), state, nonce: new_nonce().unwrap() }
}

pub(crate) async fn tenants_are_looked_up(world: World) {
    let node = world.node();
    let mut changes = node.changes(Interest::All);
    assert_eq!(node.read_tenant("orders").await.unwrap().record, None);
    let first = tenant(1, TenantState::Creating);
    let created = applied(node.swap_tenant("orders", Expected::Absent, Some(first.clone())).await.unwrap());
    let expected = Expected::Present { mod_revision: created.mod_revision, nonce: first.nonce };
    let ready = tenant(1, TenantState::Ready(TenantId(1)));
    let made_ready = applied(node.swap_tenant("orders", expected, Some(ready.clone())).await.unwrap());
    for next in [Some(tenant(2, TenantState::Creating)), None] {
        let again = node.swap_tenant("orders", expected, next).await.unwrap();
        assert!(matches!(again, SwapOutcome::Refused(_)), "{again:?}");
    }
    assert_eq!(node.read_tenant("orders").await.unwrap().record, Some(ready.clone()));
    until(&mut changes, "the tenant", |change| match change {
        Change::Tenants(tenants) => {
            let record = |entry: &mortise_coordination::Entry<TenantRecord>| entry.clone().unwrap().record;
            (tenants.get("orders").and_then(record) == Some(ready.clone())).then_some(())
        }
        _ => None,
    })
    .await;
    let expected = Expected::Present { mod_revision: made_ready.mod_revision, nonce: ready.nonce };
    applied(node.swap_tenant("orders", expected, None).await.unwrap());
    assert_eq!(node.read_tenant("orders").await.unwrap().record, None);
    until(&mut changes, "no tenant", |change| match change {
        Change::Tenants(tenants) => tenants.is_empty().then_some(()),
        _ => None,
    })
    .await;
    applied(node.swap_tenant("orders", Expected::Absent, Some(first.clone())).await.unwrap());
    for name in ["", "a/b", "-x", "../x"] {
        assert!(matches!(node.read_tenant(name).await, Err(CoordinationError::Config(_))), "{name}");
        let swapped = node.swap_tenant(name, Expected::Absent, Some(ready.clone())).await;
        assert!(matches!(swapped, Err(CoordinationError::Config(_))), "{name}");
    }
}

pub(crate) async fn nodes_are_listed_with_their_sessions(world: World) {
    let node = world.node();
    let addresses = Addresses { peer: "127.0.0.1:7402".into(), ..Addresses::default() };
    let nonce = new_nonce().unwrap();
    let record = NodeRecord { storage: 0xabc, boot: BootId(4), count: 0, addresses, nonce };
    applied(node.swap_node(NodeId(5), Expected::Absent, record.clone()).await.unwrap());
    assert_eq!(node.read_node(NodeId(5)).await.unwrap().record, Some(record.clone()));
    let alive = world.live_node(5, 4).await;
    until(&mut node.changes(Interest::All), "the node, alive", |change| match change {
        Change::Nodes(nodes) => {
            let state = nodes.get(&NodeId(5))?;
            let session = state.session?;
            assert_eq!((session.boot, Some(session.lease)), (BootId(4), alive.session().live()));
            assert_eq!(state.record.clone()?.unwrap().record, Some(record.clone()));
            Some(())
        }
        _ => None,
    })
    .await;
}

pub(crate) async fn damaged_entries_hide_no_others(world: World) {
    let node = world.node();
    let alive = world.live_node(1, 1).await;
    world.put(&world.key("nodes/2"), "{}");
    world.put(&world.key("sessions/3"), r#"{"level":1,"boot":1}"#);
    world.put(&world.key("tenants/bad"), r#"{"level":1}"#);
    let good = tenant(1, TenantState::Ready(TenantId(1)));
    applied(node.swap_tenant("good", Expected::Absent, Some(good)).await.unwrap());
    let mut changes = node.changes(Interest::All);
    until(&mut changes, "both tenants", |change| match change {
        Change::Tenants(tenants) => (tenants.len() == 2).then(|| {
            assert!(tenants["good"].is_ok());
            let corrupt = tenants["bad"].clone().unwrap_err();
            assert_eq!(corrupt.key, world.key("tenants/bad"));
        }),
        _ => None,
    })
    .await;
    until(&mut node.changes(Interest::All), "the nodes", |change| match change {
        Change::Nodes(nodes) => (nodes.len() == 2).then(|| {
            assert!(nodes[&NodeId(1)].session.is_some() && alive.session().live().is_some());
            assert!(nodes[&NodeId(2)].record.as_ref().unwrap().is_err());
            // A session without a lease would never end: it is none.
            assert!(!nodes.contains_key(&NodeId(3)));
        }),
        _ => None,
    })
    .await;
    let read = node.read_node(NodeId(2)).await;
    assert!(matches!(read, Err(CoordinationError::Corrupt(_))), "{read:?}");
}
