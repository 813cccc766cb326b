//! What a leader knows of one other member.

use std::collections::VecDeque;

use crate::group::Incarnation;
use crate::ids::LogIndex;
use crate::replica::event::MonoTime;
use crate::replica::message::StreamId;

/// The state of the stream to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Link {
    /// None; one may be opened from then on.
    Closed { retry_at: MonoTime },
    /// Asked for.
    Opening { stream: StreamId, since: MonoTime },
    /// Open; where the two logs part is not known yet.
    Matching { stream: StreamId, since: MonoTime, rounds: u32 },
    /// What the peer misses is no longer in the log: it fetches a snapshot.
    Snapshot { stream: StreamId, offered_at: MonoTime },
    /// The logs are the same up to where entries are sent from.
    Streaming(Streaming),
}

/// A stream on which entries flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Streaming {
    pub(super) stream: StreamId,
    /// The next entry to send.
    pub(super) next: LogIndex,
    /// Appends without an answer: the index each reaches, and its bytes.
    pub(super) flying: VecDeque<(LogIndex, usize)>,
    pub(super) flying_bytes: usize,
    /// Entries are being read back from the log.
    pub(super) reading: bool,
    /// When the peer last made progress, or had nothing to do.
    pub(super) progress_at: MonoTime,
}

/// Another member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    incarnation: Incarnation,
    pub(super) link: Link,
    /// Durable there, acknowledged in this epoch by this incarnation.
    pub(super) acked: LogIndex,
    /// It had everything that was in the log at this moment.
    pub(super) caught_up_at: MonoTime,
    /// The log's end at some moment: when it is acknowledged, the peer had caught up with that moment.
    mark: (LogIndex, MonoTime),
    /// The newest beacon it answered.
    pub(super) round: u64,
    /// Its newest lease runs from here.
    pub(super) leased_from: Option<MonoTime>,
    /// Where its state was compared last, and whether it was the same.
    pub(super) compared: Option<(LogIndex, bool)>,
    /// Its newest digest, until this replica has applied as much.
    pub(super) report: Option<(LogIndex, crate::digest::Digest)>,
    /// It is to rebuild its state.
    pub(super) rebuilding: bool,
    /// It waits for a snapshot to do so, one that reaches at least this far: its log begins there.
    pub(super) rebuild_from: Option<LogIndex>,
    /// Bounds how often it is offered a snapshot for that.
    pub(super) rebuild_offered_at: MonoTime,
}

impl Peer {
    pub(super) fn new(incarnation: Incarnation, now: MonoTime) -> Self {
        Self {
            incarnation,
            link: Link::Closed { retry_at: now },
            acked: LogIndex(0),
            caught_up_at: now,
            mark: (LogIndex(u64::MAX), now),
            round: 0,
            leased_from: None,
            compared: None,
            report: None,
            rebuilding: false,
            rebuild_from: None,
            rebuild_offered_at: MonoTime(0),
        }
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The stream to it, however far it is.
    pub(super) fn stream(&self) -> Option<StreamId> {
        match &self.link {
            Link::Closed { .. } => None,
            Link::Opening { stream, .. } | Link::Matching { stream, .. } | Link::Snapshot { stream, .. } => {
                Some(*stream)
            }
            Link::Streaming(streaming) => Some(streaming.stream),
        }
    }

    pub(super) fn streaming(&mut self) -> Option<&mut Streaming> {
        match &mut self.link {
            Link::Streaming(streaming) => Some(streaming),
            _ => None,
        }
    }

    pub(super) fn is_streaming(&self) -> bool {
        matches!(self.link, Link::Streaming(_))
    }

    /// It acknowledged everything up to `index`, in a log that ends at `last`.
    pub(super) fn on_durable(&mut self, index: LogIndex, last: LogIndex, now: MonoTime) {
        self.acked = self.acked.max(index);
        if self.acked >= last {
            self.caught_up_at = now;
            self.mark = (last, now);
        } else if self.acked >= self.mark.0 {
            self.caught_up_at = self.caught_up_at.max(self.mark.1);
            self.mark = (last, now);
        } else if self.mark.0 > last {
            self.mark = (last, now);
        }
        if let Link::Streaming(streaming) = &mut self.link {
            while let Some((_, bytes)) = streaming.flying.pop_front_if(|(reached, _)| *reached <= index) {
                streaming.flying_bytes -= bytes;
                streaming.progress_at = now;
            }
        }
    }

    /// The time of a pause of the leader is not held against it.
    pub(super) fn forgive(&mut self, pause: u64) {
        self.caught_up_at = self.caught_up_at.after(pause);
        if let Link::Streaming(streaming) = &mut self.link {
            streaming.progress_at = streaming.progress_at.after(pause);
        }
    }
}
