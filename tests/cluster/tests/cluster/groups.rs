//! Several groups on the same nodes: each is led by itself, and no two have a tenant of one name.

use std::time::{Duration, Instant};

use mortise_client::kv::{Kv as KvClient, put};
use mortise_client::{
    AdminClient, Client, ClientError, ErrorKind, Fate, Freshness, Options, TookEffect, WriterOptions,
    parse_endpoints,
};
use mortise_cluster_kit::{PATIENCE, plugins};
use tokio::runtime::Runtime;

use crate::kit::Kv;
use crate::load::Load;

/// A cluster with the groups 1 and 2 over the same three nodes, led by different ones, and the tenants `kv` and `two` in
/// them.
fn two_groups() -> Kv {
    let kv = Kv::start();
    let cluster = &kv.cluster;
    let first = cluster.wait_leader().unwrap();
    cluster.ok(&["group", "create", "2", "--nodes", "1,2,3"]).unwrap();
    if cluster.wait_leader_of(2).unwrap() == first {
        cluster.wait_in_sync_of(2).unwrap();
        cluster.ok(&["cluster", "transfer", "2", &(first % 3 + 1).to_string()]).unwrap();
    }
    assert_ne!(cluster.wait_leader_of(2).unwrap(), first);
    let component = plugins().unwrap().join("kv.wasm").display().to_string();
    cluster.ok(&["plugin", "upload", &component, "--group", "2"]).unwrap();
    cluster.ok(&["tenant", "create", "two", "--plugin", "kv", "--group", "0002"]).unwrap();
    kv
}

fn options(kv: &Kv) -> Options {
    Options {
        endpoints: parse_endpoints(&kv.cluster.endpoints()).unwrap(),
        admin_endpoints: parse_endpoints(&kv.cluster.admin_endpoints()).unwrap(),
        ..Options::default()
    }
}

/// The groups that have a tenant of this name.
fn groups_with(kv: &Kv, name: &str) -> Vec<u64> {
    let tenants = kv.cluster.json(&["tenant", "list"]).unwrap();
    let named = tenants.as_array().unwrap().iter().filter(|tenant| tenant["name"] == name);
    named.map(|tenant| tenant["group"].as_u64().unwrap()).collect()
}

/// Creates a tenant, as soon as its name is free.
async fn create_once_free(admin: &AdminClient, name: &str) {
    let begun = Instant::now();
    while let Err(error) = admin.create_tenant(name, "kv", false).await {
        assert!(begun.elapsed() < PATIENCE, "{name} is not free: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_group_goes_on_where_the_leader_of_another_is_killed() {
    let mut kv = two_groups();
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let client = Client::lazy(&options(&kv)).unwrap();
    drop(entered);
    let loads = [Load::through(&client, "kv"), Load::through(&client, "two")];
    let wait = |more| loads.iter().for_each(|load| load.wait_acknowledged(more));
    wait(50);
    let (first, second) = (kv.cluster.wait_leader().unwrap(), kv.cluster.wait_leader_of(2).unwrap());
    let epoch = |kv: &Kv, group| kv.cluster.status_of(group).unwrap()["record"]["epoch"].as_u64().unwrap();
    let before = [epoch(&kv, 1), epoch(&kv, 2)];
    kv.cluster.node(second).kill().unwrap();
    wait(50);
    assert_ne!(kv.cluster.wait_leader_of(2).unwrap(), second);
    assert_eq!(kv.cluster.wait_leader().unwrap(), first);
    assert_eq!(epoch(&kv, 1), before[0], "it had no other leader meanwhile");
    assert!(epoch(&kv, 2) > before[1]);
    kv.cluster.node(second).start().unwrap();
    wait(50);
    let [one, two] = loads;
    one.finish_in(&kv, 1);
    two.finish_in(&kv, 2);
}

#[test]
fn metrics_tell_groups_and_peers_apart() {
    let mut kv = two_groups();
    let (first, second) = (kv.cluster.wait_leader().unwrap(), kv.cluster.wait_leader_of(2).unwrap());
    for number in 0..10 {
        kv.put(&format!("k{number}"), "v");
    }
    kv.cluster.wait_in_sync().unwrap();
    kv.cluster.wait_in_sync_of(2).unwrap();
    let status = [1, 2].map(|group| kv.cluster.status_of(group).unwrap());
    for number in 1..=3 {
        let peers: Vec<usize> = (1..=3).filter(|peer| *peer != number).collect();
        let node = kv.cluster.node(number);
        let gauge = |name: &str, labels: &str| {
            let line = format!("{name}{{{labels}}}");
            node.metric(&line).unwrap_or_else(|error| panic!("{line}: {error:#}"))
        };
        for (group, leader) in [(1, first), (2, second)] {
            let leads = number == leader;
            let role = |role: &str| gauge("group_role", &format!("group=\"{group}\",role=\"{role}\""));
            assert_eq!([role("leader"), role("follower")], if leads { [1.0, 0.0] } else { [0.0, 1.0] });
            let of = |name: &str| gauge(&format!("group_{name}"), &format!("group=\"{group}\""));
            let record = &status[group - 1]["record"];
            assert_eq!(of("epoch"), record["epoch"].as_f64().unwrap());
            assert_eq!(of("isr_members"), 3.0);
            let members = status[group - 1]["members"].as_array().unwrap();
            let member = members.iter().find(|member| member["node"] == number).unwrap();
            for (name, field) in [("applied_index", "applied_index"), ("log_last_index", "last_index")] {
                assert_eq!(of(name), member[field].as_f64().unwrap(), "{name} of group {group}");
            }
            assert_eq!(of("apply_lag_entries"), 0.0);
        }
        for peer in peers {
            let connected = format!("peer=\"{peer}\",state=\"connected\"");
            assert_eq!(gauge("peer_link_state", &connected), 1.0, "node {} and {peer}", number);
            assert!(gauge("peer_round_trip_seconds", &format!("peer=\"{peer}\"")) > 0.0);
        }
    }
    kv.kill(first);
    let witness = kv.cluster.node(first % 3 + 1);
    let broken = format!("peer_link_state{{peer=\"{first}\",state=\"broken\"}}");
    assert_eq!(witness.metric(&broken).unwrap(), 1.0, "its peer was killed");
}

#[test]
fn a_name_is_in_one_group_and_free_again_when_it_is_dropped() {
    let kv = two_groups();
    let unnamed = kv.cluster.ok(&["tenant", "create", "which", "--plugin", "kv"]).unwrap_err().to_string();
    assert!(unnamed.contains("groups 1, 2") && unnamed.contains("--group"), "{unnamed}");
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let admin = AdminClient::connect(&options(&kv)).await.unwrap();
        let groups = [1, 2].map(|group| admin.in_group(Some(group)));
        for round in 0..8 {
            let name = format!("name-{round}");
            let [one, two] = groups.each_ref().map(|group| group.create_tenant(&name, "kv", false));
            let (one, two) = tokio::join!(one, two);
            let (made, refused) = match (one, two) {
                (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made, refused),
                other => panic!("one of two, not {other:?}"),
            };
            assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
            assert_eq!(groups_with(&kv, &name), [made.group]);
        }
        let client = Client::connect(&options(&kv)).await.unwrap();
        groups[0].create_tenant("moving", "kv", false).await.unwrap();
        let tenant = client.tenant("moving");
        let writer = tenant.writer(WriterOptions::default()).await.unwrap();
        let old = KvClient::with_writer(tenant.clone(), writer);
        old.put("k", "old", 0).await.unwrap();
        let token = tenant.write_early(put("early", "old", 0)).await.unwrap();
        assert!(matches!(tenant.ask_fate(token, None, PATIENCE).await.unwrap(), Fate::Committed(_)));
        admin.drop_tenant("moving").await.unwrap();
        let gone = KvClient::new(tenant.clone()).get("k").await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
        let gone = old.put("k", "late", 0).await.unwrap_err();
        assert_eq!((gone.kind(), gone.took_effect()), (ErrorKind::NotFound, TookEffect::No), "{gone}");
        groups[1].create_tenant("moving", "kv", false).await.unwrap();
        let new = KvClient::new(tenant.clone());
        assert_eq!(new.get("k").await.unwrap(), None, "it is another tenant");
        // Its group's log says nothing of what the first one was told.
        let asked = tenant.ask_fate(token, None, PATIENCE).await.unwrap_err();
        assert_eq!(asked.kind(), ErrorKind::NotFound, "{asked}");
        assert!(asked.to_string().contains("of group 1, and the tenant is in group 2"), "{asked}");
        let behind = new.clone().reading(Freshness::AtLeast(token)).get("k").await.unwrap_err();
        assert_eq!(behind.kind(), ErrorKind::NotFound, "{behind}");
        new.put("k", "new", 0).await.unwrap();
        let expired: ClientError = old.put("k", "late", 0).await.unwrap_err();
        assert_eq!(expired.kind(), ErrorKind::SessionExpired, "{expired}");
        assert_eq!(new.get("k").await.unwrap().unwrap().value, b"new");
    });
    assert_eq!(groups_with(&kv, "moving"), [2]);
    // Every node knows where it is, and that there is none of another name.
    for node in 1..=3 {
        assert_eq!(kv.cluster.ok_at(node, &["kv", "--tenant", "moving", "get", "k"]).unwrap(), "new");
        let unknown = kv.cluster.ok_at(node, &["kv", "--tenant", "never", "get", "k"]).unwrap_err();
        assert!(unknown.to_string().contains("no such tenant: \"never\""), "{unknown}");
    }
}

#[test]
fn names_are_free_after_crashes_in_the_middle_of_a_creation() {
    let mut kv = two_groups();
    let runtime = Runtime::new().unwrap();
    let options = options(&kv);
    let first = kv.cluster.wait_leader().unwrap();
    // Creations are on their way when their leader dies.
    let creations = runtime.spawn({
        let options = options.clone();
        async move {
            let admin = AdminClient::connect(&options).await.unwrap().in_group(Some(1));
            let create = async |number: u32| {
                // What became of them shows below.
                let _ = admin.create_tenant(&format!("crash-{number}"), "kv", false).await;
            };
            futures::future::join_all((0..24).map(create)).await;
        }
    });
    let begun = Instant::now();
    while groups_with(&kv, "crash-0").is_empty() && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    kv.cluster.node(first).kill().unwrap();
    runtime.block_on(creations).unwrap();
    kv.cluster.node(first).start().unwrap();
    kv.cluster.wait_in_sync().unwrap();
    // And one had claimed its name when it was cut off from everything.
    let claim = r#"{"level":1,"group":1,"epoch":1,"state":"creating","nonce":"0123456789abcdef"}"#;
    kv.cluster.etcd().ctl(&["put", "/local/tenants/crash-claim", claim]).unwrap();
    runtime.block_on(async {
        let admin = AdminClient::connect(&options).await.unwrap();
        let tenants = admin.list_tenants().await.unwrap();
        let missing = (0..24).map(|number| format!("crash-{number}"));
        let missing = missing.filter(|name| tenants.iter().all(|tenant| tenant.name != *name));
        for name in missing.chain(["crash-claim".to_owned()]) {
            create_once_free(&admin.in_group(Some(2)), &name).await;
        }
    });
    for number in 0..24 {
        assert_eq!(groups_with(&kv, &format!("crash-{number}")).len(), 1);
    }
}
