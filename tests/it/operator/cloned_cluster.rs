//! Copies of a cluster: the same objects and the same key, while the original runs.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::{ConnectionGrant, GitProviderConnection, ROTATE_REQUESTED_AT, RepoBinding};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use tokio::sync::OnceCell;

use testkit::control_plane::ControlPlane;
use testkit::fault_proxy::{Exchange, FaultProxy};
use testkit::gitea::Hook;
use testkit::operator::{Operator, Options, metric};
use testkit::restore::{arrived, arrives_once, connect, guide, identities, secret_version, spec_of, spec_of_custom, take_over};
use testkit::scratch::Scratch;
use testkit::test_env::{OVERLAPPED, SINK, SOON, TestEnv, binding_condition, binding_message};
use testkit::wait::{Seen, wait_until};

/// The cluster into which the tests copy.
async fn other_cluster() -> Result<&'static ControlPlane> {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE.get_or_try_init(ControlPlane::start).await
}

async fn secrets(from: &TestEnv, namespace: &str, to: &TestEnv, into: &str) -> Result<()> {
    let (here, there) = (from.cluster().client()?, to.cluster().client()?);
    let there: Api<Secret> = Api::namespaced(there, into);
    for secret in Api::<Secret>::namespaced(here, namespace).list(&ListParams::default()).await? {
        let metadata = ObjectMeta { name: secret.metadata.name.clone(), ..ObjectMeta::default() };
        there.create(&PostParams::default(), &Secret { metadata, ..secret }).await?;
    }
    Ok(())
}

/// Copies the objects of a kind with finalizers and status, as a snapshot of etcd does.
async fn objects(kind: &ApiResource, from: &TestEnv, to: &TestEnv) -> Result<()> {
    let here: Api<DynamicObject> = Api::namespaced_with(from.cluster().client()?, &from.namespace, kind);
    let there: Api<DynamicObject> = Api::namespaced_with(to.cluster().client()?, &to.namespace, kind);
    for object in here.list(&ListParams::default()).await? {
        let mut copy = object.clone();
        copy.metadata = ObjectMeta { name: object.metadata.name, finalizers: object.metadata.finalizers, ..ObjectMeta::default() };
        copy.metadata = there.create(&PostParams::default(), &copy).await?.metadata;
        there.replace_status(&copy.name_any(), &PostParams::default(), &copy).await?;
    }
    Ok(())
}

/// Another cluster with the same Secrets and no objects, and the options of an operator there. It sends events to the same sink.
async fn cluster_with_the_secrets(env: &TestEnv, original: &Operator) -> Result<(TestEnv, Options)> {
    let plane = other_cluster().await?;
    plane.cluster().create_namespace_named(&env.namespace).await?;
    let copy = env.in_cluster(plane)?;
    copy.create_sink_service().await?;
    let options = Options::on(plane, &[&copy.namespace], None).await?.with("resolve", &copy.sink.resolve(SINK, &copy.namespace));
    secrets(env, &env.namespace, &copy, &copy.namespace).await?;
    secrets(env, original.options().namespace(), &copy, options.namespace()).await?;
    Ok((copy, options))
}

/// A copy of everything in another cluster.
async fn copy(env: &TestEnv, original: &Operator) -> Result<(TestEnv, Options)> {
    let (copy, options) = cluster_with_the_secrets(env, original).await?;
    objects(&ApiResource::erase::<GitProviderConnection>(&()), env, &copy).await?;
    objects(&ApiResource::erase::<ConnectionGrant>(&()), env, &copy).await?;
    objects(&ApiResource::erase::<RepoBinding>(&()), env, &copy).await?;
    Ok((copy, options))
}

fn writes(proxy: &FaultProxy) -> Vec<String> {
    let exchanges = proxy.exchanges().into_iter().filter(Exchange::is_write);
    exchanges.map(|exchange| format!("{} {}", exchange.method, exchange.path)).collect()
}

#[tokio::test]
async fn a_copy_under_another_public_url_leaves_the_hooks_of_the_original_alone() -> Result<()> {
    let env = TestEnv::new("original").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let original = env.operator().await?;
    connect(&env, env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", spec_of(&env, "shop")).await?;
    env.create_binding("elsewhere", spec_of_custom(&env)).await?;
    env.binding_ready("shop").await?;
    env.binding_ready("elsewhere").await?;
    let hooks = identities(&env).await?;
    assert_eq!(hooks.len(), 2);
    let (copied, options) = copy(&env, &original).await?;
    proxy.forget();
    let operator = Operator::start(options.clone()).await?;
    copied.connection_ready().await?;
    for name in ["shop", "elsewhere"] {
        // A custom URL does not contain the host of the receiver, so the test requests a probe.
        copied.look_again(name).await?;
        let binding = copied.binding_says(name, "Ready", "False/HookUnderAnotherHost").await?;
        assert!(binding_message(&binding, "Ready").contains("--former-public-urls"), "{}", binding_message(&binding, "Ready"));
    }
    let commit = env.push("to the original alone").await?;
    arrives_once(&env, &commit, &["/of/shop", "/api/webhook"]).await?;
    // Deleted in the copy, with the finalizer that was copied along.
    copied.delete_binding("elsewhere").await?;
    copied.binding_gone("elsewhere", SOON).await?;
    assert_eq!(identities(&env).await?, hooks);
    assert_eq!(writes(&proxy), [""; 0], "nothing was written at the provider");
    assert_eq!(binding_condition(&env.bindings.get("shop").await?, "Ready"), "True/Succeeded");

    // With a key of its own, the copy runs beside the original.
    assert!(operator.terminate(SOON).await?.success());
    let folder = Scratch::new("own-key")?;
    for script in guide("## A copy of the cluster")? {
        copied.cluster().script(folder.path(), &script.replace("forgebind-system", options.namespace())).await?;
    }
    let operator = Operator::start(options.with("new-install-key", "true")).await?;
    take_over(&copied).await?;
    copied.binding_ready("shop").await?;
    let own = copied.hooks_at(&operator.url()).await?;
    assert_eq!(own.len(), 1, "{own:?}");
    let commit = env.push("to both").await?;
    wait_until("the commit to arrive by both hooks", SOON, async || {
        let count = arrived(&env).get(&("/of/shop".to_owned(), commit.clone())).copied().unwrap_or_default();
        Ok(if count == 2 { Seen::Done(()) } else { Seen::NotYet(format!("{count} times")) })
    })
    .await?;
    copied.delete_binding("shop").await?;
    copied.binding_gone("shop", SOON).await?;
    assert_eq!(identities(&env).await?, hooks, "only the copy's own hook was removed");
    assert_eq!(metric(&original.metrics().await?, "forgebind_receiver_requests_total{code=\"401\""), 0);
    Ok(())
}

#[tokio::test]
async fn a_copy_under_the_same_public_url_duplicates_no_hook_and_the_original_recreates_what_the_copy_deletes() -> Result<()> {
    let env = TestEnv::new("twin").await?;
    let original = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", spec_of(&env, "shop")).await?;
    let first = secret_version(&env.binding_ready("shop").await?).context("a secret version")?;
    let hooks = identities(&env).await?;
    let (copied, options) = copy(&env, &original).await?;
    let _operator = Operator::start(options.with("public-url", &original.url())).await?;
    copied.connection_ready().await?;
    copied.look_again("shop").await?;
    copied.binding_ready("shop").await?;
    assert_eq!(identities(&env).await?, hooks, "both operators found the same hook");

    // One operator rotates, the other follows.
    env.annotate_binding("shop", ROTATE_REQUESTED_AT, "once").await?;
    let rotated = env.binding_until("shop", "rotated", SOON, |binding| secret_version(binding).is_some_and(|now| now != first)).await?;
    copied.look_again("shop").await?;
    let newest = secret_version(&rotated);
    copied.binding_until("shop", "followed", SOON, |binding| secret_version(binding) == newest).await?;
    let alone = |hooks: &[Hook]| hooks.len() == 1;
    wait_until("the end of the overlap", OVERLAPPED, async || {
        let hooks = env.hooks_at(&original.url()).await?;
        Ok(if alone(&hooks) { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    let commit = env.push("to where the URL leads").await?;
    arrives_once(&env, &commit, &["/of/shop"]).await?;

    copied.delete_binding("shop").await?;
    copied.binding_gone("shop", SOON).await?;
    assert!(env.hooks_at(&original.url()).await?.is_empty(), "the guide warns of this");
    env.look_again("shop").await?;
    env.hooks_until(&env.repository, &original.url(), "recreated", alone).await?;
    let commit = env.push("after it was made again").await?;
    arrives_once(&env, &commit, &["/of/shop"]).await?;
    Ok(())
}

/// As in `guide/platform/several-clusters.md`: the same key, public URL and manifests, read-only until the switch.
#[tokio::test]
async fn a_standby_writes_nothing_at_the_provider_and_takes_over_with_the_same_hooks() -> Result<()> {
    let env = TestEnv::new("standby").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let original = env.operator().await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", spec_of(&env, "shop")).await?;
    env.binding_ready("shop").await?;
    let hooks = identities(&env).await?;
    let commit = env.push("to the original").await?;
    arrives_once(&env, &commit, &["/of/shop"]).await?;

    let (standby, options) = cluster_with_the_secrets(&env, &original).await?;
    let options = options.with("public-url", &original.url());
    standby.create_connection(env.connection_spec_at(&proxy.url())).await?;
    standby.create_binding("shop", spec_of(&standby, "shop")).await?;
    proxy.forget();
    let waiting = Operator::start(options.clone().with("read-only", "true")).await?;
    standby.binding_says("shop", "Ready", "True/Succeeded").await?;
    assert!(waiting.terminate(SOON).await?.success());
    assert_eq!(writes(&proxy), [""; 0], "nothing was written at the provider");
    assert_eq!(identities(&env).await?, hooks);

    // The switch: the original stops, and its address leads to the standby, which may write from now on.
    let address = original.url();
    assert!(original.terminate(SOON).await?.success());
    let _operator = Operator::start(options.with("listen", address.trim_start_matches("http://"))).await?;
    standby.look_again("shop").await?;
    standby.binding_ready("shop").await?;
    assert_eq!(writes(&proxy), [""; 0], "every hook is as it should be");
    let commit = env.push("after the switch").await?;
    arrives_once(&env, &commit, &["/of/shop"]).await?;
    assert_eq!(identities(&env).await?, hooks);
    standby.delete_binding("shop").await?;
    standby.binding_gone("shop", SOON).await?;
    assert!(env.hooks_at(&address).await?.is_empty(), "the standby manages the hooks of the original");
    Ok(())
}
