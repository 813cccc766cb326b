//! Write streams: answers by sequence, backpressure, sessions that move, deadlines and drains.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mortise_proto::v1::data_client::DataClient;
use mortise_proto::v1::write_result::Result as Outcome;
use mortise_proto::v1::{
    Ack, AskFateRequest, ErrorCode, Fate, OpenSessionRequest, Position, QueryRequest, StreamWrite,
    TookEffect, WriteRequest, WriteResult, WriteStreamRequest, WriteStreamResponse, ask_fate_response,
    query_request,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::kit::{Node, PATIENCE, assert_code, query, write};

struct Stream {
    sender: Option<mpsc::UnboundedSender<WriteStreamRequest>>,
    answers: Streaming<WriteStreamResponse>,
}

impl Stream {
    async fn open(client: &mut DataClient<Channel>, deadline: Option<&str>) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(messages));
        if let Some(deadline) = deadline {
            request.metadata_mut().insert("grpc-timeout", deadline.parse().unwrap());
        }
        let answers = client.write_stream(request).await.unwrap().into_inner();
        Self { sender: Some(sender), answers }
    }

    fn send(&self, tenant: &str, session: u64, writes: &[(u64, &str)]) {
        let writes = writes.iter().map(|(sequence, command)| StreamWrite {
            sequence: *sequence,
            command: Bytes::copy_from_slice(command.as_bytes()),
            ..StreamWrite::default()
        });
        self.send_writes(tenant, session, writes.collect());
    }

    fn send_writes(&self, tenant: &str, session: u64, writes: Vec<StreamWrite>) {
        let message = WriteStreamRequest { tenant: tenant.into(), session, answered_up_to: 0, writes };
        self.sender.as_ref().unwrap().send(message).unwrap();
    }

    async fn next(&mut self) -> Result<Option<WriteStreamResponse>, Status> {
        timeout(PATIENCE, self.answers.message()).await.unwrap()
    }

    /// The next `count` results, by sequence.
    async fn results(&mut self, count: usize) -> BTreeMap<u64, WriteResult> {
        let mut results = BTreeMap::new();
        while results.len() < count {
            let response = self.next().await.unwrap().unwrap();
            results.extend(response.results.into_iter().map(|result| (result.sequence, result)));
        }
        results
    }

    /// Sends nothing more, and expects the stream to end well.
    async fn close(mut self) {
        self.sender = None;
        assert_eq!(self.next().await.unwrap(), None);
    }
}

fn code(result: &WriteResult) -> Option<ErrorCode> {
    match result.result.as_ref().unwrap() {
        Outcome::Reply(_) => None,
        Outcome::Error(error) => Some(error.code()),
        Outcome::Acknowledged(token) => panic!("a token only: {token:?}"),
    }
}

async fn session(client: &mut DataClient<Channel>) -> u64 {
    let request = OpenSessionRequest { tenant: "t".into(), ttl_ms: 60_000 };
    client.open_session(request).await.unwrap().into_inner().session
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_is_answered_once_by_its_sequence() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    let session = session(&mut data).await;
    let mut stream = Stream::open(&mut data, None).await;
    for message in 0..100 {
        let commands: Vec<_> = (1..=10).map(|n| (message * 10 + n, format!("put k{n} {message}"))).collect();
        let commands: Vec<_> = commands.iter().map(|(n, command)| (*n, command.as_str())).collect();
        stream.send("t", session, &commands);
    }
    stream.send("t", session, &[(1001, "reject"), (1002, "trap"), (1003, "ok")]);
    let results = stream.results(1003).await;
    assert!(results.keys().copied().eq(1..=1003));
    let errors: Vec<_> =
        results.values().filter_map(|result| Some((result.sequence, code(result)?))).collect();
    assert_eq!(errors, [(1001, ErrorCode::Rejected), (1002, ErrorCode::PluginFailed)]);
    // A repeated write is answered from the record, not executed again.
    stream.send("t", session, &[(7, "put k7 again")]);
    assert_eq!(stream.results(1).await.len(), 1);
    assert_eq!(data.query(query("t", "get k7")).await.unwrap().into_inner().response, "99");
    stream.close().await;
    assert_eq!(node.metric("grpc_stream_answers_total"), 1004);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_are_answered_and_the_stream_goes_on() {
    let node = Node::with_tenant(|config| config.limits.command_bytes_max = 1024).await;
    let mut data = node.data().await;
    let session = session(&mut data).await;
    let mut stream = Stream::open(&mut data, None).await;
    stream.send("absent", 0, &[(1, "ok"), (2, "ok")]);
    let long = "x".repeat(1025);
    stream.send("t", session, &[(3, "ok"), (4, &long), (5, "ok")]);
    stream.send("t", session, &[(0, "ok")]);
    stream.send("t", 99_999, &[(6, "ok")]);
    stream.send("t", 0, &[]);
    let results = stream.results(7).await;
    let codes: Vec<_> = results.values().map(code).collect();
    let expected = [
        Some(ErrorCode::Invalid),
        Some(ErrorCode::NotFound),
        Some(ErrorCode::NotFound),
        None,
        Some(ErrorCode::TooLarge),
        None,
        Some(ErrorCode::SessionExpired),
    ];
    assert_eq!(codes, expected);
    stream.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_not_read_beyond_its_window() {
    let node = Node::with_tenant(|config| config.limits.stream_writes_in_flight_max = 4).await;
    let mut data = node.data().await;
    let mut stream = Stream::open(&mut data, None).await;
    // Each takes about 0.1 s of fuel, so that the window stays full for a while.
    for sequence in 1..=20 {
        stream.send("t", 0, &[(sequence, "loop")]);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut most = 0;
    loop {
        let taken = node.metric("grpc_stream_writes_total");
        if node.metric("grpc_stream_answers_total") > 0 {
            break;
        }
        assert!(taken <= 4, "{taken} writes taken in before the first answer");
        assert!(Instant::now() < deadline);
        most = most.max(taken);
    }
    assert_eq!(most, 4);
    // And it goes on when there are answers.
    assert_eq!(stream.results(20).await.len(), 20);
    stream.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_more_writes_than_the_window_ends_the_stream() {
    let node = Node::with_tenant(|config| config.limits.stream_writes_in_flight_max = 4).await;
    let mut data = node.data().await;
    let mut stream = Stream::open(&mut data, None).await;
    stream.send("t", 0, &[(1, "ok")]);
    stream.send("t", 0, &[(2, "ok"), (3, "ok"), (4, "ok"), (5, "ok"), (6, "ok")]);
    assert_eq!(stream.results(1).await.len(), 1);
    assert_code(&stream.next().await.unwrap_err(), ErrorCode::TooLarge);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_ends_the_stream_after_the_answers() {
    let node = Node::with_tenant(|config| {
        config.limits.message_bytes_max = 64 << 10;
        config.limits.command_bytes_max = 32 << 10;
    })
    .await;
    let mut data = node.data().await;
    let mut stream = Stream::open(&mut data, None).await;
    stream.send("t", 0, &[(1, "ok")]);
    stream.send("t", 0, &[(2, &"x".repeat(100 << 10))]);
    assert_eq!(stream.results(1).await.len(), 1);
    assert_code(&stream.next().await.unwrap_err(), ErrorCode::TooLarge);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_stream_owns_a_session() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    let session = session(&mut data).await;
    let mut old = Stream::open(&mut data, None).await;
    old.send("t", session, &[(1, "ok")]);
    assert_eq!(code(&old.results(1).await[&1]), None);
    let mut new = Stream::open(&mut data, None).await;
    new.send("t", session, &[(2, "ok")]);
    assert_eq!(code(&new.results(1).await[&2]), None);
    old.send("t", session, &[(3, "ok")]);
    assert_eq!(code(&old.results(1).await[&3]), Some(ErrorCode::Superseded));
    // Other sessions of the old stream are not concerned.
    old.send("t", 0, &[(4, "ok")]);
    assert_eq!(code(&old.results(1).await[&4]), None);
    new.send("t", session, &[(3, "ok")]);
    assert_eq!(code(&new.results(1).await[&3]), None);
    old.close().await;
    new.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_deadline() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    let mut stream = Stream::open(&mut data, Some("500m")).await;
    stream.send("t", 0, &[(1, "ok")]);
    assert_eq!(stream.results(1).await.len(), 1);
    let detail = assert_code(&stream.next().await.unwrap_err(), ErrorCode::DeadlineExceeded);
    assert_eq!(detail.took_effect(), TookEffect::Unknown);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_was_accepted_and_ends_open_streams() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    let mut stream = Stream::open(&mut data, None).await;
    let mut idle = Stream::open(&mut data, None).await;
    stream.send("t", 0, &[(1, "loop"), (2, "put k v"), (3, "loop")]);
    let deadline = Instant::now() + PATIENCE;
    while node.metric("grpc_stream_writes_total") < 3 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stopping = tokio::spawn(node.stop());
    let codes: Vec<_> = stream.results(3).await.values().map(code).collect();
    assert_eq!(codes, [Some(ErrorCode::PluginFailed), None, Some(ErrorCode::PluginFailed)]);
    assert_code(&stream.next().await.unwrap_err(), ErrorCode::ShuttingDown);
    assert_code(&idle.next().await.unwrap_err(), ErrorCode::ShuttingDown);
    stopping.await.unwrap();
    assert!(data.write(write("t", "ok")).await.is_err());
}

/// The next `count` things that are told.
async fn told(stream: &mut Stream, count: usize) -> Vec<Outcome> {
    let mut all = Vec::new();
    while all.len() < count {
        let response = stream.next().await.unwrap().unwrap();
        all.extend(response.results.into_iter().map(|result| result.result.unwrap()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_acknowledged_by_the_leader_has_a_token_first_and_a_fate() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    let session = session(&mut data).await;
    let mut stream = Stream::open(&mut data, None).await;
    let write = StreamWrite { sequence: 1, command: "put k v".into(), ..StreamWrite::default() };
    stream.send_writes("t", session, vec![StreamWrite { ack: Ack::Leader.into(), ..write.clone() }]);
    let all = told(&mut stream, 2).await;
    let [Outcome::Acknowledged(token), Outcome::Reply(reply)] = &all[..] else { panic!("{all:?}") };
    let (token, reply) = (*token, reply.clone());
    let ask =
        AskFateRequest { tenant: "t".into(), token: Some(token), session, sequence: 1, wait_ms: 10_000 };
    let response = data.ask_fate(ask.clone()).await.unwrap().into_inner();
    assert_eq!(response.fate(), Fate::Committed);
    assert_eq!(response.outcome, Some(ask_fate_response::Outcome::Reply(reply.clone())));

    // A newer stream asks for it, and for another one that never was.
    let mut newer = Stream::open(&mut data, None).await;
    let question = StreamWrite { command: Bytes::new(), token: Some(token), ..write.clone() };
    newer.send_writes("t", session, vec![question.clone()]);
    assert_eq!(told(&mut newer, 1).await, [Outcome::Reply(reply)]);
    let nowhere = Position { index: token.index + 1_000, ..token };
    newer.send_writes("t", session, vec![StreamWrite { sequence: 2, token: Some(nowhere), ..question }]);
    let [Outcome::Error(error)] = &told(&mut newer, 1).await[..] else { panic!("no error") };
    assert_eq!((error.code(), error.took_effect()), (ErrorCode::Lost, TookEffect::No));
    let ask = AskFateRequest { token: Some(nowhere), sequence: 2, ..ask };
    assert_eq!(data.ask_fate(ask.clone()).await.unwrap().into_inner().fate(), Fate::Lost);
    let ask = AskFateRequest { token: Some(Position { epoch: token.epoch + 1, ..token }), wait_ms: 0, ..ask };
    let later = AskFateRequest { sequence: 2, ..ask };
    assert_eq!(data.ask_fate(later).await.unwrap().into_inner().fate(), Fate::Pending);
    let elsewhere = Position { group: token.group + 1, ..token };
    newer.send_writes("t", session, vec![StreamWrite { token: Some(elsewhere), ..write }]);
    let [Outcome::Error(error)] = &told(&mut newer, 1).await[..] else { panic!("no error") };
    assert_eq!((error.code(), error.took_effect()), (ErrorCode::NotFound, TookEffect::No));
    newer.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_acknowledgements_and_tokens_are_refused_and_one_early_write_has_no_reply() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    let early = WriteRequest { ack: Ack::Leader.into(), ..write("t", "put k v") };
    let written = data.write(early).await.unwrap().into_inner();
    assert_eq!(written.reply, None);
    let at_least = query_request::Freshness::AtLeast(written.position.unwrap());
    let request = QueryRequest { freshness: Some(at_least), ..query("t", "get k") };
    assert_eq!(data.query(request).await.unwrap().into_inner().response, "v");

    let unknown = WriteRequest { ack: 7, ..write("t", "put k v") };
    assert_code(&data.write(unknown).await.unwrap_err(), ErrorCode::Invalid);
    let position = |epoch, index, group| Some(Position { epoch, index, group });
    for token in [None, position(1, 0, 1), position(0, 1, 1), position(1, 1, 0)] {
        let ask = AskFateRequest { tenant: "t".into(), token, ..AskFateRequest::default() };
        assert_code(&data.ask_fate(ask).await.unwrap_err(), ErrorCode::Invalid);
    }
    // Of a tenant of this name that another group once had.
    let elsewhere = Position { group: 2, ..written.position.unwrap() };
    let ask = AskFateRequest { tenant: "t".into(), token: Some(elsewhere), ..AskFateRequest::default() };
    let refused = assert_code(&data.ask_fate(ask).await.unwrap_err(), ErrorCode::NotFound);
    assert!(refused.message.contains("of group 2, and the tenant is in group 1"), "{}", refused.message);
    let at_least = query_request::Freshness::AtLeast(elsewhere);
    let request = QueryRequest { freshness: Some(at_least), ..query("t", "get k") };
    assert_code(&data.query(request).await.unwrap_err(), ErrorCode::NotFound);
    let ask = AskFateRequest { tenant: "no".into(), token: written.position, ..AskFateRequest::default() };
    assert_code(&data.ask_fate(ask).await.unwrap_err(), ErrorCode::NotFound);
    let mut stream = Stream::open(&mut data, None).await;
    let write = StreamWrite { sequence: 1, command: "put k w".into(), ..StreamWrite::default() };
    let unknown = StreamWrite { ack: 7, ..write.clone() };
    let outside = StreamWrite { token: written.position, ..write };
    stream.send_writes("t", 0, vec![unknown, outside]);
    let invalid =
        |told: &Outcome| matches!(told, Outcome::Error(error) if error.code() == ErrorCode::Invalid);
    assert!(told(&mut stream, 2).await.iter().all(invalid));
    stream.close().await;
    assert_eq!(data.query(query("t", "get k")).await.unwrap().into_inner().response, "v");
    node.stop().await;
}
