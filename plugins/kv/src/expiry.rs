//! Keys that go by themselves.
//!
//! A write with a TTL adds an entry to the due index, and asks the host to call `expire` at the index's first time.
//! Writes neither read nor remove the entries of older writes: an entry whose record says otherwise by the time it
//! fires is stale, and is dropped. Meanwhile reads and conditions leave dead records out.

use mortise_sdk::{Context, Rejection, Transaction};

use crate::record::{decode, due_key, due_range, parse_due_key, record_key};

/// The longest TTL: 100 years.
pub(crate) const TTL_MS_MAX: u64 = 36_525 * 24 * 60 * 60 * 1000;

/// Entries handled by one call of `expire`: about 0.1 ms, so that commands behind it hardly wait.
const ENTRIES_MAX: usize = 256;
/// Bytes of records after which a call of `expire` ends early: far below a profile's default limit for reads.
const BYTES_MAX: usize = 8 << 20;

/// When a key written now expires; `ttl_ms` 0: never.
pub(crate) fn deadline(context: &Context, ttl_ms: u64) -> Option<u64> {
    (ttl_ms != 0).then(|| context.time_ms.saturating_add(ttl_ms))
}

/// Makes sure that `key` is looked at when `expires_ms` has come.
pub(crate) fn schedule(tx: &mut Transaction<'_>, expires_ms: u64, key: &[u8]) {
    tx.put(&due_key(expires_ms, key), b"");
    arm(tx);
}

/// Removes what has expired, a bounded part of it; then asks to be called for the rest.
pub(crate) fn expire(tx: &mut Transaction<'_>, context: &Context) {
    let mut bytes = 0;
    for entry in due_entries(tx, context.time_ms) {
        if bytes > BYTES_MAX {
            break;
        }
        if let Some((expires_ms, key)) = parse_due_key(&entry) {
            let at = record_key(key);
            let stored = tx.get(&at).unwrap_or_default();
            bytes += stored.len();
            if decode(&stored).is_ok_and(|record| record.expires_ms == Some(expires_ms)) {
                tx.delete(&at);
            }
        }
        tx.delete(&entry);
    }
    arm(tx);
}

/// Asks to be called at the due index's first time.
pub(crate) fn arm(tx: &mut Transaction<'_>) {
    let first = tx.first(due_range()).and_then(|pair| parse_due_key(pair.key()).map(|(time, _)| time));
    tx.next_due(first);
}

/// Refuses a TTL that is longer than [`TTL_MS_MAX`].
pub(crate) fn check_ttl(ttl_ms: u64) -> Result<(), Rejection> {
    match ttl_ms <= TTL_MS_MAX {
        true => Ok(()),
        false => Err(Rejection::invalid("ttl_too_long", "a TTL is 100 years at most")),
    }
}

/// The first entries of the due index whose time has come.
fn due_entries(tx: &Transaction<'_>, now_ms: u64) -> Vec<Vec<u8>> {
    let is_due = |key: &[u8]| parse_due_key(key).is_none_or(|(time_ms, _)| time_ms <= now_ms);
    let entries = tx.scan(due_range()).map(|pair| pair.key().to_vec());
    entries.take(ENTRIES_MAX).take_while(|key| is_due(key)).collect()
}
