//! The command line. Only this module reads the environment.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;

use crate::api::v1alpha1::{Interval, ProviderKind};

/// Keeps Git connections alive: checks credentials, manages webhooks, receives deliveries and sends their events to sinks.
#[derive(Debug, Parser)]
#[command(name = "forgebind", version, max_term_width = 110)]
pub struct Cli {
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Command to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller, which reconciles connections and bindings. Any number of replicas; one of them is the leader
    Controller(ServerArguments),
    /// Run the receiver, which takes deliveries. Any number of replicas, without provider credentials
    Receiver(ServerArguments),
    /// Run the controller and the receiver in one process
    Run(ServerArguments),
    /// Check manifests, or the objects of a cluster, against the providers without changing anything; for CI pipelines
    ///
    /// Reports for every connection and binding whether it would become Ready and, if not, why and what to do, and which
    /// webhooks would be created, adopted, updated and deleted at the providers. Exits with 0 if all objects would become
    /// Ready or are suspended, 1 if any would not, and 2 if the check could not run: bad usage, unreadable input, no
    /// cluster. With --fail-on-plan, also exits with 1 if anything would change at a provider.
    Check(CheckArguments),
    /// Print the custom resource definitions as YAML, for: forgebind crd | kubectl apply --server-side -f -
    Crd,
    /// Say what became of a push: the chain from the connection to each sink, the first broken link, and the fix
    ///
    /// Reads with the rights of KUBECONFIG; what these do not show is not visible to you, and is judged by the binding's own
    /// status. Exits with 0 if no link is broken, 1 if one is, and 2 if the command could not run.
    Why(WhyArguments),
    /// Say which grant allows a namespace to use a connection for a repository, or what the nearest grant lacks
    ///
    /// Reads the connection, the grants of its namespace and the labels of NAMESPACE, with the rights of KUBECONFIG or from
    /// manifests. The only VERB is bind: to have a binding of that repository. Exits with 0 if it is allowed, 1 if it is not
    /// or cannot be decided, and 2 if the command could not run.
    Can(CanArguments),
    /// List the last deliveries of a repository or binding, and what became of each
    ///
    /// Exits with 0 if all of them reached the sinks that they are for, 1 if one did not, and 2 if the command could not run.
    Deliveries(DeliveriesArguments),
    /// Send the parked events and dead letters of a repository or binding again
    ///
    /// Sets the annotation forgebind.dev/redeliver-requested-at, which needs the right to patch the binding. Exits with 0 if it
    /// was requested (with --wait: if every receiver has carried it out), 1 if that was not acknowledged in time, and 2 if the
    /// command could not run.
    Redeliver(RedeliverArguments),
    /// List the repositories that the credential of a connection reaches, grouped by project
    ///
    /// Reads the slices of spec.catalog with the rights of KUBECONFIG; the role admin of the namespace is enough. Exits with 0 if
    /// the lists are complete, 1 if one is not, and 2 if the command could not run.
    Repositories(RepositoriesArguments),
    /// Print the completion script of a shell
    ///
    /// For this shell only: source <(forgebind completion bash). As a plugin of kubectl, install the binary as
    /// kubectl-forgebind.
    Completion(CompletionArguments),
    /// Release all objects of this installation so that it can be removed, and print the webhooks that stay
    Uninstall(UninstallArguments),
}

fn providers_help() -> String {
    let names: Vec<_> = ProviderKind::ALL.into_iter().map(ProviderKind::flag).collect();
    format!("Providers to serve, comma-separated: {} [default: all]", names.join(", "))
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Table for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Flags of the commands that are about the bindings of a repository.
#[derive(Clone, Debug, Args)]
pub struct TargetArguments {
    /// Repository, as a path such as acme/shop or as a URL; or binding, as its name or as NAMESPACE/NAME
    #[arg(value_name = "REPOSITORY|BINDING")]
    pub target: String,
    /// Namespace to search [default: that of the context for the name of a binding, else all]
    #[arg(short = 'n', long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Search all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Context of KUBECONFIG [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Flags of `forgebind why`.
#[derive(Clone, Debug, Args)]
#[command(after_help = WHY_EXAMPLES)]
pub struct WhyArguments {
    /// What the command is about.
    #[command(flatten)]
    pub target: TargetArguments,
    /// Commit whose delivery is meant, at least its first 7 digits [default: the last delivery]
    #[arg(long, value_name = "SHA")]
    pub sha: Option<String>,
    /// Output format
    #[arg(short = 'o', long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

const WHY_EXAMPLES: &str = "Examples:
  forgebind why acme/shop
  forgebind why acme/shop --sha 9f1c2ab
  forgebind why shop -n team-shop -o json
  kubectl forgebind why https://git.acme.io/acme/shop";

/// Flags of `forgebind can`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CAN_EXAMPLES)]
pub struct CanArguments {
    /// Namespace of the binding
    #[arg(value_name = "NAMESPACE")]
    pub namespace: String,
    /// What is asked for: bind
    #[arg(value_name = "VERB")]
    pub verb: String,
    /// Repository, as a path such as acme/shop or as a URL
    #[arg(value_name = "REPOSITORY")]
    pub repository: String,
    /// Connection, as NAMESPACE/NAME, or as the name of one in NAMESPACE
    #[arg(short = 'c', long, value_name = "CONNECTION")]
    pub connection: String,
    /// Address in webhook.url of the binding, which a grant must allow, too
    #[arg(long, value_name = "URL")]
    pub webhook_url: Option<String>,
    /// File or directory with manifests of the connection, its grants and the namespace, instead of a cluster; - for standard
    /// input. Can be repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Output format
    #[arg(short = 'o', long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

const CAN_EXAMPLES: &str = "Examples:
  forgebind can team-shop bind acme/shop-cart -c platform/acme
  forgebind can team-shop bind acme/shop-cart -c platform/acme -f grants/ -f namespaces.yaml
  forgebind can team-shop bind acme/shop-cart -c platform/acme --webhook-url https://argocd.acme.io/api/webhook";

/// Flags of `forgebind deliveries`.
#[derive(Clone, Debug, Args)]
pub struct DeliveriesArguments {
    /// What the command is about.
    #[command(flatten)]
    pub target: TargetArguments,
    /// Output format
    #[arg(short = 'o', long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

/// Flags of `forgebind redeliver`.
#[derive(Clone, Debug, Args)]
pub struct RedeliverArguments {
    /// What the command is about.
    #[command(flatten)]
    pub target: TargetArguments,
    /// Wait until every receiver has carried it out
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, as a duration such as 90s or 4m
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: String,
}

impl RedeliverArguments {
    /// How long to wait.
    ///
    /// # Errors
    /// The value is no duration.
    pub fn timeout(&self) -> Result<Duration, String> {
        let interval = self.timeout.parse::<Interval>();
        interval.map(|interval| interval.length()).map_err(|error| format!("--timeout: {:?}: {error}", self.timeout))
    }
}

/// Flags of `forgebind repositories`.
#[derive(Clone, Debug, Args)]
#[command(after_help = REPOSITORIES_EXAMPLES)]
pub struct RepositoriesArguments {
    /// Connection [default: every one that has spec.catalog]
    #[arg(short = 'c', long, value_name = "NAME")]
    pub connection: Option<String>,
    /// Namespace of the connection [default: that of the context]
    #[arg(short = 'n', long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Connections of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Context of KUBECONFIG [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Only repositories without a binding through the connection
    #[arg(long)]
    pub unbound: bool,
    /// Output format
    #[arg(short = 'o', long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

const REPOSITORIES_EXAMPLES: &str = "Examples:
  forgebind repositories -n platform -c acme
  forgebind repositories -n platform -c acme --unbound -o json";

/// Shells with a completion script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Flags of `forgebind completion`.
#[derive(Clone, Debug, Args)]
pub struct CompletionArguments {
    /// Shell
    #[arg(value_enum)]
    pub shell: CompletionShell,
}

/// Name of the binary as a plugin of kubectl.
const PLUGIN: &str = "kubectl-forgebind";

/// Whether the binary was started as a plugin of kubectl, by the path with which it was started.
#[must_use]
pub fn is_plugin(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == PLUGIN)
}

/// The command line. As a plugin of kubectl, its help names the commands as they are typed.
#[must_use]
pub fn command(plugin: bool) -> clap::Command {
    let command = Cli::command();
    if plugin { command.name(PLUGIN).bin_name("kubectl forgebind").display_name("kubectl forgebind") } else { command }
}

/// The completion script of a shell.
#[must_use]
pub fn completion(shell: CompletionShell, plugin: bool) -> Vec<u8> {
    let shell = match shell {
        CompletionShell::Bash => clap_complete::Shell::Bash,
        CompletionShell::Zsh => clap_complete::Shell::Zsh,
        CompletionShell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), if plugin { PLUGIN } else { "forgebind" }, &mut script);
    script
}

/// Flags of `forgebind check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArguments {
    /// Manifests to check: a file, a directory, which is read recursively, or - for standard input. Can be repeated
    #[arg(short = 'f', long, value_name = "FILE", required_unless_present = "from_cluster")]
    pub filename: Vec<PathBuf>,
    /// Environment variable that contains a token, used in place of the credential's Secret: for the named connection, or
    /// for every connection whose Secret is not among the manifests. Because the author of a manifest chooses the host, the
    /// token is sent only to the known cloud providers and to hosts in --allow-provider-hosts. Comma-separated, can be
    /// repeated
    #[arg(long, value_name = "[[NAMESPACE/]CONNECTION=]NAME", value_delimiter = ',')]
    pub token_env: Vec<String>,
    /// Read from the cluster of KUBECONFIG, without writing to it: check all of its connections and bindings or, with -f,
    /// what the manifests would change there
    #[arg(long)]
    pub from_cluster: bool,
    /// File with the install key of the installation, by which its webhooks are recognised: 32 bytes, their base64, or the
    /// Secret forgebind-install-key as YAML. With --from-cluster, the key is read from the cluster if that is allowed
    #[arg(long, value_name = "FILE")]
    pub install_key_file: Option<PathBuf>,
    /// Check only the manifests, without requests to any provider
    #[arg(long, conflicts_with = "from_cluster")]
    pub offline: bool,
    /// Exit with 1 if anything would change at a provider, even if all objects would become Ready: for repositories whose
    /// webhooks must already be as specified, such as one that only observes
    #[arg(long, conflicts_with = "offline")]
    pub fail_on_plan: bool,
    /// Namespace of manifests that do not set one
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub default_namespace: String,
    /// Output format
    #[arg(short = 'o', long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
    /// Flags that describe the installation.
    #[command(flatten)]
    pub installation: InstallationArguments,
}

const CHECK_EXAMPLES: &str = "Examples:
  forgebind check -f clusters/production --offline
  forgebind check -f . --token-env GIT_TOKEN --public-url https://hooks.acme.io
  kustomize build overlays/test | forgebind check -f - --token-env platform/acme=ACME_TOKEN -o json
  forgebind check --from-cluster --watch-namespaces team-shop";

/// Reads a token from an environment variable; `None` if the variable is not set, empty or not UTF-8. Trims white space, as
/// for a token in a Secret.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn secret_of_environment(name: &str) -> Option<SecretString> {
    let value = std::env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.into())
}

/// Whether the environment disables colours: `NO_COLOR` is set, or the terminal is dumb.
#[must_use]
pub fn colours_are_unwelcome() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Flags that describe an installation. The servers have them, and so does `check`, which predicts what the servers would
/// do. Each one can also be set by an environment variable.
#[derive(Clone, Debug, Args)]
pub struct InstallationArguments {
    /// Public URL at which providers reach the receiver, such as <https://hooks.acme.io>. If not all providers reach the
    /// same URL, a comma-separated list of URLs with names, such as
    /// `https://hooks.acme.io,internal=https://hooks.acme.corp`: a connection selects one by name in
    /// spec.receiver.publicURL, or else uses the URL without a name
    #[arg(long, env = "FORGEBIND_PUBLIC_URL", value_name = "[NAME=]URL", value_delimiter = ',')]
    pub public_url: Vec<String>,
    /// Earlier public URLs, comma-separated, without names. Webhooks there are recognised as this installation's, and are
    /// moved to the current URL of their connection
    #[arg(long, env = "FORGEBIND_FORMER_PUBLIC_URLS", value_name = "URLS", value_delimiter = ',')]
    pub former_public_urls: Vec<String>,
    /// Namespace in which Forgebind runs [default: that of the service account, else forgebind-system]
    #[arg(long, env = "FORGEBIND_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Namespaces to watch, comma-separated [default: all]
    #[arg(long, env = "FORGEBIND_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    #[arg(long, env = "FORGEBIND_PROVIDERS", value_name = "NAMES", value_delimiter = ',', help = providers_help())]
    #[expect(missing_docs, reason = "its help is made from the list of providers")]
    pub providers: Vec<String>,
    /// Hosts that connections may use for providers, besides the known cloud providers: host, host:port or *.suffix,
    /// comma-separated [default: all]
    #[arg(long, env = "FORGEBIND_ALLOW_PROVIDER_HOSTS", value_name = "HOSTS", value_delimiter = ',')]
    pub allow_provider_hosts: Vec<String>,
    /// Hosts that connections may use for proxies (proxySecretRef), comma-separated. Restrict them, because a proxy can
    /// decrypt what the connection's tls.caRef allows it to [default: all; none where --allow-provider-hosts is set]
    #[arg(long, env = "FORGEBIND_ALLOW_PROXY_HOSTS", value_name = "HOSTS", value_delimiter = ',')]
    pub allow_proxy_hosts: Vec<String>,
    /// Hosts that http sinks may use, comma-separated [default: none]
    #[arg(long, env = "FORGEBIND_ALLOW_SINK_HOSTS", value_name = "HOSTS", value_delimiter = ',')]
    pub allow_sink_hosts: Vec<String>,
    /// Address ranges (CIDR) that may be reached even if they are loopback, link-local, metadata or cluster addresses,
    /// comma-separated
    #[arg(long, env = "FORGEBIND_ALLOW_CIDRS", value_name = "RANGES", value_delimiter = ',')]
    pub allow_cidrs: Vec<String>,
    /// Allow plain http to providers and sinks, for local development only
    #[arg(long, env = "FORGEBIND_ALLOW_INSECURE_HTTP")]
    pub allow_insecure_http: bool,
    /// Use the proxy of `HTTPS_PROXY` and related environment variables for connections that set no proxy
    #[arg(long, env = "FORGEBIND_USE_ENVIRONMENT_PROXY")]
    pub use_environment_proxy: bool,
    /// Addresses to use for hosts instead of DNS, and for Services of sinks (name.namespace.svc) instead of their `ClusterIP`,
    /// comma-separated, in the format of curl's --resolve
    #[arg(long, env = "FORGEBIND_RESOLVE", value_name = "HOST:PORT=ADDRESS", value_delimiter = ',')]
    pub resolve: Vec<String>,
}

/// Trusted certificate authorities have no flag: they are set by the environment variables that other programs also read.
const AUTHORITIES: &str = "Certificate authorities:
  Providers and sinks are verified with the certificate authorities of the system, or of the image in a container.
  SSL_CERT_FILE and SSL_CERT_DIR select other files and directories. Directories are separated by colons:
  SSL_CERT_DIR=/etc/ssl/certs:/etc/acme/ca adds to those of the system. A connection's tls.caRef replaces all of them.";

/// Flags of the servers. Each one can also be set by an environment variable.
#[derive(Clone, Debug, Args)]
#[command(after_help = AUTHORITIES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ServerArguments {
    /// Flags that describe the installation.
    #[command(flatten)]
    pub installation: InstallationArguments,
    /// Address on which the receiver listens; by default all addresses, IPv6 and IPv4
    #[arg(long, env = "FORGEBIND_LISTEN", value_name = "ADDRESS", default_value = "[::]:8080")]
    pub listen: String,
    /// Address on which the endpoints livez, readyz, metrics, evidence and outbox are served
    #[arg(long, env = "FORGEBIND_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "[::]:9090")]
    pub admin_listen: String,
    /// Where deliveries wait that a sink has not accepted: memory (lost when the receiver stops) or disk
    #[arg(long, env = "FORGEBIND_OUTBOX", value_name = "KIND", default_value = "memory")]
    pub outbox: String,
    /// Directory of the outbox on a disk, for this receiver alone; created if it is missing
    #[arg(long, env = "FORGEBIND_OUTBOX_DIR", value_name = "DIRECTORY", default_value = "/var/lib/forgebind/outbox")]
    pub outbox_dir: PathBuf,
    /// Room of the outbox on a disk, in bytes with an optional suffix Ki, Mi or Gi; at least 64Mi
    #[arg(long, env = "FORGEBIND_OUTBOX_LIMIT", value_name = "SIZE", default_value = "1Gi")]
    pub outbox_limit: String,
    /// Hand pending deliveries to another receiver of --receivers when this one stops, because its outbox is deleted then, as an
    /// emptyDir is with its pod. What no receiver takes is lost. Not needed where the next process opens the same outbox
    #[arg(long, env = "FORGEBIND_HAND_OVER")]
    pub hand_over: bool,
    /// How long a receiver that stops may take to finish what is in flight and to hand over what is pending
    #[arg(long, env = "FORGEBIND_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    pub drain_timeout: String,
    /// Addresses of this pod, comma-separated, so that it does not take itself for another receiver
    #[arg(long, env = "FORGEBIND_POD_IPS", value_name = "ADDRESSES", value_delimiter = ',', hide = true)]
    pub pod_ips: Vec<String>,
    /// Namespaces in which Secrets and `ConfigMap`s may be read, comma-separated [default: those to watch]
    #[arg(long, env = "FORGEBIND_SECRET_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub secret_namespaces: Vec<String>,
    /// Plan and report, but change nothing at any provider
    #[arg(long, env = "FORGEBIND_READ_ONLY")]
    pub read_only: bool,
    /// Elect a leader among replicas. If false, run only one replica
    #[arg(long, env = "FORGEBIND_LEADER_ELECTION", value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// How long to retry the removal of webhooks that cannot be removed, such as 30m or 24h [default: 1h without a
    /// credential, 24h without the provider]
    #[arg(long, env = "FORGEBIND_CLEANUP_TIMEOUT", value_name = "DURATION")]
    pub cleanup_timeout: Option<String>,
    /// How long a webhook stays after no `ConnectionGrant` allows its binding any more, such as 30m or 24h. A restore or a sync
    /// may bring the grant later. Deliveries are refused at once
    #[arg(long, env = "FORGEBIND_MISSING_GRANT_TIMEOUT", value_name = "DURATION", default_value = "1h")]
    pub missing_grant_timeout: String,
    /// Name of a Secret with an install key that you provide; Forgebind then never creates one [default:
    /// forgebind-install-key, made where missing]
    #[arg(long, env = "FORGEBIND_INSTALL_KEY_SECRET", value_name = "NAME")]
    pub install_key_secret: Option<String>,
    /// Create a new install key if the old one is lost. Webhooks made with the old key stay at the providers and are
    /// no longer recognised
    #[arg(long, env = "FORGEBIND_NEW_INSTALL_KEY")]
    pub new_install_key: bool,
    /// How the controller reaches the receivers, and with --hand-over a receiver the others: service/NAME, or a comma-separated
    /// list of admin URLs
    #[arg(
        long,
        env = "FORGEBIND_RECEIVERS",
        value_name = "RECEIVERS",
        value_delimiter = ',',
        default_value = "service/forgebind-receiver"
    )]
    pub receivers: Vec<String>,
    /// Format of log lines: text or json
    #[arg(long, env = "FORGEBIND_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// Log filter, such as info or forgebind=debug
    #[arg(long, env = "FORGEBIND_LOG_FILTER", value_name = "FILTER", default_value = crate::telemetry::logs::DEFAULT_FILTER)]
    pub log_filter: String,
    /// Name of this replica; in a cluster, the name of the pod
    #[arg(long, env = "HOSTNAME", value_name = "NAME", hide = true)]
    pub replica: Option<String>,
}

/// Flags of `forgebind uninstall`. Those that servers also have mean the same here.
#[derive(Clone, Debug, Args)]
pub struct UninstallArguments {
    /// What to do with webhooks: keep leaves them at the providers; delete deletes the bindings and waits until the
    /// controller, which must be running, has removed their webhooks
    #[arg(long, env = "FORGEBIND_HOOKS", value_name = "keep|delete", default_value = "keep")]
    pub hooks: String,
    /// How long to keep trying, as a duration such as 90s or 4m
    #[arg(long, env = "FORGEBIND_TIMEOUT", value_name = "DURATION", default_value = "4m")]
    pub timeout: String,
    /// Namespace in which Forgebind runs [default: that of the service account, else forgebind-system]
    #[arg(long, env = "FORGEBIND_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Namespaces that were watched, comma-separated [default: all]
    #[arg(long, env = "FORGEBIND_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Name of the Secret with the install key [default: forgebind-install-key]
    #[arg(long, env = "FORGEBIND_INSTALL_KEY_SECRET", value_name = "NAME")]
    pub install_key_secret: Option<String>,
}
