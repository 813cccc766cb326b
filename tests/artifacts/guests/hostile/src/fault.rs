//! Every way to misbehave, by name.

use crate::bindings::Rejection;
use crate::bindings::mortise::storage::log::{Level, write};
use crate::bindings::mortise::storage::state::{Direction, KeyRange, Page, Transaction, View};
use crate::bindings::mortise::storage::types::Kind;
use std::hint::black_box;

pub(crate) type Reply = Result<Vec<u8>, Rejection>;

/// What the present call was lent.
pub(crate) enum Host<'a> {
    Nothing,
    View(&'a View),
    Transaction(&'a Transaction),
}

impl Host<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Nothing => None,
            Self::View(view) => view.get(key),
            Self::Transaction(tx) => tx.get(key),
        }
    }

    fn scan(&self, start: Vec<u8>, bytes_max: u32) -> Page {
        let range = KeyRange { start, end: None };
        match self {
            Self::Nothing => Page { pairs: Vec::new(), next: None },
            Self::View(view) => view.scan(&range, Direction::Ascending, bytes_max),
            Self::Transaction(tx) => tx.scan(&range, Direction::Ascending, bytes_max),
        }
    }

    fn transaction(&self) -> Result<&Transaction, Rejection> {
        match self {
            Self::Transaction(tx) => Ok(tx),
            _ => Err(rejection("read_only", "this fault needs a transaction")),
        }
    }
}

/// Does what `command` names. A number after the name, where one is meant, replaces the default.
pub(crate) fn misbehave(command: &str, host: &Host<'_>) -> Reply {
    let mut words = command.split_ascii_whitespace();
    let fault = words.next().unwrap_or_default();
    let argument = words.next();
    let number = |default: usize| argument.and_then(|word| word.parse().ok()).unwrap_or(default);
    match fault {
        // Behaves.
        "ok" => {}
        "put" => {
            let key = argument.unwrap_or("key").as_bytes();
            host.transaction()?.put(key, words.next().unwrap_or("value").as_bytes());
        }
        "get" => return Ok(host.get(argument.unwrap_or("key").as_bytes()).unwrap_or_default()),
        "due" => host.transaction()?.next_due(Some(number(0) as u64)),
        // Refuses, after a write that must vanish.
        "reject" => {
            host.transaction()?.put(b"rejected", b"must not stay");
            return Err(rejection("refused", "rejected on demand"));
        }
        "giant-rejection" => return Err(rejection("giant", &"x".repeat(number(16 << 20)))),
        // Traps, where it can after a write that must vanish.
        "trap" => {
            if let Host::Transaction(tx) = host {
                tx.put(b"trapped", b"must not stay");
            }
            std::process::abort();
        }
        // Uses up fuel, memory, stack.
        "loop" => loop {
            black_box(());
        },
        "eat-memory" => loop {
            std::mem::forget(black_box(vec![0xAA_u8; 1 << 20]));
        },
        "overflow-stack" => return Ok(vec![recurse(1)]),
        "recurse" => return Ok(descend(number(100_000_000) as u64).to_string().into_bytes()),
        // Takes more than the host gives.
        "flood-host" => loop {
            black_box(host.get(b"key"));
        },
        "flood-puts" => {
            let tx = host.transaction()?;
            for n in 0..u64::MAX {
                tx.put(&n.to_be_bytes(), &[0; 1024]);
            }
        }
        "log-flood" => (0..number(10_000)).for_each(|_| write(Level::Info, &"flood ".repeat(170))),
        "scan-all" => return Ok(scan_all(host).to_string().into_bytes()),
        "scan-forever" => loop {
            black_box(host.scan(Vec::new(), u32::MAX));
        },
        "put-big" => host.transaction()?.put(b"big", &vec![0xBB; number(32 << 20)]),
        "put-big-key" => host.transaction()?.put(&vec![0xBB; number(1 << 20)], b"value"),
        "put-empty-key" => host.transaction()?.put(b"", b"value"),
        "get-many-big" => {
            black_box(host.transaction()?.get_many(&vec![b"key".to_vec(); number(1 << 20)]));
        }
        "reply" => return Ok(vec![0xCC; number(1024)]),
        "reply-gigabyte" => return Ok(vec![0xCC; 1 << 30]),
        _ => return Err(rejection("unknown_fault", &format!("no such fault: {fault}"))),
    }
    Ok(b"done".to_vec())
}

/// Calls itself `depth` times and keeps nothing in memory: this meets the host's limit of call depth, not the end of
/// the guest's own stack. The two operations together cannot be turned into a loop.
fn descend(depth: u64) -> u64 {
    if depth == 0 { 1 } else { descend(depth - 1).wrapping_mul(depth) ^ depth }
}

/// Fills the guest's own stack: calls itself for ever, with locals in memory. The compiler cannot know, nor make a
/// loop of it.
fn recurse(depth: u64) -> u8 {
    let frame = black_box([depth as u8; 64]);
    if black_box(false) {
        return frame[0];
    }
    recurse(black_box(depth + 1)).wrapping_add(frame[depth as usize % 64])
}

/// How many bytes all pairs have, in pages as large as the host gives.
fn scan_all(host: &Host<'_>) -> usize {
    let mut bytes = 0;
    let mut page = host.scan(Vec::new(), u32::MAX);
    loop {
        bytes += page.pairs.len();
        page = match page.next {
            Some(next) => host.scan(next, u32::MAX),
            None => return bytes,
        };
    }
}

pub(crate) fn rejection(code: &str, message: &str) -> Rejection {
    Rejection { kind: Kind::Invalid, code: code.to_string(), message: message.to_string() }
}
