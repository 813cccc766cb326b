//! Callers who write, and what it takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use mortise_client::kv::Kv;
use tokio::task::JoinSet;

use crate::VALUE_BYTES;
use crate::pipeline::key;
use crate::process::{Cpu, Process};
use crate::samples::Samples;

/// Where puts go. Clones share connections.
#[derive(Clone)]
pub(super) enum Server {
    Ours(Kv),
    Etcd(etcd_client::KvClient),
}

impl Server {
    async fn put(&mut self, key: Vec<u8>) -> Result<()> {
        let value = vec![0x61; VALUE_BYTES];
        match self {
            Self::Ours(kv) => drop(kv.put(key, value, 0).await?),
            Self::Etcd(kv) => drop(kv.put(key, value, None).await?),
        }
        Ok(())
    }
}

/// What one server did with some callers, over all rounds.
#[derive(Default)]
pub(super) struct Measured {
    writes: u64,
    seconds: f64,
    servers: f64,
    client: f64,
    /// Of all servers together, by the name of their threads.
    threads: BTreeMap<String, Cpu>,
    /// µs.
    pub(super) latencies: Samples,
}

impl Measured {
    pub(super) fn add(&mut self, other: Self) {
        let Self { writes, seconds, servers, client, threads, latencies } = other;
        (self.writes, self.seconds) = (self.writes + writes, self.seconds + seconds);
        (self.servers, self.client) = (self.servers + servers, self.client + client);
        threads.into_iter().for_each(|(name, cpu)| self.threads.entry(name).or_default().add(cpu));
        self.latencies.extend(latencies);
    }

    /// Names of threads of the servers, their CPU time together in µs a write, and how much of it was in the kernel; the
    /// largest first.
    pub(super) fn stages(&self) -> Vec<(&str, f64, f64)> {
        let us = |cpu: &Cpu| cpu.total() / self.writes as f64 * 1e6;
        let kernel = |cpu: &Cpu| cpu.system / cpu.total().max(f64::MIN_POSITIVE);
        let stages = self.threads.iter().map(|(name, cpu)| (name.as_str(), us(cpu), kernel(cpu)));
        let mut stages: Vec<(&str, f64, f64)> = stages.collect();
        stages.sort_by(|one, two| two.1.total_cmp(&one.1));
        stages
    }

    /// Writes a second.
    pub(super) fn rate(&self) -> f64 {
        self.writes as f64 / self.seconds
    }

    /// CPU time of all servers together, µs a write.
    pub(super) fn server_us(&self) -> f64 {
        self.servers / self.writes as f64 * 1e6
    }

    /// The same of this process.
    pub(super) fn client_us(&self) -> f64 {
        self.client / self.writes as f64 * 1e6
    }
}

/// Each of so many callers puts one key after the other, for some time.
pub(super) async fn measure(
    server: &Server,
    callers: usize,
    time: Duration,
    keys: u64,
    processes: &[Process],
) -> Result<Measured> {
    let cpu = || {
        let servers: f64 =
            processes.iter().map(|process| anyhow::Ok(process.cpu()?.total())).sum::<Result<f64>>()?;
        let mut threads = BTreeMap::<String, Cpu>::new();
        for process in processes {
            let threads_of = process.threads()?;
            threads_of.into_iter().for_each(|(name, cpu)| threads.entry(name).or_default().add(cpu));
        }
        anyhow::Ok((servers, Process::this().cpu()?.total(), threads))
    };
    let (before, begun) = (cpu()?, Instant::now());
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let mut server = server.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            for number in (caller as u64..).step_by(callers) {
                let asked = Instant::now();
                if asked.duration_since(begun) >= time {
                    break;
                }
                server.put(key(number, keys)).await?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut measured = Measured::default();
    while let Some(took) = tasks.join_next().await {
        for took in took?? {
            measured.latencies.add_us(took, 1);
            measured.writes += 1;
        }
    }
    measured.seconds = begun.elapsed().as_secs_f64();
    let after = cpu()?;
    (measured.servers, measured.client) = (after.0 - before.0, after.1 - before.1);
    for (name, cpu) in after.2 {
        let earlier = before.2.get(&name).copied().unwrap_or_default();
        measured.threads.insert(name, cpu.since(earlier));
    }
    Ok(measured)
}
