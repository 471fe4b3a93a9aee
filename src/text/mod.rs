//! Texts of others, made safe to read and to show, and the wording of messages.

pub mod json;
pub mod sanitize;
pub mod wording;
