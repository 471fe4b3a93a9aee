//! The repository itself: layout, dependencies, workflows, the image, and the test kit.

mod architecture;
mod dependencies;
mod harness;
mod image;
mod provider_places;
mod vocabulary;
mod workflows;
