//! Random histories with crashes, compared with a model that knows what must survive.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u64,
        bytes: usize,
    },
    Sync,
    /// Nothing is to be done: zeros are written ahead.
    Fill,
    /// The process ends and starts again.
    Restart,
    /// The power goes and comes again.
    Crash {
        seed: u64,
    },
    /// The power goes in the middle of what follows.
    CutPower {
        changes: u64,
    },
    Truncate {
        back: u64,
    },
    Drop {
        back: u64,
    },
    FailSync,
    FillDisk {
        bytes: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6u64, 0..900usize).prop_map(|(count, bytes)| Step::Append { count, bytes }),
        6 => Just(Step::Sync),
        2 => Just(Step::Fill),
        1 => Just(Step::Restart),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        2 => (0..12u64).prop_map(|changes| Step::CutPower { changes }),
        1 => (0..30u64).prop_map(|back| Step::Truncate { back }),
        1 => (0..30u64).prop_map(|back| Step::Drop { back }),
        1 => Just(Step::FailSync),
        1 => (0..9000u64).prop_map(|bytes| Step::FillDisk { bytes }),
    ]
}

/// What may and what must be found after a crash.
struct World {
    disk: FaultyDisk,
    log: Option<Log>,
    /// Every record that may be found, by index, from 1 on.
    written: Vec<LogRecord>,
    /// The last record that must be found.
    must: u64,
    /// What must not be found any more begins here, at the latest.
    first_max: u64,
    epoch: u64,
    crashes: u64,
    /// An append failed so that the log stopped: nothing is written from then on.
    poisoned: bool,
    /// Opening failed since the last crash.
    tried: bool,
}

impl World {
    fn new() -> Self {
        let disk = FaultyDisk::new();
        let log = Some(open(&disk).0);
        let (written, must, first_max, epoch) = (Vec::new(), 0, 1, 1);
        Self { disk, log, written, must, first_max, epoch, crashes: 0, poisoned: false, tried: false }
    }

    fn run(&mut self, step: &Step) {
        let Some(log) = &mut self.log else { return };
        match step {
            Step::Append { count, bytes } => {
                if self.poisoned {
                    assert!(matches!(log.append(&[]), Err(LogError::Poisoned { .. })));
                    return;
                }
                let next = log.last_index().0 + 1;
                self.written.truncate(next as usize - 1);
                let (epoch, bytes) = (Epoch(self.epoch), *bytes);
                let batch: Vec<_> = (next..next + count)
                    .map(|index| LogRecord {
                        payload: vec![(index + epoch.0) as u8; bytes].into(),
                        epoch,
                        index: LogIndex(index),
                    })
                    .collect();
                // Also after a failure: what was written may be found.
                self.written.extend(batch.iter().cloned());
                let result = log.append(&batch);
                self.poisoned = matches!(result, Err(LogError::Poisoned { .. }));
            }
            Step::Sync => {
                let last = log.last_index().0;
                if log.sync().is_ok() {
                    self.must = last;
                }
            }
            Step::Fill => {
                let result = log.fill_ahead();
                assert!(matches!(result, Ok(()) | Err(LogError::Poisoned { .. })), "{result:?}");
            }
            Step::Restart => self.reopen(),
            Step::Crash { seed } => self.crash(*seed),
            Step::CutPower { changes } => self.disk.cut_power_after(*changes),
            Step::Truncate { back } => {
                let index = log.last_index().0.saturating_sub(*back);
                if index + 1 >= log.first_index().0 {
                    self.must = self.must.min(index);
                    if log.truncate_after(LogIndex(index)).is_ok() {
                        self.written.truncate(index as usize);
                        self.epoch += 1;
                    }
                }
            }
            Step::Drop { back } => {
                let index = log.last_index().0.saturating_sub(*back);
                let _ = log.drop_below(LogIndex(index));
                self.first_max = self.first_max.max(index);
            }
            Step::FailSync => self.disk.fail_syncs(1),
            Step::FillDisk { bytes } => self.disk.fill_after(*bytes),
        }
    }

    fn crash(&mut self, seed: u64) {
        self.log = None;
        self.disk.crash(seed);
        self.crashes += 1;
        self.tried = false;
        self.reopen();
    }

    fn reopen(&mut self) {
        self.log = None;
        self.disk.make_room();
        let opened = Log::open(Arc::new(self.disk.clone()), options());
        let (log, recovery) = match opened {
            Ok(opened) => opened,
            // Power that is cut, or an fsync that fails, while the log recovers: again, from what that left. First
            // without a crash, so that what a failed fsync left can still be read.
            Err(LogError::Io { .. } | LogError::Poisoned { .. }) if !self.tried => {
                self.tried = true;
                return self.reopen();
            }
            Err(LogError::Io { .. } | LogError::Poisoned { .. }) => return self.crash(self.crashes * 31 + 7),
            Err(error) => panic!("sound writes and a crash give: {error}"),
        };
        let (first, last) = (recovery.first_index.0, recovery.last_index.0);
        assert!(last >= self.must, "{last} is found, {} was synced", self.must);
        assert!(first <= self.first_max.max(1), "{first} is first, {} was to be kept", self.first_max);
        let found = all(&log);
        assert_eq!(found.len() as u64, last + 1 - first);
        assert!(found == self.written[first as usize - 1..last as usize], "other records than written");
        self.written.truncate(last as usize);
        // What recovery gives back is durable.
        self.must = last;
        self.epoch += 1;
        self.log = Some(log);
        self.poisoned = false;
    }
}

#[test]
fn everything_synced_survives_every_history() {
    // A longer search: MORTISE_CASES=20000 cargo test -p mortise-storage
    let cases = std::env::var("MORTISE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000);
    let seed = [7; 32];
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let mut crashes = 0;
    let history = proptest::collection::vec(step(), 1..60);
    let counted = std::cell::RefCell::new(&mut crashes);
    runner
        .run(&history, |steps| {
            let mut world = World::new();
            for step in &steps {
                world.run(step);
            }
            world.crash(steps.len() as u64);
            **counted.borrow_mut() += world.crashes;
            Ok(())
        })
        .unwrap();
    assert!(crashes > 1000, "only {crashes} crashes");
}
