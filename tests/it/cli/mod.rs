//! The commands that people and their CI run: `forgebind check`, `can`, `why` and `uninstall`.

mod can;
mod check;
mod uninstall;
mod why;
