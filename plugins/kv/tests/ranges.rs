//! Ranges in both directions, in the compiled plugin.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use mortise_commands::kv::{KeyRange, Range, RangeResponse, Response, response};
use mortise_testkit::{Outcome, Tenant};
use prost::Message;
use support::*;

/// A tenant with the keys 0 to `count`, big endian, with values of `value_bytes`.
fn filled(count: u32, value_bytes: usize) -> Tenant {
    let mut tenant = Tenant::build("mortise-plugin-kv").unwrap();
    let puts: Vec<_> =
        (0..count).map(|key| put(key.to_be_bytes(), vec![key as u8; value_bytes]).encode_to_vec()).collect();
    for entry in puts.chunks(256) {
        let commands: Vec<&[u8]> = entry.iter().map(Vec::as_slice).collect();
        assert!(tenant.apply_entry(&commands).iter().all(Outcome::took_effect));
    }
    tenant
}

fn ask(tenant: &mut Tenant, request: &Range) -> RangeResponse {
    let Outcome::Applied(bytes) = tenant.query(&range(request.clone()).encode_to_vec()) else {
        panic!("{request:?} failed")
    };
    match Response::decode(bytes).unwrap().result {
        Some(response::Result::Range(range)) => range,
        other => panic!("{other:?}"),
    }
}

/// Follows `more` to the end; the numbers of all keys, and how many responses it took.
fn walk(tenant: &mut Tenant, mut request: Range) -> (Vec<u32>, usize) {
    let (mut keys, mut responses) = (Vec::new(), 0);
    loop {
        let response = ask(tenant, &request);
        responses += 1;
        assert_eq!(response.count, response.records.len() as u64);
        keys.extend(response.records.iter().map(|record| {
            assert!(request.keys_only || record.value.iter().all(|byte| *byte == record.key[3]));
            u32::from_be_bytes(record.key.as_slice().try_into().unwrap())
        }));
        match response.more {
            true => request.after = response.next,
            false => return (keys, responses),
        }
    }
}

fn number(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

#[test]
fn every_limit_finds_every_key_once_in_both_directions() {
    let mut tenant = filled(100, 100);
    for limit in [1, 2, 33, 36, 37, 99, 100, 101, 0] {
        for reverse in [false, true] {
            let (keys, responses) = walk(&mut tenant, Range { limit, reverse, ..Range::default() });
            let mut expected: Vec<u32> = (0..100).collect();
            if reverse {
                expected.reverse();
            }
            assert_eq!(keys, expected, "limit {limit}, reverse {reverse}");
            // No empty response at the end: `more` is said only where there is more.
            assert_eq!(responses, if limit == 0 { 1 } else { 100usize.div_ceil(limit as usize) });
        }
    }
}

#[test]
fn a_range_keeps_to_its_bounds() {
    let mut tenant = filled(1000, 10);
    let keys = KeyRange { start: number(10), end: number(20), ..KeyRange::default() };
    for (limit, reverse) in [(3, false), (3, true), (0, false)] {
        let request = Range { keys: Some(keys.clone()), limit, reverse, ..Range::default() };
        let (mut found, _) = walk(&mut tenant, request);
        found.sort_unstable();
        assert_eq!(found, (10..20).collect::<Vec<_>>());
    }
    let within = KeyRange { prefix: vec![0, 0, 1], start: number(300), end: vec![] };
    let (found, _) = walk(&mut tenant, Range { keys: Some(within), limit: 7, ..Range::default() });
    assert_eq!(found, (300..512).collect::<Vec<_>>());
    let nothing = KeyRange { start: number(20), end: number(10), ..KeyRange::default() };
    assert_eq!(
        ask(&mut tenant, &Range { keys: Some(nothing), ..Range::default() }),
        RangeResponse::default()
    );
}

#[test]
fn keys_alone_and_counts_alone_are_answered() {
    let mut tenant = filled(3000, 100);
    let keys = ask(&mut tenant, &Range { keys_only: true, limit: 5, ..Range::default() });
    assert!(keys.records.iter().all(|record| record.value.is_empty() && record.version > 0));
    assert!(keys.more);
    let count = ask(&mut tenant, &Range { count_only: true, ..Range::default() });
    assert_eq!((count.count, count.records.len(), count.more), (3000, 0, false));
    let some = ask(&mut tenant, &Range { count_only: true, limit: 10, ..Range::default() });
    assert_eq!((some.count, some.more, some.next), (10, true, number(9)));
    assert_eq!(ask(&mut tenant, &Range::default()).count, 1000);
}

#[test]
fn a_response_ends_at_a_megabyte() {
    let mut tenant = filled(10, 300 << 10);
    for reverse in [false, true] {
        let (keys, responses) = walk(&mut tenant, Range { reverse, ..Range::default() });
        assert_eq!((keys.len(), responses), (10, 4));
    }
    // One value that is larger still comes.
    let mut tenant = filled(2, 2 << 20);
    assert_eq!(walk(&mut tenant, Range::default()).1, 2);
}

#[test]
fn a_count_that_looks_at_much_goes_on_in_a_second_request() {
    let mut tenant = filled(40, 1 << 20);
    let (mut request, mut count, mut responses) = (Range { count_only: true, ..Range::default() }, 0, 0);
    loop {
        let response = ask(&mut tenant, &request);
        (count, responses) = (count + response.count, responses + 1);
        if !response.more {
            break;
        }
        request.after = response.next;
    }
    assert_eq!((count, responses), (40, 3));
}

#[test]
fn dead_keys_are_left_out() {
    let mut tenant = filled(10, 1);
    for key in [0u32, 5, 9] {
        assert!(tenant.apply(&put_for(number(key), "x", 10).encode_to_vec()).took_effect());
    }
    tenant.after(10);
    for reverse in [false, true] {
        let (mut keys, _) = walk(&mut tenant, Range { limit: 2, reverse, ..Range::default() });
        keys.sort_unstable();
        assert_eq!(keys, [1, 2, 3, 4, 6, 7, 8]);
    }
    assert_eq!(ask(&mut tenant, &Range { count_only: true, ..Range::default() }).count, 7);
}
