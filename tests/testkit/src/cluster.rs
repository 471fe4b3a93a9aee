//! Access to a cluster, however it is run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::json;

use super::components::output_of;
use super::wait::{Seen, wait_until};

/// A cluster, accessed with one identity.
#[derive(Clone, Debug)]
pub struct Cluster {
    config: Config,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

impl Cluster {
    /// A cluster from its parts: the same identity as a client configuration and as a file for programs.
    pub fn new(config: Config, kubeconfig: PathBuf, kubectl: PathBuf) -> Self {
        Self { config, kubeconfig, kubectl }
    }

    /// A client on the present runtime. Tests do not share clients, because each test has its own runtime.
    ///
    /// # Errors
    ///
    /// When the configuration is not valid.
    pub fn client(&self) -> Result<Client> {
        super::install_crypto();
        Ok(Client::try_from(self.config.clone())?)
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs kubectl and returns its output.
    ///
    /// # Errors
    ///
    /// When kubectl fails; the error contains its output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.kubectl);
        // By the environment, because KUBECONFIG may also be a list of files.
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        output_of(command).await
    }

    /// Runs a shell script of the guides in a folder, with this cluster's kubectl, and returns its output. The script ends with
    /// the first command that fails.
    ///
    /// # Errors
    ///
    /// When it fails; the error contains its output.
    pub async fn script(&self, folder: &Path, script: &str) -> Result<String> {
        let tools = self.kubectl.parent().context("kubectl has no folder")?;
        let path = std::env::join_paths(
            std::iter::once(tools.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        )?;
        let mut command = Command::new("sh");
        command.env("KUBECONFIG", &self.kubeconfig).env("PATH", path).current_dir(folder).args(["-euc", script]);
        output_of(command).await.with_context(|| script.to_owned())
    }

    /// Creates a namespace with a unique name and returns the name.
    pub async fn create_namespace(&self, prefix: &str) -> Result<String> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        self.create_namespace_named(&name).await?;
        Ok(name)
    }

    /// Creates the namespace `name` unless it exists.
    pub async fn create_namespace_named(&self, name: &str) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client()?);
        let namespace = Namespace { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..Namespace::default() };
        accept_existing(api.create(&PostParams::default(), &namespace).await).with_context(|| format!("namespace {name}"))
    }

    /// Creates or replaces a Secret.
    pub async fn apply_secret(&self, namespace: &str, name: &str, entries: &[(&str, &str)]) -> Result<Secret> {
        let api: Api<Secret> = Api::namespaced(self.client()?, namespace);
        let data = entries.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
            data: Some(data),
            ..Secret::default()
        };
        Ok(api.patch(name, &PatchParams::apply("forgebind-test").force(), &Patch::Apply(&secret)).await?)
    }

    /// Creates a Service with a selector and this port, as a sink needs one, unless it exists. No pod is behind it.
    pub async fn create_service(&self, namespace: &str, name: &str, port: u16) -> Result<()> {
        let api: Api<Service> = Api::namespaced(self.client()?, namespace);
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
        });
        accept_existing(api.create(&PostParams::default(), &serde_json::from_value(service)?).await)
            .with_context(|| format!("Service {namespace}/{name}"))
    }

    /// Applies the custom resource definitions of this tree and waits until they are served.
    ///
    /// # Errors
    ///
    /// When the API server refuses one, or does not serve it within 30 s.
    pub async fn apply_crds(&self) -> Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client()?);
        for definition in forgebind::api::crd::custom_resource_definitions() {
            let name = definition.metadata.name.clone().context("a definition without a name")?;
            api.patch(&name, &PatchParams::apply("forgebind-test").force(), &Patch::Apply(&definition))
                .await
                .with_context(|| format!("the API server refuses {name}"))?;
            wait_until(&format!("{name} to be served"), Duration::from_secs(30), async || {
                let conditions = api.get(&name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
                let established = conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
                Ok(if established { Seen::Done(()) } else { Seen::NotYet(format!("{conditions:?}")) })
            })
            .await?;
        }
        Ok(())
    }

    /// Creates a service account unless it exists and returns a token of it that is valid for the whole test.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let account =
            ServiceAccount { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..ServiceAccount::default() };
        accept_existing(api.create(&PostParams::default(), &account).await)?;
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(86_400), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = api.create_token_request(name, &PostParams::default(), &request).await?;
        Ok(answer.status.context("the API server gave no token")?.token)
    }
}

/// Ignores the error that an object already exists.
///
/// # Errors
///
/// Every other error of the API server.
pub fn accept_existing<T>(answer: kube::Result<T>) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop).map_err(Into::into),
    }
}

/// Writes a kubeconfig with one cluster and one user with a token. `authority` is a PEM bundle, for https.
pub fn write_kubeconfig(path: &Path, server: &str, authority: Option<&Path>, token: &str) -> Result<()> {
    let mut cluster = json!({ "server": server });
    if let (Some(fields), Some(authority)) = (cluster.as_object_mut(), authority) {
        fields.insert("certificate-authority".to_owned(), json!(authority));
    }
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": cluster }],
        "users": [{ "name": "test", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    });
    // JSON is YAML.
    std::fs::write(path, serde_json::to_vec_pretty(&content)?).with_context(|| format!("{} cannot be written", path.display()))
}
