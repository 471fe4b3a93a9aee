//! The steps of the quickstart.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Config};
use serde_json::{Value, json};

use crate::host::{self, Host};
use testkit::cluster::Cluster;
use testkit::components::Components;
use testkit::control_plane::ControlPlane;
use testkit::operator::{Operator, Options};
use testkit::sink::SinkServer;
use testkit::wait::{Seen, wait_until};

/// Created for the quickstart and deleted afterwards, so its name must not be one that somebody else uses.
const TEAM: &str = "quickstart-team-a";
/// The name of the connection and of its Secret.
const CONNECTION: &str = "acme-git";
const SYSTEM: &str = "quickstart-forgebind";
const DEADLINE: Duration = Duration::from_secs(60);

/// Everything that runs. The fields are dropped in this order: the operator first.
struct Stage {
    operator: Operator,
    sink: SinkServer,
    host: Host,
    cluster: Cluster,
    /// Absent with `CLUSTER=current`.
    control_plane: Option<ControlPlane>,
    began: Instant,
}

/// Prints a step. The following lines show its result.
fn step(began: Instant, what: &str) {
    println!("\n[{:>5.1} s] {what}", began.elapsed().as_secs_f64());
}

fn show(text: &str) {
    for line in text.trim_end().lines() {
        println!("          {line}");
    }
}

/// Runs every step, and then waits for Ctrl-C unless `ONCE=1`.
///
/// # Errors
///
/// At the first step that fails.
pub async fn tell() -> Result<()> {
    let once = std::env::var("ONCE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let stage = tokio::select! {
        stage = Stage::set() => stage?,
        stopped = tokio::signal::ctrl_c() => return stopped.context("cannot wait for Ctrl-C"),
    };
    let told = tokio::select! {
        told = stage.play() => told,
        stopped = tokio::signal::ctrl_c() => stopped.context("cannot wait for Ctrl-C"),
    };
    if told.is_err() {
        eprintln!("\nThe last lines of the operator's log:\n{}", stage.operator.log_tail(20));
    } else if !once {
        stage.explain_how_to_go_on();
        tokio::signal::ctrl_c().await?;
    }
    let cleared = stage.clear().await;
    told.and(cleared)?;
    println!("\nDone. Everything that was started has ended.");
    Ok(())
}

/// The cluster of the present kubeconfig, or a new one.
async fn find_cluster(components: &Components, began: Instant) -> Result<(Cluster, Option<ControlPlane>)> {
    match std::env::var("CLUSTER").unwrap_or_default().as_str() {
        "" => {
            step(began, "Starting a Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager");
            let plane = ControlPlane::start_bare().await?;
            Ok((plane.cluster().clone(), Some(plane)))
        }
        "current" => {
            testkit::install_crypto();
            let config = Config::infer().await.context("CLUSTER=current needs a working kubeconfig (KUBECONFIG)")?;
            step(began, &format!("Using the cluster of the present kubeconfig: {}", config.cluster_url));
            Ok((Cluster::new(config, present_kubeconfig()?, components.kubectl.clone()), None))
        }
        other => bail!("CLUSTER={other} is unknown; unset it for a new cluster, or set CLUSTER=current"),
    }
}

fn present_kubeconfig() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config"));
    let path = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from).or_else(home);
    path.context("neither KUBECONFIG nor HOME is set")
}

impl Stage {
    async fn set() -> Result<Self> {
        let (began, kind) = (Instant::now(), host::chosen()?);
        println!("Forgebind keeps Git connections alive. This quickstart shows how, with a real cluster and the real operator.");
        let components = Components::find()?;
        let (cluster, control_plane) = find_cluster(&components, began).await?;

        step(began, "Applying the custom resource definitions: GitProviderConnection and RepoBinding");
        cluster.apply_crds().await?;
        let namespaces: Api<Namespace> = Api::all(cluster.client()?);
        for namespace in [SYSTEM, TEAM] {
            if namespaces.get_opt(namespace).await?.is_some() {
                bail!("namespace {namespace} already exists, from an earlier run: kubectl delete namespace {SYSTEM} {TEAM}");
            }
            cluster.create_namespace_named(namespace).await?;
        }

        step(began, &format!("Starting {} with an account and a repository", host::name(kind)));
        let host = Host::start(kind).await?;
        show(&format!("It listens on {}; the repository is {}", host.url(), host.repository));
        if !host.is_real() {
            show("It is a simulator: the provider and the pushes are simulated, everything else is real.");
        }

        step(began, &format!("Starting a sink that acts as the Service \"ci\" of namespace {TEAM}"));
        let sink = SinkServer::start().await?;
        cluster.create_service(TEAM, "ci", sink.port()).await?;

        step(began, "Starting the operator: forgebind run");
        let options = Options::new(cluster.kubeconfig(), SYSTEM)?
            .with("watch-namespaces", TEAM)
            .with("resolve", &sink.resolve("ci", TEAM))
            .with("leader-election", "true");
        let operator = Operator::start(options).await?;
        show("It is ready. At its first start it created its install key: the Secret forgebind-install-key.");
        Ok(Self { operator, sink, host, cluster, control_plane, began })
    }

    fn step(&self, what: &str) {
        step(self.began, what);
    }

    async fn play(&self) -> Result<()> {
        self.connect().await?;
        self.bind().await?;
        self.deliver().await?;
        self.rotate().await?;
        self.part().await
    }

    async fn connect(&self) -> Result<()> {
        self.step("Storing the account's credential in a Secret, and applying a connection that refers to it");
        let data: Vec<_> = self.host.credential.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.cluster.apply_secret(TEAM, CONNECTION, &data).await?;
        let spec = json!({ "provider": self.host.spec, "credentials": { "secretRef": { "name": CONNECTION } } });
        self.apply("GitProviderConnection", CONNECTION, &spec).await?;
        self.wait_ready("GitProviderConnection", CONNECTION).await?;
        show(&self.kubectl(&["get", "gitproviderconnections"]).await?);
        Ok(())
    }

    async fn bind(&self) -> Result<()> {
        self.step(&format!(
            "Applying a binding: it sends pushes, tags and pull requests of {} to the Service \"ci\"",
            self.host.repository
        ));
        let spec = json!({
            "connectionRef": { "name": CONNECTION },
            "repository": self.host.repository,
            "webhook": { "events": ["Push", "Tag", "PullRequest"] },
            "sinks": [{ "name": "ci", "service": { "name": "ci", "port": self.sink.port(), "path": "/events" } }],
        });
        self.apply("RepoBinding", "shop", &spec).await?;
        self.wait_ready("RepoBinding", "shop").await?;
        show(&self.kubectl(&["get", "repobindings"]).await?);
        self.step(&format!("Listing the webhooks at {}: the operator created one", self.host.name()));
        self.show_hooks().await
    }

    async fn deliver(&self) -> Result<()> {
        self.step(if self.host.is_real() {
            "Pushing a real commit with git"
        } else {
            "Pushing a commit by the simulator's control endpoint"
        });
        let commit = self.host.push("Open the shop").await?;
        show(&format!("commit {commit} on main"));
        self.step("Waiting for the CloudEvent at the sink");
        let delivery = self.sink.wait_for(1, DEADLINE).await?.into_iter().next().context("an empty list of events")?;
        let names = ["ce-type", "ce-source", "ce-subject", "ce-id", "ce-specversion"];
        show(&names.map(|name| format!("{name}: {}", delivery.header(name))).join("\n"));
        if !String::from_utf8_lossy(&delivery.body).contains(&commit) {
            bail!("the event does not contain commit {commit}");
        }
        show(&format!("data: the provider's own body, which contains commit {commit}"));
        Ok(())
    }

    async fn rotate(&self) -> Result<()> {
        let secret_version =
            |object: &DynamicObject| object.data.pointer("/status/webhook/secretVersion").and_then(Value::as_str).map(str::to_owned);
        let before = secret_version(&self.api("RepoBinding")?.get("shop").await?).context("the binding has no secret version")?;
        self.step("Rotating the webhook's secret by an annotation");
        let annotation =
            json!({ "metadata": { "annotations": { "forgebind.dev/rotate-requested-at": jiff::Timestamp::now().to_string() } } });
        self.api("RepoBinding")?.patch("shop", &PatchParams::default(), &Patch::Merge(annotation)).await?;
        let after = wait_until("a new secret", DEADLINE, async || {
            let object = self.api("RepoBinding")?.get("shop").await?;
            let seen = format!("{}", object.data.get("status").unwrap_or(&Value::Null));
            Ok(match secret_version(&object).filter(|present| *present != before) {
                Some(present) => Seen::Done(present),
                None => Seen::NotYet(seen),
            })
        })
        .await?;
        show(&format!("secret version {before} -> {after}"));
        show(if self.host.update_sets_secret().await? {
            "The hook stays, with the new secret and a new URL. Deliveries signed with the previous secret are accepted for a while:"
        } else {
            "This provider cannot change a hook's secret, so a new hook has it. The old hook stays for a minute, so that no delivery is lost:"
        });
        self.show_hooks().await?;
        self.step("Pushing again: deliveries continue during the rotation, and each arrives once");
        let commit = self.host.push("Paint the door").await?;
        let events = self.sink.wait_for(2, DEADLINE).await?;
        if events.len() != 2 {
            bail!("{} events for 2 pushes", events.len());
        }
        show(&format!("commit {commit} arrived: 2 events for 2 pushes"));
        Ok(())
    }

    async fn part(&self) -> Result<()> {
        self.step("Deleting the binding");
        self.api("RepoBinding")?.delete("shop", &DeleteParams::default()).await?;
        wait_until("the binding to be gone", Duration::from_secs(180), async || {
            Ok(self
                .api("RepoBinding")?
                .get_opt("shop")
                .await?
                .map_or(Seen::Done(()), |left| Seen::NotYet(left.data.get("status").map(ToString::to_string).unwrap_or_default())))
        })
        .await?;
        let left = self.host.hooks().await?;
        if !left.is_empty() {
            bail!("the provider still has {} webhooks", left.len());
        }
        show(&format!("The binding is deleted, and {} has no webhook left.", self.host.name()));
        Ok(())
    }

    async fn show_hooks(&self) -> Result<()> {
        for hook in self.host.hooks().await? {
            // The path of the URL is secret, like a password.
            let host = hook.url.expose().split("/hooks/").next().unwrap_or_default();
            let events = hook.shape.events.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            show(&format!("hook {}: to {host}/hooks/..., events {events}, {:?}", hook.id, hook.state));
        }
        Ok(())
    }

    fn api(&self, kind: &str) -> Result<Api<DynamicObject>> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("forgebind.dev", "v1alpha1", kind));
        Ok(Api::namespaced_with(self.cluster.client()?, TEAM, &resource))
    }

    async fn apply(&self, kind: &str, name: &str, spec: &Value) -> Result<()> {
        let object = json!({ "apiVersion": "forgebind.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
        self.api(kind)?.patch(name, &PatchParams::apply("quickstart").force(), &Patch::Apply(&object)).await?;
        Ok(())
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["--namespace", TEAM], arguments].concat()).await
    }

    async fn wait_ready(&self, kind: &str, name: &str) -> Result<()> {
        wait_until(&format!("{kind} {name} to be Ready"), DEADLINE, async || {
            let object = self.api(kind)?.get(name).await?;
            let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition.get("type") == Some(&json!("Ready")));
            let ready = ready.filter(|ready| ready.get("observedGeneration").and_then(Value::as_i64) == object.metadata.generation);
            Ok(match ready {
                Some(ready) if ready.get("status") == Some(&json!("True")) => Seen::Done(()),
                _ => Seen::NotYet(json!(conditions).to_string()),
            })
        })
        .await
    }

    fn explain_how_to_go_on(&self) {
        self.step("Everything keeps running. Continue in another terminal:");
        show(&format!("export KUBECONFIG={}", self.cluster.kubeconfig().display()));
        show(&format!("kubectl --namespace {TEAM} get forgebind"));
        for line in self.host.hints() {
            show(&line);
        }
        show(&format!("The sink is the Service \"ci\", port {}, of namespace {TEAM}.", self.sink.port()));
        show(&format!("The operator's metrics: {}/metrics, its log: {}", self.operator.admin_url(), self.operator.log_path().display()));
        println!("\nPress Ctrl-C to stop.");
    }

    /// Removes everything from a cluster that is not ours, except the definitions, which others may use.
    async fn clear(&self) -> Result<()> {
        if self.control_plane.is_some() {
            return Ok(());
        }
        self.step("Deleting the namespaces in your cluster; the custom resource definitions stay");
        let namespaces: Api<Namespace> = Api::all(self.cluster.client()?);
        for namespace in [TEAM, SYSTEM] {
            namespaces.delete(namespace, &DeleteParams::default()).await?;
            wait_until(&format!("namespace {namespace} to be gone"), Duration::from_secs(120), async || {
                Ok(namespaces.get_opt(namespace).await?.map_or(Seen::Done(()), |left| Seen::NotYet(format!("{:?}", left.status))))
            })
            .await?;
        }
        Ok(())
    }
}
