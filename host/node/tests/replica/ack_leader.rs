//! Writes that the leader alone acknowledges: a token at once, what became of them later, and questions about tokens.
//! What happens to them when leaders go is tested in `tests/cluster`.

use std::time::Duration;

use mortise_core::ids::{Epoch, LogIndex, SessionId};
use mortise_core::replica::{Ack, Position};
use mortise_node::replica::{Told, Write, WriteError, WriteFate};

use crate::kit::{Node, get, outcome, put, session_write, sink, write};

const NOW: Duration = Duration::ZERO;

fn early(write: Write) -> Write {
    Write { ack: Ack::Leader, ..write }
}

fn asked(write: Write, token: Position) -> Write {
    Write { token: Some(token), payload: bytes::Bytes::new(), ..write }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_first_and_the_outcome_of_the_same_entry_later() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let (session, _) = replica.open_session(tenant, 0).await.unwrap();
    let (sink, mut answers) = sink();
    let of_session = |sequence| session_write(tenant, session, sequence, 0, put("a", "1"));
    replica.submit(vec![early(of_session(1)), of_session(2)], 1, sink);
    let (mut token, mut outcomes) = (None, Vec::new());
    while outcomes.len() < 2 {
        let answer = answers.recv().await.unwrap();
        match answer.told {
            Told::Token(at) => {
                assert_eq!(answer.sequence.0, 1, "who waits for the commit is told no token");
                assert_eq!(token.replace(at), None);
                assert!(outcomes.is_empty());
            }
            Told::Outcome(outcome) => outcomes.push(outcome.unwrap().position),
        }
    }
    assert!(token.is_some());
    assert_eq!(outcomes[0], token);
    assert!(answers.try_recv().is_err());
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_committed_lost_or_pending_and_known_after_a_restart() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let (session, _) = replica.open_session(tenant, 0).await.unwrap();
    let first = early(session_write(tenant, session, 1, 0, put("a", "1")));
    let Told::Token(token) = replica.write_acknowledged(first).await else { panic!("no token") };
    let of = Some((session, mortise_core::ids::Sequence(1)));
    let fate = replica.ask_fate(tenant, token, of, Duration::from_secs(10)).await.unwrap();
    let WriteFate::Committed(Some(Ok(reply))) = fate else { panic!("{fate:?}") };
    let recorded = replica.write(session_write(tenant, session, 1, 0, put("a", "1"))).await.unwrap();
    assert_eq!(reply, recorded.reply);

    let elsewhere = |epoch: u64, index: u64| Position {
        epoch: Epoch(token.epoch.0 + epoch),
        index: LogIndex(token.index.0 + index),
    };
    let ask = async |at| replica.ask_fate(tenant, at, None, NOW).await.unwrap();
    assert_eq!(ask(token).await, WriteFate::Committed(None));
    assert_eq!(ask(elsewhere(0, 1_000)).await, WriteFate::Lost);
    assert_eq!(ask(elsewhere(7, 0)).await, WriteFate::Pending, "a later leader's");
    // A lost place says nothing of a write that was executed in another one.
    let fate = replica.ask_fate(tenant, elsewhere(0, 1_000), of, NOW).await.unwrap();
    assert!(matches!(fate, WriteFate::Committed(Some(Ok(_)))), "{fate:?}");
    replica.shutdown().await;

    let replica = node.start().await;
    let fate = replica.ask_fate(tenant, token, of, NOW).await.unwrap();
    assert_eq!(fate, WriteFate::Committed(Some(Ok(reply))));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_token_is_told_its_outcome_and_never_executed() {
    let node = Node::new();
    let (replica, tenant) = node.start_kv().await;
    let (session, _) = replica.open_session(tenant, 0).await.unwrap();
    let (sink, mut answers) = sink();
    let of_session = |sequence, value| session_write(tenant, session, sequence, 0, put("a", value));
    let written = replica.write(of_session(1, "1")).await.unwrap();
    let token = written.position.unwrap();
    let nowhere = Position { index: LogIndex(token.index.0 + 1_000), ..token };

    replica.submit(vec![asked(of_session(1, ""), token)], 1, sink.clone());
    assert_eq!(outcome(answers.recv().await.unwrap()).unwrap().reply, written.reply);
    replica.submit(vec![asked(of_session(2, ""), nowhere)], 1, sink.clone());
    assert_eq!(outcome(answers.recv().await.unwrap()), Err(WriteError::Lost));
    // The token is another write's.
    replica.submit(vec![asked(of_session(2, ""), token)], 1, sink.clone());
    let stranger = outcome(answers.recv().await.unwrap());
    assert!(matches!(stranger, Err(WriteError::Invalid(_))), "{stranger:?}");
    replica.submit(vec![asked(write(tenant, put("a", "")), token)], 1, sink.clone());
    let sessionless = outcome(answers.recv().await.unwrap());
    assert!(matches!(sessionless, Err(WriteError::Invalid(_))), "{sessionless:?}");
    replica.submit(vec![asked(session_write(tenant, SessionId(999), 1, 0, put("a", "")), token)], 1, sink);
    assert_eq!(outcome(answers.recv().await.unwrap()), Err(WriteError::SessionExpired));

    let info = replica.tenant_info("kv", false).await.unwrap();
    assert_eq!(info.commands, 1, "a question executes nothing");
    // The lost write's number is free: it was not executed.
    replica.write(of_session(2, "2")).await.unwrap();
    assert_eq!(get(&replica, tenant, "a").await.as_deref(), Some("2"));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_were_acknowledged_early_count_as_in_flight_until_they_are_applied() {
    let mut node = Node::new();
    node.options.writes_in_flight_max = 10;
    let (replica, tenant) = node.start_kv().await;
    for round in 0..20 {
        let (sink, mut answers) = sink();
        let writes = (0..10).map(|_| early(write(tenant, put("a", &round.to_string()))));
        replica.submit(writes.collect(), 0, sink);
        let (mut tokens, mut outcomes) = (0, 0);
        while outcomes < 10 {
            match answers.recv().await.unwrap().told {
                Told::Token(_) => tokens += 1,
                Told::Outcome(outcome) => outcomes += usize::from(outcome.is_ok()),
            }
        }
        assert_eq!(tokens, 10, "round {round}: the room of earlier writes came back");
    }
    replica.shutdown().await;
}
