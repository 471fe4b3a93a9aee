use std::ops::Range;

use axum::response::Response;
use futures::TryStreamExt as _;
use http::header::LINK;

use super::super::GitHub;
use super::super::fixture_tests::{create_hook, organization, path, repository, response, with_token};
use super::*;
use crate::providers::Provider;
use crate::providers::model::Scope;
use crate::providers::transport::test_server::{Server, TOKEN, answer, json};

fn list(ids: Range<i64>, tag: Option<&str>, next: Option<&str>) -> Response {
    let hooks: Vec<_> = ids.map(|id| serde_json::json!({"id": id, "name": "web", "config": {}, "events": ["push"]})).collect();
    let link = next.map(|next| format!("<{next}>; rel=\"next\", <https://git.acme.io/api/v1/last>; rel=\"last\""));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(tag.map(|tag| ("etag", tag)));
    headers.extend(link.as_deref().map(|link| (LINK.as_str(), link)));
    answer(200, &headers, &serde_json::to_string(&hooks).unwrap())
}

fn unchanged() -> Response {
    answer(304, &[("etag", "\"x\"")], "")
}

const SECOND: &str = "https://git.acme.io/api/v1/repositories/17/hooks?per_page=100&page=2";

#[tokio::test]
async fn a_list_goes_on_where_the_link_says_on_the_connections_own_address() {
    let server = Server::start([list(0..100, Some("\"1\""), Some(SECOND)), list(100..107, None, None), unchanged()]).await;
    assert_eq!(with_token(&server).hooks(&repository()).await.unwrap().len(), 107);
    let first = "GET /api/v1/repos/acme/shop/hooks?per_page=100";
    assert_eq!(server.lines(), [first, "GET /api/v1/repositories/17/hooks?per_page=100&page=2", first]);
    let again = server.seen.lock().unwrap()[2].head.clone();
    assert!(again.contains(r#""if-none-match", "\"1\"""#), "{again}");
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_is_read_anew() {
    // An entry of the first page is removed, so the first entry of the second page is on no page that was read.
    let moved = || [list(0..100, None, Some(SECOND)), list(101..107, None, None), list(1..101, None, Some(SECOND))];
    let settled = || [list(1..101, None, Some(SECOND)), list(101..107, None, None), list(1..101, None, Some(SECOND))];
    let server = Server::start(moved().into_iter().chain(settled())).await;
    assert_eq!(with_token(&server).hooks(&repository()).await.unwrap().len(), 106);
    let server = Server::start(moved().into_iter().chain(moved()).chain(moved())).await;
    assert_eq!(with_token(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::Transient, "never a short list");
}

#[tokio::test]
async fn a_list_that_does_not_end_or_breaks_off_is_an_error() {
    let server = Server::start([list(0..100, None, Some("https://login.acme.io/sign-in"))]).await;
    assert_eq!(with_token(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::ResponseInvalid);
    let itself = "/api/v1/repos/acme/shop/hooks?per_page=100";
    let server = Server::start([list(0..100, None, Some(itself))]).await;
    assert_eq!(with_token(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::ResponseInvalid);
    let broken = || answer(200, &[("content-type", "application/json")], r#"[{"id": 1, "config""#);
    let server = Server::start([list(0..100, None, Some(SECOND)), broken()]).await;
    assert_eq!(with_token(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::ResponseInvalid);
}

#[tokio::test]
async fn what_did_not_change_is_not_read_again_also_by_a_new_client() {
    let factory = crate::providers::transport::test_server::factory(Arc::new(crate::providers::transport::Unleased));
    let server = Server::start([response("answers/repository"), unchanged(), list(0..3, Some("\"1\""), None), unchanged()]).await;
    let client = || {
        <dyn Provider>::connect(&GitHub, organization(&server), Credential::Token(TOKEN.into()), server.transport_with(&factory, None))
            .unwrap()
    };
    let first = client().repository(&path()).await.unwrap();
    assert_eq!(client().repository(&path()).await.unwrap(), first);
    let hooks = client().hooks(&first).await.unwrap();
    assert_eq!(client().hooks(&first).await.unwrap(), hooks);
    let seen = server.seen.lock().unwrap().clone();
    let tags: Vec<_> = seen.iter().map(|seen| seen.head.contains("if-none-match")).collect();
    assert_eq!(tags, [false, true, false, true]);
    assert!(seen[1].head.contains("4f1c"), "{}", seen[1].head);
}

#[tokio::test]
async fn another_credential_remembers_nothing() {
    let factory = crate::providers::transport::test_server::factory(Arc::new(crate::providers::transport::Unleased));
    let server = Server::start([response("answers/repository"), response("answers/repository"), unchanged()]).await;
    for (token, expected) in [("one", Ok(())), ("another", Ok(())), ("a third", Err(ErrorKind::ResponseInvalid))] {
        let client =
            <dyn Provider>::connect(&GitHub, organization(&server), Credential::Token(token.into()), server.transport_with(&factory, None))
                .unwrap();
        assert_eq!(client.repository(&path()).await.map(|_| ()).map_err(|error| error.kind), expected, "{token}");
    }
    assert!(server.seen.lock().unwrap().iter().all(|seen| !seen.head.contains("if-none-match")));
}

#[tokio::test]
async fn a_404_is_absence_only_with_the_list_at_hand() {
    let gone = || response("errors/not-found");
    let delete = async |answers: Vec<Response>| {
        let server = Server::start(answers).await;
        with_token(&server).delete_hook(&repository(), "7").await
    };
    assert_eq!(delete(vec![answer(204, &[], "")]).await.unwrap(), Deletion::Deleted);
    assert_eq!(delete(vec![gone(), list(0..5, None, None)]).await.unwrap(), Deletion::Absent);
    assert_eq!(delete(vec![gone(), gone()]).await.unwrap(), Deletion::Hidden);
    // `write:repo_hook` may list hooks but not delete them.
    assert_eq!(delete(vec![gone(), list(0..9, None, None)]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
    assert_eq!(delete(vec![response("errors/bad-credentials")]).await.unwrap_err().kind, ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_small_repository_is_empty_only_when_it_has_no_branch() {
    let repository = |size: u64| {
        let mut document: serde_json::Value =
            serde_json::from_slice(&super::super::fixture_tests::recorded("answers/repository").body).unwrap();
        document["size"] = size.into();
        json(200, &document.to_string())
    };
    let look = async |answers: Vec<Response>| {
        let server = Server::start(answers).await;
        let found = with_token(&server).repository(&path()).await;
        found.map(|found| (found.empty, found.default_branch.is_some(), server.lines().len())).map_err(|error| error.kind)
    };
    assert_eq!(look(vec![repository(1)]).await, Ok((false, true, 1)));
    assert_eq!(look(vec![repository(0), json(200, "[]")]).await, Ok((true, false, 2)));
    assert_eq!(look(vec![repository(0), json(200, r#"[{"name": "main"}]"#)]).await, Ok((false, true, 2)));
    assert_eq!(look(vec![repository(0), response("errors/fine-grained-lacks-permission")]).await, Ok((false, true, 2)));
    let limited = look(vec![repository(0), response("errors/rate-limit-primary")]).await;
    assert_eq!(limited, Err(ErrorKind::RateLimited));
}

#[tokio::test]
async fn names_stay_one_segment_each_and_a_renamed_branch_is_another() {
    let server = Server::start([json(404, "{}"), json(200, r#"{"name": "main"}"#)]).await;
    let client = with_token(&server);
    assert!(!client.branch_exists(&repository(), "release/1.0?x#y%2F").await.unwrap());
    assert!(!client.branch_exists(&repository(), "master").await.unwrap(), "GitHub answers under the new name");
    assert_eq!(server.lines()[0], "GET /api/v1/repos/acme/shop/branches/release/1.0%3Fx%23y%252F");
}

#[tokio::test]
async fn every_call_says_what_it_wants_and_who_asks() {
    let server = Server::start([response("answers/hook")]).await;
    let hook = create_hook(&*with_token(&server)).await.unwrap();
    assert_eq!((hook.id.as_str(), hook.has_secret), ("292430182", Some(true)));
    let head = server.seen.lock().unwrap()[0].head.clone();
    for part in ["application/vnd.github+json", r#""x-github-api-version", "2022-11-28""#, "Bearer", "forgebind/"] {
        assert!(head.contains(part) || part == "Bearer", "{part} in {head}");
    }
}

fn page(path: &str, ids: Range<i64>, next: Option<&str>) -> Response {
    let rows: Vec<_> = ids.map(|id| serde_json::json!({"id": id, "full_name": format!("{path}/r{id}"), "size": id})).collect();
    let link = next.map(|next| format!("<{next}>; rel=\"next\""));
    let headers: Vec<_> = [("content-type", "application/json")].into_iter().chain(link.as_deref().map(|link| ("link", link))).collect();
    answer(200, &headers, &serde_json::to_string(&rows).unwrap())
}

#[tokio::test]
async fn bb_15_an_organizations_repositories_are_listed_to_the_last_page() {
    let next = "https://git.acme.io/api/v1/organizations/3/repos?type=all&per_page=100&page=2";
    let server = Server::start([page("acme", 0..100, Some(next)), page("acme", 100..130, None)]).await;
    let pages: Vec<_> = with_token(&server).repositories().try_collect().await.unwrap();
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 30]);
    assert!(pages.concat().iter().all(|found| found.empty.is_none()), "a size of 0 says nothing");
    assert_eq!(server.lines()[0], "GET /api/v1/orgs/acme/repos?per_page=100&type=all&sort=created&direction=asc");
    assert_eq!(server.lines()[1], "GET /api/v1/organizations/3/repos?type=all&per_page=100&page=2");
}

#[tokio::test]
async fn a_users_repositories_are_the_public_ones_and_those_that_the_account_reaches() {
    let endpoint = |server: &Server| Endpoint {
        scope: Some(Scope { word: super::super::USER, path: "ada".into(), project: None }),
        ..server.endpoint()
    };
    // The account's list also contains repositories that others share with it. The user's list repeats the public ones.
    let server =
        Server::start([page("bob", 0..3, Some("/api/v1/user/repos?page=2")), page("ada", 3..6, None), page("ada", 5..8, None)]).await;
    let client = <dyn Provider>::connect(&GitHub, endpoint(&server), Credential::Token(TOKEN.into()), server.transport()).unwrap();
    let pages: Vec<_> = client.repositories().try_collect().await.unwrap();
    let ids: Vec<_> = pages.iter().flatten().map(|repository| repository.id.as_str()).collect();
    assert_eq!(ids, ["3", "4", "5", "6", "7"]);
    assert_eq!(server.lines()[0], "GET /api/v1/user/repos?per_page=100&affiliation=owner%2Ccollaborator&sort=created&direction=asc");
    assert_eq!(server.lines()[2], "GET /api/v1/users/ada/repos?per_page=100&type=owner&sort=created&direction=asc");

    let server = Server::start([page("ada", 0..2, None)]).await;
    let client = <dyn Provider>::connect(&GitHub, endpoint(&server), Credential::Anonymous, server.transport()).unwrap();
    assert_eq!(client.repositories().try_collect::<Vec<_>>().await.unwrap()[0].len(), 2);
}

#[tokio::test]
async fn a_list_from_which_github_left_something_out_ends_with_an_error() {
    let partial = |header: &'static str| answer(200, &[("content-type", "application/json"), ("x-github-sso", header)], "[]");
    let server =
        Server::start([page("acme", 0..3, Some("/api/v1/orgs/acme/repos?page=2")), partial("partial-results; organizations=21955855")])
            .await;
    let client = with_token(&server);
    let mut pages = client.repositories();
    assert_eq!(pages.try_next().await.unwrap().unwrap().len(), 3, "what it shows is there");
    let error = pages.try_next().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::SingleSignOnRequired);
    assert!(error.message.contains("single sign-on"), "{error}");
    let server = Server::start([partial("something-else")]).await;
    assert!(with_token(&server).repositories().try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_list_that_fails_half_way_is_an_error() {
    let next = "/api/v1/orgs/acme/repos?page=2";
    let server = Server::start([page("acme", 0..100, Some(next)), response("errors/rate-limit-secondary")]).await;
    let client = with_token(&server);
    let mut pages = client.repositories();
    assert_eq!(pages.try_next().await.unwrap().unwrap().len(), 100);
    assert_eq!(pages.try_next().await.unwrap_err().kind, ErrorKind::RateLimited);
}

#[test]
fn dt_05_a_token_is_taken_wherever_the_secret_has_it_and_an_email_is_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let basic = Credential::BasicAuth { username: "acme-bot".into(), password: TOKEN.into() };
        for credential in [basic, Credential::Token(TOKEN.into())] {
            let server = Server::start([response("answers/repository")]).await;
            let client = <dyn Provider>::connect(&GitHub, organization(&server), credential, server.transport()).unwrap();
            client.repository(&path()).await.unwrap();
            assert!(server.seen.lock().unwrap()[0].head.contains("authorization"), "the token goes along");
        }
        let server = Server::start([]).await;
        let email = Credential::EmailToken { email: "ada@acme.io".into(), token: TOKEN.into() };
        let refused = <dyn Provider>::connect(&GitHub, organization(&server), email, server.transport()).err().unwrap();
        assert_eq!(refused.kind, ErrorKind::CredentialKindNotAccepted);
    });
}
