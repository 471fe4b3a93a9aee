//! The list of the last deliveries in the status: real pushes, and a flood of forged deliveries.

use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::RepoBinding;
use forgebind::api::v1alpha1::deliveries::{DeliveryOutcome, RecentDelivery};
use http::StatusCode;
use serde_json::json;

use testkit::operator::Operator;
use testkit::plain_http;
use testkit::sink::Behavior;
use testkit::test_env::{SOON, TestEnv};

/// Longer than the list may be behind: a poll of the receivers and the pause between two writes.
const LISTED: Duration = Duration::from_secs(150);
/// More than the list has entries.
const FORGED: u64 = 25;

fn list(binding: &RepoBinding) -> &[RecentDelivery] {
    binding.status.as_ref().map(|status| status.recent_deliveries.as_slice()).unwrap_or_default()
}

#[tokio::test]
async fn bb_21_forged_deliveries_are_refused_and_counted_beside_the_real_ones_and_the_list_survives_a_restart() -> Result<()> {
    let env = TestEnv::new("recent").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let commit = env.push("a real one").await?;
    env.sink.wait_for(1, SOON).await?;
    let url = env.hooks_at(&operator.url()).await?.remove(0).config.url;
    let client = plain_http::client()?;
    for number in 0..FORGED {
        let body = json!({"ref": "refs/heads/forged", "after": "f".repeat(40), "repository": {"id": 1, "full_name": "a/b"}}).to_string();
        let request = client.post(&url).header("Content-Type", "application/json").header("X-Gitea-Event", "push");
        let request = request.header("X-Gitea-Delivery", format!("forged-{number}")).header("X-Gitea-Signature", "00".repeat(32));
        assert_eq!(request.body(body).send().await?.status(), StatusCode::UNAUTHORIZED);
    }
    let counted = |binding: &RepoBinding| {
        let refused = list(binding).iter().find(|delivery| delivery.outcome == DeliveryOutcome::Refused);
        refused.is_some_and(|refused| refused.count == Some(FORGED))
    };
    let binding = env.binding_until("shop", "every forged delivery to be counted", LISTED, counted).await?;
    let real = list(&binding).iter().find(|delivery| delivery.sha.is_some()).context("the real delivery")?;
    assert_eq!((real.sha.as_deref(), real.reference.as_deref()), (Some(&commit[..8]), Some("refs/heads/main")));
    assert_eq!((real.outcome, real.sinks[0].name.as_str()), (DeliveryOutcome::Accepted, "ci"));
    assert_eq!(list(&binding).len(), 2, "{:?}", list(&binding));
    let text = serde_json::to_string(list(&binding))?;
    assert!(!text.contains("forged") && !text.contains("/hooks/"), "{text}");
    assert_eq!(env.sink.deliveries().len(), 1);

    // The receiver forgets what it saw, and the status keeps it.
    operator.kill();
    operator.restart().await?;
    env.sink.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
    let second = env.push("while the sink is down").await?;
    let pending = |binding: &RepoBinding| list(binding).iter().any(|delivery| delivery.outcome == DeliveryOutcome::Pending);
    let binding = env.binding_until("shop", "the pending delivery to be listed", LISTED, pending).await?;
    let shas: Vec<_> = list(&binding).iter().filter_map(|delivery| delivery.sha.clone()).collect();
    assert_eq!(shas, [&second[..8], &commit[..8]], "the newest first");
    let answer = &list(&binding)[0].sinks[0];
    assert_eq!(answer.error.as_deref(), Some("answered 503"), "{answer:?}");
    let status = binding.status.context("a status")?;
    assert!(!status.conditions.is_empty() && status.webhook.is_some(), "the rest of the status is as it was");
    Ok(())
}
