//! The commands that people and their CI run.

mod can;
mod check;
mod repositories;
mod uninstall;
mod why;
