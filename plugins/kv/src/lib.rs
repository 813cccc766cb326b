//! Shipped plugin: a key-value map with compare-and-swap, ranges and TTL
