//! The guides: what they say is what the programs do.

mod commands;
mod guides;
mod metrics;
mod pages;
mod pictures;
mod providers;
mod reference;
mod simulators;
