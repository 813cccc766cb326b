//! What the kernel says of a process: CPU time, by thread, and memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::memory::resident_bytes;

/// A process of this machine.
pub(crate) struct Process(PathBuf);

/// CPU time used up to some moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// Seconds in the process's own code.
    pub(crate) user: f64,
    /// Seconds in the kernel.
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    pub(crate) fn since(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user - earlier.user, system: self.system - earlier.system }
    }

    pub(crate) fn add(&mut self, other: Cpu) {
        (self.user, self.system) = (self.user + other.user, self.system + other.system);
    }
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(Path::new("/proc").join(pid.to_string()))
    }

    /// This process.
    pub(crate) fn this() -> Self {
        Self::new(std::process::id())
    }

    /// The CPU time of all its threads, also of those that ended.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Ok(stat(&self.0.join("stat"))?.1)
    }

    /// The CPU time of its living threads, summed over those of one name.
    pub(crate) fn threads(&self) -> Result<BTreeMap<String, Cpu>> {
        let mut threads = BTreeMap::<String, Cpu>::new();
        for thread in std::fs::read_dir(self.0.join("task"))? {
            // A thread may end in between.
            if let Ok((name, cpu)) = stat(&thread?.path().join("stat")) {
                threads.entry(name).or_default().add(cpu);
            }
        }
        Ok(threads)
    }

    /// Bytes of physical memory.
    pub(crate) fn rss_bytes(&self) -> Result<u64> {
        resident_bytes(&self.0)
    }
}

/// CPU time of the whole machine up to some moment.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    /// Seconds, over all cores, in which something ran.
    pub(crate) busy: f64,
    /// Seconds that the machine below gave to others, where this one is virtual.
    pub(crate) stolen: f64,
}

impl Machine {
    pub(crate) fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let numbers = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let seconds: Vec<f64> =
            numbers.map_while(|ticks| ticks.parse().ok()).map(|n: f64| n / ticks).collect();
        match seconds[..] {
            // Guests' time, which may follow, is part of the first two.
            [user, nice, system, _idle, _disk, interrupts, soft, stolen, ..] => {
                Ok(Self { busy: user + nice + system + interrupts + soft, stolen })
            }
            _ => Err(anyhow::anyhow!("/proc/stat has another form")),
        }
    }
}

/// Name and CPU time of a `stat` file.
fn stat(path: &Path) -> Result<(String, Cpu)> {
    let text = std::fs::read_to_string(path)?;
    parse(&text, rustix::param::clock_ticks_per_second() as f64).context("a stat file of another form")
}

fn parse(text: &str, ticks: f64) -> Option<(String, Cpu)> {
    // The name stands in brackets and may hold anything.
    let (before, after) = text.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split(' ').skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / ticks);
    Some((name, Cpu { user: seconds()?, system: seconds()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_brackets_and_blanks() {
        let text = "7 (a) (b c) S 1 1 1 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 1 0 5 0 0\n";
        let (name, cpu) = parse(text, 100.0).unwrap();
        assert_eq!((name.as_str(), cpu.user, cpu.system), ("a) (b c", 2.5, 0.5));
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let this = Process::this();
        assert!(!this.threads().unwrap().is_empty());
        assert!(this.rss_bytes().unwrap() > 0);
    }
}
