//! Reads and swaps.

use futures::future::join_all;
use mortise_coordination::{CoordinationError, Expected, Interest, Revision, Source, SwapOutcome, new_nonce};
use mortise_core::group::{BootId, GroupRecord, LeaseId, NodeId, Nonce};
use mortise_core::ids::Epoch;

use crate::world::{GROUP, World, applied, create, group, present, record, refused};

fn elect(record: &GroupRecord, node: u64) -> GroupRecord {
    let nonce = new_nonce().unwrap();
    record.elect(NodeId(node), Epoch(record.epoch.0 + 1), BootId(1), LeaseId(u64::MAX >> 1), nonce)
}

pub(crate) async fn a_record_is_created_once(world: World) {
    let node = world.node();
    assert_eq!(node.read_group(GROUP).await.unwrap().record, None);
    let created = create(&node).await;
    assert_eq!(created.mod_revision, created.revision);
    let there = refused(node.swap_group(GROUP, Expected::Absent, record()).await.unwrap());
    assert_eq!((there.record, there.mod_revision), (created.record.clone(), created.mod_revision));
    let read = node.read_group(GROUP).await.unwrap();
    assert_eq!((read.record, read.mod_revision), (created.record, created.mod_revision));
    let text = world.value(&world.key("groups/0001")).await.unwrap();
    assert!(text.starts_with(r#"{"level":2,"epoch":0"#), "{text}");
}

pub(crate) async fn a_swap_compares_revision_and_nonce(world: World) {
    let node = world.node();
    let first = create(&node).await;
    let next = elect(first.record.as_ref().unwrap(), 1);
    let Expected::Present { mod_revision, nonce } = present(&first) else { unreachable!() };

    let other_nonce = Expected::Present { mod_revision, nonce: Nonce(nonce.0 ^ 1) };
    let other_revision = Expected::Present { mod_revision: Revision(mod_revision.0 + 1), nonce };
    for wrong in [other_nonce, other_revision] {
        let there = refused(node.swap_group(GROUP, wrong, next.clone()).await.unwrap());
        assert_eq!((&there.record, there.mod_revision), (&first.record, first.mod_revision));
    }

    let second = applied(node.swap_group(GROUP, present(&first), next.clone()).await.unwrap());
    assert_eq!(second.record, Some(next.clone()));
    assert!(second.mod_revision > first.mod_revision);
    let there = refused(node.swap_group(GROUP, present(&first), elect(&next, 2)).await.unwrap());
    assert_eq!((there.record, there.mod_revision), (Some(next), second.mod_revision));
}

pub(crate) async fn of_swaps_at_once_one_is_applied(world: World) {
    let nodes = [world.node(), world.node(), world.node()];
    let mut current = create(&nodes[0]).await;
    for _ in 0..10 {
        let record = current.record.clone().unwrap();
        let swaps = nodes
            .iter()
            .zip(1..)
            .map(|(node, number)| node.swap_group(GROUP, present(&current), elect(&record, number)));
        let outcomes = join_all(swaps).await;
        let mut winners = outcomes.into_iter().filter_map(|outcome| match outcome.unwrap() {
            SwapOutcome::Applied(seen) => Some(seen),
            _ => None,
        });
        current = winners.next().expect("a winner");
        assert_eq!(winners.next(), None, "two winners");
        assert_eq!(nodes[1].read_group(GROUP).await.unwrap().record, current.record);
    }
}

pub(crate) async fn a_deleted_record_is_absent_and_not_recreated_by_a_swap(world: World) {
    let node = world.node();
    let mut changes = node.changes(Interest::Group(GROUP));
    let first = create(&node).await;
    group(&mut changes, "the record", |state| state.record.as_ref().unwrap().record.is_some()).await;
    world.delete(&world.key("groups/0001"));
    let gone = group(&mut changes, "its end", |state| state.record.as_ref().unwrap().record.is_none()).await;
    assert!(gone.record.as_ref().unwrap().mod_revision > first.mod_revision, "the deletion's revision");
    let next = elect(first.record.as_ref().unwrap(), 1);
    let there = refused(node.swap_group(GROUP, present(&first), next).await.unwrap());
    assert_eq!(there.record, None);
    assert_eq!(world.value(&world.key("groups/0001")).await, None);
}

pub(crate) async fn a_record_written_otherwise_by_others_can_be_replaced(world: World) {
    let node = world.node();
    create(&node).await;
    let key = world.key("groups/0001");
    let text = world.value(&key).await.unwrap();
    world.put(&key, &text.replace(',', ", "));
    let seen = node.read_group(GROUP).await.unwrap();
    let next = elect(seen.record.as_ref().unwrap(), 2);
    applied(node.swap_group(GROUP, present(&seen), next).await.unwrap());
}

pub(crate) async fn corrupt_values_are_named_and_left_alone(world: World) {
    let node = world.node();
    let mut changes = node.changes(Interest::All);
    let created = create(&node).await;
    let key = world.key("groups/0001");
    let good = world.value(&key).await.unwrap();
    let without_voter = good.replace(r#""isr":[1,"#, r#""isr":[9,"#);
    for (bad, why) in [
        ("no JSON", "not a group record"),
        ("", "not a group record"),
        (r#"{"level":3,"novelty":true}"#, "from a newer release"),
        (without_voter.as_str(), "no voter"),
    ] {
        world.put(&key, bad);
        let state = group(&mut changes, "the corruption", |state| {
            state.record.as_ref().is_err_and(|error| error.why.contains(why))
        });
        let corrupt = state.await.record.clone().unwrap_err();
        assert_eq!(corrupt.key, key);
        assert!(corrupt.mod_revision > created.mod_revision);
        let read = node.read_group(GROUP).await;
        assert_eq!(read, Err(CoordinationError::Corrupt(corrupt.clone())));
        for expected in [Expected::Absent, present(&created)] {
            let swapped = node.swap_group(GROUP, expected, record()).await;
            assert_eq!(swapped, Err(CoordinationError::Corrupt(corrupt.clone())));
        }
        assert_eq!(world.value(&key).await.unwrap_or_default(), bad);
    }
    world.put(&key, &good);
    group(&mut changes, "the repaired record", |state| state.record.is_ok()).await;
}

pub(crate) async fn reads_tell_cluster_and_revision(world: World) {
    let node = world.node();
    let before = node.read_group(GROUP).await.unwrap();
    let created = create(&node).await;
    assert!(created.revision > before.revision);
    let read = node.read_group(GROUP).await.unwrap();
    assert!(read.revision >= created.revision);
    assert_eq!((read.cluster, read.source), (before.cluster, Source::Read));
    assert!(
        node.known().is_some_and(|known| known.cluster == read.cluster && known.revision >= read.revision)
    );
    let mut changes = node.changes(Interest::All);
    let state = group(&mut changes, "the record", |state| {
        state.record.as_ref().is_ok_and(|seen| seen.record.is_some())
    });
    let told = state.await.record.clone().unwrap();
    assert_eq!(
        (told.cluster, told.mod_revision, told.source),
        (read.cluster, read.mod_revision, Source::Watch)
    );
}

pub(crate) async fn an_observer_may_swap_and_a_node_only_while_its_session_lives(world: World) {
    let observer = world.node();
    let first = create(&observer).await;
    let node = world.live_node(1, 1).await;
    let next = elect(first.record.as_ref().unwrap(), 1);
    let second = applied(node.swap_group(GROUP, present(&first), next.clone()).await.unwrap());
    node.close().await;
    let refused = node.swap_group(GROUP, present(&second), elect(&next, 1)).await;
    assert_eq!(refused, Err(CoordinationError::NoSession));
    assert_eq!(observer.read_group(GROUP).await.unwrap().mod_revision, second.mod_revision);
    let mut broken = record();
    broken.min_isr = 7;
    assert!(matches!(
        observer.swap_group(GROUP, present(&second), broken).await,
        Err(CoordinationError::Record(_))
    ));
}
