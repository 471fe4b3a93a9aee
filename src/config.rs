//! Validates the arguments of the servers and of `forgebind uninstall`. Every error is one line that names the flag.

mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::api::v1alpha1::{Interval, ProviderKind};
use crate::cli::{InstallationArguments, ServerArguments, UninstallArguments};
use crate::network::NetworkPolicy;
use crate::network::public_urls::PublicUrls;
use crate::providers::registry;
use crate::telemetry::logs::LogFormat;
use values::{each, listener, namespaces, operator_namespace, parse, providers, public_url, public_urls, range, resolve, size};

pub use values::{ConfigError, items};

/// The settings of a server.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Config {
    /// The public endpoints, current and former.
    pub public_urls: PublicUrls,
    /// Listen address of the receiver.
    pub listen: SocketAddr,
    /// Listen address of the admin port.
    pub admin_listen: SocketAddr,
    /// Where deliveries wait that a sink has not accepted.
    pub outbox: Outbox,
    /// Whether a receiver that stops hands its outbox to another one.
    pub hand_over: bool,
    /// How long a receiver that stops may take.
    pub drain_timeout: Duration,
    /// The addresses of this pod.
    pub pod_ips: Vec<IpAddr>,
    /// The operator's own namespace.
    pub namespace: String,
    /// The namespaces to watch; empty for all.
    pub watch_namespaces: Vec<String>,
    /// The namespaces whose Secrets and `ConfigMap`s may be read; empty for the watched namespaces.
    pub secret_namespaces: Vec<String>,
    /// The providers to serve.
    pub providers: BTreeSet<ProviderKind>,
    /// Whether to write nothing at providers.
    pub read_only: bool,
    /// Whether replicas elect a leader.
    pub leader_election: bool,
    /// The hosts and addresses that may be reached.
    pub network: NetworkPolicy,
    /// Overrides how long a blocked cleanup is retried.
    pub cleanup_timeout: Option<Duration>,
    /// How long a webhook stays after no grant has allowed its binding any more.
    pub missing_grant_timeout: Duration,
    /// Name of a Secret with an install key that the administrator provides.
    pub install_key_secret: Option<String>,
    /// Whether to start with a new install key although the old one is lost.
    pub new_install_key: bool,
    /// Where to find the receivers.
    pub receivers: Receivers,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Log filter.
    pub log_filter: String,
    /// Name of this replica.
    pub replica: String,
}

/// The settings that describe an installation, for its servers and for a check that predicts their behaviour.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The public endpoints, current and former.
    pub public_urls: PublicUrls,
    /// The operator's own namespace.
    pub namespace: String,
    /// The namespaces to watch; empty for all.
    pub watch_namespaces: Vec<String>,
    /// The providers to serve.
    pub providers: BTreeSet<ProviderKind>,
    /// The hosts and addresses that may be reached.
    pub network: NetworkPolicy,
}

impl TryFrom<InstallationArguments> for Installation {
    type Error = ConfigError;

    fn try_from(arguments: InstallationArguments) -> Result<Self, ConfigError> {
        let insecure = arguments.allow_insecure_http;
        Ok(Self {
            public_urls: PublicUrls {
                former: each("former-public-urls", &arguments.former_public_urls, |flag, url| public_url(flag, url, true))?,
                ..public_urls(&arguments.public_url, insecure)?
            },
            namespace: operator_namespace(arguments.namespace)?,
            watch_namespaces: namespaces("watch-namespaces", &arguments.watch_namespaces)?,
            providers: providers(&arguments.providers)?,
            network: NetworkPolicy {
                cloud_hosts: registry::cloud_hosts(),
                provider_hosts: each("allow-provider-hosts", &arguments.allow_provider_hosts, parse)?,
                proxy_hosts: each("allow-proxy-hosts", &arguments.allow_proxy_hosts, parse)?,
                sink_hosts: each("allow-sink-hosts", &arguments.allow_sink_hosts, parse)?,
                allow_cidrs: each("allow-cidrs", &arguments.allow_cidrs, range)?,
                insecure_http: insecure,
                environment_proxy: arguments.use_environment_proxy,
                resolve: each("resolve", &arguments.resolve, resolve)?.into_iter().collect::<BTreeMap<_, _>>(),
                cluster: crate::network::ClusterNetworks::default(),
            },
        })
    }
}

/// Where deliveries wait that a sink has not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbox {
    /// In the memory of the receiver.
    Memory,
    /// In a directory.
    Disk {
        /// The directory.
        directory: PathBuf,
        /// Maximum room in bytes.
        limit: u64,
    },
}

/// How the controller finds the receivers, and a receiver the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receivers {
    /// Behind this Service in the operator's namespace.
    Service(String),
    /// At these admin URLs.
    Urls(Vec<Url>),
}

impl TryFrom<ServerArguments> for Config {
    type Error = ConfigError;

    fn try_from(arguments: ServerArguments) -> Result<Self, ConfigError> {
        let admin_listen = listener("admin-listen", &arguments.admin_listen)?;
        let Installation { public_urls, namespace, watch_namespaces, providers, network } = arguments.installation.try_into()?;
        Ok(Self {
            public_urls,
            listen: listener("listen", &arguments.listen)?,
            admin_listen,
            outbox: outbox(&arguments.outbox, arguments.outbox_dir, &arguments.outbox_limit)?,
            hand_over: arguments.hand_over,
            drain_timeout: parse::<Interval>("drain-timeout", &arguments.drain_timeout)?.length(),
            pod_ips: each("pod-ips", &arguments.pod_ips, parse)?,
            namespace,
            watch_namespaces,
            secret_namespaces: namespaces("secret-namespaces", &arguments.secret_namespaces)?,
            providers,
            read_only: arguments.read_only,
            leader_election: arguments.leader_election,
            network,
            cleanup_timeout: arguments
                .cleanup_timeout
                .as_deref()
                .map(|text| parse::<Interval>("cleanup-timeout", text))
                .transpose()?
                .map(|interval| interval.length()),
            missing_grant_timeout: parse::<Interval>("missing-grant-timeout", &arguments.missing_grant_timeout)?.length(),
            install_key_secret: arguments.install_key_secret.filter(|name| !name.is_empty()),
            new_install_key: arguments.new_install_key,
            receivers: receivers(&arguments.receivers)?,
            log_format: log_format(&arguments.log_format)?,
            log_filter: arguments.log_filter,
            replica: format!("{}_{}", arguments.replica.unwrap_or_else(|| "forgebind".to_owned()), admin_listen.port()),
        })
    }
}

/// What to do with webhooks on uninstall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HooksOnUninstall {
    /// They stay at the providers.
    Keep,
    /// They are deleted with their bindings.
    Delete,
}

/// The settings of `forgebind uninstall`.
#[derive(Clone, Debug)]
pub struct UninstallConfig {
    /// What to do with the webhooks.
    pub hooks: HooksOnUninstall,
    /// How long to try.
    pub timeout: Duration,
    /// The operator's own namespace.
    pub namespace: String,
    /// The namespaces that were watched; empty for all.
    pub watch_namespaces: Vec<String>,
    /// Name of a Secret with an install key that the administrator provides.
    pub install_key_secret: Option<String>,
}

impl TryFrom<UninstallArguments> for UninstallConfig {
    type Error = ConfigError;

    fn try_from(arguments: UninstallArguments) -> Result<Self, ConfigError> {
        Ok(Self {
            hooks: match arguments.hooks.as_str() {
                "keep" => HooksOnUninstall::Keep,
                "delete" => HooksOnUninstall::Delete,
                other => return Err(ConfigError::new("hooks", format!("{other:?} is neither keep nor delete"))),
            },
            timeout: parse::<Interval>("timeout", &arguments.timeout)?.length(),
            namespace: operator_namespace(arguments.namespace)?,
            watch_namespaces: namespaces("watch-namespaces", &arguments.watch_namespaces)?,
            install_key_secret: arguments.install_key_secret.filter(|name| !name.is_empty()),
        })
    }
}

fn receivers(texts: &[String]) -> Result<Receivers, ConfigError> {
    let flag = "receivers";
    match items(flag, texts)?.as_slice() {
        [] => Err(ConfigError::new(flag, "is empty; set service/NAME or a list of admin URLs")),
        [service] if service.starts_with("service/") => match service.trim_start_matches("service/") {
            "" => Err(ConfigError::new(flag, "\"service/\" has no Service name; write service/NAME")),
            name => Ok(Receivers::Service(name.to_owned())),
        },
        _ => Ok(Receivers::Urls(each(flag, texts, parse)?)),
    }
}

/// The least room of an outbox: that of one binding.
const LEAST_OUTBOX: u64 = 64 << 20;

fn outbox(kind: &str, directory: PathBuf, limit: &str) -> Result<Outbox, ConfigError> {
    let limit = size("outbox-limit", limit)?;
    if limit < LEAST_OUTBOX {
        return Err(ConfigError::new("outbox-limit", "is less than 64Mi, which is the room of one binding"));
    }
    match kind.trim() {
        "memory" => Ok(Outbox::Memory),
        "disk" => Ok(Outbox::Disk { directory, limit }),
        other => Err(ConfigError::new("outbox", format!("{other:?} is neither memory nor disk"))),
    }
}

fn log_format(text: &str) -> Result<LogFormat, ConfigError> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(ConfigError::new("log-format", format!("{other:?} is neither text nor json"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        let arguments = ["forgebind", "run"].iter().chain(flags);
        let Command::Run(arguments) = Cli::try_parse_from(arguments).unwrap().command else { panic!("run") };
        arguments.try_into()
    }

    #[test]
    fn defaults_serve_everything() {
        let config = config(&[]).unwrap();
        assert_eq!(config.providers.len(), 6);
        assert!(config.watch_namespaces.is_empty() && config.leader_election && !config.read_only);
        assert_eq!(config.receivers, Receivers::Service("forgebind-receiver".to_owned()));
    }

    #[test]
    fn a_bad_value_is_one_line_that_names_the_flag() {
        for (flag, value) in [
            ("public-url", "hooks.acme.io"),
            ("public-url", "http://hooks.acme.io"),
            ("public-url", "https://hooks.acme.io?x=y"),
            ("public-url", "https://hooks.acme.io,https://hooks.acme.corp"),
            ("public-url", "internal=https://a.acme.io,internal=https://b.acme.io"),
            ("public-url", "internal=http://hooks.acme.corp"),
            ("public-url", "internal=hooks.acme.corp"),
            ("public-url", "internal="),
            ("public-url", "Internal=https://hooks.acme.corp"),
            ("public-url", "=https://hooks.acme.corp"),
            ("public-url", "default=https://hooks.acme.corp"),
            ("former-public-urls", "internal=https://hooks.acme.corp"),
            ("listen", "8080"),
            ("admin-listen", "nowhere"),
            ("providers", "gitea,sourceforge"),
            ("allow-provider-hosts", "https://acme.io"),
            ("allow-proxy-hosts", "http://proxy.acme.io:3128"),
            ("allow-sink-hosts", "https://acme.io"),
            ("allow-cidrs", "10.0.0.0/99"),
            ("cleanup-timeout", "soon"),
            ("missing-grant-timeout", "soon"),
            ("outbox", "tape"),
            ("drain-timeout", "60"),
            ("pod-ips", "here"),
            ("outbox-limit", "much"),
            ("outbox-limit", "1G"),
            ("outbox-limit", "99999999999Gi"),
            ("outbox-limit", "1Mi"),
            ("resolve", "git.acme.io=10.0.0.1"),
            ("receivers", "nowhere"),
            ("receivers", "service/"),
            ("receivers", ""),
            ("watch-namespaces", "Team_A"),
            ("secret-namespaces", "team a"),
            ("log-format", "xml"),
        ] {
            let error = config(&[&format!("--{flag}={value}")]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{flag}: ")) && error.lines().count() == 1, "{flag}={value}: {error}");
        }
    }

    #[test]
    fn an_outbox_is_in_memory_unless_it_has_a_disk() {
        assert_eq!(config(&[]).unwrap().outbox, Outbox::Memory);
        let disk = config(&["--outbox=disk", "--outbox-dir=/data", "--outbox-limit=512Mi"]).unwrap().outbox;
        assert_eq!(disk, Outbox::Disk { directory: "/data".into(), limit: 512 << 20 });
    }

    #[test]
    fn public_urls_have_names_but_for_the_default() {
        let urls =
            |value: &str| config(&[&format!("--public-url={value}"), "--former-public-urls=https://old.acme.io"]).unwrap().public_urls;
        let url = |text: &str| -> Url { text.parse().unwrap() };
        let both = urls("internal=https://hooks.acme.corp/git, https://hooks.acme.io/a=b");
        assert_eq!(both.default, Some(url("https://hooks.acme.io/a=b")), "an equals sign of its own makes no name");
        assert_eq!(both.named, BTreeMap::from([("internal".to_owned(), url("https://hooks.acme.corp/git"))]));
        assert_eq!(both.former, [url("https://old.acme.io")]);
        assert_eq!(urls("internal=https://hooks.acme.corp").default, None, "one name alone is no default");
        // Two names for one URL, as during the replacement of a name.
        assert_eq!(urls("a=https://hooks.acme.io,b=https://hooks.acme.io").named.len(), 2);
        assert_eq!(config(&["--public-url="]).unwrap().public_urls, PublicUrls::default());
    }

    #[test]
    fn an_uninstall_keeps_hooks_unless_told_otherwise() {
        let uninstall = |flags: &[&str]| -> Result<UninstallConfig, ConfigError> {
            let arguments = ["forgebind", "uninstall"].iter().chain(flags);
            let Command::Uninstall(arguments) = Cli::try_parse_from(arguments).unwrap().command else { panic!("uninstall") };
            arguments.try_into()
        };
        assert_eq!(uninstall(&[]).unwrap().hooks, HooksOnUninstall::Keep);
        assert_eq!(uninstall(&["--hooks=delete"]).unwrap().hooks, HooksOnUninstall::Delete);
        for (flag, value) in [("hooks", "all"), ("timeout", "soon")] {
            assert!(uninstall(&[&format!("--{flag}={value}")]).unwrap_err().to_string().starts_with(&format!("--{flag}: ")));
        }
    }

    #[test]
    fn lists_are_comma_separated() {
        let config =
            config(&["--watch-namespaces=a,b", "--providers=gitea,github", "--leader-election=false", "--resolve=a.b.svc:80=127.0.0.1"])
                .unwrap();
        assert_eq!(config.watch_namespaces, ["a", "b"]);
        assert_eq!(config.providers.len(), 2);
        assert!(!config.leader_election);
        assert_eq!(config.network.resolve.len(), 1);
    }
}
