//! Reads at a node: asked for, permitted, and executed while the permit is valid.

use mortise_core::group::NodeId;
use mortise_core::replica::{Event, Freshness, MonoTime, Read, ReadPermit, Refusal, RequestId};

use super::{Answer, Checked, Inside, Violation, Wish, World};
use crate::coverage::Seldom;

impl World {
    pub(super) fn ask_to_read(&mut self, id: NodeId, number: RequestId, freshness: Freshness) -> Checked {
        let Some(deadline) = self.deadline(id) else { return Ok(()) };
        self.step(id, Event::Read(Read { id: number, freshness, deadline }))
    }

    pub(super) fn permit_read(
        &mut self,
        id: NodeId,
        number: RequestId,
        result: Result<ReadPermit, Refusal>,
    ) -> Checked {
        match result {
            Ok(permit) => {
                let Some(process) = &self.node(id).process else { return Ok(()) };
                let installs = process.installs;
                let slow = self.random.chance(50);
                let after = if slow { self.random.below(self.unit) } else { self.random.below(300) };
                self.tell_process(id, after, Inside::Execute { read: number, permit, installs });
                Ok(())
            }
            Err(refusal) => match self.take_request(id, number) {
                Some(request) => self.refuse(&request, refusal),
                None => Ok(()),
            },
        }
    }

    /// Reads the state, then looks whether the permit still holds.
    pub(super) fn execute(
        &mut self,
        id: NodeId,
        number: RequestId,
        permit: ReadPermit,
        installs: u64,
    ) -> Checked {
        let node = self.node(id);
        let Some(process) = &node.process else { return Ok(()) };
        let Some(request) = process.requests.get(&number) else { return Ok(()) };
        let Wish::Read { key, freshness, .. } = request.wish else { return Ok(()) };
        let saw = process.machine.read(key);
        let clock: MonoTime = process.clock(self.now, node.drift);
        if clock > permit.valid_until || installs != process.installs {
            self.coverage.count(Seldom::PermitExpired);
            return self.ask_to_read(id, number, freshness);
        }
        if process.machine.at.index < permit.index {
            let what = format!(
                "node {id} permits a read at {}, and {:?} is applied",
                permit.index, process.machine.at
            );
            return Violation::of("I9", what);
        }
        let Some(request) = self.take_request(id, number) else { return Ok(()) };
        let given_up = self.is_given_up(id);
        self.oracle.read(key, freshness, saw, request.floor, given_up)?;
        self.answer(&request, Answer::Read);
        Ok(())
    }
}
