//! Who runs the driver: its own thread, and the log writer's where the driver is at rest.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mortise_core::replica::WriteId;

use super::{Driver, Event};

/// Events handled before the driver looks whether it can close an entry: bounds how long a busy channel can keep an
/// idle log waiting.
const EVENTS_PER_TURN: usize = 256;
/// How long a stop waits for what was accepted: a leader that the others do not answer would wait for ever.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// The driver, shared by its own thread and the log writer's.
#[derive(Clone)]
pub(crate) struct DriverCell(Arc<Mutex<Option<Driver>>>);

impl DriverCell {
    pub(crate) fn new(driver: Driver) -> Self {
        Self(Arc::new(Mutex::new(Some(driver))))
    }

    /// Runs until shut down or stopped by a fault.
    pub(crate) fn run(self, events: &Receiver<Event>) {
        while let Some(wait) = self.with(|driver| driver.wait()) {
            let event = match events.recv_timeout(wait) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if self.with(|driver| driver.turn(event, events)) != Some(true) {
                break;
            }
        }
        let driver = self.0.lock().ok().and_then(|mut driver| driver.take());
        if let Some(driver) = driver {
            driver.end(events);
        }
    }

    /// Everything up to this write is durable: what follows from that is done at once, on the caller's thread. False
    /// where the driver is busy: it has to be told by an event. Changing threads costs a lone write more than the
    /// driver's work on it.
    pub(crate) fn durable(&self, write: WriteId) -> bool {
        let Ok(mut driver) = self.0.try_lock() else { return false };
        driver.as_mut().map(|driver| driver.on_durable(write)).is_some()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Driver) -> T) -> Option<T> {
        self.0.lock().ok()?.as_mut().map(act)
    }
}

impl Driver {
    /// Handles an event and what else has come meanwhile. False when it is time to end.
    fn turn(&mut self, event: Option<Event>, events: &Receiver<Event>) -> bool {
        event.into_iter().chain(events.try_iter().take(EVENTS_PER_TURN)).for_each(|event| self.handle(event));
        self.tick();
        self.append();
        let done = self.shutdown.as_ref().is_some_and(|(_, asked)| {
            (self.pending.is_empty() && self.drafts.is_empty()) || asked.elapsed() > STOP_TIME_MAX
        });
        !done && self.shared.fault.borrow().is_none()
    }
}
