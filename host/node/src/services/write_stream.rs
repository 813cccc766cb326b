//! A write stream: the hot path of the gRPC interface.
//!
//! ```text
//! messages ──▶ read ──▶ Replica::submit ──▶ … ──▶ AnswerSink ──▶ queue ──▶ respond ──▶ messages
//!               │ closed while the window is full ◀── answered ──┘
//! ```
//! One task does both directions, driven by the connection: it polls for the next response, which first takes in
//! messages and then packs up the answers that wait. So nothing here is locked, a client that does not read its
//! answers is not read either, and under load one response carries many answers.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::SystemTime;

use futures::Stream;
use mortise_core::ids::{GroupId, Sequence, SessionId, TenantId};
use mortise_proto::v1::write_result::Result as Outcome;
use mortise_proto::v1::{
    ErrorCode, ErrorDetail, StreamWrite, WriteResult, WriteStreamRequest, WriteStreamResponse,
};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};
use tracing::Span;

use super::deadline::{Ending, ending};
use super::find::Listener;
use super::guard::{Call, Measured};
use super::window::Window;
use super::{Context, convert, data, errors};
use crate::replica::{Answer, AnswerSink, Replica, Told, Write, WriteError};
use crate::security::{AccessError, Action};

/// Messages taken in before answers get their turn: a client with small messages gets a good batch into each log
/// entry, and its answers do not wait behind an endless supply of them.
const MESSAGES_PER_TURN: usize = 32;
/// Bytes of replies after which a response is sent, well under the 4 MiB that gRPC clients take by default.
const RESPONSE_BYTES_MAX: usize = 1 << 20;
/// What an answer takes beside its reply.
const ANSWER_FRAME_BYTES: usize = 16;

/// The responses of one write stream.
pub(super) struct WriteStream {
    context: Arc<Context>,
    call: Call,
    number: u64,
    /// `None`: nothing more is taken in.
    input: Option<Streaming<WriteStreamRequest>>,
    /// A message whose tenant is being looked up. Nothing is taken in behind it meanwhile.
    looked_up: Option<(WriteStreamRequest, Lookup)>,
    window: Window,
    /// Bounded by the window: only writes in flight are answered.
    sender: mpsc::UnboundedSender<(GroupId, Vec<Answer>)>,
    answers: mpsc::UnboundedReceiver<(GroupId, Vec<Answer>)>,
    /// Where each group's replica puts answers.
    sinks: HashMap<GroupId, Arc<Queue>>,
    /// Answers taken from the queue and not sent yet, all of one group.
    batch: (GroupId, std::vec::IntoIter<Answer>),
    /// Responses to messages that were refused as a whole. At most one turn's.
    refused: VecDeque<WriteStreamResponse>,
    /// Names of the tenants that were written to, for the responses.
    names: HashMap<(GroupId, TenantId), String>,
    ending: Pin<Box<dyn Future<Output = Ending> + Send>>,
    /// Why the stream ends; `None`: because the client closed it.
    reason: Option<ErrorDetail>,
    over: bool,
    measured: Measured,
    span: Span,
}

/// Who has a tenant, as soon as it is known.
type Lookup = Pin<Box<dyn Future<Output = Result<(Replica, TenantId), ErrorDetail>> + Send>>;

/// Where a replica puts answers.
struct Queue(GroupId, mpsc::UnboundedSender<(GroupId, Vec<Answer>)>);

impl AnswerSink for Queue {
    fn answers(&self, answers: Vec<Answer>) {
        // A stream that is gone needs no answers; a retry will find them recorded.
        let _ = self.1.send((self.0, answers));
    }
}

/// Why no more messages are taken in for now.
enum Pause {
    /// The turn is over; there may be more.
    Turn,
    /// Something will wake the task: a message, an answer, or the end.
    Waiting,
}

impl WriteStream {
    pub(super) fn new(context: &Arc<Context>, call: Call, input: Streaming<WriteStreamRequest>) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        let limits = &context.limits;
        context.metrics.stream_opened();
        Self {
            number: context.next_stream(),
            input: Some(input),
            looked_up: None,
            window: Window::new(limits.stream_writes_in_flight_max, limits.stream_bytes_in_flight_max),
            sender,
            answers,
            sinks: HashMap::new(),
            batch: (GroupId(0), Vec::new().into_iter()),
            refused: VecDeque::new(),
            names: HashMap::new(),
            ending: Box::pin(ending(context, &call)),
            reason: None,
            over: false,
            measured: Measured::new(&context.metrics, "WriteStream"),
            span: Span::current(),
            context: Arc::clone(context),
            call,
        }
    }

    /// Takes in messages for one turn.
    fn read(&mut self, task: &mut Task<'_>) -> Pause {
        for _ in 0..MESSAGES_PER_TURN {
            if let Some((_, lookup)) = &mut self.looked_up {
                let Poll::Ready(found) = lookup.as_mut().poll(task) else { return Pause::Waiting };
                if let Some((message, _)) = self.looked_up.take() {
                    self.pass_on(message, found);
                }
            }
            if !self.window.is_open() {
                return Pause::Waiting;
            }
            let Some(input) = self.input.as_mut() else { return Pause::Waiting };
            match Pin::new(input).poll_next(task) {
                Poll::Pending => return Pause::Waiting,
                Poll::Ready(None) => self.input = None,
                Poll::Ready(Some(Ok(message))) => self.take(message),
                Poll::Ready(Some(Err(status))) => self.stop_reading(errors::of_input(status)),
            }
        }
        Pause::Turn
    }

    fn stop_reading(&mut self, reason: ErrorDetail) {
        self.input = None;
        self.reason.get_or_insert(reason);
    }

    /// Takes a message in: finds the replica of its tenant.
    fn take(&mut self, message: WriteStreamRequest) {
        self.context.metrics.stream_message(message.writes.len());
        let count_max = self.context.limits.stream_writes_in_flight_max;
        if message.writes.len() > count_max {
            let what =
                format!("a message has {} writes, more than the {count_max} allowed", message.writes.len());
            return self.stop_reading(ErrorDetail::new(ErrorCode::TooLarge, what));
        }
        match self.call.caller.check(Action::Write(&message.tenant), SystemTime::now()) {
            Ok(()) => {}
            Err(error @ AccessError::Expired { .. }) => return self.stop_reading(error.into()),
            Err(error) => return self.refuse(message, &error.into()),
        }
        if let Some(found) = self.context.find_tenant_here(&message.tenant, Listener::Data) {
            return self.pass_on(message, found);
        }
        let (context, name) = (Arc::clone(&self.context), message.tenant.clone());
        let lookup = async move { context.find_tenant(&name, Listener::Data).await };
        self.looked_up = Some((message, Box::pin(lookup)));
    }

    /// Passes the writes of a message on to the replica that was found.
    fn pass_on(&mut self, message: WriteStreamRequest, found: Result<(Replica, TenantId), ErrorDetail>) {
        let (replica, tenant) = match found {
            Ok(found) => found,
            Err(detail) => return self.refuse(message, &detail),
        };
        let group = replica.group();
        let sink = self.sinks.entry(group).or_insert_with(|| Arc::new(Queue(group, self.sender.clone())));
        let sink = Arc::clone(sink);
        let WriteStreamRequest { tenant: name, session, answered_up_to, writes } = message;
        self.names.entry((group, tenant)).or_insert(name);
        let (session, answered_up_to) = (SessionId(session), Sequence(answered_up_to));
        let principal = self.call.caller.principal();
        let (mut accepted, mut bytes) = (Vec::with_capacity(writes.len()), 0);
        for StreamWrite { sequence, command, ack, token } in writes {
            let sequence = Sequence(sequence);
            let checked = data::check_write(&self.context.limits, session, sequence, command.len());
            let checked = checked.and_then(|()| {
                let token = token.map(|token| convert::token(token, &replica)).transpose()?;
                Ok((convert::ack(ack)?, token))
            });
            let (ack, token) = match checked {
                Ok(checked) => checked,
                Err(error) => {
                    self.window.taken(1, 0);
                    let told = Told::Outcome(Err(error));
                    sink.answers(vec![Answer { tenant, session, sequence, told }]);
                    continue;
                }
            };
            bytes += command.len();
            accepted.push(Write {
                tenant,
                session,
                sequence,
                answered_up_to,
                principal: principal.map(str::to_owned),
                payload: command,
                ack,
                token,
            });
        }
        self.window.taken(accepted.len(), bytes);
        replica.submit(accepted, self.number, sink);
    }

    /// Answers all writes of a message with the same error.
    fn refuse(&mut self, message: WriteStreamRequest, detail: &ErrorDetail) {
        let WriteStreamRequest { tenant, session, answered_up_to: _, writes } = message;
        let results = writes.into_iter().map(|write| WriteResult {
            sequence: write.sequence,
            result: Some(Outcome::Error(detail.clone())),
        });
        self.refused.push_back(WriteStreamResponse { tenant, session, results: results.collect() });
    }

    /// Packs the answers that wait into one response: those of one session, as far as they come in a row.
    fn respond(&mut self, task: &mut Task<'_>) -> Option<WriteStreamResponse> {
        if let Some(refused) = self.refused.pop_front() {
            return Some(refused);
        }
        let mut key = None;
        let mut results = Vec::new();
        let (mut bytes, mut answered) = (0, 0);
        'packing: loop {
            while let Some(next) = self.batch.1.as_slice().first() {
                let this = ((self.batch.0, next.tenant), next.session);
                if *key.get_or_insert(this) != this || bytes >= RESPONSE_BYTES_MAX {
                    break 'packing;
                }
                let Some(answer) = self.batch.1.next() else { break };
                answered += usize::from(matches!(answer.told, Told::Outcome(_)));
                let result = result(self.batch.0, answer);
                bytes += ANSWER_FRAME_BYTES + size(&result);
                results.push(result);
            }
            match self.answers.poll_recv(task) {
                Poll::Ready(Some((group, answers))) => {
                    results.reserve(answers.len());
                    self.batch = (group, answers.into_iter());
                }
                // The queue never closes: the stream itself holds a sender.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        let (tenant, session) = key?;
        self.window.answered(answered);
        self.context.metrics.stream_answers(answered);
        let tenant = self.names.get(&tenant).cloned().unwrap_or_default();
        Some(WriteStreamResponse { tenant, session: session.0, results })
    }

    /// The stream's last item, if it ends with an error.
    fn end(&mut self, reason: Option<ErrorDetail>) -> Option<Result<WriteStreamResponse, Status>> {
        self.over = true;
        (self.input, self.looked_up) = (None, None);
        let status = reason.map(Status::from);
        self.measured.ended(status.as_ref().map_or(Code::Ok, Status::code));
        status.map(Err)
    }
}

impl Stream for WriteStream {
    type Item = Result<WriteStreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let span = this.span.clone();
        let _entered = span.enter();
        if this.reason.is_none()
            && let Poll::Ready(ending) = this.ending.as_mut().poll(task)
        {
            match ending {
                Ending::Deadline => return Poll::Ready(this.end(Some(errors::deadline_exceeded(true)))),
                Ending::Draining => this.stop_reading(WriteError::ShuttingDown.into()),
            }
        }
        loop {
            let pause = this.read(task);
            if let Some(response) = this.respond(task) {
                return Poll::Ready(Some(Ok(response)));
            }
            if this.input.is_none() && this.looked_up.is_none() && this.window.is_empty() {
                let reason = this.reason.take();
                return Poll::Ready(this.end(reason));
            }
            if let Pause::Waiting = pause {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for WriteStream {
    fn drop(&mut self) {
        self.context.metrics.stream_closed();
    }
}

fn result(group: GroupId, answer: Answer) -> WriteResult {
    let result = match answer.told {
        Told::Token(token) => Outcome::Acknowledged(convert::position(group, token)),
        Told::Outcome(Ok(written)) => Outcome::Reply(written.reply),
        Told::Outcome(Err(error)) => Outcome::Error(error.into()),
    };
    WriteResult { sequence: answer.sequence.0, result: Some(result) }
}

fn size(result: &WriteResult) -> usize {
    match &result.result {
        Some(Outcome::Reply(reply)) => reply.len(),
        // A detail says its message twice where it carries a rejection.
        Some(Outcome::Error(detail)) => 2 * detail.message.len() + 32,
        Some(Outcome::Acknowledged(_)) | None => 0,
    }
}
