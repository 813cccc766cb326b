//! Snapshots: what a group, or one tenant, is at one log index, as a file.
//!
//! ```text
//!   header: format, group or tenant, applied index and counters, the runtime it was made by
//!   group:  tables section · a section each tenant, and behind it, where it is watched, what is kept for watchers
//!   tenant: component section · the tenant's section
//! ```
//! A tenant's section is written by its plugin's `snapshot`, and only after a trial: what `snapshot` gives is fed to
//! `restore` beside it, and the state that comes out must have the same digest. Where the plugin traps, passes a
//! limit or is unfaithful, the host's raw dump takes its place: one tenant never stops compaction.

mod read;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mortise_core::codec::{DecodeError, Reader, Writer};
use mortise_core::digest::{Digest, StateDigest};
use mortise_core::entry::Stamp;
use mortise_core::group::Generation;
use mortise_core::ids::{Epoch, GroupId, LogIndex, PluginDigest, TenantId};
use mortise_core::layer::Layer;
use mortise_core::profile::Profile;
use mortise_core::replica::{EpochTable, Position, SnapshotMeta};
use mortise_runtime::Plugin;
use mortise_storage::snapshot::SnapshotError as FileError;
use mortise_storage::state::{StateDbError, StateId, StateView};

use super::shared::Shared;
use super::tables::{Applied, Tenant};

pub(crate) use self::read::{SectionBody, check_export, read_tenant_snapshot, restore_group};
pub(crate) use self::write::{Snapshots, export_tenant};

/// Files of older formats are read. 1 knew no [`SECTION_KEPT`].
const FORMAT: u8 = 2;
const GROUP: u8 = 0;
const TENANT: u8 = 1;
const SECTION_TABLES: u8 = 0;
const SECTION_COMPONENT: u8 = 1;
const SECTION_TENANT: u8 = 2;
const SECTION_KEPT: u8 = 3;
/// Bytes of pairs gathered before a raw dump hands them on.
const RAW_CHUNK_BYTES: usize = 256 << 10;
/// Most bytes of one pair in a raw dump: the largest key and value that any profile allows, and some.
const RAW_PAIR_BYTES_MAX: usize = 128 << 20;

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is damaged, or could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content is not what it should be.
    #[error("{0}")]
    Content(String),
    /// The state database failed.
    #[error(transparent)]
    Database(#[from] StateDbError),
}

impl From<DecodeError> for SnapshotError {
    fn from(error: DecodeError) -> Self {
        Self::Content(error.to_string())
    }
}

/// What a snapshot is made of: everything as of one applied index. It does not change while it is held.
pub(crate) struct SnapshotSource {
    pub state: StateId,
    pub view: StateView,
    pub applied: Applied,
    pub profile: Arc<Profile>,
    pub epochs: BTreeMap<Epoch, LogIndex>,
    pub tenants: Vec<(TenantId, Tenant, Plugin)>,
}

impl SnapshotSource {
    /// As of now. Only the apply thread may ask, between two entries.
    pub(crate) fn of(shared: &Shared) -> Self {
        let tables = shared.tables();
        let tenants = tables.tenants.iter().filter_map(|(id, tenant)| {
            let known = tables.plugins.get(&tenant.plugin)?;
            Some((*id, tenant.clone(), known.plugin.clone()))
        });
        Self {
            tenants: tenants.collect(),
            applied: tables.applied,
            profile: tables.profile.clone(),
            epochs: tables.epochs.clone(),
            state: shared.state(),
            view: shared.db.view(),
        }
    }
}

/// The name of the snapshot whose last entry is this one.
pub(crate) fn snapshot_name(last: LogIndex) -> String {
    format!("{:020}", last.0)
}

/// What the core is told of a snapshot of this state, in a history of this generation.
pub(crate) fn meta_of(
    applied: &Applied,
    epochs: &BTreeMap<Epoch, LogIndex>,
    profile: &Profile,
    generation: Generation,
) -> Result<SnapshotMeta, DecodeError> {
    let starts = epochs.iter().map(|(epoch, first)| (*epoch, *first)).collect();
    Ok(SnapshotMeta {
        generation,
        last: Position { epoch: applied.epoch, index: applied.index },
        epochs: EpochTable::from_starts(starts).ok_or(DecodeError::Malformed { what: "epochs" })?,
        digest: applied.digest,
        stamp: Stamp { time: applied.time, profile: profile.version },
    })
}

/// A snapshot's header.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub kind: u8,
    pub group: GroupId,
    pub applied: Applied,
    /// The runtime that made it, for people.
    pub runtime: String,
}

impl Header {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u8(FORMAT).u8(self.kind).u64(self.group.0);
        self.applied.encode(&mut writer);
        writer.bytes(self.runtime.as_bytes());
        writer.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("format")?;
        if version > FORMAT {
            return Err(DecodeError::TooNew { what: "snapshot", version, known: FORMAT });
        }
        let kind = reader.u8("snapshot kind")?;
        if kind > TENANT {
            return Err(DecodeError::Unknown { what: "snapshot kind", value: kind.into() });
        }
        let header = Self {
            kind,
            group: GroupId(reader.u64("group")?),
            applied: Applied::decode_fields(&mut reader)?,
            runtime: reader.string("runtime")?,
        };
        reader.finish()?;
        Ok(header)
    }
}

/// The header of a tenant's section.
#[derive(Clone, Debug)]
pub(crate) struct TenantSection {
    pub id: TenantId,
    pub tenant: Tenant,
    /// Whether the body is the host's raw dump.
    pub raw: bool,
    /// What the state must be when restored.
    pub state: StateDigest,
}

/// The header of a section.
pub(crate) enum SectionHeader {
    Tables,
    Component(PluginDigest),
    Tenant(Box<TenantSection>),
    /// What is kept for this tenant's watchers, as pairs.
    Kept(TenantId),
}

impl SectionHeader {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        match self {
            Self::Tables => {
                writer.u8(SECTION_TABLES);
            }
            Self::Component(digest) => {
                writer.u8(SECTION_COMPONENT).raw(&digest.0);
            }
            Self::Kept(tenant) => {
                writer.u8(SECTION_KEPT).u64(tenant.0);
            }
            Self::Tenant(section) => {
                writer.u8(SECTION_TENANT).u64(section.id.0).bytes(&section.tenant.encode()).bool(section.raw);
                writer.raw(&section.state.digest.0).u64(section.state.pairs).u64(section.state.bytes);
            }
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header = match reader.u8("section kind")? {
            SECTION_TABLES => Self::Tables,
            SECTION_COMPONENT => Self::Component(PluginDigest(reader.array("plugin digest")?)),
            SECTION_KEPT => Self::Kept(TenantId(reader.u64("tenant")?)),
            SECTION_TENANT => Self::Tenant(Box::new(TenantSection {
                id: TenantId(reader.u64("tenant")?),
                tenant: Tenant::decode(reader.bytes("tenant record")?)?,
                raw: reader.bool("raw")?,
                state: StateDigest {
                    digest: Digest(reader.array("state digest")?),
                    pairs: reader.u64("pairs")?,
                    bytes: reader.u64("bytes")?,
                },
            })),
            value => return Err(DecodeError::Unknown { what: "section kind", value: value.into() }),
        };
        reader.finish()?;
        Ok(header)
    }
}

/// Takes a raw dump apart: pairs, each with two lengths (u32, little endian) before it, cut anywhere into chunks.
#[derive(Default)]
pub(crate) struct RawPairs {
    rest: Vec<u8>,
}

impl RawPairs {
    /// The pairs that are complete with this chunk.
    pub(crate) fn add(&mut self, chunk: &[u8]) -> Result<Vec<(Bytes, Bytes)>, String> {
        self.rest.extend_from_slice(chunk);
        let mut left = Bytes::from(std::mem::take(&mut self.rest));
        let mut pairs = Vec::new();
        loop {
            let lengths = left.get(..8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            let Some([a, b, c, d, e, f, g, h]) = lengths else { break };
            let key = u32::from_le_bytes([a, b, c, d]) as usize;
            let value = u32::from_le_bytes([e, f, g, h]) as usize;
            if key + value > RAW_PAIR_BYTES_MAX {
                return Err(format!("a pair of {} bytes is more than any can have", key + value));
            }
            if left.len() < 8 + key + value {
                break;
            }
            let _lengths = left.split_to(8);
            let key = left.split_to(key);
            pairs.push((key, left.split_to(value)));
        }
        self.rest = left.to_vec();
        Ok(pairs)
    }

    /// The same, as writes.
    pub(crate) fn add_layer(&mut self, chunk: &[u8]) -> Result<Layer, String> {
        let mut layer = Layer::default();
        for (key, value) in self.add(chunk)? {
            layer.put(key, value);
        }
        Ok(layer)
    }

    /// Nothing may be left over.
    pub(crate) fn finish(&self) -> Result<(), String> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(format!("{count} bytes of an incomplete pair are left over")),
        }
    }
}

fn raw_pair(chunk: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    chunk.extend((key.len() as u32).to_le_bytes());
    chunk.extend((value.len() as u32).to_le_bytes());
    chunk.extend(key);
    chunk.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_header_is_read_and_a_newer_one_is_refused() {
        let header =
            Header { kind: GROUP, group: GroupId(7), applied: Applied::default(), runtime: "r".into() };
        let of_format = |format: u8| {
            let mut bytes = header.encode().to_vec();
            bytes[0] = format;
            Header::decode(bytes.into())
        };
        for format in [1, FORMAT] {
            assert_eq!(of_format(format).unwrap().group, GroupId(7));
        }
        assert!(matches!(of_format(FORMAT + 1), Err(DecodeError::TooNew { .. })));
    }

    #[test]
    fn raw_pairs_come_back_however_they_are_cut() {
        let mut bytes = Vec::new();
        let pairs: Vec<(Bytes, Bytes)> =
            (0..20u8).map(|n| (vec![n; n.into()].into(), vec![n; 3 * usize::from(n)].into())).collect();
        pairs.iter().for_each(|(key, value)| raw_pair(&mut bytes, key, value));
        for size in [1, 7, 8, 9, 64, bytes.len()] {
            let mut raw = RawPairs::default();
            let read: Vec<_> = bytes.chunks(size).flat_map(|chunk| raw.add(chunk).unwrap()).collect();
            assert_eq!(read, pairs);
            raw.finish().unwrap();
        }
        let mut cut = RawPairs::default();
        cut.add(&bytes[..bytes.len() - 1]).unwrap();
        assert!(cut.finish().is_err());
        assert!(RawPairs::default().add(&[0xff; 8]).is_err());
    }
}
