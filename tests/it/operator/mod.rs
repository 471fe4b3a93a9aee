//! The operator on real parts: a Kubernetes API server, a Gitea and the real binary.

mod chain;
mod copies;
mod crash;
mod credentials;
mod deletion;
mod deliveries;
mod fairness;
mod gate;
mod gitops;
mod hooks;
mod lost_objects;
mod malformed;
mod repositories;
mod restore;
mod revival;
mod second_installation;
mod secrecy;
mod steady;
mod tls;
mod ways_in;
mod webhook_secrets;
