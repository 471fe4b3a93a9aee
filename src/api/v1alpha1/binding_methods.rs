//! What a `RepoBinding` tells about itself, from its own spec and status alone.

use std::collections::BTreeSet;

use url::Url;

use super::binding::{ConnectionTarget, HookTarget, RepoBinding, RepositoryStatus, SigningSecretReference, SinkSpec, WebhookStatus};
use super::shared::{CertificateAuthorityKind, CertificateAuthorityReference, DeletionPolicy, EventKind};

impl SinkSpec {
    /// The Secret with which events are signed.
    #[must_use]
    pub fn signing_secret(&self) -> Option<&SigningSecretReference> {
        let by_service = self.service.as_ref().and_then(|service| service.secret_ref.as_ref());
        by_service.or_else(|| self.http.as_ref().and_then(|http| http.secret_ref.as_ref()))
    }

    /// The certificate authorities that are trusted instead of those of the system.
    #[must_use]
    pub fn authorities(&self) -> Option<&CertificateAuthorityReference> {
        self.http.as_ref().and_then(|http| http.ca_ref.as_ref())
    }
}

impl RepoBinding {
    /// Namespace of the connection that this binding names.
    #[must_use]
    pub fn connection_namespace(&self) -> &str {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        self.spec.connection_ref.namespace.as_deref().unwrap_or(own)
    }

    /// The locations that the status names: where hooks are, were, or are about to be.
    pub fn hook_targets(&self) -> impl Iterator<Item = &HookTarget> {
        let webhook = self.status.as_ref().and_then(|status| status.webhook.as_ref());
        webhook.into_iter().flat_map(|webhook| webhook.target.iter().chain(&webhook.former_targets))
    }

    /// Whether what changes of a connection concerns this binding: it names it, or may have a hook made through it.
    #[must_use]
    pub fn is_about(&self, connection: &ConnectionTarget) -> bool {
        self.connection_target() == *connection || self.hook_targets().any(|target| target.connection == *connection)
    }

    /// The connection that this binding names.
    #[must_use]
    pub fn connection_target(&self) -> ConnectionTarget {
        ConnectionTarget { namespace: self.connection_namespace().to_owned(), name: self.spec.connection_ref.name.clone() }
    }

    /// Whether somebody deleted the object.
    #[must_use]
    pub const fn is_being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The custom URL in the spec; `None` if the hook delivers to our receiver.
    #[must_use]
    pub fn custom_url(&self) -> Option<Url> {
        let url = self.spec.webhook.as_ref()?.url.as_ref()?;
        Url::parse(&url.0).ok()
    }

    /// Names of the Secrets that the spec refers to.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let webhook = self.spec.webhook.as_ref().and_then(|webhook| webhook.secret_ref.as_ref());
        let signing = self.spec.sinks.iter().filter_map(|sink| sink.signing_secret());
        let authorities = self.authorities_of_kind(CertificateAuthorityKind::Secret);
        let webhook = webhook.map(|reference| reference.name.as_str()).into_iter();
        webhook.chain(signing.map(|reference| reference.name.as_str())).chain(authorities)
    }

    /// Names of the `ConfigMap`s that the spec refers to.
    pub fn config_map_names(&self) -> impl Iterator<Item = &str> {
        self.authorities_of_kind(CertificateAuthorityKind::ConfigMap)
    }

    fn authorities_of_kind(&self, kind: CertificateAuthorityKind) -> impl Iterator<Item = &str> {
        let references = self.spec.sinks.iter().filter_map(SinkSpec::authorities);
        references.filter(move |reference| reference.kind.unwrap_or_default() == kind).map(|reference| reference.name.as_str())
    }

    /// Whether any sink needs a Secret or certificate authorities.
    #[must_use]
    pub fn sinks_need_secrets(&self) -> bool {
        self.spec.sinks.iter().any(|sink| sink.signing_secret().is_some() || sink.authorities().is_some())
    }

    /// Events for which the binding requests a hook.
    #[must_use]
    pub fn hook_events(&self) -> BTreeSet<EventKind> {
        self.spec.webhook.iter().flat_map(|webhook| webhook.events.iter().copied()).collect()
    }

    /// Whether the deletion policy leaves hooks where they are.
    #[must_use]
    pub fn orphans(&self) -> bool {
        self.spec.deletion_policy == DeletionPolicy::Orphan
    }

    /// The repository that was found last.
    #[must_use]
    pub fn known_repository(&self) -> Option<&RepositoryStatus> {
        self.status.as_ref()?.repository.as_ref()
    }

    /// The state of the webhook as it was written last.
    #[must_use]
    pub fn webhook_status(&self) -> Option<&WebhookStatus> {
        self.status.as_ref()?.webhook.as_ref()
    }

    /// Whether the status contains the hooks that were created. A lost status does not, nor does one written just before the
    /// first creation.
    #[must_use]
    pub fn tells_of_hooks(&self) -> bool {
        self.webhook_status().is_some_and(|webhook| webhook.secret_version.is_some())
    }

    /// Ids of the hooks that were somebody else's before, according to the status.
    #[must_use]
    pub fn adopted_hooks(&self) -> BTreeSet<String> {
        let hooks = self.webhook_status().map(|webhook| webhook.hooks.as_slice()).unwrap_or_default();
        hooks.iter().filter(|hook| hook.adopted).map(|hook| hook.id.clone()).collect()
    }
}
