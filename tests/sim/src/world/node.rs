//! A node: what outlives its process, and the process.

use std::collections::BTreeMap;

use mortise_core::group::{BootId, Generation, Incarnation, LeaseId, NodeId, Nonce};
use mortise_core::ids::{LogIndex, Sequence, SessionId};
use mortise_core::replica::{MonoTime, Position, Promise, Replica, RequestId, View};

use super::client::Request;
use super::disk::{Backup, Disk};
use super::machine::Machine;

/// Why no process runs, or none that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It starts again soon.
    Restarting,
    /// It lies in pieces until the world heals: its disk is gone for good.
    Destroyed,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    pub(crate) absence: Option<Absence>,
    pub(crate) boots: u64,
    /// How much faster than the world's its clock runs, in millionths.
    pub(crate) drift: i64,
    /// What its wall clock is wrong by, in milliseconds.
    pub(crate) wall_error: i64,
    pub(crate) backup: Option<Backup>,
    /// Fsyncs take this much longer until then.
    pub(crate) disk_slow_until: u64,
    pub(crate) fsync_fails: bool,
}

impl Node {
    pub(crate) fn new(id: NodeId, number: Incarnation, drift: i64) -> Self {
        Self {
            id,
            disk: Disk::made(number),
            process: None,
            absence: None,
            boots: 0,
            drift,
            wall_error: 0,
            backup: None,
            disk_slow_until: 0,
            fsync_fails: false,
        }
    }

    /// The running process that can be talked to.
    pub(crate) fn alive(&self) -> Option<&Process> {
        self.process.as_ref().filter(|process| !process.failed)
    }

    /// Milliseconds on the wall clock, which may go back.
    pub(crate) fn wall(&self, now: u64) -> u64 {
        // The world begins long after 1970.
        (1_000_000 + now / 1000).saturating_add_signed(self.wall_error)
    }
}

/// The node's lease with the coordinator, as its process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// There is none.
    Offline,
    /// It lives until this moment: the last answered renewal was sent one TTL before.
    Live { lease: LeaseId, until: u64 },
}

/// What a call to the coordinator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Read(u64),
    Swap(Nonce),
    Session,
    Candidacy,
}

/// What the invariants saw of a process when they last looked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watched {
    pub(crate) promised: Promise,
    pub(crate) generation: Generation,
    pub(crate) commit: LogIndex,
    pub(crate) led: bool,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) boot: BootId,
    pub(crate) replica: Replica,
    /// As the last step left it.
    pub(crate) view: View,
    pub(crate) machine: Machine,
    /// What is applied in its order; the entries wait here for the apply thread.
    pub(crate) apply_up_to: LogIndex,
    pub(crate) applying: bool,
    /// A snapshot is on its way.
    pub(crate) fetching: bool,
    /// A snapshot replaces the state.
    pub(crate) installing: bool,
    /// Counts the snapshots that did: a read that was permitted on the state before has to ask again.
    pub(crate) installs: u64,
    started: u64,
    origin: u64,
    pub(crate) paused_until: u64,
    pub(crate) session: Session,
    pub(crate) calls: BTreeMap<u64, Asked>,
    pub(crate) requests: BTreeMap<RequestId, Request>,
    /// Writes in the log that are not applied yet.
    pub(crate) waiting: BTreeMap<LogIndex, (Position, RequestId)>,
    /// The same, by what a retry is known by.
    pub(crate) in_flight: BTreeMap<(SessionId, Sequence), RequestId>,
    /// A fault or a halt stopped it.
    pub(crate) failed: bool,
    pub(crate) watched: Watched,
}

impl Process {
    pub(crate) fn new(boot: BootId, replica: Replica, machine: Machine, started: u64, origin: u64) -> Self {
        let view = replica.view();
        let applied = machine.at.index;
        Self {
            boot,
            watched: Watched {
                promised: view.promised,
                generation: view.generation,
                commit: view.commit,
                led: false,
            },
            replica,
            view,
            machine,
            apply_up_to: applied,
            applying: false,
            fetching: false,
            installing: false,
            installs: 0,
            started,
            origin,
            paused_until: 0,
            session: Session::Offline,
            calls: BTreeMap::new(),
            requests: BTreeMap::new(),
            waiting: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            failed: false,
        }
    }

    /// This machine's clock, which runs `drift` millionths faster than the world's.
    pub(crate) fn clock(&self, now: u64, drift: i64) -> MonoTime {
        mono(self.origin, now - self.started, drift)
    }
}

/// A clock that showed `origin` so many microseconds ago.
pub(crate) fn mono(origin: u64, elapsed: u64, drift: i64) -> MonoTime {
    let more = (elapsed as i64).saturating_mul(drift) / 1_000_000;
    MonoTime((origin + elapsed).saturating_add_signed(more))
}
