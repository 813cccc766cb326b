//! Transfers and their reversal: the only code that changes balances.

use mortise_commands::ledger::{Overdraft, Receipt, Transfer, TransferRecord, Void};
use mortise_sdk::{Context, Rejection, Transaction, View};

use crate::account::{Account, check_name, unknown};
use crate::history;

/// Most bytes of an idempotency key.
const KEY_BYTES_MAX: usize = 256;
/// Most bytes of a memo.
const MEMO_BYTES_MAX: usize = 1024;

/// The transfer with this number.
pub(crate) fn get(view: &View<'_>, id: u64) -> Result<TransferRecord, Rejection> {
    let missing = || Rejection::missing("unknown_transfer", format!("there is no transfer {id}"));
    view.get_json(&transfer_key(id))?.ok_or_else(missing)
}

fn receipt(record: &TransferRecord, id: u64) -> Receipt {
    Receipt { transfer: id, debit_balance: record.debit_balance, credit_balance: record.credit_balance }
}

fn says(record: &TransferRecord, transfer: &Transfer) -> bool {
    record.debit == transfer.debit
        && record.credit == transfer.credit
        && record.amount == transfer.amount
        && record.memo == transfer.memo
}

/// The number of the transfer that used the idempotency key.
pub(crate) fn id_of_key(view: &View<'_>, key: &str) -> Result<Option<u64>, Rejection> {
    view.get_json(&key_key(key))
}

/// Where the transfer with this number lies.
pub(crate) fn transfer_key(id: u64) -> Vec<u8> {
    [b"t".as_slice(), &id.to_be_bytes()].concat()
}

pub(crate) fn transfer(
    tx: &mut Transaction<'_>,
    context: &Context,
    transfer: Transfer,
) -> Result<Receipt, Rejection> {
    if let Some(key) = &transfer.key {
        if let Some(id) = id_of_key(tx, key)? {
            let first = get(tx, id)?;
            return match says(&first, &transfer) {
                true => Ok(receipt(&first, id)),
                false => Err(Rejection::conflict(
                    "key_reused",
                    format!("transfer {id} used this key, and said something else"),
                )),
            };
        }
        tx.put_json(&key_key(key), &context.sequence)?;
    }
    let Transfer { debit, credit, amount, key, memo, open_missing } = transfer;
    post(tx, context, Entry { debit, credit, amount, key, memo, voids: None }, open_missing)
}

pub(crate) fn void(tx: &mut Transaction<'_>, context: &Context, void: Void) -> Result<Receipt, Rejection> {
    let mut voided = get(tx, void.transfer)?;
    if let Some(by) = voided.voided_by {
        let message = format!("transfer {} was voided by {by}", void.transfer);
        return Err(Rejection::conflict("already_voided", message));
    }
    if let Some(other) = voided.voids {
        let message = format!("transfer {} is itself the void of {other}", void.transfer);
        return Err(Rejection::conflict("not_voidable", message));
    }
    voided.voided_by = Some(context.sequence);
    tx.put_json(&transfer_key(void.transfer), &voided)?;
    let TransferRecord { debit, credit, amount, .. } = voided;
    let reverse = Entry {
        debit: credit,
        credit: debit,
        amount,
        key: None,
        memo: void.memo,
        voids: Some(void.transfer),
    };
    post(tx, context, reverse, None)
}

/// Refuses a transfer that is wrong whatever the state holds.
pub(crate) fn check(transfer: &Transfer) -> Result<(), Rejection> {
    check_name(&transfer.debit)?;
    check_name(&transfer.credit)?;
    check_memo(&transfer.memo)?;
    if transfer.debit == transfer.credit {
        return Err(Rejection::invalid("same_account", "a transfer needs two accounts"));
    }
    if transfer.amount <= 0 {
        return Err(Rejection::invalid("bad_amount", "an amount is 1 at least; swap the accounts instead"));
    }
    let key_bytes = transfer.key.as_ref().map_or(1, String::len);
    if !(1..=KEY_BYTES_MAX).contains(&key_bytes) {
        return Err(Rejection::invalid("bad_key", "an idempotency key has 1 to 256 bytes"));
    }
    Ok(())
}

/// Refuses a memo that is too long.
pub(crate) fn check_memo(memo: &str) -> Result<(), Rejection> {
    match memo.len() <= MEMO_BYTES_MAX {
        true => Ok(()),
        false => Err(Rejection::invalid("memo_too_long", "a memo has 1,024 bytes at most")),
    }
}

/// What is to be written into the books.
struct Entry {
    debit: String,
    credit: String,
    amount: i64,
    key: Option<String>,
    memo: String,
    voids: Option<u64>,
}

/// Moves the amount: both balances, both histories and the transfer, or nothing.
fn post(
    tx: &mut Transaction<'_>,
    context: &Context,
    entry: Entry,
    open_missing: Option<Overdraft>,
) -> Result<Receipt, Rejection> {
    let find = |name: &str| match (Account::find(tx, name)?, open_missing) {
        (Some(account), _) => Ok(account),
        (None, Some(overdraft)) => Ok(Account::new(context, overdraft)),
        (None, None) => Err(unknown(name)),
    };
    let (mut debit, mut credit) = (find(&entry.debit)?, find(&entry.credit)?);
    debit.add(&entry.debit, -entry.amount)?;
    credit.add(&entry.credit, entry.amount)?;
    debit.put(tx, &entry.debit)?;
    credit.put(tx, &entry.credit)?;

    let id = context.sequence;
    history::add(tx, &entry.debit, id);
    history::add(tx, &entry.credit, id);
    let record = TransferRecord {
        debit: entry.debit,
        credit: entry.credit,
        amount: entry.amount,
        key: entry.key,
        memo: entry.memo,
        by: context.principal.clone(),
        time_ms: context.time_ms,
        debit_balance: debit.balance,
        credit_balance: credit.balance,
        voids: entry.voids,
        voided_by: None,
    };
    tx.put_json(&transfer_key(id), &record)?;
    Ok(receipt(&record, id))
}

fn key_key(key: &str) -> Vec<u8> {
    [b"k", key.as_bytes()].concat()
}
