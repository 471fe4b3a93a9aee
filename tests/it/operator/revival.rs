//! Hooks that the provider switched off because their deliveries failed: made anew, without a loss and without haste.

use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::providers::Hook;
use forgebind::providers::model::HookState;
use forgebind::providers::transport::Timings;

use testkit::objects::{OVERLAPPED, SOON, binding_message};
use testkit::sim::gitlab::{Release, SimulatedGitLab};
use testkit::sim::{Act, Simulated, Simulator};
use testkit::sink::{Behavior, SinkServer};
use testkit::story::{BINDING, Story};
use testkit::wait::{Seen, wait_until};

fn ids(hooks: &[Hook]) -> Vec<String> {
    hooks.iter().map(|hook| hook.id.clone()).collect()
}

async fn present_ids(story: &Story) -> Result<Vec<String>> {
    Ok(ids(&story.hooks(&story.repository()).await?))
}

/// Waits until this hook was made anew.
async fn made_anew(story: &Story, old: &str, deadline: Duration) -> Result<()> {
    wait_until("a new hook in its place", deadline, async || {
        let hooks = story.hooks(&story.repository()).await?;
        let deliver = hooks.iter().all(|hook| hook.state == HookState::Active && hook.id != old);
        Ok(if deliver && hooks.len() == story.parts() { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await
}

/// Pushes while nobody listens.
async fn push_into_the_void(story: &Story, times: usize, between: impl Fn()) -> Result<()> {
    story.operator.kill();
    for _ in 0..times {
        between();
        story.push(&story.repository(), "main").await?;
    }
    story.operator.restart().await
}

/// What the binding says of a hook that the provider switched off.
async fn says(story: &Story) -> Result<String> {
    let binding = story.objects.binding_says(BINDING, "WebhookInSync", "False/DisabledByProvider").await?;
    Ok(binding_message(&binding, "WebhookInSync"))
}

/// Looks again and waits until all is well.
async fn is_well(story: &Story) -> Result<()> {
    story.objects.look_again(BINDING).await?;
    story.objects.binding_ready(BINDING).await.map(drop)
}

#[tokio::test]
async fn gitlab_switches_a_hook_off_and_it_is_made_anew_with_growing_pauses() -> Result<()> {
    let mut made = None;
    let simulator = Simulator::start(|settings| {
        let gitlab = SimulatedGitLab::new(settings, Release::CURRENT, "");
        made = Some(gitlab.clone());
        Box::new(gitlab)
    });
    let simulated = Simulated::with(simulator.await?, Timings::default())?;
    let gitlab = made.context("it was made")?;
    let story = Story::begin_with(simulated, "gitlab-revival").await?;
    story.connect(&story.simulated.welcome.credential).await?;
    story.bind().await?;
    let first = present_ids(&story).await?.remove(0);

    // For a short while: GitLab goes on by itself.
    push_into_the_void(&story, 4, || {}).await?;
    story.objects.look_again(BINDING).await?;
    let message = says(&story).await?;
    assert!(message.contains("several deliveries in a row failed"), "{message}");
    assert_eq!(present_ids(&story).await?, std::slice::from_ref(&first));

    // For good.
    let day = || gitlab.advance(Duration::from_secs(25 * 60 * 60));
    push_into_the_void(&story, 36, day).await?;
    story.objects.look_again(BINDING).await?;
    made_anew(&story, &first, SOON).await?;
    let message = says(&story).await?;
    assert!(message.contains("40 deliveries in a row failed") && message.contains("a new one takes its place"), "{message}");
    is_well(&story).await?;

    // The receiver takes none of its deliveries, which are of another time: it is not made anew again and again.
    let second = present_ids(&story).await?.remove(0);
    for _ in 0..40 {
        day();
        story.push(&story.repository(), "main").await?;
    }
    story.objects.look_again(BINDING).await?;
    let message = says(&story).await?;
    assert!(message.contains("a new one takes its place at 20"), "{message}");
    assert_eq!(present_ids(&story).await?, std::slice::from_ref(&second), "not before its time");
    made_anew(&story, &second, OVERLAPPED).await
}

#[tokio::test]
async fn azure_devops_switches_a_subscription_off_and_it_alone_is_made_anew() -> Result<()> {
    let story = Story::begin_as(ProviderKind::AzureDevOps, "azure-revival").await?;
    story.connect(&story.simulated.welcome.credential).await?;
    story.bind().await?;
    let gone = SinkServer::start().await?;
    gone.behave(Behavior::Fail(http::StatusCode::GONE));
    let before = story.hooks(&story.repository()).await?;
    let is_for_pushes = |hook: &&Hook| hook.shape.part == "git.push";
    let (of_pushes, others): (Vec<Hook>, Vec<Hook>) = before.iter().cloned().partition(|hook| is_for_pushes(&hook));

    // An answer of 410 switches it off at once.
    let old = of_pushes[0].clone();
    let redirect = |url: String| Act::RedirectHook { repository: story.repository(), hook: old.id.clone(), url };
    story.act(redirect(format!("http://127.0.0.1:{}/in", gone.port()))).await?;
    story.push(&story.repository(), "main").await?;
    story.act(redirect(old.url.expose().to_owned())).await?;
    story.objects.look_again(BINDING).await?;
    made_anew(&story, &old.id, SOON).await?;
    let message = says(&story).await?;
    assert!(message.contains("deliveries failed for too long"), "{message}");
    let after = story.hooks(&story.repository()).await?;
    assert_eq!(after.iter().filter(|hook| !is_for_pushes(hook)).cloned().collect::<Vec<_>>(), others, "the others stay");
    is_well(&story).await?;
    story.push(&story.repository(), "main").await?;
    story.objects.sink.wait_for(1, SOON).await?;
    Ok(())
}
