//! What the fuzz targets have to know of Bitbucket Data Center.

use crate::providers::fuzz::{FuzzFacts, hmac_hex};

pub(super) const FUZZ: FuzzFacts = FuzzFacts {
    endpoints: &["https://git.acme.io", "https://acme.io:7990/bitbucket"],
    proof_headers: &["x-hub-signature", "x-hub-signature-256", "authorization"],
    proofs: |secret, _, body| vec![vec![("x-hub-signature".to_owned(), format!("sha256={}", hmac_hex(secret, body)))]],
};
