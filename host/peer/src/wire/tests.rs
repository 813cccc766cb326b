//! Messages come back as they were sent, and bytes from outside do no harm.

use std::time::Duration;

use bytes::Bytes;
use mortise_core::digest::Digest;
use mortise_core::entry::Stamp;
use mortise_core::group::{BootId, Generation, Incarnation, NodeId};
use mortise_core::ids::{Epoch, GroupId, LogIndex};
use mortise_core::replica::{
    Body, EpochTable, Fence, LogEntry, Memory, Message, Position, Reach, RoleKind, Seen, SnapshotMeta,
    StreamId,
};
use mortise_core::time::LogTime;
use mortise_proto::v1;
use mortise_proto::v1::peer_message::Body as WireBody;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::link::LinkState;
use crate::status::{LinkStatus, MemberStatus};

fn index() -> impl Strategy<Value = LogIndex> {
    any::<u64>().prop_map(LogIndex)
}

fn position() -> impl Strategy<Value = Position> {
    any::<(u64, u64)>().prop_map(|(epoch, index)| Position { epoch: Epoch(epoch), index: LogIndex(index) })
}

fn applied() -> impl Strategy<Value = Option<(LogIndex, Digest)>> {
    option::of((index(), any::<[u8; 32]>().prop_map(Digest)))
}

fn epochs() -> impl Strategy<Value = EpochTable> {
    btree_map(1..u64::MAX, 1..1_000_000u64, 0..20).prop_map(|steps| {
        let mut start = 0;
        let rise = steps.into_iter().map(|(epoch, step)| {
            start += step;
            (Epoch(epoch), LogIndex(start))
        });
        EpochTable::from_starts(rise.collect()).expect("a table that rises")
    })
}

fn meta() -> impl Strategy<Value = SnapshotMeta> {
    (any::<(u64, [u8; 32], u64, u64)>(), position(), epochs()).prop_map(
        |((generation, digest, time, profile), last, epochs)| SnapshotMeta {
            generation: Generation(generation),
            last,
            epochs,
            digest: Digest(digest),
            stamp: Stamp { time: LogTime(time), profile },
        },
    )
}

fn entries() -> impl Strategy<Value = Vec<LogEntry>> {
    let payload = vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    vec((position(), payload).prop_map(|(at, payload)| LogEntry { at, payload }), 0..20)
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::Open),
        (position(), any::<bool>()).prop_map(|(last, reinstall)| Body::Last { last, reinstall }),
        (position(), position()).prop_map(|(last, end)| Body::Match { last, end }),
        (position(), entries(), index()).prop_map(|(previous, entries, commit)| Body::Append {
            previous,
            entries,
            commit
        }),
        (index(), applied(), option::of(index())).prop_map(|(index, applied, rebuild)| Body::Durable {
            index,
            applied,
            rebuild
        }),
        (meta(), any::<bool>()).prop_map(|(meta, replace)| Body::Snapshot { meta, replace }),
        (any::<u64>(), index()).prop_map(|(round, commit)| Body::Beacon { round, commit }),
        any::<(u64, bool)>().prop_map(|(round, lease)| Body::BeaconAnswer { round, lease }),
        any::<u64>().prop_map(|question| Body::AskCommit { question }),
        (any::<u64>(), index()).prop_map(|(question, commit)| Body::TellCommit { question, commit }),
        Just(Body::Campaign),
        index().prop_map(|index| Body::Diverged { index }),
        any::<u64>().prop_map(|promised| Body::Refused { promised: Epoch(promised) }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<(u64, u64, u64, u64)>(), any::<(u64, u64, u64, u64)>(), body()).prop_map(
        |((cluster, group, generation, epoch), (boot, from, to, stream), body)| Message {
            fence: Fence {
                cluster,
                group: GroupId(group),
                generation: Generation(generation),
                epoch: Epoch(epoch),
                boot: BootId(boot),
                from: Incarnation(from),
                to: Incarnation(to),
                stream: StreamId(stream),
            },
            body,
        },
    )
}

fn reread(message: Message) -> Result<Message, BadMessage> {
    let bytes = Bytes::from(message_to_wire(message).encode_to_vec());
    message_from_wire(v1::PeerMessage::decode(bytes).expect("what we encode is a message"))
}

proptest! {
    #[test]
    fn a_message_comes_back_as_it_was_sent(message in message()) {
        prop_assert_eq!(reread(message.clone()), Ok(message));
    }

    #[test]
    fn a_damaged_message_is_refused_or_another_one(message in message(), at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = message_to_wire(message).encode_to_vec();
        let at = at % bytes.len().max(1);
        if let Some(damaged) = bytes.get_mut(at) {
            *damaged = byte;
        }
        if let Ok(damaged) = v1::PeerMessage::decode(Bytes::from(bytes))
            && let Ok(message) = message_from_wire(damaged)
        {
            // What is taken is whole: it survives the way once more.
            prop_assert_eq!(reread(message.clone()), Ok(message));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_a_message(bytes in vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        if let Ok(message) = v1::PeerMessage::decode(bytes.clone()) {
            let _ = message_from_wire(message);
        }
        if let Ok(memory) = v1::MemoryResponse::decode(bytes.clone()) {
            let _ = memory_from_wire(memory);
        }
        if let Ok(status) = v1::MemberStatusResponse::decode(bytes.clone()) {
            let _ = status_from_wire(status);
        }
        let append = v1::AppendBody { entries: bytes.clone(), ..Default::default() };
        let _ = message_from_wire(with_body(WireBody::Append(append)));
        let meta = v1::SnapshotMeta { epochs: bytes, digest: Bytes::from_static(&[0; 32]), ..Default::default() };
        let _ = message_from_wire(with_body(WireBody::Snapshot(v1::SnapshotBody { meta: Some(meta), replace: false })));
    }

    #[test]
    fn a_memory_comes_back_as_it_was_sent(node in any::<u64>(), epoch in any::<u64>(), seen in any::<Option<(u64, u64, u64)>>(), reach in any::<Option<(u64, u64, u64)>>(), frozen in any::<bool>()) {
        let seen = seen.map(|(coordinator, revision, mod_revision)| {
            Seen { coordinator, revision, mod_revision, record: None }
        });
        let reach = reach.map(|(incarnation, epoch, index)| {
            let last = Position { epoch: Epoch(epoch), index: LogIndex(index) };
            Reach { incarnation: Incarnation(incarnation), last }
        });
        let memory = Memory { node: NodeId(node), epoch: Epoch(epoch), seen, reach, frozen };
        prop_assert_eq!(memory_from_wire(memory_to_wire(memory.clone())), Ok(memory));
    }
}

fn with_body(body: WireBody) -> v1::PeerMessage {
    v1::PeerMessage { fence: Some(v1::Fence::default()), body: Some(body) }
}

fn refusal_of(body: WireBody) -> BadMessage {
    message_from_wire(with_body(body)).expect_err("a message that is out of bounds")
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(message_from_wire(v1::PeerMessage::default()), Err(BadMessage::Missing("fence")));
    let bodiless = v1::PeerMessage { fence: Some(v1::Fence::default()), body: None };
    assert_eq!(message_from_wire(bodiless), Err(BadMessage::Missing("body")));
    let snapshot = v1::SnapshotBody { meta: None, replace: true };
    assert_eq!(refusal_of(WireBody::Snapshot(snapshot)), BadMessage::Missing("snapshot meta"));
}

#[test]
fn an_append_is_bounded() {
    // Three zeros are an entry without a payload.
    let many = |count: usize| v1::AppendBody { entries: vec![0; 3 * count].into(), ..Default::default() };
    assert!(message_from_wire(with_body(WireBody::Append(many(ENTRIES_MAX)))).is_ok());
    assert_eq!(
        refusal_of(WireBody::Append(many(ENTRIES_MAX + 1))),
        BadMessage::TooLarge { what: "entries of an append", max: ENTRIES_MAX }
    );
    let of_bytes = |bytes: usize| {
        let entry = LogEntry { at: Position::default(), payload: vec![0; bytes].into() };
        let append =
            Body::Append { previous: Position::default(), entries: vec![entry], commit: LogIndex(0) };
        super::message::message_to_wire(Message { fence: fence(), body: append })
    };
    assert!(message_from_wire(of_bytes(ENTRY_BYTES_MAX)).is_ok());
    assert_eq!(
        message_from_wire(of_bytes(ENTRY_BYTES_MAX + 1)),
        Err(BadMessage::TooLarge { what: "bytes of an entry", max: ENTRY_BYTES_MAX })
    );
}

#[test]
fn a_table_of_epochs_is_bounded_and_rises() {
    let of = |epochs: Vec<u8>| {
        let meta = v1::SnapshotMeta {
            epochs: epochs.into(),
            digest: Bytes::from_static(&[0; 32]),
            ..Default::default()
        };
        refusal_of(WireBody::Snapshot(v1::SnapshotBody { meta: Some(meta), replace: false }))
    };
    assert_eq!(of(vec![2, 1, 1, 2]), BadMessage::Epochs);
    let max = EPOCHS_MAX;
    assert_eq!(of(vec![1; 2 * max + 2]), BadMessage::TooLarge { what: "epochs of a snapshot", max });
}

#[test]
fn a_digest_has_32_bytes() {
    for bytes in [0, 31, 33] {
        let applied = v1::AppliedDigest { index: 1, digest: vec![0; bytes].into() };
        let durable = v1::DurableBody { applied: Some(applied), ..Default::default() };
        assert_eq!(
            refusal_of(WireBody::Durable(durable)),
            BadMessage::Digest { what: "effect digest", bytes }
        );
    }
}

#[test]
fn a_status_comes_back_as_it_was_sent() {
    let link = LinkStatus {
        peer: NodeId(2),
        address: "b:1".into(),
        state: LinkState::Broken,
        since: Duration::from_millis(5),
        round_trip: Some(Duration::from_micros(7)),
        redials: 3,
        last_error: "refused".into(),
    };
    let status = MemberStatus {
        node: NodeId(1),
        role: RoleKind::Leader,
        serving: true,
        epoch: Epoch(4),
        generation: Generation(5),
        incarnation: Incarnation(6),
        last: Position { epoch: Epoch(4), index: LogIndex(9) },
        durable: LogIndex(8),
        commit: LogIndex(7),
        applied: LogIndex(6),
        digest: Some((LogIndex(6), Digest([3; 32]))),
        frozen: true,
        quarantined: Some(LogIndex(2)),
        isr: vec![NodeId(1), NodeId(2)],
        links: vec![link],
    };
    assert_eq!(status_from_wire(status_to_wire(status.clone())), Ok(status.clone()));

    let mut long = status.clone();
    long.links[0].last_error = "ä".repeat(1000);
    let told = status_from_wire(status_to_wire(long)).expect("a long error is cut");
    assert_eq!(told.links[0].last_error, "ä".repeat(256));

    let mut crowd = status_to_wire(status);
    crowd.isr = vec![1; 16];
    assert_eq!(status_from_wire(crowd), Err(BadMessage::TooLarge { what: "in-sync set", max: 15 }));
    assert_eq!(status_from_wire(v1::MemberStatusResponse::default()), Err(BadMessage::Missing("role")));
}

fn fence() -> Fence {
    message_from_wire(with_body(WireBody::Open(v1::OpenBody {}))).expect("a message").fence
}
