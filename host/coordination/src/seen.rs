//! What was read from etcd, with everything a caller needs to judge it.

use mortise_core::group::Nonce;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number! {
    /// etcd's own id of its cluster, in hexadecimal as etcd prints it. Changes where etcd is set up anew, or restored
    /// under a new `--initial-cluster-token`.
    ClusterId, "{:x}"
}
number! {
    /// A revision of etcd: counts the changes of all its keys. 0 is before the first.
    Revision, "{}"
}

/// How something came to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The answer to a linearizable request: at least as new as the moment of asking.
    Read,
    /// A notification, or the list that begins a watch: right, and maybe late.
    Watch,
}

/// A record as it was seen, or its absence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen<T> {
    /// The cluster that answered.
    pub cluster: ClusterId,
    /// Its revision when it answered.
    pub revision: Revision,
    /// The revision of the record's last change: what the next swap compares. Of its deletion, where that was seen;
    /// 0 where it was simply not there.
    pub mod_revision: Revision,
    /// The record; `None` where there is none.
    pub record: Option<T>,
    /// How it came.
    pub source: Source,
}

/// What a swap replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// Nothing: the record is created.
    Absent,
    /// The record that was seen at this revision under this nonce. Both are compared: a restored etcd may come to
    /// the same revision with another record.
    Present {
        /// Its last change.
        mod_revision: Revision,
        /// The nonce in it.
        nonce: Nonce,
    },
}

/// What became of a swap that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SwapOutcome<T> {
    /// It is in force.
    Applied(Seen<T>),
    /// It did not happen and never will: another record stands there (or none).
    Refused(Seen<T>),
    /// It may have been applied, or be applied later. A record of a higher revision tells: its nonce says whose it is.
    /// Reading the same revision again proves nothing.
    Unknown,
}
