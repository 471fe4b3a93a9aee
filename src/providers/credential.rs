//! Credentials, told by the keys of a Secret.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha1::connection::CredentialKind;

/// A credential. Its secret parts do not print.
#[derive(Clone, Debug)]
pub enum Credential {
    /// None: public repositories only.
    Anonymous,
    /// `token`.
    Token(SecretString),
    /// `username` and `password`.
    BasicAuth {
        /// User name.
        username: String,
        /// Password, or a token in its place.
        password: SecretString,
    },
    /// `email` and `token`.
    EmailToken {
        /// E-mail address.
        email: String,
        /// API token.
        token: SecretString,
    },
    /// `githubAppID` or `githubAppClientID`, and `githubAppPrivateKey`.
    GitHubApp {
        /// App id or client id: the issuer of its JWT.
        issuer: String,
        /// PEM private key.
        private_key: SecretString,
        /// Installation id, where it is given rather than found.
        installation_id: Option<String>,
        /// Secret of the App's own webhook.
        webhook_secret: Option<SecretString>,
    },
}

impl Credential {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::Anonymous => CredentialKind::Anonymous,
            Self::Token(_) => CredentialKind::Token,
            Self::BasicAuth { .. } => CredentialKind::BasicAuth,
            Self::EmailToken { .. } => CredentialKind::EmailToken,
            Self::GitHubApp { .. } => CredentialKind::GitHubApp,
        }
    }

    /// A text that is the same for the same credential and different for any other: its kind and each of its parts, with their
    /// lengths. As secret as the credential: for keyed hashes only.
    #[must_use]
    pub fn identifying_text(&self) -> SecretString {
        let parts = match self {
            Self::Anonymous => vec![],
            Self::Token(token) => vec![token.expose_secret()],
            Self::BasicAuth { username: name, password: secret } | Self::EmailToken { email: name, token: secret } => {
                vec![name.as_str(), secret.expose_secret()]
            }
            Self::GitHubApp { issuer, private_key, installation_id, .. } => {
                vec![issuer.as_str(), private_key.expose_secret(), installation_id.as_deref().unwrap_or_default()]
            }
        };
        let parts: String = parts.iter().map(|part| format!(" {}:{part}", part.len())).collect();
        format!("{:?}{parts}", self.kind()).into()
    }
}

/// A credential and the end that its Secret declares.
#[derive(Clone, Debug)]
pub struct DeclaredCredential {
    /// The credential.
    pub credential: Credential,
    /// Value of the key `expiresAt`.
    pub expires_at: Option<String>,
}

/// Why a Secret holds no usable credential. Names keys, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No known key is there.
    #[error("the Secret has none of the keys token, username and password, email and token, or githubAppID and githubAppPrivateKey")]
    NoKey,
    /// A key is missing beside others.
    #[error("the Secret has {present} but lacks {missing}")]
    KeyMissing {
        /// The key that is there.
        present: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// A key is there and empty.
    #[error("the key {0} of the Secret is empty")]
    Empty(&'static str),
    /// A key is not UTF-8 text.
    #[error("the key {0} of the Secret is not UTF-8 text")]
    NotText(&'static str),
    /// Keys of two kinds of credential are there.
    #[error("the Secret holds two kinds of credential, {0} and {1}; remove the keys of one of them")]
    Ambiguous(&'static str, &'static str),
}

const TOKEN: &str = "token";
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
const EMAIL: &str = "email";
const APP_ID: &str = "githubAppID";
const APP_CLIENT_ID: &str = "githubAppClientID";
const APP_PRIVATE_KEY: &str = "githubAppPrivateKey";
const APP_INSTALLATION_ID: &str = "githubAppInstallationID";
const APP_WEBHOOK_SECRET: &str = "githubAppWebhookSecret";
const EXPIRES_AT: &str = "expiresAt";

/// The known keys of a Secret, read as text. One newline at the end is dropped: `kubectl create secret --from-file` and
/// editors leave it there.
struct Keys<'a>(&'a BTreeMap<String, Vec<u8>>);

impl Keys<'_> {
    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn text(&self, key: &'static str) -> Result<String, SecretError> {
        let bytes = self.0.get(key).map(Vec::as_slice).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NotText(key))?;
        let text = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
        if text.trim().is_empty() { Err(SecretError::Empty(key)) } else { Ok(text.to_owned()) }
    }

    fn optional(&self, key: &'static str) -> Result<Option<String>, SecretError> {
        if self.has(key) { self.text(key).map(Some) } else { Ok(None) }
    }

    fn beside(&self, present: &'static str, missing: &'static str) -> Result<String, SecretError> {
        if self.has(missing) { self.text(missing) } else { Err(SecretError::KeyMissing { present, missing }) }
    }
}

impl DeclaredCredential {
    /// Reads a Secret's data. Keys that are not known are ignored.
    ///
    /// # Errors
    /// Missing, empty or contradicting keys, each named.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        let keys = Keys(data);
        let expires_at = keys.optional(EXPIRES_AT)?;
        let app = [APP_ID, APP_CLIENT_ID, APP_PRIVATE_KEY].into_iter().find(|key| keys.has(key));
        let basic = [USERNAME, PASSWORD].into_iter().find(|key| keys.has(key));
        let token = [TOKEN, EMAIL].into_iter().find(|key| keys.has(key));
        let credential = match (app, basic, token) {
            (Some(one), Some(other), _) | (Some(one), None, Some(other)) | (None, Some(one), Some(other)) => {
                return Err(SecretError::Ambiguous(one, other));
            }
            (Some(_), None, None) => app_credential(&keys)?,
            (None, Some(_), None) => {
                Credential::BasicAuth { username: keys.beside(PASSWORD, USERNAME)?, password: keys.beside(USERNAME, PASSWORD)?.into() }
            }
            (None, None, Some(_)) if keys.has(EMAIL) => {
                Credential::EmailToken { email: keys.text(EMAIL)?, token: keys.beside(EMAIL, TOKEN)?.into() }
            }
            (None, None, Some(_)) => Credential::Token(keys.text(TOKEN)?.into()),
            (None, None, None) => return Err(SecretError::NoKey),
        };
        Ok(Self { credential, expires_at })
    }
}

fn app_credential(keys: &Keys<'_>) -> Result<Credential, SecretError> {
    let issuer = match (keys.has(APP_ID), keys.has(APP_CLIENT_ID)) {
        (true, true) => return Err(SecretError::Ambiguous(APP_ID, APP_CLIENT_ID)),
        (false, true) => keys.text(APP_CLIENT_ID)?,
        _ => keys.beside(APP_PRIVATE_KEY, APP_ID)?,
    };
    Ok(Credential::GitHubApp {
        issuer,
        private_key: keys.beside(APP_ID, APP_PRIVATE_KEY)?.into(),
        installation_id: keys.optional(APP_INSTALLATION_ID)?,
        webhook_secret: keys.optional(APP_WEBHOOK_SECRET)?.map(SecretString::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<DeclaredCredential, SecretError> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        DeclaredCredential::from_secret(&data)
    }

    #[test]
    fn kinds_are_told_by_keys() {
        let kind = |pairs: &[(&str, &str)]| read(pairs).unwrap().credential.kind();
        assert_eq!(kind(&[("token", "t")]), CredentialKind::Token);
        assert_eq!(kind(&[("username", "u"), ("password", "p")]), CredentialKind::BasicAuth);
        assert_eq!(kind(&[("email", "e"), ("token", "t")]), CredentialKind::EmailToken);
        assert_eq!(kind(&[("githubAppID", "1"), ("githubAppPrivateKey", "k")]), CredentialKind::GitHubApp);
        assert_eq!(kind(&[("token", "t"), ("unrelated", "x")]), CredentialKind::Token);
    }

    #[test]
    fn trouble_names_the_key() {
        assert_eq!(read(&[]).unwrap_err(), SecretError::NoKey);
        assert_eq!(read(&[("token", "\n")]).unwrap_err(), SecretError::Empty("token"));
        assert_eq!(read(&[("username", "u")]).unwrap_err(), SecretError::KeyMissing { present: "username", missing: "password" });
        assert_eq!(read(&[("password", "p")]).unwrap_err(), SecretError::KeyMissing { present: "password", missing: "username" });
        assert_eq!(read(&[("email", "e")]).unwrap_err(), SecretError::KeyMissing { present: "email", missing: "token" });
        assert!(matches!(read(&[("token", "t"), ("password", "p")]).unwrap_err(), SecretError::Ambiguous(..)));
        assert!(matches!(read(&[("token", "t"), ("githubAppID", "1")]).unwrap_err(), SecretError::Ambiguous(..)));
    }

    #[test]
    fn one_newline_at_the_end_is_dropped() {
        let Credential::Token(token) = read(&[("token", "abc\n")]).unwrap().credential else { panic!("a token") };
        assert_eq!(token.expose_secret(), "abc");
    }

    #[test]
    fn df_20_secret_parts_do_not_print() {
        let text = format!("{:?}", read(&[("username", "u"), ("password", "canary-value")]).unwrap());
        assert!(!text.contains("canary-value"), "{text}");
    }
}
