//! What the `ledger` plugin understands and answers, as JSON. An unknown field is an error, so that a misspelt one is
//! noticed.

use serde::{Deserialize, Serialize};

/// A write, for example `{"open": {"account": "ann"}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Opens an account with a balance of 0.
    Open(Open),
    /// Moves an amount from one account to another.
    Transfer(Transfer),
    /// Reverses a transfer, once.
    Void(Void),
    /// Ends an account whose balance is 0. Its history stays; its name is not used again.
    Close(Close),
}

/// How far below 0 an account may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overdraft {
    /// Not at all.
    #[default]
    None,
    /// By so much: `{"limit": 500}`.
    Limit(u64),
    /// As far as 64 bits go.
    Unlimited,
}

impl Overdraft {
    /// Whether an account may go down to this balance.
    pub fn allows(self, balance: i64) -> bool {
        match self {
            Self::None => balance >= 0,
            Self::Limit(limit) => i128::from(balance) >= -i128::from(limit),
            Self::Unlimited => true,
        }
    }
}

/// See [`Command::Open`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The account's name: 1 to 128 bytes of UTF-8 without control characters.
    pub account: String,
    /// How far below 0 it may go. Default: not at all.
    #[serde(default)]
    pub overdraft: Overdraft,
}

/// See [`Command::Transfer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The account that the amount leaves.
    pub debit: String,
    /// The account that it reaches.
    pub credit: String,
    /// How much, in the ledger's smallest unit; from 1 to 2⁶³ − 1.
    pub amount: i64,
    /// An idempotency key of 1 to 256 bytes. A second transfer with it changes nothing: it answers as the first one
    /// did where it says the same, and is refused where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// For people; at most 1,024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub memo: String,
    /// Opens an account that is not there with this overdraft policy, instead of refusing the transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_missing: Option<Overdraft>,
}

impl Transfer {
    /// One without idempotency key and memo, between accounts that must be there.
    pub fn new(debit: impl Into<String>, credit: impl Into<String>, amount: i64) -> Self {
        let (debit, credit) = (debit.into(), credit.into());
        Self { debit, credit, amount, key: None, memo: String::new(), open_missing: None }
    }
}

/// See [`Command::Void`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Void {
    /// The transfer's number.
    pub transfer: u64,
    /// For people; at most 1,024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub memo: String,
}

/// See [`Command::Close`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The account's name.
    pub account: String,
}

/// What a write answers, named after the command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The account was opened.
    Open(AccountInfo),
    /// The amount was moved.
    Transfer(Receipt),
    /// The transfer was reversed, by this one.
    Void(Receipt),
    /// The account was closed.
    Close(AccountInfo),
}

/// What a transfer came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The transfer's number: the tenant's count of commands at it.
    pub transfer: u64,
    /// Balance of the debited account just after it.
    pub debit_balance: i64,
    /// Balance of the credited account just after it.
    pub credit_balance: i64,
}

/// A read, for example `{"balance": {"account": "ann"}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// An account's balance.
    Balance {
        /// The account's name.
        account: String,
    },
    /// All about an account.
    Account {
        /// The account's name.
        account: String,
    },
    /// Accounts by name.
    Accounts {
        /// Those whose names begin with this.
        #[serde(default)]
        prefix: String,
        /// Those after this name: the `next` of the page before.
        #[serde(default)]
        after: Option<String>,
        /// At most so many, from 1 to 1,000. Default 100.
        #[serde(default = "limit_default")]
        limit: usize,
    },
    /// The sum over all accounts, which is always 0.
    Totals {
        /// Goes on after this name: the `next` of the part before. A part covers 10,000 accounts.
        #[serde(default)]
        after: Option<String>,
    },
    /// A transfer by its number.
    Transfer {
        /// The number.
        id: u64,
    },
    /// A transfer by its idempotency key.
    TransferByKey {
        /// The key.
        key: String,
    },
    /// What moved an account's balance.
    History {
        /// The account's name.
        account: String,
        /// Which end to begin at. Default: the newest.
        #[serde(default)]
        order: Order,
        /// Those beyond this transfer: the `next` of the page before.
        #[serde(default)]
        after: Option<u64>,
        /// At most so many, from 1 to 1,000. Default 100.
        #[serde(default = "limit_default")]
        limit: usize,
    },
}

/// The order of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The last one first.
    #[default]
    Newest,
    /// The first one first.
    Oldest,
}

/// What a read answers, named after the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To `balance`.
    Balance {
        /// The account's name.
        account: String,
        /// What reached it less what left it.
        balance: i64,
    },
    /// To `account`.
    Account(AccountInfo),
    /// To `accounts`.
    Accounts {
        /// In the order of their names.
        accounts: Vec<AccountInfo>,
        /// Where there are more: what to give as `after`.
        next: Option<String>,
    },
    /// To `totals`.
    Totals(Totals),
    /// To `transfer` and `transfer_by_key`.
    Transfer(TransferInfo),
    /// To `history`.
    History {
        /// In the order asked for.
        entries: Vec<HistoryEntry>,
        /// Where there are more: what to give as `after`.
        next: Option<u64>,
    },
}

/// All about an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// Its name.
    pub account: String,
    /// What reached it less what left it.
    pub balance: i64,
    /// How far below 0 it may go.
    pub overdraft: Overdraft,
    /// How many transfers moved it, voids included.
    pub transfers: u64,
    /// When it was opened: log time in milliseconds since 1970-01-01 UTC.
    pub opened_ms: u64,
    /// Whether it was closed.
    pub closed: bool,
}

/// The books as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// How many accounts there are.
    pub accounts: u64,
    /// The balances of those above 0.
    pub positive: i128,
    /// The balances of those below 0.
    pub negative: i128,
    /// Both together. Over all accounts it is 0.
    pub sum: i128,
    /// Where there are more accounts: what to give as `after`, to add up the parts.
    pub next: Option<String>,
}

/// All about a transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferInfo {
    /// Its number.
    pub id: u64,
    /// What it moved.
    #[serde(flatten)]
    pub record: TransferRecord,
}

/// What a transfer moved, and what came of it. The plugin keeps it in this form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferRecord {
    /// The account that the amount left.
    pub debit: String,
    /// The account that it reached.
    pub credit: String,
    /// How much.
    pub amount: i64,
    /// Its idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub memo: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Log time in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Balance of the debited account just after it.
    pub debit_balance: i64,
    /// Balance of the credited account just after it.
    pub credit_balance: i64,
    /// The transfer that this one reverses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voids: Option<u64>,
    /// The transfer that reversed this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voided_by: Option<u64>,
}

/// What a transfer did to an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The transfer's number.
    pub transfer: u64,
    /// Its time: log time in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// The account at the other end.
    pub counterparty: String,
    /// What it added to the balance; below 0 where it took.
    pub change: i64,
    /// The balance just after it.
    pub balance: i64,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub memo: String,
}

fn limit_default() -> usize {
    100
}
