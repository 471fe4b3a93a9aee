//! The repository itself: layout, dependencies, workflows, the image, and the test kit.

mod architecture;
mod dependencies;
mod harness;
mod image;
mod import_cycles;
mod vocabulary;
mod workflows;
