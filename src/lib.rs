#![doc = include_str!("docs/architecture.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub(crate) mod controllers;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub(crate) mod k8s;
pub mod network;
pub mod protocol;
pub mod providers;
pub(crate) mod receiver;
pub mod run;
pub(crate) mod telemetry;
pub(crate) mod text;
pub mod trace;
