//! The service Data.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mortise_core::ids::{Sequence, SessionId, TenantId};
use mortise_proto::v1::data_server::Data;
use mortise_proto::v1::{
    AskFateRequest, AskFateResponse, CloseSessionRequest, CloseSessionResponse, ErrorDetail,
    OpenSessionRequest, OpenSessionResponse, QueryRequest, QueryResponse, WatchRequest, WriteRequest,
    WriteResponse, WriteStreamRequest,
};
use tonic::{Request, Response, Status, Streaming};

use super::find::Listener;
use super::guard::Call;
use super::watch::{self, WatchStream};
use super::write_stream::WriteStream;
use super::{Context, convert, errors};
use crate::config::Limits;
use crate::replica::{Replica, Told, Write, WriteError};
use crate::security::Action;

pub(super) struct DataService {
    context: Arc<Context>,
}

impl DataService {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Whether the caller may do this, and the tenant it is about. The name is looked up after the check, so that
    /// a token learns nothing of tenants that are not its own.
    async fn tenant(&self, call: &Call, action: Action<'_>) -> Result<(Replica, TenantId), ErrorDetail> {
        call.caller.check(action, SystemTime::now())?;
        let (Action::Read(name) | Action::Write(name)) = action else {
            return Err(errors::no_such_tenant(""));
        };
        self.context.find_tenant(name, Listener::Data).await
    }

    async fn open(&self, request: Request<OpenSessionRequest>) -> Result<OpenSessionResponse, ErrorDetail> {
        let call = Call::of(&request)?;
        let OpenSessionRequest { tenant, ttl_ms } = request.into_inner();
        let (replica, tenant) = self.tenant(&call, Action::Write(&tenant)).await?;
        let (session, ttl_ms) = replica.open_session(tenant, ttl_ms).await.map_err(errors::of_session)?;
        Ok(OpenSessionResponse { session: session.0, ttl_ms })
    }

    async fn close(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<CloseSessionResponse, ErrorDetail> {
        let call = Call::of(&request)?;
        let CloseSessionRequest { tenant, session } = request.into_inner();
        let (replica, tenant) = self.tenant(&call, Action::Write(&tenant)).await?;
        replica.close_session(tenant, SessionId(session)).await.map_err(errors::of_session)?;
        Ok(CloseSessionResponse {})
    }

    async fn one_write(&self, request: Request<WriteRequest>) -> Result<WriteResponse, ErrorDetail> {
        let call = Call::of(&request)?;
        let WriteRequest { tenant, session, sequence, answered_up_to, command, ack } = request.into_inner();
        let (replica, tenant) = self.tenant(&call, Action::Write(&tenant)).await?;
        let (session, sequence) = (SessionId(session), Sequence(sequence));
        check_write(&self.context.limits, session, sequence, command.len())?;
        let answered_up_to = Sequence(answered_up_to);
        let principal = call.caller.principal().map(str::to_owned);
        let (ack, token, payload) = (convert::ack(ack)?, None, command);
        let write = Write { tenant, session, sequence, answered_up_to, principal, payload, ack, token };
        let (reply, position) = match replica.write_acknowledged(write).await {
            Told::Token(token) => (None, Some(token)),
            Told::Outcome(outcome) => outcome.map(|written| (Some(written.reply), written.position))?,
        };
        Ok(WriteResponse { reply, position: position.map(|at| convert::position(replica.group(), at)) })
    }

    async fn fate(&self, request: Request<AskFateRequest>) -> Result<AskFateResponse, ErrorDetail> {
        let call = Call::of(&request)?;
        let AskFateRequest { tenant, token, session, sequence, wait_ms } = request.into_inner();
        let (replica, tenant) = self.tenant(&call, Action::Write(&tenant)).await?;
        let missing = || WriteError::Invalid("whose fate? give a token".into());
        let token = convert::token(token.ok_or_else(missing)?, &replica)?;
        let session = SessionId(session);
        let of = (session != SessionId::NONE).then_some((session, Sequence(sequence)));
        let wait = Duration::from_millis(wait_ms.into());
        Ok(convert::fate(replica.ask_fate(tenant, token, of, wait).await?))
    }

    async fn read(&self, request: Request<QueryRequest>) -> Result<QueryResponse, ErrorDetail> {
        let call = Call::of(&request)?;
        let QueryRequest { tenant, request, freshness } = request.into_inner();
        let (replica, tenant) = self.tenant(&call, Action::Read(&tenant)).await?;
        let principal = call.caller.principal().map(str::to_owned);
        let freshness = convert::freshness(freshness, &replica)?;
        let (response, index) = replica.query(tenant, principal, request, freshness).await?;
        Ok(QueryResponse { response, applied_index: index.0 })
    }
}

#[tonic::async_trait]
impl Data for DataService {
    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        Ok(self.open(request).await.map(Response::new)?)
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        Ok(self.close(request).await.map(Response::new)?)
    }

    async fn write(&self, request: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        Ok(self.one_write(request).await.map(Response::new)?)
    }

    async fn ask_fate(&self, request: Request<AskFateRequest>) -> Result<Response<AskFateResponse>, Status> {
        Ok(self.fate(request).await.map(Response::new)?)
    }

    type WriteStreamStream = WriteStream;

    async fn write_stream(
        &self,
        request: Request<Streaming<WriteStreamRequest>>,
    ) -> Result<Response<WriteStream>, Status> {
        let call = Call::of(&request)?;
        self.context.check_recovered()?;
        Ok(Response::new(WriteStream::new(&self.context, call, request.into_inner())))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryResponse>, Status> {
        Ok(self.read(request).await.map(Response::new)?)
    }

    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let call = Call::of(&request)?;
        Ok(watch::open(&self.context, call, request.into_inner()).await.map(Response::new)?)
    }
}

/// What can be said of a write without the replica.
pub(super) fn check_write(
    limits: &Limits,
    session: SessionId,
    sequence: Sequence,
    bytes: usize,
) -> Result<(), WriteError> {
    let max = limits.command_bytes_max;
    if bytes > max {
        return Err(WriteError::TooLarge { what: "a command", bytes, max });
    }
    if session != SessionId::NONE && sequence.0 == 0 {
        return Err(WriteError::Invalid("sequences in a session begin at 1".into()));
    }
    Ok(())
}
