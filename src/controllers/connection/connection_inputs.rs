//! Reads the objects that a connection refers to: the Secret of the credential, certificates and the proxy. Reads its own
//! namespace only.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt as _};
use secrecy::SecretString;

use crate::api::v1alpha1::connection::{CredentialKind, TlsSpec};
use crate::api::v1alpha1::{CertificateAuthorityKind, ConditionType, GitProviderConnection, Reason};
use crate::controllers::sessions::ConditionFailure;
use crate::controllers::view::ObjectReader;
use crate::providers::Credential;
use crate::providers::credential::{DeclaredCredential, key_words};
use crate::providers::secret_keys::{SecretError, SecretKeys};
use crate::providers::transport::{ClientIdentity, ProxySettings};
use crate::text::wording;

/// Contents of all objects that a connection refers to.
#[derive(Clone, Debug)]
pub struct ConnectionInputs {
    /// The credential, and its expiry as the Secret declares it.
    pub declared: DeclaredCredential,
    /// PEM bundle of certificate authorities.
    pub ca_pem: Option<Vec<u8>>,
    /// Client certificate with its key.
    pub client_identity: Option<ClientIdentity>,
    /// Settings of the proxy.
    pub proxy: Option<ProxySettings>,
    /// Resource versions of all objects that were read: they change with the content.
    pub versions: String,
    /// Resource version of the credential's Secret.
    pub secret_version: Option<String>,
}

/// Reads everything that a connection refers to.
///
/// # Errors
/// A missing or unusable object, as the failure of a condition.
pub async fn read(references: &dyn ObjectReader, connection: &GitProviderConnection) -> Result<ConnectionInputs, ConditionFailure> {
    let reader = Reader { references, namespace: connection.namespace().unwrap_or_default() };
    let spec = &connection.spec;
    let mut versions = Vec::new();
    let (declared, secret_version) = match &spec.credentials {
        None => (DeclaredCredential { credential: Credential::Anonymous, expires_at: None, warnings: Vec::new() }, None),
        Some(credentials) => {
            let named = reader.named(&credentials.secret_ref.name, CREDENTIAL);
            let (data, version) = reader.secret(&named).await?;
            versions.push(format!("credential={version}"));
            let mut declared = DeclaredCredential::from_secret(&data)
                .map_err(|error| (CREDENTIAL.classify)(Reason::SecretInvalid, format!("{}: {error}", named.secret())))?;
            for warning in &mut declared.warnings {
                warning.insert_str(0, &format!("{}: ", named.secret()));
            }
            (declared, Some(version))
        }
    };
    let (ca_pem, client_identity) = match &spec.tls {
        Some(tls) => reader.tls(tls, &mut versions).await?,
        None => (None, None),
    };
    let proxy = match &spec.proxy_secret_ref {
        Some(reference) => Some(reader.proxy(&reference.name, &mut versions).await?),
        None => None,
    };
    Ok(ConnectionInputs { declared, ca_pem, client_identity, proxy, versions: versions.join(","), secret_version })
}

/// Names the Secret of a connection's credential and the keys of its kind, for messages; `None` without a credential.
#[must_use]
pub fn place_of_credential(connection: &GitProviderConnection, kind: Option<CredentialKind>) -> Option<String> {
    let reference = &connection.spec.credentials.as_ref()?.secret_ref;
    let secret = format!("Secret {}/{}", connection.namespace().unwrap_or_default(), reference.name);
    Some(match kind.and_then(key_words) {
        Some(keys) => format!("{secret}, {keys}"),
        None => secret,
    })
}

/// A field of the spec that names an object, with what its error messages need.
#[derive(Clone, Copy)]
struct Field {
    /// Path of the field in the spec.
    path: &'static str,
    /// Content that the object needs.
    keys: &'static str,
    /// Creates the failure for a reason and a message.
    classify: fn(Reason, String) -> ConditionFailure,
}

const CREDENTIAL: Field = Field {
    path: "credentials.secretRef",
    keys: "the key token, or the keys username and password",
    classify: |reason, message| ConditionFailure::new(ConditionType::Authenticated, reason, message),
};
const AUTHORITY: Field = Field { path: "tls.caRef", keys: "the authority's certificate", classify: certificate };
const CLIENT: Field = Field { path: "tls.clientCertificateRef", keys: "the keys tls.crt and tls.key", classify: certificate };
const PROXY: Field = Field {
    path: "proxySecretRef",
    keys: "the key address, such as http://proxy.acme.io:3128",
    classify: |reason, message| ConditionFailure::new(ConditionType::Reachable, reason, message),
};

fn certificate(_: Reason, message: String) -> ConditionFailure {
    ConditionFailure::new(ConditionType::Reachable, Reason::TLSReferenceNotFound, message)
}

/// An object that a field names.
struct Named<'a> {
    namespace: &'a str,
    name: &'a str,
    field: Field,
}

impl Named<'_> {
    fn secret(&self) -> String {
        self.of_kind("Secret")
    }

    fn of_kind(&self, kind: &str) -> String {
        format!("{kind} {}/{}, which {} names", self.namespace, self.name, self.field.path)
    }

    /// Returns the object, or the failure if it is missing or unreadable.
    fn found<K: Resource<DynamicType = ()>>(&self, answer: kube::Result<Option<K>>) -> Result<K, ConditionFailure> {
        let object = self.of_kind(&K::kind(&()));
        let Field { keys, classify, .. } = self.field;
        match answer {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(classify(Reason::SecretNotFound, format!("{object}, does not exist; create it with {keys}"))),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                let message = format!("Forgebind is not allowed to read {object}; grant its service account the verb get on it");
                Err(classify(Reason::SecretForbidden, message))
            }
            Err(error) => Err(ConditionFailure::pending(format!("{object}, could not be read: {}", wording::of_api_server(&error)))),
        }
    }

    fn required(&self, kind: &str, data: &Data, key: &str) -> Result<Vec<u8>, ConditionFailure> {
        data.get(key).filter(|value| !value.is_empty()).cloned().ok_or_else(|| {
            let message = format!("{}, lacks the key {key} or it is empty; put it there", self.of_kind(kind));
            (self.field.classify)(Reason::TLSReferenceNotFound, message)
        })
    }
}

type Data = BTreeMap<String, Vec<u8>>;

struct Reader<'a> {
    references: &'a dyn ObjectReader,
    namespace: String,
}

impl Reader<'_> {
    fn named<'a>(&'a self, name: &'a str, field: Field) -> Named<'a> {
        Named { namespace: &self.namespace, name, field }
    }

    async fn secret(&self, named: &Named<'_>) -> Result<(Data, String), ConditionFailure> {
        let secret = named.found(self.references.secret(&self.namespace, named.name).await)?;
        let version = secret.resource_version().unwrap_or_default();
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        Ok((data, version))
    }

    async fn config_map(&self, named: &Named<'_>) -> Result<(Data, String), ConditionFailure> {
        let map = named.found(self.references.config_map(&self.namespace, named.name).await)?;
        let version = map.resource_version().unwrap_or_default();
        let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Ok((text.chain(binary).collect(), version))
    }

    async fn tls(&self, tls: &TlsSpec, versions: &mut Vec<String>) -> Result<(Option<Vec<u8>>, Option<ClientIdentity>), ConditionFailure> {
        let mut ca_pem = None;
        if let Some(reference) = &tls.ca_ref {
            let named = self.named(&reference.name, AUTHORITY);
            let ((data, version), kind) = match reference.kind.unwrap_or_default() {
                CertificateAuthorityKind::ConfigMap => (self.config_map(&named).await?, "ConfigMap"),
                CertificateAuthorityKind::Secret => (self.secret(&named).await?, "Secret"),
            };
            versions.push(format!("ca={version}"));
            let key = reference.key.as_deref().unwrap_or("ca.crt");
            ca_pem = Some(named.required(kind, &data, key)?);
        }
        let mut identity = None;
        if let Some(reference) = &tls.client_certificate_ref {
            let named = self.named(&reference.name, CLIENT);
            let (data, version) = self.secret(&named).await?;
            versions.push(format!("client={version}"));
            let certificate_pem = named.required("Secret", &data, "tls.crt")?;
            let key_pem = named.required("Secret", &data, "tls.key")?;
            let key = String::from_utf8_lossy(&key_pem).into_owned().into();
            identity = Some(ClientIdentity { certificate: certificate_pem, key });
        }
        Ok((ca_pem, identity))
    }

    async fn proxy(&self, name: &str, versions: &mut Vec<String>) -> Result<ProxySettings, ConditionFailure> {
        let named = self.named(name, PROXY);
        let (data, version) = self.secret(&named).await?;
        versions.push(format!("proxy={version}"));
        let keys = SecretKeys(&data);
        let invalid = |message: String| (PROXY.classify)(Reason::SecretInvalid, message);
        if !keys.has("address") {
            return Err(invalid(format!("{}, lacks the key address, such as http://proxy.acme.io:3128; add it", named.secret())));
        }
        let refused = |error: SecretError| invalid(format!("{}: {error}", named.secret()));
        let address = keys.word("address").map_err(refused)?;
        let username = keys.optional("username", SecretKeys::word).map_err(refused)?;
        let password = keys.optional("password", SecretKeys::password).map_err(refused)?.map(|(password, _)| password);
        let login = username.map(|username| (username, SecretString::from(password.unwrap_or_default())));
        Ok(ProxySettings { address, login })
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use kube::core::Status;
    use serde_json::{Value, json};

    use super::*;

    /// Serves one Secret of the namespace `team` by its name; one name is forbidden, all others are missing.
    struct OneSecret(&'static str, &'static [(&'static str, &'static str)]);

    #[async_trait]
    impl ObjectReader for OneSecret {
        async fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<Secret>> {
            assert_eq!(namespace, "team");
            if name == "forbidden" {
                return Err(kube::Error::Api(Box::new(Status::failure("no", "Forbidden").with_code(403))));
            }
            let data = self.1.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
            Ok((name == self.0).then(|| Secret { data: Some(data), ..Secret::default() }))
        }

        async fn config_map(&self, _: &str, _: &str) -> kube::Result<Option<ConfigMap>> {
            Ok(None)
        }
    }

    fn connection(spec: &Value) -> GitProviderConnection {
        let mut object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection", "metadata": {"name": "acme", "namespace": "team"},
            "spec": {"provider": {"gitea": {"url": "https://git.acme.io", "organization": "acme"}}},
        });
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn credential(name: &str) -> Value {
        json!({"credentials": {"secretRef": {"name": name}}})
    }

    fn proxy(name: &str) -> Value {
        json!({"proxySecretRef": {"name": name}})
    }

    /// Each message names the object with its namespace, the field, what is wrong and what to do, so that `kubectl describe` is
    /// enough.
    #[tokio::test]
    async fn every_reference_that_is_no_good_is_named_with_namespace_field_and_remedy() {
        use ConditionType::{Authenticated, Reachable};
        use Reason::{SecretForbidden, SecretInvalid, SecretNotFound, TLSReferenceNotFound};
        const EMPTY: &[(&str, &str)] = &[];
        let cases = [
            // (spec, content of Secret team/here, condition, reason, field, remedy)
            (
                credential("gone"),
                EMPTY,
                Authenticated,
                SecretNotFound,
                "Secret team/gone, which credentials.secretRef names",
                "create it with",
            ),
            (
                credential("forbidden"),
                EMPTY,
                Authenticated,
                SecretForbidden,
                "Secret team/forbidden, which credentials.secretRef names",
                "grant",
            ),
            (
                credential("here"),
                EMPTY,
                Authenticated,
                SecretInvalid,
                "Secret team/here, which credentials.secretRef names",
                "add the keys",
            ),
            (
                credential("here"),
                &[("token", "")],
                Authenticated,
                SecretInvalid,
                "Secret team/here, which credentials.secretRef",
                "set its value",
            ),
            (
                proxy("gone"),
                EMPTY,
                Reachable,
                SecretNotFound,
                "Secret team/gone, which proxySecretRef names",
                "create it with the key address",
            ),
            (proxy("forbidden"), EMPTY, Reachable, SecretForbidden, "Secret team/forbidden, which proxySecretRef names", "grant"),
            (proxy("here"), EMPTY, Reachable, SecretInvalid, "Secret team/here, which proxySecretRef names", "lacks the key address"),
            (proxy("here"), &[("address", " ")], Reachable, SecretInvalid, "Secret team/here, which proxySecretRef names", "set its value"),
            (
                json!({"tls": {"caRef": {"kind": "ConfigMap", "name": "gone"}}}),
                EMPTY,
                Reachable,
                TLSReferenceNotFound,
                "ConfigMap team/gone, which tls.caRef names",
                "create it",
            ),
            (
                json!({"tls": {"caRef": {"kind": "Secret", "name": "here"}}}),
                EMPTY,
                Reachable,
                TLSReferenceNotFound,
                "Secret team/here, which tls.caRef names, lacks the key ca.crt",
                "put it there",
            ),
            (
                json!({"tls": {"clientCertificateRef": {"name": "forbidden"}}}),
                EMPTY,
                Reachable,
                TLSReferenceNotFound,
                "Secret team/forbidden, which tls.clientCertificateRef names",
                "grant",
            ),
        ];
        for (spec, data, condition, reason, names, remedy) in cases {
            let failure = read(&OneSecret("here", data), &connection(&spec)).await.unwrap_err();
            assert_eq!((failure.condition, failure.reason), (condition, reason), "{}", failure.message);
            assert!(failure.message.contains(names) && failure.message.contains(remedy), "{}", failure.message);
            let may_come = matches!(reason, SecretNotFound | SecretForbidden | TLSReferenceNotFound);
            assert_eq!(failure.waits_for_a_person(), !may_come, "{}", failure.message);
        }
        let edges: &[(&str, &str)] = &[("username", "ada"), ("password", "secret ")];
        let connection_inputs = read(&OneSecret("here", edges), &connection(&credential("here"))).await.unwrap();
        let warnings = connection_inputs.declared.warnings;
        assert!(warnings.len() == 1 && warnings[0].starts_with("Secret team/here, which credentials.secretRef names: "), "{warnings:?}");
    }

    #[test]
    fn the_place_of_a_credential_has_the_keys_of_its_kind() {
        let place = |kind| place_of_credential(&connection(&credential("here")), kind).unwrap();
        assert_eq!(place(None), "Secret team/here");
        assert_eq!(place(Some(CredentialKind::Token)), "Secret team/here, key token");
        assert_eq!(place(Some(CredentialKind::EmailToken)), "Secret team/here, keys email and token");
        assert_eq!(place_of_credential(&connection(&json!({})), None), None);
    }
}
