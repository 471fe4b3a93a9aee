//! What a connection is made of: its Secret, its certificates, its proxy. Read from its own namespace only.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt as _};
use secrecy::SecretString;

use crate::api::v1alpha1::connection::TlsSpec;
use crate::api::v1alpha1::{CertificateAuthorityKind, ConditionType, GitProviderConnection, Reason};
use crate::controllers::sessions::Trouble;
use crate::controllers::view::References;
use crate::providers::Credential;
use crate::providers::credential::DeclaredCredential;
use crate::providers::secret_keys::{SecretError, SecretKeys};
use crate::providers::transport::{ClientIdentity, ProxySettings};
use crate::wording;

/// Everything that was read.
#[derive(Clone, Debug)]
pub struct Material {
    /// The credential and the end that its Secret declares.
    pub declared: DeclaredCredential,
    /// PEM bundle of certificate authorities.
    pub ca_pem: Option<Vec<u8>>,
    /// What to present as the client.
    pub client_identity: Option<ClientIdentity>,
    /// The proxy.
    pub proxy: Option<ProxySettings>,
    /// Versions of all objects that were read: they change with the content.
    pub versions: String,
    /// Version of the credential's Secret.
    pub secret_version: Option<String>,
}

/// Reads everything that a connection refers to.
///
/// # Errors
/// What is missing or unusable, as a condition says it.
pub async fn read(references: &dyn References, connection: &GitProviderConnection) -> Result<Material, Trouble> {
    let reader = Reader { references, namespace: connection.namespace().unwrap_or_default() };
    let spec = &connection.spec;
    let mut versions = Vec::new();
    let (declared, secret_version) = match &spec.credentials {
        None => (DeclaredCredential { credential: Credential::Anonymous, expires_at: None, warnings: Vec::new() }, None),
        Some(credentials) => {
            let (data, version) = reader.secret(&credentials.secret_ref.name, authentication).await?;
            versions.push(format!("credential={version}"));
            let declared = DeclaredCredential::from_secret(&data).map_err(|error| {
                let name = &credentials.secret_ref.name;
                Trouble::new(ConditionType::Authenticated, Reason::SecretInvalid, format!("Secret {name}: {error}"))
            })?;
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
    Ok(Material { declared, ca_pem, client_identity, proxy, versions: versions.join(","), secret_version })
}

fn authentication(reason: Reason, message: String) -> Trouble {
    Trouble::new(ConditionType::Authenticated, reason, message)
}

fn certificate(_: Reason, mut message: String) -> Trouble {
    message.insert_str(0, "tls: ");
    Trouble::new(ConditionType::Reachable, Reason::TLSReferenceNotFound, message)
}

fn proxy_trouble(_: Reason, mut message: String) -> Trouble {
    message.insert_str(0, "proxySecretRef: ");
    Trouble::new(ConditionType::Reachable, Reason::ProxyError, message)
}

type Classify = fn(Reason, String) -> Trouble;
type Data = BTreeMap<String, Vec<u8>>;

struct Reader<'a> {
    references: &'a dyn References,
    namespace: String,
}

/// What was asked for, or why it cannot be had.
fn found<K: Resource<DynamicType = ()>>(answer: kube::Result<Option<K>>, name: &str, classify: Classify) -> Result<K, Trouble> {
    let kind = K::kind(&());
    match answer {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(classify(Reason::SecretNotFound, format!("{kind} {name} does not exist in this namespace; create it"))),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            Err(classify(Reason::SecretForbidden, format!("Forgebind may not read {kind} {name} in this namespace; grant it get on it")))
        }
        Err(error) => Err(Trouble::pending(format!("{kind} {name} could not be read: {}", wording::of_api_server(&error)))),
    }
}

impl Reader<'_> {
    async fn secret(&self, name: &str, classify: Classify) -> Result<(Data, String), Trouble> {
        let secret = found(self.references.secret(&self.namespace, name).await, name, classify)?;
        let version = secret.resource_version().unwrap_or_default();
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        Ok((data, version))
    }

    async fn config_map(&self, name: &str, classify: Classify) -> Result<(Data, String), Trouble> {
        let map = found(self.references.config_map(&self.namespace, name).await, name, classify)?;
        let version = map.resource_version().unwrap_or_default();
        let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Ok((text.chain(binary).collect(), version))
    }

    async fn tls(&self, tls: &TlsSpec, versions: &mut Vec<String>) -> Result<(Option<Vec<u8>>, Option<ClientIdentity>), Trouble> {
        let mut ca_pem = None;
        if let Some(reference) = &tls.ca_ref {
            let (data, version) = match reference.kind.unwrap_or_default() {
                CertificateAuthorityKind::ConfigMap => self.config_map(&reference.name, certificate).await?,
                CertificateAuthorityKind::Secret => self.secret(&reference.name, certificate).await?,
            };
            versions.push(format!("ca={version}"));
            let key = reference.key.as_deref().unwrap_or("ca.crt");
            ca_pem = Some(required(&data, &reference.name, key, certificate)?);
        }
        let mut identity = None;
        if let Some(reference) = &tls.client_certificate_ref {
            let (data, version) = self.secret(&reference.name, certificate).await?;
            versions.push(format!("client={version}"));
            let certificate_pem = required(&data, &reference.name, "tls.crt", certificate)?;
            let key_pem = required(&data, &reference.name, "tls.key", certificate)?;
            let key = String::from_utf8_lossy(&key_pem).into_owned().into();
            identity = Some(ClientIdentity { certificate: certificate_pem, key });
        }
        Ok((ca_pem, identity))
    }

    async fn proxy(&self, name: &str, versions: &mut Vec<String>) -> Result<ProxySettings, Trouble> {
        let (data, version) = self.secret(name, proxy_trouble).await?;
        versions.push(format!("proxy={version}"));
        let keys = SecretKeys(&data);
        if !keys.has("address") {
            let message = format!("Secret {name} lacks the key address, such as http://proxy.acme.io:3128");
            return Err(proxy_trouble(Reason::ProxyError, message));
        }
        let refused = |error: SecretError| proxy_trouble(Reason::ProxyError, format!("Secret {name}: {error}"));
        let address = keys.word("address").map_err(refused)?;
        let username = keys.optional("username", SecretKeys::word).map_err(refused)?;
        let password = keys.optional("password", SecretKeys::password).map_err(refused)?.map(|(password, _)| password);
        let login = username.map(|username| (username, SecretString::from(password.unwrap_or_default())));
        Ok(ProxySettings { address, login })
    }
}

fn required(data: &Data, name: &str, key: &str, classify: Classify) -> Result<Vec<u8>, Trouble> {
    data.get(key)
        .filter(|value| !value.is_empty())
        .cloned()
        .ok_or_else(|| classify(Reason::TLSReferenceNotFound, format!("{name} lacks the key {key} or it is empty")))
}
