//! Webhook secrets at a real Gitea: one for each binding, rotated without a gap, revoked on request, or supplied by the user.

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::{REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT, RepoBinding};
use forgebind::protocol::keys::{InstallKey, ReceiverKey};
use forgebind::protocol::secret::{DerivedSecret, WebhookSecret};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use testkit::gitea::{Gitea, Hook};
use testkit::operator::Operator;
use testkit::plain_http;
use testkit::test_env::{CONNECTION, SINK, SOON, TestEnv, binding_condition, binding_message};
use testkit::wait::{Seen, wait_until};

/// The key from which an operator derives the secrets that its receiver knows.
async fn receiver_key(env: &TestEnv, operator: &Operator) -> Result<ReceiverKey> {
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, operator.options().namespace());
    let data = secrets.get("forgebind-install-key").await?.data.context("the install key is empty")?;
    Ok(InstallKey::new(&data.get("key").context("no key")?.0)?.receiver())
}

fn derived(key: &ReceiverKey, env: &TestEnv, name: &str, secret_version: &str) -> String {
    let bytes = key.webhook_secret(env.hook_owner(name), secret_version);
    WebhookSecret::Derived(DerivedSecret::new(bytes)).text().expose_secret().to_owned()
}

fn secret_version(binding: &RepoBinding) -> Option<String> {
    binding.status.as_ref()?.webhook.as_ref()?.secret_version.clone()
}

/// The body of a push to the first repository.
async fn push_body(env: &TestEnv) -> Result<Value> {
    let (_, repository) = env.gitea.call(http::Method::GET, &format!("/repos/{}", env.repository), None).await?;
    Ok(json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": "1".repeat(40),
        "repository": {"id": repository["id"], "full_name": repository["full_name"]},
    }))
}

/// Delivers as Gitea would, signed with a secret, and returns the status.
async fn deliver(url: &str, secret: &str, body: &Value) -> Result<u16> {
    let body = serde_json::to_vec(body)?;
    let signature = hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &body));
    let client = plain_http::client()?;
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("x-gitea-event", "push")
        .header("x-gitea-event-type", "push")
        .header("x-gitea-delivery", Gitea::unique_name("delivery"))
        .header("x-gitea-signature", signature);
    Ok(request.body(body).send().await?.status().as_u16())
}

#[tokio::test]
async fn bindings_whose_namespace_and_name_concatenate_to_the_same_text_have_separate_routes() -> Result<()> {
    let here = TestEnv::new("alike").await?;
    // "alike-1" + "ab" and "alike-1a" + "b" are the same letters.
    let there_namespace = format!("{}a", here.namespace);
    here.cluster().create_namespace_named(&there_namespace).await?;
    let there = here.within(&there_namespace)?;
    let operator = here.operator_for(&[&there_namespace]).await?;
    here.apply_grant("all", json!({"namespaces": {"from": "All"}, "repositories": {"include": [format!("{}/*", here.organization)]}}))
        .await?;
    here.create_connection(here.connection_spec()).await?;
    for (env, name) in [(&here, "ab"), (&there, "b")] {
        let mut spec = env.binding_spec();
        spec["connectionRef"] = json!({"name": CONNECTION, "namespace": here.namespace});
        spec["sinks"][0]["service"] = json!({"name": SINK, "port": here.sink.port(), "path": format!("/of/{name}")});
        env.create_binding(name, spec).await?;
        env.binding_ready(name).await?;
    }
    let hooks = here.hooks_at(&operator.url()).await?;
    let path = |hook: &Hook| hook.config.url.split('/').nth(4).unwrap_or_default().to_owned();
    assert!(hooks.len() == 2 && path(&hooks[0]) != path(&hooks[1]), "{hooks:?}");
    here.push("to both").await?;
    let mut paths: Vec<String> = here.sink.wait_for(2, SOON).await?.into_iter().map(|delivery| delivery.path).collect();
    paths.sort();
    assert_eq!(paths, ["/of/ab", "/of/b"]);
    Ok(())
}

#[tokio::test]
async fn bb_20_a_rotation_on_the_connection_rotates_all_its_bindings_and_a_revocation_ends_the_old_secrets() -> Result<()> {
    let env = TestEnv::new("rotate").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    let mut before = Vec::new();
    for name in ["one", "two"] {
        env.create_binding(name, env.binding_spec()).await?;
        before.push(secret_version(&env.binding_ready(name).await?).context("a secret version")?);
    }
    let key = receiver_key(&env, &operator).await?;
    let old = |position: usize, name: &str| derived(&key, &env, name, &before[position]);
    assert_ne!(old(0, "one"), old(1, "two"), "every binding has a secret of its own");
    let hooks = env.hooks_at(&operator.url()).await?;
    let url_of = |name: &str| {
        let id = key.hook_id(env.hook_owner(name));
        hooks.iter().find(|hook| hook.config.url.contains(&id)).map(|hook| hook.config.url.clone()).context("its hook")
    };
    let body = push_body(&env).await?;
    assert_eq!(deliver(&url_of("one")?, &old(0, "one"), &body).await?, 200);
    assert_ne!(deliver(&url_of("one")?, &old(1, "two"), &body).await?, 200, "the secret of another binding is refused");

    env.patch_connection(json!({"metadata": {"annotations": {ROTATE_REQUESTED_AT: "once"}}})).await?;
    for (name, before) in ["one", "two"].iter().zip(&before) {
        let rotated = |binding: &RepoBinding| secret_version(binding).is_some_and(|now| now != *before);
        let binding = env.binding_until(name, "rotated", SOON, rotated).await?;
        let webhook = binding.status.and_then(|status| status.webhook).context("a webhook")?;
        assert_eq!(webhook.previous_secrets.iter().map(|previous| &previous.version).collect::<Vec<_>>(), [before]);
    }
    env.hooks_until(&env.repository, &operator.url(), "old and new side by side", |hooks| hooks.len() == 4).await?;
    assert_eq!(deliver(&url_of("one")?, &old(0, "one"), &body).await?, 200, "the old secret is accepted in its grace period");

    env.annotate_binding("one", REVOKE_REQUESTED_AT, "now").await?;
    env.hooks_until(&env.repository, &operator.url(), "without the first binding's old hook", |hooks| hooks.len() == 3).await?;
    let revoked = |binding: &RepoBinding| {
        binding.status.as_ref().and_then(|status| status.webhook.as_ref()).is_some_and(|webhook| webhook.previous_secrets.is_empty())
    };
    env.binding_until("one", "revoked", SOON, revoked).await?;
    refused(&url_of("one")?, &old(0, "one"), &body).await?;
    assert_eq!(deliver(&url_of("two")?, &old(1, "two"), &body).await?, 200, "the other binding's grace period continues");

    env.patch_connection(json!({"metadata": {"annotations": {REVOKE_REQUESTED_AT: "now"}}})).await?;
    env.binding_until("two", "revoked", SOON, revoked).await?;
    env.hooks_until(&env.repository, &operator.url(), "only the new hooks", |hooks| hooks.len() == 2).await?;
    refused(&url_of("two")?, &old(1, "two"), &body).await?;
    for name in ["one", "two"] {
        assert_eq!(binding_condition(&env.look_again(name).await?, "Ready"), "True/Succeeded");
    }
    Ok(())
}

/// Waits until the receiver refuses a revoked secret.
async fn refused(url: &str, secret: &str, body: &Value) -> Result<()> {
    wait_until("the old secret to be refused", SOON, async || {
        let status = deliver(url, secret, body).await?;
        Ok(if status == 401 { Seen::Done(()) } else { Seen::NotYet(status.to_string()) })
    })
    .await
}

#[tokio::test]
async fn pk_13_a_missing_or_weak_secret_of_the_user_is_reported_and_a_new_one_replaces_it_without_a_gap() -> Result<()> {
    let env = TestEnv::new("brought").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["webhook"]["secretRef"] = json!({"name": "own"});
    env.create_binding("shop", spec).await?;
    let binding = env.binding_says("shop", "WebhookInSync", "False/SecretNotFound").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/SecretNotFound");
    assert_eq!(binding_condition(&binding, "Stalled"), "", "the Secret may be created later");
    let bring = async |entries: &[(&str, &str)]| env.cluster().apply_secret(&env.namespace, "own", entries).await;

    bring(&[("secret", "too-short")]).await?;
    let binding = env.binding_says("shop", "Ready", "False/SecretInvalid").await?;
    let message = binding_message(&binding, "Ready");
    assert!(message.contains("at least 16") && !message.contains("too-short"), "{message}");
    bring(&[("password", "a-good-secret-of-the-user-00001")]).await?;
    let other = |binding: &RepoBinding| binding_message(binding, "Ready").contains("the key secret");
    env.binding_until("shop", "the message that lists the known keys", SOON, other).await?;

    let began = std::time::Instant::now();
    let first = "a-good-secret-of-the-user-00001";
    env.cluster().kubectl(&["-n", &env.namespace, "delete", "secret", "own"]).await?;
    bring(&[("secret", first)]).await?;
    env.binding_ready("shop").await?;
    eprintln!("figure: Secret brought -> Ready after {:?}", began.elapsed());
    let old = env.hooks_at(&operator.url()).await?.remove(0);
    env.push("under the first secret").await?;
    env.sink.wait_for(1, SOON).await?;

    let second = "a-good-secret-of-the-user-00002";
    bring(&[("secret", second)]).await?;
    let hooks = env.hooks_until(&env.repository, &operator.url(), "old and new", |hooks| hooks.len() == 2).await?;
    let new = hooks.into_iter().find(|hook| hook.id != old.id).context("the new hook")?;
    let body = push_body(&env).await?;
    assert_eq!(deliver(&old.config.url, first, &body).await?, 200, "accepted meanwhile");
    let mut newer = body.clone();
    newer["after"] = json!("2".repeat(40));
    assert_eq!(deliver(&new.config.url, second, &newer).await?, 200);
    let wrong = deliver(&new.config.url, first, &body).await?;
    ensure!(wrong == 401 || wrong == 503, "the old secret is refused at the new URL: {wrong}");
    env.push("under both").await?;
    let delivered = env.sink.wait_for(4, SOON).await?;
    assert_eq!(delivered.iter().filter(|delivery| delivery.json()["head_commit"]["message"] == "under both\n").count(), 1);

    // The controller prepares a lost copy for the receivers again.
    let namespace = operator.options().namespace();
    let all = env.cluster().kubectl(&["-n", namespace, "get", "secrets", "-o", "name"]).await?;
    let prepared: Vec<&str> = all.lines().filter(|name| name.contains("forgebind-receiver-secrets-")).collect();
    assert_eq!(prepared.len(), 1, "{all}");
    env.cluster().kubectl(&["-n", namespace, "delete", prepared[0]]).await?;
    let mut newest = body.clone();
    newest["after"] = json!("3".repeat(40));
    env.look_again("shop").await?;
    wait_until("the receiver to know the secret again", SOON, async || {
        let status = deliver(&new.config.url, second, &newest).await?;
        Ok(if status == 200 { Seen::Done(()) } else { Seen::NotYet(status.to_string()) })
    })
    .await?;
    env.sink.wait_for(5, SOON).await?;

    // Without its Secret the binding says so, and the existing hook keeps working.
    env.cluster().kubectl(&["-n", &env.namespace, "delete", "secret", "own"]).await?;
    env.binding_says("shop", "Ready", "False/SecretNotFound").await?;
    env.push("without the Secret").await?;
    env.sink.wait_for(6, SOON).await?;

    // No copy of the secret is left behind, also when the binding has no secret any more.
    env.patch_binding("shop", json!({"spec": {"webhook": {"secretRef": null}}})).await?;
    env.binding_ready("shop").await?;
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    let left = env.cluster().kubectl(&["-n", namespace, "get", prepared[0], "-o", "jsonpath={.data}"]).await?;
    assert!(!left.contains(':'), "a secret of the user is left: {}", left.len());
    Ok(())
}
