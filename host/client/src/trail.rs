//! One call's, or one writer's, way from node to node until one of them answers for its subject.
//!
//! ```text
//!   NOT_LEADER, hint to a place not asked yet ──▶ there, at once
//!   NOT_LEADER else, or no answer             ──▶ the next place not asked, after a short wait
//!   all places are asked                      ──▶ round again, after a longer wait
//!   overload and other passing refusals       ──▶ the same place, after a longer wait
//! ```
//! So nothing turns without a pause, also where hints lead in a circle: a round asks each place once.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;

use crate::backoff::Backoff;
use crate::error::{ClientError, ErrorKind};
use crate::routes::{Place, Routes, Subject};

/// Most places asked without a wait in between: a true hint is right at once, or after one change of leader.
const HOPS_MAX: u32 = 3;
/// Most places of one round: all that can be configured and learned.
const ASKED_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Trail {
    routes: Arc<Routes>,
    subject: Subject,
    place: Arc<Place>,
    /// In this round, without success.
    asked: Vec<Arc<Place>>,
    /// Without a wait in between.
    hops: u32,
    backoff: Backoff,
}

impl Trail {
    pub(crate) fn new(routes: &Arc<Routes>, subject: Subject) -> Self {
        let place = routes.start(&subject);
        Self {
            routes: Arc::clone(routes),
            subject,
            place,
            asked: Vec::new(),
            hops: 0,
            backoff: Backoff::new(),
        }
    }

    /// Where to ask now.
    pub(crate) fn channel(&self) -> Channel {
        self.place.channel.clone()
    }

    #[cfg(test)]
    pub(crate) fn authority(&self) -> String {
        self.place.authority().to_owned()
    }

    /// The place answered: what fails from now on is another matter.
    pub(crate) fn answered(&mut self) {
        self.routes.answered(&self.subject, &self.place);
        self.asked.clear();
        self.hops = 0;
        self.backoff.reset();
    }

    /// Takes the error, which may pass, into account, and says how long to wait before asking again.
    pub(crate) fn failed(&mut self, error: &ClientError) -> Duration {
        let mut hinted = None;
        match error.kind() {
            ErrorKind::NotLeader => {
                if let Some(group) = error.group() {
                    self.routes.belongs(&self.subject, group);
                }
                self.routes.does_not_lead(&self.subject, &self.place);
                hinted = error.leader_hint().and_then(|hint| self.routes.follow(&self.subject, hint));
            }
            ErrorKind::DeadlineExceeded => self.routes.failed(&self.place, true),
            ErrorKind::Unavailable
            | ErrorKind::ShuttingDown
            | ErrorKind::Internal
            | ErrorKind::WrongCluster => self.routes.failed(&self.place, false),
            _ => {
                self.hops = 0;
                return self.backoff.next();
            }
        }
        self.asked.push(Arc::clone(&self.place));
        if let Some(hinted) = &hinted
            && self.hops < HOPS_MAX
            && !self.asked.iter().any(|asked| Arc::ptr_eq(asked, hinted))
        {
            self.hops += 1;
            self.place = Arc::clone(hinted);
            return Duration::ZERO;
        }
        self.hops = 0;
        if self.asked.len() < ASKED_MAX
            && let Some(next) = self.routes.next(&self.subject, &self.place, &self.asked)
        {
            self.place = next;
            return self.backoff.same();
        }
        // The freshest word is the best to begin a round with.
        self.asked.clear();
        let next = hinted.or_else(|| self.routes.next(&self.subject, &self.place, &[]));
        self.place = next.unwrap_or_else(|| Arc::clone(&self.place));
        self.backoff.next()
    }
}
