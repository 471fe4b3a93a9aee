//! Tests GitHub's documented deliveries, answers and error responses from `tests/fixtures/github/`, and the classification
//! of each error response.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::GitHub;
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::WebhookSecret;
use crate::providers::model::Scope;
use crate::providers::transport::test_server::{Server, TOKEN};
use crate::providers::{
    Client, Credential, Endpoint, ErrorKind, HookRequest, HookUrl, Provider, ProviderError, Repository, RepositoryPath,
};

/// One fixture file: a status line if it is an answer, headers, an empty line, the body.
pub(super) struct Recorded {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

pub(super) fn recorded(name: &str) -> Recorded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/github").join(format!("{name}.http"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut status = 0;
    let mut headers = HeaderMap::new();
    for line in head.lines() {
        if let Some(line) = line.strip_prefix("HTTP/1.1 ") {
            status = line.split(' ').next().unwrap().parse().unwrap();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value.trim()).unwrap());
    }
    Recorded { status, headers, body: body.as_bytes().to_vec() }
}

pub(super) fn response(name: &str) -> Response {
    let recorded = recorded(name);
    let mut response = Response::builder().status(recorded.status);
    response.headers_mut().unwrap().extend(recorded.headers);
    response.body(Body::from(recorded.body)).unwrap()
}

pub(super) const APP_KEY: &str = include_str!("../../../tests/fixtures/github/app-private-key.pkcs1.pem");

pub(super) fn organization(server: &Server) -> Endpoint {
    Endpoint { scope: Some(Scope { word: super::path::ORGANIZATION, path: "acme".into(), project: None }), ..server.endpoint() }
}

pub(super) fn with_token(server: &Server) -> Arc<dyn Client> {
    <dyn Provider>::connect(&GitHub, organization(server), Credential::Token(TOKEN.into()), server.transport()).unwrap()
}

pub(super) fn app_credential(installation_id: Option<&str>) -> Credential {
    Credential::GitHubApp {
        issuer: "4711".into(),
        private_key: APP_KEY.into(),
        installation_id: installation_id.map(str::to_owned),
        webhook_secret: Some("a-secret-of-the-apps-own".into()),
    }
}

pub(super) fn with_app(server: &Server) -> Arc<dyn Client> {
    <dyn Provider>::connect(&GitHub, organization(server), app_credential(None), server.transport()).unwrap()
}

pub(super) fn repository() -> Repository {
    let document = serde_json::from_slice(&recorded("answers/repository").body).unwrap();
    super::convert::repository(document, super::convert::Viewer::Account, false)
}

pub(super) fn path() -> RepositoryPath {
    RepositoryPath::new("acme/shop".into())
}

/// Tries to create a hook whose URL and secret are canaries.
pub(super) async fn create_hook(client: &dyn Client) -> Result<crate::providers::Hook, ProviderError> {
    let (url, secret) = (HookUrl::new("https://hooks.acme.io/hooks/canary-url".into()), WebhookSecret::Text("canary-secret-value".into()));
    let shape = client.hook_shapes(&[EventKind::Push].into()).remove(0);
    client.create_hook(&repository(), &HookRequest { url: &url, secret: &secret, shape: &shape }).await
}

#[tokio::test]
async fn every_refusal_has_its_kind() {
    use ErrorKind::{
        AccessPolicy, Archived, Conflict, InstallationSuspended, LimitReached, NotFound, PermissionDenied, RateLimited, Rejected,
        ResponseInvalid, SingleSignOnRequired, TargetRefused, Transient, Unauthenticated,
    };
    let table = [
        ("bad-credentials", Unauthenticated),
        ("requires-authentication", Unauthenticated),
        ("app-key-unknown", Unauthenticated),
        ("app-clock-ahead", Unauthenticated),
        ("app-clock-behind", Unauthenticated),
        ("integration-not-found", NotFound),
        ("too-many-bad-logins", RateLimited),
        ("sso-required", SingleSignOnRequired),
        ("sso-required-hidden", SingleSignOnRequired),
        ("sso-without-header", SingleSignOnRequired),
        ("token-lifetime", PermissionDenied),
        ("ip-allow-list", AccessPolicy),
        ("fine-grained-lacks-permission", PermissionDenied),
        ("integration-lacks-permission", PermissionDenied),
        ("must-have-admin", PermissionDenied),
        ("blocked", PermissionDenied),
        ("not-found", NotFound),
        ("installation-suspended", InstallationSuspended),
        ("permissions-not-granted", Rejected),
        ("archived", Archived),
        ("rate-limit-primary", RateLimited),
        ("rate-limit-primary-429", RateLimited),
        ("rate-limit-secondary", RateLimited),
        ("rate-limit-secondary-untold", RateLimited),
        ("rate-limit-abuse", RateLimited),
        ("rate-limit-by-page", RateLimited),
        ("hook-exists", Conflict),
        ("hook-limit", LimitReached),
        ("hook-limit-server", LimitReached),
        ("hook-target-local", TargetRefused),
        ("hook-target-private", TargetRefused),
        ("hook-event-unknown", Rejected),
        ("problems-parsing", Rejected),
        ("version-unknown", Rejected),
        ("unavailable", Transient),
        ("unicorn", Transient),
        ("login-page", ResponseInvalid),
        ("moved-write", Conflict),
    ];
    for (name, expected) in table {
        let server = Server::start([response(&format!("errors/{name}"))]).await;
        let error = create_hook(&*with_token(&server)).await.unwrap_err();
        assert_eq!(error.kind, expected, "{name}: {error}");
        assert_eq!(error.retry_at.is_some(), expected == RateLimited, "{name} tells when to come back");
        assert_eq!(server.lines().len(), 1, "{name}: a write is sent once");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary") && !shown.contains("authorization_request"), "{shown}");
    }
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/github/errors")).unwrap();
    assert_eq!(files.count(), table.len(), "every recorded refusal is judged");
}

#[tokio::test]
async fn a_refusals_words_and_request_are_told() {
    let server = Server::start([response("errors/hook-limit")]).await;
    let error = create_hook(&*with_token(&server)).await.unwrap_err();
    assert!(error.to_string().contains(r#"The "push" event cannot have more than 20 hooks"#), "{error}");
    assert_eq!(error.request_id.as_deref(), Some("8C5A:2F3B:1B6E0D:2A5F11:691EFC30"));
}
