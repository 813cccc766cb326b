//! A plugin's lines for the operator's log, gathered during a call.

/// Bytes of log lines that a call may leave; lines past it are dropped and counted. The lines of a whole entry are
/// in memory until they are written, hence not more.
pub const LOG_BYTES_PER_CALL_MAX: usize = 16 << 10;

/// What a line costs beside its text, so that empty lines are bounded too.
const LINE_BYTES: usize = 32;

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// Worth knowing.
    Info,
    /// Something to look at.
    Warn,
    /// Something is wrong.
    Error,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How serious it is.
    pub level: Level,
    /// The text, as the plugin gave it: it may hold line breaks and control characters.
    pub message: String,
}

/// What a call logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// The lines, in order.
    pub lines: Vec<LogLine>,
    /// How many lines more there were.
    pub dropped: u64,
    bytes: usize,
}

impl Logs {
    pub(crate) fn add(&mut self, level: Level, message: &str) {
        let bytes = self.bytes.saturating_add(message.len()).saturating_add(LINE_BYTES);
        if bytes > LOG_BYTES_PER_CALL_MAX {
            self.dropped += 1;
            return;
        }
        self.bytes = bytes;
        self.lines.push(LogLine { level, message: message.to_owned() });
    }

    /// Whether nothing was logged.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_past_the_limit_are_dropped_and_counted() {
        let mut logs = Logs::default();
        (0..LOG_BYTES_PER_CALL_MAX).for_each(|_| logs.add(Level::Info, ""));
        assert_eq!(logs.lines.len(), LOG_BYTES_PER_CALL_MAX / LINE_BYTES);
        assert_eq!(logs.lines.len() as u64 + logs.dropped, LOG_BYTES_PER_CALL_MAX as u64);
        let mut logs = Logs::default();
        logs.add(Level::Warn, &"x".repeat(LOG_BYTES_PER_CALL_MAX));
        assert_eq!((logs.lines.len(), logs.dropped), (0, 1));
    }
}
