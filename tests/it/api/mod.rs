//! The custom resources: what the API server accepts, refuses and explains.

pub mod crds;
pub mod explain;
pub mod schema;
pub mod schema_property;
