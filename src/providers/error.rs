//! Errors of a provider: what went wrong, in our words, and what follows from it.

use std::error::Error as StdError;
use std::fmt;

use jiff::Timestamp;

use crate::text::sanitize;

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

/// What follows from an error: the only classification of errors. Whoever decides something by the kind of an error asks here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The credential was refused. It is not sent again by itself: accounts lock.
    CredentialRefused,
    /// The credential cannot be used as it is, until its Secret or something at the provider changes.
    CredentialUnusable,
    /// Not there, or not shown to this credential.
    Hidden,
    /// The provider said no, and will say it again.
    Refused,
    /// Nothing can be written for a while.
    ReadOnly,
    /// The connection's spec or the installation's settings stand against it.
    Misconfigured,
    /// The provider is out of reach for a while. What works goes on working; it is tried again with growing pauses.
    Outage,
    /// The same, with a time at which it is over.
    RateLimited,
    /// What is there changed meanwhile: look again.
    ProbeAgain,
    /// Nothing was asked, and so nothing learnt.
    NotAsked,
}

impl Disposition {
    /// Whether the provider is out of reach for a while, so that what works goes on working.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::Outage | Self::RateLimited)
    }

    /// Whether it says something about the whole connection, which is inspected then, rather than about one repository.
    #[must_use]
    pub const fn concerns_connection(self) -> bool {
        matches!(self, Self::CredentialRefused | Self::CredentialUnusable) || self.is_outage()
    }
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

    /// What it means in an inspection, which is about no repository and changes nothing: what can only be said of those tells
    /// that something else answers there. `NotFound` is about the owner that the connection names.
    #[must_use]
    pub const fn at_inspection(self) -> Self {
        match self {
            Self::LimitReached | Self::TargetRefused | Self::Archived | Self::Rejected | Self::Conflict => Self::ResponseInvalid,
            kind => kind,
        }
    }

    /// Whether a write that ended so may have been done all the same.
    #[must_use]
    pub const fn is_ambiguous(self) -> bool {
        matches!(self, Self::Transient | Self::ResponseInvalid | Self::Conflict)
    }

    /// Whether a read that ended so is worth sending again within the same call.
    #[must_use]
    pub const fn may_pass_at_once(self) -> bool {
        matches!(self, Self::Transient | Self::Unreachable)
    }

    /// Whether the provider is out of reach rather than that it said no.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        self.disposition().is_outage()
    }

    /// Whether a question of which the answer is not needed stays open: the server could not answer now, and may later. A server
    /// that answers with something else than its API never will.
    #[must_use]
    pub const fn leaves_open(self) -> bool {
        (self.is_outage() && !matches!(self, Self::ResponseInvalid)) || matches!(self.disposition(), Disposition::NotAsked)
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

    /// One line for each kind: its disposition, and every question that is asked of a kind: whether it is an outage, concerns the
    /// connection, leaves a question open, may have been done all the same, may pass at once.
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
