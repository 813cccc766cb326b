//! Health, reflection, metrics, and starts that must fail.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use mortise_node::config::ConfigError;
use mortise_node::server::{ServeError, Server};
use mortise_proto::v1::data_client::DataClient;
use mortise_proto::v1::{ErrorCode, StreamWrite, WriteStreamRequest};
use mortise_storage::disk::FaultyDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::kit::{Node, PATIENCE, assert_code, channel, config, write};

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_serving_until_the_node_stops() {
    let node = Node::start(|_| {}).await;
    for (address, service) in
        [(node.running.data_address(), "mortise.v1.Data"), (node.running.admin_address(), "mortise.v1.Admin")]
    {
        let mut health = HealthClient::new(channel(address).await);
        for service in ["", service] {
            let status = health.check(check(service)).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{service}");
        }
        assert!(health.check(check("absent")).await.is_err());
    }
    let mut health = HealthClient::new(channel(node.running.data_address()).await);
    let mut watch = health.watch(check("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopping = tokio::spawn(node.stop());
    let last = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert!(timeout(PATIENCE, watch.message()).await.unwrap().unwrap().is_none());
    stopping.await.unwrap();
}

async fn reflect(node: &Node, admin: bool, request: MessageRequest) -> ServerReflectionResponse {
    let running = &node.running;
    let address = if admin { running.admin_address() } else { running.data_address() };
    let mut client = ServerReflectionClient::new(channel(address).await);
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    answers.into_inner().message().await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_and_describes_the_services() {
    let node = Node::start(|_| {}).await;
    for (admin, ours) in [(false, "mortise.v1.Data"), (true, "mortise.v1.Admin")] {
        let list = reflect(&node, admin, MessageRequest::ListServices(String::new())).await;
        let Some(MessageResponse::ListServicesResponse(list)) = list.message_response else { panic!() };
        let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        names.sort();
        let mut expected = vec![
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            ours,
        ];
        expected.sort();
        assert_eq!(names, expected);
        for symbol in [ours, "grpc.health.v1.Health", "mortise.v1.ErrorDetail"] {
            let found = reflect(&node, admin, MessageRequest::FileContainingSymbol(symbol.into())).await;
            let found = matches!(found.message_response, Some(MessageResponse::FileDescriptorResponse(_)));
            assert!(found, "{symbol}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_page_is_served_over_plain_http_1() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    data.write(write("t", "ok")).await.unwrap();
    assert_code(&data.write(write("absent", "ok")).await.unwrap_err(), ErrorCode::NotFound);
    let mut stream = TcpStream::connect(node.running.admin_address()).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut page = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut page)).await.unwrap().unwrap();
    for part in [
        "HTTP/1.1 200 OK\r\n",
        "content-type: application/openmetrics-text",
        "mortise_grpc_calls_total{method=\"Write\",code=\"OK\"} 1",
        "mortise_grpc_calls_total{method=\"Write\",code=\"NOT_FOUND\"} 1",
        "mortise_tenant_applied_total{tenant=\"t\"} 1",
        "mortise_grpc_connections{listener=\"data\"} 1",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_exposed_or_on_taken_ground() {
    let folder = tempfile::tempdir().unwrap();
    let mut exposed = config(&folder);
    exposed.data.address = Some(([0, 0, 0, 0], 0).into());
    let error = Server::start(exposed).await.err().unwrap();
    assert!(
        matches!(error, ServeError::Config(ConfigError::Exposed { field: "data.address", .. })),
        "{error}"
    );

    let node = Node::start(|_| {}).await;
    let mut taken = config(&folder);
    taken.admin.address = Some(node.running.admin_address());
    let error = Server::start(taken).await.err().unwrap();
    assert!(matches!(error, ServeError::Bind { listener: "admin", .. }), "{error}");

    let first = Server::start(config(&folder)).await.unwrap();
    let error = Server::start(config(&folder)).await.err().unwrap();
    assert!(matches!(error, ServeError::Replica(_)), "{error}");
    first.shutdown().await;
    // And after a proper stop the folder opens again.
    Server::start(config(&folder)).await.unwrap().shutdown().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_are_closed() {
    let node = Node::start(|config| config.data.connections_max = 1).await;
    let mut first = HealthClient::new(channel(node.running.data_address()).await);
    first.check(check("")).await.unwrap();
    let mut second = TcpStream::connect(node.running.data_address()).await.unwrap();
    let read = timeout(PATIENCE, second.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(node.metric("grpc_connections_refused_total{listener=\"data\"}"), 1);
    first.check(check("")).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_drain_timeout_open_calls_are_cut_off_and_the_folder_closes() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.node.drain_timeout_ms = 100;
    let running = Server::start(config.clone()).await.unwrap();
    // A watch of reflection, which nobody ends but its client.
    let mut client = ServerReflectionClient::new(channel(running.data_address()).await);
    let mut answers = client.server_reflection_info(tokio_stream::pending()).await.unwrap().into_inner();
    timeout(PATIENCE, running.shutdown()).await.unwrap();
    assert!(timeout(PATIENCE, answers.message()).await.unwrap().is_err());
    Server::start(config).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_fsync_stops_the_node_and_health_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let running = Server::start_on(config(&folder), Arc::new(disk.clone())).await.unwrap();
    let node = Node::new(running, folder);
    node.create_tenant("t").await;
    assert_eq!(node.running.fault(), None);
    let mut health = HealthClient::new(channel(node.running.data_address()).await);
    let mut watch = health.watch(check("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut data = DataClient::new(channel(node.running.data_address()).await);
    let message = WriteStreamRequest {
        tenant: "t".into(),
        writes: vec![StreamWrite { sequence: 1, command: "ok".into(), ..StreamWrite::default() }],
        ..WriteStreamRequest::default()
    };
    // It stays open, as a loader's does.
    let messages = tokio_stream::once(message.clone()).chain(tokio_stream::pending());

    disk.fail_syncs(1);
    let mut answers = data.write_stream(messages).await.unwrap().into_inner();
    let answer = timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
    let Some(mortise_proto::v1::write_result::Result::Error(error)) = &answer.results[0].result else {
        panic!("{answer:?}")
    };
    assert_eq!(error.code(), ErrorCode::Internal);
    let reason = timeout(PATIENCE, node.running.wait()).await.unwrap();
    assert_eq!(node.running.fault().as_deref(), Some(reason.as_str()));
    let status = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    assert_code(&data.write(write("t", "ok")).await.unwrap_err(), ErrorCode::Internal);
    assert!(node.metric("log_fsync_failures_total") > 0);
    // A stop ends promptly also then.
    timeout(Duration::from_secs(5), node.running.shutdown()).await.unwrap();
}
