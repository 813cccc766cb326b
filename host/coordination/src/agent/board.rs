//! What this node knows, and who must be told: one board, any number of readers.
//!
//! ```text
//!   observe ──▶ groups, nodes, tenants ─┐            ┌─▶ Changes (all groups)     a housekeeper
//!   session ──▶ session                 ├─▶  Board ──┼─▶ Changes (group 1)        a replica
//!   judge   ──▶ history                 ┘            └─▶ Changes (group 2)
//! ```
//! A reader that is slow finds the newest state, not a queue: what is kept for it is one mark for each thing that
//! changed, so it is bounded by the number of groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mortise_core::ids::GroupId;
use tokio::sync::{Notify, watch};

use super::view::{Touched, View};
use crate::error::CoordinationError;
use crate::state::{Change, GroupState, History, Nodes, SessionState, Tenants};

/// What a reader wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Everything.
    All,
    /// This node's session, the history, and one group.
    Group(GroupId),
}

pub(super) struct Board {
    present: Mutex<Present>,
    /// Whether there was a listing.
    listed: watch::Sender<bool>,
    readers: Mutex<Vec<Weak<Reader>>>,
}

struct Present {
    /// What is known of a group that has no key; `None` before the first listing, when nothing is known of any.
    absent: Option<Arc<GroupState>>,
    session: SessionState,
    history: History,
    groups: BTreeMap<GroupId, Arc<GroupState>>,
    nodes: Arc<Nodes>,
    tenants: Arc<Tenants>,
    problem: Option<CoordinationError>,
}

struct Reader {
    interest: Interest,
    marks: Mutex<Marks>,
    marked: Notify,
}

#[derive(Default)]
struct Marks {
    session: bool,
    history: bool,
    nodes: bool,
    tenants: bool,
    groups: BTreeSet<GroupId>,
}

/// The first panic is reported elsewhere; every change here is complete before anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(super) fn new() -> Self {
        let present = Present {
            absent: None,
            session: SessionState::None,
            history: History::Continuous,
            groups: BTreeMap::new(),
            nodes: Arc::default(),
            tenants: Arc::default(),
            problem: None,
        };
        Self {
            present: Mutex::new(present),
            listed: watch::Sender::new(false),
            readers: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn session(&self) -> SessionState {
        lock(&self.present).session.clone()
    }

    /// Whether there was a listing, and when there is.
    pub(super) fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    pub(super) fn problem(&self) -> Option<CoordinationError> {
        lock(&self.present).problem.clone()
    }

    pub(super) fn set_problem(&self, problem: Option<CoordinationError>) {
        lock(&self.present).problem = problem;
    }

    pub(super) fn set_session(&self, session: SessionState) {
        if std::mem::replace(&mut lock(&self.present).session, session.clone()) == session {
            return;
        }
        self.mark(|marks, _| !std::mem::replace(&mut marks.session, true));
    }

    pub(super) fn set_history(&self, history: History) {
        lock(&self.present).history = history;
        self.mark(|marks, _| !std::mem::replace(&mut marks.history, true));
    }

    /// Publishes what changed in the view.
    pub(super) fn publish(&self, view: &View, touched: &Touched) {
        let first = {
            let mut present = lock(&self.present);
            for group in &touched.groups {
                present.groups.insert(*group, Arc::new(view.group(*group)));
            }
            if touched.nodes {
                present.nodes = Arc::new(view.nodes().clone());
            }
            if touched.tenants {
                present.tenants = Arc::new(view.tenants().clone());
            }
            present.absent.replace(Arc::new(view.no_group())).is_none()
        };
        self.mark(|marks, interest| match interest {
            Interest::All => {
                marks.groups.extend(&touched.groups);
                marks.nodes |= touched.nodes || first;
                marks.tenants |= touched.tenants || first;
                true
            }
            // A group that is not there is news, too, the first time.
            Interest::Group(group) => {
                (first || touched.groups.contains(&group)) && marks.groups.insert(group)
            }
        });
        // After the marks: who waits for it finds everything marked.
        self.listed.send_if_modified(|listed| !std::mem::replace(listed, true));
    }

    /// Marks what `set` marks for each reader, and wakes those for whom it says that there is news.
    fn mark(&self, set: impl Fn(&mut Marks, Interest) -> bool) {
        lock(&self.readers).retain(|reader| {
            let Some(reader) = reader.upgrade() else { return false };
            if set(&mut lock(&reader.marks), reader.interest) {
                reader.marked.notify_one();
            }
            true
        });
    }

    /// A reader that is told everything once, and then what changes.
    pub(super) fn read(self: &Arc<Self>, interest: Interest) -> Changes {
        let reader = Arc::new(Reader { interest, marks: Mutex::default(), marked: Notify::new() });
        // Registered first: what changes in between is told once more rather than never.
        lock(&self.readers).push(Arc::downgrade(&reader));
        {
            let present = lock(&self.present);
            let mut marks = lock(&reader.marks);
            (marks.session, marks.history) = (true, true);
            if present.absent.is_some() {
                match interest {
                    Interest::All => {
                        (marks.nodes, marks.tenants) = (true, true);
                        marks.groups.extend(present.groups.keys());
                    }
                    Interest::Group(group) => _ = marks.groups.insert(group),
                }
            }
        }
        reader.marked.notify_one();
        Changes { board: self.clone(), reader }
    }
}

/// What changes, as long as it is held. See [`Change`]. Nothing changes any more once the coordination is dropped.
pub struct Changes {
    board: Arc<Board>,
    reader: Arc<Reader>,
}

impl Changes {
    /// The next thing that is otherwise than it was told last: session and history first, then nodes, tenants and
    /// groups. Waits where there is none. May be cancelled: nothing is lost.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.try_next() {
                return change;
            }
            self.reader.marked.notified().await;
        }
    }

    /// As [`next`](Self::next), without waiting.
    pub fn try_next(&mut self) -> Option<Change> {
        let mut marks = lock(&self.reader.marks);
        let present = || lock(&self.board.present);
        if std::mem::take(&mut marks.session) {
            return Some(Change::Session(present().session.clone()));
        }
        if std::mem::take(&mut marks.history) {
            return Some(Change::History(present().history.clone()));
        }
        if std::mem::take(&mut marks.nodes) {
            return Some(Change::Nodes(present().nodes.clone()));
        }
        if std::mem::take(&mut marks.tenants) {
            return Some(Change::Tenants(present().tenants.clone()));
        }
        let group = marks.groups.pop_first()?;
        let present = present();
        let state = present.groups.get(&group).or(present.absent.as_ref())?;
        Some(Change::Group(group, state.clone()))
    }
}
