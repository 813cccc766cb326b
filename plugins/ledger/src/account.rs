//! Accounts.

use mortise_commands::ledger::{AccountInfo, Close, Open, Overdraft};
use mortise_sdk::{Context, Rejection, Transaction, View};
use serde::{Deserialize, Serialize};

/// Most bytes of an account's name.
const NAME_BYTES_MAX: usize = 128;

/// An account, as stored at `a` and its name.
///
/// Invariant: over all accounts the balances add up to 0, because [`transfer`](crate::transfer) alone changes them,
/// two at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) balance: i64,
    pub(crate) overdraft: Overdraft,
    pub(crate) transfers: u64,
    pub(crate) opened_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) closed: bool,
}

impl Account {
    pub(crate) fn new(context: &Context, overdraft: Overdraft) -> Self {
        Self { balance: 0, overdraft, transfers: 0, opened_ms: context.time_ms, closed: false }
    }

    /// The account called `name`, if there is one.
    pub(crate) fn find(view: &View<'_>, name: &str) -> Result<Option<Self>, Rejection> {
        view.get_json(&account_key(name))
    }

    /// The account called `name`.
    pub(crate) fn get(view: &View<'_>, name: &str) -> Result<Self, Rejection> {
        Self::find(view, name)?.ok_or_else(|| unknown(name))
    }

    pub(crate) fn put(&self, tx: &mut Transaction<'_>, name: &str) -> Result<(), Rejection> {
        tx.put_json(&account_key(name), self)
    }

    /// Changes the balance, where it may change so.
    pub(crate) fn add(&mut self, name: &str, change: i64) -> Result<(), Rejection> {
        if self.closed {
            return Err(Rejection::conflict("account_closed", format!("account {name} is closed")));
        }
        let balance = self.balance.checked_add(change).ok_or_else(|| {
            Rejection::exhausted("overflow", format!("the balance of {name} would not fit 64 bits"))
        })?;
        if change < 0 && !self.overdraft.allows(balance) {
            let message = format!("account {name} holds {}, which is too little", self.balance);
            return Err(Rejection::conflict("insufficient_funds", message));
        }
        self.balance = balance;
        self.transfers += 1;
        Ok(())
    }

    pub(crate) fn info(self, name: String) -> AccountInfo {
        let Self { balance, overdraft, transfers, opened_ms, closed } = self;
        AccountInfo { account: name, balance, overdraft, transfers, opened_ms, closed }
    }
}

pub(crate) fn open(
    tx: &mut Transaction<'_>,
    context: &Context,
    open: Open,
) -> Result<AccountInfo, Rejection> {
    if Account::find(tx, &open.account)?.is_some() {
        let message = format!("there is an account {} already", open.account);
        return Err(Rejection::conflict("account_exists", message));
    }
    let account = Account::new(context, open.overdraft);
    account.put(tx, &open.account)?;
    Ok(account.info(open.account))
}

pub(crate) fn close(
    tx: &mut Transaction<'_>,
    Close { account: name }: Close,
) -> Result<AccountInfo, Rejection> {
    let mut account = Account::get(tx, &name)?;
    if account.closed {
        return Err(Rejection::conflict("account_closed", format!("account {name} is closed already")));
    }
    if account.balance != 0 {
        let message = format!("account {name} holds {}; move that first", account.balance);
        return Err(Rejection::conflict("not_empty", message));
    }
    account.closed = true;
    account.put(tx, &name)?;
    Ok(account.info(name))
}

/// Refuses a name that no account can have.
pub(crate) fn check_name(name: &str) -> Result<(), Rejection> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    match fits && !name.contains(char::is_control) {
        true => Ok(()),
        false => Err(Rejection::invalid(
            "bad_name",
            "an account's name has 1 to 128 bytes and no control characters",
        )),
    }
}

pub(crate) fn unknown(name: &str) -> Rejection {
    Rejection::missing("unknown_account", format!("there is no account {name}"))
}

pub(crate) fn account_key(name: &str) -> Vec<u8> {
    [b"a", name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(balance: i64, overdraft: Overdraft) -> Account {
        Account { balance, ..Account::new(&Context::default(), overdraft) }
    }

    #[test]
    fn an_account_goes_down_to_its_policy_and_no_further() {
        assert!(account(5, Overdraft::None).add("x", -5).is_ok());
        assert_eq!(account(5, Overdraft::None).add("x", -6).unwrap_err().code, "insufficient_funds");
        assert!(account(5, Overdraft::Limit(2)).add("x", -7).is_ok());
        assert_eq!(account(5, Overdraft::Limit(2)).add("x", -8).unwrap_err().code, "insufficient_funds");
        assert!(account(0, Overdraft::Limit(u64::MAX)).add("x", -i64::MAX).is_ok());
        assert!(account(-i64::MAX, Overdraft::Unlimited).add("x", -1).is_ok());
        assert_eq!(account(i64::MIN, Overdraft::Unlimited).add("x", -1).unwrap_err().code, "overflow");
        assert_eq!(account(i64::MAX, Overdraft::None).add("x", 1).unwrap_err().code, "overflow");
    }

    #[test]
    fn a_deposit_is_taken_whatever_the_policy() {
        // Otherwise a loan could not be paid back in parts.
        assert!(account(-10, Overdraft::None).add("x", 4).is_ok());
    }

    #[test]
    fn names_are_checked() {
        let long = "x".repeat(129);
        for name in ["", "a\0b", "a\nb", long.as_str()] {
            assert_eq!(check_name(name).unwrap_err().code, "bad_name");
        }
        assert!(check_name("Zürich 🏦").is_ok());
    }
}
