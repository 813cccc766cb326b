//! Commands and replies as a plugin's own types, instead of bytes.
//!
//! The clients of the shipped plugins, [`Kv`](crate::kv::Kv) and [`Ledger`](crate::ledger::Ledger), are made of this.
//! The author of another plugin ships one with a line, and may wrap it in functions as those do:
//! ```no_run
//! use mortise_client::typed::{Json, Typed};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize)]
//! #[serde(rename_all = "snake_case")]
//! enum Command { Add { name: String, amount: u64 } }
//! #[derive(Deserialize)]
//! struct Value { value: u64 }
//! #[derive(Serialize)]
//! #[serde(rename_all = "snake_case")]
//! enum Request { Get { name: String } }
//!
//! type Counter = Typed<Json<Command, Value, Request, Value>>;
//!
//! # async fn example(client: mortise_client::Client) -> Result<(), mortise_client::ClientError> {
//! let counter = Counter::new(client.tenant("visits"));
//! let now = counter.write(&Command::Add { name: "home".into(), amount: 1 }).await?;
//! let seen = counter.query(&Request::Get { name: "home".into() }).await?;
//! assert!(seen.value >= now.value);
//! # Ok(()) }
//! ```

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{Freshness, Tenant};
use crate::error::{ClientError, ErrorKind};
use crate::writer::Writer;

/// What a plugin understands and answers, and how that becomes bytes: [`Json`], [`Protobuf`], or your own.
pub trait Messages {
    /// A write.
    type Command;
    /// What a write answers.
    type Reply;
    /// A read.
    type Request;
    /// What a read answers.
    type Response;

    /// The bytes of a command.
    ///
    /// # Errors
    /// It has no form in this encoding, and why.
    fn encode_command(command: &Self::Command) -> Result<Vec<u8>, String>;

    /// Reads a reply.
    ///
    /// # Errors
    /// The bytes are none, and why.
    fn decode_reply(bytes: &[u8]) -> Result<Self::Reply, String>;

    /// The bytes of a request.
    ///
    /// # Errors
    /// It has no form in this encoding, and why.
    fn encode_request(request: &Self::Request) -> Result<Vec<u8>, String>;

    /// Reads a response.
    ///
    /// # Errors
    /// The bytes are none, and why.
    fn decode_response(bytes: &[u8]) -> Result<Self::Response, String>;
}

/// [`Messages`] in JSON, by serde: command, reply, request and response.
pub struct Json<C, R, Q, A>(PhantomData<fn(C, R, Q, A)>);

impl<C: Serialize, R: DeserializeOwned, Q: Serialize, A: DeserializeOwned> Messages for Json<C, R, Q, A> {
    type Command = C;
    type Reply = R;
    type Request = Q;
    type Response = A;

    fn encode_command(command: &C) -> Result<Vec<u8>, String> {
        serde_json::to_vec(command).map_err(|error| error.to_string())
    }

    fn decode_reply(bytes: &[u8]) -> Result<R, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    fn encode_request(request: &Q) -> Result<Vec<u8>, String> {
        serde_json::to_vec(request).map_err(|error| error.to_string())
    }

    fn decode_response(bytes: &[u8]) -> Result<A, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// [`Messages`] in protobuf, by prost: command, reply, request and response.
pub struct Protobuf<C, R, Q, A>(PhantomData<fn(C, R, Q, A)>);

impl<C: Message, R: Message + Default, Q: Message, A: Message + Default> Messages for Protobuf<C, R, Q, A> {
    type Command = C;
    type Reply = R;
    type Request = Q;
    type Response = A;

    fn encode_command(command: &C) -> Result<Vec<u8>, String> {
        Ok(command.encode_to_vec())
    }

    fn decode_reply(bytes: &[u8]) -> Result<R, String> {
        R::decode(bytes).map_err(|error| error.to_string())
    }

    fn encode_request(request: &Q) -> Result<Vec<u8>, String> {
        Ok(request.encode_to_vec())
    }

    fn decode_response(bytes: &[u8]) -> Result<A, String> {
        A::decode(bytes).map_err(|error| error.to_string())
    }
}

/// A tenant whose plugin understands `M`. Cheap to clone.
pub struct Typed<M> {
    tenant: Tenant,
    writer: Option<Writer>,
    freshness: Freshness,
    messages: PhantomData<fn(M)>,
}

impl<M> Clone for Typed<M> {
    fn clone(&self) -> Self {
        Self {
            tenant: self.tenant.clone(),
            writer: self.writer.clone(),
            freshness: self.freshness,
            messages: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Typed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, writer, freshness, messages: _ } = self;
        let mut typed = f.debug_struct("Typed");
        typed.field("tenant", tenant).field("writer", writer).field("freshness", freshness).finish()
    }
}

impl<M: Messages> Typed<M> {
    /// Over the tenant itself: each write is one call; see [`Tenant::write`].
    pub fn new(tenant: Tenant) -> Self {
        Self { tenant, writer: None, freshness: Freshness::default(), messages: PhantomData }
    }

    /// The tenant.
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Over a writer of this tenant: many writes can be in flight, each exactly once.
    pub fn with_writer(tenant: Tenant, writer: Writer) -> Self {
        Self { writer: Some(writer), ..Self::new(tenant) }
    }

    /// The same, but reads are as fresh as said here. Default: linearizable.
    #[must_use]
    pub fn reading(self, freshness: Freshness) -> Self {
        Self { freshness, ..self }
    }

    /// One write.
    ///
    /// # Errors
    /// Those of [`Tenant::write`] or [`Writer::write`]; [`ErrorKind::Invalid`] for a command that cannot be encoded;
    /// [`ErrorKind::Protocol`] for a reply that cannot be decoded: then the write took effect.
    pub async fn write(&self, command: &M::Command) -> Result<M::Reply, ClientError> {
        let command = M::encode_command(command).map_err(not_encoded)?;
        let reply = match &self.writer {
            Some(writer) => writer.write(command).await?,
            None => self.tenant.write(command).await?.reply,
        };
        M::decode_reply(&reply).map_err(|error| not_decoded(&error).with_effect())
    }

    /// One read.
    ///
    /// # Errors
    /// Those of [`Tenant::query_fresh`]; [`ErrorKind::Invalid`] for a request that cannot be encoded;
    /// [`ErrorKind::Protocol`] for a response that cannot be decoded.
    pub async fn query(&self, request: &M::Request) -> Result<M::Response, ClientError> {
        let request = M::encode_request(request).map_err(not_encoded)?;
        let answer = self.tenant.query_fresh(request, self.freshness).await?;
        M::decode_response(&answer.response).map_err(|error| not_decoded(&error))
    }

    /// A command's bytes, for a [`Writer`] that carries many.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a command that cannot be encoded.
    pub fn encode(command: &M::Command) -> Result<Bytes, ClientError> {
        M::encode_command(command).map(Bytes::from).map_err(not_encoded)
    }
}

/// An answer that is another than the question's.
pub(crate) fn unexpected() -> ClientError {
    not_decoded("it answers something else")
}

fn not_encoded(error: String) -> ClientError {
    ClientError::new(ErrorKind::Invalid, format!("the message cannot be encoded: {error}"))
}

fn not_decoded(error: &str) -> ClientError {
    let message = format!("the answer is none of this plugin's ({error}): does the tenant run another?");
    ClientError::new(ErrorKind::Protocol, message)
}
