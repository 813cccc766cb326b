//! How a driver ends: nobody is left waiting.

use std::sync::mpsc::Receiver;

use mortise_core::entry::Body;

use super::{Draft, Driver, Event, Pending, Waiters};
use crate::replica::answers::refuse;
use crate::replica::api::WriteError;
use crate::replica::apply::ApplyJob;
use crate::replica::writer::WriterJob;

impl Driver {
    /// Stops the threads and tells everybody who still waits.
    pub(super) fn end(mut self, events: &Receiver<Event>) {
        self.shared.stop();
        let _ = self.channels.writer.send(WriterJob::Stop);
        let _ = self.channels.apply.send(ApplyJob::Stop);
        self.outside.close();
        let logged = self.shared.unanswered();
        let fault = self.shared.fault.borrow().clone();
        let error = fault.map_or(WriteError::ShuttingDown, WriteError::Stopped);
        for Pending { entry, waiters } in std::mem::take(&mut self.pending) {
            self.fail(&entry.body, waiters, &logged);
        }
        for Draft { body, waiters, .. } in std::mem::take(&mut self.drafts) {
            self.fail(&body, waiters, &error);
        }
        self.leave_askers(&error);
        if let Some(started) = self.started.take() {
            // Whoever waited for the start may be gone.
            let _ = started.send(Err(error.clone()));
        }
        while let Ok(event) = events.try_recv() {
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

    /// Tells who waits for an entry with this body that there is no answer.
    pub(super) fn fail(&mut self, body: &Body, waiters: Waiters, error: &WriteError) {
        match (body, waiters) {
            (Body::Commands(commands), Waiters::Commands(waiters)) => {
                self.admission.fail(commands, waiters, error);
            }
            (_, Waiters::Proposal(reply)) => drop(reply.send(Err(error.clone()))),
            _ => {}
        }
    }
}
