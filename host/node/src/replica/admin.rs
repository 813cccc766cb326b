//! The replica's administrative requests. Each that changes something is one log entry, or a few.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mortise_core::digest::{StateDigest, state_digest};
use mortise_core::entry::{Body, SessionChange, TenantCreate, check_tenant_name};
use mortise_core::ids::{Epoch, PluginDigest, SessionId, TenantId};
use mortise_core::profile::Profile;
use mortise_core::replica::Position;
use tokio::sync::{mpsc, oneshot};

use super::Replica;
use super::api::{AdminError, PluginInfo, SnapshotTaken, TenantInfo, WriteError};
use super::apply::ApplyJob;
use super::driver::{Event, Numbers};
use super::machine::Refused;
use super::shared::clock;
use super::snapshot::{SnapshotSource, export_tenant};
use super::tables::Tables;

/// Bytes of a component that may be uploaded: what one log entry can carry, and more than any plugin seen (a Python
/// one has 18 MB).
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;

impl Replica {
    /// Opens a session of at most `ttl_ms` idle milliseconds (0: as long as the profile allows); returns its id and
    /// the time granted.
    ///
    /// # Errors
    /// The tenant is gone or has too many sessions.
    pub async fn open_session(&self, tenant: TenantId, ttl_ms: u64) -> Result<(SessionId, u64), AdminError> {
        let max = self.shared.tables().profile.session_ttl_ms_max;
        let ttl_ms = if ttl_ms == 0 { max } else { ttl_ms.min(max) };
        let body = Body::Session(SessionChange::Open { tenant, ttl_ms });
        let at = self.propose(move |_| body, &tenant.to_string()).await?;
        Ok((SessionId::opened_at(self.group(), at.epoch, at.index), ttl_ms))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn close_session(&self, tenant: TenantId, session: SessionId) -> Result<(), AdminError> {
        let body = Body::Session(SessionChange::Close { tenant, session });
        self.propose(move |_| body, &session.to_string()).await?;
        Ok(())
    }

    /// Creates a tenant with the plugin that `plugin` means.
    ///
    /// # Errors
    /// The name is malformed or taken; the plugin is unknown or fails to begin.
    pub async fn create_tenant(
        &self,
        name: &str,
        plugin: &str,
        watch: bool,
    ) -> Result<TenantInfo, AdminError> {
        self.create_tenant_in(None, name, plugin, watch).await
    }

    /// The same, in this leadership only; `None`: in whichever it comes to.
    ///
    /// # Errors
    /// As [`Replica::create_tenant`], and another leadership.
    pub(crate) async fn create_tenant_in(
        &self,
        epoch: Option<Epoch>,
        name: &str,
        plugin: &str,
        watch: bool,
    ) -> Result<TenantInfo, AdminError> {
        self.check_new(name)?;
        let plugin = self.find_plugin(plugin)?;
        let owned = name.to_owned();
        let make = move |numbers: &mut Numbers| {
            numbers.last_tenant += 1;
            let tenant = TenantId(numbers.last_tenant);
            Body::TenantCreate(TenantCreate { tenant, name: owned, plugin, watch })
        };
        self.propose_in(epoch, make, name).await?;
        self.tenant_info(name, false).await
    }

    /// Whether a tenant of this name can be made, as far as is known here.
    pub(crate) fn check_new(&self, name: &str) -> Result<(), AdminError> {
        check_tenant_name(name).map_err(AdminError::Invalid)?;
        match self.tenant(name) {
            None => Ok(()),
            Some(_) => Err(AdminError::AlreadyExists { what: "tenant", name: name.into() }),
        }
    }

    /// Drops a tenant with all its state.
    ///
    /// # Errors
    /// There is no such tenant.
    pub async fn drop_tenant(&self, name: &str) -> Result<(), AdminError> {
        let tenant = self.find_tenant(name)?;
        self.propose(move |_| Body::TenantDrop { tenant }, name).await?;
        Ok(())
    }

    /// Gives a tenant another plugin of the same name and schema.
    ///
    /// # Errors
    /// Tenant or plugin are unknown, or the plugin is of another name or schema.
    pub async fn switch_tenant(&self, name: &str, plugin: &str) -> Result<TenantInfo, AdminError> {
        let tenant = self.find_tenant(name)?;
        let plugin = self.find_plugin(plugin)?;
        self.propose(move |_| Body::TenantSwitch { tenant, plugin }, name).await?;
        self.tenant_info(name, false).await
    }

    /// The numbers of all tenants, by their names.
    pub(crate) fn tenants(&self) -> BTreeMap<String, TenantId> {
        self.shared.tables().names.iter().map(|(name, id)| (name.clone(), *id)).collect()
    }

    /// All tenants, by name.
    pub fn list_tenants(&self) -> Vec<TenantInfo> {
        let tables = self.shared.tables();
        let ids: BTreeMap<_, _> = tables.names.iter().collect();
        ids.values().filter_map(|id| self.describe_tenant(&tables, **id, None)).collect()
    }

    /// One tenant. With `digest_state` its whole state is read.
    ///
    /// # Errors
    /// There is no such tenant.
    pub async fn tenant_info(&self, name: &str, digest_state: bool) -> Result<TenantInfo, AdminError> {
        let id = self.find_tenant(name)?;
        let missing = || AdminError::NotFound { what: "tenant", name: name.into() };
        if !digest_state {
            return self.describe_tenant(&self.shared.tables(), id, None).ok_or_else(missing);
        }
        let shared = self.shared.clone();
        let (info, reader) = {
            let tables = shared.tables();
            let tenant = tables.tenants.get(&id).ok_or_else(missing)?;
            let reader = shared.db.reader(shared.state(), tenant.installation, id);
            (self.describe_tenant(&tables, id, None).ok_or_else(missing)?, reader)
        };
        let digest = blocking(move || state_digest(reader.as_ref())).await?.map_err(AdminError::internal)?;
        Ok(TenantInfo { state: Some(digest), ..info })
    }

    fn describe_tenant(
        &self,
        tables: &Tables,
        id: TenantId,
        state: Option<StateDigest>,
    ) -> Option<TenantInfo> {
        let tenant = tables.tenants.get(&id)?;
        let known = tables.plugins.get(&tenant.plugin)?;
        Some(TenantInfo {
            id,
            group: self.group(),
            name: tenant.name.clone(),
            plugin: tenant.plugin,
            manifest: known.plugin.manifest().clone(),
            watch: tenant.watch,
            commands: tenant.sequence,
            failures: tenant.failures,
            next_due_ms: tenant.due,
            effect_digest: tenant.digest,
            state,
            snapshot_section: self.shared.section_note(id),
        })
    }

    /// Checks and compiles a component, and makes it known to the group. True where it was known already.
    ///
    /// # Errors
    /// It is too large, not a component, of another world, or imports what a plugin may not.
    pub async fn upload_plugin(&self, component: Bytes) -> Result<(PluginInfo, bool), AdminError> {
        let digest = PluginDigest::of(&component);
        let known = self.shared.tables().plugins.contains_key(&digest);
        if !known {
            if component.len() > COMPONENT_BYTES_MAX {
                let (bytes, max) = (component.len(), COMPONENT_BYTES_MAX);
                return Err(WriteError::TooLarge { what: "a component", bytes, max }.into());
            }
            let runtime = self.shared.runtime.clone();
            let loading = component.clone();
            blocking(move || runtime.load(&loading)).await??;
            self.propose(move |_| Body::Plugin { component }, &digest.to_string()).await?;
        }
        Ok((self.inspect_plugin(&digest.to_string())?, known))
    }

    /// All plugins, by name and then from old to new.
    pub fn list_plugins(&self) -> Vec<PluginInfo> {
        let tables = self.shared.tables();
        let mut plugins: Vec<_> = tables.plugins.values().collect();
        plugins.sort_by_key(|known| (known.plugin.manifest().name.clone(), known.uploaded));
        plugins.into_iter().map(|known| self.describe_plugin(&tables, &known.plugin)).collect()
    }

    /// The plugin that `plugin` means.
    ///
    /// # Errors
    /// There is no such plugin.
    pub fn inspect_plugin(&self, plugin: &str) -> Result<PluginInfo, AdminError> {
        let digest = self.find_plugin(plugin)?;
        let tables = self.shared.tables();
        let known = tables.plugins.get(&digest);
        known
            .map(|known| self.describe_plugin(&tables, &known.plugin))
            .ok_or_else(|| AdminError::NotFound { what: "plugin", name: plugin.into() })
    }

    /// Changes the profile. Its version must be the present one's plus 1.
    ///
    /// # Errors
    /// Another version, or a limit out of bounds.
    pub async fn set_profile(&self, profile: Profile) -> Result<Profile, AdminError> {
        profile.check().map_err(AdminError::Invalid)?;
        let version = profile.version.to_string();
        self.propose(move |_| Body::Profile(profile), &version).await?;
        Ok(self.profile())
    }

    /// Takes a snapshot, and drops the log that it covers.
    ///
    /// # Errors
    /// One is being taken already, or the disk fails.
    pub async fn snapshot(&self) -> Result<SnapshotTaken, AdminError> {
        let (sender, receiver) = oneshot::channel();
        self.events.send(Event::TakeSnapshot(sender)).map_err(|_| self.gone())?;
        receiver.await.map_err(|_| self.gone())?
    }

    /// Streams a snapshot file with one tenant into `chunks`.
    ///
    /// # Errors
    /// There is no such tenant; a fault while reading it goes into `chunks`.
    pub async fn export(
        &self,
        tenant: &str,
        chunks: mpsc::Sender<Result<Bytes, AdminError>>,
    ) -> Result<(), AdminError> {
        let id = self.find_tenant(tenant)?;
        let (sender, receiver) = oneshot::channel();
        self.apply.send(ApplyJob::Source(sender)).map_err(|_| self.gone())?;
        let source: SnapshotSource = receiver.await.map_err(|_| self.gone())?;
        let shared = self.shared.clone();
        blocking(move || export_tenant(&shared, &source, id, &chunks)).await?;
        Ok(())
    }

    /// Stages a part of an import. See [`Replica::import_begin`].
    ///
    /// # Errors
    /// As with writes.
    pub(super) async fn propose_body(&self, body: Body, name: &str) -> Result<Position, AdminError> {
        self.propose(move |_| body, name).await
    }

    async fn propose(
        &self,
        make: impl FnOnce(&mut Numbers) -> Body + Send + 'static,
        name: &str,
    ) -> Result<Position, AdminError> {
        self.propose_in(None, make, name).await
    }

    /// Proposes an entry; with an epoch, only while this replica leads in it. Whoever gives this up does not know whether it
    /// is going to be.
    pub(super) async fn propose_in(
        &self,
        epoch: Option<Epoch>,
        make: impl FnOnce(&mut Numbers) -> Body + Send + 'static,
        name: &str,
    ) -> Result<Position, AdminError> {
        if let Some(refusal) = self.shared.refusal().clone() {
            return Err(refusal.into());
        }
        let (sender, receiver) = oneshot::channel();
        self.events.send(Event::Propose(epoch, Box::new(make), sender)).map_err(|_| self.gone())?;
        let refused = match receiver.await.map_err(|_| self.gone())?? {
            Ok(at) => return Ok(at),
            Err(refused) => refused,
        };
        Err(match refused {
            Refused::NoSuch(what) => AdminError::NotFound { what, name: name.into() },
            Refused::Exists(what) => AdminError::AlreadyExists { what, name: name.into() },
            Refused::Precondition(problem) => AdminError::FailedPrecondition(problem),
        })
    }

    pub(super) fn find_tenant(&self, name: &str) -> Result<TenantId, AdminError> {
        self.tenant(name).ok_or_else(|| AdminError::NotFound { what: "tenant", name: name.into() })
    }

    pub(super) fn find_plugin(&self, spec: &str) -> Result<PluginDigest, AdminError> {
        let tables = self.shared.tables();
        let known = tables.find_plugin(spec).map(|known| known.plugin.digest());
        known.ok_or_else(|| AdminError::NotFound { what: "plugin", name: spec.into() })
    }

    /// A number for a new import, unlike that of any import that may still be staged.
    pub(super) fn next_import(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = clock().0;
        LAST.fetch_max(now, Ordering::Relaxed);
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn describe_plugin(&self, tables: &Tables, plugin: &mortise_runtime::Plugin) -> PluginInfo {
        let users = tables.tenants.values().filter(|tenant| tenant.plugin == plugin.digest());
        PluginInfo {
            group: self.group(),
            digest: plugin.digest(),
            manifest: plugin.manifest().clone(),
            component_bytes: plugin.component_bytes_len() as u64,
            tenants: users.map(|tenant| tenant.name.clone()).collect(),
        }
    }

    pub(super) fn shared(&self) -> &Arc<super::shared::Shared> {
        &self.shared
    }
}

/// Runs what computes or reads for long on a thread where that disturbs nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AdminError> {
    tokio::task::spawn_blocking(work).await.map_err(AdminError::internal)
}
