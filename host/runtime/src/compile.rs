//! Compiles components on a thread of their own, within a time limit.
//!
//! A compilation cannot be stopped. One that takes too long is left to run to its end on its thread, alone: until
//! it ends no other starts, so that hostile uploads cost one core at most.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::component::Component;

/// Native stack of a compiling thread. Cranelift recurses over the shape of the code.
const COMPILE_STACK_BYTES: usize = 16 << 20;

/// Why there is no compiled component.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// It is not valid, for this reason.
    Invalid(String),
    /// It took too long.
    Slow,
    /// An earlier one is still being compiled.
    Busy,
    /// No thread could be started, or it panicked.
    Thread(String),
}

/// Lets one compilation run at a time.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
    busy: Mutex<bool>,
    freed: Condvar,
}

/// Held by the compiling thread for as long as it runs.
struct Permit(Arc<Compiler>);

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
    }
}

impl Compiler {
    /// Compiles `bytes` for `engine`. Waits at most `time_max` for its turn and `time_max` for the result.
    pub(crate) fn compile(
        self: &Arc<Self>,
        engine: &wasmtime::Engine,
        bytes: &[u8],
        time_max: Duration,
    ) -> Result<Component, CompileError> {
        let permit = self.permit(time_max)?;
        let (sender, receiver) = sync_channel(1);
        let (engine, bytes) = (engine.clone(), bytes.to_vec());
        let work = move || {
            let _permit = permit;
            let result = Component::from_binary(&engine, &bytes);
            // Nobody may wait for it any more.
            let _ = sender.send(result);
        };
        let thread =
            std::thread::Builder::new().name("mortise-compile".into()).stack_size(COMPILE_STACK_BYTES);
        thread.spawn(work).map_err(|error| CompileError::Thread(error.to_string()))?;
        match receiver.recv_timeout(time_max) {
            Ok(result) => result.map_err(|error| CompileError::Invalid(format!("{error:#}"))),
            Err(RecvTimeoutError::Timeout) => Err(CompileError::Slow),
            Err(RecvTimeoutError::Disconnected) => Err(CompileError::Thread("the compiler panicked".into())),
        }
    }

    fn permit(self: &Arc<Self>, time_max: Duration) -> Result<Permit, CompileError> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_timeout_while(busy, time_max, |busy| *busy);
        let (mut busy, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(CompileError::Busy);
        }
        *busy = true;
        Ok(Permit(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_one_compiles_no_other_starts() {
        let compiler = Arc::new(Compiler::default());
        let permit = compiler.permit(Duration::ZERO).unwrap();
        assert!(matches!(compiler.permit(Duration::from_millis(1)), Err(CompileError::Busy)));
        drop(permit);
        assert!(compiler.permit(Duration::ZERO).is_ok());
    }
}
