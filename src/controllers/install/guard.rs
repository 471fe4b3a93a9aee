//! Guards the Secrets with the installation's keys while the process runs. A key that is only in memory is lost with the
//! process, and with the install key the identity of every hook. So each Secret is watched, recreated when it is missing, and
//! never overwritten.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use tracing::{error, info, warn};

use super::{INSTALL_KEY, KEY, RECEIVER_KEY, receiver_secret, secret_of};
use crate::controllers::Context;
use crate::controllers::metrics::OfKey;
use crate::k8s::watch;
use crate::protocol::keys::{InstallKey, ReceiverKey};
use crate::text::wording;

/// The pause before the next attempt to recreate a missing Secret, and before an unexpected Secret is reported again.
const PAUSE: Duration = Duration::from_secs(10);

/// A watched Secret and the key that this process uses.
#[derive(Clone)]
pub struct Guarded {
    /// Label in the metrics.
    label: &'static str,
    name: String,
    key: [u8; 32],
    /// The Secret to recreate; `None` if the administrator created it, because recreating it would conflict with them.
    ours: Option<Secret>,
}

impl Guarded {
    /// Guards the install key. `brought` is the name of the administrator's own Secret, if there is one.
    #[must_use]
    pub fn install_key(namespace: &str, key: &InstallKey, brought: Option<&str>) -> Self {
        let ours = brought.is_none().then(|| secret_of(INSTALL_KEY, namespace, key.bytes(), true));
        Self { label: "install", name: brought.unwrap_or(INSTALL_KEY).to_owned(), key: *key.bytes(), ours }
    }

    /// Guards the receivers' key.
    #[must_use]
    pub fn receiver_key(namespace: &str, key: &ReceiverKey, fingerprint: &str) -> Self {
        let ours = Some(receiver_secret(namespace, key, fingerprint));
        Self { label: "receiver", name: RECEIVER_KEY.to_owned(), key: *key.bytes(), ours }
    }

    /// Labels of the metrics about this Secret.
    pub(crate) const fn labels(&self) -> OfKey {
        OfKey { key: self.label }
    }

    fn judge(&self, present: Option<&Secret>) -> Found {
        let Some(present) = present else { return Found::Missing };
        let bytes = present.data.as_ref().and_then(|data| data.get(KEY));
        if bytes.is_some_and(|bytes| bytes.0 == self.key) { Found::AsHeld } else { Found::Other }
    }

    /// The message about an unexpected Secret that this process cannot correct.
    fn remedy(&self, namespace: &str, found: Found, refusal: Option<&kube::Error>) -> String {
        let secret = format!("Secret {namespace}/{}", self.name);
        match (found, refusal) {
            (Found::AsHeld, _) => format!("{secret} has the expected key"),
            (Found::Missing, Some(refusal)) => format!(
                "{secret} is missing and cannot be written back ({}); only this process still has the key, so do not stop it; \
                 restore the Secret, or allow Forgebind to write it",
                wording::of_api_server(refusal)
            ),
            (Found::Missing, None) => format!(
                "{secret} is missing, and Forgebind did not create it; restore it from its source before this process stops, \
                 because only this process still has the key"
            ),
            (Found::Other, _) => format!(
                "{secret} contains a different key from the one in use and is not overwritten; restore the earlier key or, if \
                 the new one is intended, restart Forgebind: hooks made with the earlier key are then left behind"
            ),
        }
    }
}

/// Comparison of a Secret with the key in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    AsHeld,
    Missing,
    Other,
}

/// Watches one Secret while the process runs. Reports at once when it is missing or holds another key, and recreates it when it
/// is missing.
pub async fn watch(context: Arc<Context>, guarded: Guarded) {
    let namespace = context.view.settings.namespace.clone();
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let mut states = pin!(watch::object(secrets.clone(), &guarded.name));
    let (mut found, mut failing) = (Found::AsHeld, false);
    note(&context, &guarded, None);
    loop {
        tokio::select! {
            state = states.next() => match state {
                Some(Ok(secret)) => (found, failing) = (guarded.judge(secret.as_ref()), false),
                Some(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        let error = wording::of_watch(&error);
                        warn!(secret = guarded.name, namespace, error, "the Secret with a key cannot be watched, retrying");
                    }
                    continue;
                }
                None => return,
            },
            () = tokio::time::sleep(PAUSE), if found != Found::AsHeld => {}
        }
        let failure = match found {
            Found::AsHeld => None,
            Found::Missing => write_back(&context, &secrets, &guarded, &namespace).await,
            Found::Other => Some(guarded.remedy(&namespace, found, None)),
        };
        if let Some(failure) = &failure {
            error!(secret = guarded.name, namespace, "{failure}");
        }
        note(&context, &guarded, failure);
    }
}

/// Recreates a missing Secret with the key in use. Returns a message if that fails. A Secret that another client creates
/// meanwhile is kept; the watch delivers it.
async fn write_back(context: &Context, secrets: &Api<Secret>, guarded: &Guarded, namespace: &str) -> Option<String> {
    let Some(ours) = &guarded.ours else { return Some(guarded.remedy(namespace, Found::Missing, None)) };
    match secrets.create(&PostParams::default(), ours).await {
        Ok(_) => {
            context.metrics.keys_restored.get_or_create(&guarded.labels()).inc();
            warn!(secret = guarded.name, namespace, "the Secret was deleted; wrote it back with the same key");
            None
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            info!(secret = guarded.name, namespace, "the missing Secret exists again");
            None
        }
        Err(refusal) => Some(guarded.remedy(namespace, Found::Missing, Some(&refusal))),
    }
}

fn note(context: &Context, guarded: &Guarded, failure: Option<String>) {
    context.metrics.keys_stored.get_or_create(&guarded.labels()).set(i64::from(failure.is_none()));
    if guarded.label == "install" {
        context.view.key_failure.set(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(brought: Option<&str>) -> Guarded {
        Guarded::install_key("system", &InstallKey::new(&[7; 32]).unwrap(), brought)
    }

    #[test]
    fn a_secret_with_another_key_or_none_is_not_taken_for_the_one_that_is_held() {
        let stored = guarded(None);
        assert_eq!(stored.judge(None), Found::Missing);
        assert_eq!(stored.judge(stored.ours.as_ref()), Found::AsHeld);
        let other = secret_of(INSTALL_KEY, "system", &[8; 32], true);
        assert_eq!(stored.judge(Some(&other)), Found::Other);
        assert_eq!(stored.judge(Some(&Secret::default())), Found::Other, "one without a key");
    }

    #[test]
    fn a_key_that_somebody_brought_is_never_made_and_no_remedy_shows_a_key() {
        assert!(guarded(Some("acme-key")).ours.is_none() && guarded(None).ours.is_some());
        let refusal = kube::Error::LinesCodecMaxLineLengthExceeded;
        for (found, refusal) in [(Found::Missing, Some(&refusal)), (Found::Missing, None), (Found::Other, None)] {
            let told = guarded(Some("acme-key")).remedy("system", found, refusal);
            assert!(told.starts_with("Secret system/acme-key ") && !told.contains("7, 7"), "{told}");
        }
    }
}
