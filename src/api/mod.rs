//! The Kubernetes API: types, defaults and admission rules. No I/O.

pub mod crd;
pub mod v1alpha1;
