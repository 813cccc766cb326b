//! The records that lie in etcd: readable JSON, checked when it is read.

mod group;
mod node;
mod tenant;

use mortise_core::group::Nonce;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use node::{Addresses, NodeRecord};
pub use tenant::{TenantRecord, TenantState};

use crate::backend::KeyValue;
use crate::error::{CoordinationError, Corrupt};

/// Largest value that is looked at. The largest group record has less than 3 KiB.
pub(crate) const VALUE_BYTES_MAX: usize = 64 << 10;
/// The format level of node, tenant and session records.
const LEVEL: u32 = 1;

/// Something that is kept under a key and changed by compare-and-swap only.
pub(crate) trait Record: Clone + Send + Sync + Sized + 'static {
    /// Names this write.
    fn nonce(&self) -> Nonce;
    /// The JSON, or why the record cannot be.
    fn write(&self) -> Result<Vec<u8>, CoordinationError>;
    /// Reads the JSON; the error says what is wrong, without the key.
    fn read(bytes: &[u8]) -> Result<Self, String>;
}

/// Reads the record under a key.
pub(crate) fn decode<R: Record>(at: &KeyValue) -> Result<R, Corrupt> {
    R::read(&at.value).map_err(|why| corrupt(at, why))
}

/// An error that names key and revision.
pub(crate) fn corrupt(at: &KeyValue, why: impl Into<String>) -> Corrupt {
    Corrupt {
        key: String::from_utf8_lossy(&at.key).into_owned(),
        mod_revision: at.mod_revision,
        why: why.into(),
    }
}

/// Parses JSON of the levels 1 to `level_max`. A newer one is said to be newer, whatever else it holds.
fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str, level_max: u32) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Level {
        level: u32,
    }
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(format!("{} bytes are too long for {what}", bytes.len()));
    }
    let not_ours = |error: serde_json::Error| format!("not {what}: {error}");
    match serde_json::from_slice(bytes).map_err(not_ours)? {
        Level { level } if level > level_max => {
            Err(format!("{what} of format level {level}, from a newer release: {level_max} is known here"))
        }
        Level { level: 0 } => Err(format!("{what} of format level 0")),
        Level { .. } => serde_json::from_slice(bytes).map_err(not_ours),
    }
}

/// Serializing our own structures cannot fail, and if it did, nothing would be written.
fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, CoordinationError> {
    serde_json::to_vec(value).map_err(|error| CoordinationError::Config(format!("write a record: {error}")))
}

/// Numbers that use all 64 bits, as text: in JSON's own numbers other programs lose bits beyond 2^53.
mod hex {
    use serde::de::{Deserialize, Deserializer, Error};

    pub(super) fn serialize<S: serde::Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{number:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.len() == 16;
        let number = digits.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        number.ok_or_else(|| D::Error::custom(format_args!("{text:?} is not 16 hexadecimal digits")))
    }
}

/// A node's session, as its key holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionRecord {
    level: u32,
    pub(crate) boot: u64,
}

impl SessionRecord {
    pub(crate) fn new(boot: u64) -> Self {
        Self { level: LEVEL, boot }
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>, CoordinationError> {
        to_json(self)
    }

    pub(crate) fn read(at: &KeyValue) -> Result<Self, Corrupt> {
        parse(&at.value, "a session", LEVEL).map_err(|why| corrupt(at, why))
    }
}

/// A nonce for the next write.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_nonce() -> Result<Nonce, CoordinationError> {
    let number = getrandom::u64();
    number.map(Nonce).map_err(|error| CoordinationError::Config(format!("draw a random number: {error}")))
}
