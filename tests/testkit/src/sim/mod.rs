//! Simulators of Git providers: servers that keep state, refuse requests, limit their rate and deliver events as the real ones
//! document it.
//!
//! Each provider has a folder; common code is here. A [`SimulatedProvider`] is the provider: pure answers over its state. A
//! [`Simulator`] is the server around it: it listens, keeps a journal, checks every exchange against the official description
//! ([`facts`]), sends the deliveries, injects faults when told to ([`faults`]) and has control endpoints for the actions of
//! people and git ([`control`]).

pub mod azure_devops;
pub mod bitbucket_cloud;
pub mod bitbucket_data_center;
pub mod contents;
pub mod control;
pub mod delivery;
pub mod facts;
pub mod faults;
pub mod git;
pub mod github;
pub mod gitlab;
pub mod message;
pub mod parameters;
pub mod registry;
pub mod requests;
pub mod server;
pub mod simulated;
pub mod simulated_provider;
pub mod targets;

pub use contents::{Change, Contents, ProviderEvent, PullRequest, PullRequestState, UserAction};
pub use delivery::{Delivery, Outcome, Sent};
pub use faults::{Fault, Order, Wait};
pub use message::{Request, Response};
pub use server::Simulator;
pub use simulated::Simulated;
pub use simulated_provider::{Refusal, SeedData, Settings, SimulatedProvider};
