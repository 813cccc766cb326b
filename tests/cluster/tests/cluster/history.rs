//! What clients of a kv tenant saw can have happened one after the other, each write once.
//!
//! Every write of the kv plugin is answered with a version that no other write of the tenant has, and every read with the
//! version it saw. So the only order that can explain a history is known, and what is left to check is that it agrees
//! with time: an operation that began after another was answered must not be older (Herlihy and Wing, 1990).

use std::collections::BTreeMap;
use std::sync::Mutex;

use mortise_client::ClientError;
use mortise_client::kv::Kv as KvClient;

/// Keys that are written and read.
const KEYS: u64 = 4;

/// What was answered so far.
#[derive(Default)]
pub(crate) struct History {
    /// The newest version that was answered of each key.
    newest: BTreeMap<u64, u64>,
    /// The newest version that any write was answered with.
    newest_write: u64,
    /// What each acknowledged write wrote.
    written: BTreeMap<u64, u64>,
    /// What each version held that was read.
    seen: BTreeMap<u64, u64>,
    problems: Vec<String>,
}

impl History {
    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.written.len() as u64
    }

    /// How many versions were read.
    pub(crate) fn seen(&self) -> usize {
        self.seen.len()
    }

    /// What cannot be explained. Values are compared as soon as both are known: a version may be read before its write is
    /// acknowledged.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        for (version, value) in &self.seen {
            if let Some(other) = self.written.get(version).filter(|other| *other != value) {
                problems.push(format!("version {version} was read as {value}, and written as {other}"));
            }
        }
        problems
    }

    fn wrote(&mut self, key: u64, floor: u64, version: u64, value: u64) {
        if version <= floor {
            self.problems
                .push(format!("a write made version {version}, but {floor} was answered before it began"));
        }
        if let Some(other) = self.written.insert(version, value) {
            self.problems.push(format!("version {version} was given to {value} and to {other}"));
        }
        self.newest_write = self.newest_write.max(version);
        let newest = self.newest.entry(key).or_default();
        *newest = version.max(*newest);
    }

    fn saw(&mut self, key: u64, floor: u64, version: u64, value: u64) {
        if version < floor {
            self.problems.push(format!(
                "a read of {key} saw version {version}, but {floor} was answered before it began"
            ));
        }
        if let Some(other) = self.seen.insert(version, value).filter(|other| version > 0 && *other != value) {
            self.problems.push(format!("version {version} was read as {value} and as {other}"));
        }
        let newest = self.newest.entry(key).or_default();
        *newest = version.max(*newest);
    }
}

/// Writes `value`, and notes what was answered.
pub(crate) async fn write(
    kv: &KvClient,
    history: &Mutex<History>,
    key: u64,
    value: u64,
) -> Result<(), ClientError> {
    let floor = history.lock().unwrap().newest_write;
    let reply = kv.put(key.to_string(), value.to_le_bytes(), 0).await?;
    history.lock().unwrap().wrote(key, floor, reply.version, value);
    Ok(())
}

/// Reads a key, and notes what was answered.
pub(crate) async fn read(kv: &KvClient, history: &Mutex<History>, key: u64) -> Result<(), ClientError> {
    let floor = history.lock().unwrap().newest.get(&key).copied().unwrap_or(0);
    let record = kv.get(key.to_string()).await?;
    let (version, value) = record.map_or((0, 0), |record| {
        (record.version, u64::from_le_bytes(record.value.as_slice().try_into().unwrap()))
    });
    history.lock().unwrap().saw(key, floor, version, value);
    Ok(())
}

/// The next operation of a client: every third one writes.
pub(crate) async fn operate(kv: &KvClient, history: &Mutex<History>, client: u64, number: u64) {
    let key = (client + number / 3) % KEYS;
    let done = match number % 3 {
        0 => write(kv, history, key, client << 32 | number).await,
        _ => read(kv, history, key).await,
    };
    done.unwrap();
}

#[test]
fn what_cannot_be_is_reported() {
    let mut history = History::default();
    history.wrote(1, 0, 5, 50);
    history.saw(1, 5, 5, 50);
    history.wrote(2, 5, 6, 60);
    assert!(history.problems().is_empty(), "{:?}", history.problems());
    for (wrong, problem) in [
        (History::saw as fn(&mut History, u64, u64, u64, u64), "was answered before it began"),
        (|history, _, _, _, _| history.wrote(1, 6, 4, 40), "was answered before it began"),
        (|history, _, _, _, _| history.wrote(1, 0, 5, 51), "was given to"),
        (|history, _, _, _, _| history.saw(2, 6, 6, 61), "was read as"),
    ] {
        let mut history = History { written: history.written.clone(), ..History::default() };
        wrong(&mut history, 1, 5, 0, 0);
        let problems = history.problems();
        assert!(problems.iter().any(|found| found.contains(problem)), "{problem}: {problems:?}");
    }
}
