//! What each listener serves.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tonic::service::Routes;
use tonic_reflection::server::Builder;

use super::health::Health;
use crate::cluster::Node;
use crate::replica::blocking;
use crate::security::AccessError;
use crate::services::{self, Context};

/// The media type of the metrics page.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What every listener serves beside its own service.
const EVERYWHERE: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// The data listener.
pub(super) fn data(context: &Arc<Context>, health: &Health) -> Router {
    let routes = reflect(services::data(context), &["mortise.v1.Data"]).add_service(health.service());
    services::guarded(routes.prepare().into_axum_router(), context)
}

/// The admin listener.
pub(super) fn admin(context: &Arc<Context>, health: &Health, node: Option<&Arc<Node>>) -> Router {
    let mut names = vec!["mortise.v1.Admin"];
    let mut routes = services::admin(context);
    if let Some(node) = node {
        names.push("mortise.v1.Cluster");
        routes = services::cluster(routes, node);
    }
    let routes = reflect(routes, &names).add_service(health.service());
    let metrics = get(metrics).with_state(Arc::clone(context));
    services::guarded(routes.prepare().into_axum_router().route("/metrics", metrics), context)
}

/// Adds reflection, in both versions that tools ask for.
fn reflect(routes: Routes, services: &[&str]) -> Routes {
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(mortise_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        services.iter().chain(&EVERYWHERE).fold(builder, |builder, name| builder.with_service_name(*name))
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        // The descriptors are this program's own, and a test asks for them; a node is of use without them.
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "no reflection: the descriptors cannot be read");
            routes
        }
    }
}

/// `GET /metrics`.
async fn metrics(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let authorization = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    match context.may_measure(authorization) {
        Ok(()) => match blocking(move || context.metrics_page()).await {
            Ok(page) => ([(CONTENT_TYPE, OPENMETRICS)], page).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        },
        Err(error @ (AccessError::Scope { .. } | AccessError::Tenant { .. })) => {
            (StatusCode::FORBIDDEN, format!("{error}\n")).into_response()
        }
        Err(error) => {
            let challenge = [(WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, format!("{error}\n")).into_response()
        }
    }
}
