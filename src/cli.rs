//! The command line. The only place that reads the environment.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;

use crate::api::v1alpha1::ProviderKind;

/// Keeps Git connections alive: validates credentials, manages webhooks, receives and hands on deliveries.
#[derive(Debug, Parser)]
#[command(name = "forgebind", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile connections and bindings. Any number of replicas; one of them leads
    Controller(ServerArguments),
    /// Receive deliveries. Any number of replicas, without provider credentials
    Receiver(ServerArguments),
    /// Do both in one process
    Run(ServerArguments),
    /// Check manifests, or a cluster's objects, against the providers without a write anywhere; for the CI of a repository
    ///
    /// Says for every connection and binding whether it would become Ready and why not, with the remedy, and what would be
    /// created, adopted, updated and deleted at the providers. Ends with 0 when everything would become Ready (or is
    /// suspended), 1 when something would not, 2 when it could not check: bad usage, unreadable input, no cluster. With
    /// --fail-on-plan it ends with 1 also when something would be done at a provider.
    Check(CheckArguments),
    /// Print the custom resource definitions: forgebind crd | kubectl apply --server-side -f -
    Crd,
    /// Let go of every object of this installation, so that it can be removed, and print the webhooks that stay
    Uninstall(UninstallArguments),
}

fn providers_help() -> String {
    let names: Vec<_> = ProviderKind::ALL.into_iter().map(ProviderKind::flag).collect();
    format!("The providers to serve, comma-separated: {} [default: all]", names.join(", "))
}

/// In which form a check says what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// For machines: one document, described in `src/docs/guide/platform/ci-check.md`.
    Json,
}

/// The flags of a check.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArguments {
    /// Manifests: a file, a directory with all below it, or - for standard input. Repeat it for several
    #[arg(short = 'f', long, value_name = "FILE", required_unless_present = "from_cluster")]
    pub filename: Vec<PathBuf>,
    /// An environment variable with a token that stands in for the credential's Secret: of every connection whose Secret is
    /// not among the manifests, or of the one that is named. It is sent to the known clouds and to hosts in
    /// --allow-provider-hosts only, because whoever writes a manifest chooses its host. Comma-separated, or repeated
    #[arg(long, value_name = "[[NAMESPACE/]CONNECTION=]NAME", value_delimiter = ',')]
    pub token_env: Vec<String>,
    /// Read the cluster of KUBECONFIG: all its connections and bindings, or, with -f, what the manifests would change there.
    /// It is never written to
    #[arg(long)]
    pub from_cluster: bool,
    /// The installation's install key, so that its own hooks are recognised: 32 bytes, base64 of them, or the Secret
    /// forgebind-install-key as YAML. With --from-cluster it is read from there where that is allowed
    #[arg(long, value_name = "FILE")]
    pub install_key_file: Option<PathBuf>,
    /// Check the manifests alone: nothing is asked of any provider
    #[arg(long, conflicts_with = "from_cluster")]
    pub offline: bool,
    /// End with 1 when anything would be done at a provider, although everything would become Ready: for a repository whose
    /// hooks are to be as they are, such as one that only observes
    #[arg(long, conflicts_with = "offline")]
    pub fail_on_plan: bool,
    /// The namespace of manifests that name none
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub default_namespace: String,
    /// The form of the result
    #[arg(short = 'o', long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
    /// What describes the installation.
    #[command(flatten)]
    pub installation: InstallationArguments,
}

const CHECK_EXAMPLES: &str = "Examples:
  forgebind check -f clusters/production --offline
  forgebind check -f . --token-env GIT_TOKEN --public-url https://hooks.acme.io
  kustomize build overlays/test | forgebind check -f - --token-env platform/acme=ACME_TOKEN -o json
  forgebind check --from-cluster --watch-namespaces team-shop";

/// The token in the environment variable with this name; `None` if it is not set, empty or not UTF-8. Trims white space, as for a
/// token in a Secret.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn secret_of_environment(name: &str) -> Option<SecretString> {
    let value = std::env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.into())
}

/// Whether the environment asks for no colours: `NO_COLOR` is set, or the terminal is dumb.
#[must_use]
pub fn colours_are_unwelcome() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The flags that describe an installation: those of its servers, and of a check that is to say what they would say. Every
/// one is also an environment variable.
#[derive(Clone, Debug, Args)]
pub struct InstallationArguments {
    /// Where providers reach the receiver, such as <https://hooks.acme.io>. Where not all of them reach the same address, several
    /// with names, comma-separated, such as `https://hooks.acme.io,internal=https://hooks.acme.corp`: a connection chooses one by
    /// spec.receiver.publicURL, and the one without a name, if any, is for those that choose none
    #[arg(long, env = "FORGEBIND_PUBLIC_URL", value_name = "[NAME=]URL", value_delimiter = ',')]
    pub public_url: Vec<String>,
    /// Where providers reached the receiver before, by whatever name: hooks there are ours too, and are moved to where their
    /// connection wants them now. Comma-separated, without names
    #[arg(long, env = "FORGEBIND_FORMER_PUBLIC_URLS", value_name = "URLS", value_delimiter = ',')]
    pub former_public_urls: Vec<String>,
    /// The operator's own namespace [default: that of the service account, else forgebind-system]
    #[arg(long, env = "FORGEBIND_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// The namespaces to watch, comma-separated [default: all]
    #[arg(long, env = "FORGEBIND_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    #[arg(long, env = "FORGEBIND_PROVIDERS", value_name = "NAMES", value_delimiter = ',', help = providers_help())]
    #[expect(missing_docs, reason = "its help is made from the list of providers")]
    pub providers: Vec<String>,
    /// Hosts that providers may have besides the known clouds: host, host:port or *.suffix, comma-separated [default: all]
    #[arg(long, env = "FORGEBIND_ALLOW_PROVIDER_HOSTS", value_name = "HOSTS", value_delimiter = ',')]
    pub allow_provider_hosts: Vec<String>,
    /// Hosts that the proxies of connections (proxySecretRef) may have, comma-separated: a proxy sees whatever the connection's
    /// own tls.caRef lets it decrypt [default: all; none where --allow-provider-hosts is set]
    #[arg(long, env = "FORGEBIND_ALLOW_PROXY_HOSTS", value_name = "HOSTS", value_delimiter = ',')]
    pub allow_proxy_hosts: Vec<String>,
    /// Hosts that http sinks may have, comma-separated [default: none]
    #[arg(long, env = "FORGEBIND_ALLOW_SINK_HOSTS", value_name = "HOSTS", value_delimiter = ',')]
    pub allow_sink_hosts: Vec<String>,
    /// Address ranges that are reached although they are loopback, link-local, metadata or the cluster's own,
    /// comma-separated
    #[arg(long, env = "FORGEBIND_ALLOW_CIDRS", value_name = "RANGES", value_delimiter = ',')]
    pub allow_cidrs: Vec<String>,
    /// Allow http to providers and sinks. For local development only
    #[arg(long, env = "FORGEBIND_ALLOW_INSECURE_HTTP")]
    pub allow_insecure_http: bool,
    /// Obey `HTTPS_PROXY` and its kin where a connection names no proxy
    #[arg(long, env = "FORGEBIND_USE_ENVIRONMENT_PROXY")]
    pub use_environment_proxy: bool,
    /// Addresses that stand in for name resolution, comma-separated, as in curl
    #[arg(long, env = "FORGEBIND_RESOLVE", value_name = "HOST:PORT=ADDRESS", value_delimiter = ',')]
    pub resolve: Vec<String>,
}

/// Trusted authorities have no flag: they are set by the environment variables that other programs also read.
const AUTHORITIES: &str = "Certificate authorities:
  Providers and sinks are trusted by the authorities of the system, in a container by those of its image. SSL_CERT_FILE
  and SSL_CERT_DIR name other places; several folders are separated by colons, so that
  SSL_CERT_DIR=/etc/ssl/certs:/etc/acme/ca adds to those of the system. A connection's tls.caRef replaces them for it.";

/// The flags of the servers. Every one is also an environment variable.
#[derive(Clone, Debug, Args)]
#[command(after_help = AUTHORITIES)]
pub struct ServerArguments {
    /// What describes the installation.
    #[command(flatten)]
    pub installation: InstallationArguments,
    /// Where the receiver listens; by default on every address, of IPv6 and of IPv4
    #[arg(long, env = "FORGEBIND_LISTEN", value_name = "ADDRESS", default_value = "[::]:8080")]
    pub listen: String,
    /// Where livez, readyz, metrics and evidence are served
    #[arg(long, env = "FORGEBIND_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "[::]:9090")]
    pub admin_listen: String,
    /// The namespaces whose Secrets and `ConfigMap`s may be read, comma-separated [default: those to watch]
    #[arg(long, env = "FORGEBIND_SECRET_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub secret_namespaces: Vec<String>,
    /// Plan everything, write nothing at a provider
    #[arg(long, env = "FORGEBIND_READ_ONLY")]
    pub read_only: bool,
    /// Whether replicas elect a leader. Without, only one replica may run
    #[arg(long, env = "FORGEBIND_LEADER_ELECTION", value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// How long a removal that cannot be done is tried [default: 1h without a credential, 24h without the provider]
    #[arg(long, env = "FORGEBIND_CLEANUP_TIMEOUT", value_name = "DURATION")]
    pub cleanup_timeout: Option<String>,
    /// The Secret with an install key of your own, which is then never made [default: forgebind-install-key, made where missing]
    #[arg(long, env = "FORGEBIND_INSTALL_KEY_SECRET", value_name = "NAME")]
    pub install_key_secret: Option<String>,
    /// Begin anew although the install key is lost: hooks made with it are left behind
    #[arg(long, env = "FORGEBIND_NEW_INSTALL_KEY")]
    pub new_install_key: bool,
    /// Where the controller finds the receivers: service/NAME, or admin URLs, comma-separated
    #[arg(
        long,
        env = "FORGEBIND_RECEIVERS",
        value_name = "RECEIVERS",
        value_delimiter = ',',
        default_value = "service/forgebind-receiver"
    )]
    pub receivers: Vec<String>,
    /// The form of log lines: text or json
    #[arg(long, env = "FORGEBIND_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// What is logged, such as info or forgebind=debug
    #[arg(long, env = "FORGEBIND_LOG_FILTER", value_name = "FILTER", default_value = crate::telemetry::logs::DEFAULT_FILTER)]
    pub log_filter: String,
    /// Name of this replica among others; the name of the pod in a cluster
    #[arg(long, env = "HOSTNAME", value_name = "NAME", hide = true)]
    pub replica: Option<String>,
}

/// The flags of `forgebind uninstall`. Those of the servers mean the same here.
#[derive(Clone, Debug, Args)]
pub struct UninstallArguments {
    /// What becomes of the webhooks: keep leaves them at the providers; delete deletes the bindings and waits for the
    /// controller, which must run, to remove them
    #[arg(long, env = "FORGEBIND_HOOKS", value_name = "keep|delete", default_value = "keep")]
    pub hooks: String,
    /// How long to try
    #[arg(long, env = "FORGEBIND_TIMEOUT", value_name = "DURATION", default_value = "4m")]
    pub timeout: String,
    /// The operator's own namespace [default: that of the service account, else forgebind-system]
    #[arg(long, env = "FORGEBIND_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// The namespaces that were watched, comma-separated [default: all]
    #[arg(long, env = "FORGEBIND_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The Secret with the install key [default: forgebind-install-key]
    #[arg(long, env = "FORGEBIND_INSTALL_KEY_SECRET", value_name = "NAME")]
    pub install_key_secret: Option<String>,
}
