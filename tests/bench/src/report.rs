//! What was measured, as a table and as JSON.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::samples::Samples;

/// The rows of one benchmark, in the order in which they were measured.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// One number.
#[derive(Serialize)]
pub(crate) struct Row {
    section: String,
    what: String,
    /// The median, where there is a `p99`.
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// What a number should reach.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    /// A single number.
    pub(crate) fn value(&mut self, section: &str, what: impl Into<String>, value: f64, unit: &'static str) {
        let (section, what) = (section.to_owned(), what.into());
        self.rows.push(Row { section, what, value, p99: None, unit, target: None, met: None });
    }

    /// Median and p99 of many.
    pub(crate) fn samples(
        &mut self,
        section: &str,
        what: impl Into<String>,
        samples: &Samples,
        unit: &'static str,
    ) {
        self.value(section, what, samples.p50(), unit);
        if let Some(row) = self.rows.last_mut() {
            row.p99 = Some(samples.p99());
        }
    }

    /// Sets the target of the last number.
    pub(crate) fn target(&mut self, target: Target) {
        if let Some(row) = self.rows.last_mut() {
            row.met = Some(match target {
                Target::AtMost(bound) => row.value <= bound,
                Target::AtLeast(bound) => row.value >= bound,
            });
            row.target = Some(target);
        }
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        let mut section = "";
        for row in &self.rows {
            if row.section != section {
                section = &row.section;
                println!("\n{section}");
                println!("  {:width$}  {:>10}  {:>10}", "", "p50/value", "p99");
            }
            let p99 = row.p99.map(number).unwrap_or_default();
            let line = format!("  {:width$}  {:>10}  {p99:>10}  {}", row.what, number(row.value), row.unit);
            println!("{line}{}", verdict(row));
        }
    }

    /// Writes the JSON.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }
}

fn verdict(row: &Row) -> String {
    let target = match row.target {
        None => return String::new(),
        Some(Target::AtMost(bound)) => format!("≤ {}", number(bound)),
        Some(Target::AtLeast(bound)) => format!("≥ {}", number(bound)),
    };
    format!("  (target {target}: {})", if row.met == Some(true) { "met" } else { "missed" })
}

/// Enough digits to compare, and no more.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_met_or_missed() {
        let mut report = Report::default();
        for (target, met) in [(Target::AtMost(1.0), false), (Target::AtLeast(1.0), true)] {
            report.value("section", "what", 2.0, "µs");
            report.target(target);
            assert_eq!(report.rows.last().and_then(|row| row.met), Some(met));
        }
    }
}
