//! What happens before and after every call of Data and Admin.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use mortise_proto::CLUSTER_METADATA;
use mortise_proto::v1::{ErrorCode, ErrorDetail};
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::{Instrument, Span};

use super::methods::{Method, method};
use super::{Context, deadline, errors, trace};
use crate::metrics::Metrics;
use crate::security::{Action, Caller};

/// Where the paths of Data and Admin begin.
const OURS: &str = "/mortise.v1.";

/// What the guard found out about a call, for its service.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) deadline: Option<Instant>,
}

impl Call {
    /// The call that `request` belongs to.
    ///
    /// # Errors
    /// It did not come through the guard: nobody knows who asks.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Self, ErrorDetail> {
        let unguarded = || ErrorDetail::new(ErrorCode::Internal, "the call came past the guard");
        request.extensions().get().cloned().ok_or_else(unguarded)
    }
}

/// Checks the token and which cluster is meant, keeps the deadline, counts and traces.
pub(crate) async fn guard(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let Some(method) = method(path) else {
        if path.starts_with(OURS) {
            return Status::unimplemented("no such method").into_http();
        }
        return next.run(request).await;
    };
    let span = trace::span(method.name, request.headers());
    let began = Instant::now();
    let mut response = match admit(&context, method, request, began, &span) {
        Ok((request, call)) => run(method, request, &call, next).instrument(span).await,
        Err(detail) => Status::from(detail).into_http(),
    };
    if let Some(identity) = context.identity.get() {
        response.headers_mut().insert(CLUSTER_METADATA, identity.clone());
    }
    let status = Status::from_header_map(response.headers());
    if status.is_none() && method.streams {
        return response;
    }
    let code = status.map_or(Code::Ok, |status| status.code());
    context.metrics.grpc_call(method.name, code, began.elapsed());
    response
}

fn admit(
    context: &Context,
    method: &Method,
    mut request: Request,
    began: Instant,
    span: &Span,
) -> Result<(Request, Call), ErrorDetail> {
    let now = SystemTime::now();
    let authorization = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let caller = context.tokens.caller(authorization, now)?;
    if let (Some(meant), Some(identity)) = (request.headers().get(CLUSTER_METADATA), context.identity.get())
        && meant != identity
    {
        return Err(errors::wrong_cluster());
    }
    if method.admin {
        caller.check(Action::Administer, now)?;
    }
    if let Some(principal) = caller.principal() {
        span.record("principal", principal);
    }
    // A deadline too far off to be a moment is none.
    let deadline = deadline::timeout(request.headers()).and_then(|timeout| began.checked_add(timeout));
    let call = Call { caller, deadline };
    request.extensions_mut().insert(call.clone());
    Ok((request, call))
}

async fn run(method: &Method, request: Request, call: &Call, next: Next) -> Response {
    let response = match call.deadline {
        None => next.run(request).await,
        Some(deadline) => match tokio::time::timeout_at(deadline, next.run(request)).await {
            Ok(response) => response,
            Err(_) => return Status::from(errors::deadline_exceeded(method.changes)).into_http(),
        },
    };
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(errors::of_transport) {
        Some(detail) => Status::from(detail).into_http(),
        None => response,
    }
}

/// Counts a call whose answer is a stream, when that ends.
pub(super) struct Measured {
    metrics: Arc<Metrics>,
    method: &'static str,
    began: Instant,
    code: Code,
}

impl Measured {
    pub(super) fn new(metrics: &Arc<Metrics>, method: &'static str) -> Self {
        // A stream that is dropped before its end was given up by its caller.
        Self { metrics: Arc::clone(metrics), method, began: Instant::now(), code: Code::Cancelled }
    }

    pub(super) fn ended(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let took: Duration = self.began.elapsed();
        self.metrics.grpc_call(self.method, self.code, took);
    }
}
