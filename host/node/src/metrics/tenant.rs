//! Counters by tenant. Tenants come and go as users like, so their names are bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Most tenants with series of their own. With ten series each this keeps the page around 2,000 lines, which
/// Prometheus takes without a thought; the tenants beyond it count together, under [`TENANTS_OTHER`].
pub const TENANTS_NAMED_MAX: usize = 200;
/// The label of all tenants beyond [`TENANTS_NAMED_MAX`].
pub const TENANTS_OTHER: &str = "other";

/// The counters of one tenant, or of all those that have no series of their own.
///
/// Counting goes on after the tenant was dropped, unseen.
#[derive(Debug, Default)]
pub struct TenantMetrics {
    /// Commands that took effect.
    pub applied: Counter,
    /// Commands that the plugin refused in `apply`.
    pub rejected: Counter,
    /// Commands that trapped or passed a limit.
    pub failed: Counter,
    /// Fuel used by `apply` and `expire`.
    pub fuel: Counter,
    /// Commands that `validate` refused, before the log.
    pub refused_by_validate: Counter,
    /// Queries answered.
    pub queries: Counter,
    /// Lines that the plugin logged.
    pub log_lines: Counter,
    /// Lines that the plugin logged past its limit, and that nobody saw.
    pub log_lines_dropped: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    tenant: String,
}

/// The number of series a tenant has.
const SERIES: usize = 8;

#[derive(Debug)]
pub(super) struct TenantFamilies {
    families: [Family<Label, Counter>; SERIES],
    named: Mutex<HashMap<String, Arc<TenantMetrics>>>,
    other: Arc<TenantMetrics>,
}

impl TenantFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("tenant");
        let names: [(&str, &str); SERIES] = [
            ("applied", "Commands that took effect"),
            ("rejected", "Commands that the plugin refused when applied"),
            ("failed", "Commands that trapped or passed a limit of the profile"),
            ("fuel", "Fuel used by apply and expire"),
            ("refused_by_validate", "Commands that the plugin refused before the log"),
            ("queries", "Queries answered"),
            ("log_lines", "Lines that the plugin logged"),
            ("log_lines_dropped", "Lines that the plugin logged past its limit"),
        ];
        let families = names.map(|(name, help)| {
            let family = Family::<Label, Counter>::default();
            registry.register(name, help, family.clone());
            family
        });
        let other = Arc::new(counters(&families, TENANTS_OTHER));
        Self { families, named: Mutex::default(), other }
    }

    pub(super) fn get(&self, name: &str) -> Arc<TenantMetrics> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = named.get(name) {
            return Arc::clone(metrics);
        }
        if named.len() >= TENANTS_NAMED_MAX || name == TENANTS_OTHER {
            return Arc::clone(&self.other);
        }
        let metrics = Arc::new(counters(&self.families, name));
        named.insert(name.to_owned(), Arc::clone(&metrics));
        metrics
    }

    pub(super) fn remove(&self, name: &str) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.remove(name).is_some() {
            let label = Label { tenant: name.to_owned() };
            self.families.iter().for_each(|family| {
                family.remove(&label);
            });
        }
    }
}

fn counters(families: &[Family<Label, Counter>; SERIES], name: &str) -> TenantMetrics {
    let label = Label { tenant: name.to_owned() };
    // A clone of a counter shares its number with the family's.
    let [applied, rejected, failed, fuel, refused_by_validate, queries, log_lines, log_lines_dropped] =
        families.each_ref().map(|family| family.get_or_create_owned(&label));
    TenantMetrics {
        applied,
        rejected,
        failed,
        fuel,
        refused_by_validate,
        queries,
        log_lines,
        log_lines_dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, Now};

    fn names(metrics: &Metrics) -> usize {
        metrics
            .encode(&Now::default())
            .lines()
            .filter(|line| line.starts_with("mortise_tenant_applied_total{"))
            .count()
    }

    #[test]
    fn tenants_beyond_the_bound_share_one_series() {
        let metrics = Metrics::new();
        for number in 0..TENANTS_NAMED_MAX + 50 {
            metrics.tenant(&format!("tenant-{number}")).applied.inc();
        }
        assert_eq!(names(&metrics), TENANTS_NAMED_MAX + 1);
        assert!(
            metrics.encode(&Now::default()).contains("mortise_tenant_applied_total{tenant=\"other\"} 50")
        );
    }

    #[test]
    fn a_dropped_tenant_leaves_and_makes_room() {
        let metrics = Metrics::new();
        for number in 0..TENANTS_NAMED_MAX {
            metrics.tenant(&format!("tenant-{number}")).applied.inc();
        }
        metrics.remove_tenant("tenant-7");
        assert!(!metrics.encode(&Now::default()).contains("tenant-7\""));
        metrics.tenant("newcomer").applied.inc();
        assert!(metrics.encode(&Now::default()).contains("{tenant=\"newcomer\"} 1"));
    }

    #[test]
    fn a_tenant_called_as_the_rest_is_counts_with_the_rest_and_cannot_remove_it() {
        let metrics = Metrics::new();
        metrics.tenant(TENANTS_OTHER).applied.inc();
        metrics.remove_tenant(TENANTS_OTHER);
        assert!(metrics.encode(&Now::default()).contains("mortise_tenant_applied_total{tenant=\"other\"} 1"));
    }
}
