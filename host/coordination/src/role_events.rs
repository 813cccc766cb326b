//! The stream of role events, for a node's housekeeper and for people.

use std::collections::VecDeque;

use crate::agent::Changes;
use crate::roles::{RoleEvent, Roles, Viewpoint};
use crate::state::{Change, SessionState};

/// What a housekeeper is told: its groups' events, and how its own session is.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Something happened in a group.
    Role(RoleEvent),
    /// Anything else that changed.
    Other(Change),
}

/// Role events as they happen; each is logged once.
pub struct RoleEvents {
    changes: Changes,
    roles: Roles,
    /// Events of the change that was taken last: at most four.
    ready: VecDeque<RoleEvent>,
}

impl RoleEvents {
    /// The events that follow from these changes.
    pub fn new(changes: Changes, viewpoint: Viewpoint) -> Self {
        Self { changes, roles: Roles::new(viewpoint), ready: VecDeque::new() }
    }

    /// The next thing. May be cancelled: nothing is lost.
    pub async fn next(&mut self) -> Told {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Told::Role(event);
            }
            let change = self.changes.next().await;
            if let Some(other) = self.take(change) {
                return Told::Other(other);
            }
        }
    }

    /// As [`next`](Self::next), without waiting.
    pub fn try_next(&mut self) -> Option<Told> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Told::Role(event));
            }
            let change = self.changes.try_next()?;
            if let Some(other) = self.take(change) {
                return Some(Told::Other(other));
            }
        }
    }

    /// Makes events of a group's change; gives any other change back.
    fn take(&mut self, change: Change) -> Option<Change> {
        let Change::Group(group, state) = change else { return Some(change) };
        self.ready.extend(self.roles.observe(group, &state));
        self.ready.iter().for_each(|event| tracing::info!("{event}"));
        None
    }
}

impl std::fmt::Display for SessionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("no session: an observer"),
            Self::Init => f.write_str("INIT: the session begins"),
            Self::Live { lease, .. } => write!(f, "REFRESH: live under lease {:x}", lease.0),
            Self::Offline(loss) => write!(f, "OFFLINE: {loss}"),
            Self::Superseded(boot) => write!(f, "superseded by boot {boot}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}
