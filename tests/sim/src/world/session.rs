//! A node's session with the coordinator: INIT (ask for a lease), REFRESH (renew it), OFFLINE.

use mortise_core::group::NodeId;
use mortise_core::replica::Event;

use super::node::{Asked, Session};
use super::{Call, Checked, Inside, World};

impl World {
    /// It is time to look after the session.
    pub(super) fn renew_session(&mut self, id: NodeId) -> Checked {
        let ttl = self.coordinator.ttl;
        self.tell_process(id, ttl / 3, Inside::Renew);
        let Some(process) = &self.node(id).process else { return Ok(()) };
        match process.session {
            Session::Live { until, .. } if until <= self.now => {
                self.session(id, Session::Offline)?;
                self.call(id, Call::Grant, Asked::Session);
            }
            Session::Live { lease, .. } => self.call(id, Call::KeepAlive(lease), Asked::Session),
            Session::Offline => self.call(id, Call::Grant, Asked::Session),
        }
        Ok(())
    }

    /// The session lives so long after the renewal that was sent at `sent`.
    pub(super) fn session_granted(
        &mut self,
        id: NodeId,
        lease: mortise_core::group::LeaseId,
        sent: u64,
    ) -> Checked {
        let until = sent + self.coordinator.ttl;
        let Some(process) = &mut self.node_mut(id).process else { return Ok(()) };
        if let Session::Live { lease: own, .. } = process.session
            && own == lease
        {
            process.session = Session::Live { lease, until };
            return Ok(());
        }
        self.session(id, Session::Live { lease, until })?;
        let candidates = self.coordinator.candidates();
        self.step(id, Event::Candidates(candidates))
    }

    /// The coordinator does not know the lease any more.
    pub(super) fn session_lost(&mut self, id: NodeId) -> Checked {
        self.session(id, Session::Offline)?;
        self.call(id, Call::Grant, Asked::Session);
        Ok(())
    }
}
