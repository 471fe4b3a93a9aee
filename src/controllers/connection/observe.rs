//! Performs all reads for one connection; failures are kept as data.

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

/// Facts about one connection: the input of planning.
pub struct Facts {
    /// The connection.
    pub object: Arc<GitProviderConnection>,
    /// Time of the reconciliation.
    pub now: Timestamp,
    /// Fingerprint of this installation.
    pub fingerprint: String,
    /// The provider in the spec; `None` if the spec names none or several.
    pub provider: Option<ProviderKind>,
    /// Session with the results of the present or the last inspection.
    pub session: Session,
    /// Kind, expiry and Secret version of the credential; `None` while its Secret cannot be read.
    pub credential: Option<CredentialFacts>,
    /// The needed permissions with their findings; empty without an active client.
    pub permissions: Vec<(Permission, PermissionFinding)>,
    /// Whether the connection works since this inspection and may be written to, so that leftover hooks can be removed now.
    pub begins_to_work: bool,
    /// Usage of the connection by bindings.
    pub usage: usage::Usage,
    /// Whether the namespace of the connection is being deleted.
    pub terminating: bool,
    /// Overrides the time limits of a blocked cleanup.
    pub cleanup_timeout: Option<Duration>,
}

/// Information about the credential that needs no call to the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFacts {
    /// Kind of the credential.
    pub kind: CredentialKind,
    /// Expiry that the Secret or the spec declares.
    pub declared_expiry: Option<Timestamp>,
    /// Resource version of the credential's Secret.
    pub secret_version: Option<String>,
}

/// Reads all facts, and inspects the credential if an inspection is due.
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
        usage,
        terminating,
        cleanup_timeout: view.settings.cleanup_timeout,
        object,
    }
}

/// Returns the known session unless an inspection is due, else a new one; and whether the connection begins to work with it.
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
            // Failures in the cluster already contain their remedy.
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
    // Reads the session back, because `set` keeps the last working client of the same object.
    let known = view.sessions.get(&key).unwrap_or_else(|| unreachable_session(now));
    // If the connection was deleted during the inspection, no other code would forget the credential.
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
        ca_pem: connection_inputs.ca_pem,
        client_identity: connection_inputs.client_identity,
        proxy: connection_inputs.proxy,
        ..provider.profile().transport_settings(&endpoint, "")
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

/// The failure for a server that shows nothing without a credential.
fn closed(error: &ProviderError) -> ConditionFailure {
    let message = format!(
        "the server shows nothing without a credential ({error}); put one into a Secret of this namespace, under the key token or username \
         and password, and name that Secret in spec.credentials.secretRef.name"
    );
    ConditionFailure::new(ConditionType::Authenticated, Reason::CredentialNeeded, message)
}

/// The failure for a refused credential. Uses the present information about the credential's expiry, not that at the time of the
/// refusal. Includes the Secret's warnings, because they may explain the refusal.
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

/// Key of a credential at an origin, made with a keyed hash so that it does not reveal the credential. A proxy or a certificate
/// authority of somebody else may answer in place of the origin, so the key includes the way to it: results from one way do not
/// count for another.
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

/// Maps an error of an inspection to the failure of a condition.
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
        // A wrong spelling is no outage: it lasts until somebody corrects it.
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

/// For an answer that does not come from the provider's API, adds the address at which a person can see what answers.
fn naming_address(mut failure: ConditionFailure, object: &GitProviderConnection) -> ConditionFailure {
    let provider = object.spec.provider.kind().and_then(registry::provider).filter(|_| failure.reason == Reason::ResponseInvalid);
    if let Some((provider, endpoint)) = provider.and_then(|provider| Some((provider, provider.endpoint(&object.spec.provider).ok()?))) {
        failure.message = format!("{}; open {} to see what answers there", failure.message, provider.version_address(&endpoint));
    }
    failure
}

/// Adds the remedy to a failure, with the name of the Secret if the problem is in it.
fn with_remedy(mut failure: ConditionFailure, object: &GitProviderConnection, kind: CredentialKind) -> ConditionFailure {
    // A message that names keys is about the kind or the keys, so the remedy must not repeat them.
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

/// Adds the referenced certificates to a TLS failure: the problem may be in any of them, or in the lack of one.
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

/// Expiry that the provider reported while it still accepted the credential. A new Secret version is another credential.
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
            // (error, its message, kind of credential, whether it has expired, end of the message)
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
