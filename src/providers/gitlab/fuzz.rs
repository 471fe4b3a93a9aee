//! What the fuzz targets have to know of GitLab.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use secrecy::ExposeSecret as _;

use crate::protocol::secret::WebhookSecret;
use crate::providers::fuzz::{FuzzFacts, Proof};

pub(super) const FUZZ: FuzzFacts = FuzzFacts {
    endpoints: &["https://gitlab.com", "https://acme.io:8443/git"],
    proof_headers: &["x-gitlab-token", "webhook-signature", "authorization"],
    proofs: |secret, _, body| {
        let token = vec![("x-gitlab-token".to_owned(), secret.text().expose_secret().to_owned())];
        match secret {
            WebhookSecret::Derived(derived) => vec![token, signature(derived.bytes(), body)],
            _ => vec![token],
        }
    },
};

/// A signature of Standard Webhooks.
fn signature(key: &[u8], body: &[u8]) -> Proof {
    let (id, time) = ("msg-1", "1795243200");
    let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
    let digest = STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed));
    let headers = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", &format!("v1,{digest}"))];
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
