//! Shared Kubernetes code: client configuration, watches, conditions and finalizers.

pub mod conditions;
pub mod config;
pub mod finalizer;
pub mod watch;
