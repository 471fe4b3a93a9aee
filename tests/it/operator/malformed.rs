//! Objects that do not fit the types because they were stored before their definition was tightened.

use anyhow::{Context as _, Result};
use forgebind::api::crd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use testkit::control_plane::{ControlPlane, OwnControlPlane};
use testkit::operator::Operator;
use testkit::shared;
use testkit::test_env::{SOON, TestEnv, event_on};
use testkit::wait::{Seen, wait_until};

/// The definitions as an earlier version might have had them: they accept anything.
async fn install_loosened(plane: &ControlPlane) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(plane.cluster().client()?);
    for mut definition in crd::custom_resource_definitions() {
        for version in &mut definition.spec.versions {
            version.selectable_fields = None;
            let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()).context("a schema")?;
            let anything = || JSONSchemaProps {
                type_: Some("object".to_owned()),
                x_kubernetes_preserve_unknown_fields: Some(true),
                ..JSONSchemaProps::default()
            };
            *schema = JSONSchemaProps {
                type_: Some("object".to_owned()),
                properties: Some([("spec".to_owned(), anything()), ("status".to_owned(), anything())].into()),
                ..JSONSchemaProps::default()
            };
        }
        let name = definition.metadata.name.clone().context("a name")?;
        api.patch(&name, &PatchParams::apply("forgebind-test").force(), &Patch::Apply(&definition)).await?;
        wait_until(&format!("{name} to be served"), SOON, async || {
            let conditions = api.get(&name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let served = conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
            Ok(if served { Seen::Done(()) } else { Seen::NotYet(format!("{conditions:?}")) })
        })
        .await?;
    }
    Ok(())
}

fn untyped<K: kube::Resource<DynamicType = ()>>(plane: &ControlPlane, namespace: &str) -> Result<Api<DynamicObject>> {
    Ok(Api::namespaced_with(plane.cluster().client()?, namespace, &ApiResource::erase::<K>(&())))
}

async fn store<K: kube::Resource<DynamicType = ()>>(plane: &ControlPlane, namespace: &str, spec: Value) -> Result<()> {
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": "broken", "namespace": namespace}, "spec": spec,
    });
    let api = untyped::<K>(plane, namespace)?;
    wait_until("the malformed object to be stored", SOON, async || {
        api.create(&PostParams::default(), &serde_json::from_value(object.clone())?).await?;
        Ok(Seen::Done(()))
    })
    .await
}

#[tokio::test]
async fn a_malformed_object_stored_before_the_definition_was_tightened_blocks_no_other_object() -> Result<()> {
    use forgebind::api::v1alpha1::{GitProviderConnection, RepoBinding};
    let own = OwnControlPlane::start_bare().await?;
    let plane = own.plane();
    install_loosened(plane).await?;
    let env = TestEnv::on(plane, shared::gitea().await?, "malformed").await?;
    store::<RepoBinding>(plane, &env.namespace, json!({"connectionRef": 5, "repository": ["acme/shop"], "interval": {"a": 1}})).await?;
    store::<GitProviderConnection>(plane, &env.namespace, json!({"provider": "gitea", "interval": 7})).await?;
    plane.cluster().apply_crds().await?;
    wait_until("the strict definition to be served", SOON, async || {
        let refused = untyped::<RepoBinding>(plane, &env.namespace)?;
        let object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": "late", "namespace": env.namespace}, "spec": {"connectionRef": 5},
        });
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        Ok(match refused.create(&parameters, &serde_json::from_value(object)?).await {
            Err(kube::Error::Api(status)) if status.code == 422 => Seen::Done(()),
            other => Seen::NotYet(format!("{other:?}")),
        })
    })
    .await?;
    let stored = untyped::<RepoBinding>(plane, &env.namespace)?.get("broken").await?;
    assert_eq!(stored.data["spec"]["connectionRef"], json!(5), "it is still there as it was stored");

    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let commit = env.push("past the broken one").await?;
    assert_eq!(env.sink.wait_for(1, SOON).await?[0].json()["after"], json!(commit));

    let note = event_on(&env, "broken", "InvalidObject").await?;
    assert!(note.contains("does not match the schema"), "{note}");
    let log = operator.log();
    for kind in ["RepoBinding", "GitProviderConnection"] {
        let named = log.lines().any(|line| line.contains("does not match the schema") && line.contains(kind) && line.contains("broken"));
        assert!(named, "no line of the log names the {kind}:\n{log}");
        let metric = format!("forgebind_invalid_objects_total{{kind=\"{kind}\"}} ");
        assert!(operator.metrics().await?.contains(&metric), "{}", operator.metrics().await?);
    }
    // A start with the malformed object does not count as a start with a lost key, and the operator wrote nothing to the object.
    let now = untyped::<RepoBinding>(plane, &env.namespace)?.get("broken").await?;
    assert_eq!(now.metadata.resource_version, stored.metadata.resource_version);
    operator.kill();
    operator.restart().await?;
    env.push("after a restart").await?;
    env.sink.wait_for(2, SOON).await?;

    // After its repair it is an object like any other.
    let repaired = json!({"spec": env.binding_spec(), "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding"});
    let mut object: DynamicObject = now;
    object.data = json!({"spec": repaired["spec"]});
    untyped::<RepoBinding>(plane, &env.namespace)?.replace("broken", &PostParams::default(), &object).await?;
    env.binding_ready("broken").await?;
    Ok(())
}
