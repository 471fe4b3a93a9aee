//! The guides: they agree with what the programs do.

mod commands;
mod guides;
mod metrics;
mod pages;
mod pictures;
mod providers;
mod reference;
mod simulators;
