//! Reads a user's own webhook secret from the binding's namespace and publishes it to the receivers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use kube::ResourceExt as _;
use secrecy::SecretString;

use super::shard_store;
use crate::api::v1alpha1::binding::WebhookSecretReference;
use crate::api::v1alpha1::{ConditionType, Reason, RepoBinding};
use crate::controllers::sessions::ConditionFailure;
use crate::controllers::{Context, View};
use crate::protocol::keys::ReceiverKey;
use crate::protocol::secret::WebhookSecret;
use crate::protocol::webhook_secrets::{self, UserSecrets};
use crate::providers::secret_keys::{SecretError, SecretKeys};
use crate::providers::{ErrorKind, ProviderError};
use crate::text::wording;

/// How many earlier secrets of a binding are kept beside the current one.
const EARLIER_SECRETS: usize = 3;

/// A user's own webhook secret with its version.
#[derive(Clone, Debug)]
pub struct UserSecret {
    /// Keyed fingerprint of all parts of the secret.
    pub version: String,
    pub value: WebhookSecret,
}

/// Reads the Secret that a binding names; `None` if it names none.
pub async fn read(view: &View, object: &RepoBinding) -> Option<Result<UserSecret, ConditionFailure>> {
    let reference = object.spec.webhook.as_ref()?.secret_ref.as_ref()?;
    let name = &reference.name;
    let namespace = object.namespace().unwrap_or_default();
    let named = format!("Secret {namespace}/{name}, which webhook.secretRef names");
    let failure = |reason, message: String| ConditionFailure::new(ConditionType::WebhookInSync, reason, message);
    Some(match view.references.secret(&namespace, name).await {
        Ok(Some(secret)) => parse(&view.keys.receiver, &named, reference, secret.data.unwrap_or_default())
            .map_err(|message| failure(Reason::SecretInvalid, message)),
        Ok(None) => {
            let key = reference.key.as_deref().unwrap_or("secret");
            Err(failure(Reason::SecretNotFound, format!("{named}, does not exist; create it with the key {key}")))
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            let message = format!("Forgebind is not allowed to read {named}; grant its service account the verb get on it");
            Err(failure(Reason::SecretForbidden, message))
        }
        Err(error) => {
            let message = format!("{named}, could not be read: {}; retrying", wording::of_api_server(&error));
            Err(failure(Reason::Progressing, message))
        }
    })
}

/// Parses the data of a Secret; `named` is the Secret's name in error messages.
fn parse(
    key: &ReceiverKey,
    named: &str,
    reference: &WebhookSecretReference,
    data: BTreeMap<String, ByteString>,
) -> Result<UserSecret, String> {
    let data = data.into_iter().map(|(key, value)| (key, value.0)).collect();
    let keys = SecretKeys(&data);
    let value = match &reference.key {
        Some(key) if !keys.has(key) => {
            return Err(format!("{named}, has no key {key}, which webhook.secretRef.key names; add it"));
        }
        Some(key) => WebhookSecret::Text(keys.shared(key).map_err(|error| format!("{named}: {error}"))?.into()),
        None => by_usual_keys(named, &keys)?,
    };
    if !value.is_strong_enough() {
        return Err(format!(
            "{named}, is too short: a webhook secret needs at least {} bytes; put a longer one there",
            WebhookSecret::LEAST_LENGTH
        ));
    }
    if value.is_too_long() {
        return Err(format!(
            "{named}, is too long: a webhook secret has at most {} bytes in all; put a shorter one there",
            WebhookSecret::MOST_LENGTH
        ));
    }
    Ok(UserSecret { version: key.user_secret_version(&value.parts()), value })
}

fn by_usual_keys(named: &str, keys: &SecretKeys<'_>) -> Result<WebhookSecret, String> {
    let refused = |error: SecretError| format!("{named}: {error}");
    let shared = |key| keys.optional(key, SecretKeys::shared).map(|text| text.map(SecretString::from)).map_err(refused);
    let word = |key| keys.optional(key, SecretKeys::word).map_err(refused);
    Ok(match (shared("secret")?, shared("token")?, word("header")?, word("username")?, shared("password")?) {
        (Some(value), None, None, None, None) | (None, Some(value), None, None, None) => WebhookSecret::Text(value),
        (None, Some(value), Some(name), None, None) => WebhookSecret::Header { name, value },
        (None, None, None, Some(username), Some(password)) => WebhookSecret::BasicAuth { username, password },
        _ => {
            return Err(format!(
                "{named}, must have exactly one of: the key secret, the key token, the keys username and password, the keys \
                 header and token; or name another key in webhook.secretRef.key"
            ));
        }
    })
}

/// Publishes a secret to the receivers, beside the earlier secrets that are still accepted, before any hook carries it. The inner
/// error means that there is no room for it.
pub async fn publish(
    context: &Context,
    namespace: &str,
    uid: &str,
    secret: &UserSecret,
    accepted: &BTreeSet<String>,
) -> kube::Result<Result<(), ProviderError>> {
    let edit = |known: UserSecrets| {
        let mut secrets: Vec<_> =
            known.secrets.iter().filter(|known| known.version != secret.version && accepted.contains(&known.version)).cloned().collect();
        // The newest secrets come last.
        drop(secrets.drain(..secrets.len().saturating_sub(EARLIER_SECRETS)));
        secrets.extend(webhook_secrets::UserSecret::new(secret.version.clone(), &secret.value));
        Some(UserSecrets { secrets, ..known })
    };
    Ok(if shard_store::change(context, namespace, uid, edit, |room, size, _| room.has(size)).await? {
        Ok(())
    } else {
        let message = format!(
            "the Secrets in which Forgebind prepares webhook secrets for its receivers have no room for another one of namespace \
             {namespace}: remove webhook.secretRef from bindings that do not need it, or use shorter secrets"
        );
        Err(ProviderError::new(ErrorKind::LimitReached, "prepare the webhook secret for the receivers", message))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::protocol::keys::InstallKey;

    const NAMED: &str = "Secret team/hook, which webhook.secretRef names";

    fn read(key: Option<&str>, data: &[(&str, &str)]) -> Result<UserSecret, String> {
        let reference = WebhookSecretReference { name: "hook".to_owned(), key: key.map(str::to_owned) };
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        parse(&InstallKey::new(&[7; 32]).unwrap().receiver(), NAMED, &reference, data)
    }

    #[test]
    fn a_change_of_any_part_of_a_brought_secret_is_another_version() {
        let (long, other) = ("0123456789abcdef", "fedcba9876543210");
        let secrets = [
            vec![("secret", long)],
            vec![("secret", other)],
            vec![("username", "ci"), ("password", long)],
            vec![("username", "cd"), ("password", long)],
            vec![("username", "ci"), ("password", other)],
            vec![("header", "X-Token"), ("token", long)],
            vec![("header", "X-Other"), ("token", long)],
            vec![("header", "X-Token"), ("token", other)],
            vec![("username", "X-Token"), ("password", long)],
        ];
        let versions: HashSet<_> = secrets.iter().map(|data| read(None, data).unwrap().version).collect();
        assert_eq!(versions.len(), secrets.len());
        let same = |data: &[(&str, &str)]| read(None, data).unwrap().version;
        assert_eq!(same(&[("secret", long)]), same(&[("token", long)]), "the key under which a text stands is no part of it");
        assert_eq!(same(&[("secret", long)]), same(&[("secret", "0123456789abcdef\r\n")]), "nor is the end of the line");
    }

    #[test]
    fn a_secret_that_would_fill_what_all_tenants_share_is_refused() {
        let most = "x".repeat(WebhookSecret::MOST_LENGTH);
        assert!(read(None, &[("secret", &most)]).is_ok());
        let forms: [&[(&str, &str)]; 3] =
            [&[("secret", &format!("{most}x"))], &[("header", "X-Token"), ("token", &most)], &[("username", "ci"), ("password", &most)]];
        for form in forms {
            let expected = format!("{NAMED}, is too long: a webhook secret has at most 1024 bytes in all; put a shorter one there");
            assert_eq!(read(None, form).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_key_of_any_name_holds_the_secret_and_the_others_are_not_read() {
        let argo = [("webhook.github.secret", "0123456789abcdef"), ("secret", "another-secret-of-it"), ("admin.password", "x")];
        let named = read(Some("webhook.github.secret"), &argo).unwrap();
        assert!(matches!(&named.value, WebhookSecret::Text(value) if value.expose_secret() == "0123456789abcdef"));
        let refused = read(Some("webhook.gitlab.secret"), &argo).unwrap_err();
        assert!(refused.contains("has no key webhook.gitlab.secret"), "{refused}");
        assert!(read(Some("admin.password"), &argo).unwrap_err().contains("too short"));
        let usual = read(None, &argo).unwrap();
        assert!(matches!(&usual.value, WebhookSecret::Text(value) if value.expose_secret() == "another-secret-of-it"));
        assert!(read(None, &argo[..1]).unwrap_err().contains("webhook.secretRef.key"), "it says what helps");
    }

    /// A secret that both sides share has no white space at its ends, because it would be lost in a header; a name is trimmed.
    #[test]
    fn white_space_around_a_webhook_secret_is_named_with_its_key() {
        let value = "0123456789abcdef";
        let forms: [&[&str]; 4] = [&["secret"], &["token"], &["header", "token"], &["username", "password"]];
        for form in forms {
            for edited in form {
                let with = |text: &str| {
                    let pairs: Vec<_> = form.iter().map(|key| (*key, if key == edited { text } else { value })).collect();
                    read(None, &pairs).map(|secret| format!("{:?} {}", secret.value, secret.value.text().expose_secret()))
                };
                let plain = with(value).unwrap();
                for end in ["\n", "\r\n"] {
                    assert_eq!(with(&format!("{value}{end}")).as_ref(), Ok(&plain), "{form:?} {edited} {end:?}");
                }
                for text in [format!("{value} "), format!(" {value}"), format!("{value}\t\n"), format!("{value}\n\n")] {
                    match *edited {
                        "header" | "username" => assert_eq!(with(&text).as_ref(), Ok(&plain), "{form:?} {edited} {text:?}"),
                        _ => {
                            let message = with(&text).unwrap_err();
                            assert!(message.contains(&format!("{NAMED}: the key {edited} begins or ends with white space")), "{message}");
                            assert!(!message.contains(value), "{message}");
                        }
                    }
                }
            }
        }
    }
}
