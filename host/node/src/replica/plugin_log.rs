//! What plugins say, as lines of the operator's log, by tenant.

use mortise_runtime::{Level, Logs};

use crate::metrics::TenantMetrics;

/// Shows a call's lines.
pub(crate) fn show(metrics: &TenantMetrics, tenant: &str, logs: &Logs) {
    if logs.is_empty() {
        return;
    }
    metrics.log_lines.inc_by(logs.lines.len() as u64);
    metrics.log_lines_dropped.inc_by(logs.dropped);
    for line in &logs.lines {
        let message = line.message.as_str();
        match line.level {
            Level::Debug => tracing::debug!(target: "plugin", tenant, "{message}"),
            Level::Info => tracing::info!(target: "plugin", tenant, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", tenant, "{message}"),
            Level::Error => tracing::error!(target: "plugin", tenant, "{message}"),
        }
    }
}
