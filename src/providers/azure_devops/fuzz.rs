//! What the fuzz targets have to know of Azure DevOps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;

use super::subscription::OWN_USERNAME;
use crate::protocol::secret::WebhookSecret;
use crate::providers::fuzz::FuzzFacts;

pub(super) const FUZZ: FuzzFacts = FuzzFacts {
    endpoints: &["https://dev.azure.com/acme", "https://acme.visualstudio.com", "https://tfs.acme.io/tfs/DefaultCollection"],
    proof_headers: &["authorization"],
    proofs: |secret, _, _| {
        let text = secret.text().expose_secret().to_owned();
        let login = |username: &str| ("authorization".to_owned(), format!("Basic {}", STANDARD.encode(format!("{username}:{text}"))));
        vec![vec![match secret {
            WebhookSecret::Header { name, .. } => (name.clone(), text),
            WebhookSecret::BasicAuth { username, .. } => login(username),
            WebhookSecret::Derived(_) | WebhookSecret::Text(_) => login(OWN_USERNAME),
        }]]
    },
};
