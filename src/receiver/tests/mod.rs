//! The receiver on a real socket, with real sinks on others.

mod admission;
mod delivery;
mod harness;
mod routing;
mod server;
