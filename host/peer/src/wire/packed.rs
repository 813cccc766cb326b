//! Entries and epochs, packed into bytes: a hostile peer cannot make two bytes into fifty of memory before they are counted.

use bytes::Bytes;
use mortise_core::codec::{Reader, Writer};
use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{EpochTable, LogEntry, Position};

use super::{BadMessage, ENTRIES_MAX, ENTRY_BYTES_MAX, EPOCHS_MAX};

/// What an entry takes beside its payload: three counts.
const ENTRY_HEAD_BYTES_MAX: usize = 30;

pub(super) fn pack_entries(entries: &[LogEntry]) -> Bytes {
    let bytes = entries.iter().map(|entry| entry.payload.len() + ENTRY_HEAD_BYTES_MAX).sum();
    let mut writer = Writer::with_capacity(bytes);
    for LogEntry { at, payload } in entries {
        writer.count(at.epoch.0).count(at.index.0).bytes(payload);
    }
    writer.finish()
}

pub(super) fn unpack_entries(bytes: Bytes) -> Result<Vec<LogEntry>, BadMessage> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while reader.left() > 0 {
        if entries.len() == ENTRIES_MAX {
            return Err(BadMessage::TooLarge { what: "entries of an append", max: ENTRIES_MAX });
        }
        let epoch = Epoch(reader.count("epoch of an entry")?);
        let index = LogIndex(reader.count("index of an entry")?);
        let payload = reader.bytes("payload of an entry")?;
        if payload.len() > ENTRY_BYTES_MAX {
            return Err(BadMessage::TooLarge { what: "bytes of an entry", max: ENTRY_BYTES_MAX });
        }
        entries.push(LogEntry { at: Position { epoch, index }, payload });
    }
    Ok(entries)
}

pub(super) fn pack_epochs(table: &EpochTable) -> Bytes {
    let mut writer = Writer::default();
    for (epoch, start) in table.starts() {
        writer.count(epoch.0).count(start.0);
    }
    writer.finish()
}

pub(super) fn unpack_epochs(bytes: Bytes) -> Result<EpochTable, BadMessage> {
    let mut reader = Reader::new(bytes);
    let mut starts = Vec::new();
    while reader.left() > 0 {
        if starts.len() == EPOCHS_MAX {
            return Err(BadMessage::TooLarge { what: "epochs of a snapshot", max: EPOCHS_MAX });
        }
        starts.push((Epoch(reader.count("an epoch")?), LogIndex(reader.count("start of an epoch")?)));
    }
    EpochTable::from_starts(starts).ok_or(BadMessage::Epochs)
}
