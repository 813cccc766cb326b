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

/// Connections to the admin services of nodes. Cheap to clone. What only a leader can do goes to the leader; the status
/// and the snapshot are those of the first endpoint where a node answers.
///
/// Plugins, the profile and new tenants are a group's: the one that [`AdminClient::in_group`] names, else the only one
/// there is. Where there are several and none is named, such a call ends with [`ErrorKind::Invalid`], and
/// [`ClientError::groups`] has their numbers; but tenants and plugins are listed of all groups.
///
/// Its calls end after the `timeout` of the options, but for uploads, imports and exports, which take as long as they
/// take, and are not repeated. A change whose answer was lost is not repeated either; then
/// [`ClientError::took_effect`] says unknown. All errors are the node's or the transport's; see
/// [`ErrorKind`].
#[derive(Clone, Debug)]
pub struct AdminClient {
    connection: Connection,
    /// 0: the only one.
    group: u64,
}

impl AdminClient {
    /// Connects to the first of the admin endpoints where a node answers.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(options: &Options) -> Result<Self, ClientError> {
        Ok(Self { connection: Connection::open(options, &options.admin_endpoints).await?, group: 0 })
    }

    /// The same, for what is a group's. `None`: of the only one there is.
    #[must_use]
    pub fn in_group(&self, group: Option<u64>) -> Self {
        Self { connection: self.connection.clone(), group: group.unwrap_or_default() }
    }

    fn subject(&self) -> Subject {
        Subject::Group(self.group)
    }

    /// What a call gives of the group, or, where none is named and there are several, of each of them.
    async fn of_each_group<T>(
        &self,
        call: impl AsyncFn(Self) -> Result<Vec<T>, ClientError>,
    ) -> Result<Vec<T>, ClientError> {
        let groups = match call(self.clone()).await {
            Err(error) if self.group == 0 && !error.groups().is_empty() => error.groups().to_vec(),
            listed => return listed,
        };
        let mut all = Vec::new();
        for group in groups {
            all.extend(call(self.in_group(Some(group))).await?);
        }
        Ok(all)
    }

    /// Makes a tenant in the group that runs one of its plugins: its name (its newest upload), name@version, or at least 8
    /// digits of its digest. `watch`: its effects are kept for watchers.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], be it in another group, [`ErrorKind::NotFound`] of the plugin,
    /// [`ErrorKind::Invalid`] of the name, and those of a call.
    pub async fn create_tenant(
        &self,
        name: &str,
        plugin: &str,
        watch: bool,
    ) -> Result<TenantInfo, ClientError> {
        let (name, plugin) = (name.into(), plugin.into());
        let request = v1::CreateTenantRequest { name, plugin, watch, group: self.group };
        let call = |channel, request| async move { admin(channel).create_tenant(request).await };
        let response = self.connection.call(self.subject(), Repeat::IfWithoutEffect, request, call).await?;
        convert::tenant(response.tenant)
    }

    /// All tenants.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn list_tenants(&self) -> Result<Vec<TenantInfo>, ClientError> {
        let list = async |this: Self| {
            let request = v1::ListTenantsRequest { group: this.group };
            let call = |channel, request| async move { admin(channel).list_tenants(request).await };
            let response = this.connection.call(this.subject(), Repeat::Freely, request, call).await?;
            response.tenants.into_iter().map(|tenant| convert::tenant(Some(tenant))).collect()
        };
        self.of_each_group(list).await
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

    /// Makes a tenant in the group of a snapshot file, given in chunks of any size.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], [`ErrorKind::Invalid`] where the file is damaged, and those of a call.
    pub async fn import_tenant(
        &self,
        name: &str,
        chunks: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<TenantInfo, ClientError> {
        let first = v1::ImportTenantRequest { part: Some(Part::Name(name.into())), group: self.group };
        let rest = chunks.flat_map(|chunk| stream::iter(split(chunk)));
        let rest = rest.map(|chunk| v1::ImportTenantRequest { part: Some(Part::Chunk(chunk)), group: 0 });
        // The chunks come only once, so the leader is found before.
        self.profile().await?;
        let request = self.connection.request(stream::once(async { first }).chain(rest));
        let response = admin(self.connection.trail(self.subject()).channel()).import_tenant(request).await?;
        convert::tenant(response.into_inner().tenant)
    }

    /// Makes a component known to the group, whose leader checks and compiles it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it is no plugin (the message names what is wrong), [`ErrorKind::TooLarge`],
    /// [`ErrorKind::Overloaded`] while another one is compiled, and those of a call.
    pub async fn upload_plugin(&self, component: Bytes) -> Result<Upload, ClientError> {
        let group = self.group;
        let chunks = || {
            stream::iter(split(component.clone()).map(move |chunk| v1::UploadPluginRequest { chunk, group }))
        };
        let call = |channel, chunks| async move { admin(channel).upload_plugin(chunks).await };
        let response = self.connection.call_long(self.subject(), chunks, call).await?;
        Ok(Upload { plugin: convert::plugin(response.plugin)?, known: response.known })
    }

    /// All plugins.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn list_plugins(&self) -> Result<Vec<PluginInfo>, ClientError> {
        let list = async |this: Self| {
            let request = v1::ListPluginsRequest { group: this.group };
            let call = |channel, request| async move { admin(channel).list_plugins(request).await };
            let response = this.connection.call(this.subject(), Repeat::Freely, request, call).await?;
            response.plugins.into_iter().map(|plugin| convert::plugin(Some(plugin))).collect()
        };
        self.of_each_group(list).await
    }

    /// One plugin, named as in [`AdminClient::create_tenant`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and those of a call.
    pub async fn inspect_plugin(&self, plugin: &str) -> Result<PluginInfo, ClientError> {
        let request = v1::InspectPluginRequest { plugin: plugin.into(), group: self.group };
        let call = |channel, request| async move { admin(channel).inspect_plugin(request).await };
        convert::plugin(self.connection.call(self.subject(), Repeat::Freely, request, call).await?.plugin)
    }

    /// The profile in force.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn profile(&self) -> Result<Profile, ClientError> {
        let call = |channel, request| async move { admin(channel).get_profile(request).await };
        let request = v1::GetProfileRequest { group: self.group };
        convert::profile(self.connection.call(self.subject(), Repeat::Freely, request, call).await?.profile)
    }

    /// Changes the profile. Its version must be the present one's plus 1.
    ///
    /// # Errors
    /// [`ErrorKind::FailedPrecondition`] where somebody else changed it meanwhile, [`ErrorKind::Invalid`] where a
    /// value is out of its bounds, and those of a call.
    pub async fn set_profile(&self, profile: &Profile) -> Result<Profile, ClientError> {
        let request = v1::SetProfileRequest { profile: Some(profile.clone().into()), group: self.group };
        let call = |channel, request| async move { admin(channel).set_profile(request).await };
        convert::profile(
            self.connection.call(self.subject(), Repeat::IfWithoutEffect, request, call).await?.profile,
        )
    }

    /// Writes a snapshot of the node's replica of the group now, and drops the log it covers.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the node has none, and those of a call. It may take longer than the timeout: then the snapshot is written all the same.
    pub async fn snapshot(&self) -> Result<SnapshotInfo, ClientError> {
        let call = |channel, request| async move { admin(channel).snapshot(request).await };
        let request = v1::SnapshotRequest { group: self.group };
        let response = self.connection.call(Subject::Node, Repeat::IfWithoutEffect, request, call).await?;
        Ok(convert::snapshot(response))
    }

    /// How the node is, and its replica of the group; where none is named, of the one with the lowest number.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the node has none, and those of a call.
    pub async fn status(&self) -> Result<NodeStatus, ClientError> {
        let call = |channel, request| async move { admin(channel).status(request).await };
        let request = v1::StatusRequest { group: self.group };
        let response = self.connection.call(Subject::Node, Repeat::Freely, request, call).await?;
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
