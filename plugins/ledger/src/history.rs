//! Which transfers moved an account: an index from `h`, the account's name, a zero byte and the transfer's number
//! (big endian, so that it sorts) to nothing. The transfer itself says the rest.

use mortise_commands::ledger::{HistoryEntry, Order, Response, TransferRecord};
use mortise_sdk::{Direction, KeyRange, Rejection, Transaction, View};

use crate::account::Account;
use crate::transfer::transfer_key;

/// Notes that the transfer `id` moved the account.
pub(crate) fn add(tx: &mut Transaction<'_>, account: &str, id: u64) {
    tx.put(&entry_key(account, id), b"");
}

/// One page of an account's history.
pub(crate) fn page(
    view: &View<'_>,
    account: &str,
    order: Order,
    after: Option<u64>,
    limit: usize,
) -> Result<Response, Rejection> {
    Account::get(view, account)?;
    let all = KeyRange::prefix(prefix(account));
    let (direction, rest) = match (order, after) {
        (Order::Newest, None) => (Direction::Descending, all),
        (Order::Newest, Some(id)) => {
            (Direction::Descending, KeyRange { end: Some(entry_key(account, id)), ..all })
        }
        (Order::Oldest, None) => (Direction::Ascending, all),
        (Order::Oldest, Some(id)) => {
            let start = entry_key(account, id.saturating_add(1));
            (Direction::Ascending, KeyRange { start, ..all })
        }
    };
    let mut scan = view.scan(rest).direction(direction);
    let ids: Vec<u64> = scan.by_ref().take(limit).filter_map(|pair| id_of(pair.key())).collect();
    let more = scan.next().is_some();
    let keys: Vec<_> = ids.iter().map(|id| transfer_key(*id)).collect();
    let records = view.get_many(&keys);
    let entries = ids.iter().zip(records).map(|(id, stored)| entry(account, *id, stored.unwrap_or_default()));
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    Ok(Response::History { entries, next: ids.last().copied().filter(|_| more) })
}

fn entry(account: &str, id: u64, stored: Vec<u8>) -> Result<HistoryEntry, Rejection> {
    let record: TransferRecord = mortise_sdk::read_json(&stored)?;
    let (counterparty, change, balance) = match record.debit == account {
        true => (record.credit, -record.amount, record.debit_balance),
        false => (record.debit, record.amount, record.credit_balance),
    };
    Ok(HistoryEntry {
        transfer: id,
        time_ms: record.time_ms,
        counterparty,
        change,
        balance,
        memo: record.memo,
    })
}

/// Names hold no zero byte, so that no account's entries begin with another's prefix.
fn prefix(account: &str) -> Vec<u8> {
    [b"h", account.as_bytes(), b"\0"].concat()
}

fn entry_key(account: &str, id: u64) -> Vec<u8> {
    [prefix(account).as_slice(), &id.to_be_bytes()].concat()
}

fn id_of(entry_key: &[u8]) -> Option<u64> {
    entry_key.last_chunk().map(|id| u64::from_be_bytes(*id))
}
