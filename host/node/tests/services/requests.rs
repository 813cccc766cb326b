//! Bad requests: each meets a clear error with its detail, and nothing else happens.

use std::net::SocketAddr;

use axum::body::Body;
use futures::stream;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mortise_proto::CLUSTER_METADATA;
use mortise_proto::v1::import_tenant_request::Part;
use mortise_proto::v1::{
    CreateTenantRequest, ErrorCode, GetTenantRequest, ImportTenantRequest, InspectPluginRequest,
    QueryResponse, StatusRequest, TookEffect,
};
use prost::Message;
use tokio::net::TcpStream;
use tonic::codegen::http::{self, uri::PathAndQuery};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};

use crate::kit::{Node, assert_code, channel, chunks, create, query, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_read_back_and_refusals_have_their_codes() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    let written = data.write(write("t", "put k v")).await.unwrap().into_inner();
    let position = written.position.unwrap();
    assert!(position.epoch > 0 && position.index > 0);
    let read = data.query(query("t", "get k")).await.unwrap().into_inner();
    assert_eq!(read.response, "v");
    assert!(read.applied_index >= position.index);

    let rejected = assert_code(&data.write(write("t", "reject")).await.unwrap_err(), ErrorCode::Rejected);
    assert_eq!(rejected.rejection.unwrap().code, "refused");
    assert_eq!(TookEffect::try_from(rejected.took_effect), Ok(TookEffect::No));
    let trapped = data.write(write("t", "trap")).await.unwrap_err();
    assert_code(&trapped, ErrorCode::PluginFailed);
    assert_code(&data.query(query("t", "trap")).await.unwrap_err(), ErrorCode::PluginFailed);
    assert_code(&data.write(write("no", "ok")).await.unwrap_err(), ErrorCode::NotFound);
    assert_code(&data.query(query("no", "ok")).await.unwrap_err(), ErrorCode::NotFound);
    // After all that, the tenant still works.
    data.write(write("t", "ok")).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_meant_for_another_cluster_does_nothing() {
    let node = Node::with_tenant(|_| {}).await;
    let mut data = node.data().await;
    let answered = data.write(write("t", "put k 1")).await.unwrap();
    let cluster = answered.metadata().get(CLUSTER_METADATA).unwrap().clone();
    let meant_for = |cluster: &MetadataValue<Ascii>, command: &str| {
        let mut request = Request::new(write("t", command.to_owned()));
        request.metadata_mut().insert(CLUSTER_METADATA, cluster.clone());
        request
    };
    let other = "0123456789abcdef".parse().unwrap();
    let refused = data.write(meant_for(&other, "put k 2")).await.unwrap_err();
    let detail = assert_code(&refused, ErrorCode::WrongCluster);
    assert!(detail.retryable && detail.took_effect() == TookEffect::No);
    assert_eq!(refused.metadata().get(CLUSTER_METADATA), Some(&cluster), "it says which one it is");
    assert_eq!(data.query(query("t", "get k")).await.unwrap().into_inner().response, "1");
    data.write(meant_for(&cluster, "put k 3")).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_or_command_over_its_limit_is_too_large() {
    let node = Node::with_tenant(|config| {
        config.limits.message_bytes_max = 128 << 10;
        config.limits.command_bytes_max = 64 << 10;
    })
    .await;
    let mut data = node.data().await;
    let command = data.write(write("t", vec![b'x'; (64 << 10) + 1])).await.unwrap_err();
    assert!(assert_code(&command, ErrorCode::TooLarge).message.contains("65537"), "{command:?}");
    let message = data.write(write("t", vec![b'x'; 256 << 10])).await.unwrap_err();
    assert_code(&message, ErrorCode::TooLarge);
    let message = data.query(query("t", vec![b'x'; 256 << 10])).await.unwrap_err();
    assert_code(&message, ErrorCode::TooLarge);
    data.write(write("t", "ok")).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_utf8_are_malformed() {
    #[derive(Clone, PartialEq, Message)]
    struct Raw {
        #[prost(bytes = "vec", tag = "1")]
        name: Vec<u8>,
    }
    let node = Node::with_tenant(|_| {}).await;
    let calls = [
        (node.running.data_address(), "/mortise.v1.Data/Query"),
        (node.running.data_address(), "/mortise.v1.Data/Write"),
        (node.running.admin_address(), "/mortise.v1.Admin/CreateTenant"),
    ];
    for (address, path) in calls {
        let mut client = tonic::client::Grpc::new(channel(address).await);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<Raw, QueryResponse>::default();
        let request = Request::new(Raw { name: b"t\xff\xfe".to_vec() });
        let status = client.unary(request, PathAndQuery::from_static(path), codec).await.unwrap_err();
        assert_code(&status, ErrorCode::Invalid);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_created_once_and_with_known_plugins() {
    let node = Node::with_tenant(|_| {}).await;
    let mut admin = node.admin().await;
    let code = |result: Result<_, Status>, code| {
        assert_code(&result.map(|_: tonic::Response<_>| ()).unwrap_err(), code)
    };
    code(admin.create_tenant(create("t", "hostile")).await.map(|r| r.map(|_| ())), ErrorCode::AlreadyExists);
    code(admin.create_tenant(create("v", "absent")).await.map(|r| r.map(|_| ())), ErrorCode::NotFound);
    let elsewhere = CreateTenantRequest { group: 2, ..create("v", "hostile") };
    code(admin.create_tenant(elsewhere).await.map(|r| r.map(|_| ())), ErrorCode::NotFound);
    for name in ["", "UPPER CASE", "a/b", &"x".repeat(300)] {
        code(admin.create_tenant(create(name, "hostile")).await.map(|r| r.map(|_| ())), ErrorCode::Invalid);
    }
    let get = |name: &str| GetTenantRequest { name: name.into(), digest_state: true };
    code(admin.get_tenant(get("absent")).await.map(|r| r.map(|_| ())), ErrorCode::NotFound);
    let tenant = admin.get_tenant(get("t")).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!((tenant.name.as_str(), tenant.plugin_name.as_str()), ("t", "hostile"));
    assert!(tenant.state.is_some());
    let inspect = InspectPluginRequest { plugin: "hostile".into(), group: 1 };
    let plugin = admin.inspect_plugin(inspect).await.unwrap().into_inner().plugin.unwrap();
    assert_eq!(plugin.tenants, ["t"]);
    let status = admin.status(StatusRequest { group: 1 }).await.unwrap().into_inner();
    assert_eq!((status.role.as_str(), status.tenants), ("leader", 1));
    assert!(status.runtime.starts_with("wasmtime ") && status.data_address.starts_with("127.0.0.1:"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_at_upload() {
    let node = Node::start(|config| config.limits.component_bytes_max = 1 << 20).await;
    let mut admin = node.admin().await;
    for (name, code, text) in [
        ("not-wasm", ErrorCode::Invalid, "no WebAssembly"),
        ("core-module", ErrorCode::Invalid, "core module"),
        ("wasi-clock", ErrorCode::Invalid, "wasi:clocks/monotonic-clock"),
        ("too-big", ErrorCode::TooLarge, "1048576"),
    ] {
        let component = mortise_artifacts::bad_guest(name).unwrap();
        let status = admin.upload_plugin(chunks(&component)).await.unwrap_err();
        assert!(assert_code(&status, code).message.contains(text), "{name}: {status:?}");
    }
    let component = mortise_artifacts::bytes("mortise-plugin-kv").unwrap();
    let first = admin.upload_plugin(chunks(&component)).await.unwrap().into_inner();
    let again = admin.upload_plugin(chunks(&component)).await.unwrap().into_inner();
    assert_eq!((first.known, again.known), (false, true));
    assert_eq!(first.plugin.unwrap().name, "kv");
    admin.create_tenant(create("books", "kv")).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_imports_as_a_new_tenant() {
    let node = Node::with_tenant(|_| {}).await;
    let (mut data, mut admin) = (node.data().await, node.admin().await);
    data.write(write("t", "put k v")).await.unwrap();
    let export = mortise_proto::v1::ExportTenantRequest { name: "t".into() };
    let mut chunks = admin.export_tenant(export).await.unwrap().into_inner();
    let mut parts = vec![Part::Name("copy".into())];
    while let Some(message) = chunks.message().await.unwrap() {
        parts.push(Part::Chunk(message.chunk));
    }
    assert!(parts.len() > 1);
    let request = |parts: Vec<Part>| {
        stream::iter(parts.into_iter().map(|part| ImportTenantRequest { part: Some(part), group: 0 }))
    };
    let nameless = admin.import_tenant(request(parts[1..].to_vec())).await.unwrap_err();
    assert_code(&nameless, ErrorCode::Invalid);
    let absent = mortise_proto::v1::ExportTenantRequest { name: "absent".into() };
    assert_code(&admin.export_tenant(absent).await.unwrap_err(), ErrorCode::NotFound);
    admin.import_tenant(request(parts.clone())).await.unwrap();
    assert_eq!(data.query(query("copy", "get k")).await.unwrap().into_inner().response, "v");
    assert_code(&admin.import_tenant(request(parts)).await.unwrap_err(), ErrorCode::AlreadyExists);
    node.stop().await;
}

/// The status of a call with a deadline. Past tonic's client, whose own timer would mostly be first.
async fn status_by(address: SocketAddr, path: &str, timeout: &str, message: &impl Message) -> Option<Status> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut body = vec![0];
    body.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut body).unwrap();
    let request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(Body::from(body))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    Status::from_header_map(response.headers())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_says_what_is_known() {
    let node = Node::with_tenant(|_| {}).await;
    let address = node.running.data_address();
    let (write_path, query_path) = ("/mortise.v1.Data/Write", "/mortise.v1.Data/Query");
    let status = status_by(address, write_path, "1m", &write("t", "loop")).await.unwrap();
    let detail = assert_code(&status, ErrorCode::DeadlineExceeded);
    assert_eq!(detail.took_effect(), TookEffect::Unknown);
    assert!(detail.retryable);
    let status = status_by(address, query_path, "1m", &query("t", "loop")).await.unwrap();
    let detail = assert_code(&status, ErrorCode::DeadlineExceeded);
    assert_eq!(detail.took_effect(), TookEffect::No);
    // A generous deadline is met: the status is in the trailers, and no error.
    assert!(status_by(address, write_path, "20S", &write("t", "ok")).await.is_none());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_and_services_are_unimplemented() {
    let node = Node::start(|_| {}).await;
    for path in ["/mortise.v1.Data/Nothing", "/mortise.v2.Data/Write", "/mortise.v1.Admin/Status"] {
        let mut client = tonic::client::Grpc::new(channel(node.running.data_address()).await);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<CreateTenantRequest, QueryResponse>::default();
        let request = Request::new(create("a", "b"));
        let status = client.unary(request, PathAndQuery::from_static(path), codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
    node.stop().await;
}
