//! Settings of the chart that only a running program can show: certificate authorities, proxy, extra arguments and variables, and
//! several controllers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::{Value, json};

use testkit::chart;
use testkit::forward_proxy::ForwardProxy;
use testkit::installation::Installation;
use testkit::operator::Operator;
use testkit::port::free_port;
use testkit::shared;
use testkit::test_env::{SINK, SOON, TestEnv, connection_condition, connection_message};
use testkit::tls_proxy::{NAME, TlsProxy};
use testkit::wait::{Seen, wait_until};

/// The values of these tests. The shared control plane already has the definitions.
fn values(mode: &str, port: u16, env: &TestEnv) -> Value {
    json!({
        "mode": mode,
        "publicURL": format!("http://127.0.0.1:{port}"),
        "watchNamespaces": [env.namespace],
        "secretNamespaces": [env.namespace],
        "allow": {"insecureHTTP": true, "cidrs": ["127.0.0.0/8"]},
        "log": {"format": "text"},
        "crds": {"install": false},
        "rbac": {"userRoles": false},
    })
}

#[tokio::test]
async fn a_provider_behind_a_proxy_with_a_private_authority_is_reached_with_the_charts_settings() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (env, installation, port) = (TestEnv::new("proxied").await?, Installation::new(plane).await?, free_port()?);
    let provider = TlsProxy::before(env.gitea.url()).await?;
    let proxy = ForwardProxy::start(&[NAME]).await?;
    let bundle = ConfigMap {
        metadata: ObjectMeta { name: Some("acme-ca".to_owned()), ..ObjectMeta::default() },
        data: Some([("acme.pem".to_owned(), provider.authority_pem().to_owned())].into()),
        ..ConfigMap::default()
    };
    let maps: Api<ConfigMap> = Api::namespaced(plane.cluster().client()?, &installation.namespace);
    maps.create(&PostParams::default(), &bundle).await?;
    let mut values = values("Single", port, &env);
    values["caBundle"] = json!({"configMap": "acme-ca"});
    values["proxy"] = json!({"https": proxy.url()});
    // The address of the sink is set by the chart alone: by an extra variable and an extra argument.
    values["controller"] = json!({
        "extraEnv": [{"name": "FORGEBIND_RESOLVE", "value": env.sink.resolve(SINK, &env.namespace)}],
        "extraArgs": ["--former-public-urls=https://$(HOSTNAME).acme.test"],
    });
    installation.install(&chart::folder(), &values).await?;
    let options = installation.options("operator", port, &[]).await?;
    let operator = Operator::start(options).await?;

    // Only the proxy resolves this name, and only the bundle trusts its certificate.
    env.create_connection(env.connection_spec_at(&format!("https://{NAME}:{}", provider.port()))).await?;
    env.connection_ready().await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.push("through a proxy").await?;
    env.sink.wait_for(1, SOON).await?;
    let through = proxy.targets();
    let target = format!("{NAME}:{}", provider.port());
    ensure!(
        !through.is_empty() && through.iter().all(|asked| *asked == target),
        "requests to the API server and the sink do not use the proxy: {through:?}"
    );

    // Hosts in NO_PROXY are reached directly, and the bundle applies there too.
    env.create_connection_named("direct", env.connection_spec_at(&provider.url())).await?;
    wait_until("the direct connection", SOON, async || {
        let ready = connection_condition(&env.connections.get("direct").await?, "Ready");
        Ok(if ready == "True/Succeeded" { Seen::Done(()) } else { Seen::NotYet(ready) })
    })
    .await?;
    ensure!(proxy.targets().iter().all(|asked| *asked == target), "{:?}", proxy.targets());
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;

    // Without the bundle, no authority trusts the same certificate.
    drop(operator);
    installation.upgrade(&chart::folder(), &json!({"caBundle": {"configMap": ""}})).await?;
    let _operator = Operator::start(installation.options("operator", port, &[]).await?).await?;
    let refused = env.connection_says("Reachable", "False/TLSError").await?;
    ensure!(connection_message(&refused, "Reachable").contains("certificate"), "{}", connection_message(&refused, "Reachable"));
    Ok(())
}

#[tokio::test]
async fn of_two_controllers_one_leads_and_the_other_takes_over() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (env, installation, port) = (TestEnv::new("replicas").await?, Installation::new(plane).await?, free_port()?);
    let mut values = values("Separate", port, &env);
    values["controller"] = json!({"replicas": 2, "podDisruptionBudget": {"enabled": true}});
    installation.install(&chart::folder(), &values).await?;
    let resolve = [format!("--resolve={}", env.sink.resolve(SINK, &env.namespace))];
    let receiver = installation.options("receiver", port, &resolve).await?;
    let mut controllers = Vec::new();
    for pod in ["a", "b"] {
        let mut options = installation.options_of_pod("controller", pod, 0, &resolve).await?;
        options.replace_argument("--receivers=", &receiver.admin_url())?;
        // A controller that waits for the lease is ready too, because a rollout must not wait for it.
        controllers.push(Operator::start(options).await?);
    }
    let _receiver = Operator::start(receiver).await?;
    let leases: Api<Lease> = Api::namespaced(plane.cluster().client()?, &installation.namespace);
    let holder = async || -> Result<String> {
        let lease = leases.get("forgebind-controller").await?;
        Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
    };
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let first = holder().await?;
    let leads = ["a", "b"].iter().position(|pod| first.contains(&format!("{}-controller-{pod}", installation.release)));
    let leader = controllers.remove(leads.with_context(|| format!("{first} is not one of the pods"))?);
    leader.terminate(Duration::from_secs(30)).await?;
    env.create_binding("second", env.binding_spec()).await?;
    env.binding_ready("second").await?;
    let second = holder().await?;
    ensure!(second != first && !second.is_empty(), "{first} led before, {second} leads now");
    env.push("under another leader").await?;
    env.sink.wait_for(2, SOON).await?;
    Ok(())
}
