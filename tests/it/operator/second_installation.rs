//! Two installations of Forgebind in one cluster that see the same objects: each object belongs to one, and the other does not
//! touch it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::RepoBinding;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;

use testkit::gitea::Hook;
use testkit::operator::Operator;
use testkit::plain_http;
use testkit::restore::{arrives_once, events, guide, identities, spec_of, take_over};
use testkit::scratch::Scratch;
use testkit::test_env::{SOON, TestEnv, binding_condition, connection_condition};
use testkit::wait::{Seen, stays, wait_until};

const FOREIGN: &str = "True/ManagedByAnotherInstallation";

fn installation(binding: &RepoBinding) -> Option<String> {
    binding.status.as_ref()?.installation.clone()
}

/// The number of leftover entries in an operator's namespace.
async fn leftovers(env: &TestEnv, operator: &Operator) -> Result<usize> {
    let maps: Api<ConfigMap> = Api::namespaced(env.cluster().client()?, operator.options().namespace());
    let found = maps.list(&ListParams::default().labels("forgebind.dev/leftover-hooks")).await?;
    Ok(found.into_iter().map(|map| map.data.unwrap_or_default().len()).sum())
}

/// Checks that an operator wrote nothing but its one condition to objects of the other installation.
fn kept_its_hands_off(env: &TestEnv, operator: &Operator) -> Result<()> {
    let user = operator.options().user();
    let written = env.plane.audit_events()?.into_iter().filter(|event| event.is_write() && event.user.username == user);
    let mut remarks = 0;
    for event in written {
        let object = event.object_ref.clone().unwrap_or_default();
        if object.namespace == operator.options().namespace() {
            continue;
        }
        let remark = object.subresource == "status" && event.request_uri.contains("fieldManager=forgebind-foreign");
        ensure!(remark, "{} {}", event.verb, event.request_uri);
        remarks += 1;
    }
    ensure!(remarks > 0, "no request of {user} was found");
    Ok(())
}

#[tokio::test]
async fn a_second_installation_does_not_touch_the_objects_of_the_first() -> Result<()> {
    let env = TestEnv::new("first").await?;
    let options = env.options().await?.with("cleanup-timeout", "1s");
    let first = Operator::start(options).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", spec_of(&env, "shop")).await?;
    let ours = installation(&env.binding_ready("shop").await?);
    let second = Operator::start(env.options().await?.with("new-install-key", "true")).await?;
    env.binding_says("shop", "Stalled", FOREIGN).await?;
    env.connection_says("Stalled", FOREIGN).await?;
    // The first installation continues with the object and does not overwrite the other's condition.
    env.look_again("shop").await?;
    let version = env.bindings.get("shop").await?.metadata.resource_version;
    env.create_binding("later", spec_of(&env, "later")).await?;
    assert_eq!(installation(&env.binding_ready("later").await?), ours, "a new binding belongs to the installation of its connection");
    let commit = env.push("to the first").await?;
    arrives_once(&env, &commit, &["/of/shop", "/of/later"]).await?;
    assert_eq!(env.gitea.hooks(&env.repository).await?.len(), 2);
    assert!(env.hooks_at(&second.url()).await?.is_empty());
    let hook = env.hooks_at(&first.url()).await?.remove(0).config.url.replace(&first.url(), &second.url());
    let answer = plain_http::client()?.post(hook).body("{}").send().await?;
    assert_eq!(answer.status(), 401, "the second has no route for it");
    env.binding_says("shop", "Receiving", "True/Succeeded").await?;
    assert_ne!(env.bindings.get("shop").await?.metadata.resource_version, version, "the status of deliveries is still written");

    // A deletion waits for the installation that owns the object.
    first.kill();
    env.delete_binding("later").await?;
    second.kill();
    second.restart().await?;
    stays("the deletion that waits", Duration::from_secs(3), async || {
        ensure!(env.bindings.get("later").await?.metadata.finalizers.is_some(), "its finalizer was removed");
        ensure!(env.hooks_at(&first.url()).await?.len() == 2);
        Ok(())
    })
    .await?;
    first.restart().await?;
    env.binding_gone("later", SOON).await?;
    // Its cleanup time was over before the start, but the first attempt removes the hook, so nothing is left over.
    env.hooks_until(&env.repository, &first.url(), "one hook left", |hooks| hooks.len() == 1).await?;
    assert_eq!(leftovers(&env, &first).await?, 0);

    // The first installation records the hook that it could not remove, and removes it later.
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", "rejected")]).await?;
    env.connection_says("Ready", "False/CredentialRejected").await?;
    // The operator caches the last working credential for removals; only a restart loses it.
    first.kill();
    first.restart().await?;
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert_eq!((leftovers(&env, &first).await?, leftovers(&env, &second).await?), (1, 0));
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &env.account.token)]).await?;
    env.hooks_until(&env.repository, &first.url(), "none", <[Hook]>::is_empty).await?;
    kept_its_hands_off(&env, &second)
}

#[tokio::test]
async fn of_two_installations_that_see_the_same_new_objects_one_takes_all_of_them() -> Result<()> {
    let env = TestEnv::new("both").await?;
    let (one, other) = (env.options().await?, env.options().await?);
    let (one, other) = tokio::try_join!(Operator::start(one), Operator::start(other))?;
    let names: Vec<String> = (0..12).map(|number| format!("shop-{number}")).collect();
    let (before, after) = names.split_at(4);
    for name in before {
        env.create_binding(name, spec_of(&env, name)).await?;
    }
    for name in before {
        env.binding_says(name, "ConnectionReady", "False/ConnectionNotFound").await?;
    }
    env.create_connection(env.connection_spec()).await?;
    for name in after {
        env.create_binding(name, spec_of(&env, name)).await?;
    }
    let mut taken = BTreeSet::new();
    for name in &names {
        taken.insert(installation(&env.binding_ready(name).await?));
    }
    taken.insert(env.connection_ready().await?.status.and_then(|status| status.installation));
    assert_eq!(taken.len(), 1, "{taken:?}");
    let hooks = (env.hooks_at(&one.url()).await?.len(), env.hooks_at(&other.url()).await?.len());
    assert!(hooks == (12, 0) || hooks == (0, 12), "{hooks:?}");
    Ok(())
}

#[tokio::test]
async fn an_installation_is_handed_over_with_its_key_and_replaced_without_it() -> Result<()> {
    let env = TestEnv::new("handed").await?;
    let old = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", spec_of(&env, "shop")).await?;
    env.binding_ready("shop").await?;
    let hooks = identities(&env).await?;
    assert!(old.terminate(SOON).await?.success());

    // With the key: the same hook moves to the new URL.
    let options = env.options().await?.with("former-public-urls", &old.url());
    let folder = Scratch::new("hand-over")?;
    let script = guide("## Handing over")?.remove(0);
    let script: String = script.lines().filter(|line| line.starts_with("kubectl")).collect();
    let script = script.replace("forgebind-old", old.options().namespace()).replace("forgebind-system", options.namespace());
    env.cluster().script(folder.path(), &script).await?;
    let began = Instant::now();
    let new = Operator::start(options).await?;
    env.hooks_until(&env.repository, &new.url(), "moved", |hooks| hooks.len() == 1).await?;
    eprintln!("figure: start with another installation's key to the hook moved: {:.2?}", began.elapsed());
    let moved = identities(&env).await?;
    assert_eq!(moved.keys().collect::<Vec<_>>(), hooks.keys().collect::<Vec<_>>(), "the same hook");
    env.binding_ready("shop").await?;
    let commit = env.push("to the new one").await?;
    arrives_once(&env, &commit, &["/of/shop"]).await?;

    // Without the key, because the old installation is gone.
    assert!(new.terminate(SOON).await?.success());
    let third = Operator::start(env.options().await?.with("new-install-key", "true")).await?;
    env.binding_says("shop", "Stalled", FOREIGN).await?;
    env.connection_says("Stalled", FOREIGN).await?;
    take_over(&env).await?;
    let ready =
        |binding: &RepoBinding| binding_condition(binding, "Ready") == "True/Succeeded" && binding_condition(binding, "Stalled").is_empty();
    env.hooks_until(&env.repository, &third.url(), "recreated", |hooks| hooks.len() == 1).await?;
    env.binding_until("shop", "taken over", SOON, ready).await?;
    env.connection_until("taken over", SOON, |connection| connection_condition(connection, "Stalled").is_empty()).await?;
    let left = moved.keys().next().context("a hook")?.to_string();
    wait_until("the orphaned hook to be named", SOON, async || {
        let told = events(&env, "HooksLeftBehind").await?;
        Ok(if told.iter().any(|text| text.contains(&left)) { Seen::Done(()) } else { Seen::NotYet(format!("{told:?}")) })
    })
    .await?;
    assert_eq!(identities(&env).await?.len(), 2, "and the operator does nothing else to it");
    let commit = env.push("to the third").await?;
    arrives_once(&env, &commit, &["/of/shop"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_binding_is_handed_over_without_a_gap_by_recreating_it_in_the_namespace_of_the_other_installation() -> Result<()> {
    let here = TestEnv::new("leaving").await?;
    let namespace = here.cluster().create_namespace("arriving").await?;
    let there = here.within(&namespace)?;
    here.cluster().apply_secret(&namespace, "credential", &[("token", &here.account.token)]).await?;
    let (old, new) = (here.operator().await?, there.operator().await?);
    here.create_connection(here.connection_spec()).await?;
    here.create_binding("shop", spec_of(&here, "here")).await?;
    here.binding_ready("shop").await?;
    there.create_connection(there.connection_spec()).await?;
    there.create_binding("shop", spec_of(&there, "there")).await?;
    there.binding_ready("shop").await?;
    let commit = here.push("to both").await?;
    arrives_once(&here, &commit, &["/of/here", "/of/there"]).await?;
    here.delete_binding("shop").await?;
    here.binding_gone("shop", SOON).await?;
    assert!(here.hooks_at(&old.url()).await?.is_empty());
    assert_eq!(here.hooks_at(&new.url()).await?.len(), 1);
    let commit = here.push("to the new one").await?;
    arrives_once(&here, &commit, &["/of/there"]).await?;
    assert_eq!(binding_condition(&there.look_again("shop").await?, "Ready"), "True/Succeeded");
    Ok(())
}
