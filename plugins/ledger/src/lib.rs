//! Shipped plugin: double-entry accounts
