//! Who is let in, and how much of this node one peer may use.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use mortise_core::group::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Status};

use crate::caller::{Stranger, caller};
use crate::counters::Count;
use crate::options::{Options, STREAMS_MAX};
use crate::shared::{Member, Shared};
use crate::stop::{Stop, StopOnDrop, locked};

/// What a peer uses of this node.
pub(crate) struct Guest {
    /// Places for its replication streams.
    streams: Arc<Semaphore>,
    /// Its newest control call; an older one ends.
    control: Mutex<Arc<Stop>>,
    openings: Mutex<Openings>,
}

/// A bucket of permissions to open something, which fills up with time.
struct Openings {
    left: f64,
    counted: Instant,
    per_second: f64,
}

impl Guest {
    pub(crate) fn new(options: &Options) -> Self {
        let per_second = f64::from(options.opens_per_second_max);
        Self {
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            control: Mutex::new(Arc::new(Stop::new())),
            openings: Mutex::new(Openings { left: per_second, counted: Instant::now(), per_second }),
        }
    }

    /// Ends the control call before, and gives the sign that will end this one.
    pub(super) fn newest_control(&self) -> StopOnDrop {
        let stop = Arc::new(Stop::new());
        let before = std::mem::replace(&mut *locked(&self.control), Arc::clone(&stop));
        before.stop();
        StopOnDrop(stop)
    }
}

impl Openings {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.per_second);
        self.counted = now;
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

/// The member that speaks, where it may speak to this node at all.
pub(super) fn admit<T>(shared: &Shared, request: &Request<T>) -> Result<Arc<Member>, Status> {
    if shared.stop.is_stopped() {
        return Err(Status::unavailable("this node stops"));
    }
    let node = caller(request.metadata(), shared.identity).map_err(|stranger| {
        let Stranger { node, count, status } = *stranger;
        shared.counters.complain(node, count, &status.message());
        status
    })?;
    check_certificate(shared, node, request).map_err(|why| {
        let why = format!("the call does not come with the certificate of node {node}: {why}");
        shared.counters.complain(node, Count::OtherCertificate, &why);
        Status::permission_denied(why)
    })?;
    shared.member(node).ok_or_else(|| {
        let status = no_member(node);
        shared.counters.complain(node, Count::UnknownNode, &status.message());
        status
    })
}

/// Whether the connection that a call came on belongs to `node`, where certificates tell.
fn check_certificate<T>(shared: &Shared, node: NodeId, request: &Request<T>) -> Result<(), String> {
    let Some(names) = shared.tls.as_ref().and_then(|tls| tls.names.as_ref()) else { return Ok(()) };
    let shown = request.peer_certs();
    let own = shown.as_ref().and_then(|chain| chain.first()).ok_or("none was shown")?;
    names.check(node, own)
}

/// The same for a call that costs more than an answer.
pub(super) fn admit_opening<T>(shared: &Shared, request: &Request<T>) -> Result<Arc<Member>, Status> {
    let member = admit(shared, request)?;
    if locked(&member.guest.openings).take(Instant::now()) {
        return Ok(member);
    }
    let words = "too many calls a second";
    shared.counters.complain(member.node, Count::TooManyOpens, &words);
    Err(Status::resource_exhausted(words))
}

/// A place for one replication stream, as long as it is held.
pub(super) fn place(shared: &Shared, member: &Member) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(&member.guest.streams).try_acquire_owned().map_err(|_| {
        let words = format!("{STREAMS_MAX} replication streams are open");
        shared.counters.complain(member.node, Count::TooManyStreams, &words);
        Status::resource_exhausted(words)
    })
}

pub(super) fn no_member(node: NodeId) -> Status {
    Status::permission_denied(format!("node {node} is not a member of the cluster, as far as is known here"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn openings_come_back_with_time() {
        let start = Instant::now();
        let mut openings = Openings { left: 2.0, counted: start, per_second: 2.0 };
        let taken: Vec<bool> = [0, 0, 0, 400, 600, 600, 10_000, 10_000, 10_000]
            .map(|ms| openings.take(start + Duration::from_millis(ms)))
            .into();
        assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
    }
}
