//! Errors of a provider: what went wrong, in our words, and what follows from it.

use std::error::Error as StdError;
use std::fmt;

use jiff::Timestamp;

use crate::shown;

/// What went wrong. Every kind has exactly one [`Disposition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The credential is not accepted.
    Unauthenticated,
    /// Bitbucket Cloud: app passwords are gone.
    AppPasswordRetired,
    /// GitHub: the App is not installed at the owner.
    InstallationNotFound,
    /// GitHub: the App's installation is suspended.
    InstallationSuspended,
    /// GitHub: the token is not authorized for single sign-on.
    SingleSignOnRequired,
    /// A policy of the owner refuses whoever asks from here, whatever the credential: conditional access, a list of addresses.
    AccessPolicy,
    /// The credential is valid and lacks a right.
    PermissionDenied,
    /// Not there, or hidden from this credential.
    NotFound,
    /// GitHub: the App is not installed on this repository.
    NotInstalled,
    /// Too many requests; see `retry_at`.
    RateLimited,
    /// The provider allows no more of these.
    LimitReached,
    /// The provider refuses to deliver to this URL.
    TargetRefused,
    /// The repository is archived.
    Archived,
    /// The provider refused what we sent.
    Rejected,
    /// It exists already; look again.
    Conflict,
    /// The name does not resolve or nothing answers.
    Unreachable,
    /// The certificate is not trusted or the handshake failed.
    Tls,
    /// The proxy refused or does not answer.
    Proxy,
    /// The installation does not allow this host or address.
    HostNotAllowed,
    /// The address is http and that is not allowed.
    InsecureUrl,
    /// 5xx, a timeout, a reset: it may or may not have been done.
    Transient,
    /// An answer that is not the provider's API.
    ResponseInvalid,
    /// The spec has no usable address or member for the provider.
    EndpointInvalid,
    /// The credential's kind is not one that the provider accepts.
    CredentialKindNotAccepted,
    /// This process does not hold the lease for long enough; nothing was sent.
    NotLeading,
}

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Wait until the object, its Secret or the provider's side changes; look again slowly.
    WaitForChange,
    /// Wait until `retry_at`.
    RetryAt,
    /// Try again with growing pauses.
    BackOff,
    /// Wait for a person.
    Stalled,
    /// Look again now.
    LookAgain,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 25] = [
        Self::Unauthenticated,
        Self::AppPasswordRetired,
        Self::InstallationNotFound,
        Self::InstallationSuspended,
        Self::SingleSignOnRequired,
        Self::AccessPolicy,
        Self::PermissionDenied,
        Self::NotFound,
        Self::NotInstalled,
        Self::RateLimited,
        Self::LimitReached,
        Self::TargetRefused,
        Self::Archived,
        Self::Rejected,
        Self::Conflict,
        Self::Unreachable,
        Self::Tls,
        Self::Proxy,
        Self::HostNotAllowed,
        Self::InsecureUrl,
        Self::Transient,
        Self::ResponseInvalid,
        Self::EndpointInvalid,
        Self::CredentialKindNotAccepted,
        Self::NotLeading,
    ];

    /// What follows from it.
    #[must_use]
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::Unauthenticated
            | Self::AppPasswordRetired
            | Self::InstallationNotFound
            | Self::InstallationSuspended
            | Self::SingleSignOnRequired
            | Self::AccessPolicy
            | Self::PermissionDenied
            | Self::NotFound
            | Self::NotInstalled
            | Self::LimitReached
            | Self::Archived => Disposition::WaitForChange,
            Self::RateLimited => Disposition::RetryAt,
            Self::TargetRefused
            | Self::Rejected
            | Self::HostNotAllowed
            | Self::InsecureUrl
            | Self::EndpointInvalid
            | Self::CredentialKindNotAccepted => Disposition::Stalled,
            Self::Conflict => Disposition::LookAgain,
            Self::Unreachable | Self::Tls | Self::Proxy | Self::Transient | Self::ResponseInvalid | Self::NotLeading => {
                Disposition::BackOff
            }
        }
    }

    /// Whether a write that ended so may have been done all the same.
    #[must_use]
    pub const fn is_ambiguous(self) -> bool {
        matches!(self, Self::Transient | Self::ResponseInvalid | Self::Conflict)
    }

    /// Whether it tells that the provider is out of reach rather than that it said no.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::Unreachable | Self::Tls | Self::Proxy | Self::Transient | Self::ResponseInvalid | Self::RateLimited)
    }
}

/// Characters of a message.
pub(in crate::providers) const LENGTH: usize = 300;

/// An error of a provider. Its text is safe to show: it holds no credential and no unguessable path.
#[derive(Debug)]
pub struct ProviderError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// What was being done, such as `create hook`.
    pub operation: &'static str,
    /// The provider's id of the request, where it gives one.
    pub request_id: Option<String>,
    /// Not before this.
    pub retry_at: Option<Timestamp>,
    /// For users: safe, one line, at most 300 characters.
    pub message: String,
    /// For logs.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ProviderError {
    /// An error with neither request id, time nor source. What is in the message of a provider's own words is made safe to show.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        let message = shown::line(&message.into(), LENGTH);
        Self { kind, operation, request_id: None, retry_at: None, message, source: None }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.operation, self.message)?;
        match &self.request_id {
            Some(id) => write!(formatter, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl StdError for ProviderError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
