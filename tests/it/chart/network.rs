//! Relations between the chart's objects: Services find their pods, budgets allow draining a node, and network policies,
//! evaluated against the pods of the same rendering, allow exactly the required connections.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use testkit::chart::snapshot_values;
use testkit::chart::{self, objects, render};

const NAMESPACE: &str = "forgebind-system";
type Labels = BTreeMap<String, String>;

async fn rendered(values: &Value) -> Result<Vec<Value>> {
    objects(&render(&chart::folder(), "forgebind", NAMESPACE, values, &[]).await?)
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn labels(value: &Value) -> Labels {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// A pod, or a peer outside the cluster.
#[derive(Clone, Debug, Default)]
struct Party {
    namespace: Option<String>,
    labels: Labels,
    /// Ports by name.
    ports: BTreeMap<String, u64>,
}

impl Party {
    fn outside() -> Self {
        Self::default()
    }

    fn pod(namespace: &str, labels: &Value) -> Self {
        Self { namespace: Some(namespace.to_owned()), labels: self::labels(labels), ports: BTreeMap::new() }
    }

    fn component(&self) -> &str {
        &self.labels["app.kubernetes.io/component"]
    }

    fn namespace_labels(&self) -> Labels {
        self.namespace.iter().map(|name| ("kubernetes.io/metadata.name".to_owned(), name.clone())).collect()
    }
}

const WORKLOADS: [&str; 2] = ["Deployment", "StatefulSet"];

fn workloads(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects.iter().filter(|object| WORKLOADS.iter().any(|kind| object["kind"] == *kind))
}

/// The pods of a rendering, by component; those of a `StatefulSet` have `-disk` behind it.
fn pods(objects: &[Value]) -> BTreeMap<String, Party> {
    let templates = workloads(objects).chain(of_kind(objects, "Job"));
    let pod = |object: &Value| {
        let template = &object["spec"]["template"];
        let mut pod = Party::pod(NAMESPACE, &template["metadata"]["labels"]);
        let ports = template["spec"]["containers"][0]["ports"].as_array().into_iter().flatten();
        pod.ports = ports.filter_map(|port| Some((port["name"].as_str()?.to_owned(), port["containerPort"].as_u64()?))).collect();
        let end = if object["kind"] == "StatefulSet" { "-disk" } else { "" };
        (format!("{}{end}", pod.component()), pod)
    };
    templates.map(pod).collect()
}

/// A label selector with `matchLabels` only; absent selects nothing, empty selects everything.
fn selects(selector: &Value, of: &Labels) -> bool {
    assert!(selector.get("matchExpressions").is_none(), "expressions are not evaluated here");
    selector.is_object() && labels(&selector["matchLabels"]).iter().all(|(name, value)| of.get(name) == Some(value))
}

fn is_peer(peer: &Value, party: &Party) -> bool {
    if peer.get("ipBlock").is_some() {
        return party.namespace.is_none() && peer["ipBlock"]["cidr"] == "0.0.0.0/0";
    }
    let of_namespace = match peer.get("namespaceSelector") {
        Some(selector) => party.namespace.is_some() && selects(selector, &party.namespace_labels()),
        None => party.namespace.as_deref() == Some(NAMESPACE),
    };
    of_namespace && peer.get("podSelector").is_none_or(|selector| selects(selector, &party.labels))
}

fn is_port(port: &Value, destination: &Party, number: u64, protocol: &str) -> bool {
    let wanted = match &port["port"] {
        Value::String(name) => destination.ports.get(name).copied(),
        wanted => wanted.as_u64(),
    };
    wanted == Some(number) && port["protocol"].as_str().unwrap_or("TCP") == protocol
}

/// Whether the policies of one direction allow a connection, by the API's documentation: a pod that no policy of the direction
/// selects is unrestricted; otherwise one rule must match both the other side and the port.
fn lets(objects: &[Value], direction: &str, subject: &Party, other: &Party, destination: &Party, number: u64, protocol: &str) -> bool {
    let applies = |policy: &&Value| {
        let types = policy["spec"]["policyTypes"].as_array().into_iter().flatten();
        let own = subject.namespace.as_deref() == policy["metadata"]["namespace"].as_str();
        own && types.into_iter().any(|kind| kind == direction) && selects(&policy["spec"]["podSelector"], &subject.labels)
    };
    let policies: Vec<_> = of_kind(objects, "NetworkPolicy").filter(applies).collect();
    let (rules, peers) = if direction == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
    let fits = |rule: &Value| {
        let peers = rule[peers].as_array().is_none_or(|peers| peers.iter().any(|peer| is_peer(peer, other)));
        peers && rule["ports"].as_array().is_none_or(|ports| ports.iter().any(|port| is_port(port, destination, number, protocol)))
    };
    policies.is_empty() || policies.iter().any(|policy| policy["spec"][rules].as_array().into_iter().flatten().any(fits))
}

/// Whether a connection is possible: the source's egress and the destination's ingress both allow it.
fn reaches(objects: &[Value], from: &Party, to: &Party, number: u64, protocol: &str) -> bool {
    let leaves = from.namespace.is_none() || lets(objects, "Egress", from, to, to, number, protocol);
    leaves && (to.namespace.is_none() || lets(objects, "Ingress", to, from, to, number, protocol))
}

#[tokio::test]
async fn network_policies_allow_deliveries_evidence_and_metrics_and_nothing_else() -> Result<()> {
    let open = rendered(&json!({})).await?;
    let pods_of = pods(&open);
    let (controller, receiver) = (&pods_of["controller"], &pods_of["receiver"]);
    let stranger = Party::pod("team-shop", &json!({"app": "shop"}));
    for (from, to, port, wanted) in [
        (&Party::outside(), receiver, 8080, true),
        (&stranger, receiver, 8080, true),
        (controller, receiver, 9090, true),
        (receiver, receiver, 9090, true),
        // By default any pod may scrape metrics.
        (&stranger, receiver, 9090, true),
        (&stranger, controller, 9090, true),
        (&Party::outside(), receiver, 9090, false),
        (&Party::outside(), controller, 9090, false),
        (&Party::outside(), controller, 8080, false),
        (&stranger, controller, 8080, false),
        (&stranger, receiver, 22, false),
        (controller, &Party::outside(), 443, true),
        (receiver, &stranger, 80, true),
    ] {
        ensure!(reaches(&open, from, to, port, "TCP") == wanted, "{from:?} to {to:?} on {port}: {}", !wanted);
    }

    let namespace = |name: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]);
    let policy = json!({
        "deliveriesFrom": namespace("ingress"), "metricsFrom": namespace("monitoring"),
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 8443}]}],
    });
    let closed = rendered(&json!({"networkPolicy": policy, "uninstall": {"hooks": "Delete"}})).await?;
    let pods_of = pods(&closed);
    let (controller, receiver, release) = (&pods_of["controller"], &pods_of["receiver"], &pods_of["uninstall"]);
    let (ingress, prometheus) = (Party::pod("ingress", &json!({})), Party::pod("monitoring", &json!({})));
    let resolver = Party::pod("kube-system", &json!({"k8s-app": "kube-dns"}));
    let outside = Party::outside();
    for (from, to, port, protocol, wanted) in [
        (&ingress, receiver, 8080, "TCP", true),
        (&prometheus, receiver, 8080, "TCP", false),
        (&outside, receiver, 8080, "TCP", false),
        (&stranger, receiver, 8080, "TCP", false),
        (&prometheus, receiver, 9090, "TCP", true),
        (&prometheus, controller, 9090, "TCP", true),
        (&ingress, receiver, 9090, "TCP", false),
        (&stranger, controller, 9090, "TCP", false),
        // Names, the API server and evidence are always allowed.
        (controller, &resolver, 53, "UDP", true),
        (controller, &resolver, 53, "TCP", true),
        (receiver, &resolver, 53, "UDP", true),
        (release, &resolver, 53, "UDP", true),
        (controller, &outside, 443, "TCP", true),
        (receiver, &outside, 6443, "TCP", true),
        (release, &outside, 6443, "TCP", true),
        (controller, receiver, 9090, "TCP", true),
        (receiver, controller, 9090, "TCP", false),
        // A receiver that stops hands its outbox to another one.
        (receiver, receiver, 9090, "TCP", true),
        // What the values added, and what they did not.
        (controller, &outside, 8443, "TCP", true),
        (receiver, &outside, 8443, "TCP", true),
        (controller, &outside, 25, "TCP", false),
        (release, &outside, 8443, "TCP", false),
        (&stranger, release, 9090, "TCP", false),
    ] {
        ensure!(reaches(&closed, from, to, port, protocol) == wanted, "{from:?} to {to:?} on {port}/{protocol}: {}", !wanted);
    }
    Ok(())
}

#[tokio::test]
async fn the_address_of_the_api_server_is_configurable_and_a_single_pod_has_one_policy() -> Result<()> {
    let server = json!([{"podSelector": {"matchLabels": {"component": "kube-apiserver"}}, "namespaceSelector": {}}]);
    let policy = json!({"egress": [{"ports": [{"port": 8443}]}], "apiServer": server});
    let single = rendered(&json!({"mode": "Single", "networkPolicy": policy})).await?;
    ensure!(of_kind(&single, "NetworkPolicy").count() == 2, "the operator's policy and that of the uninstall Job");
    let pods_of = pods(&single);
    let operator = &pods_of["operator"];
    let outside = Party::outside();
    let server = Party::pod("kube-system", &json!({"component": "kube-apiserver"}));
    for (from, to, port, wanted) in [
        (&outside, operator, 8080, true),
        (&outside, operator, 9090, false),
        (operator, &server, 6443, true),
        (operator, &outside, 6443, false),
        (operator, &outside, 8443, true),
        (operator, operator, 9090, true),
    ] {
        ensure!(reaches(&single, from, to, port, "TCP") == wanted, "{from:?} to {to:?} on {port}: {}", !wanted);
    }
    // Receivers with claims keep their outboxes, but take over those of the Deployment that they replace.
    let persistent = json!({"receiver": {"persistence": {"enabled": true}}, "networkPolicy": {
        "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}], "egress": [{"ports": [{"port": 8443}]}],
    }});
    let kept = rendered(&persistent).await?;
    let receiver = &pods(&kept)["receiver-disk"];
    ensure!(reaches(&kept, receiver, receiver, 9090, "TCP"), "the change to claims would lose what is pending");
    ensure!(of_kind(&rendered(&json!({"networkPolicy": {"enabled": false}})).await?, "NetworkPolicy").count() == 0, "none");
    Ok(())
}

/// Every combination that changes which workloads there are and how many pods they have.
fn sizes() -> Vec<Value> {
    let mut sizes = Vec::new();
    for mode in ["Separate", "Single"] {
        for replicas in 0..=3 {
            let budget = json!({"enabled": true});
            let of = json!({"replicas": replicas, "podDisruptionBudget": budget});
            sizes.push(json!({"mode": mode, "controller": of, "receiver": of}));
            for keep in [false, true].into_iter().filter(|_| replicas > 1) {
                let mut receiver = of.clone();
                receiver["persistence"] = json!({"enabled": true, "keepDeployment": keep});
                sizes.push(json!({"mode": mode, "controller": of, "receiver": receiver}));
            }
        }
    }
    sizes
}

#[tokio::test]
async fn a_disruption_budget_never_blocks_a_drain() -> Result<()> {
    for values in sizes() {
        let objects = rendered(&values).await?;
        let replicas = values["controller"]["replicas"].as_u64().context("replicas")?;
        let budgets: Vec<_> = of_kind(&objects, "PodDisruptionBudget").collect();
        let wanted = if values["mode"] == "Separate" && replicas > 1 { workloads(&objects).count() } else { 0 };
        ensure!(budgets.len() == wanted, "{values}: {} budgets", budgets.len());
        for budget in budgets {
            let spec = &budget["spec"];
            let of = |workload: &&Value| selects(&spec["selector"], &labels(&workload["spec"]["template"]["metadata"]["labels"]));
            let found: Vec<_> = workloads(&objects).filter(of).collect();
            // A pod that two budgets select cannot be evicted.
            let [workload] = found.as_slice() else { anyhow::bail!("{values}: a budget for {} workloads", found.len()) };
            let pods = workload["spec"]["replicas"].as_u64().context("replicas")?;
            // Counted as by the disruption controller: the number of pods that may be evicted at once when all are healthy.
            let allowed = match (spec["maxUnavailable"].as_u64(), spec["minAvailable"].as_u64()) {
                (Some(most), None) => most.min(pods),
                (None, Some(least)) => pods.saturating_sub(least),
                other => anyhow::bail!("{other:?}"),
            };
            ensure!(allowed >= 1 && allowed < pods, "{values}: {allowed} of {pods} pods may be evicted");
            // A broken pod must not block a drain.
            assert_eq!(spec["unhealthyPodEvictionPolicy"], "AlwaysAllow");
        }
    }
    Ok(())
}

#[tokio::test]
async fn references_between_objects_of_the_chart_match() -> Result<()> {
    let mut renderings = sizes();
    for name in ["default", "all", "minimal"] {
        renderings.push(snapshot_values(name)?);
    }
    renderings.push(json!({"nameOverride": "git", "fullnameOverride": "forge"}));
    for values in renderings {
        let objects = rendered(&values).await?;
        let pods_of = pods(&objects);
        for service in of_kind(&objects, "Service") {
            let selector = json!({"matchLabels": service["spec"]["selector"]});
            let name = &service["metadata"]["name"];
            let found: Vec<&Party> = pods_of.values().filter(|pod| selects(&selector, &pod.labels)).collect();
            let component = found.first().with_context(|| format!("{values}: {name} finds no pod"))?.component();
            // Both workloads of the receivers, and nothing else.
            let all: Vec<&Party> = pods_of.values().filter(|pod| pod.component() == component).collect();
            ensure!(found.len() == all.len() && found.iter().all(|pod| pod.component() == component), "{values}: {name}: {found:?}");
            for port in service["spec"]["ports"].as_array().context("ports")? {
                let target = port["targetPort"].as_str().context("a named port")?;
                ensure!(found.iter().all(|pod| pod.ports.contains_key(target)), "{values}: no port {target}");
            }
        }
        let port_of = |name: &Value| {
            let service = of_kind(&objects, "Service").find(|service| service["metadata"]["name"] == *name)?;
            Some(service["spec"]["ports"][0].clone())
        };
        for ingress in of_kind(&objects, "Ingress") {
            for path in ingress["spec"]["rules"][0]["http"]["paths"].as_array().context("paths")? {
                let backend = &path["backend"]["service"];
                let port = port_of(&backend["name"]).context("the Ingress's Service")?;
                assert_eq!(port["name"], backend["port"]["name"], "{values}");
            }
        }
        for route in of_kind(&objects, "HTTPRoute") {
            for rule in route["spec"]["rules"].as_array().context("rules")? {
                let backend = &rule["backendRefs"][0];
                assert_eq!(port_of(&backend["name"]).context("the route's Service")?["port"], backend["port"], "{values}");
            }
            let gateways: Vec<_> = of_kind(&objects, "Gateway").map(|gateway| &gateway["metadata"]["name"]).collect();
            let parents = route["spec"]["parentRefs"].as_array().context("parents")?;
            ensure!(parents.iter().any(|parent| gateways.contains(&&parent["name"])), "{values}");
        }
        for stateful in of_kind(&objects, "StatefulSet") {
            let headless = |service: &&Value| service["metadata"]["name"] == stateful["spec"]["serviceName"];
            let service = of_kind(&objects, "Service").find(headless).context("the StatefulSet's Service")?;
            assert_eq!(service["spec"]["clusterIP"], "None", "{values}");
            let others = workloads(&objects).filter(|other| other["kind"] != "StatefulSet");
            let mut others = others.map(|other| labels(&other["spec"]["template"]["metadata"]["labels"]));
            ensure!(!others.any(|pod| selects(&stateful["spec"]["selector"], &pod)), "{values}: it selects the pods of another");
        }
        for workload in workloads(&objects) {
            let template = &workload["spec"]["template"];
            let of_pod = labels(&template["metadata"]["labels"]);
            ensure!(selects(&workload["spec"]["selector"], &of_pod), "{values}: a workload does not select its pods");
            let constraints = template["spec"]["topologySpreadConstraints"].as_array().context("constraints")?;
            ensure!(
                !constraints.is_empty() && constraints.iter().all(|constraint| selects(&constraint["labelSelector"], &of_pod)),
                "{values}"
            );
        }
    }
    let defaults = rendered(&json!({})).await?;
    for deployment in of_kind(&defaults, "Deployment") {
        let constraints = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"].as_array().context("constraints")?;
        let soft = constraints.iter().all(|constraint| constraint["whenUnsatisfiable"] == "ScheduleAnyway");
        ensure!(soft && constraints.len() == 2, "a cluster with one node or zone runs every pod: {constraints:?}");
    }
    Ok(())
}
