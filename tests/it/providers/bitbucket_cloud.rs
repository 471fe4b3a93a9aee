//! Bitbucket Cloud against its simulator: the contract suite, and the behaviour that only this provider has.

use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::connection::{IdentityKind, PermissionState};
use forgebind::api::v1alpha1::{EventKind, Permission, ProviderKind};
use forgebind::protocol::secret::WebhookSecret;
use forgebind::providers::permission::Grants;
use forgebind::providers::transport::Timings;
use forgebind::providers::webhook::{Change, Content};
use forgebind::providers::{Client, Credential, Deletion, Endpoint, ErrorKind, Hook, HookRequest, HookUrl, ListedRepository, Repository};
use futures::TryStreamExt as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use testkit::contract::secret;
use testkit::plain_http;
use testkit::sim::bitbucket_cloud::{
    API_TOKEN_WITHOUT_USER, APP_PASSWORD, BitbucketCloud, EMAIL, MOST_HOOKS, OPERATOR_SCOPES, PROJECT_TOKEN, REPOSITORY_TOKEN,
    WORKSPACE_TOKEN, api_token,
};
use testkit::sim::{Fault, Order, Outcome, Refusal, Simulated, Simulator, UserAction};
use testkit::sink::{Behavior, SinkServer};

async fn simulated() -> Result<Simulated> {
    Simulated::new(ProviderKind::BitbucketCloud).await
}

fn token(text: &str) -> Vec<(&'static str, String)> {
    vec![("token", text.to_owned())]
}

fn basic(username: &str, password: &str) -> Vec<(&'static str, String)> {
    vec![("username", username.to_owned()), ("password", password.to_owned())]
}

/// The endpoint of a connection that names a project.
fn of_project(simulated: &Simulated, project: &str) -> Result<Endpoint> {
    let spec = json!({"bitbucketCloud": {"url": simulated.simulator.url(), "workspace": "acme", "project": project}});
    Ok(simulated.provider.endpoint(&serde_json::from_value(spec)?)?)
}

async fn paths(client: &dyn Client) -> Result<Vec<String>> {
    let pages: Vec<Vec<ListedRepository>> = client.repositories().try_collect().await?;
    Ok(pages.concat().into_iter().map(|found| found.path.to_string()).collect())
}

async fn create(client: &dyn Client, repository: &Repository, url: &str, events: &[EventKind]) -> Result<Hook> {
    let shape = client.hook_shapes(&events.iter().copied().collect()).remove(0);
    let (url, secret) = (HookUrl::new(url.to_owned()), secret(1));
    Ok(client.create_hook(repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?)
}

/// Error kind and message of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T>) -> Result<(ErrorKind, String)> {
    let error = result.expect_err("a refusal");
    let error = error.downcast_ref::<forgebind::providers::ProviderError>().context("the provider's")?;
    Ok((error.kind, error.message.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn dv_11_dt_18_bb_11_an_app_password_is_answered_with_what_replaced_it() -> Result<()> {
    let simulated = simulated().await?;
    let settings = simulated.provider.profile().transport_settings(&simulated.endpoint, "app password");
    let credential = Credential::BasicAuth { username: "forgebind".into(), password: APP_PASSWORD.into() };
    let connected = simulated.provider.connect(simulated.endpoint.clone(), credential, simulated.factory.transport(settings)?);
    let error = connected.err().context("it is refused")?;
    assert_eq!(error.kind, ErrorKind::AppPasswordRetired);
    assert!(error.message.contains("email and token") && !error.message.contains(APP_PASSWORD), "{error}");
    assert!(simulated.simulator.exchanges().is_empty(), "nothing was sent");

    // The answer that a client would get if it sent the app password anyway.
    let url = format!("{}/2.0/user", simulated.simulator.url());
    let answer = plain_http::client()?.get(url).basic_auth("forgebind", Some(APP_PASSWORD)).send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.text().await?.starts_with("Login failed"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dv_11_an_api_token_works_with_the_e_mail_address_and_as_a_password() -> Result<()> {
    let simulated = simulated().await?;
    let (_, token) = simulated.seed_data.credential.iter().find(|(key, _)| *key == "token").context("a token")?.clone();
    for data in [simulated.seed_data.credential.clone(), basic(EMAIL, &token)] {
        let client = simulated.client(&data);
        let inspection = client.inspect().await?;
        assert_eq!(inspection.identity.and_then(|identity| identity.name).as_deref(), Some("forgebind"));
        let mut scopes = OPERATOR_SCOPES.map(str::to_owned).to_vec();
        scopes.sort();
        assert_eq!(inspection.grants, Grants::Known(scopes));
        assert!(!client.probe_git(&simulated.path("acme/shop")).await?.heads.is_empty(), "git needs another user name");
    }
    let alone = simulated.client(&[("token", token)]).inspect().await.unwrap_err();
    assert_eq!(alone.kind, ErrorKind::Unauthenticated);
    assert!(alone.message.contains("e-mail"), "{alone}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_read_its_user_is_valid() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.client(&api_token(EMAIL, API_TOKEN_WITHOUT_USER));
    let inspection = client.inspect().await?;
    assert_eq!(inspection.identity.as_ref().map(|identity| (&identity.name, identity.kind)), Some((&None, IdentityKind::Token)));
    assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Granted);
    let finding = client.permission(&inspection, Permission::ReadAccount);
    assert!(finding.message.is_some_and(|message| message.starts_with("needs scope read:user:bitbucket; ")));
    assert_eq!(simulated.simulator.exchanges().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn df_13_a_workspace_access_token_works() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.client(&token(WORKSPACE_TOKEN));
    let inspection = client.inspect().await?;
    assert_eq!(inspection.identity.map(|identity| identity.kind), Some(IdentityKind::Token));
    assert_eq!(inspection.grants, Grants::Known(["pullrequest", "repository", "webhook"].map(str::to_owned).to_vec()));
    assert_eq!(simulated.simulator.exchanges().len(), 1, "the refusal shows that the token is valid");
    assert_eq!(paths(client.as_ref()).await?.len(), simulated.seed_data.repositories);
    let shop = client.repository(&simulated.path("acme/shop")).await?;
    let hook = create(client.as_ref(), &shop, "https://in.acme.example/1", &EventKind::ALL).await?;
    assert_eq!(client.delete_hook(&shop, &hook.id).await?, Deletion::Deleted);
    assert!(!client.probe_git(&shop.path).await?.heads.is_empty());
    let as_password = simulated.client(&basic("x-token-auth", WORKSPACE_TOKEN));
    assert_eq!(as_password.repository(&simulated.path("acme/shop")).await?, shop);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn df_14_a_repository_access_token_reaches_one_repository_only() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.client(&token(REPOSITORY_TOKEN));
    client.inspect().await?;
    let shop = client.repository(&simulated.path("acme/shop")).await?;
    for hidden in ["acme/cart", "acme/present", "globex/tools"] {
        assert_eq!(client.repository(&simulated.path(hidden)).await.unwrap_err().kind, ErrorKind::NotFound, "{hidden}");
    }
    let hook = create(client.as_ref(), &shop, "https://in.acme.example/1", &[EventKind::Push]).await?;
    assert_eq!(client.hooks(&shop).await?, [hook]);
    assert!(paths(client.as_ref()).await.is_err(), "the workspace's list is refused");
    let with_project = simulated.client_at(&of_project(&simulated, "APP")?, &token(REPOSITORY_TOKEN));
    let mut private = paths(with_project.as_ref()).await?;
    private.retain(|path| path != "acme/site");
    assert_eq!(private, ["acme/shop"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dt_16_dt_17_a_project_narrows_the_workspace_and_its_key_is_upper_cased() -> Result<()> {
    let simulated = simulated().await?;
    let endpoint = of_project(&simulated, "app")?;
    let scope = endpoint.scope.clone().context("a scope")?;
    assert_eq!(scope.project.as_deref(), Some("APP"));
    for data in [simulated.seed_data.credential.clone(), token(PROJECT_TOKEN)] {
        let client = simulated.client_at(&endpoint, &data);
        client.inspect().await?;
        assert_eq!(paths(client.as_ref()).await?, ["acme/shop", "acme/cart", "acme/empty", "acme/site"]);
        assert!(scope.holds(&client.repository(&simulated.path("acme/shop")).await?));
    }
    let elsewhere = simulated.operator().repository(&simulated.path("acme/present")).await?;
    assert!(scope.contains(&elsewhere.path) && !scope.holds(&elsewhere), "in the workspace, in another project");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dv_13_df_15_names_missing_scopes() -> Result<()> {
    let simulated = simulated().await?;
    let reader = simulated.client(&simulated.seed_data.reader);
    let inspection = reader.inspect().await?;
    assert_eq!(reader.permission(&inspection, Permission::ReadContents).state, PermissionState::Granted);
    let finding = reader.permission(&inspection, Permission::ManageWebhooks);
    assert_eq!(finding.state, PermissionState::Missing);
    let hooks = "read:webhook:bitbucket and write:webhook:bitbucket and delete:webhook:bitbucket";
    assert!(finding.message.is_some_and(|message| message.starts_with(&format!("needs scope {hooks}; "))));
    let shop = reader.repository(&simulated.path("acme/shop")).await?;
    let (kind, words) = refusal(reader.hooks(&shop).await.map_err(Into::into))?;
    assert_eq!(kind, ErrorKind::PermissionDenied);
    assert!(words.contains("required: read:webhook:bitbucket"), "{words}");
    let (kind, words) = refusal(create(reader.as_ref(), &shop, "https://in.acme.example/1", &[EventKind::Push]).await)?;
    assert_eq!(kind, ErrorKind::PermissionDenied);
    assert!(words.contains("required: write:webhook:bitbucket"), "{words}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dv_14_lists_the_branches_of_a_repository_and_creates_a_hook() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.operator();
    let shop = client.repository(&simulated.path("acme/shop")).await?;
    let heads = client.probe_git(&shop.path).await?.heads;
    assert_eq!(heads.keys().collect::<Vec<_>>(), ["refs/heads/main", "refs/heads/release/1.0", "refs/heads/topic"]);
    let hook = create(client.as_ref(), &shop, "https://in.acme.example/1", &[EventKind::Push, EventKind::PullRequest]).await?;
    assert_eq!(hook.has_secret, Some(true));
    // A hook that a person paused stays paused after an update, which replaces the secret.
    let path = "acme/shop".to_owned();
    simulated.simulator.act(&UserAction::PauseHook { repository: path, hook: hook.id.clone() }).await?;
    let changed = update(client.as_ref(), &shop, &hook).await?;
    assert_eq!(changed.state, forgebind::providers::model::HookState::Paused);
    Ok(())
}

async fn update(client: &dyn Client, repository: &Repository, hook: &Hook) -> Result<Hook> {
    let secret = WebhookSecret::Text("another-secret-of-theirs".into());
    Ok(client.update_hook(repository, &hook.id, &HookRequest { url: &hook.url, secret: &secret, shape: &hook.shape }).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_repository_is_found_by_its_uuid_alone() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.operator();
    let shop = client.repository(&simulated.path("acme/shop")).await?;
    let hook = create(client.as_ref(), &shop, "https://in.acme.example/1", &[EventKind::Push]).await?;
    let (repository, to) = ("acme/shop".to_owned(), "acme/store".to_owned());
    simulated.simulator.act(&UserAction::RenameRepository { repository, to }).await?;
    assert_eq!(client.repository(&shop.path).await.unwrap_err().kind, ErrorKind::NotFound, "the former slug does not redirect");
    let renamed = client.repository_by_id(&shop.id).await?.context("found")?;
    assert_eq!(renamed.path.as_str(), "acme/store");
    assert_eq!(client.delete_hook(&shop, &hook.id).await?, Deletion::Deleted, "also for a client that knows only the former path");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_has_at_most_fifty_hooks() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.operator();
    let crowded = client.repository(&simulated.path("acme/crowded")).await?;
    for number in simulated.seed_data.crowded.1..MOST_HOOKS {
        create(client.as_ref(), &crowded, &format!("https://in.acme.example/{number}"), &[EventKind::Push]).await?;
    }
    let (kind, words) = refusal(create(client.as_ref(), &crowded, "https://in.acme.example/more", &[EventKind::Push]).await)?;
    assert_eq!(kind, ErrorKind::LimitReached);
    assert!(words.contains("at most 50 webhooks"), "{words}");
    assert_eq!(client.hooks(&crowded).await?.len(), MOST_HOOKS);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_target_is_refused_with_the_providers_message() -> Result<()> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], testkit::port::free_port()?));
    let strict = Simulator::start_at(address, false, |settings| Box::new(BitbucketCloud::new(settings))).await?;
    let simulated = Simulated::with(strict, Timings::default())?;
    let client = simulated.operator();
    let shop = client.repository(&simulated.path("acme/shop")).await?;
    for target in ["http://127.0.0.1:9/hooks", "https://receiver/hooks", "https://10.1.2.3/hooks"] {
        let (kind, words) = refusal(create(client.as_ref(), &shop, target, &[EventKind::Push]).await)?;
        assert_eq!(kind, ErrorKind::TargetRefused, "{target}");
        assert!(words.contains("publicly resolvable") && !words.contains("/hooks"), "{words}");
    }
    create(client.as_ref(), &shop, "https://in.acme.example/hooks", &[EventKind::Push]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn respects_an_hourly_rate_limit() -> Result<()> {
    let limited = Simulator::start(|settings| Box::new(BitbucketCloud::new(settings).with_hourly_limit(3))).await?;
    let simulated = Simulated::with(limited, Timings { max_wait: Duration::ZERO, ..Timings::default() })?;
    let client = simulated.operator();
    let path = simulated.path("acme/shop");
    for _ in 0..3 {
        client.repository(&path).await?;
    }
    let error = client.repository(&path).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited, "{error}");
    assert!(error.retry_at.is_some(), "no header contains the time, so the client chooses one");
    let before = simulated.simulator.exchanges().len();
    assert_eq!(client.repository(&path).await.unwrap_err().kind, ErrorKind::RateLimited);
    assert_eq!(simulated.simulator.exchanges().len(), before, "no request is sent before that time");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_stay_complete_and_on_the_configured_api_whatever_the_server_answers() -> Result<()> {
    let simulated = simulated().await?;
    let (client, simulator) = (simulated.operator(), &simulated.simulator);
    let crowded = client.repository(&simulated.path("acme/crowded")).await?;
    let foreign = simulated.seed_data.crowded.1;
    let list = |fault| Order::once(Method::GET, "/repositories/acme?", fault);
    simulator.order(list(Fault::ForeignLinks("https://api.bitbucket.org".into())));
    assert_eq!(
        paths(client.as_ref()).await?.len(),
        simulated.seed_data.repositories,
        "a link to the real host is followed on the configured host"
    );
    simulator.order(list(Fault::Duplicate));
    let (kind, _) = refusal(paths(client.as_ref()).await)?;
    assert_eq!(kind, ErrorKind::Transient, "an error, not a list with a duplicate");
    for fault in [Fault::Duplicate, Fault::CutAnswer, Fault::Refuse(Refusal::Failed(502))] {
        simulator.order(Order::once(Method::GET, "/hooks", fault.clone()));
        assert_eq!(client.hooks(&crowded).await?.len(), foreign, "{fault:?}");
    }
    simulator.order(Order::once(Method::POST, "/hooks", Fault::LostAnswer));
    let (kind, _) = refusal(create(client.as_ref(), &crowded, "https://in.acme.example/lost", &[EventKind::Push]).await)?;
    assert!(kind.is_ambiguous(), "{kind:?}");
    assert_eq!(client.hooks(&crowded).await?.len(), foreign + 1, "created once, and listed");
    for fault in [Fault::Redirect(None), Fault::Redirect(Some("https://evil.example".into()))] {
        simulator.order(Order::once(Method::POST, "/hooks", fault));
        let (kind, _) = refusal(create(client.as_ref(), &crowded, "https://in.acme.example/moved", &[EventKind::Push]).await)?;
        assert_eq!(kind, ErrorKind::Conflict, "a write follows no redirect");
    }
    assert_eq!(client.hooks(&crowded).await?.len(), foreign + 1);
    Ok(())
}

/// Reads what a sink received, as the receiver does.
fn contents(simulated: &Simulated, sink: &SinkServer) -> Vec<Content> {
    let webhook = simulated.provider.webhook();
    let read = |delivery: &testkit::sink::Delivery| {
        assert!(webhook.verify(&[secret(2)], &delivery.headers, &delivery.body).is_err());
        webhook.read(&webhook.verify(&[secret(2), secret(1)], &delivery.headers, &delivery.body).unwrap()).unwrap()
    };
    sink.deliveries().iter().map(read).collect()
}

async fn act(simulated: &Simulated, act: Value) -> Result<()> {
    let mut act = act;
    act["repository"] = json!("acme/shop");
    simulated.simulator.act(&serde_json::from_value(act)?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_delivered_and_read() -> Result<()> {
    use Change::{Created, Deleted, Updated};
    use EventKind::{PullRequest, PullRequestClosed, PullRequestComment, PullRequestMerged, Push, Tag};

    let (simulated, sink) = (simulated().await?, SinkServer::start().await?);
    let client = simulated.operator();
    let shop = client.repository(&simulated.path("acme/shop")).await?;
    create(client.as_ref(), &shop, &format!("http://127.0.0.1:{}/in", sink.port()), &EventKind::ALL).await?;
    for done in [
        json!({"act": "push", "branch": "main", "message": "One"}),
        json!({"act": "push", "branch": "new topic", "message": "Two at once"}),
        json!({"act": "tag", "name": "v1"}),
        json!({"act": "open-pull-request", "source": "topic", "target": "main", "title": "Topic"}),
        json!({"act": "edit-pull-request", "number": 1, "title": "The topic"}),
        json!({"act": "push", "branch": "topic", "message": "Three"}),
        json!({"act": "comment-on-pull-request", "number": 1, "text": "Fine"}),
        json!({"act": "merge-pull-request", "number": 1}),
        json!({"act": "open-pull-request", "source": "new", "target": "main", "title": "New"}),
        json!({"act": "close-pull-request", "number": 2}),
        json!({"act": "delete-tag", "name": "v1"}),
        json!({"act": "delete-branch", "branch": "new"}),
    ] {
        act(&simulated, done).await?;
    }
    let told = contents(&simulated, &sink);
    for content in &told {
        assert_eq!((content.repository_id.as_deref(), content.repository_path.as_deref()), (Some(shop.id.as_str()), Some("acme/shop")));
    }
    let found: Vec<Vec<_>> = told
        .iter()
        .map(|content| content.events.iter().map(|event| (event.kind, event.reference.as_deref().unwrap(), event.change)).collect())
        .collect();
    let main = |kind| vec![(kind, "refs/heads/main", Updated)];
    let expected = [
        main(Push),
        vec![(Push, "refs/heads/new", Created), (Push, "refs/heads/topic", Updated)],
        vec![(Tag, "refs/tags/v1", Created)],
        main(PullRequest),
        main(PullRequest),
        vec![(Push, "refs/heads/topic", Updated)],
        main(PullRequest),
        main(PullRequestComment),
        main(PullRequestMerged),
        main(Push),
        main(PullRequest),
        main(PullRequestClosed),
        vec![(Tag, "refs/tags/v1", Deleted)],
        vec![(Push, "refs/heads/new", Deleted)],
    ];
    assert_eq!(found, expected);
    let states: Vec<_> = told.iter().flat_map(|content| &content.events).filter_map(|event| event.once.as_ref()).collect();
    let [opened, edited, moved, other] = states.as_slice() else { panic!("four: {states:?}") };
    assert_eq!(opened, edited, "a new title does not change the state");
    assert!(moved.subject == opened.subject && moved.state != opened.state && other.subject != opened.subject);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_is_sent_twice_more_with_the_same_id() -> Result<()> {
    let (simulated, sink) = (simulated().await?, SinkServer::start().await?);
    let client = simulated.operator();
    let shop = client.repository(&simulated.path("acme/shop")).await?;
    create(client.as_ref(), &shop, &format!("http://127.0.0.1:{}/in", sink.port()), &[EventKind::Push]).await?;
    sink.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
    act(&simulated, json!({"act": "push", "branch": "main", "message": "One"})).await?;
    assert_eq!(sink.deliveries().len(), 1, "a retry is not made at once");
    simulated.simulator.advance(Duration::from_secs(10 * 60)).await;
    let attempts: Vec<_> = sink.deliveries().iter().map(|delivery| delivery.header("x-attempt-number").to_owned()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    let ids: std::collections::BTreeSet<_> = contents(&simulated, &sink).into_iter().map(|content| content.delivery_id).collect();
    assert_eq!(ids.len(), 1);
    sink.behave(Behavior::Fail(StatusCode::UNAUTHORIZED));
    act(&simulated, json!({"act": "push", "branch": "main", "message": "Two"})).await?;
    simulated.simulator.advance(Duration::from_secs(10 * 60)).await;
    assert_eq!(sink.deliveries().len(), 4, "a refusal is final");
    assert!(simulated.simulator.sent().iter().all(|sent| !matches!(sent.outcome, Outcome::Failed(_))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_api_is_reported_as_removed() -> Result<()> {
    let simulated = simulated().await?;
    let (_, token) = simulated.seed_data.credential.iter().find(|(key, _)| *key == "token").context("a token")?;
    for path in ["/repositories", "/workspaces"] {
        let url = format!("{}/2.0{path}", simulated.simulator.url());
        let answer = plain_http::client()?.get(url).basic_auth(EMAIL, Some(token)).send().await?;
        assert_eq!(answer.status(), StatusCode::GONE, "{path}");
        let body: Value = serde_json::from_str(&answer.text().await?)?;
        assert!(body["error"]["message"].as_str().is_some_and(|message| message.starts_with("CHANGE-2770")));
    }
    assert_eq!(simulated.simulator.take_slips().len(), 2, "the description does not contain them either");
    Ok(())
}
