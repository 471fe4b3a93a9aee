//! The providers' official API descriptions, as the fact tables that the simulators are held to.

mod facts_check;
mod facts_extract;
mod facts_generated;
mod facts_held;
