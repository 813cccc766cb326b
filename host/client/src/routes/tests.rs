use super::*;
use crate::error::ErrorKind;
use crate::trail::Trail;

fn routes(endpoints: &[&str]) -> Arc<Routes> {
    let endpoints: Vec<_> = endpoints.iter().map(|uri| (*uri).to_owned()).collect();
    Arc::new(Routes::new(&Options::default(), &endpoints).unwrap())
}

fn tenant(name: &str) -> Subject {
    Subject::Tenant(name.into())
}

fn not_leader(hint: &str) -> ClientError {
    not_leader_of(0, hint)
}

fn not_leader_of(group: u64, hint: &str) -> ClientError {
    use mortise_proto::v1::{ErrorCode, ErrorDetail};
    let detail = ErrorDetail::new(ErrorCode::NotLeader, "elsewhere").retryable();
    ErrorDetail { group, leader_hint: hint.into(), ..detail }.into()
}

fn unavailable() -> ClientError {
    ClientError::new(ErrorKind::Unavailable, "gone").retryable()
}

#[test]
fn hints_are_a_host_and_a_port() {
    for good in ["127.0.0.1:7400", "[::1]:1", "node-1.example:65535", "Node_2:80"] {
        assert_eq!(authority_of_hint(good), Some(good.to_ascii_lowercase()), "{good}");
    }
    let long = format!("{}:1", "a".repeat(300));
    for bad in [
        "",
        ":",
        "host",
        "host:",
        ":7400",
        "host:0",
        "host:65536",
        "host:+1",
        "host:1/x",
        "http://host:1",
        "a b:1",
        "user@host:1",
        "[::1:1",
        "::1:1",
        "[host]:1",
        "0.0.0.0:7400",
        "[::]:7400",
        "-a:1",
        "h\u{e9}:1",
        "a:1,b:1",
        &long,
    ] {
        assert_eq!(authority_of_hint(bad), None, "{bad:?}");
    }
}

#[tokio::test]
async fn a_hint_is_followed_at_once_and_remembered_for_its_tenant_alone() {
    let routes = routes(&["http://a:1", "http://b:1"]);
    let mut trail = Trail::new(&routes, tenant("t"));
    assert_eq!(trail.failed(&not_leader("c:1")), Duration::ZERO);
    let leader = routes.start(&tenant("t"));
    assert_eq!(leader.authority, "c:1");
    assert_eq!(routes.start(&tenant("u")).authority, "a:1");
    assert_eq!(
        routes.start(&Subject::Node).authority,
        "a:1",
        "a node that does not lead is none that failed"
    );
    // The address is one place, however often and in whatever case it is named.
    let again = routes.follow(&tenant("u"), "C:1").unwrap();
    assert!(Arc::ptr_eq(&leader, &again));
    assert!(Arc::ptr_eq(&routes.follow(&tenant("v"), "b:1").unwrap(), &routes.table().places[1].place));
}

#[tokio::test]
async fn a_groups_leader_is_known_for_all_its_tenants_until_one_moves() {
    let routes = routes(&["http://a:1", "http://b:1"]);
    let leader = |subject: &Subject| routes.start(subject).authority.clone();
    for name in ["t", "u"] {
        Trail::new(&routes, tenant(name)).failed(&not_leader_of(2, "c:1"));
    }
    // Another one is elected, and the call for one tenant learns it.
    Trail::new(&routes, tenant("t")).failed(&not_leader_of(2, "d:1"));
    assert_eq!((leader(&tenant("u")), leader(&Subject::Group(2))), ("d:1".into(), "d:1".into()));
    // One tenant is dropped and created in another group.
    Trail::new(&routes, tenant("t")).failed(&not_leader_of(3, "b:1"));
    assert_eq!((leader(&tenant("t")), leader(&tenant("u"))), ("b:1".into(), "d:1".into()));
    // Where nobody leads, it is asked around, and who answers is the group's leader.
    let mut trail = Trail::new(&routes, tenant("u"));
    trail.failed(&not_leader_of(2, ""));
    trail.answered();
    assert_ne!(leader(&tenant("u")), "d:1");
    assert_eq!(leader(&Subject::Group(2)), leader(&tenant("u")));
}

#[tokio::test]
async fn a_circle_of_hints_is_left_and_never_turns_without_a_wait() {
    let routes = routes(&["http://a:1", "http://b:1", "http://c:1"]);
    let mut trail = Trail::new(&routes, tenant("t"));
    let mut seen = Vec::new();
    let mut at_once = 0;
    for _ in 0..60 {
        let here = trail.authority();
        let hint = if here == "a:1" { "b:1" } else { "a:1" };
        seen.push(here);
        if trail.failed(&not_leader(hint)).is_zero() {
            at_once += 1;
        }
    }
    assert_eq!(
        seen[..3],
        ["a:1", "b:1", "c:1"],
        "the node outside of the circle is asked in the first round"
    );
    assert!(at_once <= 60 / 3, "{at_once} of 60 went without a wait");
}

#[tokio::test]
async fn made_up_addresses_neither_pile_up_nor_spin() {
    let routes = routes(&["http://a:1"]);
    let mut trail = Trail::new(&routes, tenant("t"));
    let mut in_a_row = 0;
    for number in 1..=1_000 {
        let wait = trail.failed(&not_leader(&format!("made-up-{number}:1")));
        in_a_row = if wait.is_zero() { in_a_row + 1 } else { 0 };
        assert!(in_a_row <= 3, "{in_a_row} hops without a wait");
    }
    let table = routes.table();
    assert_eq!(table.places.len(), 1 + LEARNED_MAX);
    assert_eq!(table.places[0].place.authority, "a:1", "what is configured stays");
}

#[tokio::test]
async fn leaders_are_remembered_within_bounds() {
    let routes = routes(&["http://a:1"]);
    for number in 0..3 * LEADERS_MAX {
        routes.follow(&tenant(&number.to_string()), "b:1").unwrap();
        assert!(routes.table().leaders.len() <= LEADERS_MAX);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_said_nothing_is_forgotten_and_its_hints_are_doubted_for_a_while() {
    let routes = routes(&["http://a:1", "http://b:1"]);
    let mut trail = Trail::new(&routes, tenant("t"));
    trail.answered();
    let silent = ClientError::new(ErrorKind::DeadlineExceeded, "nothing").retryable();
    assert!(!trail.failed(&silent).is_zero());
    assert_eq!(trail.authority(), "b:1");
    assert_eq!(routes.start(&tenant("t")).authority, "b:1", "other calls are spared the way");
    assert_eq!(routes.start(&Subject::Node).authority, "b:1");
    assert!(routes.follow(&tenant("t"), "a:1").is_none());
    tokio::time::advance(DOUBT_FOR).await;
    assert!(routes.follow(&tenant("t"), "a:1").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_broke_off_is_believed_to_be_back_when_others_say_so() {
    let routes = routes(&["http://a:1", "http://b:1"]);
    let mut trail = Trail::new(&routes, tenant("t"));
    trail.failed(&unavailable());
    assert_eq!(trail.authority(), "b:1");
    assert!(routes.follow(&tenant("t"), "a:1").is_some());
}

#[tokio::test]
async fn all_places_are_asked_before_one_is_asked_again() {
    let routes = routes(&["http://a:1", "http://b:1", "http://c:1"]);
    let mut trail = Trail::new(&routes, tenant("t"));
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(trail.authority());
        trail.failed(&unavailable());
    }
    for round in seen.chunks(3) {
        let mut round = round.to_vec();
        round.sort();
        assert_eq!(round, ["a:1", "b:1", "c:1"]);
    }
}

#[tokio::test]
async fn reads_that_any_node_can_answer_take_turns() {
    let routes = routes(&["http://a:1", "http://b:1", "http://c:1"]);
    let mut asked: Vec<_> = (0..3).map(|_| routes.start(&Subject::Anyone).authority.clone()).collect();
    asked.sort();
    assert_eq!(asked, ["a:1", "b:1", "c:1"]);
    let failed = Arc::clone(&routes.table().places[1].place);
    routes.failed(&failed, false);
    assert!((0..9).all(|_| routes.start(&Subject::Anyone).authority != "b:1"));
}
