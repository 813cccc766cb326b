//! Requests.

use mortise_commands::ledger::{Request, Response, Totals, TransferInfo};
use mortise_sdk::{KeyRange, Rejection, View};

use crate::account::{Account, account_key};
use crate::transfer::id_of_key;
use crate::{history, transfer};

/// Most records of a page.
const LIMIT_MAX: usize = 1000;
/// Accounts that one part of `totals` covers: some 10 ms.
const TOTALS_ACCOUNTS_MAX: usize = 10_000;

/// Answers `request`.
pub(crate) fn query(view: &View<'_>, request: Request) -> Result<Response, Rejection> {
    match request {
        Request::Balance { account } => {
            let balance = Account::get(view, &account)?.balance;
            Ok(Response::Balance { account, balance })
        }
        Request::Account { account } => Ok(Response::Account(Account::get(view, &account)?.info(account))),
        Request::Accounts { prefix, after, limit } => accounts(view, &prefix, after, check_limit(limit)?),
        Request::Totals { after } => totals(view, after),
        Request::Transfer { id } => {
            Ok(Response::Transfer(TransferInfo { id, record: transfer::get(view, id)? }))
        }
        Request::TransferByKey { key } => {
            let missing = || Rejection::missing("unknown_key", "no transfer used this key");
            let id = id_of_key(view, &key)?.ok_or_else(missing)?;
            Ok(Response::Transfer(TransferInfo { id, record: transfer::get(view, id)? }))
        }
        Request::History { account, order, after, limit } => {
            history::page(view, &account, order, after, check_limit(limit)?)
        }
    }
}

fn accounts(
    view: &View<'_>,
    prefix: &str,
    after: Option<String>,
    limit: usize,
) -> Result<Response, Rejection> {
    let mut scan = view.scan(names(prefix, after.as_deref()));
    let mut accounts = Vec::new();
    for pair in scan.by_ref().take(limit) {
        accounts.push(pair.json::<Account>()?.info(name(pair.key())));
    }
    let more = scan.next().is_some();
    let next = accounts.last().filter(|_| more).map(|last| last.account.clone());
    Ok(Response::Accounts { accounts, next })
}

fn totals(view: &View<'_>, after: Option<String>) -> Result<Response, Rejection> {
    let mut totals = Totals::default();
    let mut scan = view.scan(names("", after.as_deref()));
    let mut last = None;
    for pair in scan.by_ref().take(TOTALS_ACCOUNTS_MAX) {
        let balance = i128::from(pair.json::<Account>()?.balance);
        totals.accounts += 1;
        totals.sum += balance;
        totals.positive += balance.max(0);
        totals.negative += balance.min(0);
        last = Some(pair);
    }
    let more = scan.next().is_some();
    totals.next = last.filter(|_| more).map(|pair| name(pair.key()));
    Ok(Response::Totals(totals))
}

/// The accounts that begin with `prefix` and come after `after`.
fn names(prefix: &str, after: Option<&str>) -> KeyRange {
    let all = KeyRange::prefix(account_key(prefix));
    match after {
        Some(after) => all.intersect(KeyRange::from([&account_key(after)[..], b"\0"].concat()..)),
        None => all,
    }
}

fn name(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[1..]).into_owned()
}

fn check_limit(limit: usize) -> Result<usize, Rejection> {
    match (1..=LIMIT_MAX).contains(&limit) {
        true => Ok(limit),
        false => Err(Rejection::invalid("bad_limit", "a limit is from 1 to 1,000")),
    }
}
