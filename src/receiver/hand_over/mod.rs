//! The hand-over of an outbox: a receiver that stops gives what it has stored to another one.
//!
//! A pod with an emptyDir loses its outbox when it ends. So a receiver that stops posts its deliveries, with the states of their
//! events, to a peer ([`give`]), in batches: those with pending events first, by arrival. The peer stores each as if it had arrived there, within the same limits,
//! and answers when it is synced to its disk ([`take`]); then the sender removes it. If either of them ends between the two, both
//! have the delivery, and it is sent twice with the same id.
//!
//! A peer that stops itself, has its outbox in memory, or cannot write its disk takes nothing: there, the delivery would be no
//! safer than here.

mod give;
mod take;
mod wire;

pub(super) use give::Giver;
pub use give::Peers;
pub use take::OutboxIntake;
