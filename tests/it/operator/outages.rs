//! What an outage of the receiver does to the webhooks of each provider, played through by the provider's clock, and that a sink
//! that is down does nothing to them. The table of the guide is the result.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::providers::model::HookState;
use futures::future::try_join_all;
use http::StatusCode;

use testkit::components::repository_root;
use testkit::generated::compare;
use testkit::operator::{Operator, executable};
use testkit::provider_env::{BINDING, ProviderEnv};
use testkit::shared;
use testkit::sim::{ProviderEvent, Simulated, UserAction};
use testkit::sink::{Behavior, SinkServer};
use testkit::test_env::TestEnv;
use testkit::test_namespace::{OVERLAPPED, SOON, TestNamespace, binding_condition, binding_message};
use testkit::wait::{Seen, wait_until};

const PAGE: &str = "src/docs/guide/platform/high-availability.md";
const HEADER: &str = "| provider | 1 s, connection refused | 1 s | 3 min | 6 h |";
/// Longer than the last retry of a delivery that failed at the end of an outage, and not as long as a retry of a probation.
const RETRIED: Duration = Duration::from_secs(4 * 60);
/// Pushes in an outage at the real Gitea, which does nothing by time.
const PUSHES_AT_GITEA: usize = 2;

/// What providers meet at the address of the receiver meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Instead {
    /// Nothing listens.
    Nothing,
    /// A load balancer without a receiver that is ready answers 503.
    LoadBalancer,
}

/// An outage of all receivers, with a push at its beginning and after each pause.
struct Outage {
    length: Duration,
    pause: Duration,
    instead: Instead,
}

/// In the order of the columns of the table.
const OUTAGES: [Outage; 4] = [
    Outage { length: Duration::from_secs(1), pause: Duration::from_secs(1), instead: Instead::Nothing },
    Outage { length: Duration::from_secs(1), pause: Duration::from_secs(1), instead: Instead::LoadBalancer },
    Outage { length: Duration::from_secs(3 * 60), pause: Duration::from_secs(30), instead: Instead::LoadBalancer },
    SIX_HOURS,
];
const SIX_HOURS: Outage =
    Outage { length: Duration::from_secs(6 * 60 * 60), pause: Duration::from_secs(10 * 60), instead: Instead::LoadBalancer };

/// A provider, the objects, and an operator whose receiver is a process of its own.
struct Env {
    at: Provider,
    _controller: Operator,
}

enum Provider {
    Simulated(Box<ProviderEnv>),
    Gitea(Box<TestEnv>, Box<Operator>),
}

/// A controller, and its receiver.
async fn operators(objects: &TestNamespace) -> Result<(Operator, Operator)> {
    let options = objects.options().await?;
    // The receiver reads its derived key from the Secret that the controller writes at its first start.
    let controller = Operator::start(options.beside()?.only("controller").with("receivers", &options.admin_url())).await?;
    Ok((controller, Operator::start(options.only("receiver")).await?))
}

impl Env {
    /// A repository with a connection, without a binding.
    async fn new(kind: ProviderKind) -> Result<Self> {
        let name = format!("outage-{}", kind.flag());
        if kind == ProviderKind::Gitea {
            let env = Box::new(TestEnv::new(&name).await?);
            let (controller, receiver) = operators(&env).await?;
            env.create_connection(env.connection_spec()).await?;
            return Ok(Self { at: Provider::Gitea(env, Box::new(receiver)), _controller: controller });
        }
        let objects = TestNamespace::new(shared::control_plane().await?, &name).await?;
        let (controller, operator) = operators(&objects).await?;
        let env = ProviderEnv { objects, simulated: Simulated::new(kind).await?, operator };
        env.connect(&env.simulated.seed_data.credential).await?;
        Ok(Self { at: Provider::Simulated(Box::new(env)), _controller: controller })
    }

    /// Makes the binding, anew if it exists: the controller knows of no earlier outage then, which lies back further than the
    /// pause between two new webhooks.
    async fn bind(&self) -> Result<()> {
        let objects = self.objects();
        if objects.bindings.get_opt(BINDING).await?.is_some() {
            objects.delete_binding(BINDING).await?;
            objects.binding_gone(BINDING, SOON).await?;
        }
        match &self.at {
            Provider::Simulated(env) => env.bind().await,
            Provider::Gitea(env, _) => {
                env.create_binding(BINDING, env.binding_spec()).await?;
                env.binding_ready(BINDING).await.map(drop)
            }
        }
    }

    fn objects(&self) -> &TestNamespace {
        match &self.at {
            Provider::Simulated(env) => &env.objects,
            Provider::Gitea(env, _) => env,
        }
    }

    fn receiver(&self) -> &Operator {
        match &self.at {
            Provider::Simulated(env) => &env.operator,
            Provider::Gitea(_, receiver) => receiver,
        }
    }

    fn repository(&self) -> String {
        match &self.at {
            Provider::Simulated(env) => env.repository(),
            Provider::Gitea(env, _) => env.repository.clone(),
        }
    }

    /// Pushes a commit, and returns it.
    async fn push(&self) -> Result<String> {
        let env = match &self.at {
            Provider::Gitea(env, _) => return env.push("in an outage").await,
            Provider::Simulated(env) => env,
        };
        let push = UserAction::Push { repository: env.repository(), branch: "main".to_owned(), message: "A commit".to_owned() };
        match env.act(push).await?.as_slice() {
            [ProviderEvent::Reference { after: Some(commit), .. }] => Ok(commit.clone()),
            other => anyhow::bail!("not one push: {other:?}"),
        }
    }

    /// Pushes during an outage of receivers or a sink, by the provider's clock. At its end that is the machine's time, so that the
    /// provider and the operator agree how long a pause still lasts.
    async fn push_for(&self, outage: &Outage) -> Result<Vec<String>> {
        let mut pushed = Vec::new();
        let Provider::Simulated(env) = &self.at else {
            for _ in 0..PUSHES_AT_GITEA {
                pushed.push(self.push().await?);
            }
            return Ok(pushed);
        };
        let simulator = &env.simulated.simulator;
        simulator.clock().hold(outage.length);
        for _ in 0..outage.length.as_secs() / outage.pause.as_secs() {
            pushed.push(self.push().await?);
            simulator.advance(outage.pause).await;
        }
        Ok(pushed)
    }

    async fn advance(&self, by: Duration) {
        if let Provider::Simulated(env) = &self.at {
            env.simulated.simulator.advance(by).await;
        }
    }

    /// The webhooks: their ids, and whether they deliver, as the provider says.
    async fn hooks(&self) -> Result<BTreeMap<String, HookState>> {
        Ok(match &self.at {
            Provider::Simulated(env) => env.hooks(&env.repository()).await?.into_iter().map(|hook| (hook.id, hook.state)).collect(),
            Provider::Gitea(env, receiver) => {
                let state = |active| if active { HookState::Active } else { HookState::Paused };
                env.hooks_at(&receiver.url()).await?.into_iter().map(|hook| (hook.id.to_string(), state(hook.active))).collect()
            }
        })
    }

    /// The ids under which the events of commits reached the sink. No event reached it twice.
    fn arrived(&self, commits: &[String]) -> Result<BTreeMap<String, String>> {
        let mut ids = BTreeMap::new();
        for event in self.objects().sink.accepted() {
            let commit = event.header("ce-forgebindafter").to_owned();
            if commits.contains(&commit) {
                let before = ids.insert(commit.clone(), event.header("ce-id").to_owned());
                ensure!(before.is_none(), "{commit} reached the sink as {before:?} and as {}", event.header("ce-id"));
            }
        }
        let distinct: BTreeSet<_> = ids.values().collect();
        ensure!(distinct.len() == ids.len(), "an id was used twice: {ids:?}");
        Ok(ids)
    }

    async fn all_arrive(&self, commits: &[String], deadline: Duration) -> Result<()> {
        wait_until("the events of all pushes at the sink", deadline, async || {
            let arrived = self.arrived(commits)?.len();
            Ok(if arrived == commits.len() { Seen::Done(()) } else { Seen::NotYet(format!("{arrived} of {}", commits.len())) })
        })
        .await
    }

    /// What `forgebind why` says about a commit.
    async fn why(&self, commit: &str) -> Result<String> {
        let objects = self.objects();
        let mut command = tokio::process::Command::new(executable()?);
        command.args(["why", &self.repository(), "-n", &objects.namespace, "--sha", commit]).env_clear();
        let output = command.env("KUBECONFIG", objects.cluster().kubeconfig()).output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What an outage did.
struct Observed {
    pushed: usize,
    lost: usize,
    /// What the provider did to the webhook that receives pushes; `None`: nothing.
    reaction: Option<&'static str>,
    replaced: bool,
}

impl Observed {
    fn cell(&self) -> String {
        let lost = match self.lost {
            0 => "none lost".to_owned(),
            lost if lost == self.pushed => "all lost".to_owned(),
            lost => format!("{lost} of {} lost", self.pushed),
        };
        let reaction = self.reaction.map(|reaction| format!("; {reaction}")).unwrap_or_default();
        lost + &reaction + if self.replaced { ", replaced" } else { "" }
    }
}

/// What became of a webhook, in the words of the table.
fn reaction(hooks: &BTreeMap<String, HookState>) -> Option<&'static str> {
    hooks.values().find_map(|state| match state {
        HookState::Active => None,
        HookState::Paused => Some("switched off"),
        HookState::HeldBack { .. } => Some("paused"),
        HookState::Disabled(cause) if cause.contains("probation") => Some("on probation"),
        HookState::Disabled(cause) if cause.contains("Bitbucket skips") => Some("skipped"),
        HookState::Disabled(_) => Some("disabled"),
    })
}

async fn outage(env: &Env, outage: &Outage) -> Result<Observed> {
    let (objects, receiver) = (env.objects(), env.receiver());
    env.bind().await?;
    let before = env.hooks().await?;
    receiver.kill();
    let address: SocketAddr = receiver.url().trim_start_matches("http://").parse()?;
    let load_balancer = match outage.instead {
        Instead::Nothing => None,
        Instead::LoadBalancer => Some(SinkServer::start_at(address).await?),
    };
    if let Some(load_balancer) = &load_balancer {
        load_balancer.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
    }
    let pushed = env.push_for(outage).await?;
    let during = env.hooks().await?;
    ensure!(during.keys().eq(before.keys()), "nobody but the controller replaces a webhook: {before:?}, {during:?}");
    // The controller sees it while no receiver runs.
    let binding = objects.look_again(BINDING).await?;
    let expected = if reaction(&during).is_some() { "False/DisabledByProvider" } else { "True/Succeeded" };
    let condition = binding_condition(&binding, "WebhookInSync");
    ensure!(condition == expected, "{condition} {}, and the webhooks are {during:?}", binding_message(&binding, "WebhookInSync"));
    drop(load_balancer);
    receiver.restart().await?;
    env.advance(RETRIED).await;

    // From now on everything is delivered again.
    let later = env.push().await?;
    env.all_arrive(std::slice::from_ref(&later), SOON).await?;
    objects.look_again(BINDING).await?;
    objects.binding_ready(BINDING).await?;
    let after = env.hooks().await?;
    ensure!(after.len() == before.len() && after.values().all(|state| *state == HookState::Active), "{after:?}");
    let arrived = env.arrived(&pushed)?;
    if let Some(lost) = pushed.iter().find(|commit| !arrived.contains_key(*commit)) {
        let told = env.why(lost).await?;
        ensure!(told.contains("no delivery with this commit"), "{told}");
    }
    let replaced = !after.keys().eq(before.keys());
    Ok(Observed { pushed: pushed.len(), lost: pushed.len() - arrived.len(), reaction: reaction(&during), replaced })
}

/// A sink does not answer for as long: the provider gets 2xx for every delivery, and nothing happens to the webhook.
async fn outage_of_the_sink(env: &Env) -> Result<()> {
    let objects = env.objects();
    let before = env.hooks().await?;
    if let Provider::Simulated(env) = &env.at {
        env.simulated.simulator.forget();
    }
    objects.sink.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
    let pushed = env.push_for(&SIX_HOURS).await?;
    ensure!(env.hooks().await? == before, "the webhooks stay as they are");
    ensure!(env.arrived(&pushed)?.is_empty(), "the sink is down");
    if let Provider::Simulated(env) = &env.at {
        let sent = env.simulated.simulator.sent();
        ensure!(sent.len() >= pushed.len() && sent.iter().all(|sent| sent.outcome.is_success()), "{sent:?}");
    }
    let binding = objects.look_again(BINDING).await?;
    ensure!(binding_condition(&binding, "WebhookInSync") == "True/Succeeded", "{:?}", binding.status);
    objects.sink.behave(Behavior::Accept);
    env.all_arrive(&pushed, OVERLAPPED).await
}

/// The row of a provider.
async fn row(kind: ProviderKind) -> Result<String> {
    let env = Env::new(kind).await?;
    let mut cells = Vec::new();
    for (position, planned) in OUTAGES.iter().enumerate() {
        let observed = outage(&env, planned).await.with_context(|| format!("{kind}, outage {position}"))?;
        cells.push(observed.cell());
    }
    outage_of_the_sink(&env).await.with_context(|| format!("{kind}, outage of the sink"))?;
    let name = match kind {
        ProviderKind::GitHub => "GitHub",
        ProviderKind::GitLab => "GitLab",
        ProviderKind::BitbucketCloud => "Bitbucket Cloud",
        ProviderKind::BitbucketDataCenter => "Bitbucket Data Center",
        ProviderKind::AzureDevOps => "Azure DevOps",
        ProviderKind::Gitea => "Gitea",
    };
    Ok(format!("| {name} | {} |\n", cells.join(" | ")))
}

/// Compares the table with that of the guide.
fn compare_with_the_guide(path: &Path, rows: &[String]) -> Result<()> {
    let page = std::fs::read_to_string(path)?;
    let (before, rest) = page.split_once(HEADER).context("the table is missing")?;
    let (_, after) = rest.split_once("\n\n").context("the end of the table")?;
    compare(path, &format!("{before}{HEADER}\n| --- | --- | --- | --- | --- |\n{}\n{after}", rows.concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_receiver_has_the_documented_consequences_and_one_of_a_sink_has_none() -> Result<()> {
    let rows = try_join_all(ProviderKind::ALL.map(row)).await?;
    compare_with_the_guide(&repository_root().join(PAGE), &rows)
}
