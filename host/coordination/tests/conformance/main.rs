//! One suite for both implementations: every case runs in-process, and on real etcds of both releases, of one member
//! and of three. No case knows where it runs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod directory;
mod records;
mod sessions;
mod watching;
mod world;

/// Each case, in each world.
macro_rules! suite {
    ($($module:ident: $($case:ident),+;)+) => {
        suite!(@world memory, crate::world::Kind::Memory, $($module: $($case),+;)+);
        suite!(@world etcd_3_4, crate::world::Kind::Etcd(mortise_etcd_kit::Release::V3_4, 1), $($module: $($case),+;)+);
        suite!(@world etcd_3_5, crate::world::Kind::Etcd(mortise_etcd_kit::Release::V3_5, 1), $($module: $($case),+;)+);
        suite!(@world etcd_3_4_of_three, crate::world::Kind::Etcd(mortise_etcd_kit::Release::V3_4, 3), $($module: $($case),+;)+);
        suite!(@world etcd_3_5_of_three, crate::world::Kind::Etcd(mortise_etcd_kit::Release::V3_5, 3), $($module: $($case),+;)+);
    };
    (@world $world:ident, $kind:expr, $($module:ident: $($case:ident),+;)+) => {
        mod $world {
            $($(
                #[test]
                fn $case() {
                    crate::world::run($kind, crate::$module::$case);
                }
            )+)+
        }
    };
}

suite! {
    records:
        a_record_is_created_once,
        a_swap_compares_revision_and_nonce,
        of_swaps_at_once_one_is_applied,
        a_deleted_record_is_absent_and_not_recreated_by_a_swap,
        a_record_written_otherwise_by_others_can_be_replaced,
        corrupt_values_are_named_and_left_alone,
        reads_tell_cluster_and_revision,
        an_observer_may_swap_and_a_node_only_while_its_session_lives;
    sessions:
        a_session_is_renewed_beyond_its_ttl,
        a_session_whose_lease_is_revoked_begins_anew,
        a_session_whose_key_is_deleted_begins_anew,
        a_node_that_vanishes_is_gone_after_its_ttl,
        a_node_that_closes_is_gone_at_once,
        candidates_stand_in_the_order_of_creation,
        candidates_return_with_a_new_session,
        a_candidacy_that_others_delete_returns,
        the_newer_of_two_processes_under_one_name_stays,
        a_session_opens_once;
    watching:
        the_present_is_told_first_and_changes_follow,
        deeper_levels_and_foreign_folders_are_not_told,
        a_reader_that_is_late_finds_the_newest,
        a_watch_survives_compaction,
        listing_again_changes_nothing,
        clusters_do_not_see_each_other,
        a_thousand_keys_at_once_are_told,
        large_values_of_others_hide_nothing;
    directory:
        tenants_are_looked_up,
        nodes_are_listed_with_their_sessions,
        damaged_entries_hide_no_others;
}
