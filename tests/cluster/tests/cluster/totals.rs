//! What clients of a ledger saw can have happened one after the other: the books balance in every answer, and hold what was
//! acknowledged, once.
//!
//! The tenant executes nothing but transfers, so that a transfer's number is its place in the one order that can explain
//! the history; a read of all accounts shows how many transfers it saw, and so its place. When all are acknowledged, they
//! are gone through in that order: every balance that was ever answered has to come out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use mortise_client::Tenant;
use mortise_client::writer::Writer;
use serde_json::{Value, json};

const ACCOUNTS: u64 = 5;

/// Balances by account.
type Balances = HashMap<String, i64>;

/// A transfer that was acknowledged.
struct Transfer {
    debit: String,
    credit: String,
    amount: i64,
    /// What was answered: both balances just after it.
    balances: (i64, i64),
}

/// What was answered so far.
#[derive(Default)]
pub(crate) struct Books {
    transfers: BTreeMap<u64, Transfer>,
    /// Balances after so many transfers, as they were read.
    read: BTreeMap<u64, Vec<Balances>>,
    /// The newest place in any answer.
    newest: u64,
    problems: Vec<String>,
}

impl Books {
    /// How many transfers were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.transfers.len() as u64
    }

    fn check_time(&mut self, what: &str, place: u64, least: u64) {
        if place < least {
            self.problems.push(format!("{what} has place {place}, which was taken before it began"));
        }
        self.newest = self.newest.max(place);
    }

    fn transferred(&mut self, floor: u64, number: u64, transfer: Transfer) {
        self.check_time("a transfer", number, floor + 1);
        if self.transfers.insert(number, transfer).is_some() {
            self.problems.push(format!("number {number} was given to two transfers"));
        }
    }

    fn saw(&mut self, floor: u64, transfers: u64, balances: Balances) {
        self.check_time("a read", transfers, floor);
        let sum: i64 = balances.values().sum();
        if sum != 0 {
            self.problems.push(format!("after {transfers} transfers all balances together were {sum}"));
        }
        self.read.entry(transfers).or_default().push(balances);
    }

    /// What cannot be explained, now that every transfer that was begun is acknowledged.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        let mut balances = Balances::new();
        let mut done = 0;
        let check_reads = |done: u64, balances: &Balances, problems: &mut Vec<String>| {
            for read in self.read.get(&done).into_iter().flatten().filter(|read| *read != balances) {
                problems.push(format!("after {done} transfers {read:?} was read, it must be {balances:?}"));
            }
        };
        check_reads(0, &balances, &mut problems);
        for (number, transfer) in &self.transfers {
            done += 1;
            if *number != done {
                problems.push(format!("transfer {done} is missing, the next one is {number}"));
                break;
            }
            let debit = balances.entry(transfer.debit.clone()).or_default();
            *debit -= transfer.amount;
            let debit = *debit;
            let credit = balances.entry(transfer.credit.clone()).or_default();
            *credit += transfer.amount;
            if transfer.balances != (debit, *credit) {
                let (answered, is) = (transfer.balances, (debit, *credit));
                problems
                    .push(format!("transfer {number} answered the balances {answered:?}, they are {is:?}"));
            }
            check_reads(done, &balances, &mut problems);
        }
        if let Some((last, _)) = self.read.last_key_value().filter(|(last, _)| **last > done) {
            problems.push(format!("{last} transfers were read, {done} were acknowledged"));
        }
        problems
    }
}

/// The next operation of a client: every other one transfers.
pub(crate) async fn operate(
    tenant: &Tenant,
    writer: &Writer,
    books: &Mutex<Books>,
    client: u64,
    number: u64,
) {
    if !number.is_multiple_of(2) {
        return read(tenant, books).await;
    }
    let (debit, credit) = ((client + number) % ACCOUNTS, (client + number + 1 + number % 3) % ACCOUNTS);
    let (debit, credit) = (format!("account {debit}"), format!("account {credit}"));
    let amount = i64::try_from(1 + number % 97).unwrap();
    let command = json!({ "transfer": {
        "debit": debit, "credit": credit, "amount": amount, "open_missing": "unlimited",
    } });
    let floor = books.lock().unwrap().newest;
    let reply = writer.write(command.to_string()).await.unwrap();
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    let receipt = &reply["transfer"];
    let place = receipt["transfer"].as_u64().unwrap();
    let balance = |side: &str| receipt[side].as_i64().unwrap();
    let balances = (balance("debit_balance"), balance("credit_balance"));
    books.lock().unwrap().transferred(floor, place, Transfer { debit, credit, amount, balances });
}

/// Reads all accounts.
pub(crate) async fn read(tenant: &Tenant, books: &Mutex<Books>) {
    let floor = books.lock().unwrap().newest;
    let answer = tenant.query(json!({ "accounts": {} }).to_string()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.response).unwrap();
    let accounts = answer["accounts"]["accounts"].as_array().unwrap();
    let moved: u64 = accounts.iter().map(|account| account["transfers"].as_u64().unwrap()).sum();
    let balance = |account: &Value| {
        (account["account"].as_str().unwrap().to_owned(), account["balance"].as_i64().unwrap())
    };
    // Each moved two accounts.
    books.lock().unwrap().saw(floor, moved / 2, accounts.iter().map(balance).collect());
}

#[test]
fn books_that_do_not_balance_are_reported() {
    fn transfer(amount: i64, balances: (i64, i64)) -> Transfer {
        Transfer { debit: "a".into(), credit: "b".into(), amount, balances }
    }
    fn balances(a: i64, b: i64) -> Balances {
        Balances::from([("a".to_owned(), a), ("b".to_owned(), b)])
    }
    let sound = || {
        let mut books = Books::default();
        books.transferred(0, 1, transfer(5, (-5, 5)));
        books.saw(1, 1, balances(-5, 5));
        books.transferred(1, 2, transfer(1, (-6, 6)));
        books
    };
    assert!(sound().problems().is_empty(), "{:?}", sound().problems());
    type Wrong = (&'static str, fn(&mut Books));
    let wrongs: [Wrong; 6] = [
        ("all balances together", |books| books.saw(2, 2, balances(-6, 7))),
        ("must be", |books| books.saw(2, 2, balances(-5, 5))),
        ("before it began", |books| books.saw(2, 1, balances(-5, 5))),
        ("is missing", |books| books.transferred(2, 4, transfer(1, (-7, 7)))),
        ("they are", |books| books.transferred(2, 3, transfer(1, (-8, 8)))),
        ("were acknowledged", |books| books.saw(2, 3, balances(-7, 7))),
    ];
    for (problem, wrong) in wrongs {
        let mut books = sound();
        wrong(&mut books);
        let problems = books.problems();
        assert!(problems.iter().any(|found| found.contains(problem)), "{problem}: {problems:?}");
    }
}
