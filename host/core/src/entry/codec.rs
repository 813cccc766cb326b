//! How the bodies of entries are written and read. What is not the one encoding of a body is refused, so that equal
//! entries have equal bytes.

use super::{Body, COMMANDS_MAX, Command, Import, SessionChange, TenantCreate};
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{PluginDigest, Sequence, SessionId, TenantId};
use crate::profile::Profile;

impl Body {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::EpochStart => 0,
            Self::Commands(_) => 1,
            Self::Session(_) => 2,
            Self::TenantCreate(_) => 3,
            Self::TenantDrop { .. } => 4,
            Self::TenantSwitch { .. } => 5,
            Self::Plugin { .. } => 6,
            Self::Profile(_) => 7,
            Self::Expire { .. } => 8,
            Self::Import(_) => 9,
        }
    }

    pub(super) fn size_hint(&self) -> usize {
        match self {
            Self::Commands(commands) => commands.iter().map(Command::size).sum(),
            Self::Plugin { component } => component.len(),
            Self::Import(Import::Chunk { bytes, .. }) => bytes.len(),
            _ => 256,
        }
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        match self {
            Self::EpochStart => {}
            Self::Commands(commands) => {
                writer.count(commands.len() as u64);
                commands.iter().for_each(|command| command.encode(writer));
            }
            Self::Session(change) => change.encode(writer),
            Self::TenantCreate(create) => {
                writer.count(create.tenant.0).bytes(create.name.as_bytes());
                writer.raw(&create.plugin.0).bool(create.watch);
            }
            Self::TenantDrop { tenant } | Self::Expire { tenant } => {
                writer.count(tenant.0);
            }
            Self::TenantSwitch { tenant, plugin } => {
                writer.count(tenant.0).raw(&plugin.0);
            }
            Self::Plugin { component } => {
                writer.bytes(component);
            }
            Self::Profile(profile) => profile.encode(writer),
            Self::Import(import) => import.encode(writer),
        }
    }

    pub(super) fn decode(kind: u8, reader: &mut Reader) -> Result<Self, DecodeError> {
        let tenant = |reader: &mut Reader| reader.count("tenant").map(TenantId);
        Ok(match kind {
            0 => Self::EpochStart,
            1 => Self::Commands(decode_commands(reader)?),
            2 => Self::Session(SessionChange::decode(reader)?),
            3 => Self::TenantCreate(TenantCreate {
                tenant: tenant(reader)?,
                name: reader.string("tenant name")?,
                plugin: PluginDigest(reader.array("plugin digest")?),
                watch: reader.bool("watch")?,
            }),
            4 => Self::TenantDrop { tenant: tenant(reader)? },
            5 => Self::TenantSwitch {
                tenant: tenant(reader)?,
                plugin: PluginDigest(reader.array("plugin digest")?),
            },
            6 => Self::Plugin { component: reader.bytes("component")? },
            7 => Self::Profile(Profile::decode(reader)?),
            8 => Self::Expire { tenant: tenant(reader)? },
            9 => Self::Import(Import::decode(reader)?),
            value => return Err(DecodeError::Unknown { what: "entry kind", value: value.into() }),
        })
    }
}

fn decode_commands(reader: &mut Reader) -> Result<Vec<Command>, DecodeError> {
    let count = reader.count("command count")?;
    if count > COMMANDS_MAX as u64 {
        return Err(DecodeError::Unknown { what: "command count", value: count });
    }
    (0..count).map(|_| Command::decode(reader)).collect()
}

impl Command {
    fn encode(&self, writer: &mut Writer) {
        writer.count(self.tenant.0).count(self.session.0);
        writer.count(self.sequence.0).count(self.answered_up_to.0);
        writer.option_string(self.principal.as_deref()).bytes(&self.payload);
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            tenant: TenantId(reader.count("tenant")?),
            session: SessionId(reader.count("session")?),
            sequence: Sequence(reader.count("sequence")?),
            answered_up_to: Sequence(reader.count("answered up to")?),
            principal: reader.option_string("principal")?,
            payload: reader.bytes("command")?,
        })
    }
}

impl SessionChange {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Open { tenant, ttl_ms } => {
                writer.u8(0).count(tenant.0).count(*ttl_ms);
            }
            Self::Close { tenant, session } => {
                writer.u8(1).count(tenant.0).count(session.0);
            }
            Self::Expire { sessions } => {
                writer.u8(2).count(sessions.len() as u64);
                for (tenant, session) in sessions {
                    writer.count(tenant.0).count(session.0);
                }
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let pair = |reader: &mut Reader| -> Result<_, DecodeError> {
            Ok((TenantId(reader.count("tenant")?), SessionId(reader.count("session")?)))
        };
        Ok(match reader.u8("session change")? {
            0 => Self::Open { tenant: TenantId(reader.count("tenant")?), ttl_ms: reader.count("ttl")? },
            1 => {
                let (tenant, session) = pair(reader)?;
                Self::Close { tenant, session }
            }
            2 => {
                let count = reader.count("session count")?;
                // No capacity from `count`: each session must be backed by bytes.
                let sessions = (0..count).map(|_| pair(reader)).collect::<Result<_, _>>()?;
                Self::Expire { sessions }
            }
            value => return Err(DecodeError::Unknown { what: "session change", value: value.into() }),
        })
    }
}

impl Import {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Chunk { import, offset, bytes } => {
                writer.u8(0).count(*import).count(*offset).bytes(bytes);
            }
            Self::Commit { import, tenant, name, bytes } => {
                writer.u8(1).count(*import).count(tenant.0).bytes(name.as_bytes()).count(*bytes);
            }
            Self::Abort { import } => {
                writer.u8(2).count(*import);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let part = reader.u8("import part")?;
        let import = reader.count("import")?;
        Ok(match part {
            0 => Self::Chunk { import, offset: reader.count("offset")?, bytes: reader.bytes("chunk")? },
            1 => Self::Commit {
                import,
                tenant: TenantId(reader.count("tenant")?),
                name: reader.string("tenant name")?,
                bytes: reader.count("bytes")?,
            },
            2 => Self::Abort { import },
            value => return Err(DecodeError::Unknown { what: "import part", value: value.into() }),
        })
    }
}
