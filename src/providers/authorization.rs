//! Builds the `Authorization` header of requests to providers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use super::{ErrorKind, ProviderError};

/// `Bearer <token>`.
pub(super) fn bearer(token: &SecretString) -> Result<HeaderValue, ProviderError> {
    header(&format!("Bearer {}", token.expose_secret()))
}

/// `token <token>`.
pub(super) fn token(token: &SecretString) -> Result<HeaderValue, ProviderError> {
    header(&format!("token {}", token.expose_secret()))
}

/// `Basic <username:password>`.
pub(super) fn basic(username: &str, password: &SecretString) -> Result<HeaderValue, ProviderError> {
    header(&format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose_secret()))))
}

/// The base64 part of a basic authorization header. It is as secret as the password that it encodes.
pub(super) fn encoded(basic: &HeaderValue) -> &str {
    basic.to_str().unwrap_or_default().trim_start_matches("Basic ")
}

fn header(text: &str) -> Result<HeaderValue, ProviderError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        let message = "the credential contains characters that cannot be sent, such as a line break";
        ProviderError::new(ErrorKind::Unauthenticated, "connect", message)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn df_20_a_credential_that_cannot_be_sent_is_not_shown() {
        let error = bearer(&"canary\nx".into()).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("canary"));
        assert!(basic("ada", &"canary".into()).unwrap().is_sensitive());
        assert_eq!(encoded(&basic("ada", &"canary".into()).unwrap()), STANDARD.encode("ada:canary"));
    }
}
