//! Two groups, and the processes that lead them by turns, do things with the same names at once: on one thread, where each
//! step of one lets the others go on, in an order that a seed chooses.

use mortise_coordination::backend::faulty::{Faulty, SwapFault};
use mortise_coordination::backend::{
    Answer, Backend, BackendError, Committed, Grant, KeyValue, Range, Transaction,
};
use mortise_coordination::{Config, Coordination, Memory, Revision};
use mortise_core::group::LeaseId;

use super::*;

/// Numbers that a seed makes: SplitMix64.
#[derive(Clone)]
struct Random(Arc<Mutex<u64>>);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    fn below(&self, bound: usize) -> usize {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as usize % bound
    }

    /// Lets others go on.
    async fn pause(&self) {
        for _ in 0..self.below(6) {
            tokio::task::yield_now().await;
        }
    }
}

/// A backend whose every request lets others go on, before and after.
#[derive(Clone)]
struct Slow<B>(B, Random);

impl<B: Backend> Backend for Slow<B> {
    type Watch = B::Watch;

    async fn read(&self, range: Range) -> Result<Answer<Vec<KeyValue>>, BackendError> {
        self.1.pause().await;
        let answer = self.0.read(range).await;
        self.1.pause().await;
        answer
    }

    async fn commit(&self, transaction: Transaction) -> Result<Answer<Committed>, BackendError> {
        self.1.pause().await;
        let answer = self.0.commit(transaction).await;
        self.1.pause().await;
        answer
    }

    async fn grant(&self, ttl_seconds: u32) -> Result<Answer<Grant>, BackendError> {
        self.0.grant(ttl_seconds).await
    }

    async fn renew(&self, lease: LeaseId) -> Result<Answer<Duration>, BackendError> {
        self.0.renew(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), BackendError> {
        self.0.revoke(lease).await
    }

    async fn watch(&self, prefix: String, from: Revision) -> Result<Self::Watch, BackendError> {
        self.0.watch(prefix, from).await
    }

    fn turn_away(&self) {
        self.0.turn_away();
    }
}

/// What a group committed, and in which epoch it is.
#[derive(Default)]
struct Group {
    epoch: u64,
    last: u64,
    has: BTreeMap<String, TenantId>,
}

/// What a process knows of a group. One that was deposed may not know it yet.
#[derive(Clone, Default)]
struct Known {
    leading: Option<Epoch>,
    has: BTreeMap<String, TenantId>,
}

#[derive(Default)]
struct World {
    groups: [Group; 2],
    /// By process, by group.
    known: [[Known; 2]; 2],
}

/// A process's replica of a group.
#[derive(Clone)]
struct Seat {
    world: Arc<Mutex<World>>,
    process: usize,
    group: usize,
}

impl Seat {
    fn known(&self) -> Known {
        self.world.lock().unwrap().known[self.process][self.group].clone()
    }

    /// The process is elected. The other one may not notice.
    fn elect(&self) {
        let mut world = self.world.lock().unwrap();
        let group = &mut world.groups[self.group];
        group.epoch += 1;
        let known = Known { leading: Some(Epoch(group.epoch)), has: group.has.clone() };
        world.known[self.process][self.group] = known;
    }

    fn step_down_where_deposed(&self) {
        let mut world = self.world.lock().unwrap();
        let epoch = Epoch(world.groups[self.group].epoch);
        let known = &mut world.known[self.process][self.group];
        known.leading = known.leading.filter(|leading| *leading == epoch);
    }

    /// Logs a change, as a driver does: in the epoch asked for only, if any; and it is committed only in the group's newest.
    async fn log(
        &self,
        random: &Random,
        epoch: Option<Epoch>,
        change: impl FnOnce(&mut BTreeMap<String, TenantId>, TenantId),
    ) -> Result<(), AdminError> {
        random.pause().await;
        let leading = self.known().leading.filter(|leading| epoch.is_none_or(|epoch| epoch == *leading));
        let group = Holder::group(self);
        let leading = leading.ok_or(WriteError::NotLeader { group, leader: None })?;
        random.pause().await;
        {
            let mut world = self.world.lock().unwrap();
            let group = &mut world.groups[self.group];
            if Epoch(group.epoch) != leading {
                return Err(WriteError::LeadershipLost.into());
            }
            group.last += 1;
            change(&mut group.has, TenantId(group.last));
            world.known[self.process][self.group].has = world.groups[self.group].has.clone();
            let [one, other] = &world.groups;
            let twice = one.has.keys().find(|name| other.has.contains_key(*name));
            assert_eq!(twice, None, "two groups have it");
        }
        random.pause().await;
        Ok(())
    }
}

impl Holder for Seat {
    fn group(&self) -> GroupId {
        GroupId(self.group as u64 + 1)
    }

    fn leading(&self) -> Option<Epoch> {
        self.known().leading
    }

    fn tenant(&self, name: &str) -> Option<TenantId> {
        self.known().has.get(name).copied()
    }

    fn tenants(&self) -> BTreeMap<String, TenantId> {
        self.known().has
    }
}

async fn create(names: &Arc<Names>, seat: &Seat, random: &Random, name: &str) -> Result<(), AdminError> {
    let (logging, random, new) = (seat.clone(), random.clone(), name.to_owned());
    let make = async move |epoch| logging.log(&random, Some(epoch), |has, id| _ = has.insert(new, id)).await;
    names.create(seat.clone(), name, make).await
}

async fn release(names: &Arc<Names>, seat: &Seat, random: &Random, name: &str) -> Result<(), AdminError> {
    let (logging, random, old) = (seat.clone(), random.clone(), name.to_owned());
    let drop = async move { logging.log(&random, None, |has, _| _ = has.remove(&old)).await };
    names.release(seat.clone(), name, drop).await
}

/// What a keeper of names does with one.
async fn settle(names: &Names, seat: &Seat, name: &str) -> Result<(), AdminError> {
    let _busy = names.begin(name)?;
    names.settle(seat, name).await
}

fn names<B: Backend>(backend: B) -> Arc<Names> {
    let coordination = Coordination::start(Config::new("test"), None, backend).unwrap();
    Arc::new(Names::new(Arc::new(coordination), Directory::default()))
}

fn seats() -> (Arc<Mutex<World>>, Vec<Seat>) {
    let world = Arc::new(Mutex::new(World::default()));
    let seat = |process, group| Seat { world: Arc::clone(&world), process, group };
    let seats = vec![seat(0, 0), seat(0, 1), seat(1, 0), seat(1, 1)];
    (world, seats)
}

const NAMES: [&str; 2] = ["a", "b"];

/// How many creations came to be.
async fn history(seed: u64) -> usize {
    let random = Random::new(seed);
    let memory = Memory::new();
    // Each process has its own.
    let keepers = [0, 1].map(|_| names(Slow(memory.clone(), random.clone())));
    let (world, seats) = seats();
    let mut created = 0;
    for _ in 0..12 {
        let calls = (0..8).map(|_| {
            let (seat, name) = (seats[random.below(4)].clone(), NAMES[random.below(2)]);
            let (names, random) = (Arc::clone(&keepers[seat.process]), random.clone());
            tokio::spawn(async move {
                random.pause().await;
                match random.below(8) {
                    0..3 => return create(&names, &seat, &random, name).await.is_ok(),
                    3 => drop(release(&names, &seat, &random, name).await),
                    4 => drop(settle(&names, &seat, name).await),
                    5 => seat.step_down_where_deposed(),
                    _ => seat.elect(),
                }
                false
            })
        });
        for call in calls.collect::<Vec<_>>() {
            created += usize::from(call.await.unwrap());
        }
    }
    // All is calm: each group has a leader that knows, and its names are settled.
    for seat in &seats[..2] {
        seat.elect();
        for name in NAMES {
            settle(&keepers[0], seat, name).await.unwrap();
        }
    }
    for name in NAMES {
        let group = (0..2).find(|group| world.lock().unwrap().groups[*group].has.contains_key(name));
        let told = keepers[0].look_up(name).await.unwrap();
        let has = group.and_then(|group| world.lock().unwrap().groups[group].has.get(name).copied());
        assert_eq!(told.as_ref().map(|told| told.state), has.map(TenantState::Ready), "seed {seed}, {name}");
        assert_eq!(told.map(|told| told.group.0), group.map(|group| group as u64 + 1), "seed {seed}");
    }
    created
}

#[tokio::test(start_paused = true)]
async fn no_name_is_ever_in_two_groups() {
    let mut created = 0;
    for seed in 0..400 {
        created += history(seed).await;
    }
    assert!(created > 400, "only {created} were created");
}

#[tokio::test(start_paused = true)]
async fn of_two_groups_one_gets_the_name_and_the_other_is_told_which() {
    let (names, random) = (names(Memory::new()), Random::new(1));
    let (_, seats) = seats();
    seats[0].elect();
    seats[1].elect();
    create(&names, &seats[0], &random, "a").await.unwrap();
    let taken = create(&names, &seats[1], &random, "a").await.unwrap_err();
    assert_eq!(taken.to_string(), "tenant \"a\" exists already, in group 1");
    let again = create(&names, &seats[0], &random, "a").await.unwrap_err();
    assert!(matches!(again, AdminError::AlreadyExists { .. }), "{again}");
    release(&names, &seats[0], &random, "a").await.unwrap();
    assert_eq!(names.look_up("a").await.unwrap(), None);
    create(&names, &seats[1], &random, "a").await.unwrap();
    assert_eq!(names.look_up("a").await.unwrap().unwrap().group, GroupId(2));
    let malformed = create(&names, &seats[1], &random, "a/b").await.unwrap_err();
    assert!(matches!(malformed, AdminError::Invalid(_)), "{malformed}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_arrives_late_is_given_up_by_the_leader() {
    let faulty = Faulty::new(Memory::new());
    let (names, random) = (names(faulty.clone()), Random::new(1));
    let (_, seats) = seats();
    seats[0].elect();
    seats[1].elect();
    faulty.faults().next_swap(SwapFault::Late);
    let unknown = create(&names, &seats[0], &random, "a").await.unwrap_err();
    assert!(matches!(unknown, AdminError::Directory(_)), "{unknown}");
    assert_eq!(seats[0].tenant("a"), None, "nothing is created on a doubtful claim");
    assert_eq!(faulty.deliver_late().await.unwrap(), 1);
    let taken = create(&names, &seats[1], &random, "a").await.unwrap_err();
    assert!(matches!(taken, AdminError::Taken { group: GroupId(1), .. }), "{taken}");
    settle(&names, &seats[0], "a").await.unwrap();
    create(&names, &seats[1], &random, "a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_directory_lacks_is_entered_and_what_contradicts_it_is_told() {
    let (names, random) = (names(Memory::new()), Random::new(1));
    let (_, seats) = seats();
    seats[0].elect();
    seats[1].elect();
    // As if etcd had been wiped since.
    seats[0].log(&random, None, |has, id| _ = has.insert("a".into(), id)).await.unwrap();
    assert!(names.settle_all(&seats[0], &BTreeSet::new()).await.is_empty());
    assert_eq!(names.look_up("a").await.unwrap().unwrap().state, TenantState::Ready(TenantId(1)));
    seats[1].world.lock().unwrap().known[0][1].has.insert("a".into(), TenantId(9));
    assert_eq!(names.settle_all(&seats[1], &BTreeSet::new()).await, ["a".to_owned()].into());
    assert_eq!(names.look_up("a").await.unwrap().unwrap().group, GroupId(1), "it is left as it is");
}
