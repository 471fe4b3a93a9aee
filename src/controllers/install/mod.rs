//! Creates the install key once and loads it afterwards.

pub mod guard;
mod key_failure;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use tracing::{info, warn};

pub use key_failure::KeyFailure;

use crate::api::v1alpha1::{GitProviderConnection, RepoBinding};
use crate::k8s::finalizer;
use crate::protocol::keys::{InstallKey, KeyLengthError, ReceiverKey};

/// Name of the Secret that holds the install key.
pub const INSTALL_KEY: &str = "forgebind-install-key";
/// Name of the Secret with the part of the install key that a standalone receiver reads.
pub const RECEIVER_KEY: &str = "forgebind-receiver-key";
/// Data key in both Secrets.
pub const KEY: &str = "key";
/// Data key in the Secret of the receiver's key: the fingerprint of the installation, by which the receiver recognizes objects
/// of other installations.
pub const FINGERPRINT: &str = "installation";

/// Why the install key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstallKeyError {
    /// The Secret is missing although hooks were made with the key.
    #[error(
        "Secret {namespace}/{INSTALL_KEY} is missing although objects of this cluster carry Forgebind's finalizer or status; \
         restore it from your backup, or start with a new key by --new-install-key (hooks made with the old key then stay at \
         the providers; a second installation in a cluster also starts this way)"
    )]
    Missing {
        /// The operator's namespace.
        namespace: String,
    },
    /// The administrator's own Secret is missing.
    #[error("Secret {namespace}/{name}, which --install-key-secret names, is missing; create it with the key {KEY} of 32 random bytes")]
    ExternalKeyMissing {
        /// The operator's namespace.
        namespace: String,
        /// Name of the Secret.
        name: String,
    },
    /// The content of the Secret is invalid.
    #[error("Secret {namespace}/{name}, key {KEY}: {problem}; restore it from your backup")]
    Invalid {
        /// The operator's namespace.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The system has no source of randomness.
    #[error("the system provides no random bytes")]
    NoRandomness,
    /// The API server refused or did not answer.
    #[error("API server: {}", crate::text::wording::of_api_server(.0))]
    Kubernetes(#[from] kube::Error),
}

/// A key and the metadata of its Secret.
#[derive(Clone)]
pub struct LoadedKey<K> {
    /// The key.
    pub key: K,
    /// Creation time of the Secret; `None` when this process has just created it.
    pub since: Option<Timestamp>,
    /// The installation's fingerprint, if the Secret contains it.
    pub fingerprint: Option<String>,
}

/// Loads the install key, or creates it if no object was ever managed with another key, or if `new_key` is set.
///
/// # Errors
/// See [`InstallKeyError`].
pub async fn find_or_create(
    client: &Client,
    namespace: &str,
    watched: &[String],
    new_key: bool,
) -> Result<LoadedKey<InstallKey>, InstallKeyError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(secret) = secrets.get_opt(INSTALL_KEY).await? {
        return held(&secret, namespace, INSTALL_KEY, InstallKey::new);
    }
    if in_use(client, watched).await? {
        if !new_key {
            return Err(InstallKeyError::Missing { namespace: namespace.to_owned() });
        }
        warn!("creating a new install key; hooks made with the lost one stay at the providers");
    }
    let bytes = InstallKey::random_bytes().ok_or(InstallKeyError::NoRandomness)?;
    match secrets.create(&PostParams::default(), &secret_of(INSTALL_KEY, namespace, &bytes, true)).await {
        Ok(made) => {
            info!(secret = INSTALL_KEY, namespace, "install key created; back up this Secret");
            return Ok(LoadedKey { since: None, ..held(&made, namespace, INSTALL_KEY, InstallKey::new)? });
        }
        // Another replica has created it first.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error.into()),
    }
    let secret = secrets.get(INSTALL_KEY).await?;
    held(&secret, namespace, INSTALL_KEY, InstallKey::new)
}

/// Loads the install key from the administrator's own Secret. Never creates it.
///
/// # Errors
/// When the Secret is missing or invalid.
pub async fn load_external(client: &Client, namespace: &str, name: &str) -> Result<LoadedKey<InstallKey>, InstallKeyError> {
    let missing = || InstallKeyError::ExternalKeyMissing { namespace: namespace.to_owned(), name: name.to_owned() };
    find_held(client, namespace, name).await?.ok_or_else(missing)
}

/// Loads the install key from a Secret; `None` if the Secret does not exist.
///
/// # Errors
/// When the Secret is invalid.
pub async fn find(client: &Client, namespace: &str, name: &str) -> Result<Option<InstallKey>, InstallKeyError> {
    Ok(find_held(client, namespace, name).await?.map(|held| held.key))
}

async fn find_held(client: &Client, namespace: &str, name: &str) -> Result<Option<LoadedKey<InstallKey>>, InstallKeyError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(name).await?;
    secret.map(|secret| held(&secret, namespace, name, InstallKey::new)).transpose()
}

/// Loads the receiver's key, for a standalone receiver.
///
/// # Errors
/// When the Secret is missing, possibly not created yet, or invalid.
pub async fn receiver_key(client: &Client, namespace: &str) -> Result<LoadedKey<ReceiverKey>, InstallKeyError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get(RECEIVER_KEY).await?;
    held(&secret, namespace, RECEIVER_KEY, ReceiverKey::new)
}

/// Creates or updates the Secret with the receiver's key, for standalone receivers.
///
/// # Errors
/// The error of the API server.
pub async fn publish_receiver_key(client: &Client, namespace: &str, key: &ReceiverKey, fingerprint: &str) -> Result<(), InstallKeyError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let wanted = receiver_secret(namespace, key, fingerprint);
    match secrets.get_opt(RECEIVER_KEY).await? {
        Some(present) if present.data == wanted.data => Ok(()),
        Some(mut present) => {
            present.data = wanted.data;
            secrets.replace(RECEIVER_KEY, &PostParams::default(), &present).await?;
            Ok(())
        }
        None => match secrets.create(&PostParams::default(), &wanted).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            result => Ok(result.map(|_| ())?),
        },
    }
}

/// Checks whether `--namespace` is probably wrong, a frequent cause of missing keys. `None` if it looks right or the requests
/// are not permitted.
pub async fn doubt_of_namespace(client: &Client, namespace: &str) -> Option<String> {
    let named = |name: &str| ListParams::default().fields(&format!("metadata.name={name}"));
    let namespaces = Api::<Namespace>::all(client.clone()).list_metadata(&named(namespace)).await;
    if namespaces.is_ok_and(|found| found.items.is_empty()) {
        return Some(format!("--namespace is {namespace}, which does not exist in the cluster"));
    }
    if let Some(own) = namespace_of_account(client).await.filter(|own| own != namespace) {
        return Some(format!(
            "--namespace is {namespace}, but this process runs as a service account of the namespace {own}; correct \
             --namespace, or remove it"
        ));
    }
    let secrets = Api::<Secret>::all(client.clone()).list_metadata(&named(INSTALL_KEY)).await.ok()?;
    let elsewhere: Vec<String> = secrets.items.iter().filter_map(ResourceExt::namespace).filter(|found| found != namespace).collect();
    if elsewhere.is_empty() {
        return None;
    }
    Some(format!(
        "--namespace is {namespace}, but a Secret {INSTALL_KEY} is in {}; check which namespace is \
                  intended",
        elsewhere.join(", ")
    ))
}

/// The namespace of this process's service account, according to the API server.
async fn namespace_of_account(client: &Client) -> Option<String> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.ok()?;
    let username = answer.status?.user_info?.username?;
    Some(username.strip_prefix("system:serviceaccount:")?.split(':').next()?.to_owned())
}

fn held<T>(
    secret: &Secret,
    namespace: &str,
    name: &str,
    parse: impl Fn(&[u8]) -> Result<T, KeyLengthError>,
) -> Result<LoadedKey<T>, InstallKeyError> {
    let key = read(secret, namespace, name, parse)?;
    let fingerprint = secret.data.as_ref().and_then(|data| data.get(FINGERPRINT));
    let fingerprint = fingerprint.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    Ok(LoadedKey { key, since: secret.metadata.creation_timestamp.as_ref().map(|time| time.0), fingerprint })
}

fn read<T>(secret: &Secret, namespace: &str, name: &str, parse: impl Fn(&[u8]) -> Result<T, KeyLengthError>) -> Result<T, InstallKeyError> {
    let invalid = |problem: String| InstallKeyError::Invalid { namespace: namespace.to_owned(), name: name.to_owned(), problem };
    let bytes = secret.data.as_ref().and_then(|data| data.get(KEY)).ok_or_else(|| invalid("the key is missing".to_owned()))?;
    parse(&bytes.0).map_err(|error| invalid(error.to_string()))
}

fn receiver_secret(namespace: &str, key: &ReceiverKey, fingerprint: &str) -> Secret {
    let mut secret = secret_of(RECEIVER_KEY, namespace, key.bytes(), false);
    secret.data.get_or_insert_default().insert(FINGERPRINT.to_owned(), ByteString(fingerprint.into()));
    secret
}

fn secret_of(name: &str, namespace: &str, bytes: &[u8], immutable: bool) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "forgebind".to_owned())])),
            ..ObjectMeta::default()
        },
        immutable: Some(immutable),
        data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(bytes.to_vec()))])),
        ..Secret::default()
    }
}

async fn in_use(client: &Client, watched: &[String]) -> kube::Result<bool> {
    Ok(any_in_use::<GitProviderConnection>(client, watched).await? || any_in_use::<RepoBinding>(client, watched).await?)
}

/// Reads untyped objects: an object that does not parse may still carry our finalizer or `status.installation`.
async fn any_in_use<K>(client: &Client, watched: &[String]) -> kube::Result<bool>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let kind = ApiResource::erase::<K>(&());
    let apis: Vec<Api<DynamicObject>> = if watched.is_empty() {
        vec![Api::all_with(client.clone(), &kind)]
    } else {
        watched.iter().map(|namespace| Api::namespaced_with(client.clone(), namespace, &kind)).collect()
    };
    for api in apis {
        let mut parameters = ListParams::default().limit(500);
        loop {
            let page = api.list(&parameters).await?;
            if page.items.iter().any(is_in_use) {
                return Ok(true);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(false)
}

fn is_in_use(object: &DynamicObject) -> bool {
    let installation = object.data.pointer("/status/installation");
    finalizer::is_present(object) || installation.is_some_and(|installation| !installation.is_null())
}
