//! A cluster is lost and restored with the commands of the guide: the operator finds every hook again, creates none twice, and
//! refuses no delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::{FINALIZER, REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT, RepoBinding};
use forgebind::protocol::hash::stable_hash;
use forgebind::protocol::keys::{InstallKey, ReceiverKey, secret_text};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::json;

use testkit::control_plane::OwnControlPlane;
use testkit::gitea::{Gitea, Hook};
use testkit::operator::{Operator, Options, SERVICE_ACCOUNT, metric};
use testkit::plain_http;
use testkit::restore::{arrives_once, connect, custom_url, events, guide, identities, secret_version, spec_of, spec_of_custom};
use testkit::scratch::Scratch;
use testkit::shared;
use testkit::test_env::{
    CONNECTION, OVERLAPPED, SINK, SOON, TestEnv, binding_condition, binding_message, connection_condition, install_key,
};
use testkit::wait::{Seen, stays, wait_until};

/// Forgebind's namespace in the guide.
const SYSTEM: &str = "forgebind-system";

/// Starts Forgebind in its usual namespace of a separate cluster, with the rights of the chart.
async fn in_its_namespace(env: &TestEnv) -> Result<Options> {
    let cluster = env.cluster();
    cluster.create_namespace_named(SYSTEM).await?;
    let token = cluster.service_account_token(SYSTEM, SERVICE_ACCOUNT).await?;
    let kubeconfig = env.plane.kubeconfig_for(SYSTEM, &token, None)?;
    let options = Options::new(&kubeconfig, SYSTEM)?.watching(env.plane, &[&env.namespace]).await?;
    Ok(options.with("resolve", &env.sink.resolve(SINK, &env.namespace)))
}

fn hook_ids(binding: &RepoBinding) -> Vec<String> {
    let webhook = binding.status.as_ref().and_then(|status| status.webhook.as_ref());
    webhook.map(|webhook| webhook.hooks.iter().map(|hook| hook.id.clone()).collect()).unwrap_or_default()
}

/// A delivery as the provider would send it, signed with a derived secret.
struct Sent {
    url: String,
    id: String,
    commit: String,
    secret: String,
}

impl Sent {
    fn new(env: &TestEnv, key: &ReceiverKey, url: &str, secret_version: &str) -> Self {
        let secret = secret_text(&key.webhook_secret(env.hook_owner("shop"), secret_version)).expose_secret().to_owned();
        let id = Gitea::unique_name("delivery");
        Self { url: url.to_owned(), commit: hex::encode(id.as_bytes()), id, secret }
    }

    /// Sends the delivery once more. Returns the status, and whether the answer says when to try again.
    async fn send(&self, env: &TestEnv) -> Result<(u16, bool)> {
        let (_, repository) = env.gitea.call(http::Method::GET, &format!("/repos/{}", env.repository), None).await?;
        let body = json!({
            "ref": "refs/heads/main", "before": "0".repeat(40), "after": self.commit,
            "repository": {"id": repository["id"], "full_name": repository["full_name"]},
        });
        let body = serde_json::to_vec(&body)?;
        let signature = hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes()), &body));
        let client = plain_http::client()?;
        let request = client.post(&self.url).header("content-type", "application/json").header("x-gitea-event", "push");
        let request = request.header("x-gitea-event-type", "push").header("x-gitea-delivery", &self.id);
        let answer = request.header("x-gitea-signature", signature).body(body).send().await?;
        Ok((answer.status().as_u16(), answer.headers().contains_key("retry-after")))
    }
}

/// How many requests a receiver answered with a status.
async fn answered(operator: &Operator, code: u16) -> Result<u64> {
    Ok(metric(&operator.metrics().await?, &format!("forgebind_receiver_requests_total{{code=\"{code}\"")))
}

/// Creates a leftover entry, without hook ids, of an earlier binding with this name. The restored binding has the same identity.
async fn leave_entry(env: &TestEnv) -> Result<String> {
    let (uid, shop) = ("11111111-2222-4333-8444-555555555555", "shop");
    let entry = json!({
        "namespace": env.namespace, "name": shop, "connection": {"namespace": env.namespace, "name": CONNECTION},
        "repository": env.repository, "repositoryID": "", "hooks": [], "reason": "of a test", "since": "2999-01-01T00:00:00Z",
    });
    let name = format!("forgebind-leftover-hooks-{}", stable_hash(uid) % 16);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some([("forgebind.dev/leftover-hooks".to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([(uid.to_owned(), entry.to_string())].into()),
        ..ConfigMap::default()
    };
    Api::<ConfigMap>::namespaced(env.cluster().client()?, SYSTEM).create(&PostParams::default(), &map).await?;
    Ok(name)
}

/// The hooks and secrets before the cluster was lost.
struct Before {
    hooks: BTreeMap<i64, String>,
    shop: Hook,
    rotated_from: String,
    /// The hook with the secret from before the rotation.
    rotated: String,
    key: ReceiverKey,
    url: String,
    leftovers: String,
}

const ARRIVING: [&str; 4] = ["/of/shop", "/of/own", "/of/rotating", "/api/webhook"];

/// A cluster with hooks of every kind, one of them in the middle of a rotation; it is backed up and then lost.
async fn backed_up_and_lost(env: &TestEnv, folder: &Path) -> Result<Before> {
    let operator = Operator::start(in_its_namespace(env).await?).await?;
    let mut spec = env.connection_spec();
    spec["interval"] = json!("10s");
    connect(env, spec).await?;
    env.create_binding("shop", spec_of(env, "shop")).await?;
    let mut own = spec_of(env, "own");
    own["webhook"]["secretRef"] = json!({"name": "own"});
    env.create_binding("own", own).await?;
    env.create_binding("rotating", spec_of(env, "rotating")).await?;
    env.create_binding("elsewhere", spec_of_custom(env)).await?;
    for name in ["shop", "own", "rotating", "elsewhere"] {
        env.binding_ready(name).await?;
    }
    let commit = env.push("before the loss").await?;
    arrives_once(env, &commit, &ARRIVING).await?;
    let shop = env.hooks_at(&operator.url()).await?;
    let key = InstallKey::new(&install_key(env, &operator).await?)?.receiver();
    let id = key.hook_id(env.hook_owner("shop"));
    let shop = shop.into_iter().find(|hook| hook.config.url.contains(&id)).context("its hook")?;
    let rotating = env.bindings.get("rotating").await?;
    let rotated_from = secret_version(&rotating).context("a secret version")?;
    let rotated = hook_ids(&rotating).pop().context("its hook")?;
    env.annotate_binding("rotating", ROTATE_REQUESTED_AT, "once").await?;
    env.binding_until("rotating", "two hooks", SOON, |binding| hook_ids(binding).len() == 2).await?;
    let leftovers = leave_entry(env).await?;
    for script in guide("## Back up")? {
        env.cluster().script(folder, &script).await?;
    }
    operator.kill();
    env.plane.kill_api_server();
    env.plane.kill_etcd();
    Ok(Before { hooks: identities(env).await?, shop, rotated_from, rotated, key, url: operator.url(), leftovers })
}

#[tokio::test]
async fn after_a_restore_from_yaml_and_key_every_hook_is_found_none_duplicated_and_no_delivery_refused() -> Result<()> {
    // Separate control planes, because the first one is killed and the test waits for everything in the second.
    let lost = OwnControlPlane::start().await?;
    let env = TestEnv::on(lost.plane(), shared::gitea().await?, "restored").await?;
    let folder = Scratch::new("backup")?;
    let before = backed_up_and_lost(&env, folder.path()).await?;
    assert_eq!(before.hooks.len(), 5, "{:?}", before.hooks);

    drop(lost);
    let new = OwnControlPlane::start().await?;
    let plane = new.plane();
    let env = env.in_cluster(plane)?;
    let steps = guide("## Restore")?;
    let [first, objects, wait] = steps.as_slice() else { anyhow::bail!("the guide has {} steps", steps.len()) };
    env.cluster().script(folder.path(), first).await?;
    env.create_sink_service().await?;
    let listen = before.url.trim_start_matches("http://");
    let options = in_its_namespace(&env).await?.with("public-url", &before.url).with("listen", listen);
    let receiver = Operator::start(options.beside()?.only("receiver"));
    let operator = Operator::start(options).await?;
    let receiver = receiver.await?;

    // The objects do not exist yet: a sender must be told to try again, also by a separate receiver.
    let secret_version_of_shop = before.shop.config.url.rsplit('/').next().context("a secret version")?.to_owned();
    let retried = Sent::new(&env, &before.key, &before.shop.config.url, &secret_version_of_shop);
    assert_eq!(retried.send(&env).await?, (503, true));
    let elsewhere = retried.url.replace(&before.url, &receiver.url());
    let at_the_other = Sent { url: elsewhere, ..Sent::new(&env, &before.key, "", &secret_version_of_shop) };
    assert_eq!(at_the_other.send(&env).await?, (503, true));

    let began = Instant::now();
    env.cluster().script(folder.path(), objects).await?;
    env.cluster().script(folder.path(), wait).await?;
    eprintln!("figure: restore of the objects to all Ready: {:.2?}", began.elapsed());
    for name in ["shop", "own", "rotating", "elsewhere"] {
        env.binding_ready(name).await?;
    }
    assert_eq!(identities(&env).await?, before.hooks, "every hook is found again and none is created");

    let commit = env.push("after the restore").await?;
    arrives_once(&env, &commit, &ARRIVING).await?;
    assert_eq!(retried.send(&env).await?.0, 200, "a delivery that was sent too early is accepted when it is sent again");
    assert_eq!(retried.send(&env).await?.0, 200, "and recognised as a duplicate when it is sent once more");
    assert_eq!(at_the_other.send(&env).await?.0, 200);
    arrives_once(&env, &retried.commit, &["/of/shop"]).await?;
    // A secret of an earlier rotation may still be in its grace period.
    let earlier = (secret_version_of_shop.parse::<i64>()? - 600).to_string();
    let late = before.shop.config.url.replace(&secret_version_of_shop, &earlier);
    assert_eq!(Sent::new(&env, &before.key, &late, &earlier).send(&env).await?.0, 200);

    wait_until("the leftover entry to be removed", SOON, async || {
        let maps: Api<ConfigMap> = Api::namespaced(env.cluster().client()?, SYSTEM);
        let data = maps.get(&before.leftovers).await?.data.unwrap_or_default();
        Ok(if data.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{data:?}")) })
    })
    .await?;
    // The status that recorded the rotation is lost, so the operator may rotate once more.
    let ended = |binding: &RepoBinding| !hook_ids(binding).contains(&before.rotated) && hook_ids(binding).len() == 1;
    let binding = env.binding_until("rotating", "the rotation's end", OVERLAPPED, ended).await?;
    assert!(!identities(&env).await?.contains_key(&before.rotated.parse()?), "the old hook is gone");
    let previous = binding.status.and_then(|status| status.webhook).context("a webhook")?.previous_secrets;
    let grace = previous.iter().find(|previous| previous.version == before.rotated_from);
    assert!(grace.is_some_and(|previous| previous.valid_until.is_some()), "{previous:?}");
    assert!(identities(&env).await?.contains_key(&before.shop.id), "the leftover entry had the identity of a hook in use");
    for receiver in [&operator, &receiver] {
        assert_eq!(answered(receiver, 401).await?, 0, "nothing was refused");
    }

    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert!(!identities(&env).await?.contains_key(&before.shop.id));
    plane.kill_api_server();
    plane.kill_etcd();
    Ok(())
}

/// Removes an object as if the cluster were lost, and recreates it with the status of the backup.
async fn bring_back(objects: &Api<DynamicObject>, backup: &DynamicObject) -> Result<()> {
    let name = backup.name_any();
    objects.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}}))).await?;
    objects.delete(&name, &DeleteParams::default()).await?;
    let mut restored = backup.clone();
    restored.metadata = ObjectMeta { name: Some(name.clone()), finalizers: Some(vec![FINALIZER.to_owned()]), ..ObjectMeta::default() };
    let made = objects.create(&PostParams::default(), &restored).await?;
    restored.metadata = made.metadata;
    let conditions = restored.data["status"]["conditions"].as_array_mut().context("conditions")?;
    // The backup is old and was made in the middle of a change.
    let long_ago = "2026-01-01T00:00:00Z";
    for condition in conditions.iter_mut() {
        condition["lastTransitionTime"] = json!(long_ago);
    }
    let reconciling =
        json!({"type": "Reconciling", "status": "True", "reason": "Progressing", "message": "", "lastTransitionTime": long_ago});
    conditions.push(reconciling);
    let restore = PostParams { field_manager: Some("restore".to_owned()), ..PostParams::default() };
    objects.replace_status(&name, &restore, &restored).await?;
    Ok(())
}

#[tokio::test]
async fn restored_with_an_old_status_the_hook_keeps_its_newer_secret_and_no_stale_status_remains() -> Result<()> {
    let env = TestEnv::new("old-status").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", spec_of(&env, "shop")).await?;
    let first = secret_version(&env.binding_ready("shop").await?).context("a secret version")?;
    env.connection_ready().await?;
    let client = env.cluster().client()?;
    let connections = Api::<DynamicObject>::namespaced_with(
        client.clone(),
        &env.namespace,
        &ApiResource::erase::<forgebind::api::v1alpha1::GitProviderConnection>(&()),
    );
    let bindings = Api::<DynamicObject>::namespaced_with(client, &env.namespace, &ApiResource::erase::<RepoBinding>(&()));
    let backup = (connections.get(CONNECTION).await?, bindings.get("shop").await?);
    // The hook gets a newer secret after the backup.
    env.annotate_binding("shop", ROTATE_REQUESTED_AT, "once").await?;
    env.binding_until("shop", "rotated", SOON, |binding| secret_version(binding).is_some_and(|now| now != first)).await?;
    env.annotate_binding("shop", REVOKE_REQUESTED_AT, "now").await?;
    let hooks = env.hooks_until(&env.repository, &operator.url(), "only the new hook", |hooks| hooks.len() == 1).await?;
    operator.kill();
    bring_back(&connections, &backup.0).await?;
    bring_back(&bindings, &backup.1).await?;

    let began = Instant::now();
    operator.restart().await?;
    let commit = env.push("at once").await?;
    arrives_once(&env, &commit, &["/of/shop"]).await?;
    let newest = hooks[0].config.url.rsplit('/').next().map(ToOwned::to_owned);
    let fits = |binding: &RepoBinding| {
        binding_condition(binding, "Ready") == "True/Succeeded"
            && binding_condition(binding, "Reconciling").is_empty()
            && secret_version(binding) == newest
    };
    let binding = env.binding_until("shop", "the status of the present state", SOON, fits).await?;
    env.connection_until("the status of the present state", SOON, |connection| {
        connection_condition(connection, "Ready") == "True/Succeeded" && connection_condition(connection, "Reconciling").is_empty()
    })
    .await?;
    eprintln!("figure: start over an old status to all as it is now: {:.2?}", began.elapsed());
    assert_eq!(hook_ids(&binding), [hooks[0].id.to_string()]);
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    env.binding_says("shop", "Receiving", "True/Succeeded").await?;
    let version = env.bindings.get("shop").await?.resource_version();
    stays("the status at rest", std::time::Duration::from_secs(3), async || {
        ensure!(env.bindings.get("shop").await?.resource_version() == version, "the status is written repeatedly");
        Ok(())
    })
    .await?;
    assert_eq!(answered(&operator, 401).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_new_install_key_after_a_lost_one_names_every_hook_of_the_old_key() -> Result<()> {
    let env = TestEnv::new("key-gone").await?;
    let options = env.options().await?;
    let operator = Operator::start(options.clone()).await?;
    connect(&env, env.connection_spec()).await?;
    env.create_binding("shop", spec_of(&env, "shop")).await?;
    env.create_binding("elsewhere", spec_of_custom(&env)).await?;
    env.binding_ready("shop").await?;
    env.binding_ready("elsewhere").await?;
    let old = env.hooks_at(&operator.url()).await?.remove(0);
    let elsewhere = env.hooks_of(&env.repository, &custom_url(&env)).await?.remove(0);
    assert!(operator.terminate(SOON).await?.success());
    // The cluster is lost and restored from YAML, which contains no status, and without the key.
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, options.namespace());
    secrets.delete("forgebind-install-key", &DeleteParams::default()).await?;
    for name in ["shop", "elsewhere"] {
        env.wipe_status(name).await?;
    }
    env.connections.patch_status(CONNECTION, &PatchParams::default(), &Patch::Merge(json!({"status": null}))).await?;
    let refused = Operator::launch(options.clone())?;
    assert!(!refused.wait_exit(SOON).await?.success());
    assert!(refused.log_tail(1).contains("--new-install-key"), "{}", refused.log_tail(1));

    let began = Instant::now();
    let anew = Operator::start(options.with("new-install-key", "true")).await?;
    let binding = env.binding_ready("shop").await?;
    eprintln!("figure: beginning anew to Ready: {:.2?}", began.elapsed());
    let message = binding_message(&binding, "WebhookInSync");
    assert!(message.contains(&format!("hook {} was made by Forgebind", old.id)), "{message}");
    wait_until("the event", SOON, async || {
        let told = events(&env, "HooksLeftBehind").await?;
        Ok(if told.iter().any(|text| text.contains(&old.id.to_string())) { Seen::Done(()) } else { Seen::NotYet(format!("{told:?}")) })
    })
    .await?;
    let hooks = env.hooks_at(&anew.url()).await?;
    assert!(hooks.len() == 2 && hooks.iter().any(|hook| hook.id == old.id), "recreated, and the old hook is not touched: {hooks:?}");
    let binding = env.binding_says("elsewhere", "Ready", "False/ForeignHook").await?;
    assert!(binding_message(&binding, "Ready").contains(&elsewhere.id.to_string()));
    let commit = env.push("under the new key").await?;
    arrives_once(&env, &commit, &["/of/shop"]).await?;

    for id in [old.id, elsewhere.id] {
        env.gitea.delete_hook(&env.repository, id).await?;
    }
    let binding = env.look_again("shop").await?;
    assert!(!binding_message(&binding, "WebhookInSync").contains("made by Forgebind"), "{}", binding_message(&binding, "WebhookInSync"));
    env.look_again("elsewhere").await?;
    env.binding_ready("elsewhere").await?;
    let left: BTreeSet<i64> = identities(&env).await?.into_keys().collect();
    assert!(left.len() == 2 && !left.contains(&old.id), "{left:?}");
    Ok(())
}
