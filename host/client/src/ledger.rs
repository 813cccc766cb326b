//! The commands of the shipped `ledger` plugin as functions; [`mortise_commands::ledger`] says what each means.

pub use mortise_commands::ledger::{
    AccountInfo, HistoryEntry, Order, Overdraft, Receipt, Totals, Transfer, TransferInfo, TransferRecord,
};
use mortise_commands::ledger::{Close, Command, Open, Reply, Request, Response, Void};

use crate::client::{Freshness, Tenant};
use crate::error::ClientError;
use crate::typed::{Json, Typed, unexpected};
use crate::writer::Writer;

/// A tenant that runs `ledger`. Cheap to clone.
///
/// ```no_run
/// # async fn example(client: mortise_client::Client) -> Result<(), mortise_client::ClientError> {
/// use mortise_client::ledger::{Ledger, Overdraft, Transfer};
///
/// let ledger = Ledger::new(client.tenant("books"));
/// ledger.open("ann", Overdraft::Limit(500)).await?;
/// ledger.open("bob", Overdraft::None).await?;
/// let lunch = Transfer { key: Some("invoice 7".into()), ..Transfer::new("ann", "bob", 20) };
/// let receipt = ledger.transfer(lunch).await?;
/// assert_eq!((receipt.debit_balance, ledger.balance("bob").await?), (-20, 20));
/// # Ok(()) }
/// ```
/// Every function fails as its write or query does; where the plugin refuses, with
/// [`ErrorKind::Rejected`](crate::ErrorKind::Rejected) and one of the plugin's codes, as `insufficient_funds`.
#[derive(Clone, Debug)]
pub struct Ledger(Typed<Json<Command, Reply, Request, Response>>);

/// One page of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, N> {
    /// In the order asked for.
    pub items: Vec<T>,
    /// Where there are more: what to give as `after` for the next page.
    pub next: Option<N>,
}

#[allow(clippy::missing_errors_doc, reason = "the type's documentation says it for all")]
impl Ledger {
    /// Over the tenant itself: each write is one call; see [`Tenant::write`]. A transfer without an idempotency key is
    /// then not to be repeated where [`ClientError::took_effect`] says unknown.
    pub fn new(tenant: Tenant) -> Self {
        Self(Typed::new(tenant))
    }

    /// Over a writer of this tenant: many writes can be in flight, each exactly once.
    pub fn with_writer(tenant: Tenant, writer: Writer) -> Self {
        Self(Typed::with_writer(tenant, writer))
    }

    /// The same, but reads are as fresh as said here. Default: linearizable.
    #[must_use]
    pub fn reading(self, freshness: Freshness) -> Self {
        Self(self.0.reading(freshness))
    }

    /// Opens an account with a balance of 0.
    pub async fn open(
        &self,
        account: impl Into<String>,
        overdraft: Overdraft,
    ) -> Result<AccountInfo, ClientError> {
        match self.0.write(&Command::Open(Open { account: account.into(), overdraft })).await? {
            Reply::Open(account) => Ok(account),
            _ => Err(unexpected().with_effect()),
        }
    }

    /// Moves an amount from one account to another.
    pub async fn transfer(&self, transfer: Transfer) -> Result<Receipt, ClientError> {
        match self.0.write(&Command::Transfer(transfer)).await? {
            Reply::Transfer(receipt) => Ok(receipt),
            _ => Err(unexpected().with_effect()),
        }
    }

    /// Reverses a transfer, once; `memo` is for people.
    pub async fn void(&self, transfer: u64, memo: impl Into<String>) -> Result<Receipt, ClientError> {
        match self.0.write(&Command::Void(Void { transfer, memo: memo.into() })).await? {
            Reply::Void(receipt) => Ok(receipt),
            _ => Err(unexpected().with_effect()),
        }
    }

    /// Ends an account whose balance is 0.
    pub async fn close(&self, account: impl Into<String>) -> Result<AccountInfo, ClientError> {
        match self.0.write(&Command::Close(Close { account: account.into() })).await? {
            Reply::Close(account) => Ok(account),
            _ => Err(unexpected().with_effect()),
        }
    }

    /// An account's balance, in the ledger's smallest unit.
    pub async fn balance(&self, account: impl Into<String>) -> Result<i64, ClientError> {
        match self.0.query(&Request::Balance { account: account.into() }).await? {
            Response::Balance { balance, .. } => Ok(balance),
            _ => Err(unexpected()),
        }
    }

    /// All about an account.
    pub async fn account(&self, account: impl Into<String>) -> Result<AccountInfo, ClientError> {
        match self.0.query(&Request::Account { account: account.into() }).await? {
            Response::Account(account) => Ok(account),
            _ => Err(unexpected()),
        }
    }

    /// Accounts whose names begin with `prefix`, in the order of their names; at most `limit`, from 1 to 1,000.
    pub async fn accounts(
        &self,
        prefix: impl Into<String>,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<AccountInfo, String>, ClientError> {
        match self.0.query(&Request::Accounts { prefix: prefix.into(), after, limit }).await? {
            Response::Accounts { accounts, next } => Ok(Page { items: accounts, next }),
            _ => Err(unexpected()),
        }
    }

    /// The sum over all accounts, which is 0. An answer covers 10,000 accounts: where its `next` is set, ask for the
    /// rest after it, and add up. Parts read while transfers go on do not fit together.
    pub async fn totals(&self, after: Option<String>) -> Result<Totals, ClientError> {
        match self.0.query(&Request::Totals { after }).await? {
            Response::Totals(totals) => Ok(totals),
            _ => Err(unexpected()),
        }
    }

    /// A transfer by its number.
    pub async fn transfer_info(&self, id: u64) -> Result<TransferInfo, ClientError> {
        self.transfer_of(Request::Transfer { id }).await
    }

    /// A transfer by its idempotency key.
    pub async fn transfer_by_key(&self, key: impl Into<String>) -> Result<TransferInfo, ClientError> {
        self.transfer_of(Request::TransferByKey { key: key.into() }).await
    }

    /// What moved an account's balance; at most `limit`, from 1 to 1,000.
    pub async fn history(
        &self,
        account: impl Into<String>,
        order: Order,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<HistoryEntry, u64>, ClientError> {
        match self.0.query(&Request::History { account: account.into(), order, after, limit }).await? {
            Response::History { entries, next } => Ok(Page { items: entries, next }),
            _ => Err(unexpected()),
        }
    }

    async fn transfer_of(&self, request: Request) -> Result<TransferInfo, ClientError> {
        match self.0.query(&request).await? {
            Response::Transfer(transfer) => Ok(transfer),
            _ => Err(unexpected()),
        }
    }
}
