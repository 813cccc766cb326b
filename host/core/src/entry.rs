//! Log entries: what is agreed, in order, and applied by every replica.
//!
//! An entry's epoch and index stand in the log record around it; [`Entry::encode`] gives what stands inside.
//! Encoding: format version (u8), kind (u8), profile version, log time, then the kind's fields. All decoding treats
//! its input as hostile.

mod codec;

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{Epoch, LogIndex, PluginDigest, Sequence, SessionId, TenantId};
use crate::profile::Profile;
use crate::time::LogTime;

/// The format that this release writes.
pub const FORMAT: u8 = 1;
/// Most commands in one entry: bounds what one entry costs to apply and to hold.
pub const COMMANDS_MAX: usize = 4096;
/// Bytes of a tenant's name.
pub const TENANT_NAME_BYTES_MAX: usize = 128;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leadership that wrote it.
    pub epoch: Epoch,
    /// Its position.
    pub index: LogIndex,
    /// Log time; never less than the previous entry's.
    pub time: LogTime,
    /// The version of the profile it runs under.
    pub profile: u64,
    /// What it does.
    pub body: Body,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A leader's first entry in its epoch. Nothing is served before it is applied.
    EpochStart,
    /// Commands for plugins, in order.
    Commands(Vec<Command>),
    /// Opens or ends client sessions.
    Session(SessionChange),
    /// Creates a tenant. Its id is given by the leader, and never reused.
    TenantCreate(TenantCreate),
    /// Drops a tenant with all its state.
    TenantDrop {
        /// Which.
        tenant: TenantId,
    },
    /// Gives a tenant another plugin of the same name and schema.
    TenantSwitch {
        /// Which tenant.
        tenant: TenantId,
        /// The plugin it gets.
        plugin: PluginDigest,
    },
    /// Makes a plugin known to the group.
    Plugin {
        /// The component's bytes.
        component: Bytes,
    },
    /// Changes the profile.
    Profile(Profile),
    /// Calls a tenant's `expire`.
    Expire {
        /// Which tenant.
        tenant: TenantId,
    },
    /// A part of a tenant's import.
    Import(Import),
}

/// A command for a tenant's plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Whose state it is for.
    pub tenant: TenantId,
    /// The client's session, or [`SessionId::NONE`].
    pub session: SessionId,
    /// The client's number for it within the session.
    pub sequence: Sequence,
    /// The client has the answers to all sequences up to this one: their outcomes may be forgotten.
    pub answered_up_to: Sequence,
    /// Who asked, as authenticated.
    pub principal: Option<String>,
    /// The plugin's own bytes.
    pub payload: Bytes,
}

/// Opens or ends sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// Opens a session, whose id is [`crate::ids::SessionId::opened_at`] this entry's place.
    Open {
        /// The tenant it writes to.
        tenant: TenantId,
        /// Ends when unused this long, in milliseconds of log time.
        ttl_ms: u64,
    },
    /// The client ended it.
    Close {
        /// Its tenant.
        tenant: TenantId,
        /// Which.
        session: SessionId,
    },
    /// The leader found these unused for too long; each is checked again, in log time.
    Expire {
        /// Tenant and session.
        sessions: Vec<(TenantId, SessionId)>,
    },
}

/// What a new tenant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantCreate {
    /// Its id.
    pub tenant: TenantId,
    /// Its name: unique among living tenants.
    pub name: String,
    /// Its plugin, already known to the group.
    pub plugin: PluginDigest,
    /// Whether effects are kept beside outcomes, for watchers.
    pub watch: bool,
}

/// A part of an import: an exported snapshot comes through the log, is staged, and becomes a tenant at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Import {
    /// The next bytes of import `import`; the first has offset 0. An import is named by a number of the leader.
    Chunk {
        /// Which import.
        import: u64,
        /// Where in the snapshot file these bytes stand.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// All chunks are there: make a tenant of them.
    Commit {
        /// Which import.
        import: u64,
        /// The new tenant's id.
        tenant: TenantId,
        /// The new tenant's name.
        name: String,
        /// Bytes of the whole snapshot file.
        bytes: u64,
    },
    /// Forget the staged chunks.
    Abort {
        /// Which import.
        import: u64,
    },
}

/// What every entry carries, whatever it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Log time.
    pub time: LogTime,
    /// The version of the profile it runs under.
    pub profile: u64,
}

impl Stamp {
    /// Reads the stamp of an encoded entry, and nothing behind it.
    pub fn peek(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload.clone());
        head(&mut reader).map(|(_, stamp)| stamp)
    }
}

/// The kind of an encoded entry, and its stamp.
fn head(reader: &mut Reader) -> Result<(u8, Stamp), DecodeError> {
    let version = reader.u8("entry format")?;
    if version > FORMAT {
        return Err(DecodeError::TooNew { what: "log entry", version, known: FORMAT });
    }
    if version == 0 {
        return Err(DecodeError::Unknown { what: "entry format", value: 0 });
    }
    let kind = reader.u8("entry kind")?;
    let profile = reader.count("profile version")?;
    let time = LogTime(reader.count("log time")?);
    Ok((kind, Stamp { time, profile }))
}

impl Entry {
    /// The entry's bytes, without epoch and index.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(64 + self.body.size_hint());
        writer.u8(FORMAT).u8(self.body.kind());
        writer.count(self.profile).count(self.time.0);
        self.body.encode(&mut writer);
        writer.finish()
    }

    /// Reads an entry that stood in a log record with `epoch` and `index`.
    pub fn decode(epoch: Epoch, index: LogIndex, bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (kind, Stamp { time, profile }) = head(&mut reader)?;
        let body = Body::decode(kind, &mut reader)?;
        reader.finish()?;
        Ok(Self { epoch, index, time, profile, body })
    }
}

impl Body {
    /// The kind's name, for people and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EpochStart => "epoch-start",
            Self::Commands(_) => "commands",
            Self::Session(_) => "session",
            Self::TenantCreate(_) => "tenant-create",
            Self::TenantDrop { .. } => "tenant-drop",
            Self::TenantSwitch { .. } => "tenant-switch",
            Self::Plugin { .. } => "plugin",
            Self::Profile(_) => "profile",
            Self::Expire { .. } => "expire",
            Self::Import(_) => "import",
        }
    }
}

impl Command {
    /// About how many bytes it takes in an entry.
    pub fn size(&self) -> usize {
        24 + self.payload.len() + self.principal.as_ref().map_or(0, String::len)
    }
}

/// Whether `name` can name a tenant: 1 to 128 bytes of lower- and upper-case ASCII letters, digits, `-`, `_`
/// and `.`, not starting with `-` or `.`. Otherwise what is wrong.
pub fn check_tenant_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > TENANT_NAME_BYTES_MAX {
        return Err(format!(
            "a tenant's name has 1 to {TENANT_NAME_BYTES_MAX} bytes, this one {}",
            name.len()
        ));
    }
    if name.starts_with(['-', '.']) {
        return Err(format!("a tenant's name starts with a letter, a digit or `_`, not as {name:?} does"));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(c) => Err(format!("a tenant's name has letters, digits, `-`, `_` and `.` only, not {c:?}")),
        None => Ok(()),
    }
}
