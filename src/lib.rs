//! Forgebind keeps Git connections alive.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controllers;
pub mod crd;
pub mod evidence;
pub mod glob;
pub mod keys;
pub mod providers;
pub mod receiver;
pub mod receiver_secrets;
pub mod run;
pub mod sink_support;
pub mod telemetry;
pub mod watches;
