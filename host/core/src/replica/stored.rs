//! What a replica persists beside its log, and what it finds when it starts.

use bytes::Bytes;

use super::epochs::EpochTable;
use super::event::Seen;
use super::message::Position;
use super::snapshot::SnapshotMeta;
use crate::codec::{DecodeError, Reader, Writer};
use crate::digest::Digest;
use crate::entry::Stamp;
use crate::group::{BootId, Generation, GroupRecord, Incarnation, NodeId};
use crate::ids::{Epoch, LogIndex};

/// Version of [`HardState`]'s encoding.
const FORMAT: u8 = 1;

/// The leadership that a replica follows: it answers no lower epoch, and no other process in this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Promise {
    /// The epoch.
    pub epoch: Epoch,
    /// Who leads in it; `None` where nobody does.
    pub leader: Option<NodeId>,
    /// The leader's process.
    pub boot: BootId,
}

/// The small state that has to survive. Saved whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The life of this copy: at first the random number that its store was made with.
    pub incarnation: Incarnation,
    /// The highest leadership that was promised.
    pub promised: Promise,
    /// The highest epoch that this node ever asked to lead. It is saved before it is asked for: what became of it may
    /// never be known here, and an operator's new history has to begin above it.
    pub asked: Epoch,
    /// The history that log and state belong to.
    pub generation: Generation,
    /// The newest record seen, whole, with the coordinator's identity.
    pub seen: Option<Seen>,
    /// Set while the coordinator contradicts `seen`: only an operator clears it.
    pub frozen: bool,
    /// Set while the state differs from the group's, with the index where that was seen.
    pub quarantined: Option<LogIndex>,
}

/// All that is found at start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The small state.
    pub hard: HardState,
    /// Whether log and hard state are all that this copy made durable under its incarnation. `false` for a damaged or
    /// restored store: what it may have acknowledged is not known, and it goes on under a new incarnation.
    pub intact: bool,
    /// What stands before the log's first entry: the end of the snapshot the log goes on from.
    pub base: Position,
    /// The last entry; `base` where there is none.
    pub last: Position,
    /// Where each epoch up to `last` began, also before `base`.
    pub epochs: EpochTable,
    /// Time and profile of the entry at `last`.
    pub stamp: Stamp,
    /// The last applied entry. It is committed.
    pub applied: LogIndex,
    /// The effect digest there.
    pub digest: Digest,
    /// The newest snapshot that can be sent.
    pub snapshot: Option<SnapshotMeta>,
}

impl Stored {
    /// What an empty store holds. `incarnation` is a random number that is drawn when the store is made, and not 0: the
    /// store that takes the place of a lost one has another, which no record lists.
    pub fn empty(incarnation: Incarnation) -> Self {
        Self {
            hard: HardState { incarnation, ..HardState::default() },
            intact: true,
            base: Position::default(),
            last: Position::default(),
            epochs: EpochTable::default(),
            stamp: Stamp::default(),
            applied: LogIndex(0),
            digest: Digest::default(),
            snapshot: None,
        }
    }
}

impl HardState {
    /// The highest epoch that this node can speak of: what it has seen recorded it has promised.
    pub fn highest_epoch(&self) -> Epoch {
        self.promised.epoch.max(self.asked)
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(256);
        writer.u8(FORMAT).u64(self.incarnation.0).count(self.promised.epoch.0);
        writer.option_count(self.promised.leader.map(|leader| leader.0)).count(self.promised.boot.0);
        writer.count(self.asked.0).count(self.generation.0).bool(self.frozen);
        writer.option_count(self.quarantined.map(|index| index.0));
        writer.bool(self.seen.is_some());
        if let Some(seen) = &self.seen {
            seen.encode(&mut writer);
        }
        writer.finish()
    }

    /// Reads them back.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("hard state format")?;
        if version != FORMAT {
            return Err(DecodeError::TooNew { what: "hard state", version, known: FORMAT });
        }
        let incarnation = Incarnation(reader.u64("incarnation")?);
        let promised = Promise {
            epoch: Epoch(reader.count("promised epoch")?),
            leader: reader.option_count("promised leader")?.map(NodeId),
            boot: BootId(reader.count("promised boot")?),
        };
        let asked = Epoch(reader.count("epoch asked for")?);
        let generation = Generation(reader.count("generation")?);
        let frozen = reader.bool("frozen")?;
        let quarantined = reader.option_count("quarantined")?.map(LogIndex);
        let seen = reader.bool("record seen")?.then(|| Seen::decode(&mut reader)).transpose()?;
        reader.finish()?;
        Ok(Self { incarnation, promised, asked, generation, seen, frozen, quarantined })
    }
}

impl Seen {
    /// Appends it.
    pub fn encode(&self, writer: &mut Writer) {
        writer.u64(self.coordinator).count(self.revision).count(self.mod_revision);
        writer.bool(self.record.is_some());
        if let Some(record) = &self.record {
            record.encode(writer);
        }
    }

    /// Reads it back.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            coordinator: reader.u64("coordinator")?,
            revision: reader.count("revision")?,
            mod_revision: reader.count("mod revision")?,
            record: reader.bool("record")?.then(|| GroupRecord::decode(reader)).transpose()?,
        })
    }
}
