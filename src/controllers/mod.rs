//! The controllers: reconcile the objects with the hooks at the providers and report the result in the status.
//!
//! The controllers of connections and bindings work in the same four steps. `observe` does all the reading and keeps failures as data. `plan` and `report`
//! are pure: `plan` decides what to do, `report` computes the status. `apply` carries out the plan and makes no decisions of
//! its own.

pub mod binding;
pub mod catalog;
pub mod claim;
pub mod connection;
mod context;
pub mod gate;
pub mod grant;
pub mod install;
pub mod leftovers;
mod managed;
pub mod metrics;
pub mod object_metrics;
pub mod public_endpoints;
pub mod runtime;
pub mod sessions;
mod settings;
pub mod view;

pub use claim::foreign_owner_message;
pub use context::Context;
pub use managed::{Managed, requested};
pub use runtime::error::Error;
pub use runtime::status::report_invalid;
pub use sessions::Sessions;
pub use settings::{Keys, Settings, Triggers};
pub use view::View;
