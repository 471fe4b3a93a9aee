//! The volume of the outbox: an emptyDir of a Deployment, or a claim of a `StatefulSet`, and the way from one to the other.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use testkit::chart::{self, objects, rendered};
use testkit::installation::Installation;
use testkit::shared;

const FOLDER: &str = "/var/lib/forgebind/outbox";

async fn found(values: &Value, kind: &str, name: &str) -> Result<Option<Value>> {
    let objects = objects(&rendered(values).await?)?;
    Ok(objects.into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name))
}

async fn workload(values: &Value, kind: &str, name: &str) -> Result<Value> {
    found(values, kind, name).await?.with_context(|| format!("{values}: no {kind} {name}"))
}

#[tokio::test]
async fn without_persistence_the_outbox_is_an_empty_dir_with_a_quarter_more_than_its_limit() -> Result<()> {
    for (receiver, limit, size) in [
        (json!({}), "1Gi", "1280Mi"),
        (json!({"outbox": {"limit": "64Mi"}}), "64Mi", "80Mi"),
        (json!({"outbox": {"limit": "10Gi"}}), "10Gi", "12800Mi"),
        (json!({"outbox": {"limit": 2_147_483_648_u64}}), "2147483648", "2560Mi"),
        (json!({"outbox": {"limit": "100000001"}}), "100000001", "125000001"),
    ] {
        for (mode, name) in [("Separate", "forgebind-receiver"), ("Single", "forgebind")] {
            let deployment = workload(&json!({"mode": mode, "receiver": receiver}), "Deployment", name).await?;
            let pod = &deployment["spec"]["template"]["spec"];
            let container = &pod["containers"][0];
            assert_eq!(pod["volumes"], json!([{"name": "outbox", "emptyDir": {"sizeLimit": size}}]), "{mode} {receiver}");
            assert_eq!(container["volumeMounts"], json!([{"name": "outbox", "mountPath": FOLDER}]));
            assert_eq!(container["resources"]["requests"]["ephemeral-storage"], size);
            ensure!(container["resources"]["limits"].get("ephemeral-storage").is_none(), "{container}");
            let arguments = container["args"].as_array().context("arguments")?;
            for argument in ["--outbox=disk".to_owned(), format!("--outbox-dir={FOLDER}"), format!("--outbox-limit={limit}")] {
                ensure!(arguments.contains(&json!(argument)), "{argument} is not in {arguments:?}");
            }
            // It is deleted with the pod, so another one takes it over.
            for argument in ["--hand-over".to_owned(), format!("--receivers=service/{name}-admin"), "--drain-timeout=60s".to_owned()] {
                ensure!(arguments.contains(&json!(argument)), "{argument} is not in {arguments:?}");
            }
            let own = json!({"name": "FORGEBIND_POD_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}});
            ensure!(container["env"].as_array().is_some_and(|env| env.contains(&own)), "{container}");
            // The user of the image may write the volume by this group, although the root is read-only.
            assert_eq!(pod["securityContext"]["fsGroup"], 65532);
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            assert_eq!(pod["terminationGracePeriodSeconds"], 75);
        }
    }
    let own = json!({"receiver": {"drainSeconds": 10, "resources": {"requests": {"ephemeral-storage": "5Gi"}}}});
    let pod = workload(&own, "Deployment", "forgebind-receiver").await?["spec"]["template"]["spec"].clone();
    assert_eq!(pod["containers"][0]["resources"]["requests"]["ephemeral-storage"], "5Gi", "a request of the values is kept");
    assert_eq!(pod["terminationGracePeriodSeconds"], 25);
    ensure!(pod["containers"][0]["args"].to_string().contains("--drain-timeout=10s"), "{pod}");
    let controller = workload(&json!({}), "Deployment", "forgebind-controller").await?["spec"]["template"]["spec"].clone();
    ensure!(controller.get("volumes").is_none() && controller.get("terminationGracePeriodSeconds").is_none(), "{controller}");
    Ok(())
}

#[tokio::test]
async fn with_persistence_every_receiver_of_a_stateful_set_has_a_claim_that_is_retained() -> Result<()> {
    let persistence = json!({"enabled": true, "size": "4Gi", "storageClassName": "fast", "annotations": {"a": "b"}});
    let values = json!({"receiver": {"replicas": 3, "persistence": persistence}});
    let spec = workload(&values, "StatefulSet", "forgebind-receiver-disk").await?["spec"].clone();
    assert_eq!((&spec["replicas"], &spec["podManagementPolicy"]), (&json!(3), &json!("Parallel")));
    assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    let [claim] = spec["volumeClaimTemplates"].as_array().context("claims")?.as_slice() else { anyhow::bail!("{spec}") };
    assert_eq!((&claim["metadata"]["name"], &claim["metadata"]["annotations"]), (&json!("outbox"), &json!({"a": "b"})));
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "4Gi");
    assert_eq!((&claim["spec"]["storageClassName"], &claim["spec"]["accessModes"]), (&json!("fast"), &json!(["ReadWriteOnce"])));
    // This list cannot be changed, so that a label with the version of the chart would make every upgrade fail.
    ensure!(!claim.to_string().contains("helm.sh/chart") && !claim.to_string().contains("version\":\"0"), "{claim}");
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    ensure!(pod.get("volumes").is_none() && container["resources"]["requests"].get("ephemeral-storage").is_none(), "{pod}");
    assert_eq!(container["volumeMounts"], json!([{"name": "outbox", "mountPath": FOLDER}]));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch");
    // The next pod continues with the claim. Handed over, its contents could exceed what another receiver may hold.
    let arguments = container["args"].to_string();
    ensure!(!arguments.contains("--hand-over") && arguments.contains("--drain-timeout=60s"), "{arguments}");
    ensure!(!rendered(&values).await?.contains("FORGEBIND_POD_IPS"), "an address that nobody uses");
    let rights = objects(&rendered(&values).await?)?;
    let rights = rights.iter().find(|object| object["kind"] == "Role" && object["metadata"]["name"] == "forgebind-receiver");
    // The receivers of the Deployment that they replace need it until they have handed over.
    ensure!(rights.context("the receiver's Role")?.to_string().contains("endpointslices"), "a right that is needed during the change");
    ensure!(found(&values, "Deployment", "forgebind-receiver").await?.is_none(), "a Deployment runs as well");
    ensure!(found(&values, "PodDisruptionBudget", "forgebind-receiver").await?.is_none(), "a budget without pods");
    workload(&values, "PodDisruptionBudget", "forgebind-receiver-disk").await?;

    // The single pod has an emptyDir whatever is set.
    let single = json!({"mode": "Single", "receiver": {"replicas": 1, "persistence": {"enabled": true}}});
    ensure!(!rendered(&single).await?.contains("kind: StatefulSet"), "a StatefulSet with mode Single");
    workload(&single, "Deployment", "forgebind").await?;

    // The name and a hash are a label of the pods, which has at most 63 characters.
    let long = json!({"fullnameOverride": "a".repeat(60), "receiver": {"persistence": {"enabled": true}}});
    let stateful = objects(&rendered(&long).await?)?.into_iter().find(|object| object["kind"] == "StatefulSet").context("a StatefulSet")?;
    ensure!(stateful["metadata"]["name"].as_str().is_some_and(|name| name.len() <= 52), "{stateful}");
    Ok(())
}

/// The values before, during and after the change.
fn steps() -> [Value; 3] {
    [(false, false), (true, true), (true, false)]
        .map(|(enabled, keep)| json!({"receiver": {"persistence": {"enabled": enabled, "keepDeployment": keep}}}))
}

#[tokio::test]
async fn a_change_of_the_workload_replaces_no_pod_of_the_other_one() -> Result<()> {
    let [before, during, after] = steps();
    let deployment = ("Deployment", "forgebind-receiver");
    let stateful = ("StatefulSet", "forgebind-receiver-disk");
    let of = async |values: &Value, (kind, name): (&str, &str)| workload(values, kind, name).await;
    assert_eq!(of(&before, deployment).await?, of(&during, deployment).await?);
    assert_eq!(of(&during, stateful).await?, of(&after, stateful).await?);
    for name in ["forgebind-receiver", "forgebind-receiver-admin"] {
        let service = ("Service", name);
        assert_eq!(of(&before, service).await?, of(&during, service).await?);
        assert_eq!(of(&during, service).await?, of(&after, service).await?);
    }
    // Disabled with keepDeployment set, only the Deployment remains.
    let disabled = json!({"receiver": {"persistence": {"keepDeployment": true}}});
    assert_eq!(of(&disabled, deployment).await?, of(&before, deployment).await?);
    ensure!(found(&disabled, stateful.0, stateful.1).await?.is_none(), "a StatefulSet without persistence");
    Ok(())
}

#[tokio::test]
async fn an_upgrade_to_persistence_keeps_the_receivers_until_the_new_ones_are_ready() -> Result<()> {
    let plane = shared::control_plane().await?;
    let installation = Installation::new(plane).await?;
    let client = plane.cluster().client()?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &installation.namespace);
    let stateful_sets: Api<StatefulSet> = Api::namespaced(client, &installation.namespace);
    let name = format!("{}-receiver", installation.release);
    let [before, during, after] = steps();
    let mut values = json!({"crds": {"install": false}, "rbac": {"userRoles": false}});
    values["receiver"] = before["receiver"].clone();
    installation.install(&chart::folder(), &values).await?;
    let first = deployments.get(&name).await?;

    installation.upgrade(&chart::folder(), &during).await?;
    let kept = deployments.get(&name).await?;
    assert_eq!((kept.uid(), kept.metadata.generation), (first.uid(), first.metadata.generation), "its pods go on running");
    let new = stateful_sets.get(&format!("{name}-disk")).await?;

    installation.upgrade(&chart::folder(), &after).await?;
    ensure!(deployments.get_opt(&name).await?.is_none_or(|old| old.metadata.deletion_timestamp.is_some()), "the Deployment is kept");
    let last = stateful_sets.get(&format!("{name}-disk")).await?;
    assert_eq!((last.uid(), last.metadata.generation), (new.uid(), new.metadata.generation), "its pods go on running");
    Ok(())
}
