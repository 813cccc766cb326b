//! Reading snapshots back: a tenant's, for an import; the group's, where the state was lost.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use mortise_core::digest::Context;
use mortise_core::ids::{GroupId, PluginDigest, TenantId};
use mortise_runtime::Runtime;
use mortise_storage::{Section, SnapshotDecoder, SnapshotReader, StateDb, StateId};

use super::{GROUP, Header, RawPairs, SectionHeader, SnapshotError, TENANT, TenantSection};
use crate::replica::admin::COMPONENT_BYTES_MAX;
use crate::replica::install::{Construction, restore_section};
use crate::replica::kept;
use crate::replica::machine::Fault;
use crate::replica::tables::Tables;

/// The body of a section, chunk by chunk.
pub(crate) trait SectionBody {
    /// The next chunk; `None` at the section's end.
    fn chunk(&mut self) -> Result<Option<Bytes>, SnapshotError>;
}

impl<R: Read> SectionBody for SnapshotDecoder<R> {
    fn chunk(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        Ok(self.read_chunk()?)
    }
}

impl SectionBody for SnapshotReader {
    fn chunk(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        Ok(self.read_chunk()?)
    }
}

fn content(problem: &str) -> SnapshotError {
    SnapshotError::Content(problem.to_owned())
}

fn decode(section: Option<Section>) -> Result<Option<SectionHeader>, SnapshotError> {
    Ok(section.map(|section| SectionHeader::decode(section.header)).transpose()?)
}

fn component<R: Read>(file: &mut SnapshotDecoder<R>, digest: PluginDigest) -> Result<Bytes, SnapshotError> {
    let mut component = Vec::new();
    while let Some(chunk) = file.read_chunk()? {
        component.extend_from_slice(&chunk);
        if component.len() > COMPONENT_BYTES_MAX {
            return Err(content("its component is larger than any plugin's"));
        }
    }
    if PluginDigest::of(&component) != digest {
        return Err(content("its component is not the one it names"));
    }
    Ok(component.into())
}

/// Opens an exported tenant: its section, and the body that follows.
pub(crate) fn read_tenant_snapshot<R: Read>(
    input: R,
) -> Result<(TenantSection, SnapshotDecoder<R>), SnapshotError> {
    let mut file = SnapshotDecoder::new(input, "the import")?;
    if Header::decode(file.header().clone())?.kind != TENANT {
        return Err(content("this is a snapshot of a whole group, not an exported tenant"));
    }
    let Some(SectionHeader::Component(digest)) = decode(file.next_section()?)? else {
        return Err(content("its first section should be the plugin's component"));
    };
    component(&mut file, digest)?;
    let Some(SectionHeader::Tenant(section)) = decode(file.next_section()?)? else {
        return Err(content("its second section should be the tenant"));
    };
    if section.tenant.plugin != digest {
        return Err(content("the tenant's plugin is not the one in the file"));
    }
    Ok((*section, file))
}

/// Reads an exported tenant from start to end, every checksum, and returns its plugin's component. The error is for
/// whoever sent it.
pub(crate) fn check_export(input: &mut (impl Read + Seek)) -> Result<Bytes, String> {
    let told = |error: SnapshotError| format!("this cannot be imported: {error}");
    input.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    let (_, mut file) = read_tenant_snapshot(std::io::BufReader::new(&mut *input)).map_err(told)?;
    while file.read_chunk().map_err(|error| told(error.into()))?.is_some() {}
    if decode(file.next_section().map_err(|error| told(error.into()))?).map_err(told)?.is_some() {
        return Err(told(content("sections follow the tenant's")));
    }
    input.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    let mut file = SnapshotDecoder::new(std::io::BufReader::new(&mut *input), "the import")
        .map_err(|error| told(error.into()))?;
    match decode(file.next_section().map_err(|error| told(error.into()))?).map_err(told)? {
        Some(SectionHeader::Component(digest)) => component(&mut file, digest).map_err(told),
        _ => Err(told(content("its first section should be the plugin's component"))),
    }
}

/// Builds the state `state`, of which there is nothing yet, from a snapshot of `group`.
pub(crate) fn restore_group(
    db: &StateDb,
    state: StateId,
    group: GroupId,
    runtime: &Runtime,
    mut file: SnapshotReader,
) -> Result<Tables, Fault> {
    let failed = |error: SnapshotError| Fault::Snapshot(error);
    let header = Header::decode(file.header().clone()).map_err(|error| failed(error.into()))?;
    if header.kind != GROUP || header.group != group {
        return Err(failed(content("it is not a snapshot of this group")));
    }
    let Some(SectionHeader::Tables) =
        decode(file.next_section().map_err(|error| failed(error.into()))?).map_err(failed)?
    else {
        return Err(failed(content("its first section should be the group's tables")));
    };
    let mut raw = RawPairs::default();
    let mut pairs = Vec::new();
    while let Some(chunk) = file.chunk().map_err(failed)? {
        pairs.extend(raw.add(&chunk).map_err(|problem| failed(content(&problem)))?);
    }
    raw.finish().map_err(|problem| failed(content(&problem)))?;
    let tables = Tables::from_pairs(pairs.iter().cloned().map(Ok), &|bytes| runtime.load_accepted(bytes))?;
    let mut missing: BTreeSet<TenantId> = tables.tenants.keys().copied().collect();
    while let Some(section) =
        decode(file.next_section().map_err(|error| failed(error.into()))?).map_err(failed)?
    {
        match section {
            SectionHeader::Tenant(section) => {
                missing.remove(&section.id);
                restore_tenant(db, state, &tables, &section, &mut file)?;
            }
            SectionHeader::Kept(tenant) => restore_kept(db, state, tenant, &mut file)?,
            SectionHeader::Tables | SectionHeader::Component(_) => {
                return Err(failed(content("only tenants' sections may follow the tables")));
            }
        }
    }
    if let Some(tenant) = missing.first() {
        return Err(failed(content(&format!("it has no section for tenant {tenant}"))));
    }
    // The tables are published last: an interrupted restore is found as an empty database, and begins anew.
    let mut batch = db.batch(state);
    for (key, value) in pairs {
        batch.put_meta(&key, &value)?;
    }
    batch.commit()?;
    db.persist()?;
    Ok(tables)
}

fn restore_tenant(
    db: &StateDb,
    state: StateId,
    tables: &Tables,
    section: &TenantSection,
    file: &mut SnapshotReader,
) -> Result<(), Fault> {
    let known = tables.plugins.get(&section.tenant.plugin);
    let known = known.ok_or_else(|| Fault::Snapshot(content("a tenant's plugin is not in its tables")))?;
    let mut construction = Construction::begin(db, state, section.tenant.installation, section.id)?;
    let context = Context { sequence: section.tenant.sequence, time: tables.applied.time, principal: None };
    restore_section(&known.plugin, &tables.profile, &mut construction, &context, section, file)?
        .map_err(|problem| Fault::Snapshot(SnapshotError::Content(problem)))
}

/// Puts back what is kept for a tenant's watchers.
fn restore_kept(
    db: &StateDb,
    state: StateId,
    tenant: TenantId,
    file: &mut SnapshotReader,
) -> Result<(), Fault> {
    let failed = |problem: String| Fault::Snapshot(SnapshotError::Content(problem));
    // An attempt that was interrupted may have put others there.
    kept::delete(db, state, tenant)?;
    let (keys, mut raw) = (kept::keys_of(tenant), RawPairs::default());
    while let Some(chunk) = file.chunk().map_err(Fault::Snapshot)? {
        let mut batch = db.batch(state);
        for (key, value) in raw.add(&chunk).map_err(failed)? {
            if !keys.contains(&key) {
                return Err(failed("what it keeps for a tenant's watchers is another tenant's".into()));
            }
            batch.put_effect(&key, &value)?;
        }
        batch.commit()?;
    }
    raw.finish().map_err(failed)
}
