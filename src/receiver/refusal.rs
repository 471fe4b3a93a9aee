//! Why a request is refused, the status code of its answer and its label in the metrics.

use http::StatusCode;

use crate::providers::webhook::Rejection;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Method,
    Encoding,
    UnknownPath,
    TooLarge,
    /// Too large but verified, from a provider that would stop delivering after a refusal.
    Oversized,
    Proof(Rejection),
    SecretRevoked,
    Stale,
    BindingUnknown,
    SecretRecentlyRotated,
    ConnectionUnknown,
    SecretUnknown,
    RateLimited,
    Overloaded,
    SlowBody,
    BrokenBody,
    /// A peer has more connections than its share. Refused before a request is read.
    PeerShare,
    Panic,
}

impl Refusal {
    /// Every refusal, for the metrics.
    pub(super) const ALL: [Self; 22] = [
        Self::Method,
        Self::Encoding,
        Self::UnknownPath,
        Self::TooLarge,
        Self::Oversized,
        Self::Proof(Rejection::ProofMissing),
        Self::Proof(Rejection::ProofWrong),
        Self::Proof(Rejection::ProofStale),
        Self::Proof(Rejection::Unreadable),
        Self::Proof(Rejection::UnsignedTest),
        Self::SecretRevoked,
        Self::Stale,
        Self::BindingUnknown,
        Self::SecretRecentlyRotated,
        Self::ConnectionUnknown,
        Self::SecretUnknown,
        Self::RateLimited,
        Self::Overloaded,
        Self::SlowBody,
        Self::BrokenBody,
        Self::PeerShare,
        Self::Panic,
    ];

    /// The status code of the answer. Providers act on these: see the documentation of [`crate::receiver`].
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UnknownPath
            | Self::Proof(Rejection::ProofMissing | Rejection::ProofWrong | Rejection::ProofStale | Rejection::Unreadable)
            | Self::SecretRevoked => StatusCode::UNAUTHORIZED,
            Self::Oversized | Self::Proof(Rejection::UnsignedTest) => StatusCode::OK,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Stale
            | Self::BindingUnknown
            | Self::SecretRecentlyRotated
            | Self::ConnectionUnknown
            | Self::SecretUnknown
            | Self::RateLimited
            | Self::Overloaded
            | Self::SlowBody
            | Self::BrokenBody
            | Self::PeerShare
            | Self::Panic => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Label in the metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Encoding => "content_encoding",
            Self::UnknownPath => "unknown_path",
            Self::TooLarge | Self::Oversized => "body_too_large",
            Self::Proof(Rejection::ProofMissing) => "proof_missing",
            Self::Proof(Rejection::ProofWrong) => "proof_wrong",
            Self::Proof(Rejection::ProofStale) => "proof_stale",
            Self::Proof(Rejection::Unreadable) => "body_unreadable",
            Self::Proof(Rejection::UnsignedTest) => "unsigned_test",
            Self::SecretRevoked => "secret_revoked",
            Self::Stale => "watch_stale",
            Self::BindingUnknown => "binding_unknown",
            Self::SecretRecentlyRotated => "secret_recently_rotated",
            Self::ConnectionUnknown => "connection_unknown",
            Self::SecretUnknown => "secret_unknown",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::SlowBody => "body_slow",
            Self::BrokenBody => "body_broken",
            Self::PeerShare => "peer_share",
            Self::Panic => "panic",
        }
    }

    /// Why a delivery was turned away, for the list of deliveries of its binding; `None` if it was answered with success or has no
    /// binding. Only [`Self::fault`] says that the sender or its configuration is at fault: the rest is sent again by providers
    /// that do so.
    pub(super) const fn shown(self) -> Option<&'static str> {
        if let Some(fault) = self.fault() {
            return Some(fault);
        }
        match self {
            Self::SecretRecentlyRotated => Some("wrong signature shortly after a change of the secret"),
            Self::ConnectionUnknown => Some("the receiver does not know the connection yet"),
            Self::SecretUnknown => Some("the receiver does not know this version of the secret yet"),
            Self::Stale => Some("the receiver has lost its watch of the API server"),
            Self::RateLimited => Some("too many requests with a wrong signature"),
            Self::Overloaded => Some("the receiver has no room for the body"),
            Self::SlowBody => Some("the body arrived too slowly"),
            Self::BrokenBody => Some("the body broke off"),
            Self::Panic => Some("internal error"),
            _ => None,
        }
    }

    /// The message for users if the sender or its configuration is at fault. It becomes part of the binding's evidence.
    pub(super) const fn fault(self) -> Option<&'static str> {
        match self {
            Self::TooLarge | Self::Oversized => Some("body larger than the size limit"),
            Self::Proof(Rejection::ProofMissing) => Some("no signature"),
            Self::Proof(Rejection::ProofWrong) => Some("wrong signature"),
            Self::Proof(Rejection::ProofStale) => Some("signature outside its time window"),
            Self::Proof(Rejection::Unreadable) => Some("body does not match its content type"),
            Self::SecretRevoked => Some("its secret is no longer valid"),
            _ => None,
        }
    }
}
