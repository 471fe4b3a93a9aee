//! All reading for one connection; failures are kept as data.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::connection_inputs::{self, ConnectionInputs};
use super::{plan, target, usage};
use crate::api::v1alpha1::connection::{CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{
    ConditionType, GitProviderConnection, ManagementPolicy, Permission, ProviderKind, RECONCILE_REQUESTED_AT, Reason,
};
use crate::controllers::gate::ActiveClient;
use crate::controllers::sessions::{ConditionFailure, Rejection, Session};
use crate::controllers::{View, requested};
use crate::network::Purpose;
use crate::providers::transport::TransportSettings;
use crate::providers::{Credential, Disposition, ErrorKind, PermissionFinding, Provider, ProviderError, registry};

/// What was seen.
pub struct Facts {
    /// The object.
    pub object: Arc<GitProviderConnection>,
    /// When.
    pub now: Timestamp,
    /// Our installation.
    pub fingerprint: String,
    /// The provider that the spec names.
    pub provider: Option<ProviderKind>,
    /// What the present or the last inspection found.
    pub session: Session,
    /// Kind, end and Secret of the credential; `None` while its Secret cannot be read.
    pub credential: Option<CredentialFacts>,
    /// The permissions that are needed, judged; empty while there is no inspection.
    pub permissions: Vec<(Permission, PermissionFinding)>,
    /// Whether it works since this inspection and may be written to, so that what was left behind can be removed now.
    pub begins_to_work: bool,
    /// Whether nothing may be written at the provider.
    pub observing: bool,
    /// Who uses the connection.
    pub usage: usage::Usage,
    /// Whether its namespace is being deleted.
    pub terminating: bool,
    /// Replaces the bounds of a cleanup that cannot be done.
    pub cleanup_timeout: Option<Duration>,
}

/// What is known of the credential without asking the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFacts {
    /// Its kind.
    pub kind: CredentialKind,
    /// When it ends, as the Secret or the spec declares.
    pub declared_expiry: Option<Timestamp>,
    /// Version of its Secret.
    pub secret_version: Option<String>,
}

/// Reads everything, and inspects the credential when that is due.
pub async fn observe(view: &View, object: Arc<GitProviderConnection>) -> Facts {
    let key = target(&object);
    let now = view.clock.now();
    let connection_inputs = connection_inputs::read(&*view.references, &object).await;
    let credential = connection_inputs.as_ref().ok().map(|connection_inputs| credential_facts(&object, connection_inputs));
    let (session, begins_to_work) = current_session(view, &object, connection_inputs, now).await;
    let usage = usage::of(view, &key);
    let permissions = judge(&session, &needed(&object, &usage));
    let terminating = view.is_terminating(&key.namespace);
    Facts {
        now,
        fingerprint: view.keys.fingerprint.clone(),
        provider: object.spec.provider.kind(),
        session,
        credential,
        permissions,
        begins_to_work,
        observing: is_observing(view, &object),
        usage,
        terminating,
        cleanup_timeout: view.settings.cleanup_timeout,
        object,
    }
}

/// The session as it is now: the known one while nothing calls for another look, else a fresh one; and whether that one
/// begins to work.
async fn current_session(
    view: &View,
    object: &GitProviderConnection,
    connection_inputs: Result<ConnectionInputs, ConditionFailure>,
    now: Timestamp,
) -> (Session, bool) {
    let key = target(object);
    let known = view.sessions.get(&key);
    let uid = object.uid().unwrap_or_default();
    let versions =
        connection_inputs.as_ref().map_or_else(|failure| failure.message.clone(), |connection_inputs| connection_inputs.versions.clone());
    let inputs = format!("generation={},{versions}", object.metadata.generation.unwrap_or_default());
    let handled = object.status.as_ref().and_then(|status| status.last_handled.as_ref()).and_then(|handled| handled.reconcile.as_ref());
    let asked = requested(object, RECONCILE_REQUESTED_AT, handled).is_some();
    if let Some(known) = &known
        && !plan::inspection_due(known, &uid, &inputs, now, asked)
    {
        return (known.clone(), false);
    }
    let failures = known.as_ref().map_or(0, |known| known.failures);
    let patience = plan::patience(known.as_ref());
    let began = Instant::now();
    let kind = connection_inputs.as_ref().ok().map(|connection_inputs| connection_inputs.declared.credential.kind());
    let (failure, active_client) = match inspect(view, object, connection_inputs, &inputs, asked, patience).await {
        Ok(active_client) => (None, Some(active_client)),
        Err(failure) => {
            let failure = naming_address(naming_certificates(failure, object), object);
            // A failure in the cluster has its remedy already.
            (
                Some(match kind {
                    Some(kind) => with_remedy(failure, object, kind),
                    None => failure,
                }),
                None,
            )
        }
    };
    let hung = failure.as_ref().is_some_and(ConditionFailure::is_outage) && began.elapsed() >= plan::SHORT_TIMEOUT;
    let failures = if failure.as_ref().is_some_and(ConditionFailure::is_outage) { failures.saturating_add(1) } else { 0 };
    let next = plan::next_inspection(failure.as_ref(), failures, object.spec.interval.length(), &uid, now);
    let works_since = failure.is_none().then(|| known.as_ref().and_then(|known| known.works_since).unwrap_or(now));
    let turned = known.is_none_or(|known| known.failure.is_some() || known.inputs != inputs);
    let begins_to_work = turned && failure.is_none() && !is_observing(view, object);
    let session =
        Session { uid, inputs, inspected_at: now, works_since, next, failures, hung, failure, active_client, inspection_requested: false };
    view.sessions.set(&key, session);
    // What was set is what is known: the last working client of the same object stays with it.
    let known = view.sessions.get(&key).unwrap_or_else(|| unreachable_session(now));
    // Its deletion may have been told while the provider was asked: nobody else would forget the credential then.
    if view.connection(&key).is_none() {
        super::forget(view, &key);
    }
    (known, begins_to_work)
}

fn is_observing(view: &View, object: &GitProviderConnection) -> bool {
    view.settings.read_only || object.spec.management_policy == ManagementPolicy::Observe
}

fn unreachable_session(now: Timestamp) -> Session {
    let failure = ConditionFailure::pending("the connection is gone");
    Session {
        uid: String::new(),
        inputs: String::new(),
        inspected_at: now,
        works_since: None,
        next: None,
        failures: 0,
        hung: false,
        failure: Some(failure),
        active_client: None,
        inspection_requested: false,
    }
}

async fn inspect(
    view: &View,
    object: &GitProviderConnection,
    connection_inputs: Result<ConnectionInputs, ConditionFailure>,
    inputs: &str,
    asked: bool,
    patience: Duration,
) -> Result<ActiveClient, ConditionFailure> {
    let provider = served(view, &object.spec.provider)?;
    let connection_inputs = connection_inputs?;
    let endpoint = provider.endpoint(&object.spec.provider).map_err(|error| failure_of(&error, None))?;
    for url in [&endpoint.web, &endpoint.api] {
        view.network.check(Purpose::Provider, url).map_err(|refusal| refused(&refusal))?;
    }
    let not_admitted = |message: String| ConditionFailure::new(ConditionType::Reachable, Reason::HostNotAllowed, message);
    view.clients.admit(&target(object), &endpoint, connection_inputs.proxy.as_ref()).map_err(not_admitted)?;
    let credential = connection_inputs.declared.credential.clone();
    let end = declared_expiry(object, &connection_inputs);
    let mut settings = TransportSettings {
        kind: provider.kind(),
        endpoint: &endpoint,
        credential_identity: String::new(),
        ca_pem: connection_inputs.ca_pem,
        client_identity: connection_inputs.client_identity,
        proxy: connection_inputs.proxy,
    };
    let rejection_key = rejection_key(view, endpoint.api.as_str(), &credential, &settings);
    settings.credential_identity.clone_from(&rejection_key);
    let expired_end = end.or_else(|| reported_expiry(object, connection_inputs.secret_version.as_ref()));
    let expired = expired_end.filter(|end| *end <= view.clock.now());
    view.sessions.uses(&target(object), &rejection_key, view.clock.now());
    if let Some(rejection) = view.sessions.rejected(&rejection_key, view.clock.now(), asked) {
        return Err(failure_of_rejection(&rejection, expired, &connection_inputs.declared.warnings));
    }
    let way = settings.way();
    let transport = view.transports.transport(settings).map_err(|error| failure_of(&error, None))?;
    let client =
        view.clients.connect(provider, endpoint.clone(), credential.clone(), transport).map_err(|error| failure_of(&error, expired))?;
    let inspection = tokio::time::timeout(patience, client.inspect()).await.unwrap_or_else(|_| {
        let message = format!("the provider did not answer within {} s", patience.as_secs());
        Err(ProviderError::new(ErrorKind::Transient, "inspect the credential", message))
    });
    match inspection {
        Ok(mut inspection) => {
            inspection.warnings.extend(connection_inputs.declared.warnings);
            Ok(ActiveClient::new(provider, endpoint, client, inspection, inputs.to_owned(), way))
        }
        Err(error) if is_refusal(error.kind) && matches!(credential, Credential::Anonymous) => Err(closed(&error)),
        Err(error) if error.kind == ErrorKind::Unauthenticated => {
            let probe_again = !matches!(credential, Credential::BasicAuth { .. });
            let rejection = view.sessions.reject(rejection_key, error, view.clock.now(), probe_again);
            Err(failure_of_rejection(&rejection, expired, &connection_inputs.declared.warnings))
        }
        Err(error) => Err(failure_of(&error, expired)),
    }
}

const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unauthenticated | ErrorKind::PermissionDenied)
}

/// A server that shows nothing to anybody, in the words of a condition.
fn closed(error: &ProviderError) -> ConditionFailure {
    let message = format!(
        "the server shows nothing without a credential ({error}); put one into a Secret of this namespace, under the key token or username \
         and password, and name that Secret in spec.credentials.secretRef.name"
    );
    ConditionFailure::new(ConditionType::Authenticated, Reason::CredentialNeeded, message)
}

/// A rejection in the words of a condition. What is known of the credential's end now decides, not what was known when the
/// provider was asked. What is to be noticed of the Secret may be why it is no good.
fn failure_of_rejection(rejection: &Rejection, expired: Option<Timestamp>, warnings: &[String]) -> ConditionFailure {
    let failure = failure_of(&rejection.error, expired);
    let message = std::iter::once(failure.message.as_str()).chain(warnings.iter().map(String::as_str)).collect::<Vec<_>>().join("; ");
    ConditionFailure { retry_at: rejection.probe_at, message, ..failure }
}

fn served(view: &View, spec: &ProviderSpec) -> Result<&'static dyn Provider, ConditionFailure> {
    let not_served = |message: String| ConditionFailure::new(ConditionType::Reachable, Reason::ProviderNotServed, message);
    let kind = spec.kind().ok_or_else(|| not_served("spec.provider needs exactly one member".to_owned()))?;
    if !view.settings.providers.contains(&kind) {
        return Err(not_served(format!("this installation does not serve {kind}; the flag --providers lists what it serves")));
    }
    registry::provider(kind).ok_or_else(|| not_served(format!("this build does not serve {kind}; use one that does")))
}

/// Tells a credential at an origin, without telling the credential: by a keyed hash. Somebody's own proxy or authority may answer
/// in the origin's place, so that the way there is a part of it: what is learnt on one way holds for no other.
fn rejection_key(view: &View, origin: &str, credential: &Credential, settings: &TransportSettings<'_>) -> String {
    format!("{origin} {}", view.keys.receiver.fingerprint(&[credential.identifying_text(), settings.way()]))
}

fn refused(refusal: &crate::network::Refusal) -> ConditionFailure {
    let reason = match refusal {
        refusal if refusal.is_insecure() => Reason::InsecureURL,
        _ => Reason::HostNotAllowed,
    };
    ConditionFailure::new(ConditionType::Reachable, reason, refusal.to_string())
}

/// An error of an inspection in the words of a condition.
#[must_use]
pub fn failure_of(error: &ProviderError, expired: Option<Timestamp>) -> ConditionFailure {
    use ConditionType::{Authenticated, Authorized, Reachable, Ready};
    let kind = error.kind.at_inspection();
    let mut disposition = kind.disposition();
    let (condition, reason) = match error.kind {
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied | ErrorKind::NotFound if expired.is_some() => {
            disposition = Disposition::CredentialRefused;
            (Authenticated, Reason::CredentialExpired)
        }
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => (Authenticated, Reason::CredentialRejected),
        ErrorKind::AppPasswordRetired => (Authenticated, Reason::AppPasswordRetired),
        ErrorKind::InstallationNotFound | ErrorKind::NotInstalled => (Authenticated, Reason::InstallationNotFound),
        ErrorKind::InstallationSuspended => (Authenticated, Reason::InstallationSuspended),
        ErrorKind::SingleSignOnRequired => (Authenticated, Reason::SingleSignOnRequired),
        ErrorKind::AccessPolicy => (Authenticated, Reason::AccessPolicyRefused),
        ErrorKind::CredentialKindNotAccepted => (Authenticated, Reason::SecretInvalid),
        ErrorKind::RateLimited => (Reachable, Reason::RateLimited),
        ErrorKind::Tls => (Reachable, Reason::TLSError),
        ErrorKind::Proxy => (Reachable, Reason::ProxyError),
        ErrorKind::HostNotAllowed => (Reachable, Reason::HostNotAllowed),
        ErrorKind::InsecureUrl => (Reachable, Reason::InsecureURL),
        ErrorKind::Unreachable | ErrorKind::Transient => (Reachable, Reason::Unreachable),
        ErrorKind::NotLeading => (Ready, Reason::Progressing),
        // What is spelled wrongly is no outage: it stays so until somebody corrects it.
        ErrorKind::EndpointInvalid => (Reachable, Reason::SpecInvalid),
        ErrorKind::NotFound => (Authorized, Reason::OwnerNotFound),
        ErrorKind::ResponseInvalid
        | ErrorKind::LimitReached
        | ErrorKind::TargetRefused
        | ErrorKind::Archived
        | ErrorKind::Rejected
        | ErrorKind::Conflict => (Reachable, Reason::ResponseInvalid),
    };
    let message = match (reason, expired) {
        (Reason::CredentialExpired, Some(end)) => format!("the credential expired at {end}: {error}"),
        (Reason::SpecInvalid, _) => error.message.clone(),
        _ => error.to_string(),
    };
    ConditionFailure { condition, reason, message, disposition, retry_at: error.retry_at }
}

/// Something other than the provider's API together with the address at which a person can see what it is.
fn naming_address(mut failure: ConditionFailure, object: &GitProviderConnection) -> ConditionFailure {
    let provider = object.spec.provider.kind().and_then(registry::provider).filter(|_| failure.reason == Reason::ResponseInvalid);
    if let Some((provider, endpoint)) = provider.and_then(|provider| Some((provider, provider.endpoint(&object.spec.provider).ok()?))) {
        failure.message = format!("{}; open {} to see what answers there", failure.message, provider.version_address(&endpoint));
    }
    failure
}

/// What the provider said, and what to do: with the Secret that holds what is no good, where it is that.
fn with_remedy(mut failure: ConditionFailure, object: &GitProviderConnection, kind: CredentialKind) -> ConditionFailure {
    // What is wrong may be the kind or the keys, which the message names then.
    let kind = Some(kind).filter(|_| !failure.message.contains("the keys "));
    let credential = |what: &str, kind| connection_inputs::place_of_credential(object, kind).map(|place| format!("{what} {place}"));
    let proxy = || {
        let reference = object.spec.proxy_secret_ref.as_ref()?;
        let namespace = target(object).namespace;
        Some(format!("check address and login in Secret {namespace}/{}, which proxySecretRef names", reference.name))
    };
    let words = |text: &str| Some(text.to_owned());
    let remedy = match failure.reason {
        Reason::CredentialExpired => credential("put a new one into", kind),
        Reason::CredentialRejected => credential("put a valid credential into", kind),
        Reason::AppPasswordRetired => credential("put it into", None),
        Reason::SecretInvalid => credential("correct", None),
        Reason::ProxyError => proxy(),
        Reason::InstallationNotFound => words("install the App at the owner, or correct the owner in provider"),
        Reason::InstallationSuspended => words("have an administrator of the organization resume it at the provider"),
        Reason::SingleSignOnRequired => words("authorize the token for the organization at the provider"),
        Reason::AccessPolicyRefused => words("have an administrator of the owner allow the cluster's addresses or the account"),
        Reason::OwnerNotFound => words("correct the owner or url in provider, or give the credential's account access to it"),
        _ => None,
    };
    if let Some(remedy) = remedy {
        failure.message = format!("{}; {remedy}", failure.message);
    }
    failure
}

/// A failure of TLS together with the objects that it may be about: what is wrong may be in any of them, or that there is none.
fn naming_certificates(mut failure: ConditionFailure, object: &GitProviderConnection) -> ConditionFailure {
    if failure.reason != Reason::TLSError {
        return failure;
    }
    let tls = object.spec.tls.as_ref();
    let authority = tls.and_then(|tls| tls.ca_ref.as_ref()).map_or_else(
        || "none, so the system's authorities count".to_owned(),
        |reference| format!("{:?} {}/{}", reference.kind.unwrap_or_default(), target(object).namespace, reference.name),
    );
    let client = tls
        .and_then(|tls| tls.client_certificate_ref.as_ref())
        .map_or_else(|| "none".to_owned(), |reference| format!("Secret {}/{}", target(object).namespace, reference.name));
    failure.message = format!("{} (tls.caRef: {authority}; tls.clientCertificateRef: {client})", failure.message);
    failure
}

fn credential_facts(object: &GitProviderConnection, connection_inputs: &ConnectionInputs) -> CredentialFacts {
    CredentialFacts {
        kind: connection_inputs.declared.credential.kind(),
        declared_expiry: declared_expiry(object, connection_inputs),
        secret_version: connection_inputs.secret_version.clone(),
    }
}

/// When the provider said that the credential ends, back when it still took it. A new Secret is another credential.
fn reported_expiry(object: &GitProviderConnection, secret_version: Option<&String>) -> Option<Timestamp> {
    let known = object.status.as_ref()?.credential.as_ref()?;
    known.expires_at.as_ref().filter(|_| known.secret_resource_version.as_ref() == secret_version).map(|end| end.0)
}

fn declared_expiry(object: &GitProviderConnection, connection_inputs: &ConnectionInputs) -> Option<Timestamp> {
    let spec = object.spec.credentials.as_ref().and_then(|credentials| credentials.expires_at.as_deref());
    connection_inputs.declared.expires_at.as_deref().and_then(plan::parse_expiry).or_else(|| spec.and_then(plan::parse_expiry))
}

fn needed(object: &GitProviderConnection, usage: &usage::Usage) -> BTreeSet<Permission> {
    object.spec.required_permissions.iter().copied().chain(usage.webhooks.then_some(Permission::ManageWebhooks)).collect()
}

fn judge(session: &Session, needed: &BTreeSet<Permission>) -> Vec<(Permission, PermissionFinding)> {
    let Some(active_client) = &session.active_client else { return Vec::new() };
    needed.iter().map(|permission| (*permission, active_client.permission(*permission))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn connection() -> GitProviderConnection {
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection", "metadata": {"name": "acme", "namespace": "team"},
            "spec": {
                "provider": {"github": {"organization": "acme"}}, "credentials": {"secretRef": {"name": "token"}},
                "proxySecretRef": {"name": "egress"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_a_person_has_to_do_is_said_with_the_secret_and_its_keys() {
        let expired: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let email = "the API takes it with the address only, under the keys email and token";
        let cases = [
            // (error, its words, kind of credential, whether its end is over, how the message ends)
            (
                ErrorKind::Unauthenticated,
                "401",
                CredentialKind::Token,
                false,
                "401; put a valid credential into Secret team/token, key token",
            ),
            (
                ErrorKind::PermissionDenied,
                "403",
                CredentialKind::BasicAuth,
                false,
                "403; put a valid credential into Secret team/token, keys username and password",
            ),
            (ErrorKind::Unauthenticated, "401", CredentialKind::Token, true, "401; put a new one into Secret team/token, key token"),
            (ErrorKind::Unauthenticated, email, CredentialKind::Token, false, "put a valid credential into Secret team/token"),
            (ErrorKind::AppPasswordRetired, "retired", CredentialKind::BasicAuth, false, "retired; put it into Secret team/token"),
            (ErrorKind::CredentialKindNotAccepted, "takes a token", CredentialKind::BasicAuth, false, "; correct Secret team/token"),
            (
                ErrorKind::Proxy,
                "407",
                CredentialKind::Token,
                false,
                "; check address and login in Secret team/egress, which proxySecretRef names",
            ),
            (
                ErrorKind::SingleSignOnRequired,
                "SAML",
                CredentialKind::Token,
                false,
                "authorize the token for the organization at the provider",
            ),
            (ErrorKind::NotFound, "404", CredentialKind::Token, false, "or give the credential's account access to it"),
            (ErrorKind::Unreachable, "no route", CredentialKind::Token, false, "inspect: no route"),
        ];
        for (error, words, kind, over, ends) in cases {
            let failure = failure_of(&ProviderError::new(error, "inspect", words), over.then_some(expired));
            let said = with_remedy(failure, &connection(), kind).message;
            assert!(said.ends_with(ends), "{error:?}: {said}");
        }
    }
}
