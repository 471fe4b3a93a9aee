#![doc = include_str!("docs/architecture.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controllers;
pub mod crd;
pub mod evidence;
pub mod glob;
pub mod grant;
pub mod json;
pub mod keys;
pub mod kubeconfig;
pub mod listening;
pub mod providers;
pub mod public_urls;
pub mod receiver;
pub mod receiver_secrets;
pub mod run;
pub mod shown;
pub mod sink_support;
pub mod telemetry;
pub mod watches;
pub mod wording;
