//! A process that stands still, for certain.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to stand still: one of its threads may be in the middle of an fsync.
const STILL_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Freezes a process with SIGSTOP, and returns when each of its threads stands still; or thaws it with SIGCONT.
///
/// The signal by itself is not enough: until each thread was told, which takes a while where others use the processors,
/// the process goes on, and answers.
///
/// # Errors
/// There is no such process, or a thread of it goes on for half a minute.
pub fn freeze(process: Pid, frozen: bool) -> Result<()> {
    if !frozen {
        return kill_process(process, Signal::CONT).context("send SIGCONT");
    }
    kill_process(process, Signal::STOP).context("send SIGSTOP")?;
    let threads = format!("/proc/{}/task", process.as_raw_nonzero());
    let asked = Instant::now();
    while !stands_still(Path::new(&threads))? {
        ensure!(asked.elapsed() < STILL_WITHIN, "a thread of {threads} goes on after SIGSTOP");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Whether all these threads are stopped (`T`), or have ended.
fn stands_still(threads: &Path) -> Result<bool> {
    for thread in threads.read_dir().with_context(|| format!("read {}", threads.display()))? {
        // The state follows the name, which is in parentheses. A thread without the file has just ended.
        let stat =
            std::fs::read_to_string(thread.context("read a thread")?.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        if !matches!(state, None | Some('T' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}
