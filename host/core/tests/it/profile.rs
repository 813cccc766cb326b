//! The bounds of the profile, each by the name under which an operator sees it refused.

use mortise_core::codec::{Reader, Writer};
use mortise_core::profile::Profile;
use proptest::prelude::*;

use crate::generate::{self, fixed};

type Field = fn(&mut Profile) -> &mut u64;

/// Name, field, least and most.
const BOUNDS: [(&str, Field, u64, u64); 13] = [
    ("fuel", |p| &mut p.fuel, 10_000, u64::MAX / 2),
    ("fuel_bulk", |p| &mut p.fuel_bulk, 10_000, u64::MAX / 2),
    ("fuel_host_call", |p| &mut p.fuel_host_call, 1, 1_000_000),
    ("fuel_host_16_bytes", |p| &mut p.fuel_host_16_bytes, 1, 1_000_000),
    ("memory_bytes_max", |p| &mut p.memory_bytes_max, 1 << 20, Profile::MEMORY_BYTES_CEILING),
    ("table_elements_max", |p| &mut p.table_elements_max, 64, Profile::TABLE_ELEMENTS_CEILING),
    ("stack_bytes_max", |p| &mut p.stack_bytes_max, 64 << 10, Profile::STACK_BYTES_CEILING),
    ("key_bytes_max", |p| &mut p.key_bytes_max, 16, 60 << 10),
    ("value_bytes_max", |p| &mut p.value_bytes_max, 16, 64 << 20),
    ("write_bytes_max", |p| &mut p.write_bytes_max, 1024, 256 << 20),
    ("read_bytes_max", |p| &mut p.read_bytes_max, 1024, 4 << 30),
    ("reply_bytes_max", |p| &mut p.reply_bytes_max, 16, 64 << 20),
    ("session_ttl_ms_max", |p| &mut p.session_ttl_ms_max, 1000, 366 * 86_400_000),
];

fn check_with(field: Field, value: u64) -> Result<(), String> {
    let mut profile = Profile::default();
    *field(&mut profile) = value;
    profile.check()
}

#[test]
fn each_field_may_have_its_least_and_its_most_value() {
    for (name, field, min, max) in BOUNDS {
        assert_eq!(check_with(field, min), Ok(()), "{name} at {min}");
        assert_eq!(check_with(field, max), Ok(()), "{name} at {max}");
    }
}

#[test]
fn each_field_beyond_its_bounds_is_refused_by_name() {
    for (name, field, min, max) in BOUNDS {
        for value in [min - 1, max + 1, u64::MAX] {
            let refusal = check_with(field, value).expect_err("beyond the bounds");
            assert_eq!(refusal, format!("{name} is {value}, but must be from {min} to {max}"));
        }
    }
}

proptest! {
    #![proptest_config(fixed(300))]

    #[test]
    fn a_profile_comes_back_as_written_also_one_that_cannot_be_honoured(profile in generate::profile()) {
        let mut writer = Writer::default();
        profile.encode(&mut writer);
        let mut reader = Reader::new(writer.finish());
        prop_assert_eq!(Profile::decode(&mut reader), Ok(profile));
        prop_assert_eq!(reader.finish(), Ok(()));
    }
}
