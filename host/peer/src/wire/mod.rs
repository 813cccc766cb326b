//! What goes over the wire: the core's types as messages of `mortise.v1.Peer`, and back. Everything that comes in is
//! checked here, once; generated types stay in this crate.

mod answers;
mod message;
mod packed;

#[cfg(test)]
mod tests;

use mortise_core::codec::DecodeError;
use mortise_core::digest::Digest;

pub(crate) use answers::{memory_from_wire, memory_to_wire, status_from_wire, status_to_wire};
pub(crate) use message::{message_from_wire, message_to_wire};

/// Most bytes of one entry's payload: as many as the log takes in one record.
pub(crate) const ENTRY_BYTES_MAX: usize = 64 << 20;
/// Most entries of one append. The core fills an append with 1 MiB of payloads, and no entry is smaller than 8 bytes: this is
/// twice as many as it ever sends.
pub(crate) const ENTRIES_MAX: usize = 1 << 18;
/// Most epochs of a snapshot's table: a change of leader every minute for two years.
pub(crate) const EPOCHS_MAX: usize = 1 << 20;

/// Why a message of a peer cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A field that has to be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field holds more than it may.
    #[error("{what}: more than {max}")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// What it may hold.
        max: usize,
    },
    /// A digest that has not 32 bytes.
    #[error("{what}: a digest of {bytes} bytes")]
    Digest {
        /// The field.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// Epochs or indexes that do not rise.
    #[error("the table of epochs does not rise")]
    Epochs,
    /// Bytes inside a field are malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

fn digest(bytes: &[u8], what: &'static str) -> Result<Digest, BadMessage> {
    let array = bytes.try_into().map_err(|_| BadMessage::Digest { what, bytes: bytes.len() })?;
    Ok(Digest(array))
}
