//! The gRPC health service: whether the node serves, for load balancers and supervisors.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::fault_of;
use crate::groups::Groups;

/// What health knows: the node as a whole, and each service.
const NAMES: [&str; 3] = ["", "mortise.v1.Data", "mortise.v1.Admin"];

/// What health says. Cheap to clone.
#[derive(Clone)]
pub(super) struct Health(HealthReporter);

impl Health {
    /// NOT_SERVING, to begin with.
    pub(super) async fn new() -> Self {
        let health = Self(HealthReporter::new());
        health.set_serving(false).await;
        health
    }

    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.0.clone()))
    }

    pub(super) async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in NAMES {
            self.0.set_service_status(name, status).await;
        }
    }

    /// Says NOT_SERVING when a replica stops by itself.
    pub(super) fn watch(&self, groups: &Groups) {
        let (health, fault) = (self.clone(), groups.fault());
        tokio::spawn(async move {
            if let Some(reason) = fault_of(fault).await {
                tracing::error!(reason, "a replica stopped");
                health.set_serving(false).await;
            }
        });
    }

    /// Ends all calls of Watch, which would else keep their connections open for ever.
    pub(super) async fn end_watches(&self) {
        let mut reporter = self.0.clone();
        for name in NAMES {
            reporter.clear_service_status(name).await;
        }
    }
}
