//! Command messages of the shipped plugins
