//! The mortise binary: serve, dev and every user command

fn main() {}
