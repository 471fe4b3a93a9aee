//! Integration tests on real parts: a Kubernetes API server, a Gitea and the real binary.
//!
//! `make test` runs them; `make tools` builds the parts once. A part that is missing is a failure, never a skip.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
// Shared with the quickstart; each of the two uses its own share of it.
#[allow(dead_code, clippy::disallowed_methods)]
#[path = "../support/mod.rs"]
mod support;

// Also a program of its own, which uses another share of it.
#[allow(dead_code, unused_imports, clippy::disallowed_methods)]
#[path = "../sim/mod.rs"]
mod sim;

// Run against the simulators too.
#[path = "../contract/mod.rs"]
mod contract_suite;

mod architecture;
mod azure_devops;
mod azure_devops_hooks;
mod bitbucket_cloud;
mod bitbucket_data_center;
mod chain;
mod chart;
mod chart_admission;
mod chart_install;
mod chart_network;
mod chart_parent;
mod chart_rights;
mod chart_settings;
mod chart_upgrade;
mod chart_values;
mod chart_writes;
mod check;
mod conform;
mod contract;
mod copies;
mod crash;
mod crds;
mod credentials;
mod deletion;
mod deliveries;
mod dependencies;
mod deploy;
mod deploy_install;
mod docs;
mod docs_commands;
mod docs_guide;
mod docs_metrics;
mod docs_pictures;
mod docs_providers;
mod docs_reference;
mod docs_simulators;
mod explain;
mod facts_check;
mod facts_distil;
mod facts_generated;
mod facts_held;
mod fairness;
mod foreign_clients;
mod gate;
mod github;
mod gitlab;
mod gitops;
mod harness;
mod hooks;
mod image;
mod installation;
mod kube_state_metrics;
mod lost_objects;
mod malformed;
mod misbehaviour;
mod monitoring;
mod objects;
mod permissions;
mod providers;
mod recovery;
mod release;
mod repositories;
mod restore;
mod revival;
mod schema;
mod schema_property;
mod second_installation;
mod secrecy;
mod server_versions;
mod simulated;
mod steady;
mod story;
mod tls;
mod ways_in;
mod webhook_secrets;
mod workflows;
mod world;
