//! Loads the 2013 New York flights into a node and checks the balances

fn main() {}
