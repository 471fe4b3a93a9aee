//! Why a connection does not work: maps errors to the failure of a condition, with the remedy for its owner. Pure.

use jiff::Timestamp;

use super::connection_inputs;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::connection::CredentialKind;
use crate::api::v1alpha1::{ConditionType, GitProviderConnection, Reason};
use crate::controllers::sessions::{ConditionFailure, Rejection};
use crate::network::Refusal;
use crate::providers::{Disposition, ErrorKind, ProviderError, registry};

/// Adds to the failure of an inspection what its owner needs to resolve it. `kind`: the kind of the credential; `None` if the
/// failure is in the cluster, whose message already has its remedy.
#[must_use]
pub fn explained(failure: ConditionFailure, object: &GitProviderConnection, kind: Option<CredentialKind>) -> ConditionFailure {
    let failure = naming_address(naming_certificates(failure, object), object);
    match kind {
        Some(kind) => with_remedy(failure, object, kind),
        None => failure,
    }
}

/// The failure for a server that shows nothing without a credential.
#[must_use]
pub fn closed(error: &ProviderError) -> ConditionFailure {
    let message = format!(
        "the server requires a credential ({error}); put one into a Secret of this namespace, under the key token or username \
         and password, and name that Secret in spec.credentials.secretRef.name"
    );
    ConditionFailure::new(ConditionType::Authenticated, Reason::CredentialNeeded, message)
}

/// The failure for a refused credential. Uses the present information about the credential's expiry, not that at the time of the
/// refusal. Includes the Secret's warnings, because they may explain the refusal.
#[must_use]
pub fn failure_of_rejection(rejection: &Rejection, expired: Option<Timestamp>, warnings: &[String]) -> ConditionFailure {
    let failure = failure_of(&rejection.error, expired);
    let message = std::iter::once(failure.message.as_str()).chain(warnings.iter().map(String::as_str)).collect::<Vec<_>>().join("; ");
    ConditionFailure { retry_at: rejection.probe_at, message, ..failure }
}

/// The failure for a host or URL that the network rules refuse.
#[must_use]
pub fn refused(refusal: &Refusal) -> ConditionFailure {
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
        let namespace = ConnectionTarget::of(object).namespace;
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
        Reason::InstallationSuspended => words("ask an administrator of the organization to unsuspend it at the provider"),
        Reason::SingleSignOnRequired => words("authorize the token for the organization at the provider"),
        Reason::AccessPolicyRefused => words("ask an administrator of the owner to allow the cluster's addresses or the account"),
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
        || "none, so those of the system are trusted".to_owned(),
        |reference| format!("{:?} {}/{}", reference.kind.unwrap_or_default(), ConnectionTarget::of(object).namespace, reference.name),
    );
    let client = tls
        .and_then(|tls| tls.client_certificate_ref.as_ref())
        .map_or_else(|| "none".to_owned(), |reference| format!("Secret {}/{}", ConnectionTarget::of(object).namespace, reference.name));
    failure.message = format!("{} (tls.caRef: {authority}; tls.clientCertificateRef: {client})", failure.message);
    failure
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
