//! Where clients look a tenant up.

use mortise_core::group::Nonce;
use mortise_core::ids::{GroupId, TenantId};
use serde::{Deserialize, Serialize};

use super::{LEVEL, Record, hex, parse, to_json};
use crate::error::CoordinationError;

/// What a tenant is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// Its name is taken; its group does not have it yet.
    Creating,
    /// It serves.
    Ready,
    /// It is gone; its name may be taken again.
    Dropped,
}

/// A tenant, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantRecord {
    /// Its number, never reused.
    pub id: TenantId,
    /// The group it lives in.
    pub group: GroupId,
    /// What it is ready for.
    pub state: TenantState,
    /// Names this write.
    pub nonce: Nonce,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    level: u32,
    id: u64,
    group: u64,
    state: TenantState,
    #[serde(with = "hex")]
    nonce: u64,
}

impl Record for TenantRecord {
    fn nonce(&self) -> Nonce {
        self.nonce
    }

    fn write(&self) -> Result<Vec<u8>, CoordinationError> {
        let (id, group, nonce) = (self.id.0, self.group.0, self.nonce.0);
        to_json(&Json { level: LEVEL, id, group, state: self.state, nonce })
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let json: Json = parse(bytes, "a tenant record", LEVEL)?;
        Ok(Self {
            id: TenantId(json.id),
            group: GroupId(json.group),
            state: json.state,
            nonce: Nonce(json.nonce),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_way_to_json_and_back() {
        let record =
            TenantRecord { id: TenantId(5), group: GroupId(2), state: TenantState::Ready, nonce: Nonce(9) };
        assert_eq!(TenantRecord::read(&record.write().unwrap()), Ok(record));
        assert!(TenantRecord::read(b"[]").is_err());
    }
}
