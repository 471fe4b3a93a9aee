//! The format in which receivers get what bindings name in Secrets and `ConfigMap`s of their namespaces: webhook secrets that users
//! provide, and the signing keys and certificate authorities of sinks. The controller writes them into a few Secrets in the
//! operator's namespace, and receivers watch these. Types only.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::secret::WebhookSecret;

/// Number of Secrets over which the entries are distributed.
pub const SHARDS: u8 = 64;
/// Prefix of the names of these Secrets; the number of the shard follows.
pub const NAME_PREFIX: &str = "forgebind-receiver-secrets-";

/// The shard of a binding's entry: `0..SHARDS`, from a hash of the UID. The hash must never change.
#[must_use]
pub fn shard(uid: &str) -> u8 {
    let digest = ring::digest::digest(&ring::digest::SHA256, uid.as_bytes());
    digest.as_ref().first().map_or(0, |byte| byte % SHARDS)
}

/// The name of a shard's Secret.
#[must_use]
pub fn secret_name(shard: u8) -> String {
    format!("{NAME_PREFIX}{shard}")
}

/// The shard of a Secret, from its name; `None` if it is not one of these Secrets.
#[must_use]
pub fn shard_of_name(name: &str) -> Option<u8> {
    let shard = name.strip_prefix(NAME_PREFIX)?.parse().ok().filter(|shard| *shard < SHARDS)?;
    (secret_name(shard) == name).then_some(shard)
}

/// A binding's entry: the key is its UID, the value is this struct as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UserSecrets {
    /// The current secret and the previous ones that are still accepted.
    #[serde(default)]
    pub secrets: Vec<UserSecret>,
    /// What the sinks need, by name of the sink.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<String, SinkSecrets>,
}

/// What one sink needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkSecrets {
    /// The signing key, as the user wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Referenced>,
    /// The certificate authorities, as a PEM bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Referenced>,
}

/// A text with the reference under which the spec named it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Referenced {
    reference: String,
    value: Text,
}

impl Referenced {
    /// The text that this reference named.
    #[must_use]
    pub const fn new(reference: String, value: SecretString) -> Self {
        Self { reference, value: Text(value) }
    }

    /// The reference that named the text: it counts for no other.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The text.
    #[must_use]
    pub const fn value(&self) -> &SecretString {
        &self.value.0
    }
}

/// A secret that a user provides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserSecret {
    /// The keyed fingerprint of all its parts, as in the delivery URL.
    pub version: String,
    #[serde(flatten)]
    value: Value,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Value {
    Text { secret: Text },
    BasicAuth { username: String, password: Text },
    Header { name: String, value: Text },
}

/// A secret text that serializes; `Debug` hides it.
#[derive(Clone)]
struct Text(SecretString);

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// The error for an unreadable entry. Contains nothing of the entry, which is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry is not valid JSON of the expected form")]
pub struct WireError;

impl UserSecret {
    /// The serializable form of a secret; `None` for a derived secret, which is never transferred.
    #[must_use]
    pub fn new(version: String, secret: &WebhookSecret) -> Option<Self> {
        let value = match secret {
            WebhookSecret::Derived(_) => return None,
            WebhookSecret::Text(text) => Value::Text { secret: Text(text.clone()) },
            WebhookSecret::BasicAuth { username, password } => {
                Value::BasicAuth { username: username.clone(), password: Text(password.clone()) }
            }
            WebhookSecret::Header { name, value } => Value::Header { name: name.clone(), value: Text(value.clone()) },
        };
        Some(Self { version, value })
    }

    /// The secret as a [`WebhookSecret`].
    #[must_use]
    pub fn secret(&self) -> WebhookSecret {
        match &self.value {
            Value::Text { secret } => WebhookSecret::Text(secret.0.clone()),
            Value::BasicAuth { username, password } => {
                WebhookSecret::BasicAuth { username: username.clone(), password: password.0.clone() }
            }
            Value::Header { name, value } => WebhookSecret::Header { name: name.clone(), value: value.0.clone() },
        }
    }
}

impl UserSecrets {
    /// Parses an entry.
    ///
    /// # Errors
    /// The entry is not JSON of this form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, WireError> {
        crate::text::json::read(bytes).map_err(|_| WireError)
    }

    /// Serializes an entry. The bytes are secret.
    ///
    /// # Errors
    /// Serialization fails, which does not happen in practice.
    pub fn to_json(&self) -> Result<Vec<u8>, WireError> {
        serde_json::to_vec(self).map_err(|_| WireError)
    }

    /// The secret versions and secrets, as the receiver uses them.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, WebhookSecret)> {
        self.secrets.iter().map(|secret| (secret.version.clone(), secret.secret())).collect()
    }
}

/// Parses the data of one shard's Secret. Also returns the UIDs of unreadable entries, so that they can be reported.
#[must_use]
pub fn read_shard(data: &BTreeMap<String, ByteString>) -> (BTreeMap<String, UserSecrets>, Vec<String>) {
    let mut entries = BTreeMap::new();
    let mut unreadable = Vec::new();
    for (uid, bytes) in data {
        match UserSecrets::from_json(&bytes.0) {
            Ok(secrets) => drop(entries.insert(uid.clone(), secrets)),
            Err(WireError) => unreadable.push(uid.clone()),
        }
    }
    (entries, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<WebhookSecret> {
        vec![
            WebhookSecret::Text("canary-text".into()),
            WebhookSecret::BasicAuth { username: "forgebind".into(), password: "canary-password".into() },
            WebhookSecret::Header { name: "X-Token".into(), value: "canary-header".into() },
        ]
    }

    fn sink() -> SinkSecrets {
        let signing = Some(Referenced::new("ci/secret".to_owned(), "canary-of-a-sink".into()));
        SinkSecrets { signing, authorities: None }
    }

    #[test]
    fn what_a_sink_needs_survives_serialization_and_an_earlier_versions_entry_has_none() {
        let written = UserSecrets { sinks: BTreeMap::from([("ci".to_owned(), sink())]), ..UserSecrets::default() }.to_json().unwrap();
        let read = UserSecrets::from_json(&written).unwrap();
        assert_eq!(read.sinks["ci"], sink());
        assert_eq!(read.sinks["ci"].signing.as_ref().unwrap().value().expose_secret(), "canary-of-a-sink");
        assert!(UserSecrets::from_json(br#"{"secrets":[]}"#).unwrap().sinks.is_empty());
    }

    #[test]
    fn every_kind_survives_serialization() {
        let secrets = samples().iter().map(|secret| UserSecret::new("0123456789abcdef".into(), secret).unwrap()).collect();
        let written = UserSecrets { secrets, ..UserSecrets::default() }.to_json().unwrap();
        let read = UserSecrets::from_json(&written).unwrap().pairs();
        assert_eq!(read.len(), 3);
        assert!(matches!(&read[0].1, WebhookSecret::Text(text) if text.expose_secret() == "canary-text"));
        assert!(
            matches!(&read[1].1, WebhookSecret::BasicAuth { username, password } if username == "forgebind" && password.expose_secret() == "canary-password")
        );
        assert!(
            matches!(&read[2].1, WebhookSecret::Header { name, value } if name == "X-Token" && value.expose_secret() == "canary-header")
        );
    }

    #[test]
    fn df_20_neither_entries_nor_errors_print_a_secret() {
        let secrets = UserSecrets {
            secrets: samples().iter().filter_map(|secret| UserSecret::new("g".into(), secret)).collect(),
            sinks: BTreeMap::from([("ci".to_owned(), sink())]),
        };
        assert!(!format!("{secrets:?}").contains("canary"));
        let error = UserSecrets::from_json(br#"{"secrets":"canary"}"#).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn a_derived_secret_is_never_written() {
        let derived = WebhookSecret::Derived(crate::protocol::secret::DerivedSecret::new([1; 32]));
        assert!(UserSecret::new("1".into(), &derived).is_none());
    }

    #[test]
    fn names_of_secrets_convert_to_shards_and_back() {
        for uid in ["", "a", "6f1c1c9e-0000-4000-8000-000000000000"] {
            assert_eq!(shard_of_name(&secret_name(shard(uid))), Some(shard(uid)));
        }
        for name in ["forgebind-receiver-secrets-64", "forgebind-receiver-secrets-01", "forgebind-receiver-secrets-", "other"] {
            assert_eq!(shard_of_name(name), None, "{name}");
        }
    }

    #[test]
    fn one_bad_entry_does_not_hide_the_others() {
        let data = [("good", r#"{"secrets":[{"version":"g","kind":"Text","secret":"s"}]}"#), ("bad", "{")]
            .map(|(uid, json)| (uid.to_owned(), ByteString(json.as_bytes().to_vec())))
            .into();
        let (entries, unreadable) = read_shard(&data);
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(unreadable, ["bad"]);
    }
}
