//! Log lines of the node, to its standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogFormat, LoggingSettings, invalid};

/// Why there is no logging.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The configured level cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody in this process installed logging before.
    #[error("logging was set up before in this process")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// Turns logging on for the whole process: for a program's `main`, not for libraries and tests.
///
/// # Errors
/// The level cannot be read, or logging is on already.
pub fn init(settings: &LoggingSettings) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let lines = tracing_subscriber::fmt().with_env_filter(filter(settings)?).with_writer(std::io::stderr);
    let installed = match settings.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    installed.map_err(LoggingError::Installed)
}

/// Which lines are written.
pub(crate) fn filter(settings: &LoggingSettings) -> Result<EnvFilter, ConfigError> {
    EnvFilter::builder().parse(&settings.level).map_err(|error| {
        let problem = format!("{error}; use error, warn, info, debug or trace, or a list by module");
        invalid("logging.level", &settings.level, problem)
    })
}
