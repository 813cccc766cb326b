//! The states of a link, and what leads from one to the other.
//!
//! ```text
//!   Init ──▶ Idle ──Start──▶ Dialling ──DialSucceeded──▶ Connected ◀─┐
//!                               │                            │       │ DialSucceeded
//!                               └──DialFailed──▶ Broken ◀─PingFailed │
//!                                                  └─────────────────┘        Disposing, from any: gone
//! ```

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// Nobody has needed it yet.
    Idle,
    /// It is dialled for the first time: who needs it waits, no longer than a dial may take.
    Dialling,
    /// Pings are answered.
    Connected,
    /// It is dialled again and again. Who needs it hears so at once.
    Broken,
}

impl LinkState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Dialling, Self::Connected, Self::Broken];

    /// Its name in answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Dialling => "dialling",
            Self::Connected => "connected",
            Self::Broken => "broken",
        }
    }
}

/// What happens to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transition {
    /// Its peer has become a member, or has a new address.
    Init,
    /// Somebody needs it.
    Start,
    /// A connection was made, and the peer behind it has said who it is.
    DialSucceeded,
    /// No connection, or somebody else is behind it.
    DialFailed,
    /// A ping was not answered in time, or the connection ended.
    PingFailed,
    /// Its peer is a member no longer, has a new address, or the node stops.
    Disposing,
}

impl Transition {
    /// The state after this, from `state`; `None`: there is no link. What does not fit, such as a late failure of a
    /// link that is broken already, changes nothing; and nothing but [`Transition::Init`] makes a link.
    pub fn from(self, state: Option<LinkState>) -> Option<LinkState> {
        use LinkState::{Broken, Connected, Dialling, Idle};
        match (state, self) {
            (None, Self::Init) => Some(Idle),
            (Some(Idle), Self::Start) => Some(Dialling),
            (Some(Dialling | Broken), Self::DialSucceeded) => Some(Connected),
            (Some(Dialling), Self::DialFailed) | (Some(Connected), Self::PingFailed) => Some(Broken),
            (_, Self::Disposing) => None,
            (unchanged, _) => unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LinkState::{Broken, Connected, Dialling, Idle};
    use super::Transition::{DialFailed, DialSucceeded, Disposing, Init, PingFailed, Start};

    #[test]
    fn every_transition_from_every_state() {
        let transitions = [Init, Start, DialSucceeded, DialFailed, PingFailed, Disposing];
        let table = [
            (None, [Some(Idle), None, None, None, None, None]),
            (Some(Idle), [Some(Idle), Some(Dialling), Some(Idle), Some(Idle), Some(Idle), None]),
            (
                Some(Dialling),
                [Some(Dialling), Some(Dialling), Some(Connected), Some(Broken), Some(Dialling), None],
            ),
            (
                Some(Connected),
                [Some(Connected), Some(Connected), Some(Connected), Some(Connected), Some(Broken), None],
            ),
            (Some(Broken), [Some(Broken), Some(Broken), Some(Connected), Some(Broken), Some(Broken), None]),
        ];
        for (state, row) in table {
            for (transition, expected) in transitions.into_iter().zip(row) {
                assert_eq!(transition.from(state), expected, "{transition:?} from {state:?}");
            }
        }
    }
}
