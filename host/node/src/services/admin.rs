//! The service Admin. The guard lets only callers with the scope admin come here.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use mortise_proto::v1::admin_server::Admin;
use mortise_proto::v1::import_tenant_request::Part;
use mortise_proto::v1::{self, ErrorCode, ErrorDetail};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, Streaming};

use super::guard::{Call, Measured};
use super::{Context, convert, errors};
use crate::replica::{AdminError, TenantInfo, WriteError, blocking};

/// Chunks of an export that wait for the network: enough to read ahead while one is sent.
const EXPORT_CHUNKS_MAX: usize = 4;

pub(super) struct AdminService {
    context: Arc<Context>,
}

type ExportStream = Pin<Box<dyn Stream<Item = Result<v1::ExportTenantResponse, Status>> + Send>>;

impl AdminService {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Takes the rest of a component in.
    async fn component(
        &self,
        first: Bytes,
        mut chunks: Streaming<v1::UploadPluginRequest>,
    ) -> Result<Bytes, ErrorDetail> {
        let max = self.context.limits.component_bytes_max;
        let (mut component, mut chunk) = (BytesMut::new(), first);
        loop {
            let bytes = component.len() + chunk.len();
            if bytes > max {
                return Err(WriteError::TooLarge { what: "a component", bytes, max }.into());
            }
            component.extend_from_slice(&chunk);
            match chunks.message().await.map_err(errors::of_input)? {
                Some(message) => chunk = message.chunk,
                None => return Ok(component.freeze()),
            }
        }
    }

    async fn create(&self, request: v1::CreateTenantRequest) -> Result<TenantInfo, ErrorDetail> {
        let v1::CreateTenantRequest { name, plugin, watch, group } = request;
        let replica = self.context.find_leading(group).await?;
        let Some(node) = &self.context.cluster else {
            return Ok(replica.create_tenant(&name, &plugin, watch).await?);
        };
        let (holder, new) = (replica.clone(), name.clone());
        let make = async move |epoch| replica.create_tenant_in(Some(epoch), &new, &plugin, watch).await;
        Ok(node.names().create(holder, &name, make).await?)
    }

    async fn drop(&self, name: String) -> Result<(), ErrorDetail> {
        let replica = self.context.find_leading_of(&name).await?;
        let Some(node) = &self.context.cluster else { return Ok(replica.drop_tenant(&name).await?) };
        let (holder, old) = (replica.clone(), name.clone());
        let drop = async move { replica.drop_tenant(&old).await };
        Ok(node.names().release(holder, &name, drop).await?)
    }

    async fn upload(
        &self,
        mut chunks: Streaming<v1::UploadPluginRequest>,
    ) -> Result<v1::UploadPluginResponse, ErrorDetail> {
        let first = chunks.message().await.map_err(errors::of_input)?.unwrap_or_default();
        let replica = self.context.find_leading(first.group).await?;
        let busy = || ErrorDetail::from(WriteError::Overloaded("other plugins are being uploaded"));
        let _permit = self.context.uploads.try_acquire().map_err(|_| busy())?;
        let component = self.component(first.chunk, chunks).await?;
        let (plugin, known) = replica.upload_plugin(component).await?;
        Ok(v1::UploadPluginResponse { plugin: Some(convert::plugin(plugin)), known })
    }

    async fn import(
        &self,
        mut parts: Streaming<v1::ImportTenantRequest>,
    ) -> Result<v1::ImportTenantResponse, ErrorDetail> {
        let first = parts.message().await.map_err(errors::of_input)?;
        let Some(v1::ImportTenantRequest { part: Some(Part::Name(name)), group }) = first else {
            return Err(ErrorDetail::new(ErrorCode::Invalid, "the first message must name the new tenant"));
        };
        let chunks = parts.map(|message| match message {
            Ok(v1::ImportTenantRequest { part: Some(Part::Chunk(chunk)), .. }) => Ok(chunk),
            Ok(_) => Err(AdminError::Invalid("messages after the first must be chunks".into())),
            Err(status) => Err(AdminError::Invalid(errors::of_input(status).message)),
        });
        let replica = self.context.find_leading(group).await?;
        let tenant = match &self.context.cluster {
            None => replica.import(&name, chunks).await?,
            Some(node) => {
                let (holder, new) = (replica.clone(), name.clone());
                let make = async move |epoch| replica.import_in(Some(epoch), &new, chunks).await;
                node.names().create(holder, &name, make).await?
            }
        };
        Ok(v1::ImportTenantResponse { tenant: Some(convert::tenant(tenant)) })
    }

    async fn export(&self, name: String, deadline: Option<Instant>) -> Result<ExportStream, ErrorDetail> {
        let replica = self.context.find_leading_of(&name).await?;
        let (sender, chunks) = mpsc::channel(EXPORT_CHUNKS_MAX);
        tokio::spawn(async move {
            let failed = sender.clone();
            if let Err(error) = replica.export(&name, sender).await {
                // A caller that went away needs no error.
                let _ = failed.send(Err(error)).await;
            }
        });
        let measured = Measured::new(&self.context.metrics, "ExportTenant");
        Ok(stream::unfold(Export { chunks: Some(chunks), deadline, measured }, Export::next).boxed())
    }

    async fn node_status(&self, group: u64) -> Result<v1::StatusResponse, ErrorDetail> {
        let groups = self.context.groups.numbers();
        let lowest = groups.first().map_or(0, |group| group.0);
        let replica = self.context.find_replica(if group == 0 { lowest } else { group })?;
        let asked = replica.clone();
        let status = blocking(move || asked.status()).await?;
        let role = match (&status.fault, replica.leads()) {
            (Some(_), _) => "stopped",
            (None, true) => "leader",
            (None, false) => "follower",
        };
        let about = &self.context.about;
        Ok(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            runtime: about.runtime.clone(),
            node: about.node.clone(),
            role: role.into(),
            epoch: status.epoch,
            last_index: status.last_index,
            commit_index: status.commit_index,
            applied_index: status.applied_index,
            log_first_index: status.log_first_index,
            log_bytes: status.log_bytes,
            state_disk_bytes: status.state_disk_bytes,
            free_disk_bytes: status.free_disk_bytes,
            snapshot_index: status.snapshot_index,
            tenants: status.tenants,
            plugins: status.plugins,
            sessions: status.sessions,
            uptime_ms: u64::try_from(about.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            writes_refused: status.fault.or(status.writes_refused).unwrap_or_default(),
            log_time_ms: status.log_time_ms,
            data_address: about.data_address.to_string(),
            admin_address: about.admin_address.to_string(),
            group: replica.group().0,
            groups: groups.iter().map(|group| group.0).collect(),
        })
    }
}

/// An export on its way.
struct Export {
    /// `None` after the last item.
    chunks: Option<mpsc::Receiver<Result<Bytes, AdminError>>>,
    deadline: Option<Instant>,
    measured: Measured,
}

impl Export {
    async fn next(mut self) -> Option<(Result<v1::ExportTenantResponse, Status>, Self)> {
        let chunks = self.chunks.as_mut()?;
        let chunk = match self.deadline {
            None => Ok(chunks.recv().await),
            Some(deadline) => tokio::time::timeout_at(deadline, chunks.recv()).await,
        };
        let detail = match chunk {
            Ok(Some(Ok(chunk))) => return Some((Ok(v1::ExportTenantResponse { chunk }), self)),
            Ok(Some(Err(error))) => error.into(),
            Ok(None) => {
                self.measured.ended(Code::Ok);
                return None;
            }
            Err(_) => errors::deadline_exceeded(false),
        };
        let status = Status::from(detail);
        self.measured.ended(status.code());
        self.chunks = None;
        Some((Err(status), self))
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        let tenant = Some(convert::tenant(self.create(request.into_inner()).await?));
        Ok(Response::new(v1::CreateTenantResponse { tenant }))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let replica = self.context.find_leading(request.into_inner().group).await?;
        let tenants = replica.list_tenants().into_iter().map(convert::tenant).collect();
        Ok(Response::new(v1::ListTenantsResponse { tenants }))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::GetTenantResponse>, Status> {
        let v1::GetTenantRequest { name, digest_state } = request.into_inner();
        let replica = self.context.find_leading_of(&name).await?;
        let info = replica.tenant_info(&name, digest_state).await.map_err(ErrorDetail::from)?;
        Ok(Response::new(v1::GetTenantResponse { tenant: Some(convert::tenant(info)) }))
    }

    async fn drop_tenant(
        &self,
        request: Request<v1::DropTenantRequest>,
    ) -> Result<Response<v1::DropTenantResponse>, Status> {
        self.drop(request.into_inner().name).await?;
        Ok(Response::new(v1::DropTenantResponse {}))
    }

    async fn switch_tenant(
        &self,
        request: Request<v1::SwitchTenantRequest>,
    ) -> Result<Response<v1::SwitchTenantResponse>, Status> {
        let v1::SwitchTenantRequest { name, plugin } = request.into_inner();
        let replica = self.context.find_leading_of(&name).await?;
        let info = replica.switch_tenant(&name, &plugin).await.map_err(ErrorDetail::from)?;
        Ok(Response::new(v1::SwitchTenantResponse { tenant: Some(convert::tenant(info)) }))
    }

    type ExportTenantStream = ExportStream;

    async fn export_tenant(
        &self,
        request: Request<v1::ExportTenantRequest>,
    ) -> Result<Response<ExportStream>, Status> {
        let deadline = Call::of(&request)?.deadline;
        Ok(Response::new(self.export(request.into_inner().name, deadline).await?))
    }

    async fn import_tenant(
        &self,
        request: Request<Streaming<v1::ImportTenantRequest>>,
    ) -> Result<Response<v1::ImportTenantResponse>, Status> {
        Ok(self.import(request.into_inner()).await.map(Response::new)?)
    }

    async fn upload_plugin(
        &self,
        request: Request<Streaming<v1::UploadPluginRequest>>,
    ) -> Result<Response<v1::UploadPluginResponse>, Status> {
        Ok(self.upload(request.into_inner()).await.map(Response::new)?)
    }

    async fn list_plugins(
        &self,
        request: Request<v1::ListPluginsRequest>,
    ) -> Result<Response<v1::ListPluginsResponse>, Status> {
        let replica = self.context.find_leading(request.into_inner().group).await?;
        let plugins = replica.list_plugins().into_iter().map(convert::plugin).collect();
        Ok(Response::new(v1::ListPluginsResponse { plugins }))
    }

    async fn inspect_plugin(
        &self,
        request: Request<v1::InspectPluginRequest>,
    ) -> Result<Response<v1::InspectPluginResponse>, Status> {
        let v1::InspectPluginRequest { plugin, group } = request.into_inner();
        let replica = self.context.find_leading(group).await?;
        let info = replica.inspect_plugin(&plugin).map_err(ErrorDetail::from)?;
        Ok(Response::new(v1::InspectPluginResponse { plugin: Some(convert::plugin(info)) }))
    }

    async fn get_profile(
        &self,
        request: Request<v1::GetProfileRequest>,
    ) -> Result<Response<v1::GetProfileResponse>, Status> {
        let replica = self.context.find_leading(request.into_inner().group).await?;
        let profile = v1::Profile::from(replica.profile());
        Ok(Response::new(v1::GetProfileResponse { profile: Some(profile) }))
    }

    async fn set_profile(
        &self,
        request: Request<v1::SetProfileRequest>,
    ) -> Result<Response<v1::SetProfileResponse>, Status> {
        let missing = || ErrorDetail::new(ErrorCode::Invalid, "the profile is missing");
        let v1::SetProfileRequest { profile, group } = request.into_inner();
        let profile = profile.ok_or_else(missing)?;
        let replica = self.context.find_leading(group).await?;
        let profile = replica.set_profile(profile.into()).await.map_err(ErrorDetail::from)?;
        Ok(Response::new(v1::SetProfileResponse { profile: Some(profile.into()) }))
    }

    async fn snapshot(
        &self,
        request: Request<v1::SnapshotRequest>,
    ) -> Result<Response<v1::SnapshotResponse>, Status> {
        let replica = self.context.find_replica(request.into_inner().group)?;
        let taken = replica.snapshot().await.map_err(ErrorDetail::from)?;
        Ok(Response::new(convert::snapshot(&taken)))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(self.node_status(request.into_inner().group).await.map(Response::new)?)
    }
}
