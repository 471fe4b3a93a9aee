//! The subscriptions of a binding at a simulated Azure DevOps, on the real API server: exactly the wanted ones, whatever fails on
//! the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use forgebind::api::v1alpha1::{EventKind, ProviderKind};
use forgebind::protocol::secret::WebhookSecret;
use forgebind::providers::model::HookState;
use forgebind::providers::{Hook, HookRequest, HookUrl};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use testkit::operator::Operator;
use testkit::plain_http;
use testkit::shared;
use testkit::sim::azure_devops::state;
use testkit::sim::{Fault, Order, Outcome, Refusal, Simulated, UserAction};
use testkit::sink::{Behavior, SinkServer};
use testkit::test_namespace::{CONNECTION, SOON, TestNamespace, binding_condition, binding_message};
use testkit::wait::{Seen, wait_until};

const BINDING: &str = "shop";

struct ProviderEnv {
    objects: TestNamespace,
    simulated: Simulated,
    operator: Operator,
}

impl ProviderEnv {
    async fn new(name: &str, credential: &[(&str, &str)]) -> Result<Self> {
        let plane = shared::control_plane().await?;
        let objects = TestNamespace::new(plane, name).await?;
        let simulated = Simulated::new(ProviderKind::AzureDevOps).await?;
        plane.cluster().apply_secret(&objects.namespace, "credential", credential).await?;
        let operator = objects.operator().await?;
        let spec = json!({"provider": simulated.seed_data.provider, "credentials": {"secretRef": {"name": "credential"}}});
        objects.create_connection(spec).await?;
        Ok(Self { objects, simulated, operator })
    }

    fn spec(&self, webhook: &Value) -> Value {
        json!({"connectionRef": {"name": CONNECTION}, "repository": self.simulated.seed_data.repository, "webhook": webhook})
    }

    async fn bind(&self) -> Result<()> {
        self.objects.create_binding(BINDING, self.spec(&json!({"events": ["Push", "Tag", "PullRequest"]}))).await.map(drop)
    }

    async fn hooks(&self) -> Result<Vec<Hook>> {
        let client = self.simulated.operator();
        let found = client.repository(&self.simulated.path(&self.simulated.seed_data.repository)).await?;
        client.hooks(&found).await.map_err(Into::into)
    }

    fn order(&self, method: Method, containing: &str, skip: usize, status: u16) {
        let fault = Fault::Refuse(Refusal::Failed(status));
        self.simulated.simulator.order(Order { skip, ..Order::once(method, containing, fault) });
    }
}

#[tokio::test]
async fn pk_20_pk_24_pk_25_three_subscriptions_are_created_kept_and_removed_through_failures() -> Result<()> {
    let env = ProviderEnv::new("azure-three", &[("token", state::TOKEN)]).await?;
    env.order(Method::POST, "/subscriptions?", 1, 500);
    env.bind().await?;
    env.objects.binding_ready(BINDING).await?;
    let made = env.hooks().await?;
    assert_eq!(made.len(), 3, "{made:?}");
    let writes = env.simulated.simulator.writes();
    env.objects.wipe_status(BINDING).await?;
    env.objects.look_again(BINDING).await?;
    env.objects.binding_ready(BINDING).await?;
    assert_eq!(env.hooks().await?, made);
    assert_eq!(env.simulated.simulator.writes(), writes, "the existing subscriptions are found again");
    // The binding is deleted without its hooks, then created again.
    env.objects.patch_binding(BINDING, json!({"spec": {"deletionPolicy": "Orphan"}})).await?;
    env.objects.delete_binding(BINDING).await?;
    env.objects.binding_gone(BINDING, SOON).await?;
    env.bind().await?;
    env.objects.binding_ready(BINDING).await?;
    assert_eq!(env.hooks().await?, made);
    assert_eq!(env.simulated.simulator.writes(), writes, "binding again creates no subscription");
    env.order(Method::DELETE, "/subscriptions/", 1, 503);
    env.objects.delete_binding(BINDING).await?;
    env.objects.binding_gone(BINDING, SOON).await?;
    assert_eq!(env.hooks().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_subscription_on_probation_is_recreated() -> Result<()> {
    let env = ProviderEnv::new("azure-probation", &[("token", state::TOKEN)]).await?;
    env.bind().await?;
    env.objects.binding_ready(BINDING).await?;
    let made = env.hooks().await?;
    let repository = env.simulated.seed_data.repository.clone();
    let push = made.iter().find(|hook| hook.shape.variant == "git.push").expect("a subscription for pushes");
    let redirect = |url: &str| UserAction::RedirectHook { repository: repository.clone(), hook: push.id.clone(), url: url.to_owned() };
    let refusing = SinkServer::start().await?;
    refusing.behave(Behavior::Fail(StatusCode::PAYLOAD_TOO_LARGE));
    env.simulated.simulator.act(&redirect(&format!("http://127.0.0.1:{}/", refusing.port()))).await?;
    let commit = UserAction::Push { repository: repository.clone(), branch: "main".into(), message: "m".into() };
    env.simulated.simulator.act(&commit).await?;
    env.simulated.simulator.act(&redirect(push.url.expose())).await?;
    assert!(env.hooks().await?.iter().any(|hook| matches!(hook.state, HookState::Disabled(_))));
    env.objects.look_again(BINDING).await?;
    let binding = env.objects.binding_says(BINDING, "WebhookInSync", "False/DisabledByProvider").await?;
    assert!(binding_message(&binding, "WebhookInSync").contains("probation"));
    let anew = wait_until("three active subscriptions", SOON, async || {
        let hooks = env.hooks().await?;
        let fits = hooks.len() == 3 && hooks.iter().all(|hook| hook.state == HookState::Active && hook.id != push.id);
        Ok(if fits { Seen::Done(hooks) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    assert!(anew.iter().any(|hook| hook.url == push.url));
    env.objects.look_again(BINDING).await?;
    env.objects.binding_ready(BINDING).await?;
    assert_eq!(env.hooks().await?, anew);
    Ok(())
}

/// The user names of the subscriptions that deliver to a URL under this one, by their type.
async fn usernames(env: &ProviderEnv, url: &str) -> Result<BTreeMap<String, String>> {
    let list = format!("{}/acme/_apis/hooks/subscriptions?api-version=7.1", env.simulated.simulator.url());
    let list: Value = plain_http::client()?.get(list).basic_auth("", Some(state::TOKEN)).send().await?.json().await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = list["value"].as_array().cloned().unwrap_or_default();
    let ours = all.iter().filter(|found| text(&found["consumerInputs"]["url"]).starts_with(url));
    Ok(ours.map(|found| (text(&found["eventType"]), text(&found["consumerInputs"]["basicAuthUsername"]))).collect())
}

/// The numbers of the pull requests of which a delivery of this type was sent, and of those of which one was answered 2xx.
fn pull_requests(env: &ProviderEnv, event_type: &str) -> [BTreeSet<u64>; 2] {
    let (mut sent, mut accepted) = (BTreeSet::new(), BTreeSet::new());
    for delivery in env.simulated.simulator.sent() {
        let body: Value = serde_json::from_slice(&delivery.delivery.body).unwrap_or_default();
        let (Some(number), true) = (body["resource"]["pullRequestId"].as_u64(), body["eventType"] == event_type) else { continue };
        sent.insert(number);
        if delivery.outcome.is_success() {
            accepted.insert(number);
        }
    }
    [sent, accepted]
}

#[tokio::test]
async fn pk_29_bb_17_a_changed_pair_reaches_all_three_subscriptions_and_no_delivery_is_lost_meanwhile() -> Result<()> {
    let env = ProviderEnv::new("azure-login", &[("token", state::TOKEN)]).await?;
    let login = async |username: &str| {
        let password = format!("a-password-of-the-user-{username}");
        let data = [("username", username), ("password", password.as_str())];
        env.objects.cluster().apply_secret(&env.objects.namespace, "login", &data).await
    };
    login("before").await?;
    let webhook = json!({"events": ["PullRequest", "PullRequestMerged"], "secretRef": {"name": "login"}});
    env.objects.create_binding(BINDING, env.spec(&webhook)).await?;
    env.objects.binding_ready(BINDING).await?;
    let made: BTreeSet<String> = env.hooks().await?.into_iter().map(|hook| hook.url.expose().to_owned()).collect();
    let types = ["git.pullrequest.created", "git.pullrequest.merged", "git.pullrequest.updated"];
    let with = |username: &str| types.into_iter().map(|of| (of.to_owned(), username.to_owned())).collect::<BTreeMap<_, _>>();
    let receiver = env.operator.url();
    assert_eq!(usernames(&env, &receiver).await?, with("before"));

    // Pull requests are opened all the time while the pair changes.
    let (opened, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let repository = &env.simulated.seed_data.repository;
    let developers = async {
        while !over.load(Ordering::SeqCst) {
            let (source, title) = (format!("topic-{}", opened.fetch_add(1, Ordering::SeqCst)), "One".to_owned());
            let (branch, message) = (source.clone(), "m".to_owned());
            env.simulated.simulator.act(&UserAction::Push { repository: repository.clone(), branch, message }).await?;
            let open = UserAction::OpenPullRequest { repository: repository.clone(), source, target: "main".to_owned(), title };
            env.simulated.simulator.act(&open).await?;
        }
        anyhow::Ok(())
    };
    let change = async {
        let more = async |least: u64| {
            wait_until("further pull requests", SOON, async || {
                let count = opened.load(Ordering::SeqCst);
                Ok(if count >= least { Seen::Done(()) } else { Seen::NotYet(count.to_string()) })
            })
            .await
        };
        more(5).await?;
        login("after").await?;
        wait_until("every subscription to carry the new pair", SOON, async || {
            let (found, urls) = (usernames(&env, &receiver).await?, env.hooks().await?);
            let is_new = found == with("after") && urls.len() == 3 && urls.iter().all(|hook| !made.contains(hook.url.expose()));
            Ok(if is_new { Seen::Done(()) } else { Seen::NotYet(format!("{found:?} {urls:?}")) })
        })
        .await?;
        more(opened.load(Ordering::SeqCst) + 5).await?;
        over.store(true, Ordering::SeqCst);
        anyhow::Ok(())
    };
    futures::future::try_join(developers, change).await?;
    // The provider repeats what was answered 503 during the change: eight times within 183 s.
    env.simulated.simulator.advance(Duration::from_secs(200)).await;
    let [sent, accepted] = pull_requests(&env, "git.pullrequest.created");
    eprintln!("figure: {} pull requests while the pair changed", sent.len());
    assert_eq!(sent.len() as u64, opened.load(Ordering::SeqCst), "each was told");
    assert_eq!(accepted, sent, "each was accepted");
    let outcomes = env.simulated.simulator.sent();
    assert!(outcomes.iter().all(|sent| sent.outcome != Outcome::Answered(401)), "nothing was ever taken for a forgery");
    env.objects.binding_says(BINDING, "Receiving", "True/Succeeded").await?;
    Ok(())
}

#[tokio::test]
async fn an_adopted_hook_whose_password_would_be_lost_keeps_its_mark_until_the_secret_is_back() -> Result<()> {
    let env = ProviderEnv::new("azure-adopted", &[("token", state::TOKEN)]).await?;
    env.objects.apply_grant("ci", json!({"destinationHosts": ["ci.acme.example"]})).await?;
    let own = async || env.objects.cluster().apply_secret(&env.objects.namespace, "own", &[("secret", "a-secret-of-the-owner")]).await;
    own().await?;
    let client = env.simulated.operator();
    let found = client.repository(&env.simulated.path(&env.simulated.seed_data.repository)).await?;
    let url = HookUrl::new("https://ci.acme.example/hooks?job=shop".to_owned());
    let shape = client.hook_shapes(&[EventKind::Push].into()).remove(0);
    let secret = WebhookSecret::Text("a-secret-of-the-owner".into());
    let theirs = client.create_hook(&found, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?;
    let webhook = json!({"events": ["Push"], "url": url.expose(), "secretRef": {"name": "own"}, "adopt": true});
    env.objects.create_binding(BINDING, env.spec(&webhook)).await?;
    env.objects.binding_ready(BINDING).await?;
    let marked = env.hooks().await?;
    assert!(marked.len() == 1 && marked[0].id == theirs.id && marked[0].url != url, "{marked:?}");

    let secrets: Api<Secret> = Api::namespaced(env.objects.cluster().client()?, &env.objects.namespace);
    secrets.delete("own", &DeleteParams::default()).await?;
    env.objects.delete_binding(BINDING).await?;
    let blocked = env
        .objects
        .binding_until(BINDING, "blocked", SOON, |binding| binding_condition(binding, "CleanupBlocked").starts_with("True"))
        .await?;
    let message = binding_message(&blocked, "CleanupBlocked");
    let named = format!("Secret {}/own (webhook.secretRef) no longer exists", env.objects.namespace);
    assert!(message.contains(&named), "{message}");
    assert_eq!(env.hooks().await?, marked, "nothing was removed");
    own().await?;
    env.objects.binding_gone(BINDING, SOON).await?;
    assert_eq!(env.hooks().await?, [Hook { url, ..theirs }], "with its password");
    Ok(())
}

#[tokio::test]
async fn pk_19_a_binding_names_the_missing_permissions_for_subscriptions() -> Result<()> {
    let env = ProviderEnv::new("azure-reader", &[("token", state::READERS_TOKEN)]).await?;
    env.bind().await?;
    let binding = env.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
    let message = binding_message(&binding, "WebhookInSync");
    assert!(message.contains("Delete subscriptions in project My Shop"), "{message}");
    assert_eq!(env.simulated.simulator.writes(), 0, "nothing was tried");
    Ok(())
}

/// A credential that may create subscriptions but not delete them would leave them behind, so the controller creates none.
#[tokio::test]
async fn creates_no_subscription_without_the_permission_to_delete_it_and_names_that_permission() -> Result<()> {
    let env = ProviderEnv::new("azure-editor", &[("token", state::EDITORS_TOKEN)]).await?;
    env.objects.connection_ready().await?;
    env.bind().await?;
    let binding = env.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/PermissionMissing");
    let message = binding_message(&binding, "WebhookInSync");
    assert!(message.contains("the permission Delete subscriptions in project My Shop"), "{message}");
    assert!(!message.contains("View subscriptions") && !message.contains("Edit subscriptions"), "those permissions are granted: {message}");
    env.objects.look_again(BINDING).await?;
    assert_eq!(env.hooks().await?, []);
    assert_eq!(env.simulated.simulator.writes(), 0, "nothing was tried");
    Ok(())
}

/// Normally the finalizer lets the controller clean up before a connection is gone. If somebody removes it by hand, only the
/// watch reports the deletion: the controller must not use the credential after that.
#[tokio::test]
async fn a_credential_is_unused_after_its_connection_lost_the_finalizer_by_hand_and_is_gone() -> Result<()> {
    let env = ProviderEnv::new("stripped", &[("token", state::TOKEN)]).await?;
    env.bind().await?;
    env.objects.binding_ready(BINDING).await?;
    let made = env.hooks().await?;
    // The deletion of a suspended connection leaves the hooks in place.
    env.objects.patch_connection(json!({"spec": {"suspend": true}})).await?;
    env.objects.binding_says(BINDING, "Ready", "False/Suspended").await?;
    env.objects.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    env.objects.patch_connection(json!({"metadata": {"finalizers": null}})).await?;
    wait_until("the connection to be gone", SOON, async || {
        let connection = env.objects.connections.get_opt(CONNECTION).await?;
        Ok(if connection.is_none() { Seen::Done(()) } else { Seen::NotYet(format!("{connection:?}")) })
    })
    .await?;
    env.objects.binding_says(BINDING, "ConnectionReady", "False/ConnectionNotFound").await?;
    let asked = env.simulated.simulator.exchanges().len();
    env.objects.delete_binding(BINDING).await?;
    let blocked = env
        .objects
        .binding_until(BINDING, "blocked", SOON, |binding| binding_condition(binding, "CleanupBlocked").starts_with("True"))
        .await?;
    let message = binding_message(&blocked, "CleanupBlocked");
    assert!(message.contains("the connection and its credential no longer exist"), "{message}");
    assert_eq!(env.simulated.simulator.exchanges().len(), asked, "no request was sent with it");
    assert_eq!(env.hooks().await?, made);
    Ok(())
}

#[tokio::test]
async fn df_17_df_19_a_credential_for_git_alone_makes_a_connection_ready() -> Result<()> {
    let env = ProviderEnv::new("azure-git", &[("username", state::GIT_USER), ("password", state::GIT_PASSWORD)]).await?;
    env.objects.connection_ready().await?;
    let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": env.simulated.seed_data.repository});
    env.objects.create_binding(BINDING, spec).await?;
    let binding = env.objects.binding_ready(BINDING).await?;
    assert_eq!(binding.status.and_then(|status| status.repository).map(|found| found.empty), Some(false));
    env.objects.patch_binding(BINDING, json!({"spec": {"webhook": {"events": ["Push"]}}})).await?;
    let binding = env.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
    assert!(binding_message(&binding, "WebhookInSync").contains("git only"));
    Ok(())
}
