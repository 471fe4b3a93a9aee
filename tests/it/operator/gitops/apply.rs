//! A user's manifest is applied once and stays as it is: no tool finds a difference or a conflict, and Forgebind writes only its
//! own fields.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::crd;
use forgebind::api::v1alpha1::{FIELD_MANAGER, FINALIZER};
use serde_json::{Value, json};

use super::{BINDING_KIND, CONNECTION_KIND, GRANT_KIND, raw};
use testkit::operator::Operator;
use testkit::samples;
use testkit::scratch::Scratch;
use testkit::test_env::{CONNECTION, SINK, SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

/// A finalizer of somebody else.
const OF_SOMEBODY_ELSE: &str = "example.com/of-somebody-else";
/// How tools apply a manifest.
const WAYS: [(&str, &[&str]); 2] = [("client-side", &[]), ("server-side", &["--server-side"])];

fn manifest(env: &TestEnv, kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": kind,
        "metadata": {
            "name": name, "namespace": env.namespace,
            "labels": {"kustomize.toolkit.fluxcd.io/name": "git-connections"},
            "annotations": {"argocd.argoproj.io/tracking-id": "git:forgebind.dev/x:y/z"},
        },
        "spec": spec,
    })
}

/// Every optional field of a connection, in forms that a controller might be tempted to normalise.
fn full_connection(env: &TestEnv) -> Value {
    json!({
        "provider": {"gitea": {
            "url": format!("{}/", env.gitea.url()), "organization": env.organization, "apiURL": format!("{}/api/v1/", env.gitea.url()),
        }},
        "credentials": {"secretRef": {"name": "credential"}, "expiresAt": "2999-12-31", "warnBefore": "0h168h"},
        "requiredPermissions": ["ReadContents", "ListRepositories"],
        "access": "Granted",
        "catalog": {"interval": "90m", "include": ["acme/**", "Umbrella/*"], "exclude": ["**/legacy-*"], "includeArchived": true},
        "tls": {"caRef": {"kind": "ConfigMap", "name": "acme-ca", "key": "ca.pem"}, "clientCertificateRef": {"name": "acme-client"}},
        "proxySecretRef": {"name": "egress"},
        "receiver": {"publicURL": "internal"},
        "managementPolicy": "Observe",
        "interval": "90m",
        "suspend": false,
    })
}

/// Grants with every optional field. Lists are deliberately not sorted.
fn full_grants() -> [Value; 2] {
    let selector = json!({"matchLabels": {"team": "shop"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}]});
    [
        json!({
            "connectionRef": {"name": "full"}, "namespaces": {"from": "Selector", "selector": selector},
            "repositories": {"include": ["ACME/Shop-*", "**"], "exclude": ["acme/secret", "acme/a*"]},
            "destinationHosts": ["*.acme.io", "ci.acme.io:8443"],
        }),
        json!({"connectionSelector": selector, "namespaces": {"from": "Same"}, "repositories": {"include": ["**"]}}),
    ]
}

/// The provider members that the other manifests leave out.
fn other_providers() -> Vec<Value> {
    samples::all().flat_map(|samples| samples.full.iter().map(|spec| samples.provider(spec)).collect::<Vec<_>>()).collect()
}

/// Every optional field of a binding with a webhook of Forgebind. Lists are deliberately not sorted.
fn full_binding(env: &TestEnv) -> Value {
    json!({
        "connectionRef": {"name": CONNECTION, "namespace": env.namespace},
        "repository": format!("{}/{}.git", env.gitea.url(), env.repository),
        "branch": "main",
        "webhook": {"events": ["Tag", "Push"], "rotationInterval": "2160h", "adopt": false},
        "sinks": [
            {
                "name": "second", "service": {"name": SINK, "port": env.sink.port(), "path": "/events/"},
                "events": ["Tag", "Push"], "branches": ["release/*", "main"],
            },
            {"name": "first", "service": {"name": SINK, "port": env.sink.port()}},
        ],
        "deletionPolicy": "Delete",
        "managementPolicy": "Manage",
        "interval": "0h60m",
        "suspend": false,
    })
}

/// Bindings with the fields that exclude those of the full one.
fn other_bindings(env: &TestEnv) -> Vec<Value> {
    let with_url = json!({
        "connectionRef": {"name": CONNECTION}, "repository": env.repository,
        "webhook": {"events": ["Push"], "url": "https://Argocd.acme.io/api/webhook/", "secretRef": {"name": "own", "key": "webhook.secret"}, "adopt": true},
    });
    let with_sinks = json!({
        "connectionRef": {"name": CONNECTION}, "repository": env.repository, "webhook": {},
        "sinks": [
            {
                "name": "web",
                "http": {
                    "url": "https://events.acme.io/git/", "secretRef": {"name": "events", "key": "signing.key"},
                    "caRef": {"kind": "ConfigMap", "name": "acme-ca", "key": "ca.pem"},
                },
            },
            {
                "name": "elsewhere",
                "service": {"name": "events", "namespace": "elsewhere", "port": 80, "secretRef": {"name": "events", "key": "signing.key"}},
            },
        ],
    });
    vec![with_url, with_sinks]
}

/// The objects of a test, each with the name of its kind.
fn manifests(env: &TestEnv) -> Vec<Value> {
    let connection = |name: &str, spec: &Value| manifest(env, "GitProviderConnection", name, spec);
    let binding = |name: &str, spec: &Value| manifest(env, "RepoBinding", name, spec);
    let mut all = vec![
        connection(CONNECTION, &env.connection_spec()),
        connection("full", &full_connection(env)),
        binding("bare", &json!({"connectionRef": {"name": CONNECTION}, "repository": env.repository})),
        binding("full", &full_binding(env)),
    ];
    all.extend(other_providers().iter().enumerate().map(|(number, provider)| {
        connection(&format!("other-{number}"), &json!({"provider": provider, "credentials": {"secretRef": {"name": "missing"}}}))
    }));
    all.extend(full_grants().iter().enumerate().map(|(number, spec)| manifest(env, "ConnectionGrant", &format!("grant-{number}"), spec)));
    all.extend(other_bindings(env).iter().enumerate().map(|(number, spec)| binding(&format!("other-{number}"), spec)));
    all
}

/// The paths of a schema's properties. Items of lists and values of maps have the path of the list or map.
fn properties(schema: &Value, place: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        found.insert(place.clone());
        properties(property, &place, found);
        properties(&property["items"], &place, found);
    }
}

fn set(value: &Value, place: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let place = format!("{place}.{name}");
                found.insert(place.clone());
                set(member, &place, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| set(item, place, found)),
        _ => {}
    }
}

/// A new field has to be added to one of the manifests above.
fn every_field_is_set(manifests: &[Value]) -> Result<()> {
    for definition in crd::custom_resource_definitions() {
        let schema = serde_json::to_value(&definition.spec.versions.first().context("a version")?.schema)?;
        let (mut known, mut used) = (BTreeSet::new(), BTreeSet::new());
        properties(&schema["openAPIV3Schema"]["properties"]["spec"], "spec", &mut known);
        for manifest in manifests.iter().filter(|manifest| manifest["kind"] == definition.spec.names.kind.as_str()) {
            set(&manifest["spec"], "spec", &mut used);
        }
        let left: Vec<_> = known.difference(&used).collect();
        ensure!(left.is_empty(), "no manifest of this test sets {left:?} of {}", definition.spec.names.kind);
    }
    Ok(())
}

fn kind_of(manifest: &Value) -> &'static str {
    match manifest["kind"].as_str() {
        Some("RepoBinding") => BINDING_KIND,
        Some("ConnectionGrant") => GRANT_KIND,
        _ => CONNECTION_KIND,
    }
}

async fn converged(env: &TestEnv, manifest: &Value) -> Result<Value> {
    let name = name_of(manifest);
    wait_until(&format!("{} {name} to be judged", kind_of(manifest)), SOON, async || {
        let object = raw(env.cluster(), &env.namespace, kind_of(manifest), name).await?;
        let judged = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.filter(|condition| condition["type"] == "Ready").map(|condition| condition["status"].clone()).next();
        // An object that is judged but still Unknown is going to change.
        let settled = ready.as_ref().is_some_and(|ready| *ready != "Unknown");
        Ok(if judged && settled { Seen::Done(object) } else { Seen::NotYet(object["status"].to_string()) })
    })
    .await
}

/// The writers of an object: manager, operation, subresource and the top-level fields.
fn managers(object: &Value) -> BTreeSet<String> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let described = entries.map(|entry| {
        let mut fields = Vec::new();
        for (name, inner) in entry["fieldsV1"].as_object().into_iter().flatten() {
            match name.as_str() {
                "f:metadata" => fields.extend(inner.as_object().into_iter().flatten().map(|(name, _)| format!("metadata.{}", &name[2..]))),
                name => fields.push(name[2..].to_owned()),
            }
        }
        let subresource = entry["subresource"].as_str().unwrap_or("-");
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        format!("{} {} {subresource} {}", text("manager"), text("operation"), fields.join(","))
    });
    described.collect()
}

fn name_of(manifest: &Value) -> &str {
    manifest["metadata"]["name"].as_str().unwrap_or_default()
}

/// Sets the finalizers of every object except ours, as another controller does.
async fn set_finalizers(env: &TestEnv, manifests: &[Value], finalizers: Value) -> Result<()> {
    let patch = json!({"metadata": {"finalizers": finalizers}}).to_string();
    for manifest in manifests {
        let arguments = ["patch", kind_of(manifest), name_of(manifest), "--namespace", &env.namespace, "--type=merge", "--patch", &patch];
        env.cluster().kubectl(&arguments).await?;
    }
    Ok(())
}

/// Checks that the labels, annotations and finalizers of others are unchanged.
fn kept(object: &Value, manifest: &Value) -> Result<()> {
    for field in ["labels", "annotations"] {
        for (key, value) in manifest["metadata"][field].as_object().into_iter().flatten() {
            ensure!(object["metadata"][field][key] == *value, "{}: {field} are {}", name_of(manifest), object["metadata"][field]);
        }
    }
    let finalizers = object["metadata"]["finalizers"].as_array().context("finalizers")?;
    ensure!(finalizers.contains(&json!(OF_SOMEBODY_ELSE)), "{}: {finalizers:?}", name_of(manifest));
    Ok(())
}

#[tokio::test]
async fn an_applied_manifest_stays_without_difference_and_conflict_whichever_fields_it_sets() -> Result<()> {
    for (way, flags) in WAYS {
        let env = TestEnv::new(&format!("apply-{way}")).await?;
        let manifests = manifests(&env);
        every_field_is_set(&manifests)?;
        let scratch = Scratch::new("apply")?;
        let file = scratch.path().join("manifests.json");
        std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string())?;
        let file = file.to_str().context("UTF-8")?;
        let kubectl = async |words: &[&str]| env.cluster().kubectl(&[words, flags, &["--filename", file]].concat()).await;
        kubectl(&["apply"]).await?;
        set_finalizers(&env, &manifests, json!([OF_SOMEBODY_ELSE])).await?;
        let operator = Operator::start(env.options().await?).await?;
        for manifest in &manifests {
            converged(&env, manifest).await?;
        }
        env.binding_ready("full").await?;
        env.binding_ready("bare").await?;

        // The command fails when there is a difference.
        kubectl(&["diff"]).await.with_context(|| format!("{way}: a difference to what was applied"))?;
        kubectl(&["apply", "--dry-run=server"]).await.with_context(|| format!("{way}: a conflict"))?;
        kubectl(&["apply"]).await?;
        for manifest in &manifests {
            let object = raw(env.cluster(), &env.namespace, kind_of(manifest), name_of(manifest)).await?;
            kept(&object, manifest).context(way)?;
            ours_is_status_and_finalizer(&object).with_context(|| format!("{way}: {}", name_of(manifest)))?;
        }
        let full = raw(env.cluster(), &env.namespace, BINDING_KIND, "full").await?;
        ensure!(full["metadata"]["finalizers"].as_array().is_some_and(|list| list.contains(&json!(FINALIZER))), "{}", full["metadata"]);
        only_patches_were_sent(&env, &operator)?;
        drop(operator);
        set_finalizers(&env, &manifests, Value::Null).await?;
    }
    Ok(())
}

fn ours_is_status_and_finalizer(object: &Value) -> Result<()> {
    let managers = managers(object);
    let ours = [format!("{FIELD_MANAGER} Apply status status"), format!("{FIELD_MANAGER} Update - metadata.finalizers")];
    let (own, other): (Vec<&String>, Vec<&String>) = managers.iter().partition(|manager| ours.contains(manager));
    ensure!(!own.is_empty(), "nothing of ours in {managers:?}");
    ensure!(other.iter().all(|manager| manager.starts_with("kubectl")), "{managers:?}");
    Ok(())
}

/// Checks that users' objects are written only by server-side apply and guarded patches, under our name.
fn only_patches_were_sent(env: &TestEnv, operator: &Operator) -> Result<()> {
    let user = operator.options().user();
    let mut seen = BTreeSet::new();
    for event in env.plane.audit_events()?.iter().filter(|event| event.user.username == user && event.is_write()) {
        let Some(object) = event.object_ref.as_ref().filter(|object| object.api_group == "forgebind.dev") else { continue };
        // Slices are Forgebind's own objects.
        if object.resource == "repositoryslices" {
            continue;
        }
        ensure!(event.verb == "patch", "{event:?}");
        ensure!(event.request_uri.contains(&format!("fieldManager={FIELD_MANAGER}")), "{event:?}");
        seen.insert(format!("{}/{}", object.resource, object.subresource));
    }
    let expected = ["gitproviderconnections/status", "connectiongrants/status", "repobindings/", "repobindings/status"];
    ensure!(expected.iter().all(|expected| seen.contains(*expected)), "{seen:?}");
    Ok(())
}
