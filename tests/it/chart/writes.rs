//! What Forgebind's own accounts may write to connections, grants and bindings, evaluated by the real API server with the policies of the
//! chart. Each account first gets every right on all kinds, so that only the policies can refuse a request.

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::{ConnectionGrant, FINALIZER, GitProviderConnection, RepoBinding};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use testkit::chart;
use testkit::control_plane::client_of;
use testkit::installation::Installation;
use testkit::shared;
use testkit::test_env::{CONNECTION, SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

const GRANT: &str = "own";
const BINDING: &str = "shop";
const THEIRS: &str = "example.com/theirs";

/// One kind, through one account's client.
struct Kind {
    name: &'static str,
    api: Api<DynamicObject>,
    /// Changes of its spec.
    specs: [Value; 2],
}

fn kinds(client: &Client, namespace: &str) -> [Kind; 3] {
    let api = |kind| Api::namespaced_with(client.clone(), namespace, &kind);
    let specs = || [json!({"suspend": true}), json!({"interval": "2h"})];
    let of_grant = [json!({"namespaces": {"from": "All"}}), json!({"repositories": {"include": ["other/*"]}})];
    [
        Kind { name: CONNECTION, api: api(ApiResource::erase::<GitProviderConnection>(&())), specs: specs() },
        Kind { name: GRANT, api: api(ApiResource::erase::<ConnectionGrant>(&())), specs: of_grant },
        Kind { name: BINDING, api: api(ApiResource::erase::<RepoBinding>(&())), specs: specs() },
    ]
}

/// Whether the API server accepts a request, or one of Forgebind's own policies refuses it. Any other refusal is an error.
fn admitted<T>(answer: kube::Result<T>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("this service account of Forgebind") => Ok(false),
        Err(other) => Err(other.into()),
    }
}

impl Kind {
    /// Tries a change as a dry run.
    async fn may_change(&self, patch: &Value) -> Result<bool> {
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        admitted(self.api.patch(self.name, &dry, &Patch::Merge(patch)).await).with_context(|| patch.to_string())
    }

    async fn change(&self, patch: &Value) -> Result<DynamicObject> {
        self.api.patch(self.name, &PatchParams::default(), &Patch::Merge(patch)).await.with_context(|| patch.to_string())
    }

    async fn may_delete(&self) -> Result<bool> {
        let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
        admitted(self.api.delete(self.name, &dry).await)
    }

    async fn may_create(&self) -> Result<bool> {
        let mut twin = self.api.get(self.name).await?;
        twin.metadata = kube::api::ObjectMeta { name: Some("twin".to_owned()), ..Default::default() };
        admitted(self.api.create(&PostParams { dry_run: true, ..PostParams::default() }, &twin).await)
    }
}

/// Gives an account every right on all kinds by Roles.
async fn grant_everything(env: &TestEnv, system: &str, account: &str) -> Result<()> {
    let (namespace, name) = (&env.namespace, format!("everything-{account}"));
    let rights = json!({"apiGroups": ["forgebind.dev"], "resources": ["*"], "verbs": ["*"]});
    let metadata = json!({"name": name, "namespace": namespace});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [rights]});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": system}],
    });
    chart::create(env.cluster(), &role).await?;
    chart::create(env.cluster(), &binding).await
}

/// Changes of everything except finalizers and status.
fn forbidden(kind: &Kind) -> Vec<Value> {
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "6f1c1c9e-0000-4000-8000-000000000000"});
    vec![
        json!({"spec": kind.specs[0]}),
        json!({"spec": kind.specs[1]}),
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {"labels": {"before": null}}}),
        json!({"metadata": {"annotations": {"forgebind.dev/rotate-requested-at": "now"}}}),
        json!({"metadata": {"annotations": {"before": "other"}}}),
        json!({"metadata": {"ownerReferences": [owner]}}),
        json!({"metadata": {"finalizers": [THEIRS, "example.com/another"]}}),
        json!({"metadata": {"finalizers": []}}),
        json!({"metadata": {"finalizers": [THEIRS, FINALIZER]}, "spec": kind.specs[0]}),
    ]
}

/// An object of each kind with a value in every writable field of its metadata.
async fn objects(env: &TestEnv) -> Result<[Kind; 3]> {
    env.create_connection(env.connection_spec()).await?;
    env.apply_grant(GRANT, json!({})).await?;
    env.create_binding(BINDING, env.binding_spec()).await?;
    let kinds = kinds(&env.cluster().client()?, &env.namespace);
    for kind in &kinds {
        let metadata = json!({"labels": {"before": "a"}, "annotations": {"before": "a"}, "finalizers": [THEIRS]});
        kind.change(&json!({"metadata": metadata})).await?;
    }
    Ok(kinds)
}

async fn in_force(kind: &Kind) -> Result<()> {
    wait_until("the policy to be in force", SOON, async || {
        let spec = json!({"spec": kind.specs[0]});
        Ok(if kind.may_change(&spec).await? { Seen::NotYet("a spec may be changed".to_owned()) } else { Seen::Done(()) })
    })
    .await
}

/// The part that applies to each of Forgebind's accounts.
async fn writes_finalizers_and_status_only(kind: &Kind) -> Result<()> {
    in_force(kind).await?;
    for patch in forbidden(kind) {
        ensure!(!kind.may_change(&patch).await?, "{}: {patch} is admitted", kind.name);
    }
    ensure!(!kind.may_create().await?, "{} may be created", kind.name);
    let held = kind.change(&json!({"metadata": {"finalizers": [THEIRS, FINALIZER]}})).await?;
    assert_eq!(held.finalizers(), [THEIRS, FINALIZER]);
    let released = kind.change(&json!({"metadata": {"finalizers": [THEIRS]}})).await?;
    assert_eq!(released.finalizers(), [THEIRS]);
    Ok(())
}

#[tokio::test]
async fn the_controllers_account_may_change_only_finalizers_and_status() -> Result<()> {
    let plane = shared::control_plane().await?;
    for mode in ["Separate", "Single"] {
        let (env, installation) = (TestEnv::new("writes").await?, Installation::new(plane).await?);
        let values = json!({"mode": mode, "crds": {"install": false}, "rbac": {"userRoles": false}});
        installation.install(&chart::folder(), &values).await?;
        let of_everybody = objects(&env).await?;
        let account = if mode == "Single" { installation.release.clone() } else { format!("{}-controller", installation.release) };
        grant_everything(&env, &installation.namespace, &account).await?;
        let client = client_of(plane, &installation.namespace, &account).await?;
        for (kind, of_everybody) in kinds(&client, &env.namespace).iter().zip(&of_everybody) {
            writes_finalizers_and_status_only(kind).await?;
            ensure!(!kind.may_delete().await?, "{} may be deleted", kind.name);
            // The API server ignores everything else in a write of the status.
            let status = json!({
                "status": {"observedGeneration": 1}, "spec": {"suspend": true}, "metadata": {"labels": {"by": "status"}},
            });
            let written = kind.api.patch_status(kind.name, &PatchParams::default(), &Patch::Merge(&status)).await?;
            assert_eq!(written.data["status"]["observedGeneration"], 1);
            ensure!(written.data["spec"]["suspend"] != true && !written.labels().contains_key("by"), "{written:?}");
            for patch in forbidden(of_everybody) {
                ensure!(of_everybody.may_change(&patch).await?, "{patch} is refused even for an administrator");
            }
            ensure!(of_everybody.may_delete().await? && of_everybody.may_create().await?, "an administrator is refused");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_account_of_an_uninstallation_deletes_bindings_only_when_configured_and_changes_no_spec() -> Result<()> {
    let plane = shared::control_plane().await?;
    for (hooks, deletes) in [("Keep", false), ("Delete", true)] {
        let (env, installation) = (TestEnv::new("releases").await?, Installation::new(plane).await?);
        let (release, namespace) = (&installation.release, &installation.namespace);
        let values = json!({"uninstall": {"hooks": hooks}});
        let rendered = chart::render(&chart::folder(), release, namespace, &values, &["templates/uninstall.yaml"]).await?;
        for object in chart::objects(&rendered)?.iter().filter(|object| object["kind"] != "Job") {
            chart::create(plane.cluster(), object).await?;
        }
        let _ = objects(&env).await?;
        let account = format!("{release}-uninstall");
        grant_everything(&env, namespace, &account).await?;
        let client = client_of(plane, namespace, &account).await?;
        for kind in kinds(&client, &env.namespace) {
            writes_finalizers_and_status_only(&kind).await?;
            assert_eq!(kind.may_delete().await?, deletes && kind.name == BINDING, "{hooks}: {}", kind.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn write_policies_are_rendered_only_with_cluster_scope() -> Result<()> {
    let policies = async |values: Value| -> Result<usize> {
        let objects = chart::objects(&chart::render(&chart::folder(), "forgebind", "system", &values, &[]).await?)?;
        Ok(objects.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy").count())
    };
    assert_eq!(policies(json!({})).await?, 2, "the policies of the controller and of the uninstallation");
    assert_eq!(policies(json!({"rbac": {"limitWrites": false}})).await?, 0);
    assert_eq!(policies(json!({"rbac": {"scope": "Namespaced"}, "watchNamespaces": ["a"]})).await?, 0);
    Ok(())
}
