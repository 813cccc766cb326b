//! The writer, and watches, against a node that does everything a node may do, and every network.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // Where a test cannot go on, it fails.

mod bad_input;
mod cluster;
mod early;
#[cfg(feature = "load")]
mod loading;
mod moves;
mod server;
mod telling;
mod watching;

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use mortise_client::writer::Acknowledge;
use mortise_client::{Client, ErrorKind, Options, SessionId, Tenant, TookEffect, Writer, WriterOptions};
use server::{Faults, Node, Running};

async fn tenant(running: &Running) -> Tenant {
    Client::connect(&Options::new(&running.endpoint)).await.unwrap().tenant("t")
}

async fn writer(running: &Running, options: WriterOptions) -> Writer {
    tenant(running).await.writer(options).await.unwrap()
}

fn command(number: usize) -> Bytes {
    format!("c{number}").into()
}

/// Writes, one future each, all at once; checks that each reply belongs to its write and each was executed once.
async fn write_all(faults: Faults, options: WriterOptions, count: usize) -> Running {
    let running = Node::new(faults).start().await;
    let writer = writer(&running, options).await;
    let writes = (0..count).map(|number| {
        let writer = writer.clone();
        async move { writer.write(command(number)).await }
    });
    for (number, reply) in join_all(writes).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), format!("re:c{number}"));
    }
    let mut executed = running.node.state.lock().unwrap().executed.clone();
    executed.sort();
    executed.dedup();
    assert_eq!(executed.len(), count, "each write was executed");
    assert_eq!(running.node.state.lock().unwrap().executed.len(), count, "and only once");
    running
}

fn small_window() -> WriterOptions {
    WriterOptions { window_writes: 50, ..WriterOptions::default() }
}

#[tokio::test]
async fn a_good_node_answers_everything() {
    let running = write_all(Faults::default(), WriterOptions::default(), 3_000).await;
    let state = running.node.state.lock().unwrap();
    assert_eq!(state.streams, 1);
    assert!(state.messages < state.writes / 10, "{} writes in {} messages", state.writes, state.messages);
}

#[tokio::test]
async fn a_cut_stream_loses_and_repeats_nothing() {
    let faults = Faults { cut_every: 70, ..Faults::default() };
    let running = write_all(faults, small_window(), 1_000).await;
    let state = running.node.state.lock().unwrap();
    assert!(state.streams > 10, "the fault happened: {} streams", state.streams);
    assert!(state.writes > 1_000, "writes were sent again");
}

#[tokio::test]
async fn reordered_repeated_and_delayed_answers_reach_their_writes() {
    let delay = Duration::from_millis(2);
    let faults = Faults { reorder: true, repeat: true, delay, cut_every: 230, ..Faults::default() };
    write_all(faults, small_window(), 1_000).await;
}

#[tokio::test]
async fn overload_is_waited_out() {
    let faults = Faults { overload_every: 13, ..Faults::default() };
    let running = write_all(faults, small_window(), 500).await;
    assert!(running.node.state.lock().unwrap().writes > 500, "the fault happened");
}

#[tokio::test]
async fn batches_survive_cuts_in_order() {
    let faults = Faults { cut_every: 70, reorder: true, ..Faults::default() };
    let running = Node::new(faults).start().await;
    let writer = writer(&running, small_window()).await;
    let commands = (0..1_000).map(command).collect();
    let results = writer.write_batch(commands).await.unwrap();
    for (number, result) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap(), format!("re:c{number}"));
    }
    assert_eq!(running.node.state.lock().unwrap().executed.len(), 1_000);
}

#[tokio::test]
async fn a_rejection_is_the_writes_own_error() {
    let running = Node::new(Faults::default()).start().await;
    let writer = writer(&running, WriterOptions::default()).await;
    let (good, bad) = tokio::join!(writer.write("c"), writer.write("reject"));
    assert_eq!(good.unwrap(), "re:c");
    let error = bad.unwrap_err();
    assert_eq!((error.kind(), error.rejection().unwrap().code.as_str()), (ErrorKind::Rejected, "no"));
}

#[tokio::test]
async fn a_node_that_comes_back_is_found_again() {
    let node = Node::new(Faults::default());
    let running = node.start().await;
    let writer = writer(&running, WriterOptions::default()).await;
    writer.write("first").await.unwrap();
    let address = running.endpoint.trim_start_matches("http://").to_owned();
    drop(running);
    let waiting = tokio::spawn({
        let writer = writer.clone();
        async move { writer.write("second").await }
    });
    while writer.trouble().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _again = node.start_at(&address).await;
    assert_eq!(waiting.await.unwrap().unwrap(), "re:second");
    assert_eq!(node.state.lock().unwrap().executed.len(), 2);
    assert!(writer.trouble().is_none());
}

#[tokio::test]
async fn a_deadline_ends_a_write_that_nobody_answers() {
    let running = Node::new(Faults { silent: true, ..Faults::default() }).start().await;
    let options = WriterOptions {
        timeout: Some(Duration::from_millis(100)),
        window_writes: 1,
        ..WriterOptions::default()
    };
    let writer = writer(&running, options).await;
    let (sent, unsent) = tokio::join!(writer.write("a"), writer.write("b"));
    let (sent, unsent) = (sent.unwrap_err(), unsent.unwrap_err());
    assert_eq!((sent.kind(), sent.took_effect()), (ErrorKind::DeadlineExceeded, TookEffect::Unknown));
    assert_eq!((unsent.kind(), unsent.took_effect()), (ErrorKind::DeadlineExceeded, TookEffect::No));
    running.node.faults.lock().unwrap().silent = false;
    assert_eq!(writer.write("c").await.unwrap(), "re:c", "the writer goes on");
}

#[tokio::test]
async fn a_resumed_session_answers_from_its_record() {
    let running = Node::new(Faults::default()).start().await;
    let tenant = tenant(&running).await;
    let options = WriterOptions { acknowledge: Acknowledge::ByCaller, ..WriterOptions::default() };
    let first = tenant.writer(options.clone()).await.unwrap();
    let session = first.session();
    first.write_batch((0..5).map(command).collect()).await.unwrap();
    first.acknowledge(2);
    first.write("c5").await.unwrap();
    drop(first);

    let second = Writer::resume(&tenant, session, 1, options);
    let results = second.write_batch((0..7).map(command).collect()).await.unwrap();
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().map_err(|error| error.kind())).collect();
    assert_eq!(kinds[..2], [Err(ErrorKind::AlreadyAnswered); 2]);
    assert!(kinds[2..].iter().all(Result::is_ok));
    assert_eq!(running.node.state.lock().unwrap().executed.len(), 7, "nothing twice");
}

#[tokio::test]
async fn an_unknown_session_ends_the_writer() {
    let running = Node::new(Faults::default()).start().await;
    let writer = Writer::resume(&tenant(&running).await, SessionId(99), 1, WriterOptions::default());
    for _ in 0..2 {
        let error = writer.write("c").await.unwrap_err();
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::SessionExpired, TookEffect::No));
    }
    assert!(running.node.state.lock().unwrap().executed.is_empty());
}

#[tokio::test]
async fn a_closed_writer_has_answers_to_everything_and_acknowledged_them() {
    let running = Node::new(Faults::default()).start().await;
    let writer = writer(&running, WriterOptions::default()).await;
    let pending = writer.send("a").await.unwrap();
    writer.clone().flush().await;
    writer.write("b").await.unwrap();
    assert_eq!(running.node.state.lock().unwrap().answered_up_to, 1);
    writer.close().await.unwrap();
    assert_eq!(pending.await.unwrap(), "re:a");
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_at_once() {
    let error = Client::connect(&Options::new("http://127.0.0.1:1")).await.unwrap_err();
    assert_eq!((error.kind(), error.took_effect()), (ErrorKind::Unavailable, TookEffect::No));
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn one_write_and_one_query_as_calls() {
    let running = Node::new(Faults::default()).start().await;
    let tenant = tenant(&running).await;
    assert_eq!(tenant.write("w").await.unwrap().reply, "w");
    assert_eq!(tenant.query("q").await.unwrap().response, "q");
}
