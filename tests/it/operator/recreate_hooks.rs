//! Hooks that the provider disabled because their deliveries failed: the operator recreates them without losing events and with
//! growing pauses.

use std::time::Duration;

use anyhow::Result;
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::providers::Hook;
use forgebind::providers::model::HookState;

use testkit::provider_env::{BINDING, ProviderEnv};
use testkit::sim::UserAction;
use testkit::sink::{Behavior, SinkServer};
use testkit::test_namespace::{OVERLAPPED, SOON, binding_message};
use testkit::wait::{Seen, wait_until};

fn ids(hooks: &[Hook]) -> Vec<String> {
    hooks.iter().map(|hook| hook.id.clone()).collect()
}

async fn present_ids(env: &ProviderEnv) -> Result<Vec<String>> {
    Ok(ids(&env.hooks(&env.repository()).await?))
}

/// Waits until this hook was recreated.
async fn made_anew(env: &ProviderEnv, old: &str, deadline: Duration) -> Result<()> {
    wait_until("a new hook in its place", deadline, async || {
        let hooks = env.hooks(&env.repository()).await?;
        let deliver = hooks.iter().all(|hook| hook.state == HookState::Active && hook.id != old);
        Ok(if deliver && hooks.len() == env.variants() { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await
}

/// Pushes while no receiver listens, with this time before each push.
async fn push_into_the_void(env: &ProviderEnv, times: usize, pause: Duration) -> Result<()> {
    env.operator.kill();
    for _ in 0..times {
        env.simulated.simulator.advance(pause).await;
        env.push(&env.repository(), "main").await?;
    }
    env.operator.restart().await
}

/// The message of the binding about a hook that the provider disabled.
async fn says(env: &ProviderEnv) -> Result<String> {
    let binding = env.objects.binding_says(BINDING, "WebhookInSync", "False/DisabledByProvider").await?;
    Ok(binding_message(&binding, "WebhookInSync"))
}

/// Requests a probe and waits until the binding is Ready.
async fn is_well(env: &ProviderEnv) -> Result<()> {
    env.objects.look_again(BINDING).await?;
    env.objects.binding_ready(BINDING).await.map(drop)
}

#[tokio::test]
async fn a_hook_that_gitlab_disables_is_recreated_with_growing_pauses() -> Result<()> {
    let env = ProviderEnv::begin_as(ProviderKind::GitLab, "gitlab-revival").await?;
    env.connect(&env.simulated.seed_data.credential).await?;
    env.bind().await?;
    let first = present_ids(&env).await?.remove(0);

    // For a short while: GitLab enables it again by itself.
    push_into_the_void(&env, 4, Duration::ZERO).await?;
    env.objects.look_again(BINDING).await?;
    let message = says(&env).await?;
    assert!(message.contains("several deliveries in a row failed"), "{message}");
    assert_eq!(present_ids(&env).await?, std::slice::from_ref(&first));

    // For good.
    let day = Duration::from_secs(25 * 60 * 60);
    push_into_the_void(&env, 36, day).await?;
    env.objects.look_again(BINDING).await?;
    made_anew(&env, &first, SOON).await?;
    let message = says(&env).await?;
    assert!(message.contains("40 deliveries in a row failed") && message.contains("a new one replaces it"), "{message}");
    is_well(&env).await?;

    // None of its deliveries is accepted: the operator does not recreate it again and again.
    let hook = env.hooks(&env.repository()).await?.remove(0);
    let second = hook.id.clone();
    let refusing = SinkServer::start().await?;
    refusing.behave(Behavior::Fail(http::StatusCode::UNAUTHORIZED));
    let redirect = |url: String| UserAction::RedirectHook { repository: env.repository(), hook: second.clone(), url };
    env.act(redirect(format!("http://127.0.0.1:{}/in", refusing.port()))).await?;
    for _ in 0..40 {
        env.simulated.simulator.advance(day).await;
        env.push(&env.repository(), "main").await?;
    }
    env.act(redirect(hook.url.expose().to_owned())).await?;
    env.objects.look_again(BINDING).await?;
    let message = says(&env).await?;
    assert!(message.contains("a new one replaces it at 20"), "{message}");
    assert_eq!(present_ids(&env).await?, std::slice::from_ref(&second), "the next recreation is not due yet");
    made_anew(&env, &second, OVERLAPPED).await
}

#[tokio::test]
async fn a_subscription_that_azure_devops_disables_is_the_only_one_recreated() -> Result<()> {
    let env = ProviderEnv::begin_as(ProviderKind::AzureDevOps, "azure-revival").await?;
    env.connect(&env.simulated.seed_data.credential).await?;
    env.bind().await?;
    let gone = SinkServer::start().await?;
    gone.behave(Behavior::Fail(http::StatusCode::GONE));
    let before = env.hooks(&env.repository()).await?;
    let is_for_pushes = |hook: &&Hook| hook.shape.variant == "git.push";
    let (of_pushes, others): (Vec<Hook>, Vec<Hook>) = before.iter().cloned().partition(|hook| is_for_pushes(&hook));

    // An answer of 410 disables it at once.
    let old = of_pushes[0].clone();
    let redirect = |url: String| UserAction::RedirectHook { repository: env.repository(), hook: old.id.clone(), url };
    env.act(redirect(format!("http://127.0.0.1:{}/in", gone.port()))).await?;
    env.push(&env.repository(), "main").await?;
    env.act(redirect(old.url.expose().to_owned())).await?;
    env.objects.look_again(BINDING).await?;
    made_anew(&env, &old.id, SOON).await?;
    let message = says(&env).await?;
    assert!(message.contains("deliveries failed for too long"), "{message}");
    let after = env.hooks(&env.repository()).await?;
    assert_eq!(after.iter().filter(|hook| !is_for_pushes(hook)).cloned().collect::<Vec<_>>(), others, "the others stay");
    is_well(&env).await?;
    env.push(&env.repository(), "main").await?;
    env.objects.sink.wait_for(1, SOON).await?;
    Ok(())
}
