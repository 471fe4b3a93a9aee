//! Inspects a credential: server, identity and permissions, as far as the server's version reports them.

use http::Method;
use secrecy::ExposeSecret as _;

use super::client::{Account, GiteaClient};
use super::page::Pages;
use super::{error, permission, wire};
use crate::api::v1alpha1::connection::IdentityKind;
use crate::providers::listing::Extent;
use crate::providers::model::{Capabilities, Identity, Inspection};
use crate::providers::permission::Grants;
use crate::providers::transport::{Call, Operation};
use crate::providers::{ErrorKind, ProviderError, authorization};

const GITEA: &str = "Gitea";
const FORGEJO: &str = "Forgejo";
/// First Gitea version with `GET /token`.
const TOKEN_INTROSPECTION: (u64, u64) = (1, 27);

/// The product that answered.
struct Server {
    flavor: &'static str,
    version: Option<String>,
}

impl Server {
    fn new(version: String) -> Self {
        // Forgejo reports the Gitea version that it is compatible with: `11.0.1+gitea-1.22.0`.
        let forgejo = version.contains("+gitea-") || version.to_lowercase().contains("forgejo");
        Self { flavor: if forgejo { FORGEJO } else { GITEA }, version: Some(version) }
    }

    /// Whether the server may support `GET /token`. A custom build reports its version as `development`.
    fn may_tell_token(&self) -> bool {
        let number = self.version.as_deref().unwrap_or_default().trim_start_matches('v');
        let mut parts = number.split(|character: char| !character.is_ascii_digit());
        let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let known = next().zip(next());
        self.flavor == GITEA && known.is_none_or(|version| version >= TOKEN_INTROSPECTION)
    }
}

/// Name and scopes of a token.
struct TokenInfo {
    name: Option<String>,
    scopes: Vec<String>,
}

impl GiteaClient {
    pub(super) async fn inspect_credential(&self) -> Result<Inspection, ProviderError> {
        let server = self.server().await?;
        if matches!(self.account, Account::Anonymous) {
            return Ok(inspection(&server, None, Grants::Unknown("there is no credential".into()), None, false));
        }
        let answer = self.transport.send(Call::read(Operation::InspectCredential, Method::GET, self.api(["user"]))).await?;
        match answer.refusal() {
            None => {}
            Some(ErrorKind::PermissionDenied) if error::is_about_scopes(answer.message()) => {
                let scopes = error::told_scopes(answer.message());
                let grants = scopes.map_or_else(|| Grants::Unknown(untold(&server)), known);
                let identity = Identity { name: None, kind: IdentityKind::Token };
                return Ok(inspection(&server, Some(identity), grants, None, false));
            }
            // The account is not activated, is prohibited from signing in or has to change its password: every call fails
            // this way.
            Some(ErrorKind::PermissionDenied) => return Err(answer.refused(ErrorKind::Unauthenticated)),
            Some(ErrorKind::NotFound) => return Err(answer.invalid("no Gitea or Forgejo answers at this address")),
            Some(kind) => return Err(answer.refused(kind)),
        }
        let user: wire::User = answer.json()?;
        let told = self.told(&server, &user.login).await?;
        let identity = Identity { name: Some(user.login), kind: IdentityKind::User };
        Ok(match told {
            Some(told) => inspection(&server, Some(identity), known(told.scopes), told.name, true),
            None => inspection(&server, Some(identity), Grants::Unknown(untold(&server)), None, false),
        })
    }

    /// Reads the product and its version. A server that hides its version is still accepted.
    async fn server(&self) -> Result<Server, ProviderError> {
        let answer = self.transport.send(Call::read(Operation::ReadVersion, Method::GET, self.api(["version"]))).await?;
        match answer.refusal() {
            None => Ok(Server::new(answer.json::<wire::Version>()?.version)),
            Some(ErrorKind::PermissionDenied | ErrorKind::Unauthenticated) if matches!(self.account, Account::Anonymous) => {
                self.shows_something().await?;
                Ok(Server { flavor: GITEA, version: None })
            }
            Some(ErrorKind::PermissionDenied) => Ok(Server { flavor: GITEA, version: None }),
            Some(ErrorKind::NotFound) => Err(answer.invalid("no Gitea or Forgejo answers at this address")),
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// Fails if the server hides everything from anonymous users: `REQUIRE_SIGNIN_VIEW`, or a proxy that requires
    /// authentication.
    async fn shows_something(&self) -> Result<(), ProviderError> {
        let mut url = self.api(["repos", "search"]);
        url.query_pairs_mut().append_pair("limit", "1");
        let answer = self.transport.send(Call::read(Operation::InspectCredential, Method::GET, url)).await?;
        match answer.refusal() {
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => Err(answer.refused(ErrorKind::Unauthenticated)),
            _ => Ok(()),
        }
    }

    /// Reads the scopes by `GET /token`, or from the list of the account's tokens, which basic authentication may read.
    /// Returns `None` if the server does not report them.
    async fn told(&self, server: &Server, login: &str) -> Result<Option<TokenInfo>, ProviderError> {
        if matches!(self.account, Account::Token(_)) && server.may_tell_token() {
            let call = Call::read(Operation::InspectCredential, Method::GET, self.api(["token"]));
            let answer = self.transport.send(call).await?;
            match answer.refusal() {
                None => {
                    let token: wire::Token = answer.json()?;
                    return Ok(Some(TokenInfo { name: Some(token.name), scopes: token.scopes }));
                }
                Some(kind) if kind.leaves_open() => return Err(answer.refused(kind)),
                Some(_) => {}
            }
        }
        self.told_by_list(login).await
    }

    async fn told_by_list(&self, login: &str) -> Result<Option<TokenInfo>, ProviderError> {
        let secret = match &self.account {
            Account::Anonymous => return Ok(None),
            Account::Token(secret) | Account::Basic { password: secret, .. } => secret,
        };
        let username = if let Account::Basic { username, .. } = &self.account { username } else { login };
        let authorization = authorization::basic(username, secret)?;
        let mut pages = Pages::new(self.api(["users", login, "tokens"]), Extent::kept(Operation::InspectCredential));
        let mut found = Vec::new();
        while let Some(url) = pages.next_url() {
            let call = Call::read(Operation::InspectCredential, Method::GET, url).authorization(authorization.clone());
            let answer = self.transport.send(call).await?;
            match answer.refusal() {
                None => {}
                Some(kind) if kind.leaves_open() => return Err(answer.refused(kind)),
                Some(_) => return Ok(None),
            }
            let page: Vec<wire::TokenEntry> = pages.take(&self.transport, answer)?;
            found.extend(
                page.into_iter()
                    .filter(|entry| entry.token_last_eight.len() == 8 && secret.expose_secret().ends_with(&entry.token_last_eight)),
            );
        }
        let is_password = matches!(self.account, Account::Basic { .. }) && !looks_like_token(secret.expose_secret());
        Ok(match (found.pop(), found.is_empty()) {
            (Some(entry), true) => Some(TokenInfo { name: Some(entry.name), scopes: entry.scopes }),
            // A password has all rights of its account.
            (None, _) if is_password => Some(TokenInfo { name: None, scopes: vec![permission::ALL.to_owned()] }),
            _ => None,
        })
    }
}

/// Whether a secret looks like a token: an access token has 40 hex digits, an OAuth token is a JWT.
fn looks_like_token(secret: &str) -> bool {
    (secret.len() == 40 && secret.bytes().all(|byte| byte.is_ascii_hexdigit())) || secret.starts_with("eyJ")
}

fn known(mut scopes: Vec<String>) -> Grants {
    scopes.sort();
    scopes.dedup();
    Grants::Known(scopes)
}

fn untold(server: &Server) -> String {
    match &server.version {
        Some(version) => format!("{} {version} does not report this credential's scopes", server.flavor),
        None => "the server does not report this credential's scopes".to_owned(),
    }
}

/// Capabilities of a connection. `scope_introspection`: whether the server reports scopes, which depends on its version and
/// the credential.
pub(super) fn capabilities(scope_introspection: bool) -> Capabilities {
    Capabilities { api: true, lookup_by_id: true, signature: true, scope_introspection, ..Capabilities::default() }
}

fn inspection(server: &Server, identity: Option<Identity>, grants: Grants, credential_name: Option<String>, told: bool) -> Inspection {
    let public_only = matches!(&grants, Grants::Known(scopes) if scopes.iter().any(|scope| scope == permission::PUBLIC_ONLY));
    let warnings = public_only.then(|| "the token is limited to public repositories and organizations".to_owned());
    Inspection {
        flavor: server.flavor.to_owned(),
        version: server.version.clone(),
        identity,
        credential_name,
        expires_at: None,
        grants,
        capabilities: capabilities(told),
        scope: None,
        warnings: warnings.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::transport::test_server::{Server as TestServer, TOKEN, answer, json};
    use crate::providers::{Credential, Provider};

    async fn inspect(server: &TestServer) -> Result<Inspection, ProviderError> {
        let client =
            <dyn Provider>::connect(&super::super::Gitea, server.endpoint(), Credential::Token(TOKEN.into()), server.transport()).unwrap();
        client.inspect().await
    }

    #[tokio::test]
    async fn a_token_tells_its_scopes_from_1_27_on() {
        let server = TestServer::start([
            json(200, r#"{"version":"1.27.0"}"#),
            json(200, r#"{"login":"ada"}"#),
            json(200, r#"{"id":4,"name":"operator","scopes":["write:repository","public-only"]}"#),
        ])
        .await;
        let inspection = inspect(&server).await.unwrap();
        assert_eq!(inspection.grants, Grants::Known(vec!["public-only".into(), "write:repository".into()]));
        assert_eq!(inspection.credential_name.as_deref(), Some("operator"));
        assert!(inspection.capabilities.scope_introspection);
        assert_eq!(inspection.warnings.len(), 1);
        assert_eq!(server.lines(), ["GET /api/v1/version", "GET /api/v1/user", "GET /api/v1/token"]);
    }

    #[tokio::test]
    async fn what_a_server_does_not_tell_is_unknown() {
        let refused = json(401, r#"{"message":"auth required"}"#);
        let server = TestServer::start([json(200, r#"{"version":"11.0.1+gitea-1.22.0"}"#), json(200, r#"{"login":"ada"}"#), refused]).await;
        let inspection = inspect(&server).await.unwrap();
        assert_eq!(inspection.flavor, FORGEJO);
        assert_eq!(inspection.grants, Grants::Unknown("Forgejo 11.0.1+gitea-1.22.0 does not report this credential's scopes".into()));
        assert_eq!(server.lines().len(), 3);
    }

    #[tokio::test]
    async fn two_tokens_that_end_alike_tell_nothing() {
        let entries = r#"[{"name":"a","token_last_eight":"89abcdef","scopes":["all"]},{"name":"b","token_last_eight":"89abcdef"}]"#;
        let list = answer(200, &[("content-type", "application/json"), ("x-total-count", "2")], entries);
        let server = TestServer::start([json(200, r#"{"version":"1.26.4"}"#), json(200, r#"{"login":"ada"}"#), list]).await;
        assert!(matches!(inspect(&server).await.unwrap().grants, Grants::Unknown(_)));
    }

    #[tokio::test]
    async fn an_account_that_may_not_sign_in_is_not_authenticated() {
        let prohibited = json(403, r#"{"message":"This account is prohibited from signing in"}"#);
        let server = TestServer::start([json(200, r#"{"version":"1.26.4"}"#), prohibited]).await;
        let error = inspect(&server).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(error.message.contains("prohibited from signing in"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_shows_nothing_to_nobody_asks_for_a_credential() {
        let anonymous = async |answers: Vec<axum::response::Response>| {
            let server = TestServer::start(answers).await;
            <dyn Provider>::connect(&super::super::Gitea, server.endpoint(), Credential::Anonymous, server.transport())
                .unwrap()
                .inspect()
                .await
        };
        for status in [401, 403] {
            let refused = || json(status, r#"{"message":"Only signed in user is allowed to call APIs."}"#);
            let error = anonymous(vec![refused(), refused()]).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unauthenticated, "{status}");
            let hidden = anonymous(vec![refused(), json(200, r#"{"ok":true,"data":[]}"#)]).await.unwrap();
            assert_eq!((hidden.identity, hidden.version), (None, None), "the version alone is hidden");
        }
    }

    #[tokio::test]
    async fn another_product_is_no_gitea() {
        for response in [answer(404, &[], "404 page not found"), answer(200, &[("content-type", "text/html")], "<html>"), json(200, "{}")] {
            let server = TestServer::start([response]).await;
            assert_eq!(inspect(&server).await.unwrap_err().kind, ErrorKind::ResponseInvalid);
        }
    }

    #[test]
    fn versions_tell_flavor_and_introspection() {
        for (version, flavor, tells) in [
            ("1.26.4", GITEA, false),
            ("1.27.0", GITEA, true),
            ("v1.27.0-rc0", GITEA, true),
            ("1.28.0+dev-12-gabcdef", GITEA, true),
            ("2.0", GITEA, true),
            ("development", GITEA, true),
            ("11.0.1+gitea-1.22.0", FORGEJO, false),
            ("7.0.0-forgejo", FORGEJO, false),
        ] {
            let server = Server::new(version.to_owned());
            assert_eq!((server.flavor, server.may_tell_token()), (flavor, tells), "{version}");
        }
    }
}
