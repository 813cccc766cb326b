//! The profile as a message, and back: node and client both send it.

use mortise_core::profile::Profile;

use crate::v1;

/// Both profiles have the same fields under the same names. Naming each on both sides makes a field that is added to
/// one of them an error of compilation here.
macro_rules! profiles {
    ($($field:ident),+ $(,)?) => {
        impl From<Profile> for v1::Profile {
            fn from(Profile { $($field),+ }: Profile) -> Self {
                Self { $($field),+ }
            }
        }

        impl From<v1::Profile> for Profile {
            fn from(v1::Profile { $($field),+ }: v1::Profile) -> Self {
                Self { $($field),+ }
            }
        }
    };
}

profiles! {
    version,
    fuel,
    fuel_bulk,
    fuel_host_call,
    fuel_host_16_bytes,
    memory_bytes_max,
    table_elements_max,
    stack_bytes_max,
    key_bytes_max,
    value_bytes_max,
    write_bytes_max,
    read_bytes_max,
    reply_bytes_max,
    session_ttl_ms_max,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_comes_back_as_it_went() {
        let given = Profile { version: 7, fuel: 8, ..Profile::default() };
        assert_eq!(Profile::from(v1::Profile::from(given.clone())), given);
    }
}
