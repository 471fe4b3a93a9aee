use super::super::GitHub;
use super::super::fixture_tests::{app_credential, organization, recorded, response, with_app, with_token};
use super::*;
use crate::api::v1alpha1::Permission;
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::transport::test_server::{Server as TestServer, answer, json};
use crate::providers::{Credential, Provider};

fn known(scopes: &[&str]) -> Grants {
    Grants::Known(scopes.iter().map(|&scope| scope.to_owned()).collect())
}

/// Answer to the version request of a server that does not send its version in a header.
fn meta() -> axum::response::Response {
    json(200, r#"{"verifiable_password_authentication":true,"installed_version":"3.21.0"}"#)
}

#[tokio::test]
async fn dt_06_a_classic_token_tells_its_scopes_and_its_end() {
    let server = TestServer::start([response("answers/user-classic"), meta(), response("answers/organization")]).await;
    let found = with_token(&server).inspect().await.unwrap();
    assert_eq!(found.identity, Some(Identity { name: Some("acme-bot".into()), kind: IdentityKind::User }));
    assert_eq!(found.grants, known(&["admin:repo_hook", "read:org", "repo"]));
    assert_eq!(found.expires_at, Some("2027-02-25T04:28:56Z".parse().unwrap()));
    assert!(found.capabilities.scope_introspection && found.capabilities.expiry_introspection);
    assert_eq!((found.flavor.as_str(), found.version.as_deref(), found.warnings.len()), (SERVER, Some("3.21.0"), 0));
    assert_eq!(server.lines(), ["GET /api/v1/user", "GET /api/v1/meta", "GET /api/v1/orgs/acme"]);
}

#[tokio::test]
async fn a_token_without_scopes_is_not_a_fine_grained_one() {
    let server = TestServer::start([response("answers/user-classic-no-scopes"), meta(), response("answers/organization")]).await;
    assert_eq!(with_token(&server).inspect().await.unwrap().grants, known(&[]));
    let server = TestServer::start([response("answers/user-fine-grained"), meta(), response("answers/organization")]).await;
    let found = with_token(&server).inspect().await.unwrap();
    assert_eq!(found.grants, Grants::Unknown("GitHub does not report the permissions of a fine-grained token".into()));
    assert_eq!(found.expires_at, Some("2027-04-26T18:23:26Z".parse().unwrap()));
    assert!(!found.capabilities.scope_introspection);
}

#[tokio::test]
async fn bb_01_an_enterprise_server_names_its_version() {
    let server = TestServer::start([response("answers/user-server"), response("answers/organization")]).await;
    let found = with_token(&server).inspect().await.unwrap();
    assert_eq!((found.flavor.as_str(), found.version.as_deref()), (SERVER, Some("3.21.0")));
}

#[test]
fn every_form_of_an_end_is_read() {
    for (text, expected) in [
        ("2025-02-25 04:28:56 UTC", Some("2025-02-25T04:28:56Z")),
        ("2024-02-08 10:25:04 +0000", Some("2024-02-08T10:25:04Z")),
        ("2023-04-26 20:23:26 +0200", Some("2023-04-26T18:23:26Z")),
        ("2023-04-26 20:23:26 -0430", Some("2023-04-27T00:53:26Z")),
        ("2023-04-26", None),
        ("soon", None),
    ] {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(EXPIRATION), http::HeaderValue::from_static(text))]);
        assert_eq!(expiration(&headers), expected.map(|time| time.parse().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn a_token_that_the_organization_does_not_let_in_is_told() {
    let inspect = async |refusal: &str| {
        let server = TestServer::start([response("answers/user-server"), response(&format!("errors/{refusal}"))]).await;
        with_token(&server).inspect().await
    };
    for refusal in ["sso-required", "sso-required-hidden", "sso-without-header"] {
        assert_eq!(inspect(refusal).await.unwrap_err().kind, ErrorKind::SingleSignOnRequired, "{refusal}");
    }
    for (refusal, says) in [("token-lifetime", "90 days"), ("not-found", "hidden from this credential")] {
        let warnings = inspect(refusal).await.unwrap().warnings;
        assert!(warnings[0].contains("organization acme") && warnings[0].contains(says), "{warnings:?}");
    }
    assert_eq!(inspect("rate-limit-primary").await.unwrap_err().kind, ErrorKind::RateLimited);
    let refused = inspect("ip-allow-list").await.unwrap_err();
    assert!(refused.kind == ErrorKind::AccessPolicy && refused.message.contains("IP allow list"), "{refused}");
}

#[tokio::test]
async fn a_bad_token_is_told_apart_from_a_limit_and_from_another_product() {
    for (name, expected) in [
        ("errors/bad-credentials", ErrorKind::Unauthenticated),
        ("errors/too-many-bad-logins", ErrorKind::RateLimited),
        ("errors/rate-limit-primary", ErrorKind::RateLimited),
        ("errors/not-found", ErrorKind::ResponseInvalid),
        ("errors/login-page", ErrorKind::ResponseInvalid),
    ] {
        let server = TestServer::start([response(name)]).await;
        assert_eq!(with_token(&server).inspect().await.unwrap_err().kind, expected, "{name}");
    }
}

#[tokio::test]
async fn an_installations_token_is_valid_and_has_no_account() {
    let server = TestServer::start([response("errors/integration-lacks-permission"), meta(), response("answers/organization")]).await;
    let found = with_token(&server).inspect().await.unwrap();
    assert_eq!(found.identity, Some(Identity { name: None, kind: IdentityKind::Token }));
}

#[tokio::test]
async fn nobody_is_inspected_without_spending_a_call() {
    let inspect = async |answers: Vec<axum::response::Response>| {
        let server = TestServer::start(answers).await;
        let client = <dyn Provider>::connect(&GitHub, organization(&server), Credential::Anonymous, server.transport()).unwrap();
        let found = client.inspect().await;
        assert_eq!(server.lines()[0], "GET /api/v1/rate_limit");
        found.map(|found| (found.identity, found.flavor)).map_err(|error| error.kind)
    };
    assert_eq!(inspect(vec![response("answers/rate-limit"), meta()]).await, Ok((None, SERVER.into())));
    let unlimited = || answer(404, &[("x-github-enterprise-version", "3.21.0")], r#"{"message":"Rate limiting is not enabled."}"#);
    assert_eq!(inspect(vec![unlimited()]).await, Ok((None, SERVER.into())));
    assert_eq!(inspect(vec![answer(404, &[], "404 page not found")]).await, Err(ErrorKind::ResponseInvalid));
    assert_eq!(inspect(vec![response("errors/requires-authentication")]).await, Err(ErrorKind::Unauthenticated));
}

#[tokio::test]
async fn dv_04_pk_01_an_app_is_inspected_by_its_installation_and_never_asks_for_a_user() {
    let server =
        TestServer::start([response("answers/app"), response("answers/installation"), response("answers/installation-token"), meta()])
            .await;
    let client = with_app(&server);
    let found = client.inspect().await.unwrap();
    assert_eq!(found.identity, Some(Identity { name: Some("acme-forgebind".into()), kind: IdentityKind::App }));
    assert_eq!(found.credential_name.as_deref(), Some("Acme Forgebind"));
    assert_eq!(found.grants, known(&["contents:write", "metadata:read", "pull_requests:write", "repository_hooks:write"]));
    assert_eq!(found.expires_at, None, "its tokens are no concern of anybody");
    assert_eq!(
        server.lines(),
        ["GET /api/v1/app", "GET /api/v1/orgs/acme/installation", "POST /api/v1/app/installations/25381/access_tokens", "GET /api/v1/meta"]
    );
    let finding = client.permission(&found, Permission::ReadIssues);
    assert_eq!(finding.state, PermissionState::Missing);
    assert!(finding.message.unwrap().starts_with("needs permission issues:read (Issues); the installation has contents:write"));
    assert_eq!(client.permission(&found, Permission::ManageWebhooks).state, PermissionState::Granted);
}

#[tokio::test]
async fn pk_03_events_that_an_app_does_not_subscribe_to_are_named() {
    let server =
        TestServer::start([response("answers/app"), response("answers/installation"), response("answers/installation-token"), meta()])
            .await;
    let warnings = with_app(&server).inspect().await.unwrap().warnings;
    let expected = "the App does not subscribe to the events create, pull_request_review, pull_request_review_comment and \
                    repository; subscribe to them where the App is registered";
    assert_eq!(warnings, [expected]);
    let all = ["create", "issue_comment", "pull_request", "pull_request_review", "pull_request_review_comment", "push", "repository"];
    assert_eq!(missing_events(&all.map(str::to_owned)), None);
    let none = missing_events(&[]).unwrap();
    assert!(["create", "pull_request", "push", "repository"].iter().all(|event| none.contains(event)), "{none}");
}

#[tokio::test]
async fn an_app_that_is_none_is_not_authenticated() {
    for name in ["errors/app-key-unknown", "errors/integration-not-found"] {
        let server = TestServer::start([response(name)]).await;
        assert_eq!(with_app(&server).inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated, "{name}");
    }
    let server = TestServer::start([answer(404, &[], "404 page not found")]).await;
    assert_eq!(with_app(&server).inspect().await.unwrap_err().kind, ErrorKind::ResponseInvalid);
}

#[tokio::test]
async fn an_installation_that_is_missing_elsewhere_or_suspended_is_told_apart() {
    let inspect = async |installation: axum::response::Response, id: Option<&str>| {
        let server = TestServer::start([response("answers/app"), installation]).await;
        let client = <dyn Provider>::connect(&GitHub, organization(&server), app_credential(id), server.transport()).unwrap();
        let error = client.inspect().await.unwrap_err();
        (error.kind, error.message, server.lines()[1].clone())
    };
    let (kind, message, line) = inspect(response("errors/not-found"), None).await;
    assert_eq!((kind, line.as_str()), (ErrorKind::InstallationNotFound, "GET /api/v1/orgs/acme/installation"));
    assert!(message.contains("the App is not installed at organization acme"), "{message}");
    let (kind, _, line) = inspect(response("errors/not-found"), Some("99")).await;
    assert_eq!((kind, line.as_str()), (ErrorKind::InstallationNotFound, "GET /api/v1/app/installations/99"));
    let (kind, message, _) = inspect(response("answers/installation-suspended"), None).await;
    assert_eq!(kind, ErrorKind::InstallationSuspended);
    assert!(message.contains("suspended since 2026-11-19"), "{message}");
    let mut elsewhere: serde_json::Value = serde_json::from_slice(&recorded("answers/installation").body).unwrap();
    elsewhere["account"]["login"] = "other".into();
    let (kind, message, _) = inspect(json(200, &elsewhere.to_string()), Some("25381")).await;
    assert_eq!(kind, ErrorKind::InstallationNotFound);
    assert!(message.contains("installation 25381 is at other"), "{message}");
}
