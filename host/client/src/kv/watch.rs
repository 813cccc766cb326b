//! Watching keys: a [`Watch`](crate::Watch) of a tenant that runs `kv`, in terms of keys and values.

use mortise_commands::kv::Record;
use mortise_commands::kv_record::{RECORDS, StoredRecord, record_key, user_key};
use mortise_core::layer::Effect;

use super::Kv;
use crate::error::{ClientError, ErrorKind};
use crate::watch::{KeyRange, Place, Watch, WatchEvent, WatchFrom, WatchOptions};

/// A watch of keys with a prefix. It mends itself as [`Watch`] does.
#[derive(Debug)]
pub struct KvWatch {
    watch: Watch,
}

/// What one command, or the passing of time, did to the keys that are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvent {
    /// The tenant's count of commands at this one: what writers are answered as `version`.
    pub version: u64,
    /// Log time in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Who asked; `None` where the node runs without tokens.
    pub principal: Option<String>,
    /// Whether keys went because their time had come.
    pub expired: bool,
    /// Its changes: right when done in this order. Never empty.
    pub changes: Vec<Change>,
}

/// A change of a key, or of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key holds this.
    Put(Record),
    /// The key is gone.
    Deleted(Vec<u8>),
    /// The keys from the first up to, but without, the second are gone; `None`: to the last key.
    DeletedRange(Vec<u8>, Option<Vec<u8>>),
}

impl Kv {
    /// Watches the keys with this prefix; empty: all keys. The leader tells; see [`Tenant::watch`](crate::Tenant::watch).
    ///
    /// # Errors
    /// As [`Tenant::watch`](crate::Tenant::watch).
    pub async fn watch(&self, prefix: impl AsRef<[u8]>, from: WatchFrom) -> Result<KvWatch, ClientError> {
        let options = WatchOptions { from, key_prefix: record_key(prefix.as_ref()), any_member: false };
        Ok(KvWatch { watch: self.0.tenant().watch(options).await? })
    }
}

impl KvWatch {
    /// The next change; waits for it. Where the wait is given up, nothing is lost.
    ///
    /// # Errors
    /// As [`Watch::told`]; [`ErrorKind::Protocol`] where the tenant runs another plugin.
    pub async fn next(&mut self) -> Result<KvEvent, ClientError> {
        event(self.watch.next().await?)
    }

    /// How far it is: see [`Watch::place`].
    pub fn place(&self) -> Place {
        self.watch.place()
    }
}

fn event(event: WatchEvent) -> Result<KvEvent, ClientError> {
    let changes = event.effects.into_iter().map(change).collect::<Option<Vec<_>>>().ok_or_else(|| {
        ClientError::new(
            ErrorKind::Protocol,
            "the state is none of kv's: does the tenant run another plugin?",
        )
    })?;
    Ok(KvEvent {
        version: event.sequence,
        time_ms: event.time_ms,
        principal: event.principal,
        expired: event.command.is_none(),
        changes,
    })
}

/// `None` where it is no change of a record.
fn change(effect: Effect) -> Option<Change> {
    Some(match effect {
        Effect::Put(key, value) => {
            let StoredRecord { version, expires_ms, value } = StoredRecord::decode(&value)?;
            let key = user_key(&key)?.to_vec();
            Change::Put(Record { key, value: value.to_vec(), version, expires_ms: expires_ms.unwrap_or(0) })
        }
        Effect::Delete(key) => Change::Deleted(user_key(&key)?.to_vec()),
        Effect::DeleteRange(range) => {
            let KeyRange { start, end } = range.intersect(&KeyRange::prefix(&[RECORDS]));
            let end = end.as_deref().and_then(user_key).map(<[u8]>::to_vec);
            Change::DeletedRange(user_key(&start)?.to_vec(), end)
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn effects_become_changes_of_keys() {
        let stored = StoredRecord { version: 7, expires_ms: Some(9), value: b"v" }.encode();
        let put = Effect::Put(record_key(b"a").into(), stored.into());
        let record = Record { key: b"a".to_vec(), value: b"v".to_vec(), version: 7, expires_ms: 9 };
        assert_eq!(change(put), Some(Change::Put(record)));
        assert_eq!(change(Effect::Delete(record_key(b"b").into())), Some(Change::Deleted(b"b".to_vec())));
        let range = |start: &[u8], end: Option<&[u8]>| KeyRange {
            start: Bytes::copy_from_slice(start),
            end: end.map(Bytes::copy_from_slice),
        };
        let all = Change::DeletedRange(Vec::new(), None);
        assert_eq!(change(Effect::DeleteRange(range(b"k", Some(b"l")))), Some(all.clone()));
        assert_eq!(change(Effect::DeleteRange(range(b"", None))), Some(all));
        let part = Change::DeletedRange(b"a".to_vec(), Some(b"c".to_vec()));
        assert_eq!(change(Effect::DeleteRange(range(b"ka", Some(b"kc")))), Some(part));
    }

    #[test]
    fn what_is_no_record_is_noticed() {
        assert_eq!(change(Effect::Put("kx".into(), "no".into())), None);
        assert_eq!(change(Effect::Delete("other".into())), None);
    }
}
