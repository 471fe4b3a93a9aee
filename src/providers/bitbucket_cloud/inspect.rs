//! Inspects a credential: identity and permissions.
//!
//! `GET /user` answers API tokens of users that have `read:user:bitbucket`. Access tokens belong to no user and get 403
//! with a header that states their kind. An API token without that scope gets 401, the same as an invalid one. A 401 is
//! therefore final only if the workspace's list of repositories is refused too.

use http::Method;

use super::client::BitbucketCloudClient;
use super::{error, wire};
use crate::api::v1alpha1::connection::IdentityKind;
use crate::providers::model::{Capabilities, Identity, Inspection};
use crate::providers::permission::Grants;
use crate::providers::transport::{Answer, Call, Operation};
use crate::providers::{ErrorKind, ProviderError};

const FLAVOR: &str = "Bitbucket Cloud";

impl BitbucketCloudClient {
    pub(super) async fn inspect_credential(&self) -> Result<Inspection, ProviderError> {
        if self.account.is_anonymous() {
            return self.inspect_anonymous().await;
        }
        let answer = self.transport.send(Call::read(Operation::InspectCredential, Method::GET, self.api(["user"]))).await?;
        match answer.refusal() {
            None => {
                let grants = grants([&answer]);
                let user: wire::User = answer.json()?;
                let name = user.username.or(user.nickname).or(user.display_name);
                Ok(inspection(Some(Identity { name, kind: IdentityKind::User }), grants, Vec::new()))
            }
            Some(ErrorKind::PermissionDenied) if recognised(&answer) => Ok(inspection(Some(token()), grants([&answer]), Vec::new())),
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => self.inspect_by_list(answer).await,
            Some(ErrorKind::NotFound) => Err(answer.invalid("no Bitbucket Cloud answers at this address")),
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// Inspects a credential with a call that every useful credential may make.
    async fn inspect_by_list(&self, refused: Answer) -> Result<Inspection, ProviderError> {
        let answer = self.first_repository().await?;
        match answer.refusal() {
            // An invalid credential gets 401, even for a workspace that does not exist.
            None | Some(ErrorKind::NotFound) => {}
            Some(ErrorKind::PermissionDenied) if recognised(&answer) => {}
            Some(kind) => {
                let mut error = answer.refused(kind);
                if let Some(advice) = self.account.advice().filter(|_| kind == ErrorKind::Unauthenticated) {
                    error.message = format!("{}; {advice}", error.message);
                }
                return Err(error);
            }
        }
        let hidden = answer.refusal() == Some(ErrorKind::NotFound);
        let warnings = hidden.then(|| "the workspace does not exist or is hidden from this credential".to_owned());
        Ok(inspection(Some(token()), grants([&answer, &refused]), warnings.into_iter().collect()))
    }

    /// Inspects a connection without a credential. An error about missing permission also proves that the API answers.
    async fn inspect_anonymous(&self) -> Result<Inspection, ProviderError> {
        let answer = self.first_repository().await?;
        match answer.refusal() {
            None | Some(ErrorKind::PermissionDenied | ErrorKind::NotFound) => {}
            // Only this workspace may be closed. Public repositories elsewhere are visible to everyone, unless the server
            // hides all of them.
            Some(ErrorKind::Unauthenticated) => {
                let anywhere = self.get(Operation::InspectCredential, self.api(["repositories"])).await?;
                if anywhere.refusal() == Some(ErrorKind::Unauthenticated) {
                    return Err(anywhere.refused(ErrorKind::Unauthenticated));
                }
            }
            Some(kind) => return Err(answer.refused(kind)),
        }
        Ok(inspection(None, Grants::Unknown("there is no credential".into()), Vec::new()))
    }

    async fn first_repository(&self) -> Result<Answer, ProviderError> {
        let mut url = self.repositories_url().unwrap_or_else(|| self.api(["repositories"]));
        url.query_pairs_mut().append_pair("pagelen", "1");
        self.get(Operation::InspectCredential, url).await
    }
}

const fn token() -> Identity {
    Identity { name: None, kind: IdentityKind::Token }
}

fn recognised(answer: &Answer) -> bool {
    error::recognises_credential(answer.status(), answer.headers(), answer.body())
}

/// The scopes in the first of these answers that states them.
fn grants<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Grants {
    let told = answers.into_iter().find_map(|answer| error::granted(answer.headers(), answer.body()));
    let Some(mut scopes) = told else { return Grants::Unknown("Bitbucket Cloud does not report this credential's scopes".into()) };
    scopes.sort();
    scopes.dedup();
    Grants::Known(scopes)
}

/// Capabilities of a connection. `scope_introspection`: whether the answers state the credential's scopes.
pub(super) fn capabilities(scope_introspection: bool) -> Capabilities {
    Capabilities {
        api: true,
        update_sets_secret: true,
        lookup_by_id: true,
        signature: true,
        scope_introspection,
        ..Capabilities::default()
    }
}

fn inspection(identity: Option<Identity>, grants: Grants, warnings: Vec<String>) -> Inspection {
    Inspection {
        flavor: FLAVOR.to_owned(),
        version: None,
        identity,
        credential_name: None,
        expires_at: None,
        capabilities: capabilities(matches!(grants, Grants::Known(_))),
        grants,
        scope: None,
        warnings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Permission;
    use crate::api::v1alpha1::connection::PermissionState;
    use crate::providers::bitbucket_cloud::{BitbucketCloud, fixtures};
    use crate::providers::model::Scope;
    use crate::providers::transport::test_server::{Server, TOKEN, answer, json};
    use crate::providers::{Client, Credential, Endpoint, Provider};

    fn client(server: &Server, credential: Credential, project: Option<&str>) -> std::sync::Arc<dyn Client> {
        let scope = Scope { word: "workspace", path: "acme".into(), project: project.map(str::to_owned) };
        let endpoint = Endpoint { scope: Some(scope), ..server.endpoint() };
        <dyn Provider>::connect(&BitbucketCloud, endpoint, credential, server.transport()).unwrap()
    }

    async fn inspect(server: &Server) -> Result<Inspection, ProviderError> {
        client(server, Credential::Token(TOKEN.into()), None).inspect().await
    }

    #[tokio::test]
    async fn dv_11_a_users_api_token_tells_its_user_and_scopes() {
        let server = Server::start([fixtures::answer("user")]).await;
        let credential = Credential::EmailToken { email: "ada@acme.io".into(), token: TOKEN.into() };
        let client = client(&server, credential, None);
        let inspection = client.inspect().await.unwrap();
        assert_eq!(inspection.identity, Some(Identity { name: Some("ada".into()), kind: IdentityKind::User }));
        let Grants::Known(scopes) = &inspection.grants else { panic!("scopes") };
        assert!(scopes.is_sorted() && scopes.contains(&"delete:webhook:bitbucket".to_owned()), "{scopes:?}");
        assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Granted);
        assert!(inspection.capabilities.scope_introspection);
        assert_eq!(server.lines(), ["GET /api/v1/user"]);
        let head = server.seen.lock().unwrap()[0].head.clone();
        assert!(!head.contains("Bearer"), "basic authentication with the e-mail address");
    }

    #[tokio::test]
    async fn df_13_df_14_an_access_token_is_valid_although_it_has_no_user() {
        let server = Server::start([fixtures::answer("error-403-access-token")]).await;
        let inspection = inspect(&server).await.unwrap();
        assert_eq!(inspection.identity, Some(Identity { name: None, kind: IdentityKind::Token }));
        assert_eq!(inspection.grants, Grants::Known(vec!["pullrequest".into(), "repository".into(), "webhook".into()]));
        assert_eq!(server.lines().len(), 1);
    }

    #[tokio::test]
    async fn a_missing_scope_is_no_bad_credential() {
        let server = Server::start([fixtures::answer("error-403-scope")]).await;
        assert_eq!(inspect(&server).await.unwrap().grants, Grants::Known(vec!["read:repository:bitbucket".into()]));

        let list = answer(200, &[("content-type", "application/json"), ("x-oauth-scopes", "repository")], r#"{"values":[]}"#);
        let server = Server::start([fixtures::answer("error-401-token"), list]).await;
        assert_eq!(inspect(&server).await.unwrap().grants, Grants::Known(vec!["repository".into()]));
        assert_eq!(server.lines(), ["GET /api/v1/user", "GET /api/v1/repositories/acme?pagelen=1"]);
    }

    #[tokio::test]
    async fn dt_17_a_project_narrows_what_is_asked_for() {
        let server = Server::start([fixtures::answer("error-403-forbidden"), json(200, r#"{"values":[]}"#)]).await;
        let inspection = client(&server, Credential::Token(TOKEN.into()), Some("APP")).inspect().await.unwrap();
        assert!(matches!(inspection.grants, Grants::Unknown(_)) && !inspection.capabilities.scope_introspection);
        assert_eq!(server.lines()[1], "GET /api/v1/repositories/acme?q=project.key%3D%22APP%22&pagelen=1");
    }

    #[tokio::test]
    async fn a_credential_is_bad_when_both_refuse_it() {
        for (second, kind) in [
            ("error-401-basic", ErrorKind::Unauthenticated),
            ("error-401-token", ErrorKind::Unauthenticated),
            ("error-403-forbidden", ErrorKind::PermissionDenied),
        ] {
            let server = Server::start([fixtures::answer("error-401-token"), fixtures::answer(second)]).await;
            let error = inspect(&server).await.unwrap_err();
            assert_eq!(error.kind, kind, "{second}");
            assert!(!error.to_string().contains(TOKEN));
        }
        let server = Server::start([fixtures::answer("error-401-token"), fixtures::answer("error-401-token")]).await;
        let error = client(&server, Credential::Token("ATATTcanary".into()), None).inspect().await.unwrap_err();
        assert!(error.message.contains("e-mail") && !error.message.contains("canary"), "{error}");
    }

    #[tokio::test]
    async fn a_hidden_workspace_is_no_bad_credential() {
        let server = Server::start([fixtures::answer("error-401-token"), fixtures::answer("error-404-workspace")]).await;
        let inspection = inspect(&server).await.unwrap();
        assert_eq!(inspection.warnings.len(), 1);
    }

    #[tokio::test]
    async fn trouble_is_no_bad_credential() {
        for (first, kind) in [
            (answer(404, &[], "Not Found"), ErrorKind::ResponseInvalid),
            (answer(200, &[("content-type", "text/html")], "<html>"), ErrorKind::ResponseInvalid),
            (fixtures::answer("error-429"), ErrorKind::RateLimited),
        ] {
            let server = Server::start([first]).await;
            assert_eq!(inspect(&server).await.unwrap_err().kind, kind);
        }
        let server = Server::start([fixtures::answer("error-401-token"), fixtures::answer("error-429")]).await;
        assert_eq!(inspect(&server).await.unwrap_err().kind, ErrorKind::RateLimited);
    }

    #[tokio::test]
    async fn anonymous_learns_that_the_api_is_there() {
        for answer in [json(200, r#"{"values":[]}"#), fixtures::answer("error-404-workspace")] {
            let server = Server::start([answer]).await;
            let client = client(&server, Credential::Anonymous, None);
            let inspection = client.inspect().await.unwrap();
            assert_eq!(inspection.identity, None);
            assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Missing);
        }
        // This workspace is closed, but others are not.
        let server = Server::start([fixtures::answer("error-401-token"), json(200, r#"{"values":[]}"#)]).await;
        assert!(client(&server, Credential::Anonymous, None).inspect().await.is_ok());
    }

    #[tokio::test]
    async fn a_server_that_shows_nothing_to_nobody_asks_for_a_credential() {
        let server = Server::start([fixtures::answer("error-401-token"), fixtures::answer("error-401-token")]).await;
        assert_eq!(client(&server, Credential::Anonymous, None).inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated);
    }
}
