//! What a hook proves its deliveries with.

use secrecy::{ExposeSecret as _, SecretString};

use super::keys;

/// What a hook proves itself with.
#[derive(Clone, Debug)]
pub enum WebhookSecret {
    /// Derived from the install key. Providers write the bytes in their own form.
    Derived(DerivedSecret),
    /// A user's own secret or token.
    Text(SecretString),
    /// A user's own pair.
    BasicAuth {
        /// User name.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// A header of the user's own.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: SecretString,
    },
}

/// The bytes of a derived secret. They do not print.
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

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl WebhookSecret {
    /// The text that signs: the derived bytes in base64url, or the user's own value.
    #[must_use]
    pub fn text(&self) -> SecretString {
        match self {
            Self::Derived(derived) => keys::secret_text(derived.bytes()),
            Self::Text(value) | Self::Header { value, .. } => value.clone(),
            Self::BasicAuth { password, .. } => password.clone(),
        }
    }

    /// Every part of it that a hook carries, beginning with its kind: two secrets with the same parts are the same to a provider.
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

    /// The shortest that is accepted of a user's own secret, in bytes.
    pub const LEAST_LENGTH: usize = 16;

    /// The longest that is accepted, all of its parts together, in bytes. What is prepared for the receivers shares a few Secrets.
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
