//! What is wrong with the stored install key.

use std::sync::Arc;

use parking_lot::Mutex;

/// What is wrong with the stored install key, for code that is about to create what only that key can identify again. `None`
/// while the Secret holds the key that this process uses.
#[derive(Clone, Debug, Default)]
pub struct KeyFailure(Arc<Mutex<Option<String>>>);

impl KeyFailure {
    /// A description of the problem; `None` if there is none.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }

    pub(super) fn set(&self, failure: Option<String>) {
        *self.0.lock() = failure;
    }
}
