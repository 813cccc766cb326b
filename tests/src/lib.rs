//! End-to-end tests of the mortise binary, and the rules of this repository.
