//! The data service: tenants, their sessions, writes and queries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mortise_core::ids::{LogIndex, SessionId};
use mortise_proto::v1;
use mortise_proto::v1::data_client::DataClient;
use tonic::transport::Channel;

use crate::connection::{Connection, MESSAGE_BYTES_MAX, Repeat, check_size};
use crate::error::{ClientError, ErrorKind};
use crate::options::Options;
use crate::position::Position;
use crate::routes::Subject;
use crate::watch::{Watch, WatchOptions};
use crate::writer::{Writer, WriterOptions};

/// Connections to the data services of nodes. Cheap to clone; clones share them, and what they know of who leads.
/// They mend themselves, and every call goes to the node that leads its tenant's group.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Connection,
}

/// A tenant, by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub(crate) connection: Connection,
    pub(crate) name: Arc<str>,
}

/// Within a session every write takes effect at most once, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number, unique in the group for ever.
    pub id: SessionId,
    /// It ends when unused this long.
    pub ttl: Duration,
}

/// A write's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The plugin's own bytes.
    pub reply: Bytes,
    /// The log entry that carried the write: its token.
    pub position: Position,
}

/// A query's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The plugin's own bytes.
    pub response: Bytes,
    /// The log index whose state was read.
    pub applied: LogIndex,
}

/// How fresh a query's answer has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// It shows every write that was acknowledged before the query was sent. Only the leader gives it.
    #[default]
    Linearizable,
    /// The same, without asking the other members: right as long as no two machines' clocks differ in speed by a
    /// tenth. Only the leader gives it.
    Lease,
    /// It shows every write that was acknowledged longer than so many milliseconds before the query came. Any member
    /// gives it; the endpoints take turns.
    StaleMs(u64),
    /// It shows the write with this position. Any member gives it; the endpoints take turns.
    AtLeast(Position),
}

impl Client {
    /// Connects to the first of the endpoints where a node answers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the options do not fit together,
    /// [`ErrorKind::Unavailable`] where nobody answers at any of them within
    /// `connect_timeout`.
    pub async fn connect(options: &Options) -> Result<Self, ClientError> {
        Ok(Self { connection: Connection::open(options, &options.endpoints).await? })
    }

    /// The same, but it connects at the first call, which then waits for the node up to `timeout`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the options do not fit together.
    pub fn lazy(options: &Options) -> Result<Self, ClientError> {
        Ok(Self { connection: Connection::lazy(options, &options.endpoints)? })
    }

    /// The same, to the nodes that etcd knows, wherever they are. `endpoints` of the options is not used; the nodes are spoken
    /// to with TLS where `ca_pem` is set.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where the options do not fit together,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where no node has registered yet.
    #[cfg(feature = "etcd")]
    pub fn discover(options: &Options, discovery: &crate::discovery::Discovery) -> Result<Self, ClientError> {
        Ok(Self { connection: Connection::discover(options, discovery, |addresses| &addresses.data)? })
    }

    /// A handle of a tenant. Whether there is one shows at its first call.
    pub fn tenant(&self, name: impl Into<Arc<str>>) -> Tenant {
        Tenant { connection: self.connection.clone(), name: name.into() }
    }
}

impl Tenant {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One write outside any session, as one call. It is sent again only after a failure that surely left no effect;
    /// where the connection breaks in between, [`ClientError::took_effect`] says unknown. A [`Writer`] has no such
    /// doubt, and is many times as fast.
    ///
    /// # Errors
    /// What the node or its plugin answers; see [`ErrorKind`].
    pub async fn write(&self, command: impl Into<Bytes>) -> Result<Written, ClientError> {
        let response = self.call_write(command.into(), v1::Ack::Committed).await?;
        let (Some(reply), Some(position)) = (response.reply, response.position) else {
            let problem = "the node answered without a reply and its position";
            return Err(ClientError::new(ErrorKind::Protocol, problem).effect_unknown());
        };
        Ok(Written { reply, position: position.into() })
    }

    /// A write outside of sessions.
    pub(crate) async fn call_write(
        &self,
        command: Bytes,
        ack: v1::Ack,
    ) -> Result<v1::WriteResponse, ClientError> {
        check_size(command.len())?;
        let request = v1::WriteRequest {
            tenant: self.name.to_string(),
            session: SessionId::NONE.0,
            sequence: 0,
            answered_up_to: 0,
            command,
            ack: ack.into(),
        };
        let call = |channel, request| async move { data(channel).write(request).await };
        self.connection.call(self.leader(), Repeat::IfWithoutEffect, request, call).await
    }

    /// One read. It sees every write that was acknowledged before.
    ///
    /// # Errors
    /// What the node or its plugin answers; see [`ErrorKind`].
    pub async fn query(&self, request: impl Into<Bytes>) -> Result<Answer, ClientError> {
        self.query_fresh(request, Freshness::Linearizable).await
    }

    /// One read, as fresh as it has to be.
    ///
    /// # Errors
    /// As [`Tenant::query`].
    pub async fn query_fresh(
        &self,
        request: impl Into<Bytes>,
        freshness: Freshness,
    ) -> Result<Answer, ClientError> {
        let (subject, freshness) = match freshness {
            Freshness::Linearizable => (self.leader(), None),
            Freshness::Lease => (self.leader(), Some(v1::query_request::Freshness::Lease(true))),
            Freshness::StaleMs(max) => (Subject::Anyone, Some(v1::query_request::Freshness::StaleMsMax(max))),
            Freshness::AtLeast(position) => {
                (Subject::Anyone, Some(v1::query_request::Freshness::AtLeast(position.into())))
            }
        };
        let request = request.into();
        check_size(request.len())?;
        let request = v1::QueryRequest { tenant: self.name.to_string(), request, freshness };
        let call = |channel, request| async move { data(channel).query(request).await };
        let response = self.connection.call(subject, Repeat::Freely, request, call).await?;
        Ok(Answer { response: response.response, applied: LogIndex(response.applied_index) })
    }

    /// Opens a session that ends when unused for `ttl`. Default: the longest that the profile allows, as for a
    /// longer `ttl`.
    ///
    /// # Errors
    /// Those of a call; [`ErrorKind::Overloaded`] where the tenant has too many.
    pub async fn open_session(&self, ttl: Option<Duration>) -> Result<Session, ClientError> {
        // At least 1: 0 would ask for the default.
        let ttl_ms = ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        let request = v1::OpenSessionRequest { tenant: self.name.to_string(), ttl_ms };
        // One session too many does no harm: it expires.
        let call = |channel, request| async move { data(channel).open_session(request).await };
        let response = self.connection.call(self.leader(), Repeat::Quickly, request, call).await?;
        Ok(Session { id: SessionId(response.session), ttl: Duration::from_millis(response.ttl_ms) })
    }

    /// Ends a session; its outcomes are forgotten.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn close_session(&self, session: SessionId) -> Result<(), ClientError> {
        let request = v1::CloseSessionRequest { tenant: self.name.to_string(), session: session.0 };
        let call = |channel, request| async move { data(channel).close_session(request).await };
        self.connection.call(self.leader(), Repeat::Quickly, request, call).await?;
        Ok(())
    }

    /// Opens a session and a pipeline of writes in it: the fast way to write, and the one that is exactly once.
    ///
    /// # Errors
    /// As [`Tenant::open_session`].
    pub async fn writer(&self, options: WriterOptions) -> Result<Writer, ClientError> {
        let session = self.open_session(options.session_ttl).await?;
        Ok(Writer::resume(self, session.id, 1, options))
    }

    /// Watches what is applied: see [`Watch`]. It returns when a node has begun to tell.
    ///
    /// # Errors
    /// As [`Watch::told`]; and [`ErrorKind::DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded) where no node begins
    /// within the `timeout` of the options.
    pub async fn watch(&self, options: WatchOptions) -> Result<Watch, ClientError> {
        Watch::open(self, options).await
    }

    pub(crate) fn leader(&self) -> Subject {
        Subject::Tenant(Arc::clone(&self.name))
    }
}

pub(crate) fn data(channel: Channel) -> DataClient<Channel> {
    DataClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
