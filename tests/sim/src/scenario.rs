//! Scenarios: named mixtures of what goes wrong. Without a name a run draws one by its seed.

use crate::Run;
use crate::faults::Fault;
use crate::random::Random;
use crate::world::Weather;

/// A mixture of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    faults: &'static [(Fault, u64)],
    /// How often it is drawn where none is named.
    weight: u64,
}

const CRASHES: &[(Fault, u64)] = &[
    (Fault::Crash, 10),
    (Fault::CrashAll, 2),
    (Fault::Pause, 6),
    (Fault::FsyncFails, 3),
    (Fault::DiskStalls, 3),
];
const NETWORK: &[(Fault, u64)] = &[
    (Fault::Isolate, 4),
    (Fault::OneWay, 4),
    (Fault::Pair, 4),
    (Fault::Split, 3),
    (Fault::BreakStreams, 4),
    (Fault::Storm, 4),
    (Fault::Pause, 2),
    (Fault::Crash, 2),
];
const COORDINATOR: &[(Fault, u64)] = &[
    (Fault::WithoutCoordinator, 6),
    (Fault::CoordinatorDown, 4),
    (Fault::CoordinatorCompacted, 3),
    (Fault::LeaseRevoked, 4),
    (Fault::LeasesRevoked, 3),
    (Fault::Crash, 4),
    (Fault::Isolate, 3),
    (Fault::Pause, 3),
];
const RESTORED: &[(Fault, u64)] = &[
    (Fault::CoordinatorBackup, 6),
    (Fault::CoordinatorRestored, 4),
    (Fault::CoordinatorWiped, 1),
    (Fault::CoordinatorDown, 2),
    (Fault::Crash, 6),
    (Fault::Isolate, 4),
    (Fault::Pair, 3),
];
const DISKS: &[(Fault, u64)] = &[
    (Fault::Wipe, 5),
    (Fault::OldDisk, 6),
    (Fault::Rot, 4),
    (Fault::FsyncFails, 4),
    (Fault::Crash, 5),
    (Fault::CrashAll, 1),
    (Fault::Isolate, 3),
];
const MEMBERSHIP: &[(Fault, u64)] = &[
    (Fault::Transfer, 6),
    (Fault::Add, 8),
    (Fault::Remove, 5),
    (Fault::MinIsr, 3),
    (Fault::Crash, 4),
    (Fault::Pause, 2),
    (Fault::Isolate, 2),
    (Fault::Wipe, 1),
];
const TRANSFERS: &[(Fault, u64)] =
    &[(Fault::Transfer, 10), (Fault::Pause, 2), (Fault::Pair, 3), (Fault::OneWay, 2), (Fault::Crash, 1)];
const LOOSE: &[(Fault, u64)] = &[
    (Fault::Crash, 6),
    (Fault::CrashAll, 1),
    (Fault::Isolate, 6),
    (Fault::OneWay, 4),
    (Fault::Pair, 3),
    (Fault::Transfer, 2),
    (Fault::DiskStalls, 2),
];
const DIVERGENCE: &[(Fault, u64)] = &[
    (Fault::Diverge, 8),
    (Fault::Crash, 2),
    (Fault::Isolate, 2),
    (Fault::Transfer, 2),
    (Fault::BreakStreams, 1),
];
const UNCLEAN: &[(Fault, u64)] = &[
    (Fault::Unclean, 10),
    (Fault::Crash, 6),
    (Fault::Isolate, 8),
    (Fault::Pause, 3),
    (Fault::CoordinatorDown, 1),
];
const CLOCKS: &[(Fault, u64)] = &[
    (Fault::WallClockJumps, 8),
    (Fault::ExpireSessions, 8),
    (Fault::Pause, 8),
    (Fault::Crash, 3),
    (Fault::OneWay, 3),
];

const LEASES: &[(Fault, u64)] =
    &[(Fault::HeardAgain, 10), (Fault::OneWay, 3), (Fault::Pair, 2), (Fault::WithoutCoordinator, 2)];

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "calm", faults: &[(Fault::ExpireSessions, 1)], weight: 1 },
    Scenario { name: "crashes", faults: CRASHES, weight: 8 },
    Scenario { name: "network", faults: NETWORK, weight: 8 },
    Scenario { name: "coordinator", faults: COORDINATOR, weight: 8 },
    Scenario { name: "restored", faults: RESTORED, weight: 5 },
    Scenario { name: "disks", faults: DISKS, weight: 8 },
    Scenario { name: "membership", faults: MEMBERSHIP, weight: 8 },
    Scenario { name: "transfers", faults: TRANSFERS, weight: 3 },
    Scenario { name: "leases", faults: LEASES, weight: 3 },
    Scenario { name: "ack-leader", faults: LOOSE, weight: 6 },
    Scenario { name: "divergence", faults: DIVERGENCE, weight: 3 },
    Scenario { name: "unclean", faults: UNCLEAN, weight: 4 },
    Scenario { name: "clocks", faults: CLOCKS, weight: 4 },
    Scenario { name: "everything", faults: &[], weight: 14 },
];

impl Scenario {
    /// The scenario of that name.
    pub fn named(name: &str) -> Option<Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name).copied()
    }

    fn draw(random: &mut Random) -> Self {
        let weighted: Vec<(Self, u64)> =
            SCENARIOS.iter().map(|scenario| (*scenario, scenario.weight)).collect();
        random.pick_weighted(&weighted).unwrap_or(SCENARIOS[0])
    }

    fn faults(&self) -> Vec<(Fault, u64)> {
        if !self.faults.is_empty() {
            return self.faults.to_vec();
        }
        let all = SCENARIOS.iter().flat_map(|scenario| scenario.faults);
        all.filter(|(fault, _)| !matches!(fault, Fault::Unclean)).copied().collect()
    }
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) scenario: Scenario,
    pub(crate) faults: Vec<(Fault, u64)>,
    /// Shortest and longest time between two faults, in tenths of the unit.
    pub(crate) pace: (u64, u64),
    /// How long things go wrong, in units.
    pub(crate) length: u64,
    /// All times of the group are divided by this.
    pub(crate) haste: u64,
    pub(crate) voters: u64,
    /// Nodes that are no members at first.
    pub(crate) spares: u64,
    pub(crate) min_isr: u32,
    pub(crate) clients: usize,
    pub(crate) keys: u64,
    /// One node starts for the first time when much has happened already.
    pub(crate) late_start: bool,
    /// The longest time that a client does nothing, in microseconds.
    pub(crate) think: u64,
    /// Writes with `ack = leader`, in a thousand of all wishes.
    pub(crate) loose: u64,
    /// The rest in a thousand each.
    pub(crate) client_loss: u64,
    pub(crate) slow_syncs: u64,
    pub(crate) calls_lost: u64,
    pub(crate) answers_lost: u64,
    pub(crate) calls_late: u64,
    pub(crate) watches_lost: u64,
    pub(crate) watches_late: u64,
    pub(crate) watches_twice: u64,
    pub(crate) weather: Weather,
}

impl Profile {
    pub(crate) fn draw(run: &Run, random: &mut Random) -> Self {
        let scenario = run.scenario.unwrap_or_else(|| Scenario::draw(random));
        let calm = scenario.name == "calm";
        let troubled = |random: &mut Random, per_mille: u64| {
            if calm || random.chance(400) { 0 } else { random.between(0, per_mille) }
        };
        let coordinator = match scenario.name {
            "leases" => 6,
            "coordinator" | "everything" | "membership" => 3,
            _ => 1,
        };
        let voters = match scenario.name {
            "divergence" => random.pick(&[3, 3, 5]),
            _ => random.pick(&[3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 7]),
        };
        let voters = voters.unwrap_or(3);
        let spares = match scenario.name {
            "membership" => 2,
            "everything" => random.below(3),
            _ => 0,
        };
        let min_isr = match scenario.name {
            "unclean" => random.between(1, 2),
            _ if random.chance(600) => 2,
            _ => random.between(1, voters.min(4)),
        };
        let haste = random.pick(&[4, 4, 4, 2, 1]).unwrap_or(4);
        let weather = Weather {
            latency: (50, random.between(300, 9000 / haste)),
            lost: troubled(random, 10),
            twice: troubled(random, 30),
            ghosts: troubled(random, 5),
        };
        Self {
            faults: scenario.faults(),
            scenario,
            pace: if random.chance(500) { (2, 14) } else { (6, 40) },
            length: random.between(20, 45),
            haste,
            voters,
            spares,
            min_isr: min_isr as u32,
            clients: random.between(2, 6) as usize,
            keys: random.between(1, 4),
            late_start: scenario.name == "restored" && random.chance(500),
            think: 900_000 / haste / random.between(4, 16),
            loose: if scenario.name == "ack-leader" { 350 } else { random.below(120) },
            client_loss: troubled(random, 30),
            slow_syncs: troubled(random, 20),
            calls_lost: troubled(random, 60) * coordinator,
            answers_lost: troubled(random, 60) * coordinator,
            calls_late: troubled(random, 60) * coordinator,
            watches_lost: troubled(random, 100) * coordinator,
            watches_late: troubled(random, 200),
            watches_twice: troubled(random, 300),
            weather,
        }
    }
}
