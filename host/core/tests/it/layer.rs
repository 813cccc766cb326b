//! One layer: what it says of its net writes is true, in order, and the same however it came about.

use bytes::Bytes;
use mortise_core::codec::{Reader, Writer};
use mortise_core::layer::{Effect, Layer};
use mortise_core::state::{KeyRange, MemoryState};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::{Write, fixed, key, layer_of, range, value, write};

pub(crate) fn play(state: &mut MemoryState, effect: Effect) {
    match effect {
        Effect::Put(key, value) => {
            state.insert(key, value);
        }
        Effect::Delete(key) => {
            state.remove(&key);
        }
        Effect::DeleteRange(range) => state.retain(|key, _| !range.contains(key)),
    }
}

/// The invariants that the type's documentation lists, seen from outside.
pub(crate) fn check_invariants(layer: &Layer) {
    let ranges: Vec<_> = layer.ranges().collect();
    for range in &ranges {
        assert!(!range.is_empty(), "{range:?} is empty");
    }
    for pair in ranges.windows(2) {
        let end = pair[0].end.as_ref().expect("only the last range is endless");
        assert!(*end < pair[1].start, "{:?} and {:?} overlap or touch", pair[0], pair[1]);
    }
    for (key, value) in layer.points() {
        let covered = ranges.iter().any(|range| range.contains(key));
        assert!(!covered || value.is_some(), "{key:?} is deleted by a range and again by itself");
    }
    assert!(layer.points().map(|(key, _)| key).is_sorted_by(|one, two| one < two));
}

/// Where an effect stands: a range delete before the put of its first key.
fn place(effect: &Effect) -> (Bytes, bool) {
    match effect {
        Effect::DeleteRange(range) => (range.start.clone(), false),
        Effect::Put(key, _) | Effect::Delete(key) => (key.clone(), true),
    }
}

fn state() -> impl Strategy<Value = MemoryState> {
    vec((key(), value()), 0..12).prop_map(MemoryState::from_iter)
}

proptest! {
    #![proptest_config(fixed(400))]

    #[test]
    fn effects_replayed_give_what_the_writes_gave(base in state(), writes in vec(write(), 0..20)) {
        let layer = layer_of(&writes);
        check_invariants(&layer);

        let mut written = base.clone();
        writes.iter().filter_map(Write::effect).for_each(|effect| play(&mut written, effect));
        let mut replayed = base.clone();
        layer.effects().for_each(|effect| play(&mut replayed, effect));
        prop_assert_eq!(&replayed, &written);

        // Storage carries out the ranges first.
        let mut stored = base;
        layer.ranges().for_each(|range| play(&mut stored, Effect::DeleteRange(range.clone())));
        for (key, value) in layer.points() {
            let effect = value.clone().map_or(Effect::Delete(key.clone()), |v| Effect::Put(key.clone(), v));
            play(&mut stored, effect);
        }
        prop_assert_eq!(stored, written);
    }

    #[test]
    fn effects_come_in_key_order_and_no_place_twice(writes in vec(write(), 0..20)) {
        let places: Vec<_> = layer_of(&writes).effects().map(|effect| place(&effect)).collect();
        prop_assert!(places.is_sorted_by(|one, two| one < two), "{places:?}");
    }

    #[test]
    fn effects_are_canonical(writes in vec(write(), 0..20)) {
        let layer = layer_of(&writes);
        let mut again = Layer::default();
        for effect in layer.effects() {
            match effect {
                Effect::Put(key, value) => again.put(key, value),
                Effect::Delete(key) => again.delete(key),
                Effect::DeleteRange(range) => again.delete_range(range),
            }
        }
        if let Some(due) = layer.due() {
            again.set_due(due);
        }
        prop_assert_eq!(layer, again);
    }

    #[test]
    fn a_range_deleted_in_pieces_is_the_range_deleted_at_once(
        before in vec(write(), 0..8),
        range in range(),
        cuts in vec(key(), 0..4),
        order in any::<prop::sample::Index>(),
        overlap in any::<bool>(),
    ) {
        let mut whole = layer_of(&before);
        whole.delete_range(range.clone());

        let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| range.contains(cut)).collect();
        cuts.sort();
        let mut starts = vec![range.start.clone()];
        starts.extend(cuts.iter().cloned());
        let mut ends: Vec<_> = cuts.into_iter().map(Some).collect();
        ends.push(range.end.clone());
        let mut pieces: Vec<_> =
            starts.into_iter().zip(ends).map(|(start, end)| KeyRange { start, end }).collect();
        if overlap && pieces.len() > 1 {
            pieces[1].start = range.start.clone();
        }
        let first = order.index(pieces.len());
        pieces.rotate_left(first);

        let mut pieced = layer_of(&before);
        pieces.into_iter().for_each(|piece| pieced.delete_range(piece));
        prop_assert_eq!(pieced, whole);
    }

    #[test]
    fn absorbing_a_layer_is_writing_its_writes(
        lower in vec(write(), 0..12),
        upper in vec(write(), 0..12),
    ) {
        let mut absorbed = layer_of(&lower);
        let mut above = layer_of(&upper);
        absorbed.absorb(&mut above);
        prop_assert!(above.is_empty());
        prop_assert_eq!(above, Layer::default());
        prop_assert_eq!(absorbed, layer_of(&[lower, upper].concat()));
    }

    #[test]
    fn a_layer_is_empty_only_if_it_changes_nothing(writes in vec(write(), 0..3)) {
        let layer = layer_of(&writes);
        let silent = layer.effects().next().is_none() && layer.due().is_none();
        prop_assert_eq!(layer.is_empty(), silent);
        let mut cleared = layer;
        cleared.clear();
        prop_assert_eq!(cleared, Layer::default());
    }

    #[test]
    fn an_effect_comes_back_as_written(write in write()) {
        if let Some(effect) = write.effect() {
            let mut writer = Writer::default();
            effect.encode(&mut writer);
            let mut reader = Reader::new(writer.finish());
            prop_assert_eq!(Effect::decode(&mut reader), Ok(effect));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }
}

#[test]
fn a_layer_says_nothing_of_keys_it_did_not_touch() {
    let mut layer = Layer::default();
    layer.delete_range(KeyRange { start: "b".into(), end: Some("d".into()) });
    layer.put("c".into(), "1".into());
    assert_eq!(layer.get(b"a"), None);
    assert_eq!(layer.get(b"b"), Some(None));
    assert_eq!(layer.get(b"c"), Some(Some(&Bytes::from("1"))));
    assert_eq!(layer.get(b"d"), None);
}

#[test]
fn a_reversed_range_deletes_nothing() {
    let mut layer = Layer::default();
    layer.put("b".into(), "1".into());
    layer.delete_range(KeyRange { start: "c".into(), end: Some("a".into()) });
    layer.delete_range(KeyRange { start: "b".into(), end: Some("b".into()) });
    assert_eq!(layer.effects().collect::<Vec<_>>(), [Effect::Put("b".into(), "1".into())]);
}

#[test]
fn a_range_delete_stands_before_the_put_of_its_first_key() {
    let range = KeyRange { start: "a".into(), end: None };
    let mut layer = Layer::default();
    layer.put("a".into(), "old".into());
    layer.delete_range(range.clone());
    layer.put("a".into(), "new".into());
    let effects: Vec<_> = layer.effects().collect();
    assert_eq!(effects, [Effect::DeleteRange(range), Effect::Put("a".into(), "new".into())]);
}
