use std::collections::BTreeMap;

use mortise_core::layer::Layer;
use mortise_core::state::MemoryState;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;

const STATE: StateId = StateId(1);
const ONE: Installation = Installation(1);

fn open(folder: &tempfile::TempDir) -> StateDb {
    StateDb::open(folder.path(), StateDbOptions::default()).unwrap()
}

fn all(reader: &dyn StateReader) -> Vec<(Bytes, Bytes)> {
    reader.scan(&KeyRange::all(), Direction::Ascending).map(Result::unwrap).collect()
}

fn pairs(keys: &[&[u8]]) -> Vec<(Bytes, Bytes)> {
    keys.iter().map(|key| (Bytes::copy_from_slice(key), Bytes::from_static(b"v"))).collect()
}

fn fill(db: &StateDb, state: StateId, installation: u64, tenant: u64, keys: &[&[u8]]) {
    let mut batch = db.batch(state);
    for key in keys {
        batch.put_state(Installation(installation), TenantId(tenant), key, b"v").unwrap();
    }
    batch.commit().unwrap();
}

#[test]
fn a_batch_survives_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    fill(&db, STATE, 1, 1, &[b"a", b"b"]);
    let mut batch = db.batch(STATE);
    batch.put_meta(b"applied", b"7").unwrap();
    batch.put_effect(b"e1", b"x").unwrap();
    batch.commit().unwrap();
    db.persist().unwrap();
    assert!(db.disk_bytes().unwrap() > 0);
    drop(db);
    let db = open(&folder);
    assert_eq!(all(db.reader(STATE, ONE, TenantId(1)).as_ref()), pairs(&[b"a", b"b"]));
    assert_eq!(db.meta_get(STATE, b"applied").unwrap().unwrap(), "7");
    assert_eq!(db.meta_get(StateId(2), b"applied").unwrap(), None);
    let effects: Vec<_> = db.effects_scan(STATE, &KeyRange::all(), Direction::Ascending).collect();
    assert_eq!(effects.len(), 1);
}

#[test]
fn a_database_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _db = open(&folder);
    let second = StateDb::open(folder.path(), StateDbOptions::default());
    assert!(matches!(second, Err(StateDbError::Locked { .. })));
}

#[test]
fn a_reader_shows_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    fill(&db, STATE, 1, 1, &[b"a"]);
    let reader = db.reader(STATE, ONE, TenantId(1));
    let mut scan = reader.scan(&KeyRange::all(), Direction::Ascending);
    fill(&db, STATE, 1, 1, &[b"b"]);
    db.delete_installation(STATE, ONE, TenantId(1)).unwrap();
    assert_eq!(scan.next().unwrap().unwrap().0, "a");
    assert!(scan.next().is_none());
    assert_eq!(reader.get(b"a").unwrap().unwrap(), "v");
    assert_eq!(reader.get(b"b").unwrap(), None);
}

#[test]
fn a_later_write_of_a_batch_overrides_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    fill(&db, STATE, 1, 1, &[b"a", b"b", b"c"]);
    let mut batch = db.batch(STATE);
    batch.put_meta(b"m", b"1").unwrap();
    batch.put_meta(b"m", b"2").unwrap();
    batch.put_effect(b"e", b"1").unwrap();
    batch.delete_effect(b"e").unwrap();
    batch.put_state(ONE, TenantId(1), b"ab", b"v").unwrap();
    let mut layer = Layer::default();
    layer.delete_range(KeyRange { start: Bytes::from_static(b"a"), end: Some(Bytes::from_static(b"c")) });
    layer.put(Bytes::from_static(b"b"), Bytes::from_static(b"v"));
    batch.apply(ONE, TenantId(1), &layer).unwrap();
    assert_eq!(batch.len(), 5);
    batch.commit().unwrap();
    assert_eq!(db.meta_get(STATE, b"m").unwrap().unwrap(), "2");
    assert_eq!(db.effects_scan(STATE, &KeyRange::all(), Direction::Descending).count(), 0);
    assert_eq!(all(db.reader(STATE, ONE, TenantId(1)).as_ref()), pairs(&[b"b", b"c"]));
}

#[test]
fn a_meta_scan_is_exact_at_its_edges() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let keys: [&[u8]; 7] = [b"", b"a", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff"];
    let mut batch = db.batch(STATE);
    for key in keys {
        batch.put_meta(key, b"v").unwrap();
    }
    batch.commit().unwrap();
    let scan = |prefix: &[u8]| db.meta_scan(STATE, prefix).map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(scan(b""), pairs(&keys));
    assert_eq!(scan(b"a"), pairs(&keys[1..4]));
    assert_eq!(scan(b"a\xff"), pairs(&keys[2..4]));
    assert_eq!(scan(b"\xff"), pairs(&keys[5..]));
    assert_eq!(scan(b"\xff\xff\xff"), []);
}

#[test]
fn deleting_an_installation_leaves_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let keys: [&[u8]; 4] = [b"", b"a", b"\xff", b"\xff\xff\xff"];
    let last = u64::MAX;
    let places = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (1, last), (last, last), (last, last - 1)];
    for (installation, tenant) in places {
        fill(&db, STATE, installation, tenant, &keys);
        fill(&db, StateId(last), installation, tenant, &keys);
    }
    let mut many = db.batch(STATE);
    for number in 0..3 * DELETE_KEYS_MAX {
        many.put_state(Installation(1), TenantId(2), format!("n{number}").as_bytes(), b"v").unwrap();
    }
    many.commit().unwrap();
    let mut left = places.to_vec();
    for gone in [(1, 2), (last, last), (1, 1)] {
        let (installation, tenant) = (Installation(gone.0), TenantId(gone.1));
        let count = db.delete_installation(STATE, installation, tenant).unwrap();
        let wanted = if gone == (1, 2) { 4 + 3 * DELETE_KEYS_MAX } else { 4 };
        assert_eq!(count, wanted as u64);
        assert_eq!(db.delete_installation(STATE, installation, tenant).unwrap(), 0);
        left.retain(|place| *place != gone);
        assert_eq!(all(db.reader(STATE, installation, tenant).as_ref()), []);
        for (installation, tenant) in &left {
            let reader = db.reader(STATE, Installation(*installation), TenantId(*tenant));
            assert_eq!(all(reader.as_ref()), pairs(&keys));
        }
        let reader = db.reader(StateId(last), installation, tenant);
        assert_eq!(all(reader.as_ref()), pairs(&keys));
    }
}

#[test]
fn keys_too_long_to_store_are_refused_and_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let longest = vec![7; StateDb::KEY_BYTES_MAX];
    let longer = vec![7; StateDb::KEY_BYTES_MAX + 1];
    let mut batch = db.batch(STATE);
    batch.put_state(ONE, TenantId(1), &longest, b"v").unwrap();
    let error = batch.put_state(ONE, TenantId(1), &longer, b"v").unwrap_err();
    assert!(matches!(error, StateDbError::KeyTooLong { .. }), "{error}");
    batch.commit().unwrap();
    let reader = db.reader(STATE, ONE, TenantId(1));
    assert_eq!(reader.get(&longest).unwrap().unwrap(), "v");
    assert_eq!(reader.get(&longer).unwrap(), None);
    let count = |range: KeyRange| reader.scan(&range, Direction::Ascending).count();
    let longer = Bytes::from(longer);
    assert_eq!(count(KeyRange { start: longer.clone(), end: None }), 0);
    assert_eq!(count(KeyRange { start: Bytes::new(), end: Some(longer) }), 1);
}

fn key() -> impl Strategy<Value = Bytes> {
    let byte = prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(0xfe), Just(0xff)];
    proptest::collection::vec(byte, 0..4).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    (key(), proptest::option::of(key())).prop_map(|(start, end)| KeyRange { start, end })
}

#[derive(Clone, Debug)]
enum Write {
    Put(Bytes, u8),
    Delete(Bytes),
    DeleteRange(KeyRange),
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => (key(), any::<u8>()).prop_map(|(key, value)| Write::Put(key, value)),
        1 => key().prop_map(Write::Delete),
        1 => range().prop_map(Write::DeleteRange),
    ]
}

#[test]
fn the_reader_agrees_with_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let tenant = std::cell::Cell::new(0);
    let layers = proptest::collection::vec(proptest::collection::vec(write(), 1..12), 1..6);
    let reads = proptest::collection::vec(range(), 8);
    TestRunner::new_with_rng(config, rng)
        .run(&(layers, reads, any::<bool>()), |(layers, reads, one_batch)| {
            // Each case has a tenant of its own among the others of one database.
            tenant.set(tenant.get() + 1);
            let tenant = TenantId(tenant.get());
            let mut model: MemoryState = BTreeMap::new();
            let mut batch = db.batch(STATE);
            for writes in layers {
                let mut layer = Layer::default();
                for write in writes {
                    match write {
                        Write::Put(key, value) => {
                            layer.put(key.clone(), vec![value].into());
                            model.insert(key, vec![value].into());
                        }
                        Write::Delete(key) => {
                            model.remove(&key);
                            layer.delete(key);
                        }
                        Write::DeleteRange(range) => {
                            model.retain(|key, _| !range.contains(key));
                            layer.delete_range(range);
                        }
                    }
                }
                batch.apply(ONE, tenant, &layer).unwrap();
                if !one_batch {
                    std::mem::replace(&mut batch, db.batch(STATE)).commit().unwrap();
                }
            }
            batch.commit().unwrap();
            let reader = db.reader(STATE, ONE, tenant);
            for range in reads.into_iter().chain([KeyRange::all()]) {
                for direction in [Direction::Ascending, Direction::Descending] {
                    let found: Vec<_> = reader.scan(&range, direction).map(Result::unwrap).collect();
                    let wanted: Vec<_> = model.scan(&range, direction).map(Result::unwrap).collect();
                    prop_assert_eq!(found, wanted);
                }
                let wanted = StateReader::get(&model, &range.start).unwrap();
                prop_assert_eq!(reader.get(&range.start).unwrap(), wanted);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn states_are_listed_and_deleted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    assert_eq!(db.states().unwrap(), []);
    fill(&db, StateId(1), 1, 1, &[b"a"]);
    fill(&db, StateId(7), 1, 1, &[b"a", b"b"]);
    fill(&db, StateId(u64::MAX), 1, 1, &[b"a"]);
    let mut batch = db.batch(StateId(3));
    batch.put_meta(b"applied", b"1").unwrap();
    batch.commit().unwrap();
    let mut batch = db.batch(StateId(7));
    batch.put_meta(b"applied", b"1").unwrap();
    batch.put_effect(b"e", b"1").unwrap();
    batch.commit().unwrap();
    assert_eq!(db.states().unwrap(), [1, 3, 7, u64::MAX].map(StateId));
    assert_eq!(db.delete_state(StateId(7)).unwrap(), 4);
    assert_eq!(db.states().unwrap(), [1, 3, u64::MAX].map(StateId));
    assert_eq!(all(db.reader(StateId(1), ONE, TenantId(1)).as_ref()), pairs(&[b"a"]));
}
