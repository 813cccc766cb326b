//! Watches: they mend themselves without a gap or a repeat, and end with an error that says why.

use std::time::Duration;

use mortise_client::watch::{Effect, Place, Told};
use mortise_client::{Client, ErrorKind, Options, Watch, WatchFrom, WatchOptions};
use tokio::time::timeout;

use crate::server::{Faults, Node, Running};
use crate::telling::{TENANT, Telling};

const PATIENCE: Duration = Duration::from_secs(20);

fn change(node: &Node, change: impl FnOnce(&mut Telling)) {
    node.telling.send_modify(change);
}

async fn started(telling: Telling) -> Running {
    let node = Node::new(Faults::default());
    change(&node, |told| *told = telling);
    node.start().await
}

fn options(running: &[&Running]) -> Options {
    let endpoints = running.iter().map(|running| running.endpoint.clone()).collect();
    Options { endpoints, silence_timeout: Duration::from_millis(300), ..Options::default() }
}

async fn watch(running: &[&Running], from: WatchFrom) -> Watch {
    let tenant = Client::connect(&options(running)).await.unwrap().tenant("t");
    tenant.watch(WatchOptions { from, ..WatchOptions::default() }).await.unwrap()
}

/// Expects exactly these, in order.
async fn expect(watch: &mut Watch, sequences: impl Iterator<Item = u64>) {
    for sequence in sequences {
        let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        assert_eq!(event.sequence, sequence);
        assert_eq!(event.command.unwrap(), format!("c{sequence}"));
        assert_eq!(event.outcome.unwrap(), format!("r{sequence}"));
        assert_eq!(event.effects, [Effect::Put("key".into(), sequence.to_string().into())]);
        assert_eq!(watch.place().sequence, sequence + 1);
        assert_eq!(watch.place().after, Some(event.position));
    }
}

async fn fails(watch: &mut Watch) -> mortise_client::ClientError {
    loop {
        if let Err(error) = timeout(PATIENCE, watch.next()).await.unwrap() {
            return error;
        }
    }
}

#[tokio::test]
async fn a_watch_that_is_cut_goes_on_without_a_gap_or_a_repeat() {
    let running = started(Telling { newest: 200, cut_every: 7, ..Telling::default() }).await;
    let mut watch = watch(&[&running], WatchFrom::Oldest).await;
    expect(&mut watch, 1..=200).await;
    let asked = running.node.telling.borrow().asked.len();
    assert!(asked > 20, "the fault happened: {asked} watches");
    change(&running.node, |telling| telling.newest = 203);
    expect(&mut watch, 201..=203).await;
}

#[tokio::test]
async fn now_stays_where_it_was_when_the_watch_began() {
    let running = started(Telling { newest: 9, ..Telling::default() }).await;
    let mut watch = watch(&[&running], WatchFrom::Now).await;
    assert!(matches!(watch.told().await.unwrap(), Told::CaughtUp));
    assert_eq!(watch.place().sequence, 10);
    let (node, address) = (running.node.clone(), running.endpoint.trim_start_matches("http://").to_owned());
    drop(running);
    // What is applied while nobody answers is told all the same.
    change(&node, |telling| telling.newest = 12);
    let _again = node.start_at(&address).await;
    expect(&mut watch, 10..=12).await;
}

#[tokio::test]
async fn the_leader_is_found_and_followed() {
    let (one, two) =
        (started(Telling { newest: 5, ..Telling::default() }).await, started(Telling::default()).await);
    change(&two.node, |telling| {
        *telling = Telling { newest: 9, deposed: Some(authority(&one)), ..Telling::default() };
    });
    let mut watch = watch(&[&two, &one], WatchFrom::Sequence(2)).await;
    expect(&mut watch, 2..=5).await;
    change(&two.node, |telling| telling.deposed = None);
    change(&one.node, |telling| telling.deposed = Some(authority(&two)));
    expect(&mut watch, 6..=9).await;
    let asked = two.node.telling.borrow().asked.last().cloned().unwrap();
    assert_eq!((asked.tenant_id, asked.after.unwrap().index), (TENANT, 10));
}

fn authority(running: &Running) -> String {
    running.endpoint.trim_start_matches("http://").to_owned()
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left() {
    let (one, two) = (
        started(Telling { newest: 9, silent_from: 4, ..Telling::default() }).await,
        started(Telling { newest: 9, ..Telling::default() }).await,
    );
    let mut watch = watch(&[&one, &two], WatchFrom::Oldest).await;
    expect(&mut watch, 1..=9).await;
    assert_eq!(two.node.telling.borrow().asked.len(), 1);
}

#[tokio::test]
async fn what_is_gone_is_an_error_that_says_where_to_begin() {
    let running = started(Telling { newest: 9, cut_every: 4, ..Telling::default() }).await;
    let mut watch = watch(&[&running], WatchFrom::Oldest).await;
    expect(&mut watch, 1..=3).await;
    change(&running.node, |telling| telling.oldest = 8);
    let error = fails(&mut watch).await;
    assert_eq!((error.kind(), error.oldest_sequence()), (ErrorKind::Compacted, Some(8)));
    let place = Place { sequence: 8, tenant: TENANT, after: None };
    let mut anew = self::watch(&[&running], WatchFrom::Place(place)).await;
    expect(&mut anew, 8..=9).await;
    // Another tenant of that name is another one.
    change(&running.node, |telling| {
        *telling = Telling { tenant: TENANT + 1, deposed: Some(String::new()), ..telling.clone() };
    });
    let waiting = tokio::spawn(async move { fails(&mut anew).await });
    while running.node.telling.borrow().asked.last().unwrap().tenant_id != TENANT {
        tokio::task::yield_now().await;
    }
    change(&running.node, |telling| telling.deposed = None);
    assert_eq!(waiting.await.unwrap().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_node_that_skips_or_repeats_is_not_believed() {
    for telling in [
        Telling { newest: 9, skips: 5, ..Telling::default() },
        Telling { newest: 9, repeats: 5, ..Telling::default() },
    ] {
        let running = started(telling).await;
        let mut watch = watch(&[&running], WatchFrom::Oldest).await;
        assert_eq!(fails(&mut watch).await.kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() {
    let running = started(Telling { newest: 100, cut_every: 7, ..Telling::default() }).await;
    let mut watch = watch(&[&running], WatchFrom::Oldest).await;
    let mut expected = 1;
    while expected <= 100 {
        // So short that no watch is opened within one of them.
        if let Ok(event) = timeout(Duration::from_micros(20), watch.next()).await {
            assert_eq!(event.unwrap().sequence, expected);
            expected += 1;
        }
    }
}

#[tokio::test]
async fn a_watch_that_nobody_begins_is_an_error() {
    let running = started(Telling { deposed: Some(String::new()), ..Telling::default() }).await;
    let options = Options { timeout: Duration::from_millis(200), ..options(&[&running]) };
    let tenant = Client::connect(&options).await.unwrap().tenant("t");
    let error = tenant.watch(WatchOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.message().contains("another node leads"), "{error}");
    let zero = WatchOptions { from: WatchFrom::Sequence(0), ..WatchOptions::default() };
    assert_eq!(tenant.watch(zero).await.unwrap_err().kind(), ErrorKind::Invalid);
}
