//! Selects the credential from the Secret's keys and authenticates it. The API and git need different forms.

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use crate::providers::transport::Transport;
use crate::providers::{Credential, ErrorKind, ProviderError, authorization};

/// User name for basic authentication with an access token as the password ("Using access tokens").
const ACCESS_TOKEN_USER: &str = "x-token-auth";
/// User name for basic authentication with an API token as the password, for git only ("Using API tokens").
const API_TOKEN_USER: &str = "x-bitbucket-api-token-auth";
/// Prefix of API tokens.
const API_TOKEN_PREFIX: &str = "ATATT";

const APP_PASSWORDS_RETIRED: &str = "Bitbucket Cloud no longer accepts app passwords (retired on 2026-07-28); create an API token with \
     scopes, which goes under the keys email and token, or a repository, project or workspace access token, which goes under the key token";
const EMAIL_NEEDED: &str = "the API accepts an API token only with the account's e-mail address; put them under the keys email and token";

/// A credential for Bitbucket Cloud.
pub(super) enum Account {
    /// No credential.
    Anonymous,
    /// An API token of a user. It requires the e-mail address of the account.
    ApiToken { email: String, token: SecretString },
    /// An access token of a repository, a project or a workspace.
    AccessToken(SecretString),
}

impl Account {
    /// Determines the kind of the credential.
    pub(super) fn new(credential: Credential) -> Result<Self, ProviderError> {
        match credential {
            Credential::Anonymous => Ok(Self::Anonymous),
            Credential::Token(token) => Ok(Self::AccessToken(token)),
            Credential::EmailToken { email, token } => Ok(Self::ApiToken { email, token }),
            Credential::BasicAuth { username, password } => Self::basic(username, password),
            Credential::GitHubApp { .. } => {
                let message = "Bitbucket Cloud takes email and token of an API token, or the token of an access token";
                Err(refused(ErrorKind::CredentialKindNotAccepted, message))
            }
        }
    }

    fn basic(username: String, password: SecretString) -> Result<Self, ProviderError> {
        if username.contains('@') {
            return Ok(Self::ApiToken { email: username, token: password });
        }
        if username == ACCESS_TOKEN_USER {
            return Ok(Self::AccessToken(password));
        }
        if username == API_TOKEN_USER || password.expose_secret().starts_with(API_TOKEN_PREFIX) {
            return Err(refused(ErrorKind::CredentialKindNotAccepted, EMAIL_NEEDED));
        }
        Err(refused(ErrorKind::AppPasswordRetired, APP_PASSWORDS_RETIRED))
    }

    /// Returns a transport that authenticates with this credential and removes all its forms from errors.
    pub(super) fn authorize(&self, transport: Transport) -> Result<Transport, ProviderError> {
        let Some(git) = self.git_authorization()? else { return Ok(transport) };
        Ok(match self {
            Self::Anonymous => transport,
            Self::ApiToken { email, token } => {
                let api = authorization::basic(email, token)?;
                let secrets = [token.expose_secret(), authorization::encoded(&api), authorization::encoded(&git)];
                transport.authorized(api.clone(), secrets)
            }
            Self::AccessToken(token) => {
                transport.authorized(authorization::bearer(token)?, [token.expose_secret(), authorization::encoded(&git)])
            }
        })
    }

    /// The authorization header for git, which does not accept the e-mail address that the API requires.
    pub(super) fn git_authorization(&self) -> Result<Option<HeaderValue>, ProviderError> {
        match self {
            Self::Anonymous => Ok(None),
            Self::ApiToken { token, .. } => authorization::basic(API_TOKEN_USER, token).map(Some),
            Self::AccessToken(token) => authorization::basic(ACCESS_TOKEN_USER, token).map(Some),
        }
    }

    pub(super) const fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }

    /// Suggests why a credential was rejected, if its format shows the reason.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::AccessToken(token) if token.expose_secret().starts_with(API_TOKEN_PREFIX) => Some(EMAIL_NEEDED),
            _ => None,
        }
    }
}

fn refused(kind: ErrorKind, message: &str) -> ProviderError {
    ProviderError::new(kind, "connect", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Result<Account, ProviderError> {
        Account::new(Credential::BasicAuth { username: username.into(), password: password.into() })
    }

    #[test]
    fn dv_11_dt_18_bb_11_an_app_password_is_recognised_and_answered_with_what_replaced_it() {
        let error = basic("ada", "ATBBcanary").err().unwrap();
        assert_eq!(error.kind, ErrorKind::AppPasswordRetired);
        for word in ["app password", "API token", "email and token", "access token"] {
            assert!(error.message.contains(word), "{word}: {error}");
        }
        assert!(!error.to_string().contains("canary") && error.message.len() <= 300, "{}", error.message.len());
    }

    #[test]
    fn the_user_name_tells_what_the_password_is() {
        assert!(matches!(basic("ada@acme.io", "t"), Ok(Account::ApiToken { email, .. }) if email == "ada@acme.io"));
        assert!(matches!(basic("x-token-auth", "t"), Ok(Account::AccessToken(_))));
        for (username, password) in [("x-bitbucket-api-token-auth", "t"), ("ada", "ATATTcanary")] {
            let error = basic(username, password).err().unwrap();
            assert_eq!(error.kind, ErrorKind::CredentialKindNotAccepted, "{username}");
            assert!(error.message.contains("e-mail") && !error.message.contains("canary"), "{error}");
        }
    }

    #[test]
    fn df_13_df_14_every_kind_of_access_token_stands_alone() {
        assert!(matches!(Account::new(Credential::Token("t".into())), Ok(Account::AccessToken(_))));
        let account = Account::new(Credential::Token("ATATTx".into())).unwrap();
        assert_eq!(account.advice(), Some(EMAIL_NEEDED));
        assert_eq!(Account::new(Credential::Token("ATCTTx".into())).unwrap().advice(), None);
    }

    #[test]
    fn git_wants_another_user_name_than_the_api() {
        let git = |account: Account| {
            let header = account.git_authorization().unwrap()?;
            Some(header.to_str().unwrap().to_owned())
        };
        let expected = |username| authorization::basic(username, &"t".into()).unwrap().to_str().unwrap().to_owned();
        let api_token = Account::ApiToken { email: "ada@acme.io".into(), token: "t".into() };
        assert_eq!(git(api_token), Some(expected("x-bitbucket-api-token-auth")));
        assert_eq!(git(Account::AccessToken("t".into())), Some(expected("x-token-auth")));
        assert_eq!(git(Account::Anonymous), None);
    }
}
