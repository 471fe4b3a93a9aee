use axum::response::Response;

use super::super::GitHub;
use super::super::fixture_tests::{app_credential, create_hook, organization, path, recorded, repository, response, with_app};
use crate::clock::{Clock as _, SystemClock};
use crate::providers::model::Deletion;
use crate::providers::transport::test_server::{Server, answer, factory, json};
use crate::providers::transport::{Transport, Unleased};
use crate::providers::{Credential, ErrorKind, Provider};

const FIND: &str = "GET /api/v1/orgs/acme/installation";
const MAKE: &str = "POST /api/v1/app/installations/25381/access_tokens";
const LOOK: &str = "GET /api/v1/repos/acme/shop";

fn found() -> Response {
    response("answers/installation")
}

fn made() -> Response {
    response("answers/installation-token")
}

fn shop() -> Response {
    response("answers/repository")
}

fn refused() -> Response {
    response("errors/bad-credentials")
}

#[tokio::test]
async fn dv_04_a_token_is_made_once_for_all_who_ask_at_once_and_kept() {
    let server = Server::start([found(), made(), shop(), json(200, "[]"), json(200, "[]"), json(200, "[]")]).await;
    let client = with_app(&server);
    client.repository(&path()).await.unwrap();
    let shop = repository();
    let (one, two, three) = tokio::join!(client.hooks(&shop), client.hooks(&shop), client.hooks(&shop));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    let lines = server.lines();
    assert_eq!(lines[..3], [FIND, MAKE, LOOK]);
    assert_eq!(lines.iter().filter(|line| *line == MAKE).count(), 1);
}

#[tokio::test]
async fn concurrent_first_callers_wait_for_one_token() {
    let list = || json(200, "[]");
    let server = Server::start([found(), made(), list(), list(), list()]).await;
    let (client, shop) = (with_app(&server), repository());
    let (one, two, three) = tokio::join!(client.hooks(&shop), client.hooks(&shop), client.hooks(&shop));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(server.lines()[..2], [FIND, MAKE]);
    assert_eq!(server.lines().len(), 5);
}

#[tokio::test]
async fn a_token_outlives_the_client_and_belongs_to_its_credential_and_owner() {
    let factory = factory(std::sync::Arc::new(Unleased));
    let server = Server::start([found(), made(), shop(), shop(), found(), made(), shop()]).await;
    let transport = || -> Transport { server.transport_with(&factory, None) };
    for _ in 0..2 {
        <dyn Provider>::connect(&GitHub, organization(&server), app_credential(None), transport())
            .unwrap()
            .repository(&path())
            .await
            .unwrap();
    }
    assert_eq!(server.lines(), [FIND, MAKE, LOOK, LOOK]);
    let named = <dyn Provider>::connect(&GitHub, organization(&server), app_credential(Some("25381")), transport()).unwrap();
    named.repository(&path()).await.unwrap();
    assert_eq!(server.lines()[4..], ["GET /api/v1/app/installations/25381", MAKE, LOOK]);
}

#[tokio::test]
async fn a_token_is_replaced_before_its_end() {
    let ended = || response("answers/installation-token-ended");
    let server = Server::start([found(), ended(), shop(), made(), shop()]).await;
    let client = with_app(&server);
    client.repository(&path()).await.unwrap();
    client.repository(&path()).await.unwrap();
    assert_eq!(server.lines(), [FIND, MAKE, LOOK, MAKE, LOOK]);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_reads_and_never_for_writes() {
    let server = Server::start([found(), made(), refused(), made(), shop()]).await;
    with_app(&server).repository(&path()).await.unwrap();
    assert_eq!(server.lines(), [FIND, MAKE, LOOK, MAKE, LOOK]);

    let server = Server::start([found(), made(), refused(), made(), refused()]).await;
    assert_eq!(with_app(&server).repository(&path()).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    assert_eq!(server.lines().len(), 5);

    let server = Server::start([found(), made(), refused(), made(), answer(204, &[], "")]).await;
    let client = with_app(&server);
    assert_eq!(create_hook(&*client).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    assert_eq!(server.lines().len(), 3, "a write is sent once");
    assert_eq!(client.delete_hook(&repository(), "7").await.unwrap(), Deletion::Deleted, "the next call has a new token");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_corrected_by_githubs_own() {
    let date = (SystemClock.now() - jiff::SignedDuration::from_mins(30)).to_zoned(jiff::tz::TimeZone::UTC);
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let ahead = || {
        let recorded = recorded("errors/app-clock-ahead");
        answer(401, &[("content-type", "application/json"), ("date", &date)], std::str::from_utf8(&recorded.body).unwrap())
    };
    let server = Server::start([ahead(), found(), made(), shop()]).await;
    with_app(&server).repository(&path()).await.unwrap();
    assert_eq!(server.lines(), [FIND, FIND, MAKE, LOOK]);

    let server = Server::start([ahead(), ahead()]).await;
    assert_eq!(with_app(&server).repository(&path()).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    assert_eq!(server.lines().len(), 2, "corrected once");
}

#[tokio::test]
async fn pk_06_a_repository_outside_the_installation_is_not_installed_rather_than_not_found() {
    let missing = || response("errors/not-found");
    let server = Server::start([found(), made(), missing()]).await;
    let error = with_app(&server).repository(&path()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotInstalled);
    assert!(error.message.contains("does not cover acme/shop, or it does not exist"), "{error}");

    let server = Server::start([response("answers/installation-all"), made(), missing()]).await;
    assert_eq!(with_app(&server).repository(&path()).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn pk_06_a_public_repository_is_readable_and_not_installed_all_the_same() {
    let public = || {
        let mut document: serde_json::Value = serde_json::from_slice(&recorded("answers/repository").body).unwrap();
        (document["private"], document["visibility"]) = (false.into(), "public".into());
        json(200, &document.to_string())
    };
    let server = Server::start([found(), made(), public(), response("errors/not-found")]).await;
    assert_eq!(with_app(&server).repository(&path()).await.unwrap_err().kind, ErrorKind::NotInstalled);
    assert_eq!(server.lines()[3], "GET /api/v1/repos/acme/shop/installation");
    let server = Server::start([found(), made(), public(), found()]).await;
    assert!(with_app(&server).repository(&path()).await.is_ok());
    let server = Server::start([response("answers/installation-all"), made(), public()]).await;
    assert!(with_app(&server).repository(&path()).await.is_ok());
}

#[tokio::test]
async fn an_installation_that_changed_is_read_anew_before_a_token_is_given_up() {
    let disagrees = || response("errors/permissions-not-granted");
    let ended = || response("answers/installation-token-ended");
    let fewer = || response("answers/installation-fewer-permissions");
    let server = Server::start([found(), ended(), shop(), disagrees(), fewer(), made(), shop()]).await;
    let client = with_app(&server);
    client.repository(&path()).await.unwrap();
    client.repository(&path()).await.unwrap();
    assert_eq!(server.lines(), [FIND, MAKE, LOOK, MAKE, FIND, MAKE, LOOK]);

    let server = Server::start([found(), disagrees()]).await;
    assert_eq!(with_app(&server).repository(&path()).await.unwrap_err().kind, ErrorKind::Rejected);
    let server = Server::start([found(), response("errors/installation-suspended")]).await;
    assert_eq!(with_app(&server).repository(&path()).await.unwrap_err().kind, ErrorKind::InstallationSuspended);
    let server = Server::start([found(), response("errors/not-found")]).await;
    assert_eq!(with_app(&server).repository(&path()).await.unwrap_err().kind, ErrorKind::InstallationNotFound);
}

#[tokio::test]
async fn dv_07_what_an_installation_covers_is_listed() {
    use futures::TryStreamExt as _;
    let server = Server::start([found(), made(), response("answers/installation-repositories")]).await;
    let client = with_app(&server);
    let pages: Vec<_> = client.repositories().try_collect().await.unwrap();
    assert_eq!(pages[0][0].path.as_str(), "acme/shop");
    assert_eq!(pages[0][0].webhooks, crate::api::v1alpha1::connection::PermissionState::Granted, "the role that is told means nothing");
    assert_eq!(server.lines()[2], "GET /api/v1/installation/repositories?per_page=100");
}

#[tokio::test]
async fn df_20_tokens_of_an_app_do_not_show() {
    let server = Server::start([
        found(),
        made(),
        json(422, r#"{"message":"no canary-of-installation-token here, ghs_4711_canary-of-installation-token"}"#),
    ])
    .await;
    let error = create_hook(&*with_app(&server)).await.unwrap_err();
    assert!(!error.to_string().contains("ghs_4711"), "{error}");
}

#[tokio::test]
async fn keys_that_are_unusable_are_named() {
    let server = Server::start([]).await;
    let connect = |credential| <dyn Provider>::connect(&GitHub, organization(&server), credential, server.transport()).err().unwrap();
    let error = connect(app_credential(Some("many")));
    assert_eq!(error.kind, ErrorKind::CredentialKindNotAccepted);
    assert!(error.message.contains("githubAppInstallationID"), "{error}");
    let key = Credential::GitHubApp { issuer: "1".into(), private_key: "none".into(), installation_id: None, webhook_secret: None };
    assert!(connect(key).message.contains("githubAppPrivateKey"));
}
