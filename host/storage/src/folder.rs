//! The data folder.
/// Folder of the log's segments, inside the data folder.
pub const LOG_FOLDER: &str = "log";
