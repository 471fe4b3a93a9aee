//! Integration tests on real parts: a Kubernetes API server, a Gitea and the real binary.
//!
//! `make test` runs them; `make tools` builds the parts once. A part that is missing is a failure, never a skip.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
// Shared with the quickstart; each of the two uses its own share of it.
#[allow(dead_code, clippy::disallowed_methods)]
#[path = "../support/mod.rs"]
mod support;

// Also a program of its own, which uses another share of it.
#[allow(dead_code, unused_imports, clippy::disallowed_methods)]
#[path = "../sim/mod.rs"]
mod sim;

// Run against the simulators too.
#[path = "../contract/mod.rs"]
mod contract_suite;

mod api;
mod chart;
mod cli;
mod docs;
mod installation;
mod objects;
mod openapi;
mod operator;
mod providers;
mod repo;
mod simulated;
mod story;
mod world;
