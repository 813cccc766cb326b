//! Lines for the operator's log. They change nothing; past a limit the host drops and counts them.

use crate::backend::write_log as write;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// Worth knowing.
    Info,
    /// Someone should look.
    Warn,
    /// Something is wrong. A panic's message is logged so by the SDK.
    Error,
}

/// For the plugin's author.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Worth knowing.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Someone should look.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something is wrong.
pub fn error(message: &str) {
    write(Level::Error, message);
}
