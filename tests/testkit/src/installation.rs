//! An installation by the real helm. No pod runs: the test reads what a Deployment or a Job would run and runs exactly that as a
//! process on this machine with the service account's token. Arguments and variables are expanded as the kubelet does it, and the
//! files of the mounts are in a folder of the test instead of their own path. A Job counts as done only after its process has
//! ended with 0, and its status says that no container ran.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::clock::{Clock as _, SystemClock};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PodSpec, Secret, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::chart::{self, values_file};
use crate::components::output_of;
use crate::container::{Container, Image, SERVICE_ACCOUNT};
use crate::control_plane::ControlPlane;
use crate::image;
use crate::operator::{Installed, Operator, Options, executable};

/// The message in a Job's status.
const NO_CONTAINER: &str = "its command ran as a process of the test and has ended; no container ran";

/// The files of a volume; `None` if the pod writes them itself, as in an emptyDir.
type Contents = Option<BTreeMap<String, Vec<u8>>>;

/// Lays out a volume as the kubelet does: each key is a link into a folder beside it.
fn lay_out(folder: &Path, contents: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    std::fs::create_dir(folder.join("..data"))?;
    for (key, bytes) in contents {
        std::fs::write(folder.join("..data").join(key), bytes)?;
        std::os::unix::fs::symlink(Path::new("..data").join(key), folder.join(key))?;
    }
    Ok(())
}

/// Checks that a pod requests a read-only root, a user that is not root, and no capability.
fn is_restricted(pod: &PodSpec) -> Result<()> {
    ensure!(pod.security_context.as_ref().and_then(|context| context.run_as_non_root) == Some(true), "runAsNonRoot");
    let user = pod.security_context.as_ref().and_then(|context| context.run_as_user);
    ensure!(user.is_none_or(|user| user == i64::from(image::USER.0)), "the pod runs as another user than the image: {user:?}");
    for container in &pod.containers {
        let context = container.security_context.as_ref().context("no securityContext")?;
        ensure!(context.read_only_root_filesystem == Some(true), "readOnlyRootFilesystem");
        ensure!(context.allow_privilege_escalation == Some(false), "allowPrivilegeEscalation");
        let dropped = context.capabilities.as_ref().and_then(|capabilities| capabilities.drop.as_deref());
        ensure!(dropped.is_some_and(|dropped| dropped == ["ALL"]), "capabilities: {dropped:?}");
    }
    Ok(())
}

/// A release in its own namespace.
pub struct Installation {
    pub plane: &'static ControlPlane,
    pub namespace: String,
    pub release: String,
    /// The folder for the files of mounts.
    files: tempfile::TempDir,
}

impl Installation {
    /// Creates a namespace for a release of the same name. Nothing is installed yet.
    pub async fn new(plane: &'static ControlPlane) -> Result<Self> {
        let namespace = plane.cluster().create_namespace("forgebind-installed").await?;
        Self::named(plane, &namespace, &namespace)
    }

    /// An installation that already exists, or is created without helm.
    pub fn named(plane: &'static ControlPlane, namespace: &str, release: &str) -> Result<Self> {
        Ok(Self { plane, release: release.to_owned(), namespace: namespace.to_owned(), files: tempfile::tempdir()? })
    }

    /// Runs helm in the namespace of the release.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let arguments = [arguments, &["--namespace", &self.namespace]].concat();
        chart::helm(Some(self.plane.cluster().kubeconfig()), &arguments).await
    }

    /// `helm install` of a chart. Returns the notes.
    pub async fn install(&self, chart: &Path, values: &Value) -> Result<String> {
        let file = values_file(values)?;
        let (chart, file) = (chart.to_str().context("UTF-8")?, file.path().to_str().context("UTF-8")?);
        self.helm(&["install", &self.release, chart, "--values", file]).await
    }

    /// `helm upgrade` to a chart with the earlier values and additional ones.
    pub async fn upgrade(&self, chart: &Path, values: &Value) -> Result<String> {
        let file = values_file(values)?;
        let (chart, file) = (chart.to_str().context("UTF-8")?, file.path().to_str().context("UTF-8")?);
        self.helm(&["upgrade", &self.release, chart, "--reset-then-reuse-values", "--values", file]).await
    }

    /// `helm uninstall`; runs the Jobs for which helm waits. Calls `before` before each Job. Returns the output of the Jobs, in
    /// order.
    pub async fn uninstall(&self, mut before: impl AsyncFnMut(&Job) -> Result<()>) -> Result<Vec<String>> {
        let arguments = ["uninstall", self.release.as_str(), "--timeout", "180s"];
        let uninstalling = self.helm(&arguments);
        tokio::pin!(uninstalling);
        let jobs: Api<Job> = Api::namespaced(self.plane.cluster().client()?, &self.namespace);
        let (mut printed, mut done, mut failed) = (Vec::new(), HashSet::new(), None);
        loop {
            tokio::select! {
                answer = &mut uninstalling => {
                    return match (answer, failed) {
                        (Ok(_), None) => Ok(printed),
                        (Ok(_), Some(failure)) => Err(failure).context("helm continued although a Job failed"),
                        (Err(refused), failure) => Err(failure.unwrap_or(refused)),
                    };
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    for job in jobs.list(&ListParams::default()).await? {
                        // An earlier failed Job stays until its successor is created.
                        let ended = job.status.as_ref().is_some_and(|status| status.conditions.is_some());
                        if done.insert(job.metadata.uid.clone()) && !ended {
                            before(&job).await?;
                            match self.run_job(&jobs, &job).await {
                                Ok(text) => printed.push(text),
                                Err(failure) => failed = Some(failure),
                            }
                        }
                    }
                }
            }
        }
    }

    /// Runs a Job's command as its service account, and writes the result into the Job's status.
    pub async fn run_job(&self, jobs: &Api<Job>, job: &Job) -> Result<String> {
        let name = job.metadata.name.clone().context("a name")?;
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).context("a pod")?;
        let (kubeconfig, _) = self.identity(pod).await?;
        let installed = self.command(pod, &name, &self.mounts(pod).await?)?;
        let mut command = Command::new(executable()?);
        command.args(&installed.arguments).envs(installed.environment).env("KUBECONFIG", kubeconfig);
        let ended = output_of(command).await;
        let now = SystemClock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "ProcessEnded", "message": NO_CONTAINER, "lastTransitionTime": now});
        let status = match &ended {
            Ok(_) => json!({
                "startTime": now, "completionTime": now, "succeeded": 1, "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
            }),
            Err(_) => json!({"startTime": now, "failed": 1, "conditions": [condition("FailureTarget"), condition("Failed")]}),
        };
        let patch = Patch::Merge(json!({"status": status}));
        jobs.patch_status(&name, &PatchParams::default(), &patch).await.context("the Job's status")?;
        ended
    }

    /// A kubeconfig for the service account of a pod, which must exist, and the account's name.
    async fn identity(&self, pod: &PodSpec) -> Result<(PathBuf, String)> {
        let account = pod.service_account_name.clone().context("a service account")?;
        ensure!(pod.automount_service_account_token == Some(true), "the pod gets no token");
        let cluster = self.plane.cluster();
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client()?, &self.namespace);
        accounts.get(&account).await.context("the service account")?;
        let token = cluster.service_account_token(&self.namespace, &account).await?;
        Ok((self.plane.kubeconfig_for(&format!("{}-{account}", self.namespace), &token, None)?, account))
    }

    /// The variables that the kubelet sets in every container.
    fn cluster_variables(&self) -> Result<BTreeMap<String, String>> {
        let server = url::Url::parse(self.plane.server_url())?;
        Ok(BTreeMap::from([
            ("KUBERNETES_SERVICE_HOST".to_owned(), server.host_str().context("a host")?.to_owned()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), server.port().context("a port")?.to_string()),
        ]))
    }

    /// The arguments and the environment of the single container of a pod with this name. `mounts` are paths in the container
    /// with the folders that replace them.
    fn command(&self, pod: &PodSpec, pod_name: &str, mounts: &[(String, String)]) -> Result<Installed> {
        let [container] = pod.containers.as_slice() else { anyhow::bail!("the pod does not have exactly one container") };
        ensure!(container.command.is_none(), "the image's own entry point is the program");
        let mut known = self.cluster_variables()?;
        let local = |text: &str| mounts.iter().fold(text.to_owned(), |text, (path, folder)| text.replace(path.as_str(), folder));
        let mut environment = Vec::new();
        for variable in container.env.iter().flatten() {
            let field = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref()).map(|field| field.field_path.as_str());
            let value = match (&variable.value, field) {
                (Some(value), None) => local(&expanded(value, &known)),
                (None, Some("metadata.name")) => pod_name.to_owned(),
                (None, Some("metadata.namespace")) => self.namespace.clone(),
                (None, Some("status.podIPs")) => "127.0.0.1".to_owned(),
                other => anyhow::bail!("{}: unknown source {other:?}", variable.name),
            };
            known.insert(variable.name.clone(), value.clone());
            environment.push((variable.name.clone(), value));
        }
        let arguments = container.args.iter().flatten().map(|argument| local(&expanded(argument, &known))).collect();
        Ok(Installed { arguments, environment })
    }

    /// The mounts of the single container of a pod: the files of each volume, by mount path.
    async fn volumes(&self, pod: &PodSpec) -> Result<Vec<(String, Contents)>> {
        let client = self.plane.cluster().client()?;
        let mut found = Vec::new();
        for mount in pod.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten()) {
            let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name).context("a mount without a volume")?;
            let contents = if volume.empty_dir.is_some() {
                None
            } else if let Some(source) = &volume.config_map {
                let map = Api::<ConfigMap>::namespaced(client.clone(), &self.namespace).get(&source.name).await?;
                Some(map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes())).collect())
            } else if let Some(source) = &volume.secret {
                let name = source.secret_name.as_deref().context("a Secret's name")?;
                let secret = Api::<Secret>::namespaced(client.clone(), &self.namespace).get(name).await?;
                Some(secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect())
            } else {
                anyhow::bail!("volume {} is of another kind", volume.name)
            };
            found.push((mount.mount_path.clone(), contents));
        }
        Ok(found)
    }

    /// Writes the volumes of a pod into folders on this machine. Returns the paths in the container with the folders that replace
    /// them.
    async fn mounts(&self, pod: &PodSpec) -> Result<Vec<(String, String)>> {
        let mut laid_out = Vec::new();
        for (path, contents) in self.volumes(pod).await? {
            let folder = tempfile::Builder::new().tempdir_in(self.files.path())?.keep();
            if let Some(contents) = contents {
                lay_out(&folder, &contents)?;
            }
            laid_out.push((path, folder.to_str().context("UTF-8")?.to_owned()));
        }
        Ok(laid_out)
    }

    /// The pod of a component's Deployment, and a pod name with this ending.
    async fn pod(&self, component: &str, end: &str) -> Result<(PodSpec, String)> {
        let deployments: Api<Deployment> = Api::namespaced(self.plane.cluster().client()?, &self.namespace);
        let selector = format!("app.kubernetes.io/component={component},app.kubernetes.io/instance={}", self.release);
        let found = deployments.list(&ListParams::default().labels(&selector)).await?.items;
        let [deployment] = found.as_slice() else { anyhow::bail!("{} Deployments of {component}", found.len()) };
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.clone()).context("a pod")?;
        Ok((pod, format!("{}-{end}", deployment.metadata.name.as_deref().unwrap_or_default())))
    }

    /// The options for starting a component's Deployment here. `more` are arguments that only this machine needs.
    pub async fn options(&self, component: &str, public_port: u16, more: &[String]) -> Result<Options> {
        self.options_of_pod(component, "pod", public_port, more).await
    }

    /// The same for one of several pods, by the ending of its name.
    pub async fn options_of_pod(&self, component: &str, pod_name: &str, public_port: u16, more: &[String]) -> Result<Options> {
        let (pod, name) = self.pod(component, pod_name).await?;
        let (kubeconfig, account) = self.identity(&pod).await?;
        let command = self.command(&pod, &name, &self.mounts(&pod).await?)?;
        Options::installed(&kubeconfig, &self.namespace, &account, command, public_port, more)
    }

    /// The same in a container of an image, where the pod's files have their own paths. Fails unless the pod requests every
    /// restriction that such a container enforces.
    pub async fn contained(&self, component: &str, image: &Image, public_port: u16) -> Result<Options> {
        let (pod, name) = self.pod(component, "pod").await?;
        is_restricted(&pod)?;
        let (kubeconfig, account) = self.identity(&pod).await?;
        let mut command = self.command(&pod, &name, &[])?;
        command.environment.extend(self.cluster_variables()?);
        let mut container = Container::new(image)?;
        let token = self.plane.cluster().service_account_token(&self.namespace, &account).await?;
        let identity = BTreeMap::from([
            ("token".to_owned(), token.into_bytes()),
            ("namespace".to_owned(), self.namespace.clone().into_bytes()),
            ("ca.crt".to_owned(), std::fs::read(self.plane.authority())?),
        ]);
        lay_out(&container.folder(SERVICE_ACCOUNT)?, &identity)?;
        for (path, contents) in self.volumes(&pod).await? {
            match contents {
                Some(contents) => lay_out(&container.folder(&path)?, &contents)?,
                None => container.writable_folder(&path)?,
            }
        }
        let options = Options::installed(&kubeconfig, &self.namespace, &account, command, public_port, &[])?;
        Ok(options.inside(Arc::new(container)))
    }

    /// Starts what the Deployments of `mode: Separate` run. `resolve` replaces the cluster's DNS.
    pub async fn start(&self, public_port: u16, resolve: &str) -> Result<(Operator, Operator)> {
        let resolve = format!("--resolve={resolve}");
        let receiver = self.options("receiver", public_port, std::slice::from_ref(&resolve)).await?;
        // No controller of Kubernetes publishes the receivers in EndpointSlices here.
        let mut controller = self.options("controller", 0, &[resolve]).await?;
        controller.replace_argument("--receivers=", &receiver.admin_url())?;
        // As in a cluster, a receiver may start before the controller has created its key.
        let receiver = Operator::launch(receiver)?;
        let controller = Operator::start(controller).await?;
        receiver.wait_ready().await?;
        Ok((controller, receiver))
    }
}

/// Replaces `$(NAME)` as the kubelet does: by a known variable, otherwise not at all.
fn expanded(text: &str, known: &BTreeMap<String, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}
