#![doc = include_str!("docs/architecture.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controllers;
pub mod k8s;
pub mod network;
pub mod protocol;
pub mod providers;
pub mod receiver;
pub mod run;
pub mod telemetry;
pub mod text;
