//! A node's administration: tenants, plugins, the profile, snapshots, status. Needs a token with the scope `admin`
//! where the node has tokens.

mod convert;
mod types;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use mortise_core::profile::Profile;
use mortise_proto::v1;
use mortise_proto::v1::admin_client::AdminClient as Grpc;
use mortise_proto::v1::import_tenant_request::Part;
use tonic::transport::Channel;

use crate::connection::{Connection, MESSAGE_BYTES_MAX, Repeat};
use crate::error::{ClientError, ErrorKind};
use crate::options::Options;
use crate::routes::Subject;
pub use types::{NodeStatus, PluginExample, PluginInfo, SnapshotInfo, StateInfo, TenantInfo, Upload};

/// Bytes of a component or snapshot in one message: some hundred of them make a big one.
const CHUNK_BYTES: usize = 256 << 10;
/// What is not about a tenant is about the first group of a node.
const FIRST_GROUP: Subject = Subject::Group(0);

/// Connections to the admin services of nodes. Cheap to clone. What only a leader can do goes to the leader; the status
/// and the snapshot are those of the first endpoint where a node answers.
///
/// Its calls end after the `timeout` of the options, but for uploads, imports and exports, which take as long as they
/// take, and are not repeated. A change whose answer was lost is not repeated either; then
/// [`ClientError::took_effect`] says unknown. All errors are the node's or the transport's; see
/// [`ErrorKind`].
#[derive(Clone, Debug)]
pub struct AdminClient {
    connection: Connection,
}

impl AdminClient {
    /// Connects to the first of the admin endpoints where a node answers.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(options: &Options) -> Result<Self, ClientError> {
        Ok(Self { connection: Connection::open(options, &options.admin_endpoints).await? })
    }

    /// Makes a tenant that runs a plugin: its name (its newest upload), name@version, or at least 8 digits of its
    /// digest. `watch`: its effects are kept for watchers.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], [`ErrorKind::NotFound`] of the plugin, [`ErrorKind::Invalid`] of the name, and
    /// those of a call.
    pub async fn create_tenant(
        &self,
        name: &str,
        plugin: &str,
        watch: bool,
    ) -> Result<TenantInfo, ClientError> {
        let request = v1::CreateTenantRequest { name: name.into(), plugin: plugin.into(), watch };
        let call = |channel, request| async move { admin(channel).create_tenant(request).await };
        let response = self
            .connection
            .call(Subject::Tenant(name.into()), Repeat::IfWithoutEffect, request, call)
            .await?;
        convert::tenant(response.tenant)
    }

    /// All tenants.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn list_tenants(&self) -> Result<Vec<TenantInfo>, ClientError> {
        let call = |channel, request| async move { admin(channel).list_tenants(request).await };
        let response =
            self.connection.call(FIRST_GROUP, Repeat::Freely, v1::ListTenantsRequest {}, call).await?;
        response.tenants.into_iter().map(|tenant| convert::tenant(Some(tenant))).collect()
    }

    /// One tenant; `digest_state`: with the digest of its state, for which all of it is read.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and those of a call.
    pub async fn tenant(&self, name: &str, digest_state: bool) -> Result<TenantInfo, ClientError> {
        let request = v1::GetTenantRequest { name: name.into(), digest_state };
        let call = |channel, request| async move { admin(channel).get_tenant(request).await };
        convert::tenant(
            self.connection.call(Subject::Tenant(name.into()), Repeat::Freely, request, call).await?.tenant,
        )
    }

    /// Drops a tenant with all its state.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and those of a call.
    pub async fn drop_tenant(&self, name: &str) -> Result<(), ClientError> {
        let request = v1::DropTenantRequest { name: name.into() };
        let call = |channel, request| async move { admin(channel).drop_tenant(request).await };
        self.connection.call(Subject::Tenant(name.into()), Repeat::IfWithoutEffect, request, call).await?;
        Ok(())
    }

    /// Gives a tenant another plugin of the same name and schema.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::FailedPrecondition`] where the plugins do not fit, and those of a call.
    pub async fn switch_tenant(&self, name: &str, plugin: &str) -> Result<TenantInfo, ClientError> {
        let request = v1::SwitchTenantRequest { name: name.into(), plugin: plugin.into() };
        let call = |channel, request| async move { admin(channel).switch_tenant(request).await };
        convert::tenant(
            self.connection
                .call(Subject::Tenant(name.into()), Repeat::IfWithoutEffect, request, call)
                .await?
                .tenant,
        )
    }

    /// A snapshot file of one tenant, in chunks.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and those of a call; also between the chunks, and then the file is incomplete.
    pub async fn export_tenant(
        &self,
        name: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Unpin + use<>, ClientError> {
        let request = || v1::ExportTenantRequest { name: name.into() };
        let call = |channel, request| async move { admin(channel).export_tenant(request).await };
        let chunks = self.connection.call_long(Subject::Tenant(name.into()), request, call).await?;
        Ok(chunks.map(|message| Ok(message?.chunk)))
    }

    /// Makes a tenant of a snapshot file, given in chunks of any size.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], [`ErrorKind::Invalid`] where the file is damaged, and those of a call.
    pub async fn import_tenant(
        &self,
        name: &str,
        chunks: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<TenantInfo, ClientError> {
        let first = v1::ImportTenantRequest { part: Some(Part::Name(name.into())) };
        let rest = chunks.flat_map(|chunk| stream::iter(split(chunk)));
        let rest = rest.map(|chunk| v1::ImportTenantRequest { part: Some(Part::Chunk(chunk)) });
        // The chunks come only once, so the leader is found before.
        self.profile().await?;
        let request = self.connection.request(stream::once(async { first }).chain(rest));
        let response = admin(self.connection.trail(FIRST_GROUP).channel()).import_tenant(request).await?;
        convert::tenant(response.into_inner().tenant)
    }

    /// Makes a component known to the node, which checks and compiles it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it is no plugin (the message names what is wrong), [`ErrorKind::TooLarge`],
    /// [`ErrorKind::Overloaded`] while another one is compiled, and those of a call.
    pub async fn upload_plugin(&self, component: Bytes) -> Result<Upload, ClientError> {
        let chunks = || stream::iter(split(component.clone()).map(|chunk| v1::UploadPluginRequest { chunk }));
        let call = |channel, chunks| async move { admin(channel).upload_plugin(chunks).await };
        let response = self.connection.call_long(FIRST_GROUP, chunks, call).await?;
        Ok(Upload { plugin: convert::plugin(response.plugin)?, known: response.known })
    }

    /// All plugins.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn list_plugins(&self) -> Result<Vec<PluginInfo>, ClientError> {
        let call = |channel, request| async move { admin(channel).list_plugins(request).await };
        let response =
            self.connection.call(FIRST_GROUP, Repeat::Freely, v1::ListPluginsRequest {}, call).await?;
        response.plugins.into_iter().map(|plugin| convert::plugin(Some(plugin))).collect()
    }

    /// One plugin, named as in [`AdminClient::create_tenant`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and those of a call.
    pub async fn inspect_plugin(&self, plugin: &str) -> Result<PluginInfo, ClientError> {
        let request = v1::InspectPluginRequest { plugin: plugin.into() };
        let call = |channel, request| async move { admin(channel).inspect_plugin(request).await };
        convert::plugin(self.connection.call(FIRST_GROUP, Repeat::Freely, request, call).await?.plugin)
    }

    /// The profile in force.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn profile(&self) -> Result<Profile, ClientError> {
        let call = |channel, request| async move { admin(channel).get_profile(request).await };
        convert::profile(
            self.connection.call(FIRST_GROUP, Repeat::Freely, v1::GetProfileRequest {}, call).await?.profile,
        )
    }

    /// Changes the profile. Its version must be the present one's plus 1.
    ///
    /// # Errors
    /// [`ErrorKind::FailedPrecondition`] where somebody else changed it meanwhile, [`ErrorKind::Invalid`] where a
    /// value is out of its bounds, and those of a call.
    pub async fn set_profile(&self, profile: &Profile) -> Result<Profile, ClientError> {
        let request = v1::SetProfileRequest { profile: Some(profile.clone().into()) };
        let call = |channel, request| async move { admin(channel).set_profile(request).await };
        convert::profile(
            self.connection.call(FIRST_GROUP, Repeat::IfWithoutEffect, request, call).await?.profile,
        )
    }

    /// Writes a snapshot now, and drops the log it covers.
    ///
    /// # Errors
    /// Those of a call. It may take longer than the timeout: then the snapshot is written all the same.
    pub async fn snapshot(&self) -> Result<SnapshotInfo, ClientError> {
        let call = |channel, request| async move { admin(channel).snapshot(request).await };
        let response = self
            .connection
            .call(Subject::Node, Repeat::IfWithoutEffect, v1::SnapshotRequest {}, call)
            .await?;
        Ok(convert::snapshot(response))
    }

    /// How the node is.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn status(&self) -> Result<NodeStatus, ClientError> {
        let call = |channel, request| async move { admin(channel).status(request).await };
        let response =
            self.connection.call(Subject::Node, Repeat::Freely, v1::StatusRequest {}, call).await?;
        Ok(convert::status(response))
    }
}

fn admin(channel: Channel) -> Grpc<Channel> {
    Grpc::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Parts that fit into messages.
fn split(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let size = bytes.len().min(CHUNK_BYTES);
        (size > 0).then(|| bytes.split_to(size))
    })
}

/// What an answer lacks.
pub(crate) fn lacking(what: &str) -> ClientError {
    ClientError::new(ErrorKind::Protocol, format!("the node's answer has no {what}")).effect_unknown()
}
