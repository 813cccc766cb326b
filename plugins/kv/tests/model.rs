//! Random commands against a model: a plain map.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;

use mortise_commands::kv::condition::Expected;
use mortise_commands::kv::{Command, Range, RangeResponse, Record, response};
use mortise_plugin_kv::Kv;
use mortise_sdk::{Context, Memory};
use proptest::prelude::*;
use support::*;

/// One step of a story.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, u64),
    PutIfAbsent(u8, u8, u64),
    SwapValue(u8, u8, u8),
    /// Expects the version that the model knows (true), or another.
    SwapVersion(u8, bool, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    /// Two puts and a delete, on the condition that a key is there (or not).
    Batch(u8, bool, [u8; 3]),
    Wait(u64),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0u8..12;
    let ttl = || prop_oneof![Just(0u64), 1u64..40];
    prop_oneof![
        4 => (key(), 0u8..4, ttl()).prop_map(|(k, v, t)| Step::Put(k, v, t)),
        2 => (key(), 0u8..4, ttl()).prop_map(|(k, v, t)| Step::PutIfAbsent(k, v, t)),
        2 => (key(), 0u8..4, 0u8..4).prop_map(|(k, e, v)| Step::SwapValue(k, e, v)),
        2 => (key(), any::<bool>(), 0u8..4).prop_map(|(k, e, v)| Step::SwapVersion(k, e, v)),
        2 => key().prop_map(Step::Delete),
        1 => (key(), key()).prop_map(|(a, b)| Step::DeleteRange(a, b)),
        2 => (key(), any::<bool>(), [key(), key(), key()]).prop_map(|(k, a, ks)| Step::Batch(k, a, ks)),
        3 => (1u64..30).prop_map(Step::Wait),
        2 => Just(Step::Expire),
    ]
}

#[derive(Default)]
struct Model {
    records: BTreeMap<Vec<u8>, Record>,
    now: u64,
}

impl Model {
    fn live(&self, key: u8) -> Option<&Record> {
        let is_live = |record: &&Record| record.expires_ms == 0 || self.now < record.expires_ms;
        self.records.get([key].as_slice()).filter(is_live)
    }

    fn put(&mut self, version: u64, key: u8, value: u8, ttl: u64) {
        let expires_ms = if ttl == 0 { 0 } else { self.now + ttl };
        let record = Record { key: vec![key], value: vec![value], version, expires_ms };
        self.records.insert(vec![key], record);
    }

    fn all(&self) -> Vec<Record> {
        (0..12).filter_map(|key| self.live(key).cloned()).collect()
    }

    /// Does what the command should do, and says what it answers: how many keys went, or a code.
    fn apply(&mut self, version: u64, step: &Step) -> (Command, Result<u64, &'static str>) {
        match *step {
            Step::Put(key, new, ttl) => {
                self.put(version, key, new, ttl);
                (put_for([key], [new], ttl), Ok(0))
            }
            Step::PutIfAbsent(key, new, ttl) => {
                let command = put_if_absent([key], [new], ttl);
                if self.live(key).is_some() {
                    return (command, Err("already_exists"));
                }
                self.put(version, key, new, ttl);
                (command, Ok(0))
            }
            Step::SwapValue(key, expected, new) => {
                let holds = self.live(key).is_some_and(|record| record.value == [expected]);
                self.swap(version, key, new, value([expected]), holds)
            }
            Step::SwapVersion(key, right, new) => {
                let known = self.live(key).map_or(0, |record| record.version);
                let expected = Expected::Version(if right { known } else { known + 1 });
                let holds = right && self.live(key).is_some();
                self.swap(version, key, new, expected, holds)
            }
            Step::Delete(key) => {
                let was_there = self.live(key).is_some();
                self.records.remove([key].as_slice());
                (delete([key]), Ok(was_there.into()))
            }
            Step::DeleteRange(start, end) => {
                let gone: Vec<u8> = (start..end).filter(|key| self.live(*key).is_some()).collect();
                self.records.retain(|key, _| !(start..end).contains(&key[0]));
                (delete_range(between([start], [end]), true), Ok(gone.len() as u64))
            }
            Step::Batch(key, absent, [one, two, three]) => {
                let holds = self.live(key).is_none() == absent;
                let conditions = vec![condition([key], Expected::Absent(absent))];
                let command =
                    batch(conditions, vec![put([one], [7]), put_for([two], [8], 9), delete([three])]);
                if !holds {
                    return (command, Err("compare_failed"));
                }
                self.put(version, one, 7, 0);
                self.put(version, two, 8, 9);
                let was_there = self.live(three).is_some();
                self.records.remove([three].as_slice());
                (command, Ok(was_there.into()))
            }
            Step::Wait(_) | Step::Expire => unreachable!("no command"),
        }
    }

    fn swap(
        &mut self,
        version: u64,
        key: u8,
        new: u8,
        expected: Expected,
        holds: bool,
    ) -> (Command, Result<u64, &'static str>) {
        if holds {
            self.put(version, key, new, 0);
        }
        (swap([key], expected, [new]), if holds { Ok(0) } else { Err("compare_failed") })
    }
}

fn listing(state: &Memory, now: u64, reverse: bool) -> RangeResponse {
    let context = Context { time_ms: now, ..Context::default() };
    let response = state.query::<Kv>(&context, range(Range { reverse, ..Range::default() })).unwrap();
    match response.result {
        Some(response::Result::Range(range)) => range,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_plugin_does_what_a_plain_map_does(steps in prop::collection::vec(step(), 1..60)) {
        let (mut state, mut model) = (Memory::new(), Model { now: 1000, ..Model::default() });
        for (number, step) in steps.iter().enumerate() {
            let version = number as u64 + 1;
            let context = Context { sequence: version, time_ms: model.now, principal: None };
            match step {
                Step::Wait(time) => model.now += time,
                Step::Expire => { state.expire::<Kv>(&context); }
                step => {
                    let (command, expected) = model.apply(version, step);
                    match (state.apply::<Kv>(&context, command), expected) {
                        (Ok(reply), Ok(deleted)) => prop_assert_eq!((reply.version, reply.deleted), (version, deleted)),
                        (Err(rejection), Err(code)) => prop_assert_eq!(rejection.code, code),
                        (got, expected) => prop_assert!(false, "{:?}: {:?}, not {:?}", step, got, expected),
                    }
                }
            }
            let mut all = model.all();
            prop_assert_eq!(&listing(&state, model.now, false).records, &all);
            all.reverse();
            prop_assert_eq!(&listing(&state, model.now, true).records, &all);
        }
        // In the end the due index is empty, and what is stored is what lives.
        let end = Context { sequence: 99, time_ms: model.now + 1000, principal: None };
        while state.expire::<Kv>(&end) {}
        model.now = end.time_ms;
        prop_assert_eq!(state.due(), None);
        prop_assert_eq!(state.pairs().len(), model.all().len());
    }
}
