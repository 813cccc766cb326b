//! Loading files: CSV or NDJSON, plain or zipped, each row one command, many in flight, resumable.
//!
//! ```text
//! file ─▶ input (zip?) ─▶ rows (CSV, NDJSON) ─▶ mapping ─▶ batches ─▶ Writer ─▶ answers ─▶ checkpoint
//!          └────────────── a blocking thread ──────────────┘           └──── row = sequence ────┘
//! ```
//! A row's number, from 1, is its sequence in the session. A [`Checkpoint`] says up to which row the answers are
//! known; it is kept before the node may forget the outcomes of these rows. So a load that goes on from its last
//! checkpoint sends some rows a second time, is told what became of them, and nothing is applied twice.
//!
//! This module touches no files: it reads from what it is given, and hands checkpoints to a [`Keep`].

mod input;
mod loader;
mod mapping;
mod rows;
mod template;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ClientError;
pub use input::{Format, Input, InputOptions};
pub use loader::{Loader, Progress};
pub use mapping::Mapping;
pub use template::{Template, TemplateError};

/// What to do where the plugin refuses a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReject {
    /// Stop, once everything in flight is answered. The rows in flight behind it may have taken effect.
    #[default]
    Stop,
    /// Go on.
    Skip,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// What to do where the plugin refuses a row. Default: stop.
    pub on_reject: OnReject,
    /// How many rejections are told in full. Default 10.
    pub reasons_max: usize,
    /// How long no answer may come before the load gives up; it can be resumed then. Default 60 s.
    pub patience: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { on_reject: OnReject::Stop, reasons_max: 10, patience: Duration::from_secs(60) }
    }
}

/// How far a load has come: everything needed to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The session that the rows are sent in.
    pub session: u64,
    /// The answers to all rows up to this one are known. Rows count from 1.
    pub answered: u64,
    /// How many of them were applied.
    pub applied: u64,
    /// How many of them the plugin refused.
    pub rejected: u64,
    /// How many of them the node had been told to forget, before a crash lost what became of them.
    pub forgotten: u64,
    /// The first rejections.
    pub reasons: Vec<Reason>,
    /// The load stopped because this row was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<u64>,
}

/// A rejected row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Its number.
    pub row: u64,
    /// The plugin's code, or `plugin_failed` where it trapped or passed a limit.
    pub code: String,
    /// The plugin's words.
    pub message: String,
}

/// Where checkpoints are kept.
pub trait Keep: Send {
    /// Makes the checkpoint durable: when this returns, a later process will find it. It may block for an fsync.
    ///
    /// # Errors
    /// It could not; then the load stops.
    fn keep(&mut self, checkpoint: &Checkpoint) -> std::io::Result<()>;
}

/// Keeps nothing: for loads that begin again where they are interrupted.
impl Keep for () {
    fn keep(&mut self, _: &Checkpoint) -> std::io::Result<()> {
        Ok(())
    }
}

/// Why a load ended early. All rows before the one that an error names were answered.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The input cannot be read.
    #[error("read the input: {0}")]
    Read(#[from] std::io::Error),
    /// The input is nothing that can be loaded.
    #[error("{0}")]
    Input(String),
    /// A template is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A template names a column that is not there.
    #[error("there is no column {column:?}; the columns are: {known}")]
    UnknownColumn {
        /// What the template names.
        column: String,
        /// What there is.
        known: String,
    },
    /// A row that makes no command.
    #[error("row {row}{}: {problem}", in_column(column.as_deref()))]
    BadRow {
        /// Its number, from 1, the header not counted.
        row: u64,
        /// Where in it.
        column: Option<String>,
        /// What is wrong.
        problem: String,
    },
    /// The plugin refused a row, and the load was to stop then.
    #[error("row {}: rejected ({}): {}", .0.row, .0.code, .0.message)]
    Rejected(Reason),
    /// The node refused a row.
    #[error("row {row}: {error}")]
    Refused {
        /// Its number.
        row: u64,
        /// Why.
        error: ClientError,
    },
    /// The session is over, and with it the knowledge of which rows took effect.
    #[error(
        "row {row}: the load's session expired on the node: which of the rows from there on took effect is unknown"
    )]
    SessionExpired {
        /// The first row that was not answered.
        row: u64,
    },
    /// No answer came for too long.
    #[error("row {row}: no answer for {seconds} s{}", last_error(last.as_ref()))]
    Stalled {
        /// The first row that was not answered.
        row: u64,
        /// How long was waited.
        seconds: u64,
        /// What went wrong last.
        last: Option<ClientError>,
    },
    /// The node cannot be written to at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A checkpoint could not be kept.
    #[error("keep the checkpoint: {0}")]
    Keep(std::io::Error),
}

fn in_column(column: Option<&str>) -> String {
    column.map_or_else(String::new, |column| format!(", column {column}"))
}

fn last_error(last: Option<&ClientError>) -> String {
    last.map_or_else(String::new, |error| format!("; the last error: {error}"))
}
