//! The custom resources: what the API server accepts, refuses and explains.

mod crds;
mod explain;
mod schema;
mod schema_property;
mod slices;
