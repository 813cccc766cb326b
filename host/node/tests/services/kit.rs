//! A node for a test, and clients to it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mortise_node::config::Config;
use mortise_node::server::{Running, Server};
use mortise_proto::v1::admin_client::AdminClient;
use mortise_proto::v1::data_client::DataClient;
use mortise_proto::v1::{
    CreateTenantRequest, ErrorCode, ErrorDetail, QueryRequest, UploadPluginRequest, WriteRequest,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Longest that anything here may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) running: Running,
    /// Goes with the test.
    _folder: tempfile::TempDir,
}

/// A configuration for a node in `folder`, on free ports.
pub(crate) fn config(folder: &tempfile::TempDir) -> Config {
    let mut config = Config::default();
    config.node.data_folder = folder.path().join("data");
    config.data.address = Some(([127, 0, 0, 1], 0).into());
    config.admin.address = Some(([127, 0, 0, 1], 0).into());
    config.storage.log_segment_bytes = 1 << 20;
    config.storage.free_disk_bytes_min = 0;
    config
}

impl Node {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        change(&mut config);
        Self::new(Server::start(config).await.unwrap(), folder)
    }

    pub(crate) fn new(running: Running, folder: tempfile::TempDir) -> Self {
        Self { running, _folder: folder }
    }

    /// A node with the tenant `t`, which runs the hostile plugin: a map with every fault on demand.
    pub(crate) async fn with_tenant(change: impl FnOnce(&mut Config)) -> Self {
        let node = Self::start(change).await;
        node.create_tenant("t").await;
        node
    }

    /// Past the gRPC interface, so that tests with tokens need none for it.
    pub(crate) async fn create_tenant(&self, name: &str) {
        let component = tokio::task::spawn_blocking(|| mortise_artifacts::bad_guest("hostile").unwrap());
        let replica = self.running.replica().unwrap();
        replica.upload_plugin(component.await.unwrap().into()).await.unwrap();
        replica.create_tenant(name, "hostile", false).await.unwrap();
    }

    pub(crate) async fn data(&self) -> DataClient<Channel> {
        DataClient::new(channel(self.running.data_address()).await)
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(channel(self.running.admin_address()).await)
    }

    /// The number behind a line of the metrics page, without its `mortise_`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = self.running.metrics_page();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("mortise_")?.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    pub(crate) async fn stop(self) {
        tokio::time::timeout(PATIENCE, self.running.shutdown()).await.unwrap();
    }
}

pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

pub(crate) fn write(tenant: &str, command: impl Into<Bytes>) -> WriteRequest {
    WriteRequest { tenant: tenant.into(), command: command.into(), ..WriteRequest::default() }
}

pub(crate) fn query(tenant: &str, request: impl Into<Bytes>) -> QueryRequest {
    QueryRequest { tenant: tenant.into(), request: request.into(), freshness: None }
}

pub(crate) fn create(name: &str, plugin: &str) -> CreateTenantRequest {
    CreateTenantRequest { name: name.into(), plugin: plugin.into(), watch: false, group: 0 }
}

/// A component in chunks.
pub(crate) fn chunks(
    component: &[u8],
) -> impl tonic::IntoStreamingRequest<Message = UploadPluginRequest> + use<> {
    let chunks: Vec<_> = component
        .chunks(64 << 10)
        .map(|chunk| UploadPluginRequest { chunk: Bytes::copy_from_slice(chunk), group: 0 })
        .collect();
    futures::stream::iter(chunks)
}

/// `message` with a token.
pub(crate) fn bearing<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The detail that every error of the node must have.
pub(crate) fn detail(status: &Status) -> ErrorDetail {
    ErrorDetail::from_status(status).unwrap_or_else(|| panic!("{status:?} has no detail"))
}

/// Asserts the code of the detail, and that the gRPC code goes with it.
pub(crate) fn assert_code(status: &Status, code: ErrorCode) -> ErrorDetail {
    let detail = detail(status);
    assert_eq!((detail.code(), status.code()), (code, detail.grpc_code()), "{status:?}");
    detail
}
