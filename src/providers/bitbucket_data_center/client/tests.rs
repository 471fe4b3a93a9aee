use std::fmt::Write as _;
use std::sync::Mutex;

use axum::response::Response;
use serde_json::{Value, json as document};

use super::*;
use crate::api::v1alpha1::connection::PermissionState;
use crate::protocol::secret::{DerivedSecret, WebhookSecret};
use crate::providers::Provider;
use crate::providers::bitbucket_data_center::BitbucketDataCenter;
use crate::providers::model::{HookState, HookUrl, Scope};
use crate::providers::transport::test_server::{Server, TOKEN, answer, json};

/// An empty list.
pub(in super::super) const LIST: &str = r#"{"size":0,"limit":25,"isLastPage":true,"values":[],"start":0}"#;
const NOT_PERMITTED: &str = "com.atlassian.bitbucket.AuthorisationException";

/// An error response in the server's format.
pub(in super::super) fn refusal(status: u16, exception: &str) -> Response {
    let cause = document!({"context": null, "message": "the server's words", "exceptionName": exception});
    json(status, &document!({"errors": [cause]}).to_string())
}

pub(in super::super) fn connect(server: &Server, credential: Credential) -> Arc<dyn Client> {
    let scope = Scope { word: "project", path: "APP".into(), project: None };
    let endpoint = Endpoint { web: server.url("/"), api: server.url("/rest/api/latest"), further_origins: Vec::new(), scope: Some(scope) };
    BitbucketDataCenter.client(endpoint, credential, server.transport()).unwrap()
}

fn client(server: &Server) -> Arc<dyn Client> {
    connect(server, Credential::Token(TOKEN.into()))
}

fn password() -> Credential {
    Credential::BasicAuth { username: "ada".into(), password: TOKEN.into() }
}

fn described() -> Value {
    document!({
        "id": 17, "slug": "shop", "name": "Shop", "state": "AVAILABLE", "public": false, "archived": false,
        "project": {"key": "APP", "id": 3, "public": false, "type": "NORMAL"},
        "links": {
            "clone": [
                {"href": "https://git.acme.io/scm/app/shop.git", "name": "http"},
                {"href": "ssh://git@git.acme.io:7999/app/shop.git", "name": "ssh"},
            ],
            "self": [{"href": "https://git.acme.io/projects/APP/repos/shop/browse"}],
        },
    })
}

fn repository() -> Repository {
    convert::listed(&serde_json::from_value(described()).unwrap(), false)
}

fn path() -> RepositoryPath {
    RepositoryPath::new("app/SHOP".into())
}

fn main() -> Response {
    json(200, r#"{"id":"refs/heads/main","displayId":"main","type":"BRANCH"}"#)
}

fn page(values: &[Value], next: Option<u64>) -> Response {
    json(
        200,
        &document!({"size": values.len(), "limit": 2, "start": 0, "values": values, "isLastPage": next.is_none(), "nextPageStart": next})
            .to_string(),
    )
}

fn branch(name: &str) -> Value {
    document!({"id": format!("refs/heads/{name}"), "displayId": name, "type": "BRANCH", "latestCommit": "1f0c", "isDefault": false})
}

fn hook(id: i64) -> Value {
    document!({"id": id, "name": "Forgebind", "url": "https://in", "active": true, "events": ["repo:refs_changed"], "scopeType": "repository"})
}

fn hooks(ids: std::ops::Range<i64>, next: Option<u64>) -> Response {
    page(&ids.map(hook).collect::<Vec<_>>(), next)
}

/// A server that answers by path, for concurrent calls.
async fn answering(respond: impl Fn(&str) -> Response + Send + Sync + 'static) -> (Server, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (log, respond) = (Arc::clone(&lines), Arc::new(respond));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (log, respond) = (Arc::clone(&log), Arc::clone(&respond));
        async move {
            log.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
            respond(&request.uri().to_string())
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (Server { address, seen: Arc::default(), script: Arc::default() }, lines)
}

async fn look_up(about: impl Fn(&str) -> Option<Response> + Send + Sync + 'static) -> Result<Repository, ProviderError> {
    let (server, _) = answering(move |path| match about(path) {
        Some(response) => response,
        None if path.ends_with("/default-branch") => main(),
        None if path.contains("/branches") => page(&[branch("main")], None),
        None if path.contains("/webhooks") => json(200, LIST),
        None => json(200, &described().to_string()),
    })
    .await;
    client(&server).repository(&path()).await
}

#[tokio::test]
async fn a_repository_is_described_from_four_reads() {
    let (server, lines) = answering(|path| match path {
        path if path.ends_with("/default-branch") => main(),
        path if path.contains("/branches") => page(&[branch("main")], Some(1)),
        path if path.contains("/webhooks") => hooks(1..2, None),
        _ => json(200, &described().to_string()),
    })
    .await;
    let found = client(&server).repository(&path()).await.unwrap();
    assert_eq!((found.id.as_str(), found.path.as_str()), ("17", "APP/shop"), "the canonical path is the server's");
    assert_eq!(found.clone_url.as_deref(), Some("https://git.acme.io/scm/app/shop.git"));
    assert_eq!(found.ssh_url.as_deref(), Some("ssh://git@git.acme.io:7999/app/shop.git"));
    assert_eq!((found.default_branch.as_deref(), found.empty), (Some("main"), false));
    assert_eq!(found.manage_webhooks.state, PermissionState::Granted);
    let mut lines = lines.lock().unwrap().clone();
    lines.sort();
    let expected = [
        "GET /rest/api/latest/projects/APP/repos/shop/branches?limit=1",
        "GET /rest/api/latest/projects/APP/repos/shop/default-branch",
        "GET /rest/api/latest/projects/APP/repos/shop/webhooks?limit=1",
        "GET /rest/api/latest/projects/app/repos/SHOP",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn an_empty_repository_is_told_by_its_branches() {
    let found = look_up(|path| path.contains("/branches").then(|| json(200, LIST))).await.unwrap();
    assert_eq!((found.empty, found.default_branch), (true, None), "the configured branch does not exist yet");
    let nothing: [fn() -> Response; 3] = [
        || answer(204, &[], ""),
        || refusal(404, "com.atlassian.bitbucket.repository.NoDefaultBranchException"),
        || refusal(409, "com.atlassian.bitbucket.repository.EmptyRepositoryException"),
    ];
    for response in nothing {
        let found = look_up(move |path| path.ends_with("/default-branch").then(response)).await.unwrap();
        assert_eq!((found.empty, found.default_branch), (false, None));
        let found = look_up(move |path| path.contains("branch").then(response)).await.unwrap();
        assert!(found.empty);
    }
    let gone = || refusal(404, "com.atlassian.bitbucket.repository.NoSuchRepositoryException");
    let error = look_up(move |path| path.ends_with("/default-branch").then(gone)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "it was moved or deleted between two reads");
}

#[tokio::test]
async fn pk_11_repo_admin_is_checked_by_its_effect_and_named() {
    let found = look_up(|path| path.contains("/webhooks").then(|| refusal(401, NOT_PERMITTED))).await.unwrap();
    assert_eq!(found.manage_webhooks.state, PermissionState::Missing);
    assert!(found.manage_webhooks.message.unwrap().contains("REPO_ADMIN"));
    let (server, lines) = answering(|path| match path {
        path if path.ends_with("/default-branch") => main(),
        path if path.contains("/branches") => page(&[branch("main")], None),
        _ => json(200, &described().to_string()),
    })
    .await;
    let found = connect(&server, Credential::Anonymous).repository(&path()).await.unwrap();
    assert_eq!(found.manage_webhooks.state, PermissionState::Missing);
    assert!(lines.lock().unwrap().iter().all(|line| !line.contains("webhooks")), "nobody need be asked");
}

#[tokio::test]
async fn not_permitted_is_not_a_bad_credential() {
    for (response, kind) in [
        (refusal(401, NOT_PERMITTED), ErrorKind::PermissionDenied),
        (answer(401, &[("x-ausername", "ada")], ""), ErrorKind::PermissionDenied),
        (refusal(401, "com.atlassian.bitbucket.auth.IncorrectPasswordAuthenticationException"), ErrorKind::Unauthenticated),
        (answer(401, &[], ""), ErrorKind::Unauthenticated),
        (refusal(404, "com.atlassian.bitbucket.repository.NoSuchRepositoryException"), ErrorKind::NotFound),
        (answer(302, &[("location", "/login?next=/rest")], ""), ErrorKind::ResponseInvalid),
    ] {
        let mut answers = vec![response];
        answers.push(answer(200, &[("content-type", "text/html")], "<html>"));
        let server = Server::start(answers).await;
        assert_eq!(client(&server).repository(&path()).await.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn a_refused_password_is_not_sent_again() {
    let wrong = refusal(401, "com.atlassian.bitbucket.auth.IncorrectPasswordAuthenticationException");
    let server = Server::start([wrong]).await;
    let client = connect(&server, password());
    assert_eq!(client.hooks(&repository()).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    for kind in [
        client.hooks(&repository()).await.unwrap_err().kind,
        client.repository(&path()).await.unwrap_err().kind,
        client.delete_hook(&repository(), "7").await.unwrap_err().kind,
        client.probe_git(&path()).await.unwrap_err().kind,
    ] {
        assert_eq!(kind, ErrorKind::Unauthenticated);
    }
    assert_eq!(server.lines().len(), 1, "each further attempt brings a CAPTCHA nearer");
}

#[tokio::test]
async fn what_is_only_not_permitted_goes_on_with_the_password() {
    let server = Server::start([refusal(401, NOT_PERMITTED), hooks(1..3, None)]).await;
    let client = connect(&server, password());
    assert_eq!(client.hooks(&repository()).await.unwrap_err().kind, ErrorKind::PermissionDenied);
    assert_eq!(client.hooks(&repository()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_token_is_a_bearer_also_in_a_passwords_place() {
    let token = format!("{TOKEN_PREFIX}NTI0MDE4OTU3Nzcw");
    for (credential, scheme) in [
        (Credential::Token(token.clone().into()), "Bearer BBDC-NTI0MDE4OTU3Nzcw".to_owned()),
        (Credential::BasicAuth { username: "ada".into(), password: token.clone().into() }, "Bearer BBDC-NTI0MDE4OTU3Nzcw".to_owned()),
        (Credential::BasicAuth { username: TOKEN_USER.into(), password: "old-token".into() }, "Bearer old-token".to_owned()),
        (Credential::BasicAuth { username: "ada".into(), password: "secret".into() }, "Basic YWRhOnNlY3JldA==".to_owned()),
    ] {
        let server = Server::start([json(200, LIST)]).await;
        connect(&server, credential).hooks(&repository()).await.unwrap();
        let head = server.seen.lock().unwrap()[0].head.clone();
        assert!(head.contains(&scheme), "{head}");
    }
    let server = Server::start([]).await;
    let refused =
        |credential| <dyn Provider>::connect(&BitbucketDataCenter, server.endpoint(), credential, server.transport()).err().unwrap().kind;
    let email = Credential::EmailToken { email: "ada@acme.io".into(), token: TOKEN.into() };
    assert_eq!(refused(email), ErrorKind::CredentialKindNotAccepted);
}

#[tokio::test]
async fn a_list_goes_on_where_the_server_says() {
    let server = Server::start([hooks(0..2, Some(5)), hooks(2..3, None), hooks(0..2, Some(5)), hooks(2..3, None)]).await;
    assert_eq!(client(&server).hooks(&repository()).await.unwrap().len(), 3);
    let list = "GET /rest/api/latest/projects/APP/repos/shop/webhooks?statistics=true&start=";
    let once = [format!("{list}0&limit=1000"), format!("{list}5&limit=1000")];
    assert_eq!(server.lines(), [once.clone(), once].concat(), "several pages are read twice");
    for next in [document!(null), document!(0)] {
        let page = document!({"values": [], "isLastPage": false, "nextPageStart": next});
        let server = Server::start([json(200, &page.to_string())]).await;
        assert_eq!(client(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::ResponseInvalid, "never a short list");
    }
    for page in [r#"{"values":[]}"#, "[]", r#"{"values":[{"id":1}],"isLastPa"#] {
        let server = Server::start([json(200, page)]).await;
        assert_eq!(client(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::ResponseInvalid, "{page}");
    }
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_is_read_anew() {
    // Hook 1 is deleted between two pages: hook 2 moves to its position and is on neither page.
    let shifted = || [page(&[hook(0), hook(1)], Some(2)), page(&[hook(3)], None)];
    let settled = || [page(&[hook(0), hook(2)], Some(2)), page(&[hook(3)], None)];
    let answers = shifted().into_iter().chain(settled()).chain(settled()).chain(settled());
    let server = Server::start(answers).await;
    let ids: Vec<_> = client(&server).hooks(&repository()).await.unwrap().into_iter().map(|hook| hook.id).collect();
    assert_eq!(ids, ["0", "2", "3"]);
    let twice = || page(&[hook(0), hook(0)], None);
    let server = Server::start([twice(), hooks(0..1, None)]).await;
    assert_eq!(client(&server).hooks(&repository()).await.unwrap().len(), 1, "no id stands twice");
    let restless = (0..3).flat_map(|_| shifted().into_iter().chain(settled()));
    let server = Server::start(restless).await;
    assert_eq!(client(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::Transient);
}

#[tokio::test]
async fn branches_are_compared_exactly() {
    let alike = [branch("release/1.0-old"), branch("RELEASE/1.0"), branch("my-release/1.0")];
    let server = Server::start([page(&alike, Some(3)), page(&[branch("release/1.0")], None)]).await;
    assert!(client(&server).branch_exists(&repository(), "release/1.0").await.unwrap());
    let first = "GET /rest/api/latest/projects/APP/repos/shop/branches?filterText=release%2F1.0&boostMatches=true&start=0&limit=100";
    assert_eq!(server.lines()[0], first);
    let server = Server::start([page(&alike, None)]).await;
    assert!(!client(&server).branch_exists(&repository(), "release/1.0").await.unwrap());
    let server = Server::start([refusal(404, "com.atlassian.bitbucket.repository.NoDefaultBranchException")]).await;
    assert!(!client(&server).branch_exists(&repository(), "main").await.unwrap());
    let server = Server::start([refusal(404, "com.atlassian.bitbucket.repository.NoSuchRepositoryException")]).await;
    assert_eq!(client(&server).branch_exists(&repository(), "main").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_404_is_absence_only_with_the_list_at_hand() {
    let gone = || refusal(404, "com.atlassian.webhooks.NoSuchWebhookException");
    let delete = async |answers: Vec<Response>| {
        let server = Server::start(answers).await;
        client(&server).delete_hook(&repository(), "7").await
    };
    assert_eq!(delete(vec![answer(204, &[], "")]).await.unwrap(), Deletion::Deleted);
    assert_eq!(delete(vec![gone(), hooks(0..5, None)]).await.unwrap(), Deletion::Absent);
    assert_eq!(delete(vec![gone(), gone()]).await.unwrap(), Deletion::Hidden);
    assert_eq!(delete(vec![gone(), refusal(401, NOT_PERMITTED)]).await.unwrap(), Deletion::Hidden);
    assert_eq!(delete(vec![gone(), hooks(0..9, None)]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
    assert_eq!(delete(vec![refusal(401, NOT_PERMITTED)]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn pk_12_a_hook_is_made_with_its_secret_and_one_too_long_is_not_sent() {
    let shape = convert::shapes(&[EventKind::Push].into()).remove(0);
    let url = HookUrl::new("https://in.acme.io/hooks/canary/1".into());
    let secret = WebhookSecret::Derived(DerivedSecret::new([7; 32]));
    let server = Server::start([json(201, &hook(7).to_string())]).await;
    let made = client(&server).create_hook(&repository(), &HookRequest { url: &url, secret: &secret, shape: &shape }).await.unwrap();
    assert_eq!((made.id.as_str(), made.state), ("7", HookState::Active));
    assert_eq!(server.lines(), ["POST /rest/api/latest/projects/APP/repos/shop/webhooks"]);

    let long = WebhookSecret::Text("x".repeat(256).into());
    let server = Server::start([]).await;
    let error = client(&server).create_hook(&repository(), &HookRequest { url: &url, secret: &long, shape: &shape }).await.unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::Rejected, 0));
    assert!(error.message.contains("255"), "{error}");
}

#[tokio::test]
async fn df_20_a_refused_hook_is_told_without_its_address_and_secret() {
    let shape = convert::shapes(&[EventKind::Push].into()).remove(0);
    let url = HookUrl::new("https://in.acme.io/hooks/canary-path/1".into());
    let secret = WebhookSecret::Text("canary-of-a-secret".into());
    let mut words = String::new();
    write!(words, "cannot use {} with canary-of-a-secret", url.expose()).unwrap();
    let body = document!({"errors": [{"context": "url", "message": words, "exceptionName": null}]});
    let server = Server::start([json(400, &body.to_string())]).await;
    let error = client(&server).create_hook(&repository(), &HookRequest { url: &url, secret: &secret, shape: &shape }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn an_update_writes_back_what_a_person_chose() {
    let shape = convert::shapes(&[EventKind::Push].into()).remove(0);
    let (url, secret) = (HookUrl::new("https://in".into()), WebhookSecret::Derived(DerivedSecret::new([7; 32])));
    let request = HookRequest { url: &url, secret: &secret, shape: &shape };
    let server = Server::start([json(200, &hook(7).to_string()), json(200, &hook(7).to_string())]).await;
    client(&server).update_hook(&repository(), "7", &request).await.unwrap();
    let hook_line = "/rest/api/latest/projects/APP/repos/shop/webhooks/7";
    assert_eq!(server.lines(), [format!("GET {hook_line}"), format!("PUT {hook_line}")]);
    let server = Server::start([refusal(404, "com.atlassian.webhooks.NoSuchWebhookException")]).await;
    assert_eq!(client(&server).update_hook(&repository(), "7", &request).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_moved_repository_is_looked_up_again_before_a_write() {
    let moved = answer(301, &[("location", "/rest/api/latest/projects/NEW/repos/shop/webhooks/7")], "");
    let server = Server::start([moved]).await;
    let error = client(&server).delete_hook(&repository(), "7").await.unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::Conflict, 1));
}

/// An error response as the server documents it, and its expected classification.
#[derive(serde::Deserialize)]
struct Recorded {
    kind: String,
    status: u16,
    headers: std::collections::BTreeMap<String, String>,
    body: Option<Value>,
}

#[tokio::test]
async fn every_recorded_refusal_has_its_kind() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bitbucket_data_center");
    let shape = convert::shapes(&[EventKind::Push].into()).remove(0);
    let (url, secret) = (HookUrl::new("https://in".into()), WebhookSecret::Derived(DerivedSecret::new([7; 32])));
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if !file.file_name().unwrap().to_str().unwrap().starts_with("error-") {
            continue;
        }
        let recorded: Recorded = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let mut response = answer(recorded.status, &[], &recorded.body.map(|body| body.to_string()).unwrap_or_default());
        for (name, value) in &recorded.headers {
            response.headers_mut().insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let server = Server::start([response]).await;
        let request = HookRequest { url: &url, secret: &secret, shape: &shape };
        let error = client(&server).create_hook(&repository(), &request).await.unwrap_err();
        assert_eq!(format!("{:?}", error.kind), recorded.kind, "{}", file.display());
        assert_eq!(error.retry_at.is_some(), error.kind == ErrorKind::RateLimited, "{}", file.display());
        kinds.insert(error.kind);
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}
