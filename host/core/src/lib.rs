//! Entries, sessions, log time, overlay and digests: the pure part of a replica
