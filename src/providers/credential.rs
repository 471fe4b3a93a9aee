//! Reads a credential from a Secret. The keys of the Secret determine the credential kind.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use secrecy::{ExposeSecret as _, SecretString};

use super::secret_keys::{SecretError, SecretKeys};
use crate::api::v1alpha1::connection::CredentialKind;

/// A credential. `Debug` output hides its secret parts.
#[derive(Clone, Debug)]
pub enum Credential {
    /// No credential: public repositories only.
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
        /// Installation id, if the Secret gives one instead of leaving it to be looked up.
        installation_id: Option<String>,
        /// Secret of the App's own webhook.
        webhook_secret: Option<SecretString>,
    },
}

impl Credential {
    /// The kind of this credential.
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

    /// Text that identifies the credential: its kind and each of its parts with their lengths. Equal for equal credentials,
    /// different for different ones. It is as secret as the credential: use it for keyed hashes only.
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
        let parts: Vec<String> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        format!("{:?} {}", self.kind(), parts.join(" ")).into()
    }
}

/// A credential, with the expiry that its Secret declares.
#[derive(Clone, Debug)]
pub struct DeclaredCredential {
    /// The credential.
    pub credential: Credential,
    /// Value of the key `expiresAt`.
    pub expires_at: Option<String>,
    /// Problems of values that are usable nevertheless. Names keys, never values.
    pub warnings: Vec<String>,
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

/// The Secret keys of a credential kind, as text for users; `None` for a kind without keys.
#[must_use]
pub const fn key_words(kind: CredentialKind) -> Option<&'static str> {
    match kind {
        CredentialKind::Token => Some("key token"),
        CredentialKind::BasicAuth => Some("keys username and password"),
        CredentialKind::EmailToken => Some("keys email and token"),
        CredentialKind::GitHubApp => Some("keys githubAppID (or githubAppClientID) and githubAppPrivateKey"),
        CredentialKind::Anonymous => None,
    }
}

impl DeclaredCredential {
    /// Reads the data of a Secret. Ignores unknown keys.
    ///
    /// # Errors
    /// Missing, empty or contradicting keys; the error names each.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        let keys = SecretKeys(data);
        let expires_at = keys.optional(EXPIRES_AT, SecretKeys::word)?;
        let mut warnings: Vec<String> = expires_at.as_deref().and_then(unreadable_end).into_iter().collect();
        let app = [APP_ID, APP_CLIENT_ID, APP_PRIVATE_KEY].into_iter().find(|key| keys.has(key));
        let basic = [USERNAME, PASSWORD].into_iter().find(|key| keys.has(key));
        let token = [TOKEN, EMAIL].into_iter().find(|key| keys.has(key));
        let credential = match (app, basic, token) {
            (Some(one), Some(other), _) | (Some(one), None, Some(other)) | (None, Some(one), Some(other)) => {
                return Err(SecretError::Ambiguous(one, other));
            }
            (Some(_), None, None) => app_credential(&keys)?,
            (None, Some(_), None) => basic_credential(&keys, &mut warnings)?,
            (None, None, Some(_)) if keys.has(EMAIL) => {
                Credential::EmailToken { email: keys.word(EMAIL)?, token: beside(&keys, EMAIL, TOKEN, SecretKeys::token)?.into() }
            }
            (None, None, Some(_)) => Credential::Token(keys.token(TOKEN)?.into()),
            (None, None, None) => return Err(SecretError::NoKey),
        };
        Ok(Self { credential, expires_at, warnings })
    }
}

/// Reads a key that is required because another key is present.
fn beside<'a, T>(
    keys: &SecretKeys<'a>,
    present: &'static str,
    missing: &'static str,
    read: impl Fn(&SecretKeys<'a>, &'static str) -> Result<T, SecretError>,
) -> Result<T, SecretError> {
    if keys.has(missing) { read(keys, missing) } else { Err(SecretError::KeyMissing { present, missing }) }
}

fn basic_credential(keys: &SecretKeys<'_>, warnings: &mut Vec<String>) -> Result<Credential, SecretError> {
    let username = beside(keys, PASSWORD, USERNAME, SecretKeys::word)?;
    let (password, has_edges) = beside(keys, USERNAME, PASSWORD, SecretKeys::password)?;
    warnings.extend(has_edges.then(|| {
        format!(
            "the value of the key {PASSWORD} begins or ends with white space, which is sent as part of the password; remove it \
             unless it is intended"
        )
    }));
    Ok(Credential::BasicAuth { username, password: password.into() })
}

/// A warning for an `expiresAt` value that cannot be parsed and is therefore ignored.
fn unreadable_end(text: &str) -> Option<String> {
    let is_end = text.parse::<Timestamp>().is_ok() || text.parse::<Date>().is_ok();
    let message = || format!("the value of the key {EXPIRES_AT} is not a date such as 2027-03-01 or an RFC 3339 time, so it is ignored");
    (!is_end).then(message)
}

fn app_credential(keys: &SecretKeys<'_>) -> Result<Credential, SecretError> {
    let issuer = match (keys.has(APP_ID), keys.has(APP_CLIENT_ID)) {
        (true, true) => return Err(SecretError::Ambiguous(APP_ID, APP_CLIENT_ID)),
        (false, true) => keys.token(APP_CLIENT_ID)?,
        _ => beside(keys, APP_PRIVATE_KEY, APP_ID, SecretKeys::token)?,
    };
    Ok(Credential::GitHubApp {
        issuer,
        private_key: beside(keys, APP_ID, APP_PRIVATE_KEY, SecretKeys::word)?.into(),
        installation_id: keys.optional(APP_INSTALLATION_ID, SecretKeys::token)?,
        webhook_secret: keys.optional(APP_WEBHOOK_SECRET, SecretKeys::shared)?.map(SecretString::from),
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
        assert_eq!(read(&[("token", "\n")]).unwrap_err(), SecretError::Empty("token".to_owned()));
        assert_eq!(read(&[("username", "u")]).unwrap_err(), SecretError::KeyMissing { present: "username", missing: "password" });
        assert_eq!(read(&[("password", "p")]).unwrap_err(), SecretError::KeyMissing { present: "password", missing: "username" });
        assert_eq!(read(&[("email", "e")]).unwrap_err(), SecretError::KeyMissing { present: "email", missing: "token" });
        assert!(matches!(read(&[("token", "t"), ("password", "p")]).unwrap_err(), SecretError::Ambiguous(..)));
        assert!(matches!(read(&[("token", "t"), ("githubAppID", "1")]).unwrap_err(), SecretError::Ambiguous(..)));
    }

    /// What happens to a value with white space around it.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        /// The white space is removed.
        Trimmed,
        /// The white space is kept, and a warning names the key.
        KeptAndNamed,
        /// The value is refused; the error names the key.
        Refused,
    }

    /// The keys and values of one form of credential, the key under test, and what happens to white space around its value.
    type Row<'a> = (&'a [(&'a str, &'a str)], &'static str, Fate);

    /// Every key of every form of credential. A single trailing line break is dropped everywhere.
    #[test]
    fn white_space_around_a_value_is_dropped_named_or_refused_and_never_sent_unsaid() {
        use Fate::{KeptAndNamed, Refused, Trimmed};
        let app: &[(&str, &str)] = &[
            ("githubAppID", "12"),
            ("githubAppPrivateKey", "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----"),
            ("githubAppInstallationID", "34"),
            ("githubAppWebhookSecret", "a-secret-of-an-app"),
        ];
        let by_client: &[(&str, &str)] = &[("githubAppClientID", "Iv1.8a61f9b3a7aba766"), ("githubAppPrivateKey", "key")];
        let forms: &[Row<'_>] = &[
            (&[("token", "ghp_abc"), ("expiresAt", "2027-03-01")], "token", Trimmed),
            (&[("token", "ghp_abc"), ("expiresAt", "2027-03-01")], "expiresAt", Trimmed),
            (&[("email", "ada@acme.io"), ("token", "ATATT3x")], "email", Trimmed),
            (&[("email", "ada@acme.io"), ("token", "ATATT3x")], "token", Trimmed),
            (&[("username", "ada"), ("password", "pass word")], "username", Trimmed),
            (&[("username", "ada"), ("password", "pass word")], "password", KeptAndNamed),
            (app, "githubAppID", Trimmed),
            (app, "githubAppPrivateKey", Trimmed),
            (app, "githubAppInstallationID", Trimmed),
            (app, "githubAppWebhookSecret", Refused),
            (by_client, "githubAppClientID", Trimmed),
        ];
        let told = |declared: &DeclaredCredential| {
            format!("{:?} {:?}", declared.credential.identifying_text().expose_secret(), declared.expires_at)
        };
        let whole = |declared: &DeclaredCredential| match &declared.credential {
            Credential::GitHubApp { installation_id, webhook_secret, .. } => {
                format!(
                    "{} {installation_id:?} {:?}",
                    told(declared),
                    webhook_secret.as_ref().map(|secret| secret.expose_secret().to_owned())
                )
            }
            _ => told(declared),
        };
        for (pairs, key, fate) in forms {
            let plain = read(pairs).unwrap();
            assert_eq!(plain.warnings, Vec::<String>::new());
            let with = |before: &str, after: &str| {
                let edited: Vec<(&str, String)> = pairs
                    .iter()
                    .map(|(name, value)| (*name, if name == key { format!("{before}{value}{after}") } else { (*value).to_owned() }))
                    .collect();
                read(&edited.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>())
            };
            for end in ["\n", "\r\n"] {
                let declared = with("", end).unwrap();
                assert_eq!((whole(&declared), declared.warnings.len()), (whole(&plain), 0), "{key} {end:?}");
            }
            for (before, after) in [(" ", ""), ("", " "), ("", "\t"), ("", " \n"), ("\n", ""), ("", "\n\n"), ("\u{a0}", "")] {
                let found = with(before, after);
                let case = format!("{key} {before:?} {after:?}");
                match fate {
                    Trimmed => {
                        let declared = found.unwrap();
                        assert_eq!((whole(&declared), declared.warnings.len()), (whole(&plain), 0), "{case}");
                    }
                    KeptAndNamed => {
                        let declared = found.unwrap();
                        assert_ne!(whole(&declared), whole(&plain), "{case}");
                        assert!(declared.warnings.len() == 1 && declared.warnings[0].contains(key), "{case}: {:?}", declared.warnings);
                    }
                    Refused => assert_eq!(found.unwrap_err(), SecretError::Edges(key.to_string()), "{case}"),
                }
            }
        }
    }

    #[test]
    fn a_token_of_several_words_and_an_end_that_is_none_are_named() {
        for text in ["ghp_abc def", "ghp_abc\ndef", "ghp_abc\u{0}def"] {
            assert_eq!(read(&[("token", text)]).unwrap_err(), SecretError::NotOneWord("token".to_owned()), "{text:?}");
        }
        for (text, warnings) in [("2027-03-01", 0), ("2027-03-01T12:00:00Z", 0), ("next year", 1), ("01.03.2027", 1)] {
            let declared = read(&[("token", "ghp_abc"), ("expiresAt", text)]).unwrap();
            assert_eq!(declared.warnings.len(), warnings, "{text}");
            assert!(!declared.warnings.concat().contains(text), "values are never told");
        }
    }

    #[test]
    fn df_20_secret_parts_do_not_print() {
        let text = format!("{:?}", read(&[("username", "u"), ("password", "canary-value")]).unwrap());
        assert!(!text.contains("canary-value"), "{text}");
    }
}
