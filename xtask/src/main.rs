//! Set-up, build, dev, test and benchmarks: run cargo xtask help

fn main() {}
