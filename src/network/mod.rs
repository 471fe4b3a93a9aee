//! Decides which hosts and addresses may be reached. URLs are checked before anything is sent, and the addresses of a name again
//! when connecting, so that DNS cannot bypass the check of the URL.

mod address;
mod client;
mod host;
pub mod listen;
mod pinned;
mod policy;
pub mod public_urls;
mod resolver;
#[cfg(test)]
mod tests;

pub use address::ClusterNetworks;
pub use client::{CONNECT_TIMEOUT, authorities};
pub use host::{HostPattern, HostPatternError};
pub use pinned::pinned_host;
pub use policy::{NetworkPolicy, Purpose, Refusal};
