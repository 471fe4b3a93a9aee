//! The providers' official API descriptions, as the fact tables that the simulators are held to.

pub mod facts_check;
pub mod facts_distil;
pub mod facts_generated;
pub mod facts_held;
