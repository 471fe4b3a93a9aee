//! Records hooks that could not be deleted in `ConfigMap`s of the operator's namespace, and retries them when the connection
//! works again. They are recorded nowhere else.

mod queue;
mod store;

pub use queue::{Pending, work};
pub use store::{LABEL, Leftover, LeftoverHook, Noted, Stored, record};
