//! `snapshot`, `restore` and `migrate`: calls that move a whole state.
//!
//! ```text
//!   caller's thread                         guest's thread
//!   source / output / target ◀── Request ── host function, in the guest's call
//!                             ── Answer ──▶
//! ```
//! The guest runs on a thread of its own because wasmtime's data cannot borrow, and what callers hand in does. At
//! most one chunk or one flush is under way at a time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::{Bytes, BytesMut};
use mortise_core::layer::Layer;
use mortise_core::outcome::Failure;
use mortise_core::state::{StateError, StateReader};

use crate::config::NATIVE_STACK_BYTES_MIN;
use crate::failure::{LocalFault, Stop};
use crate::instance::Instance;
use crate::logs::Logs;

/// Largest piece of a snapshot that is handed on at once, in bytes. A guest's larger chunks are split.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// What a snapshot's source or destination may fail with.
pub type StreamError = Box<dyn std::error::Error + Send + Sync>;

/// Where `restore` and `migrate` write: an unpublished installation.
pub trait BulkTarget {
    /// The state as flushed so far.
    fn reader(&self) -> Result<Arc<dyn StateReader>, StateError>;

    /// Adds writes. The next [`reader`](Self::reader) shows them.
    fn flush(&mut self, layer: Layer) -> Result<(), StateError>;
}

/// What a successful `restore` or `migrate` leaves beside its writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkDone {
    /// What `next-due` was set to, where it was.
    pub due: Option<Option<u64>>,
    /// Fuel used.
    pub fuel: u64,
    /// Bytes that the instance's memories had grown to.
    pub memory_bytes: u64,
    /// What the plugin logged.
    pub logs: Logs,
}

/// Why a bulk call failed. What it wrote to its target or output is worthless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkFailure {
    /// The plugin said so.
    #[error("the plugin refused: {0}")]
    Refused(String),
    /// The plugin trapped or passed a limit.
    #[error("{0}")]
    Failed(Failure),
    /// The snapshot is longer than its caller allows. Local to this replica.
    #[error("the snapshot is longer than the {bytes_max} bytes allowed")]
    TooLong {
        /// The caller's limit.
        bytes_max: u64,
    },
}

pub(crate) enum Request {
    Write(Bytes),
    Read(usize),
    Flush(Layer),
}

pub(crate) enum Answer {
    Done,
    Chunk(Option<Bytes>),
    Reader(Arc<dyn StateReader>),
}

/// The guest's end. It gathers small writes and reads ahead, so that a guest's small chunks do not each cost a
/// change of threads; and chunks have the sizes the guest asks for, whatever sizes the source gives.
pub(crate) struct Line {
    requests: SyncSender<Request>,
    answers: Receiver<Answer>,
    outgoing: BytesMut,
    incoming: BytesMut,
    ended: bool,
}

impl Line {
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), Stop> {
        self.outgoing.extend_from_slice(piece);
        if self.outgoing.len() >= PIECE_BYTES_MAX { self.write_out() } else { Ok(()) }
    }

    /// Hands on what was gathered.
    fn write_out(&mut self) -> Result<(), Stop> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let piece = self.outgoing.split().freeze();
        match self.ask(Request::Write(piece))? {
            Answer::Done => Ok(()),
            _ => Err(hung_up()),
        }
    }

    /// Exactly `bytes_max` bytes (taken as 1 where it is 0, as [`PIECE_BYTES_MAX`] where it is more), fewer only at
    /// the end, `None` behind it. So what a guest sees does not depend on how its snapshot is stored.
    pub(crate) fn read(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Stop> {
        let wanted = bytes_max.clamp(1, PIECE_BYTES_MAX);
        while self.incoming.len() < wanted && !self.ended {
            match self.ask(Request::Read(PIECE_BYTES_MAX))? {
                Answer::Chunk(Some(chunk)) => self.incoming.extend_from_slice(&chunk),
                Answer::Chunk(None) => self.ended = true,
                _ => return Err(hung_up()),
            }
        }
        let bytes = wanted.min(self.incoming.len());
        Ok((bytes > 0).then(|| self.incoming.split_to(bytes).freeze()))
    }

    /// The state with `layer` in it.
    pub(crate) fn flush(&mut self, layer: Layer) -> Result<Arc<dyn StateReader>, Stop> {
        match self.ask(Request::Flush(layer))? {
            Answer::Reader(reader) => Ok(reader),
            _ => Err(hung_up()),
        }
    }

    fn ask(&mut self, request: Request) -> Result<Answer, Stop> {
        self.requests.send(request).map_err(|_| hung_up())?;
        self.answers.recv().map_err(|_| hung_up())
    }
}

/// The caller's end is gone because it failed; its error is the one that counts.
fn hung_up() -> Stop {
    Stop::Fault(LocalFault::Thread("the caller gave up".into()))
}

/// The first piece of what is left of a chunk; `None` where nothing is left.
pub(crate) fn piece(rest: &[u8]) -> Option<&[u8]> {
    (!rest.is_empty()).then(|| rest.get(..PIECE_BYTES_MAX).unwrap_or(rest))
}

/// Why serving a request ends the call.
pub(crate) enum Break {
    Fault(LocalFault),
    TooLong { bytes_max: u64 },
}

impl From<StateError> for Break {
    fn from(error: StateError) -> Self {
        Self::Fault(error.into())
    }
}

/// Runs `call` over `instance` on a thread of its own, while `serve` answers its requests on this one.
pub(crate) fn run<R: Send>(
    instance: &mut Instance,
    call: impl FnOnce(&mut Instance) -> Result<Result<R, Failure>, LocalFault> + Send,
    mut serve: impl FnMut(Request) -> Result<Answer, Break>,
) -> Result<Result<R, BulkFailure>, LocalFault> {
    let (requests, incoming) = sync_channel(1);
    let (outgoing, answers) = sync_channel(1);
    let (buffer, ended) = (BytesMut::new(), false);
    let line = Line { requests, answers, outgoing: buffer.clone(), incoming: buffer, ended };
    instance.guest_mut().line = Some(line);
    let (result, broken) = std::thread::scope(|scope| {
        let guest = move || {
            let result = call(instance);
            let rest = instance.guest_mut().line.as_mut().map_or(Ok(()), Line::write_out);
            // Hangs up, which ends the loop below.
            instance.guest_mut().line = None;
            match rest {
                Err(Stop::Fault(fault)) if matches!(result, Ok(Ok(_))) => Err(fault),
                _ => result,
            }
        };
        let thread =
            std::thread::Builder::new().name("mortise-bulk".into()).stack_size(NATIVE_STACK_BYTES_MIN);
        let thread =
            thread.spawn_scoped(scope, guest).map_err(|error| LocalFault::Thread(error.to_string()))?;
        let broken = incoming.iter().find_map(|request| match serve(request) {
            // If the guest does not wait any more, it has hung up too.
            Ok(answer) => outgoing.send(answer).err().map(|_| None),
            Err(broken) => Some(Some(broken)),
        });
        drop((incoming, outgoing));
        let result = thread.join().map_err(|_| LocalFault::Thread("a bulk call panicked".into()))?;
        Ok::<_, LocalFault>((result, broken.flatten()))
    })?;
    match broken {
        Some(Break::Fault(fault)) => Err(fault),
        Some(Break::TooLong { bytes_max }) => Ok(Err(BulkFailure::TooLong { bytes_max })),
        None => Ok(result?.map_err(BulkFailure::Failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_never_empty() {
        assert_eq!(piece(&[]), None);
        assert_eq!(piece(&[1, 2]), Some(&[1, 2][..]));
        assert_eq!(piece(&vec![0; PIECE_BYTES_MAX + 1]).map(<[u8]>::len), Some(PIECE_BYTES_MAX));
    }
}
