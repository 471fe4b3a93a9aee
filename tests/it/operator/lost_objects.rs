//! Somebody deletes or replaces objects in the operator's own namespace while it runs: the operator notices at once, reports it,
//! and repairs what it can repair without harm.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use testkit::fault_proxy::FaultProxy;
use testkit::operator::{Operator, Options, metric};
use testkit::test_env::{SOON, TestEnv, binding_message};
use testkit::wait::{Seen, stays, wait_until};

const INSTALL_KEY: &str = "forgebind-install-key";
const RECEIVER_KEY: &str = "forgebind-receiver-key";

fn secrets(env: &TestEnv, operator: &Operator) -> Result<Api<Secret>> {
    Ok(Api::namespaced(env.cluster().client()?, operator.options().namespace()))
}

async fn delete(secrets: &Api<Secret>, name: &str) -> Result<()> {
    secrets.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

fn key_of(secret: &Secret) -> Option<Vec<u8>> {
    Some(secret.data.as_ref()?.get("key")?.0.clone())
}

/// Waits until a Secret exists, and returns its data.
async fn there_again(secrets: &Api<Secret>, name: &str) -> Result<Secret> {
    wait_until(&format!("{name} to be there again"), SOON, async || {
        Ok(secrets.get_opt(name).await?.map_or_else(|| Seen::NotYet("it is missing".to_owned()), Seen::Done))
    })
    .await
}

/// Waits until a metric of a key has a value.
async fn figure(operator: &Operator, name: &str, key: &str, value: u64) -> Result<()> {
    let line = format!("{name}{{key=\"{key}\"}}");
    wait_until(&format!("{line} {value}"), SOON, async || {
        let found = metric(&operator.metrics().await?, &line);
        Ok(if found == value { Seen::Done(()) } else { Seen::NotYet(found.to_string()) })
    })
    .await
}

async fn logged(operator: &Operator, words: &str) -> Result<()> {
    wait_until(&format!("the log to say {words:?}"), SOON, async || {
        Ok(if operator.log().contains(words) { Seen::Done(()) } else { Seen::NotYet(operator.log_tail(3)) })
    })
    .await
}

#[tokio::test]
async fn a_deleted_key_is_written_back_at_once_and_reported() -> Result<()> {
    let env = TestEnv::new("key-deleted").await?;
    let operator = env.operator().await?;
    let secrets = secrets(&env, &operator)?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("before", env.binding_spec()).await?;
    env.binding_ready("before").await?;
    let hook = env.hooks_at(&operator.url()).await?.remove(0);
    for (name, label) in [(INSTALL_KEY, "install"), (RECEIVER_KEY, "receiver")] {
        figure(&operator, "forgebind_keys_stored", label, 1).await?;
        let before = secrets.get(name).await?;
        delete(&secrets, name).await?;
        let after = there_again(&secrets, name).await?;
        ensure!(after.uid() != before.uid() && after.data == before.data && after.immutable == before.immutable, "{name}: {after:?}");
        figure(&operator, "forgebind_keys_restored_total", label, 1).await?;
        figure(&operator, "forgebind_keys_stored", label, 1).await?;
    }
    logged(&operator, "the Secret was deleted").await?;
    // A receiver that starts now finds its key, and a restarted controller finds the hook.
    let receiver = Operator::start(operator.options().beside()?.only("receiver")).await?;
    assert!(receiver.terminate(SOON).await?.success());
    operator.kill();
    operator.restart().await?;
    env.look_again("before").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.iter().map(|hook| hook.id).collect::<Vec<_>>(), [hook.id]);
    Ok(())
}

/// Puts another key into the Secret while the operator is stopped, so that the operator cannot write its own first.
async fn replace_key(operator: &Operator, secrets: &Api<Secret>, key: &[u8]) -> Result<()> {
    operator.signal("STOP")?;
    let swapped = async {
        delete(secrets, INSTALL_KEY).await?;
        let secret = Secret {
            metadata: ObjectMeta { name: Some(INSTALL_KEY.to_owned()), ..ObjectMeta::default() },
            data: Some([("key".to_owned(), ByteString(key.to_vec()))].into()),
            ..Secret::default()
        };
        secrets.create(&PostParams::default(), &secret).await.map_err(anyhow::Error::from)
    };
    let swapped = swapped.await;
    operator.signal("CONT")?;
    swapped.map(drop)
}

#[tokio::test]
async fn a_replaced_key_is_never_overwritten_and_no_hook_is_created_meanwhile() -> Result<()> {
    let env = TestEnv::new("key-replaced").await?;
    let operator = env.operator().await?;
    let secrets = secrets(&env, &operator)?;
    let earlier = key_of(&secrets.get(INSTALL_KEY).await?).context("a key")?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("before", env.binding_spec()).await?;
    env.binding_ready("before").await?;

    replace_key(&operator, &secrets, &[9; 32]).await?;
    figure(&operator, "forgebind_keys_stored", "install", 0).await?;
    logged(&operator, "contains a different key from the one in use").await?;
    env.create_binding("new", env.binding_spec()).await?;
    let binding = env.binding_says("new", "WebhookInSync", "False/InstallKeyNotStored").await?;
    let message = binding_message(&binding, "Ready");
    ensure!(message.contains(INSTALL_KEY) && message.contains("a different key"), "{message}");
    env.look_again("before").await?;
    env.binding_ready("before").await?;
    stays("the other key", std::time::Duration::from_secs(12), async || {
        let present = key_of(&secrets.get(INSTALL_KEY).await?);
        ensure!(present.as_deref() == Some(&[9; 32]), "it was overwritten");
        Ok(())
    })
    .await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);

    replace_key(&operator, &secrets, &earlier).await?;
    figure(&operator, "forgebind_keys_stored", "install", 1).await?;
    env.look_again("new").await?;
    env.binding_ready("new").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_key_that_cannot_be_written_back_blocks_new_hooks_until_it_can() -> Result<()> {
    let env = TestEnv::new("key-refused").await?;
    let operator = env.operator().await?;
    let secrets = secrets(&env, &operator)?;
    env.create_connection(env.connection_spec()).await?;
    env.connection_ready().await?;
    let roles: Api<Role> = Api::namespaced(env.cluster().client()?, operator.options().namespace());
    let creates = |role: &Role| {
        let mut granted = role.rules.iter().flatten();
        granted.any(|rule| rule.resources.iter().flatten().any(|of| of == "secrets") && rule.verbs == ["create"])
    };
    let granted = roles.list(&ListParams::default()).await?.items.into_iter().find(creates).context("a right to create Secrets")?;
    let mut without = granted.clone();
    without.rules.iter_mut().flatten().filter(|rule| rule.verbs == ["create"]).for_each(|rule| rule.verbs = vec!["get".to_owned()]);
    roles.replace(&granted.name_any(), &PostParams::default(), &without).await?;
    let user = format!("--as={}", operator.options().user());
    wait_until("the right to be withdrawn", SOON, async || {
        let asked = ["auth", "can-i", "create", "secrets", "-n", operator.options().namespace(), &user];
        Ok(if env.cluster().kubectl(&asked).await.is_ok() { Seen::NotYet("it is there".to_owned()) } else { Seen::Done(()) })
    })
    .await?;

    delete(&secrets, INSTALL_KEY).await?;
    figure(&operator, "forgebind_keys_stored", "install", 0).await?;
    logged(&operator, "is missing and cannot be written back").await?;
    env.create_binding("new", env.binding_spec()).await?;
    env.binding_says("new", "Ready", "False/InstallKeyNotStored").await?;
    assert!(env.hooks_at(&operator.url()).await?.is_empty());

    let mut again = roles.get(&granted.name_any()).await?;
    again.rules.clone_from(&granted.rules);
    roles.replace(&granted.name_any(), &PostParams::default(), &again).await?;
    there_again(&secrets, INSTALL_KEY).await?;
    figure(&operator, "forgebind_keys_stored", "install", 1).await?;
    env.look_again("new").await?;
    env.binding_ready("new").await?;
    Ok(())
}

#[tokio::test]
async fn deleted_copies_of_users_secrets_are_prepared_again() -> Result<()> {
    let env = TestEnv::new("prepared-deleted").await?;
    let operator = env.operator().await?;
    let secrets = secrets(&env, &operator)?;
    env.cluster().apply_secret(&env.namespace, "own", &[("secret", "a-good-secret-of-the-user-00001")]).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["webhook"]["secretRef"] = json!({"name": "own"});
    env.create_binding("shop", spec).await?;
    let uid = env.binding_ready("shop").await?.uid().context("a UID")?;
    let name = forgebind::protocol::webhook_secrets::secret_name(forgebind::protocol::webhook_secrets::shard(&uid));
    // Once while the operator runs, once while it does not.
    for stopped in [false, true] {
        if stopped {
            assert!(operator.terminate(SOON).await?.success());
        }
        let before = secrets.get(&name).await?;
        delete(&secrets, &name).await?;
        if stopped {
            operator.restart().await?;
        }
        let after = there_again(&secrets, &name).await?;
        ensure!(after.data == before.data && after.uid() != before.uid(), "{name}");
        let seen = env.sink.accepted().len();
        env.push("under the same secret").await?;
        env.sink.wait_for(seen + 1, SOON).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_what_is_prepared_for_others_disturbs_no_binding_whose_key_never_was() -> Result<()> {
    let env = TestEnv::new("never-prepared").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    let mut connection = env.connection_spec_at(&proxy.url());
    connection["interval"] = json!("1h");
    env.create_connection(connection).await?;
    let mut spec = env.binding_spec();
    spec["interval"] = json!("1h");
    spec["sinks"][0]["service"]["secretRef"] = json!({"name": "missing"});
    env.create_binding("shop", spec).await?;
    env.binding_says("shop", "WebhookInSync", "True/Succeeded").await?;
    let uid = env.binding_says("shop", "Delivering", "False/SecretNotFound").await?.uid().context("a UID")?;
    let name = forgebind::protocol::webhook_secrets::secret_name(forgebind::protocol::webhook_secrets::shard(&uid));
    // A change that is certainly noticed: the binding has been reconciled for all that happened before.
    env.patch_binding("shop", json!({"metadata": {"annotations": {"forgebind.dev/reconcile-requested-at": "settled"}}})).await?;
    env.binding_until("shop", "the request to be handled", SOON, |binding| {
        binding.status.as_ref().and_then(|status| status.last_handled.as_ref()?.reconcile.as_deref()) == Some("settled")
    })
    .await?;
    proxy.forget();
    for entry in ["one", "two", "three"] {
        env.cluster().apply_secret(operator.options().namespace(), &name, &[(entry, "{\"secrets\":[]}")]).await?;
    }
    stays("the binding undisturbed", Duration::from_secs(8), async || {
        ensure!(proxy.exchanges().is_empty(), "{} calls", proxy.exchanges().len());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_lease_is_created_again_and_one_operator_leads() -> Result<()> {
    let env = TestEnv::new("lease-deleted").await?;
    let options = env.options().await?.with("leader-election", "true");
    let beside = options.beside()?;
    let (one, _other) = tokio::try_join!(Operator::start(options), Operator::start(beside))?;
    env.create_connection(env.connection_spec()).await?;
    env.connection_ready().await?;
    let leases: Api<Lease> = Api::namespaced(env.cluster().client()?, one.options().namespace());
    let before = leases.get("forgebind-controller").await?;
    leases.delete("forgebind-controller", &DeleteParams::default()).await?;
    wait_until("a new Lease with a holder", SOON, async || {
        let found = leases.get_opt("forgebind-controller").await?;
        let holder = found.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
        let new = found.is_some_and(|lease| lease.uid() != before.uid());
        Ok(if new && holder.is_some() { Seen::Done(()) } else { Seen::NotYet(format!("{holder:?}")) })
    })
    .await?;
    env.create_binding("after", env.binding_spec()).await?;
    env.binding_ready("after").await?;
    assert_eq!(env.hooks_at(&one.url()).await?.len(), 1, "one operator leads");
    Ok(())
}

/// The last log lines of an operator that fails to start.
async fn last_words(options: Options) -> Result<String> {
    let operator = Operator::launch(options)?;
    ensure!(!operator.wait_exit(SOON).await?.success(), "it starts");
    Ok(operator.log_tail(1))
}

#[tokio::test]
async fn a_wrong_namespace_of_the_operator_is_reported_at_the_start() -> Result<()> {
    let env = TestEnv::new("misplaced").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.connection_ready().await?;
    let (options, own) = (operator.options().clone(), operator.options().namespace().to_owned());
    assert!(operator.terminate(SOON).await?.success());
    let elsewhere = env.cluster().create_namespace("elsewhere").await?;
    for role in ["run", "controller", "receiver"] {
        let said = last_words(options.clone().only(role).with("namespace", &elsewhere)).await?;
        let names = [&format!("--namespace is {elsewhere}"), &format!("service account of the namespace {own}")];
        ensure!(names.iter().all(|words| said.contains(words.as_str())), "{role}: {said}");
    }
    let said = last_words(options.clone().with("namespace", "nowhere")).await?;
    ensure!(said.contains("--namespace is nowhere") && said.contains("does not exist in the cluster"), "{said}");
    // An administrator's own account has no namespace, but can see where the key is.
    let by_administrator = Options::new(env.cluster().kubeconfig(), &elsewhere)?.with("watch-namespaces", &env.namespace);
    let said = last_words(by_administrator).await?;
    ensure!(said.contains(&format!("--namespace is {elsewhere}")) && said.contains(&own), "{said}");
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, &elsewhere);
    assert!(secrets.list(&ListParams::default()).await?.items.is_empty(), "no key was made there");
    Ok(())
}
