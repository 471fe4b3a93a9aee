//! The chain from a connection to the sinks: what is judged, and what is told of it.

use serde::Serialize;

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum LinkState {
    /// It works.
    Ok,
    /// It is broken.
    Fail,
    /// Nobody knows yet.
    Unknown,
    /// It is not visible to the caller, or does not apply.
    Skipped,
}

/// One link of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Link {
    #[serde(rename = "link")]
    pub(super) name: String,
    pub(super) state: LinkState,
    pub(super) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Link {
    pub(super) fn ok(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), state: LinkState::Ok, text: text.into(), fix: None }
    }

    pub(super) fn unknown(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { state: LinkState::Unknown, ..Self::ok(name, text) }
    }

    pub(super) fn skipped(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { state: LinkState::Skipped, ..Self::ok(name, text) }
    }

    pub(super) fn fail(name: impl Into<String>, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: LinkState::Fail, fix: Some(fix.into()), ..Self::ok(name, text) }
    }
}

/// The chain of one binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Chain {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) repository: String,
    /// The connection, as namespace/name.
    pub(super) connection: String,
    pub(super) links: Vec<Link>,
    /// How far the judgement of deliveries reaches.
    pub(super) basis: String,
}

impl Chain {
    /// The first broken link.
    pub(super) fn broken(&self) -> Option<&Link> {
        self.links.iter().find(|link| link.state == LinkState::Fail)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.broken().is_none()
    }
}
