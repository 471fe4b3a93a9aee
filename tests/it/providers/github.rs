//! GitHub against its simulator: the contract suite, and the behaviour that only this provider has.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use forgebind::api::v1alpha1::connection::{IdentityKind, PermissionState};
use forgebind::api::v1alpha1::{EventKind, Permission, ProviderKind};
use forgebind::providers::model::HookState;
use forgebind::providers::permission::Grants;
use forgebind::providers::transport::Timings;
use forgebind::providers::webhook::{Change, Content};
use forgebind::providers::{Client, Deletion, ErrorKind, Hook, HookRequest, HookUrl, Inspection, ProviderError, Repository};
use futures::TryStreamExt as _;
use http::Method;
use serde_json::{Value, json};

use testkit::contract::simulated::subject;
use testkit::contract::{Prepared, Subject, run, secret};
use testkit::plain_http;
use testkit::port::free_port;
use testkit::sim::github::{Release, SimulatedGitHub, seed};
use testkit::sim::{Fault, Order, Settings, Simulated, SimulatedProvider, Simulator, UserAction};
use testkit::sink::SinkServer;
use testkit::wait::{Seen, wait_until};

const SOON: Duration = Duration::from_secs(20);
/// An address at which nothing answers.
const DEAF: &str = "http://127.0.0.1:9";
const SERVER: Release = Release::Server("3.21.0");

/// A simulator, and the changes that a person makes there.
struct ProviderEnv {
    simulated: Simulated,
    github: SimulatedGitHub,
}

impl ProviderEnv {
    async fn new() -> Result<Self> {
        Self::of(SERVER).await
    }

    async fn of(release: Release) -> Result<Self> {
        let mut made = None;
        let simulator = Simulator::start(|settings| boxed(&mut made, settings, release)).await?;
        Self::around(simulator, made)
    }

    fn around(simulator: Simulator, made: Option<SimulatedGitHub>) -> Result<Self> {
        // The client reports a rate limit at once; the operator would wait a little for it.
        let timings = Timings { max_wait: Duration::ZERO, ..Timings::default() };
        Ok(Self { simulated: Simulated::with(simulator, timings)?, github: made.context("it was made")? })
    }

    fn with_token(&self, token: &str) -> Arc<dyn Client> {
        self.simulated.client(&[("token", token.to_owned())])
    }

    fn app(&self) -> Arc<dyn Client> {
        self.simulated.client(&seed::app_credential())
    }

    async fn look(&self, client: &dyn Client, path: &str) -> Result<Repository, ProviderError> {
        client.repository(&self.simulated.path(path)).await
    }

    /// Methods and paths of the requests so far.
    fn asked(&self) -> Vec<String> {
        let exchanges = self.simulated.simulator.exchanges();
        exchanges
            .iter()
            .map(|exchange| format!("{} {}", exchange.request.method, exchange.request.path.trim_start_matches("/api/v3")))
            .collect()
    }
}

fn boxed(made: &mut Option<SimulatedGitHub>, settings: Settings, release: Release) -> Box<dyn SimulatedProvider> {
    Box::new(made.insert(SimulatedGitHub::new(settings, release)).clone())
}

async fn create(client: &dyn Client, repository: &Repository, url: &str, events: &[EventKind]) -> Result<Hook, ProviderError> {
    let shape = client.hook_shapes(&events.iter().copied().collect()).remove(0);
    let (url, secret) = (HookUrl::new(url.to_owned()), secret(1));
    client.create_hook(repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await
}

/// Sends a request to the simulator as somebody's own script would.
async fn ask(env: &ProviderEnv, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
    let url = format!("{}{path}", env.simulated.endpoint.api);
    let client = plain_http::builder().user_agent("a-script").build()?;
    let request = client.request(method, url).bearer_auth(seed::OPERATOR);
    let answer = if let Some(body) = body { request.json(body) } else { request }.send().await?;
    let status = answer.status().as_u16();
    Ok((status, serde_json::from_str(&answer.text().await?).unwrap_or_default()))
}

fn names(inspection: &Inspection) -> Option<&str> {
    inspection.identity.as_ref()?.name.as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_01_bb_04_dt_05_the_contract_holds_with_a_classic_token() -> Result<()> {
    let env = ProviderEnv::new().await?;
    run(&subject(&env.simulated)).await;
    let pair = [("username", "anybody".to_owned()), ("password", seed::OPERATOR.to_owned())];
    run(&Subject { client: env.simulated.client(&pair), ..subject(&env.simulated) }).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_with_a_fine_grained_token() -> Result<()> {
    let env = ProviderEnv::new().await?;
    run(&Subject { client: env.with_token(seed::FINE_GRAINED), ..subject(&env.simulated) }).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dv_04_pk_01_the_contract_holds_with_an_app() -> Result<()> {
    let env = ProviderEnv::new().await?;
    env.github.install_on_all(true);
    let by_client_id = [("githubAppClientID", seed::APP_CLIENT_ID.to_owned()), ("githubAppPrivateKey", seed::APP_KEY.to_owned())];
    for credential in [seed::app_credential(), by_client_id.to_vec()] {
        let client = env.simulated.client(&credential);
        let subject = subject(&env.simulated);
        let prepared = subject.prepared.map(|prepared| Prepared { account: seed::APP_SLUG.to_owned(), ..prepared });
        run(&Subject { client, prepared, ..subject }).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dv_10_the_contract_holds_on_the_cloud() -> Result<()> {
    let env = ProviderEnv::of(Release::Cloud).await?;
    run(&subject(&env.simulated)).await;
    let inspection = env.simulated.operator().inspect().await?;
    assert_eq!((inspection.flavor.as_str(), inspection.version), ("GitHub", None));
    Ok(())
}

#[tokio::test]
async fn dt_06_a_classic_token_reports_its_scopes_and_its_expiry() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let inspection = client.inspect().await?;
    assert_eq!((inspection.flavor.as_str(), inspection.version.as_deref()), ("GitHubEnterpriseServer", Some("3.21.0")));
    assert_eq!(
        inspection.grants,
        Grants::Known(["admin:repo_hook", "delete_repo", "read:org", "read:user", "repo"].map(str::to_owned).to_vec())
    );
    assert_eq!(inspection.expires_at, Some("2099-02-25T04:28:56Z".parse()?));
    assert_eq!(names(&inspection), Some("ada"));
    for (permission, state) in [
        (Permission::WriteCommitStatus, PermissionState::Granted),
        (Permission::WriteDeployments, PermissionState::Granted),
        (Permission::ManageWebhooks, PermissionState::Granted),
        (Permission::DeleteRepositories, PermissionState::Granted),
        (Permission::WriteChecks, PermissionState::Missing),
    ] {
        assert_eq!(client.permission(&inspection, permission).state, state, "{permission}");
    }
    let none = env.with_token(seed::NO_SCOPES);
    let inspection = none.inspect().await?;
    assert_eq!(inspection.grants, Grants::Known(Vec::new()));
    assert_eq!(none.permission(&inspection, Permission::ReadContents).message.unwrap(), "needs scope repo; the token has none");
    assert_eq!(env.look(&*none, "acme/shop").await.unwrap_err().kind, ErrorKind::NotFound, "a private repository is hidden");
    Ok(())
}

#[tokio::test]
async fn a_fine_grained_token_reports_no_permissions_and_its_refusals_name_them() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.with_token(seed::FINE_GRAINED_READER);
    let inspection = client.inspect().await?;
    assert!(matches!(inspection.grants, Grants::Unknown(_)));
    assert_eq!(inspection.expires_at, Some("2099-04-26T18:23:26Z".parse()?));
    assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Unknown);
    let shop = env.look(&*client, "acme/shop").await?;
    let error = client.hooks(&shop).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.message.contains("Resource not accessible by personal access token"), "{error}");
    Ok(())
}

#[tokio::test]
async fn bb_15_an_account_that_may_not_manage_hooks_gets_a_refusal_that_says_so() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.with_token(seed::READER);
    let shop = env.look(&*client, "acme/shop").await?;
    assert_eq!(shop.manage_webhooks.state, PermissionState::Missing);
    assert!(shop.manage_webhooks.message.as_ref().unwrap().contains("role admin"));
    assert_eq!(client.hooks(&shop).await.unwrap_err().kind, ErrorKind::NotFound, "GitHub hides hooks that the token may not manage");
    let pages: Vec<_> = client.repositories().try_collect().await?;
    assert!(pages.concat().iter().all(|found| found.webhooks == PermissionState::Missing));
    Ok(())
}

#[tokio::test]
async fn the_scope_write_repo_hook_allows_writes_but_no_deletion() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.with_token(seed::WRITE_HOOKS_ONLY);
    let finding = client.permission(&client.inspect().await?, Permission::ManageWebhooks);
    assert_eq!(finding.message.unwrap(), "needs scope admin:repo_hook or repo; the token has write:repo_hook");
    let handbook = env.look(&*client, "acme/handbook").await?;
    let hook = create(&*client, &handbook, &format!("{DEAF}/a"), &[EventKind::Push]).await?;
    let error = client.delete_hook(&handbook, &hook.id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied, "a 404 to a deletion, and the hook still in the list");
    assert_eq!(client.hooks(&handbook).await?.len(), 1);
    assert_eq!(env.with_token(seed::PUBLIC_ONLY).delete_hook(&handbook, &hook.id).await?, Deletion::Deleted);
    Ok(())
}

#[tokio::test]
async fn a_token_that_single_sign_on_blocks_is_reported_and_an_authorized_one_works() -> Result<()> {
    let env = ProviderEnv::new().await?;
    env.github.enforce_single_sign_on("acme");
    let client = env.simulated.operator();
    let error = client.inspect().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::SingleSignOnRequired);
    assert!(!error.to_string().contains("authorization_request"), "{error}");
    assert_eq!(env.look(&*client, "acme/shop").await.unwrap_err().kind, ErrorKind::SingleSignOnRequired);
    let signed_on = env.with_token(seed::SIGNED_ON);
    assert_eq!(names(&signed_on.inspect().await?), Some("ada"));
    assert!(env.look(&*signed_on, "acme/shop").await.is_ok());
    assert!(env.look(&*env.app(), "acme/shop").await.is_ok(), "an App needs no sign-on");
    Ok(())
}

#[tokio::test]
async fn dv_05_pk_02_names_each_permission_that_an_installation_lacks() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.app();
    let inspection = client.inspect().await?;
    assert_eq!((names(&inspection), inspection.identity.as_ref().unwrap().kind), (Some(seed::APP_SLUG), IdentityKind::App));
    for (key, title, permission) in [
        ("issues", "Issues", Permission::ReadIssues),
        ("contents", "Contents", Permission::WriteContents),
        ("pull_requests", "Pull requests", Permission::OpenPullRequests),
        ("checks", "Checks", Permission::WriteChecks),
        ("repository_hooks", "Webhooks", Permission::ManageWebhooks),
    ] {
        assert_eq!(client.permission(&inspection, permission).state, PermissionState::Granted, "{key}");
        env.github.permit("acme", key, None);
        let finding = client.permission(&client.inspect().await?, permission);
        assert_eq!(finding.state, PermissionState::Missing, "{key}");
        assert!(finding.message.as_ref().is_some_and(|message| message.contains(title) && message.contains(key)), "{finding:?}");
    }
    for (permission, title) in [(Permission::AdministerRepositories, "Administration"), (Permission::WriteDeployments, "Deployments")] {
        let finding = client.permission(&inspection, permission);
        assert!(finding.message.is_some_and(|message| message.contains(title)), "{permission}");
    }
    let shop = env.look(&*client, "acme/shop").await?;
    let error = client.hooks(&shop).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.message.contains("Resource not accessible by integration"), "{error}");
    Ok(())
}

#[tokio::test]
async fn pk_03_names_the_events_that_the_app_does_not_subscribe_to() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let credential = [seed::app_credential(), vec![("githubAppWebhookSecret", "a-secret-of-the-apps-own".to_owned())]].concat();
    let client = env.simulated.client(&credential);
    assert_eq!(client.inspect().await?.warnings, Vec::<String>::new());
    env.github.subscribe(&["issue_comment", "push", "pull_request_review", "pull_request_review_comment"]);
    let warnings = client.inspect().await?.warnings;
    assert!(warnings[0].contains("the events create, pull_request and repository"), "{warnings:?}");
    Ok(())
}

#[tokio::test]
async fn pk_06_a_repository_outside_the_installation_is_reported_as_not_installed() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.app();
    assert!(env.look(&*client, "acme/shop").await.is_ok());
    for path in ["acme/old", "acme/handbook", "acme/nothing-at-all"] {
        assert_eq!(env.look(&*client, path).await.unwrap_err().kind, ErrorKind::NotInstalled, "{path}");
    }
    let pages: Vec<_> = client.repositories().try_collect().await?;
    let listed: BTreeSet<_> = pages.concat().iter().map(|found| found.path.as_str().to_owned()).collect();
    assert_eq!(listed, ["acme/empty", "acme/present", "acme/shop", "acme/site"].map(str::to_owned).into());
    env.github.install_on_all(true);
    client.inspect().await?;
    assert!(env.look(&*client, "acme/old").await.is_ok());
    assert_eq!(env.look(&*client, "acme/nothing-at-all").await.unwrap_err().kind, ErrorKind::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_suspended_and_a_deleted_installation_are_reported_differently() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.app();
    client.inspect().await?;
    env.github.suspend("acme");
    assert_eq!(env.look(&*client, "acme/shop").await.unwrap_err().kind, ErrorKind::InstallationSuspended, "with the existing token");
    assert_eq!(client.inspect().await.unwrap_err().kind, ErrorKind::InstallationSuspended);
    env.github.uninstall("acme");
    let error = client.inspect().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InstallationNotFound);
    assert!(error.message.contains("not installed at organization acme"), "{error}");
    let another = [("githubAppID", "99".to_owned()), ("githubAppPrivateKey", seed::APP_KEY.to_owned())];
    assert_eq!(env.simulated.client(&another).inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated);
    Ok(())
}

#[tokio::test]
async fn an_app_serves_a_user_account_and_an_explicitly_named_installation() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let spec = serde_json::from_value(json!({"github": {"url": env.simulated.simulator.url(), "user": "ada"}}))?;
    let endpoint = env.simulated.provider.endpoint(&spec)?;
    let client = env.simulated.client_at(&endpoint, &seed::app_credential());
    client.inspect().await?;
    assert!(env.look(&*client, "ada/notes").await.is_ok());
    assert!(env.asked().contains(&"GET /users/ada/installation".to_owned()));
    let elsewhere = [seed::app_credential(), vec![("githubAppInstallationID", "1".to_owned())]].concat();
    assert_eq!(env.simulated.client(&elsewhere).inspect().await.unwrap_err().kind, ErrorKind::InstallationNotFound);

    let by_token = env.simulated.client_at(&endpoint, &env.simulated.seed_data.credential);
    let pages: Vec<_> = by_token.repositories().try_collect().await?;
    let listed: BTreeSet<_> = pages.concat().iter().map(|found| found.path.as_str().to_owned()).collect();
    assert_eq!(listed, ["ada/blog", "ada/notes"].map(str::to_owned).into(), "private ones too, each once");
    Ok(())
}

#[tokio::test]
async fn tokens_of_an_installation_are_narrow_cached_and_replaced() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.app();
    let shop = env.look(&*client, "acme/shop").await?;
    let narrow = ["contents:read", "issues:read", "metadata:read", "pull_requests:read", "repository_hooks:write"];
    let made: Vec<_> = env.github.permissions_of_last_token().into_iter().map(|(key, level)| format!("{key}:{level}")).collect();
    assert_eq!(made, narrow);
    for _ in 0..3 {
        client.hooks(&shop).await?;
        env.app().inspect().await?;
    }
    assert_eq!(env.github.installation_tokens(), 1, "a new client finds the token");
    env.github.end_installation_tokens();
    client.hooks(&shop).await?;
    assert_eq!(env.github.installation_tokens(), 1, "a token that is refused is replaced");
    // An hour later, with clocks that differ by an hour: the client corrects the JWT by GitHub's time.
    env.simulated.simulator.advance(Duration::from_secs(3700)).await;
    client.hooks(&shop).await?;
    let probe = client.probe_git(&env.simulated.path("acme/shop")).await?;
    assert!(probe.heads.contains_key("refs/heads/release/1.0"));
    Ok(())
}

#[tokio::test]
async fn reading_unchanged_data_uses_no_calls_of_the_rate_limit() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let crowded = env.look(&*client, "acme/crowded").await?;
    let hooks = client.hooks(&crowded).await?;
    let left = env.github.left("ada");
    for _ in 0..3 {
        let again = env.simulated.operator();
        assert_eq!(env.look(&*again, "acme/crowded").await?, crowded);
        assert_eq!(again.hooks(&crowded).await?, hooks);
    }
    assert_eq!(env.github.left("ada"), left, "requests with entity tags use no calls");
    env.simulated.simulator.act(&UserAction::RemoveHook { repository: "acme/crowded".into(), hook: hooks[5].id.clone() }).await?;
    assert_eq!(client.hooks(&crowded).await?.len(), hooks.len() - 1, "and do not hide a change");
    Ok(())
}

#[tokio::test]
async fn waits_when_the_calls_of_an_hour_are_used_up() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let shop = env.look(&*client, "acme/shop").await?;
    // Leaves only the calls that the client reserves for deletions.
    env.github.limit(3);
    let error = loop {
        if let Err(error) = client.branch_exists(&shop, "main").await {
            break error;
        }
    };
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert!(error.retry_at.is_some());
    let asked = env.asked().len();
    assert_eq!(client.branch_exists(&shop, "main").await.unwrap_err().kind, ErrorKind::RateLimited);
    assert_eq!(env.asked().len(), asked, "no request is sent before that time");
    Ok(())
}

#[tokio::test]
async fn waits_when_github_refuses_writes_that_come_too_fast() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let shop = env.look(&*client, "acme/shop").await?;
    env.github.limit_writes(1);
    create(&*client, &shop, &format!("{DEAF}/1"), &[EventKind::Push]).await?;
    let error = create(&*client, &shop, &format!("{DEAF}/2"), &[EventKind::Push]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited, "a 403 that does not mean a missing permission");
    assert!(error.retry_at.is_some());
    Ok(())
}

#[tokio::test]
async fn each_reason_for_refusing_a_hook_has_its_error_kind() -> Result<()> {
    let env = ProviderEnv::of(Release::Cloud).await?;
    let client = env.simulated.operator();
    let shop = env.look(&*client, "acme/shop").await?;
    create(&*client, &shop, &format!("{DEAF}/same"), &[EventKind::Push]).await?;
    let again = create(&*client, &shop, &format!("{DEAF}/same"), &[EventKind::Tag]).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Conflict, "{again}");
    for number in 1..20 {
        create(&*client, &shop, &format!("{DEAF}/{number}"), &[EventKind::Push]).await?;
    }
    let error = create(&*client, &shop, &format!("{DEAF}/21"), &[EventKind::Push]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::LimitReached);
    assert!(error.message.contains("cannot have more than 20 hooks"), "{error}");
    let old = env.look(&*client, "acme/old").await?;
    assert_eq!(create(&*client, &old, DEAF, &[EventKind::Push]).await.unwrap_err().kind, ErrorKind::Archived);

    let mut made = None;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let strict = Simulator::start_at(address, false, |settings| boxed(&mut made, settings, SERVER)).await?;
    let env = ProviderEnv::around(strict, made)?;
    let client = env.simulated.operator();
    let shop = env.look(&*client, "acme/shop").await?;
    for url in ["http://localhost/hooks", "http://10.0.0.7/hooks", "https://hooks/in"] {
        let error = create(&*client, &shop, url, &[EventKind::Push]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TargetRefused, "{url}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_survives_every_update_and_a_paused_hook_stays_paused() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let shop = env.look(&*client, "acme/shop").await?;
    let hook = create(&*client, &shop, &format!("{DEAF}/a"), &[EventKind::Push]).await?;
    env.simulated.simulator.act(&UserAction::PauseHook { repository: "acme/shop".into(), hook: hook.id.clone() }).await?;
    let (url, secret) = (HookUrl::new(format!("{DEAF}/b")), secret(2));
    let shape = client.hook_shapes(&[EventKind::PullRequest].into()).remove(0);
    let changed = client.update_hook(&shop, &hook.id, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?;
    assert_eq!((changed.state, changed.has_secret, changed.url), (HookState::Paused, Some(true), url));
    assert!(env.github.has_secret("acme/shop", &hook.id));
    // Somebody's script removes the secret: that is drift.
    let path = format!("/repos/acme/shop/hooks/{}", hook.id);
    let (status, _) = ask(&env, Method::PATCH, &path, Some(&json!({"config": {"url": "https://other.example"}}))).await?;
    assert_eq!(status, 200);
    let seen = client.hooks(&shop).await?.remove(0);
    assert_eq!(seen.drift(&shape), ["content_type", "secret"]);
    Ok(())
}

#[tokio::test]
async fn a_list_stays_complete_when_its_pages_shift() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let crowded = env.look(&*client, "acme/crowded").await?;
    let before = client.hooks(&crowded).await?;
    let gone = before[0].id.clone();
    let act = UserAction::RemoveHook { repository: "acme/crowded".into(), hook: gone.clone() };
    // Between the first page and the second, a hook of the first page is deleted. The hook that was first on the second page is
    // then on neither.
    env.simulated.simulator.order(Order::once(Method::GET, "page=2", Fault::Meanwhile(act)));
    let after = client.hooks(&crowded).await?;
    assert_eq!(after.len(), before.len() - 1);
    assert!(before.iter().filter(|hook| hook.id != gone).all(|hook| after.contains(hook)));
    Ok(())
}

#[tokio::test]
async fn links_and_redirects_to_another_host_are_followed_on_the_configured_host() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let crowded = env.look(&*client, "acme/crowded").await?;
    env.simulated.simulator.order(Order::always(Fault::ForeignLinks("https://github.internal".into())));
    assert_eq!(client.hooks(&crowded).await?.len(), env.simulated.seed_data.crowded.1);
    let found = env.look(&*client, "acme/former").await?;
    assert_eq!(found.path.as_str(), "acme/present");
    Ok(())
}

#[tokio::test]
async fn a_write_to_a_former_path_is_a_conflict_until_the_repository_is_read_again() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let shop = env.look(&*client, "acme/shop").await?;
    env.simulated.simulator.act(&UserAction::RenameRepository { repository: "acme/shop".into(), to: "acme/store".into() }).await?;
    let error = create(&*client, &shop, DEAF, &[EventKind::Push]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    let store = client.repository_by_id(&shop.id).await?.unwrap();
    assert_eq!(store.path.as_str(), "acme/store");
    assert!(create(&*client, &store, DEAF, &[EventKind::Push]).await.is_ok());
    Ok(())
}

/// Verifies and reads the deliveries that a sink received.
fn read(env: &ProviderEnv, sink: &SinkServer) -> Vec<Content> {
    let webhook = env.simulated.provider.webhook();
    let read = |delivery: &testkit::sink::Delivery| {
        let verified = webhook.verify(&[secret(1)], &delivery.headers, &delivery.body).unwrap();
        webhook.read(&verified).unwrap()
    };
    sink.deliveries().iter().map(read).collect()
}

#[tokio::test]
async fn bb_05_bb_19_dv_10_deliveries_are_verified_and_read_as_events() -> Result<()> {
    use Change::{Created, Deleted, Updated};
    use EventKind::{PullRequest, PullRequestClosed, PullRequestComment, PullRequestMerged, Push, Tag};

    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let shop = env.look(&*client, "acme/shop").await?;
    let sink = SinkServer::start().await?;
    create(&*client, &shop, &format!("http://127.0.0.1:{}/in", sink.port()), &EventKind::ALL).await?;
    let pinged = wait_until("the ping of the new hook", SOON, async || {
        let contents = read(&env, &sink);
        Ok(contents.first().map_or_else(|| Seen::NotYet("nothing".into()), |content| Seen::Done(content.clone())))
    })
    .await?;
    assert!(pinged.ping && pinged.events.is_empty());
    let repository = || "acme/shop".to_owned();
    for act in [
        UserAction::Push { repository: repository(), branch: "main".into(), message: "One".into() },
        UserAction::Push { repository: repository(), branch: "new".into(), message: "Two".into() },
        UserAction::Tag { repository: repository(), name: "v1".into() },
        UserAction::OpenPullRequest { repository: repository(), source: "topic".into(), target: "main".into(), title: "Two".into() },
        UserAction::CommentOnPullRequest { repository: repository(), number: 1, text: "Fine".into() },
        UserAction::Push { repository: repository(), branch: "topic".into(), message: "Three".into() },
        UserAction::EditPullRequest { repository: repository(), number: 1, title: "Better".into() },
        UserAction::MergePullRequest { repository: repository(), number: 1 },
        UserAction::OpenPullRequest { repository: repository(), source: "new".into(), target: "main".into(), title: "Four".into() },
        UserAction::ClosePullRequest { repository: repository(), number: 2 },
        UserAction::DeleteTag { repository: repository(), name: "v1".into() },
        UserAction::DeleteBranch { repository: repository(), branch: "new".into() },
    ] {
        env.simulated.simulator.act(&act).await?;
    }
    let contents = read(&env, &sink);
    let told: Vec<_> =
        contents.iter().flat_map(|content| &content.events).map(|event| (event.kind, event.reference.as_deref(), event.change)).collect();
    let main = Some("refs/heads/main");
    assert_eq!(
        told,
        [
            (Push, main, Updated),
            (Push, Some("refs/heads/new"), Created),
            (Tag, Some("refs/tags/v1"), Created),
            (PullRequest, main, Updated),
            (PullRequestComment, None, Updated),
            (Push, Some("refs/heads/topic"), Updated),
            (PullRequest, main, Updated),
            (PullRequestMerged, main, Updated),
            (Push, main, Updated),
            (PullRequest, main, Updated),
            (PullRequestClosed, main, Updated),
            (Tag, Some("refs/tags/v1"), Deleted),
            (Push, Some("refs/heads/new"), Deleted),
        ]
    );
    assert!(contents.iter().all(|content| content.repository_id.as_deref() == Some(shop.id.as_str())));
    let ids: BTreeSet<_> = contents.iter().map(|content| &content.delivery_id).collect();
    assert_eq!(ids.len(), contents.len());
    Ok(())
}

#[tokio::test]
async fn a_delivery_of_the_log_is_sent_again_under_the_same_id() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.operator();
    let shop = env.look(&*client, "acme/shop").await?;
    let sink = SinkServer::start().await?;
    let hook = create(&*client, &shop, &format!("http://127.0.0.1:{}/in", sink.port()), &[EventKind::Push]).await?;
    env.simulated.simulator.act(&UserAction::Push { repository: "acme/shop".into(), branch: "main".into(), message: "One".into() }).await?;
    let log = format!("/repos/acme/shop/hooks/{}/deliveries", hook.id);
    let (status, entries) = ask(&env, Method::GET, &log, None).await?;
    let entry = entries.as_array().context("a list")?.iter().find(|entry| entry["event"] == "push").context("the push")?.clone();
    assert_eq!((status, &entry["status"]), (200, &json!("OK")));
    let (status, whole) = ask(&env, Method::GET, &format!("{log}/{}", entry["id"]), None).await?;
    assert_eq!((status, &whole["request"]["payload"]["ref"]), (200, &json!("refs/heads/main")));
    let (status, _) = ask(&env, Method::POST, &format!("{log}/{}/attempts", entry["id"]), None).await?;
    assert_eq!(status, 202);
    let pushes = wait_until("the second attempt", SOON, async || {
        let pushes: Vec<_> = read(&env, &sink).into_iter().filter(|content| !content.ping).collect();
        Ok(if pushes.len() > 1 { Seen::Done(pushes) } else { Seen::NotYet(format!("{pushes:?}")) })
    })
    .await?;
    assert_eq!(pushes[0], pushes[1]);
    Ok(())
}

#[tokio::test]
async fn the_webhook_of_the_app_reports_only_the_repositories_of_its_installations() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let sink = SinkServer::start().await?;
    let key = secret(1).text();
    let target = json!({"url": format!("http://127.0.0.1:{}/app", sink.port()), "secret": secrecy::ExposeSecret::expose_secret(&key)});
    let refused = ask(&env, Method::PATCH, "/app/hook/config", Some(&target)).await?;
    assert_eq!(refused.0, 401, "only the App itself may change its webhook");
    env.github.listen(target["url"].as_str().context("an address")?, target["secret"].as_str().context("a secret")?);
    for repository in ["acme/shop", "acme/old", "acme/handbook"] {
        let act = UserAction::Push { repository: repository.into(), branch: "main".into(), message: "One".into() };
        env.simulated.simulator.act(&act).await.map_err(|error| anyhow!(error))?;
    }
    let contents = read(&env, &sink);
    let told: Vec<_> = contents.iter().map(|content| content.repository_path.as_deref()).collect();
    assert_eq!(told, [Some("acme/shop")]);
    assert_eq!(sink.deliveries()[0].headers["x-github-hook-installation-target-type"], "integration");
    let body: Value = serde_json::from_slice(&sink.deliveries()[0].body)?;
    assert!(body["installation"]["id"].is_u64());
    Ok(())
}

#[tokio::test]
async fn dv_06_dv_07_an_app_with_metadata_lists_repositories_and_one_with_issues_reads_labels() -> Result<()> {
    let env = ProviderEnv::new().await?;
    for key in ["checks", "contents", "pull_requests", "repository_hooks"] {
        env.github.permit("acme", key, None);
    }
    let client = env.app();
    let inspection = client.inspect().await?;
    let granted = |permission| client.permission(&inspection, permission).state == PermissionState::Granted;
    assert!(granted(Permission::ReadIssues) && granted(Permission::ListRepositories));
    assert!(!granted(Permission::ReadContents) && !granted(Permission::ManageWebhooks));
    assert_eq!(client.repositories().try_collect::<Vec<_>>().await?.concat().len(), seed::CHOSEN.len());
    Ok(())
}

#[tokio::test]
async fn an_anonymous_client_reads_public_repositories() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let client = env.simulated.client(&[]);
    let left = env.github.left("nobody");
    let inspection = client.inspect().await?;
    assert_eq!((inspection.identity, env.github.left("nobody")), (None, left), "reading uses no calls");
    assert!(env.look(&*client, "acme/handbook").await.is_ok());
    assert_eq!(env.look(&*client, "acme/shop").await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(client.probe_git(&env.simulated.path("acme/handbook")).await.is_ok());
    Ok(())
}

#[test]
fn the_registry_finds_github_by_its_kind() {
    assert!(testkit::sim::registry::maker(ProviderKind::GitHub).is_some());
}
