//! All condition types and reasons; each reason has a remedy.
//!
//! `src/docs/guide/reference/conditions.md` is generated from the tables here.

use std::fmt;

/// The kinds of objects that have a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `GitProviderConnection`.
    Connection,
    /// `RepoBinding`.
    Binding,
    /// Every kind.
    All,
}

macro_rules! condition_types {
    ($($variant:ident: $carrier:ident, $lowers:literal, $presence:literal, $meaning:literal;)*) => {
        /// Types of conditions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ConditionType {
            $(#[doc = $meaning] $variant,)*
        }

        impl ConditionType {
            /// Every type, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// What the condition means while it is True.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// The kinds that have the condition.
            #[must_use]
            pub const fn carrier(self) -> Carrier {
                match self { $(Self::$variant => Carrier::$carrier,)* }
            }

            /// When the condition is present.
            #[must_use]
            pub const fn presence(self) -> &'static str {
                match self { $(Self::$variant => $presence,)* }
            }

            /// How the condition affects Ready while it is False.
            #[must_use]
            pub const fn effect_on_ready(self) -> &'static str {
                match self { $(Self::$variant => $lowers,)* }
            }
        }
    };
}

condition_types! {
    Ready: All, "itself", "always", "Everything that the object requests is in place.";
    Reachable: Connection, "lowers it", "once the provider has been called", "The provider answers.";
    Authenticated: Connection, "lowers it", "once the credential has been tried", "The provider accepts the credential.";
    Authorized: Connection, "lowers it (Unknown does not)", "once the permissions have been checked", "The credential has the required permissions.";
    CredentialExpiring: Connection, "none", "while True", "The credential expires soon, or its declared expiry has passed.";
    EndpointReachable: Connection, "none", "while False", "The public URL at which the receiver gets deliveries answers, as seen from inside the cluster.";
    Cataloged: Connection, "none", "with `spec.catalog`, once the repositories have been listed", "The slices have every repository that the credential reaches and `spec.catalog` selects.";
    ConnectionReady: Binding, "lowers it (Unknown does not)", "once the connection has been checked", "The binding may use the connection, and the connection works.";
    RepositoryFound: Binding, "lowers it", "once the repository has been looked up", "The repository and the branch exist.";
    WebhookInSync: Binding, "lowers it, except with the reason Observing", "with `spec.webhook`, once the hooks have been listed", "The webhook at the provider matches the spec.";
    Receiving: Binding, "none", "while hooks deliver to Forgebind's receiver", "Deliveries arrive and are verified.";
    Delivering: Binding, "lowers it, except with the reason SinkFailing", "with `spec.sinks`", "The sinks accept the events that are sent to them.";
    CleanupBlocked: Binding, "none", "while True", "Hooks must be removed, but cannot be.";
    Reconciling: All, "none", "while True", "Work is in progress, or continues without intervention once the cause is gone.";
    Stalled: All, "none", "while True", "Nothing continues until a person acts.";
}

macro_rules! reasons {
    ($($variant:ident: $on:literal, $meaning:literal, $remedy:literal;)*) => {
        /// Reasons of conditions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The reason in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// The conditions with this reason, separated by commas, the main one first; `all`, or `event` for a reason
            /// that only Kubernetes events use.
            #[must_use]
            pub const fn conditions(self) -> &'static str {
                match self { $(Self::$variant => $on,)* }
            }

            /// What the reason means.
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
    Succeeded: "all", "Everything is in place.", "Nothing to do.";
    Suspended: "Ready", "`spec.suspend` is true on the object or on its connection.", "Set `spec.suspend` to false on the object and on its connection to continue.";
    Progressing: "Ready, Reconciling, CleanupBlocked", "Work is in progress, or waits for what the message names.", "Wait. If the same message stays for longer than the object's `interval`, resolve what it names: the provider's last error, or the condition that is waited for.";
    Unreachable: "Reachable, Ready", "The provider does not answer.", "Try the address with curl from a pod; check `url`, DNS, network policies and firewalls. Forgebind retries with increasing delays of at most a minute; hooks and routes stay as they are.";
    TLSError: "Reachable, Ready", "The provider's certificate is not trusted, or the TLS handshake failed.", "Put the certificate authority that signed the provider's certificate into a ConfigMap or Secret of the connection's namespace and reference it in `tls.caRef`; for a server that requests a client certificate, set `tls.clientCertificateRef`.";
    TLSReferenceNotFound: "Reachable, Ready", "`tls.caRef` or `tls.clientCertificateRef` references an object or key that is missing or unusable.", "Create the object and key that the message names, in the connection's namespace. Forgebind reads it within seconds.";
    HostNotAllowed: "Reachable, Ready", "The installation does not allow this host, or the address to which it resolves.", "Ask the administrator to add the host to `--allow-provider-hosts` (a proxy's host to `--allow-proxy-hosts`), or its address range to `--allow-cidrs` if it is loopback, link-local or in the cluster's own networks.";
    InsecureURL: "Reachable, Ready", "The provider's URL is http, which would send the credential unencrypted.", "Change `url` and `apiURL` to https. For local development only, start Forgebind with `--allow-insecure-http`.";
    ResponseInvalid: "Reachable, Ready", "A server answers, but not with the provider's API.", "Open the address that the message names: a login page, a proxy or another product may answer there. Correct `url`, or set `apiURL` if the API has another address.";
    SpecInvalid: "Reachable, RepositoryFound, Ready", "A field of the spec is not a valid address, owner or repository.", "Correct the field that the message names; the message has its value and the expected form. Forgebind does not call the provider until then.";
    ProxyError: "Reachable, Ready", "The proxy refuses the connection or cannot be reached.", "Check `address` in the Secret that `proxySecretRef` names (and `username` with `password` if the proxy requires them), and check that the proxy allows the provider's host.";
    RateLimited: "Reachable, Cataloged, Ready", "The provider's rate limit is exhausted.", "Wait: Forgebind continues at the time that the message names. If this happens again, increase `interval`, or use an account that nothing else uses.";
    ProviderNotServed: "Reachable, Ready", "This build or this installation does not support this provider.", "If the message names `--providers`, ask the administrator to add the provider there; otherwise use a build that supports it.";
    SecretNotFound: "Authenticated, Reachable, WebhookInSync, Delivering, Ready", "The Secret with the credential, the proxy, the webhook secret or a sink's signing key does not exist, or the object with a sink's certificate authorities.", "Create the object that the message names, in the namespace of the object. Forgebind reads it within seconds.";
    SecretForbidden: "Authenticated, Reachable, WebhookInSync, Ready", "Forgebind is not allowed to read Secrets in this namespace.", "Allow Forgebind's service account to get Secrets in this namespace (with a Role and a RoleBinding), or move the connection to a namespace where it is allowed to.";
    SecretInvalid: "Authenticated, Reachable, WebhookInSync, Ready", "The keys of the Secret with the credential, the proxy or the webhook secret are missing, empty, invalid or contradictory.", "Correct the keys that the message names. A credential is either `token`, or `username` with `password`; a proxy is `address`.";
    CredentialNeeded: "Authenticated, Ready", "The connection has no credential, and the provider requires one.", "Create a credential at the provider, put it into a Secret of the connection's namespace (under the key `token`, or `username` with `password`), and name that Secret in `spec.credentials.secretRef.name`.";
    CredentialRejected: "Authenticated, Ready", "The provider rejects the credential.", "Create a new credential at the provider and put it into the Secret that the message names; Forgebind tries it within seconds. Until then it does not try the rejected credential again (a token once an hour), so that the account does not get locked.";
    CredentialExpired: "Authenticated, CredentialExpiring, Ready", "The credential has expired.", "Create a new credential at the provider and put it into the Secret that the message names. If `expiresAt` was declared, correct it too.";
    AppPasswordRetired: "Authenticated, Ready", "Bitbucket Cloud no longer accepts app passwords.", "Create an API token and put it into the Secret that the message names, as `email` and `token`, without `username` and `password`.";
    InstallationNotFound: "Authenticated, Ready", "The GitHub App is not installed for this owner.", "Install the App for the owner that the connection names, or correct the owner.";
    InstallationSuspended: "Authenticated, Ready", "The installation of the GitHub App is suspended.", "Ask an administrator of the organization to unsuspend the installation at GitHub.";
    AccessPolicyRefused: "Authenticated, RepositoryFound, Ready", "A policy of the owner refuses requests from this cluster, with any credential: conditional access, or a list of allowed addresses.", "Ask an administrator of the owner to allow the addresses from which the cluster's requests come, or the credential's account; the message quotes the provider. The credential does not need to change.";
    SingleSignOnRequired: "Authenticated, Ready", "The token is not authorized for the organization's single sign-on.", "Authorize the token for the organization at the provider, on the page that lists the account's tokens.";
    EndpointUnreachable: "EndpointReachable", "A public URL of the receiver does not answer `HEAD /healthz`, as seen from inside the cluster, three times in a row.", "Try it with curl from outside and from a pod. Check its DNS name, its certificate, the Ingress or Gateway and the Service of the receiver. It lowers nothing, and a verified delivery within 10 minutes overrules it, because providers may reach what the cluster does not.";
    PermissionMissing: "Authorized, WebhookInSync, Cataloged, Ready", "The credential lacks a permission.", "Give the credential the scope that the message or the entry in `status.permissions` names (with a new token if scopes cannot be added), and the account the role at the repository; or remove the permission from `requiredPermissions`.";
    OwnerNotFound: "Authorized, Ready", "The provider shows no such owner (organization, collection or group) to this credential.", "Correct the owner or `url` in `spec.provider`, or give the credential's account access to the owner. Forgebind checks again at every `interval`.";
    CannotTell: "Authorized", "The provider does not report whether the credential has every permission.", "No action is needed, this is informational: Forgebind tries the operation and reports a refusal. The entries of `status.permissions` say why the permission is unknown.";
    ExpiresSoon: "CredentialExpiring", "The credential expires within `warnBefore`.", "Create a new credential at the provider before the time in the message and put it into the Secret that the message names.";
    ConnectionNotReady: "ConnectionReady, WebhookInSync, Ready", "The connection does not work, or is being deleted together with the hook that was made through it.", "Resolve what the conditions of the connection report; `kubectl get gpc` shows them. The binding then continues without intervention.";
    RefNotPermitted: "ConnectionReady, WebhookInSync, Ready", "The connection does not allow this binding. For security reasons the message does not say whether a connection of that name exists in another namespace.", "Check name and namespace in `connectionRef`. Then ask the connection's owner for a `ConnectionGrant` that covers this namespace and repository and, for a `webhook.url`, lists its host in `destinationHosts`; `forgebind can` shows the nearest one. A webhook that exists is removed at the time in the message, an hour after the last grant; deliveries are refused at once.";
    ConnectionNotFound: "ConnectionReady, WebhookInSync, Ready", "The connection does not exist in this namespace, or the selector of a grant selects none.", "Create the connection, or correct `connectionRef`; for a grant with `connectionSelector`, label a connection or correct the selector.";
    SelectorInvalid: "Ready", "A label selector of the grant is not valid, so the grant allows nothing.", "Correct the selector that the message names: an operator is In, NotIn, Exists or DoesNotExist, and only the first two have values.";
    ConnectionUnreachable: "ConnectionReady", "The connection's provider cannot be reached at the moment.", "Wait, or resolve what the conditions of the connection report. The hook stays, and deliveries are still accepted.";
    NotFoundOrHidden: "RepositoryFound, Ready", "The provider shows no such repository to this credential.", "Correct `repository`, or give the credential's account read access to it. Forgebind checks again every few minutes, or at once when `forgebind.dev/reconcile-requested-at` changes.";
    NotInstalled: "RepositoryFound, Ready", "The GitHub App is not installed on this repository, or the repository does not exist.", "Add the repository to the App's installation, or correct `repository`.";
    BranchNotFound: "RepositoryFound, Ready", "The repository does not have the branch.", "Correct `branch`, remove it, or push the branch. Forgebind checks again every few minutes.";
    OutOfScope: "RepositoryFound, Ready", "The repository is outside the owner or the host of the connection.", "Correct `repository`, or use a connection whose owner has the repository.";
    RepositoryReplaced: "RepositoryFound, Ready", "The path now leads to a different repository from the one that was bound.", "If the new repository is intended, delete the binding and create it again; if not, correct `repository`.";
    RepositoryMovedOutOfScope: "RepositoryFound, WebhookInSync, Ready", "The repository was renamed or moved to where the connection does not allow this binding, or the grant for its current path was withdrawn. Deliveries are no longer accepted, and the hook is removed: without a grant an hour later, outside the owner at once.", "Use a connection of the new owner, or ask for a `ConnectionGrant` that includes the new path.";
    ForeignHook: "WebhookInSync, Ready", "A hook that somebody else made already delivers to this URL.", "Remove that hook at the provider (the message has its id), or set `webhook.adopt: true` to adopt it.";
    HookLimitReached: "WebhookInSync, Ready", "The provider allows no more hooks on this repository.", "Remove hooks at the provider that are no longer needed. Forgebind then retries without intervention.";
    PausedAtProvider: "WebhookInSync, Ready", "Somebody paused the hook at the provider.", "Enable the hook again at the provider if you want it; Forgebind does not override a person's decision. To delete the hook, remove `webhook`.";
    DisabledByProvider: "WebhookInSync, Ready", "The provider disabled the hook after failures.", "Resolve the cause that the message names. Forgebind replaces the hook without intervention, at once and then with increasing delays; enable an adopted hook again at the provider.";
    EventNotSupported: "WebhookInSync, Ready", "The provider does not support an event.", "Remove the event that the message names from `webhook.events`.";
    PublicURLMissing: "WebhookInSync, Ready", "Forgebind does not know at which URL this connection's provider reaches its receiver.", "Set `spec.receiver.publicURL` of the connection to one of the names in the message, ask the administrator to start Forgebind with such a URL in `--public-url`, or set `webhook.url` with `webhook.secretRef`. An existing hook stays and continues to deliver.";
    PublicURLRefused: "WebhookInSync, Ready", "The provider refuses to deliver to this URL.", "Use a URL that the provider accepts, or ask the provider's administrator to allow it; the message quotes the provider.";
    ClaimedByAnother: "WebhookInSync, Ready", "Another binding already has a hook for this repository and this `webhook.url`.", "Delete one of the two bindings, or give this one another `webhook.url`. This binding takes over without intervention when the other one is gone.";
    HookUnderAnotherHost: "WebhookInSync, Ready", "A hook with this binding's identity delivers to another host.", "If that host was this installation's public URL, name it in `--former-public-urls`, and Forgebind moves the hook. If it belongs to the cluster from which this one was copied, leave the hook in place and give this installation an install key of its own: stop Forgebind, remove the copied Secret `forgebind-install-key` and start once with `--new-install-key`.";
    InstallKeyNotStored: "WebhookInSync, Ready", "Forgebind's install key is not in its Secret, so a hook that is made now might not be recognised after a restart.", "Ask the administrator of Forgebind to follow the message: restore the Secret, or let Forgebind write it. Forgebind then makes the hook within a few minutes.";
    RepositoryArchived: "WebhookInSync, Ready", "The repository is archived, so its hooks cannot be changed.", "Unarchive the repository at the provider, or remove `webhook` from the binding.";
    Observing: "WebhookInSync, Ready", "There is something to change, but `managementPolicy` or `--read-only` forbids it. Ready stays True, because this was requested.", "Read `status.plan`. To apply it, set `managementPolicy: Manage` on the binding and its connection, and start Forgebind without `--read-only`.";
    RepairDidNotLast: "WebhookInSync, Ready", "The hook was repaired, but does not match the spec again, or still.", "Find out at the provider what changes the fields that the message names: another tool, a person, or the server itself, which may not store what it is given. Forgebind repairs the hook again, with delays that increase to a day.";
    RequestRejected: "WebhookInSync, Ready", "The provider rejected the request.", "Follow the provider's error in the message; then change `forgebind.dev/reconcile-requested-at` to retry at once.";
    AwaitingFirstDelivery: "Receiving", "No delivery has arrived yet.", "Push a commit. If nothing arrives, check the hook's deliveries in the provider's settings: the provider must be able to reach the host in `status.webhook.url`. If it can reach another URL of `--public-url`, select that one with `spec.receiver.publicURL` of the connection.";
    DeliveriesRefused: "Receiving", "Deliveries arrive and are refused; the message has the cause, usually a wrong signature.", "Check whether somebody changed the hook's secret at the provider, or whether a proxy changes the body. A new value for `forgebind.dev/rotate-requested-at` sets a new secret.";
    SinkFailing: "Delivering", "A sink does not accept events; pending events are kept in the outbox and sent again.", "Read the error in `status.sinks` and repair the sink; pending events are then sent without intervention. An event becomes a dead letter 72 hours after its arrival; `forgebind.dev/redeliver-requested-at` sends dead letters again.";
    EventsDropped: "Delivering, Ready", "The binding's share of the outbox is full, so its oldest pending events were dropped in the last hour.", "Repair the sink that the message names. What was dropped is not sent again; redeliver it at the provider if it is needed.";
    OutboxUnavailable: "Delivering, Ready", "A receiver can write its outbox neither to its disk nor to memory, so it answers 503 to deliveries that a sink does not accept at once.", "Ask the administrator of Forgebind to repair the disk of the receiver's outbox. The provider may send the refused deliveries again by itself; otherwise redeliver them at the provider afterwards.";
    SinkNotAllowed: "Delivering, Ready", "The installation does not allow this sink's host, or nothing may be sent to its Service.", "For an `http` sink, ask the administrator to add the host to `--allow-sink-hosts`, and use https. A `service` sink needs a Service with a selector and a ClusterIP; one of another namespace also needs the annotation `forgebind.dev/deliver-from`. Events for such a Service are pending meanwhile.";
    SinkInvalid: "Delivering, Ready", "The sink names no usable address, or a Secret or certificate authorities that are unusable.", "Correct the field that the message names, such as `service.port` or `http.url`, or the object that `secretRef` or `caRef` names. Until then nothing is sent unsigned: events are pending.";
    ListingFailed: "Cataloged", "The list of the repositories could not be read to its end. New repositories may have been added to the slices; none was removed.", "Wait: Forgebind lists again with increasing delays of at most an hour. If the message stays, resolve what it quotes. It lowers nothing.";
    Truncated: "Cataloged", "The credential reaches more than 20,000 repositories, and the slices have the first 20,000 that `spec.catalog` selects.", "Select fewer repositories with `spec.catalog.include` and `exclude`, or use several connections, one for each project or group.";
    ManagedByAnotherInstallation: "Stalled", "Another installation of Forgebind manages this object, so this one does not touch it.", "Leave the object to the other installation. If that installation is gone, take the object over by removing `status.installation`, for example with `kubectl patch --subresource=status --type=json`; the other installation's hooks are not removed.";
    InvalidObject: "event", "The stored object does not match the schema, usually because it was stored before the schema became stricter. Reported as an event.", "Correct the field that the message names; other objects are not affected.";
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
            // A user reads the remedy of one object, and there is more than one kind of Secret.
            assert!(!remedy.contains("the same Secret") && !remedy.contains("into the Secret as"), "{reason}: which Secret?");
            for condition in reason.conditions().split(", ").filter(|name| !["all", "event"].contains(name)) {
                assert!(ConditionType::ALL.iter().any(|kind| kind.as_str() == condition), "{reason}: {condition}");
            }
        }
    }
}
