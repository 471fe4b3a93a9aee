//! The commands that people and their CI run: `forgebind check` and `forgebind release`.

mod check;
mod release;
