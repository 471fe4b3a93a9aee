//! The secret with which a hook authenticates its deliveries.

use secrecy::{ExposeSecret as _, SecretString};

use super::keys;

/// The secret with which a hook authenticates its deliveries.
#[derive(Clone, Debug)]
pub enum WebhookSecret {
    /// Derived from the install key. Each provider encodes the bytes in its own form.
    Derived(DerivedSecret),
    /// A user's own secret or token.
    Text(SecretString),
    /// A user name and password that the user provides.
    BasicAuth {
        /// User name.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// A header that the user provides.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: SecretString,
    },
}

/// The bytes of a derived secret. `Debug` hides them.
#[derive(Clone)]
pub struct DerivedSecret([u8; 32]);

impl std::fmt::Debug for DerivedSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DerivedSecret(…)")
    }
}

impl DerivedSecret {
    /// Wraps the bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the secret.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl WebhookSecret {
    /// The text that is used as key for signatures: the derived bytes in base64url, or the user's own value.
    #[must_use]
    pub fn text(&self) -> SecretString {
        match self {
            Self::Derived(derived) => keys::secret_text(derived.bytes()),
            Self::Text(value) | Self::Header { value, .. } => value.clone(),
            Self::BasicAuth { password, .. } => password.clone(),
        }
    }

    /// The parts of the secret that a hook carries, beginning with its kind: two secrets with the same parts are the same to a
    /// provider.
    #[must_use]
    pub fn parts(&self) -> Vec<SecretString> {
        let (kind, name) = match self {
            Self::Derived(_) => ("derived", ""),
            Self::Text(_) => ("text", ""),
            Self::BasicAuth { username, .. } => ("basic-auth", username.as_str()),
            Self::Header { name, .. } => ("header", name.as_str()),
        };
        vec![kind.into(), name.into(), self.text()]
    }

    /// Minimum length of a user's own secret, in bytes.
    pub const LEAST_LENGTH: usize = 16;

    /// Maximum total length of all parts of a user's own secret, in bytes. The entries for the receivers share a small number of
    /// Secrets.
    pub const MOST_LENGTH: usize = 1024;

    /// Whether a user's own secret is too long.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.parts().iter().skip(1).map(|part| part.expose_secret().len()).sum::<usize>() > Self::MOST_LENGTH
    }

    /// Whether a user's own secret is long enough.
    #[must_use]
    pub fn is_strong_enough(&self) -> bool {
        self.text().expose_secret().len() >= Self::LEAST_LENGTH
    }
}
