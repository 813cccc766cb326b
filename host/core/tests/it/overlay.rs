//! The overlay against a model: three plain maps, one for each level, each a whole state.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use mortise_core::layer::Layer;
use mortise_core::overlay::{Overlay, STEP_BYTES};
use mortise_core::state::{Direction, KeyRange, MemoryState, Pairs, StateError, StateReader};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::{DIRECTIONS, Write, fixed, key, range, value, write};
use crate::layer::{check_invariants, play};

#[derive(Clone, Debug)]
enum Step {
    Write(Write),
    Accept,
    Discard,
    Rebase,
    Scan(KeyRange),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => write().prop_map(Step::Write),
        3 => Just(Step::Accept),
        2 => Just(Step::Discard),
        1 => Just(Step::Rebase),
        6 => range().prop_map(Step::Scan),
    ]
}

/// The state as each level should show it, and what `next-due` was set to there.
#[derive(Clone, Default)]
struct Level {
    state: MemoryState,
    due: Option<Option<u64>>,
}

struct Model {
    base: MemoryState,
    entry: Level,
    command: Level,
}

impl Model {
    fn new(base: MemoryState) -> Self {
        let level = Level { state: base.clone(), due: None };
        Self { base, entry: level.clone(), command: level }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Due(due) => self.command.due = Some(*due),
            write => write.effect().into_iter().for_each(|effect| play(&mut self.command.state, effect)),
        }
    }
}

fn scanned(state: &dyn StateReader, range: &KeyRange, direction: Direction) -> Vec<(Bytes, Bytes)> {
    state.scan(range, direction).map(|pair| pair.expect("a state in memory does not fail")).collect()
}

fn check_scan(overlay: &Overlay, model: &Model, range: &KeyRange) {
    let mut pairs: Vec<_> = model.command.state.clone().into_iter().collect();
    pairs.retain(|(key, _)| range.contains(key));
    for direction in DIRECTIONS {
        assert_eq!(scanned(overlay, range, direction), pairs, "{direction:?} {range:?}");
        let bytes = Cell::new(0);
        let counted = overlay.scan_counted(range, direction, &bytes);
        let counted: Vec<_> = counted.map(|pair| pair.expect("a state in memory does not fail")).collect();
        assert_eq!(counted, pairs, "counted, {direction:?} {range:?}");
        assert!(bytes.get() >= pairs.len() as u64 * STEP_BYTES);
        pairs.reverse();
    }
}

fn check_gets(overlay: &Overlay, model: &Model) {
    let bytes = [0, b'a', b'b', 0xff];
    let one = bytes.iter().map(|byte| vec![*byte]);
    let two = bytes.iter().flat_map(|first| bytes.iter().map(|second| vec![*first, *second]));
    for key in [vec![]].into_iter().chain(one).chain(two) {
        let got = overlay.get(&key).expect("a state in memory does not fail");
        assert_eq!(got.as_ref(), model.command.state.get(key.as_slice()), "{key:?}");
    }
}

/// What a layer over `base` makes of it.
fn over(base: &MemoryState, layer: &Layer) -> MemoryState {
    let mut state = base.clone();
    layer.effects().for_each(|effect| play(&mut state, effect));
    state
}

proptest! {
    #![proptest_config(fixed(400))]

    #[test]
    fn three_levels_read_like_one_map(
        base in vec((key(), value()), 0..12),
        steps in vec(step(), 0..40),
    ) {
        let mut model = Model::new(base.into_iter().collect());
        let mut overlay = Overlay::new(Arc::new(model.base.clone()));
        for step in &steps {
            match step {
                Step::Write(write) => {
                    write.to(overlay.command_mut());
                    model.write(write);
                }
                Step::Accept => {
                    overlay.accept();
                    model.command.due = model.command.due.or(model.entry.due);
                    model.entry = model.command.clone();
                    model.command.due = None;
                }
                Step::Discard => {
                    overlay.discard();
                    model.command = Level { state: model.entry.state.clone(), due: None };
                }
                Step::Rebase => {
                    // The writes of a command in progress stay with it.
                    let layer = overlay.rebase(Arc::new(model.entry.state.clone()));
                    prop_assert_eq!(&over(&model.base, &layer), &model.entry.state);
                    prop_assert_eq!(layer.due(), model.entry.due);
                    model.base = model.entry.state.clone();
                    model.entry.due = None;
                }
                Step::Scan(range) => check_scan(&overlay, &model, range),
            }
            check_invariants(overlay.command());
            prop_assert_eq!(overlay.command().due(), model.command.due);
        }
        check_gets(&overlay, &model);
        check_scan(&overlay, &model, &KeyRange::all());
        let layer = overlay.into_layer();
        check_invariants(&layer);
        prop_assert_eq!(over(&model.base, &layer), model.entry.state);
        prop_assert_eq!(layer.due(), model.entry.due);
    }
}

/// A state that cannot be read beyond its first pair.
struct Faulty;

fn fault() -> StateError {
    StateError("the disk is gone".into())
}

impl StateReader for Faulty {
    fn get(&self, _key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Err(fault())
    }

    fn scan(&self, _range: &KeyRange, direction: Direction) -> Pairs<'_> {
        let first = match direction {
            Direction::Ascending => "b",
            Direction::Descending => "y",
        };
        Box::new([Ok((first.into(), "1".into())), Err(fault())].into_iter())
    }
}

/// Were a fault swallowed, a scan would end early and the replica diverge.
#[test]
fn a_fault_of_the_state_below_comes_through_both_levels() {
    let mut overlay = Overlay::new(Arc::new(Faulty));
    overlay.command_mut().put("m".into(), "1".into());
    overlay.accept();
    overlay.command_mut().put("n".into(), "2".into());
    overlay.command_mut().delete_range(KeyRange { start: "c".into(), end: Some("d".into()) });
    for (direction, first) in DIRECTIONS.into_iter().zip(["b", "y"]) {
        let mut pairs = overlay.scan(&KeyRange::all(), direction);
        assert_eq!(pairs.next().expect("a first pair").expect("before the fault").0, first);
        assert!(pairs.next().expect("the fault").is_err(), "{direction:?}");
    }
    assert!(overlay.get(b"x").is_err());
    assert_eq!(overlay.get(b"m").expect("known without the state below"), Some("1".into()));
}

#[test]
fn a_command_neither_accepted_nor_discarded_leaves_no_trace() {
    let mut overlay = Overlay::new(Arc::new(MemoryState::new()));
    overlay.command_mut().put("a".into(), "1".into());
    overlay.command_mut().set_due(Some(1));
    assert!(overlay.into_layer().is_empty());
}

/// Else a guest could go through any number of deleted keys for nothing.
#[test]
fn a_counted_scan_counts_what_it_goes_through_and_does_not_yield() {
    let base =
        MemoryState::from([("a".into(), "11".into()), ("b".into(), "22".into()), ("z".into(), "9".into())]);
    let mut overlay = Overlay::new(Arc::new(base));
    overlay.command_mut().delete_range(KeyRange { start: "a".into(), end: Some("b".into()) });
    overlay.command_mut().delete("m".into());
    overlay.accept();
    overlay.command_mut().delete("b".into());
    for direction in DIRECTIONS {
        let bytes = Cell::new(5);
        let range = KeyRange { start: Bytes::new(), end: Some("n".into()) };
        assert_eq!(overlay.scan_counted(&range, direction, &bytes).count(), 0);
        let (pairs, points) = (2, 2);
        assert_eq!(bytes.get(), 5 + pairs * (3 + STEP_BYTES) + points * STEP_BYTES, "{direction:?}");
    }
}
