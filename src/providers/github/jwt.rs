//! Makes the JWT that authenticates an App (RFC 7519, RS256).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::providers::{ErrorKind, ProviderError};

/// Seconds by which the issue time is set in the past, because GitHub rejects an issue time in its future.
const ISSUED_BEFORE: i64 = 60;
/// Lifetime in seconds. GitHub allows at most ten minutes, measured by its own clock.
const LIFETIME: i64 = 540;

/// ID and private key of an App. It does not implement `Debug`, so it cannot be logged.
pub(super) struct AppKey {
    issuer: Value,
    key: KeyPair,
}

impl AppKey {
    /// Reads the PEM file that GitHub provides (PKCS#1), or the same key as PKCS#8.
    ///
    /// # Errors
    /// `CredentialKindNotAccepted` if it is not an RSA key. The message contains no part of the key.
    pub(super) fn read(issuer: &str, pem: &SecretString) -> Result<Self, ProviderError> {
        let unusable = |reason: &str| {
            let message =
                format!("githubAppPrivateKey {reason}; it is the PEM file that GitHub hands out, -----BEGIN RSA PRIVATE KEY-----");
            ProviderError::new(ErrorKind::CredentialKindNotAccepted, "connect", message)
        };
        let key = match PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()) {
            Ok(PrivateKeyDer::Pkcs1(der)) => KeyPair::from_der(der.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(der)) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(_) => return Err(unusable("is not an RSA key")),
            Err(_) => return Err(unusable("is not a private key in PEM format")),
        };
        let key = key.map_err(|rejected| unusable(&format!("is not usable as an RSA key ({rejected})")))?;
        // Older servers accept the App ID only as a number. A client ID is not a number and stays text.
        let issuer = issuer.parse::<u64>().map_or_else(|_| json!(issuer), |id| json!(id));
        Ok(Self { issuer, key })
    }

    /// Makes a token that is valid for a few minutes. `now` is GitHub's time.
    pub(super) fn token(&self, now: Timestamp) -> Result<SecretString, ProviderError> {
        let now = now.as_second();
        let claims = json!({"iat": now - ISSUED_BEFORE, "exp": now + LIFETIME, "iss": self.issuer});
        let encoded = |document: &Value| URL_SAFE_NO_PAD.encode(document.to_string());
        let signed = format!("{}.{}", encoded(&json!({"alg": "RS256", "typ": "JWT"})), encoded(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| ProviderError::new(ErrorKind::CredentialKindNotAccepted, "connect", "githubAppPrivateKey cannot sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    const PKCS1: &str = include_str!("../../../tests/fixtures/github/app-private-key.pkcs1.pem");
    const PKCS8: &str = include_str!("../../../tests/fixtures/github/app-private-key.pkcs8.pem");

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn dv_04_a_token_is_signed_by_the_app_and_valid_for_minutes_on_both_sides() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        for (pem, issuer, told) in [(PKCS1, "4711", json!(4711)), (PKCS8, "Iv23liExample", json!("Iv23liExample"))] {
            let key = AppKey::read(issuer, &pem.into()).unwrap();
            let token = key.token(now).unwrap();
            let parts: Vec<_> = token.expose_secret().split('.').collect();
            let [header, claims, signature] = parts.as_slice() else { panic!("three parts") };
            assert_eq!(decoded(header), json!({"alg": "RS256", "typ": "JWT"}));
            let claims = decoded(claims);
            assert_eq!(claims, json!({"iat": now.as_second() - 60, "exp": now.as_second() + 540, "iss": told}));
            assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 600, "GitHub takes ten minutes");
            let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.key.public().as_ref());
            let signed = token.expose_secret().rsplit_once('.').unwrap().0;
            assert!(public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).is_ok());
        }
    }

    #[test]
    fn df_20_a_key_that_is_none_is_refused_and_not_shown() {
        let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let cut = PKCS1.replace("MII", "MIJ");
        for pem in ["canary", "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----\n", &elliptic, &cut] {
            let error = AppKey::read("1", &pem.into()).err().unwrap();
            assert_eq!(error.kind, ErrorKind::CredentialKindNotAccepted);
            assert!(error.message.contains("githubAppPrivateKey") && !error.message.contains("canary"), "{error}");
        }
    }
}
