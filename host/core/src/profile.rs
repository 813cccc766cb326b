//! The profile: everything about running a plugin that can change an outcome. It is replicated, versioned and
//! changed by a log entry, never read from a node's configuration, so that replicas cannot differ by it.

use crate::codec::{DecodeError, Reader, Writer};

/// Fuel and limits under which plugins run. Fuel is about one unit a WebAssembly instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Counts the changes of the profile. The built-in one is version 1. Every log entry names the version it
    /// runs under.
    pub version: u64,
    /// Fuel for one `apply`, `expire`, `validate` or `query`. Default 200,000,000: about 0.1 s.
    pub fuel: u64,
    /// Fuel for one `migrate` or `restore`, and for one `snapshot`. Default 200,000,000,000: about 100 s.
    pub fuel_bulk: u64,
    /// Fuel for each call of a host function, beside its bytes. Default 50.
    pub fuel_host_call: u64,
    /// Fuel for each 16 bytes (rounded up) that a host call takes or returns. Default 1.
    pub fuel_host_16_bytes: u64,
    /// Bytes of linear memory of an instance. Default 64 MiB.
    pub memory_bytes_max: u64,
    /// Elements of all tables of an instance. Default 16,384.
    pub table_elements_max: u64,
    /// Bytes of native stack that a guest may use. Default 512 KiB. Frames differ between processor
    /// architectures and wasmtime versions, which is why a group is bound to one of each.
    pub stack_bytes_max: u64,
    /// Bytes of a key. Default 4 KiB.
    pub key_bytes_max: u64,
    /// Bytes of a value. Default 8 MiB.
    pub value_bytes_max: u64,
    /// Bytes of keys and values that a call may write. Default 16 MiB. Not for `restore` and `migrate`.
    pub write_bytes_max: u64,
    /// Bytes of keys and values that a call may read and scan. Default 64 MiB. Not for `snapshot` and `migrate`.
    pub read_bytes_max: u64,
    /// Bytes of a reply. Default 4 MiB.
    pub reply_bytes_max: u64,
    /// Milliseconds of log time after which an unused session ends, where its opener asked for no shorter time.
    /// Default 24 h.
    pub session_ttl_ms_max: u64,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            version: 1,
            fuel: 200_000_000,
            fuel_bulk: 200_000_000_000,
            fuel_host_call: 50,
            fuel_host_16_bytes: 1,
            memory_bytes_max: 64 << 20,
            table_elements_max: 16_384,
            stack_bytes_max: 512 << 10,
            key_bytes_max: 4 << 10,
            value_bytes_max: 8 << 20,
            write_bytes_max: 16 << 20,
            read_bytes_max: 64 << 20,
            reply_bytes_max: 4 << 20,
            session_ttl_ms_max: 24 * 60 * 60 * 1000,
        }
    }
}

impl Profile {
    /// Most bytes of linear memory that any profile may grant: instances live in a pool of slots of this size.
    pub const MEMORY_BYTES_CEILING: u64 = 256 << 20;
    /// Most bytes of stack that any profile may grant.
    pub const STACK_BYTES_CEILING: u64 = 1 << 20;
    /// Most table elements that any profile may grant.
    pub const TABLE_ELEMENTS_CEILING: u64 = 65_536;

    fn fields(&self) -> [u64; 14] {
        [
            self.version,
            self.fuel,
            self.fuel_bulk,
            self.fuel_host_call,
            self.fuel_host_16_bytes,
            self.memory_bytes_max,
            self.table_elements_max,
            self.stack_bytes_max,
            self.key_bytes_max,
            self.value_bytes_max,
            self.write_bytes_max,
            self.read_bytes_max,
            self.reply_bytes_max,
            self.session_ttl_ms_max,
        ]
    }

    /// Whether every field can be honoured; otherwise what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("fuel", self.fuel, 10_000, u64::MAX >> 1),
            ("fuel_bulk", self.fuel_bulk, 10_000, u64::MAX >> 1),
            ("fuel_host_call", self.fuel_host_call, 1, 1_000_000),
            ("fuel_host_16_bytes", self.fuel_host_16_bytes, 1, 1_000_000),
            ("memory_bytes_max", self.memory_bytes_max, 1 << 20, Self::MEMORY_BYTES_CEILING),
            ("table_elements_max", self.table_elements_max, 64, Self::TABLE_ELEMENTS_CEILING),
            ("stack_bytes_max", self.stack_bytes_max, 64 << 10, Self::STACK_BYTES_CEILING),
            ("key_bytes_max", self.key_bytes_max, 16, 60 << 10),
            ("value_bytes_max", self.value_bytes_max, 16, 64 << 20),
            ("write_bytes_max", self.write_bytes_max, 1024, 256 << 20),
            ("read_bytes_max", self.read_bytes_max, 1024, 4 << 30),
            ("reply_bytes_max", self.reply_bytes_max, 16, 64 << 20),
            ("session_ttl_ms_max", self.session_ttl_ms_max, 1000, 366 * 24 * 60 * 60 * 1000),
        ];
        for (name, value, min, max) in bounds {
            if value < min || value > max {
                return Err(format!("{name} is {value}, but must be from {min} to {max}"));
            }
        }
        Ok(())
    }

    /// Appends the profile.
    pub fn encode(&self, writer: &mut Writer) {
        for field in self.fields() {
            writer.count(field);
        }
    }

    /// Reads a profile. It is not [checked](Self::check).
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut next = || reader.count("profile");
        Ok(Self {
            version: next()?,
            fuel: next()?,
            fuel_bulk: next()?,
            fuel_host_call: next()?,
            fuel_host_16_bytes: next()?,
            memory_bytes_max: next()?,
            table_elements_max: next()?,
            stack_bytes_max: next()?,
            key_bytes_max: next()?,
            value_bytes_max: next()?,
            write_bytes_max: next()?,
            read_bytes_max: next()?,
            reply_bytes_max: next()?,
            session_ttl_ms_max: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_passes_its_own_check_and_comes_back_as_written() {
        let profile = Profile::default();
        assert_eq!(profile.check(), Ok(()));
        let mut writer = Writer::default();
        profile.encode(&mut writer);
        assert_eq!(Profile::decode(&mut Reader::new(writer.finish())), Ok(profile));
    }

    #[test]
    fn a_limit_no_host_can_honour_is_refused_by_name() {
        let profile = Profile { memory_bytes_max: u64::MAX, ..Profile::default() };
        assert!(profile.check().unwrap_err().starts_with("memory_bytes_max is"));
    }
}
