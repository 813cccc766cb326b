//! Writes with `ack = leader`: each has a token, and later its outcome or LOST, whatever becomes of streams and leaders.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mortise_client::{Client, ErrorKind, Fate, Options, Position, TookEffect, Writer, WriterOptions};
use mortise_core::ids::{GroupId, LogIndex};

use super::command;
use super::server::{Faults, Node, Running};

async fn writer(running: &Running) -> Writer {
    let options = Options { silence_timeout: Duration::from_millis(300), ..Options::new(&running.endpoint) };
    let tenant = Client::connect(&options).await.unwrap().tenant("t");
    tenant.writer(WriterOptions { window_writes: 50, ..WriterOptions::default() }).await.unwrap()
}

/// What became of so many writes: the numbers of those that were lost.
async fn write_early(writer: &Writer, count: usize) -> BTreeSet<usize> {
    let (sender, mut sent) = tokio::sync::mpsc::channel(count);
    let sending = async {
        for number in 0..count {
            sender.send((number, writer.send_early(command(number)).await.unwrap())).await.unwrap();
        }
        drop(sender);
    };
    let receiving = async {
        let mut lost = BTreeSet::new();
        while let Some((number, mut pending)) = sent.recv().await {
            let token = pending.token().await;
            match pending.await {
                Ok(reply) => assert_eq!(reply, format!("re:c{number}")),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
                    assert!(token.is_some(), "only what was acknowledged can be lost");
                    assert!(!error.is_retryable());
                    assert!(lost.insert(number));
                }
            }
        }
        lost
    };
    tokio::join!(sending, receiving).1
}

/// Each write was either executed, once, or is one of the lost.
fn check(running: &Running, count: usize, lost: &BTreeSet<usize>) {
    let mut executed = running.node.state.lock().unwrap().executed.clone();
    executed.sort();
    let mut expected: Vec<_> = (0..count).filter(|number| !lost.contains(number)).map(command).collect();
    expected.sort();
    assert!(executed == expected, "{} executed, {} lost, of {count}", executed.len(), lost.len());
}

#[tokio::test]
async fn a_good_node_gives_a_token_and_the_outcome() {
    let running = Node::new(Faults::default()).start().await;
    let writer = writer(&running).await;
    let mut pending = writer.send_early("w").await.unwrap();
    let token = pending.token().await;
    assert_eq!(token, Some(Position { group: GroupId(1), epoch: 1, index: LogIndex(1) }));
    assert_eq!(pending.token().await, token);
    assert_eq!(pending.await.unwrap(), "re:w");
    assert!(write_early(&writer, 500).await.is_empty());
    assert_eq!(running.node.state.lock().unwrap().asked, 0);
}

#[tokio::test]
async fn what_went_with_the_leader_is_lost_and_everything_else_is_executed_once() {
    let faults = Faults { acknowledge_only_every: 7, cut_every: 70, ..Faults::default() };
    let running = Node::new(faults).start().await;
    let writer = writer(&running).await;
    let lost = write_early(&writer, 1_000).await;
    assert!(!lost.is_empty() && running.node.state.lock().unwrap().asked >= lost.len());
    check(&running, 1_000, &lost);
    assert_eq!(writer.write("last").await.unwrap(), "re:last", "the writer goes on");
}

#[tokio::test]
async fn reordered_and_repeated_tokens_and_outcomes_reach_their_writes() {
    let delay = Duration::from_millis(2);
    let faults = Faults { reorder: true, repeat: true, delay, cut_every: 230, ..Faults::default() };
    let running = Node::new(faults).start().await;
    let lost = write_early(&writer(&running).await, 500).await;
    assert!(lost.is_empty());
    check(&running, 500, &lost);
}

#[tokio::test]
async fn a_lost_write_surely_had_no_effect_where_it_was_sent_once() {
    let faults = Faults { acknowledge_only_every: 1, ..Faults::default() };
    let running = Node::new(faults).start().await;
    let error = writer(&running).await.send_early("w").await.unwrap().await.unwrap_err();
    assert_eq!((error.kind(), error.took_effect()), (ErrorKind::Lost, TookEffect::No));
}

#[tokio::test]
async fn a_fate_is_told_by_whoever_leads_and_a_pending_one_is_waited_for() {
    let first = Node::new(Faults { acknowledge_only_every: 2, ..Faults::default() });
    let (running, other) = (first.start().await, first.peer().start().await);
    let writer = writer(&running).await;
    let mut pending = writer.send_early("w").await.unwrap();
    let token = pending.token().await.unwrap();
    pending.await.unwrap();
    let lost = writer.send_early("lost").await.unwrap().token().await.unwrap();
    // The other one leads from now on.
    let hint = other.endpoint.trim_start_matches("http://").to_owned();
    first.follows.lock().unwrap().insert("t".into(), hint);
    let tenant = Client::connect(&Options::new(&running.endpoint)).await.unwrap().tenant("t");
    let ask = async |token, wait| tenant.ask_fate(token, None, wait).await.unwrap();
    assert!(matches!(ask(token, Duration::ZERO).await, Fate::Committed(None)));
    assert!(matches!(ask(lost, Duration::ZERO).await, Fate::Lost));
    assert!(first.refusals() > 0, "another node was asked");
    let (begun, wait) = (Instant::now(), Duration::from_millis(1_700));
    let unknown = Position { group: GroupId(1), epoch: 1, index: LogIndex(99) };
    assert!(matches!(ask(unknown, wait).await, Fate::Pending));
    assert!((wait..wait * 3).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}
