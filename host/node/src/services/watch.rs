//! Watches: what a [`Watch`] tells, as messages.
//!
//! A response is read from the database when the connection has room for it: a client that does not read costs one page.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use mortise_core::ids::{GroupId, TenantId};
use mortise_core::layer::Effect;
use mortise_core::outcome::Outcome;
use mortise_proto::v1::watch_event::{Cause, Outcome as Came};
use mortise_proto::v1::watch_request::From as Begin;
use mortise_proto::v1::{self, ErrorCode, ErrorDetail, WatchEvent, WatchResponse};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::deadline::{Ending, ending};
use super::find::Listener;
use super::guard::{Call, Measured};
use super::{Context, convert, errors};
use crate::metrics::Metrics;
use crate::replica::{Kept, Watch, WatchBatch, WatchFrom, WatchRequest, WriteError};
use crate::security::Action;

/// How often a watch says how far it is, in milliseconds, where nothing else is asked for.
const PROGRESS_MS: u64 = 5_000;
/// What may be asked for. Each time, the leader asks the other members.
const PROGRESS_MS_MIN: u64 = 100;
const PROGRESS_MS_MAX: u64 = 60_000;

/// The responses of one watch.
pub(super) type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

/// Begins a watch.
pub(super) async fn open(
    context: &Arc<Context>,
    call: Call,
    request: v1::WatchRequest,
) -> Result<WatchStream, ErrorDetail> {
    let v1::WatchRequest { tenant: name, from, tenant_id, after, key_prefix, any_member, progress_ms } =
        request;
    call.caller.check(Action::Read(&name), SystemTime::now())?;
    let progress_ms = if progress_ms == 0 { PROGRESS_MS } else { progress_ms };
    if !(PROGRESS_MS_MIN..=PROGRESS_MS_MAX).contains(&progress_ms) {
        let what = format!("progress_ms is {progress_ms}: give {PROGRESS_MS_MIN} to {PROGRESS_MS_MAX}");
        return Err(ErrorDetail::new(ErrorCode::Invalid, what));
    }
    let (replica, tenant) = context.find_tenant(&name, Listener::Data).await?;
    if tenant_id != 0 && tenant != TenantId(tenant_id) {
        let what = format!("the tenant that was watched is dropped; another one is named {name:?} now");
        return Err(ErrorDetail::new(ErrorCode::NotFound, what));
    }
    let group = replica.group();
    let after = after.map(|after| convert::token(after, &replica)).transpose()?;
    let from = match from {
        None | Some(Begin::Oldest(false)) => WatchFrom::Now,
        Some(Begin::Oldest(true)) => WatchFrom::Oldest,
        Some(Begin::Sequence(0)) => {
            return Err(ErrorDetail::new(ErrorCode::Invalid, "sequences begin at 1"));
        }
        Some(Begin::Sequence(sequence)) => WatchFrom::Sequence { sequence, after },
    };
    let permit = Arc::clone(&context.watches).try_acquire_owned().map_err(|_| {
        let what = "overloaded: too many watches are open (watches_max); try again later";
        ErrorDetail::new(ErrorCode::Overloaded, what).retryable()
    })?;
    let progress = Duration::from_millis(progress_ms);
    let request = WatchRequest { tenant, from, key_prefix, any_member, progress };
    let watch = replica.watch(request).await?;
    // It must not keep a replica that is to end.
    drop(replica);
    let told = Told {
        watch,
        group,
        name,
        tenant,
        ending: ending(context, &call).boxed(),
        call,
        open: Open::new(&context.metrics, permit),
        measured: Measured::new(&context.metrics, "Watch"),
    };
    let responses = stream::unfold(Some(told), |told| async move {
        let mut told = told?;
        match told.next().await {
            Ok(response) => Some((Ok(response), Some(told))),
            Err(detail) => {
                let status = Status::from(detail);
                told.measured.ended(status.code());
                Some((Err(status), None))
            }
        }
    });
    Ok(responses.boxed())
}

/// A watch, and the call that it belongs to.
struct Told {
    watch: Watch,
    group: GroupId,
    name: String,
    tenant: TenantId,
    call: Call,
    ending: BoxFuture<'static, Ending>,
    open: Open,
    measured: Measured,
}

impl Told {
    async fn next(&mut self) -> Result<WatchResponse, ErrorDetail> {
        let batch = tokio::select! {
            biased;
            ending = &mut self.ending => return Err(match ending {
                Ending::Deadline => errors::deadline_exceeded(false),
                Ending::Draining => WriteError::ShuttingDown.into(),
            }),
            batch = self.watch.next() => batch?,
        };
        // A token may have expired since the watch began.
        self.call.caller.check(Action::Read(&self.name), SystemTime::now())?;
        let WatchBatch { events, next, after, caught_up } = batch;
        self.open.metrics.watch_events(events.len());
        Ok(WatchResponse {
            events: events.into_iter().map(|kept| event(self.group, kept)).collect(),
            next_sequence: next,
            tenant_id: self.tenant.0,
            after: after.map(|at| convert::position(self.group, at)),
            caught_up,
        })
    }
}

/// Counts a watch from its beginning to its end.
struct Open {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(metrics: &Arc<Metrics>, permit: OwnedSemaphorePermit) -> Self {
        metrics.watch_opened();
        Self { metrics: Arc::clone(metrics), _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.watch_closed();
    }
}

fn event(group: GroupId, kept: Kept) -> WatchEvent {
    WatchEvent {
        sequence: kept.sequence,
        position: Some(convert::position(group, kept.position)),
        time_ms: kept.time.0,
        principal: kept.principal.unwrap_or_default(),
        cause: Some(kept.command.map_or(Cause::Expiration(true), Cause::Command)),
        outcome: Some(match kept.outcome {
            Outcome::Applied(reply) => Came::Reply(reply),
            Outcome::Rejected(rejection) => Came::Error(ErrorDetail::rejected(&rejection)),
            Outcome::Failed(failure) => Came::Error(ErrorDetail::failed(&failure)),
        }),
        effects: kept.effects.into_iter().map(effect).collect(),
    }
}

fn effect(effect: Effect) -> v1::WatchEffect {
    use v1::watch_effect::Effect as Message;
    let effect = match effect {
        Effect::Put(key, value) => Message::Put(v1::WatchPut { key, value }),
        Effect::Delete(key) => Message::Deleted(key),
        Effect::DeleteRange(range) => {
            Message::DeletedRange(v1::WatchRange { start: range.start, end: range.end })
        }
    };
    v1::WatchEffect { effect: Some(effect) }
}
