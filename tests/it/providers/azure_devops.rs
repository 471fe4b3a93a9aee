//! Azure DevOps against its simulator: the contract suite, and the behaviour that only this provider has.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::connection::PermissionState;
use forgebind::api::v1alpha1::{EventKind, Permission, ProviderKind};
use forgebind::protocol::secret::WebhookSecret;
use forgebind::providers::model::HookState;
use forgebind::providers::transport::Timings;
use forgebind::providers::webhook::{Change, Content};
use forgebind::providers::{Client, Deletion, Endpoint, ErrorKind, Hook, HookRequest, HookUrl, Repository};
use http::Method;
use serde_json::{Value, json};

use testkit::contract::simulated::subject;
use testkit::contract::{run, secret};
use testkit::plain_http;
use testkit::sim::azure_devops::{make, make_older, state};
use testkit::sim::{Delivery, Fault, Order, Outcome, Refusal, Simulated, Simulator, UserAction, Wait};
use testkit::sink::{Behavior, SinkServer};

/// The events of a webhook that lists none.
const DEFAULT: [EventKind; 3] = [EventKind::Push, EventKind::Tag, EventKind::PullRequest];

async fn simulated() -> Result<Simulated> {
    Simulated::new(ProviderKind::AzureDevOps).await
}

fn token(text: &str) -> Vec<(&'static str, String)> {
    vec![("token", text.to_owned())]
}

fn login(username: &str, password: &str) -> Vec<(&'static str, String)> {
    vec![("username", username.to_owned()), ("password", password.to_owned())]
}

async fn repository(simulated: &Simulated) -> Result<Repository> {
    Ok(simulated.operator().repository(&simulated.path(&simulated.seed_data.repository)).await?)
}

/// Creates the subscriptions of these events.
async fn subscribe(client: &dyn Client, repository: &Repository, url: &str, events: &[EventKind]) -> Result<Vec<Hook>> {
    let (url, secret) = (HookUrl::new(url.to_owned()), secret(1));
    let mut hooks = Vec::new();
    for shape in client.hook_shapes(&events.iter().copied().collect()) {
        hooks.push(client.create_hook(repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?);
    }
    Ok(hooks)
}

/// Sends a request to the simulator as somebody's own script would, with the current API version.
async fn ask(simulated: &Simulated, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
    let url = format!("{}/acme/{path}?api-version=7.1", simulated.simulator.url());
    let request = plain_http::client()?.request(method, url);
    let request = request.basic_auth("", Some(state::TOKEN));
    let answer = match body {
        Some(body) => request.json(body),
        None => request,
    };
    let answer = answer.send().await?;
    let (status, text) = (answer.status().as_u16(), answer.text().await?);
    Ok((status, serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default()))
}

fn read(simulated: &Simulated, delivery: &Delivery) -> Result<Content> {
    let (webhook, headers, body) = (simulated.provider.webhook(), &delivery.headers, &delivery.body);
    assert!(webhook.verify(&[secret(2)], headers, b"").is_err());
    assert!(webhook.verify(&[secret(2), secret(1)], headers, b"").is_ok(), "a template without a body");
    Ok(webhook.read(&webhook.verify(&[secret(2), secret(1)], headers, body)?)?)
}

fn told(content: &Content) -> Vec<(EventKind, Change)> {
    content.events.iter().map(|event| (event.kind, event.change)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pk_15_the_contract_holds_with_a_server_of_an_older_version() -> Result<()> {
    let simulated = Simulated::with(Simulator::start(make_older).await?, Timings::default())?;
    run(&subject(&simulated)).await;
    assert_eq!(simulated.operator().inspect().await?.version.as_deref(), Some("7.0"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn df_18_the_contract_holds_with_a_token_as_password() -> Result<()> {
    let simulated = simulated().await?;
    let by_password = simulated.client(&login("anybody", state::TOKEN));
    run(&testkit::contract::Subject { client: by_password, ..subject(&simulated) }).await;
    Ok(())
}

#[tokio::test]
async fn pk_16_refuses_a_repository_of_another_collection() -> Result<()> {
    let simulated = simulated().await?;
    let url = format!("{}/umbrella/My%20Shop/_git/web", simulated.simulator.url());
    let error = simulated.provider.repository_path(&simulated.endpoint, &url).unwrap_err();
    assert!(error.to_string().contains("/umbrella") && error.to_string().contains("/acme"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_suffix_git_stays_part_of_a_repository_name() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.operator();
    let plain = client.repository(&simulated.path("My Shop/web")).await?;
    let dotted = client.repository(&simulated.path("My Shop/web.git")).await?;
    assert_ne!(plain.id, dotted.id);
    assert_eq!(dotted.path.as_str(), "My Shop/web.git");
    assert_eq!(plain.clone_url.as_deref().map(|url| url.contains('@')), Some(false), "no user name in it");
    Ok(())
}

#[tokio::test]
async fn pk_20_pk_21_the_default_events_are_three_subscriptions_of_one_repository() -> Result<()> {
    let simulated = simulated().await?;
    let (client, repository) = (simulated.operator(), repository(&simulated).await?);
    subscribe(&*client, &repository, "https://in.acme.example/hooks/a/1", &DEFAULT).await?;
    let (_, list) = ask(&simulated, Method::GET, "_apis/hooks/subscriptions", None).await?;
    let ours: Vec<&Value> = list["value"]
        .as_array()
        .context("a list")?
        .iter()
        .filter(|found| found["consumerInputs"]["url"] == json!("https://in.acme.example/hooks/a/1"))
        .collect();
    let kinds: Vec<_> =
        ours.iter().map(|found| (found["eventType"].as_str(), found["publisherInputs"]["notificationType"].as_str())).collect();
    let expected =
        [(Some("git.push"), None), (Some("git.pullrequest.created"), None), (Some("git.pullrequest.updated"), Some("PushNotification"))];
    assert_eq!(kinds, expected);
    assert!(ours.iter().all(|found| found["publisherInputs"]["repository"] == json!(repository.id)));
    assert!(ours.iter().all(|found| found["consumerInputs"]["basicAuthUsername"] == json!("forgebind")), "PK-27");
    Ok(())
}

#[tokio::test]
async fn pk_26_requests_and_subscriptions_never_cover_a_whole_project_or_organization() -> Result<()> {
    let simulated = simulated().await?;
    let (client, repository) = (simulated.operator(), repository(&simulated).await?);
    for hook in subscribe(&*client, &repository, "https://in.acme.example/hooks/a/1", &EventKind::ALL).await? {
        client.hooks(&repository).await?;
        client.delete_hook(&repository, &hook.id).await?;
    }
    let nowhere = Repository { project: None, ..repository.clone() };
    let everywhere = Repository { id: String::new(), ..repository.clone() };
    let before = simulated.simulator.exchanges().len();
    for place in [&nowhere, &everywhere] {
        assert_eq!(client.hooks(place).await.unwrap_err().kind, ErrorKind::Rejected);
        let refused = subscribe(&*client, place, "https://in.acme.example/hooks/a/1", &DEFAULT).await;
        assert!(refused.is_err());
    }
    assert_eq!(simulated.simulator.exchanges().len(), before, "nothing was sent");
    for exchange in simulated.simulator.exchanges() {
        let (request, body) = (&exchange.request, exchange.request.json());
        assert!(request.method != Method::GET || !request.path.ends_with("/_apis/hooks/subscriptions"), "the list of the organization");
        if request.method == Method::POST && request.path.ends_with("/subscriptions") {
            assert_eq!(body["publisherInputs"]["repository"], json!(repository.id));
        }
        if request.path.ends_with("/subscriptionsquery") {
            let asked = body["publisherInputFilters"][0]["conditions"].to_string();
            assert!(asked.contains("projectId") && asked.contains(&repository.id), "{asked}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn pk_19_names_missing_permissions_for_subscriptions() -> Result<()> {
    let simulated = simulated().await?;
    let path = simulated.path(&simulated.seed_data.repository);
    let found = simulated.client(&simulated.seed_data.reader).repository(&path).await?;
    assert_eq!(found.manage_webhooks.state, PermissionState::Missing);
    let message = found.manage_webhooks.message.context("a message")?;
    assert!(message.contains("Delete subscriptions in project My Shop"), "{message}");
    let readers = simulated.client(&simulated.seed_data.reader);
    let error = subscribe(&*readers, &repository(&simulated).await?, "https://in.acme.example/hooks/a/1", &DEFAULT).await.unwrap_err();
    assert!(error.to_string().contains("Edit subscriptions"), "{error}");
    simulated.simulator.order(Order::once(Method::GET, "_apis/permissions", Fault::Refuse(Refusal::Forbidden)));
    let found = simulated.operator().repository(&path).await?;
    assert_eq!(found.manage_webhooks.state, PermissionState::Unknown, "a server that does not report its version");
    Ok(())
}

#[tokio::test]
async fn df_17_df_19_a_credential_for_git_alone_reaches_git_only() -> Result<()> {
    let simulated = simulated().await?;
    let client = simulated.client(&login(state::GIT_USER, state::GIT_PASSWORD));
    let inspection = client.inspect().await?;
    assert!(!inspection.capabilities.api);
    assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Unknown);
    let probe = client.probe_git(&simulated.path(&simulated.seed_data.repository)).await?;
    assert!(probe.heads.contains_key("refs/heads/main"));
    let wrong = simulated.client(&login("somebody", state::GIT_PASSWORD));
    assert_eq!(wrong.inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated);
    Ok(())
}

#[tokio::test]
async fn dv_19_pk_18_derives_the_scopes_from_what_the_token_can_read() -> Result<()> {
    let simulated = simulated().await?;
    for (secret, projects) in [(state::TOKEN, PermissionState::Granted), (state::CODE_TOKEN, PermissionState::Missing)] {
        let client = simulated.client(&token(secret));
        let inspection = client.inspect().await?;
        assert_eq!(client.permission(&inspection, Permission::ReadContents).state, PermissionState::Granted);
        assert_eq!(client.permission(&inspection, Permission::ListProjects).state, projects);
        assert_eq!(client.permission(&inspection, Permission::WriteContents).state, PermissionState::Unknown);
    }
    let error = simulated.client(&token(state::TOKEN_WITHOUT_CODE)).inspect().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.message.contains("Code (Read)"), "{error}");
    let error = simulated.client(&token(state::EXPIRED_TOKEN)).inspect().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(error.message.contains("has expired"), "{error}");
    Ok(())
}

#[tokio::test]
async fn bb_12_warns_of_a_token_for_all_organizations() -> Result<()> {
    let simulated = simulated().await?;
    let accounts = simulated.simulator.url().parse()?;
    let services = Endpoint { further_origins: vec![accounts], ..simulated.endpoint.clone() };
    let warnings = simulated.client_at(&services, &token(state::TOKEN_FOR_ALL)).inspect().await?.warnings;
    assert!(warnings[0].contains("all accessible organizations (acme, umbrella)"), "{warnings:?}");
    assert!(warnings[0].contains("1 December 2026"), "{warnings:?}");
    assert_eq!(simulated.client_at(&services, &token(state::TOKEN)).inspect().await?.warnings, Vec::<String>::new());
    assert_eq!(
        simulated.client(&token(state::TOKEN_FOR_ALL)).inspect().await?.warnings,
        Vec::<String>::new(),
        "a Server gets no such request"
    );
    Ok(())
}

#[tokio::test]
async fn a_sign_in_page_means_that_the_credential_is_rejected() -> Result<()> {
    let simulated = simulated().await?;
    for status in [203, 200] {
        simulated.simulator.order(Order::always(Fault::WebPage(status)));
        assert_eq!(simulated.operator().inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated, "{status}");
        simulated.simulator.behave();
    }
    assert!(simulated.operator().inspect().await.is_ok());
    Ok(())
}

#[tokio::test]
async fn respects_retry_after_on_a_success_and_on_a_refusal() -> Result<()> {
    let simulator = Simulator::start(make).await?;
    let simulated = Simulated::with(simulator, Timings { max_wait: Duration::ZERO, ..Timings::default() })?;
    let client = simulated.operator();
    client.inspect().await?;
    simulated.simulator.order(Order::once(Method::GET, "_apis/git", Fault::Refuse(Refusal::RateLimited(Wait::Seconds(30)))));
    let path = simulated.path(&simulated.seed_data.repository);
    let error = client.repository(&path).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert!(error.retry_at.is_some() && error.message.contains("TF400733"), "{error}");
    let sent = simulated.simulator.exchanges().len();
    assert_eq!(client.repository(&path).await.unwrap_err().kind, ErrorKind::RateLimited);
    assert_eq!(simulated.simulator.exchanges().len(), sent, "no request is sent before that time");
    Ok(())
}

#[tokio::test]
async fn a_target_that_azure_devops_cannot_reach_is_refused_with_its_message() -> Result<()> {
    let strict = Simulator::start_at(([127, 0, 0, 1], testkit::port::free_port()?).into(), false, make).await?;
    let simulated = Simulated::with(strict, Timings::default())?;
    let (client, repository) = (simulated.operator(), repository(&simulated).await?);
    for (url, words) in [
        ("https://localhost/hooks/a/1", "localhost"),
        ("https://10.1.2.3/hooks/a/1", "special IP range"),
        ("http://in.acme.example/hooks/a/1", "HTTPS"),
    ] {
        let error = subscribe(&*client, &repository, url, &[EventKind::Push]).await.unwrap_err();
        let error = error.downcast_ref::<forgebind::providers::ProviderError>().context("an error of the provider")?;
        assert_eq!(error.kind, ErrorKind::TargetRefused, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    subscribe(&*client, &repository, "https://in.acme.example/hooks/a/1", &[EventKind::Push]).await?;
    Ok(())
}

/// The events that a repository's subscriptions send to a sink after a user action.
async fn sent(simulated: &Simulated, act: UserAction) -> Result<Vec<Vec<(EventKind, Change)>>> {
    simulated.simulator.forget();
    simulated.simulator.act(&act).await?;
    simulated.simulator.sent().iter().map(|sent| Ok(told(&read(simulated, &sent.delivery)?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pk_21_pk_22_pk_23_bb_17_deliveries_are_read_as_the_requested_events() -> Result<()> {
    let simulated = simulated().await?;
    let (client, repository) = (simulated.operator(), repository(&simulated).await?);
    let sink = SinkServer::start().await?;
    let path = simulated.seed_data.repository.clone();
    let hooks = subscribe(&*client, &repository, &format!("http://127.0.0.1:{}/hooks/a/1", sink.port()), &DEFAULT).await?;
    let push = |branch: &str| UserAction::Push { repository: path.clone(), branch: branch.to_owned(), message: "m".to_owned() };
    let only = |kind, change| vec![vec![(kind, change)]];
    assert_eq!(sent(&simulated, push("main")).await?, only(EventKind::Push, Change::Updated));
    assert_eq!(sent(&simulated, push("new")).await?, only(EventKind::Push, Change::Created));
    let tag = || UserAction::Tag { repository: path.clone(), name: "v1".to_owned() };
    assert_eq!(sent(&simulated, tag()).await?, only(EventKind::Tag, Change::Created));
    assert_eq!(sent(&simulated, tag()).await?, only(EventKind::Tag, Change::Updated));
    let delete = UserAction::DeleteTag { repository: path.clone(), name: "v1".to_owned() };
    assert_eq!(sent(&simulated, delete).await?, only(EventKind::Tag, Change::Deleted));
    let delete = UserAction::DeleteBranch { repository: path.clone(), branch: "new".to_owned() };
    assert_eq!(sent(&simulated, delete).await?, only(EventKind::Push, Change::Deleted));
    let open = UserAction::OpenPullRequest { repository: path.clone(), source: "topic".into(), target: "main".into(), title: "One".into() };
    assert_eq!(sent(&simulated, open).await?, only(EventKind::PullRequest, Change::Updated));
    let moved = sent(&simulated, push("topic")).await?;
    assert_eq!(moved, [vec![(EventKind::Push, Change::Updated)], vec![(EventKind::PullRequest, Change::Updated)]]);
    for act in [
        UserAction::EditPullRequest { repository: path.clone(), number: 1, title: "Two".into() },
        UserAction::CommentOnPullRequest { repository: path.clone(), number: 1, text: "good".into() },
    ] {
        assert_eq!(sent(&simulated, act).await?, Vec::<Vec<_>>::new());
    }
    let close = UserAction::ClosePullRequest { repository: path.clone(), number: 1 };
    assert_eq!(sent(&simulated, close).await?, Vec::<Vec<_>>::new(), "a change of status is not requested");
    for hook in hooks {
        assert_eq!(client.delete_hook(&repository, &hook.id).await?, Deletion::Deleted);
    }
    assert_eq!(sent(&simulated, push("main")).await?, Vec::<Vec<_>>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_17_a_merge_is_reported_once_it_completed_the_pull_request() -> Result<()> {
    let simulated = simulated().await?;
    let (client, repository) = (simulated.operator(), repository(&simulated).await?);
    let sink = SinkServer::start().await?;
    let path = simulated.seed_data.repository.clone();
    let events = [EventKind::PullRequestMerged, EventKind::PullRequestClosed, EventKind::PullRequestComment];
    subscribe(&*client, &repository, &format!("http://127.0.0.1:{}/hooks/a/1", sink.port()), &events).await?;
    let open = |source: &str| UserAction::OpenPullRequest {
        repository: path.clone(),
        source: source.into(),
        target: "main".into(),
        title: "One".into(),
    };
    assert_eq!(sent(&simulated, open("topic")).await?, [vec![]], "the merge was only a trial");
    let comment = UserAction::CommentOnPullRequest { repository: path.clone(), number: 1, text: "good".into() };
    assert_eq!(sent(&simulated, comment).await?, [[(EventKind::PullRequestComment, Change::Updated)]]);
    let merge = UserAction::MergePullRequest { repository: path.clone(), number: 1 };
    let merged = sent(&simulated, merge).await?;
    assert_eq!(merged, [vec![(EventKind::PullRequestMerged, Change::Updated)], vec![]], "its change of status is no further event");
    assert_eq!(sent(&simulated, open("release/1.0")).await?.concat(), []);
    let close = UserAction::ClosePullRequest { repository: path.clone(), number: 2 };
    assert_eq!(sent(&simulated, close).await?, [[(EventKind::PullRequestClosed, Change::Updated)]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_18_a_custom_header_of_the_user_authenticates_deliveries() -> Result<()> {
    let simulated = simulated().await?;
    let (client, repository) = (simulated.operator(), repository(&simulated).await?);
    let sink = SinkServer::start().await?;
    let secret = WebhookSecret::Header { name: "X-Azure-Token".into(), value: "a-token-of-the-users-own".into() };
    let url = HookUrl::new(format!("http://127.0.0.1:{}/hooks/a/1", sink.port()));
    let shape = client.hook_shapes(&BTreeSet::from([EventKind::Push])).remove(0);
    let hook = client.create_hook(&repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?;
    assert_eq!(hook.drift(&shape), Vec::<&str>::new());
    let push = UserAction::Push { repository: simulated.seed_data.repository.clone(), branch: "main".into(), message: "m".into() };
    simulated.simulator.act(&push).await?;
    let sent = simulated.simulator.sent();
    let delivery = &sent.first().context("a delivery")?.delivery;
    assert!(simulated.provider.webhook().verify(&[secret], &delivery.headers, b"").is_ok());
    assert_eq!(sink.deliveries()[0].header("x-azure-token"), "a-token-of-the-users-own");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_delivery_puts_a_subscription_on_probation_and_an_update_does_not_end_it() -> Result<()> {
    let simulated = simulated().await?;
    let (client, repository) = (simulated.operator(), repository(&simulated).await?);
    let sink = SinkServer::start().await?;
    let hook =
        subscribe(&*client, &repository, &format!("http://127.0.0.1:{}/hooks/a/1", sink.port()), &[EventKind::Push]).await?.remove(0);
    let push = UserAction::Push { repository: simulated.seed_data.repository.clone(), branch: "main".into(), message: "m".into() };
    let state = async || -> Result<HookState> {
        let hooks = client.hooks(&repository).await?;
        Ok(hooks.into_iter().find(|found| found.id == hook.id).context("the hook")?.state)
    };
    simulated.simulator.act(&push).await?;
    assert_eq!(state().await?, HookState::Active);
    sink.behave(Behavior::Fail(http::StatusCode::PAYLOAD_TOO_LARGE));
    simulated.simulator.act(&push).await?;
    assert!(matches!(state().await?, HookState::Disabled(cause) if cause.contains("probation")));
    sink.behave(Behavior::Accept);
    let before = simulated.simulator.sent().len();
    simulated.simulator.act(&push).await?;
    assert_eq!(simulated.simulator.sent().len(), before, "new events are lost");
    let (shape, url) = (client.hook_shapes(&[EventKind::Push].into()).remove(0), hook.url.clone());
    let request = HookRequest { url: &url, secret: &secret(1), shape: &shape };
    let updated = client.update_hook(&repository, &hook.id, &request).await?;
    assert!(matches!(updated.state, HookState::Disabled(_)), "an update does not enable it again");
    let (status, log) = ask(&simulated, Method::GET, &format!("_apis/hooks/subscriptions/{}/notifications", hook.id), None).await?;
    let results: Vec<_> =
        log["value"].as_array().context("a log")?.iter().map(|entry| entry["result"].as_str().unwrap_or_default()).collect();
    assert_eq!((status, results), (200, vec!["pending", "succeeded"]));
    assert!(simulated.simulator.sent().iter().any(|sent| sent.outcome == Outcome::Answered(413)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_retried_for_three_minutes_and_on_probation_for_36_hours() -> Result<()> {
    let simulated = simulated().await?;
    let (client, repository) = (simulated.operator(), repository(&simulated).await?);
    let sink = SinkServer::start().await?;
    let hook =
        subscribe(&*client, &repository, &format!("http://127.0.0.1:{}/hooks/a/1", sink.port()), &[EventKind::Push]).await?.remove(0);
    let push = UserAction::Push { repository: simulated.seed_data.repository.clone(), branch: "main".into(), message: "m".into() };
    let state = async || -> Result<HookState> {
        let hooks = client.hooks(&repository).await?;
        Ok(hooks.into_iter().find(|found| found.id == hook.id).context("the hook")?.state)
    };
    let simulator = &simulated.simulator;
    simulator.clock().hold(Duration::ZERO);
    sink.behave(Behavior::Fail(http::StatusCode::SERVICE_UNAVAILABLE));
    simulator.act(&push).await?;
    let mut attempts = 1;
    // Seconds, and on probation minutes.
    let waits = [1, 2, 4, 8, 16, 32, 60, 60].into_iter().chain([20, 40, 80, 160, 320, 640].map(|minutes| minutes * 60));
    for seconds in waits {
        assert_eq!(state().await? == HookState::Active, attempts < 9, "after {attempts} attempts");
        simulator.advance(Duration::from_secs(seconds - 1)).await;
        assert_eq!(sink.deliveries().len(), attempts, "not before its time");
        simulator.advance(Duration::from_secs(1)).await;
        attempts += 1;
        assert_eq!(sink.deliveries().len(), attempts);
    }
    simulator.act(&push).await?;
    assert_eq!(sink.deliveries().len(), attempts, "a new event is lost");
    sink.behave(Behavior::Accept);
    simulator.advance(Duration::from_secs(15 * 60 * 60)).await;
    assert_eq!((sink.accepted().len(), state().await?), (1, HookState::Active), "the last retry succeeds");
    let bodies: BTreeSet<_> = sink.deliveries().into_iter().map(|delivery| delivery.body).collect();
    assert_eq!(bodies.len(), 1, "every attempt is for the same notification");

    sink.behave(Behavior::Fail(http::StatusCode::INTERNAL_SERVER_ERROR));
    simulator.act(&push).await?;
    assert!(matches!(state().await?, HookState::Disabled(cause) if cause.contains("probation")), "at once after such an answer");
    let before = sink.deliveries().len();
    simulator.advance(Duration::from_secs(40 * 60 * 60)).await;
    assert_eq!(sink.deliveries().len(), before + 7);
    assert!(matches!(state().await?, HookState::Disabled(cause) if cause.contains("too long")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_looks_like_a_browser_gets_a_sign_in_page() -> Result<()> {
    let simulated = simulated().await?;
    let url = format!("{}/acme/_apis/git/repositories?api-version=7.1", simulated.simulator.url());
    let client = plain_http::client()?;
    let answer = client.get(&url).basic_auth("", Some("wrong")).send().await?;
    assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str()?), (203, "text/html; charset=utf-8"));
    let answer = client.get(&url).basic_auth("", Some("wrong")).header("x-tfs-fedauthredirect", "Suppress").send().await?;
    assert_eq!(answer.status(), 401);
    let (status, refusal) =
        ask(&simulated, Method::PUT, "_apis/hooks/subscriptions/8dea9aba-3a9a-4ad0-860f-2a5c7379e3eb", Some(&json!({}))).await?;
    assert_eq!((status, refusal["typeKey"].as_str()), (404, Some("SubscriptionNotFoundException")));
    Ok(())
}
