//! The operator on real parts: a Kubernetes API server, a Gitea and the real binary.

pub mod chain;
pub mod copies;
pub mod crash;
pub mod credentials;
pub mod deletion;
pub mod deliveries;
pub mod fairness;
pub mod gate;
pub mod gitops;
pub mod hooks;
pub mod lost_objects;
pub mod malformed;
pub mod repositories;
pub mod restore;
pub mod revival;
pub mod second_installation;
pub mod secrecy;
pub mod steady;
pub mod tls;
pub mod ways_in;
pub mod webhook_secrets;
