//! Makes every read at the provider for one connection: the inspection of its credential. Failures are kept as data.

use tokio::time::Instant;

use super::connection_inputs::ConnectionInputs;
use super::failure::{closed, explained, failure_of, failure_of_rejection, refused};
use super::schedule;
use super::snapshot::Snapshot;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::connection::ProviderSpec;
use crate::api::v1alpha1::{ConditionType, Reason};
use crate::controllers::View;
use crate::controllers::gate::ActiveClient;
use crate::controllers::sessions::{ConditionFailure, CredentialUse, Rejection};
use crate::network::Purpose;
use crate::providers::transport::TransportSettings;
use crate::providers::{Credential, ErrorKind, Provider, ProviderError, registry};

/// Result of one inspection.
pub struct Probe {
    /// The client with the results of the inspection, or why the connection does not work.
    pub result: Result<ActiveClient, ConditionFailure>,
    /// Whether the provider did not answer in time.
    pub hung: bool,
    /// The credential that was inspected; `None` if the inspection ended before it had one.
    pub credential: Option<CredentialUse>,
}

impl Probe {
    /// Inspects the credential of a connection. Changes nothing but the claim of an attempt with a rejected credential
    /// ([`Sessions::rejected`](crate::controllers::Sessions::rejected)), which must precede the attempt.
    pub async fn run(view: &View, snapshot: &Snapshot) -> Self {
        let began = Instant::now();
        let mut credential = None;
        let result = inspect(view, snapshot, &mut credential).await.map_err(|failure| {
            let kind = snapshot.inputs.as_ref().ok().map(|inputs| inputs.declared.credential.kind());
            explained(failure, &snapshot.object, kind)
        });
        let hung = result.as_ref().is_err_and(ConditionFailure::is_outage) && began.elapsed() >= schedule::SHORT_TIMEOUT;
        Self { result, hung, credential }
    }
}

/// Inspects the credential. `used` becomes the credential once it is known.
async fn inspect(view: &View, snapshot: &Snapshot, used: &mut Option<CredentialUse>) -> Result<ActiveClient, ConditionFailure> {
    let object = &*snapshot.object;
    let provider = served(view, &object.spec.provider)?;
    let ConnectionInputs { declared, ca_pem, client_identity, proxy, secret_version, .. } = snapshot.inputs.clone()?;
    let endpoint = provider.endpoint(&object.spec.provider).map_err(|error| failure_of(&error, None))?;
    for url in [&endpoint.web, &endpoint.api] {
        view.network.check(Purpose::Provider, url).map_err(|refusal| refused(&refusal))?;
    }
    let not_admitted = |message: String| ConditionFailure::new(ConditionType::Reachable, Reason::HostNotAllowed, message);
    view.clients.admit(&ConnectionTarget::of(object), &endpoint, proxy.as_ref()).map_err(not_admitted)?;
    let credential = declared.credential;
    let mut settings = TransportSettings { ca_pem, client_identity, proxy, ..provider.profile().transport_settings(&endpoint, "") };
    let key = rejection_key(view, endpoint.api.as_str(), &credential, &settings);
    settings.credential_identity.clone_from(&key);
    let end = schedule::declared_expiry(snapshot).or_else(|| schedule::reported_expiry(object, secret_version.as_ref()));
    let expired = end.filter(|end| *end <= snapshot.now);
    let credential_use = used.insert(CredentialUse { key, rejection: None });
    if let Some(rejection) = view.sessions.rejected(&credential_use.key, snapshot.now, snapshot.inspection_requested()) {
        return Err(failure_of_rejection(&rejection, expired, &declared.warnings));
    }
    let way = settings.way();
    let transport = view.transports.transport(settings).map_err(|error| failure_of(&error, None))?;
    let client =
        view.clients.connect(provider, endpoint.clone(), credential.clone(), transport).map_err(|error| failure_of(&error, expired))?;
    let patience = schedule::patience(snapshot.session.as_ref());
    let inspection = tokio::time::timeout(patience, client.inspect()).await.unwrap_or_else(|_| {
        let message = format!("the provider did not answer within {} s", patience.as_secs());
        Err(ProviderError::new(ErrorKind::Transient, "inspect the credential", message))
    });
    match inspection {
        Ok(mut inspection) => {
            inspection.warnings.extend(declared.warnings);
            Ok(ActiveClient::new(provider, endpoint, client, inspection, snapshot.inputs_version(), way))
        }
        Err(error) if is_refusal(error.kind) && matches!(credential, Credential::Anonymous) => Err(closed(&error)),
        Err(error) if error.kind == ErrorKind::Unauthenticated => {
            let probe_again = !matches!(credential, Credential::BasicAuth { .. });
            let rejection = credential_use.rejection.insert(Rejection::new(error, view.clock.now(), probe_again));
            Err(failure_of_rejection(rejection, expired, &declared.warnings))
        }
        Err(error) => Err(failure_of(&error, expired)),
    }
}

const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unauthenticated | ErrorKind::PermissionDenied)
}

fn served(view: &View, spec: &ProviderSpec) -> Result<&'static dyn Provider, ConditionFailure> {
    let not_served = |message: String| ConditionFailure::new(ConditionType::Reachable, Reason::ProviderNotServed, message);
    let kind = spec.kind().ok_or_else(|| not_served("spec.provider must have exactly one member".to_owned()))?;
    if !view.settings.providers.contains(&kind) {
        return Err(not_served(format!("this installation does not support {kind}; ask its administrator to add it to --providers")));
    }
    registry::provider(kind).ok_or_else(|| not_served(format!("this build does not support {kind}; use one that does")))
}

/// Key of a credential at an origin, made with a keyed hash so that it does not reveal the credential. A proxy or a certificate
/// authority of somebody else may answer in place of the origin, so the key includes the way to it: results from one way do not
/// count for another.
fn rejection_key(view: &View, origin: &str, credential: &Credential, settings: &TransportSettings<'_>) -> String {
    format!("{origin} {}", view.keys.receiver.fingerprint(&[credential.identifying_text(), settings.way()]))
}
