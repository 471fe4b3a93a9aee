//! The test kit itself: its parts do what the other tests rely on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, Config};
use serde_json::json;

use forgebind::api::v1alpha1::RepoBinding;

use testkit::control_plane::{ADMIN_TOKEN, ControlPlane};
use testkit::fault_proxy::{Exchange, Fault, FaultProxy};
use testkit::gitea::{Gitea, OPERATOR_SCOPES};
use testkit::operator::{Operator, Options};
use testkit::plain_http;
use testkit::process::Program;
use testkit::shared;
use testkit::sink::{Behavior, SinkServer};
use testkit::wait::{Seen, wait_until};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_control_plane_survives_a_kill_of_etcd_and_of_the_api_server() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let namespace = plane.cluster().create_namespace("survives").await?;
    plane.kill_etcd();
    plane.start_etcd().await?;
    plane.kill_api_server();
    plane.start_api_server().await?;
    let bindings: Api<RepoBinding> = Api::namespaced(plane.cluster().client()?, &namespace);
    assert_eq!(bindings.list(&ListParams::default()).await?.items.len(), 0);
    Ok(())
}

#[tokio::test]
async fn namespaces_are_really_deleted_and_service_accounts_have_only_their_rights() -> Result<()> {
    let plane = shared::control_plane().await?;
    let cluster = plane.cluster();
    let namespace = cluster.create_namespace("goes").await?;
    let token = cluster.service_account_token(&namespace, "nobody").await?;
    let kubeconfig = plane.kubeconfig_for("nobody", &token, None)?;
    let nobody = client_of(&kubeconfig).await?;
    let bindings: Api<RepoBinding> = Api::namespaced(nobody, &namespace);
    assert!(matches!(bindings.list(&ListParams::default()).await, Err(kube::Error::Api(status)) if status.code == 403));
    let user = format!("system:serviceaccount:{namespace}:nobody");
    wait_until("the refused request in the audit log", SOON, async || {
        let events = plane.audit_events()?;
        let mut own = events.iter().filter(|event| event.user.username == user);
        let refused = own.any(|event| event.resource() == "repobindings" && event.response_status.as_ref().is_some_and(|s| s.code == 403));
        Ok(if refused { Seen::Done(()) } else { Seen::NotYet(format!("{} events", events.len())) })
    })
    .await?;

    let namespaces: Api<Namespace> = Api::all(cluster.client()?);
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    wait_until("the namespace to be gone", SOON, async || {
        Ok(namespaces.get_opt(&namespace).await?.map_or(Seen::Done(()), |left| Seen::NotYet(format!("{:?}", left.status))))
    })
    .await
}

async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?)?)
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

#[tokio::test]
async fn the_proxy_of_the_api_server_streams_watches_and_loses_answers_when_told() -> Result<()> {
    let plane = shared::control_plane().await?;
    let namespace = plane.cluster().create_namespace("proxied").await?;
    let proxy = FaultProxy::before_control_plane(plane).await?;
    let kubeconfig = plane.kubeconfig_for("proxied", ADMIN_TOKEN, Some(&proxy.url()))?;
    let maps: Api<ConfigMap> = Api::namespaced(client_of(&kubeconfig).await?, &namespace);
    let mut parameters = WatchParams::default().fields("metadata.name=lost");
    parameters.bookmarks = false;
    let mut watch = maps.watch(&parameters, "0").await?.boxed();

    let mut lost = proxy.inject(Fault::LoseAnswer, |exchange| exchange.method == Method::POST && exchange.path.contains("/configmaps"));
    maps.create(&PostParams::default(), &config_map("lost")).await.expect_err("the answer was lost");
    lost.struck(1, SOON).await?;
    // The object was created anyway; the watch through the same proxy reports it.
    let event = tokio::time::timeout(SOON, watch.try_next()).await??.context("the watch ended")?;
    assert!(matches!(&event, WatchEvent::Added(map) if map.metadata.name.as_deref() == Some("lost")), "{event:?}");

    let mut held = proxy.inject(Fault::HoldAnswer, |exchange| exchange.method == Method::POST);
    let second = config_map("held");
    let parameters = PostParams::default();
    let (created, ()) = tokio::try_join!(async { Ok(maps.create(&parameters, &second).await?) }, async {
        held.struck(1, SOON).await?;
        let direct: Api<ConfigMap> = Api::namespaced(plane.cluster().client()?, &namespace);
        direct.get("held").await.context("the object exists while its answer is held")?;
        held.release();
        Ok::<_, anyhow::Error>(())
    })?;
    assert_eq!(created.metadata.name.as_deref(), Some("held"));

    let never = proxy.inject_nth(Fault::LoseRequest, 1, 1, |exchange| exchange.method == Method::DELETE);
    maps.delete("lost", &DeleteParams::default()).await?;
    maps.delete("held", &DeleteParams::default()).await.expect_err("the request was lost");
    assert_eq!(never.hits(), 1);
    drop(never);

    proxy.cut();
    maps.get("held").await.expect_err("cut off");
    proxy.restore();
    maps.get("held").await?;
    assert_eq!(proxy.count(Exchange::is_write), 4);
    Ok(())
}

#[tokio::test]
async fn gitea_delivers_a_real_push_through_its_hook() -> Result<()> {
    let gitea = shared::gitea().await?;
    let organization = Gitea::unique_name("org");
    let account = gitea.create_user(&Gitea::unique_name("ada"), OPERATOR_SCOPES).await?;
    gitea.create_organization(&account, &organization).await?;
    gitea.create_repository(&organization, "shop", true).await?;
    let path = format!("{organization}/shop");
    let sink = SinkServer::start().await?;
    let id = gitea.create_hook(&path, &format!("http://127.0.0.1:{}/hook", sink.port()), &["push"]).await?;
    let commit = gitea.push_commit(&account, &path, "main", "Open the shop").await?;
    let delivery = sink.wait_for(1, SOON).await?.remove(0);
    assert_eq!(delivery.header("x-gitea-event"), "push");
    assert_eq!(delivery.json()["after"], json!(commit));
    sink.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
    gitea.push_tag(&account, &path, "v1").await?;
    wait_until("the refused delivery", SOON, async || {
        Ok(if sink.deliveries().len() > 1 { Seen::Done(()) } else { Seen::NotYet("one".to_owned()) })
    })
    .await?;
    assert_eq!(sink.accepted().len(), 1);

    let proxy = FaultProxy::before_gitea(gitea).await?;
    let unavailable = proxy.inject(Fault::Answer(StatusCode::BAD_GATEWAY), |exchange| exchange.path.ends_with("/hooks"));
    let address = format!("{}/api/v1/repos/{path}/hooks", proxy.url());
    let client = plain_http::client()?;
    let call = || client.get(&address).header("Authorization", format!("token {}", account.token)).send();
    assert_eq!(call().await?.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(unavailable.hits(), 1);
    let hooks: serde_json::Value = call().await?.json().await?;
    assert_eq!(hooks[0]["id"], json!(id));
    gitea.delete_hook(&path, id).await?;
    assert!(gitea.hooks(&path).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn gitea_keeps_its_data_after_a_kill() -> Result<()> {
    let gitea = Gitea::start().await?;
    let account = gitea.create_user("ada", OPERATOR_SCOPES).await?;
    gitea.create_organization(&account, "acme").await?;
    gitea.create_repository("acme", "shop", false).await?;
    gitea.kill();
    assert!(gitea.hooks("acme/shop").await.is_err());
    gitea.run().await?;
    assert!(gitea.hooks("acme/shop").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn child_processes_end_with_their_handle_and_receive_signals() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    // The process ignores TERM, as a hanging server does, and has a child of its own.
    let program = Program::new("stubborn", "/bin/sh", &log).arguments(["-c", "trap '' TERM; sleep 600 & echo $$ $!; wait; wait"]);
    let process = program.start()?;
    let pids = wait_until("its process ids", SOON, async || {
        let text = std::fs::read_to_string(&log)?;
        Ok(if text.ends_with('\n') { Seen::Done(text) } else { Seen::NotYet(text) })
    })
    .await?;
    drop(process);
    wait_until("both processes to be gone", SOON, async || {
        let alive: Vec<&str> = pids.split_whitespace().filter(|pid| is_alive(pid)).collect();
        Ok(if alive.is_empty() { Seen::Done(()) } else { Seen::NotYet(alive.join(" ")) })
    })
    .await?;

    let polite = Program::new("polite", "/bin/sh", &log).arguments(["-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"]);
    let mut process = polite.start()?;
    wait_until("it to be ready", SOON, async || {
        let text = process.log_tail(1);
        Ok(if text == "ready" { Seen::Done(()) } else { Seen::NotYet(text) })
    })
    .await?;
    process.signal("TERM")?;
    let status =
        wait_until("its end", SOON, async || Ok(process.exited()?.map_or_else(|| Seen::NotYet("runs".to_owned()), Seen::Done))).await?;
    assert_eq!(status.code(), Some(7));
    Ok(())
}

/// A zombie process counts as dead.
fn is_alive(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn an_operator_is_killed_restarted_and_stopped_as_a_process() -> Result<()> {
    let plane = shared::control_plane().await?;
    let watched = plane.cluster().create_namespace("operated").await?;
    let proxy = FaultProxy::before_control_plane(plane).await?;
    let operator = Operator::start(Options::on(plane, &[&watched], Some(&proxy.url())).await?).await?;
    assert!(proxy.count(|exchange| exchange.path.contains(&watched)) > 0, "its requests come through the proxy");
    assert!(operator.metrics().await?.contains("# EOF"));
    operator.kill();
    operator.restart().await?;
    let status = operator.terminate(SOON).await?;
    assert!(status.success(), "{status}");
    let user = operator.options().user();
    assert!(plane.audit_events()?.iter().any(|event| event.user.username == user));
    Ok(())
}

#[tokio::test]
async fn an_operator_that_cannot_start_fails_with_its_own_message() -> Result<()> {
    let plane = shared::control_plane().await?;
    let options = Options::on(plane, &["default"], None).await?.with("public-url", "not a URL");
    let error = Operator::start(options).await.expect_err("a wrong flag");
    assert!(format!("{error:#}").contains("--public-url"), "{error:#}");
    Ok(())
}
