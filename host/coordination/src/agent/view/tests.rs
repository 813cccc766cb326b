use mortise_core::group::LeaseId;

use super::*;

const GROUP: GroupId = GroupId(1);

fn candidate(key: &str, lease: Option<u64>, revision: u64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: b"{}".to_vec(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        lease: lease.map(LeaseId),
    }
}

fn put(node: u64, revision: u64) -> WatchEvent {
    WatchEvent {
        at: candidate(&format!("/blue/candidates/0001/{node}-1"), Some(7), revision),
        deleted: false,
    }
}

fn delete(node: u64, revision: u64) -> WatchEvent {
    WatchEvent { deleted: true, ..put(node, revision) }
}

fn answer<T>(revision: u64, value: T) -> Answer<T> {
    Answer { cluster: ClusterId(1), revision: Revision(revision), value }
}

fn listed(revision: u64, keys: Vec<KeyValue>) -> View {
    let mut view = View::new(Keys::new("blue"));
    view.list(answer(revision, keys));
    view
}

fn nodes(view: &View) -> Vec<u64> {
    view.group(GROUP).candidates.iter().map(|candidate| candidate.node.0).collect()
}

#[test]
fn changes_that_are_told_again_change_nothing() {
    let mut view = listed(3, vec![]);
    // Behind its deletion in the same message, of the time before the listing, and after it was told already.
    view.apply(answer(6, vec![put(1, 4), put(2, 5), delete(1, 6), put(1, 4), put(3, 2)]));
    assert_eq!((nodes(&view), view.revision()), (vec![2], Revision(6)));
    view.apply(answer(7, vec![put(1, 4), delete(2, 5)]));
    assert_eq!((nodes(&view), view.revision()), (vec![2], Revision(6)));
    // One transaction changes several keys at one revision.
    view.apply(answer(8, vec![put(1, 8), put(3, 8), delete(2, 8)]));
    assert_eq!(nodes(&view), [1, 3]);
}

#[test]
fn candidacies_that_end_are_told_however_they_end() {
    let key = "/blue/candidates/0001/1-1";
    let ended = BTreeSet::from([(GROUP, (NodeId(1), BootId(1)))]);
    let mut view = listed(3, vec![candidate(key, Some(7), 2)]);
    assert_eq!(view.apply(answer(4, vec![delete(1, 4)])).candidates_gone, ended);
    assert_eq!(view.apply(answer(5, vec![put(1, 5)])).candidates_gone, BTreeSet::new());
    assert_eq!(view.list(answer(9, vec![])).candidates_gone, ended, "the watch lost the deletion");
    view.list(answer(10, vec![candidate(key, Some(7), 10)]));
    let overwritten = WatchEvent { at: candidate(key, None, 11), deleted: false };
    assert_eq!(view.apply(answer(11, vec![overwritten])).candidates_gone, ended);
    assert!(nodes(&view).is_empty());
}

#[test]
fn after_a_break_of_history_equal_revisions_are_news() {
    let key = "/blue/candidates/0001/1-1";
    let mut view = listed(3, vec![candidate(key, Some(7), 2)]);
    let same = || answer(5, vec![candidate(key, Some(8), 2)]);
    assert_eq!(view.list(same()).groups, BTreeSet::new());
    view.history_broke();
    assert_eq!(view.list(same()).groups, BTreeSet::from([GROUP]));
    assert_eq!(view.group(GROUP).candidates[0].lease, LeaseId(8));
}

#[test]
fn what_was_absent_before_a_break_is_told_of_the_new_history() {
    let mut view = listed(3, vec![]);
    let mut group = delete(1, 4);
    group.at.key = b"/blue/groups/0001".to_vec();
    view.apply(answer(4, vec![group]));
    view.history_broke();
    let touched = view.list(Answer { cluster: ClusterId(2), ..answer(2, vec![]) });
    assert_eq!(touched.groups, BTreeSet::from([GROUP]));
    let seen = view.group(GROUP).record.unwrap();
    assert_eq!((seen.cluster, seen.mod_revision, seen.record), (ClusterId(2), Revision(0), None));
}
