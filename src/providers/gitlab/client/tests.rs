use axum::response::Response;
use futures::TryStreamExt as _;
use serde_json::json;

use super::*;
use crate::api::v1alpha1::connection::PermissionState;
use crate::protocol::secret::{DerivedSecret, WebhookSecret};
use crate::providers::HookUrl;
use crate::providers::Provider;
use crate::providers::model::{HookState, Scope};
use crate::providers::transport::Unleased;
use crate::providers::transport::test_server::{Server, TOKEN, answer, factory};

fn client_of(server: &Server, group: Option<&str>, credential: Credential) -> Arc<dyn Client> {
    let scope = group.map(|path| Scope { word: "group", path: path.to_owned(), project: None });
    let endpoint = Endpoint { api: server.url("/gitlab/api/v4"), web: server.url("/gitlab"), further_origins: Vec::new(), scope };
    let settings = super::super::GitLab.profile().transport_settings(&endpoint, "one");
    let transport = factory(Arc::new(Unleased)).transport(settings).unwrap();
    <dyn Provider>::connect(&super::super::GitLab, endpoint, credential, transport).unwrap()
}

fn client(server: &Server) -> Arc<dyn Client> {
    client_of(server, None, Credential::Token(TOKEN.into()))
}

fn json_answer(status: u16, document: &Value) -> Response {
    answer(status, &[("content-type", "application/json")], &document.to_string())
}

fn page(entries: &[Value], headers: &[(&'static str, &str)]) -> Response {
    let all = [&[("content-type", "application/json")], headers].concat();
    answer(200, &all, &Value::from(entries).to_string())
}

fn repository() -> Repository {
    let document = json!({"id": 17, "path_with_namespace": "acme/shop"});
    convert::repository(serde_json::from_value(document).unwrap(), PermissionFinding::granted())
}

fn hook(id: i64) -> Value {
    json!({"id": id, "url": format!("https://elsewhere.example/{id}")})
}

fn hooks(ids: std::ops::Range<i64>) -> Vec<Value> {
    ids.map(hook).collect()
}

#[tokio::test]
async fn an_empty_page_of_projects_does_not_end_a_list_that_goes_on() {
    let project = |id: i64| json!({"id": id, "path_with_namespace": format!("acme/r{id}")});
    let pages =
        [page(&[project(1)], &[("x-next-page", "2")]), page(&[], &[("x-next-page", "3")]), page(&[project(2)], &[("x-next-page", "")])];
    let server = Server::start(pages).await;
    let pages: Vec<_> = client_of(&server, Some("acme"), Credential::Anonymous).repositories().try_collect().await.unwrap();
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_list_ends_where_the_server_says() {
    let full = hooks(0..100);
    let link =
        |server: &str| format!(r#"<{server}/gitlab/api/v4/projects/17/hooks?page=2&per_page=100>; rel="next", <{server}/x>; rel="first""#);
    let there = link("https://gitlab.internal");
    for (pages, expected) in [
        (
            vec![
                page(&full, &[("x-next-page", "2"), ("x-total", "120")]),
                page(&hooks(100..120), &[("x-next-page", ""), ("x-total", "120")]),
            ],
            120,
        ),
        (vec![page(&full, &[("link", there.as_str())]), page(&hooks(100..120), &[])], 120),
        (vec![page(&full, &[]), page(&hooks(100..120), &[])], 120),
        (vec![page(&full, &[]), page(&[], &[])], 100),
        (vec![page(&full, &[("x-next-page", "")])], 100),
        (vec![page(&[], &[("x-next-page", ""), ("x-total", "0")])], 0),
    ] {
        let calls = pages.len();
        let server = Server::start(pages).await;
        assert_eq!(client(&server).hooks(&repository()).await.unwrap().len(), expected);
        let lines = server.lines();
        assert_eq!(lines.len(), calls);
        assert_eq!(lines[0], "GET /gitlab/api/v4/projects/17/hooks?per_page=100");
        assert!(lines.iter().skip(1).all(|line| line.contains("page=2")), "{lines:?}");
    }
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_is_read_anew() {
    let first = || page(&hooks(0..100), &[("x-next-page", "2"), ("x-total", "110")]);
    let moved = || [first(), page(&hooks(101..110), &[("x-next-page", ""), ("x-total", "109")])];
    let whole = [first(), page(&hooks(100..110), &[("x-next-page", ""), ("x-total", "110")])];
    let server = Server::start(moved().into_iter().chain(whole)).await;
    assert_eq!(client(&server).hooks(&repository()).await.unwrap().len(), 110);
    let server = Server::start(moved().into_iter().chain(moved()).chain(moved())).await;
    assert_eq!(client(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::Transient, "never a short list");
}

#[tokio::test]
async fn the_log_tells_why_a_hook_was_switched_off() {
    let disabled = json!({"id": 7, "url": "https://in", "alert_status": "disabled", "disabled_until": null});
    let log = json!([{"id": 3, "response_status": "401", "response_body": "canary"}]);
    let server = Server::start([page(std::slice::from_ref(&disabled), &[]), json_answer(200, &log)]).await;
    let found = client(&server).hooks(&repository()).await.unwrap();
    assert_eq!(found[0].state, HookState::Disabled("40 deliveries in a row failed; the last answer was HTTP 401".into()));
    assert_eq!(server.lines()[1], "GET /gitlab/api/v4/projects/17/hooks/7/events?per_page=1");
    let server = Server::start([page(&[disabled], &[]), json_answer(404, &json!({"error": "404 Not Found"}))]).await;
    let found = client(&server).hooks(&repository()).await.unwrap();
    assert_eq!(found[0].state, HookState::Disabled("40 deliveries in a row failed".into()), "before 17.3 there is no log");
}

#[tokio::test]
async fn a_404_is_absence_only_with_the_list_at_hand() {
    let gone = || json_answer(404, &json!({"message": "404 Not found"}));
    let delete = async |answers: Vec<Response>| {
        let server = Server::start(answers).await;
        client(&server).delete_hook(&repository(), "7").await
    };
    assert_eq!(delete(vec![answer(204, &[], "")]).await.unwrap(), Deletion::Deleted);
    assert_eq!(delete(vec![gone(), page(&hooks(0..5), &[])]).await.unwrap(), Deletion::Absent);
    assert_eq!(delete(vec![gone(), gone()]).await.unwrap(), Deletion::Hidden);
    assert_eq!(delete(vec![gone(), page(&hooks(0..9), &[])]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_path_is_one_segment_and_a_moved_project_is_followed() {
    let project = json!({"id": 17, "path_with_namespace": "acme/new/shop", "permissions": {"project_access": {"access_level": 40}}});
    let moved = answer(301, &[("location", "https://gitlab.internal/gitlab/api/v4/projects/17")], "");
    let server = Server::start([moved, json_answer(200, &project)]).await;
    let path = RepositoryPath::new("acme/apps/shop".into());
    let found = client(&server).repository(&path).await.unwrap();
    assert_eq!((found.id.as_str(), found.path.as_str()), ("17", "acme/new/shop"));
    assert_eq!(server.lines(), ["GET /gitlab/api/v4/projects/acme%2Fapps%2Fshop", "GET /gitlab/api/v4/projects/17"]);
}

#[tokio::test]
async fn branches_are_one_segment_too() {
    let server = Server::start([json_answer(404, &json!({})), json_answer(200, &json!({"name": "release/1.0"}))]).await;
    let client = client(&server);
    assert!(!client.branch_exists(&repository(), "a?x#y%2F").await.unwrap());
    assert!(client.branch_exists(&repository(), "release/1.0").await.unwrap());
    let below = "GET /gitlab/api/v4/projects/17/repository/branches/";
    assert_eq!(server.lines(), [format!("{below}a%3Fx%23y%252F"), format!("{below}release%2F1.0")]);
}

#[tokio::test]
async fn bb_10_the_role_is_looked_for_where_the_project_does_not_show_enough() {
    let project = |permissions: Value| json!({"id": 17, "path_with_namespace": "acme/shop", "permissions": permissions});
    let (none, developer) = (json!({"project_access": null, "group_access": null}), json!({"project_access": {"access_level": 30}}));
    let user = |is_admin: bool| json_answer(200, &json!({"id": 5, "username": "ada", "is_admin": is_admin}));
    let missing = || json_answer(404, &json!({"message": "404 Not found"}));
    let member = |level: i64| json_answer(200, &json!({"id": 5, "access_level": level}));
    for (permissions, answers, expected) in [
        (json!({"group_access": {"access_level": 50}}), vec![], PermissionState::Granted),
        (none.clone(), vec![user(false), member(40)], PermissionState::Granted),
        (developer.clone(), vec![user(false), member(40)], PermissionState::Granted),
        (developer.clone(), vec![user(false), member(30)], PermissionState::Missing),
        (developer, vec![user(false), missing()], PermissionState::Missing),
        (none.clone(), vec![user(false), missing()], PermissionState::Missing),
        (none.clone(), vec![user(true), missing()], PermissionState::Unknown),
        (none, vec![json_answer(403, &json!({"error": "insufficient_granular_scope"}))], PermissionState::Unknown),
    ] {
        let calls = answers.len() + 1;
        let server = Server::start([json_answer(200, &project(permissions.clone()))].into_iter().chain(answers)).await;
        let found = client(&server).repository_by_id("17").await.unwrap().unwrap();
        assert_eq!(found.manage_webhooks.state, expected, "{permissions}");
        assert_eq!(server.lines().len(), calls);
        assert!(calls < 3 || server.lines()[2] == "GET /gitlab/api/v4/projects/17/members/all/5");
    }
}

/// Creates or changes a hook at a server with these answers, and returns the requests that the server received.
async fn written(secret: WebhookSecret, update: bool, answers: Vec<Response>) -> (Result<Hook, ProviderError>, Vec<String>) {
    let server = Server::start(answers).await;
    let client = client(&server);
    let url = HookUrl::new("https://in.acme.io/hooks/canary/1".into());
    let shape = client.hook_shapes(&[EventKind::Push].into()).remove(0);
    let request = HookRequest { url: &url, secret: &secret, shape: &shape };
    let result =
        if update { client.update_hook(&repository(), "7", &request).await } else { client.create_hook(&repository(), &request).await };
    (result, server.lines())
}

fn shown(token: Option<bool>, signing: Option<bool>) -> Response {
    let mut document = json!({"id": 7, "url": "https://in.acme.io/hooks/canary/1"});
    for (name, value) in [("token_present", token), ("signing_token_present", signing)] {
        if let Some(value) = value {
            document[name] = json!(value);
        }
    }
    json_answer(201, &document)
}

#[tokio::test]
async fn a_hook_is_never_without_a_secret_whatever_the_server_can() {
    let derived = || WebhookSecret::Derived(DerivedSecret::new([7; 32]));
    let (post, put) = ("POST /gitlab/api/v4/projects/17/hooks", "PUT /gitlab/api/v4/projects/17/hooks/7");
    let (hook, lines) = written(derived(), false, vec![shown(None, None)]).await;
    assert_eq!((hook.unwrap().has_secret, lines), (None, vec![post.to_owned()]), "an older server has the token");
    let (hook, lines) = written(derived(), false, vec![shown(Some(true), Some(false))]).await;
    assert_eq!((hook.unwrap().has_secret, lines), (Some(true), vec![post.to_owned()]), "nobody knows yet: the next secret signs");

    // Lists show whether a signing token is set.
    let signing = async |answers: Vec<Response>| {
        let other = json!({"id": 1, "url": "https://elsewhere.example", "token_present": true, "signing_token_present": false});
        let server = Server::start([page(&[other], &[])].into_iter().chain(answers)).await;
        let client = client(&server);
        client.hooks(&repository()).await.unwrap();
        let (url, secret) = (HookUrl::new("https://in.acme.io/hooks/canary/1".into()), derived());
        let shape = client.hook_shapes(&[EventKind::Push].into()).remove(0);
        let result = client.create_hook(&repository(), &HookRequest { url: &url, secret: &secret, shape: &shape }).await;
        (result.map(|hook| hook.has_secret), server.lines().split_off(1))
    };
    let (hook, lines) = signing(vec![shown(Some(false), Some(true))]).await;
    assert_eq!((hook.unwrap(), lines), (Some(true), vec![post.to_owned()]));
    let (hook, lines) = signing(vec![shown(Some(false), Some(false)), shown(Some(true), Some(false))]).await;
    assert_eq!((hook.unwrap(), lines), (Some(true), vec![post.to_owned(), put.to_owned()]), "signing is switched off");
    let (hook, _) = signing(vec![shown(Some(false), Some(false)), json_answer(500, &json!({}))]).await;
    assert_eq!(hook.unwrap_err().kind, ErrorKind::Transient, "the next look sees that there is no secret");
    let own = WebhookSecret::Text("a-secret-of-the-users-own".into());
    let (_, lines) = written(own, true, vec![shown(Some(true), Some(false))]).await;
    assert_eq!(lines, [put]);
}

#[tokio::test]
async fn what_an_update_cannot_remove_is_removed() {
    let surplus = json!({"id": 7, "url": "https://in", "custom_headers": [{"key": "X-One"}], "url_variables": [{"key": "a/b"}]});
    let secret = || WebhookSecret::Text("a-secret-of-the-users-own".into());
    let removed = || answer(204, &[], "");
    let (hook, lines) = written(secret(), true, vec![json_answer(200, &surplus), removed(), removed()]).await;
    let fields = hook.unwrap().shape.fields;
    assert_eq!((fields["custom_headers"].as_str(), fields["url_variables"].as_str()), ("", ""));
    let below = "DELETE /gitlab/api/v4/projects/17/hooks/7";
    assert_eq!(lines[1..], [format!("{below}/url_variables/a%2Fb"), format!("{below}/custom_headers/X-One")]);
    let refused = json_answer(403, &json!({"message": "403 Forbidden"}));
    let (result, _) = written(secret(), true, vec![json_answer(200, &surplus), refused]).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn df_20_neither_the_address_nor_the_secret_is_told() {
    let secret = WebhookSecret::Derived(DerivedSecret::new([7; 32]));
    let signing = signing_token(&secret).unwrap();
    let words = format!("url https://in.acme.io/hooks/canary/1 token {} {}", secret.text().expose_secret(), signing.expose_secret());
    let (result, _) = written(secret, false, vec![json_answer(400, &json!({"error": words}))]).await;
    let text = result.unwrap_err().to_string();
    assert!(!text.contains("canary") && !text.contains("whsec_") && !text.contains("BwcH"), "{text}");
}

#[tokio::test]
async fn repositories_come_from_the_group_or_from_memberships() {
    let project = |id: i64, level: i64| json!({"id": id, "path_with_namespace": format!("acme/apps/{id}"), "topics": ["go"], "permissions": {"project_access": {"access_level": level}}});
    let user = || answer(200, &[("content-type", "application/json")], r#"{"id": 7, "username": "bot"}"#);
    let pages = [
        page(&[project(3, 0)], &[("x-next-page", ""), ("x-total", "1")]),
        user(),
        page(&[project(1, 40)], &[("x-next-page", "2"), ("x-total", "3")]),
        page(&[project(2, 20), project(3, 0)], &[("x-next-page", ""), ("x-total", "3")]),
    ];
    let server = Server::start(pages).await;
    let in_group = client_of(&server, Some("platform/apps"), Credential::Token(TOKEN.into()));
    let found: Vec<_> = in_group.repositories().try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(
        found.iter().map(|found| found.webhooks).collect::<Vec<_>>(),
        [PermissionState::Granted, PermissionState::Missing, PermissionState::Granted],
        "the third one by an invited group, which only the list by role shows"
    );
    assert_eq!((found[0].project.as_deref(), found[0].topics.as_deref()), (Some("acme/apps"), Some(&["go".to_owned()][..])));
    let expected =
        "GET /gitlab/api/v4/groups/platform%2Fapps/projects?include_subgroups=true&with_shared=false&order_by=id&sort=asc&per_page=100";
    let by_role = expected.replace("&per_page=100", "&min_access_level=40&simple=true&per_page=100");
    assert_eq!(server.lines(), [by_role, "GET /gitlab/api/v4/user".to_owned(), expected.to_owned(), format!("{expected}&page=2")]);

    let next = r#"<https://gitlab.internal/gitlab/api/v4/projects?membership=true&pagination=keyset&order_by=id&sort=asc&per_page=100&id_after=1>; rel="next""#;
    let none = || page(&[], &[("x-next-page", "")]);
    let server = Server::start([none(), user(), page(&[project(1, 40)], &[("link", next)]), page(&[project(2, 40)], &[])]).await;
    let found: Vec<_> = client(&server).repositories().try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(found.len(), 2);
    assert!(server.lines()[3].ends_with("&per_page=100&id_after=1"), "{:?}", server.lines());

    let server = Server::start([
        none(),
        user(),
        page(&[project(1, 40)], &[("x-next-page", "2"), ("x-total", "2")]),
        page(&[], &[("x-next-page", ""), ("x-total", "1")]),
    ])
    .await;
    let error = client_of(&server, Some("1"), Credential::Token(TOKEN.into())).repositories().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "an entry may have slipped onto the page that was read before");

    let server = Server::start([]).await;
    let anonymous = client_of(&server, None, Credential::Anonymous);
    assert!(anonymous.repositories().try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn other_credentials_are_not_accepted() {
    let server = Server::start([]).await;
    let endpoint = server.endpoint();
    let credential = Credential::EmailToken { email: "ada@acme.io".into(), token: TOKEN.into() };
    let error = <dyn Provider>::connect(&super::super::GitLab, endpoint, credential, server.transport()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::CredentialKindNotAccepted);
}

#[tokio::test]
async fn dt_11_a_user_name_goes_with_the_token_to_git_and_not_to_the_api() {
    let refused = || answer(401, &[], "");
    let server = Server::start([refused(), refused()]).await;
    let credential = Credential::BasicAuth { username: "ada".into(), password: TOKEN.into() };
    let client = client_of(&server, None, credential);
    client.branch_exists(&repository(), "main").await.unwrap_err();
    client.probe_git(&RepositoryPath::new("acme/shop".into())).await.unwrap_err();
    let heads: Vec<_> = server.seen.lock().unwrap().iter().map(|seen| (seen.line.clone(), seen.head.clone())).collect();
    assert!(heads[0].1.contains(&format!("Bearer {TOKEN}")), "{heads:?}");
    assert!(heads[1].0.starts_with("GET /gitlab/acme/shop.git/info/refs") && heads[1].1.contains("Basic "), "{heads:?}");
}

/// A proxy that decodes `%2F` splits one segment into two. GitLab then answers that the URL does not exist, and the client
/// continues with the project's ID.
#[tokio::test]
async fn a_project_behind_a_proxy_that_decodes_slashes_is_found_by_its_number() {
    let no_address = || json_answer(404, &json!({"error": "404 Not Found"}));
    let shop = || json!({"id": 17, "path_with_namespace": "acme/shop", "permissions": {"project_access": {"access_level": 40}}});
    let path = RepositoryPath::new("acme/shop".to_owned());
    let others = json!({"id": 16, "path_with_namespace": "acme/shop-old"});
    let server = Server::start([no_address(), page(&[others.clone(), shop()], &[("x-next-page", "")]), json_answer(200, &shop())]).await;
    assert_eq!(client(&server).repository(&path).await.unwrap().id, "17");
    let lines = server.lines();
    assert_eq!(lines[0], "GET /gitlab/api/v4/projects/acme%2Fshop");
    assert!(lines[1].starts_with("GET /gitlab/api/v4/projects?search=acme%2Fshop&search_namespaces=true"), "{lines:?}");
    assert_eq!(lines[2], "GET /gitlab/api/v4/projects/17");

    let server = Server::start([no_address(), page(&[others], &[("x-next-page", "")])]).await;
    let error = client(&server).repository(&path).await.unwrap_err();
    assert!(error.kind == ErrorKind::NotFound && error.message.contains("decodes %2F"), "{error}");
    // A missing project has another message and causes no list request.
    let server = Server::start([json_answer(404, &json!({"message": "404 Project Not Found"}))]).await;
    let error = client(&server).repository(&path).await.unwrap_err();
    assert!(error.kind == ErrorKind::NotFound && !error.message.contains("%2F"), "{error}");
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_branch_with_a_slash_behind_such_a_proxy_is_found_in_the_list() {
    let no_address = || json_answer(404, &json!({"error": "404 Not Found"}));
    for (listed, expected) in [(json!({"name": "feature/x"}), true), (json!({"name": "feature/x2"}), false)] {
        let server = Server::start([no_address(), page(&[listed], &[("x-next-page", "")])]).await;
        assert_eq!(client(&server).branch_exists(&repository(), "feature/x").await.unwrap(), expected);
        assert!(server.lines()[1].contains("/branches?search=%5Efeature%2Fx&"), "{:?}", server.lines());
    }
    let server = Server::start([json_answer(404, &json!({"message": "404 Branch Not Found"}))]).await;
    assert!(!client(&server).branch_exists(&repository(), "feature/x").await.unwrap());
}
