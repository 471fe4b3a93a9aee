//! What the fuzz targets have to know of GitHub.

use crate::providers::fuzz::{FuzzFacts, hmac_hex};

pub(super) const FUZZ: FuzzFacts = FuzzFacts {
    endpoints: &["https://github.com", "https://acme.io/hub", "https://git.acme.io:8443"],
    proof_headers: &["x-hub-signature-256", "x-hub-signature", "authorization"],
    proofs: |secret, _, body| vec![vec![("x-hub-signature-256".to_owned(), format!("sha256={}", hmac_hex(secret, body)))]],
};
