//! Kubernetes, as every part of the program uses it: client configuration, watches, conditions and finalizers.

pub mod conditions;
pub mod config;
pub mod finalizer;
pub mod watch;
