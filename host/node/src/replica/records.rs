//! Single records of the tables, read and written.

use bytes::Bytes;
use mortise_core::codec::Writer;
use mortise_core::ids::{Epoch, Installation, LogIndex, PluginDigest, TenantId};
use mortise_core::profile::Profile;
use mortise_core::session::{SessionKey, SessionWrite};
use mortise_storage::state::{StateBatch, StateDb, StateDbError, StateId};

use super::tables::{
    EPOCHS, GARBAGE, OUTCOMES, PLUGINS, PROFILE, SESSIONS, STAGED, TENANTS, TablesError, Tenant, damaged,
    key, numbers,
};

/// Writes of single records, into the batch that carries an entry's effects.
pub(crate) trait TableWrites {
    fn put_tenant(&mut self, id: TenantId, tenant: &Tenant) -> Result<(), StateDbError>;
    fn delete_tenant(&mut self, id: TenantId) -> Result<(), StateDbError>;
    fn put_plugin(
        &mut self,
        digest: PluginDigest,
        uploaded: LogIndex,
        component: &[u8],
    ) -> Result<(), StateDbError>;
    fn put_profile(&mut self, profile: &Profile) -> Result<(), StateDbError>;
    fn put_epoch(&mut self, epoch: Epoch, first: LogIndex) -> Result<(), StateDbError>;
    fn session_write(
        &mut self,
        write: SessionWrite,
        known: &StateDb,
        state: StateId,
    ) -> Result<(), StateDbError>;
    fn put_garbage(&mut self, tenant: TenantId, installation: Installation) -> Result<(), StateDbError>;
    fn delete_garbage(&mut self, tenant: TenantId, installation: Installation) -> Result<(), StateDbError>;
    fn put_staged(&mut self, import: u64, offset: u64, bytes: &[u8]) -> Result<(), StateDbError>;
    fn delete_staged(&mut self, import: u64, offset: u64) -> Result<(), StateDbError>;
}

impl TableWrites for StateBatch {
    fn put_tenant(&mut self, id: TenantId, tenant: &Tenant) -> Result<(), StateDbError> {
        self.put_meta(&key(TENANTS, [id.0]), &tenant.encode())
    }

    fn delete_tenant(&mut self, id: TenantId) -> Result<(), StateDbError> {
        self.delete_meta(&key(TENANTS, [id.0]))
    }

    fn put_plugin(
        &mut self,
        digest: PluginDigest,
        uploaded: LogIndex,
        component: &[u8],
    ) -> Result<(), StateDbError> {
        let mut name = vec![PLUGINS];
        name.extend(digest.0);
        let mut writer = Writer::with_capacity(8 + component.len());
        writer.u64(uploaded.0).raw(component);
        self.put_meta(&name, &writer.finish())
    }

    fn put_profile(&mut self, profile: &Profile) -> Result<(), StateDbError> {
        let mut writer = Writer::default();
        profile.encode(&mut writer);
        self.put_meta(PROFILE, &writer.finish())
    }

    fn put_epoch(&mut self, epoch: Epoch, first: LogIndex) -> Result<(), StateDbError> {
        self.put_meta(&key(EPOCHS, [epoch.0]), &first.0.to_le_bytes())
    }

    fn session_write(
        &mut self,
        write: SessionWrite,
        known: &StateDb,
        state: StateId,
    ) -> Result<(), StateDbError> {
        let header = |(tenant, session): SessionKey| key(SESSIONS, [tenant.0, session.0]);
        let record =
            |(tenant, session): SessionKey, index: LogIndex| key(OUTCOMES, [tenant.0, session.0, index.0]);
        match write {
            SessionWrite::PutHeader(session, bytes) => self.put_meta(&header(session), &bytes)?,
            SessionWrite::PutRecord(session, index, bytes) => {
                self.put_meta(&record(session, index), &bytes)?
            }
            SessionWrite::DeleteRecord(session, index) => self.delete_meta(&record(session, index))?,
            SessionWrite::DeleteSession(session) => {
                self.delete_meta(&header(session))?;
                let records = key(OUTCOMES, [session.0.0, session.1.0]);
                for pair in known.meta_scan(state, &records) {
                    self.delete_meta(&pair?.0)?;
                }
            }
        }
        Ok(())
    }

    fn put_garbage(&mut self, tenant: TenantId, installation: Installation) -> Result<(), StateDbError> {
        self.put_meta(&key(GARBAGE, [tenant.0, installation.0]), &[])
    }

    fn delete_garbage(&mut self, tenant: TenantId, installation: Installation) -> Result<(), StateDbError> {
        self.delete_meta(&key(GARBAGE, [tenant.0, installation.0]))
    }

    fn put_staged(&mut self, import: u64, offset: u64, bytes: &[u8]) -> Result<(), StateDbError> {
        self.put_meta(&key(STAGED, [import, offset]), bytes)
    }

    fn delete_staged(&mut self, import: u64, offset: u64) -> Result<(), StateDbError> {
        self.delete_meta(&key(STAGED, [import, offset]))
    }
}

/// Installations that no tenant uses any more and that are still to be deleted.
pub(crate) fn garbage(db: &StateDb, state: StateId) -> Result<Vec<(TenantId, Installation)>, TablesError> {
    db.meta_scan(state, &[GARBAGE])
        .map(|pair| {
            let (key, _) = pair?;
            let [tenant, installation] = numbers(&key).map_err(damaged("garbage"))?;
            Ok((TenantId(tenant), Installation(installation)))
        })
        .collect()
}

/// A staged chunk.
pub(crate) fn staged(
    db: &StateDb,
    state: StateId,
    import: u64,
    offset: u64,
) -> Result<Option<Bytes>, StateDbError> {
    db.meta_get(state, &key(STAGED, [import, offset]))
}

/// The component of a known plugin.
pub(crate) fn component(
    db: &StateDb,
    state: StateId,
    digest: PluginDigest,
) -> Result<Option<Bytes>, StateDbError> {
    let mut name = vec![PLUGINS];
    name.extend(digest.0);
    Ok(db.meta_get(state, &name)?.map(|bytes| bytes.slice(8.min(bytes.len())..)))
}
