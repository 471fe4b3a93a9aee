//! Defines what the controller and the receiver must agree on to the byte: derived keys and secrets, evidence of deliveries,
//! targets of sinks, glob patterns, the digest of a catalogue, and who may use a connection.

pub mod catalog;
pub mod deliveries;
pub mod evidence;
pub mod glob;
pub mod grant;
pub mod hash;
pub mod keys;
pub mod secret;
pub mod signing_key;
pub mod sink_service;
pub mod sink_target;
pub mod webhook_secrets;
