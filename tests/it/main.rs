//! Integration tests on real parts: a Kubernetes API server, a Gitea and the real binary.
//!
//! `make test` runs them; `make tools` builds the parts once. A part that is missing is a failure, never a skip. Each test
//! file can be read and moved alone: what several need is in the crate `testkit` (`tests/testkit/`).
//!
//! # Acceptance ids
//!
//! A test name that begins with an id, as `bb_21_…`, proves one line of the acceptance list: what users of five products that
//! connect Git repositories can do today and must be able to do with Forgebind. The letters name the product, the number the
//! line: `dv` Devant, `dt` Devtron, `pk` Pipekit, `df` dFlow, `bb` Bytebase. The list itself is not part of the repository; the
//! rest of the test name says what the line asks for. To find the tests of a line: `cargo test --test it -- bb_21`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod api;
mod chart;
mod cli;
mod docs;
mod openapi;
mod operator;
mod providers;
mod repo;
