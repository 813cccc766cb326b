//! Test a compiled plugin through the real runtime
