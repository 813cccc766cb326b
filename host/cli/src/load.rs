//! `mortise load`: a file into a tenant, resumable.

mod resume;
mod show;

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use mortise_client::load::{
    Checkpoint, Format, Input, InputOptions, LoadError, LoadOptions, Loader, Mapping, OnReject, Template,
};
use serde_json::json;

use crate::context::Context;
use crate::errors::Failure;
use resume::ResumeFile;
use show::Show;

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Each row is one command. How a row becomes a command:
  --map '{\"transfer\": {\"debit\": \"{origin}\", \"credit\": \"{dest}\", \"amount\": \"{planes:int}\"}}'
        a JSON template: {column} is the column's text, \"{column:int}\" alone in its string a number
        (also :number, :bool, :json), {#row} the row's number, {#json} the whole row, {{ and }} a brace
  --key '{faa}' [--value '{#json}'] [--ttl SECONDS]
        a put of the kv plugin; without --value the value is the row as JSON
  neither, for NDJSON: each line is the command itself

A row's number is its sequence in a session that the node remembers, and what was answered is kept in the resume
file. So a load that was interrupted, by whatever, goes on where it was when the same command is run again, and no row
is applied twice. The resume file is removed when the load is complete.

Examples:
  mortise load ledger flights.csv.zip --map \\
    '{\"transfer\": {\"debit\": \"{origin}\", \"credit\": \"{dest}\", \"amount\": 1, \"open_missing\": \"unlimited\"}}'
  mortise load airports airports.csv --key '{faa}'
  mortise load ledger commands.ndjson --on-reject skip")]
pub(crate) struct LoadArguments {
    /// The tenant
    tenant: String,
    /// CSV with a header line, or NDJSON; plain, or alone in a zip archive
    file: PathBuf,
    /// JSON template that makes a command of a row
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "key")]
    map: Option<String>,
    /// Template of the key: rows become puts of the kv plugin
    #[arg(long, value_name = "TEMPLATE")]
    key: Option<String>,
    /// Template of the value
    #[arg(long, value_name = "TEMPLATE", requires = "key", default_value = "{#json}")]
    value: String,
    /// Seconds after which the keys are gone; 0: they stay
    #[arg(long, value_name = "SECONDS", requires = "key", default_value_t = 0)]
    ttl: u64,
    /// What the file holds, where its beginning does not tell
    #[arg(long)]
    format: Option<FormatArgument>,
    /// What stands between the values of CSV
    #[arg(long, value_name = "CHARACTER", default_value = ",")]
    delimiter: char,
    /// What to do when the plugin refuses a row
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    on_reject: OnRejectArgument,
    /// How many rejected rows are told one by one
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rejections_max: u16,
    /// Where to keep how far the load is [default: FILE.TENANT.resume]
    #[arg(long, value_name = "FILE")]
    resume_file: Option<PathBuf>,
    /// Begin anew, whatever the resume file says: rows that were loaded before are applied again
    #[arg(long)]
    restart: bool,
    /// Seconds without any answer after which the load gives up; it can be resumed
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArgument {
    Csv,
    Ndjson,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnRejectArgument {
    /// Stop; rows behind it that were in flight may have taken effect
    Stop,
    /// Count it and go on
    Skip,
}

/// Runs it.
pub(crate) async fn run(arguments: LoadArguments, context: &Context) -> anyhow::Result<()> {
    let (mapping, mapping_text) = arguments.mapping()?;
    let options = LoadOptions {
        on_reject: match arguments.on_reject {
            OnRejectArgument::Stop => OnReject::Stop,
            OnRejectArgument::Skip => OnReject::Skip,
        },
        patience: Duration::from_secs(arguments.patience),
        reasons_max: usize::from(arguments.rejections_max),
    };
    let open = || format!("open {}", arguments.file.display());
    let file = File::open(&arguments.file).with_context(open)?;
    let identity = resume::identity(&arguments.tenant, &file, &mapping_text).with_context(open)?;
    let input = Input::open(file, arguments.input_options()?).map_err(explain)?;
    let total = input.bytes();
    let path = arguments.resume_file.clone().unwrap_or_else(|| {
        let mut name = arguments.file.clone().into_os_string();
        name.push(format!(".{}.resume", arguments.tenant));
        name.into()
    });
    let (mut resume, found) = ResumeFile::open(path, identity, arguments.restart)?;
    let tenant = context.data().await?.tenant(arguments.tenant.as_str());
    let begun = Instant::now();
    let before = found.as_ref().map_or(0, |checkpoint| checkpoint.answered);
    let loader = match found {
        Some(checkpoint) => Loader::resume(tenant, options, checkpoint, &mut resume),
        None => Loader::begin(tenant, options, &mut resume).await,
    };
    let show = Show::new(total, before, context.json);
    let done = match loader {
        Ok(loader) => loader.run(input, mapping, |progress| show.progress(progress)).await,
        Err(error) => Err(error),
    };
    show.end();
    let done = done.map_err(explain)?;
    resume.remove()?;
    summary(&arguments, &done, before, begun.elapsed(), context)
}

impl LoadArguments {
    /// The mapping, and a text that tells it from every other one.
    fn mapping(&self) -> anyhow::Result<(Mapping, String)> {
        Ok(match (&self.map, &self.key) {
            (Some(map), _) => (Mapping::Json(Template::json(map)?), format!("map {map}")),
            (None, Some(key)) => {
                let (value, ttl_ms) = (&self.value, self.ttl.saturating_mul(1000));
                let put =
                    Mapping::KvPut { key: Template::plain(key)?, value: Template::plain(value)?, ttl_ms };
                (put, format!("key {key} value {value} ttl {ttl_ms}"))
            }
            (None, None) => (Mapping::Lines, "lines".to_owned()),
        })
    }

    fn input_options(&self) -> anyhow::Result<InputOptions> {
        let format = self.format.map(|format| match format {
            FormatArgument::Csv => Format::Csv,
            FormatArgument::Ndjson => Format::Ndjson,
        });
        let delimiter = u8::try_from(self.delimiter).context("--delimiter is one ASCII character")?;
        Ok(InputOptions { format, delimiter })
    }
}

/// An error with what to do next, and with the exit code of what caused it.
fn explain(error: LoadError) -> anyhow::Error {
    let again = "run the same command again to go on";
    match error {
        LoadError::Client(error) => error.into(),
        LoadError::Rejected(_) => Failure {
            code: crate::errors::REJECTED,
            kind: "rejected",
            message: format!("{error}; --on-reject skip goes on behind it"),
        }
        .into(),
        LoadError::SessionExpired { .. } => anyhow::anyhow!(
            "{error}; --restart loads all rows again, which is right where the plugin takes a repeated row as one"
        ),
        LoadError::Stalled { .. } => Failure {
            code: crate::errors::UNAVAILABLE,
            kind: "unavailable",
            message: format!("{error}; {again}"),
        }
        .into(),
        LoadError::Refused { row, error } => {
            anyhow::Error::from(error).context(format!("row {row}; {again}"))
        }
        other => other.into(),
    }
}

fn summary(
    arguments: &LoadArguments,
    done: &Checkpoint,
    before: u64,
    took: Duration,
    context: &Context,
) -> anyhow::Result<()> {
    let seconds = took.as_secs_f64();
    let rate = (done.answered - before) as f64 / seconds.max(0.001);
    let value = json!({
        "tenant": arguments.tenant,
        "rows": done.answered,
        "applied": done.applied,
        "rejected": done.rejected,
        "answered_before_a_crash": done.forgotten,
        "resumed_after": before,
        "seconds": seconds,
        "rows_per_second": rate,
        "rejections": done.reasons,
    });
    context.print(&value, |_| {
        let mut text = format!(
            "{} rows: {} applied, {} rejected; {seconds:.1} s, {rate:.0} a second",
            done.answered, done.applied, done.rejected
        );
        if done.forgotten > 0 {
            text +=
                &format!("; {} were answered before a crash, and are not counted in either", done.forgotten);
        }
        for reason in &done.reasons {
            text += &format!("\n  row {}: {}: {}", reason.row, reason.code, reason.message);
        }
        text
    })
}
