//! The group's replicated tables as of the last applied entry: tenants, plugins, sessions, profile. They lie in the
//! state database's `meta` keyspace and are held in memory whole. Only the apply thread changes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use mortise_core::codec::{DecodeError, Reader, Writer};
use mortise_core::digest::Digest;
use mortise_core::ids::{Epoch, Installation, LogIndex, PluginDigest, SessionId, TenantId};
use mortise_core::profile::Profile;
use mortise_core::session::SessionTable;
use mortise_core::time::LogTime;
use mortise_runtime::Plugin;
use mortise_storage::state::{StateBatch, StateDb, StateDbError, StateId};

/// Everything that applying entries changes, beside the tenants' states.
#[derive(Default)]
pub(crate) struct Tables {
    pub applied: Applied,
    pub profile: Arc<Profile>,
    pub tenants: BTreeMap<TenantId, Tenant>,
    pub names: HashMap<String, TenantId>,
    pub plugins: BTreeMap<PluginDigest, KnownPlugin>,
    pub sessions: SessionTable,
    /// Where each epoch began: what truncation will need.
    pub epochs: BTreeMap<Epoch, LogIndex>,
}

/// How far the log has been applied, and the counters that go with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub index: LogIndex,
    pub epoch: Epoch,
    pub time: LogTime,
    /// The largest tenant id ever given.
    pub last_tenant: u64,
    /// The largest installation number ever given.
    pub last_installation: u64,
    /// Chain over the effects of all entries: equal digests mean equal histories.
    pub digest: Digest,
}

/// A living tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub name: String,
    pub plugin: PluginDigest,
    pub installation: Installation,
    pub watch: bool,
    /// Commands and expirations so far.
    pub sequence: u64,
    pub failures: u64,
    pub due: Option<u64>,
    pub digest: Digest,
}

/// A plugin known to the group.
#[derive(Clone)]
pub(crate) struct KnownPlugin {
    pub plugin: Plugin,
    /// The entry that brought it: the newest of one name is the one a bare name means.
    pub uploaded: LogIndex,
}

const FORMAT: u8 = 1;
const APPLIED: &[u8] = b"a";
pub(super) const PROFILE: &[u8] = b"p";
pub(super) const EPOCHS: u8 = b'e';
pub(super) const TENANTS: u8 = b't';
pub(super) const PLUGINS: u8 = b'c';
pub(super) const SESSIONS: u8 = b's';
pub(super) const OUTCOMES: u8 = b'o';
pub(super) const GARBAGE: u8 = b'g';
pub(super) const STAGED: u8 = b'i';

pub(super) fn key<const N: usize>(kind: u8, numbers: [u64; N]) -> Vec<u8> {
    let mut key = vec![kind];
    numbers.iter().for_each(|number| key.extend(number.to_be_bytes()));
    key
}

pub(super) fn numbers<const N: usize>(key: &[u8]) -> Result<[u64; N], DecodeError> {
    let mut reader = Reader::new(Bytes::copy_from_slice(key.get(1..).unwrap_or_default()));
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = u64::from_be_bytes(reader.array("meta key")?);
    }
    reader.finish()?;
    Ok(numbers)
}

/// The tables could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] StateDbError),
    /// A record is damaged.
    #[error("read the {table} table: {source}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// How.
        source: DecodeError,
    },
    /// A plugin's component does not load any more.
    #[error("load plugin {digest}: {source}")]
    Plugin {
        /// Which.
        digest: PluginDigest,
        /// Why.
        source: mortise_runtime::LoadError,
    },
}

/// How a component becomes a plugin.
pub(crate) type Load<'a> = &'a dyn Fn(&[u8]) -> Result<Plugin, mortise_runtime::LoadError>;

pub(super) fn damaged(table: &'static str) -> impl Fn(DecodeError) -> TablesError {
    move |source| TablesError::Damaged { table, source }
}

impl Tables {
    /// Reads the tables back; a database without any gives empty ones.
    pub(crate) fn read(db: &StateDb, state: StateId, load: Load<'_>) -> Result<Self, TablesError> {
        let view = db.view();
        Self::from_pairs(IN_SNAPSHOTS.iter().flat_map(|kind| view.meta_scan(state, &[*kind])), load)
    }

    /// Reads the tables from their records, in the order of [`IN_SNAPSHOTS`].
    pub(crate) fn from_pairs(
        pairs: impl Iterator<Item = Result<(Bytes, Bytes), StateDbError>>,
        load: Load<'_>,
    ) -> Result<Self, TablesError> {
        let mut tables = Self::default();
        for pair in pairs {
            let (key, bytes) = pair?;
            match key.first() {
                Some(b'a') => tables.applied = Applied::decode(bytes).map_err(damaged("applied"))?,
                Some(b'p') => {
                    let profile = Profile::decode(&mut Reader::new(bytes)).map_err(damaged("profile"))?;
                    tables.profile = Arc::new(profile);
                }
                Some(&EPOCHS) => {
                    let [epoch] = numbers(&key).map_err(damaged("epochs"))?;
                    let index = Reader::new(bytes).u64("index").map_err(damaged("epochs"))?;
                    tables.epochs.insert(Epoch(epoch), LogIndex(index));
                }
                Some(&PLUGINS) => tables.read_plugin(bytes, load)?,
                Some(&TENANTS) => {
                    let [id] = numbers(&key).map_err(damaged("tenants"))?;
                    let tenant = Tenant::decode(bytes).map_err(damaged("tenants"))?;
                    tables.insert_tenant(TenantId(id), tenant);
                }
                Some(&SESSIONS) => {
                    let [tenant, session] = numbers(&key).map_err(damaged("sessions"))?;
                    let key = (TenantId(tenant), SessionId(session));
                    tables.sessions.load_header(key, bytes).map_err(damaged("sessions"))?;
                }
                Some(&OUTCOMES) => {
                    let [tenant, session, index] = numbers(&key).map_err(damaged("outcomes"))?;
                    let key = (TenantId(tenant), SessionId(session));
                    let loaded = tables.sessions.load_record(key, LogIndex(index), bytes);
                    loaded.map_err(damaged("outcomes"))?;
                }
                _ => return Err(damaged("unknown")(DecodeError::Malformed { what: "meta key" })),
            }
        }
        Ok(tables)
    }

    fn read_plugin(&mut self, bytes: Bytes, load: Load<'_>) -> Result<(), TablesError> {
        let mut reader = Reader::new(bytes);
        let uploaded = LogIndex(reader.u64("index").map_err(damaged("plugins"))?);
        let component = reader.raw(reader.left(), "component").map_err(damaged("plugins"))?;
        let plugin = load(&component)
            .map_err(|source| TablesError::Plugin { digest: PluginDigest::of(&component), source })?;
        self.plugins.insert(plugin.digest(), KnownPlugin { plugin, uploaded });
        Ok(())
    }

    /// Adds or replaces a tenant.
    pub(crate) fn insert_tenant(&mut self, id: TenantId, tenant: Tenant) {
        self.names.insert(tenant.name.clone(), id);
        self.tenants.insert(id, tenant);
    }

    /// Takes a tenant out.
    pub(crate) fn remove_tenant(&mut self, id: TenantId) -> Option<Tenant> {
        let tenant = self.tenants.remove(&id)?;
        self.names.remove(&tenant.name);
        Some(tenant)
    }

    /// The plugin that a person means: a name (its newest upload), name@version, or 8 digits or more of its digest.
    pub(crate) fn find_plugin(&self, spec: &str) -> Option<&KnownPlugin> {
        let newest = |matches: &dyn Fn(&Plugin) -> bool| {
            self.plugins.values().filter(|known| matches(&known.plugin)).max_by_key(|known| known.uploaded)
        };
        if let Some((name, version)) = spec.split_once('@') {
            return newest(&|plugin| plugin.manifest().name == name && plugin.manifest().version == version);
        }
        newest(&|plugin| plugin.manifest().name == spec).or_else(|| {
            let mut matching = self.plugins.values().filter(|known| {
                spec.len() >= 8 && known.plugin.digest().to_string().starts_with(&spec.to_ascii_lowercase())
            });
            // A prefix that two digests share names neither.
            matching.next().filter(|_| matching.next().is_none())
        })
    }
}

impl Applied {
    /// Writes the record.
    pub(crate) fn put(&self, batch: &mut StateBatch) -> Result<(), StateDbError> {
        let mut writer = Writer::default();
        writer.u8(FORMAT);
        self.encode(&mut writer);
        batch.put_meta(APPLIED, &writer.finish())
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u64(self.index.0).u64(self.epoch.0).u64(self.time.0);
        writer.u64(self.last_tenant).u64(self.last_installation).raw(&self.digest.0);
    }

    pub(crate) fn decode_fields(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            index: LogIndex(reader.u64("applied index")?),
            epoch: Epoch(reader.u64("applied epoch")?),
            time: LogTime(reader.u64("log time")?),
            last_tenant: reader.u64("last tenant")?,
            last_installation: reader.u64("last installation")?,
            digest: Digest(reader.array("effect digest")?),
        })
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("format")?;
        if version > FORMAT {
            return Err(DecodeError::TooNew { what: "the state's tables", version, known: FORMAT });
        }
        let applied = Self::decode_fields(&mut reader)?;
        reader.finish()?;
        Ok(applied)
    }
}

impl Tenant {
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(128 + self.name.len());
        writer.bytes(self.name.as_bytes()).raw(&self.plugin.0).u64(self.installation.0).bool(self.watch);
        writer.count(self.sequence).count(self.failures).option_count(self.due).raw(&self.digest.0);
        writer.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let tenant = Self {
            name: reader.string("tenant name")?,
            plugin: PluginDigest(reader.array("plugin digest")?),
            installation: Installation(reader.u64("installation")?),
            watch: reader.bool("watch")?,
            sequence: reader.count("sequence")?,
            failures: reader.count("failures")?,
            due: reader.option_count("due")?,
            digest: Digest(reader.array("effect digest")?),
        };
        reader.finish()?;
        Ok(tenant)
    }
}

/// The kinds of records that a group's snapshot holds, headers of sessions before their outcomes. What is staged or
/// garbage is this replica's own affair.
pub(crate) const IN_SNAPSHOTS: [u8; 7] =
    [APPLIED[0], PROFILE[0], EPOCHS, PLUGINS, TENANTS, SESSIONS, OUTCOMES];
