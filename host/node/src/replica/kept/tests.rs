use mortise_core::outcome::{Rejection, RejectionKind};
use mortise_storage::state::StateDbOptions;

use super::*;

const STATE: StateId = StateId(1);
const TENANT: TenantId = TenantId(7);

struct Scratch {
    db: StateDb,
    _folder: tempfile::TempDir,
}

fn scratch() -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    Scratch { db: StateDb::open(folder.path(), StateDbOptions::default()).unwrap(), _folder: folder }
}

fn kept(sequence: u64, value_bytes: usize) -> Kept {
    Kept {
        sequence,
        position: Position { epoch: Epoch(2), index: LogIndex(sequence * 3) },
        time: LogTime(1_000 + sequence),
        principal: Some("ann".into()),
        command: Some("put".into()),
        outcome: Outcome::Applied("ok".into()),
        effects: vec![
            Effect::Put("k".into(), vec![7; value_bytes].into()),
            Effect::Delete("l".into()),
            Effect::DeleteRange(KeyRange::prefix(b"m")),
        ],
    }
}

fn keep_all(keeper: &mut Keeper, db: &StateDb, sequences: impl Iterator<Item = u64>, value_bytes: usize) {
    for sequence in sequences {
        let mut batch = db.batch(STATE);
        keeper.keep((db, STATE), &mut batch, TENANT, &kept(sequence, value_bytes)).unwrap();
        batch.commit().unwrap();
    }
}

fn sequences(db: &StateDb) -> Vec<u64> {
    let pairs = db.effects_scan(STATE, &keys_of(TENANT), Direction::Ascending);
    pairs.map(|pair| sequence_of(&pair.unwrap().0).unwrap()).collect()
}

#[test]
fn a_command_comes_back_as_it_was_kept() {
    let Scratch { db, _folder } = scratch();
    let rejection = Rejection { kind: RejectionKind::Conflict, code: "c".into(), message: "m".into() };
    let refused = Kept { outcome: Outcome::Rejected(rejection), effects: Vec::new(), ..kept(2, 0) };
    let expiration = Kept { principal: None, command: None, ..kept(3, 9) };
    let all = [kept(1, 100), refused, expiration];
    let mut batch = db.batch(STATE);
    let mut keeper = Keeper::default();
    all.iter().for_each(|kept| keeper.keep((&db, STATE), &mut batch, TENANT, kept).unwrap());
    batch.commit().unwrap();
    let pairs = db.effects_scan(STATE, &keys_between(TENANT, 1, 3), Direction::Ascending);
    let found: Vec<Kept> = pairs.map(|pair| pair.unwrap()).map(|(k, v)| read(&k, v).unwrap()).collect();
    assert_eq!(found, all);
    assert_eq!(db.effects_scan(STATE, &keys_between(TENANT, 2, 2), Direction::Ascending).count(), 1);
    let last = keys_between(TENANT, 3, u64::MAX);
    assert_eq!(db.effects_scan(STATE, &last, Direction::Ascending).count(), 1);
}

#[test]
fn bytes_that_nobody_wrote_are_damage() {
    let whole = kept(1, 3);
    let mut writer = Writer::default();
    writer.u8(FORMAT).u64(1).raw(&whole.encode());
    let bytes = writer.finish();
    assert_eq!(read(&key(TENANT, 1), bytes.clone()).unwrap(), whole);
    for end in 0..bytes.len() {
        assert!(read(&key(TENANT, 1), bytes.slice(..end)).is_err(), "cut at {end}");
    }
    assert!(read(b"short", bytes.clone()).is_err());
    let newer = [&[FORMAT + 1], &bytes[1..]].concat();
    assert!(read(&key(TENANT, 1), newer.into()).unwrap_err().to_string().contains("kept commands"));
}

#[test]
fn the_newest_stay_whichever_bound_is_met() {
    let Scratch { db, _folder } = scratch();
    let mut keeper = Keeper { commands_max: 10, ..Keeper::default() };
    keep_all(&mut keeper, &db, 1..=25, 0);
    assert_eq!(sequences(&db), (16..=25).collect::<Vec<_>>());
    // About four of these fit, and the oldest besides.
    keeper.bytes_max = 4_000;
    keep_all(&mut keeper, &db, 26..=40, 1_000);
    let left = sequences(&db);
    assert!(left.len() < 6 && left.last() == Some(&40), "{left:?}");
    let size = |sequence| db.effect_get(STATE, &key(TENANT, sequence)).unwrap().unwrap().len() as u64 + 16;
    let bytes: u64 = left[1..].iter().map(|sequence| size(*sequence)).sum();
    assert!(bytes < keeper.bytes_max && bytes + size(left[0]) >= keeper.bytes_max, "{bytes}");
    // The newest entry's commands stay in any case, and the one before them.
    keep_all(&mut keeper, &db, 41..=42, 10_000);
    assert_eq!(sequences(&db), [41, 42]);
}

#[test]
fn a_keeper_that_starts_anew_trims_as_one_that_went_on() {
    let (one, two) = (scratch(), scratch());
    let bounds = || Keeper { commands_max: 8, bytes_max: 3_000, extents: HashMap::new() };
    let mut steady = bounds();
    for sequence in 1..=60 {
        let bytes = usize::try_from(sequence * 97 % 900).unwrap();
        keep_all(&mut steady, &one.db, sequence..=sequence, bytes);
        keep_all(&mut bounds(), &two.db, sequence..=sequence, bytes);
        assert_eq!(sequences(&one.db), sequences(&two.db), "after {sequence}");
    }
}

#[test]
fn a_batch_of_many_trims_what_was_there_before_it() {
    let Scratch { db, _folder } = scratch();
    let mut keeper = Keeper { commands_max: 5, ..Keeper::default() };
    keep_all(&mut keeper, &db, 1..=3, 0);
    let mut batch = db.batch(STATE);
    for sequence in 4..=20 {
        keeper.keep((&db, STATE), &mut batch, TENANT, &kept(sequence, 0)).unwrap();
    }
    batch.commit().unwrap();
    // The last one that was there before stands next to those that could not be trimmed yet.
    assert_eq!(sequences(&db), (3..=20).collect::<Vec<_>>());
    keep_all(&mut keeper, &db, 21..=21, 0);
    assert_eq!(sequences(&db), (17..=21).collect::<Vec<_>>());
}

#[test]
fn what_is_deleted_is_one_tenants() {
    let Scratch { db, _folder } = scratch();
    keep_all(&mut Keeper::default(), &db, 1..=2_500, 0);
    let mut batch = db.batch(STATE);
    Keeper::default().keep((&db, STATE), &mut batch, TenantId(8), &kept(1, 0)).unwrap();
    batch.commit().unwrap();
    delete(&db, STATE, TENANT).unwrap();
    assert_eq!(sequences(&db), Vec::<u64>::new());
    assert_eq!(db.effects_scan(STATE, &keys_of(TenantId(8)), Direction::Ascending).count(), 1);
}

#[test]
fn effects_are_narrowed_to_keys() {
    let mut event = kept(1, 1);
    event.narrow(&KeyRange::prefix(b"k"));
    assert_eq!(event.effects, [Effect::Put("k".into(), vec![7].into())]);
    let mut event = kept(1, 1);
    event.narrow(&KeyRange::prefix(b"mm"));
    assert_eq!(event.effects, [Effect::DeleteRange(KeyRange::prefix(b"mm"))]);
}
