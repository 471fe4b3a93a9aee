use axum::response::Response;
use serde_json::json;

use super::*;
use crate::api::v1alpha1::connection::PermissionState;
use crate::protocol::secret::WebhookSecret;
use crate::providers::model::HookUrl;
use crate::providers::transport::test_server::{Server, TOKEN, answer, json as reply};
use crate::providers::{Provider, model::HookState};

const PROJECT: &str = "5b1bd0e5-6c7c-4d1b-8a64-6b33b1f3a111";
const REPOSITORY: &str = "0f7c9d5e-24c1-4a57-9b0e-3d5a1c8e7f22";
const SUBSCRIPTION: &str = "8dea9aba-3a9a-4ad0-860f-2a5c7379e3eb";

/// A documented answer: status and headers in one file, body in another.
macro_rules! documented {
    ($name:literal, $kind:literal) => {
        documented(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/azure_devops/", $name, ".headers")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/azure_devops/", $name, ".", $kind)),
        )
    };
}

fn documented(head: &'static str, body: &str) -> Response {
    let lines: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let status = lines.iter().find(|(name, _)| *name == "status").unwrap().1.parse().unwrap();
    let headers: Vec<_> = lines.into_iter().filter(|(name, _)| *name != "status").collect();
    answer(status, &headers, body)
}

fn found() -> Response {
    reply(200, include_str!("../../../../tests/fixtures/azure_devops/repository.json"))
}

fn permission(granted: bool) -> Response {
    reply(200, &json!({"count": 1, "value": [granted]}).to_string())
}

fn subscriptions(ids: &[&str]) -> Response {
    let one: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/azure_devops/subscription.json")).unwrap();
    let results: Vec<_> = ids
        .iter()
        .map(|id| {
            let mut one = one.clone();
            one["id"] = json!(id);
            one
        })
        .collect();
    reply(200, &json!({"publisherId": "tfs", "results": results}).to_string())
}

fn client(server: &Server) -> Arc<dyn Client> {
    <dyn Provider>::connect(&super::super::AzureDevOps, server.endpoint(), Credential::Token(TOKEN.into()), server.transport()).unwrap()
}

fn repository() -> Repository {
    let text = include_str!("../../../../tests/fixtures/azure_devops/repository.json");
    convert::repository(serde_json::from_str(text).unwrap(), PermissionFinding::granted())
}

fn path(text: &str) -> RepositoryPath {
    RepositoryPath::new(text.to_owned())
}

async fn look_up(answers: Vec<Response>) -> (Result<Repository, ProviderError>, Vec<String>) {
    let server = Server::start(answers).await;
    let result = client(&server).repository(&path("My Shop/web")).await;
    (result, server.lines())
}

#[tokio::test]
async fn dv_20_a_repository_is_looked_up_by_its_names() {
    let (found, lines) = look_up(vec![found(), permission(true)]).await;
    let found = found.unwrap();
    assert_eq!((found.id.as_str(), found.path.as_str()), (REPOSITORY, "My Shop/web"));
    assert_eq!(found.manage_webhooks, PermissionFinding::granted());
    assert_eq!(
        lines,
        [
            "GET /api/v1/My%20Shop/_apis/git/repositories/web?api-version=7.1".to_owned(),
            format!(
                "GET /api/v1/_apis/permissions/cb594ebe-87dd-4fc9-ac2c-6a10a4c92046/7?tokens=PublisherSecurity%2F{PROJECT}&api-version=7.1"
            ),
        ]
    );
}

#[tokio::test]
async fn pk_19_each_permission_for_subscriptions_is_asked_for_and_named_where_it_is_missing() {
    use crate::api::v1alpha1::connection::PermissionState::{Missing, Unknown};
    for ([view, edit, delete], named) in [
        ([false, false, false], "View subscriptions, Edit subscriptions and Delete subscriptions in project My Shop,"),
        ([true, false, false], "permissions Edit subscriptions and Delete subscriptions in project My Shop,"),
        // The account could create hooks but never delete them.
        ([true, true, false], "the permission Delete subscriptions in project My Shop,"),
        ([true, false, true], "the permission Edit subscriptions in project My Shop,"),
    ] {
        let answers = [false, view, edit, delete].map(permission);
        let (without, lines) = look_up(std::iter::once(found()).chain(answers).collect()).await;
        let finding = without.unwrap().manage_webhooks;
        assert_eq!(finding.state, Missing);
        assert!(finding.message.clone().unwrap().contains(named), "{finding:?}");
        let asked: Vec<_> = lines.iter().filter_map(|line| line.split("92046/").nth(1)?.split('?').next()).collect();
        assert_eq!(asked, ["7", "1", "2", "4"]);
    }
    for refusal in [documented!("error-unauthorized", "json"), documented!("error-forbidden", "json"), reply(404, "{}")] {
        let (untold, _) = look_up(vec![found(), refusal]).await;
        let finding = untold.unwrap().manage_webhooks;
        assert_eq!(finding.state, Unknown);
        assert!(finding.message.unwrap().contains("View, Edit and Delete subscriptions"));
    }
    let (limited, _) = look_up(vec![found(), documented!("error-rate", "json")]).await;
    assert_eq!(limited.unwrap_err().kind, ErrorKind::RateLimited);
}

#[tokio::test]
async fn every_documented_refusal_has_its_kind() {
    for (response, kind, words) in [
        (documented!("error-sign-in", "html"), ErrorKind::Unauthenticated, "web page"),
        (documented!("error-redirect", "html"), ErrorKind::Unauthenticated, "web page"),
        (documented!("error-unauthorized", "json"), ErrorKind::Unauthenticated, "TF400813"),
        (documented!("error-expired", "json"), ErrorKind::Unauthenticated, "has expired"),
        (documented!("error-git-forbidden", "json"), ErrorKind::PermissionDenied, "TF401027"),
        (documented!("error-repository-not-found", "json"), ErrorKind::NotFound, "TF401019"),
        (documented!("error-project-not-found", "json"), ErrorKind::NotFound, "TF200016"),
        (documented!("error-rate", "json"), ErrorKind::RateLimited, "TF400733"),
        (reply(200, "{"), ErrorKind::ResponseInvalid, "not what the API documents"),
    ] {
        let (result, _) = look_up(vec![response]).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_server_of_an_older_version_is_asked_in_its_own() {
    let (found, lines) = look_up(vec![documented!("error-version", "json"), found(), permission(true)]).await;
    assert!(found.is_ok());
    let versions: Vec<_> = lines.iter().filter_map(|line| line.rsplit_once("api-version=")).map(|(_, version)| version).collect();
    assert_eq!(versions, ["7.1", "7.0", "7.0"]);
}

#[tokio::test]
async fn a_document_may_begin_with_a_byte_order_mark() {
    let text = format!("\u{feff}{}", include_str!("../../../../tests/fixtures/azure_devops/repository.json"));
    let (found, _) = look_up(vec![reply(200, &text), permission(true)]).await;
    assert_eq!(found.unwrap().id, REPOSITORY);
}

#[tokio::test]
async fn a_look_up_by_id_takes_ids_only() {
    let server = Server::start([found(), permission(true)]).await;
    let client = client(&server);
    assert_eq!(client.repository_by_id(REPOSITORY).await.unwrap().unwrap().path.as_str(), "My Shop/web");
    assert_eq!(client.repository_by_id("my shop/web").await.unwrap(), None);
    assert_eq!(server.lines()[0], format!("GET /api/v1/_apis/git/repositories/{REPOSITORY}?api-version=7.1"));
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_branch_is_more_than_the_beginning_of_its_name() {
    let references = |names: &[&str], continuation: Option<&str>| {
        let value: Vec<_> = names.iter().map(|name| json!({"name": name, "objectId": "1".repeat(40)})).collect();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(continuation.map(|token| ("x-ms-continuationtoken", token)));
        answer(200, &headers, &json!({"count": value.len(), "value": value}).to_string())
    };
    for (pages, exists) in [
        (vec![references(&["refs/heads/main", "refs/heads/main2"], None)], true),
        (vec![references(&["refs/heads/main2"], None)], false),
        (vec![references(&["refs/heads/Main"], None)], false),
        (vec![references(&[], None)], false),
        (vec![references(&["refs/heads/main0"], Some("next page")), references(&["refs/heads/main"], None)], true),
        (vec![documented!("error-repository-not-found", "json")], false),
    ] {
        let calls = pages.len();
        let server = Server::start(pages).await;
        assert_eq!(client(&server).branch_exists(&repository(), "main").await.unwrap(), exists);
        assert_eq!(server.lines().len(), calls);
        assert!(server.lines()[0].contains(&format!("/{PROJECT}/_apis/git/repositories/{REPOSITORY}/refs?filter=heads%2Fmain&%24top=100")));
        assert!(server.lines().get(1).is_none_or(|line| line.contains("continuationToken=next+page")));
    }
}

#[tokio::test]
async fn pk_26_hooks_are_asked_for_by_project_and_repository() {
    let server = Server::start([subscriptions(&[SUBSCRIPTION])]).await;
    let hooks = client(&server).hooks(&repository()).await.unwrap();
    assert_eq!((hooks.len(), hooks[0].state.clone()), (1, HookState::Active));
    assert_eq!(server.lines(), ["POST /api/v1/_apis/hooks/subscriptionsquery?api-version=7.1"]);
    let nowhere = Repository { project: None, ..repository() };
    let error = client(&server).hooks(&nowhere).await.unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::Rejected, 1), "nothing was sent");
}

#[tokio::test]
async fn an_empty_list_counts_only_where_it_may_be_seen() {
    let empty = || subscriptions(&[]);
    let list = async |answers: Vec<Response>| {
        let server = Server::start(answers).await;
        client(&server).hooks(&repository()).await.map(|hooks| hooks.len()).map_err(|error| error.kind)
    };
    assert_eq!(list(vec![empty(), permission(true)]).await, Ok(0));
    assert_eq!(list(vec![empty(), permission(false)]).await, Err(ErrorKind::PermissionDenied));
    assert_eq!(list(vec![empty(), reply(403, "{}"), found()]).await, Ok(0));
    let hidden = || documented!("error-repository-not-found", "json");
    assert_eq!(list(vec![empty(), reply(403, "{}"), hidden()]).await, Err(ErrorKind::NotFound));
}

#[tokio::test]
async fn a_404_is_absence_only_with_the_list_at_hand() {
    let gone = || documented!("error-subscription-not-found", "json");
    let delete = async |answers: Vec<Response>| {
        let server = Server::start(answers).await;
        client(&server).delete_hook(&repository(), SUBSCRIPTION).await
    };
    assert_eq!(delete(vec![answer(204, &[], "")]).await.unwrap(), Deletion::Deleted);
    assert_eq!(delete(vec![gone(), subscriptions(&["another"])]).await.unwrap(), Deletion::Absent);
    assert_eq!(delete(vec![gone(), subscriptions(&[]), permission(true)]).await.unwrap(), Deletion::Absent);
    assert_eq!(delete(vec![gone(), subscriptions(&[]), permission(false)]).await.unwrap(), Deletion::Hidden);
    assert_eq!(delete(vec![gone(), documented!("error-forbidden", "json")]).await.unwrap(), Deletion::Hidden);
    assert_eq!(delete(vec![gone(), subscriptions(&[SUBSCRIPTION])]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
    assert_eq!(delete(vec![documented!("error-forbidden", "json")]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
}

async fn create(server: &Server, url: &str) -> Result<Hook, ProviderError> {
    let (url, secret) = (HookUrl::new(url.into()), WebhookSecret::Text("canary-of-a-secret-of-ours".into()));
    let shape = subscription::shapes(&[EventKind::Push].into()).remove(0);
    client(server).create_hook(&repository(), &HookRequest { url: &url, secret: &secret, shape: &shape }).await
}

#[tokio::test]
async fn a_refused_target_is_told_without_the_secret() {
    let server = Server::start([documented!("error-target", "json")]).await;
    let error = create(&server, "https://localhost/hooks/canary-of-a-path/1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TargetRefused);
    let echo = r#"{"message":"https://in/hooks/canary-of-a-path/1 with canary-of-a-secret-of-ours is not https"}"#;
    let server = Server::start([reply(400, echo)]).await;
    let error = create(&server, "https://in/hooks/canary-of-a-path/1").await.unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn a_password_goes_over_https_only() {
    use crate::network::NetworkPolicy;
    use crate::providers::transport::{TransportFactory, Unleased};
    let server = Server::start([]).await;
    let policy = Arc::new(NetworkPolicy { insecure_http: false, ..NetworkPolicy::default() });
    let clock = Arc::new(crate::clock::SystemClock);
    let factory = TransportFactory::new(policy, Arc::new(Unleased), clock, &mut prometheus_client::registry::Registry::default());
    let transport = server.transport_with(&factory, None);
    let client =
        <dyn Provider>::connect(&super::super::AzureDevOps, server.endpoint(), Credential::Token(TOKEN.into()), transport).unwrap();
    let (url, secret) = (HookUrl::new("http://in.acme.io/hooks/a/1".into()), WebhookSecret::Text("a-secret-of-the-users-own".into()));
    let shape = subscription::shapes(&[EventKind::Push].into()).remove(0);
    let error = client.create_hook(&repository(), &HookRequest { url: &url, secret: &secret, shape: &shape }).await.unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::TargetRefused, 0), "{error}");
}

#[tokio::test]
async fn a_write_is_sent_once_and_says_that_it_may_have_been_done() {
    for status in [500, 503] {
        let server = Server::start([reply(status, "{}")]).await;
        let error = create(&server, "https://in.acme.io/hooks/a/1").await.unwrap_err();
        assert_eq!((error.kind, server.lines().len()), (ErrorKind::Transient, 1));
    }
}

#[tokio::test]
async fn no_call_asks_for_a_page_to_sign_in() {
    let server = Server::start([found(), permission(true)]).await;
    client(&server).repository(&path("My Shop/web")).await.unwrap();
    let seen = server.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|seen| seen.head.contains("x-tfs-fedauthredirect") && seen.head.contains("Suppress")));
}

#[tokio::test]
async fn repositories_come_in_one_answer() {
    let one: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/azure_devops/repository.json")).unwrap();
    for length in [0, 1, 250] {
        let list = reply(200, &json!({"count": length, "value": vec![one.clone(); length]}).to_string());
        let server = Server::start([list, permission(true)]).await;
        let client = client(&server);
        let pages: Vec<_> = client.repositories().map(|page| page.unwrap()).collect().await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [length]);
        assert!(pages[0].iter().all(|found| found.webhooks == PermissionState::Granted && found.project.as_deref() == Some("My Shop")));
        let lines = server.lines();
        assert_eq!(lines[0], "GET /api/v1/_apis/git/repositories?api-version=7.1");
        assert_eq!(lines.len(), 1 + length.min(1), "and one call for each project: {lines:?}");
    }
    let server = Server::start([documented!("error-sign-in", "html")]).await;
    let client = client(&server);
    let pages: Vec<_> = client.repositories().collect().await;
    assert!(matches!(pages.as_slice(), [Err(error)] if error.kind == ErrorKind::Unauthenticated));
}
