//! Admission: what a write meets before it may enter the log, and how it gets its answer.
//!
//! A write of a session is, in this order: attached to the same write in flight; answered with its recorded outcome;
//! validated by the plugin and let in. In flight comes first, because an outcome becomes visible in the session
//! table a moment before the state that it belongs to. A write with a token comes as far as the recorded outcome only: a
//! leader acknowledged it before, so that it is either executed already or lost.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mortise_core::digest::Context;
use mortise_core::entry::Command;
use mortise_core::ids::{PluginDigest, Sequence, SessionId, TenantId};
use mortise_core::replica::{Ack, Position};
use mortise_core::session::SessionKey;
use mortise_core::state::StateReader;
use mortise_runtime::{Caller, LocalFault, Refusal};

use super::answers::{Answers, Waiter, Waiting, outcome};
use super::api::{AnswerSink, INSTANCES_IN_USE, Told, Write, WriteError, Written};
use super::plan::CommandResult;
use super::shared::{Shared, clock};
use super::tables::Tables;

/// Tenants for which an instance for `validate` is kept. More take turns.
const CALLERS_MAX: usize = 32;

/// What is to be done with the writes of a message that were not answered at once.
#[derive(Default)]
pub(crate) struct Admitted {
    /// To be logged.
    pub(crate) commands: Vec<(Command, Waiter)>,
    /// To be asked for.
    pub(crate) tokens: Vec<(Position, Waiter)>,
}

/// A write of a session that is in flight.
#[derive(Default)]
struct Flight {
    /// Who asked again.
    again: Vec<Waiter>,
    /// It is acknowledged by the leader alone.
    token: Option<Position>,
}

/// See the module's documentation.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    in_flight: HashMap<(SessionKey, Sequence), Flight>,
    in_flight_per_session: HashMap<SessionKey, usize>,
    /// The newest stream that named a session.
    owners: HashMap<SessionKey, u64>,
    callers: HashMap<TenantId, Validator>,
}

struct Validator {
    plugin: PluginDigest,
    profile: u64,
    caller: Caller,
}

/// What validation of one message reads: applied state as of its first write to the tenant.
struct View {
    tenant: TenantId,
    state: Arc<dyn StateReader>,
    context: Context,
}

impl Admission {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            in_flight: HashMap::new(),
            in_flight_per_session: HashMap::new(),
            owners: HashMap::new(),
            callers: HashMap::new(),
        }
    }

    /// Lets writes in; the others are answered at once.
    pub(crate) fn admit(&mut self, writes: Vec<Write>, stream: u64, sink: &Arc<dyn AnswerSink>) -> Admitted {
        let shared = self.shared.clone();
        let tables = shared.tables();
        let refusal = shared.refusal().clone();
        let mut admitted = Admitted { commands: Vec::with_capacity(writes.len()), tokens: Vec::new() };
        let mut answers = Answers::default();
        let mut view = None;
        for write in writes {
            let waiter = Waiter::new(&write, sink);
            let standing = match self.stand(&tables, &write, stream) {
                Standing::Attach => {
                    let key = ((write.tenant, write.session), write.sequence);
                    let flight = self.in_flight.entry(key).or_default();
                    if let Some(token) = flight.token.filter(|_| waiter.ack == Ack::Leader) {
                        answers.add(&waiter, Told::Token(token));
                    }
                    flight.again.push(waiter);
                    continue;
                }
                Standing::Ask(token) => {
                    admitted.tokens.push((token, waiter));
                    continue;
                }
                Standing::Answer(result) => result,
                Standing::New => match &refusal {
                    Some(refusal) => Err(refusal.clone()),
                    None => match self.validate(&tables, &write, &mut view) {
                        Ok(()) => {
                            self.note_in_flight(&write);
                            admitted.commands.push((command(write), waiter));
                            continue;
                        }
                        Err(error) => Err(error),
                    },
                },
            };
            shared.in_flight.release(1, waiter.bytes);
            answers.add(&waiter, Told::Outcome(standing));
        }
        answers.send();
        admitted
    }

    fn stand(&mut self, tables: &Tables, write: &Write, stream: u64) -> Standing {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Standing::Answer(Err(WriteError::ShuttingDown));
        }
        if !tables.tenants.contains_key(&write.tenant) {
            return Standing::Answer(Err(WriteError::NoSuchTenant));
        }
        if write.session == SessionId::NONE {
            let problem = "a write outside of sessions has no recorded outcome: ask for its token's fate";
            let refused = |_| Standing::Answer(Err(WriteError::Invalid(problem.into())));
            return write.token.map_or(Standing::New, refused);
        }
        let session = (write.tenant, write.session);
        if stream > 0 {
            let owner = self.owners.entry(session).or_insert(stream);
            *owner = (*owner).max(stream);
            if *owner > stream {
                return Standing::Answer(Err(WriteError::Superseded));
            }
        }
        if write.sequence.0 == 0 || write.answered_up_to >= write.sequence {
            let problem = "a write's sequence is at least 1 and larger than answered_up_to";
            return Standing::Answer(Err(WriteError::Invalid(problem.into())));
        }
        if self.in_flight.contains_key(&(session, write.sequence)) {
            return Standing::Attach;
        }
        if let Some(result) = CommandResult::of(tables.sessions.check(session, write.sequence)) {
            if matches!(result, CommandResult::SessionExpired) {
                self.owners.remove(&session);
            }
            return Standing::Answer(outcome(result, None));
        }
        if let Some(token) = write.token {
            return Standing::Ask(token);
        }
        let in_flight = self.in_flight_per_session.get(&session).copied().unwrap_or(0);
        if !tables.sessions.has_room(session, write.answered_up_to, in_flight + 1) {
            let full = "the session has too many unanswered outcomes: raise answered_up_to";
            return Standing::Answer(Err(WriteError::Overloaded(full)));
        }
        Standing::New
    }

    /// Asks the plugin, which may refuse what it would refuse anyway: nothing is logged then.
    fn validate(
        &mut self,
        tables: &Tables,
        write: &Write,
        view: &mut Option<View>,
    ) -> Result<(), WriteError> {
        let Some(tenant) = tables.tenants.get(&write.tenant) else { return Err(WriteError::NoSuchTenant) };
        if view.as_ref().is_none_or(|view| view.tenant != write.tenant) {
            let state = self.shared.db.reader(self.shared.state(), tenant.installation, write.tenant);
            let context = Context {
                sequence: tenant.sequence,
                time: tables.applied.time.next(clock()),
                principal: None,
            };
            *view = Some(View { tenant: write.tenant, state, context });
        }
        let Some(view) = view else { return Ok(()) };
        view.context.principal.clone_from(&write.principal);
        let caller = self.caller(tables, write.tenant, tenant.plugin)?;
        match caller.validate(view.state.clone(), &view.context, &write.payload) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => {
                self.shared.metrics.tenant(&tenant.name).refused_by_validate.inc();
                Err(match refusal {
                    Refusal::Rejected(rejection) => WriteError::Rejected(rejection),
                    Refusal::Failed(failure) => WriteError::Failed(failure),
                })
            }
            Err(LocalFault::PoolFull { .. }) => Err(WriteError::Overloaded(INSTANCES_IN_USE)),
            Err(fault) => {
                let reason = format!("validate: {:#}", anyhow::Error::from(fault));
                self.shared.set_fault(&reason);
                Err(WriteError::Stopped(reason))
            }
        }
    }

    fn caller(
        &mut self,
        tables: &Tables,
        id: TenantId,
        plugin: PluginDigest,
    ) -> Result<&mut Caller, WriteError> {
        let profile = tables.profile.version;
        let stale = self.callers.get(&id).is_none_or(|kept| kept.plugin != plugin || kept.profile != profile);
        if stale {
            let known = tables.plugins.get(&plugin).ok_or(WriteError::NoSuchTenant)?;
            if self.callers.len() >= CALLERS_MAX {
                self.callers.clear();
            }
            let caller = known.plugin.reader(&tables.profile);
            self.callers.insert(id, Validator { plugin, profile, caller });
        }
        self.callers.get_mut(&id).map(|kept| &mut kept.caller).ok_or(WriteError::NoSuchTenant)
    }

    fn note_in_flight(&mut self, write: &Write) {
        if write.session == SessionId::NONE {
            return;
        }
        let session = (write.tenant, write.session);
        self.in_flight.insert((session, write.sequence), Flight::default());
        *self.in_flight_per_session.entry(session).or_default() += 1;
    }

    /// These commands of an entry at `position` were applied: answers everybody who asked again meanwhile.
    pub(crate) fn answer(&mut self, position: Position, commands: &[Command], results: Vec<CommandResult>) {
        for (command, result) in commands.iter().zip(results) {
            let again = self.landed(command);
            if !again.is_empty() {
                self.tell(again, &outcome(result, Some(position)));
            }
        }
    }

    /// An entry with these commands is durable here: tells those who wait for no more, also those who asked again.
    pub(crate) fn acknowledge(&mut self, token: Position, waiters: &[Waiter]) {
        let mut answers = Answers::default();
        for waiter in waiters {
            let key = ((waiter.tenant, waiter.session), waiter.sequence);
            let flight = self.in_flight.get_mut(&key).filter(|_| waiter.session != SessionId::NONE);
            let again = flight.map(|flight| {
                flight.token = Some(token);
                &flight.again
            });
            let all = again.into_iter().flatten().chain([waiter]);
            all.filter(|waiter| waiter.ack == Ack::Leader).for_each(|waiter| {
                answers.add(waiter, Told::Token(token));
            });
        }
        answers.send();
    }

    /// Tells these what became of their writes.
    pub(crate) fn tell(&self, waiters: Vec<Waiter>, outcome: &Result<Written, WriteError>) {
        Waiting::new(&self.shared, waiters).tell(std::iter::repeat(outcome).cloned());
    }

    /// Takes a write out of those in flight. Returns who asked for it again.
    fn landed(&mut self, command: &Command) -> Vec<Waiter> {
        if command.session == SessionId::NONE {
            return Vec::new();
        }
        let session = (command.tenant, command.session);
        if let MapEntry::Occupied(mut count) = self.in_flight_per_session.entry(session) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.in_flight.remove(&(session, command.sequence)).unwrap_or_default().again
    }

    /// Tells these, and everybody who asked for these commands again, that they will not be answered.
    pub(crate) fn fail(&mut self, commands: &[Command], mut waiters: Vec<Waiter>, error: &WriteError) {
        for command in commands {
            waiters.append(&mut self.landed(command));
        }
        self.tell(waiters, &Err(error.clone()));
    }
}

enum Standing {
    New,
    Attach,
    Ask(Position),
    Answer(Result<Written, WriteError>),
}

fn command(write: Write) -> Command {
    let Write { tenant, session, sequence, answered_up_to, principal, payload, .. } = write;
    Command { tenant, session, sequence, answered_up_to, principal, payload }
}
