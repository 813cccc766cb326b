//! The counter plugin that the tutorial builds
