//! The repository itself: layout, dependencies, workflows, the image, and the test kit.

pub mod architecture;
pub mod dependencies;
pub mod harness;
pub mod image;
pub mod workflows;
