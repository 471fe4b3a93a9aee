//! The operator on real parts: a Kubernetes API server, a Gitea and the real binary.

mod chain;
mod cloned_cluster;
mod crash;
mod credentials;
mod deletion;
mod deliveries;
mod fairness;
mod gate;
mod gitops;
mod hooks;
mod idle_cost;
mod lost_objects;
mod malformed;
mod outages;
mod outbox;
mod public_endpoints;
mod recent_deliveries;
mod recreate_hooks;
mod repositories;
mod restore;
mod second_installation;
mod secrecy;
mod services;
mod signing;
mod tls;
mod webhook_secrets;
