//! The fields that records are made of, read from bytes that nobody wrote.

use bytes::Bytes;
use mortise_core::codec::{DecodeError, Reader, Writer};
use mortise_core::layer::Effect;
use mortise_core::outcome::Outcome;
use mortise_core::profile::Profile;
use proptest::prelude::*;

use crate::generate::{self, bytes, fixed, number};

/// Reads `input` with `read`; what it took must be what `write` makes of the result.
fn check_canonical<T>(
    input: &Bytes,
    read: impl Fn(&mut Reader) -> Result<T, DecodeError>,
    write: impl Fn(&T, &mut Writer),
) {
    let mut reader = Reader::new(input.clone());
    if let Ok(value) = read(&mut reader) {
        let mut writer = Writer::default();
        write(&value, &mut writer);
        assert_eq!(writer.finish(), input.slice(..input.len() - reader.left()));
    }
}

/// Bytes that are often the start of something: small numbers first, then anything.
fn hostile() -> impl Strategy<Value = Bytes> {
    (prop::collection::vec(0..5u8, 0..8), bytes(24))
        .prop_map(|(head, tail)| [head, tail.to_vec()].concat().into())
}

proptest! {
    #![proptest_config(fixed(1000))]

    #[test]
    fn whatever_can_be_read_has_one_encoding(input in hostile()) {
        check_canonical(&input, |r| r.count("n"), |value, w| { w.count(*value); });
        check_canonical(&input, |r| r.bool("b"), |value, w| { w.bool(*value); });
        check_canonical(&input, |r| r.bytes("b"), |value, w| { w.bytes(value); });
        check_canonical(&input, |r| r.string("s"), |value, w| { w.bytes(value.as_bytes()); });
        check_canonical(&input, |r| r.option_count("n"), |value, w| { w.option_count(*value); });
        check_canonical(&input, |r| r.option_string("s"), |value, w| { w.option_string(value.as_deref()); });
        check_canonical(&input, Effect::decode, Effect::encode);
        check_canonical(&input, Outcome::decode, Outcome::encode);
        check_canonical(&input, Profile::decode, Profile::encode);
    }

    #[test]
    fn a_count_takes_as_few_bytes_as_can_hold_it(value in number()) {
        let mut writer = Writer::default();
        writer.count(value);
        let bits = (64 - value.leading_zeros()).max(1);
        prop_assert_eq!(writer.len() as u32, bits.div_ceil(7));
        prop_assert_eq!(Reader::new(writer.finish()).count("n"), Ok(value));
    }

    #[test]
    fn an_outcome_comes_back_as_written(outcome in generate::outcome()) {
        let mut writer = Writer::default();
        outcome.encode(&mut writer);
        let mut reader = Reader::new(writer.finish());
        prop_assert_eq!(Outcome::decode(&mut reader), Ok(outcome));
        prop_assert_eq!(reader.finish(), Ok(()));
    }
}

#[test]
fn a_count_beyond_64_bits_is_refused() {
    let mut input = [0xff; 10];
    input[9] = 0x01;
    assert_eq!(Reader::new(Bytes::copy_from_slice(&input)).count("n"), Ok(u64::MAX));
    input[9] = 0x02;
    assert_eq!(
        Reader::new(Bytes::copy_from_slice(&input)).count("n"),
        Err(DecodeError::Malformed { what: "n" })
    );
}

#[test]
fn a_count_beyond_32_bits_is_refused_where_32_are_asked_for() {
    let written = |value| {
        let mut writer = Writer::default();
        writer.count(value);
        Reader::new(writer.finish()).count32("n")
    };
    assert_eq!(written(u64::from(u32::MAX)), Ok(u32::MAX));
    assert_eq!(written(1 << 32), Err(DecodeError::Malformed { what: "n" }));
}

#[test]
fn a_string_that_is_no_utf_8_is_refused() {
    let mut writer = Writer::default();
    writer.bytes(&[0xc3, 0x28]);
    assert_eq!(Reader::new(writer.finish()).string("s"), Err(DecodeError::Malformed { what: "s" }));
}
