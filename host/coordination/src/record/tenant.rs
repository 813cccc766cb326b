//! Which group has the tenant of a name: the directory by which names are unique in the cluster.

use mortise_core::group::Nonce;
use mortise_core::ids::{Epoch, GroupId, TenantId};
use serde::{Deserialize, Serialize};

use super::{LEVEL, Record, hex, parse, to_json};
use crate::error::CoordinationError;

/// How far a tenant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TenantState {
    /// Its name is taken; whether its group has it is not known yet.
    Creating,
    /// Its group has it, under this number, which the group never uses again.
    Ready(TenantId),
}

/// A tenant, by its name. Whoever has none is free to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantRecord {
    /// The group it lives in.
    pub group: GroupId,
    /// The leadership of that group which wrote this: an older one leaves it alone.
    pub epoch: Epoch,
    /// How far it is.
    pub state: TenantState,
    /// Names this write.
    pub nonce: Nonce,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    level: u32,
    group: u64,
    epoch: u64,
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(with = "hex")]
    nonce: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Creating,
    Ready,
}

impl Record for TenantRecord {
    fn nonce(&self) -> Nonce {
        self.nonce
    }

    fn write(&self) -> Result<Vec<u8>, CoordinationError> {
        let (group, epoch, nonce) = (self.group.0, self.epoch.0, self.nonce.0);
        let (state, id) = match self.state {
            TenantState::Creating => (State::Creating, None),
            TenantState::Ready(id) => (State::Ready, Some(id.0)),
        };
        to_json(&Json { level: LEVEL, group, epoch, state, id, nonce })
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let json: Json = parse(bytes, "a tenant record", LEVEL)?;
        let state = match (json.state, json.id) {
            (State::Creating, None) => TenantState::Creating,
            (State::Ready, Some(id)) => TenantState::Ready(TenantId(id)),
            (State::Creating, Some(_)) => return Err("a tenant record with a number before its time".into()),
            (State::Ready, None) => return Err("a tenant record without a number".into()),
        };
        let (group, epoch) = (GroupId(json.group), Epoch(json.epoch));
        Ok(Self { group, epoch, state, nonce: Nonce(json.nonce) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_way_to_json_and_back() {
        for state in [TenantState::Creating, TenantState::Ready(TenantId(5))] {
            let record = TenantRecord { group: GroupId(2), epoch: Epoch(3), state, nonce: Nonce(9) };
            assert_eq!(TenantRecord::read(&record.write().unwrap()), Ok(record));
        }
        assert!(TenantRecord::read(b"[]").is_err());
        let json =
            |rest: &str| format!(r#"{{"level":1,"group":2,"epoch":3,"nonce":"0000000000000009",{rest}}}"#);
        for (rest, is_good) in [
            (r#""state":"ready","id":5"#, true),
            (r#""state":"ready""#, false),
            (r#""state":"creating","id":5"#, false),
            (r#""state":"dropped""#, false),
        ] {
            assert_eq!(TenantRecord::read(json(rest).as_bytes()).is_ok(), is_good, "{rest}");
        }
    }
}
