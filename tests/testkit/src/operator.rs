//! The real binary, run as `forgebind run` against a test's control plane.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::chart;
use super::container::Container;
use super::control_plane::ControlPlane;
use super::plain_http;
use super::port::free_port;
use super::process::{Process, Program};
use super::scratch::Scratch;
use super::wait::{Seen, wait_until};

/// The name of the service account of the operator, in its own namespace.
pub const SERVICE_ACCOUNT: &str = "forgebind";
const READY_DEADLINE: Duration = Duration::from_secs(60);
const PENDING_DEADLINE: Duration = Duration::from_secs(60);

/// The settings with which an operator is started.
#[derive(Clone, Debug)]
pub struct Options {
    kubeconfig: PathBuf,
    namespace: String,
    public_port: u16,
    admin_port: u16,
    settings: Vec<(String, String)>,
    role: &'static str,
    account: String,
    command: Option<Installed>,
    container: Option<Arc<Container>>,
    executable: Option<PathBuf>,
}

/// What an installed Deployment runs.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The arguments of its container.
    pub arguments: Vec<String>,
    /// The environment of its container.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// Options of an operator in `namespace` with the identity of a kubeconfig and with its own ports, for servers on this
    /// machine: plain http and loopback addresses are allowed, and there is no leader election.
    pub fn new(kubeconfig: &Path, namespace: &str) -> Result<Self> {
        let (public_port, admin_port) = (free_port()?, free_port()?);
        let options = Self {
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
            public_port,
            admin_port,
            settings: Vec::new(),
            role: "run",
            account: SERVICE_ACCOUNT.to_owned(),
            command: None,
            container: None,
            executable: None,
        };
        Ok(options
            .with("public-url", &format!("http://127.0.0.1:{public_port}"))
            .with("listen", &format!("127.0.0.1:{public_port}"))
            .with("admin-listen", &format!("127.0.0.1:{admin_port}"))
            .with("namespace", namespace)
            .with("allow-insecure-http", "true")
            .with("allow-cidrs", "127.0.0.0/8")
            .with("leader-election", "false"))
    }

    /// Options of an operator in its own namespace, with a service account that has exactly the rights that the chart grants,
    /// watching these namespaces. `server` replaces the API server's address, for a proxy in front of it.
    pub async fn on(plane: &ControlPlane, watched: &[&str], server: Option<&str>) -> Result<Self> {
        let cluster = plane.cluster();
        let namespace = cluster.create_namespace("forgebind").await?;
        let token = cluster.service_account_token(&namespace, SERVICE_ACCOUNT).await?;
        let kubeconfig = plane.kubeconfig_for(&namespace, &token, server)?;
        Self::new(&kubeconfig, &namespace)?.watching(plane, watched).await
    }

    /// Exactly what a Deployment runs, as its service account, but on local addresses: `public_port` for deliveries, and a
    /// separate admin port. `more` are arguments that only this machine needs.
    pub fn installed(
        kubeconfig: &Path,
        namespace: &str,
        account: &str,
        mut command: Installed,
        public_port: u16,
        more: &[String],
    ) -> Result<Self> {
        let admin_port = free_port()?;
        for (flag, port) in [("--listen=", public_port), ("--admin-listen=", admin_port)] {
            for argument in command.arguments.iter_mut().filter(|argument| argument.starts_with(flag)) {
                *argument = format!("{flag}127.0.0.1:{port}");
            }
        }
        command.arguments.extend_from_slice(more);
        Ok(Self {
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
            public_port,
            admin_port,
            settings: Vec::new(),
            role: "",
            account: account.to_owned(),
            command: Some(command),
            container: None,
            executable: None,
        })
    }

    /// Replaces the value of an argument of an installed Deployment. `flag` ends with the equals sign.
    pub fn replace_argument(&mut self, flag: &str, value: &str) -> Result<()> {
        let arguments = self.command.iter_mut().flat_map(|installed| &mut installed.arguments);
        let mut found = arguments.filter(|argument| argument.starts_with(flag));
        *found.next().with_context(|| format!("no {flag}"))? = format!("{flag}{value}");
        Ok(())
    }

    /// Starts the installed program in a container, where it finds its cluster and its service account as in a pod, instead of
    /// the binary of this build.
    #[must_use]
    pub fn inside(mut self, container: Arc<Container>) -> Self {
        self.container = Some(container);
        self
    }

    /// Starts another binary instead of that of this build.
    #[must_use]
    pub fn executable(mut self, path: &Path) -> Self {
        self.executable = Some(path.to_owned());
        self
    }

    /// Watches these namespaces instead of the earlier ones, with the rights for them.
    pub async fn watching(self, plane: &ControlPlane, watched: &[&str]) -> Result<Self> {
        chart::grant(plane.cluster(), &self.namespace, watched).await?;
        Ok(self.with("watch-namespaces", &watched.join(",")))
    }

    /// Sets a flag, named without its dashes; it replaces an earlier value.
    #[must_use]
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        self.settings.retain(|(name, _)| name != flag);
        self.settings.push((flag.to_owned(), value.to_owned()));
        self
    }

    /// Removes a flag.
    #[must_use]
    pub fn without(mut self, flag: &str) -> Self {
        self.settings.retain(|(name, _)| name != flag);
        self
    }

    /// Starts only one part: `controller` or `receiver`.
    #[must_use]
    pub const fn only(mut self, role: &'static str) -> Self {
        self.role = role;
        self
    }

    /// The URL of the receiver.
    pub fn public_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.public_port)
    }

    /// The URL of livez, readyz and metrics.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// The options of a second operator like this one, with its own ports.
    pub fn beside(&self) -> Result<Self> {
        let mut options = self.clone();
        options.public_port = free_port()?;
        options.admin_port = free_port()?;
        let (public_port, admin_port) = (options.public_port, options.admin_port);
        Ok(options.with("listen", &format!("127.0.0.1:{public_port}")).with("admin-listen", &format!("127.0.0.1:{admin_port}")))
    }

    /// The operator's own namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The user of its requests in the audit log.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.account)
    }
}

/// The environment variable of a flag. Switches are set by variable, because there every flag takes a value.
fn variable(flag: &str) -> String {
    format!("FORGEBIND_{}", flag.replace('-', "_").to_uppercase())
}

/// The binary under test, from the same build as this program.
pub fn executable() -> Result<PathBuf> {
    // Tests and examples are one folder below the binary.
    let this = std::env::current_exe()?;
    let path = this.ancestors().nth(2).context("this program has no folder")?.join("forgebind");
    ensure!(path.is_file(), "{} does not exist: run `cargo build --bin forgebind`", path.display());
    Ok(path)
}

/// The binary under test, started as the options say.
fn program(options: &Options, log: &Path) -> Result<Program> {
    let path = options.executable.clone().map_or_else(executable, Ok)?;
    let mut program = Program::new("forgebind", path, log).variable("KUBECONFIG", &options.kubeconfig);
    if let Some(installed) = &options.command {
        program = program.arguments(&installed.arguments);
        for (name, value) in &installed.environment {
            program = program.variable(name, value);
        }
    } else {
        program = program.argument(options.role);
        for (flag, value) in &options.settings {
            program = program.variable(variable(flag), value);
        }
    }
    Ok(program)
}

/// A running operator. Dropping it stops it; if a test is failing then, it prints the end of the log.
#[derive(Debug)]
pub struct Operator {
    options: Options,
    program: Program,
    log: PathBuf,
    process: Mutex<Option<Process>>,
    _scratch: Scratch,
}

impl Operator {
    /// Starts an operator and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it ends by itself or is not ready within a minute; the error contains the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let operator = Self::launch(options)?;
        operator.wait_ready().await?;
        Ok(operator)
    }

    /// Starts an operator without waiting.
    pub fn launch(options: Options) -> Result<Self> {
        super::install_crypto();
        let scratch = Scratch::new("operator")?;
        let log = scratch.path().join("forgebind.log");
        let program = match (&options.container, &options.command) {
            (Some(container), Some(installed)) => container.program(&installed.environment, &installed.arguments, &log),
            (Some(_), None) => anyhow::bail!("only an installed program runs in a container"),
            (None, _) => program(&options, &log)?,
        };
        let operator = Self { options, program, log, process: Mutex::new(None), _scratch: scratch };
        operator.relaunch()?;
        Ok(operator)
    }

    /// Starts it again after [`Self::kill`] or [`Self::terminate`], and waits until it is ready.
    pub async fn restart(&self) -> Result<()> {
        self.relaunch()?;
        self.wait_ready().await
    }

    fn relaunch(&self) -> Result<()> {
        let mut process = self.process();
        ensure!(process.is_none(), "the operator is running already");
        *process = Some(self.program.start()?);
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it was started.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The URL at which providers reach its receiver.
    pub fn url(&self) -> String {
        self.options.public_url()
    }

    /// The URL of livez, readyz and metrics.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.options.admin_port)
    }

    /// kill -9.
    pub fn kill(&self) {
        *self.process() = None;
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process().as_mut().context("the operator does not run")?.signal(name)
    }

    /// Sends SIGTERM and waits until the process has ended.
    ///
    /// # Errors
    ///
    /// When the process does not end within the deadline; it is then killed.
    pub async fn terminate(&self, deadline: Duration) -> Result<ExitStatus> {
        self.process().as_mut().context("the operator does not run")?.signal("TERM")?;
        self.wait_exit(deadline).await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    ///
    /// When it does not end within the deadline; it is then killed.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        let status = wait_until("the operator to end", deadline, async || {
            let status = self.process().as_mut().context("the operator does not run")?.exited()?;
            Ok(status.map_or_else(|| Seen::NotYet("it is still running".to_owned()), Seen::Done))
        })
        .await;
        self.kill();
        status
    }

    /// Waits until the receiver holds this many pending deliveries.
    pub async fn has_pending(&self, count: u64) -> Result<()> {
        wait_until(&format!("{count} pending deliveries"), PENDING_DEADLINE, async || {
            let seen = metric(&self.metrics().await?, "forgebind_receiver_pending_deliveries ");
            Ok(if seen == count { Seen::Done(()) } else { Seen::NotYet(seen.to_string()) })
        })
        .await
    }

    /// The log of all starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log(), lines)
    }

    /// The metrics in Prometheus' text format.
    pub async fn metrics(&self) -> Result<String> {
        let client = plain_http::client()?;
        Ok(client.get(format!("{}/metrics", self.admin_url())).send().await?.error_for_status()?.text().await?)
    }

    /// Waits until the operator is ready, after [`Self::launch`].
    pub async fn wait_ready(&self) -> Result<()> {
        let client = plain_http::builder().timeout(Duration::from_secs(5)).build()?;
        let address = format!("{}/readyz", self.admin_url());
        wait_until("the operator to be ready", READY_DEADLINE, async || {
            if let Some(obituary) = self.process().as_mut().context("the operator does not run")?.obituary()? {
                return Ok(Seen::Never(obituary));
            }
            let answer = client.get(&address).send().await?;
            let status = answer.status();
            Ok(if status.is_success() { Seen::Done(()) } else { Seen::NotYet(format!("{status} {}", answer.text().await?)) })
        })
        .await
        .with_context(|| format!("the last log lines:\n{}", tail(&self.log(), 25)))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // The test runner shows this for failed tests only.
        if cfg!(test) {
            eprintln!("the operator's last lines:\n{}", tail(&self.log(), 60));
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.iter().skip(all.len().saturating_sub(lines)).copied().collect::<Vec<_>>().join("\n")
}

/// The sum of all samples whose line has this beginning.
pub fn metric(text: &str, beginning: &str) -> u64 {
    let values = text.lines().filter(|line| line.starts_with(beginning)).filter_map(|line| line.rsplit_once(' '));
    values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}
