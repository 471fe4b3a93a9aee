//! Signs events by Standard Webhooks 1.0 (<https://www.standardwebhooks.com>), symmetric scheme `v1`. Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// Prefix of a key in base64. Without it, the text itself is the key.
const PREFIX: &str = "whsec_";
/// Least and most bytes of a key.
const LEAST: usize = 24;
const MOST: usize = 64;

/// A key for signatures. `Debug` hides it.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

/// Why a text is no key, and what to do. Contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The part after the prefix is not base64.
    #[error("is not valid: what follows whsec_ must be base64; make a new one, whsec_ and the output of openssl rand -base64 32")]
    NotBase64,
    /// The key is too short or too long.
    #[error("has a key of {0} bytes, but it must have {LEAST} to {MOST}; make a new one, whsec_ and the output of openssl rand -base64 32")]
    Length(usize),
}

impl SigningKey {
    /// Parses a key: `whsec_` with base64, or a plain text.
    ///
    /// # Errors
    /// The text is not a key of an admissible length.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let decoded = text.strip_prefix(PREFIX).map(|encoded| STANDARD.decode(encoded)).transpose();
        let decoded = decoded.map_err(|_| SigningKeyError::NotBase64)?;
        let bytes = decoded.as_deref().unwrap_or(text.as_bytes());
        if !(LEAST..=MOST).contains(&bytes.len()) {
            return Err(SigningKeyError::Length(bytes.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The value of `webhook-signature` for a body with this id at this second.
    #[must_use]
    pub fn sign(&self, id: &str, second: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{second}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector_of_standard_webhooks_is_met() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_is_whsec_with_base64_or_a_plain_text_of_24_to_64_bytes() {
        let encoded = |length: usize| format!("whsec_{}", STANDARD.encode(vec![7; length]));
        for text in [encoded(24), encoded(32), encoded(64), "x".repeat(24), "x".repeat(64)] {
            assert!(SigningKey::parse(&text).is_ok(), "{text}");
        }
        for (text, expected) in [
            (encoded(23), SigningKeyError::Length(23)),
            (encoded(65), SigningKeyError::Length(65)),
            ("x".repeat(23), SigningKeyError::Length(23)),
            ("x".repeat(65), SigningKeyError::Length(65)),
            (String::new(), SigningKeyError::Length(0)),
            ("whsec_".to_owned(), SigningKeyError::Length(0)),
            ("whsec_canary!canary!canary!canary!".to_owned(), SigningKeyError::NotBase64),
            ("whsec_canarycanarycanarycanarycanary1".to_owned(), SigningKeyError::NotBase64),
        ] {
            let found = SigningKey::parse(&text).unwrap_err();
            assert_eq!(found, expected, "{text}");
            assert!(found.to_string().contains("openssl rand -base64 32") && !found.to_string().contains("canary"), "{found}");
        }
        let plain = SigningKey::parse(&"canary-".repeat(5)).unwrap();
        assert_eq!(format!("{plain:?}"), "SigningKey(…)");
    }
}
