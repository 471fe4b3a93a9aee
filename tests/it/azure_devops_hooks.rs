//! The subscriptions of a binding at a simulated Azure DevOps, on the real API server: as many as are wanted, whatever goes
//! wrong on the way.

use anyhow::Result;
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::providers::Hook;
use forgebind::providers::model::HookState;
use http::{Method, StatusCode};
use serde_json::json;

use crate::objects::{CONNECTION, Objects, SOON, binding_message};
use crate::sim::azure_devops::state;
use crate::sim::{Act, Misbehaviour, Order, Refusal, Simulated};
use crate::support::operator::Operator;
use crate::support::shared;
use crate::support::sink::{Behavior, SinkServer};
use crate::support::wait::{Seen, wait_until};

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

    async fn bind(&self) -> Result<()> {
        let spec = json!({
            "connectionRef": {"name": CONNECTION}, "repository": self.simulated.welcome.repository,
            "webhook": {"events": ["Push", "Tag", "PullRequest"]},
        });
        self.objects.create_binding(BINDING, spec).await.map(drop)
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
async fn pk_19_a_binding_says_which_permissions_for_subscriptions_are_missing() -> Result<()> {
    let place = Place::new("azure-reader", &[("token", state::READERS_TOKEN)]).await?;
    place.bind().await?;
    let binding = place.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
    let message = binding_message(&binding, "WebhookInSync");
    assert!(message.contains("Delete subscriptions in project My Shop"), "{message}");
    assert_eq!(place.simulated.simulator.writes(), 0, "nothing was tried");
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
