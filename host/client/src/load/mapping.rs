//! From rows to commands.

use bytes::Bytes;

use super::LoadError;
use super::rows::Row;
use super::template::{RowProblem, Template};
use crate::kv;

/// How a row becomes a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Each line of NDJSON is the command itself.
    Lines,
    /// A JSON template makes the command.
    Json(Template),
    /// A put of the `kv` plugin.
    KvPut {
        /// Makes the key.
        key: Template,
        /// Makes the value.
        value: Template,
        /// Milliseconds after which the key vanishes. 0: it stays.
        ttl_ms: u64,
    },
}

impl Mapping {
    /// Checks the columns that the mapping names against those that there are.
    pub(super) fn resolve(&mut self, known: &[String]) -> Result<(), LoadError> {
        let unknown = |column| LoadError::UnknownColumn { column, known: known.join(", ") };
        match self {
            Self::Lines => {
                Err(LoadError::Input("a CSV file needs a mapping from its columns to commands".into()))
            }
            Self::Json(template) => template.resolve(known).map_err(unknown),
            Self::KvPut { key, value, .. } => {
                key.resolve(known).and_then(|()| value.resolve(known)).map_err(unknown)
            }
        }
    }

    /// The row's command.
    pub(super) fn command(&self, row: &Row<'_>) -> Result<Bytes, RowProblem> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Lines => out.extend_from_slice(row.line()?),
            Self::Json(template) => template.render(row, &mut out)?,
            Self::KvPut { key, value, ttl_ms } => {
                key.render(row, &mut out)?;
                if out.is_empty() {
                    return Err(RowProblem { column: None, problem: "the key is empty".into() });
                }
                let key = std::mem::take(&mut out);
                value.render(row, &mut out)?;
                return Ok(kv::put(key, out, *ttl_ms));
            }
        }
        Ok(out.into())
    }
}
