//! Loads against a node that misbehaves, and loads that are cut off and go on.

use std::io::Cursor;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mortise_client::load::{
    Checkpoint, Input, InputOptions, Keep, LoadError, LoadOptions, Loader, Mapping, OnReject, Template,
};
use mortise_client::{Client, ErrorKind, Options, Tenant};

use crate::server::{Faults, Node, Running};

/// Keeps checkpoints in memory; fails when told to, as a process that was killed keeps nothing more.
#[derive(Clone, Default)]
struct Memory {
    kept: Arc<Mutex<Option<Checkpoint>>>,
    fails_from_row: Option<u64>,
}

impl Keep for Memory {
    fn keep(&mut self, checkpoint: &Checkpoint) -> std::io::Result<()> {
        if self.fails_from_row.is_some_and(|row| checkpoint.answered >= row) {
            return Err(std::io::Error::other("killed"));
        }
        *self.kept.lock().unwrap() = Some(checkpoint.clone());
        Ok(())
    }
}

fn input(text: &str) -> Input<Cursor<Vec<u8>>> {
    Input::open(Cursor::new(text.as_bytes().to_vec()), InputOptions::default()).unwrap()
}

/// A CSV of so many rows; those in `rejected` are refused by the node.
fn csv(rows: usize, rejected: &[usize]) -> String {
    let mut text = "what,n\n".to_owned();
    for row in 1..=rows {
        let what = if rejected.contains(&row) { "reject" } else { "c" };
        text.push_str(&format!("{what},{row}\n"));
    }
    text
}

fn mapping() -> Mapping {
    Mapping::KvPut {
        key: Template::plain("{what}{n}").unwrap(),
        value: Template::plain("").unwrap(),
        ttl_ms: 0,
    }
}

async fn tenant(running: &Running) -> Tenant {
    Client::connect(&Options::new(&running.endpoint)).await.unwrap().tenant("t")
}

fn executed(running: &Running) -> usize {
    let mut executed = running.node.state.lock().unwrap().executed.clone();
    let count = executed.len();
    executed.sort();
    executed.dedup();
    assert_eq!(executed.len(), count, "no row twice");
    count
}

#[tokio::test]
async fn every_row_is_applied_once_whatever_the_node_does() {
    // More writes than one message has: a stream that is cut within its first message gets nowhere.
    let faults = Faults { cut_every: 5_003, reorder: true, overload_every: 97, ..Faults::default() };
    let running = Node::new(faults).start().await;
    let mut memory = Memory::default();
    let loader = Loader::begin(tenant(&running).await, LoadOptions::default(), &mut memory).await.unwrap();
    let mut told = 0;
    let done = loader.run(input(&csv(30_000, &[])), mapping(), |_| told += 1).await.unwrap();
    assert_eq!((done.answered, done.applied, done.rejected), (30_000, 30_000, 0));
    assert_eq!(executed(&running), 30_000);
    assert!(told > 0 && running.node.state.lock().unwrap().streams > 3);
}

#[tokio::test]
async fn a_load_that_was_killed_goes_on_and_counts_every_row_once() {
    let running = Node::new(Faults::default()).start().await;
    let text = csv(30_000, &[]);
    let tenant = tenant(&running).await;
    let mut dying = Memory { fails_from_row: Some(20_000), ..Memory::default() };
    let kept = dying.kept.clone();
    let loader = Loader::begin(tenant.clone(), LoadOptions::default(), &mut dying).await.unwrap();
    let error = loader.run(input(&text), mapping(), |_| ()).await.unwrap_err();
    assert!(matches!(error, LoadError::Keep(_)), "{error}");
    let found = kept.lock().unwrap().clone().unwrap();
    let before = executed(&running);
    assert!(found.answered > 0 && (found.answered as usize) < before, "{} of {before}", found.answered);

    let mut memory = Memory::default();
    let loader = Loader::resume(tenant, LoadOptions::default(), found, &mut memory).unwrap();
    let done = loader.run(input(&text), mapping(), |_| ()).await.unwrap();
    assert_eq!((done.answered, done.applied, done.forgotten), (30_000, 30_000, 0));
    assert_eq!(executed(&running), 30_000);
}

#[tokio::test]
async fn rejections_stop_a_load_or_are_skipped() {
    let running = Node::new(Faults::default()).start().await;
    let tenant = tenant(&running).await;
    let text = csv(100, &[7, 9]);
    let mut memory = Memory::default();
    let loader = Loader::begin(tenant.clone(), LoadOptions::default(), &mut memory).await.unwrap();
    let error = loader.run(input(&text), mapping(), |_| ()).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Rejected(reason) if reason.row == 7 && reason.code == "no"),
        "{error}"
    );
    let stopped = memory.kept.lock().unwrap().clone().unwrap();
    assert_eq!(stopped.stopped_at, Some(7));
    let still = Loader::resume(tenant.clone(), LoadOptions::default(), stopped.clone(), &mut memory);
    assert!(matches!(still.map(|_| ()).unwrap_err(), LoadError::Rejected(reason) if reason.row == 7));
    let skip = LoadOptions { on_reject: OnReject::Skip, ..LoadOptions::default() };
    let loader = Loader::resume(tenant.clone(), skip, stopped, &mut memory).unwrap();
    let done = loader.run(input(&text), mapping(), |_| ()).await.unwrap();
    assert_eq!((done.applied, done.rejected, done.reasons.len()), (98, 2, 2));
    assert_eq!(executed(&running), 98);
}

#[tokio::test]
async fn an_expired_session_is_no_reason_to_begin_again() {
    let running = Node::new(Faults::default()).start().await;
    let mut memory = Memory::default();
    let expired = Checkpoint { session: 99, answered: 2, ..Checkpoint::default() };
    let loader =
        Loader::resume(tenant(&running).await, LoadOptions::default(), expired, &mut memory).unwrap();
    let error = loader.run(input(&csv(5, &[])), mapping(), |_| ()).await.unwrap_err();
    assert!(matches!(error, LoadError::SessionExpired { row: 3 }), "{error}");

    assert_eq!(executed(&running), 0);
}

#[tokio::test]
async fn a_node_that_falls_silent_ends_the_load_after_its_patience() {
    let running = Node::new(Faults { silent: true, ..Faults::default() }).start().await;
    let options = LoadOptions { patience: Duration::from_millis(300), ..LoadOptions::default() };
    let mut memory = Memory::default();
    let loader = Loader::begin(tenant(&running).await, options, &mut memory).await.unwrap();
    let error = loader.run(input(&csv(5, &[])), mapping(), |_| ()).await.unwrap_err();
    assert!(matches!(error, LoadError::Stalled { row: 1, .. }), "{error}");
    assert_eq!(memory.kept.lock().unwrap().clone().unwrap().answered, 0);
}

#[tokio::test]
async fn a_bad_row_ends_the_load_behind_the_good_ones() {
    let running = Node::new(Faults::default()).start().await;
    let mut memory = Memory::default();
    let loader = Loader::begin(tenant(&running).await, LoadOptions::default(), &mut memory).await.unwrap();
    let mapping = Mapping::Json(Template::json(r#""{n:int}""#).unwrap());
    let error = loader.run(input("n\n1\n2\nx\n4\n"), mapping, |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "row 3, column n: \"x\" is no integer");
    assert_eq!(memory.kept.lock().unwrap().clone().unwrap().applied, 2);
    assert_eq!(executed(&running), 2);
    let nobody =
        Client::lazy(&Options { timeout: Duration::from_millis(200), ..Options::new("http://127.0.0.1:1") });
    let begun = Loader::begin(nobody.unwrap().tenant("t"), LoadOptions::default(), &mut memory).await;
    match begun.map(|_| ()).unwrap_err() {
        LoadError::Client(error) => assert_eq!(error.kind(), ErrorKind::DeadlineExceeded),
        other => panic!("{other}"),
    }
}
