//! Verifies the signatures of deliveries: tries every secret in constant time, and never accepts an empty secret.

use http::{HeaderMap, HeaderValue};
use ring::hmac;
use secrecy::ExposeSecret as _;

use super::webhook::Rejection;
use crate::protocol::secret::WebhookSecret;

/// Length of an HMAC-SHA256 in bytes.
pub(super) const DIGEST_LENGTH: usize = 32;

/// The position of the first secret that proves a delivery. All secrets are tried, so that the duration does not reveal which one
/// matched. An empty secret never matches, because anyone can sign with it.
pub(super) fn prove(secrets: &[WebhookSecret], is_right: impl Fn(&WebhookSecret) -> bool) -> Result<usize, Rejection> {
    let mut proven = None;
    for (position, secret) in secrets.iter().enumerate() {
        let right = is_right(secret);
        if right && !secret.text().expose_secret().is_empty() && proven.is_none() {
            proven = Some(position);
        }
    }
    proven.ok_or(Rejection::ProofWrong)
}

/// The position of the secret whose text signed the payload.
pub(super) fn hmac_sha256(secrets: &[WebhookSecret], payload: &[u8], digest: &[u8]) -> Result<usize, Rejection> {
    prove(secrets, |secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.text().expose_secret().as_bytes());
        hmac::verify(&key, payload, digest).is_ok()
    })
}

/// The value of a header that must occur exactly once and not be empty: a second one indicates an attack.
pub(super) fn only_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a HeaderValue, Rejection> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|value| !value.is_empty()).ok_or(Rejection::ProofMissing)?;
    if values.next().is_some() { Err(Rejection::ProofWrong) } else { Ok(value) }
}

/// Decodes a hex digest.
pub(super) fn digest(text: &[u8]) -> Result<[u8; DIGEST_LENGTH], Rejection> {
    let mut digest = [0; DIGEST_LENGTH];
    hex::decode_to_slice(text, &mut digest).map_err(|_| Rejection::ProofWrong)?;
    Ok(digest)
}

/// Decodes the digest of a header with the prefix `sha256=`.
pub(super) fn sha256_digest(value: &HeaderValue) -> Result<[u8; DIGEST_LENGTH], Rejection> {
    digest(value.as_bytes().strip_prefix(b"sha256=").ok_or(Rejection::ProofWrong)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(secret: &str, payload: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), payload).as_ref().to_vec()
    }

    #[test]
    fn bb_21_the_right_secret_is_found_and_an_empty_one_proves_nothing() {
        let secrets = ["first", "second", ""].map(|text| WebhookSecret::Text(text.into()));
        assert_eq!(hmac_sha256(&secrets, b"body", &sign("second", b"body")), Ok(1));
        assert_eq!(hmac_sha256(&secrets, b"other", &sign("second", b"body")), Err(Rejection::ProofWrong));
        assert_eq!(hmac_sha256(&secrets, b"body", &sign("", b"body")), Err(Rejection::ProofWrong));
        assert_eq!(hmac_sha256(&[], b"body", &sign("second", b"body")), Err(Rejection::ProofWrong));
    }

    #[test]
    fn a_proof_stands_once_in_its_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(only_header(&headers, "x-proof"), Err(Rejection::ProofMissing));
        headers.append("x-proof", HeaderValue::from_static(""));
        assert_eq!(only_header(&headers, "x-proof"), Err(Rejection::ProofMissing));
        headers.insert("x-proof", HeaderValue::from_static("sha256=00"));
        let value = only_header(&headers, "x-proof").unwrap();
        assert_eq!(sha256_digest(value), Err(Rejection::ProofWrong), "too short");
        assert_eq!(sha256_digest(&HeaderValue::from_str(&format!("sha256={}", "ab".repeat(32))).unwrap()), Ok([0xab; 32]));
        headers.append("x-proof", HeaderValue::from_static("sha256=11"));
        assert_eq!(only_header(&headers, "x-proof"), Err(Rejection::ProofWrong));
    }
}
