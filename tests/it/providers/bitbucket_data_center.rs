//! Bitbucket Data Center against its simulator: the contract suite, and the behaviour that only this provider has.

use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::connection::{IdentityKind, PermissionState};
use forgebind::api::v1alpha1::{EventKind, Permission, ProviderKind};
use forgebind::protocol::secret::WebhookSecret;
use forgebind::providers::model::HookState;
use forgebind::providers::transport::Timings;
use forgebind::providers::webhook::{Change, Content, Rejection};
use forgebind::providers::{Client, Deletion, ErrorKind, Hook, HookRequest, HookUrl, ListedRepository, Repository};
use futures::TryStreamExt as _;
use http::Method;
use serde_json::{Value, json};

use testkit::contract::simulated::subject;
use testkit::contract::{run, secret};
use testkit::plain_http;
use testkit::sim::bitbucket_data_center::{BitbucketDataCenter, LOG_INS_BEFORE_CAPTCHA, PASSWORD, PROJECT_TOKEN, REPOSITORY_TOKEN};
use testkit::sim::{Delivery, Fault, Order, ProviderClock, Settings, Simulated, SimulatedProvider, Simulator, UserAction};
use testkit::sink::SinkServer;
use testkit::wait::{Seen, wait_until};

/// An address at which nothing answers.
const DEAF: &str = "http://127.0.0.1:9";

async fn simulated() -> Result<Simulated> {
    Simulated::new(ProviderKind::BitbucketDataCenter).await
}

fn basic(username: &str, password: &str) -> Vec<(&'static str, String)> {
    vec![("username", username.to_owned()), ("password", password.to_owned())]
}

fn token(text: &str) -> Vec<(&'static str, String)> {
    vec![("token", text.to_owned())]
}

async fn create(client: &dyn Client, repository: &Repository, url: &str, events: &[EventKind]) -> Result<Hook> {
    let shape = client.hook_shapes(&events.iter().copied().collect()).remove(0);
    let (url, secret) = (HookUrl::new(url.to_owned()), secret(1));
    Ok(client.create_hook(repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?)
}

/// Verifies a delivery with the hook's secret, and with no other, and reads it.
fn read(simulated: &Simulated, delivery: &Delivery) -> Result<Content> {
    let (webhook, headers, body) = (simulated.provider.webhook(), &delivery.headers, &delivery.body);
    assert!(webhook.verify(&[secret(2)], headers, body).is_err());
    Ok(webhook.read(&webhook.verify(&[secret(2), secret(1)], headers, body)?)?)
}

/// Sends a request to the simulator as somebody's own script would.
async fn ask(simulated: &Simulated, method: Method, path: &str) -> Result<(u16, Value)> {
    let url = format!("{}/bitbucket/rest/api/latest{path}", simulated.simulator.url());
    let (_, token) = simulated.seed_data.credential.first().context("a credential")?;
    let answer = plain_http::client()?.request(method, url).bearer_auth(token).send().await?;
    let status = answer.status().as_u16();
    Ok((status, serde_json::from_str(&answer.text().await?).unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn dt_29_the_contract_holds_with_user_and_password() -> Result<()> {
    let simulated = simulated().await?;
    let by_password = simulated.client(&basic("forgebind", PASSWORD));
    run(&testkit::contract::Subject { client: by_password, ..subject(&simulated) }).await;
    Ok(())
}

#[tokio::test]
async fn every_request_contains_the_context_path_of_the_address() -> Result<()> {
    let simulated = simulated().await?;
    simulated.operator().repository(&simulated.path("APP/shop")).await?;
    simulated.operator().probe_git(&simulated.path("APP/shop")).await?;
    let exchanges = simulated.simulator.exchanges();
    assert!(!exchanges.is_empty() && exchanges.iter().all(|exchange| exchange.request.path.starts_with("/bitbucket/")));
    let bare = simulated
        .provider
        .endpoint(&serde_json::from_value(json!({"bitbucketDataCenter": {"url": simulated.simulator.url(), "project": "APP"}}))?)?;
    let error = simulated.client_at(&bare, &simulated.seed_data.credential).inspect().await.unwrap_err();
    assert_ne!(error.kind, ErrorKind::Unauthenticated, "a wrong address is not reported as a bad credential: {error}");
    Ok(())
}

#[tokio::test]
async fn a_personal_project_has_repositories_and_hooks() -> Result<()> {
    let simulated = simulated().await?;
    let web = &simulated.endpoint.web;
    let endpoint = simulated
        .provider
        .endpoint(&serde_json::from_value(json!({"bitbucketDataCenter": {"url": web.as_str(), "project": "~forgebind"}}))?)?;
    let client = simulated.client_at(&endpoint, &simulated.seed_data.credential);
    let pages: Vec<Vec<ListedRepository>> = client.repositories().try_collect().await?;
    assert_eq!(pages.concat().iter().map(|found| found.path.as_str()).collect::<Vec<_>>(), ["~FORGEBIND/notes"]);
    for text in
        ["~forgebind/notes".to_owned(), format!("{web}/users/forgebind/repos/notes/browse"), format!("{web}/scm/~forgebind/notes.git")]
    {
        let path = simulated.provider.repository_path(&endpoint, &text)?;
        let found = client.repository(&path).await?;
        assert_eq!(found.path.as_str(), "~FORGEBIND/notes", "{text}");
        assert!(endpoint.scope.as_ref().is_some_and(|scope| scope.holds(&found)));
        let hook = create(client.as_ref(), &found, DEAF, &[EventKind::Push]).await?;
        assert_eq!(client.delete_hook(&found, &hook.id).await?, Deletion::Deleted);
    }
    Ok(())
}

/// Without a project in the spec, the connection serves every repository that the account can read, in any project.
#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_without_a_project() -> Result<()> {
    let mut simulated = simulated().await?;
    simulated.seed_data.provider = json!({"bitbucketDataCenter": {"url": simulated.endpoint.web.as_str()}});
    simulated.endpoint = simulated.provider.endpoint(&serde_json::from_value(simulated.seed_data.provider.clone())?)?;
    assert_eq!(simulated.endpoint.scope, None);
    // A repository of another project and a personal one.
    simulated.seed_data.repositories += 2;
    run(&subject(&simulated)).await;
    let client = simulated.operator();
    let pages: Vec<Vec<ListedRepository>> = client.repositories().try_collect().await?;
    let listed: Vec<_> = pages.concat().into_iter().map(|found| (found.path.as_str().to_owned(), found.archived == Some(true))).collect();
    for (path, archived) in [("APP/shop", false), ("OPS/tools", false), ("~FORGEBIND/notes", false), ("APP/legacy", true)] {
        assert!(listed.contains(&(path.to_owned(), archived)), "{path}");
    }
    let notes = client.repository(&simulated.path("~forgebind/notes")).await?;
    let hook = create(client.as_ref(), &notes, DEAF, &[EventKind::Push]).await?;
    assert_eq!(client.delete_hook(&notes, &hook.id).await?, Deletion::Deleted);
    assert_eq!(client.delete_hook(&notes, &hook.id).await?, Deletion::Absent, "derived from the list");
    let inspection = client.inspect().await?;
    assert_eq!((client.permission(&inspection, Permission::ListRepositories).state, inspection.scope), (PermissionState::Granted, None));
    assert_eq!(inspection.warnings, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn without_a_project_a_token_lists_what_it_can_read() -> Result<()> {
    let simulated = simulated().await?;
    let spec = json!({"bitbucketDataCenter": {"url": simulated.endpoint.web.as_str()}});
    let endpoint = simulated.provider.endpoint(&serde_json::from_value(spec)?)?;
    for (text, expected) in [(REPOSITORY_TOKEN, vec!["APP/shop", "APP/site"]), (PROJECT_TOKEN, Vec::new())] {
        let client = simulated.client_at(&endpoint, &token(text));
        let inspection = client.inspect().await?;
        assert_eq!(inspection.warnings, Vec::<String>::new());
        let pages: Vec<Vec<ListedRepository>> = client.repositories().try_collect().await?;
        let listed: Vec<_> = pages.concat().into_iter().map(|found| found.path.as_str().to_owned()).collect();
        if expected.is_empty() {
            assert!(listed.len() > 50 && listed.iter().all(|path| path.starts_with("APP/")), "{listed:?}");
        } else {
            assert_eq!(listed, expected, "its own and the public ones");
        }
    }
    Ok(())
}

#[tokio::test]
async fn pk_11_reports_that_a_token_lacks_repo_admin() -> Result<()> {
    let simulated = simulated().await?;
    let reader = simulated.client(&simulated.seed_data.reader);
    let inspection = reader.inspect().await?;
    assert_eq!(
        reader.permission(&inspection, Permission::ListRepositories).state,
        PermissionState::Granted,
        "PROJECT_READ was seen to work"
    );
    let needed = reader.permission(&inspection, Permission::ManageWebhooks);
    assert_eq!(needed.state, PermissionState::Unknown);
    assert!(needed.message.is_some_and(|message| message.contains("REPO_ADMIN")));
    let found = reader.repository(&simulated.path("APP/shop")).await?;
    assert_eq!(found.manage_webhooks.state, PermissionState::Missing);
    assert!(found.manage_webhooks.message.as_ref().is_some_and(|message| message.contains("REPO_ADMIN")));
    assert_eq!(reader.hooks(&found).await.unwrap_err().kind, ErrorKind::PermissionDenied);
    assert_eq!(simulated.simulator.writes(), 0, "no write is tried to find out");
    let whole = simulated.operator().repository(&simulated.path("APP/shop")).await?;
    assert_eq!(whole.manage_webhooks.state, PermissionState::Granted);
    Ok(())
}

#[tokio::test]
async fn tokens_of_projects_and_repositories_reach_only_their_own_scope() -> Result<()> {
    let simulated = simulated().await?;
    for (text, lists) in [(PROJECT_TOKEN, true), (REPOSITORY_TOKEN, false)] {
        let client = simulated.client(&token(text));
        let inspection = client.inspect().await?;
        assert_eq!(inspection.identity.as_ref().map(|identity| identity.kind), Some(IdentityKind::Token));
        assert_eq!(inspection.warnings.iter().any(|warning| warning.contains("PROJECT_READ")), !lists, "{:?}", inspection.warnings);
        let shop = client.repository(&simulated.path("APP/shop")).await?;
        assert_eq!(shop.manage_webhooks.state, PermissionState::Granted);
        let hook = create(client.as_ref(), &shop, DEAF, &[EventKind::Push]).await?;
        client.delete_hook(&shop, &hook.id).await?;
        assert!(client.probe_git(&simulated.path("APP/shop")).await.is_ok(), "git accepts it too");
        let other = client.repository(&simulated.path("APP/cart")).await;
        assert_eq!(other.is_ok(), lists);
        if let Err(error) = other {
            assert_eq!(error.kind, ErrorKind::PermissionDenied, "visible but not permitted: {error}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_and_a_captcha_is_reported() -> Result<()> {
    let simulated = simulated().await?;
    let wrong = simulated.client(&basic("forgebind", "not-the-password"));
    assert_eq!(wrong.inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated);
    let path = simulated.path("APP/shop");
    for _ in 0..2 * LOG_INS_BEFORE_CAPTCHA {
        assert_eq!(wrong.repository(&path).await.unwrap_err().kind, ErrorKind::Unauthenticated);
        assert!(wrong.probe_git(&path).await.is_err());
    }
    assert_eq!(simulated.simulator.exchanges().len(), 1);
    assert!(simulated.client(&basic("forgebind", PASSWORD)).inspect().await.is_ok(), "the account was not locked");

    for number in 0..LOG_INS_BEFORE_CAPTCHA {
        let guess = simulated.client(&basic("forgebind", &format!("guess-{number}")));
        assert_eq!(guess.inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated);
    }
    let error = simulated.client(&basic("forgebind", PASSWORD)).inspect().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(error.message.contains("CAPTCHA") && error.message.contains("browser"), "{error}");
    assert!(simulated.operator().inspect().await.is_ok(), "a token keeps working");
    Ok(())
}

#[tokio::test]
async fn pk_12_deliveries_are_signed_with_the_secret_of_the_hook_and_read_as_events() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.operator();
    let repository = client.repository(&simulated.path("APP/shop")).await?;
    let sink = SinkServer::start().await?;
    create(client.as_ref(), &repository, &format!("http://127.0.0.1:{}/hooks", sink.port()), &EventKind::ALL).await?;
    let path = || "APP/shop".to_owned();
    let acts = [
        UserAction::Push { repository: path(), branch: "topic".into(), message: "one".into() },
        UserAction::Push { repository: path(), branch: "new".into(), message: "two".into() },
        UserAction::Tag { repository: path(), name: "v1".into() },
        UserAction::DeleteBranch { repository: path(), branch: "new".into() },
        UserAction::OpenPullRequest { repository: path(), source: "topic".into(), target: "main".into(), title: "Topic".into() },
        UserAction::Push { repository: path(), branch: "topic".into(), message: "three".into() },
        UserAction::EditPullRequest { repository: path(), number: 1, title: "Better".into() },
        UserAction::CommentOnPullRequest { repository: path(), number: 1, text: "Fine".into() },
        UserAction::MergePullRequest { repository: path(), number: 1 },
        UserAction::OpenPullRequest { repository: path(), source: "topic".into(), target: "release/1.0".into(), title: "Again".into() },
        UserAction::ClosePullRequest { repository: path(), number: 2 },
    ];
    for act in &acts {
        simulated.simulator.act(act).await?;
    }
    let mut told = Vec::new();
    for sent in simulated.simulator.sent() {
        assert!(sent.outcome.is_success(), "{:?}", sent.outcome);
        let content = read(&simulated, &sent.delivery)?;
        assert_eq!(content.repository_id.as_deref(), Some(repository.id.as_str()));
        assert_eq!(content.repository_path.as_deref(), Some("APP/shop"));
        told.extend(content.events.into_iter().map(|event| (event.kind, event.reference.unwrap_or_default(), event.change)));
    }
    let of = |kind, reference: &str, change| (kind, reference.to_owned(), change);
    let expected = [
        of(EventKind::Push, "refs/heads/topic", Change::Updated),
        of(EventKind::Push, "refs/heads/new", Change::Created),
        of(EventKind::Tag, "refs/tags/v1", Change::Created),
        of(EventKind::Push, "refs/heads/new", Change::Deleted),
        of(EventKind::PullRequest, "refs/heads/main", Change::Updated),
        of(EventKind::Push, "refs/heads/topic", Change::Updated),
        of(EventKind::PullRequest, "refs/heads/main", Change::Updated),
        of(EventKind::PullRequestComment, "refs/heads/main", Change::Updated),
        of(EventKind::PullRequestMerged, "refs/heads/main", Change::Updated),
        of(EventKind::Push, "refs/heads/main", Change::Updated),
        of(EventKind::PullRequest, "refs/heads/release/1.0", Change::Updated),
        of(EventKind::PullRequestClosed, "refs/heads/release/1.0", Change::Updated),
    ];
    assert_eq!(told, expected);
    Ok(())
}

#[tokio::test]
async fn one_push_of_several_references_is_one_delivery_with_several_events() -> Result<()> {
    let simulated = simulated().await?;
    let product = BitbucketDataCenter::new(Settings { url: DEAF.to_owned(), allow_local_targets: true, clock: ProviderClock::default() });
    let path = || "APP/shop".to_owned();
    product.act(&UserAction::AddHook { repository: path(), url: DEAF.to_owned() }).map_err(anyhow::Error::msg)?;
    let acts = [
        UserAction::Push { repository: path(), branch: "main".into(), message: "one".into() },
        UserAction::Tag { repository: path(), name: "v2".into() },
        UserAction::DeleteBranch { repository: path(), branch: "topic".into() },
    ];
    let deliveries = product.push_together("APP/shop", &acts).map_err(anyhow::Error::msg)?;
    assert_eq!(deliveries.len(), 1);
    let secrets = [WebhookSecret::Text("theirs-alone".into())];
    let webhook = simulated.provider.webhook();
    let content = webhook.read(&webhook.verify(&secrets, &deliveries[0].headers, &deliveries[0].body)?)?;
    let told: Vec<_> = content.events.iter().map(|event| (event.kind, event.change)).collect();
    let expected = [(EventKind::Push, Change::Updated), (EventKind::Tag, Change::Created), (EventKind::Push, Change::Deleted)];
    assert_eq!(told, expected);
    Ok(())
}

#[tokio::test]
async fn data_center_skips_a_failing_hook_and_only_the_statistics_show_it() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.operator();
    let repository = client.repository(&simulated.path("APP/shop")).await?;
    let hook = create(client.as_ref(), &repository, DEAF, &[EventKind::Push]).await?;
    let push = UserAction::Push { repository: "APP/shop".into(), branch: "main".into(), message: "more".into() };
    simulated.simulator.clock().hold(Duration::ZERO);
    for _ in 0..4 {
        simulated.simulator.act(&push).await?;
    }
    assert_eq!(client.hooks(&repository).await?, std::slice::from_ref(&hook));
    for _ in 0..3 {
        simulated.simulator.act(&push).await?;
    }
    assert_eq!(simulated.simulator.sent().len(), 5, "the breaker is open after five failures");
    let seen = client.hooks(&repository).await?.remove(0);
    assert!(matches!(&seen.state, HookState::Disabled(cause) if cause.starts_with("5 deliveries")), "{:?}", seen.state);
    assert_eq!(Hook { state: HookState::Active, ..seen }, hook, "the rest of the list does not show it");
    // The pause doubles with each failure.
    for (pause, sent) in [(9, 5), (1, 6), (19, 6), (1, 7)] {
        simulated.simulator.advance(Duration::from_secs(pause)).await;
        simulated.simulator.act(&push).await?;
        assert_eq!(simulated.simulator.sent().len(), sent, "after {pause} s more");
    }
    let below = format!("/projects/APP/repos/shop/webhooks/{}", hook.id);
    let (status, statistics) = ask(&simulated, Method::GET, &format!("{below}/statistics")).await?;
    assert_eq!((status, &statistics["counts"]["errors"]), (200, &json!(7)));
    let (status, latest) = ask(&simulated, Method::GET, &format!("{below}/latest?outcome=ERROR")).await?;
    assert_eq!((status, latest["event"].as_str()), (200, Some("repo:refs_changed")));
    assert_eq!(ask(&simulated, Method::GET, &format!("{below}/latest?outcome=SUCCESS")).await?.0, 204);
    Ok(())
}

#[tokio::test]
async fn the_test_of_the_settings_page_is_unsigned_and_recognised() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.operator();
    let repository = client.repository(&simulated.path("APP/shop")).await?;
    let hook = create(client.as_ref(), &repository, DEAF, &[EventKind::Push]).await?;
    let (status, _) = ask(&simulated, Method::POST, &format!("/projects/APP/repos/shop/webhooks/test?webhookId={}", hook.id)).await?;
    assert_eq!(status, 200);
    let sent = wait_until("the test is sent", Duration::from_secs(30), async || {
        Ok(match simulated.simulator.sent().pop() {
            Some(sent) => Seen::Done(sent),
            None => Seen::NotYet("nothing was sent".into()),
        })
    })
    .await?;
    let verdict = simulated.provider.webhook().verify(&[secret(1)], &sent.delivery.headers, &sent.delivery.body).map(|_| ());
    assert_eq!(verdict, Err(Rejection::UnsignedTest));
    Ok(())
}

#[tokio::test]
async fn an_exhausted_rate_limit_is_reported_with_its_reset_time() -> Result<()> {
    let limited = |settings| -> Box<dyn SimulatedProvider> { Box::new(BitbucketDataCenter::new(settings).with_rate_limit(5)) };
    let simulated = Simulated::with(Simulator::start(limited).await?, Timings { max_wait: Duration::ZERO, ..Timings::default() })?;
    let client = simulated.operator();
    client.repository(&simulated.path("APP/shop")).await?;
    let mut refused = None;
    for _ in 0..50 {
        refused = client.repository(&simulated.path("APP/cart")).await.err();
        if refused.is_some() {
            break;
        }
    }
    let error = refused.context("five requests at once and one a second are used up")?;
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert!(error.retry_at.is_some());
    Ok(())
}

#[tokio::test]
async fn a_list_that_shows_a_hook_twice_is_read_again() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.operator();
    let repository = client.repository(&simulated.path("APP/shop")).await?;
    let hook = create(client.as_ref(), &repository, DEAF, &[EventKind::Push]).await?;
    simulated.simulator.order(Order::once(Method::GET, "/webhooks", Fault::Duplicate));
    assert_eq!(client.hooks(&repository).await?, [hook]);
    let crowded = client.repository(&simulated.path(&simulated.seed_data.crowded.0)).await?;
    let removed = client.hooks(&crowded).await?[0].id.clone();
    let meanwhile = UserAction::RemoveHook { repository: "APP/crowded".into(), hook: removed };
    let order = Order { skip: 1, ..Order::once(Method::GET, "crowded/webhooks", Fault::Meanwhile(meanwhile)) };
    simulated.simulator.order(order);
    assert_eq!(client.hooks(&crowded).await?.len(), simulated.seed_data.crowded.1 - 1, "one fewer, and none missing");
    Ok(())
}
