//! Double-entry accounts: every amount that reaches an account leaves another, so that all balances together are 0.
//!
//! Commands and requests are JSON; [`mortise_commands::ledger`] says what each means. In short:
//!
//! ```json
//! {"open": {"account": "ann", "overdraft": {"limit": 500}}}
//! {"transfer": {"debit": "ann", "credit": "bob", "amount": 20, "key": "invoice 7", "memo": "lunch"}}
//! {"void": {"transfer": 2}}
//! {"balance": {"account": "ann"}}
//! {"history": {"account": "ann", "limit": 10}}
//! ```
//! A refusal has one of these codes:
//!
//! | code | kind | meaning |
//! | --- | --- | --- |
//! | `malformed` | invalid | no such command or request |
//! | `bad_name`, `bad_amount`, `bad_key`, `bad_limit`, `memo_too_long`, `same_account` | invalid | as they say |
//! | `account_exists`, `account_closed`, `not_empty` | conflict | about `open` and `close` |
//! | `insufficient_funds` | conflict | the debited account may not go so far down |
//! | `key_reused` | conflict | another transfer used the idempotency key |
//! | `already_voided`, `not_voidable` | conflict | about `void` |
//! | `unknown_account`, `unknown_transfer`, `unknown_key` | missing | as they say |
//! | `overflow` | exhausted | a balance would not fit 64 bits |
//!
//! State: `a` NAME ─▶ account, `t` NUMBER ─▶ transfer, `h` NAME 0 NUMBER ─▶ (history), `k` KEY ─▶ transfer's number.

mod account;
mod history;
mod query;
mod transfer;

use mortise_commands::ledger::{Command, Open, Overdraft, Reply, Request, Response, Transfer};
use mortise_sdk::{Context, Json, Plugin, Rejection, Transaction, View, export_plugin};

/// The plugin.
pub struct Ledger;
export_plugin!(Ledger);

impl Plugin for Ledger {
    const NAME: &'static str = "ledger";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Double-entry accounts with idempotent transfers and overdraft policies";
    type Command = Command;
    type Reply = Reply;
    type Request = Request;
    type Response = Response;
    type Encoding = Json;

    fn check(_: &View<'_>, _: &Context, command: &Command) -> Result<(), Rejection> {
        match command {
            Command::Open(open) => account::check_name(&open.account),
            Command::Transfer(transfer) => transfer::check(transfer),
            Command::Void(void) => transfer::check_memo(&void.memo),
            Command::Close(close) => account::check_name(&close.account),
        }
    }

    fn apply(tx: &mut Transaction<'_>, context: &Context, command: Command) -> Result<Reply, Rejection> {
        Self::check(tx, context, &command)?;
        Ok(match command {
            Command::Open(open) => Reply::Open(account::open(tx, context, open)?),
            Command::Transfer(transfer) => Reply::Transfer(transfer::transfer(tx, context, transfer)?),
            Command::Void(void) => Reply::Void(transfer::void(tx, context, void)?),
            Command::Close(close) => Reply::Close(account::close(tx, close)?),
        })
    }

    fn query(view: &View<'_>, _: &Context, request: Request) -> Result<Response, Rejection> {
        query::query(view, request)
    }

    fn examples() -> Vec<(&'static str, Command)> {
        let open = |account: &str, overdraft| Command::Open(Open { account: account.into(), overdraft });
        let lunch = Transfer {
            debit: "ann".into(),
            credit: "bob".into(),
            amount: 20,
            key: Some("invoice 7".into()),
            memo: "lunch".into(),
            open_missing: None,
        };
        vec![
            ("open", open("ann", Overdraft::Limit(500))),
            ("open without overdraft", open("bob", Overdraft::None)),
            ("transfer", Command::Transfer(lunch)),
        ]
    }
}
