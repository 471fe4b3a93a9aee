//! etcd, kube-apiserver and kube-controller-manager on this machine.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::config::AuthInfo;
use kube::{Client, Config};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

pub use super::audit::AuditEvent;
use super::audit::AuditLog;
use super::cluster::{Cluster, write_kubeconfig};
use super::components::Components;
use super::port::free_port;
use super::process::{Process, Program};
use super::scratch::Scratch;
use super::wait::{Seen, wait_until};

/// The token of the administrator.
pub const ADMIN_TOKEN: &str = "admin-of-a-test-cluster";
/// The user name of the test's own requests.
pub const ADMIN: &str = "admin";
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A control plane. Its programs end when it is dropped, or when this process ends.
#[derive(Debug)]
pub struct ControlPlane {
    cluster: Cluster,
    folder: PathBuf,
    server_url: String,
    controller_manager: Server,
    api_server: Server,
    etcd: Server,
    audit: AuditLog,
    // The fields are dropped in this order: the folder is removed after all writers have ended.
    _scratch: Scratch,
}

/// A program and, while it runs, its process.
#[derive(Debug)]
struct Server {
    program: Program,
    process: Mutex<Option<Process>>,
}

impl Server {
    const fn new(program: Program) -> Self {
        Self { program, process: Mutex::new(None) }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<()> {
        let mut process = self.process();
        ensure!(process.is_none(), "it is running already");
        *process = Some(self.program.start()?);
        Ok(())
    }

    fn kill(&self) {
        // Dropping the process kills it and waits.
        *self.process() = None;
    }

    fn signal(&self, name: &str) -> Result<()> {
        self.process().as_mut().context("it is not running")?.signal(name)
    }

    fn obituary(&self) -> Result<Option<String>> {
        self.process().as_mut().map_or(Ok(None), Process::obituary)
    }
}

impl ControlPlane {
    /// Starts a control plane with the custom resource definitions of this tree.
    ///
    /// # Errors
    ///
    /// When a program is missing or does not become ready within a minute; the error contains its last log lines.
    pub async fn start() -> Result<Self> {
        let plane = Self::start_bare().await?;
        plane.cluster.apply_crds().await?;
        Ok(plane)
    }

    /// Starts a control plane without any custom resource definition.
    pub async fn start_bare() -> Result<Self> {
        super::install_crypto();
        let components = Components::find()?;
        let scratch = Scratch::new("control-plane")?;
        let folder = scratch.path().to_owned();
        let (etcd_port, peer_port, api_port) = (free_port()?, free_port()?, free_port()?);
        let server_url = format!("https://127.0.0.1:{api_port}");
        let authority = write_certificates(&folder)?;
        std::fs::write(folder.join("tokens.csv"), format!("{ADMIN_TOKEN},{ADMIN},1,\"system:masters\"\n"))?;
        std::fs::write(folder.join("audit-policy.yaml"), AUDIT_POLICY)?;
        let kubeconfig = folder.join("kubeconfig");
        write_kubeconfig(&kubeconfig, &server_url, Some(&folder.join("ca.crt")), ADMIN_TOKEN)?;

        let mut config = Config::new(server_url.parse()?);
        config.root_cert = Some(vec![authority]);
        config.auth_info = AuthInfo { token: Some(ADMIN_TOKEN.to_owned().into()), ..AuthInfo::default() };
        let plane = Self {
            cluster: Cluster::new(config, kubeconfig, components.kubectl.clone()),
            server_url,
            etcd: Server::new(etcd(&components, &folder, etcd_port, peer_port)),
            api_server: Server::new(api_server(&components, &folder, etcd_port, api_port)),
            controller_manager: Server::new(controller_manager(&components, &folder)),
            audit: AuditLog::new(folder.join("audit.log")),
            folder,
            _scratch: scratch,
        };
        plane.etcd.start()?;
        plane.api_server.start()?;
        plane.wait_ready().await?;
        plane.controller_manager.start()?;
        Ok(plane)
    }

    /// The cluster with the administrator's identity.
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The API server's address.
    pub fn server_url(&self) -> &str {
        &self.server_url
    }

    /// The authority that signed the API server's certificate, as a PEM file.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Writes a kubeconfig with the token of a service account, for the API server or for `server` in front of it.
    pub fn kubeconfig_for(&self, name: &str, token: &str, server: Option<&str>) -> Result<PathBuf> {
        let path = self.folder.join(format!("kubeconfig-{name}"));
        let authority = self.authority();
        match server {
            Some(server) => write_kubeconfig(&path, server, None, token)?,
            None => write_kubeconfig(&path, &self.server_url, Some(&authority), token)?,
        }
        Ok(path)
    }

    /// Kills etcd (SIGKILL). The API server keeps running and fails.
    pub fn kill_etcd(&self) {
        self.etcd.kill();
    }

    /// Starts etcd again with its data, and waits until the API server is ready.
    ///
    /// # Errors
    ///
    /// When etcd is running, or the API server is not ready within a minute.
    pub async fn start_etcd(&self) -> Result<()> {
        self.etcd.start()?;
        self.wait_ready().await
    }

    /// Stops every server (SIGSTOP), so that they do not disturb a measurement. Connections stay open without answers.
    pub fn hold_still(&self) -> Result<()> {
        self.servers().into_iter().try_for_each(|server| server.signal("STOP"))
    }

    /// Continues every server.
    pub fn go_on(&self) -> Result<()> {
        self.servers().into_iter().try_for_each(|server| server.signal("CONT"))
    }

    const fn servers(&self) -> [&Server; 3] {
        [&self.etcd, &self.api_server, &self.controller_manager]
    }

    /// Kills the API server (SIGKILL).
    pub fn kill_api_server(&self) {
        self.api_server.kill();
    }

    /// Starts the API server again on its port, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it is running, or is not ready within a minute.
    pub async fn start_api_server(&self) -> Result<()> {
        self.api_server.start()?;
        self.wait_ready().await
    }

    /// The number of requests answered so far.
    pub fn audit_position(&self) -> Result<usize> {
        self.audit.position()
    }

    /// Every request that was answered since a position; watches appear once they have ended.
    pub fn audit_events_since(&self, position: usize) -> Result<Vec<AuditEvent>> {
        self.audit.since(position)
    }

    /// Every request that was answered so far; watches appear once they have ended.
    pub fn audit_events(&self) -> Result<Vec<AuditEvent>> {
        self.audit.since(0)
    }

    async fn wait_ready(&self) -> Result<()> {
        let client = self.cluster.client()?;
        wait_until("the API server to be ready", START_DEADLINE, async || {
            for server in [&self.etcd, &self.api_server] {
                if let Some(obituary) = server.obituary()? {
                    return Ok(Seen::Never(obituary));
                }
            }
            let answer = client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
            // The default namespace exists only after the API server has finished its own start-up work.
            client.request_text(http::Request::get("/api/v1/namespaces/default").body(Vec::new())?).await?;
            Ok(if answer == "ok" { Seen::Done(()) } else { Seen::NotYet(answer) })
        })
        .await
        .map_err(|error| match self.api_server.process().as_ref() {
            Some(process) => error.context(format!("the API server's last lines:\n{}", process.log_tail(15))),
            None => error,
        })
    }
}

const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// Writes ca.crt, server.crt, server.key, service-account.key and service-account.pub; returns the authority as DER.
fn write_certificates(folder: &Path) -> Result<Vec<u8>> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let authority = parameters.self_signed(&authority_key)?;
    let issuer = Issuer::new(parameters, authority_key);

    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()])?;
    parameters.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let server_key = KeyPair::generate()?;
    let server = parameters.signed_by(&server_key, &issuer)?;

    let account_key = KeyPair::generate()?;
    for (name, content) in [
        ("ca.crt", authority.pem()),
        ("server.crt", server.pem()),
        ("server.key", server_key.serialize_pem()),
        ("service-account.key", account_key.serialize_pem()),
        ("service-account.pub", account_key.public_key_pem()),
    ] {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(authority.der().to_vec())
}

fn option(name: &str, value: impl AsRef<Path>) -> String {
    format!("--{name}={}", value.as_ref().display())
}

fn etcd(components: &Components, folder: &Path, port: u16, peer_port: u16) -> Program {
    let client_url = format!("http://127.0.0.1:{port}");
    let peer_url = format!("http://127.0.0.1:{peer_port}");
    Program::new("etcd", &components.etcd, folder.join("etcd.log"))
        .argument(option("data-dir", folder.join("etcd")))
        .argument(format!("--listen-client-urls={client_url}"))
        .argument(format!("--advertise-client-urls={client_url}"))
        .argument(format!("--listen-peer-urls={peer_url}"))
        .argument(format!("--initial-advertise-peer-urls={peer_url}"))
        .argument(format!("--initial-cluster=default={peer_url}"))
        .argument("--unsafe-no-fsync")
        .argument("--log-level=warn")
}

fn api_server(components: &Components, folder: &Path, etcd_port: u16, port: u16) -> Program {
    Program::new("kube-apiserver", &components.kube_apiserver, folder.join("kube-apiserver.log"))
        .argument(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .argument("--bind-address=127.0.0.1")
        .argument(format!("--secure-port={port}"))
        .argument(option("cert-dir", folder.join("certificates")))
        .argument(option("tls-cert-file", folder.join("server.crt")))
        .argument(option("tls-private-key-file", folder.join("server.key")))
        .argument("--service-cluster-ip-range=10.0.0.0/16")
        .argument("--service-account-issuer=https://kubernetes.default.svc")
        .argument(option("service-account-key-file", folder.join("service-account.pub")))
        .argument(option("service-account-signing-key-file", folder.join("service-account.key")))
        .argument("--authorization-mode=RBAC")
        .argument(option("token-auth-file", folder.join("tokens.csv")))
        .argument("--disable-admission-plugins=ServiceAccount")
        .argument(option("audit-policy-file", folder.join("audit-policy.yaml")))
        .argument(option("audit-log-path", folder.join("audit.log")))
}

fn controller_manager(components: &Components, folder: &Path) -> Program {
    Program::new("kube-controller-manager", &components.kube_controller_manager, folder.join("kube-controller-manager.log"))
        .argument(option("kubeconfig", folder.join("kubeconfig")))
        .argument(option("service-account-private-key-file", folder.join("service-account.key")))
        .argument(
            "--controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller,clusterrole-aggregation-controller",
        )
        .argument("--leader-elect=false")
        .argument("--secure-port=0")
}

/// A control plane of one test, stopped at the end of the test. Its value stays for the rest of the process, because objects of
/// the test refer to it; only its programs stop, because they would use the processor of later tests.
#[derive(Debug)]
pub struct OwnControlPlane(&'static ControlPlane);

impl OwnControlPlane {
    /// As [`ControlPlane::start`].
    pub async fn start() -> Result<Self> {
        Ok(Self(Box::leak(Box::new(ControlPlane::start().await?))))
    }

    /// As [`ControlPlane::start_bare`].
    pub async fn start_bare() -> Result<Self> {
        Ok(Self(Box::leak(Box::new(ControlPlane::start_bare().await?))))
    }

    pub const fn plane(&self) -> &'static ControlPlane {
        self.0
    }
}

impl Drop for OwnControlPlane {
    fn drop(&mut self) {
        let [etcd, api_server, controller_manager] = self.0.servers();
        [controller_manager, api_server, etcd].into_iter().for_each(Server::kill);
    }
}

/// A client for a service account, which is created if it does not exist.
pub async fn client_of(plane: &ControlPlane, namespace: &str, account: &str) -> Result<Client> {
    let token = plane.cluster().service_account_token(namespace, account).await?;
    let kubeconfig = kube::config::Kubeconfig::read_from(plane.kubeconfig_for(&format!("{namespace}-{account}"), &token, None)?)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?)?)
}
