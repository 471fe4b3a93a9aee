//! The webhook secret that a user brought: read from the binding's namespace, and prepared for the receivers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha1::{ConditionType, Reason, RepoBinding};
use crate::controllers::sessions::Trouble;
use crate::controllers::{Context, View};
use crate::keys::ReceiverKey;
use crate::providers::webhook::WebhookSecret;
use crate::receiver_secrets::{self, UserSecrets};

/// How often a change is tried when somebody else changed the Secret meanwhile.
const TRIES: u32 = 5;

/// A secret and the generation that stands for it.
#[derive(Clone, Debug)]
pub struct UserSecret {
    /// A keyed fingerprint of its value.
    pub generation: String,
    /// The secret.
    pub value: WebhookSecret,
}

/// Reads the Secret that a binding names; `None` when it names none.
pub async fn read(view: &View, object: &RepoBinding) -> Option<Result<UserSecret, Trouble>> {
    let name = &object.spec.webhook.as_ref()?.secret_ref.as_ref()?.name;
    let namespace = object.namespace().unwrap_or_default();
    let trouble = |reason, message: String| Trouble::new(ConditionType::WebhookInSync, reason, message);
    Some(match view.references.secret(&namespace, name).await {
        Ok(Some(secret)) => {
            parse(&view.keys.receiver, name, secret.data.unwrap_or_default()).map_err(|message| trouble(Reason::SecretInvalid, message))
        }
        Ok(None) => Err(trouble(Reason::SecretNotFound, format!("Secret {name} does not exist in this namespace; create it"))),
        Err(error) => Err(trouble(Reason::SecretNotFound, format!("Secret {name} could not be read: {error}"))),
    })
}

fn parse(key: &ReceiverKey, name: &str, mut data: BTreeMap<String, ByteString>) -> Result<UserSecret, String> {
    let mut text = |key: &str| -> Result<Option<SecretString>, String> {
        let Some(ByteString(bytes)) = data.remove(key) else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| format!("Secret {name}: the key {key} is not UTF-8 text"))?;
        Ok(Some(text.strip_suffix('\n').unwrap_or(&text).into()))
    };
    let value = match (text("secret")?, text("token")?, text("header")?, text("username")?, text("password")?) {
        (Some(value), None, None, None, None) | (None, Some(value), None, None, None) => WebhookSecret::Text(value),
        (None, Some(value), Some(header), None, None) => WebhookSecret::Header { name: header.expose_secret().to_owned(), value },
        (None, None, None, Some(username), Some(password)) => {
            WebhookSecret::BasicAuth { username: username.expose_secret().to_owned(), password }
        }
        _ => {
            return Err(format!(
                "Secret {name} needs the key secret, or token, or username and password, or header and token; and no two of these"
            ));
        }
    };
    if !value.is_strong_enough() {
        return Err(format!("Secret {name} is too short: a webhook secret needs at least {} bytes", WebhookSecret::LEAST_LENGTH));
    }
    Ok(UserSecret { generation: key.fingerprint(&value.text()), value })
}

/// Prepares a secret for the receivers beside the earlier ones that are still accepted, before any hook carries it.
///
/// # Errors
/// What the API server said.
pub async fn publish(context: &Context, uid: &str, secret: &UserSecret, accepted: &BTreeSet<String>) -> kube::Result<()> {
    change(context, uid, |known| {
        let mut secrets: Vec<_> = known
            .secrets
            .into_iter()
            .filter(|known| known.generation != secret.generation && accepted.contains(&known.generation))
            .collect();
        secrets.extend(receiver_secrets::UserSecret::new(secret.generation.clone(), &secret.value));
        Some(UserSecrets { secrets })
    })
    .await
}

/// Takes a binding's secrets back.
///
/// # Errors
/// What the API server said.
pub async fn withdraw(context: &Context, uid: &str) -> kube::Result<()> {
    change(context, uid, |_| None).await
}

async fn change(context: &Context, uid: &str, edit: impl Fn(UserSecrets) -> Option<UserSecrets>) -> kube::Result<()> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.view.settings.namespace);
    let name = receiver_secrets::secret_name(receiver_secrets::shard(uid));
    let mut tries = 0;
    loop {
        tries += 1;
        let present = api.get_opt(&name).await?;
        let exists = present.is_some();
        let mut secret = present.unwrap_or_else(|| empty(&name));
        let data = secret.data.get_or_insert_default();
        let known = data.get(uid).and_then(|entry| UserSecrets::from_json(&entry.0).ok()).unwrap_or_default();
        let wanted = edit(known).and_then(|secrets| secrets.to_json().ok()).map(ByteString);
        if wanted.as_ref() == data.get(uid) {
            return Ok(());
        }
        match wanted {
            Some(entry) => data.insert(uid.to_owned(), entry),
            None => data.remove(uid),
        };
        let result = if exists {
            api.replace(&name, &PostParams::default(), &secret).await
        } else {
            api.create(&PostParams::default(), &secret).await
        };
        match result {
            Err(kube::Error::Api(status)) if tries < TRIES && (status.is_conflict() || status.is_already_exists()) => {}
            result => return result.map(|_| ()),
        }
    }
}

fn empty(name: &str) -> Secret {
    let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "forgebind".to_owned())]);
    Secret { metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() }, ..Secret::default() }
}
