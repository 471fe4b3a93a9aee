//! GitLab against its simulator: the contract suite, and the behaviour that only this provider has.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::connection::{IdentityKind, PermissionState};
use forgebind::api::v1alpha1::{EventKind, Permission};
use forgebind::protocol::secret::WebhookSecret;
use forgebind::providers::model::HookState;
use forgebind::providers::transport::Timings;
use forgebind::providers::webhook::{Change, Content};
use forgebind::providers::{Client, Deletion, ErrorKind, Hook, HookRequest, HookUrl, Repository};
use futures::TryStreamExt as _;
use http::Method;
use serde_json::{Value, json};

use testkit::contract::simulated::subject;
use testkit::contract::{run, secret};
use testkit::plain_http;
use testkit::sim::gitlab::{Release, SimulatedGitLab, seed};
use testkit::sim::{Fault, Order, Simulated, Simulator, UserAction};
use testkit::sink::{Behavior, SinkServer};

/// An address at which nothing answers.
const DEAF: &str = "http://127.0.0.1:9/hooks/deaf";
const SHOP: &str = "acme/apps/shop";

/// A simulator, a client for it, and its control side.
struct ProviderEnv {
    simulated: Simulated,
    gitlab: SimulatedGitLab,
}

impl ProviderEnv {
    async fn new(release: Release, prefix: &'static str) -> Result<Self> {
        let mut gitlab = None;
        let simulator = Simulator::start(|settings| {
            let made = SimulatedGitLab::new(settings, release, prefix);
            gitlab = Some(made.clone());
            Box::new(made)
        });
        let simulated = Simulated::with(simulator.await?, Timings::default())?;
        Ok(Self { simulated, gitlab: gitlab.context("it was made")? })
    }

    async fn current() -> Result<Self> {
        Self::new(Release::CURRENT, "").await
    }

    fn operator(&self) -> Arc<dyn Client> {
        self.simulated.operator()
    }

    fn with_token(&self, token: &str) -> Arc<dyn Client> {
        self.simulated.client(&[("token", token.to_owned())])
    }

    /// A client whose spec has another group.
    fn with_group(&self, group: &Value, token: &str) -> Result<Arc<dyn Client>> {
        let spec = json!({"gitlab": {"url": self.simulated.endpoint.web.as_str(), "group": group}});
        let endpoint = self.simulated.provider.endpoint(&serde_json::from_value(spec)?)?;
        Ok(self.simulated.client_at(&endpoint, &[("token", token.to_owned())]))
    }

    async fn found(&self, client: &Arc<dyn Client>, path: &str) -> Result<Repository> {
        Ok(client.repository(&self.simulated.path(path)).await?)
    }

    async fn act(&self, act: UserAction) -> Result<()> {
        self.simulated.simulator.act(&act).await.map(drop)
    }

    async fn push(&self, branch: &str) -> Result<()> {
        self.act(UserAction::Push { repository: SHOP.into(), branch: branch.into(), message: "Change the price".into() }).await
    }

    /// Sends a request to the simulator as somebody's own script would.
    async fn ask(&self, method: Method, path: &str) -> Result<(u16, Value)> {
        let url = format!("{}{path}", self.simulated.endpoint.api);
        let answer = plain_http::client()?.request(method, url).header("private-token", seed::OPERATOR).send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_str(&answer.text().await?).unwrap_or_default()))
    }
}

async fn write(client: &Arc<dyn Client>, at: &Repository, url: &str, secret: &WebhookSecret, old: Option<&Hook>) -> Result<Hook> {
    let shape = client.hook_shapes(&EventKind::ALL.into_iter().collect()).remove(0);
    let url = HookUrl::new(url.to_owned());
    let request = HookRequest { url: &url, secret, shape: &shape };
    Ok(match old {
        None => client.create_hook(at, &request).await?,
        Some(hook) => client.update_hook(at, &hook.id, &request).await?,
    })
}

async fn create(client: &Arc<dyn Client>, at: &Repository, url: &str) -> Result<Hook> {
    write(client, at, url, &secret(1), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_keeps_the_contract_bb_01_bb_09_dv_15() -> Result<()> {
    run(&subject(&ProviderEnv::current().await?.simulated)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dv_16_an_older_gitlab_below_a_path_prefix_keeps_the_contract() -> Result<()> {
    let env = ProviderEnv::new(Release::OLDER, "/gitlab").await?;
    run(&subject(&env.simulated)).await;
    let exchanges = env.simulated.simulator.exchanges();
    assert!(!exchanges.is_empty() && exchanges.iter().all(|exchange| exchange.request.path.starts_with("/gitlab/")));
    Ok(())
}

#[tokio::test]
async fn dt_11_user_name_and_token_are_a_credential() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let client = env.simulated.client(&[("username", "ada".into()), ("password", seed::OPERATOR.into())]);
    let inspection = client.inspect().await?;
    for permission in [Permission::ManageWebhooks, Permission::WriteContents] {
        assert_eq!(client.permission(&inspection, permission).state, PermissionState::Granted, "{permission}");
    }
    assert!(client.probe_git(&env.simulated.path(SHOP)).await?.heads.contains_key("refs/heads/main"));
    Ok(())
}

#[tokio::test]
async fn dv_17_a_token_without_the_scope_api_lacks_permission_and_is_not_invalid() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let reader = env.with_token(seed::READER);
    let inspection = reader.inspect().await?;
    let finding = reader.permission(&inspection, Permission::ManageWebhooks);
    assert_eq!(finding.message.as_deref(), Some("needs scope api; the token has read_api, read_repository"));
    let shop = env.found(&reader, SHOP).await?;
    let error = create(&reader, &shop, DEAF).await.unwrap_err().downcast::<forgebind::providers::ProviderError>()?;
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.message.contains("higher privileges"), "{error}");

    let granular = env.with_token(seed::FINE_GRAINED);
    let inspection = granular.inspect().await?;
    assert_eq!(
        (inspection.identity.context("a token")?.name, inspection.credential_name),
        (None, None),
        "valid, but it cannot read its own data"
    );
    let shop = env.found(&granular, SHOP).await?;
    let hook = create(&granular, &shop, DEAF).await?;
    assert_eq!(granular.delete_hook(&shop, &hook.id).await?, Deletion::Deleted);
    Ok(())
}

#[tokio::test]
async fn df_09_df_10_a_token_for_cloning_can_clone_but_lists_nothing() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let client = env.with_token(seed::CLONE_ONLY);
    let inspection = client.inspect().await?;
    assert!(!inspection.capabilities.api);
    assert!(client.probe_git(&env.simulated.path(SHOP)).await?.heads.contains_key("refs/heads/main"));
    assert_eq!(client.permission(&inspection, Permission::ListRepositories).state, PermissionState::Missing);
    assert_eq!(client.repositories().try_collect::<Vec<_>>().await.unwrap_err().kind, ErrorKind::PermissionDenied);
    Ok(())
}

#[tokio::test]
async fn df_12_reads_name_and_expiry_of_a_token_and_reports_an_expired_one() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let inspection = env.operator().inspect().await?;
    assert_eq!(inspection.credential_name.as_deref(), Some("operator"));
    assert_eq!(inspection.expires_at, Some("2099-03-01T00:00:00Z".parse()?));
    let error = env.with_token(seed::EXPIRED).inspect().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(error.message.contains("Token is expired"), "{error}");
    env.act(UserAction::RevokeToken { token: seed::OPERATOR.into() }).await?;
    let error = env.operator().inspect().await.unwrap_err();
    assert!(error.kind == ErrorKind::Unauthenticated && error.message.contains("Token was revoked"), "{error}");
    Ok(())
}

#[tokio::test]
async fn bb_10_bb_15_a_project_token_works_from_the_role_maintainer() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let maintainer = env.with_token(seed::PROJECT);
    let identity = maintainer.inspect().await?.identity.context("an identity")?;
    assert!(identity.kind == IdentityKind::Token && identity.name.is_some_and(|name| name.starts_with("project_")));
    let shop = env.found(&maintainer, SHOP).await?;
    assert_eq!(shop.manage_webhooks.state, PermissionState::Granted);
    create(&maintainer, &shop, DEAF).await?;

    let developer = env.with_token(seed::PROJECT_DEVELOPER);
    let shop = env.found(&developer, SHOP).await?;
    let finding = shop.manage_webhooks.message.clone().unwrap_or_default();
    assert_eq!(shop.manage_webhooks.state, PermissionState::Missing);
    assert_eq!(finding, "the token needs the role Maintainer (40) on this project; it has Developer (30)");
    assert_eq!(developer.hooks(&shop).await.unwrap_err().kind, ErrorKind::PermissionDenied);

    let group = env.with_token(seed::GROUP);
    let shop = env.found(&group, SHOP).await?;
    assert_eq!(shop.manage_webhooks.state, PermissionState::Granted, "the role comes from the group");
    let invited = env.with_token(seed::INVITED);
    let site = env.found(&invited, "acme/site").await?;
    assert_eq!(site.manage_webhooks.state, PermissionState::Granted, "only the list of members shows this role");
    let reader = env.with_token(seed::READER);
    let message = env.found(&reader, SHOP).await?.manage_webhooks.message.unwrap_or_default();
    assert!(message.ends_with("it has Reporter (20)"), "{message}");
    Ok(())
}

#[tokio::test]
async fn dt_10_finds_a_group_by_its_number_and_by_its_exact_path() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let number = env.gitlab.group_number("acme/apps");
    for group in [json!(number), json!(number.to_string()), json!("Acme/Apps")] {
        let client = env.with_group(&group, seed::OPERATOR)?;
        let scope = client.inspect().await?.scope.context("a group")?;
        assert_eq!(scope.path, "acme/apps", "{group}");
        let listed = client.repositories().try_collect::<Vec<_>>().await?.concat();
        let paths: Vec<_> = listed.iter().map(|found| found.path.as_str()).collect();
        assert_eq!(paths, [SHOP, "acme/apps/present"], "{group}");
        assert!(listed.iter().all(|found| scope.contains(&found.path)));
    }
    let error = env.with_group(&json!(987_654), seed::OPERATOR)?.inspect().await.unwrap_err();
    assert!(error.kind == ErrorKind::NotFound && error.message.contains("group 987654"), "{error}");
    let inspection = env.with_group(&json!("acme/ap"), seed::OPERATOR)?.inspect().await?;
    assert!(inspection.scope.is_none() && inspection.warnings.len() == 1, "part of a path is no match");
    Ok(())
}

#[tokio::test]
async fn without_a_group_lists_memberships_by_keyset_on_the_configured_host() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let spec = json!({"gitlab": {"url": env.simulated.endpoint.web.as_str()}});
    let endpoint = env.simulated.provider.endpoint(&serde_json::from_value(spec)?)?;
    let client = env.simulated.client_at(&endpoint, &[("token", seed::OPERATOR.to_owned())]);
    env.simulated.simulator.order(Order::always(Fault::ForeignLinks("https://gitlab.internal".to_owned())));
    let pages = client.repositories().try_collect::<Vec<_>>().await?;
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), env.simulated.seed_data.repositories + 1, "the project of the other group too");
    assert!(pages.len() > 1 && pages.concat().iter().any(|found| found.path.as_str() == "globex/rocket"));
    Ok(())
}

/// Every case of the six event kinds, in order, sent by a repository's hook.
async fn story(env: &ProviderEnv) -> Result<()> {
    env.push("main").await?;
    env.push("feature").await?;
    let repository = || SHOP.to_owned();
    env.act(UserAction::Tag { repository: repository(), name: "v1".into() }).await?;
    env.act(UserAction::OpenPullRequest { repository: repository(), source: "feature".into(), target: "main".into(), title: "Two".into() })
        .await?;
    env.act(UserAction::CommentOnPullRequest { repository: repository(), number: 1, text: "Fine".into() }).await?;
    env.act(UserAction::EditPullRequest { repository: repository(), number: 1, title: "Three".into() }).await?;
    env.push("feature").await?;
    env.act(UserAction::MergePullRequest { repository: repository(), number: 1 }).await?;
    env.act(UserAction::OpenPullRequest { repository: repository(), source: "topic".into(), target: "main".into(), title: "Four".into() })
        .await?;
    env.act(UserAction::ClosePullRequest { repository: repository(), number: 2 }).await?;
    env.act(UserAction::DeleteTag { repository: repository(), name: "v1".into() }).await?;
    env.act(UserAction::DeleteBranch { repository: repository(), branch: "feature".into() }).await
}

fn told(contents: &[Content]) -> Vec<(EventKind, String, Change)> {
    let events = contents.iter().flat_map(|content| &content.events);
    events.map(|event| (event.kind, event.reference.clone().unwrap_or_default(), event.change)).collect()
}

#[tokio::test]
async fn pk_10_deliveries_are_verified_and_read_as_events() -> Result<()> {
    use EventKind::{PullRequest, PullRequestClosed, PullRequestComment, PullRequestMerged, Push, Tag};
    for (release, signs) in [(Release::CURRENT, true), (Release::SWITCHED_OFF, false), (Release::OLDER, false)] {
        let env = ProviderEnv::new(release, "").await?;
        let (client, sink) = (env.operator(), SinkServer::start().await?);
        client.inspect().await?;
        let shop = env.found(&client, SHOP).await?;
        let hook = write(&client, &shop, &format!("http://127.0.0.1:{}/in", sink.port()), &secret(7), None).await?;
        assert_eq!(env.gitlab.secrets(SHOP, &hook.id), (!signs, signs), "one of the two secrets");
        story(&env).await?;
        let secrets = [secret(6), secret(7)];
        let webhook = env.simulated.provider.webhook();
        let mut contents = Vec::new();
        for sent in env.simulated.simulator.sent() {
            let (headers, body) = (&sent.delivery.headers, &sent.delivery.body);
            assert_eq!((headers.contains_key("webhook-signature"), headers.contains_key("x-gitlab-token")), (signs, !signs));
            assert!(webhook.verify(&secrets[..1], headers, body).is_err());
            let verified = webhook.verify(&secrets, headers, body)?;
            assert_eq!(verified.secret(), 1);
            let content = webhook.read(&verified)?;
            assert_eq!((content.repository_id.as_deref(), content.repository_path.as_deref()), (Some(shop.id.as_str()), Some(SHOP)));
            contents.push(content);
        }
        let main = |kind| (kind, "refs/heads/main".to_owned(), Change::Updated);
        let feature = |change| (Push, "refs/heads/feature".to_owned(), change);
        let tag = |change| (Tag, "refs/tags/v1".to_owned(), change);
        let expected = [
            main(Push),
            feature(Change::Created),
            tag(Change::Created),
            main(PullRequest),
            main(PullRequestComment),
            feature(Change::Updated),
            main(PullRequest),
            main(PullRequestMerged),
            main(Push),
            main(PullRequest),
            main(PullRequestClosed),
            tag(Change::Deleted),
            feature(Change::Deleted),
        ];
        assert_eq!(told(&contents), expected);
        let ids: std::collections::BTreeSet<_> = contents.iter().map(|content| &content.delivery_id).collect();
        assert_eq!((ids.len(), sink.deliveries().len()), (contents.len(), contents.len()), "each has an id of its own");
    }
    Ok(())
}

#[tokio::test]
async fn a_hook_signs_from_its_next_secret_on_once_the_server_supports_signing() -> Result<()> {
    let env = ProviderEnv::new(Release::OLDER, "").await?;
    let client = env.operator();
    client.inspect().await?;
    let shop = env.found(&client, SHOP).await?;
    let hook = write(&client, &shop, DEAF, &secret(1), None).await?;
    assert_eq!(env.gitlab.secrets(SHOP, &hook.id), (true, false));
    env.gitlab.install(Release::CURRENT);
    assert_eq!(client.hooks(&shop).await?[0].has_secret, Some(true));
    let hook = write(&client, &shop, &format!("{DEAF}/2"), &secret(2), Some(&hook)).await?;
    assert_eq!((hook.has_secret, env.gitlab.secrets(SHOP, &hook.id)), (Some(true), (false, true)), "no token is left behind");

    let own = WebhookSecret::Text("a-secret-of-the-users-own".into());
    let theirs = write(&client, &shop, "http://127.0.0.1:9/theirs", &own, None).await?;
    assert_eq!(env.gitlab.secrets(SHOP, &theirs.id), (true, false), "this version has signing tokens");
    Ok(())
}

#[tokio::test]
async fn a_server_without_signing_tokens_gets_a_plain_token() -> Result<()> {
    let env = ProviderEnv::new(Release::SWITCHED_OFF, "").await?;
    let client = env.operator();
    client.inspect().await?;
    let shop = env.found(&client, SHOP).await?;
    let hook = create(&client, &shop, DEAF).await?;
    assert_eq!((hook.has_secret, env.gitlab.secrets(SHOP, &hook.id), env.simulated.simulator.writes()), (Some(true), (true, false), 2));
    create(&client, &shop, &format!("{DEAF}/2")).await?;
    assert_eq!(env.simulated.simulator.writes(), 3, "signing is tried once");
    Ok(())
}

#[tokio::test]
async fn what_somebody_added_to_a_hook_is_drift_and_is_removed() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let client = env.operator();
    let shop = env.found(&client, SHOP).await?;
    let hook = create(&client, &shop, DEAF).await?;
    let wanted = client.hook_shapes(&EventKind::ALL.into_iter().collect()).remove(0);
    env.gitlab.clutter(SHOP, &hook.id);
    env.act(UserAction::ChangeHook { repository: SHOP.into(), hook: hook.id.clone() }).await?;
    let drift = client.hooks(&shop).await?[0].drift(&wanted);
    assert_eq!(drift, ["custom_headers", "issues_events", "push_events", "url_variables"]);
    let repaired = write(&client, &shop, DEAF, &secret(1), Some(&hook)).await?;
    assert_eq!(repaired.drift(&wanted), Vec::<&str>::new());
    assert_eq!(client.hooks(&shop).await?, [repaired]);
    Ok(())
}

#[tokio::test]
async fn failed_deliveries_pause_a_hook_and_later_disable_it() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let (client, sink) = (env.operator(), SinkServer::start().await?);
    let shop = env.found(&client, SHOP).await?;
    create(&client, &shop, &format!("http://127.0.0.1:{}/in", sink.port())).await?;
    sink.behave(Behavior::Fail(http::StatusCode::UNAUTHORIZED));
    let state = async || Ok::<_, anyhow::Error>(client.hooks(&shop).await?.remove(0).state);
    for _ in 0..3 {
        env.push("main").await?;
    }
    assert_eq!(state().await?, HookState::Active);
    env.push("main").await?;
    let HookState::HeldBack { cause, until } = state().await? else { anyhow::bail!("not paused") };
    assert!(cause.starts_with("several deliveries in a row failed") && until.is_some(), "{cause}");
    env.push("main").await?;
    assert_eq!(sink.deliveries().len(), 4, "events meanwhile are not delivered");
    for _ in 4..40 {
        env.simulated.simulator.advance(Duration::from_secs(25 * 60 * 60)).await;
        env.push("main").await?;
    }
    let HookState::Disabled(cause) = state().await? else { anyhow::bail!("not disabled") };
    assert_eq!(cause, "40 deliveries in a row failed; the last answer was HTTP 401");
    Ok(())
}

#[tokio::test]
async fn the_log_lists_deliveries_and_sends_them_again_with_the_same_id() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let (client, sink) = (env.operator(), SinkServer::start().await?);
    let shop = env.found(&client, SHOP).await?;
    let hook = create(&client, &shop, &format!("http://127.0.0.1:{}/in", sink.port())).await?;
    env.push("main").await?;
    let events = format!("/projects/{}/hooks/{}/events", shop.id, hook.id);
    let (_, log) = env.ask(Method::GET, &events).await?;
    assert_eq!((log[0]["response_status"].as_str(), log[0]["trigger"].as_str()), (Some("204"), Some("push_hooks")));
    assert!(!log.to_string().contains("v1,"), "tokens and signatures are redacted");
    let (status, _) = env.ask(Method::POST, &format!("{events}/{}/resend", log[0]["id"])).await?;
    assert_eq!(status, 201);
    let deliveries = sink.wait_for(2, Duration::from_secs(20)).await?;
    let webhook = env.simulated.provider.webhook();
    let secrets = [secret(1)];
    let read = |position: usize| -> Result<Content> {
        let delivery = &deliveries[position];
        Ok(webhook.read(&webhook.verify(&secrets, &delivery.headers, &delivery.body)?)?)
    };
    assert_eq!(read(0)?, read(1)?);
    Ok(())
}

#[tokio::test]
async fn a_project_has_at_most_a_hundred_hooks() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let client = env.operator();
    for number in 0..100 {
        env.act(UserAction::AddHook { repository: "acme/site".into(), url: format!("https://elsewhere.example/{number}") }).await?;
    }
    let site = env.found(&client, "acme/site").await?;
    let error = create(&client, &site, DEAF).await.unwrap_err().downcast::<forgebind::providers::ProviderError>()?;
    assert_eq!(error.kind, ErrorKind::LimitReached, "{error}");
    assert_eq!(client.hooks(&site).await?.len(), 100);
    Ok(())
}

#[tokio::test]
async fn private_targets_are_refused_unless_allowed() -> Result<()> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], testkit::port::free_port()?));
    let simulator = Simulator::start_at(address, false, testkit::sim::gitlab::make).await?;
    let simulated = Simulated::with(simulator, Timings::default())?;
    let client = simulated.operator();
    let shop = client.repository(&simulated.path(SHOP)).await?;
    for url in [DEAF, "http://localhost/x", "https://10.1.2.3/x", "https://receiver.internal.localhost/x"] {
        let error = create(&client, &shop, url).await.unwrap_err().downcast::<forgebind::providers::ProviderError>()?;
        assert_eq!(error.kind, ErrorKind::TargetRefused, "{url}: {error}");
    }
    create(&client, &shop, "https://hooks.acme.example/x").await?;
    Ok(())
}

#[tokio::test]
async fn an_exhausted_rate_limit_is_reported_with_its_reset_time() -> Result<()> {
    let env = ProviderEnv::current().await?;
    env.gitlab.limit(3);
    let client = env.operator();
    let shop = env.found(&client, SHOP).await?;
    let timings = Timings { max_wait: Duration::ZERO, ..Timings::default() };
    let hasty = Simulated { factory: Simulated::factory(timings), ..env.simulated.clone() };
    let client = hasty.operator();
    let mut error = None;
    for _ in 0..4 {
        if let Err(refused) = client.hooks(&shop).await {
            error = Some(refused);
            break;
        }
    }
    let error = error.context("limited")?;
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert!(error.retry_at.is_some(), "{error}");
    let before = env.simulated.simulator.exchanges().len();
    assert_eq!(client.hooks(&shop).await.unwrap_err().kind, ErrorKind::RateLimited);
    assert_eq!(env.simulated.simulator.exchanges().len(), before, "no request is sent before that time");
    Ok(())
}

#[tokio::test]
async fn reads_follow_a_renamed_project_and_writes_use_its_number() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let client = env.operator();
    let shop = env.found(&client, SHOP).await?;
    env.act(UserAction::RenameRepository { repository: SHOP.into(), to: "acme/apps/store".into() }).await?;
    let found = env.found(&client, SHOP).await?;
    assert_eq!((found.id.as_str(), found.path.as_str()), (shop.id.as_str(), "acme/apps/store"));
    let hook = create(&client, &shop, DEAF).await?;
    assert_eq!(client.hooks(&found).await?, [hook]);
    Ok(())
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_ambiguous_and_is_not_sent_again() -> Result<()> {
    let env = ProviderEnv::current().await?;
    let client = env.operator();
    client.inspect().await?;
    let shop = env.found(&client, SHOP).await?;
    env.simulated.simulator.order(Order::once(Method::POST, "/hooks", Fault::LostAnswer));
    let error = create(&client, &shop, DEAF).await.unwrap_err().downcast::<forgebind::providers::ProviderError>()?;
    assert!(error.kind.is_ambiguous(), "{error}");
    assert_eq!((client.hooks(&shop).await?.len(), env.simulated.simulator.writes()), (1, 1), "created only once");
    env.simulated.simulator.order(Order::once(Method::GET, "/hooks", Fault::Duplicate));
    assert_eq!(client.hooks(&shop).await?.len(), 1, "a list that shows a hook twice is read again");
    Ok(())
}
