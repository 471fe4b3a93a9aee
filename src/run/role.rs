//! Which parts a process runs.

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reconciles the objects.
    Controller,
    /// Receives deliveries.
    Receiver,
    /// Reconciles and receives.
    Both,
}

impl Role {
    pub(super) const fn reconciles(self) -> bool {
        matches!(self, Self::Controller | Self::Both)
    }

    /// The name of the command.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Receiver => "receiver",
            Self::Both => "run",
        }
    }

    pub(super) const fn receives(self) -> bool {
        matches!(self, Self::Receiver | Self::Both)
    }
}
