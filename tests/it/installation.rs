//! An installation by the real helm. No pod ever runs here: the test reads what a Deployment or a Job would run, and runs
//! exactly that as a process of this machine with the service account's token. A Job counts as done only after its process
//! has ended with 0.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::clock::{Clock as _, SystemClock};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PodSpec, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::chart::{self, values_file};
use crate::support::components::output_of;
use crate::support::container::{Container, Image, SERVICE_ACCOUNT};
use crate::support::control_plane::ControlPlane;
use crate::support::image;
use crate::support::operator::{Installed, Operator, Options, executable};

/// A process of this machine sees the files of this machine, not those that a pod mounts.
fn needs_no_files(pod: &PodSpec) -> Result<()> {
    ensure!(pod.volumes.as_deref().unwrap_or_default().is_empty(), "files would have to be there too");
    Ok(())
}

/// Sees that a pod asks for a root that cannot be written to, a user that is not root, and no capability.
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

/// A release in a namespace of its own.
pub struct Installation {
    pub plane: &'static ControlPlane,
    pub namespace: String,
    pub release: String,
}

impl Installation {
    /// A namespace for a release that is named like it. Nothing is installed yet.
    pub async fn new(plane: &'static ControlPlane) -> Result<Self> {
        let namespace = plane.cluster().create_namespace("forgebind-installed").await?;
        Ok(Self { plane, release: namespace.clone(), namespace })
    }

    async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let arguments = [arguments, &["--namespace", &self.namespace]].concat();
        chart::helm(Some(self.plane.cluster().kubeconfig()), &arguments).await
    }

    /// `helm install` of a chart. Answers the notes.
    pub async fn install(&self, chart: &Path, values: &Value) -> Result<String> {
        let file = values_file(values)?;
        let (chart, file) = (chart.to_str().context("UTF-8")?, file.path().to_str().context("UTF-8")?);
        self.helm(&["install", &self.release, chart, "--values", file]).await
    }

    /// `helm upgrade` to a chart with the values of before and some more.
    pub async fn upgrade(&self, chart: &Path, values: &Value) -> Result<String> {
        let file = values_file(values)?;
        let (chart, file) = (chart.to_str().context("UTF-8")?, file.path().to_str().context("UTF-8")?);
        self.helm(&["upgrade", &self.release, chart, "--reset-then-reuse-values", "--values", file]).await
    }

    /// `helm uninstall`, while the Jobs that it waits for are run. `before` is called before each Job. Answers what the Jobs
    /// printed, in their order.
    pub async fn uninstall(&self, mut before: impl AsyncFnMut(&Job) -> Result<()>) -> Result<Vec<String>> {
        let arguments = ["uninstall", self.release.as_str(), "--timeout", "180s"];
        let uninstalling = self.helm(&arguments);
        tokio::pin!(uninstalling);
        let jobs: Api<Job> = Api::namespaced(self.plane.cluster().client()?, &self.namespace);
        let (mut printed, mut done) = (Vec::new(), HashSet::new());
        loop {
            tokio::select! {
                answer = &mut uninstalling => {
                    answer?;
                    return Ok(printed);
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    for job in jobs.list(&ListParams::default()).await? {
                        if done.insert(job.metadata.uid.clone()) {
                            before(&job).await?;
                            printed.push(self.run_job(&jobs, &job).await?);
                        }
                    }
                }
            }
        }
    }

    /// Runs a Job's command as its service account, and says so in its status once it has ended well.
    async fn run_job(&self, jobs: &Api<Job>, job: &Job) -> Result<String> {
        let name = job.metadata.name.clone().context("a name")?;
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).context("a pod")?;
        let (kubeconfig, _) = self.identity(pod).await?;
        let installed = self.command(pod, &name)?;
        needs_no_files(pod)?;
        let mut command = Command::new(executable()?);
        command.args(&installed.arguments).envs(installed.environment).env("KUBECONFIG", kubeconfig);
        let printed = output_of(command).await?;
        let now = SystemClock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition =
            |kind: &str| json!({"type": kind, "status": "True", "reason": "CompletionsReached", "message": "", "lastTransitionTime": now});
        let status = json!({"status": {
            "startTime": now, "completionTime": now, "succeeded": 1, "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        }});
        jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.context("the Job's status")?;
        Ok(printed)
    }

    /// A kubeconfig for the service account of a pod, which must be there, and the account's name.
    async fn identity(&self, pod: &PodSpec) -> Result<(PathBuf, String)> {
        let account = pod.service_account_name.clone().context("a service account")?;
        ensure!(pod.automount_service_account_token == Some(true), "the pod gets no token");
        let cluster = self.plane.cluster();
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client()?, &self.namespace);
        accounts.get(&account).await.context("the service account")?;
        let token = cluster.service_account_token(&self.namespace, &account).await?;
        Ok((self.plane.kubeconfig_for(&format!("{}-{account}", self.namespace), &token, None)?, account))
    }

    /// The arguments and the environment of the one container of a pod with this name.
    fn command(&self, pod: &PodSpec, pod_name: &str) -> Result<Installed> {
        let [container] = pod.containers.as_slice() else { anyhow::bail!("not one container") };
        ensure!(container.command.is_none(), "the image's own entry point is the program");
        let mut environment = Vec::new();
        for variable in container.env.iter().flatten() {
            let field = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref()).map(|field| field.field_path.as_str());
            let value = match (&variable.value, field) {
                (Some(value), None) => value.clone(),
                (None, Some("metadata.name")) => pod_name.to_owned(),
                (None, Some("metadata.namespace")) => self.namespace.clone(),
                other => anyhow::bail!("{}: unknown source {other:?}", variable.name),
            };
            environment.push((variable.name.clone(), value));
        }
        Ok(Installed { arguments: container.args.clone().unwrap_or_default(), environment })
    }

    /// The pod of a component's Deployment, and a name for it.
    async fn pod(&self, component: &str) -> Result<(PodSpec, String)> {
        let deployments: Api<Deployment> = Api::namespaced(self.plane.cluster().client()?, &self.namespace);
        let selector = format!("app.kubernetes.io/component={component},app.kubernetes.io/instance={}", self.release);
        let found = deployments.list(&ListParams::default().labels(&selector)).await?.items;
        let [deployment] = found.as_slice() else { anyhow::bail!("{} Deployments of {component}", found.len()) };
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.clone()).context("a pod")?;
        Ok((pod, format!("{}-pod", deployment.metadata.name.as_deref().unwrap_or_default())))
    }

    /// How a component's Deployment is started here. `more` are arguments that only this machine needs.
    pub async fn options(&self, component: &str, public_port: u16, more: &[String]) -> Result<Options> {
        let (pod, name) = self.pod(component).await?;
        needs_no_files(&pod)?;
        let (kubeconfig, account) = self.identity(&pod).await?;
        Options::installed(&kubeconfig, &self.namespace, &account, self.command(&pod, &name)?, public_port, more)
    }

    /// The same in a container of an image, with the files that the pod mounts, and only where the pod asks for all that such a
    /// container holds back.
    pub async fn contained(&self, component: &str, image: &Image, public_port: u16) -> Result<Options> {
        let (pod, name) = self.pod(component).await?;
        is_restricted(&pod)?;
        let (kubeconfig, account) = self.identity(&pod).await?;
        let mut command = self.command(&pod, &name)?;
        let container = Container::new(image)?;
        let server = self.plane.server_url().strip_prefix("https://").context("https")?;
        let (host, port) = server.split_once(':').context("a port")?;
        for (name, value) in [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)] {
            command.environment.push((name.to_owned(), value.to_owned()));
        }
        let token = self.plane.cluster().service_account_token(&self.namespace, &account).await?;
        container.mount(&format!("{SERVICE_ACCOUNT}/token"), token.as_bytes())?;
        container.mount(&format!("{SERVICE_ACCOUNT}/namespace"), self.namespace.as_bytes())?;
        container.mount(&format!("{SERVICE_ACCOUNT}/ca.crt"), &std::fs::read(self.plane.authority())?)?;
        for (path, content) in self.mounted(&pod).await? {
            container.mount(&path, content.as_bytes())?;
        }
        let options = Options::installed(&kubeconfig, &self.namespace, &account, command, public_port, &[])?;
        Ok(options.inside(Arc::new(container)))
    }

    /// What the pod's volumes hold, by path. The chart's are ConfigMaps.
    async fn mounted(&self, pod: &PodSpec) -> Result<Vec<(String, String)>> {
        let maps: Api<ConfigMap> = Api::namespaced(self.plane.cluster().client()?, &self.namespace);
        let mut found = Vec::new();
        for mount in pod.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten()) {
            let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name).context("a mount without a volume")?;
            let source = volume.config_map.as_ref().with_context(|| format!("{} is no ConfigMap", volume.name))?;
            let data = maps.get(&source.name).await?.data.unwrap_or_default();
            found.extend(data.into_iter().map(|(key, content)| (format!("{}/{key}", mount.mount_path), content)));
        }
        Ok(found)
    }

    /// Starts what the Deployments of `mode: Separate` run. `resolve` is what stands in for the cluster's DNS.
    pub async fn start(&self, public_port: u16, resolve: &str) -> Result<(Operator, Operator)> {
        let resolve = format!("--resolve={resolve}");
        let receiver = self.options("receiver", public_port, std::slice::from_ref(&resolve)).await?;
        // There is nobody who would tell by EndpointSlices where the receivers are.
        let mut controller = self.options("controller", 0, &[resolve]).await?;
        controller.replace_argument("--receivers=", &receiver.admin_url())?;
        // In a cluster, too, a receiver may be there before the controller has made its key.
        let receiver = Operator::launch(receiver)?;
        let controller = Operator::start(controller).await?;
        receiver.wait_ready().await?;
        Ok((controller, receiver))
    }
}
