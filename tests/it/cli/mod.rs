//! The commands that people and their CI run: `forgebind check` and `forgebind release`.

pub mod check;
pub mod release;
