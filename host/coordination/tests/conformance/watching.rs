//! What readers are told.

use std::time::Duration;

use mortise_coordination::{Change, Config, History, Interest, SessionState, group_name};
use mortise_core::group::NodeId;
use mortise_core::ids::GroupId;

use crate::world::{GROUP, World, create, group, present, until};

pub(crate) async fn the_present_is_told_first_and_changes_follow(world: World) {
    let node = world.node();
    create(&node).await;
    let mut changes = world.node().changes(Interest::Group(GROUP));
    assert_eq!(changes.next().await, Change::Session(SessionState::None));
    assert_eq!(changes.next().await, Change::History(History::Continuous));
    drop(changes);

    let reader = world.node();
    reader.ready().await.unwrap();
    let mut changes = reader.changes(Interest::Group(GROUP));
    let state =
        group(&mut changes, "the record", |state| state.record.as_ref().unwrap().record.is_some()).await;
    let seen = state.record.clone().unwrap();
    let next =
        seen.record.as_ref().unwrap().with_min_isr(3, mortise_coordination::new_nonce().unwrap()).unwrap();
    node.swap_group(GROUP, present(&seen), next.clone()).await.unwrap();
    let told = group(&mut changes, "the change", |state| {
        state.record.as_ref().unwrap().record == Some(next.clone())
    });
    assert!(told.await.record.as_ref().unwrap().mod_revision > seen.mod_revision);

    // A group that is not there is told, too, to who asks for it.
    let mut absent = reader.changes(Interest::Group(GroupId(404)));
    let told = until(&mut absent, "the absent group", |change| match change {
        Change::Group(GroupId(404), state) => Some(state),
        _ => None,
    });
    let told = told.await.record.clone().unwrap();
    assert_eq!((told.record, told.cluster), (None, seen.cluster));
}

pub(crate) async fn deeper_levels_and_foreign_folders_are_not_told(world: World) {
    let node = world.node();
    node.ready().await.unwrap();
    let mut changes = node.changes(Interest::All);
    while changes.try_next().is_some() {}
    for rest in
        ["groups/0001/audit", "sessions/1/x", "candidates/0001/1-1/x", "nodes/1/x", "other/thing", "loose"]
    {
        world.put(&world.key(rest), "x");
    }
    // Names that are nobody's are left out, and said in the log.
    world.put(&world.key("groups/1"), "x");
    let nodes = std::sync::Mutex::new(0);
    create(&node).await;
    let first = until(&mut changes, "the record", |change| match change {
        Change::Group(number, state) => Some((number, state.record.is_ok())),
        Change::Nodes(_) | Change::Tenants(_) => {
            *nodes.lock().unwrap() += 1;
            None
        }
        _ => None,
    });
    assert_eq!(first.await, (GROUP, true), "nothing else was told before");
    assert_eq!(*nodes.lock().unwrap(), 0);
}

pub(crate) async fn a_reader_that_is_late_finds_the_newest(world: World) {
    let node = world.node();
    let mut seen = create(&node).await;
    let mut late = node.changes(Interest::Group(GROUP));
    let mut prompt = node.changes(Interest::Group(GROUP));
    for _ in 0..20 {
        let record = seen.record.clone().unwrap();
        let min_isr = if record.min_isr == 2 { 3 } else { 2 };
        let next = record.with_min_isr(min_isr, mortise_coordination::new_nonce().unwrap()).unwrap();
        seen = crate::world::applied(node.swap_group(GROUP, present(&seen), next).await.unwrap());
    }
    group(&mut prompt, "the last change", |state| {
        state.record.as_ref().unwrap().mod_revision == seen.mod_revision
    })
    .await;
    let mut told = Vec::new();
    while let Some(change) = late.try_next() {
        if let Change::Group(_, state) = change {
            told.push(state.record.as_ref().unwrap().mod_revision);
        }
    }
    assert_eq!(told, [seen.mod_revision], "one state, the newest");
}

pub(crate) async fn a_watch_survives_compaction(world: World) {
    let node = world.node();
    let mut changes = node.changes(Interest::Group(GROUP));
    let mut seen = create(&node).await;
    for round in 0..3 {
        world.compact(&node).await;
        let members =
            seen.record.clone().unwrap().add(NodeId(10 + round), mortise_coordination::new_nonce().unwrap());
        seen = crate::world::applied(node.swap_group(GROUP, present(&seen), members.unwrap()).await.unwrap());
        group(&mut changes, "the change", |state| {
            state.record.as_ref().unwrap().mod_revision == seen.mod_revision
        })
        .await;
    }
}

pub(crate) async fn listing_again_changes_nothing(world: World) {
    let config = Config { relist_every: Duration::from_millis(100), ..world.config() };
    let node = world.node_with(config);
    // The first listing is news: what it tells is not waited for below.
    node.ready().await.unwrap();
    let first = create(&node).await;
    let mut changes = node.changes(Interest::All);
    group(&mut changes, "the record", |state| state.record.as_ref().unwrap().record.is_some()).await;
    while changes.try_next().is_some() {}
    // Fifteen listings are enough to see one that is told.
    let told = tokio::time::timeout(Duration::from_millis(1_500), async {
        loop {
            match changes.next().await {
                Change::Group(..) | Change::Nodes(_) => return,
                _ => {}
            }
        }
    });
    told.await.expect_err("a listing was told as news");
    assert_eq!(node.read_group(GROUP).await.unwrap().mod_revision, first.mod_revision);
    world.delete(&world.key("groups/0001"));
    group(&mut changes, "the end", |state| state.record.as_ref().unwrap().record.is_none()).await;
}

pub(crate) async fn clusters_do_not_see_each_other(world: World) {
    let (own, longer) = (world.node(), format!("{}-b", world.cluster));
    let other = world.node_with(Config::new(longer.clone()));
    create(&other).await;
    assert_eq!(own.read_group(GROUP).await.unwrap().record, None);
    create(&own).await;
    world.delete(&world.key("groups/0001"));
    assert!(other.read_group(GROUP).await.unwrap().record.is_some());
    assert!(world.value(&format!("/{longer}/groups/0001")).await.is_some());
}

pub(crate) async fn a_thousand_keys_at_once_are_told(world: World) {
    let node = world.node();
    create(&node).await;
    let text = world.value(&world.key("groups/0001")).await.unwrap();
    let changes = node.changes(Interest::All);
    // More than one page of a listing, written in transactions of 100.
    let keys: Vec<(String, String)> = (2..=1_200)
        .map(|number| (world.key(&format!("groups/{}", group_name(GroupId(number)))), text.clone()))
        .collect();
    for some in keys.chunks(100) {
        world.put_together(some).await;
    }
    // By the watch, and by the listing of a node that starts now.
    let late = world.node();
    for mut changes in [changes, late.changes(Interest::All)] {
        let mut there = std::collections::BTreeSet::new();
        until(&mut changes, "1,200 groups", |change| {
            if let Change::Group(number, state) = change
                && state.record.as_ref().is_ok_and(|seen| seen.record.is_some())
            {
                there.insert(number);
            }
            (there.len() == 1_200).then_some(())
        })
        .await;
    }
}

pub(crate) async fn large_values_of_others_hide_nothing(world: World) {
    // Together more than gRPC's usual 4 MiB.
    let large = "x".repeat(1 << 20);
    let keys = [1, 2, 3, 4, 5].map(|number| (world.key(&format!("notes/{number}")), large.clone()));
    let early = world.node();
    early.ready().await.unwrap();
    for key in &keys {
        world.put_together(std::slice::from_ref(key)).await;
    }
    create(&early).await;
    for node in [early, world.node()] {
        group(&mut node.changes(Interest::Group(GROUP)), "the record", |state| {
            state.record.as_ref().unwrap().record.is_some()
        })
        .await;
    }
    keys.iter().for_each(|(key, _)| world.delete(key));
}
