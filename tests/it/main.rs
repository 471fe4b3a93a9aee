//! Integration tests on real parts: a Kubernetes API server, a Gitea and the real binary.
//!
//! `make test` runs them; `make tools` builds the parts once. A part that is missing is a failure, never a skip.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod api;
mod chart;
mod cli;
mod docs;
mod openapi;
mod operator;
mod providers;
mod repo;
