//! The chart as a dependency of another one, and null values: rendered by the real helm.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use testkit::chart::rendered;
use testkit::chart::{self, objects, render};
use testkit::scratch::copy;

/// A chart that has this one as a dependency.
struct Parent {
    folder: tempfile::TempDir,
}

impl Parent {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        copy(&chart::folder(), &folder.path().join("charts/forgebind"))?;
        let dependency = json!({"name": "forgebind", "version": env!("CARGO_PKG_VERSION"), "condition": "forgebind.enabled"});
        let about = json!({"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]});
        std::fs::write(folder.path().join("Chart.yaml"), about.to_string())?;
        Ok(Self { folder })
    }

    /// Renders with `ours` in the parent's own values, and `given` on the command line.
    async fn rendered(&self, ours: &Value, given: &Value) -> Result<Vec<Value>> {
        let path: PathBuf = self.folder.path().join("values.yaml");
        std::fs::write(path, json!({"global": {"region": "eu"}, "forgebind": ours}).to_string())?;
        objects(&render(self.folder.path(), "platform", "forgebind-system", given, &[]).await?)
    }
}

fn deployments(objects: &[Value]) -> usize {
    objects.iter().filter(|object| object["kind"] == "Deployment").count()
}

#[tokio::test]
async fn a_parent_chart_enables_and_disables_it_by_its_condition() -> Result<()> {
    let parent = Parent::new()?;
    let values = json!({"publicURL": "https://hooks.acme.io"});
    for (ours, given, count) in [
        (values.clone(), json!({}), 2),
        (json!({"enabled": true, "publicURL": "https://hooks.acme.io"}), json!({}), 2),
        (json!({"enabled": false}), json!({}), 0),
        (json!({"enabled": false}), json!({"forgebind": {"enabled": true}}), 2),
        (json!({"enabled": true}), json!({"forgebind": {"enabled": false}}), 0),
        (values, json!({"global": {"imageRegistry": "registry.acme.io"}}), 2),
    ] {
        let objects = parent.rendered(&ours, &given).await.with_context(|| format!("{ours} {given}"))?;
        assert_eq!(deployments(&objects), count, "{ours} {given}");
    }
    let refused = parent.rendered(&json!({"publicUrl": "https://hooks.acme.io"}), &json!({})).await.unwrap_err();
    ensure!(format!("{refused:#}").contains("publicUrl"), "{refused:#}");
    Ok(())
}

/// Every value whose default is a list, an open map or an empty text, with the empty value of that type.
fn optional(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Array(members) if members.is_empty() => found.push((path.to_owned(), json!([]))),
        Value::String(text) if text.is_empty() => found.push((path.to_owned(), json!(""))),
        Value::Object(members) if members.is_empty() => found.push((path.to_owned(), json!({}))),
        Value::Object(members) => members.iter().for_each(|(name, member)| optional(member, &format!("{path}/{name}"), found)),
        _ => {}
    }
}

/// Values with one of them set, by its JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    pointer.rsplit('/').filter(|name| !name.is_empty()).fold(value, |inner, name| json!({name: inner}))
}

fn defaults() -> Result<Value> {
    Ok(serde_saphyr::from_str(&std::fs::read_to_string(chart::folder().join("values.yaml"))?)?)
}

/// Merges values over others, as helm does.
fn merged(mut below: Value, above: &Value) -> Value {
    match (below.as_object_mut(), above.as_object()) {
        (Some(members), Some(more)) => {
            for (name, value) in more {
                let before = members.remove(name).unwrap_or_default();
                members.insert(name.clone(), if before.is_object() && value.is_object() { merged(before, value) } else { value.clone() });
            }
            below
        }
        _ => above.clone(),
    }
}

#[tokio::test]
async fn every_value_that_may_be_empty_may_be_null() -> Result<()> {
    // Enables every feature that reads one of them.
    let everything = json!({
        "publicURL": "https://hooks.acme.io",
        "admissionPolicy": {"enabled": true},
        "proxy": {"https": "http://proxy.acme.io:3128"},
        "ingress": {"enabled": true},
        "httpRoute": {"enabled": true, "gateway": {"create": true, "className": "public"}},
        "metrics": {"serviceMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}, "dashboard": {"enabled": true}},
        "kubeStateMetrics": {"enabled": true},
        "networkPolicy": {"egress": [{"ports": [{"port": 443}]}]},
    });
    let mut values = Vec::new();
    optional(&defaults()?, "", &mut values);
    ensure!(values.len() > 50, "{values:?}");
    // The enabled features require these.
    values.retain(|(path, _)| !["/publicURL", "/httpRoute/gateway/className", "/proxy/https"].contains(&path.as_str()));
    let wanted = rendered(&everything).await?;
    // All values at once, because a rendering takes a while.
    let all = |value: fn(&Value) -> Value| values.iter().fold(json!({}), |sum, (path, empty)| merged(sum, &with(path, value(empty))));
    for value in [|_: &Value| Value::Null, |empty: &Value| empty.clone()] as [fn(&Value) -> Value; 2] {
        let given = merged(all(value), &everything);
        let found = rendered(&given).await.with_context(|| given.to_string())?;
        let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
        ensure!(found == wanted, "{given}: {differs:?}");
    }
    for path in ["/networkPolicy/egress", "/metrics/dashboard/labels", "/controller/resources", "/receiver/resources/limits", "/publicURL"]
    {
        let given = with(path, Value::Null);
        rendered(&given).await.with_context(|| given.to_string())?;
    }
    // A parent chart passes a null on unchanged.
    let parent = Parent::new()?;
    let found = parent.rendered(&all(|_| Value::Null), &json!({})).await?;
    assert_eq!(deployments(&found), 2);
    Ok(())
}

/// The pods of a rendering: of Deployments, `StatefulSet`s and Jobs.
fn pods(objects: &[Value]) -> Vec<(&Value, &Value)> {
    let templates = objects.iter().filter_map(|object| Some((object, object.pointer("/spec/template/spec")?)));
    templates.filter(|(object, _)| ["Deployment", "StatefulSet", "Job"].iter().any(|kind| object["kind"] == *kind)).collect()
}

#[tokio::test]
async fn where_the_cluster_chooses_the_user_ids_no_pod_sets_any() -> Result<()> {
    let open_shift = json!({"podSecurityContext": {"runAsUser": "", "runAsGroup": "", "fsGroup": ""}});
    let by_null = json!({"podSecurityContext": {"runAsUser": null, "runAsGroup": null, "fsGroup": null}});
    let parent = Parent::new()?;
    for mode in ["Separate", "Single"] {
        let values = merged(json!({"mode": mode, "uninstall": {"hooks": "Delete"}}), &open_shift);
        for objects in [
            objects(&rendered(&values).await?)?,
            objects(&rendered(&merged(json!({"mode": mode, "uninstall": {"hooks": "Delete"}}), &by_null)).await?)?,
            parent.rendered(&values, &json!({})).await?,
            parent.rendered(&json!({"mode": mode, "uninstall": {"hooks": "Delete"}}), &json!({"forgebind": open_shift})).await?,
        ] {
            let pods = pods(&objects);
            assert_eq!(pods.len(), if mode == "Single" { 3 } else { 4 });
            for (object, pod) in pods {
                let name = &object["metadata"]["name"];
                // The fields that OpenShift's restricted-v2 requires, and none that it refuses.
                assert_eq!(pod["securityContext"], json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}), "{name}");
                for container in pod["containers"].as_array().context("containers")? {
                    let context = json!({
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                    });
                    assert_eq!(container["securityContext"], context, "{name}");
                }
            }
        }
    }
    // The defaults set the user of the image.
    let objects = objects(&rendered(&json!({"uninstall": {"hooks": "Delete"}})).await?)?;
    for (object, pod) in pods(&objects) {
        let context = &pod["securityContext"];
        assert_eq!((&context["runAsUser"], &context["runAsGroup"]), (&json!(65532), &json!(65532)), "{}", object["metadata"]["name"]);
    }
    let refused = rendered(&json!({"podSecurityContext": {"runAsUsers": 1}})).await.unwrap_err();
    ensure!(format!("{refused:#}").contains("runAsUsers"), "{refused:#}");
    Ok(())
}

#[tokio::test]
async fn the_jobs_of_an_uninstallation_end_when_a_service_mesh_adds_containers_to_pods() -> Result<()> {
    for (timeout, seconds) in [("4m", 300), ("1h30m", 5460), ("45s", 105)] {
        let values = json!({"uninstall": {"hooks": "Delete", "timeout": timeout}});
        let objects = objects(&rendered(&values).await?)?;
        let jobs: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "Job").collect();
        assert_eq!(jobs.len(), 2);
        for job in jobs {
            assert_eq!(job["spec"]["activeDeadlineSeconds"], seconds, "{timeout}");
            let metadata = &job["spec"]["template"]["metadata"];
            assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false");
            assert_eq!(metadata["annotations"]["sidecar.istio.io/inject"], "false");
            assert_eq!(metadata["annotations"]["linkerd.io/inject"], "disabled");
        }
    }
    Ok(())
}

/// The chart's page and the guide describe this for cases in which no Job ran: one template, applied by hand.
#[tokio::test]
async fn the_uninstall_template_applied_by_hand_keeps_hooks_and_contains_its_rights() -> Result<()> {
    let rendered = render(&chart::folder(), "forgebind", "forgebind-system", &json!({}), &["templates/uninstall.yaml"]).await?;
    let objects = objects(&rendered)?;
    let jobs: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "Job").collect();
    let [job] = jobs.as_slice() else { anyhow::bail!("{} Jobs", jobs.len()) };
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["args"][1], "--hooks=keep");
    let account = &job["spec"]["template"]["spec"]["serviceAccountName"];
    for kind in ["ServiceAccount", "ClusterRoleBinding", "RoleBinding"] {
        let names = |object: &Value| object["metadata"]["name"] == *account || object["subjects"][0]["name"] == *account;
        ensure!(objects.iter().any(|object| object["kind"] == kind && names(object)), "no {kind} of {account}");
    }
    Ok(())
}
