//! Inspects a credential: its account by a header, and its permissions only by which calls succeed.

use percent_encoding::percent_decode_str;

use super::client::{Account, BitbucketDataCenterClient};
use super::{error, permission, wire};
use crate::api::v1alpha1::connection::IdentityKind;
use crate::providers::model::{Capabilities, Identity, Inspection};
use crate::providers::permission::Grants;
use crate::providers::transport::{Answer, Operation};
use crate::providers::webhook::header_text;
use crate::providers::{ErrorKind, ProviderError};

const FLAVOR: &str = "BitbucketDataCenter";
/// Name of the product in its properties.
const DISPLAY_NAME: &str = "Bitbucket";
/// Oldest supported version.
const OLDEST: (u64, u64) = (8, 9);
/// User name that some single sign-on plugins report for unauthenticated requests.
const NOBODY: &str = "anonymous";

const NO_BITBUCKET: &str = "no Bitbucket Data Center answers at this address";

pub(super) const fn capabilities() -> Capabilities {
    Capabilities {
        api: true,
        one_event_per_hook: false,
        // Some versions return the secret and some mask it, so no feature relies on it.
        secret_readable: false,
        update_sets_secret: true,
        lookup_by_id: false,
        delivery_log: false,
        resend: false,
        signature: true,
        scope_introspection: false,
        expiry_introspection: false,
    }
}

impl BitbucketDataCenterClient {
    pub(super) async fn inspect_credential(&self) -> Result<Inspection, ProviderError> {
        let operation = if self.is_anonymous() { Operation::ReadVersion } else { Operation::InspectCredential };
        let answer = self.get(operation, self.api(["application-properties"])).await?;
        match answer.refusal() {
            None => {}
            // A whole installation may be closed to anonymous users.
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) if self.is_anonymous() => {
                self.shows_something().await?;
                return Ok(self.anonymous(None));
            }
            // Every user may read this. An account that may not is not a user of the product, and its password is not tried
            // again.
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => return Err(rejected(&answer)),
            Some(ErrorKind::NotFound) => return Err(answer.invalid(NO_BITBUCKET)),
            Some(kind) => return Err(answer.refused(kind)),
        }
        let name = user_name(&answer);
        let unnamed = answer.refused(ErrorKind::Unauthenticated);
        let stranger = answer.invalid(NO_BITBUCKET);
        let server: wire::ApplicationProperties = answer.json()?;
        if server.display_name != DISPLAY_NAME {
            return Err(stranger);
        }
        if self.is_anonymous() {
            return Ok(self.anonymous(Some(server.version)));
        }
        let Some(name) = name else {
            let message = "the server treated the request as anonymous (no header X-AUSERNAME in its response): the credential \
                           is not accepted, or a proxy in front of the server removes the header";
            return Err(ProviderError { message: message.to_owned(), ..unnamed });
        };
        let kind = self.identity_kind(&name).await?;
        let listed = self.are_repositories_listed().await?;
        self.note_listing(listed);
        let mut warnings: Vec<String> = outdated(&server.version).into_iter().collect();
        if !listed {
            warnings.push(match &self.endpoint.scope {
                Some(scope) => {
                    format!("this credential cannot list the repositories of {scope}: that needs {}", permission::PROJECT_READING)
                }
                None => "the server does not list the repositories that this credential may read".to_owned(),
            });
        }
        Ok(Inspection {
            identity: Some(Identity { name: Some(name), kind }),
            warnings,
            ..inspection(Some(server.version), Grants::Unknown(self.untold().to_owned()))
        })
    }

    /// Fails if the server hides even public repositories from anonymous users.
    async fn shows_something(&self) -> Result<(), ProviderError> {
        let mut url = self.api(["repos"]);
        url.query_pairs_mut().extend_pairs([("visibility", "public"), ("limit", "1")]);
        let answer = self.get(Operation::InspectCredential, url).await?;
        match answer.refusal() {
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => Err(answer.refused(ErrorKind::Unauthenticated)),
            _ => Ok(()),
        }
    }

    fn anonymous(&self, version: Option<String>) -> Inspection {
        let warnings = version.as_deref().and_then(outdated).into_iter().collect();
        Inspection { warnings, ..inspection(version, Grants::Unknown(self.untold().to_owned())) }
    }

    /// The reason why the permissions of this credential are unknown.
    pub(super) const fn untold(&self) -> &'static str {
        match self.account {
            Account::Anonymous => "there is no credential",
            Account::Token => "the server does not report the permissions of an HTTP access token",
            Account::Basic => "the server does not report an account's permissions",
        }
    }

    /// Determines the kind of identity. A token of a project or repository acts as a user of its own, which no directory
    /// contains.
    async fn identity_kind(&self, name: &str) -> Result<IdentityKind, ProviderError> {
        if matches!(self.account, Account::Basic) {
            return Ok(IdentityKind::User);
        }
        let answer = self.get(Operation::InspectCredential, self.api(["users", name])).await?;
        match answer.refusal() {
            Some(ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(IdentityKind::Token),
            Some(kind) => Err(answer.refused(kind)),
            None => {
                let user: wire::User = answer.json()?;
                let service = user.kind.as_deref() == Some("SERVICE");
                Ok(if service { IdentityKind::ServiceAccount } else { IdentityKind::User })
            }
        }
    }

    /// Whether the repositories of the connection's project can be listed, which proves `PROJECT_READ`. A token of one
    /// repository lacks this level but still works for its repository. Without a project: whether the server returns any
    /// list, because it contains what the credential may read.
    async fn are_repositories_listed(&self) -> Result<bool, ProviderError> {
        let mut url = self.repositories_url();
        url.query_pairs_mut().append_pair("limit", "1");
        let answer = self.get(Operation::InspectCredential, url).await?;
        match answer.refusal() {
            None => Ok(true),
            Some(ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(false),
            Some(kind) => Err(answer.refused(kind)),
        }
    }
}

/// The name of the authenticated account. The header's value may be percent-encoded.
fn user_name(answer: &Answer) -> Option<String> {
    let name = header_text(answer.headers(), error::USER_NAME.as_str()).filter(|name| *name != NOBODY)?;
    Some(percent_decode_str(name).decode_utf8_lossy().into_owned())
}

/// The error for a refused credential, with advice if the password may be correct.
fn rejected(answer: &Answer) -> ProviderError {
    let error = answer.refused(ErrorKind::Unauthenticated);
    if error::asks_for_captcha(answer) {
        let message = "the server asks for a CAPTCHA after too many failed log-ins: log in once with a browser, or use an HTTP \
                       access token instead; the password is not tried again until its Secret changes";
        return ProviderError { message: message.to_owned(), ..error };
    }
    error
}

/// Returns a warning if the version is older than the oldest supported one.
fn outdated(version: &str) -> Option<String> {
    let mut numbers = version.split(|character: char| !character.is_ascii_digit()).map_while(|part| part.parse::<u64>().ok());
    let number = (numbers.next()?, numbers.next().unwrap_or_default());
    (number < OLDEST).then(|| format!("Bitbucket {version} is older than {}.{}, the oldest supported version", OLDEST.0, OLDEST.1))
}

fn inspection(version: Option<String>, grants: Grants) -> Inspection {
    Inspection {
        flavor: FLAVOR.to_owned(),
        version,
        identity: None,
        credential_name: None,
        expires_at: None,
        grants,
        capabilities: capabilities(),
        scope: None,
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use axum::response::Response;

    use super::*;
    use crate::api::v1alpha1::Permission;
    use crate::api::v1alpha1::connection::PermissionState;
    use crate::providers::Credential;
    use crate::providers::bitbucket_data_center::client::tests::{LIST, connect, refusal};
    use crate::providers::transport::test_server::{Server, TOKEN, answer, json};

    const PROPERTIES: &str = r#"{"version":"9.4.1","buildNumber":"9004001","buildDate":"1735000000000","displayName":"Bitbucket"}"#;
    const NOT_PERMITTED: &str = "com.atlassian.bitbucket.AuthorisationException";

    fn properties(user: Option<&str>) -> Response {
        let mut headers = vec![("content-type", "application/json;charset=UTF-8")];
        headers.extend(user.map(|user| ("x-ausername", user)));
        answer(200, &headers, PROPERTIES)
    }

    fn basic() -> Credential {
        Credential::BasicAuth { username: "ada".into(), password: TOKEN.into() }
    }

    async fn inspect(server: &Server, credential: Credential) -> Result<Inspection, ProviderError> {
        connect(server, credential).inspect().await
    }

    #[tokio::test]
    async fn dv_12_version_and_identity_are_told_by_one_call() {
        let person = json(200, r#"{"name":"ada lovelace","slug":"ada_lovelace","type":"NORMAL"}"#);
        let server = Server::start([properties(Some("ada%20lovelace")), person, json(200, LIST)]).await;
        let inspection = inspect(&server, Credential::Token(TOKEN.into())).await.unwrap();
        assert_eq!(inspection.identity, Some(Identity { name: Some("ada lovelace".into()), kind: IdentityKind::User }));
        assert_eq!((inspection.flavor.as_str(), inspection.version.as_deref()), (FLAVOR, Some("9.4.1")));
        assert_eq!(inspection.warnings, Vec::<String>::new());
        let lines = [
            "GET /rest/api/latest/application-properties",
            "GET /rest/api/latest/users/ada%20lovelace",
            "GET /rest/api/latest/projects/APP/repos?limit=1",
        ];
        assert_eq!(server.lines(), lines);
        assert!(server.seen.lock().unwrap().iter().all(|seen| seen.head.contains("Bearer")));
    }

    #[tokio::test]
    async fn pk_11_project_read_is_checked_by_its_effect() {
        let bot = || refusal(404, "com.atlassian.bitbucket.user.NoSuchUserException");
        for (list, state) in [(json(200, LIST), PermissionState::Granted), (refusal(401, NOT_PERMITTED), PermissionState::Unknown)] {
            let server = Server::start([properties(Some("access-token-user/1/9")), bot(), list]).await;
            let client = connect(&server, Credential::Token(TOKEN.into()));
            let inspection = client.inspect().await.unwrap();
            assert_eq!(inspection.identity.as_ref().unwrap().kind, IdentityKind::Token, "the user of a project's token is in no directory");
            let finding = client.permission(&inspection, Permission::ListRepositories);
            assert_eq!(finding.state, state);
            let named = inspection.warnings.iter().any(|warning| warning.contains("PROJECT_READ") && warning.contains("APP"));
            assert_eq!(named, state == PermissionState::Unknown, "{:?}", inspection.warnings);
        }
    }

    #[tokio::test]
    async fn a_success_without_a_user_is_no_authentication() {
        for user in [None, Some(""), Some("anonymous")] {
            let server = Server::start([properties(user)]).await;
            let error = inspect(&server, Credential::Token(TOKEN.into())).await.unwrap_err();
            assert_eq!((error.kind, server.lines().len()), (ErrorKind::Unauthenticated, 1), "{user:?}");
            assert!(error.message.contains("X-AUSERNAME"), "{error}");
        }
    }

    #[tokio::test]
    async fn every_refusal_of_the_open_door_rejects_the_credential() {
        for response in [
            refusal(401, "com.atlassian.bitbucket.auth.IncorrectPasswordAuthenticationException"),
            refusal(401, NOT_PERMITTED),
            answer(401, &[("x-ausername", "ada")], ""),
            answer(401, &[], ""),
            answer(403, &[], ""),
        ] {
            let server = Server::start([response]).await;
            assert_eq!(inspect(&server, basic()).await.unwrap_err().kind, ErrorKind::Unauthenticated);
            assert_eq!(server.lines().len(), 1, "a password is sent once");
        }
    }

    #[tokio::test]
    async fn a_captcha_says_what_to_do() {
        let by_body = refusal(403, "com.atlassian.bitbucket.auth.CaptchaRequiredAuthenticationException");
        let by_header = answer(401, &[("x-authentication-denied-reason", "CAPTCHA_CHALLENGE; login-url=https://git/login")], "");
        for response in [by_body, by_header] {
            let server = Server::start([response]).await;
            let error = inspect(&server, basic()).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
            assert!(error.message.contains("log in once with a browser"), "{error}");
        }
    }

    #[tokio::test]
    async fn no_credential_is_no_error() {
        let public = json(200, r#"{"size":0,"limit":1,"isLastPage":true,"values":[]}"#);
        for (responses, version) in [(vec![properties(None)], Some("9.4.1")), (vec![refusal(401, NOT_PERMITTED), public], None)] {
            let calls = responses.len();
            let server = Server::start(responses).await;
            let inspection = inspect(&server, Credential::Anonymous).await.unwrap();
            assert_eq!((inspection.identity, inspection.version.as_deref()), (None, version));
            assert_eq!(server.lines().len(), calls);
        }
    }

    #[tokio::test]
    async fn a_server_that_shows_nothing_to_nobody_asks_for_a_credential() {
        for exception in [NOT_PERMITTED, "com.atlassian.bitbucket.auth.NoSuchAuthenticationException"] {
            let server = Server::start([refusal(401, exception), refusal(401, exception)]).await;
            assert_eq!(inspect(&server, Credential::Anonymous).await.unwrap_err().kind, ErrorKind::Unauthenticated, "{exception}");
        }
    }

    #[tokio::test]
    async fn another_product_is_no_bitbucket() {
        let jira = r#"{"version":"9.12.0","displayName":"Jira"}"#;
        let responses = [
            answer(404, &[], ""),
            answer(200, &[("content-type", "text/html")], "<html>"),
            json(200, "{}"),
            answer(200, &[("content-type", "application/json"), ("x-ausername", "ada")], jira),
        ];
        for response in responses {
            let server = Server::start([response]).await;
            assert_eq!(inspect(&server, basic()).await.unwrap_err().kind, ErrorKind::ResponseInvalid);
        }
    }

    #[test]
    fn dv_12_versions_from_8_9_on_are_served_without_a_warning() {
        for version in ["8.9.2", "8.19.12", "9.4.1", "10.0.0", "10.2.0-rc1", "development"] {
            assert_eq!(outdated(version), None, "{version}");
        }
        assert!(outdated("8.8.7").is_some() && outdated("7.21").is_some());
    }
}
