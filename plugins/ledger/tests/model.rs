//! Random commands against a model that keeps the books in plain maps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use mortise_commands::ledger::*;
use mortise_plugin_ledger::Ledger;
use mortise_sdk::{Context, Memory};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Open(u8, Overdraft),
    Transfer {
        debit: u8,
        credit: u8,
        amount: i64,
        key: Option<u8>,
        open_missing: bool,
    },
    /// Voids the n-th command.
    Void(u64),
    Close(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let account = || 0u8..6;
    let overdraft =
        prop_oneof![Just(Overdraft::None), (0u64..50).prop_map(Overdraft::Limit), Just(Overdraft::Unlimited)];
    let amount = prop_oneof![
        8 => 1i64..60,
        1 => Just(i64::MAX),
        1 => Just(i64::MAX - 1),
        1 => -1i64..=0,
    ];
    let key = prop::option::weighted(0.3, 0u8..4);
    prop_oneof![
        3 => (account(), overdraft).prop_map(|(account, overdraft)| Step::Open(account, overdraft)),
        9 => (account(), account(), amount, key, any::<bool>()).prop_map(
            |(debit, credit, amount, key, open_missing)| Step::Transfer { debit, credit, amount, key, open_missing }
        ),
        3 => (1u64..60).prop_map(Step::Void),
        1 => account().prop_map(Step::Close),
    ]
}

fn name(account: u8) -> String {
    format!("account {account}")
}

fn command(step: &Step) -> Command {
    match step.clone() {
        Step::Open(account, overdraft) => Command::Open(Open { account: name(account), overdraft }),
        Step::Transfer { debit, credit, amount, key, open_missing } => Command::Transfer(Transfer {
            debit: name(debit),
            credit: name(credit),
            amount,
            key: key.map(|key| key.to_string()),
            memo: String::new(),
            open_missing: open_missing.then_some(Overdraft::Unlimited),
        }),
        Step::Void(transfer) => Command::Void(Void { transfer, memo: String::new() }),
        Step::Close(account) => Command::Close(Close { account: name(account) }),
    }
}

#[derive(Clone, Debug)]
struct Account {
    balance: i128,
    overdraft: Overdraft,
    closed: bool,
    history: Vec<(u64, i128)>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    accounts: BTreeMap<u8, Account>,
    /// debit, credit, amount; whether it is a void, whether it was voided.
    transfers: BTreeMap<u64, (u8, u8, i64, bool, bool)>,
    keys: BTreeMap<u8, (u64, u8, u8, i64)>,
}

impl Model {
    fn apply(&mut self, id: u64, step: &Step) -> Result<(), &'static str> {
        let before = self.clone();
        let result = self.try_apply(id, step);
        if result.is_err() {
            *self = before;
        }
        result
    }

    fn try_apply(&mut self, id: u64, step: &Step) -> Result<(), &'static str> {
        match *step {
            Step::Open(account, overdraft) => {
                if self.accounts.contains_key(&account) {
                    return Err("account_exists");
                }
                self.open(account, overdraft);
            }
            Step::Transfer { debit, credit, .. } if debit == credit => return Err("same_account"),
            Step::Transfer { amount, .. } if amount <= 0 => return Err("bad_amount"),
            Step::Transfer { debit, credit, amount, key, open_missing } => {
                if let Some(first) = key.and_then(|key| self.keys.get(&key)) {
                    let same = (first.1, first.2, first.3) == (debit, credit, amount);
                    return if same { Ok(()) } else { Err("key_reused") };
                }
                for account in [debit, credit] {
                    if !self.accounts.contains_key(&account) {
                        if !open_missing {
                            return Err("unknown_account");
                        }
                        self.open(account, Overdraft::Unlimited);
                    }
                }
                if let Some(key) = key {
                    self.keys.insert(key, (id, debit, credit, amount));
                }
                self.post(id, debit, credit, amount, false)?;
            }
            Step::Void(target) => {
                let transfer = self.transfers.get_mut(&target).ok_or("unknown_transfer")?;
                let (debit, credit, amount, is_void, voided) = *transfer;
                if voided {
                    return Err("already_voided");
                }
                if is_void {
                    return Err("not_voidable");
                }
                transfer.4 = true;
                self.post(id, credit, debit, amount, true)?;
            }
            Step::Close(account) => {
                let account = self.accounts.get_mut(&account).ok_or("unknown_account")?;
                if account.closed {
                    return Err("account_closed");
                }
                if account.balance != 0 {
                    return Err("not_empty");
                }
                account.closed = true;
            }
        }
        Ok(())
    }

    fn open(&mut self, account: u8, overdraft: Overdraft) {
        let new = Account { balance: 0, overdraft, closed: false, history: Vec::new() };
        self.accounts.insert(account, new);
    }

    fn post(
        &mut self,
        id: u64,
        debit: u8,
        credit: u8,
        amount: i64,
        is_void: bool,
    ) -> Result<(), &'static str> {
        for (account, change) in [(debit, -i128::from(amount)), (credit, i128::from(amount))] {
            let account = self.accounts.get_mut(&account).ok_or("unknown_account")?;
            let balance = account.balance + change;
            let floor = match account.overdraft {
                Overdraft::None => 0,
                Overdraft::Limit(limit) => -i128::from(limit),
                Overdraft::Unlimited => i128::MIN,
            };
            if account.closed {
                return Err("account_closed");
            }
            if i64::try_from(balance).is_err() {
                return Err("overflow");
            }
            if change < 0 && balance < floor {
                return Err("insufficient_funds");
            }
            account.balance = balance;
            account.history.push((id, change));
        }
        self.transfers.insert(id, (debit, credit, amount, is_void, false));
        Ok(())
    }
}

fn query(state: &Memory, request: Request) -> Response {
    state.query::<Ledger>(&Context::default(), request).unwrap()
}

/// The whole history of an account, page by page.
fn history(state: &Memory, account: u8, order: Order, limit: usize) -> Vec<(u64, i128)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let request = Request::History { account: name(account), order, after, limit };
        let Response::History { entries, next } = query(state, request) else { panic!("no history") };
        assert!(entries.len() <= limit);
        all.extend(entries.iter().map(|entry| (entry.transfer, i128::from(entry.change))));
        match next {
            Some(_) => after = next,
            None => return all,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_books_are_those_of_the_model_and_add_up_to_zero(steps in prop::collection::vec(step(), 1..60)) {
        let (mut state, mut model) = (Memory::new(), Model::default());
        for (number, step) in steps.iter().enumerate() {
            let context = Context { sequence: number as u64 + 1, time_ms: 1000, principal: None };
            let expected = model.apply(context.sequence, step);
            let got = state.apply::<Ledger>(&context, command(step));
            prop_assert_eq!(got.map(|_| ()).map_err(|rejection| rejection.code), expected, "{:?}", step);
        }
        let Response::Totals(totals) = query(&state, Request::Totals { after: None }) else { panic!("no totals") };
        prop_assert_eq!((totals.sum, totals.positive + totals.negative), (0, 0));
        prop_assert_eq!(totals.accounts, model.accounts.len() as u64);
        for (number, account) in &model.accounts {
            let request = Request::Account { account: name(*number) };
            let Response::Account(info) = query(&state, request) else { panic!("no account") };
            prop_assert_eq!(i128::from(info.balance), account.balance);
            prop_assert_eq!((info.closed, info.overdraft), (account.closed, account.overdraft));
            prop_assert_eq!(info.transfers, account.history.len() as u64);
            for limit in [1, 2, 100] {
                let mut expected = account.history.clone();
                prop_assert_eq!(&history(&state, *number, Order::Oldest, limit), &expected);
                expected.reverse();
                prop_assert_eq!(&history(&state, *number, Order::Newest, limit), &expected);
            }
        }
    }
}
