//! Checks against hooks and objects of an operator: recognised by the install key, and read from its cluster.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{object, row, run, secret, stream, told};
use testkit::control_plane::ADMIN_TOKEN;
use testkit::fault_proxy::{Exchange, FaultProxy};
use testkit::operator::Operator;
use testkit::scratch::Scratch;
use testkit::test_env::{CONNECTION, SOON, TestEnv, install_key};

/// An environment with a binding that an operator made Ready before it stopped.
async fn settled(name: &str) -> Result<(TestEnv, FaultProxy, Operator, Vec<u8>)> {
    let env = TestEnv::new(name).await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let key = install_key(&env, &operator).await?;
    operator.terminate(SOON).await?;
    proxy.forget();
    Ok((env, proxy, operator, key))
}

#[tokio::test]
async fn our_own_hook_is_recognised_by_the_install_key_and_its_drift_is_reported() -> Result<()> {
    let (env, proxy, operator, key) = settled("check-own").await?;
    let folder = Scratch::new("check-own")?;
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, &key)?;
    let key_file = key_file.to_str().context("a path")?;
    let objects = [
        secret(&env.namespace, "credential", &env.account.token),
        object("GitProviderConnection", &env.namespace, CONNECTION, env.connection_spec_at(&proxy.url())),
        object("RepoBinding", &env.namespace, "shop", env.binding_spec()),
    ];
    let (url, text) = (operator.url(), stream(&objects));
    let flags = ["-f", "-", "-o", "json", "--public-url", &url];
    let with_key = [&flags[..], &["--install-key-file", key_file]].concat();
    let result = run(&with_key, &[], &text).await?.json()?;
    assert_eq!(told(&result, "shop"), "Ready Succeeded []", "{result:#}");

    let unknown = run(&flags, &[], &text).await?;
    assert_eq!(told(&unknown.json()?, "shop"), "Ready Succeeded [CreateHook]");
    assert!(
        unknown.text.contains("looks like Forgebind's and may be the hook of this binding; pass --install-key-file to find out"),
        "{}",
        unknown.text
    );

    let hook = env.hooks_at(&url).await?.remove(0);
    env.gitea.edit_hook(&env.repository, hook.id, &json!({"active": true, "events": ["issues"]})).await?;
    let shown = async || anyhow::Ok(env.hooks_at(&url).await?.remove(0).events.into_iter().collect::<BTreeSet<_>>());
    let drifted = shown().await?;
    let result = run(&with_key, &[], &text).await?.json()?;
    assert_eq!(told(&result, "shop"), "Ready Succeeded [UpdateHook]");
    let action = &row(&result, "shop")["actions"][0];
    assert_eq!(action["target"], format!("{} hook {}", env.repository, hook.id));
    assert!(action["reason"].as_str().is_some_and(|reason| reason.contains("differs in") && reason.contains("events")), "{action}");
    assert_eq!(proxy.count(Exchange::is_write), 0, "{:?}", proxy.exchanges());
    assert_eq!(shown().await?, drifted, "the hook is unchanged");
    Ok(())
}

#[tokio::test]
async fn a_live_cluster_is_read_and_never_written_to() -> Result<()> {
    let (env, proxy, operator, _) = settled("check-live").await?;
    let before = serde_json::to_value((env.bindings.get("shop").await?, env.connections.get(CONNECTION).await?))?;
    let api = FaultProxy::before_control_plane(env.plane).await?;
    let kubeconfig = env.plane.kubeconfig_for("check", ADMIN_TOKEN, Some(&api.url()))?;
    let environment = [("KUBECONFIG", kubeconfig.to_str().context("a path")?)];
    let url = operator.url();
    let flags = ["--from-cluster", "-o", "json", "--public-url", &url, "--namespace", operator.options().namespace()];
    let resolve = env.sink.resolve(testkit::test_env::SINK, &env.namespace);
    let flags = [&flags[..], &["--watch-namespaces", &env.namespace, "--resolve", &resolve]].concat();
    let checked = run(&flags, &environment, "").await?;
    let result = checked.json()?;
    assert_eq!(
        (told(&result, "shop").as_str(), told(&result, CONNECTION).as_str()),
        ("Ready Succeeded []", "Ready Succeeded []"),
        "{result:#}"
    );
    assert_eq!((checked.code, result["notes"].as_array().map(Vec::len)), (0, Some(0)), "{result:#}");

    // The effect of a change in Git: the spec of the manifest with the status of the cluster.
    let mut changed = env.binding_spec();
    changed["webhook"]["events"] = json!(["Push", "PullRequest"]);
    let overlay = [
        object("RepoBinding", &env.namespace, "shop", changed),
        object(
            "RepoBinding",
            &env.namespace,
            "new",
            json!({"connectionRef": {"name": CONNECTION}, "repository": env.repository, "branch": "mian"}),
        ),
    ];
    let with_manifests = [&flags[..], &["-f", "-"]].concat();
    let result = run(&with_manifests, &environment, &stream(&overlay)).await?.json()?;
    assert_eq!(told(&result, "shop"), "Ready Succeeded [UpdateHook]", "{result:#}");
    assert_eq!(told(&result, "new"), "NotReady BranchNotFound []");
    let mut moved = env.connection_spec_at(&proxy.url());
    moved["provider"]["gitea"]["organization"] = json!("another");
    let moved = object("GitProviderConnection", &env.namespace, CONNECTION, moved);
    let result = run(&with_manifests, &environment, &stream(&[moved])).await?.json()?;
    assert!(result.to_string().contains("spec.provider cannot change"), "{result:#}");

    assert!(api.count(|exchange| exchange.path.contains("/repobindings")) > 0, "the cluster was read through the proxy");
    assert_eq!(api.count(Exchange::is_write), 0, "{:?}", api.exchanges());
    assert_eq!(proxy.count(Exchange::is_write), 0, "{:?}", proxy.exchanges());
    let after = serde_json::to_value((env.bindings.get("shop").await?, env.connections.get(CONNECTION).await?))?;
    assert_eq!(after, before);
    let nowhere = run(&["--from-cluster"], &[("KUBECONFIG", "/no/such/kubeconfig")], "").await?;
    assert!(nowhere.code == 2 && nowhere.complaint.contains("--from-cluster: no cluster"), "{nowhere:?}");
    Ok(())
}

#[tokio::test]
async fn a_secret_of_the_cluster_is_not_sent_to_a_host_that_a_manifest_chooses() -> Result<()> {
    let (env, proxy, operator, _) = settled("check-led").await?;
    let elsewhere = FaultProxy::before_gitea(env.gitea).await?;
    let kubeconfig = env.plane.kubeconfig_for("check-led", ADMIN_TOKEN, None)?;
    let environment = [("KUBECONFIG", kubeconfig.to_str().context("a path")?)];
    let url = operator.url();
    let flags = ["--from-cluster", "-f", "-", "-o", "json", "--public-url", &url, "--namespace", operator.options().namespace()];
    let flags = [&flags[..], &["--watch-namespaces", &env.namespace]].concat();
    let connection = |name: &str, api: Option<String>| {
        let mut spec = env.connection_spec_at(&proxy.url());
        if let Some(api) = api {
            spec["provider"]["gitea"]["apiURL"] = json!(api);
        }
        object("GitProviderConnection", &env.namespace, name, spec)
    };
    let api = || Some(format!("{}/api/v1", elsewhere.url()));
    for (name, manifest) in [(CONNECTION, connection(CONNECTION, api())), ("new", connection("new", api()))] {
        let result = run(&flags, &environment, &stream(&[manifest])).await?.json()?;
        assert_eq!(told(&result, name), "NotReady HostNotAllowed []", "{result:#}");
        assert!(result.to_string().contains("the credential comes from the cluster"), "{result:#}");
        assert_eq!(elsewhere.exchanges().len(), 0, "{name}: no request was sent");
    }
    let unmoved = run(&flags, &environment, &stream(&[connection(CONNECTION, None)])).await?.json()?;
    assert_eq!(told(&unmoved, CONNECTION), "Ready Succeeded []", "{unmoved:#}");
    Ok(())
}
