//! Writes that the leader alone acknowledges, when it is cut off and goes: each token is committed or lost, never both, and
//! never another thing later.

use std::time::{Duration, Instant};

use mortise_client::{
    Client, ClientError, ErrorKind, Fate, Options, Position, Tenant, WriterOptions, kv, parse_endpoints,
};
use mortise_cluster_kit::{Cut, PATIENCE};
use tokio::runtime::Runtime;

use crate::kit::Kv;

/// Early writes of each kind.
const WRITES: usize = 20;

/// An early write, and all that was told of it.
struct Told {
    key: String,
    token: Option<Position>,
    outcome: Result<(), ClientError>,
}

impl Told {
    fn is_lost(&self) -> bool {
        self.outcome.is_err()
    }
}

fn tenant(runtime: &Runtime, endpoints: &str) -> Tenant {
    let options = Options { endpoints: parse_endpoints(endpoints).unwrap(), ..Options::default() };
    runtime.block_on(Client::connect(&options)).unwrap().tenant("kv")
}

/// Waits until every follower's log reaches so far, as each tells itself.
fn wait_reached(kv: &Kv, followers: &[usize], index: u64) {
    let begun = Instant::now();
    let reached = |node: usize| {
        let status = kv.cluster.ok_at(node, &["--json", "status"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["last_index"].as_u64().unwrap() >= index
    };
    while !followers.iter().all(|node| reached(*node)) {
        assert!(begun.elapsed() < PATIENCE, "the followers do not get the writes");
    }
}

/// Waits until somebody else was elected.
fn wait_deposed(kv: &Kv, before: u64) {
    let later = |status: &serde_json::Value| (status["record"]["epoch"].as_u64()? > before).then_some(());
    kv.cluster.wait("another leader", later).unwrap();
}

/// Whoever leads says of every token what became of its write, and has the writes that were executed and no others.
fn check(kv: &Kv, runtime: &Runtime, all: &[Told]) {
    let tenant = tenant(runtime, &kv.cluster.endpoints());
    let reader = kv::Kv::new(tenant.clone());
    for Told { key, token, outcome } in all {
        let fate = token.map(|token| runtime.block_on(tenant.ask_fate(token, None, PATIENCE)).unwrap());
        match fate {
            Some(Fate::Committed(_)) | None => {
                assert!(outcome.is_ok(), "{key} {token:?}: {outcome:?}, but {fate:?}")
            }
            Some(Fate::Lost) => assert!(outcome.is_err(), "{key} {token:?}: {outcome:?}, but lost"),
            Some(Fate::Pending) => panic!("{key} {token:?} is pending for ever"),
        }
        let record = runtime.block_on(reader.get(key.as_str())).unwrap();
        assert_eq!(record.is_some(), outcome.is_ok(), "{key} {token:?}: {outcome:?}");
    }
    let executed = all.iter().filter(|told| !told.is_lost()).count() as u64;
    let commands = kv.cluster.json(&["tenant", "show", "kv"]).unwrap()["commands"].as_u64().unwrap();
    assert_eq!(commands, executed, "every write that was not lost, once");
}

#[test]
fn what_only_a_killed_leader_had_is_lost_and_what_its_followers_had_is_committed() {
    let mut kv = Kv::start_with_links();
    let runtime = Runtime::new().unwrap();
    let leader = kv.cluster.wait_leader().unwrap();
    let followers: Vec<usize> = (1..=3).filter(|node| *node != leader).collect();
    let before = kv.cluster.epoch().unwrap();
    let options = WriterOptions { timeout: Some(PATIENCE), ..WriterOptions::default() };
    let tenant = tenant(&runtime, &kv.cluster.endpoints());
    let writer = runtime.block_on(tenant.writer(options)).unwrap();
    let write = |kind: &str| {
        let mut written = Vec::new();
        for number in 0..WRITES {
            let key = format!("{kind}-{number}");
            let command = kv::put(key.as_str(), "1", 0);
            written.push((key, runtime.block_on(writer.send_early(command)).unwrap()));
        }
        let with_token = |(key, mut pending): (String, mortise_client::writer::PendingEarly)| {
            let token = runtime.block_on(pending.token());
            (key, token, pending)
        };
        written.into_iter().map(with_token).collect::<Vec<_>>()
    };

    let mut pending = write("calm");
    // The followers get the writes, but are not heard: the leader cannot commit.
    for follower in &followers {
        let links = kv.cluster.links().unwrap();
        links.set(leader, *follower, Cut { forth: false, back: true });
        links.set(*follower, leader, Cut { forth: true, back: false });
    }
    let reached = write("reached");
    let last = reached.iter().filter_map(|(_, token, _)| *token).map(|token| token.index.0).max();
    wait_reached(&kv, &followers, last.expect("the leader acknowledges alone"));
    pending.extend(reached);
    // From now on nobody gets anything.
    kv.cluster.links().unwrap().isolate(leader, true);
    pending.extend(write("alone"));
    kv.cluster.node(leader).kill().unwrap();
    wait_deposed(&kv, before);
    // Only now: what the links have held back of the dead leader's would still be taken before.
    kv.cluster.links().unwrap().isolate(leader, false);

    let mut all = Vec::new();
    for (key, token, pending) in pending {
        let outcome = runtime.block_on(pending).map(drop);
        if let Err(error) = &outcome {
            assert_eq!(error.kind(), ErrorKind::Lost, "{key}: {error}");
            assert!(key.starts_with("alone"), "{key} {token:?} was on every disk");
            assert_eq!(token.map(|token| token.epoch), Some(before), "{key} {token:?}");
        }
        all.push(Told { key, token, outcome });
    }
    let held = |follower: &usize| kv.cluster.links().unwrap().held_bytes(leader, *follower);
    assert!(followers.iter().all(|follower| held(follower) > 0), "nothing was cut off");
    assert!(kv.cluster.epoch().unwrap() > before, "nobody else leads");
    assert!(
        all.iter().any(Told::is_lost),
        "nothing was lost: the leader was deposed before it acknowledged anything"
    );
    assert!(all.iter().filter(|told| told.key.starts_with("reached")).all(|told| told.token.is_some()));
    check(&kv, &runtime, &all);

    // The one that was killed has the lost writes on its disk still. It leads again, and says the same.
    kv.cluster.node(leader).start().unwrap();
    kv.cluster.wait_in_sync().unwrap();
    kv.cluster.ok(&["cluster", "transfer", "1", &leader.to_string()]).unwrap();
    assert_eq!(kv.cluster.wait_leader().unwrap(), leader);
    check(&kv, &runtime, &all);
}

#[test]
fn a_deposed_leaders_tokens_are_told_by_the_new_one_and_on_the_command_line() {
    let kv = Kv::start_with_links();
    let runtime = Runtime::new().unwrap();
    let leader = kv.cluster.wait_leader().unwrap();
    let follower = leader % 3 + 1;
    let before = kv.cluster.epoch().unwrap();
    let fate = |node, token: &Position| kv.cluster.ok_at(node, &["fate", "kv", &token.to_string(), "--wait"]);
    let put = |key: &str| {
        let token = kv.cluster.ok_at(leader, &["kv", "put", key, "1", "--ack", "leader"]).unwrap();
        token.parse::<Position>().unwrap()
    };
    let kept = put("kept");
    assert_eq!(fate(leader, &kept).unwrap(), "committed");
    assert_eq!(fate(follower, &kept).unwrap(), "committed", "a follower names the leader");

    let options = WriterOptions { timeout: Some(PATIENCE), ..WriterOptions::default() };
    let alone = tenant(&runtime, &kv.cluster.nodes()[leader - 1].data_url());
    let writer = runtime.block_on(alone.writer(options)).unwrap();
    kv.cluster.links().unwrap().isolate(leader, true);
    let mut pending = runtime.block_on(writer.send_early(kv::put("streamed", "1", 0))).unwrap();
    let streamed = runtime.block_on(pending.token());
    let told = runtime.block_on(alone.ask_fate(streamed.unwrap(), None, Duration::ZERO));
    assert!(!matches!(told, Ok(Fate::Committed(_))), "nobody else has it: {told:?}");
    let gone = put("gone");
    wait_deposed(&kv, before);

    // The deposed one says nothing of them: it names the new one, which can tell.
    let lost = runtime.block_on(pending).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Lost, "{lost}");
    for node in [follower, leader] {
        let expected = if gone.epoch == before { "lost" } else { "committed" };
        assert_eq!(fate(node, &gone).unwrap(), expected, "{gone}");
        assert_eq!(fate(node, &streamed.unwrap()).unwrap(), "lost");
        assert_eq!(fate(node, &kept).unwrap(), "committed");
    }
    kv.cluster.links().unwrap().isolate(leader, false);
    kv.cluster.wait_in_sync().unwrap();
    assert_eq!(fate(leader, &streamed.unwrap()).unwrap(), "lost");
    assert_eq!(kv.get("kept"), "1");
    assert!(kv.cluster.ok(&["kv", "get", "streamed"]).is_err(), "a lost write was executed");

    // With --wait, first the token and then the reply; the deposed one names who gives them.
    let folder = tempfile::tempdir().unwrap();
    let command = folder.path().join("command");
    std::fs::write(&command, kv::put("waited", "1", 0)).unwrap();
    let write = |command: &str| {
        kv.cluster.ok_at(leader, &["--json", "write", "kv", command, "--ack", "leader", "--wait"])
    };
    let told = write(&format!("@{}", command.display())).unwrap();
    let told: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0]["token"], told[1]["token"]);
    assert!(told[0].get("reply").is_none() && told[1].get("reply").is_some(), "{told:?}");
    assert_eq!(kv.get("waited"), "1");
    let refused = write("no command of kv").unwrap_err().to_string();
    assert!(refused.contains("\"kind\":\"rejected\""), "{refused}");
    let show = kv.cluster.json(&["fate", "kv", &kept.to_string()]).unwrap();
    assert_eq!(show, serde_json::json!({ "token": kept.to_string(), "fate": "committed" }));
}
