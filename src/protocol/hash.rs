//! A hash of a text that never changes: entries and waits are distributed by it.

/// A hash that is stable across restarts and versions (FNV-1a), which the standard library's hashers do not promise.
#[must_use]
pub fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
