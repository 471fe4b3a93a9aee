//! Installing: the Helm chart, the manifests of `deploy/`, and their monitoring.

mod admission;
mod conform;
mod deploy;
mod deploy_install;
mod install;
mod kube_state_metrics;
mod monitoring;
mod network;
mod parent;
mod persistence;
mod rendering;
mod rights;
mod settings;
mod upgrade;
mod values;
mod writes;
