//! The commands that people and their CI run: `forgebind check` and `forgebind uninstall`.

mod check;
mod uninstall;
mod why;
