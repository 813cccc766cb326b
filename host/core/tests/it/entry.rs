//! Entries come back as written, and nothing else is taken for one.

use bytes::Bytes;
use mortise_core::codec::{DecodeError, Writer};
use mortise_core::entry::{
    Body, COMMANDS_MAX, Command, Entry, FORMAT, Import, SessionChange, TENANT_NAME_BYTES_MAX, TenantCreate,
    check_tenant_name,
};
use mortise_core::ids::{Epoch, LogIndex, PluginDigest, Sequence, SessionId, TenantId};
use mortise_core::time::LogTime;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::{bytes, fixed, number, profile, text};
use crate::golden::samples;

fn decode(bytes: Bytes) -> Result<Entry, DecodeError> {
    Entry::decode(Epoch(3), LogIndex(7), bytes)
}

fn command() -> impl Strategy<Value = Command> {
    let numbers = (number(), number(), number(), number());
    (numbers, prop::option::of(text()), bytes(20)).prop_map(|(numbers, principal, payload)| Command {
        tenant: TenantId(numbers.0),
        session: SessionId(numbers.1),
        sequence: Sequence(numbers.2),
        answered_up_to: Sequence(numbers.3),
        principal,
        payload,
    })
}

fn session_change() -> impl Strategy<Value = SessionChange> {
    let pair = || (number(), number()).prop_map(|(tenant, session)| (TenantId(tenant), SessionId(session)));
    prop_oneof![
        (number(), number())
            .prop_map(|(tenant, ttl_ms)| SessionChange::Open { tenant: TenantId(tenant), ttl_ms }),
        pair().prop_map(|(tenant, session)| SessionChange::Close { tenant, session }),
        vec(pair(), 0..5).prop_map(|sessions| SessionChange::Expire { sessions }),
    ]
}

fn import() -> impl Strategy<Value = Import> {
    prop_oneof![
        (number(), number(), bytes(20)).prop_map(|(import, offset, bytes)| Import::Chunk {
            import,
            offset,
            bytes
        }),
        (number(), number(), text(), number()).prop_map(|(import, tenant, name, bytes)| Import::Commit {
            import,
            tenant: TenantId(tenant),
            name,
            bytes
        }),
        number().prop_map(|import| Import::Abort { import }),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let tenant = || number().prop_map(TenantId);
    let plugin = || any::<[u8; 32]>().prop_map(PluginDigest);
    prop_oneof![
        Just(Body::EpochStart),
        vec(command(), 0..4).prop_map(Body::Commands),
        session_change().prop_map(Body::Session),
        (tenant(), text(), plugin(), any::<bool>()).prop_map(|(tenant, name, plugin, watch)| {
            Body::TenantCreate(TenantCreate { tenant, name, plugin, watch })
        }),
        tenant().prop_map(|tenant| Body::TenantDrop { tenant }),
        (tenant(), plugin()).prop_map(|(tenant, plugin)| Body::TenantSwitch { tenant, plugin }),
        bytes(40).prop_map(|component| Body::Plugin { component }),
        profile().prop_map(Body::Profile),
        tenant().prop_map(|tenant| Body::Expire { tenant }),
        import().prop_map(Body::Import),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (number(), number(), body()).prop_map(|(time, profile, body)| Entry {
        epoch: Epoch(3),
        index: LogIndex(7),
        time: LogTime(time),
        profile,
        body,
    })
}

/// Equal entries have equal bytes, so whatever is read must be what would be written.
fn check_canonical(input: &Bytes) {
    if let Ok(entry) = decode(input.clone()) {
        assert_eq!(entry.encode(), input, "{entry:?}");
    }
}

proptest! {
    #![proptest_config(fixed(400))]

    #[test]
    fn an_entry_comes_back_as_written(entry in entry()) {
        prop_assert_eq!(decode(entry.encode()), Ok(entry));
    }

    #[test]
    fn an_entry_cut_short_or_with_more_behind_it_is_refused(entry in entry(), more in 0..3u8) {
        let bytes = entry.encode();
        for length in 0..bytes.len() {
            let cut = decode(bytes.slice(..length));
            prop_assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{length}: {cut:?}");
        }
        let longer = Bytes::from([bytes.as_ref(), &[more]].concat());
        prop_assert_eq!(decode(longer), Err(DecodeError::LeftOver { count: 1 }));
    }

    #[test]
    fn an_entry_with_a_bit_flipped_is_refused_or_read_as_what_it_says(entry in entry()) {
        let bytes = entry.encode();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            check_canonical(&flipped.into());
        }
    }
}

proptest! {
    #![proptest_config(fixed(3000))]

    #[test]
    fn any_bytes_are_refused_or_read_as_what_they_say(
        format in 0..3u8,
        kind in 0..12u8,
        head in vec(0..4u8, 0..8),
        rest in bytes(60),
    ) {
        check_canonical(&rest);
        check_canonical(&[&[format, kind], head.as_slice(), rest.as_ref()].concat().into());
    }
}

#[test]
fn an_entry_of_a_newer_format_is_refused_whatever_follows() {
    for version in FORMAT + 1..=u8::MAX {
        let refused = Err(DecodeError::TooNew { what: "log entry", version, known: FORMAT });
        assert_eq!(decode(vec![version].into()), refused);
        assert_eq!(decode(vec![version, 0, 0, 0].into()), refused);
        let mut valid = samples()[1].encode().to_vec();
        valid[0] = version;
        assert_eq!(decode(valid.into()), refused);
    }
}

/// No release wrote it: a zeroed record must not pass for an entry.
#[test]
fn zeros_are_no_entry() {
    for length in 0..64 {
        assert!(decode(vec![0; length].into()).is_err(), "{length} zeros");
    }
}

#[test]
fn an_unknown_kind_is_refused() {
    let unknown = Err(DecodeError::Unknown { what: "entry kind", value: 10 });
    assert_eq!(decode(vec![FORMAT, 10, 1, 0].into()), unknown);
}

fn commands(count: usize) -> Entry {
    let command = Command {
        tenant: TenantId(1),
        session: SessionId::NONE,
        sequence: Sequence(0),
        answered_up_to: Sequence(0),
        principal: None,
        payload: Bytes::new(),
    };
    let body = Body::Commands(vec![command; count]);
    Entry { epoch: Epoch(3), index: LogIndex(7), time: LogTime(1), profile: 1, body }
}

#[test]
fn an_entry_holds_no_more_commands_than_its_bound() {
    let most = commands(COMMANDS_MAX);
    assert_eq!(decode(most.encode()), Ok(most));
    let refused = Err(DecodeError::Unknown { what: "command count", value: COMMANDS_MAX as u64 + 1 });
    assert_eq!(decode(commands(COMMANDS_MAX + 1).encode()), refused);
}

/// A list that took its capacity from such a count would abort the process.
#[test]
fn a_count_without_bytes_behind_it_is_refused() {
    let with_count = |kind: u8, fields: &[u8], count: u64| {
        let mut writer = Writer::default();
        writer.u8(FORMAT).u8(kind).count(1).count(0).raw(fields).count(count);
        decode(writer.finish())
    };
    for count in [1, 1000, u64::from(u32::MAX), 1 << 40, u64::MAX >> 6, u64::MAX] {
        let lists = [
            with_count(2, &[2], count),                // sessions to expire
            with_count(6, &[], count),                 // bytes of a component
            with_count(3, &[1], count),                // bytes of a tenant's name
            with_count(9, &[0, 1, 0], count),          // bytes of a chunk
            with_count(1, &[1, 1, 0, 1, 0, 0], count), // bytes of a command
            with_count(1, &[1, 1, 0, 1, 0, 1], count), // bytes of a principal
        ];
        for (at, list) in lists.into_iter().enumerate() {
            assert!(matches!(list, Err(DecodeError::Truncated { .. })), "{at}: {list:?}");
        }
        let refused = with_count(1, &[], count); // commands
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn each_body_has_a_name_of_its_own() {
    let names: Vec<_> = samples().iter().map(|entry| entry.body.name()).collect();
    let mut kinds = names.clone();
    kinds.dedup();
    let expected = [
        "epoch-start",
        "commands",
        "session",
        "tenant-create",
        "tenant-drop",
        "tenant-switch",
        "plugin",
        "profile",
        "expire",
        "import",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn a_tenant_is_named_by_letters_digits_and_three_signs() {
    let longest = "x".repeat(TENANT_NAME_BYTES_MAX);
    for name in ["a", "A9", "_hidden", "eu-west.1_a", "0", &longest] {
        assert_eq!(check_tenant_name(name), Ok(()), "{name:?}");
    }
    let too_long = "x".repeat(TENANT_NAME_BYTES_MAX + 1);
    for name in ["", "-a", ".", "..", "a/b", "a b", "a\0", "ü", "a\n", &too_long] {
        assert!(check_tenant_name(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_plugin_digest_is_64_hexadecimal_digits() {
    let digest = PluginDigest::of(b"component");
    assert_eq!(PluginDigest::parse(&digest.to_string()), Some(digest));
    for wrong in ["", "ab", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"ä".repeat(32)] {
        assert_eq!(PluginDigest::parse(wrong), None, "{wrong:?}");
    }
}
