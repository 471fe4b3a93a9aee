//! Reads what the sinks of a binding name in Secrets and `ConfigMap`s of its namespace, and publishes it to the receivers, which read
//! no object of a tenant.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use kube::{Resource, ResourceExt as _};
use ring::digest::{SHA256, digest};
use secrecy::SecretString;

use super::user_secret;
use crate::api::v1alpha1::binding::{SigningSecretReference, SinkSpec};
use crate::api::v1alpha1::{CertificateAuthorityKind, CertificateAuthorityReference, RepoBinding};
use crate::controllers::{Context, View};
use crate::network;
use crate::protocol::signing_key::SigningKey;
use crate::protocol::sink_target::{NotServed, SinkNeeds, authorities_key_of, signing_key_of};
use crate::protocol::webhook_secrets::{Referenced, SinkSecrets, UserSecrets};
use crate::providers::secret_keys::SecretKeys;
use crate::providers::{ErrorKind, ProviderError};
use crate::text::wording;

/// Maximum size of a bundle of certificate authorities, in bytes: all bindings share the Secrets in which it is prepared.
const MOST_AUTHORITIES: usize = 16 * 1024;

/// What the sinks of a binding need, as it is in the cluster now.
#[derive(Clone, Debug, Default)]
pub struct PreparedSinks {
    /// What is usable, by name of the sink.
    pub sinks: BTreeMap<String, SinkSecrets>,
    /// The sinks for which something is missing or unusable.
    pub failures: Vec<(String, NotServed)>,
    /// Whether an object could not be read for a reason that says nothing about it. Nothing is published then.
    pub unknown: bool,
}

/// The digest of what was published, to notice a change.
pub type Published = [u8; 32];

impl PreparedSinks {
    /// What has to be published, if it differs from what was published before. `again` if the receivers' copy may have been lost.
    #[must_use]
    pub fn to_publish(&self, before: Option<Published>, again: bool) -> Option<Published> {
        let now = self.digest();
        let is_news = match before {
            Some(before) => before != now || (again && !self.sinks.is_empty()),
            None => !self.sinks.is_empty() || !self.failures.is_empty(),
        };
        (is_news && !self.unknown).then_some(now)
    }

    fn digest(&self) -> Published {
        let mut found = [0; 32];
        // Serialization does not fail; if it did, everything would be published at each reconciliation.
        let text = serde_json::to_vec(&self.sinks).unwrap_or_default();
        found.copy_from_slice(digest(&SHA256, &text).as_ref());
        found
    }
}

/// Reads what the sinks of a binding need.
pub async fn read(view: &View, object: &RepoBinding) -> PreparedSinks {
    let mut prepared = PreparedSinks::default();
    let namespace = object.namespace().unwrap_or_default();
    for sink in object.spec.sinks.iter().filter(|sink| sink.signing_secret().is_some() || sink.authorities().is_some()) {
        match of_sink(view, &namespace, sink).await {
            Ok(secrets) => drop(prepared.sinks.insert(sink.name.clone(), secrets)),
            Err(Failure::NotFound(message)) => prepared.failures.push((sink.name.clone(), NotServed::object_not_found(message))),
            Err(Failure::Unusable(message)) => prepared.failures.push((sink.name.clone(), NotServed::invalid(message))),
            Err(Failure::Unknown(message)) => {
                prepared.unknown = true;
                prepared.failures.push((sink.name.clone(), NotServed::missing(message)));
            }
        }
    }
    prepared
}

/// Why something is not prepared.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// The object does not exist. It may be created later.
    NotFound(String),
    /// The object may not be read, or its content is missing or wrong.
    Unusable(String),
    /// The API server did not answer.
    Unknown(String),
}

async fn of_sink(view: &View, namespace: &str, sink: &SinkSpec) -> Result<SinkSecrets, Failure> {
    let needs = SinkNeeds::of(sink);
    let kind = if sink.service.is_some() { "service" } else { "http" };
    let mut secrets = SinkSecrets::default();
    if let (Some(reference), Some(name)) = (sink.signing_secret(), needs.signing) {
        let named = format!("Secret {namespace}/{}, which {kind}.secretRef names", reference.name);
        let secret = found(&named, signing_key_of(reference), view.references.secret(namespace, &reference.name).await)?;
        let key = signing_key(&named, reference, &data(secret.data)).map_err(Failure::Unusable)?;
        secrets.signing = Some(Referenced::new(name, key));
    }
    if let (Some(reference), Some(name)) = (sink.authorities(), needs.authorities) {
        let of_kind = reference.kind.unwrap_or_default();
        let named = format!("{of_kind:?} {namespace}/{}, which {kind}.caRef names", reference.name);
        let key = authorities_key_of(reference);
        let data = match of_kind {
            CertificateAuthorityKind::Secret => data(found(&named, key, view.references.secret(namespace, &reference.name).await)?.data),
            CertificateAuthorityKind::ConfigMap => {
                let map = found(&named, key, view.references.config_map(namespace, &reference.name).await)?;
                let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
                text.chain(data(map.binary_data)).collect()
            }
        };
        secrets.authorities = Some(Referenced::new(name, authorities(&named, reference, &data).map_err(Failure::Unusable)?));
    }
    Ok(secrets)
}

fn data(data: Option<BTreeMap<String, ByteString>>) -> BTreeMap<String, Vec<u8>> {
    data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}

fn found<K: Resource>(named: &str, key: &str, answer: kube::Result<Option<K>>) -> Result<K, Failure> {
    match answer {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(Failure::NotFound(format!("{named}, does not exist; create it with the key {key}"))),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            Err(Failure::Unusable(format!("Forgebind is not allowed to read {named}; grant its service account the verb get on it")))
        }
        Err(error) => Err(Failure::Unknown(format!("{named}, could not be read: {}; retrying", wording::of_api_server(&error)))),
    }
}

fn signing_key(named: &str, reference: &SigningSecretReference, data: &BTreeMap<String, Vec<u8>>) -> Result<SecretString, String> {
    let (keys, key) = (SecretKeys(data), signing_key_of(reference));
    if !keys.has(key) {
        return Err(format!("{named}, has no key {key}; add it, or name another one in secretRef.key"));
    }
    let text = keys.shared(key).map_err(|error| format!("{named}: {error}"))?;
    SigningKey::parse(&text).map_err(|error| format!("{named}: the key {key} {error}"))?;
    Ok(text.into())
}

fn authorities(named: &str, reference: &CertificateAuthorityReference, data: &BTreeMap<String, Vec<u8>>) -> Result<SecretString, String> {
    let key = authorities_key_of(reference);
    let Some(pem) = data.get(key) else {
        return Err(format!("{named}, has no key {key}; add it, or name another one in caRef.key"));
    };
    if pem.len() > MOST_AUTHORITIES {
        return Err(format!(
            "{named}: the key {key} has {} bytes, but a sink's certificate authorities may have {MOST_AUTHORITIES}; leave only those \
             that signed the endpoint's certificate",
            pem.len()
        ));
    }
    let text = String::from_utf8(pem.clone()).ok().filter(|text| network::authorities(text.as_bytes()).is_some());
    let text = text.ok_or_else(|| format!("{named}: the key {key} contains no usable PEM certificate; put a CERTIFICATE block there"))?;
    Ok(text.into())
}

/// Publishes what the sinks need to the receivers, instead of what was there. The inner error means that there is no room for it.
pub async fn publish(context: &Context, object: &RepoBinding, prepared: &PreparedSinks) -> kube::Result<Result<(), ProviderError>> {
    let (namespace, uid) = (object.namespace().unwrap_or_default(), object.uid().unwrap_or_default());
    let edit = |known: UserSecrets| {
        let entry = UserSecrets { sinks: prepared.sinks.clone(), ..known };
        (!entry.sinks.is_empty() || !entry.secrets.is_empty()).then_some(entry)
    };
    let room = |data: &BTreeMap<String, ByteString>, entry: &ByteString| {
        let of_namespace = context.view.bindings.state_filter(|binding| binding.namespace().as_deref() == Some(&namespace));
        let uids: BTreeSet<String> = of_namespace.iter().filter_map(|binding| binding.uid()).collect();
        user_secret::has_room(data, &uid, entry.0.len(), &uids)
    };
    Ok(if user_secret::change(context, &uid, edit, room).await? {
        Ok(())
    } else {
        let message = format!(
            "the Secrets in which Forgebind prepares what sinks need have no room for more of namespace {namespace}: remove secretRef or \
             caRef from sinks that do not need it, or use smaller certificate bundles"
        );
        Err(ProviderError::new(ErrorKind::LimitReached, "prepare the sinks' secrets for the receivers", message))
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::{Value, json};

    use super::*;

    const NAMED: &str = "Secret team/ci-signing, which service.secretRef names";
    fn of(value: &str, key: &str) -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([(key.to_owned(), value.as_bytes().to_vec())])
    }

    fn reference<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_unusable_signing_key_is_reported_with_its_place_and_without_its_value() {
        let reference: SigningSecretReference = reference(json!({"name": "ci-signing"}));
        let read = |value: &str, key: &str| signing_key(NAMED, &reference, &of(value, key));
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(read(&format!("{good}\n"), "secret").unwrap().expose_secret(), good, "a line break at the end is no part of it");
        for (value, key, says) in [
            (good, "token", "has no key secret; add it, or name another one in secretRef.key"),
            ("canary", "secret", "the key secret has a key of 6 bytes, but it must have 24 to 64"),
            ("whsec_canary!", "secret", "the key secret is not valid: what follows whsec_ must be base64"),
            (" canary-canary-canary-canary", "secret", "the key secret begins or ends with white space"),
            ("", "secret", "the key secret is empty"),
        ] {
            let message = read(value, key).unwrap_err();
            assert!(message.contains(NAMED) && message.contains(says) && !message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn certificate_authorities_are_a_short_bundle_in_pem() {
        let reference: CertificateAuthorityReference = reference(json!({"name": "acme-ca"}));
        let named = "ConfigMap team/acme-ca, which http.caRef names";
        let read = |value: &str, key: &str| authorities(named, &reference, &of(value, key));
        let certificate = rcgen::generate_simple_self_signed(vec!["events.acme.io".into()]).unwrap().cert.pem();
        assert_eq!(read(&certificate, "ca.crt").unwrap().expose_secret(), certificate);
        let long = certificate.repeat(MOST_AUTHORITIES / certificate.len() + 1);
        for (value, key, says) in [
            (certificate.as_str(), "tls.crt", "has no key ca.crt"),
            ("no certificate", "ca.crt", "contains no usable PEM certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ca.crt", "contains no usable PEM certificate"),
            (&long, "ca.crt", "but a sink's certificate authorities may have 16384"),
        ] {
            let message = read(value, key).unwrap_err();
            assert!(message.contains(named) && message.contains(says), "{message}");
        }
    }

    #[test]
    fn only_a_change_is_published_and_nothing_that_is_not_known() {
        let nothing = PreparedSinks::default();
        assert_eq!(nothing.to_publish(None, true), None, "most bindings need nothing");
        let signing = |value: &str| Some(Referenced::new("ci/secret".to_owned(), value.into()));
        let with = |value: &str| PreparedSinks {
            sinks: BTreeMap::from([("ci".to_owned(), SinkSecrets { signing: signing(value), authorities: None })]),
            ..PreparedSinks::default()
        };
        let first = with("one").to_publish(None, false).unwrap();
        assert_eq!(with("one").to_publish(Some(first), false), None);
        assert_eq!(with("one").to_publish(Some(first), true), Some(first), "the copy may be lost");
        assert_ne!(with("two").to_publish(Some(first), false), Some(first));
        assert!(nothing.to_publish(Some(first), false).is_some(), "what is no longer named is withdrawn");
        let failures = vec![("ci".to_owned(), NotServed::invalid("gone"))];
        let gone = PreparedSinks { failures: failures.clone(), ..PreparedSinks::default() };
        assert!(gone.to_publish(None, false).is_some(), "an earlier process may have published it");
        let unknown = PreparedSinks { failures, unknown: true, ..PreparedSinks::default() };
        assert_eq!(unknown.to_publish(Some(first), true), None);
    }
}
