//! A write of a session takes effect once, however often it is sent.

use mortise_core::ids::{Sequence, SessionId};
use mortise_node::replica::WriteError;

use crate::kit::{Node, get, outcome, put, session_write, sink};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_gets_the_recorded_answer_also_after_a_restart() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let (session, ttl) = replica.open_session(tenant, 5_000).await.unwrap();
    assert_eq!(ttl, 5_000);
    let first = replica.write(session_write(tenant, session, 1, 0, put("a", "1"))).await.unwrap();
    replica.write(session_write(tenant, session, 2, 0, put("a", "2"))).await.unwrap();
    let again = replica.write(session_write(tenant, session, 1, 0, put("a", "1"))).await.unwrap();
    assert_eq!((again.reply.clone(), again.position), (first.reply.clone(), None));
    assert_eq!(get(&replica, tenant, "a").await.as_deref(), Some("2"));
    replica.shutdown().await;

    let replica = node.start().await;
    let again = replica.write(session_write(tenant, session, 1, 0, put("a", "1"))).await.unwrap();
    assert_eq!((again.reply, again.position), (first.reply, None));
    assert_eq!(get(&replica, tenant, "a").await.as_deref(), Some("2"));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_write_is_never_executed_again() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let (session, _) = replica.open_session(tenant, 0).await.unwrap();
    replica.write(session_write(tenant, session, 1, 0, put("a", "1"))).await.unwrap();
    replica.write(session_write(tenant, session, 2, 1, put("a", "2"))).await.unwrap();
    let again = replica.write(session_write(tenant, session, 1, 0, put("a", "1"))).await;
    assert_eq!(again.unwrap_err(), WriteError::AlreadyAnswered);
    assert_eq!(get(&replica, tenant, "a").await.as_deref(), Some("2"));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_an_unknown_or_closed_session_are_refused() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let unknown = replica.write(session_write(tenant, SessionId(999), 1, 0, put("a", "1"))).await;
    assert_eq!(unknown.unwrap_err(), WriteError::SessionExpired);
    let (session, _) = replica.open_session(tenant, 0).await.unwrap();
    replica.close_session(tenant, session).await.unwrap();
    let closed = replica.write(session_write(tenant, session, 1, 0, put("a", "1"))).await;
    assert_eq!(closed.unwrap_err(), WriteError::SessionExpired);
    assert_eq!(get(&replica, tenant, "a").await, None);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_sent_many_times_at_once_runs_once_and_answers_everybody() {
    const TIMES: usize = 50;
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    // Small entries are answered elsewhere than large ones.
    let (counts, mut all) = ([1, 2, 32, 33, 200], 0);
    for count in counts {
        let (session, _) = replica.open_session(tenant, 0).await.unwrap();
        let (sink, mut answers) = sink();
        for _ in 0..TIMES {
            let write = |n| session_write(tenant, session, n, 0, put(&format!("{n}"), "1"));
            replica.submit((1..=count).map(write).collect(), 1, sink.clone());
        }
        let mut replies = vec![Vec::new(); usize::try_from(count).unwrap()];
        for _ in 0..TIMES * replies.len() {
            let answer = answers.recv().await.unwrap();
            replies[usize::try_from(answer.sequence.0).unwrap() - 1].push(outcome(answer).unwrap().reply);
        }
        for replies in replies {
            assert!(replies.len() == TIMES && replies.iter().all(|reply| *reply == replies[0]));
        }
        all += count;
        let info = replica.tenant_info("kv", false).await.unwrap();
        assert_eq!(info.commands, all, "each ran once");
        let status = replica.status();
        assert_eq!((status.writes_in_flight, status.write_bytes_in_flight), (0, 0));
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_stream_of_a_session_is_superseded() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let (session, _) = replica.open_session(tenant, 0).await.unwrap();
    let (sink, mut answers) = sink();
    replica.submit(vec![session_write(tenant, session, 1, 0, put("a", "1"))], 2, sink.clone());
    replica.submit(vec![session_write(tenant, session, 2, 0, put("a", "2"))], 1, sink.clone());
    let mut results = [answers.recv().await.unwrap(), answers.recv().await.unwrap()];
    results.sort_by_key(|answer| answer.sequence);
    let [first, second] = results;
    assert!(outcome(first).is_ok());
    assert_eq!(second.sequence, Sequence(2));
    assert_eq!(outcome(second), Err(WriteError::Superseded));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_writes_than_may_be_in_flight_are_refused_before_they_cost_memory() {
    let mut node = Node::new();
    node.options.writes_in_flight_max = 100;
    node.options.write_bytes_in_flight_max = 10_000;
    let (replica, tenant) = node.start_kv().await;
    let (sink, mut answers) = sink();
    let writes =
        |count| (0..count).map(|n| session_write(tenant, SessionId::NONE, n, 0, put("a", "1"))).collect();
    replica.submit(writes(100), 0, sink.clone());
    replica.submit(writes(100), 0, sink.clone());
    let mut refused = 0;
    for _ in 0..200 {
        match outcome(answers.recv().await.unwrap()) {
            Ok(_) => {}
            Err(WriteError::Overloaded(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused == 100 || refused == 0, "a message is let in whole or not at all, not {refused} of it");
    let large = replica.write(session_write(tenant, SessionId::NONE, 0, 0, vec![0; 9 << 20].into())).await;
    assert!(matches!(large, Err(WriteError::TooLarge { .. })), "{large:?}");
    replica.shutdown().await;
}
