//! Receivers that are killed or stopped: nothing that they acknowledged is lost, and no event is sent under two ids.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::REDELIVER_REQUESTED_AT;
use forgebind::protocol::keys::{InstallKey, secret_text};
use http::StatusCode;
use parking_lot::Mutex;
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
/// How often one of two receivers is killed with SIGKILL in one round.
const KILLS_OF_TWO: usize = 50;
/// How long that takes at most; about a minute on two free cores. With `FORGEBIND_SOAK_SECONDS` there are as many rounds as begin within
/// that time.
const LONGEST: Duration = Duration::from_secs(240);
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
    async fn deliver(&self, number: usize, receivers: &[String]) -> Result<Sent> {
        let client = plain_http::client()?;
        let body = serde_json::to_vec(&json!({
            "ref": format!("refs/heads/branch-{}", subject(number)), "before": "0".repeat(40), "after": format!("{:040x}", number + 1),
            "repository": {"id": self.repository_id, "full_name": self.repository},
        }))?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes()), &body);
        let signature = tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let (begun, mut attempts) = (Instant::now(), 0);
        wait_until(&format!("delivery {number} to be acknowledged"), SENT_AGAIN, async || {
            let receiver = (number + attempts) % receivers.len();
            attempts += 1;
            let url = self.url_at(&receivers[receiver]);
            let request = client.post(&url).header("Content-Type", "application/json").header("X-Gitea-Event", "push");
            let request = request.header("X-Gitea-Delivery", id(number)).header("X-Gitea-Signature", &signature);
            match request.body(body.clone()).send().await {
                Ok(answer) if answer.status().is_success() => {
                    Ok(Seen::Done(Sent { number, begun, attempts, receiver, acknowledged: Instant::now() }))
                }
                Ok(answer) => Ok(Seen::NotYet(answer.status().to_string())),
                Err(error) => Ok(Seen::NotYet(error.to_string())),
            }
        })
        .await
    }
}

/// A delivery that was acknowledged.
struct Sent {
    number: usize,
    /// When it was sent for the first time.
    begun: Instant,
    attempts: usize,
    /// The receiver that acknowledged it.
    receiver: usize,
    acknowledged: Instant,
}

/// The number of a delivery's branch.
const fn subject(number: usize) -> usize {
    number % 3
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
    /// Those of them that hit a receiver that was giving its outbox to the other one.
    kills_of_givers: AtomicUsize,
    /// The receiver and the time of each SIGTERM.
    stops: Mutex<Vec<(usize, Instant)>>,
    /// The time of each SIGKILL and each SIGTERM.
    ends: Mutex<Vec<Instant>>,
}

impl Pair {
    /// kill -9. The directory stays, as it does when the container of a pod is started again.
    async fn kill(&self, number: usize) -> Result<()> {
        let (receiver, _) = &self.receivers[number];
        self.ends.lock().push(Instant::now());
        receiver.kill();
        self.kills.fetch_add(1, Ordering::SeqCst);
        receiver.restart().await
    }

    fn terminates(&self, number: usize) {
        self.ends.lock().push(Instant::now());
        self.stops.lock().push((number, Instant::now()));
    }

    /// SIGTERM. Its pod is gone then, and its directory with it.
    async fn stop(&self, number: usize) -> Result<()> {
        let (receiver, directory) = &self.receivers[number];
        self.terminates(number);
        let status = receiver.terminate(DRAIN + Duration::from_secs(15)).await?;
        ensure!(status.success(), "{status}: {}", receiver.log_tail(20));
        std::fs::remove_dir_all(directory)?;
        receiver.restart().await
    }

    /// kill -9 at any moment after SIGTERM, while it gives its outbox to the peer. The directory stays: whoever deletes it then deletes
    /// what was not given yet.
    async fn kill_giver(&self, number: usize) -> Result<()> {
        let (receiver, _) = &self.receivers[number];
        let begins = receiver.log().len();
        self.terminates(number);
        receiver.signal("TERM")?;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        let was_giving = !receiver.log()[begins..].contains("\"stopped\"");
        self.kills_of_givers.fetch_add(usize::from(was_giving), Ordering::SeqCst);
        self.kill(number).await
    }

    /// Ends one of the receivers in one of four ways.
    async fn end_one(&self) -> Result<()> {
        let number = fastrand::usize(0..2);
        match fastrand::u8(0..6) {
            0..3 => self.kill(number).await,
            3 => self.stop(number).await,
            4 => self.kill_giver(number).await,
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

    /// The deliveries that were parked, or became dead letters, at any time.
    fn set_aside(&self) -> BTreeSet<String> {
        let logs = self.receivers.each_ref().map(|(receiver, _)| receiver.log()).concat();
        let lines = logs.lines().filter(|line| line.contains("event parked") || line.contains("dead letter"));
        lines.filter_map(|line| Some(line.split("\"delivery\":\"").nth(1)?.split('"').next()?.to_owned())).collect()
    }
}

/// Sends deliveries while receivers end, until there were [`KILLS_OF_TWO`]. Returns the deliveries, each of which was acknowledged.
async fn round(env: &TestEnv, hook: &Hook, pair: &Pair, next: &AtomicUsize) -> Result<Vec<Sent>> {
    let urls = pair.receivers.each_ref().map(|(receiver, _)| receiver.url());
    let over = AtomicBool::new(false);
    let sender = async || -> Result<Vec<Sent>> {
        let mut sent = Vec::new();
        while !over.load(Ordering::SeqCst) {
            sent.push(hook.deliver(next.fetch_add(1, Ordering::SeqCst), &urls).await?);
            tokio::time::sleep(SENDER_PAUSE).await;
        }
        Ok(sent)
    };
    let ending = async {
        let (began, before) = (Instant::now(), pair.kills.load(Ordering::SeqCst));
        for end in 0.. {
            let kills = pair.kills.load(Ordering::SeqCst) - before;
            if kills >= KILLS_OF_TWO {
                break;
            }
            ensure!(began.elapsed() < LONGEST, "only {kills} kills in {LONGEST:?}");
            let down = Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE);
            env.sink.behave(if end % 2 == 0 { down } else { Behavior::Accept });
            // At any moment.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..400))).await;
            pair.end_one().await?;
        }
        env.sink.behave(Behavior::Accept);
        over.store(true, Ordering::SeqCst);
        anyhow::Ok(())
    };
    let senders = futures::future::try_join_all((0..SENDERS).map(|_| sender()));
    let (sent, ()) = futures::future::try_join(senders, ending).await?;
    Ok(sent.into_iter().flatten().collect())
}

/// Waits until everything is at the sink and nothing is stored any more. What was parked or is a dead letter, because the sink
/// went down and came back between two attempts, is sent again on request. Returns the acceptances of each delivery, in order.
async fn all_arrive(env: &TestEnv, pair: &Pair, sent: &[Sent]) -> Result<BTreeMap<usize, Vec<(usize, Instant)>>> {
    let end = sent.iter().map(|sent| sent.number).max().unwrap_or_default();
    let expected: BTreeSet<String> = sent.iter().map(|sent| id(sent.number)).collect();
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
    let (mut ids, mut accepted): (BTreeMap<String, BTreeSet<String>>, BTreeMap<usize, Vec<_>>) = Default::default();
    for (place, event) in env.sink.take().into_iter().enumerate() {
        let number = event.header("ce-id").rsplit('-').next().and_then(|number| number.parse().ok());
        accepted.entry(number.context("the number of a delivery")?).or_default().push((place, event.at));
        ids.entry(event.json()["after"].to_string()).or_default().insert(event.header("ce-id").to_owned());
    }
    ensure!(ids.values().all(|ids| ids.len() == 1), "one event under two ids: {ids:?}");
    Ok(accepted)
}

/// Checks the promised order: what one receiver acknowledged before it got a later delivery of the same branch reaches the sink first,
/// even if the receiver was killed in between. This holds within one receiver, so not for what it hands over when it is stopped, for
/// what was also sent to another receiver, and for what was parked. Returns the number of pairs that were compared.
fn check_order(sent: &[Sent], accepted: &BTreeMap<usize, Vec<(usize, Instant)>>, pair: &Pair) -> Result<usize> {
    let (stops, set_aside) = (pair.stops.lock().clone(), pair.set_aside());
    let first = |sent: &Sent| accepted.get(&sent.number).and_then(|places| places.first().copied()).context("an acceptance");
    let mut compared = 0;
    for later in sent.iter().filter(|later| later.attempts == 1) {
        let (place, at) = first(later)?;
        let of_same = sent.iter().filter(|earlier| {
            earlier.receiver == later.receiver && subject(earlier.number) == subject(later.number) && earlier.acknowledged < later.begun
        });
        for earlier in of_same.filter(|earlier| !set_aside.contains(&id(earlier.number))) {
            let was_stopped = stops.iter().any(|(receiver, when)| *receiver == later.receiver && (earlier.begun..=at).contains(when));
            if was_stopped {
                continue;
            }
            compared += 1;
            ensure!(first(earlier)?.0 < place, "{} was accepted before {}", id(later.number), id(earlier.number));
        }
    }
    Ok(compared)
}

/// Checks that no event is accepted twice unless a receiver ended after it was sent. Returns the number of those that were.
fn check_duplicates(sent: &[Sent], accepted: &BTreeMap<usize, Vec<(usize, Instant)>>, ends: &[Instant]) -> Result<usize> {
    let mut twice = 0;
    for sent in sent {
        let Some([_, .., (_, last)]) = accepted.get(&sent.number).map(Vec::as_slice) else { continue };
        twice += 1;
        let is_excused = ends.iter().any(|end| (sent.begun..=*last).contains(end));
        ensure!(is_excused, "{} was accepted twice, and no receiver had ended", id(sent.number));
    }
    Ok(twice)
}

#[tokio::test]
async fn what_two_receivers_acknowledged_reaches_the_sink_in_order_although_they_are_killed_and_stopped_at_any_moment() -> Result<()> {
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
        let options = options.with("outbox", "disk").with("outbox-dir", outbox.to_str().context("a path")?).with("log-format", "json");
        Ok((Operator::start(options).await?, outbox))
    };
    let receivers = [start(0).await?, start(1).await?];
    let (kills, kills_of_givers, ends) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::default());
    let pair = Pair { receivers, kills, kills_of_givers, ends, stops: Mutex::default() };
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let hook = Hook::of(&env, &pair.receivers[0].0).await?;

    let soak = std::env::var_os("FORGEBIND_SOAK_SECONDS").and_then(|seconds| seconds.to_str()?.parse().ok()).map(Duration::from_secs);
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    loop {
        let sent = round(&env, &hook, &pair, &next).await?;
        let accepted = all_arrive(&env, &pair, &sent).await?;
        let compared = check_order(&sent, &accepted, &pair)?;
        let twice = check_duplicates(&sent, &accepted, &pair.ends.lock())?;
        eprintln!(
            "figure: {} s: {} kills, {} of them while giving, {} stops; {} deliveries acknowledged, none missing, {twice} accepted twice, \
             the order of {compared} pairs",
            began.elapsed().as_secs(),
            pair.kills.load(Ordering::SeqCst),
            pair.kills_of_givers.load(Ordering::SeqCst),
            pair.stops.lock().len(),
            sent.len(),
        );
        ensure!(compared > sent.len(), "the order of only {compared} pairs was compared");
        if soak.is_none_or(|soak| began.elapsed() > soak) {
            break;
        }
    }
    ensure!(pair.kills_of_givers.load(Ordering::SeqCst) > 0, "no receiver was killed while it gave its outbox");
    let handed_over = pair.receivers.iter().map(|(receiver, _)| receiver.log().matches("pending deliveries handed over").count());
    ensure!(handed_over.sum::<usize>() > 0, "nothing was ever handed over");
    Ok(())
}
