//! Write a Mortise plugin: one struct, one trait
