//! The providers' official API descriptions, as fact tables with which the simulators are compared.

mod facts_check;
mod facts_extract;
mod facts_generated;
mod facts_held;
