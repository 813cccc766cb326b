//! Plugins written as text, for what no compiler produces: broken pointers, kept handles, deep native stacks.

use std::sync::Arc;

use mortise_core::digest::Digest;
use mortise_core::outcome::{Limit, Outcome};
use mortise_core::profile::Profile;
use mortise_runtime::Plugin;

use crate::support::*;

/// A plugin whose `apply` is `body`: a core function that is given a transaction's handle (0), the command's address
/// (6) and length (7), and returns the address of its result. `drop` drops a handle; 64 holds `ok("")`.
fn plugin(declarations: &str, body: &str) -> Plugin {
    let text = include_str!("plugin.wat").replace(";; DECLARATIONS", declarations).replace(";; APPLY", body);
    runtime().load(&wat::parse_str(text).unwrap()).unwrap()
}

fn apply(plugin: &Plugin, limits: &Profile) -> (Outcome, u64) {
    let mut applier = plugin.applier(&Arc::new(limits.clone()));
    let mut calls = applier.begin(empty(), Digest::default()).unwrap();
    let applied = calls.apply(&context(1), b"command").unwrap();
    (applied.outcome, applied.fuel)
}

#[test]
fn a_well_behaved_text_applies() {
    let plugin = plugin("", "(call $drop (local.get 0)) (i32.const 64)");
    assert_eq!(apply(&plugin, &Profile::default()).0, replied(""));
}

#[test]
fn bytes_that_break_the_canonical_abi_are_a_trap_and_no_local_fault() {
    for body in [
        // The result lies outside of memory, is not aligned, or has an unknown discriminant.
        "(call $drop (local.get 0)) (i32.const -4)",
        "(call $drop (local.get 0)) (i32.const 65)",
        "(call $drop (local.get 0)) (i32.store8 (i32.const 128) (i32.const 9)) (i32.const 128)",
        // The reply does.
        "(call $drop (local.get 0)) (i32.store (i32.const 132) (i32.const -1)) (i32.const 128)",
        "(call $drop (local.get 0)) (i32.store (i32.const 136) (i32.const -1)) (i32.const 128)",
        // A rejection that is not UTF-8, and one of an unknown kind.
        "(call $drop (local.get 0)) (i32.store8 (i32.const 128) (i32.const 1)) (i32.store (i32.const 136) (i32.const 256))
         (i32.store (i32.const 140) (i32.const 1)) (i32.store8 (i32.const 256) (i32.const 255)) (i32.const 128)",
        "(call $drop (local.get 0)) (i32.store8 (i32.const 128) (i32.const 1)) (i32.store8 (i32.const 132) (i32.const 6))
         (i32.const 128)",
        // The borrowed handle is kept, dropped twice, or not one at all.
        "(i32.const 64)",
        "(call $drop (local.get 0)) (call $drop (local.get 0)) (i32.const 64)",
        "(call $due (i32.const 77) (i32.const 0) (i64.const 0)) (call $drop (local.get 0)) (i32.const 64)",
    ] {
        let (outcome, _) = apply(&plugin("", body), &Profile::default());
        assert_eq!(outcome, trapped("canonical ABI violated"), "{body}");
    }
}

#[test]
fn each_trap_has_its_own_words() {
    for (body, reason) in [
        ("unreachable", "unreachable code reached"),
        ("(i32.load (i32.const -1))", "memory access out of bounds"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "integer division by zero"),
        ("(i32.div_s (i32.const 0x80000000) (i32.const -1))", "integer overflow"),
        ("(i32.trunc_f32_s (f32.const nan))", "float not convertible to integer"),
        ("(call_indirect (type $other) (i32.const 1))", "indirect call with a wrong type"),
        ("(call_indirect (type $other) (i32.const 0))", "indirect call to nothing"),
        ("(call_indirect (type $other) (i32.const 9))", "table access out of bounds"),
    ] {
        let (outcome, _) = apply(&plugin("", body), &Profile::default());
        assert_eq!(outcome, trapped(reason), "{body}");
    }
}

/// Recursion that uses no linear memory, as deep as the native stack goes.
const DEEP: &str = "(func $deep (param i64) (result i64)
    (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))";

#[test]
fn the_largest_stack_a_profile_may_grant_does_not_overflow_a_thread() {
    // Tests run on threads of 2 MiB, the least that a caller may have.
    let plugin = plugin(DEEP, "(drop (call $deep (i64.const 0))) (i32.const 64)");
    let run = |stack_bytes_max| {
        let limits = Profile { stack_bytes_max, ..Profile::default() };
        let (outcome, fuel) = apply(&plugin, &limits);
        assert_eq!(outcome, exceeded(Limit::Stack));
        fuel
    };
    let (small, default) = (run(64 << 10), run(Profile::default().stack_bytes_max));
    let largest = run(Profile::STACK_BYTES_CEILING);
    assert!(small * 4 < default && default * 3 < largest * 2, "{small} {default} {largest}");
    assert_eq!(default, run(Profile::default().stack_bytes_max), "the depth is the same each time");
}

#[test]
fn the_depth_of_a_stack_does_not_depend_on_the_caller_or_its_thread() {
    fn deeper<R>(levels: u32, call: &mut dyn FnMut() -> R) -> R {
        let frame = std::hint::black_box([0u8; 1024]);
        let result = if levels == 0 { call() } else { deeper(levels - 1, call) };
        std::hint::black_box(frame);
        result
    }
    let plugin = plugin(DEEP, "(drop (call $deep (i64.const 0))) (i32.const 64)");
    let mut run = || apply(&plugin, &Profile::default());
    let here = run();
    assert_eq!(here, deeper(300, &mut run));
    let elsewhere = std::thread::Builder::new().stack_size(32 << 20);
    assert_eq!(here, elsewhere.spawn(move || apply(&plugin, &Profile::default())).unwrap().join().unwrap());
}

#[test]
fn a_guest_that_lives_with_refused_growth_succeeds() {
    let body = |grow: &str, refused: &str| {
        format!(
            "(call $drop (local.get 0)) (if (i32.ne {grow} (i32.const {refused})) (then unreachable)) (i32.const 64)"
        )
    };
    let memory = plugin("", &body("(memory.grow (i32.const 60000))", "-1"));
    assert_eq!(apply(&memory, &Profile::default()).0, replied(""));
    let table = plugin("", &body("(table.grow (ref.null func) (i32.const 20000))", "-1"));
    assert_eq!(apply(&table, &Profile::default()).0, replied(""));
    let more = Profile { table_elements_max: 30_000, ..Profile::default() };
    assert_eq!(apply(&table, &more).0, exceeded_or_trap());
}

/// With growth granted, the guest above aborts.
fn exceeded_or_trap() -> Outcome {
    trapped("unreachable code reached")
}

#[test]
fn a_guest_that_aborts_after_refused_growth_passed_that_limit() {
    let abort =
        "(if (i32.eq GROW (i32.const -1)) (then unreachable)) (call $drop (local.get 0)) (i32.const 64)";
    for (grow, limit) in [
        ("(memory.grow (i32.const 2000))", Limit::Memory),
        ("(table.grow (ref.null func) (i32.const 20000))", Limit::Table),
    ] {
        let plugin = plugin("", &abort.replace("GROW", grow));
        assert_eq!(apply(&plugin, &Profile::default()).0, exceeded(limit));
        let more = Profile { memory_bytes_max: 256 << 20, table_elements_max: 65_536, ..Profile::default() };
        assert_eq!(apply(&plugin, &more).0, replied(""));
    }
}

#[test]
fn floats_are_canonical() {
    // 0/0 has a sign that differs between processors; the canonical one is positive and quiet.
    let body = "(if (i64.ne (i64.reinterpret_f64 (f64.div (f64.const 0) (f64.const 0))) (i64.const 0x7ff8000000000000))
        (then unreachable)) (call $drop (local.get 0)) (i32.const 64)";
    assert_eq!(apply(&plugin("", body), &Profile::default()).0, replied(""));
}
