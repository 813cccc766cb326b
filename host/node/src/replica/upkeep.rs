//! What the driver does by the clock: expirations, idle sessions, free disk, snapshots.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mortise_core::entry::{Body, SessionChange};
use mortise_core::ids::TenantId;
use mortise_core::time::LogTime;

use super::driver::{expire_sessions, expire_tenant};
use super::shared::Shared;

/// How often free disk is looked at.
const DISK_EVERY: Duration = Duration::from_millis(500);
/// How often idle sessions are looked for.
const SESSIONS_EVERY: Duration = Duration::from_secs(10);
/// How long after a failed snapshot the next is tried.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(60);
/// Sessions ended by one entry: bounds the entry.
const SESSIONS_PER_ENTRY: usize = 1_000;
/// Tenants whose `expire` is proposed in one turn: bounds the turn.
const EXPIRES_PER_TURN: usize = 64;

/// See the module's documentation.
pub(crate) struct Upkeep {
    shared: Arc<Shared>,
    disk_next: Instant,
    sessions_next: Instant,
    expiring: HashSet<TenantId>,
    expiring_sessions: bool,
    snapshot_asked: bool,
    snapshot_next: Instant,
}

impl Upkeep {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            disk_next: now,
            sessions_next: now + SESSIONS_EVERY,
            expiring: HashSet::new(),
            expiring_sessions: false,
            snapshot_asked: false,
            snapshot_next: now,
        }
    }

    /// When the next tenant is due that is not being expired already.
    pub(crate) fn first_due(&self) -> Option<LogTime> {
        let tables = self.shared.tables();
        let due = tables.tenants.iter().filter(|(id, _)| !self.expiring.contains(id));
        due.filter_map(|(_, tenant)| tenant.due).min().map(LogTime)
    }

    /// The entries whose time has come.
    pub(crate) fn due(&mut self, now: Instant, time: LogTime) -> Vec<Body> {
        let mut bodies = Vec::new();
        let tables = self.shared.tables();
        for (id, tenant) in &tables.tenants {
            let due = tenant.due.is_some_and(|due| due <= time.0);
            if due && bodies.len() < EXPIRES_PER_TURN && self.expiring.insert(*id) {
                bodies.push(expire_tenant(*id));
            }
        }
        if now >= self.sessions_next && !self.expiring_sessions {
            self.sessions_next = now + SESSIONS_EVERY;
            let idle = tables.sessions.idle(time, SESSIONS_PER_ENTRY);
            if !idle.is_empty() {
                self.expiring_sessions = true;
                bodies.push(expire_sessions(idle));
            }
        }
        bodies
    }

    /// One of these entries was applied.
    pub(crate) fn done(&mut self, body: &Body) {
        match body {
            Body::Expire { tenant } => {
                self.expiring.remove(tenant);
            }
            Body::Session(SessionChange::Expire { .. }) => self.expiring_sessions = false,
            _ => {}
        }
    }

    /// Whether the entries that were asked for will be applied is not known any more.
    pub(crate) fn forget(&mut self) {
        self.expiring.clear();
        self.expiring_sessions = false;
    }

    /// Whether enough log has gathered since the last snapshot. True once, until the log has been cut behind that snapshot.
    pub(crate) fn wants_snapshot(&mut self) -> bool {
        let every = self.shared.options.snapshot_log_bytes;
        let log = self.shared.positions.log_bytes.load(Ordering::Relaxed);
        let wanted =
            every > 0 && log >= every && !self.snapshot_asked && Instant::now() >= self.snapshot_next;
        self.snapshot_asked |= wanted;
        wanted
    }

    /// A snapshot failed: the next one is taken later.
    pub(crate) fn snapshot_failed(&mut self) {
        self.snapshot_asked = false;
        self.snapshot_next = Instant::now() + SNAPSHOT_RETRY;
    }

    /// The log was cut behind a snapshot: what it holds from now on counts for the next one.
    pub(crate) fn log_dropped(&mut self) {
        self.snapshot_asked = false;
    }

    /// Looks at free disk now and then.
    pub(crate) fn check_disk(&mut self, now: Instant) {
        if now < self.disk_next {
            return;
        }
        self.disk_next = now + DISK_EVERY;
        self.shared.check_disk();
    }
}
