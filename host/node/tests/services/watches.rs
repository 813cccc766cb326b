//! Watches over gRPC: who may, how many, how they begin and how they end.

use std::time::Duration;

use mortise_node::config::Scope;
use mortise_proto::v1::data_client::DataClient;
use mortise_proto::v1::watch_event::{Cause, Outcome};
use mortise_proto::v1::watch_request::From;
use mortise_proto::v1::{ErrorCode, Position, WatchRequest, WatchResponse};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::kit::{Node, PATIENCE, assert_code, bearing, write};
use crate::tokens::token;

/// A node with a tenant `w` that keeps what watchers want.
async fn start(change: impl FnOnce(&mut mortise_node::config::Config)) -> Node {
    let node = Node::with_tenant(change).await;
    node.running.replica().unwrap().create_tenant("w", "hostile", true).await.unwrap();
    node
}

fn request(from: Option<From>) -> WatchRequest {
    WatchRequest { tenant: "w".into(), from, ..WatchRequest::default() }
}

async fn open(data: &mut DataClient<Channel>, request: WatchRequest) -> Streaming<WatchResponse> {
    data.watch(request).await.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Status> {
    timeout(PATIENCE, watch.message()).await.unwrap().map(|response| response.unwrap())
}

/// Refused at once, or with the first response.
async fn refused(data: &mut DataClient<Channel>, request: impl tonic::IntoRequest<WatchRequest>) -> Status {
    match data.watch(request).await {
        Err(status) => status,
        Ok(watch) => next(&mut watch.into_inner()).await.unwrap_err(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_say_all_that_it_takes_to_go_on() {
    let node = start(|_| {}).await;
    let mut data = node.data().await;
    let mut watch = open(&mut data, request(None)).await;
    let first = next(&mut watch).await.unwrap();
    assert_eq!((first.events.len(), first.next_sequence, first.caught_up), (0, 1, true));
    let written = data.write(write("w", "put k v")).await.unwrap().into_inner().position;
    data.write(write("w", "reject")).await.unwrap_err();
    let mut events = Vec::new();
    let mut last = first;
    while events.len() < 2 {
        last = next(&mut watch).await.unwrap();
        events.append(&mut last.events.clone());
    }
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events[0].position, written);
    assert_eq!(events[0].cause, Some(Cause::Command("put k v".into())));
    assert_eq!(events[0].effects.len(), 1);
    let Some(Outcome::Error(error)) = &events[1].outcome else { panic!("{:?}", events[1]) };
    assert_eq!(error.code(), ErrorCode::Rejected);
    assert_eq!((last.next_sequence, last.after), (3, events[1].position));

    let WatchResponse { next_sequence, tenant_id, after, .. } = last;
    let resume = WatchRequest { tenant_id, after, ..request(Some(From::Sequence(next_sequence))) };
    let mut again = open(&mut data, resume.clone()).await;
    assert_eq!(next(&mut again).await.unwrap().events, []);
    data.write(write("w", "put k w")).await.unwrap();
    assert_eq!(next(&mut again).await.unwrap().events[0].sequence, 3);
    let foreign = WatchRequest { tenant_id: tenant_id + 1, ..resume.clone() };
    assert_code(&refused(&mut data, foreign).await, ErrorCode::NotFound);
    let lost = WatchRequest { after: Some(Position { epoch: 77, index: 1, group: 1 }), ..resume.clone() };
    assert_code(&refused(&mut data, lost).await, ErrorCode::FailedPrecondition);
    let elsewhere = WatchRequest { after: Some(Position { group: 2, ..written.unwrap() }), ..resume };
    assert_code(&refused(&mut data, elsewhere).await, ErrorCode::NotFound);
    assert!(node.metric("grpc_watch_events_total") >= 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_refused_with_what_to_do() {
    let node = start(|_| {}).await;
    let mut data = node.data().await;
    let status = refused(&mut data, WatchRequest { tenant: "t".into(), ..request(None) }).await;
    assert!(assert_code(&status, ErrorCode::FailedPrecondition).message.contains("--watch"));
    let status = refused(&mut data, WatchRequest { tenant: "nobody".into(), ..request(None) }).await;
    assert_code(&status, ErrorCode::NotFound);
    for sequence in [0, 2] {
        let status = refused(&mut data, request(Some(From::Sequence(sequence)))).await;
        assert_code(&status, ErrorCode::Invalid);
    }
    for progress_ms in [1, 99, 60_001] {
        let status = refused(&mut data, WatchRequest { progress_ms, ..request(None) }).await;
        assert_code(&status, ErrorCode::Invalid);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_counted_and_too_many_refused() {
    let node = start(|config| config.limits.watches_max = 2).await;
    let mut data = node.data().await;
    let first = open(&mut data, request(None)).await;
    let _second = open(&mut data, request(None)).await;
    assert_eq!(node.metric("grpc_watches_open"), 2);
    let status = refused(&mut data, request(None)).await;
    assert!(assert_code(&status, ErrorCode::Overloaded).retryable);
    drop(first);
    // Nothing tells when the node has noticed.
    let opened = timeout(PATIENCE, async {
        while data.watch(request(None)).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    opened.await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_watch_says_how_far_it_is_until_its_deadline_or_the_end_of_the_node() {
    let node = start(|_| {}).await;
    let mut data = node.data().await;
    let mut watch = open(&mut data, WatchRequest { progress_ms: 100, ..request(None) }).await;
    for _ in 0..3 {
        let mark = next(&mut watch).await.unwrap();
        assert_eq!((mark.events.len(), mark.next_sequence, mark.caught_up), (0, 1, true));
    }
    let mut hurried = Request::new(request(None));
    hurried.set_timeout(Duration::from_millis(300));
    let mut hurried = data.watch(hurried).await.unwrap().into_inner();
    next(&mut hurried).await.unwrap();
    let status = next(&mut hurried).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status:?}");
    let stopping = tokio::spawn(node.stop());
    let status = loop {
        if let Err(status) = next(&mut watch).await {
            break status;
        }
    };
    assert!(assert_code(&status, ErrorCode::ShuttingDown).retryable);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_needs_the_scope_and_the_tenant() {
    let (reader, one) = token("reader", &[Scope::TenantRead], &["w"], None);
    let (writer, two) = token("writer", &[Scope::TenantWrite], &["w"], None);
    let (other, three) = token("other", &[Scope::TenantRead], &["t"], None);
    let node = start(|config| config.tokens = vec![one, two, three]).await;
    let mut data = node.data().await;
    assert_code(&refused(&mut data, request(None)).await, ErrorCode::Unauthenticated);
    for secret in [writer.secret(), other.secret()] {
        let status = refused(&mut data, bearing(secret, request(None))).await;
        assert_code(&status, ErrorCode::PermissionDenied);
    }
    let mut watch = data.watch(bearing(reader.secret(), request(None))).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();
    data.write(bearing(writer.secret(), write("w", "put k v"))).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().events[0].principal, "writer");
    node.stop().await;
}
