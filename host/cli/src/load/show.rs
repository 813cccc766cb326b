//! How far a load is, for people.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use mortise_client::load::Progress;

/// How often a line tells of the progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far a load is, on the standard error: a bar on a terminal, else a line now and then; nothing to programs.
pub(super) struct Show {
    how: How,
    begun: Instant,
    before: u64,
    /// Bytes read when the first answer came: a load that goes on reads what it skips much faster than the rest.
    bytes_first: Cell<Option<u64>>,
}

enum How {
    Bar(ProgressBar),
    /// When the last line was written.
    Lines(Cell<Instant>),
    Nothing,
}

impl Show {
    pub(super) fn new(total: u64, before: u64, json: bool) -> Self {
        let begun = Instant::now();
        let how = if json {
            How::Nothing
        } else if std::io::stderr().is_terminal() {
            let template = "{bar:30} {percent:>3} %  {msg}";
            // The template is a constant; a default bar would do.
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            How::Bar(ProgressBar::new(total).with_style(style))
        } else {
            How::Lines(Cell::new(begun))
        };
        Self { how, begun, before, bytes_first: Cell::new(None) }
    }

    pub(super) fn progress(&self, progress: &Progress<'_>) {
        match &self.how {
            How::Bar(bar) => {
                bar.set_position(progress.bytes);
                bar.set_message(self.text(progress));
            }
            How::Lines(last) if last.get().elapsed() >= LINE_EVERY => {
                last.set(Instant::now());
                let percent = 100.0 * progress.bytes as f64 / progress.bytes_total.max(1) as f64;
                eprintln!("{percent:.0} %: {}", self.text(progress));
            }
            How::Lines(_) | How::Nothing => {}
        }
    }

    /// Rows, rate and time left.
    fn text(&self, progress: &Progress<'_>) -> String {
        let rows = progress.checkpoint.answered;
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let mut text =
            format!("{rows} rows, {:.0} a second", rows.saturating_sub(self.before) as f64 / seconds);
        if progress.bytes > 0 {
            let first = self.bytes_first.get().unwrap_or(progress.bytes);
            self.bytes_first.set(Some(first));
            let (done, left) =
                (progress.bytes.saturating_sub(first), progress.bytes_total.saturating_sub(progress.bytes));
            if done > 0 {
                let left = Duration::try_from_secs_f64(seconds * left as f64 / done as f64);
                let left = left.unwrap_or(Duration::MAX);
                text += &format!(", {} left", HumanDuration(left));
            }
        }
        if let Some(trouble) = &progress.trouble {
            text += &format!(" (waiting: {trouble})");
        }
        text
    }

    pub(super) fn end(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }
}
