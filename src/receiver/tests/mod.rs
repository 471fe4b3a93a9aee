//! Tests of the receiver on a real socket, with real sinks.

mod delivery;
mod evidence;
mod hand_over;
mod harness;
mod logs;
mod outbox;
mod providers;
mod recent;
mod routing;
mod server;
mod services;
mod signing;
mod tenants;
mod verification;
