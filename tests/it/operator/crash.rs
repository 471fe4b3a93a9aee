//! Crashes, lost answers, servers that restart, and two operators at once: there is always exactly one hook.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::{RECONCILE_REQUESTED_AT, ROTATE_REQUESTED_AT, RepoBinding};
use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use serde_json::json;

use testkit::control_plane::OwnControlPlane;
use testkit::fault_proxy::{Exchange, Fault, FaultProxy};
use testkit::operator::Operator;
use testkit::shared;
use testkit::test_env::{CONNECTION, OVERLAPPED, SOON, TestEnv, binding_condition, connection_condition};
use testkit::wait::{Seen, stays, wait_until};

/// How long a test waits for the end of a lease, or for a server that restarts.
const LATER: Duration = Duration::from_secs(180);

fn creates_hook(exchange: &Exchange) -> bool {
    exchange.method == Method::POST && exchange.path.ends_with("/hooks")
}

fn changes_hook(exchange: &Exchange) -> bool {
    exchange.is_write() && exchange.path.contains("/hooks")
}

fn writes_status_with_hooks(exchange: &Exchange) -> bool {
    let names_hooks = String::from_utf8_lossy(&exchange.body).contains(r#""hooks":[{"#);
    exchange.is_write() && exchange.path.contains("/repobindings/") && exchange.path.contains("/status") && names_hooks
}

fn secret_version(binding: &RepoBinding) -> Option<String> {
    binding.status.as_ref()?.webhook.as_ref()?.secret_version.clone()
}

fn hook_ids(binding: &RepoBinding) -> Vec<String> {
    let webhook = binding.status.as_ref().and_then(|status| status.webhook.as_ref());
    webhook.map(|webhook| webhook.hooks.iter().map(|hook| hook.id.clone()).collect()).unwrap_or_default()
}

/// Waits until the operator has exactly `count` hooks at the repository.
async fn hooks_number(env: &TestEnv, operator: &Operator, count: usize, deadline: Duration) -> Result<()> {
    wait_until(&format!("{count} hooks"), deadline, async || {
        let hooks = env.hooks_at(&operator.url()).await?;
        Ok(if hooks.len() == count { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await
}

/// The number of requests that the receiver refused, over all reasons.
async fn refusals(operator: &Operator) -> Result<u64> {
    let metrics = operator.metrics().await?;
    let lines = metrics.lines().filter(|line| line.starts_with("forgebind_receiver_refusals_total"));
    lines.map(|line| Ok(line.rsplit(' ').next().context("a metric without a value")?.parse::<u64>()?)).sum()
}

#[tokio::test]
async fn a_kill_between_the_creation_and_its_answer_leaves_one_hook() -> Result<()> {
    let env = TestEnv::new("crash-create").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.connection_ready().await?;
    let mut held = proxy.inject(Fault::HoldAnswer, creates_hook);
    env.create_binding("shop", env.binding_spec()).await?;
    held.struck(1, SOON).await?;
    operator.kill();
    drop(held);
    let made = env.hooks_at(&operator.url()).await?;
    assert_eq!(made.len(), 1, "{made:?}");
    let before = env.bindings.get("shop").await?;
    assert!(hook_ids(&before).is_empty(), "the status does not contain the hook");

    let began = Instant::now();
    operator.restart().await?;
    let binding = env.binding_ready("shop").await?;
    eprintln!("figure: restart after a crash between creation and status to Ready: {:.2?}", began.elapsed());
    let hooks = env.hooks_at(&operator.url()).await?;
    assert_eq!(hooks.len(), 1, "{hooks:?}");
    assert_eq!(hooks[0].id, made[0].id, "adopted, not created again");
    assert_eq!(hook_ids(&binding), [made[0].id.to_string()]);
    assert!(hooks[0].config.url.ends_with(&secret_version(&binding).context("a secret version")?));
    assert_eq!(proxy.count(creates_hook), 1);
    env.push("after the crash").await?;
    env.sink.wait_for(1, SOON).await?;
    assert_eq!(refusals(&operator).await?, 0);
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert!(env.hooks_at(&operator.url()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_kill_between_the_creation_and_the_status_write_leaves_one_hook() -> Result<()> {
    let env = TestEnv::new("crash-status").await?;
    let proxy = FaultProxy::before_control_plane(env.plane).await?;
    let operator = Operator::start(env.options_through(Some(&proxy.url())).await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.connection_ready().await?;
    let mut lost = proxy.inject_nth(Fault::LoseRequest, 0, usize::MAX, writes_status_with_hooks);
    env.create_binding("shop", env.binding_spec()).await?;
    lost.struck(1, SOON).await?;
    operator.kill();
    drop(lost);
    let made = env.hooks_at(&operator.url()).await?;
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(hook_ids(&env.bindings.get("shop").await?).is_empty());

    let began = Instant::now();
    operator.restart().await?;
    let binding = env.binding_ready("shop").await?;
    eprintln!("figure: restart after a crash before the status write to Ready: {:.2?}", began.elapsed());
    assert_eq!(hook_ids(&binding), [made[0].id.to_string()]);
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_to_the_creation_leaves_one_hook() -> Result<()> {
    let env = TestEnv::new("lost-answer").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.connection_ready().await?;
    let mut lost = proxy.inject(Fault::LoseAnswer, creates_hook);
    env.create_binding("shop", env.binding_spec()).await?;
    lost.struck(1, SOON).await?;
    let binding = env.binding_ready("shop").await?;
    let hooks = env.hooks_at(&operator.url()).await?;
    assert_eq!(hooks.len(), 1, "{hooks:?}");
    assert_eq!(hook_ids(&binding), [hooks[0].id.to_string()]);
    assert_eq!(proxy.count(creates_hook), 1, "the operator read the list first and found the hook");

    // For the operator, a request that never arrived looks the same; it reads the list and creates the hook again.
    let mut lost = proxy.inject(Fault::LoseRequest, creates_hook);
    let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": env.repository, "webhook": {"events": ["Tag"]}});
    env.create_binding("tags", spec).await?;
    lost.struck(1, SOON).await?;
    env.binding_ready("tags").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 2);
    assert_eq!(proxy.count(creates_hook), 3);
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_to_the_status_write_is_repaired_by_the_next_probe() -> Result<()> {
    let env = TestEnv::new("lost-status").await?;
    let proxy = FaultProxy::before_control_plane(env.plane).await?;
    let operator = Operator::start(env.options_through(Some(&proxy.url())).await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.connection_ready().await?;
    let mut lost = proxy.inject(Fault::LoseAnswer, writes_status_with_hooks);
    env.create_binding("shop", env.binding_spec()).await?;
    lost.struck(1, SOON).await?;
    env.binding_ready("shop").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    // The controller knows the written status again: the next change succeeds.
    env.patch_binding("shop", json!({"spec": {"webhook": {"events": ["Push", "Tag"]}}})).await?;
    env.binding_ready("shop").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn after_a_wiped_status_the_hook_is_adopted_with_its_secret_and_no_delivery_is_refused() -> Result<()> {
    let env = TestEnv::new("wiped").await?;
    let gitea = FaultProxy::before_gitea(env.gitea).await?;
    let proxy = FaultProxy::before_control_plane(env.plane).await?;
    let operator = Operator::start(env.options_through(Some(&proxy.url())).await?).await?;
    env.create_connection(env.connection_spec_at(&gitea.url())).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let settled = env.binding_ready("shop").await?;
    env.push("before").await?;
    env.sink.wait_for(1, SOON).await?;
    env.binding_says("shop", "Receiving", "True/Succeeded").await?;

    // The proxy holds the operator's reaction to the wipe, so that the status stays wiped during the push.
    let mut held = proxy.inject(Fault::HoldRequest, writes_status_with_hooks);
    let kind = ApiResource::erase::<RepoBinding>(&());
    let objects: Api<DynamicObject> = Api::namespaced_with(env.cluster().client()?, &env.namespace, &kind);
    let mut object = objects.get("shop").await?;
    object.data["status"] = json!({});
    objects.replace_status("shop", &PostParams::default(), &object).await?;
    held.struck(1, SOON).await?;
    assert_eq!(secret_version(&env.bindings.get("shop").await?), None, "wiped");
    env.push("while wiped").await?;
    env.sink.wait_for(2, SOON).await?;
    held.release();

    let adopted = env.binding_ready("shop").await?;
    assert_eq!(secret_version(&adopted), secret_version(&settled), "the hook's secret is the current one");
    assert_eq!(hook_ids(&adopted), hook_ids(&settled));
    env.push("afterwards").await?;
    let delivered = env.sink.wait_for(3, SOON).await?;
    assert_eq!(delivered.len(), 3);
    assert_eq!(refusals(&operator).await?, 0);
    assert_eq!(gitea.count(changes_hook), 1, "only the first creation");
    Ok(())
}

#[tokio::test]
async fn a_kill_in_the_overlap_of_a_rotation_does_not_keep_the_old_hook() -> Result<()> {
    let env = TestEnv::new("crash-overlap").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let old = env.hooks_at(&operator.url()).await?.remove(0);
    env.annotate_binding("shop", ROTATE_REQUESTED_AT, "once").await?;
    hooks_number(&env, &operator, 2, SOON).await?;
    env.binding_until("shop", "both hooks in the status", SOON, |binding| hook_ids(binding).len() == 2).await?;
    operator.kill();
    operator.restart().await?;
    hooks_number(&env, &operator, 1, OVERLAPPED).await?;
    assert_ne!(env.hooks_at(&operator.url()).await?[0].id, old.id, "the new one stays");
    Ok(())
}

#[tokio::test]
async fn everything_converges_after_restarts_of_the_api_server_and_etcd() -> Result<()> {
    // A control plane of its own, because other tests keep using the shared one.
    let own = OwnControlPlane::start().await?;
    let plane = own.plane();
    let env = TestEnv::on(plane, shared::gitea().await?, "outage").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("known", env.binding_spec()).await?;
    env.binding_ready("known").await?;

    let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": env.repository, "webhook": {"events": ["Tag"]}});
    env.create_binding("before", spec.clone()).await?;
    plane.kill_api_server();
    env.push("without an API server").await?;
    env.sink.wait_for(1, SOON).await?;
    let began = Instant::now();
    plane.start_api_server().await?;
    env.create_binding("after", spec.clone()).await?;
    for name in ["before", "after"] {
        env.binding_until(name, "Ready", LATER, |binding| binding_condition(binding, "Ready") == "True/Succeeded").await?;
    }
    eprintln!("figure: start of the API server to everything Ready: {:.2?}", began.elapsed());
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 3);

    env.annotate_binding("known", RECONCILE_REQUESTED_AT, "before the end of etcd").await?;
    plane.kill_etcd();
    env.push("without etcd").await?;
    env.sink.wait_for(2, SOON).await?;
    let began = Instant::now();
    plane.start_etcd().await?;
    env.delete_binding("after").await?;
    env.create_binding("last", spec).await?;
    env.binding_gone("after", LATER).await?;
    env.binding_until("last", "Ready", LATER, |binding| binding_condition(binding, "Ready") == "True/Succeeded").await?;
    eprintln!("figure: start of etcd to everything done: {:.2?}", began.elapsed());
    env.binding_until("known", "the request handled", LATER, |binding| {
        let handled = binding.status.as_ref().and_then(|status| status.last_handled.as_ref());
        handled.and_then(|handled| handled.reconcile.as_deref()) == Some("before the end of etcd")
    })
    .await?;
    hooks_number(&env, &operator, 3, LATER).await?;
    env.push("afterwards").await?;
    env.sink.wait_for(3, SOON).await?;
    assert_eq!(refusals(&operator).await?, 0);
    assert!(operator.terminate(SOON).await?.success());
    plane.kill_api_server();
    plane.kill_etcd();
    Ok(())
}

/// The operator that holds the lease.
async fn leader<'a>(env: &TestEnv, operators: &[&'a Operator], deadline: Duration) -> Result<&'a Operator> {
    let namespace = operators.first().context("an operator")?.options().namespace();
    let leases: Api<Lease> = Api::namespaced(env.cluster().client()?, namespace);
    wait_until("a leader", deadline, async || {
        let holder = leases.get("forgebind-controller").await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        let found = operators.iter().find(|operator| {
            let port = operator.admin_url().rsplit(':').next().map(|port| format!("_{port}"));
            port.is_some_and(|port| holder.ends_with(&port))
        });
        Ok(found.map_or_else(|| Seen::NotYet(format!("held by {holder:?}")), |operator| Seen::Done(*operator)))
    })
    .await
}

#[tokio::test]
async fn two_operators_create_one_hook_and_one_takes_over_from_the_other() -> Result<()> {
    let env = TestEnv::new("election").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let options = env.options().await?.with("leader-election", "true");
    let beside = options.beside()?;
    let (one, other) = tokio::try_join!(Operator::start(options), Operator::start(beside))?;
    // Both operators use the same public URL: that of the first.
    let hooks_there = async || env.hooks_at(&one.url()).await;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": env.repository, "webhook": {"events": ["Push"]}});
    env.create_binding("first", spec.clone()).await?;
    env.binding_until("first", "Ready", LATER, |binding| binding_condition(binding, "Ready") == "True/Succeeded").await?;
    assert_eq!(hooks_there().await?.len(), 1);
    assert_eq!(proxy.count(creates_hook), 1);

    let killed = leader(&env, &[&one, &other], SOON).await?;
    let survivor = if std::ptr::eq(killed, &raw const one) { &other } else { &one };
    killed.kill();
    let began = Instant::now();
    env.create_binding("second", spec.clone()).await?;
    env.binding_until("second", "Ready", LATER, |binding| binding_condition(binding, "Ready") == "True/Succeeded").await?;
    eprintln!("figure: kill -9 of the leader to a binding made Ready by the other: {:.2?}", began.elapsed());
    leader(&env, &[survivor], SOON).await?;

    killed.restart().await?;
    let began = Instant::now();
    let status = survivor.terminate(SOON).await?;
    assert_eq!(status.code(), Some(0));
    leader(&env, &[killed], LATER).await?;
    eprintln!("figure: SIGTERM of the leader to the other holding the lease: {:.2?}", began.elapsed());
    env.create_binding("third", spec).await?;
    env.binding_until("third", "Ready", LATER, |binding| binding_condition(binding, "Ready") == "True/Succeeded").await?;
    assert_eq!(hooks_there().await?.len(), 3);
    assert_eq!(proxy.count(creates_hook), 3, "each hook was created once");
    ensure!(survivor.log().contains("lease released"), "the lease was released");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_was_frozen_creates_nothing_after_it_resumes() -> Result<()> {
    let env = TestEnv::new("frozen").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let options = env.options().await?.with("leader-election", "true");
    let beside = options.beside()?;
    let (one, other) = tokio::try_join!(Operator::start(options), Operator::start(beside))?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.connection_until("Ready", LATER, |connection| connection_condition(connection, "Ready") == "True/Succeeded").await?;
    let frozen = leader(&env, &[&one, &other], SOON).await?;

    // The leader is frozen after its list, which shows no hook, and before its creation.
    let mut held = proxy.inject(Fault::HoldAnswer, |exchange| exchange.method == Method::GET && exchange.path.contains("/hooks"));
    let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": env.repository, "webhook": {"events": ["Push"]}});
    env.create_binding("shop", spec).await?;
    held.struck(1, SOON).await?;
    frozen.signal("STOP")?;
    env.binding_until("shop", "Ready", LATER, |binding| binding_condition(binding, "Ready") == "True/Succeeded").await?;
    held.release();
    frozen.signal("CONT")?;
    wait_until("the frozen operator to notice that it lost the lease", SOON, async || {
        let leads = frozen.log().contains("no longer the leader");
        Ok(if leads { Seen::Done(()) } else { Seen::NotYet(frozen.log_tail(3)) })
    })
    .await?;
    stays("one creation", Duration::from_secs(3), async || {
        ensure!(proxy.count(creates_hook) == 1, "{} creations", proxy.count(creates_hook));
        Ok(())
    })
    .await?;
    assert_eq!(env.hooks_at(&one.url()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_lost_install_key_stops_the_start_with_a_message_that_names_the_flag() -> Result<()> {
    let env = TestEnv::new("key-lost").await?;
    let options = env.options().await?;
    let operator = Operator::start(options.clone()).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    assert!(operator.terminate(SOON).await?.success());
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, options.namespace());
    secrets.delete("forgebind-install-key", &DeleteParams::default()).await?;

    let refused = Operator::launch(options.clone())?;
    let status = refused.wait_exit(SOON).await?;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    let said = refused.log_tail(1);
    assert!(said.contains("forgebind-install-key") && said.contains(options.namespace()), "{said}");
    assert!(said.contains("--new-install-key"), "{said}");
    assert!(secrets.get_opt("forgebind-install-key").await?.is_none(), "no key was created");

    let anew = Operator::start(options.with("new-install-key", "true")).await?;
    assert!(secrets.get_opt("forgebind-install-key").await?.is_some());
    // The operator leaves hooks of the lost key alone and reports them.
    env.binding_says("shop", "Stalled", "True/ManagedByAnotherInstallation").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    assert!(anew.terminate(SOON).await?.success());
    Ok(())
}

#[tokio::test]
async fn a_graceful_stop_finishes_requests_in_flight() -> Result<()> {
    let env = TestEnv::new("graceful").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.connection_ready().await?;
    let mut held = proxy.inject(Fault::HoldAnswer, creates_hook);
    env.create_binding("shop", env.binding_spec()).await?;
    held.struck(1, SOON).await?;
    let began = Instant::now();
    let stopping = async {
        let status = operator.terminate(SOON).await?;
        eprintln!("figure: SIGTERM with a creation in flight to the end: {:.2?}", began.elapsed());
        Ok::<_, anyhow::Error>(status)
    };
    let releasing = async {
        wait_until("the stop to begin", SOON, async || {
            let log = operator.log();
            Ok(if log.contains("stopping") { Seen::Done(()) } else { Seen::NotYet("not in the log yet".to_owned()) })
        })
        .await?;
        held.release();
        Ok(())
    };
    let (status, ()) = tokio::try_join!(stopping, releasing)?;
    assert_eq!(status.code(), Some(0));
    let hooks = env.hooks_at(&operator.url()).await?;
    assert_eq!(hooks.len(), 1);
    assert_eq!(hook_ids(&env.bindings.get("shop").await?), [hooks[0].id.to_string()], "the status contains the created hook");

    proxy.forget();
    operator.restart().await?;
    env.binding_ready("shop").await?;
    env.connection_ready().await?;
    stays("one hook, untouched", Duration::from_secs(2), async || {
        ensure!(proxy.count(changes_hook) == 0);
        Ok(())
    })
    .await?;
    let began = Instant::now();
    assert_eq!(operator.terminate(SOON).await?.code(), Some(0));
    eprintln!("figure: SIGTERM at rest to the end: {:.2?}", began.elapsed());
    Ok(())
}
