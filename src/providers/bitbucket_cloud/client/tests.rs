use http::StatusCode;
use serde_json::json;

use super::*;
use crate::protocol::secret::WebhookSecret;
use crate::providers::bitbucket_cloud::{BitbucketCloud, fixtures};
use crate::providers::model::{HookUrl, Scope};
use crate::providers::transport::test_server::{Server, TOKEN, answer, json as json_answer};
use crate::providers::{Provider, listing};

const SHOP: &str = "/api/v1/repositories/acme/%7B3f0f8e6c-7f0e-4d5b-9a51-000000000017%7D";

fn client(server: &Server) -> Arc<dyn Client> {
    let scope = Scope { word: "workspace", path: "acme".into(), project: Some("APP".into()) };
    let endpoint = Endpoint { scope: Some(scope), ..server.endpoint() };
    <dyn Provider>::connect(&BitbucketCloud, endpoint, Credential::Token(TOKEN.into()), server.transport()).unwrap()
}

fn shop() -> Repository {
    convert::repository(serde_json::from_slice(&fixtures::read("repository").body).unwrap(), false)
}

/// A page of hooks with these IDs.
fn page(numbers: std::ops::Range<usize>, size: Option<usize>, next: Option<&str>) -> axum::response::Response {
    let hooks: Vec<_> = numbers.map(|number| json!({"uuid": format!("{{{number}}}"), "events": ["repo:push"]})).collect();
    let mut document = json!({"values": hooks, "pagelen": 100});
    if let Some(size) = size {
        document["size"] = json!(size);
    }
    if let Some(next) = next {
        document["next"] = json!(next);
    }
    json_answer(200, &document.to_string())
}

#[tokio::test]
async fn links_to_the_next_page_stay_on_the_api() {
    let next = "https://api.bitbucket.org/2.0/repositories/acme/%7B3f0f8e6c-7f0e-4d5b-9a51-000000000017%7D/hooks?page=a%3Db&pagelen=100";
    let server = Server::start([page(0..2, Some(3), Some(next)), page(2..3, Some(3), None)]).await;
    let endpoint = Endpoint { api: server.url("/2.0"), scope: None, ..server.endpoint() };
    let hooks = <dyn Provider>::connect(&BitbucketCloud, endpoint, Credential::Token(TOKEN.into()), server.transport())
        .unwrap()
        .hooks(&shop())
        .await;
    // The API of the test transport has another path, so the link cannot belong to it.
    assert_eq!(hooks.unwrap_err().kind, ErrorKind::ResponseInvalid);

    let next = next.replace("/2.0/", "/api/v1/");
    let server = Server::start([page(0..2, Some(3), Some(&next)), page(2..3, None, None)]).await;
    assert_eq!(client(&server).hooks(&shop()).await.unwrap().len(), 3);
    assert_eq!(server.lines(), [format!("GET {SHOP}/hooks?pagelen=100"), format!("GET {SHOP}/hooks?page=a%3Db&pagelen=100")]);
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_is_read_anew() {
    let next = || Some("/api/v1/next");
    let moved = || [page(0..2, Some(4), next()), page(1..3, Some(4), None)];
    let shrunk = || [page(0..2, Some(4), next()), page(3..4, Some(3), None)];
    let whole = [page(0..2, Some(3), next()), page(2..3, Some(3), None)];
    let server = Server::start(moved().into_iter().chain(shrunk()).chain(whole)).await;
    assert_eq!(client(&server).hooks(&shop()).await.unwrap().len(), 3);
    let server = Server::start(moved().into_iter().chain(moved()).chain(shrunk())).await;
    assert_eq!(client(&server).hooks(&shop()).await.unwrap_err().kind, ErrorKind::Transient, "never a short list");
}

#[tokio::test]
async fn a_list_without_end_is_not_read_for_ever() {
    let pages = (0..=listing::MOST_PAGES).map(|number| page(number..number + 1, None, Some("/api/v1/next")));
    let server = Server::start(pages).await;
    assert_eq!(client(&server).hooks(&shop()).await.unwrap_err().kind, ErrorKind::ResponseInvalid);
}

#[tokio::test]
async fn dt_17_only_the_projects_repositories_are_listed() {
    use futures::TryStreamExt as _;
    let repositories = |numbers: std::ops::Range<usize>, next: Option<&str>| {
        let values: Vec<_> =
            numbers.map(|number| json!({"uuid": format!("{{{number}}}"), "full_name": format!("acme/r{number}")})).collect();
        json_answer(200, &json!({"values": values, "next": next, "size": 3}).to_string())
    };
    let server = Server::start([repositories(0..2, Some("/api/v1/next")), repositories(2..3, None)]).await;
    let pages: Vec<_> = client(&server).repositories().try_collect().await.unwrap();
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(server.lines()[0], "GET /api/v1/repositories/acme?q=project.key%3D%22APP%22&sort=created_on&pagelen=100");

    let server = Server::start([repositories(0..2, Some("/api/v1/next")), repositories(1..2, None)]).await;
    let result: Result<Vec<_>, _> = client(&server).repositories().try_collect().await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Transient, "an error, not a short list");
}

#[tokio::test]
async fn a_repository_and_its_branches_are_looked_up() {
    let found = fixtures::answer;
    let branch = json_answer(200, r#"{"type":"branch","name":"release/1.0"}"#);
    let server = Server::start([found("repository"), found("repository"), branch, found("error-404-repository")]).await;
    let client = client(&server);
    let repository = client.repository(&RepositoryPath::new("acme/shop".into())).await.unwrap();
    assert_eq!(client.repository_by_id(&repository.id).await.unwrap().as_ref(), Some(&repository));
    assert!(client.branch_exists(&repository, "release/1.0").await.unwrap());
    assert!(!client.branch_exists(&repository, "a?b#c%2F").await.unwrap());
    assert_eq!(
        server.lines(),
        [
            "GET /api/v1/repositories/acme/shop".to_owned(),
            format!("GET {SHOP}"),
            format!("GET {SHOP}/refs/branches/release/1.0"),
            format!("GET {SHOP}/refs/branches/a%3Fb%23c%252F"),
        ]
    );
}

#[tokio::test]
async fn every_refusal_has_its_kind() {
    for (name, kind) in [
        ("error-401-token", ErrorKind::Unauthenticated),
        ("error-401-basic", ErrorKind::Unauthenticated),
        ("error-403-scope", ErrorKind::PermissionDenied),
        ("error-403-access-token", ErrorKind::NotFound),
        ("error-403-forbidden", ErrorKind::NotFound),
        ("error-404-repository", ErrorKind::NotFound),
        ("error-410-removed", ErrorKind::ResponseInvalid),
        ("error-429", ErrorKind::RateLimited),
    ] {
        let server = Server::start([fixtures::answer(name)]).await;
        let error = client(&server).repository(&RepositoryPath::new("acme/shop".into())).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}: {error}");
    }
    let server = Server::start([fixtures::answer("error-403-scope")]).await;
    let error = client(&server).hooks(&shop()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.message.contains("required: read:user:bitbucket"), "the missing scope is named: {error}");
}

fn request<'a>(url: &'a HookUrl, secret: &'a WebhookSecret, shape: &'a HookShape) -> HookRequest<'a> {
    HookRequest { url, secret, shape }
}

#[tokio::test]
async fn bb_01_a_refused_hook_has_its_kind_and_shows_no_url() {
    let (url, secret) = (HookUrl::new("https://canary.acme.io/hooks/x".into()), WebhookSecret::Text("canary-of-a-secret".into()));
    let shape = convert::shapes(&[EventKind::Push].into()).remove(0);
    for (name, kind) in [
        ("error-400-url", ErrorKind::TargetRefused),
        ("error-400-limit", ErrorKind::LimitReached),
        ("error-400-events", ErrorKind::Rejected),
        ("error-403-scope", ErrorKind::PermissionDenied),
        ("error-500", ErrorKind::Transient),
    ] {
        let server = Server::start([fixtures::answer(name)]).await;
        let error = client(&server).create_hook(&shop(), &request(&url, &secret, &shape)).await.unwrap_err();
        assert_eq!((error.kind, server.lines().len()), (kind, 1), "{name}: {error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let moved = answer(301, &[("location", "/api/v1/elsewhere")], "");
    let server = Server::start([moved]).await;
    let error = client(&server).create_hook(&shop(), &request(&url, &secret, &shape)).await.unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::Conflict, 1), "a write follows nothing");
}

#[tokio::test]
async fn a_hook_is_made_with_its_secret_and_changed_with_a_persons_pause() {
    let hook = |active: bool| {
        let mut document: serde_json::Value = serde_json::from_slice(&fixtures::read("hook").body).unwrap();
        document["active"] = json!(active);
        json_answer(200, &document.to_string())
    };
    let (url, secret) = (HookUrl::new("https://in.acme.io/hooks/x".into()), WebhookSecret::Text("s".into()));
    let shape = convert::shapes(&[EventKind::Push, EventKind::PullRequest].into()).remove(0);
    let server = Server::start([fixtures::answer("hook"), hook(false), hook(false), fixtures::answer("error-404-hook")]).await;
    let client = client(&server);
    let made = client.create_hook(&shop(), &request(&url, &secret, &shape)).await.unwrap();
    assert_eq!((made.drift(&shape), made.has_secret), (Vec::new(), Some(true)));
    client.update_hook(&shop(), &made.id, &request(&url, &secret, &shape)).await.unwrap();
    let error = client.update_hook(&shop(), &made.id, &request(&url, &secret, &shape)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let uuid = "%7B5f0a2a3c-0000-4000-8000-000000000007%7D";
    let expected = ["POST", "GET", "PUT", "GET"].map(|method| match method {
        "POST" => format!("POST {SHOP}/hooks"),
        method => format!("{method} {SHOP}/hooks/{uuid}"),
    });
    assert_eq!(server.lines(), expected);
}

#[tokio::test]
async fn a_secret_that_is_too_long_is_not_sent() {
    let server = Server::start([]).await;
    let (url, secret) = (HookUrl::new("https://in.acme.io/hooks/x".into()), WebhookSecret::Text("s".repeat(129).into()));
    let shape = convert::shapes(&[EventKind::Push].into()).remove(0);
    let error = client(&server).create_hook(&shop(), &request(&url, &secret, &shape)).await.unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::Rejected, 0));
    assert!(error.message.contains("128 characters"), "{error}");
}

#[tokio::test]
async fn a_404_is_absence_only_with_the_list_at_hand() {
    let gone = || fixtures::answer("error-404-hook");
    let delete = async |answers: Vec<axum::response::Response>| {
        let server = Server::start(answers).await;
        client(&server).delete_hook(&shop(), "{7}").await
    };
    assert_eq!(delete(vec![answer(204, &[], "")]).await.unwrap(), Deletion::Deleted);
    assert_eq!(delete(vec![gone(), page(0..5, Some(5), None)]).await.unwrap(), Deletion::Absent);
    assert_eq!(delete(vec![gone(), gone()]).await.unwrap(), Deletion::Hidden);
    assert_eq!(delete(vec![gone(), fixtures::answer("error-403-scope")]).await.unwrap(), Deletion::Hidden);
    assert_eq!(delete(vec![gone(), page(0..9, Some(9), None)]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
    // The permission to delete is a separate scope.
    assert_eq!(delete(vec![fixtures::answer("error-403-scope")]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn git_is_asked_with_a_user_name_of_its_own() {
    let server = Server::start([answer(StatusCode::NOT_FOUND.as_u16(), &[], "")]).await;
    let error = client(&server).probe_git(&RepositoryPath::new("acme/shop".into())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(server.lines(), ["GET /acme/shop.git/info/refs?service=git-upload-pack"]);
    let expected = crate::providers::authorization::basic("x-token-auth", &TOKEN.into()).unwrap();
    let head = server.seen.lock().unwrap()[0].head.clone();
    assert!(head.contains(expected.to_str().unwrap()), "not the Bearer of the API");
}
