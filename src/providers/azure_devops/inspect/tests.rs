use axum::response::Response;
use serde_json::json;

use super::*;
use crate::api::v1alpha1::Permission;
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::model::Scope;
use crate::providers::transport::test_server::{Server, TOKEN, answer, json as reply};
use crate::providers::{Client, Credential, Provider};

const ADA: &str = "6d3c4f7a-0c1e-4e0b-9a55-1f2e3d4c5b6a:ada@acme.example";

fn signed_in(status: u16, body: &str) -> Response {
    answer(status, &[("content-type", "application/json; charset=utf-8; api-version=7.1"), ("x-vss-userdata", ADA)], body)
}

fn repositories() -> Response {
    signed_in(200, r#"{"count":0,"value":[]}"#)
}

fn projects() -> Response {
    signed_in(200, r#"{"count":1,"value":[{"id":"1","name":"Shop"}]}"#)
}

fn sign_in() -> Response {
    answer(203, &[("content-type", "text/html; charset=utf-8")], "<html>Sign in</html>")
}

fn unauthorized() -> Response {
    reply(401, r#"{"message":"TF400813: The user is not authorized to access this resource."}"#)
}

fn nobody() -> Response {
    let user = json!({"id": ANONYMOUS, "providerDisplayName": "Anonymous"});
    reply(200, &json!({ "authenticatedUser": user }).to_string())
}

fn ada() -> Response {
    reply(200, &json!({"authenticatedUser": {"id": "6d3c4f7a-0c1e-4e0b-9a55-1f2e3d4c5b6a", "providerDisplayName": "Ada"}}).to_string())
}

fn git_says(status: u16) -> Response {
    answer(status, &[("content-type", "text/plain; charset=utf-8")], "TF401019: The Git repository does not exist")
}

fn client(server: &Server, credential: Credential, project: Option<&str>, services: bool) -> std::sync::Arc<dyn Client> {
    let mut endpoint = server.endpoint();
    endpoint.web = server.url("/acme");
    endpoint.scope = project.map(|path| Scope { word: "project", path: path.into(), project: None });
    endpoint.further_origins = if services { vec![server.url("/accounts")] } else { Vec::new() };
    <dyn Provider>::connect(&super::super::AzureDevOps, endpoint, credential, server.transport()).unwrap()
}

fn token() -> Credential {
    Credential::Token(TOKEN.into())
}

fn login() -> Credential {
    Credential::BasicAuth { username: "ada".into(), password: TOKEN.into() }
}

async fn inspect(
    answers: Vec<Response>,
    credential: Credential,
    project: Option<&str>,
) -> (Result<Inspection, ProviderError>, Vec<String>) {
    let server = Server::start(answers).await;
    let result = client(&server, credential, project, false).inspect().await;
    (result, server.lines())
}

#[tokio::test]
async fn dv_19_df_18_code_read_is_enough_to_be_known() {
    let server = Server::start([repositories(), unauthorized()]).await;
    let client = client(&server, token(), None, false);
    let inspection = client.inspect().await.unwrap();
    let identity = inspection.identity.clone().unwrap();
    assert_eq!((identity.name.as_deref(), identity.kind), (Some("ada@acme.example"), IdentityKind::User));
    assert_eq!((inspection.flavor.as_str(), inspection.version.as_deref()), (SERVER_FLAVOR, Some("7.1")));
    assert!(inspection.capabilities.api && inspection.capabilities.one_event_per_hook && inspection.warnings.is_empty());
    let state = |permission| client.permission(&inspection, permission).state;
    assert_eq!(state(Permission::ReadContents), PermissionState::Granted);
    assert_eq!(state(Permission::ListProjects), PermissionState::Missing);
    assert_eq!(state(Permission::WriteContents), PermissionState::Unknown);
    assert_eq!(
        server.lines(),
        ["GET /api/v1/_apis/git/repositories?api-version=7.1", "GET /api/v1/_apis/projects?%24top=1&api-version=7.1"]
    );
}

#[tokio::test]
async fn dv_21_projects_are_read_where_the_token_may() {
    let server = Server::start([repositories(), projects()]).await;
    let client = client(&server, token(), None, false);
    let inspection = client.inspect().await.unwrap();
    assert_eq!(client.permission(&inspection, Permission::ReadOrganization).state, PermissionState::Granted);
}

#[tokio::test]
async fn a_page_to_sign_in_and_a_redirect_to_it_mean_not_signed_in() {
    let redirect = || answer(302, &[("location", "https://spsprodweu1.vssps.visualstudio.com/_signin?realm=dev.azure.com")], "");
    for refusal in [sign_in(), redirect(), unauthorized(), answer(200, &[("content-type", "text/html")], "<html>")] {
        let (result, _) = inspect(vec![refusal, sign_in()], token(), None).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated, "{error}");
        assert!(error.message.contains("asks to sign in") || error.message.contains("TF400813"), "{error}");
    }
}

#[tokio::test]
async fn dt_12_a_token_without_the_scope_for_code_is_told_what_it_lacks() {
    let (result, lines) = inspect(vec![unauthorized(), ada()], token(), None).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.message.contains("Code (Read)"), "{error}");
    assert!(lines[1].starts_with("GET /api/v1/_apis/connectionData?api-version=7.1-preview"), "{lines:?}");
}

#[tokio::test]
async fn df_17_df_19_a_login_that_only_git_takes_is_valid() {
    for refusal in [sign_in(), unauthorized()] {
        let server = Server::start([refusal, sign_in(), git_says(404)]).await;
        let client = client(&server, login(), Some("Shop"), false);
        let inspection = client.inspect().await.unwrap();
        assert!(!inspection.capabilities.api);
        assert_eq!(inspection.identity.as_ref().unwrap().name.as_deref(), Some("ada"));
        for permission in [Permission::ReadContents, Permission::ManageWebhooks, Permission::ListRepositories] {
            let finding = client.permission(&inspection, permission);
            assert_eq!(finding.state, PermissionState::Unknown, "{permission}");
        }
        assert!(server.lines()[2].starts_with("GET /acme/Shop/_git/"), "{:?}", server.lines());
    }
    let (result, lines) = inspect(vec![sign_in(), sign_in(), git_says(401)], login(), None).await;
    assert_eq!((result.unwrap_err().kind, lines.len()), (ErrorKind::Unauthenticated, 3));
    let (result, lines) = inspect(vec![sign_in(), sign_in()], token(), None).await;
    assert_eq!((result.unwrap_err().kind, lines.len()), (ErrorKind::Unauthenticated, 2), "a token is for the API");
}

#[tokio::test]
async fn an_answer_to_nobody_proves_nothing() {
    let bare = || reply(200, r#"{"count":0,"value":[]}"#);
    let (result, _) = inspect(vec![bare(), nobody()], token(), None).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Unauthenticated, "public projects answer anybody");
    let (result, _) = inspect(vec![bare(), ada(), projects()], token(), None).await;
    assert_eq!(result.unwrap().identity.unwrap().name.as_deref(), Some("Ada"));
}

#[tokio::test]
async fn a_project_that_is_hidden_is_a_warning_and_no_failure() {
    let hidden = signed_in(404, r#"{"message":"TF200016: The following project does not exist: Shop."}"#);
    let (result, lines) = inspect(vec![hidden, repositories(), projects()], token(), Some("Shop")).await;
    let inspection = result.unwrap();
    assert!(inspection.warnings[0].contains("project Shop"), "{:?}", inspection.warnings);
    assert_eq!(lines[0], "GET /api/v1/Shop/_apis/git/repositories?api-version=7.1");
}

#[tokio::test]
async fn dt_13_an_organization_that_is_not_there_is_told() {
    for refusal in [reply(404, "{}"), answer(404, &[("content-type", "text/html")], "<html>The resource cannot be found.")] {
        let (result, _) = inspect(vec![refusal], token(), None).await;
        let error = result.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::NotFound | ErrorKind::ResponseInvalid), "{error}");
        assert!(error.message.contains("no organization or collection"), "{error}");
    }
}

#[tokio::test]
async fn bb_12_a_token_for_all_organizations_is_warned_of() {
    let profile = || reply(200, r#"{"publicAlias":"1f2e","displayName":"Ada"}"#);
    let accounts = || reply(200, r#"{"count":2,"value":[{"accountName":"other"},{"accountName":"acme"}]}"#);
    let warnings = async |answers: Vec<Response>| {
        let all = [repositories(), projects()].into_iter().chain(answers);
        let server = Server::start(all).await;
        let inspection = client(&server, token(), None, true).inspect().await.unwrap();
        (inspection.warnings, server.lines())
    };
    let (found, lines) = warnings(vec![ada(), profile(), accounts()]).await;
    assert!(found[0].contains("all accessible organizations (acme, other)") && found[0].contains("1 December 2026"), "{found:?}");
    assert_eq!(lines[4], "GET /accounts/_apis/accounts?memberId=1f2e&api-version=7.1");
    let (found, _) = warnings(vec![ada(), unauthorized()]).await;
    assert!(found[0].contains("all accessible organizations;"), "{found:?}");
    for refusal in [sign_in(), unauthorized(), nobody(), reply(429, "{}")] {
        let (found, lines) = warnings(vec![refusal]).await;
        assert_eq!((found, lines.len()), (Vec::new(), 3), "a token of one organization works without a warning");
    }
}

#[tokio::test]
async fn no_credential_is_no_error() {
    let empty = || reply(200, r#"{"count":0,"value":[]}"#);
    for responses in [vec![sign_in(), empty()], vec![empty()]] {
        let calls = responses.len();
        let (result, lines) = inspect(responses, Credential::Anonymous, None).await;
        let inspection = result.unwrap();
        assert_eq!((inspection.identity, lines.len()), (None, calls));
        assert!(inspection.capabilities.api);
    }
}

#[tokio::test]
async fn an_organization_that_shows_nothing_to_nobody_asks_for_a_credential() {
    for refused in [sign_in, unauthorized] {
        let (result, _) = inspect(vec![refused(), refused()], Credential::Anonymous, None).await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::Unauthenticated);
    }
}
