use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::Permission;
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::transport::test_server::{Server, TOKEN, answer, json as json_answer};
use crate::providers::{Client, Credential, Endpoint, Provider};

fn client(server: &Server, group: Option<&str>) -> Arc<dyn Client> {
    let scope = group.map(|path| Scope { word: "group", path: path.to_owned(), project: None });
    let endpoint = Endpoint { api: server.url("/api/v4"), web: server.url("/"), further_origins: Vec::new(), scope };
    <dyn Provider>::connect(&super::super::GitLab, endpoint, Credential::Token(TOKEN.into()), server.transport()).unwrap()
}

fn ok(document: &Value) -> axum::response::Response {
    json_answer(200, &document.to_string())
}

fn token(scopes: &[&str]) -> axum::response::Response {
    let document = json!({
        "id": 9, "name": "operator", "description": null, "revoked": false, "created_at": "2026-06-01T08:00:00.000Z", "scopes": scopes,
        "user_id": 5, "last_used_at": null, "active": true, "expires_at": "2027-03-01",
    });
    ok(&document)
}

fn user(name: &str, bot: bool) -> axum::response::Response {
    ok(&json!({"id": 5, "username": name, "name": "Ada", "state": "active", "bot": bot}))
}

fn version() -> axum::response::Response {
    ok(&json!({"version": "19.1.2-ee", "revision": "abc", "enterprise": true}))
}

fn refused(error: &str) -> axum::response::Response {
    json_answer(403, &json!({"error": error, "error_description": "not enough", "scope": "api"}).to_string())
}

#[tokio::test]
async fn df_12_a_token_tells_its_name_its_scopes_and_its_end() {
    let server = Server::start([token(&["read_user", "api"]), user("ada", false), version()]).await;
    let inspection = client(&server, None).inspect().await.unwrap();
    assert_eq!(inspection.grants, Grants::Known(vec!["api".into(), "read_user".into()]));
    assert_eq!(inspection.credential_name.as_deref(), Some("operator"));
    assert_eq!(inspection.expires_at, Some("2027-03-01T00:00:00Z".parse().unwrap()), "it ends when that day begins");
    assert_eq!(inspection.identity, Some(Identity { name: Some("ada".into()), kind: IdentityKind::User }));
    assert_eq!((inspection.flavor.as_str(), inspection.version.as_deref()), ("GitLab", Some("19.1.2-ee")));
    assert_eq!(inspection.capabilities, capabilities(Some((19, 1)), true, true));
    assert_eq!(server.lines(), ["GET /api/v4/personal_access_tokens/self", "GET /api/v4/user", "GET /api/v4/version"]);
}

#[tokio::test]
async fn df_09_a_token_for_cloning_is_valid_and_its_api_is_closed() {
    let server = Server::start([token(&["read_repository"])]).await;
    let client = client(&server, Some("platform"));
    let inspection = client.inspect().await.unwrap();
    assert!(!inspection.capabilities.api && !inspection.capabilities.lookup_by_id);
    assert_eq!(inspection.identity, Some(Identity { name: None, kind: IdentityKind::Token }));
    assert_eq!(client.permission(&inspection, Permission::ReadContents).state, PermissionState::Granted);
    assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Missing);
    assert_eq!(server.lines().len(), 1, "nothing is asked that the scopes refuse");
}

#[tokio::test]
async fn dv_17_too_narrow_a_scope_is_not_a_bad_token() {
    let server = Server::start([token(&["read_api"]), user("ada", false), version()]).await;
    let client = client(&server, None);
    let inspection = client.inspect().await.unwrap();
    let finding = client.permission(&inspection, Permission::ManageWebhooks);
    assert_eq!(finding.message.as_deref(), Some("needs scope api; the token has read_api"));
    assert!(inspection.capabilities.api);

    let refusals = (0..3).map(|_| refused("insufficient_granular_scope"));
    let server = Server::start(refusals).await;
    let inspection = super::tests::client(&server, None).inspect().await.unwrap();
    assert_eq!(inspection.grants, Grants::Unknown("the token is fine-grained and cannot read itself".into()));
    assert_eq!((inspection.version, inspection.capabilities.scope_introspection), (None, false));
}

#[tokio::test]
async fn a_fine_grained_token_tells_no_scope() {
    let server = Server::start([token(&["granular"]), user("ada", false), refused("insufficient_granular_scope")]).await;
    let client = client(&server, None);
    let inspection = client.inspect().await.unwrap();
    assert!(matches!(&inspection.grants, Grants::Unknown(reason) if reason.contains("fine-grained")));
    assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Unknown);
    assert!(inspection.capabilities.api && inspection.capabilities.expiry_introspection);
}

#[tokio::test]
async fn tokens_of_projects_and_groups_are_told_from_people() {
    for (name, bot, kind) in [
        ("ada", false, IdentityKind::User),
        ("project_17_bot_0123456789abcdef", true, IdentityKind::Token),
        ("group_4_bot_0123456789abcdef", true, IdentityKind::Token),
        ("project_17_bot_0123456789abcdef", false, IdentityKind::User),
        ("service_account_group_4_0123456789abcdef", false, IdentityKind::ServiceAccount),
        ("duo_code_review_bot", true, IdentityKind::ServiceAccount),
    ] {
        let server = Server::start([token(&["api"]), user(name, bot), version()]).await;
        let inspection = client(&server, None).inspect().await.unwrap();
        assert_eq!(inspection.identity, Some(Identity { name: Some(name.into()), kind }), "{name}");
    }
}

#[tokio::test]
async fn a_bad_token_and_a_blocked_account_are_not_authenticated() {
    let expired =
        json!({"error": "invalid_token", "error_description": "Token is expired. You can either do re-authorization or token refresh."});
    for (status, body, words) in [
        (401, json!({"message": "401 Unauthorized"}), "401 Unauthorized"),
        (401, expired, "Token is expired."),
        (403, json!({"message": "403 Forbidden - Your account has been blocked."}), "has been blocked"),
    ] {
        let server = Server::start([json_answer(status, &body.to_string())]).await;
        let error = client(&server, None).inspect().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(error.message.contains(words), "{error}");
    }
    let banned = answer(403, &[("content-type", "text/plain")], "Forbidden\n");
    let server = Server::start([banned]).await;
    assert_eq!(client(&server, None).inspect().await.unwrap_err().kind, ErrorKind::RateLimited);
}

#[tokio::test]
async fn a_token_that_is_none_of_gitlabs_access_tokens_works_all_the_same() {
    let no_token = json!({"message": "400 Bad request - This endpoint requires token type to be a personal access token"});
    let server = Server::start([json_answer(400, &no_token.to_string()), user("ada", false), version()]).await;
    let inspection = client(&server, None).inspect().await.unwrap();
    assert!(matches!(&inspection.grants, Grants::Unknown(reason) if reason.contains("OAuth")));
    assert_eq!(inspection.credential_name, None);
}

#[tokio::test]
async fn another_product_is_no_gitlab() {
    let gone = || json_answer(404, r#"{"error":"404 Not Found"}"#);
    for answers in [vec![gone(), gone()], vec![answer(200, &[("content-type", "text/html")], "<html>")], vec![json_answer(200, "{}")]] {
        let server = Server::start(answers).await;
        assert_eq!(client(&server, None).inspect().await.unwrap_err().kind, ErrorKind::ResponseInvalid);
    }
    let before_15_5 = [gone(), user("ada", false), user("ada", false), version()];
    let server = Server::start(before_15_5).await;
    assert!(matches!(client(&server, None).inspect().await.unwrap().grants, Grants::Unknown(_)));
}

async fn with_group(group: &str, found: axum::response::Response) -> (Result<Inspection, ProviderError>, String) {
    let server = Server::start([token(&["api"]), user("ada", false), version(), found]).await;
    let result = client(&server, Some(group)).inspect().await;
    (result, server.lines().pop().unwrap())
}

#[tokio::test]
async fn dt_10_a_group_by_number_is_resolved_and_one_by_path_must_match() {
    let group = |path: &str| ok(&json!({"id": 42, "full_path": path}));
    let missing = || json_answer(404, r#"{"message":"404 Group Not Found"}"#);
    let path = |inspection: Inspection| inspection.scope.map(|scope| scope.path);

    let (result, line) = with_group("42", group("platform/apps")).await;
    assert_eq!(path(result.unwrap()).as_deref(), Some("platform/apps"));
    assert_eq!(line, "GET /api/v4/groups/42?with_projects=false");
    let (result, _) = with_group("42", missing()).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("group 42 does not exist"), "{error}");

    let (result, line) = with_group("Platform/Apps", group("platform/apps")).await;
    assert_eq!(path(result.unwrap()).as_deref(), Some("platform/apps"));
    assert_eq!(line, "GET /api/v4/groups/Platform%2FApps?with_projects=false");
    let (result, _) = with_group("platform/apps", group("platform/new")).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::EndpointInvalid);
    assert!(error.message.contains("is now called platform/new"), "{error}");
    let (result, _) = with_group("platform/apps", missing()).await;
    let inspection = result.unwrap();
    assert!(inspection.scope.is_none() && inspection.warnings[0].contains("group platform/apps"), "the path itself holds bindings");
    let (result, _) = with_group("platform/apps", json_answer(404, r#"{"error":"404 Not Found"}"#)).await;
    let warnings = result.unwrap().warnings;
    assert!(warnings[0].contains("decodes %2F"), "{warnings:?}");
}

#[tokio::test]
async fn without_a_credential_the_refusal_tells_that_gitlab_answers() {
    let server = Server::start([json_answer(401, r#"{"message":"401 Unauthorized"}"#), json_answer(200, "[]")]).await;
    let endpoint = Endpoint { api: server.url("/api/v4"), web: server.url("/"), further_origins: Vec::new(), scope: None };
    let client = <dyn Provider>::connect(&super::super::GitLab, endpoint, Credential::Anonymous, server.transport()).unwrap();
    let inspection = client.inspect().await.unwrap();
    assert_eq!((inspection.identity.clone(), inspection.version.clone()), (None, None));
    assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Missing);
}

#[tokio::test]
async fn a_server_that_shows_nothing_to_nobody_asks_for_a_credential() {
    let refused = || json_answer(401, r#"{"message":"401 Unauthorized"}"#);
    let server = Server::start([refused(), refused()]).await;
    let endpoint = Endpoint { api: server.url("/api/v4"), web: server.url("/"), further_origins: Vec::new(), scope: None };
    let client = <dyn Provider>::connect(&super::super::GitLab, endpoint, Credential::Anonymous, server.transport()).unwrap();
    assert_eq!(client.inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated);
}

#[test]
fn versions_tell_what_can_be_done() {
    let told = |text: &str| {
        let Capabilities { delivery_log, resend, signature, .. } = capabilities(version_number(text), true, true);
        (delivery_log, resend, signature)
    };
    assert_eq!(told("16.11.10"), (false, false, false));
    assert_eq!(told("17.3.0-ee"), (true, false, false));
    assert_eq!(told("17.10.1"), (true, true, false));
    assert_eq!(told("19.0.0-pre"), (true, true, true));
    assert_eq!(told("unknown"), (false, false, false));
    assert_eq!(end("2027-03-01"), Some("2027-03-01T00:00:00Z".parse().unwrap()));
    assert_eq!(end("soon"), None);
}
