//! Selects the proof for a hook: a signing token or the secret token. Signing tokens exist since 19.0, behind a feature
//! flag. A server that lacks them or has disabled them silently drops the field, so only the hook that is read back shows
//! whether it was stored.

use std::sync::atomic::{AtomicU8, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::wire::{self, VersionNumber};
use crate::protocol::secret::WebhookSecret;

/// First version with signing tokens and with the fields that report whether a secret is set.
const SIGNING: VersionNumber = (19, 0);
const TOKEN_FIELD: &str = "token";
const SIGNING_TOKEN: &str = "signing_token";

/// Known state of a server's support for signing tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Support {
    /// Not known yet.
    Untold,
    /// The server does not support them.
    Lacking,
    /// The server supports them.
    Offered,
    /// The server supports them but did not store one.
    SwitchedOff,
}

/// State learned by one client about its server.
pub(super) struct Signing(AtomicU8);

impl Signing {
    pub(super) const fn new() -> Self {
        Self(AtomicU8::new(Support::Untold as u8))
    }

    pub(super) fn support(&self) -> Support {
        let known = self.0.load(Ordering::Relaxed);
        let all = [Support::Lacking, Support::Offered, Support::SwitchedOff];
        all.into_iter().find(|support| *support as u8 == known).unwrap_or(Support::Untold)
    }

    fn set(&self, support: Support) {
        self.0.store(support as u8, Ordering::Relaxed);
    }

    /// Learns from the server's version. An upgrade of the server can add support.
    pub(super) fn learn_version(&self, version: Option<VersionNumber>) {
        match (version, self.support()) {
            (Some(version), _) if version < SIGNING => self.set(Support::Lacking),
            (Some(_), Support::Untold | Support::Lacking) => self.set(Support::Offered),
            _ => {}
        }
    }

    /// Learns from a hook that was read.
    pub(super) fn learn_hook(&self, hook: &wire::Hook) {
        match (hook.signing_token_present, self.support()) {
            (Some(true), _) | (Some(false), Support::Untold | Support::Lacking) => self.set(Support::Offered),
            (None, Support::Untold) => self.set(Support::Lacking),
            _ => {}
        }
    }

    /// Records that the server reports support for signing tokens but did not store this one.
    pub(super) fn refused(&self) {
        self.set(Support::SwitchedOff);
    }
}

/// How deliveries of a hook are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// `X-Gitlab-Token`: the secret itself in every delivery.
    Token,
    /// `webhook-signature`. An existing token is removed from the hook.
    Signature,
}

impl Proof {
    /// The proof to request. A user's own secret is always a token, because the owner's endpoint accepts nothing else. A
    /// derived secret is also a token until the server's support is known; the answer shows the support, and the next
    /// secret is used for signing.
    pub(super) fn of(secret: &WebhookSecret, support: Support) -> Self {
        match (secret, support) {
            (WebhookSecret::Derived(_), Support::Offered) => Self::Signature,
            _ => Self::Token,
        }
    }

    /// Writes the secret into a hook's document. `update`: whether the hook exists and may hold another secret.
    pub(super) fn write(self, document: &mut Map<String, Value>, secret: &WebhookSecret, update: bool) {
        let token = secret.text();
        if let (Self::Signature, Some(signing)) = (self, signing_token(secret)) {
            document.insert(SIGNING_TOKEN.to_owned(), json!(signing.expose_secret()));
            if update {
                document.insert(TOKEN_FIELD.to_owned(), json!(""));
            }
        } else {
            document.insert(TOKEN_FIELD.to_owned(), json!(token.expose_secret()));
        }
    }
}

/// Encodes a derived secret as a signing token. `None` for a user's own secret.
pub(super) fn signing_token(secret: &WebhookSecret) -> Option<SecretString> {
    match secret {
        WebhookSecret::Derived(derived) => Some(format!("whsec_{}", STANDARD.encode(derived.bytes())).into()),
        WebhookSecret::Text(_) | WebhookSecret::BasicAuth { .. } | WebhookSecret::Header { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::secret::DerivedSecret;

    fn hook(signing: Option<bool>) -> wire::Hook {
        serde_json::from_value(json!({"id": 1, "url": "https://in", "signing_token_present": signing})).unwrap()
    }

    #[test]
    fn what_a_server_can_is_learned_from_what_it_says() {
        let signing = Signing::new();
        signing.learn_version(None);
        assert_eq!(signing.support(), Support::Untold);
        signing.learn_hook(&hook(None));
        assert_eq!(signing.support(), Support::Lacking);
        signing.learn_version(Some((19, 0)));
        assert_eq!(signing.support(), Support::Offered);
        signing.refused();
        for _ in 0..2 {
            signing.learn_version(Some((19, 2)));
            signing.learn_hook(&hook(Some(false)));
            assert_eq!(signing.support(), Support::SwitchedOff, "one try is enough");
        }
        signing.learn_hook(&hook(Some(true)));
        assert_eq!(signing.support(), Support::Offered, "somebody's hook took one");
        signing.learn_version(Some((18, 11)));
        assert_eq!(signing.support(), Support::Lacking);
    }

    fn written(secret: &WebhookSecret, support: Support, update: bool) -> Map<String, Value> {
        let mut document = Map::new();
        Proof::of(secret, support).write(&mut document, secret, update);
        document
    }

    #[test]
    fn a_derived_secret_signs_and_leaves_no_token_behind() {
        let derived = WebhookSecret::Derived(DerivedSecret::new([7; 32]));
        let signing = format!("whsec_{}", STANDARD.encode([7; 32]));
        assert_eq!(Value::from(written(&derived, Support::Offered, false)), json!({"signing_token": signing}));
        assert_eq!(Value::from(written(&derived, Support::Offered, true)), json!({"signing_token": signing, "token": ""}));
        let token = derived.text();
        for support in [Support::Untold, Support::Lacking, Support::SwitchedOff] {
            assert_eq!(Value::from(written(&derived, support, true)), json!({"token": token.expose_secret()}));
        }
    }

    #[test]
    fn pk_10_a_users_own_secret_is_a_token() {
        let own = WebhookSecret::Text("a-secret-of-the-users-own".into());
        for support in [Support::Untold, Support::Lacking, Support::Offered, Support::SwitchedOff] {
            assert_eq!(Value::from(written(&own, support, true)), json!({"token": "a-secret-of-the-users-own"}));
        }
    }
}
