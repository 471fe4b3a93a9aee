//! Hooks that the provider switched off because their deliveries failed: made anew, without a loss and without haste.

use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::providers::Hook;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;

use crate::objects::{OVERLAPPED, SOON, binding_condition, binding_message};
use crate::sim::gitlab::{Release, SimulatedGitLab};
use crate::sim::{Act, Simulated, Simulator};
use crate::story::{BINDING, Story};
use crate::support::sink::{Behavior, SinkServer};
use crate::support::wait::{Seen, wait_until};
use forgebind::providers::transport::Timings;

fn ids(hooks: &[Hook]) -> Vec<String> {
    hooks.iter().map(|hook| hook.id.clone()).collect()
}

impl Story {
    async fn ids(&self) -> Result<Vec<String>> {
        Ok(ids(&self.hooks(&self.repository()).await?))
    }

    /// Waits until this hook was made anew and its binding is well.
    async fn made_anew(&self, old: &str, deadline: Duration) -> Result<()> {
        wait_until("a new hook in its place", deadline, async || {
            let binding = self.objects.bindings.get(BINDING).await?;
            let now = self.ids().await?;
            let well = binding_condition(&binding, "WebhookInSync") == "True/Succeeded";
            let done = well && now.len() == self.parts() && !now.iter().any(|id| id == old);
            Ok(if done { Seen::Done(()) } else { Seen::NotYet(format!("{now:?} {}", binding_message(&binding, "WebhookInSync"))) })
        })
        .await
    }

    /// Pushes while nobody listens.
    async fn push_into_the_void(&self, times: usize, between: impl Fn()) -> Result<()> {
        self.operator.kill();
        for _ in 0..times {
            between();
            self.push(&self.repository(), "main").await?;
        }
        self.operator.restart().await
    }

    async fn told(&self) -> Result<Vec<String>> {
        let events: Api<Event> = Api::namespaced(self.objects.cluster().client()?, &self.objects.namespace);
        let list = events.list(&ListParams::default()).await?.items;
        let told = list.into_iter().filter(|event| event.reason.as_deref() == Some("DisabledByProvider"));
        Ok(told.filter_map(|event| event.note).collect())
    }
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
    let story = Story::with(ProviderKind::GitLab, simulated).await?;
    story.connect(&story.simulated.welcome.credential).await?;
    story.bind().await?;

    // A short pause: as soon as there is a receiver again, nothing more is to be missed.
    let first = story.ids().await?.remove(0);
    story.push_into_the_void(4, || {}).await?;
    story.objects.look_again(BINDING).await?;
    story.made_anew(&first, SOON).await?;
    story.push(&story.repository(), "main").await?;
    story.objects.sink.wait_for(1, SOON).await?;
    assert!(story.told().await?.iter().any(|note| note.contains("several deliveries in a row failed")), "{:?}", story.told().await?);

    // For good.
    let second = story.ids().await?.remove(0);
    let day = || gitlab.advance(Duration::from_secs(25 * 60 * 60));
    story.push_into_the_void(40, day).await?;
    story.objects.look_again(BINDING).await?;
    story.made_anew(&second, SOON).await?;

    // The receiver takes none of its deliveries, which are of another time: it is not made anew again and again.
    let third = story.ids().await?.remove(0);
    for _ in 0..40 {
        day();
        story.push(&story.repository(), "main").await?;
    }
    story.objects.look_again(BINDING).await?;
    let binding = story.objects.binding_says(BINDING, "WebhookInSync", "False/DisabledByProvider").await?;
    let message = binding_message(&binding, "WebhookInSync");
    assert!(message.contains("40 deliveries in a row failed") && message.contains("a new one is made at 20"), "{message}");
    assert_eq!(story.ids().await?, [third], "not before its time");
    Ok(())
}

#[tokio::test]
async fn azure_devops_switches_a_subscription_off_and_it_alone_is_made_anew() -> Result<()> {
    let story = Story::begin(ProviderKind::AzureDevOps).await?;
    story.connect(&story.simulated.welcome.credential).await?;
    story.bind().await?;
    let before = story.hooks(&story.repository()).await?;
    let pushes = |hooks: &[Hook]| hooks.iter().find(|hook| hook.shape.part.starts_with("git.push")).map(|hook| hook.id.clone());
    let first = pushes(&before).context("the subscription for pushes")?;

    // On probation.
    story.push_into_the_void(1, || {}).await?;
    story.objects.look_again(BINDING).await?;
    story.made_anew(&first, SOON).await?;
    let after = story.hooks(&story.repository()).await?;
    let kept = |hooks: &[Hook]| hooks.iter().filter(|hook| !hook.shape.part.starts_with("git.push")).cloned().collect::<Vec<_>>();
    assert_eq!(kept(&after), kept(&before), "the others stay");
    assert!(story.told().await?.iter().any(|note| note.contains("on probation")), "{:?}", story.told().await?);

    // For good: an answer of 410 does that at once.
    let second = pushes(&after).context("the subscription for pushes")?;
    let url = after.iter().find(|hook| hook.id == second).context("it")?.url.expose().to_owned();
    let sink = SinkServer::start().await?;
    sink.behave(Behavior::Fail(http::StatusCode::GONE));
    let redirect = |url: String| Act::RedirectHook { repository: story.repository(), hook: second.clone(), url };
    story.act(redirect(format!("http://127.0.0.1:{}/in", sink.port()))).await?;
    story.push(&story.repository(), "main").await?;
    story.act(redirect(url)).await?;
    story.objects.look_again(BINDING).await?;
    story.made_anew(&second, OVERLAPPED).await?;
    assert!(story.told().await?.iter().any(|note| note.contains("deliveries failed for too long")), "{:?}", story.told().await?);
    story.push(&story.repository(), "main").await?;
    story.objects.sink.wait_for(1, SOON).await?;
    Ok(())
}
