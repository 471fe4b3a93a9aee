//! The costs of an installation with many bindings.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use forgebind::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RepoBinding};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, StatusCode};
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::Progress;
use crate::bare;
use crate::deliveries::{Target, targets};
use crate::figures::Figures;
use crate::memory;
use crate::outbox;
use crate::process::{pid, processor_seconds, resident};
use crate::receiver::{self, Subject};
use crate::tenants::{self, Tenants};
use testkit::control_plane::{AuditEvent, ControlPlane};
use testkit::operator::{Operator, Options};
use testkit::plain_http;
use testkit::sim::bitbucket_data_center::BitbucketDataCenter;
use testkit::sim::{Request, Simulator};
use testkit::sink::{Behavior, SinkServer};
use testkit::test_namespace::grant;

/// The number of bindings that a client processes at once: the same as in the operator.
pub const AT_ONCE: usize = 32;
const CONNECTION: &str = "git";
/// The Service of each namespace.
const SINK: &str = "ci";
/// How long the operator is observed at rest.
const REST: Duration = Duration::from_secs(30);
/// A start-up time is the median of this number of starts.
const STARTS: usize = 5;

/// A control plane, a provider with one repository for each binding, and the operator's settings.
pub struct Installation {
    plane: ControlPlane,
    simulator: Simulator,
    program: PathBuf,
    options: Options,
    /// Half of the bindings are in each, so that an operator can watch only half of them.
    namespaces: [String; 2],
    /// The sinks of the bindings of each.
    sinks: [SinkServer; 2],
    size: usize,
}

fn is_ready(binding: &RepoBinding) -> bool {
    let conditions = binding.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Installation {
    /// Starts everything except the operator. No connection or binding exists yet.
    ///
    /// # Errors
    ///
    /// When a server does not start.
    pub async fn start(program: PathBuf, size: usize) -> Result<Self> {
        let plane = ControlPlane::start().await?;
        // It has no rate limit, like a server whose administrator sets none.
        let simulator = Simulator::start(|settings| Box::new(BitbucketDataCenter::new(settings).with_repositories(size, "bench"))).await?;
        let namespaces = [plane.cluster().create_namespace("bench").await?, plane.cluster().create_namespace("bench").await?];
        let options = Options::on(&plane, &[&namespaces[0], &namespaces[1]], None).await?;
        let sinks = [SinkServer::start().await?, SinkServer::start().await?];
        let resolve = sinks.iter().zip(&namespaces).map(|(sink, namespace)| sink.resolve(SINK, namespace));
        let options = options.with("resolve", &resolve.collect::<Vec<_>>().join(","));
        let options = options.with("leader-election", "true").executable(&program);
        Ok(Self { plane, simulator, program, options, namespaces, sinks, size })
    }

    /// Measures every figure.
    ///
    /// # Errors
    ///
    /// When a step fails, or the bindings do not become Ready.
    pub async fn measure(&self, figures: &mut Figures, progress: &Progress) -> Result<()> {
        let size = self.size;
        progress.say("starting with no objects");
        let (empty, resident_empty) = self.starts(&self.options).await?;
        figures.time("start to ready, no objects", empty, Duration::from_millis(500));

        progress.say(&format!("creating {size} bindings"));
        self.fill().await?;
        progress.say(&format!("starting the operator until {size} bindings are Ready"));
        let (convergence, calls) = self.converge(figures).await?;

        progress.say(&format!("starting again with {size} bindings"));
        let (full, _) = self.starts(&self.options).await?;
        figures.time(format!("start to ready, {size} bindings"), full, Duration::from_secs(3));
        progress.say(&format!("observing the idle operator for {} s", REST.as_secs()));
        let resident_both = self.rest(figures).await?;
        figures.note(format!("resident memory of both in one process, {size} bindings"), format!("{:.1} MiB", mebibytes(resident_both)));
        figures.note("the same, no objects", format!("{:.1} MiB", mebibytes(resident_empty)));
        for role in ["controller", "receiver"] {
            let whole = self.resident_at_rest(&self.options.clone().only(role)).await?;
            let half = self.options.clone().only(role).watching(&self.plane, &[&self.namespaces[0]]).await?;
            let half = self.resident_at_rest(&half).await?;
            self.options.clone().watching(&self.plane, &[&self.namespaces[0], &self.namespaces[1]]).await?;
            figures.bytes(format!("resident memory of the {role}, {size} bindings"), whole, 64 * 1024 * 1024);
            let added = mebibytes(whole.saturating_sub(half)) * 1024.0;
            figures.at_most("the same, each further binding", added / number(size - size / 2), " KiB", 4.0);
        }

        progress.say("sending the same requests with a bare client");
        let bare = bare::converge(&self.plane, &self.simulator, &calls, &self.namespaces).await?;
        figures.note(format!("{size} bindings by a bare client"), format!("{:.2} s", bare.as_secs_f64()));
        figures.at_least("ratio to the bare client", bare.as_secs_f64() / convergence.as_secs_f64(), 0.6);
        self.measure_receiver(&calls, figures, progress).await?;
        self.measure_memory(figures, progress).await
    }

    /// Measures only the receiver.
    ///
    /// # Errors
    ///
    /// When a step fails.
    pub async fn measure_deliveries(&self, figures: &mut Figures, progress: &Progress) -> Result<()> {
        progress.say(&format!("creating {} bindings", self.size));
        self.fill().await?;
        let (_, calls) = self.converge(figures).await?;
        self.measure_receiver(&calls, figures, progress).await
    }

    async fn measure_receiver(&self, calls: &[Request], figures: &mut Figures, progress: &Progress) -> Result<()> {
        let targets = self.targets(calls).await?;
        // Every second binding is in the second namespace, as `fill` creates them.
        let of_namespace = |number: usize| {
            let is_of = |target: &&Target| number_of(&target.slug).is_some_and(|index| index % 2 == number);
            targets.iter().filter(is_of).cloned().collect()
        };
        let tenants = Tenants { targets: [of_namespace(0), of_namespace(1)], sinks: self.sinks.each_ref() };
        let subject = Subject { plane: &self.plane, program: &self.program, options: self.options.clone(), targets };
        receiver::measure(&subject, figures, progress).await?;
        for sink in &self.sinks {
            sink.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
        }
        outbox::measure(&subject, figures, progress).await?;
        tenants::measure(&subject, &tenants, figures, progress).await
    }

    /// Measures only the memory under hostile peers.
    ///
    /// # Errors
    ///
    /// When a step fails.
    pub async fn measure_memory(&self, figures: &mut Figures, progress: &Progress) -> Result<()> {
        memory::measure(&self.plane, &self.program, &self.options, figures, progress).await
    }

    /// The hooks that the operator created.
    async fn targets(&self, calls: &[Request]) -> Result<Vec<Target>> {
        let bindings: Api<RepoBinding> = Api::all(self.plane.cluster().client()?);
        let mut ids = BTreeMap::new();
        for binding in bindings.list(&ListParams::default()).await? {
            if let Some(repository) = binding.status.as_ref().and_then(|status| status.repository.as_ref()) {
                ids.insert(binding.name_any(), repository.id.parse()?);
            }
        }
        let made = calls.iter().filter(|call| call.method == Method::POST && call.path.ends_with("/webhooks"));
        let made = made.filter_map(|call| Some((bare::repository(&call.path)?, call.body.as_ref()))).collect::<Vec<_>>();
        targets(made.iter().map(|(slug, body)| (slug.as_str(), *body)), &ids)
    }

    /// Creates the connection and the bindings, as a user applies them while no operator runs.
    async fn fill(&self) -> Result<()> {
        let (cluster, seed_data) = (self.plane.cluster(), self.simulator.seed_data());
        let data: Vec<_> = seed_data.credential.iter().map(|(key, value)| (*key, value.as_str())).collect();
        cluster.apply_secret(&self.namespaces[0], "credential", &data).await?;
        for (namespace, sink) in self.namespaces.iter().zip(&self.sinks) {
            cluster.create_service(namespace, SINK, sink.port()).await?;
        }
        let client = cluster.client()?;
        let connection = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection", "metadata": {"name": CONNECTION},
            "spec": {
                "provider": seed_data.provider, "credentials": {"secretRef": {"name": "credential"}},
            },
        });
        let grant = grant(&self.namespaces[0], "bench", CONNECTION, &json!({"namespaces": {"from": "All"}}));
        let grants: Api<ConnectionGrant> = Api::namespaced(client.clone(), &self.namespaces[0]);
        grants.create(&PostParams::default(), &serde_json::from_value(grant)?).await?;
        let connections: Api<GitProviderConnection> = Api::namespaced(client.clone(), &self.namespaces[0]);
        connections.create(&PostParams::default(), &serde_json::from_value(connection)?).await?;
        stream::iter(0..self.size)
            .map(|index| {
                let bindings: Api<RepoBinding> = Api::namespaced(client.clone(), &self.namespaces[index % 2]);
                async move {
                    let binding = json!({
                        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding", "metadata": {"name": format!("bench-{index}")},
                        "spec": {
                            "connectionRef": {"name": CONNECTION, "namespace": self.namespaces[0]},
                            "repository": format!("APP/bench-{index}"),
                            "webhook": {"events": ["Push", "PullRequest"]},
                            // No sink wants the pushes with which the receiver is measured.
                            "sinks": [{"name": SINK, "service": {"name": SINK, "port": self.sinks[index % 2].port()}, "branches": ["main"]}],
                        },
                    });
                    anyhow::Ok(bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?)
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    /// Starts the operator with bindings that it has never seen. Returns the time from its start until the last one is Ready, and
    /// its requests to the provider.
    async fn converge(&self, figures: &mut Figures) -> Result<(Duration, Vec<Request>)> {
        let size = self.size;
        self.simulator.forget();
        let position = self.plane.audit_position()?;
        let began = Instant::now();
        let operator = Operator::launch(self.options.clone())?;
        let limit = Duration::from_secs(60) + Duration::from_millis(100) * u32::try_from(size)?;
        let ended = tokio::time::timeout(limit, self.all_ready()).await;
        let ended = ended.with_context(|| format!("not Ready after {limit:?}; the last log lines:\n{}", operator.log_tail(20)))??;
        let taken = ended.duration_since(began);
        let goal = Duration::from_millis(15) * u32::try_from(size)?;
        figures.time(format!("{size} bindings from start to Ready"), taken, goal);
        figures.note("processor time of this start", format!("{:.2} s", processor_seconds(pid(&self.program)?)?));
        settled(&operator).await?;

        let asked = self.asked_since(position, &operator)?;
        let of_bindings = |event: &&AuditEvent| event.resource().starts_with("repobindings");
        let writes = asked.iter().filter(|event| event.is_write()).filter(of_bindings).count();
        let events = asked.iter().filter(|event| event.is_write() && event.resource() == "events").count();
        // The finalizer, the intention to create the hook, and the created hook:
        // src/docs/decisions/0013-one-gate-for-credentials.md.
        figures.at_most("API-server writes for each new binding", number(writes) / number(size), "", 3.0);
        figures.note("events for each new binding", format!("{:.2}", number(events) / number(size)));
        let calls = self.simulator.exchanges();
        // At Data Center, a look-up lists one hook to learn whether the credential may see hooks; that is one of the look-up's
        // four requests.
        let is_probe = |request: &Request| request.query.iter().any(|(name, value)| name == "limit" && value == "1");
        let is_about_hooks = |request: &Request| request.path.contains("/webhooks") && !is_probe(request);
        let hooks = calls.iter().filter(|call| is_about_hooks(&call.request)).count();
        figures.at_most("provider calls for each new hook", number(hooks) / number(size), "", 2.0);
        figures.note("provider calls for each look-up", format!("{:.2}", number(calls.len() - hooks) / number(size)));
        ensure!(operator.terminate(Duration::from_secs(30)).await?.success(), "the operator failed while stopping");
        Ok((taken, calls.into_iter().map(|call| call.request).collect()))
    }

    /// Waits until every binding is Ready, and returns the time of that.
    async fn all_ready(&self) -> Result<Instant> {
        let bindings: Api<RepoBinding> = Api::all(self.plane.cluster().client()?);
        let mut seen = HashSet::new();
        let mut events = std::pin::pin!(watcher(bindings, watcher::Config::default()));
        while let Some(event) = events.next().await {
            let (Event::Apply(binding) | Event::InitApply(binding)) = event? else { continue };
            if is_ready(&binding) {
                seen.insert(binding.uid());
            }
            if seen.len() == self.size {
                return Ok(Instant::now());
            }
        }
        bail!("the watch ended")
    }

    /// The operator's requests to the API server since a position in the audit log, without those for the Lease.
    fn asked_since(&self, position: usize, operator: &Operator) -> Result<Vec<AuditEvent>> {
        let user = operator.options().user();
        let events = self.plane.audit_events_since(position)?.into_iter();
        Ok(events.filter(|event| event.user.username == user && event.resource() != "leases").collect())
    }

    /// The median time from start to ready, and the memory after the last start.
    async fn starts(&self, options: &Options) -> Result<(Duration, u64)> {
        let (mut times, mut memory) = (Vec::new(), 0);
        for _ in 0..STARTS {
            let began = Instant::now();
            let operator = Operator::launch(options.clone())?;
            ready(&operator).await?;
            times.push(began.elapsed());
            memory = resident(pid(&self.program)?)?;
            ensure!(operator.terminate(Duration::from_secs(30)).await?.success(), "the operator failed while stopping");
        }
        times.sort();
        Ok((times[STARTS / 2], memory))
    }

    async fn resident_at_rest(&self, options: &Options) -> Result<u64> {
        let operator = Operator::start(options.clone()).await?;
        settled(&operator).await?;
        let memory = resident(pid(&self.program)?)?;
        ensure!(operator.terminate(Duration::from_secs(30)).await?.success(), "the operator failed while stopping");
        Ok(memory)
    }

    /// Observes an idle operator, and returns its memory.
    async fn rest(&self, figures: &mut Figures) -> Result<u64> {
        let operator = Operator::start(self.options.clone()).await?;
        settled(&operator).await?;
        self.simulator.forget();
        let (position, processor) = (self.plane.audit_position()?, processor_seconds(pid(&self.program)?)?);
        tokio::time::sleep(REST).await;
        let asked = self.asked_since(position, &operator)?;
        let writes = asked.iter().filter(|event| event.is_write()).count();
        // Watches are reopened periodically, even without changes.
        let reads = asked.iter().filter(|event| matches!(event.verb.as_str(), "get" | "list")).count();
        let during = format!("at rest, {} s", REST.as_secs());
        figures.at_most(format!("API-server writes {during}"), number(writes), "", 0.0);
        figures.at_most(format!("API-server reads {during}"), number(reads), "", 0.0);
        // Without deliveries the operator probes each repository once per interval, which is an hour.
        figures.note(format!("provider calls {during}"), format!("{}", self.simulator.exchanges().len()));
        figures.note(format!("processor time {during}"), format!("{:.2} s", processor_seconds(pid(&self.program)?)? - processor));
        let memory = resident(pid(&self.program)?)?;
        ensure!(operator.terminate(Duration::from_secs(30)).await?.success(), "the operator failed while stopping");
        Ok(memory)
    }
}

/// The number at the end of a repository's name.
fn number_of(slug: &str) -> Option<usize> {
    slug.rsplit('-').next()?.parse().ok()
}

/// Waits until the operator is ready, with such short pauses that they do not affect the result.
async fn ready(operator: &Operator) -> Result<()> {
    let client = plain_http::client()?;
    let (address, began) = (format!("{}/readyz", operator.admin_url()), Instant::now());
    while began.elapsed() < Duration::from_secs(60) {
        if client.get(&address).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("not ready after a minute; the last log lines:\n{}", operator.log_tail(20))
}

/// Waits until the operator has reconciled nothing for three seconds.
async fn settled(operator: &Operator) -> Result<()> {
    let (mut known, mut since) = (String::new(), Instant::now());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(120) {
        let metrics = operator.metrics().await?;
        let lines: Vec<_> = metrics.lines().filter(|line| line.starts_with("forgebind_reconciliations_total")).collect();
        let now = lines.join("\n");
        if now != known {
            (known, since) = (now, Instant::now());
        } else if since.elapsed() >= Duration::from_secs(3) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("the operator still reconciles: {known}")
}

#[expect(clippy::cast_precision_loss, reason = "numbers of objects and requests are far below 2^52")]
const fn number(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
