//! A receiver that is killed: nothing that it acknowledged is lost, and no event is sent under two ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::protocol::keys::{InstallKey, secret_text};
use http::StatusCode;
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::json;

use testkit::operator::{Operator, metric};
use testkit::plain_http;
use testkit::sink::Behavior;
use testkit::test_env::{TestEnv, install_key};
use testkit::wait::{Seen, wait_until};

/// How often the receiver is killed.
const KILLS: usize = 12;
/// Acknowledged deliveries between two kills.
const BETWEEN: usize = 9;
/// Deliveries that are sent at the same time.
const SENDERS: usize = 4;
/// Longer than the longest pause between two attempts at a sink.
const SENT_AGAIN: Duration = Duration::from_secs(120);

/// A hook, as its provider knows it.
struct Hook {
    url: String,
    secret: String,
    repository_id: i64,
    repository: String,
}

impl Hook {
    async fn of(env: &TestEnv, operator: &Operator) -> Result<Self> {
        let status = env.binding_ready("shop").await?.status.context("a status")?;
        let url = env.hooks_at(&operator.url()).await?.remove(0).config.url;
        let secret_version = url.rsplit('/').next().context("a secret version")?.to_owned();
        let key = InstallKey::new(&install_key(env, operator).await?)?.receiver();
        let secret = secret_text(&key.webhook_secret(env.hook_owner("shop"), &secret_version)).expose_secret().to_owned();
        let repository_id = status.repository.context("a repository")?.id.parse()?;
        Ok(Self { url, secret, repository_id, repository: env.repository.clone() })
    }

    /// Sends a push as the provider does: with the same id until it is answered 2xx.
    async fn deliver(&self, number: usize) -> Result<()> {
        let client = plain_http::client()?;
        let body = serde_json::to_vec(&json!({
            "ref": format!("refs/heads/branch-{}", number % 3), "before": "0".repeat(40), "after": format!("{:040x}", number + 1),
            "repository": {"id": self.repository_id, "full_name": self.repository},
        }))?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes()), &body);
        let signature = tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        wait_until(&format!("delivery {number} to be acknowledged"), SENT_AGAIN, async || {
            let request = client.post(&self.url).header("Content-Type", "application/json").header("X-Gitea-Event", "push");
            let request = request.header("X-Gitea-Delivery", id(number)).header("X-Gitea-Signature", &signature);
            match request.body(body.clone()).send().await {
                Ok(answer) if answer.status().is_success() => Ok(Seen::Done(())),
                Ok(answer) => Ok(Seen::NotYet(answer.status().to_string())),
                Err(error) => Ok(Seen::NotYet(error.to_string())),
            }
        })
        .await
    }
}

fn id(number: usize) -> String {
    format!("delivery-{number}")
}

#[tokio::test]
async fn what_a_killed_receiver_acknowledged_reaches_the_sink_under_one_id() -> Result<()> {
    let env = TestEnv::new("outbox-kill").await?;
    let directory = tempfile::tempdir()?;
    let outbox = directory.path().join("outbox");
    let options = env.options().await?.with("outbox", "disk").with("outbox-dir", outbox.to_str().context("a path")?);
    let operator = Operator::start(options).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let hook = Hook::of(&env, &operator).await?;

    let (next, acknowledged, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let sender = async || -> Result<()> {
        while !over.load(Ordering::SeqCst) {
            hook.deliver(next.fetch_add(1, Ordering::SeqCst)).await?;
            acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    };
    let killer = async {
        for kill in 0..KILLS {
            let down = Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE);
            env.sink.behave(if kill % 2 == 0 { down } else { Behavior::Accept });
            let enough = acknowledged.load(Ordering::SeqCst) + BETWEEN;
            wait_until("more deliveries to be acknowledged", SENT_AGAIN, async || {
                let count = acknowledged.load(Ordering::SeqCst);
                Ok(if count >= enough { Seen::Done(()) } else { Seen::NotYet(format!("{count} of {enough}")) })
            })
            .await?;
            operator.kill();
            operator.restart().await?;
        }
        env.sink.behave(Behavior::Accept);
        over.store(true, Ordering::SeqCst);
        anyhow::Ok(())
    };
    let senders = futures::future::try_join_all((0..SENDERS).map(|_| sender()));
    futures::future::try_join(senders, killer).await?;

    let expected: BTreeSet<String> = (0..next.load(Ordering::SeqCst)).map(id).collect();
    ensure!(expected.len() >= KILLS * BETWEEN, "{} deliveries", expected.len());
    wait_until("every acknowledged delivery to reach the sink or to become a dead letter", SENT_AGAIN, async || {
        let seen: BTreeSet<String> = env.sink.accepted().iter().map(|event| event.header("ce-id").to_owned()).collect();
        let log = operator.log();
        // A sink that goes down and comes back between two attempts makes an event look as if it were at fault.
        let is_dead = |id: &str| log.lines().any(|line| line.contains("dead letter") && line.contains(&format!("{id}\"")));
        let missing: Vec<_> = expected.difference(&seen).filter(|id| !is_dead(id)).collect();
        Ok(if missing.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{missing:?}")) })
    })
    .await?;
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in env.sink.accepted() {
        ids.entry(event.json()["after"].to_string()).or_default().insert(event.header("ce-id").to_owned());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    wait_until("the outbox to be empty", SENT_AGAIN, async || {
        let pending = metric(&operator.metrics().await?, "forgebind_receiver_pending_deliveries");
        Ok(if pending == 0 { Seen::Done(()) } else { Seen::NotYet(pending.to_string()) })
    })
    .await
}
