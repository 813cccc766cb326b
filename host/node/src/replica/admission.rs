//! Admission: what a write meets before it may enter the log, and how it gets its answer.
//!
//! A write of a session is, in this order: attached to the same write in flight; answered with its recorded outcome;
//! validated by the plugin and let in. In flight comes first, because an outcome becomes visible in the session
//! table a moment before the state that it belongs to.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mortise_core::digest::Context;
use mortise_core::entry::Command;
use mortise_core::ids::{LogIndex, PluginDigest, Sequence, SessionId, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::session::SessionKey;
use mortise_core::state::StateReader;
use mortise_runtime::{Caller, LocalFault, Refusal};

use super::api::{Answer, AnswerSink, INSTANCES_IN_USE, Write, WriteError, Written};
use super::plan::CommandResult;
use super::shared::{Shared, clock};
use super::tables::Tables;

/// Tenants for which an instance for `validate` is kept. More take turns.
const CALLERS_MAX: usize = 32;

/// Who waits for a command.
pub(crate) struct Waiter {
    sink: Arc<dyn AnswerSink>,
    tenant: TenantId,
    session: SessionId,
    sequence: Sequence,
    bytes: usize,
}

/// See the module's documentation.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    /// Writes of sessions that are in flight, with those who asked again.
    in_flight: HashMap<(SessionKey, Sequence), Vec<Waiter>>,
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

/// Gathers answers, and hands them over a sink at a time.
struct Answers {
    sink: Option<Arc<dyn AnswerSink>>,
    answers: Vec<Answer>,
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
    pub(crate) fn admit(
        &mut self,
        writes: Vec<Write>,
        stream: u64,
        sink: &Arc<dyn AnswerSink>,
    ) -> Vec<(Command, Waiter)> {
        let shared = self.shared.clone();
        let tables = shared.tables();
        let refusal = shared.refusal().clone();
        let mut admitted = Vec::with_capacity(writes.len());
        let mut answers = Answers { sink: None, answers: Vec::new() };
        let mut view = None;
        for write in writes {
            let waiter = Waiter::new(&write, sink);
            let standing = match self.stand(&tables, &write, stream) {
                Standing::Attach => {
                    let key = ((write.tenant, write.session), write.sequence);
                    self.in_flight.entry(key).or_default().push(waiter);
                    continue;
                }
                Standing::Answer(result) => result,
                Standing::New => match &refusal {
                    Some(refusal) => Err(refusal.clone()),
                    None => match self.validate(&tables, &write, &mut view) {
                        Ok(()) => {
                            self.note_in_flight(&write);
                            admitted.push((command(write), waiter));
                            continue;
                        }
                        Err(error) => Err(error),
                    },
                },
            };
            shared.in_flight.release(1, waiter.bytes);
            answers.add(waiter, standing);
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
            return Standing::New;
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
            return Standing::Answer(answer(result, LogIndex(0)));
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
        self.in_flight.insert((session, write.sequence), Vec::new());
        *self.in_flight_per_session.entry(session).or_default() += 1;
    }

    /// Answers an entry's commands, and everybody who asked again meanwhile.
    pub(crate) fn answer(
        &mut self,
        index: LogIndex,
        commands: &[Command],
        waiters: Vec<Waiter>,
        results: Vec<CommandResult>,
    ) {
        let mut answers = Answers { sink: None, answers: Vec::with_capacity(commands.len()) };
        let mut bytes = 0;
        let mut count = 0;
        for (waiter, result) in waiters.into_iter().zip(results) {
            let result = answer(result, index);
            for again in self.landed(&waiter) {
                bytes += again.bytes;
                count += 1;
                answers.add(again, result.clone());
            }
            bytes += waiter.bytes;
            count += 1;
            answers.add(waiter, result);
        }
        self.shared.in_flight.release(count, bytes);
        answers.send();
    }

    /// Takes a write out of those in flight.
    fn landed(&mut self, waiter: &Waiter) -> Vec<Waiter> {
        if waiter.session == SessionId::NONE {
            return Vec::new();
        }
        let session = (waiter.tenant, waiter.session);
        if let MapEntry::Occupied(mut count) = self.in_flight_per_session.entry(session) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.in_flight.remove(&(session, waiter.sequence)).unwrap_or_default()
    }

    /// Tells everybody who waits for these commands that they will not be answered.
    pub(crate) fn fail(&mut self, waiters: Vec<Waiter>, error: &WriteError) {
        let mut answers = Answers { sink: None, answers: Vec::new() };
        for waiter in waiters {
            for again in self.landed(&waiter) {
                answers.add(again, Err(error.clone()));
            }
            answers.add(waiter, Err(error.clone()));
        }
        answers.send();
    }

    /// Tells a caller that its writes will not be answered.
    pub(crate) fn refuse(&mut self, writes: &[Write], sink: &Arc<dyn AnswerSink>, error: &WriteError) {
        refuse(writes, sink, error);
    }
}

/// Answers every write with the same error.
pub(crate) fn refuse(writes: &[Write], sink: &Arc<dyn AnswerSink>, error: &WriteError) {
    let answers = writes.iter().map(|write| Answer {
        tenant: write.tenant,
        session: write.session,
        sequence: write.sequence,
        result: Err(error.clone()),
    });
    sink.answers(answers.collect());
}

enum Standing {
    New,
    Attach,
    Answer(Result<Written, WriteError>),
}

fn answer(result: CommandResult, index: LogIndex) -> Result<Written, WriteError> {
    match result {
        CommandResult::Outcome(Outcome::Applied(reply)) => Ok(Written { reply, index }),
        CommandResult::Outcome(Outcome::Rejected(rejection)) => Err(WriteError::Rejected(rejection)),
        CommandResult::Outcome(Outcome::Failed(failure)) => Err(WriteError::Failed(failure)),
        CommandResult::NoSuchTenant => Err(WriteError::NoSuchTenant),
        CommandResult::SessionExpired => Err(WriteError::SessionExpired),
        CommandResult::Answered => Err(WriteError::AlreadyAnswered),
    }
}

fn command(write: Write) -> Command {
    let Write { tenant, session, sequence, answered_up_to, principal, payload } = write;
    Command { tenant, session, sequence, answered_up_to, principal, payload }
}

impl Waiter {
    /// Bytes of the command.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn new(write: &Write, sink: &Arc<dyn AnswerSink>) -> Self {
        Self {
            sink: sink.clone(),
            tenant: write.tenant,
            session: write.session,
            sequence: write.sequence,
            bytes: write.payload.len(),
        }
    }
}

impl Answers {
    fn add(&mut self, waiter: Waiter, result: Result<Written, WriteError>) {
        if self.sink.as_ref().is_some_and(|sink| !Arc::ptr_eq(sink, &waiter.sink)) {
            self.send();
        }
        self.answers.push(Answer {
            tenant: waiter.tenant,
            session: waiter.session,
            sequence: waiter.sequence,
            result,
        });
        self.sink = Some(waiter.sink);
    }

    fn send(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        if let Some(sink) = self.sink.take() {
            sink.answers(answers);
        }
    }
}
