//! The closed vocabularies of conditions and reasons, each with its remedy.
//!
//! `src/docs/conditions.md` is generated from the tables here.

use std::fmt;

/// The types of condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Everything the object asks for is so.
    Ready,
    /// The provider answers.
    Reachable,
    /// The credential is valid.
    Authenticated,
    /// The credential may do what is needed.
    Authorized,
    /// The credential ends soon.
    CredentialExpiring,
    /// The connection may be used and works.
    ConnectionReady,
    /// The repository and the branch are there.
    RepositoryFound,
    /// The webhook is as it should be.
    WebhookInSync,
    /// Deliveries arrive and verify.
    Receiving,
    /// The sinks accept.
    Delivering,
    /// Removal waits for something.
    CleanupBlocked,
    /// Work is under way.
    Reconciling,
    /// Nothing goes on without a person.
    Stalled,
}

macro_rules! reasons {
    ($($variant:ident: $on:literal, $meaning:literal, $remedy:literal;)*) => {
        /// Why a condition is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The reason as it stands in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// The conditions that carry it.
            #[must_use]
            pub const fn conditions(self) -> &'static str {
                match self { $(Self::$variant => $on,)* }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

reasons! {
    Succeeded: "all", "Everything is as it should be.", "Nothing to do.";
    Suspended: "Ready", "`spec.suspend` is set, or that of the connection.", "Set `suspend` to false to go on.";
    Progressing: "Ready, Reconciling", "Work is under way.", "Wait; the message says for what.";
    Unreachable: "Reachable", "The provider does not answer.", "Check the address, DNS, and network policies; it is tried again with backoff.";
    TLSError: "Reachable", "The provider's certificate is not trusted or the handshake failed.", "Put the certificate authority into a ConfigMap or Secret and name it in `tls.caRef`.";
    TLSReferenceNotFound: "Reachable", "`tls.caRef` or `tls.clientCertificateRef` names something that is missing or unusable.", "Create the object and key that the message names.";
    HostNotAllowed: "Reachable", "The installation does not allow this host or address.", "Ask the administrator for `--allow-provider-hosts` or `--allow-cidrs`.";
    InsecureURL: "Reachable", "The address is http.", "Use https; http is for local development with `--allow-insecure-http`.";
    ResponseInvalid: "Reachable", "Something answers, but not as the provider's API does.", "Check `url` and `apiURL`: a login page, a proxy or another product may stand there.";
    ProxyError: "Reachable", "The proxy refuses or cannot be reached, or its Secret is missing.", "Check the Secret of `proxySecretRef` and the proxy.";
    RateLimited: "Reachable", "The provider's rate limit is used up.", "Wait; it goes on at the time that the message names.";
    ProviderNotServed: "Reachable", "This build or installation does not serve this provider.", "Enable it with `--providers`, or use a build that has it.";
    SecretNotFound: "Authenticated, WebhookInSync", "The Secret does not exist.", "Create the Secret that the message names, in the same namespace.";
    SecretForbidden: "Authenticated", "Forgebind may not read Secrets in this namespace.", "Grant it, or move the connection to a namespace where it may.";
    SecretInvalid: "Authenticated, WebhookInSync", "The Secret's keys are missing, empty or contradict each other.", "Correct the keys that the message names.";
    CredentialRejected: "Authenticated", "The provider does not accept the credential.", "Put a valid credential into the Secret; it is tried within seconds of the change.";
    CredentialExpired: "Authenticated", "The credential's end has passed.", "Make a new credential and put it into the Secret.";
    AppPasswordRetired: "Authenticated", "Bitbucket Cloud no longer accepts app passwords.", "Make an API token and put it into the Secret as `email` and `token`.";
    InstallationNotFound: "Authenticated", "The GitHub App is not installed at this owner.", "Install it there, or correct the owner.";
    InstallationSuspended: "Authenticated", "The GitHub App's installation is suspended.", "Resume the installation at GitHub.";
    SingleSignOnRequired: "Authenticated", "The token is not authorized for the organization's single sign-on.", "Authorize the token for the organization at the provider.";
    PermissionMissing: "Authorized, WebhookInSync", "The credential lacks a permission.", "Grant what `status.permissions` or the message names.";
    ExpiresSoon: "CredentialExpiring", "The credential ends within `warnBefore`.", "Make a new credential and put it into the Secret.";
    CannotTell: "Authorized", "The provider cannot tell whether the credential has every permission.", "Nothing to do unless something fails; the rows of `status.permissions` say why.";
    ConnectionNotReady: "ConnectionReady", "The connection does not work.", "See the conditions of the connection.";
    RefNotPermitted: "ConnectionReady", "The connection does not exist or does not allow this binding.", "Ask the connection's owner for a rule in `allowedBindings`.";
    ConnectionNotFound: "ConnectionReady", "There is no such connection in this namespace.", "Create it or correct `connectionRef`.";
    ConnectionUnreachable: "ConnectionReady", "The connection's provider cannot be reached at present.", "Wait, or see the conditions of the connection; what works goes on working.";
    NotFoundOrHidden: "RepositoryFound", "The provider shows no such repository to this credential.", "Correct `repository`, or give the credential access to it.";
    NotInstalled: "RepositoryFound", "The GitHub App is not installed on this repository, or it does not exist.", "Add the repository to the installation.";
    BranchNotFound: "RepositoryFound", "The repository has no such branch.", "Correct `branch` or push it.";
    OutOfScope: "RepositoryFound", "The repository lies outside the owner of the connection.", "Use a connection of its owner.";
    RepositoryReplaced: "RepositoryFound", "The path now leads to another repository.", "Delete the binding and create it again if the new repository is meant.";
    RepositoryMovedOutOfScope: "RepositoryFound", "The repository moved to where this binding may not follow.", "Use a connection of its new owner, or extend the grant.";
    ForeignHook: "WebhookInSync", "Somebody else's hook already delivers to this URL.", "Remove it, or set `webhook.adopt` to take it over.";
    HookLimitReached: "WebhookInSync", "The provider allows no further hook on this repository.", "Remove hooks that are no longer needed.";
    PausedAtProvider: "WebhookInSync", "Somebody switched the hook off at the provider.", "Switch it on again at the provider when that is wanted.";
    DisabledByProvider: "WebhookInSync", "The provider switched the hook off after failures.", "See the message for the cause.";
    EventNotSupported: "WebhookInSync", "The provider has no such event.", "Remove it from `webhook.events`.";
    PublicURLMissing: "WebhookInSync", "Forgebind does not know where providers reach it.", "Start it with `--public-url`.";
    PublicURLRefused: "WebhookInSync", "The provider refuses to deliver to this URL.", "Use an address that the provider accepts; the message has its words.";
    ClaimedByAnother: "WebhookInSync", "Another binding holds this repository and URL.", "Delete one of them, or use another URL.";
    HookUnderAnotherHost: "WebhookInSync", "A hook with this binding's identity delivers to another host.", "If that host was this installation's, name it in `--former-public-urls`; else leave it to its owner.";
    SourceNotServed: "WebhookInSync", "This build does not serve this `webhook.source`.", "Use `source: Repository`.";
    RepositoryArchived: "WebhookInSync", "The repository is archived, so its hooks cannot be changed.", "Unarchive it, or remove `webhook`.";
    Observing: "WebhookInSync", "Something would be changed, but `managementPolicy` or `--read-only` forbids it.", "See `status.plan`; set `managementPolicy: Manage` to have it done.";
    RequestRejected: "WebhookInSync", "The provider refused the request.", "The message has its words.";
    AwaitingFirstDelivery: "Receiving", "Nothing was delivered yet.", "Push something.";
    DeliveriesRefused: "Receiving", "Deliveries arrive whose proof is wrong.", "See whether somebody changed the hook's secret; `forgebind.dev/rotate-requested-at` sets a new one.";
    SinkFailing: "Delivering", "A sink does not accept; what it is owed is sent again.", "See `status.sinks`.";
    SinkNotAllowed: "Delivering", "The installation does not allow this sink's host.", "Ask the administrator for `--allow-sink-hosts`.";
    SinkNotServed: "Delivering", "This build does not serve this kind or format of sink.", "Use `service` or `http` with `format: CloudEvents`.";
    ManagedByAnotherInstallation: "Stalled", "Another installation of Forgebind manages this object.", "Let it, or remove `status.installation` to take the object over.";
    InvalidObject: "Stalled", "The stored object does not fit the schema.", "Correct the field that the message names.";
}

impl ConditionType {
    /// The type as it stands in a condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reachable => "Reachable",
            Self::Authenticated => "Authenticated",
            Self::Authorized => "Authorized",
            Self::CredentialExpiring => "CredentialExpiring",
            Self::ConnectionReady => "ConnectionReady",
            Self::RepositoryFound => "RepositoryFound",
            Self::WebhookInSync => "WebhookInSync",
            Self::Receiving => "Receiving",
            Self::Delivering => "Delivering",
            Self::CleanupBlocked => "CleanupBlocked",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
