//! The compiled plugin's commands, run as a node runs them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use mortise_testkit::{Outcome, RejectionKind, Tenant, conformance};
use serde_json::{Value, json};

fn tenant() -> Tenant {
    Tenant::build("mortise-plugin-ledger").unwrap()
}

/// A tenant with the accounts ann (may owe 500), bob (may owe nothing) and bank (may owe anything).
fn opened() -> Tenant {
    let mut tenant = tenant();
    tenant.apply_json(&json!({"open": {"account": "ann", "overdraft": {"limit": 500}}})).unwrap();
    tenant.apply_json(&json!({"open": {"account": "bob"}})).unwrap();
    tenant.apply_json(&json!({"open": {"account": "bank", "overdraft": "unlimited"}})).unwrap();
    tenant
}

fn transfer(debit: &str, credit: &str, amount: i64) -> Value {
    json!({"transfer": {"debit": debit, "credit": credit, "amount": amount}})
}

fn balance(tenant: &mut Tenant, account: &str) -> i64 {
    let response = tenant.query_json(&json!({"balance": {"account": account}})).unwrap();
    response["balance"]["balance"].as_i64().unwrap()
}

fn totals(tenant: &mut Tenant) -> Value {
    tenant.query_json(&json!({"totals": {}})).unwrap()["totals"].clone()
}

fn refused(tenant: &mut Tenant, command: &Value) -> (RejectionKind, String) {
    let rejection = tenant.apply_rejected(command.to_string().as_bytes());
    (rejection.kind, rejection.code)
}

#[test]
fn an_amount_moves_from_one_account_to_the_other() {
    let mut tenant = opened();
    let reply = tenant.apply_json(&transfer("ann", "bob", 20)).unwrap();
    assert_eq!(reply, json!({"transfer": {"transfer": 4, "debit_balance": -20, "credit_balance": 20}}));
    assert_eq!((balance(&mut tenant, "ann"), balance(&mut tenant, "bob")), (-20, 20));
    let sums = json!({"accounts": 3, "positive": 20, "negative": -20, "sum": 0, "next": null});
    assert_eq!(totals(&mut tenant), sums);
    tenant.assert_snapshot_roundtrip();
}

#[test]
fn overdraft_policies_hold() {
    let mut tenant = opened();
    let poor = (RejectionKind::Conflict, "insufficient_funds".to_owned());
    assert_eq!(refused(&mut tenant, &transfer("bob", "ann", 1)), poor);
    assert_eq!(refused(&mut tenant, &transfer("ann", "bob", 501)), poor);
    tenant.apply_json(&transfer("ann", "bob", 500)).unwrap();
    assert_eq!(refused(&mut tenant, &transfer("ann", "bob", 1)), poor);
    tenant.apply_json(&transfer("bank", "bob", i64::MAX - 500)).unwrap();
    assert_eq!(balance(&mut tenant, "bob"), i64::MAX);
}

#[test]
fn no_balance_leaves_64_bits() {
    let mut tenant = opened();
    tenant.apply_json(&json!({"open": {"account": "other", "overdraft": "unlimited"}})).unwrap();
    tenant.apply_json(&transfer("bank", "bob", i64::MAX)).unwrap();
    let overflow = (RejectionKind::Exhausted, "overflow".to_owned());
    assert_eq!(refused(&mut tenant, &transfer("ann", "bob", 1)), overflow);
    assert_eq!(refused(&mut tenant, &transfer("bank", "other", i64::MAX)), overflow);
    tenant.apply_json(&transfer("bank", "other", 1)).unwrap();
    assert_eq!(balance(&mut tenant, "bank"), i64::MIN);
    assert_eq!(refused(&mut tenant, &transfer("bank", "other", 1)), overflow);
    assert_eq!(totals(&mut tenant)["sum"], json!(0));
}

#[test]
fn a_repeated_key_answers_as_the_first_time_and_moves_nothing() {
    let mut tenant = opened();
    let keyed = |amount: i64, memo: &str| json!({"transfer": {"debit": "ann", "credit": "bob", "amount": amount, "key": "k1", "memo": memo}});
    let first = tenant.apply_json(&keyed(20, "lunch")).unwrap();
    tenant.apply_json(&transfer("ann", "bob", 1)).unwrap();
    assert_eq!(tenant.apply_json(&keyed(20, "lunch")).unwrap(), first);
    assert_eq!(balance(&mut tenant, "bob"), 21);
    let reused = (RejectionKind::Conflict, "key_reused".to_owned());
    assert_eq!(refused(&mut tenant, &keyed(21, "lunch")), reused);
    assert_eq!(refused(&mut tenant, &keyed(20, "dinner")), reused);
    let found = tenant.query_json(&json!({"transfer_by_key": {"key": "k1"}})).unwrap();
    assert_eq!(found["transfer"]["id"], json!(4));
}

#[test]
fn a_refused_transfer_leaves_its_key_free() {
    let mut tenant = opened();
    let keyed = json!({"transfer": {"debit": "bob", "credit": "ann", "amount": 5, "key": "k1"}});
    assert_eq!(refused(&mut tenant, &keyed).1, "insufficient_funds");
    tenant.apply_json(&transfer("bank", "bob", 5)).unwrap();
    tenant.apply_json(&keyed).unwrap();
}

#[test]
fn a_transfer_is_voided_once() {
    let mut tenant = opened();
    tenant.at_time(2_000_000).as_principal("clerk").apply_json(&transfer("ann", "bob", 20)).unwrap();
    let void = json!({"void": {"transfer": 4, "memo": "wrong account"}});
    let reply = tenant.apply_json(&void).unwrap();
    assert_eq!(reply, json!({"void": {"transfer": 5, "debit_balance": 0, "credit_balance": 0}}));
    assert_eq!(refused(&mut tenant, &void), (RejectionKind::Conflict, "already_voided".into()));
    let void_of_void = json!({"void": {"transfer": 5}});
    assert_eq!(refused(&mut tenant, &void_of_void), (RejectionKind::Conflict, "not_voidable".into()));
    let record = tenant.query_json(&json!({"transfer": {"id": 4}})).unwrap();
    let expected = json!({"transfer": {
        "id": 4, "debit": "ann", "credit": "bob", "amount": 20, "by": "clerk", "time_ms": 2_000_000,
        "debit_balance": -20, "credit_balance": 20, "voided_by": 5,
    }});
    assert_eq!(record, expected);
    assert_eq!(tenant.query_json(&json!({"transfer": {"id": 5}})).unwrap()["transfer"]["voids"], json!(4));
}

#[test]
fn what_was_spent_cannot_be_voided() {
    let mut tenant = opened();
    tenant.apply_json(&transfer("ann", "bob", 20)).unwrap();
    tenant.apply_json(&transfer("bob", "bank", 20)).unwrap();
    assert_eq!(refused(&mut tenant, &json!({"void": {"transfer": 4}})).1, "insufficient_funds");
}

#[test]
fn a_closed_account_takes_part_in_nothing() {
    let mut tenant = opened();
    tenant.apply_json(&transfer("bank", "bob", 1)).unwrap();
    let close = json!({"close": {"account": "bob"}});
    assert_eq!(refused(&mut tenant, &close), (RejectionKind::Conflict, "not_empty".into()));
    tenant.apply_json(&transfer("bob", "bank", 1)).unwrap();
    assert_eq!(tenant.apply_json(&close).unwrap()["close"]["closed"], json!(true));
    let closed = (RejectionKind::Conflict, "account_closed".to_owned());
    assert_eq!(refused(&mut tenant, &transfer("bank", "bob", 1)), closed);
    assert_eq!(refused(&mut tenant, &close), closed);
    let reopen = json!({"open": {"account": "bob"}});
    assert_eq!(refused(&mut tenant, &reopen), (RejectionKind::Conflict, "account_exists".into()));
}

#[test]
fn missing_accounts_are_opened_where_the_transfer_says_so() {
    let mut tenant = tenant();
    let flight = |origin: &str, dest: &str| json!({"transfer": {"debit": origin, "credit": dest, "amount": 1, "open_missing": "unlimited"}});
    for (origin, dest) in [("EWR", "ORD"), ("JFK", "LAX"), ("EWR", "LAX"), ("LAX", "EWR")] {
        tenant.apply_json(&flight(origin, dest)).unwrap();
    }
    for (airport, planes) in [("EWR", -1), ("JFK", -1), ("LAX", 1), ("ORD", 1)] {
        assert_eq!(balance(&mut tenant, airport), planes, "{airport}");
    }
    assert_eq!(totals(&mut tenant)["sum"], json!(0));
    let limited =
        json!({"transfer": {"debit": "a", "credit": "b", "amount": 3, "open_missing": {"limit": 2}}});
    assert_eq!(refused(&mut tenant, &limited).1, "insufficient_funds");
}

#[test]
fn accounts_come_in_pages_by_name() {
    let mut tenant = tenant();
    for number in 0..25 {
        tenant
            .apply_json(
                &json!({"open": {"account": format!("{}{number:02}", if number < 5 { "x" } else { "y" })}}),
            )
            .unwrap();
    }
    let (mut names, mut after) = (Vec::new(), Value::Null);
    loop {
        let page =
            tenant.query_json(&json!({"accounts": {"prefix": "y", "after": after, "limit": 7}})).unwrap();
        let page = &page["accounts"];
        names.extend(page["accounts"].as_array().unwrap().iter().map(|account| account["account"].clone()));
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    let expected: Vec<Value> = (5..25).map(|number| json!(format!("y{number:02}"))).collect();
    assert_eq!(names, expected);
}

#[test]
fn a_history_tells_what_moved_an_account() {
    let mut tenant = opened();
    tenant.apply_json(&transfer("ann", "bob", 20)).unwrap();
    tenant
        .apply_json(&json!({"transfer": {"debit": "bob", "credit": "bank", "amount": 5, "memo": "fee"}}))
        .unwrap();
    tenant.apply_json(&json!({"void": {"transfer": 5}})).unwrap();
    let history = tenant.query_json(&json!({"history": {"account": "bob", "limit": 2}})).unwrap();
    let time_ms = tenant.time_ms();
    let entry = |transfer: u64, counterparty: &str, change: i64, balance: i64| json!({"transfer": transfer, "time_ms": time_ms, "counterparty": counterparty, "change": change, "balance": balance});
    let mut fee = entry(5, "bank", -5, 15);
    fee["memo"] = json!("fee");
    assert_eq!(history, json!({"history": {"entries": [entry(6, "bank", 5, 20), fee], "next": 5}}));
    let rest = json!({"history": {"account": "bob", "limit": 2, "after": 5}});
    let expected = json!({"history": {"entries": [entry(4, "ann", 20, 20)], "next": null}});
    assert_eq!(tenant.query_json(&rest).unwrap(), expected);
    // Names that begin alike have histories of their own.
    tenant.apply_json(&json!({"open": {"account": "bo"}})).unwrap();
    let other = tenant.query_json(&json!({"history": {"account": "bo"}})).unwrap();
    assert_eq!(other["history"]["entries"], json!([]));
}

#[test]
fn every_other_refusal_has_its_code() {
    let mut tenant = opened();
    let long = "x".repeat(2000);
    let with = |field: &str, value: Value| {
        let mut command = transfer("ann", "bob", 1);
        command["transfer"][field] = value;
        command
    };
    let invalid = [
        ("bad_name", json!({"open": {"account": ""}})),
        ("bad_name", json!({"open": {"account": "a\u{0}"}})),
        ("bad_name", with("debit", json!(long))),
        ("bad_name", json!({"close": {"account": "\n"}})),
        ("same_account", with("debit", json!("bob"))),
        ("bad_amount", with("amount", json!(0))),
        ("bad_amount", with("amount", json!(i64::MIN))),
        ("bad_key", with("key", json!(""))),
        ("bad_key", with("key", json!(long))),
        ("memo_too_long", with("memo", json!(long))),
        ("memo_too_long", json!({"void": {"transfer": 1, "memo": long}})),
        ("malformed", with("amount", json!(9_223_372_036_854_775_808u64))),
        ("malformed", with("amount", json!(1.5))),
        ("malformed", with("amount", json!("1"))),
        ("malformed", with("ammount", json!(1))),
        ("malformed", json!({"pay": {}})),
        ("malformed", json!({"open": {"account": "x", "overdraft": {"limit": -1}}})),
        ("malformed", json!([])),
    ];
    for (code, command) in invalid {
        assert_eq!(refused(&mut tenant, &command), (RejectionKind::Invalid, code.into()), "{command}");
        assert!(tenant.validate(command.to_string().as_bytes()).is_err(), "{command} gets into the log");
    }
    let missing = [
        ("unknown_account", with("debit", json!("nobody"))),
        ("unknown_account", json!({"close": {"account": "nobody"}})),
        ("unknown_transfer", json!({"void": {"transfer": 99}})),
    ];
    for (code, command) in missing {
        assert_eq!(refused(&mut tenant, &command), (RejectionKind::Missing, code.into()), "{command}");
        assert_eq!(tenant.validate(command.to_string().as_bytes()), Ok(()), "an open may be on its way");
    }
    let requests = [
        ("unknown_account", json!({"balance": {"account": "nobody"}})),
        ("unknown_account", json!({"account": {"account": "nobody"}})),
        ("unknown_account", json!({"history": {"account": "nobody"}})),
        ("unknown_transfer", json!({"transfer": {"id": 1}})),
        ("unknown_key", json!({"transfer_by_key": {"key": "k"}})),
        ("bad_limit", json!({"accounts": {"limit": 0}})),
        ("bad_limit", json!({"history": {"account": "ann", "limit": 1001}})),
        ("malformed", json!({"balance": {}})),
    ];
    for (code, request) in requests {
        assert_eq!(tenant.query_json(&request).unwrap_err().code, code, "{request}");
    }
}

#[test]
fn totals_of_many_accounts_come_in_parts() {
    let mut tenant = tenant();
    let flights: Vec<_> = (0..10_050u32)
        .map(|n| {
            json!({"transfer": {"debit": "hub", "credit": format!("{n:05}"), "amount": 1, "open_missing": "unlimited"}})
                .to_string()
        })
        .collect();
    for entry in flights.chunks(512) {
        let commands: Vec<&[u8]> = entry.iter().map(|command| command.as_bytes()).collect();
        assert!(tenant.apply_entry(&commands).iter().all(Outcome::took_effect));
    }
    println!("fuel of one transfer: {}", tenant.last_fuel() / (10_050 % 512));
    let first = totals(&mut tenant);
    println!("fuel of totals over 10,000 accounts: {}", tenant.last_fuel());
    assert_eq!((first["accounts"].clone(), first["sum"].clone()), (json!(10_000), json!(10_000)));
    let rest = tenant.query_json(&json!({"totals": {"after": first["next"]}})).unwrap();
    assert_eq!(
        (rest["totals"]["accounts"].clone(), rest["totals"]["sum"].clone()),
        (json!(51), json!(-10_000))
    );
    assert!(rest["totals"]["next"].is_null());
}

#[test]
fn the_component_conforms() {
    let component = mortise_artifacts::bytes("mortise-plugin-ledger").unwrap();
    for seed in 1..=3 {
        let report = conformance(&component, seed).unwrap();
        assert_eq!((report.examples_applied, report.examples_rejected), (3, 0));
        assert!(report.garbage_rejected > 50, "{report:?}");
    }
}
