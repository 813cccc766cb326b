//! temp
#![allow(clippy::unwrap_used)]
mod support;
use mortise_testkit::{Outcome, Tenant};
use prost::Message;
use support::*;

#[test]
fn cost() {
    let mut tenant = Tenant::build("mortise-plugin-kv").unwrap();
    let value: usize = std::env::var("COST_VALUE").ok().and_then(|v| v.parse().ok()).unwrap_or(128);
    for len in [1usize, 2, 3, 16, 256] {
        let commands: Vec<Vec<u8>> = (0..len as u32).map(|n| put(n.to_be_bytes(), vec![7; value]).encode_to_vec()).collect();
        let commands: Vec<&[u8]> = commands.iter().map(Vec::as_slice).collect();
        let mut best = u128::MAX;
        for _ in 0..50 {
            let t = std::time::Instant::now();
            assert!(tenant.apply_entry(&commands).iter().all(Outcome::took_effect));
            best = best.min(t.elapsed().as_nanos());
        }
        println!("{len}: {} ns a command, fuel {} a command", best / len as u128, tenant.last_fuel() / len as u64);
    }
}
