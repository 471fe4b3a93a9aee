//! The guides: what they say is what the programs do.

pub mod commands;
pub mod guides;
pub mod metrics;
pub mod providers;
pub mod reference;
pub mod simulators;
