//! A group of nodes whose leadership moves, with hints that are right, late, missing or wrong, and nodes that hang and
//! die. Whatever happens, no error reaches the caller, and each write is executed once, in order.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mortise_client::{
    Client, ErrorKind, Freshness, Options, Position, Tenant, TookEffect, Writer, WriterOptions,
};
use mortise_core::ids::{GroupId, LogIndex};
use mortise_proto::v1;
use mortise_proto::v1::query_request::Freshness as Asked;

use super::command;
use super::server::{Faults, Node, Running};

/// Nodes of one group; the first leads.
struct Group {
    nodes: Vec<Option<Running>>,
    addresses: Vec<String>,
}

impl Group {
    async fn start(count: usize) -> Self {
        let first = Node::new(Faults::default());
        let mut nodes = Vec::new();
        for number in 0..count {
            let node = if number == 0 { first.clone() } else { first.peer() };
            nodes.push(Some(node.start().await));
        }
        let address =
            |node: &Option<Running>| node.as_ref().unwrap().endpoint.trim_start_matches("http://").to_owned();
        let addresses = nodes.iter().map(address).collect();
        let group = Self { nodes, addresses };
        group.lead("t", 0);
        group
    }

    fn node(&self, number: usize) -> &Node {
        &self.nodes[number].as_ref().unwrap().node
    }

    fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
    }

    /// What each node that does not lead says of who does; a node that is not named leads.
    fn hint(&self, tenant: &str, hints: &[(usize, &str)]) {
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(Running { node, .. }) = node else { continue };
            let mut follows = node.follows.lock().unwrap();
            match hints.iter().find(|(of, _)| *of == number) {
                Some((_, hint)) => follows.insert(tenant.into(), (*hint).into()),
                None => follows.remove(tenant),
            };
        }
    }

    /// One node leads, and all others know. They are told first: two never lead at once.
    fn lead(&self, tenant: &str, leader: usize) {
        let all: Vec<_> = (0..self.nodes.len()).map(|of| (of, self.addresses[leader].as_str())).collect();
        self.hint(tenant, &all);
        let others: Vec<_> = all.into_iter().filter(|(of, _)| *of != leader).collect();
        self.hint(tenant, &others);
    }

    /// Nobody leads, and nobody knows who will.
    fn lead_nobody(&self) {
        let all: Vec<_> = (0..self.nodes.len()).map(|of| (of, "")).collect();
        self.hint("t", &all);
    }

    fn options(&self, numbers: &[usize]) -> Options {
        let endpoints = numbers.iter().map(|number| format!("http://{}", self.addresses[*number]));
        Options {
            endpoints: endpoints.collect(),
            silence_timeout: Duration::from_millis(300),
            ..Options::default()
        }
    }

    fn client(&self, numbers: &[usize]) -> Client {
        Client::lazy(&self.options(numbers)).unwrap()
    }

    fn tenant(&self, numbers: &[usize]) -> Tenant {
        self.client(numbers).tenant("t")
    }

    fn refusals(&self) -> usize {
        self.nodes.iter().flatten().map(|running| running.node.refusals()).sum()
    }

    /// Each of so many writes was executed once, in order.
    fn check_executed(&self, count: usize) {
        let node = &self.nodes.iter().flatten().next().unwrap().node;
        let expected: Vec<_> = (0..count).map(|number| command(number).to_vec()).collect();
        let state = node.state.lock().unwrap();
        assert_eq!(state.executed.len(), count);
        assert!(state.executed == expected, "each once, but in another order");
    }
}

fn small_window() -> WriterOptions {
    WriterOptions { window_writes: 50, ..WriterOptions::default() }
}

/// Writes in the background, each of so many commands in turn, and sees to it that each gets its reply.
fn write_on(writer: &Writer, count: usize) -> tokio::task::JoinHandle<()> {
    let writer = writer.clone();
    tokio::spawn(async move {
        let answers = tokio::sync::mpsc::channel(count);
        let (sender, mut receiver) = answers;
        for number in 0..count {
            sender.send(writer.send(command(number)).await.unwrap()).await.unwrap();
        }
        drop(sender);
        let mut number = 0;
        while let Some(pending) = receiver.recv().await {
            assert_eq!(pending.await.unwrap(), format!("re:c{number}"));
            number += 1;
        }
        assert_eq!(number, count);
    })
}

fn executed(node: &Node) -> usize {
    node.state.lock().unwrap().executed.len()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_hint_leads_to_the_leader_and_is_remembered_by_all_clones() {
    let group = Group::start(2).await;
    group.lead("t", 1);
    let client = group.client(&[0]);
    let begun = Instant::now();
    for number in 0..5 {
        client.clone().tenant("t").write(command(number)).await.unwrap();
    }
    client.tenant("t").query("q").await.unwrap();
    client.tenant("t").writer(small_window()).await.unwrap().write("w").await.unwrap();
    assert_eq!(group.node(0).refusals(), 1);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn tenants_of_other_groups_have_leaders_of_their_own() {
    let group = Group::start(2).await;
    group.lead("u", 1);
    let client = group.client(&[0, 1]);
    for _ in 0..5 {
        client.tenant("t").query("q").await.unwrap();
        client.tenant("u").query("q").await.unwrap();
    }
    assert_eq!((group.node(0).refusals(), group.node(1).refusals()), (1, 0));
}

#[tokio::test]
async fn a_leadership_that_moves_loses_and_repeats_nothing() {
    const COUNT: usize = 6_000;
    let group = Group::start(3).await;
    for number in 0..3 {
        group.node(number).faults.lock().unwrap().delay = Duration::from_millis(1);
    }
    let writer = group.tenant(&[0]).writer(small_window()).await.unwrap();
    let writing = write_on(&writer, COUNT);
    for step in 1..=20 {
        until("writes go on", || executed(group.node(0)) >= step * COUNT / 25).await;
        // Now and then nobody leads for a moment.
        if step % 3 == 0 {
            group.lead_nobody();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        group.lead("t", step % 3);
    }
    writing.await.unwrap();
    group.check_executed(COUNT);
    assert!(group.refusals() >= 20, "the fault happened: {} refusals", group.refusals());
}

#[tokio::test]
async fn a_leadership_lost_behind_a_write_is_no_error_of_the_writer() {
    let group = Group::start(2).await;
    group.node(0).faults.lock().unwrap().lost_every = 40;
    let writer = group.tenant(&[0, 1]).writer(small_window()).await.unwrap();
    // The other node leads as well: what it is asked was executed here, and must not be again.
    group.hint("t", &[]);
    write_on(&writer, 1_000).await.unwrap();
    group.check_executed(1_000);
    assert!(!group.node(0).state.lock().unwrap().lost.is_empty(), "the fault happened");
}

#[tokio::test]
async fn a_leadership_lost_behind_a_write_outside_of_sessions_is_in_doubt_and_not_repeated() {
    let group = Group::start(2).await;
    group.node(0).faults.lock().unwrap().lost_every = 1;
    let error = group.tenant(&[0, 1]).write("w").await.unwrap_err();
    assert_eq!((error.kind(), error.took_effect()), (ErrorKind::NotLeader, TookEffect::Unknown));
    assert_eq!(executed(group.node(0)), 1);
}

#[tokio::test]
async fn without_hints_the_leader_is_found_by_asking_around() {
    let group = Group::start(3).await;
    group.hint("t", &[(0, ""), (1, "not an address")]);
    let begun = Instant::now();
    let writer = group.tenant(&[0, 1, 2]).writer(small_window()).await.unwrap();
    write_on(&writer, 100).await.unwrap();
    group.check_executed(100);
    assert_eq!(group.refusals(), 2, "each once");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn hints_in_a_circle_are_left_for_the_node_outside() {
    let group = Group::start(3).await;
    let (a, b) = (group.addresses[0].as_str(), group.addresses[1].as_str());
    group.hint("t", &[(0, b), (1, a)]);
    let tenant = group.tenant(&[0, 1, 2]);
    tenant.query("q").await.unwrap();
    assert_eq!(group.refusals(), 2);
    // And a stream.
    let session = tenant.open_session(None).await.unwrap().id;
    assert_eq!(group.refusals(), 2, "the leader is known by now");
    let writer = Writer::resume(&group.tenant(&[0, 1, 2]), session, 1, small_window());
    write_on(&writer, 100).await.unwrap();
    group.check_executed(100);
    assert!(group.refusals() <= 8, "{} refusals", group.refusals());
}

#[tokio::test]
async fn a_circle_without_a_leader_is_waited_out_and_does_not_spin() {
    let group = Group::start(2).await;
    let writer = group.tenant(&[0, 1]).writer(small_window()).await.unwrap();
    let (a, b) = (group.addresses[0].as_str(), group.addresses[1].as_str());
    group.hint("t", &[(0, b), (1, a)]);
    let tenant = group.tenant(&[0, 1]);
    let begun = Instant::now();
    let query = tokio::spawn(async move { tenant.query("q").await });
    let writing = write_on(&writer, 1);
    // Two of them, with two hops a round, and between the rounds waits of 10, 20, … 400 ms, at least half of each.
    until("they ask again and again", || group.refusals() >= 32).await;
    let least = Duration::from_millis(5 + 10 + 20 + 40 + 80 + 160 + 200);
    assert!(begun.elapsed() >= least, "32 refusals in {:?}", begun.elapsed());
    group.lead("t", 1);
    let begun = Instant::now();
    query.await.unwrap().unwrap();
    writing.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    group.check_executed(1);
}

#[tokio::test]
async fn a_leader_that_hangs_behind_its_writes_is_left() {
    let group = Group::start(3).await;
    let writer = group.tenant(&[0]).writer(small_window()).await.unwrap();
    writer.write(command(0)).await.unwrap();
    // It executes, and says nothing of it.
    group.node(0).faults.lock().unwrap().silent = true;
    let second = tokio::spawn({
        let writer = writer.clone();
        async move { writer.write(command(1)).await }
    });
    until("the write is executed", || executed(group.node(0)) == 2).await;
    // Only hints named the others so far, and now none comes from the node that hangs.
    let begun = Instant::now();
    until("the client notices", || writer.trouble().is_some()).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    group.node(0).faults.lock().unwrap().silent = false;
    group.lead("t", 2);
    assert_eq!(second.await.unwrap().unwrap(), "re:c1");
    for number in 2..50 {
        writer.write(command(number)).await.unwrap();
    }
    group.check_executed(50);
    assert!(group.node(0).refusals() > 0, "it was asked again, and told where to go");
}

#[tokio::test]
async fn a_hung_leader_among_configured_nodes_costs_one_silence() {
    let group = Group::start(3).await;
    let writer = group.tenant(&[0, 1, 2]).writer(small_window()).await.unwrap();
    writer.write(command(0)).await.unwrap();
    *group.node(0).faults.lock().unwrap() = Faults { silent: true, mute: true, ..Faults::default() };
    group.lead("t", 1);
    // It has not heard that it is deposed.
    group.node(0).follows.lock().unwrap().clear();
    let begun = Instant::now();
    write_on_from(&writer, 1, 500).await;
    let took = begun.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&took), "{took:?}");
    // A session is opened elsewhere after the same silence, at a client that knows nothing.
    let begun = Instant::now();
    group.tenant(&[0, 1, 2]).open_session(None).await.unwrap();
    let took = begun.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&took), "{took:?}");
    group.check_executed(500);
}

async fn write_on_from(writer: &Writer, from: usize, to: usize) {
    let commands: Vec<Bytes> = (from..to).map(command).collect();
    for (number, result) in writer.write_batch(commands).await.unwrap().into_iter().enumerate() {
        assert_eq!(result.unwrap(), format!("re:c{}", from + number));
    }
}

#[tokio::test]
async fn a_process_that_is_stopped_is_left_before_it_says_anything() {
    let group = Group::start(2).await;
    group.lead("t", 1);
    // The system accepts its connections, and nobody reads them.
    let stopped = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = group.options(&[0]);
    options.endpoints.insert(0, format!("http://{}", stopped.local_addr().unwrap()));
    options.connect_timeout = Duration::from_millis(500);
    let begun = Instant::now();
    let client = Client::lazy(&options).unwrap();
    let writer = client.tenant("t").writer(small_window()).await.unwrap();
    write_on(&writer, 100).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    // Other calls of the client know already.
    let begun = Instant::now();
    client.tenant("t").open_session(None).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(250), "{:?}", begun.elapsed());
    // Who connects first is led past it before the first call, which need not be one that can be repeated.
    let begun = Instant::now();
    let client = Client::connect(&options).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    client.tenant("t").write(command(100)).await.unwrap();
    group.check_executed(101);
}

#[tokio::test]
async fn a_leader_that_dies_in_the_middle_is_followed_by_the_next() {
    const COUNT: usize = 3_000;
    let mut group = Group::start(3).await;
    group.node(0).faults.lock().unwrap().delay = Duration::from_millis(2);
    let writer = group.tenant(&[0, 1, 2]).writer(small_window()).await.unwrap();
    let writing = write_on(&writer, COUNT);
    until("writes go on", || executed(group.node(1)) >= 300).await;
    group.kill(0);
    // The others believe in it until they elect another.
    until("the client notices", || writer.trouble().is_some()).await;
    until("the others refuse", || group.refusals() > 0).await;
    group.lead("t", 2);
    let begun = Instant::now();
    writing.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    group.check_executed(COUNT);
}

#[tokio::test]
async fn a_deadline_holds_where_nobody_ever_leads() {
    let group = Group::start(2).await;
    let options = WriterOptions { timeout: Some(Duration::from_millis(400)), ..small_window() };
    let writer = group.tenant(&[0, 1]).writer(options).await.unwrap();
    group.lead_nobody();
    let begun = Instant::now();
    let error = writer.write("w").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let options = Options { timeout: Duration::from_millis(400), ..group.options(&[0, 1]) };
    let error = Client::lazy(&options).unwrap().tenant("t").query("q").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.message().contains("another node leads"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn reads_are_as_fresh_as_asked_and_stale_ones_are_spread() {
    let group = Group::start(3).await;
    let tenant = group.tenant(&[0, 1, 2]);
    let position = Position { group: GroupId(2), epoch: 3, index: LogIndex(9) };
    for _ in 0..3 {
        tenant.query("q").await.unwrap();
        tenant.query_fresh("q", Freshness::Lease).await.unwrap();
    }
    assert_eq!(group.node(0).queries.lock().unwrap()[..2], [None, Some(Asked::Lease(true))]);
    for _ in 0..3 {
        tenant.query_fresh("q", Freshness::StaleMs(70)).await.unwrap();
        tenant.query_fresh("q", Freshness::AtLeast(position)).await.unwrap();
    }
    let asked = |number: usize| group.node(number).queries.lock().unwrap().clone();
    assert_eq!((asked(0).len(), asked(1).len(), asked(2).len()), (8, 2, 2));
    let at_least = Asked::AtLeast(v1::Position { epoch: 3, index: 9, group: 2 });
    let spread: Vec<_> = [asked(1), asked(2)].concat();
    assert!(spread.iter().all(|asked| *asked == Some(Asked::StaleMsMax(70)) || *asked == Some(at_least)));
    assert_eq!(group.refusals(), 0);
}
