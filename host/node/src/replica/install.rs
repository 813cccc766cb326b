//! Entries that make, replace and end tenants. A new state is built under an installation number of its own, beside
//! whatever is there, and published by the tenant's record in the entry's batch.

use std::sync::Arc;

use bytes::Bytes;
use mortise_core::digest::{Context, state_digest};
use mortise_core::entry::{Entry, Import, TenantCreate, check_tenant_name};
use mortise_core::ids::{Installation, PluginDigest, TenantId};
use mortise_core::layer::Layer;
use mortise_core::profile::Profile;
use mortise_core::session::SessionDelta;
use mortise_core::state::{StateError, StateReader};
use mortise_runtime::{BulkTarget, LoadError, Plugin, StreamError};
use mortise_storage::state::{StateBatch, StateDb, StateDbError, StateId};

use super::machine::{Fault, Machine, Refused};
use super::records::TableWrites;
use super::snapshot::{SectionBody, SnapshotError, TenantSection, read_tenant_snapshot};
use super::staged::StagedFile;
use super::tables::{KnownPlugin, Tenant};

/// An installation under construction: what a plugin's `restore` and `migrate` write to.
pub(crate) struct Construction {
    db: StateDb,
    state_id: StateId,
    installation: Installation,
    tenant: TenantId,
}

impl Construction {
    /// Begins an empty installation; what a crashed attempt left under its number goes first.
    pub(crate) fn begin(
        db: &StateDb,
        state_id: StateId,
        installation: Installation,
        tenant: TenantId,
    ) -> Result<Self, StateDbError> {
        db.delete_installation(state_id, installation, tenant)?;
        Ok(Self { db: db.clone(), state_id, installation, tenant })
    }

    /// Puts pairs as they are.
    pub(crate) fn put(&mut self, layer: &Layer) -> Result<(), StateDbError> {
        let mut batch = self.db.batch(self.state_id);
        batch.apply(self.installation, self.tenant, layer)?;
        batch.commit()
    }

    /// What has been built so far.
    pub(crate) fn state(&self) -> Arc<dyn StateReader> {
        self.db.reader(self.state_id, self.installation, self.tenant)
    }

    /// Takes everything away again.
    pub(crate) fn abandon(self) -> Result<(), StateDbError> {
        self.db.delete_installation(self.state_id, self.installation, self.tenant).map(drop)
    }
}

impl BulkTarget for Construction {
    fn reader(&self) -> Result<Arc<dyn StateReader>, StateError> {
        Ok(self.state())
    }

    fn flush(&mut self, layer: Layer) -> Result<(), StateError> {
        self.put(&layer).map_err(|error| StateError(error.into()))
    }
}

impl Machine {
    fn construction(&self, tenant: TenantId) -> Result<(Construction, Installation), Fault> {
        let installation = {
            let mut tables = self.shared.tables_mut();
            tables.applied.last_installation += 1;
            Installation(tables.applied.last_installation)
        };
        let shared = &self.shared;
        Ok((Construction::begin(&shared.db, shared.state(), installation, tenant)?, installation))
    }

    pub(super) fn create(
        &mut self,
        entry: &Entry,
        create: &TenantCreate,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        let (known, profile) = {
            let tables = self.shared.tables();
            if let Err(problem) = check_tenant_name(&create.name) {
                return Ok(Err(Refused::Precondition(problem)));
            }
            if tables.names.contains_key(&create.name) {
                return Ok(Err(Refused::Exists("tenant")));
            }
            let Some(known) = tables.plugins.get(&create.plugin).cloned() else {
                return Ok(Err(Refused::NoSuch("plugin")));
            };
            (known, tables.profile.clone())
        };
        let (mut construction, installation) = self.construction(create.tenant)?;
        let context = Context { sequence: 0, time: entry.time, principal: None };
        let migrated = known.plugin.migrate(&profile, &mut construction, &context, 0)?;
        let due = match migrated {
            Ok(done) => done.due.flatten(),
            Err(failure) => {
                construction.abandon()?;
                return Ok(Err(Refused::Precondition(format!("the plugin could not begin: {failure}"))));
            }
        };
        let tenant = Tenant {
            name: create.name.clone(),
            plugin: create.plugin,
            installation,
            watch: create.watch,
            sequence: 0,
            failures: 0,
            due,
            digest: Default::default(),
        };
        self.publish(create.tenant, tenant, batch)?;
        Ok(Ok(()))
    }

    fn publish(&self, id: TenantId, tenant: Tenant, batch: &mut StateBatch) -> Result<(), Fault> {
        batch.put_tenant(id, &tenant)?;
        let mut tables = self.shared.tables_mut();
        tables.applied.last_tenant = tables.applied.last_tenant.max(id.0);
        tables.insert_tenant(id, tenant);
        Ok(())
    }

    pub(super) fn drop_tenant(
        &mut self,
        id: TenantId,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        let mut delta = SessionDelta::default();
        let mut tables = self.shared.tables_mut();
        let Some(tenant) = tables.remove_tenant(id) else { return Ok(Err(Refused::NoSuch("tenant"))) };
        tables.sessions.drop_tenant(id, &mut delta);
        let writes = tables.sessions.writes(tables.applied.index.next(), delta);
        drop(tables);
        for write in writes {
            batch.session_write(write, &self.shared.db, self.shared.state())?;
        }
        batch.delete_tenant(id)?;
        batch.put_garbage(id, tenant.installation)?;
        self.forget(id);
        self.shared.metrics.remove_tenant(&tenant.name);
        Ok(Ok(()))
    }

    pub(super) fn switch(
        &mut self,
        id: TenantId,
        plugin: PluginDigest,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        let mut tables = self.shared.tables_mut();
        let Some(mut tenant) = tables.tenants.get(&id).cloned() else {
            return Ok(Err(Refused::NoSuch("tenant")));
        };
        let (Some(new), Some(old)) = (tables.plugins.get(&plugin), tables.plugins.get(&tenant.plugin)) else {
            return Ok(Err(Refused::NoSuch("plugin")));
        };
        let (new, old) = (new.plugin.manifest(), old.plugin.manifest());
        if (new.name.as_str(), new.schema) != (old.name.as_str(), old.schema) {
            return Ok(Err(Refused::Precondition(format!(
                "a tenant of {} schema {} can switch to a plugin of the same name and schema, not to {} schema {}",
                old.name, old.schema, new.name, new.schema
            ))));
        }
        tenant.plugin = plugin;
        batch.put_tenant(id, &tenant)?;
        tables.insert_tenant(id, tenant);
        Ok(Ok(()))
    }

    pub(super) fn plugin(
        &mut self,
        entry: &Entry,
        component: &Bytes,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        let digest = PluginDigest::of(component);
        // Loaded before it was proposed: this finds it in the compile cache.
        let plugin = match self.shared.runtime.load_accepted(component) {
            Ok(plugin) => plugin,
            Err(LoadError::Local(fault)) => return Err(fault.into()),
            Err(error) => return Ok(Err(Refused::Precondition(error.to_string()))),
        };
        batch.put_plugin(digest, entry.index, component)?;
        let known = KnownPlugin { plugin, uploaded: entry.index };
        self.shared.tables_mut().plugins.insert(digest, known);
        Ok(Ok(()))
    }

    pub(super) fn profile(
        &mut self,
        profile: &Profile,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        let mut tables = self.shared.tables_mut();
        if profile.version != tables.profile.version.saturating_add(1) {
            return Ok(Err(Refused::Precondition(format!(
                "the profile is at version {}: a change must be version {}",
                tables.profile.version,
                tables.profile.version.saturating_add(1)
            ))));
        }
        if let Err(problem) = profile.check() {
            return Ok(Err(Refused::Precondition(problem)));
        }
        batch.put_profile(profile)?;
        tables.profile = Arc::new(profile.clone());
        Ok(Ok(()))
    }

    pub(super) fn import(
        &mut self,
        entry: &Entry,
        import: &Import,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        let shared = self.shared.clone();
        match import {
            Import::Chunk { import, offset, bytes } => {
                batch.put_staged(*import, *offset, bytes)?;
                Ok(Ok(()))
            }
            Import::Abort { import } => {
                StagedFile::new(&shared.db, shared.state(), *import).delete(batch)?;
                Ok(Ok(()))
            }
            Import::Commit { import, tenant, name, bytes } => {
                let mut file = StagedFile::new(&shared.db, shared.state(), *import);
                file.delete(batch)?;
                if file.length() != *bytes {
                    let problem = format!("{} of {bytes} bytes of the import arrived", file.length());
                    return Ok(Err(Refused::Precondition(problem)));
                }
                self.import_commit(entry, *tenant, name, file, batch)
            }
        }
    }

    fn import_commit(
        &mut self,
        entry: &Entry,
        id: TenantId,
        name: &str,
        file: StagedFile<'_>,
        batch: &mut StateBatch,
    ) -> Result<Result<(), Refused>, Fault> {
        if self.shared.tables().names.contains_key(name) {
            return Ok(Err(Refused::Exists("tenant")));
        }
        if let Err(problem) = check_tenant_name(name) {
            return Ok(Err(Refused::Precondition(problem)));
        }
        let (section, mut body) = match read_tenant_snapshot(file) {
            Ok(parts) => parts,
            Err(SnapshotError::Database(error)) => return Err(error.into()),
            Err(error) => return Ok(Err(Refused::Precondition(format!("read the import: {error}")))),
        };
        let (known, profile) = {
            let tables = self.shared.tables();
            let Some(known) = tables.plugins.get(&section.tenant.plugin).cloned() else {
                return Ok(Err(Refused::NoSuch("plugin")));
            };
            (known, tables.profile.clone())
        };
        let (mut construction, installation) = self.construction(id)?;
        let context = Context { sequence: section.tenant.sequence, time: entry.time, principal: None };
        let restored =
            restore_section(&known.plugin, &profile, &mut construction, &context, &section, &mut body)?;
        if let Err(problem) = restored {
            construction.abandon()?;
            return Ok(Err(Refused::Precondition(problem)));
        }
        let tenant = Tenant { name: name.to_owned(), installation, ..section.tenant };
        self.publish(id, tenant, batch)?;
        Ok(Ok(()))
    }
}

/// Fills an installation from a snapshot's section, and checks the state's digest. The inner error says why the
/// section cannot be used.
pub(crate) fn restore_section(
    plugin: &Plugin,
    profile: &Arc<Profile>,
    construction: &mut Construction,
    context: &Context,
    section: &TenantSection,
    body: &mut dyn SectionBody,
) -> Result<Result<(), String>, Fault> {
    if section.raw {
        let mut pairs = super::snapshot::RawPairs::default();
        loop {
            let chunk = match body.chunk() {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return Ok(Err(error.to_string())),
            };
            match pairs.add_layer(&chunk) {
                Ok(layer) => construction.put(&layer)?,
                Err(problem) => return Ok(Err(problem)),
            }
        }
        if let Err(problem) = pairs.finish() {
            return Ok(Err(problem));
        }
    } else {
        let mut rest = Bytes::new();
        let mut damage = None;
        let mut source = |bytes_max: usize| -> Result<Option<Bytes>, StreamError> {
            if rest.is_empty() {
                match body.chunk().inspect_err(|error| damage = Some(error.to_string()))? {
                    Some(chunk) => rest = chunk,
                    None => return Ok(None),
                }
            }
            Ok(Some(rest.split_to(rest.len().min(bytes_max.max(1)))))
        };
        match plugin.restore(profile, construction, context, &mut source) {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => return Ok(Err(format!("the plugin's restore: {failure}"))),
            // A damaged file is its sender's affair, not a fault of this machine.
            Err(fault) => return damage.map_or(Err(fault.into()), |damage| Ok(Err(damage))),
        }
    }
    let found = state_digest(construction.state().as_ref())
        .map_err(|error| Fault::Contradiction { index: Default::default(), problem: error.to_string() })?;
    if found != section.state {
        return Ok(Err(format!(
            "the restored state has digest {} and {} pairs, the snapshot says {} and {}",
            found.digest, found.pairs, section.state.digest, section.state.pairs
        )));
    }
    Ok(Ok(()))
}
