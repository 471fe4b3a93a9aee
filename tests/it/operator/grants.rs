//! `ConnectionGrant` at a real API server and a real Gitea: what it allows, what nobody gains by it, and that a missing one is not
//! yet a withdrawn one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::ConnectionGrant;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use testkit::gitea::Hook;
use testkit::operator::Operator;
use testkit::test_env::{CONNECTION, SOON, TestEnv, binding_condition, binding_message, grant_condition};
use testkit::wait::stays;

/// How long a test watches that something does not happen.
const A_WHILE: Duration = Duration::from_secs(4);

/// The namespace of a platform, with a connection, and the namespace of a team.
struct Tenancy {
    platform: TestEnv,
    team: TestEnv,
    operator: Operator,
}

impl Tenancy {
    async fn new(name: &str, missing_grant_timeout: &str) -> Result<Self> {
        let platform = TestEnv::new(name).await?;
        let namespace = format!("{}-team", platform.namespace);
        platform.cluster().create_namespace_named(&namespace).await?;
        let team = platform.within(&namespace)?;
        team.create_sink_service().await?;
        let options = platform.options_for(&[&namespace]).await?.with("missing-grant-timeout", missing_grant_timeout);
        let operator = Operator::start(options).await?;
        platform.create_connection(platform.connection_spec()).await?;
        platform.connection_ready().await?;
        Ok(Self { platform, team, operator })
    }

    fn binding(&self, connection: &str, repository: &str) -> Value {
        let mut spec = self.team.binding_spec();
        spec["connectionRef"] = json!({"name": connection, "namespace": self.platform.namespace});
        spec["repository"] = json!(repository);
        spec
    }

    /// Every namespace and the repositories of these patterns.
    fn all(&self, include: &[&str], exclude: &[&str]) -> Value {
        let path = |pattern: &&str| format!("{}/{pattern}", self.platform.organization);
        let (include, exclude): (Vec<_>, Vec<_>) = (include.iter().map(path).collect(), exclude.iter().map(path).collect());
        json!({"namespaces": {"from": "All"}, "repositories": {"include": include, "exclude": exclude}})
    }

    async fn hooks(&self) -> Result<Vec<i64>> {
        Ok(self.platform.hooks_at(&self.operator.url()).await?.iter().map(|hook| hook.id).collect())
    }

    /// Checks that a binding stays without a grant.
    async fn stays_refused(&self, name: &str, why: &str) -> Result<()> {
        stays(why, A_WHILE, async || {
            let binding = self.team.bindings.get(name).await?;
            let ready = binding_condition(&binding, "Ready");
            ensure!(ready == "False/RefNotPermitted", "{why}: {ready}");
            Ok(())
        })
        .await
    }
}

fn count(grant: &ConnectionGrant) -> Option<i64> {
    grant.status.as_ref()?.bindings
}

#[tokio::test]
async fn a_deleted_grant_closes_the_route_at_once_and_removes_the_webhook_only_after_the_timeout() -> Result<()> {
    let here = Tenancy::new("missing-grant", "25s").await?;
    let grant = || here.platform.apply_grant("shops", here.all(&["sh*"], &[]));
    grant().await?;
    here.team.create_binding("shop", here.binding(CONNECTION, &here.platform.repository)).await?;
    here.team.binding_ready("shop").await?;
    here.platform.push("granted").await?;
    here.platform.sink.wait_for(1, SOON).await?;
    let hooks = here.hooks().await?;
    assert_eq!(hooks.len(), 1);

    // Deleted by mistake, and brought back.
    here.platform.delete_grant("shops").await?;
    let refused = here.team.binding_says("shop", "Ready", "False/RefNotPermitted").await?;
    assert_eq!(binding_condition(&refused, "WebhookInSync"), "False/RefNotPermitted");
    for kind in ["Ready", "ConnectionReady", "WebhookInSync"] {
        let message = binding_message(&refused, kind);
        ensure!(message.contains("removed at 2") && message.contains("unless a grant allows it"), "{kind}: {message}");
    }
    here.platform.push("refused").await?;
    stays("the webhook is kept and nothing is sent", A_WHILE, async || {
        ensure!(here.hooks().await? == hooks, "the webhook is gone");
        ensure!(here.platform.sink.deliveries().len() == 1, "{:?}", here.platform.sink.deliveries());
        Ok(())
    })
    .await?;
    grant().await?;
    here.team.binding_ready("shop").await?;
    assert_eq!(here.hooks().await?, hooks, "the same webhook");
    here.platform.push("granted again").await?;
    here.platform.sink.wait_for(2, SOON).await?;

    // Withdrawn for good.
    here.platform.delete_grant("shops").await?;
    here.team.binding_says("shop", "Ready", "False/RefNotPermitted").await?;
    here.platform.hooks_until(&here.platform.repository, &here.operator.url(), "gone", <[Hook]>::is_empty).await?;
    here.team.binding_until("shop", "free of our finalizer", SOON, |binding| binding.metadata.finalizers.is_none()).await?;
    let gone = here.team.bindings.get("shop").await?;
    ensure!(!binding_message(&gone, "Ready").contains("removed at"), "{:?}", gone.status);
    Ok(())
}

#[tokio::test]
async fn a_restore_that_brings_the_grants_after_the_bindings_removes_no_webhook() -> Result<()> {
    let here = Tenancy::new("late-grant", "1h").await?;
    here.platform.apply_grant("shops", here.all(&["sh*"], &[])).await?;
    here.team.create_binding("shop", here.binding(CONNECTION, &here.platform.repository)).await?;
    here.team.binding_ready("shop").await?;
    let hooks = here.hooks().await?;
    here.operator.kill();
    here.platform.delete_grant("shops").await?;
    here.operator.restart().await?;
    here.team.binding_says("shop", "Ready", "False/RefNotPermitted").await?;
    stays("the webhook", A_WHILE, async || {
        ensure!(here.hooks().await? == hooks, "the webhook is gone");
        Ok(())
    })
    .await?;
    here.platform.apply_grant("shops", here.all(&["sh*"], &[])).await?;
    here.team.binding_ready("shop").await?;
    assert_eq!(here.hooks().await?, hooks);
    Ok(())
}

#[tokio::test]
async fn nobody_gains_access_by_a_grant_elsewhere_a_status_or_a_selector_that_matches_nothing() -> Result<()> {
    let here = Tenancy::new("no-gain", "1h").await?;
    here.team.create_binding("shop", here.binding(CONNECTION, &here.platform.repository)).await?;
    here.team.create_binding("guess", here.binding("there-is-none", &here.platform.repository)).await?;
    let told = async |name: &str| -> Result<String> {
        let binding = here.team.binding_says(name, "Ready", "False/RefNotPermitted").await?;
        Ok(binding_message(&binding, "Ready").replace("there-is-none", CONNECTION))
    };
    let first = told("shop").await?;
    assert_eq!(first, told("guess").await?, "no connection and no grant look alike");

    // A grant of the tenant's own namespace, as somebody with the role admin there may write it.
    here.team.apply_grant("mine", here.all(&["*"], &[])).await?;
    let lonely = here.team.grant_until("mine", "judged", |grant| !grant_condition(grant, "Ready").is_empty()).await?;
    assert_eq!(grant_condition(&lonely, "Ready"), "False/ConnectionNotFound");
    here.stays_refused("shop", "a grant of another namespace").await?;

    // A grant whose selector matches no connection, and a status that somebody wrote.
    let mut unselected = here.all(&["*"], &[]);
    unselected["connectionRef"] = Value::Null;
    unselected["connectionSelector"] = json!({"matchLabels": {"tier": "none"}});
    here.platform.apply_grant("unselected", unselected).await?;
    here.platform.grant_until("unselected", "judged", |grant| grant_condition(grant, "Ready") == "False/ConnectionNotFound").await?;
    let forged = json!({"status": {"bindings": 7, "conditions": []}});
    here.platform.grants.patch_status("unselected", &PatchParams::default(), &Patch::Merge(forged)).await?;
    here.stays_refused("shop", "a forged status").await?;
    here.platform.grant_until("unselected", "repaired", |grant| count(grant) == Some(0)).await?;

    // A grant for another repository: no name of it is in a message of the team.
    here.platform.apply_grant("carts", here.all(&["cart-canary"], &[])).await?;
    here.platform.grant_until("carts", "Ready", |grant| grant_condition(grant, "Ready") == "True/Succeeded").await?;
    here.stays_refused("shop", "a grant for another repository").await?;
    assert_eq!(told("shop").await?, first, "the message is the same whether or not there are grants");
    ensure!(here.hooks().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn dt_25_grants_add_up_exclude_limits_its_own_grant_and_no_grant_reaches_beyond_the_owner() -> Result<()> {
    let here = Tenancy::new("union", "1h").await?;
    here.platform.apply_grant("all-but-shops", here.all(&["*"], &["sh*"])).await?;
    here.team.create_binding("shop", here.binding(CONNECTION, &here.platform.repository)).await?;
    here.team.binding_says("shop", "Ready", "False/RefNotPermitted").await?;
    here.stays_refused("shop", "exclude wins over include in the same grant").await?;
    here.platform.apply_grant("shop", here.all(&["shop"], &[])).await?;
    here.team.binding_ready("shop").await?;
    for (name, bindings) in [("shop", 1), ("all-but-shops", 0)] {
        here.platform.grant_until(name, "counted", |grant| count(grant) == Some(bindings)).await?;
    }

    // Outside of the connection's owner, whatever a grant allows. The message names the owner.
    here.platform.apply_grant("everything", json!({"namespaces": {"from": "All"}})).await?;
    here.team.create_binding("outside", here.binding(CONNECTION, "somebody-else/shop")).await?;
    let outside = here.team.binding_says("outside", "Ready", "False/OutOfScope").await?;
    let message = binding_message(&outside, "Ready");
    ensure!(message.contains("somebody-else/shop") && message.contains(&here.platform.organization), "{message}");

    // With access Granted, the connection's own namespace needs a grant, too.
    here.platform.create_binding("own", here.platform.binding_spec()).await?;
    here.platform.binding_ready("own").await?;
    here.platform.delete_grant("everything").await?;
    here.platform.delete_grant("shop").await?;
    here.platform.patch_connection(json!({"spec": {"access": "Granted"}})).await?;
    let own = here.platform.binding_says("own", "Ready", "False/RefNotPermitted").await?;
    let message = binding_message(&own, "Ready");
    ensure!(message.contains("all-but-shops") && message.contains("exclude has"), "within a namespace nothing is hidden: {message}");
    Ok(())
}

#[tokio::test]
async fn a_grant_at_rest_is_not_written_and_its_count_follows_the_bindings() -> Result<()> {
    let here = Tenancy::new("grant-rest", "1h").await?;
    here.platform.apply_grant("shops", here.all(&["sh*"], &[])).await?;
    here.platform.grant_until("shops", "Ready", |grant| grant_condition(grant, "Ready") == "True/Succeeded").await?;
    here.team.create_binding("shop", here.binding(CONNECTION, &here.platform.repository)).await?;
    here.team.binding_ready("shop").await?;
    let version = |grant: &ConnectionGrant| grant.metadata.resource_version.clone();
    let counted = here.platform.grant_until("shops", "one binding", |grant| count(grant) == Some(1)).await?;
    stays("the grant as it is", Duration::from_secs(8), async || {
        ensure!(version(&here.platform.grants.get("shops").await?) == version(&counted), "it was written");
        Ok(())
    })
    .await?;
    here.team.delete_binding("shop").await?;
    here.team.binding_gone("shop", SOON).await?;
    here.platform.grant_until("shops", "no binding", |grant| count(grant) == Some(0)).await?;
    here.platform.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    let lost =
        here.platform.grant_until("shops", "without a connection", |grant| grant_condition(grant, "Ready").starts_with("False")).await?;
    let conditions = lost.status.context("a status")?.conditions;
    ensure!(conditions.iter().any(|condition| condition.type_ == "Reconciling" && condition.status == "True"), "{conditions:?}");
    Ok(())
}
