//! The contract suite against the real Gitea, through a proxy: Gitea's own answers name another address than the
//! connection does.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use forgebind::api::v1alpha1::connection::{Address, GiteaSpec, PermissionState, ProviderSpec};
use forgebind::api::v1alpha1::{EventKind, Permission, ProviderKind};
use forgebind::clock::SystemClock;
use forgebind::network::NetworkPolicy;
use forgebind::providers::permission::Grants;
use forgebind::providers::transport::{TransportFactory, Unleased};
use forgebind::providers::webhook::{Change, Content};
use forgebind::providers::{Client, Credential, Endpoint, ErrorKind, HookRequest, HookUrl, Provider, RepositoryPath, registry};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use prometheus_client::registry::Registry;
use serde_json::json;

use testkit::contract::{ByHand, Prepared, Subject, run, secret};
use testkit::fault_proxy::{Answered, Fault, FaultProxy};
use testkit::gitea::{ADMIN, ADMIN_PASSWORD, Account, Gitea, OPERATOR_SCOPES};
use testkit::shared;
use testkit::sim::facts::{Facts, json as json_of};
use testkit::sink::SinkServer;
use testkit::wait::{Seen, wait_until};

const FOREIGN_HOOKS: usize = 120;
const FILLERS: usize = 55;
const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// Everything that one test needs of a Gitea.
struct ProviderEnv {
    gitea: &'static Gitea,
    proxy: Arc<FaultProxy>,
    account: Account,
    organization: String,
    provider: &'static dyn Provider,
    endpoint: Endpoint,
    factory: TransportFactory,
}

impl ProviderEnv {
    async fn new() -> Result<Self> {
        let gitea = shared::gitea().await?;
        let proxy = Arc::new(FaultProxy::before_gitea(gitea).await?);
        let account = gitea.create_user(&Gitea::unique_name("contract"), OPERATOR_SCOPES).await?;
        let organization = Gitea::unique_name("contracts");
        gitea.create_organization(&account, &organization).await?;
        let provider = registry::provider(ProviderKind::Gitea).context("Gitea is served")?;
        let gitea_spec = GiteaSpec { url: Address(proxy.url()), organization: Some(organization.clone()), user: None, api_url: None };
        let endpoint = provider.endpoint(&ProviderSpec { gitea: Some(gitea_spec), ..ProviderSpec::default() })?;
        let allow_cidrs = vec!["127.0.0.0/8".parse()?];
        let policy = Arc::new(NetworkPolicy { insecure_http: true, allow_cidrs, ..NetworkPolicy::default() });
        let factory = TransportFactory::new(policy, Arc::new(Unleased), Arc::new(SystemClock), &mut Registry::default());
        Ok(Self { gitea, proxy, account, organization, provider, endpoint, factory })
    }

    fn client(&self, credential: Credential) -> Arc<dyn Client> {
        let settings = self.provider.profile().transport_settings(&self.endpoint, "test");
        let transport = self.factory.transport(settings).unwrap();
        self.provider.connect(self.endpoint.clone(), credential, transport).unwrap()
    }

    fn with_token(&self, token: &str) -> Arc<dyn Client> {
        self.client(Credential::Token(token.into()))
    }

    fn operator(&self) -> Arc<dyn Client> {
        self.with_token(&self.account.token)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.organization)
    }

    async fn repository(&self, name: &str) -> Result<forgebind::providers::Repository> {
        let path = self.path(name);
        self.gitea.create_repository(&self.organization, name, false).await?;
        Ok(self.operator().repository(&self.provider.repository_path(&self.endpoint, &path)?).await?)
    }
}

/// Every request that a client sent, and every answer of the real server, fits the official description.
impl Drop for ProviderEnv {
    fn drop(&mut self) {
        let facts = Facts::of(self.provider.kind());
        let mut findings = Vec::new();
        for Answered { exchange, status, body } in self.proxy.answers() {
            let (path, query) = exchange.path.split_once('?').unwrap_or((&exchange.path, ""));
            let Some(path) = path.strip_prefix("/api/v1") else { continue };
            let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            findings.extend(facts.request(&exchange.method, path, &query, json_of(&exchange.body).as_ref()));
            findings.extend(facts.answer(&exchange.method, path, status.as_u16(), json_of(&body).as_ref()));
        }
        findings.sort();
        findings.dedup();
        assert!(findings.is_empty() || std::thread::panicking(), "against the official description:\n{}", findings.join("\n"));
    }
}

struct AtGitea {
    gitea: &'static Gitea,
    proxy: Arc<FaultProxy>,
}

#[async_trait]
impl ByHand for AtGitea {
    async fn pause(&self, repository: &RepositoryPath, hook: &str) {
        let hook: i64 = hook.parse().unwrap();
        let hooks = self.gitea.hooks(repository.as_str()).await.unwrap();
        let events = hooks.into_iter().find(|found| found.id == hook).unwrap().events;
        // An update resets what it leaves out, so a person's own form sends the events too.
        let events: Vec<_> = events.iter().map(|event| if event == "pull_request" { "pull_request_only" } else { event }).collect();
        self.gitea.edit_hook(repository.as_str(), hook, &json!({ "active": false, "events": events })).await.unwrap();
    }

    fn writes(&self) -> usize {
        self.proxy.count(testkit::fault_proxy::Exchange::is_write)
    }
}

async fn subject(env: &ProviderEnv) -> Result<Subject> {
    let gitea = env.gitea;
    for (name, empty) in [("shop", false), ("empty", true), ("archived", false), ("former", false), ("crowded", true)] {
        gitea.create_repository(&env.organization, name, empty).await?;
    }
    gitea.push_commit(&env.account, &env.path("shop"), "release/1.0", "A branch with a slash").await?;
    gitea.edit_repository(&env.path("archived"), &json!({ "archived": true })).await?;
    gitea.edit_repository(&env.path("former"), &json!({ "name": "present" })).await?;
    let (crowded, organization) = (env.path("crowded"), &env.organization);
    let hooks = (0..FOREIGN_HOOKS).map(|number| {
        let crowded = crowded.clone();
        async move { gitea.create_hook(&crowded, &format!("https://elsewhere.example/{number}"), &["push"]).await }
    });
    futures::stream::iter(hooks).buffered(4).try_collect::<Vec<_>>().await?;
    let fillers = (0..FILLERS).map(|number| async move { gitea.create_repository(organization, &format!("filler-{number}"), true).await });
    futures::stream::iter(fillers).buffered(4).try_collect::<Vec<_>>().await?;
    let outsider = gitea.create_user(&Gitea::unique_name("outsider"), OPERATOR_SCOPES).await?;
    let (host, path) = (env.proxy.url(), env.path("shop"));
    let authority = host.trim_start_matches("http://");
    Ok(Subject {
        provider: env.provider,
        endpoint: env.endpoint.clone(),
        client: env.operator(),
        rejected: env.with_token("0123456789abcdef0123456789abcdef01234567"),
        anonymous: env.client(Credential::Anonymous),
        repository: path.clone(),
        unknown: env.path("unknown"),
        target: "http://127.0.0.1:9".into(),
        prepared: Some(Prepared {
            outsider: env.with_token(&outsider.token),
            reader: None,
            account: env.account.name.clone(),
            clone_urls: vec![
                format!("{host}/{path}.git"),
                format!("http://ada@{authority}/{path}"),
                format!("git@127.0.0.1:{path}.git"),
                format!("ssh://git@127.0.0.1:2222/{path}.git"),
                format!("{host}/{path}/src/branch/main"),
            ],
            branch: "release/1.0".into(),
            empty: env.path("empty"),
            archived: Some(env.path("archived")),
            renamed: (env.path("former"), env.path("present")),
            crowded: (crowded, FOREIGN_HOOKS),
            repositories: FILLERS + 5,
            has_pages: true,
            tells_version: true,
            can_pause: true,
            by_hand: Box::new(AtGitea { gitea, proxy: Arc::clone(&env.proxy) }),
        }),
    })
}

#[tokio::test]
async fn gitea_keeps_the_contract_dv_02_dv_03_dv_22() -> Result<()> {
    let env = ProviderEnv::new().await?;
    run(&subject(&env).await?).await;
    Ok(())
}

#[tokio::test]
async fn the_conformance_program_asks_a_sandbox_and_leaves_nothing_behind() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let repository = env.repository("sandbox").await?;
    // Cargo builds the examples together with the tests, beside them.
    let program =
        std::env::current_exe()?.parent().and_then(|deps| deps.parent()).context("no target folder")?.join("examples/conformance");
    anyhow::ensure!(program.exists(), "{} is missing: cargo build --example conformance", program.display());
    let run = async |token: &str| {
        let run = tokio::process::Command::new(&program)
            .envs([("PROVIDER", "gitea"), ("URL", env.gitea.url()), ("TOKEN_ENV", "SANDBOX_TOKEN"), ("SANDBOX_TOKEN", token)])
            .envs([("REPOSITORY", repository.path.as_str()), ("TARGET", "http://127.0.0.1:9/conformance"), ("ACCOUNT_EMAIL", "")])
            .envs([("ALLOW_INSECURE_HTTP", "true"), ("ALLOW_CIDRS", "127.0.0.0/8")])
            .output()
            .await?;
        anyhow::Ok((run.status.success(), format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))))
    };
    let (kept, said) = run(&env.account.token).await?;
    assert!(kept && said.contains("The contract suite passed"), "{said}");
    assert!(env.gitea.hooks(repository.path.as_str()).await?.is_empty());
    let reader = env.gitea.create_token(&env.account, "reader", &["read:repository", "read:organization", "read:user"]).await?;
    let (kept, said) = run(&reader).await?;
    assert!(!kept && said.contains("the contract suite failed") && !said.contains(&reader), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_tokens_scopes_are_known_where_the_account_may_list_its_tokens() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let inspection = env.operator().inspect().await?;
    let mut expected: Vec<_> = OPERATOR_SCOPES.iter().map(|&scope| scope.to_owned()).collect();
    expected.sort();
    assert_eq!(inspection.grants, Grants::Known(expected));
    assert_eq!(inspection.credential_name.as_deref(), Some("operator"));

    let without_user = env.gitea.create_token(&env.account, "without-user", &["write:repository"]).await?;
    let client = env.with_token(&without_user);
    let inspection = client.inspect().await?;
    assert_eq!(inspection.identity.as_ref().unwrap().name, None, "valid, its name unknown");
    assert_eq!(inspection.grants, Grants::Known(vec!["write:repository".into()]));
    let finding = client.permission(&inspection, Permission::ReadOrganization);
    assert_eq!(finding.message.unwrap(), "needs scope read:organization; the token has write:repository");
    assert_eq!(client.permission(&inspection, Permission::ManageWebhooks).state, PermissionState::Granted);
    Ok(())
}

#[tokio::test]
async fn a_password_has_every_right_and_a_wrong_one_none() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let basic = |username: &str, password: &str| env.client(Credential::BasicAuth { username: username.into(), password: password.into() });
    let inspection = basic(ADMIN, ADMIN_PASSWORD).inspect().await?;
    assert_eq!(inspection.identity.unwrap().name.as_deref(), Some(ADMIN));
    assert_eq!(inspection.grants, Grants::Known(vec!["all".into()]));
    let as_password = basic("anybody", &env.account.token).inspect().await?;
    assert_eq!(as_password.identity.unwrap().name.as_deref(), Some(env.account.name.as_str()));
    assert_ne!(as_password.grants, Grants::Known(vec!["all".into()]), "a token in a password's place is a token");
    assert_eq!(basic(ADMIN, "not-the-password").inspect().await.unwrap_err().kind, ErrorKind::Unauthenticated);
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_to_a_creation_is_ambiguous_and_is_not_sent_again() -> Result<()> {
    let env = ProviderEnv::new().await?;
    let repository = env.repository("lost").await?;
    let client = env.operator();
    let (url, secret) = (HookUrl::new("http://127.0.0.1:9/hooks/lost".into()), secret(1));
    let shape = client.hook_shapes(&[EventKind::Push].into()).remove(0);
    let request = HookRequest { url: &url, secret: &secret, shape: &shape };
    let lost = env.proxy.inject_nth(Fault::LoseAnswer, 0, 1, |exchange| exchange.method == Method::POST);
    let error = client.create_hook(&repository, &request).await.unwrap_err();
    assert!(error.kind.is_ambiguous(), "{error}");
    assert_eq!(lost.hits(), 1);
    assert_eq!(client.hooks(&repository).await?.iter().filter(|hook| hook.url == url).count(), 1, "made once all the same");

    let _unavailable = env.proxy.inject_nth(Fault::Answer(StatusCode::BAD_GATEWAY), 0, usize::MAX, |_| true);
    env.proxy.forget();
    assert_eq!(client.create_hook(&repository, &request).await.unwrap_err().kind, ErrorKind::Transient);
    assert_eq!(env.proxy.exchanges().len(), 1);
    env.proxy.forget();
    assert_eq!(client.hooks(&repository).await.unwrap_err().kind, ErrorKind::Transient);
    assert_eq!(env.proxy.exchanges().len(), 3, "reads are tried again");
    Ok(())
}

#[tokio::test]
async fn real_deliveries_prove_themselves_and_tell_what_happened() -> Result<()> {
    use Change::{Created, Deleted, Updated};
    use EventKind::{PullRequest, PullRequestClosed, PullRequestComment, PullRequestMerged, Push, Tag};

    let env = ProviderEnv::new().await?;
    let repository = env.repository("delivers").await?;
    let client = env.operator();
    let sink = SinkServer::start().await?;
    let (url, secret) = (HookUrl::new(format!("http://127.0.0.1:{}/in", sink.port())), secret(7));
    let shape = client.hook_shapes(&EventKind::ALL.into_iter().collect()).remove(0);
    let hook = client.create_hook(&repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?;

    let (path, gitea) = (repository.path.as_str(), env.gitea);
    gitea.push_commit(&env.account, path, "main", "One").await?;
    gitea.push_commit(&env.account, path, "topic", "Two").await?;
    gitea.push_tag(&env.account, path, "v1").await?;
    let call = async |method: Method, rest: &str, body: Option<serde_json::Value>| {
        let (status, value) = gitea.call(method, &format!("/repos/{path}{rest}"), body.as_ref()).await.unwrap();
        assert!(status.is_success(), "{rest}: {status} {value}");
        value["number"].as_i64().unwrap_or_default()
    };
    let open = json!({ "head": "topic", "base": "main", "title": "Two" });
    let number = call(Method::POST, "/pulls", Some(open)).await;
    call(Method::POST, &format!("/issues/{number}/comments"), Some(json!({ "body": "Fine" }))).await;
    gitea.push_commit(&env.account, path, "topic", "Three").await?;
    call(Method::PATCH, &format!("/pulls/{number}"), Some(json!({ "state": "closed" }))).await;
    call(Method::PATCH, &format!("/pulls/{number}"), Some(json!({ "state": "open" }))).await;
    wait_until("Gitea to find the pull request mergeable", SOON, async || {
        let (status, value) =
            gitea.call(Method::POST, &format!("/repos/{path}/pulls/{number}/merge"), Some(&json!({ "Do": "merge" }))).await?;
        Ok(if status.is_success() { Seen::Done(()) } else { Seen::NotYet(format!("{status} {value}")) })
    })
    .await?;
    call(Method::DELETE, "/tags/v1", None).await;
    call(Method::DELETE, "/branches/topic", None).await;
    call(Method::POST, &format!("/hooks/{}/tests", hook.id), None).await;

    let expected = [
        (Push, "refs/heads/main", Updated),
        (Push, "refs/heads/topic", Created),
        (Tag, "refs/tags/v1", Created),
        (PullRequest, "refs/heads/main", Updated),
        (PullRequestComment, "refs/heads/main", Updated),
        (Push, "refs/heads/topic", Updated),
        (PullRequest, "refs/heads/main", Updated),
        (PullRequestClosed, "refs/heads/main", Updated),
        (PullRequest, "refs/heads/main", Updated),
        (PullRequestMerged, "refs/heads/main", Updated),
        (Push, "refs/heads/main", Updated),
        (Tag, "refs/tags/v1", Deleted),
        (Push, "refs/heads/topic", Deleted),
    ];
    let webhook = env.provider.webhook();
    let read = || -> Vec<Content> {
        let deliveries = sink.deliveries();
        let secrets = [testkit::contract::secret(6), secret.clone()];
        deliveries
            .iter()
            .map(|delivery| {
                assert!(webhook.verify(&secrets[..1], &delivery.headers, &delivery.body).is_err());
                let verified = webhook.verify(&secrets, &delivery.headers, &delivery.body).unwrap();
                assert_eq!(verified.secret(), 1);
                webhook.read(&verified).unwrap()
            })
            .collect()
    };
    let sorted = |mut events: Vec<(EventKind, String, String)>| {
        events.sort();
        events
    };
    let wanted = sorted(expected.iter().map(|(kind, reference, change)| (*kind, (*reference).to_owned(), format!("{change:?}"))).collect());
    let contents = wait_until("every delivery", SOON, async || {
        let contents = read();
        let events = contents.iter().flat_map(|content| &content.events);
        let found = sorted(events.map(|event| (event.kind, event.reference.clone().unwrap(), format!("{:?}", event.change))).collect());
        let done = found.len() >= wanted.len() && contents.iter().any(|content| content.ping);
        Ok(if done { Seen::Done((contents, found)) } else { Seen::NotYet(format!("{found:?}")) })
    })
    .await?;
    assert_eq!(contents.1, wanted);
    for content in &contents.0 {
        assert_eq!(content.repository_id.as_deref(), Some(repository.id.as_str()));
        assert_eq!(content.repository_path.as_deref(), Some(path));
    }
    Ok(())
}
