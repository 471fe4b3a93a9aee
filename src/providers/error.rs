//! Errors of providers: classifies what went wrong and what follows from it.

use std::error::Error as StdError;
use std::fmt;

use jiff::Timestamp;

use crate::text::sanitize;

/// What went wrong. Every kind has exactly one [`Disposition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The provider does not accept the credential.
    Unauthenticated,
    /// The credential is an app password, which the provider no longer accepts.
    AppPasswordRetired,
    /// The App is not installed for the owner.
    InstallationNotFound,
    /// The App's installation is suspended.
    InstallationSuspended,
    /// The token is not authorized for single sign-on.
    SingleSignOnRequired,
    /// A policy of the owner refuses requests from this address, whatever the credential: conditional access or an IP allow list.
    AccessPolicy,
    /// The credential is valid but lacks a permission.
    PermissionDenied,
    /// The resource does not exist, or this credential cannot see it.
    NotFound,
    /// The App is not installed on this repository.
    NotInstalled,
    /// Too many requests; see `retry_at`.
    RateLimited,
    /// The provider's limit for this kind of resource is reached.
    LimitReached,
    /// The provider refuses to deliver to this URL.
    TargetRefused,
    /// The repository is archived.
    Archived,
    /// The provider refused what we sent.
    Rejected,
    /// The resource exists already; probe again.
    Conflict,
    /// The host name does not resolve, or the host does not answer.
    Unreachable,
    /// The certificate is not trusted or the handshake failed.
    Tls,
    /// The proxy refused the request or does not answer.
    Proxy,
    /// The installation does not allow this host or address.
    HostNotAllowed,
    /// The URL uses http, which the installation does not allow.
    InsecureUrl,
    /// A 5xx status, a timeout or a connection reset: the request may or may not have been carried out.
    Transient,
    /// The response does not come from the provider's API.
    ResponseInvalid,
    /// The spec has no usable address, or no member, for the provider.
    EndpointInvalid,
    /// The provider does not accept this kind of credential.
    CredentialKindNotAccepted,
    /// This process does not hold the lease for long enough, so it sent nothing.
    NotLeading,
}

/// What follows from an error. This is the only classification of errors: all decisions that depend on an error's kind use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The provider refused the credential. It is not sent again automatically, because repeated failures lock accounts.
    CredentialRefused,
    /// The credential is unusable until its Secret or something at the provider changes.
    CredentialUnusable,
    /// The resource does not exist, or the provider does not show it to this credential.
    Hidden,
    /// The provider refused the request and would refuse it again.
    Refused,
    /// Writes are not possible for the time being.
    ReadOnly,
    /// The connection's spec or the installation's settings prevent the request.
    Misconfigured,
    /// The provider is unreachable for a while. What works is left as it is; requests are retried with increasing backoff.
    Outage,
    /// As [`Outage`](Self::Outage), with a known end.
    RateLimited,
    /// The state at the provider changed in the meantime: probe again.
    ProbeAgain,
    /// No request was sent, so nothing is known.
    NotAsked,
}

impl Disposition {
    /// Whether the provider is unreachable for a while, in which case what works is left as it is.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::Outage | Self::RateLimited)
    }

    /// Whether the error concerns the whole connection, which is then inspected, and not just one repository.
    #[must_use]
    pub const fn concerns_connection(self) -> bool {
        matches!(self, Self::CredentialRefused | Self::CredentialUnusable) || self.is_outage()
    }
}

impl ErrorKind {
    /// What follows from an error of this kind.
    #[must_use]
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::Unauthenticated => Disposition::CredentialRefused,
            Self::AppPasswordRetired
            | Self::InstallationNotFound
            | Self::InstallationSuspended
            | Self::SingleSignOnRequired
            | Self::AccessPolicy
            | Self::CredentialKindNotAccepted => Disposition::CredentialUnusable,
            Self::PermissionDenied | Self::NotFound | Self::NotInstalled => Disposition::Hidden,
            Self::LimitReached | Self::TargetRefused | Self::Rejected => Disposition::Refused,
            Self::Archived => Disposition::ReadOnly,
            Self::HostNotAllowed | Self::InsecureUrl | Self::EndpointInvalid => Disposition::Misconfigured,
            Self::Unreachable | Self::Tls | Self::Proxy | Self::Transient | Self::ResponseInvalid => Disposition::Outage,
            Self::RateLimited => Disposition::RateLimited,
            Self::Conflict => Disposition::ProbeAgain,
            Self::NotLeading => Disposition::NotAsked,
        }
    }

    /// The kind to report if this error occurs in an inspection. An inspection concerns no repository and changes nothing, so an
    /// error that only repositories or writes can cause means that something other than the provider's API answered. `NotFound`
    /// concerns the owner that the connection names.
    #[must_use]
    pub const fn at_inspection(self) -> Self {
        match self {
            Self::LimitReached | Self::TargetRefused | Self::Archived | Self::Rejected | Self::Conflict => Self::ResponseInvalid,
            kind => kind,
        }
    }

    /// Whether a write that ended with this error may have been carried out nevertheless.
    #[must_use]
    pub const fn is_ambiguous(self) -> bool {
        matches!(self, Self::Transient | Self::ResponseInvalid | Self::Conflict)
    }

    /// Whether a read that ended with this error is worth a retry within the same call.
    #[must_use]
    pub const fn may_pass_at_once(self) -> bool {
        matches!(self, Self::Transient | Self::Unreachable)
    }

    /// Whether the provider is unreachable, as opposed to having refused the request.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        self.disposition().is_outage()
    }

    /// Whether an optional question remains unanswered for now: the server could not answer, and may answer later. A server that
    /// answers with something other than its API never will.
    #[must_use]
    pub const fn leaves_open(self) -> bool {
        (self.is_outage() && !matches!(self, Self::ResponseInvalid)) || matches!(self.disposition(), Disposition::NotAsked)
    }
}

/// Maximum length of a message in characters.
pub(in crate::providers) const LENGTH: usize = 300;

/// An error of a provider. Its text is safe to show: it contains no credential and no unguessable path.
#[derive(Debug)]
pub struct ProviderError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// The operation that failed, such as `create hook`.
    pub operation: &'static str,
    /// The provider's id of the request, if it sent one.
    pub request_id: Option<String>,
    /// Earliest time for a retry.
    pub retry_at: Option<Timestamp>,
    /// Message for users: safe to show, one line, at most 300 characters.
    pub message: String,
    /// Underlying error, for logs.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ProviderError {
    /// Makes an error without request id, retry time or source. Sanitizes a provider's own words in the message.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        let message = sanitize::line(&message.into(), LENGTH);
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

#[cfg(test)]
mod tests {
    use super::*;

    impl ErrorKind {
        /// Every kind.
        pub(crate) const ALL: [Self; 25] = [
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
    }

    /// One line for each kind: its disposition and its predicates (is an outage, concerns the connection, leaves a question open,
    /// may have been carried out, may pass at once).
    #[test]
    fn every_kind_has_one_place_in_one_table() {
        use Disposition as D;
        use ErrorKind as K;
        let table = [
            (K::Unauthenticated, D::CredentialRefused, "-c---"),
            (K::AppPasswordRetired, D::CredentialUnusable, "-c---"),
            (K::InstallationNotFound, D::CredentialUnusable, "-c---"),
            (K::InstallationSuspended, D::CredentialUnusable, "-c---"),
            (K::SingleSignOnRequired, D::CredentialUnusable, "-c---"),
            (K::AccessPolicy, D::CredentialUnusable, "-c---"),
            (K::PermissionDenied, D::Hidden, "-----"),
            (K::NotFound, D::Hidden, "-----"),
            (K::NotInstalled, D::Hidden, "-----"),
            (K::RateLimited, D::RateLimited, "oco--"),
            (K::LimitReached, D::Refused, "-----"),
            (K::TargetRefused, D::Refused, "-----"),
            (K::Archived, D::ReadOnly, "-----"),
            (K::Rejected, D::Refused, "-----"),
            (K::Conflict, D::ProbeAgain, "---a-"),
            (K::Unreachable, D::Outage, "oco-p"),
            (K::Tls, D::Outage, "oco--"),
            (K::Proxy, D::Outage, "oco--"),
            (K::HostNotAllowed, D::Misconfigured, "-----"),
            (K::InsecureUrl, D::Misconfigured, "-----"),
            (K::Transient, D::Outage, "ocoap"),
            (K::ResponseInvalid, D::Outage, "oc-a-"),
            (K::EndpointInvalid, D::Misconfigured, "-----"),
            (K::CredentialKindNotAccepted, D::CredentialUnusable, "-c---"),
            (K::NotLeading, D::NotAsked, "--o--"),
        ];
        assert_eq!(table.map(|(kind, _, _)| kind), ErrorKind::ALL);
        for (kind, disposition, answers) in table {
            assert_eq!(kind.disposition(), disposition, "{kind:?}");
            let asked = [
                ('o', kind.is_outage()),
                ('c', kind.disposition().concerns_connection()),
                ('o', kind.leaves_open()),
                ('a', kind.is_ambiguous()),
                ('p', kind.may_pass_at_once()),
            ];
            let found: String = asked.into_iter().map(|(letter, is)| if is { letter } else { '-' }).collect();
            assert_eq!(found, answers, "{kind:?}");
        }
    }
}
