//! Who runs the driver: its own thread, and the log writer's where the driver is at rest.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use mortise_core::replica::WriteId;

use super::{Driver, Event};

/// Events handled before the driver looks whether it can close an entry: bounds how long a busy channel can keep an
/// idle log waiting.
const EVENTS_PER_TURN: usize = 256;
/// How long a stop waits for what was accepted: a leader that the others do not answer would wait for ever.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// The driver, as its own thread has it.
pub(crate) struct DriverCell(Arc<Mutex<Option<Driver>>>);

/// The driver, as the log writer has it: it does not keep it alive, for the driver holds the log writer's queue.
pub(crate) struct DriverHandle(Weak<Mutex<Option<Driver>>>);

impl DriverCell {
    pub(crate) fn new(driver: Driver) -> Self {
        Self(Arc::new(Mutex::new(Some(driver))))
    }

    pub(crate) fn handle(&self) -> DriverHandle {
        DriverHandle(Arc::downgrade(&self.0))
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

    fn with<T>(&self, act: impl FnOnce(&mut Driver) -> T) -> Option<T> {
        self.0.lock().ok()?.as_mut().map(act)
    }
}

impl DriverHandle {
    /// Everything up to this write is durable: what follows from that is done at once, on the caller's thread. False
    /// where the driver is busy or gone: it has to be told by an event. Changing threads costs a lone write more than
    /// the driver's work on it. A fault met here is noticed by the driver's thread at its next tick.
    pub(crate) fn durable(&self, write: WriteId) -> bool {
        let Some(cell) = self.0.upgrade() else { return false };
        let Ok(mut driver) = cell.try_lock() else { return false };
        driver.as_mut().map(|driver| driver.on_durable(write)).is_some()
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
