//! A node, as the others know it.

use mortise_core::group::{BootId, Nonce};
use serde::{Deserialize, Serialize};

use super::{LEVEL, Record, hex, parse, to_json};
use crate::error::CoordinationError;

/// Where a node is reached: `host:port` each, empty where it offers nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// By other nodes.
    pub peer: String,
    /// By clients.
    pub data: String,
    /// By operators.
    pub admin: String,
}

/// What is kept about a node while it is up, down or away. Incarnations stand in each group's record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeRecord {
    /// The id of the node's data folder, a UUID. Another folder under this node's name is a mistake.
    pub storage: u128,
    /// The node's newest start. A folder that counts less was restored from a backup.
    pub boot: BootId,
    /// How far its folder has counted under this start. A folder that counts less was copied while the node ran.
    pub count: u64,
    /// Where it is reached.
    pub addresses: Addresses,
    /// Names this write.
    pub nonce: Nonce,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    level: u32,
    storage: String,
    boot: u64,
    #[serde(default)]
    count: u64,
    addresses: Addresses,
    #[serde(with = "hex")]
    nonce: u64,
}

impl Record for NodeRecord {
    fn nonce(&self) -> Nonce {
        self.nonce
    }

    fn write(&self) -> Result<Vec<u8>, CoordinationError> {
        to_json(&Json {
            level: LEVEL,
            storage: format!("{:032x}", self.storage),
            boot: self.boot.0,
            count: self.count,
            addresses: self.addresses.clone(),
            nonce: self.nonce.0,
        })
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let json: Json = parse(bytes, "a node record", LEVEL)?;
        let storage = u128::from_str_radix(&json.storage, 16);
        let storage =
            storage.map_err(|_| format!("storage {:?} is not a hexadecimal number", json.storage))?;
        let Json { boot, count, addresses, nonce, .. } = json;
        Ok(Self { storage, boot: BootId(boot), count, addresses, nonce: Nonce(nonce) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_way_to_json_and_back() {
        let addresses = Addresses { peer: "10.0.0.1:7402".into(), ..Addresses::default() };
        let record = NodeRecord { storage: u128::MAX, boot: BootId(3), count: 7, addresses, nonce: Nonce(1) };
        assert_eq!(NodeRecord::read(&record.write().unwrap()), Ok(record));
        assert!(NodeRecord::read(b"{}").unwrap_err().contains("not a node record"));
    }
}
