//! The subscriptions of a binding at a simulated Azure DevOps, on the real API server: as many as are wanted, whatever goes
//! wrong on the way.

use anyhow::Result;
use forgebind::api::v1alpha1::{EventKind, ProviderKind};
use forgebind::providers::model::HookState;
use forgebind::providers::webhook::WebhookSecret;
use forgebind::providers::{Hook, HookRequest, HookUrl};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use testkit::objects::{CONNECTION, Objects, SOON, binding_condition, binding_message};
use testkit::operator::Operator;
use testkit::shared;
use testkit::sim::azure_devops::state;
use testkit::sim::{Act, Misbehaviour, Order, Refusal, Simulated};
use testkit::sink::{Behavior, SinkServer};
use testkit::wait::{Seen, wait_until};

const BINDING: &str = "shop";

struct Place {
    objects: Objects,
    simulated: Simulated,
    /// Runs as long as the place is there.
    _operator: Operator,
}

impl Place {
    async fn new(name: &str, credential: &[(&str, &str)]) -> Result<Self> {
        let plane = shared::control_plane().await?;
        let objects = Objects::new(plane, name).await?;
        let simulated = Simulated::new(ProviderKind::AzureDevOps).await?;
        plane.cluster().apply_secret(&objects.namespace, "credential", credential).await?;
        let operator = objects.operator().await?;
        let spec = json!({"provider": simulated.welcome.provider, "credentials": {"secretRef": {"name": "credential"}}});
        objects.create_connection(spec).await?;
        Ok(Self { objects, simulated, _operator: operator })
    }

    fn spec(&self, webhook: &Value) -> Value {
        json!({"connectionRef": {"name": CONNECTION}, "repository": self.simulated.welcome.repository, "webhook": webhook})
    }

    async fn bind(&self) -> Result<()> {
        self.objects.create_binding(BINDING, self.spec(&json!({"events": ["Push", "Tag", "PullRequest"]}))).await.map(drop)
    }

    async fn hooks(&self) -> Result<Vec<Hook>> {
        let client = self.simulated.operator();
        let found = client.repository(&self.simulated.path(&self.simulated.welcome.repository)).await?;
        client.hooks(&found).await.map_err(Into::into)
    }

    fn order(&self, method: Method, containing: &str, skip: usize, status: u16) {
        let misbehaviour = Misbehaviour::Refuse(Refusal::Failed(status));
        self.simulated.simulator.order(Order { skip, ..Order::once(method, containing, misbehaviour) });
    }
}

#[tokio::test]
async fn pk_20_pk_24_pk_25_three_are_made_and_kept_and_removed_through_failures() -> Result<()> {
    let place = Place::new("azure-three", &[("token", state::TOKEN)]).await?;
    place.order(Method::POST, "/subscriptions?", 1, 500);
    place.bind().await?;
    place.objects.binding_ready(BINDING).await?;
    let made = place.hooks().await?;
    assert_eq!(made.len(), 3, "{made:?}");
    let writes = place.simulated.simulator.writes();
    place.objects.wipe_status(BINDING).await?;
    place.objects.look_again(BINDING).await?;
    place.objects.binding_ready(BINDING).await?;
    assert_eq!(place.hooks().await?, made);
    assert_eq!(place.simulated.simulator.writes(), writes, "what is there is found again");
    // Detached without its hooks and attached once more.
    place.objects.patch_binding(BINDING, json!({"spec": {"deletionPolicy": "Orphan"}})).await?;
    place.objects.delete_binding(BINDING).await?;
    place.objects.binding_gone(BINDING, SOON).await?;
    place.bind().await?;
    place.objects.binding_ready(BINDING).await?;
    assert_eq!(place.hooks().await?, made);
    assert_eq!(place.simulated.simulator.writes(), writes, "a second attachment makes nothing new");
    place.order(Method::DELETE, "/subscriptions/", 1, 503);
    place.objects.delete_binding(BINDING).await?;
    place.objects.binding_gone(BINDING, SOON).await?;
    assert_eq!(place.hooks().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_subscription_on_probation_is_made_anew() -> Result<()> {
    let place = Place::new("azure-probation", &[("token", state::TOKEN)]).await?;
    place.bind().await?;
    place.objects.binding_ready(BINDING).await?;
    let made = place.hooks().await?;
    let repository = place.simulated.welcome.repository.clone();
    let push = made.iter().find(|hook| hook.shape.part == "git.push").expect("pushes are told of");
    let redirect = |url: &str| Act::RedirectHook { repository: repository.clone(), hook: push.id.clone(), url: url.to_owned() };
    let refusing = SinkServer::start().await?;
    refusing.behave(Behavior::Fail(StatusCode::PAYLOAD_TOO_LARGE));
    place.simulated.simulator.act(&redirect(&format!("http://127.0.0.1:{}/", refusing.port()))).await?;
    let commit = Act::Push { repository: repository.clone(), branch: "main".into(), message: "m".into() };
    place.simulated.simulator.act(&commit).await?;
    place.simulated.simulator.act(&redirect(push.url.expose())).await?;
    assert!(place.hooks().await?.iter().any(|hook| matches!(hook.state, HookState::Disabled(_))));
    place.objects.look_again(BINDING).await?;
    let binding = place.objects.binding_says(BINDING, "WebhookInSync", "False/DisabledByProvider").await?;
    assert!(binding_message(&binding, "WebhookInSync").contains("probation"));
    let anew = wait_until("three that deliver", SOON, async || {
        let hooks = place.hooks().await?;
        let fits = hooks.len() == 3 && hooks.iter().all(|hook| hook.state == HookState::Active && hook.id != push.id);
        Ok(if fits { Seen::Done(hooks) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    assert!(anew.iter().any(|hook| hook.url == push.url));
    place.objects.look_again(BINDING).await?;
    place.objects.binding_ready(BINDING).await?;
    assert_eq!(place.hooks().await?, anew);
    Ok(())
}

#[tokio::test]
async fn a_new_user_name_alone_reaches_the_hooks_and_what_they_deliver_is_accepted() -> Result<()> {
    let place = Place::new("azure-login", &[("token", state::TOKEN)]).await?;
    let login = async |username: &str| {
        let data = [("username", username), ("password", "a-password-of-the-user")];
        place.objects.cluster().apply_secret(&place.objects.namespace, "login", &data).await
    };
    login("before").await?;
    place.objects.create_binding(BINDING, place.spec(&json!({"events": ["Push"], "secretRef": {"name": "login"}}))).await?;
    place.objects.binding_ready(BINDING).await?;
    let made = place.hooks().await?;
    login("after").await?;
    wait_until("the hook to carry another login", SOON, async || {
        let hooks = place.hooks().await?;
        Ok(if hooks.len() == 1 && hooks[0].url != made[0].url { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    let repository = place.simulated.welcome.repository.clone();
    place.simulated.simulator.act(&Act::Push { repository, branch: "main".into(), message: "m".into() }).await?;
    place.objects.binding_says(BINDING, "Receiving", "True/Succeeded").await?;
    Ok(())
}

#[tokio::test]
async fn an_adopted_hook_whose_password_would_be_lost_keeps_its_mark_until_the_secret_is_back() -> Result<()> {
    let place = Place::new("azure-adopted", &[("token", state::TOKEN)]).await?;
    let grant = json!([{"namespaces": {"from": "Same"}, "destinationHosts": ["ci.acme.example"]}]);
    place.objects.patch_connection(json!({"spec": {"allowedBindings": grant}})).await?;
    let own = async || place.objects.cluster().apply_secret(&place.objects.namespace, "own", &[("secret", "a-secret-of-the-owner")]).await;
    own().await?;
    let client = place.simulated.operator();
    let found = client.repository(&place.simulated.path(&place.simulated.welcome.repository)).await?;
    let url = HookUrl::new("https://ci.acme.example/hooks?job=shop".to_owned());
    let shape = client.hook_shapes(&[EventKind::Push].into()).remove(0);
    let secret = WebhookSecret::Text("a-secret-of-the-owner".into());
    let theirs = client.create_hook(&found, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?;
    let webhook = json!({"events": ["Push"], "url": url.expose(), "secretRef": {"name": "own"}, "adopt": true});
    place.objects.create_binding(BINDING, place.spec(&webhook)).await?;
    place.objects.binding_ready(BINDING).await?;
    let marked = place.hooks().await?;
    assert!(marked.len() == 1 && marked[0].id == theirs.id && marked[0].url != url, "{marked:?}");

    let secrets: Api<Secret> = Api::namespaced(place.objects.cluster().client()?, &place.objects.namespace);
    secrets.delete("own", &DeleteParams::default()).await?;
    place.objects.delete_binding(BINDING).await?;
    let blocked = place
        .objects
        .binding_until(BINDING, "blocked", SOON, |binding| binding_condition(binding, "CleanupBlocked").starts_with("True"))
        .await?;
    let message = binding_message(&blocked, "CleanupBlocked");
    let named = format!("Secret {}/own, which webhook.secretRef names, is not there any more", place.objects.namespace);
    assert!(message.contains(&named), "{message}");
    assert_eq!(place.hooks().await?, marked, "nothing was taken away");
    own().await?;
    place.objects.binding_gone(BINDING, SOON).await?;
    assert_eq!(place.hooks().await?, [Hook { url, ..theirs }], "with its password");
    Ok(())
}

#[tokio::test]
async fn pk_19_a_binding_says_which_permissions_for_subscriptions_are_missing() -> Result<()> {
    let place = Place::new("azure-reader", &[("token", state::READERS_TOKEN)]).await?;
    place.bind().await?;
    let binding = place.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
    let message = binding_message(&binding, "WebhookInSync");
    assert!(message.contains("Delete subscriptions in project My Shop"), "{message}");
    assert_eq!(place.simulated.simulator.writes(), 0, "nothing was tried");
    Ok(())
}

/// Who may make subscriptions and not delete them would leave them behind: none is made.
#[tokio::test]
async fn who_may_edit_and_not_delete_subscriptions_is_told_the_one_permission_that_is_missing_and_nothing_is_made() -> Result<()> {
    let place = Place::new("azure-editor", &[("token", state::EDITORS_TOKEN)]).await?;
    place.objects.connection_ready().await?;
    place.bind().await?;
    let binding = place.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/PermissionMissing");
    let message = binding_message(&binding, "WebhookInSync");
    assert!(message.contains("the permission Delete subscriptions in project My Shop"), "{message}");
    assert!(!message.contains("View subscriptions") && !message.contains("Edit subscriptions"), "those are there: {message}");
    place.objects.look_again(BINDING).await?;
    assert_eq!(place.hooks().await?, []);
    assert_eq!(place.simulated.simulator.writes(), 0, "nothing was tried");
    Ok(())
}

/// The finalizer is what lets the controller forget a connection in order. Where somebody takes it off by hand, the watch's word
/// has to do: a credential is not used after its connection is gone.
#[tokio::test]
async fn the_credential_of_a_connection_that_lost_its_finalizer_by_hand_is_used_no_more_once_it_is_gone() -> Result<()> {
    let place = Place::new("stripped", &[("token", state::TOKEN)]).await?;
    place.bind().await?;
    place.objects.binding_ready(BINDING).await?;
    let made = place.hooks().await?;
    // A suspended connection leaves the hooks where they are while it is being deleted.
    place.objects.patch_connection(json!({"spec": {"suspend": true}})).await?;
    place.objects.binding_says(BINDING, "Ready", "False/Suspended").await?;
    place.objects.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    place.objects.patch_connection(json!({"metadata": {"finalizers": null}})).await?;
    wait_until("the connection to be gone", SOON, async || {
        let connection = place.objects.connections.get_opt(CONNECTION).await?;
        Ok(if connection.is_none() { Seen::Done(()) } else { Seen::NotYet(format!("{connection:?}")) })
    })
    .await?;
    place.objects.binding_says(BINDING, "ConnectionReady", "False/ConnectionNotFound").await?;
    let asked = place.simulated.simulator.exchanges().len();
    place.objects.delete_binding(BINDING).await?;
    let blocked = place
        .objects
        .binding_until(BINDING, "blocked", SOON, |binding| binding_condition(binding, "CleanupBlocked").starts_with("True"))
        .await?;
    let message = binding_message(&blocked, "CleanupBlocked");
    assert!(message.contains("the connection is gone, and with it the credential"), "{message}");
    assert_eq!(place.simulated.simulator.exchanges().len(), asked, "nobody was asked with it");
    assert_eq!(place.hooks().await?, made);
    Ok(())
}

#[tokio::test]
async fn df_17_df_19_a_login_for_git_alone_makes_a_connection_ready() -> Result<()> {
    let place = Place::new("azure-git", &[("username", state::GIT_USER), ("password", state::GIT_PASSWORD)]).await?;
    place.objects.connection_ready().await?;
    let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": place.simulated.welcome.repository});
    place.objects.create_binding(BINDING, spec).await?;
    let binding = place.objects.binding_ready(BINDING).await?;
    assert_eq!(binding.status.and_then(|status| status.repository).map(|found| found.empty), Some(false));
    place.objects.patch_binding(BINDING, json!({"spec": {"webhook": {"events": ["Push"]}}})).await?;
    let binding = place.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
    assert!(binding_message(&binding, "WebhookInSync").contains("git only"));
    Ok(())
}
