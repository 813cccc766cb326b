//! The bytes of the formats, as they were first written. Logs, snapshots and chains of digests hold them: whoever
//! changes one of these constants needs a new format version and a way to read the old one.

use bytes::Bytes;
use mortise_core::codec::Writer;
use mortise_core::entry::{Body, Command, Entry, Import, SessionChange, TenantCreate};
use mortise_core::ids::{Epoch, LogIndex, PluginDigest, Sequence, SessionId, TenantId};
use mortise_core::layer::Effect;
use mortise_core::outcome::{Failure, Limit, Outcome, Rejection, RejectionKind};
use mortise_core::profile::Profile;
use mortise_core::session::{SessionDelta, SessionTable, SessionWrite};
use mortise_core::state::KeyRange;
use mortise_core::time::LogTime;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Entries of every kind, in the order of kinds.
pub(crate) fn samples() -> Vec<Entry> {
    let (tenant, session, plugin) = (TenantId(3), SessionId(300), PluginDigest([0xab; 32]));
    let create = TenantCreate { tenant, name: "t".into(), plugin, watch: true };
    let bodies = [
        Body::EpochStart,
        Body::Commands(vec![
            Command {
                tenant,
                session,
                sequence: Sequence(5),
                answered_up_to: Sequence(4),
                principal: Some("ann".into()),
                payload: Bytes::from_static(b"pay"),
            },
            Command {
                tenant,
                session: SessionId::NONE,
                sequence: Sequence(0),
                answered_up_to: Sequence(0),
                principal: None,
                payload: Bytes::new(),
            },
        ]),
        Body::Session(SessionChange::Open { tenant, ttl_ms: 60_000 }),
        Body::Session(SessionChange::Close { tenant, session }),
        Body::Session(SessionChange::Expire {
            sessions: vec![(tenant, session), (TenantId(4), SessionId(9))],
        }),
        Body::TenantCreate(create),
        Body::TenantDrop { tenant },
        Body::TenantSwitch { tenant, plugin },
        Body::Plugin { component: Bytes::from_static(b"\0asm") },
        Body::Profile(Profile::default()),
        Body::Expire { tenant },
        Body::Import(Import::Chunk { import: 7, offset: 1 << 20, bytes: Bytes::from_static(b"part") }),
        Body::Import(Import::Commit { import: 7, tenant, name: "t".into(), bytes: u64::MAX }),
        Body::Import(Import::Abort { import: 7 }),
    ];
    let (epoch, index, time) = (Epoch(3), LogIndex(7), LogTime(1_700_000_000_000));
    bodies.into_iter().map(|body| Entry { epoch, index, time, profile: 1, body }).collect()
}

#[track_caller]
fn check(written: Vec<Bytes>, golden: &[&str]) {
    let written: Vec<_> = written.iter().map(|bytes| hex(bytes)).collect();
    assert_eq!(written, golden);
}

fn writer(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut writer = Writer::default();
    write(&mut writer);
    writer.finish()
}

#[test]
fn entries_have_the_bytes_they_always_had() {
    let entries = samples();
    let golden = [
        "01000180d095ffbc31",
        "01010180d095ffbc310203ac0205040103616e6e03706179030000000000",
        "01020180d095ffbc310003e0d403",
        "01020180d095ffbc310103ac02",
        "01020180d095ffbc31020203ac020409",
        "01030180d095ffbc31030174abababababababababababababababababababababababababababababababab01",
        "01040180d095ffbc3103",
        "01050180d095ffbc3103abababababababababababababababababababababababababababababababab",
        "01060180d095ffbc31040061736d",
        "01070180d095ffbc31018084af5f80a0b787e90532018080802080800180802080208080800480808008808080208080800280b89929",
        "01080180d095ffbc3103",
        "01090180d095ffbc3100078080400470617274",
        "01090180d095ffbc310107030174ffffffffffffffffff01",
        "01090180d095ffbc310207",
    ];
    check(entries.iter().map(Entry::encode).collect(), &golden);
}

#[test]
fn effects_have_the_bytes_they_always_had() {
    let effects = [
        Effect::Put("k".into(), "v".into()),
        Effect::Delete("k".into()),
        Effect::DeleteRange(KeyRange { start: "a".into(), end: Some("b".into()) }),
        Effect::DeleteRange(KeyRange::all()),
    ];
    let golden = ["00016b0176", "01016b", "0201610162", "0300"];
    check(effects.iter().map(|effect| writer(|w| effect.encode(w))).collect(), &golden);
}

#[test]
fn outcomes_have_the_bytes_they_always_had() {
    use Limit::{Fuel, KeyBytes, Memory, ReadBytes, ReplyBytes, Stack, Table, ValueBytes, WriteBytes};
    use RejectionKind::{Conflict, Denied, Exhausted, Invalid, Missing, Unsupported};
    let kinds = [Invalid, Conflict, Missing, Denied, Exhausted, Unsupported];
    let limits = [Fuel, Memory, Table, Stack, KeyBytes, ValueBytes, WriteBytes, ReadBytes, ReplyBytes];
    let rejected = |kind| Outcome::Rejected(Rejection { kind, code: "c".into(), message: "m".into() });
    let mut outcomes =
        vec![Outcome::Applied("ok".into()), Outcome::Failed(Failure::Trapped { reason: "t".into() })];
    outcomes.extend(kinds.map(rejected));
    outcomes.extend(limits.map(|limit| Outcome::Failed(Failure::LimitExceeded { limit })));
    let golden = [
        "00026f6b",
        "020174",
        "01000163016d",
        "01010163016d",
        "01020163016d",
        "01030163016d",
        "01040163016d",
        "01050163016d",
        "0300",
        "0301",
        "0302",
        "0303",
        "0304",
        "0305",
        "0306",
        "0307",
        "0308",
    ];
    check(outcomes.iter().map(|outcome| writer(|w| outcome.encode(w))).collect(), &golden);
}

/// The built-in profile is part of the format: a replica that starts with another default diverges.
#[test]
fn the_default_profile_has_the_bytes_it_always_had() {
    let golden =
        ["018084af5f80a0b787e90532018080802080800180802080208080800480808008808080208080800280b89929"];
    check(vec![writer(|w| Profile::default().encode(w))], &golden);
}

#[test]
fn sessions_have_the_bytes_they_always_had() {
    let mut table = SessionTable::default();
    let mut delta = SessionDelta::default();
    let key = (TenantId(3), SessionId(300));
    table.open(key, 60_000, LogTime(1_700_000_000_000), &mut delta);
    for sequence in [5, 6, 9] {
        table.record(key, Sequence(sequence), LogIndex(301), Outcome::Applied("ok".into()), &mut delta);
    }
    table.touch(key, LogTime(1_700_000_000_001), Sequence(5), &mut delta);
    let writes = table.writes(LogIndex(301), delta);
    let [SessionWrite::PutHeader(_, header), SessionWrite::PutRecord(_, _, record)] = writes.as_slice()
    else {
        panic!("a header and a record, not {writes:?}");
    };
    let golden = ["e0d40381d095ffbc3105", "020600026f6b0900026f6b"];
    check(vec![header.clone(), record.clone()], &golden);
}
