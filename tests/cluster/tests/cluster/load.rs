//! Clients that read and write tenants, and note what they are answered, while something happens to the cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mortise_client::kv::Kv as KvClient;
use mortise_client::{Client, Options, Tenant, WriterOptions, parse_endpoints};
use mortise_cluster_kit::PATIENCE;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::history::{self, History};
use crate::kit::Kv;
use crate::totals::{self, Books};

/// Clients of each tenant.
const KV_CLIENTS: u64 = 4;
const LEDGER_CLIENTS: u64 = 2;

/// Clients that read and write until told to stop.
pub(crate) struct Load {
    runtime: Runtime,
    /// The kv tenant.
    name: &'static str,
    history: Arc<Mutex<History>>,
    books: Arc<Mutex<Books>>,
    ledger: Option<Tenant>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Of the tenants `kv` and `ledger`, each client on a connection of its own.
    pub(crate) fn start(kv: &Kv) -> Self {
        let endpoints = parse_endpoints(&kv.cluster.endpoints()).unwrap();
        // Each begins at another node, mostly at one that does not lead.
        let client = |number: u64| {
            let mut endpoints = endpoints.clone();
            let nodes = endpoints.len();
            endpoints.rotate_left(usize::try_from(number).unwrap() % nodes);
            // What takes longer than a cluster may take is not answered at all.
            Client::lazy(&Options { endpoints, timeout: PATIENCE, ..Options::default() }).unwrap()
        };
        let mut load = Self::launch("kv", client);
        for number in 0..LEDGER_CLIENTS {
            let entered = load.runtime.enter();
            let (books, stop, tenant) =
                (load.books.clone(), load.stop.clone(), client(number).tenant("ledger"));
            drop(entered);
            load.ledger = Some(tenant.clone());
            load.tasks.push(load.runtime.spawn(async move {
                let writer = tenant.writer(patient()).await.unwrap();
                for operation in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    totals::operate(&tenant, &writer, &books, number, operation).await;
                }
            }));
        }
        load
    }

    /// Of one kv tenant alone, all on the connections of one client.
    pub(crate) fn through(client: &Client, tenant: &'static str) -> Self {
        Self::launch(tenant, |_| client.clone())
    }

    fn launch(name: &'static str, client: impl Fn(u64) -> Client) -> Self {
        let runtime = Runtime::new().unwrap();
        let (history, books) = (Arc::<Mutex<History>>::default(), Arc::<Mutex<Books>>::default());
        let stop = Arc::<AtomicBool>::default();
        let entered = runtime.enter();
        let tasks = (0..KV_CLIENTS).map(|number| {
            let (history, stop, tenant) = (history.clone(), stop.clone(), client(number).tenant(name));
            runtime.spawn(async move {
                let writer = tenant.writer(patient()).await.unwrap();
                let kv = KvClient::with_writer(tenant, writer);
                for operation in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    history::operate(&kv, &history, number, operation).await;
                }
            })
        });
        let tasks = tasks.collect();
        drop(entered);
        Self { runtime, name, history, books, ledger: None, stop, tasks }
    }

    /// Writes and transfers acknowledged so far.
    fn acknowledged(&self) -> (u64, u64) {
        (self.history.lock().unwrap().acknowledged(), self.books.lock().unwrap().acknowledged())
    }

    /// Waits until so many more writes are acknowledged, and half as many transfers.
    pub(crate) fn wait_acknowledged(&self, more: u64) {
        let (writes, transfers) = self.acknowledged();
        let more_transfers = if self.ledger.is_some() { more / 2 } else { 0 };
        let begun = Instant::now();
        loop {
            let (now, moved) = self.acknowledged();
            if now >= writes + more && moved >= transfers + more_transfers {
                return;
            }
            let failed = self.tasks.iter().any(JoinHandle::is_finished);
            assert!(!failed, "a client has given up");
            assert!(begun.elapsed() < PATIENCE, "{now} writes and {moved} transfers, and no more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the load, and checks that what the clients saw is possible, and that the cluster has what it acknowledged, once,
    /// on every member.
    pub(crate) fn finish(self, kv: &Kv) {
        self.finish_in(kv, 1);
    }

    /// The same of tenants in another group.
    pub(crate) fn finish_in(self, kv: &Kv, group: u64) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            self.runtime.block_on(task).unwrap();
        }
        if let Some(ledger) = &self.ledger {
            self.runtime.block_on(totals::read(ledger, &self.books));
        }
        let (history, books) = (self.history.lock().unwrap(), self.books.lock().unwrap());
        let problems = [history.problems(), books.problems()].concat();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        assert!(history.seen() > 1);
        let status = kv.cluster.wait_in_sync_of(group).unwrap();
        let ledger = self.ledger.as_ref().map(|ledger| (ledger.name(), books.acknowledged()));
        for (tenant, acknowledged) in ledger.into_iter().chain([(self.name, history.acknowledged())]) {
            let commands = kv.cluster.json(&["tenant", "show", tenant]).unwrap()["commands"].as_u64();
            assert_eq!(commands, Some(acknowledged), "{tenant}: every write once: {status}");
        }
    }
}

fn patient() -> WriterOptions {
    WriterOptions { timeout: Some(PATIENCE), ..WriterOptions::default() }
}
