//! Records hooks that could not be deleted in `ConfigMap`s of the operator's namespace, and retries them when the connection
//! works again. They are recorded nowhere else.

mod entry;
mod pending;
mod retry;
mod store;
#[cfg(test)]
mod tests;

pub use entry::{Leftover, LeftoverHook, Stored};
pub use pending::Pending;
pub use retry::work;
pub use store::{LABEL, Noted, record};
