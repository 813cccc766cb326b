//! A node that keeps sessions as the protocol says, and misbehaves where it may: it drops streams, delays, reorders
//! and repeats answers, refuses for overload, does not lead, and says so or says nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::Stream;
use mortise_proto::v1::data_server::{Data, DataServer};
use mortise_proto::v1::query_request::Freshness;
use mortise_proto::v1::{
    self, Ack, ErrorCode, ErrorDetail, StreamWrite, WriteResult, WriteStreamRequest, WriteStreamResponse,
    write_result,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::telling::{self, Responses, Telling};

/// How the node misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Cuts a stream after so many writes, before their answers are sent. 0: never.
    pub(crate) cut_every: usize,
    /// Sends the answers of a message backwards.
    pub(crate) reorder: bool,
    /// Sends each answer twice.
    pub(crate) repeat: bool,
    /// Waits before it answers a message.
    pub(crate) delay: Duration,
    /// Refuses every so many-th write for overload, the first time it comes. 0: never.
    pub(crate) overload_every: usize,
    /// Answers nothing on streams.
    pub(crate) silent: bool,
    /// Answers no opening of a session.
    pub(crate) mute: bool,
    /// Executes every so many-th write, the first time it comes, and says that it lost the leadership. 0: never.
    pub(crate) lost_every: usize,
    /// Knows no write streams, as a release before them.
    pub(crate) without_streams: bool,
    /// Says nothing when a stream is opened.
    pub(crate) streams_hang: bool,
    /// Answers a single write with nothing in it, as another release might.
    pub(crate) answers_nothing: bool,
    /// Of the writes with `ack = leader`, acknowledges every so many-th, the first time it comes, and neither executes it nor
    /// says anything more. 0: never.
    pub(crate) acknowledge_only_every: usize,
}

/// Which tenants a node does not lead, each with the hint it gives.
pub(crate) type Follows = HashMap<String, String>;

#[derive(Default)]
pub(crate) struct State {
    /// Commands in the order in which they were executed.
    pub(crate) executed: Vec<Vec<u8>>,
    /// How many messages, and how many writes in them.
    pub(crate) messages: usize,
    pub(crate) writes: usize,
    pub(crate) streams: usize,
    pub(crate) answered_up_to: u64,
    /// Leaderships that were lost behind a write.
    pub(crate) lost: HashSet<u64>,
    /// The tokens that were given out, each with the session and sequence that it stands for.
    pub(crate) tokens: BTreeMap<u64, (u64, u64)>,
    /// Writes that were asked for with their tokens.
    pub(crate) asked: usize,
    only_acknowledged: HashSet<u64>,
    sessions: HashMap<u64, Session>,
    overloaded: HashSet<u64>,
    until_cut: usize,
}

#[derive(Default)]
struct Session {
    answered_up_to: u64,
    outcomes: BTreeMap<u64, write_result::Result>,
}

/// Nodes of one group share the state: what a leader executed, all have.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) faults: Arc<Mutex<Faults>>,
    pub(crate) follows: Arc<Mutex<Follows>>,
    /// Calls and messages refused because it does not lead.
    pub(crate) refusals: Arc<AtomicUsize>,
    /// What it tells those who watch.
    pub(crate) telling: Arc<watch::Sender<Telling>>,
    /// What the queries that it answered asked for.
    pub(crate) queries: Arc<Mutex<Vec<Option<Freshness>>>>,
}

pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) endpoint: String,
    /// Of its own, so that its end cuts every connection, as a killed process would.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Node {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            state: Arc::default(),
            faults: Arc::new(Mutex::new(faults)),
            follows: Arc::default(),
            refusals: Arc::default(),
            telling: Arc::new(watch::Sender::new(Telling::default())),
            queries: Arc::default(),
        }
    }

    /// Another node of the same group.
    pub(crate) fn peer(&self) -> Self {
        Self { state: Arc::clone(&self.state), ..Self::new(Faults::default()) }
    }

    pub(crate) fn refusals(&self) -> usize {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Why it does not answer for a tenant.
    fn refusal(&self, tenant: &str) -> Option<ErrorDetail> {
        let follows = self.follows.lock().unwrap();
        let hint = follows.get(tenant)?.clone();
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let detail = ErrorDetail::new(ErrorCode::NotLeader, "another node leads").retryable();
        Some(ErrorDetail { leader_hint: hint, ..detail })
    }

    fn check_leads(&self, tenant: &str) -> Result<(), Status> {
        self.refusal(tenant).map_or(Ok(()), |detail| Err(detail.into()))
    }

    /// Says nothing, where that is its fault.
    async fn speak(&self) {
        if self.faults.lock().unwrap().mute {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(&self, address: &str) -> Running {
        let listener = loop {
            // What held the address may need a moment to let go of it.
            match std::net::TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = self.clone();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            let server = tonic::transport::Server::builder().add_service(DataServer::new(node));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Running { node: self.clone(), endpoint, runtime: Some(runtime) }
    }

    fn execute(
        &self,
        session: u64,
        answered_up_to: u64,
        sequence: u64,
        command: &[u8],
    ) -> write_result::Result {
        let faults = *self.faults.lock().unwrap();
        let mut guard = self.state.lock().unwrap();
        let state = &mut *guard;
        let error = |code| write_result::Result::Error(ErrorDetail::new(code, "refused"));
        state.answered_up_to = state.answered_up_to.max(answered_up_to);
        let Some(known) = state.sessions.get_mut(&session) else { return error(ErrorCode::SessionExpired) };
        assert!(answered_up_to < sequence, "{sequence} is called answered");
        known.answered_up_to = known.answered_up_to.max(answered_up_to);
        known.outcomes = known.outcomes.split_off(&(answered_up_to + 1));
        if sequence <= known.answered_up_to {
            return error(ErrorCode::AlreadyAnswered);
        }
        let late = faults.overload_every > 0 && sequence.is_multiple_of(faults.overload_every as u64);
        if late && state.overloaded.insert(sequence) {
            return write_result::Result::Error(ErrorDetail::new(ErrorCode::Overloaded, "full").retryable());
        }
        let outcome = known.outcomes.entry(sequence).or_insert_with(|| {
            if command.windows(6).any(|part| part == b"reject") {
                let rejection = mortise_core::outcome::Rejection {
                    kind: mortise_core::outcome::RejectionKind::Conflict,
                    code: "no".into(),
                    message: "rejected".into(),
                };
                return write_result::Result::Error(ErrorDetail::rejected(&rejection));
            }
            state.executed.push(command.to_vec());
            write_result::Result::Reply([b"re:", command].concat().into())
        });
        let outcome = outcome.clone();
        let lost = faults.lost_every > 0 && sequence.is_multiple_of(faults.lost_every as u64);
        if lost && state.lost.insert(sequence) {
            let detail = ErrorDetail::new(ErrorCode::NotLeader, "the leadership was lost");
            return write_result::Result::Error(detail.retryable().effect_unknown());
        }
        outcome
    }

    /// What is told of a write: of one with `ack = leader` its token first, and perhaps nothing more.
    fn tell(&self, session: u64, answered_up_to: u64, write: &StreamWrite) -> Vec<write_result::Result> {
        if write.token.is_some() {
            return vec![self.recorded(session, write)];
        }
        let mut told = Vec::new();
        if write.ack() == Ack::Leader {
            let faults = *self.faults.lock().unwrap();
            let mut state = self.state.lock().unwrap();
            let index = state.tokens.len() as u64 + 1;
            state.tokens.insert(index, (session, write.sequence));
            told.push(write_result::Result::Acknowledged(v1::Position { epoch: 1, index, group: 1 }));
            let every = faults.acknowledge_only_every as u64;
            let only = every > 0 && write.sequence.is_multiple_of(every);
            if only && state.only_acknowledged.insert(write.sequence) {
                return told;
            }
        }
        told.push(self.execute(session, answered_up_to, write.sequence, &write.command));
        told
    }

    /// What became of a write that was acknowledged before.
    fn recorded(&self, session: u64, write: &StreamWrite) -> write_result::Result {
        assert!(write.command.is_empty(), "a write that was acknowledged is sent again");
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        let outcome = state.sessions.get(&session).and_then(|known| known.outcomes.get(&write.sequence));
        let lost = || write_result::Result::Error(ErrorDetail::new(ErrorCode::Lost, "lost"));
        outcome.cloned().unwrap_or_else(lost)
    }

    /// The answers to a message; `None`: the stream is cut.
    fn answer(&self, message: WriteStreamRequest, refused: &mut bool) -> Option<WriteStreamResponse> {
        let faults = *self.faults.lock().unwrap();
        let WriteStreamRequest { tenant, session, answered_up_to, writes } = message;
        {
            let mut state = self.state.lock().unwrap();
            state.messages += 1;
            state.writes += writes.len();
        }
        let mut results = Vec::new();
        // What follows a refused write on its stream is refused as well.
        let led_no_more = || ErrorDetail::new(ErrorCode::NotLeader, "it led no more").retryable();
        let refusal = self.refusal(&tenant).or_else(|| refused.then(led_no_more));
        *refused |= refusal.is_some();
        for write in writes {
            let told = match &refusal {
                None => self.tell(session, answered_up_to, &write),
                Some(detail) => vec![write_result::Result::Error(detail.clone())],
            };
            let sequence = write.sequence;
            results.extend(told.into_iter().map(|told| WriteResult { sequence, result: Some(told) }));
            let mut state = self.state.lock().unwrap();
            state.until_cut += 1;
            if faults.cut_every > 0 && state.until_cut >= faults.cut_every {
                state.until_cut = 0;
                return None;
            }
        }
        if faults.repeat {
            results.extend(results.clone());
        }
        if faults.reorder {
            results.reverse();
        }
        (!faults.silent).then_some(())?;
        Some(WriteStreamResponse { tenant, session, results })
    }
}

#[tonic::async_trait]
impl Data for Node {
    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        self.speak().await;
        self.check_leads(&request.into_inner().tenant)?;
        let mut state = self.state.lock().unwrap();
        let session = 7 + state.sessions.len() as u64;
        state.sessions.insert(session, Session::default());
        Ok(Response::new(v1::OpenSessionResponse { session, ttl_ms: 60_000 }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        self.state.lock().unwrap().sessions.remove(&request.into_inner().session);
        Ok(Response::new(v1::CloseSessionResponse {}))
    }

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let v1::WriteRequest { tenant, command, .. } = request.into_inner();
        self.check_leads(&tenant)?;
        self.state.lock().unwrap().executed.push(command.to_vec());
        if self.faults.lock().unwrap().lost_every > 0 {
            let detail = ErrorDetail::new(ErrorCode::NotLeader, "the leadership was lost");
            return Err(detail.retryable().effect_unknown().into());
        }
        if self.faults.lock().unwrap().answers_nothing {
            return Ok(Response::new(v1::WriteResponse::default()));
        }
        let position = Some(v1::Position { epoch: 1, index: 1, group: 1 });
        Ok(Response::new(v1::WriteResponse { reply: Some(command), position }))
    }

    type WriteStreamStream = Pin<Box<dyn Stream<Item = Result<WriteStreamResponse, Status>> + Send>>;

    async fn write_stream(
        &self,
        request: Request<Streaming<WriteStreamRequest>>,
    ) -> Result<Response<Self::WriteStreamStream>, Status> {
        self.state.lock().unwrap().streams += 1;
        let Faults { without_streams, streams_hang, .. } = *self.faults.lock().unwrap();
        if without_streams {
            return Err(Status::unimplemented(""));
        }
        if streams_hang {
            std::future::pending::<()>().await;
        }
        let (sender, receiver) = mpsc::channel(64);
        let node = self.clone();
        let mut messages = request.into_inner();
        tokio::spawn(async move {
            let mut refused = false;
            while let Some(message) = messages.next().await {
                let message = match message {
                    Ok(message) => message,
                    Err(status) => return drop(sender.send(Err(status)).await),
                };
                let Faults { delay, silent, .. } = *node.faults.lock().unwrap();
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                match node.answer(message, &mut refused) {
                    Some(response) => drop(sender.send(Ok(response)).await),
                    None if silent => {}
                    None => {
                        let _ = sender.send(Err(Status::unavailable("cut"))).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn ask_fate(
        &self,
        request: Request<v1::AskFateRequest>,
    ) -> Result<Response<v1::AskFateResponse>, Status> {
        let v1::AskFateRequest { tenant, token, wait_ms, .. } = request.into_inner();
        self.check_leads(&tenant)?;
        let of = self.state.lock().unwrap().tokens.get(&token.unwrap().index).copied();
        let Some((session, sequence)) = of else {
            // Whoever waits is left waiting as long as it wants.
            tokio::time::sleep(Duration::from_millis(wait_ms.into())).await;
            return Ok(Response::new(v1::AskFateResponse::default()));
        };
        let state = self.state.lock().unwrap();
        let outcome = state.sessions.get(&session).and_then(|known| known.outcomes.get(&sequence));
        let fate = if outcome.is_some() { v1::Fate::Committed } else { v1::Fate::Lost };
        Ok(Response::new(v1::AskFateResponse { fate: fate.into(), outcome: None }))
    }

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<v1::QueryResponse>, Status> {
        let v1::QueryRequest { tenant, request, freshness } = request.into_inner();
        if !matches!(freshness, Some(Freshness::StaleMsMax(_) | Freshness::AtLeast(_))) {
            self.check_leads(&tenant)?;
        }
        self.queries.lock().unwrap().push(freshness);
        Ok(Response::new(v1::QueryResponse { response: request, applied_index: 1 }))
    }

    type WatchStream = Responses;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Responses>, Status> {
        Ok(Response::new(telling::watch(&self.telling, request.into_inner())?))
    }
}
