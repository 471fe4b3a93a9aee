//! Receivers that are killed or stopped: nothing that they acknowledged is lost, and no event is sent under two ids.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::REDELIVER_REQUESTED_AT;
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
/// How often one of two receivers is killed or stopped, if there is time.
const ENDS: usize = 50;
/// How long that takes at most. `FORGEBIND_SOAK_SECONDS` replaces it, and then there are as many rounds of [`ENDS`] as fit.
const LONGEST: Duration = Duration::from_secs(60);
/// Pause of a sender between two deliveries, so that a long run does not collect more than memory holds.
const SENDER_PAUSE: Duration = Duration::from_millis(20);
/// A receiver that stops has this time, in which its peer may be killed and started again.
const DRAIN: Duration = Duration::from_secs(40);
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

    /// The same hook at another receiver.
    fn url_at(&self, receiver: &str) -> String {
        let path = self.url.splitn(4, '/').nth(3).unwrap_or_default();
        format!("{receiver}/{path}")
    }

    /// Sends a push as the provider does: with the same id until it is answered 2xx. Each attempt goes to the next of these
    /// receivers, as behind a Service.
    async fn deliver(&self, number: usize, receivers: &[String]) -> Result<()> {
        let client = plain_http::client()?;
        let body = serde_json::to_vec(&json!({
            "ref": format!("refs/heads/branch-{}", number % 3), "before": "0".repeat(40), "after": format!("{:040x}", number + 1),
            "repository": {"id": self.repository_id, "full_name": self.repository},
        }))?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes()), &body);
        let signature = tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let mut attempts = receivers.iter().cycle().skip(number % receivers.len());
        wait_until(&format!("delivery {number} to be acknowledged"), SENT_AGAIN, async || {
            let url = self.url_at(attempts.next().context("a receiver")?);
            let request = client.post(&url).header("Content-Type", "application/json").header("X-Gitea-Event", "push");
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
    let (hook, receivers) = (Hook::of(&env, &operator).await?, [operator.url()]);

    let (next, acknowledged, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let sender = async || -> Result<()> {
        while !over.load(Ordering::SeqCst) {
            hook.deliver(next.fetch_add(1, Ordering::SeqCst), &receivers).await?;
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

/// Two receivers, each with an outbox that is deleted when it has stopped, as an emptyDir is.
struct Pair {
    receivers: [(Operator, PathBuf); 2],
    kills: AtomicUsize,
    stops: AtomicUsize,
}

impl Pair {
    /// kill -9. The directory stays, as it does when the container of a pod is started again.
    async fn kill(&self, number: usize) -> Result<()> {
        let (receiver, _) = &self.receivers[number];
        receiver.kill();
        self.kills.fetch_add(1, Ordering::SeqCst);
        receiver.restart().await
    }

    /// SIGTERM. Its pod is gone then, and its directory with it.
    async fn stop(&self, number: usize) -> Result<()> {
        let (receiver, directory) = &self.receivers[number];
        let status = receiver.terminate(DRAIN + Duration::from_secs(15)).await?;
        ensure!(status.success(), "{status}: {}", receiver.log_tail(20));
        self.stops.fetch_add(1, Ordering::SeqCst);
        std::fs::remove_dir_all(directory)?;
        receiver.restart().await
    }

    /// Ends one of the receivers in one of three ways.
    async fn end_one(&self) -> Result<()> {
        let number = fastrand::usize(0..2);
        match fastrand::u8(0..4) {
            0 | 1 => self.kill(number).await,
            2 => self.stop(number).await,
            _ => {
                // The peer ends while it takes over.
                let peer = async {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..150))).await;
                    self.kill(1 - number).await
                };
                futures::future::try_join(self.stop(number), peer).await.map(|_| ())
            }
        }
    }

    async fn stored(&self) -> Result<u64> {
        let mut sum = 0;
        for (receiver, _) in &self.receivers {
            sum += metric(&receiver.metrics().await?, "forgebind_receiver_pending_deliveries");
        }
        Ok(sum)
    }
}

/// Sends deliveries while receivers end, until there were [`ENDS`] or the time is over. Returns the numbers of the deliveries,
/// each of which was acknowledged.
async fn round(env: &TestEnv, hook: &Hook, pair: &Pair, next: &AtomicUsize, until: Instant) -> Result<std::ops::Range<usize>> {
    let urls = pair.receivers.each_ref().map(|(receiver, _)| receiver.url());
    let (first, over) = (next.load(Ordering::SeqCst), AtomicBool::new(false));
    let sender = async || -> Result<()> {
        while !over.load(Ordering::SeqCst) {
            hook.deliver(next.fetch_add(1, Ordering::SeqCst), &urls).await?;
            tokio::time::sleep(SENDER_PAUSE).await;
        }
        Ok(())
    };
    let ending = async {
        for end in 0..ENDS {
            let down = Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE);
            env.sink.behave(if end % 2 == 0 { down } else { Behavior::Accept });
            // At any moment.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..400))).await;
            pair.end_one().await?;
            if Instant::now() > until {
                break;
            }
        }
        env.sink.behave(Behavior::Accept);
        over.store(true, Ordering::SeqCst);
        anyhow::Ok(())
    };
    let senders = futures::future::try_join_all((0..SENDERS).map(|_| sender()));
    futures::future::try_join(senders, ending).await?;
    Ok(first..next.load(Ordering::SeqCst))
}

/// Waits until everything is at the sink and nothing is stored any more. What was parked or is a dead letter, because the sink
/// went down and came back between two attempts, is sent again on request.
async fn all_arrive(env: &TestEnv, pair: &Pair, numbers: std::ops::Range<usize>) -> Result<()> {
    let end = numbers.end;
    let expected: BTreeSet<String> = numbers.map(id).collect();
    let (mut requests, mut asked) = (0, Instant::now());
    wait_until("every acknowledged delivery to reach the sink", SENT_AGAIN, async || {
        if requests == 0 || asked.elapsed() > Duration::from_secs(15) {
            (requests, asked) = (requests + 1, Instant::now());
            env.annotate_binding("shop", REDELIVER_REQUESTED_AT, &format!("{end}-{requests}")).await?;
        }
        let seen: BTreeSet<String> = env.sink.accepted().iter().map(|event| event.header("ce-id").to_owned()).collect();
        let missing: Vec<_> = expected.difference(&seen).take(10).collect();
        let stored = pair.stored().await?;
        let is_done = missing.is_empty() && stored == 0;
        Ok(if is_done { Seen::Done(()) } else { Seen::NotYet(format!("missing {missing:?}, {stored} stored")) })
    })
    .await?;
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in env.sink.take() {
        ids.entry(event.json()["after"].to_string()).or_default().insert(event.header("ce-id").to_owned());
    }
    ensure!(ids.values().all(|ids| ids.len() == 1), "one event under two ids: {ids:?}");
    Ok(())
}

#[tokio::test]
async fn what_two_receivers_acknowledged_reaches_the_sink_although_they_are_killed_and_stopped_at_any_moment() -> Result<()> {
    let env = TestEnv::new("outbox-soak").await?;
    let directory = tempfile::tempdir()?;
    let base = env.options().await?;
    let options = [base.clone(), base.beside()?];
    let admin = options.each_ref().map(testkit::operator::Options::admin_url).join(",");
    let controller = base.beside()?.only("controller").with("receivers", &admin);
    let _controller = Operator::start(controller).await?;
    let start = async |number: usize| -> Result<(Operator, PathBuf)> {
        let outbox = directory.path().join(format!("outbox-{number}"));
        let options = options[number].clone().only("receiver").with("receivers", &admin).with("hand-over", "true");
        let options = options.with("drain-timeout", &format!("{}s", DRAIN.as_secs()));
        let options = options.with("outbox", "disk").with("outbox-dir", outbox.to_str().context("a path")?);
        Ok((Operator::start(options).await?, outbox))
    };
    let receivers = [start(0).await?, start(1).await?];
    let pair = Pair { receivers, kills: AtomicUsize::new(0), stops: AtomicUsize::new(0) };
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let hook = Hook::of(&env, &pair.receivers[0].0).await?;

    let soak = std::env::var_os("FORGEBIND_SOAK_SECONDS").and_then(|seconds| seconds.to_str()?.parse().ok()).map(Duration::from_secs);
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let until = began + soak.unwrap_or(LONGEST);
    loop {
        let numbers = round(&env, &hook, &pair, &next, until).await?;
        all_arrive(&env, &pair, numbers).await?;
        let (kills, stops) = (pair.kills.load(Ordering::SeqCst), pair.stops.load(Ordering::SeqCst));
        eprintln!(
            "{} s: {kills} kills, {stops} stops with hand-over, {} deliveries acknowledged, none missing",
            began.elapsed().as_secs(),
            next.load(Ordering::SeqCst)
        );
        if soak.is_none() || Instant::now() > until {
            ensure!(kills + stops >= 10 && kills > 0 && stops > 0, "only {kills} kills and {stops} stops in {LONGEST:?}");
            break;
        }
    }
    let handed_over = pair.receivers.iter().map(|(receiver, _)| receiver.log().matches("pending deliveries handed over").count());
    ensure!(handed_over.sum::<usize>() > 0, "nothing was ever handed over");
    Ok(())
}
