//! Parses and sanitizes untrusted text, and formats messages for users.

pub mod json;
pub mod sanitize;
pub mod wording;
