//! The closed vocabularies of conditions and reasons, each with its remedy.
//!
//! `src/docs/guide/reference/conditions.md` is generated from the tables here.

use std::fmt;

/// Which kind of object carries a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `GitProviderConnection`.
    Connection,
    /// `RepoBinding`.
    Binding,
    /// Either.
    Both,
}

macro_rules! condition_types {
    ($($variant:ident: $carrier:ident, $lowers:literal, $presence:literal, $meaning:literal;)*) => {
        /// The types of condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ConditionType {
            $(#[doc = $meaning] $variant,)*
        }

        impl ConditionType {
            /// Every type, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type as it stands in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// What it says while it is True.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// Which kind carries it.
            #[must_use]
            pub const fn carrier(self) -> Carrier {
                match self { $(Self::$variant => Carrier::$carrier,)* }
            }

            /// When it is there at all.
            #[must_use]
            pub const fn presence(self) -> &'static str {
                match self { $(Self::$variant => $presence,)* }
            }

            /// What its being False does to Ready.
            #[must_use]
            pub const fn effect_on_ready(self) -> &'static str {
                match self { $(Self::$variant => $lowers,)* }
            }
        }
    };
}

condition_types! {
    Ready: Both, "itself", "always", "Everything the object asks for is so.";
    Reachable: Connection, "lowers it", "once the provider was asked", "The provider answers.";
    Authenticated: Connection, "lowers it", "once the credential was tried", "The credential is valid.";
    Authorized: Connection, "lowers it (Unknown does not)", "once the credential was inspected", "The credential may do what is needed.";
    CredentialExpiring: Connection, "none", "while True", "The credential ends soon, or was to end already.";
    ConnectionReady: Binding, "lowers it (Unknown does not)", "once the connection was examined", "The connection may be used and works.";
    RepositoryFound: Binding, "lowers it", "once the repository was looked up", "The repository and the branch are there.";
    WebhookInSync: Binding, "lowers it, except by Observing", "with `spec.webhook`, once the hooks were listed", "The webhook is as it should be.";
    Receiving: Binding, "none", "while hooks deliver to our receiver", "Deliveries arrive and verify.";
    Delivering: Binding, "lowers it, except by SinkFailing", "with `spec.sinks`", "The sinks accept what they are sent.";
    CleanupBlocked: Binding, "none", "while True", "Hooks are to be removed and cannot be.";
    Reconciling: Both, "none", "while True", "Work is under way, or goes on by itself once the reason is gone.";
    Stalled: Both, "none", "while True", "Nothing goes on without a person.";
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

            /// The conditions that carry it, separated by commas, after the one that it is about; `all`, or `event` for one that
            /// is told by a Kubernetes event alone.
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
    Suspended: "Ready", "`spec.suspend` is set, here or on the connection.", "Set `spec.suspend` to false on the object, and on its connection, to go on.";
    Progressing: "Ready, Reconciling, CleanupBlocked", "Work is under way, or waits for what the message names.", "Wait. If the same message stays for longer than the object's `interval`, do what it names: it holds the provider's last words or what is waited for.";
    Unreachable: "Reachable, Ready", "The provider does not answer.", "From a pod, try the address with curl: check `url`, DNS, network policies and firewalls. It is tried again with growing pauses of a minute at most; hooks and routes stay as they are.";
    TLSError: "Reachable, Ready", "The provider's certificate is not trusted, or the TLS handshake failed.", "Put the certificate authority that signed the provider's certificate into a ConfigMap or Secret of the connection's namespace and name it in `tls.caRef`; for a server that asks for a client certificate, set `tls.clientCertificateRef`.";
    TLSReferenceNotFound: "Reachable, Ready", "`tls.caRef` or `tls.clientCertificateRef` names something that is missing or unusable.", "Create the object and key that the message names, in the connection's namespace; it is read within seconds.";
    HostNotAllowed: "Reachable, Ready", "The installation does not allow this host, or the address that its name resolves to.", "Ask the administrator to add the host to `--allow-provider-hosts` (that of a proxy to `--allow-proxy-hosts`), or its address range to `--allow-cidrs` when it is loopback, link-local or the cluster's own.";
    InsecureURL: "Reachable, Ready", "The provider's address is http, which would send the credential in the clear.", "Change `url` and `apiURL` to https; only for local development start Forgebind with `--allow-insecure-http`.";
    ResponseInvalid: "Reachable, Ready", "Something answers, but not as the provider's API does.", "Open the address that the message names: a login page, a proxy or another product may answer there. Correct `url`, or set `apiURL` where the API has another address.";
    SpecInvalid: "Reachable, RepositoryFound, Ready", "A field of the spec cannot be what it stands for: an address, an owner or a repository.", "Correct the field that the message names; the message has its value and what it should be. Nothing is asked of the provider before.";
    ProxyError: "Reachable, Ready", "The proxy refuses or cannot be reached.", "Check `address` in the Secret that `proxySecretRef` names (and `username` with `password` where the proxy asks for them), and that the proxy lets the provider's host through.";
    RateLimited: "Reachable, Ready", "The provider's rate limit is used up.", "Wait: it goes on at the time that the message names. If it returns, raise `interval`, or use an account that nothing else uses.";
    ProviderNotServed: "Reachable, Ready", "This build or this installation does not serve this provider.", "If the message names `--providers`, ask the administrator to add the provider there; otherwise use a build that implements it.";
    SecretNotFound: "Authenticated, Reachable, WebhookInSync, Ready", "The Secret with the credential, the proxy or the webhook secret does not exist.", "Create the Secret that the message names, in the same namespace as the object; it is read within seconds.";
    SecretForbidden: "Authenticated, Reachable, WebhookInSync, Ready", "Forgebind may not read Secrets in this namespace.", "Allow Forgebind's service account to get Secrets in this namespace (a Role and a RoleBinding), or move the connection to a namespace where it may.";
    SecretInvalid: "Authenticated, Reachable, WebhookInSync, Ready", "The keys of the Secret with the credential, the proxy or the webhook secret are missing, empty, not usable as they are, or contradict each other.", "Correct the keys that the message names; a credential is `token`, or `username` with `password`, not both kinds at once, and a proxy is `address`.";
    CredentialNeeded: "Authenticated, Ready", "The connection has no credential, and the provider shows nothing without one.", "Make a credential at the provider, put it into a Secret of the connection's namespace (under the key `token`, or `username` with `password`), and name that Secret in `spec.credentials.secretRef.name`.";
    CredentialRejected: "Authenticated, Ready", "The provider does not accept the credential.", "Make a new credential at the provider and put it into the Secret that the message names; it is tried within seconds of the change. The rejected one is not tried meanwhile (a token once an hour), so that no account is locked.";
    CredentialExpired: "Authenticated, CredentialExpiring, Ready", "The credential's end has passed.", "Make a new credential at the provider and put it into the Secret that the message names; where `expiresAt` was declared, correct that too.";
    AppPasswordRetired: "Authenticated, Ready", "Bitbucket Cloud no longer accepts app passwords.", "Make an API token and put it into the Secret that the message names, as `email` and `token`, without `username` and `password`.";
    InstallationNotFound: "Authenticated, Ready", "The GitHub App is not installed at this owner.", "Install the App at the owner that the connection names, or correct the owner.";
    InstallationSuspended: "Authenticated, Ready", "The GitHub App's installation is suspended.", "Have an administrator of the organization resume the installation at GitHub.";
    AccessPolicyRefused: "Authenticated, RepositoryFound, Ready", "A policy of the owner refuses requests from here, whatever the credential: conditional access, or a list of allowed addresses.", "Have an administrator of the owner allow the addresses from which the cluster's requests come, or the credential's account; the message has the provider's words. The credential need not be changed.";
    SingleSignOnRequired: "Authenticated, Ready", "The token is not authorized for the organization's single sign-on.", "Authorize the token for the organization at the provider, on the page that lists the account's tokens.";
    PermissionMissing: "Authorized, WebhookInSync, Ready", "The credential lacks a permission.", "Give the credential the scope that the message or the row in `status.permissions` names (a new token where scopes cannot be added), and the account the role at the repository; or remove the permission from `requiredPermissions`.";
    OwnerNotFound: "Authorized, Ready", "The provider shows no such owner (organization, collection or group) to this credential.", "Correct the owner or `url` in `spec.provider`, or give the credential's account access to the owner; it is looked for again at every `interval`.";
    CannotTell: "Authorized", "The provider cannot tell whether the credential has every permission.", "Nothing, this is informational: the provider does not report the permission, and Forgebind tries and reports a refusal. The rows of `status.permissions` say why.";
    ExpiresSoon: "CredentialExpiring", "The credential ends within `warnBefore`.", "Make a new credential at the provider before the time in the message and put it into the Secret that the message names.";
    ConnectionNotReady: "ConnectionReady, WebhookInSync, Ready", "The connection does not work, or is being deleted, and the hook that was made through it with it.", "Do what the conditions of the connection say; `kubectl get gpc` shows them. The binding follows by itself.";
    RefNotPermitted: "ConnectionReady, WebhookInSync, Ready", "The connection does not allow this binding. For security the message does not say whether a connection of that name exists in another namespace.", "Check name and namespace in `connectionRef`; then have the connection's owner add a rule to its `allowedBindings` that covers this namespace and repository and, for a `webhook.url`, has its host in `destinationHosts`.";
    ConnectionNotFound: "ConnectionReady, WebhookInSync, Ready", "There is no such connection in this namespace.", "Create the connection, or correct `connectionRef`.";
    ConnectionUnreachable: "ConnectionReady", "The connection's provider cannot be reached at present.", "Wait, or do what the conditions of the connection say; the hook stays and deliveries are still accepted.";
    NotFoundOrHidden: "RepositoryFound, Ready", "The provider shows no such repository to this credential.", "Correct `repository`, or give the credential's account read access to it; it is looked for again every few minutes, or at once by changing `forgebind.dev/reconcile-requested-at`.";
    NotInstalled: "RepositoryFound, Ready", "The GitHub App is not installed on this repository, or it does not exist.", "Add the repository to the App's installation, or correct `repository`.";
    BranchNotFound: "RepositoryFound, Ready", "The repository has no such branch.", "Correct `branch`, remove it, or push the branch; it is looked for again every few minutes.";
    OutOfScope: "RepositoryFound, Ready", "The repository lies outside the owner or the host of the connection.", "Correct `repository`, or use a connection whose owner holds it.";
    RepositoryReplaced: "RepositoryFound, Ready", "The path now leads to another repository than the one that was bound.", "If the new repository is meant, delete the binding and create it again; if not, correct `repository`.";
    RepositoryMovedOutOfScope: "RepositoryFound, WebhookInSync, Ready", "The repository was renamed or moved to where this binding may not follow, or the grant for its present path was withdrawn. No delivery is taken any more, and the hook is removed.", "Use a connection of its new owner, or extend the rule in `allowedBindings` to its new path.";
    ForeignHook: "WebhookInSync, Ready", "Somebody else's hook already delivers to this URL.", "Remove that hook at the provider (the message has its id), or set `webhook.adopt: true` to take it over.";
    HookLimitReached: "WebhookInSync, Ready", "The provider allows no further hook on this repository.", "Remove hooks at the provider that are no longer needed; it is tried again by itself.";
    PausedAtProvider: "WebhookInSync, Ready", "Somebody switched the hook off at the provider.", "Switch the hook on again at the provider when it is wanted; Forgebind does not overrule a person. To have it gone, remove `webhook`.";
    DisabledByProvider: "WebhookInSync, Ready", "The provider switched the hook off after failures.", "Remove the cause that the message names. A new hook takes the place of the old one by itself, at once and then with growing pauses; one that was adopted is to be switched on again at the provider.";
    EventNotSupported: "WebhookInSync, Ready", "The provider has no such event.", "Remove the event that the message names from `webhook.events`.";
    PublicURLMissing: "WebhookInSync, Ready", "Forgebind does not know where this connection's provider reaches its receiver.", "Set `spec.receiver.publicURL` of the connection to one of the names in the message, or ask the administrator to start Forgebind with such an address in `--public-url`; or set `webhook.url` with `webhook.secretRef`. A hook that was made before stays and goes on delivering.";
    PublicURLRefused: "WebhookInSync, Ready", "The provider refuses to deliver to this URL.", "Use an address that the provider accepts, or have the provider's administrator allow it; the message has the provider's words.";
    ClaimedByAnother: "WebhookInSync, Ready", "Another binding holds this repository and this `webhook.url`.", "Delete one of the two bindings, or give this one another `webhook.url`; it takes over by itself when the other one leaves.";
    HookUnderAnotherHost: "WebhookInSync, Ready", "A hook with this binding's identity delivers to another host.", "If that host was this installation's public URL, name it in `--former-public-urls` and the hook is taken along. If it belongs to the cluster from which this one was copied, leave the hook to it, and give this one an install key of its own: stop Forgebind, remove the copied Secret `forgebind-install-key` and start once with `--new-install-key`.";
    InstallKeyNotStored: "WebhookInSync, Ready", "Forgebind's install key is not in its Secret, so that a hook that is made now might not be known again after a restart.", "Ask the administrator of Forgebind to do what the message says: put the Secret back, or let Forgebind write it. The hook is made by itself a few minutes later.";
    RepositoryArchived: "WebhookInSync, Ready", "The repository is archived, so its hooks cannot be changed.", "Unarchive the repository at the provider, or remove `webhook` from the binding.";
    Observing: "WebhookInSync, Ready", "Something would be changed, but `managementPolicy` or `--read-only` forbids it. Ready stays True: that is what was asked for.", "Read `status.plan`; to have it done, set `managementPolicy: Manage` on the binding and its connection, and start Forgebind without `--read-only`.";
    RepairDidNotLast: "WebhookInSync, Ready", "The hook was repaired and is not as it should be again, or still.", "See at the provider who or what changes the fields that the message names: another tool, a person, or the server itself, which may not keep what it was given. It is repaired again by itself, with pauses that grow to a day.";
    RequestRejected: "WebhookInSync, Ready", "The provider refused the request as it was made.", "Do what the provider's words in the message ask for; then change `forgebind.dev/reconcile-requested-at` to try at once.";
    AwaitingFirstDelivery: "Receiving", "Nothing was delivered yet.", "Push something. If it stays so, see the deliveries of the hook in the provider's own settings: the provider must reach the host in `status.webhook.url`. Where it reaches another address of `--public-url`, choose that by `spec.receiver.publicURL` of the connection.";
    DeliveriesRefused: "Receiving", "Deliveries arrive that are not taken; the message has the cause, most often a wrong signature.", "See whether somebody changed the hook's secret at the provider, or whether a proxy changes the body; a new value for `forgebind.dev/rotate-requested-at` sets a new secret.";
    SinkFailing: "Delivering", "A sink does not accept; what is pending for it is kept in memory and sent again.", "Read `status.sinks` for the error and repair the sink; what is pending follows by itself. An event is given up after 24 hours, or after 15 minutes where the sink refuses the event itself.";
    SinkNotAllowed: "Delivering, Ready", "The installation does not allow this sink's host.", "Ask the administrator to add the host to `--allow-sink-hosts`, use https, or use a `service` sink of the own namespace.";
    SinkInvalid: "Delivering, Ready", "The sink names no usable address.", "Correct the field that the message names: `service.name`, `service.port`, `service.path` or `http.url`.";
    ManagedByAnotherInstallation: "Stalled", "Another installation of Forgebind manages this object, so this one keeps its hands off.", "Leave it to the other installation, or, when that one is gone, take the object over by removing `status.installation`, for example with `kubectl patch --subresource=status --type=json`; hooks of the other installation are not removed.";
    InvalidObject: "event", "The stored object does not fit the schema, most often because it was stored before the schema became stricter. It is told as an event.", "Correct the field that the message names; other objects go on meanwhile.";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_meaning_a_remedy_and_conditions_that_exist() {
        for reason in Reason::ALL {
            let (meaning, remedy) = (reason.meaning(), reason.remedy());
            for text in [meaning, remedy] {
                assert!(
                    text.len() > 10 && text.ends_with('.') && text.starts_with(|first: char| first.is_uppercase() || first == '`'),
                    "{reason}: {text:?}"
                );
            }
            assert_ne!(meaning, remedy, "{reason}");
            assert_eq!(remedy == "Nothing to do.", *reason == Reason::Succeeded, "{reason}: somebody reads this to know what to do");
            // A person has one object before them and is told of more than one kind of Secret.
            assert!(!remedy.contains("the same Secret") && !remedy.contains("into the Secret as"), "{reason}: which Secret?");
            for condition in reason.conditions().split(", ").filter(|name| !["all", "event"].contains(name)) {
                assert!(ConditionType::ALL.iter().any(|kind| kind.as_str() == condition), "{reason}: {condition}");
            }
        }
    }
}
