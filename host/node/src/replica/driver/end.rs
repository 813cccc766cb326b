//! How a driver ends: nobody is left waiting.

use super::{Driver, Event, Waiters};
use crate::replica::answers::refuse;
use crate::replica::api::WriteError;
use crate::replica::apply::ApplyJob;
use crate::replica::writer::WriterJob;

impl Driver {
    /// Stops the threads and tells everybody who still waits.
    pub(super) fn end(mut self) {
        self.shared.stop();
        let _ = self.channels.writer.send(WriterJob::Stop);
        let _ = self.channels.apply.send(ApplyJob::Stop);
        self.outside.close();
        let fault = self.shared.fault.borrow().clone();
        let logged = fault.clone().map_or(WriteError::LeadershipLost, WriteError::Stopped);
        let error = fault.map_or(WriteError::ShuttingDown, WriteError::Stopped);
        let pending: Vec<_> = self.pending.drain(..).map(|pending| pending.waiters).collect();
        pending.into_iter().for_each(|waiters| self.fail(waiters, &logged));
        let drafts: Vec<_> = self.drafts.drain(..).map(|draft| draft.waiters).collect();
        drafts.into_iter().for_each(|waiters| self.fail(waiters, &error));
        self.leave_askers(&error);
        if let Some(started) = self.started.take() {
            // Whoever waited for the start may be gone.
            let _ = started.send(Err(error.clone()));
        }
        while let Ok(event) = self.channels.events.try_recv() {
            match event {
                Event::Writes(writes, _, sink) => refuse(&writes, &sink, &error),
                Event::Propose(_, _, reply) => drop(reply.send(Err(error.clone()))),
                Event::Shutdown(done) => drop(done.send(())),
                _ => {}
            }
        }
        if let Some((done, _)) = self.shutdown.take() {
            let _ = done.send(());
        }
    }

    /// Tells who waits that there is no answer.
    pub(super) fn fail(&mut self, waiters: Waiters, error: &WriteError) {
        match waiters {
            Waiters::Commands(waiters) => self.admission.fail(waiters, error),
            Waiters::Proposal(reply) => drop(reply.send(Err(error.clone()))),
            Waiters::Nobody => {}
        }
    }
}
