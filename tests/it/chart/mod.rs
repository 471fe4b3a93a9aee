//! Installing: the Helm chart, the manifests of `deploy/`, and what comes with them.

pub mod admission;
pub mod conform;
pub mod deploy;
pub mod deploy_install;
pub mod install;
pub mod kube_state_metrics;
pub mod monitoring;
pub mod network;
pub mod parent;
pub mod rendering;
pub mod rights;
pub mod settings;
pub mod upgrade;
pub mod values;
pub mod writes;
