//! Logs, metrics, health: what an administrator sees of the process itself.

pub mod admin;
pub mod freshness;
pub mod logs;
