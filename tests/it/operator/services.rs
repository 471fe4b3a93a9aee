//! Sinks that are Services, on a real API server and with the receiver's own rights. The `ClusterIP`s of some tests are addresses of
//! this machine, so that it shows where events go.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use forgebind::api::v1alpha1::{DELIVER_FROM, RepoBinding};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use testkit::cluster::accept_existing;
use testkit::operator::Operator;
use testkit::port::free_port;
use testkit::sink::SinkServer;
use testkit::test_env::{SINK, SOON, TestEnv, binding_condition, binding_message};
use testkit::wait::{Seen, stays, wait_until};

/// A range of `ClusterIP`s that are addresses of this machine.
const LOCAL_RANGE: &str = "127.96.0.0/16";

fn services(env: &TestEnv, namespace: &str) -> Result<Api<Service>> {
    Ok(Api::namespaced(env.cluster().client()?, namespace))
}

async fn create(env: &TestEnv, namespace: &str, name: &str, spec: Value) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    let service: Service = serde_json::from_value(object)?;
    // A freed ClusterIP can be taken again after a moment.
    wait_until(&format!("Service {namespace}/{name} to be created"), SOON, async || {
        Ok(match services(env, namespace)?.create(&PostParams::default(), &service).await {
            Ok(_) => Seen::Done(()),
            Err(error) => Seen::NotYet(error.to_string()),
        })
    })
    .await
}

async fn delete(env: &TestEnv, namespace: &str, name: &str) -> Result<()> {
    services(env, namespace)?.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

async fn annotate(env: &TestEnv, namespace: &str, name: &str, value: Option<&str>) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {DELIVER_FROM: value}}});
    services(env, namespace)?.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// A Service that has this address of the machine as its `ClusterIP`.
fn at(address: Ipv4Addr, port: u16) -> Value {
    json!({"clusterIP": address.to_string(), "selector": {"app": "ci"}, "ports": [{"port": port}]})
}

/// Lets Services have `ClusterIP`s that are addresses of this machine.
async fn allow_local_cluster_ips(env: &TestEnv) -> Result<()> {
    let ranges: Api<ServiceCIDR> = Api::all(env.cluster().client()?);
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "local"}, "spec": {"cidrs": [LOCAL_RANGE]},
    });
    accept_existing(ranges.create(&PostParams::default(), &serde_json::from_value(range)?).await)
}

fn commits(sink: &SinkServer) -> Vec<String> {
    sink.accepted().iter().map(|event| event.json()["after"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn says(env: &TestEnv, reason: &str, part: &str) -> Result<RepoBinding> {
    let fits = |binding: &RepoBinding| {
        binding_condition(binding, "Delivering") == format!("False/{reason}") && binding_message(binding, "Delivering").contains(part)
    };
    env.binding_until("shop", &format!("Delivering False/{reason} with {part:?}"), SOON, fits).await
}

#[tokio::test]
async fn events_go_to_the_cluster_ip_of_the_service_and_never_to_that_of_its_next_owner() -> Result<()> {
    let env = TestEnv::new("handed").await?;
    allow_local_cluster_ips(&env).await?;
    let theirs = env.cluster().create_namespace("handed-theirs").await?;
    // From the beginning of the range, which the API server leaves to those who ask for an address.
    let (port, one, two) = (free_port()?, Ipv4Addr::new(127, 96, 0, 11), Ipv4Addr::new(127, 96, 0, 12));
    let first = SinkServer::start_at(SocketAddr::from((one, port))).await?;
    let second = SinkServer::start_at(SocketAddr::from((two, port))).await?;
    create(&env, &env.namespace, "builds", at(one, port)).await?;
    let options = env.options().await?.without("resolve").watching(env.plane, &[&env.namespace, &theirs]).await?;
    let operator = Operator::start(options).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["sinks"][0]["service"] = json!({"name": "builds", "port": port, "path": "/events"});
    env.create_binding("shop", spec).await?;
    env.binding_ready("shop").await?;
    let mut pushed = vec![env.push("to the first address").await?];
    let event = first.wait_for(1, SOON).await?.remove(0);
    assert_eq!(event.header("host"), format!("builds.{}.svc:{port}", env.namespace), "the name, at the ClusterIP");

    // The Service goes, and another team's Service gets its address.
    delete(&env, &env.namespace, "builds").await?;
    create(&env, &theirs, "theirs", at(one, port)).await?;
    let binding = says(&env, "SinkFailing", "does not exist").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded", "it may be created later");
    pushed.push(env.push("while there is none").await?);
    operator.has_pending(1).await?;
    let binding = env.bindings.get("shop").await?;
    let message = binding_message(&binding, "Delivering");
    assert!(message.contains(&format!("sink ci: Service {}/builds does not exist", env.namespace)), "{message}");
    assert_eq!(first.deliveries().len(), 1, "nothing went to the next owner of the address");

    // Made again, it has another address: the pending event goes there, and so does the next one.
    create(&env, &env.namespace, "builds", at(two, port)).await?;
    pushed.push(env.push("to the second address").await?);
    second.wait_for(2, SOON * 2).await?;
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    assert_eq!((commits(&first), commits(&second)), (pushed[..1].to_vec(), pushed[1..].to_vec()), "each once, in order");
    assert_eq!(first.deliveries().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_service_that_may_lead_anywhere_gets_nothing_and_the_binding_says_why() -> Result<()> {
    let env = TestEnv::new("anywhere").await?;
    let port = env.sink.port();
    let external = json!({"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]});
    delete(&env, &env.namespace, SINK).await?;
    create(&env, &env.namespace, SINK, external).await?;
    // The override leads to the sink, but counts only for a Service that may be sent to.
    let _operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let binding = says(&env, "SinkNotAllowed", "ExternalName").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/SinkNotAllowed");
    let commit = env.push("to nowhere").await?;
    for (spec, part) in [
        (json!({"clusterIP": "None", "selector": {"app": "ci"}, "ports": [{"port": port}]}), "is headless"),
        (json!({"ports": [{"port": port}]}), "has no selector"),
    ] {
        delete(&env, &env.namespace, SINK).await?;
        create(&env, &env.namespace, SINK, spec).await?;
        says(&env, "SinkNotAllowed", part).await?;
    }
    delete(&env, &env.namespace, SINK).await?;
    create(&env, &env.namespace, SINK, json!({"selector": {"app": "ci"}, "ports": [{"port": 81}]})).await?;
    says(&env, "SinkInvalid", &format!("service.port {port} is no port of Service {}/{SINK}, which has 81", env.namespace)).await?;
    assert_eq!(env.sink.deliveries().len(), 0);

    delete(&env, &env.namespace, SINK).await?;
    create(&env, &env.namespace, SINK, json!({"selector": {"app": "ci"}, "ports": [{"port": port}]})).await?;
    env.sink.wait_for(1, SOON * 2).await?;
    assert_eq!(commits(&env.sink), [commit], "held, and not given up");
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    env.binding_ready("shop").await?;
    Ok(())
}

#[tokio::test]
async fn a_service_of_another_namespace_gets_events_while_its_annotation_names_the_bindings_namespace() -> Result<()> {
    let env = TestEnv::new("foreign").await?;
    let central = env.cluster().create_namespace("foreign-central").await?;
    let unwatched = env.cluster().create_namespace("foreign-unwatched").await?;
    let port = env.sink.port();
    let resolve = env.sink.resolve("listener", &central);
    let options = env.options().await?.watching(env.plane, &[&env.namespace, &central]).await?.with("resolve", &resolve);
    let operator = Operator::start(options).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["sinks"][0]["service"] = json!({"name": "listener", "namespace": central, "port": port});
    env.create_binding("shop", spec).await?;
    let hint = format!("{DELIVER_FROM}: {}", env.namespace);
    let binding = says(&env, "SinkNotAllowed", &hint).await?;
    let missing = binding_message(&binding, "Delivering");
    create(&env, &central, "listener", json!({"selector": {"app": "listener"}, "ports": [{"port": port}]})).await?;
    let mut pushed = vec![env.push("before the consent").await?];
    stays("the refusal, in the same words whether or not the Service exists", SOON / 3, async || {
        let now = binding_message(&env.bindings.get("shop").await?, "Delivering");
        ensure!(now == missing, "{now}");
        Ok(())
    })
    .await?;
    assert_eq!(env.sink.deliveries().len(), 0);

    annotate(&env, &central, "listener", Some("team-a, foreign-*")).await?;
    env.sink.wait_for(1, SOON * 2).await?;
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    annotate(&env, &central, "listener", None).await?;
    says(&env, "SinkNotAllowed", &hint).await?;
    pushed.push(env.push("after the withdrawal").await?);
    operator.has_pending(1).await?;
    assert_eq!(env.sink.deliveries().len(), 1, "the next attempt was held");
    annotate(&env, &central, "listener", Some(&env.namespace)).await?;
    env.sink.wait_for(2, SOON * 2).await?;
    assert_eq!(commits(&env.sink), pushed);

    let elsewhere = json!([{"op": "replace", "path": "/spec/sinks/0/service/namespace", "value": unwatched}]);
    env.bindings.patch("shop", &PatchParams::default(), &Patch::Json::<()>(serde_json::from_value(elsewhere)?)).await?;
    let binding = says(&env, "SinkNotAllowed", "--watch-namespaces").await?;
    assert!(binding_message(&binding, "Delivering").contains(&unwatched));
    Ok(())
}
