//! A writer's task: it owns the window and the stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mortise_core::ids::SessionId;
use mortise_proto::v1::{WriteResult, WriteStreamRequest, WriteStreamResponse, write_result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::alarm::Alarm;
use super::window::{Verdict, Window};
use super::{Shared, Submission};
use crate::backoff::Backoff;
use crate::client::{Tenant, data};
use crate::connection::silent;
use crate::error::{ClientError, ErrorKind};
use crate::trail::Trail;

/// Messages handed to HTTP/2 ahead of what it has sent: one on its way and one ready. Further writes gather, which
/// makes larger messages.
const OUTGOING_MESSAGES_MAX: usize = 2;
/// Submissions taken from the queue at once: answers get their turn in between.
const SUBMISSIONS_PER_TURN: usize = 1_024;
/// How long what was sent is still cared for when all handles are gone.
const LINGER: Duration = Duration::from_secs(5);
/// A stream that is refused as superseded so soon after it was opened lost to one of our own earlier attempts that
/// arrived late; after that, somebody else uses the session.
const SUPERSEDED_GRACE: Duration = Duration::from_secs(10);
/// And that can happen a few times in a row, not for ever.
const SUPERSEDED_MAX: u32 = 3;

pub(super) struct Driver {
    tenant: Tenant,
    session: SessionId,
    /// Leads from node to node, until one of them answers.
    trail: Trail,
    submissions: mpsc::UnboundedReceiver<Submission>,
    /// Taken from the queue, but not yet looked at.
    taken: Vec<Submission>,
    window: Window,
    shared: Arc<Shared>,
    /// Who waits until all is answered.
    flushes: VecDeque<oneshot::Sender<()>>,
    /// All handles are gone since.
    abandoned: Option<Instant>,
    /// The node is overloaded: send nothing until then.
    paused_until: Option<Instant>,
    overload: Backoff,
    /// When the node last said something, or began to be waited for.
    heard: Instant,
    /// Streams in a row that ended as superseded, without an answer in between.
    superseded: u32,
    /// Why nothing gets through at the moment; callers see a copy.
    trouble: Option<ClientError>,
}

/// How a stream, or the wait for one, ended.
enum End {
    /// There is nothing left to do.
    Done,
    /// Open another one.
    Broken(ClientError),
    /// No other one would do better.
    Over(ClientError),
}

impl Driver {
    pub(super) fn new(
        tenant: Tenant,
        session: SessionId,
        submissions: mpsc::UnboundedReceiver<Submission>,
        window: Window,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            trail: tenant.connection.trail(tenant.leader()),
            tenant,
            session,
            submissions,
            taken: Vec::new(),
            window,
            shared,
            flushes: VecDeque::new(),
            abandoned: None,
            paused_until: None,
            overload: Backoff::new(),
            heard: Instant::now(),
            superseded: 0,
            trouble: None,
        }
    }

    /// Runs until all handles are gone, or nothing can be written any more.
    #[tracing::instrument(name = "writer", skip_all, fields(tenant = self.tenant.name(), session = self.session.0))]
    pub(super) async fn run(mut self) {
        loop {
            // A stream is opened when there is something to send on it.
            let mut end = self.until_unsettled().await;
            if end.is_none() {
                let opened = Instant::now();
                self.window.restart();
                end = Some(self.stream(opened).await);
            }
            match end {
                None => {}
                Some(End::Done) => return,
                Some(End::Over(error)) => return self.over(error).await,
                Some(End::Broken(error)) => {
                    let wait = self.trail.failed(&error);
                    tracing::debug!(%error, ?wait, "the stream broke; opening another");
                    self.set_trouble(Some(error));
                    if self.settled_during(wait).await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for something to send.
    async fn until_unsettled(&mut self) -> Option<End> {
        while self.window.is_settled() {
            if self.abandoned.is_some() {
                return Some(End::Done);
            }
            self.take_some().await;
        }
        None
    }

    /// Waits, but goes on taking submissions and giving up late writes. True where nothing is left to do.
    async fn settled_during(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            if self.gone() {
                return true;
            }
            let wake = self.wake().map_or(until, |wake| wake.min(until));
            tokio::select! {
                () = self.take_some() => {}
                () = sleep_until(wake) => {}
            }
            let now = Instant::now();
            self.window.expire(now, self.trouble.as_ref());
            self.tidy();
            if now >= until {
                return self.gone();
            }
        }
    }

    /// One stream, from opening to end.
    async fn stream(&mut self, opened: Instant) -> End {
        let (sender, outgoing) = mpsc::channel(OUTGOING_MESSAGES_MAX);
        let request = self.tenant.connection.request(ReceiverStream::new(outgoing));
        let mut client = data(self.trail.channel());
        let limit = self.tenant.connection.silence_timeout();
        let opening = timeout_at(opened + limit, client.write_stream(request));
        tokio::pin!(opening);
        loop {
            let wake = self.wake();
            tokio::select! {
                biased;
                response = &mut opening => {
                    self.heard = Instant::now();
                    let answers = match response {
                        Ok(Ok(response)) => self.tenant.connection.accept(response),
                        Ok(Err(status)) => Err(status.into()),
                        Err(_) => Err(silent(limit)),
                    };
                    return match answers {
                        Ok(answers) => self.pump(opened, &sender, answers).await,
                        Err(error) => end(error),
                    };
                }
                () = self.take_some() => {}
                // Nothing was sent on it yet.
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.woken(),
            }
            if self.gone() {
                return End::Done;
            }
        }
    }

    async fn pump(
        &mut self,
        opened: Instant,
        sender: &mpsc::Sender<WriteStreamRequest>,
        mut answers: Streaming<WriteStreamResponse>,
    ) -> End {
        let limit = self.tenant.connection.silence_timeout();
        let mut alarm = Alarm::new();
        let mut answered = false;
        loop {
            if self.gone() {
                return End::Done;
            }
            self.fill(sender);
            let silent_at = self.window.is_awaited().then(|| self.heard + limit);
            let has_message = self.paused_until.is_none() && self.window.has_message();
            let wake = [self.wake(), silent_at].into_iter().flatten().min();
            tokio::select! {
                biased;
                response = answers.message() => match response {
                    Ok(Some(response)) => {
                        let verdict = self.take_answers(response, opened, &mut answered);
                        self.tidy();
                        if let Some(end) = verdict {
                            return end;
                        }
                    }
                    Ok(None) => return End::Broken(ended_early()),
                    Err(status) => return self.failed(status.into()),
                },
                () = self.take_some() => {}
                // The message is made only now, so that it holds all that gathered meanwhile.
                permit = sender.reserve(), if has_message => {
                    if let (Ok(permit), Some(message)) = (permit, self.message()) {
                        permit.send(message);
                    }
                }
                () = alarm.ring(wake) => {
                    self.woken();
                    if silent_at.is_some_and(|at| at <= Instant::now()) {
                        return End::Broken(silent(limit));
                    }
                }
            }
        }
    }

    /// Hands messages to HTTP/2 as far as it takes them at once.
    fn fill(&mut self, sender: &mpsc::Sender<WriteStreamRequest>) {
        while self.paused_until.is_none() && self.window.has_message() {
            let Ok(permit) = sender.try_reserve() else { return };
            let Some(message) = self.message() else { return };
            permit.send(message);
        }
    }

    fn message(&mut self) -> Option<WriteStreamRequest> {
        let was_awaited = self.window.is_awaited();
        let (answered_up_to, writes) = self.window.next_message()?;
        if !was_awaited {
            self.heard = Instant::now();
        }
        let tenant = self.tenant.name.to_string();
        Some(WriteStreamRequest { tenant, session: self.session.0, answered_up_to, writes })
    }

    fn take_answers(
        &mut self,
        response: WriteStreamResponse,
        opened: Instant,
        answered: &mut bool,
    ) -> Option<End> {
        if response.session != self.session.0 {
            return None;
        }
        self.heard = Instant::now();
        let mut worst = None;
        let mut settled = false;
        let mut overload = None;
        for WriteResult { sequence, result } in response.results {
            let result = match result {
                Some(write_result::Result::Reply(reply)) => Ok(reply),
                Some(write_result::Result::Error(detail)) => Err(ClientError::from(detail)),
                Some(write_result::Result::Acknowledged(token)) => {
                    self.window.acknowledged(sequence, token.into());
                    settled = true;
                    continue;
                }
                None => {
                    Err(ClientError::new(ErrorKind::Protocol, "the node answered nothing").effect_unknown())
                }
            };
            match self.window.answer(sequence, result) {
                Verdict::Settled => settled = true,
                Verdict::Again(error) => {
                    if self.paused_until.is_none() {
                        self.paused_until = Some(Instant::now() + self.overload.next());
                        overload = Some(error);
                    }
                }
                // The message's other answers count all the same.
                Verdict::Over(error) => worst = Some(End::Over(error)),
                Verdict::Broken(error) if worst.is_none() => worst = Some(self.broken(error, opened)),
                Verdict::Broken(_) => {}
            }
        }
        if settled {
            self.superseded = 0;
            self.overload.reset();
            if !*answered {
                *answered = true;
                self.trail.answered();
            }
            if self.trouble.is_some() {
                self.set_trouble(None);
            }
        }
        if overload.is_some() {
            self.set_trouble(overload);
        }
        worst
    }

    fn set_trouble(&mut self, trouble: Option<ClientError>) {
        self.trouble.clone_from(&trouble);
        self.shared.set_trouble(trouble);
    }

    /// What a stream's failure means for the next one.
    fn failed(&mut self, error: ClientError) -> End {
        if error.kind() == ErrorKind::TooLarge && self.window.refuse_large(&error) {
            self.tidy();
            return End::Broken(error);
        }
        end(error)
    }

    fn broken(&mut self, error: ClientError, opened: Instant) -> End {
        if error.kind() != ErrorKind::Superseded {
            return End::Broken(error);
        }
        self.superseded += 1;
        if self.superseded > SUPERSEDED_MAX || opened.elapsed() > SUPERSEDED_GRACE {
            return End::Over(error);
        }
        End::Broken(error)
    }

    /// Takes what waits in the queue, or waits for it. Cancellation loses nothing. Never ready once all handles are
    /// gone.
    async fn take_some(&mut self) {
        if self.abandoned.is_some() {
            std::future::pending::<()>().await;
        }
        let count = self.submissions.recv_many(&mut self.taken, SUBMISSIONS_PER_TURN).await;
        if count == 0 {
            self.abandoned = Some(Instant::now());
        }
        for submission in self.taken.drain(..) {
            match submission {
                Submission::One { command, deadline, waiter } => self.window.push(command, deadline, waiter),
                Submission::Batch { commands, deadline, answer } => {
                    self.window.push_batch(commands, deadline, answer);
                }
                Submission::Acknowledge(up_to) => self.window.acknowledge(up_to),
                Submission::Flush(done) => self.flushes.push_back(done),
            }
        }
        self.tidy();
    }

    /// When to look at the clock again.
    fn wake(&self) -> Option<Instant> {
        let linger = self.abandoned.map(|since| since + LINGER);
        [self.window.deadline_min(), self.paused_until, linger].into_iter().flatten().min()
    }

    fn woken(&mut self) {
        let now = Instant::now();
        self.window.expire(now, self.trouble.as_ref());
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        self.tidy();
    }

    /// Gives back room, and tells those who wait for it that all is answered.
    fn tidy(&mut self) {
        let (writes, bytes) = self.window.take_freed();
        if writes > 0 {
            self.shared.writes.add_permits(writes);
            self.shared.bytes.add_permits(bytes);
        }
        if self.window.is_settled() {
            for done in self.flushes.drain(..) {
                let _ = done.send(());
            }
        }
    }

    /// Whether nobody is left to work for.
    fn gone(&self) -> bool {
        self.abandoned.is_some_and(|since| self.window.is_settled() || since.elapsed() > LINGER)
    }

    /// Ends everything that waits, and everything that still comes, with the error.
    async fn over(mut self, error: ClientError) {
        tracing::debug!(%error, "the writer is over");
        // What comes from now on is not sent at all.
        let error = self.shared.end.get_or_init(|| error.without_effect()).clone();
        self.set_trouble(Some(error.clone()));
        self.shared.writes.close();
        self.shared.bytes.close();
        self.submissions.close();
        while self.abandoned.is_none() {
            self.take_some().await;
        }
        self.window.fail(&error);
        self.tidy();
    }
}

fn ended_early() -> ClientError {
    ClientError::new(ErrorKind::Unavailable, "the node ended the stream").retryable()
}

/// Whether another stream may do better.
fn end(error: ClientError) -> End {
    let passes = error.is_retryable()
        || matches!(
            error.kind(),
            ErrorKind::Unavailable
                | ErrorKind::ShuttingDown
                | ErrorKind::NotLeader
                | ErrorKind::Overloaded
                | ErrorKind::Superseded
                | ErrorKind::Internal
        );
    if passes { End::Broken(error) } else { End::Over(error) }
}
