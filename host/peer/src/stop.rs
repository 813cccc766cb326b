//! A sign that something has ended, for everything that belongs to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Is given once, and stays given.
#[derive(Debug)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Gives the sign.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the sign is given, or can be given no more.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut sign = self.0.subscribe();
        async move {
            // Without a sender there is nothing left to wait for.
            let _ = sign.wait_for(|given| *given).await;
        }
    }
}

/// Gives the sign when it is dropped, however that comes.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Locks, also what a thread that panicked has left: everything under these locks is whole at every step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
