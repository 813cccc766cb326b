//! Loads, checks, meters and calls a plugin's component
