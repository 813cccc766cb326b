//! The numbers that name things. Each is its own type, so that one is never taken for another.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// The number after this one. Saturates, which no 64-bit count reaches in practice.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
    };
}

id! {
    /// A replica group. Groups are the unit of replication; a tenant lives in one.
    GroupId
}
id! {
    /// A tenant. Never reused, also after a drop.
    TenantId
}
id! {
    /// The fencing number of a leadership. Grows with each.
    Epoch
}
id! {
    /// Position of an entry in a group's log: 1 for the first, without gaps.
    LogIndex
}
id! {
    /// A client session, named after the log entry that opened it: [`SessionId::opened_at`]. 0 means no session.
    SessionId
}
id! {
    /// A client's number for one write, unique within its session.
    Sequence
}
id! {
    /// One copy of a tenant's state. A restored or migrated state is built under a new number and then published.
    Installation
}

impl SessionId {
    /// A write outside any session: executed each time it arrives.
    pub const NONE: SessionId = SessionId(0);

    /// The session that the entry at this place of a group's log opens. Another place has another session, unless 64
    /// mixed bits are equal by chance: also where a new history gives an index out again, since its epochs are others; and in
    /// another group, so that a session of a tenant that was dropped is not taken for one of its namesake there.
    pub fn opened_at(group: GroupId, epoch: Epoch, index: LogIndex) -> Self {
        Self(mix(mix(mix(group.0) ^ epoch.0) ^ index.0).max(1))
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): close numbers come out far apart.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// BLAKE3 digest of a plugin's component: its name in log entries and snapshots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginDigest(pub [u8; 32]);

impl PluginDigest {
    /// The digest of a component's bytes.
    pub fn of(component: &[u8]) -> Self {
        Self(*blake3::hash(component).as_bytes())
    }

    /// Reads 64 hexadecimal digits; `None` for anything else.
    pub fn parse(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl std::fmt::Display for PluginDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl std::fmt::Debug for PluginDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}
