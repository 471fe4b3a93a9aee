//! What the fuzz targets have to know of Gitea.

use crate::providers::fuzz::{FuzzFacts, hmac_hex};
use crate::providers::webhook::document;

pub(super) const FUZZ: FuzzFacts = FuzzFacts {
    endpoints: &["https://gitea.acme.io", "https://acme.io/git/", "http://bücher.example:3000"],
    proof_headers: &[
        "x-gitea-signature",
        "x-forgejo-signature",
        "x-gogs-signature",
        "x-hub-signature",
        "x-hub-signature-256",
        "authorization",
    ],
    // The document is signed, also if it comes in a form.
    proofs: |secret, headers, body| {
        let payload = document(headers, body).unwrap_or_default();
        vec![vec![("x-gitea-signature".to_owned(), hmac_hex(secret, &payload))]]
    },
};
