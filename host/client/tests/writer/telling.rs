//! What a node tells those who watch: commands 1, 2, 3 …, as many as a test says, and its misbehaviour.

use std::pin::Pin;

use futures::stream::unfold;
use futures::{Stream, StreamExt as _};
use mortise_proto::v1::{
    self, ErrorCode, ErrorDetail, WatchRequest, WatchResponse, watch_event, watch_request,
};
use tokio::sync::watch;
use tonic::Status;

/// The number of the tenant that is watched, unless a test drops it.
pub(crate) const TENANT: u64 = 5;

/// What nodes of one group tell, and how one of them misbehaves.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    /// The newest command.
    pub(crate) newest: u64,
    /// The oldest that is kept.
    pub(crate) oldest: u64,
    /// The tenant's number.
    pub(crate) tenant: u64,
    /// Commands in one response.
    pub(crate) in_one: u64,
    /// Breaks a watch off after so many commands. 0: never.
    pub(crate) cut_every: u64,
    /// Says nothing from this command on.
    pub(crate) silent_from: u64,
    /// Leaves this command out, or tells it twice.
    pub(crate) skips: u64,
    pub(crate) repeats: u64,
    /// Does not lead, nor will it.
    pub(crate) deposed: Option<String>,
    /// What was asked for.
    pub(crate) asked: Vec<WatchRequest>,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            newest: 0,
            oldest: 1,
            tenant: TENANT,
            in_one: 3,
            cut_every: 0,
            silent_from: u64::MAX,
            skips: 0,
            repeats: 0,
            deposed: None,
            asked: Vec::new(),
        }
    }
}

pub(crate) type Responses = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

struct Place {
    telling: watch::Receiver<Telling>,
    next: u64,
    told: u64,
    marked: bool,
}

pub(crate) fn watch(telling: &watch::Sender<Telling>, request: WatchRequest) -> Result<Responses, Status> {
    telling.send_modify(|telling| telling.asked.push(request.clone()));
    let now = telling.borrow().clone();
    if request.tenant_id != 0 && request.tenant_id != now.tenant {
        return Err(ErrorDetail::new(ErrorCode::NotFound, "it is dropped").into());
    }
    let next = match request.from {
        Some(watch_request::From::Sequence(sequence)) => sequence,
        Some(watch_request::From::Oldest(_)) => now.oldest,
        None => now.newest + 1,
    };
    if let Some(after) = request.after {
        assert_eq!(after, position(next - 1), "the place is that of the command before");
    }
    let place = Place { telling: telling.subscribe(), next, told: 0, marked: false };
    let responses = unfold(Some(place), |place| async move {
        let mut place = place?;
        let response = place.next().await;
        let over = response.is_err();
        Some((response, (!over).then_some(place)))
    });
    Ok(responses.boxed())
}

impl Place {
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        loop {
            let now = self.telling.borrow_and_update().clone();
            if let Some(leader_hint) = now.deposed {
                let detail = ErrorDetail::new(ErrorCode::NotLeader, "another node leads").retryable();
                return Err(ErrorDetail { leader_hint, ..detail }.into());
            }
            if self.next < now.oldest {
                let detail = ErrorDetail::new(ErrorCode::Compacted, "gone");
                return Err(ErrorDetail { oldest_sequence: now.oldest, ..detail }.into());
            }
            if now.cut_every > 0 && self.told >= now.cut_every {
                return Err(Status::unavailable("cut"));
            }
            let caught_up = self.next > now.newest;
            if self.next < now.silent_from && (!caught_up || !self.marked) {
                let last = now.newest.min(self.next + now.in_one - 1);
                let mut events = Vec::new();
                for sequence in self.next..=last {
                    if sequence != now.skips {
                        events.push(event(sequence));
                    }
                    if sequence == now.repeats {
                        events.push(event(sequence));
                    }
                }
                self.told += last + 1 - self.next;
                (self.next, self.marked) = (last + 1, caught_up);
                return Ok(WatchResponse {
                    events,
                    next_sequence: self.next,
                    tenant_id: now.tenant,
                    after: (self.next > 1).then(|| position(self.next - 1)),
                    caught_up,
                });
            }
            if self.telling.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            self.marked &= now.newest == self.telling.borrow().newest;
        }
    }
}

pub(crate) fn position(sequence: u64) -> v1::Position {
    v1::Position { epoch: 1 + sequence / 100, index: sequence * 2, group: 1 }
}

fn event(sequence: u64) -> v1::WatchEvent {
    let put = v1::WatchPut { key: "key".into(), value: sequence.to_string().into() };
    v1::WatchEvent {
        sequence,
        position: Some(position(sequence)),
        time_ms: sequence,
        principal: String::new(),
        cause: Some(watch_event::Cause::Command(format!("c{sequence}").into())),
        outcome: Some(watch_event::Outcome::Reply(format!("r{sequence}").into())),
        effects: vec![v1::WatchEffect { effect: Some(v1::watch_effect::Effect::Put(put)) }],
    }
}
