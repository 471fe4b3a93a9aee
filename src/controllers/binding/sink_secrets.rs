//! Reads what the sinks of a binding name in Secrets and `ConfigMap`s of its namespace, and publishes it to the receivers, which read
//! no object of a tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use kube::ResourceExt as _;
use secrecy::SecretString;

use super::memory::BindingMemory;
use super::prepared::{self, Digest, PreparedEntry, Room};
use super::shard_store;
use crate::api::v1alpha1::binding::{SigningSecretReference, SinkSpec};
use crate::api::v1alpha1::{CertificateAuthorityKind, CertificateAuthorityReference, RepoBinding};
use crate::controllers::{Context, View};
use crate::network;
use crate::protocol::signing_key::SigningKey;
use crate::protocol::sink_target::{NotServed, SinkNeeds, authorities_key_of, signing_key_of};
use crate::protocol::webhook_secrets::{Referenced, SinkSecrets, UserSecrets};
use crate::providers::secret_keys::SecretKeys;
use crate::text::wording;

/// Maximum size of a bundle of certificate authorities, in bytes: all bindings share the Secrets in which it is prepared.
const MOST_AUTHORITIES: usize = 16 * 1024;

/// Maximum size of what the sinks of one binding need, in bytes.
const MOST_OF_BINDING: usize = 64 * 1024;

/// What the sinks of a binding need, as it is in the cluster now.
#[derive(Clone, Debug, Default)]
pub struct PreparedSinks {
    /// What is usable, by name of the sink. Empty while `is_published`.
    pub sinks: BTreeMap<String, SinkSecrets>,
    /// The sinks for which something is missing or unusable.
    pub failures: Vec<(String, NotServed)>,
    /// Whether an object could not be read for a reason that says nothing about it. Nothing is published then.
    pub unknown: bool,
    /// Whether nothing was read, because nothing has changed since the receivers got what the sinks need.
    pub is_published: bool,
    /// What the next reconciliation may rely on; `None` if it must read again.
    pub remembered: Option<SinksRead>,
}

/// What was read for the sinks of a binding, without the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinksRead {
    at: Timestamp,
    generation: i64,
    /// The binding's count of changed references before they were read.
    changes: u64,
    digest: Option<Digest>,
    failures: Vec<(String, NotServed)>,
}

impl SinksRead {
    /// Whether reading again would find the same, and the receivers have it, or may not get it.
    fn counts(&self, object: &RepoBinding, changes: u64, granted: bool, entry: &PreparedEntry, now: Timestamp) -> bool {
        let is_young = SignedDuration::try_from(object.spec.interval.length()).is_ok_and(|interval| now.duration_since(self.at) < interval);
        is_young
            && self.generation == object.metadata.generation.unwrap_or_default()
            && self.changes == changes
            && (!granted || entry.has_sinks(self.digest))
    }
}

impl PreparedSinks {
    /// Whether something has to be published: the receivers do not have what the sinks need, or have more.
    #[must_use]
    pub fn is_to_publish(&self, entry: &PreparedEntry) -> bool {
        if self.unknown || self.is_published {
            return false;
        }
        match entry {
            PreparedEntry::Read(_) => !entry.has_sinks(prepared::measure(&self.sinks).0),
            // An earlier process may have published what is unusable now.
            PreparedEntry::Unread => !self.sinks.is_empty() || !self.failures.is_empty(),
        }
    }
}

/// Reads what the sinks of a binding need, unless it was read before and nothing has changed since. `granted`: whether it may be
/// published.
pub async fn read(view: &View, object: &RepoBinding, memory: &BindingMemory, granted: bool, entry: &PreparedEntry) -> PreparedSinks {
    let mut prepared = PreparedSinks::default();
    if !object.sinks_need_secrets() {
        return prepared;
    }
    let now = view.clock.now();
    if let Some(known) = memory.sinks_read.as_ref().filter(|known| known.counts(object, memory.changed_references, granted, entry, now)) {
        return PreparedSinks { failures: known.failures.clone(), is_published: true, remembered: Some(known.clone()), ..prepared };
    }
    let mut references = References { view, namespace: object.namespace().unwrap_or_default(), read: BTreeMap::new() };
    let mut size = 0;
    for sink in object.spec.sinks.iter().filter(|sink| sink.signing_secret().is_some() || sink.authorities().is_some()) {
        let found = references.of_sink(sink).await.and_then(|secrets| within_limit(&sink.name, secrets, &mut size));
        match found {
            Ok(secrets) => drop(prepared.sinks.insert(sink.name.clone(), secrets)),
            Err(Failure::NotFound(message)) => prepared.failures.push((sink.name.clone(), NotServed::object_not_found(message))),
            Err(Failure::Unusable(message)) => prepared.failures.push((sink.name.clone(), NotServed::invalid(message))),
            Err(Failure::Unknown(message)) => {
                prepared.unknown = true;
                prepared.failures.push((sink.name.clone(), NotServed::missing(message)));
            }
        }
    }
    prepared.remembered = (!prepared.unknown).then(|| SinksRead {
        at: now,
        generation: object.metadata.generation.unwrap_or_default(),
        changes: memory.changed_references,
        digest: prepared::measure(&prepared.sinks).0,
        failures: prepared.failures.clone(),
    });
    prepared
}

/// Refuses a sink with which a binding would need more than its share.
fn within_limit(name: &str, secrets: SinkSecrets, size: &mut usize) -> Result<SinkSecrets, Failure> {
    let all = *size + prepared::measure(&BTreeMap::from([(name.to_owned(), secrets.clone())])).1;
    if all > MOST_OF_BINDING {
        return Err(Failure::Unusable(format!(
            "the keys and certificate authorities of the binding's sinks have {all} bytes up to this one, but may have {MOST_OF_BINDING}; use \
             smaller certificate bundles in caRef"
        )));
    }
    *size = all;
    Ok(secrets)
}

/// Why something is not prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    /// The object does not exist. It may be created later.
    NotFound(String),
    /// The object may not be read, or its content is missing or wrong.
    Unusable(String),
    /// The API server did not answer.
    Unknown(String),
}

/// The content of an object, or why it could not be read.
#[derive(Clone)]
enum Content {
    Found(Arc<BTreeMap<String, Vec<u8>>>),
    NotFound,
    Forbidden,
    Unknown(String),
}

/// The objects that the sinks of a binding name. Each is read once, however many sinks name it.
struct References<'a> {
    view: &'a View,
    namespace: String,
    read: BTreeMap<(&'static str, String), Content>,
}

impl References<'_> {
    async fn of_sink(&mut self, sink: &SinkSpec) -> Result<SinkSecrets, Failure> {
        let needs = SinkNeeds::of(sink);
        let kind = if sink.service.is_some() { "service" } else { "http" };
        let mut secrets = SinkSecrets::default();
        if let (Some(reference), Some(name)) = (sink.signing_secret(), needs.signing) {
            let named = format!("Secret {}/{}, which {kind}.secretRef names", self.namespace, reference.name);
            let data = found(&named, signing_key_of(reference), self.secret(&reference.name).await)?;
            let key = signing_key(&named, reference, &data).map_err(Failure::Unusable)?;
            secrets.signing = Some(Referenced::new(name, key));
        }
        if let (Some(reference), Some(name)) = (sink.authorities(), needs.authorities) {
            let of_kind = reference.kind.unwrap_or_default();
            let named = format!("{of_kind:?} {}/{}, which {kind}.caRef names", self.namespace, reference.name);
            let content = match of_kind {
                CertificateAuthorityKind::Secret => self.secret(&reference.name).await,
                CertificateAuthorityKind::ConfigMap => self.config_map(&reference.name).await,
            };
            let data = found(&named, authorities_key_of(reference), content)?;
            secrets.authorities = Some(Referenced::new(name, authorities(&named, reference, &data).map_err(Failure::Unusable)?));
        }
        Ok(secrets)
    }

    async fn secret(&mut self, name: &str) -> Content {
        if let Some(known) = self.read.get(&("Secret", name.to_owned())) {
            return known.clone();
        }
        let answer = self.view.references.secret(&self.namespace, name).await;
        self.keep("Secret", name, Content::of(answer, |secret| data(secret.data)))
    }

    async fn config_map(&mut self, name: &str) -> Content {
        if let Some(known) = self.read.get(&("ConfigMap", name.to_owned())) {
            return known.clone();
        }
        let answer = self.view.references.config_map(&self.namespace, name).await;
        let content = Content::of(answer, |map| {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
            text.chain(data(map.binary_data)).collect()
        });
        self.keep("ConfigMap", name, content)
    }

    fn keep(&mut self, kind: &'static str, name: &str, content: Content) -> Content {
        self.read.insert((kind, name.to_owned()), content.clone());
        content
    }
}

impl Content {
    fn of<K>(answer: kube::Result<Option<K>>, data: impl FnOnce(K) -> BTreeMap<String, Vec<u8>>) -> Self {
        match answer {
            Ok(Some(object)) => Self::Found(Arc::new(data(object))),
            Ok(None) => Self::NotFound,
            Err(kube::Error::Api(status)) if status.is_forbidden() => Self::Forbidden,
            Err(error) => Self::Unknown(wording::of_api_server(&error)),
        }
    }
}

fn data(data: Option<BTreeMap<String, ByteString>>) -> BTreeMap<String, Vec<u8>> {
    data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}

fn found(named: &str, key: &str, content: Content) -> Result<Arc<BTreeMap<String, Vec<u8>>>, Failure> {
    match content {
        Content::Found(data) => Ok(data),
        Content::NotFound => Err(Failure::NotFound(format!("{named}, does not exist; create it with the key {key}"))),
        Content::Forbidden => {
            Err(Failure::Unusable(format!("Forgebind is not allowed to read {named}; grant its service account the verb get on it")))
        }
        Content::Unknown(error) => Err(Failure::Unknown(format!("{named}, could not be read: {error}; retrying"))),
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

/// Publishes what the sinks need to the receivers, instead of what was there. Returns the sinks for which there is no room: the
/// largest are left out until the others fit.
pub async fn publish(context: &Context, object: &RepoBinding, prepared: &PreparedSinks) -> kube::Result<Vec<(String, NotServed)>> {
    let (namespace, uid) = (object.namespace().unwrap_or_default(), object.uid().unwrap_or_default());
    let mut fitting = prepared.sinks.clone();
    let mut left_out = Vec::new();
    loop {
        let edit = |known: UserSecrets| {
            let entry = UserSecrets { sinks: fitting.clone(), ..known };
            (!entry.sinks.is_empty() || !entry.secrets.is_empty()).then_some(entry)
        };
        let fits = |room: Room, size: usize, sinks: usize| room.has_for_sinks(size, sinks);
        if shard_store::change(context, &namespace, &uid, edit, fits).await? {
            return Ok(left_out);
        }
        // Without sinks an entry never grows, so it fits.
        let Some(largest) = largest(&fitting) else { return Ok(left_out) };
        fitting.remove(&largest);
        left_out.push((largest, NotServed::invalid(no_room(&namespace))));
    }
}

fn largest(sinks: &BTreeMap<String, SinkSecrets>) -> Option<String> {
    let size = |secrets: &SinkSecrets| serde_json::to_vec(secrets).map_or(0, |text| text.len());
    sinks.iter().max_by_key(|(_, secrets)| size(secrets)).map(|(name, _)| name.clone())
}

fn no_room(namespace: &str) -> String {
    format!(
        "the Secrets in which Forgebind prepares what sinks need have no room for more of namespace {namespace}: use smaller certificate \
         bundles in caRef, or remove secretRef and caRef from sinks that do not need them"
    )
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

    fn with(value: &str) -> PreparedSinks {
        let signing = Some(Referenced::new("ci/secret".to_owned(), value.into()));
        let sinks = BTreeMap::from([("ci".to_owned(), SinkSecrets { signing, authorities: None })]);
        PreparedSinks { sinks, ..PreparedSinks::default() }
    }

    /// The entry that holds what was prepared.
    fn entry(prepared: &PreparedSinks) -> PreparedEntry {
        let entry = UserSecrets { sinks: prepared.sinks.clone(), ..UserSecrets::default() };
        PreparedEntry::Read((!entry.sinks.is_empty()).then(|| prepared::Held::of(&entry)))
    }

    #[test]
    fn only_what_differs_from_the_shard_is_published_and_nothing_that_is_not_known() {
        let (nothing, unread, empty) = (PreparedSinks::default(), PreparedEntry::Unread, PreparedEntry::Read(None));
        assert!(!nothing.is_to_publish(&unread) && !nothing.is_to_publish(&empty), "most bindings need nothing");
        assert!(with("one").is_to_publish(&empty) && with("one").is_to_publish(&unread));
        assert!(!with("one").is_to_publish(&entry(&with("one"))), "an earlier leader published it");
        assert!(with("two").is_to_publish(&entry(&with("one"))));
        assert!(nothing.is_to_publish(&entry(&with("one"))), "what an earlier leader published is withdrawn once nothing names it");
        let failures = vec![("ci".to_owned(), NotServed::invalid("gone"))];
        let gone = PreparedSinks { failures: failures.clone(), ..PreparedSinks::default() };
        assert!(gone.is_to_publish(&entry(&with("one"))) && !gone.is_to_publish(&empty));
        assert!(gone.is_to_publish(&unread), "an earlier process may have published it");
        let unknown = PreparedSinks { failures, unknown: true, ..PreparedSinks::default() };
        assert!(!unknown.is_to_publish(&entry(&with("one"))));
    }

    #[test]
    fn what_was_read_counts_until_anything_changes() {
        let object: RepoBinding = serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding", "metadata": {"name": "shop", "namespace": "team", "generation": 3},
            "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop", "interval": "10m"},
        }))
        .unwrap();
        let newer = RepoBinding { metadata: kube::api::ObjectMeta { generation: Some(4), ..object.metadata.clone() }, ..object.clone() };
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let digest = prepared::measure(&with("one").sinks).0;
        let read = SinksRead { at: at(1000), generation: 3, changes: 7, digest, failures: Vec::new() };
        let held = entry(&with("one"));
        assert!(read.counts(&object, 7, true, &held, at(1599)));
        assert!(!read.counts(&object, 7, true, &held, at(1600)), "the interval has passed");
        assert!(!read.counts(&newer, 7, true, &held, at(1001)), "another spec");
        assert!(!read.counts(&object, 8, true, &held, at(1001)), "a Secret changed since");
        assert!(!read.counts(&object, 7, true, &entry(&with("two")), at(1001)), "the receivers have something else");
        assert!(!read.counts(&object, 7, true, &PreparedEntry::Unread, at(1001)), "nobody knows what the receivers have");
        assert!(read.counts(&object, 7, false, &PreparedEntry::Read(None), at(1001)), "without a grant the receivers get nothing");
    }

    #[test]
    fn the_sinks_of_one_binding_take_no_more_than_its_share_and_the_largest_goes_first() {
        let of = |bytes: usize| SinkSecrets {
            signing: None,
            authorities: Some(Referenced::new("ConfigMap/ca/ca.crt".to_owned(), "x".repeat(bytes).into())),
        };
        let mut size = 0;
        for name in ["a", "b", "c"] {
            assert!(within_limit(name, of(MOST_AUTHORITIES), &mut size).is_ok(), "{name}");
        }
        let before = size;
        let Err(Failure::Unusable(message)) = within_limit("d", of(MOST_AUTHORITIES), &mut size) else { panic!("it is too much") };
        assert!(message.contains("may have 65536") && message.contains("caRef"), "{message}");
        assert_eq!(size, before, "the next one may fit");
        assert!(within_limit("e", with("key").sinks["ci"].clone(), &mut size).is_ok());
        let sinks = BTreeMap::from([("a".to_owned(), of(100)), ("b".to_owned(), of(300)), ("c".to_owned(), of(200))]);
        assert_eq!(largest(&sinks).as_deref(), Some("b"));
    }
}
