//! Validates the arguments of the servers and of `forgebind uninstall`. Every error is one line that names the flag.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::api::v1alpha1::{Interval, ProviderKind};
use crate::cli::{InstallationArguments, ServerArguments, UninstallArguments};
use crate::network::NetworkPolicy;
use crate::network::public_urls::{PublicUrls, is_name};
use crate::providers::registry;
use crate::telemetry::logs::LogFormat;

/// The file in which a pod finds its own namespace.
const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const DEFAULT_NAMESPACE: &str = "forgebind-system";

/// The error for an invalid setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {problem}")]
pub struct ConfigError {
    flag: &'static str,
    problem: String,
}

impl ConfigError {
    /// An error about the value of a flag, whose name is given without its dashes.
    #[must_use]
    pub fn new(flag: &'static str, problem: impl Display) -> Self {
        Self { flag, problem: problem.to_string() }
    }
}

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

/// The items of a list flag, without surrounding white space. A list with a single empty item, such as from an empty
/// environment variable, has no items.
///
/// # Errors
/// An empty item among others.
pub fn items<'a>(flag: &'static str, texts: &'a [String]) -> Result<Vec<&'a str>, ConfigError> {
    let items: Vec<&str> = texts.iter().map(|text| text.trim()).collect();
    match items.as_slice() {
        [""] => Ok(Vec::new()),
        all if all.contains(&"") => Err(ConfigError::new(flag, format!("{:?} has an empty item; remove the extra comma", texts.join(",")))),
        _ => Ok(items),
    }
}

fn namespaces(flag: &'static str, texts: &[String]) -> Result<Vec<String>, ConfigError> {
    each(flag, texts, namespace)
}

fn namespace(flag: &'static str, name: &str) -> Result<String, ConfigError> {
    let name = name.trim();
    if is_dns_label(name) {
        return Ok(name.to_owned());
    }
    Err(ConfigError::new(flag, format!("{name:?} is not a namespace name; use at most 63 lower-case letters, digits and dashes")))
}

fn operator_namespace(name: Option<String>) -> Result<String, ConfigError> {
    match name.filter(|name| !name.trim().is_empty()) {
        Some(name) => namespace("namespace", &name),
        None => Ok(own_namespace()),
    }
}

fn parse<T: FromStr<Err: Display>>(flag: &'static str, text: &str) -> Result<T, ConfigError> {
    text.trim().parse().map_err(|error: T::Err| ConfigError::new(flag, format!("{text:?}: {error}")))
}

fn listener(flag: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let form = || ConfigError::new(flag, format!("{text:?} is not an address with a port, such as 0.0.0.0:8080 or [::]:8080"));
    text.trim().parse().map_err(|_| form())
}

fn each<T>(
    flag: &'static str,
    texts: &[String],
    read: impl Fn(&'static str, &str) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    items(flag, texts)?.into_iter().map(|text| read(flag, text)).collect()
}

/// The entries of `--public-url`: each a URL, or a name and a URL.
fn public_urls(entries: &[String], insecure: bool) -> Result<PublicUrls, ConfigError> {
    let flag = "public-url";
    let refused = |problem: String| ConfigError::new(flag, problem);
    let mut urls = PublicUrls::default();
    for entry in items(flag, entries)? {
        // A URL has a colon or slash before any equals sign that belongs to it.
        let named = entry.split_once('=').filter(|(name, _)| !name.contains([':', '/']));
        let url = public_url(flag, named.map_or(entry, |(_, url)| url), insecure)?;
        match named {
            Some((name, _)) if !is_name(name.trim()) => {
                let rule = "use at most 63 lower-case letters, digits and dashes; default is reserved for the URL without a name";
                return Err(refused(format!("{name:?} is not a valid name for a URL; {rule}")));
            }
            Some((name, _)) => {
                if urls.named.insert(name.trim().to_owned(), url).is_some() {
                    return Err(refused(format!("the name {} is used twice; give each URL its own name", name.trim())));
                }
            }
            None => {
                if let Some(first) = urls.default.replace(url) {
                    return Err(refused(format!(
                        "{:?} and {entry:?} both have no name; give all but one a name, such as internal={entry}",
                        first.as_str()
                    )));
                }
            }
        }
    }
    Ok(urls)
}

fn public_url(flag: &'static str, text: &str, insecure: bool) -> Result<Url, ConfigError> {
    let url: Url = parse(flag, text)?;
    let problem = match url.scheme() {
        "https" => None,
        "http" if insecure => None,
        "http" => Some("uses http; use https, or set --allow-insecure-http for local development"),
        _ => Some("is neither https nor http"),
    };
    let problem = problem.or_else(|| (!url.username().is_empty() || url.password().is_some()).then_some("contains a user name; remove it"));
    let problem =
        problem.or_else(|| (url.query().is_some() || url.fragment().is_some()).then_some("contains a query or a fragment; remove it"));
    problem.map_or(Ok(url), |problem| Err(ConfigError::new(flag, format!("{text:?} {problem}"))))
}

fn is_dns_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (first, last) = (name.bytes().next(), name.bytes().next_back());
    name.len() <= 63 && first.is_some_and(plain) && last.is_some_and(plain) && name.bytes().all(|byte| plain(byte) || byte == b'-')
}

fn range(flag: &'static str, text: &str) -> Result<IpNet, ConfigError> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| ConfigError::new(flag, format!("{text:?} is not an address range such as 10.0.0.0/8")))
}

fn resolve(flag: &'static str, text: &str) -> Result<((String, u16), IpAddr), ConfigError> {
    let refused = || ConfigError::new(flag, format!("{text:?} is not HOST:PORT=ADDRESS, such as git.acme.io:443=10.1.2.3"));
    let (name, address) = text.split_once('=').ok_or_else(refused)?;
    let (host, port) = name.rsplit_once(':').ok_or_else(refused)?;
    let address = address.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| refused())?;
    Ok(((host.to_lowercase(), port.parse().map_err(|_| refused())?), address))
}

fn providers(names: &[String]) -> Result<BTreeSet<ProviderKind>, ConfigError> {
    let known = |name: &str| ProviderKind::ALL.into_iter().find(|kind| kind.flag() == name);
    let chosen = each("providers", names, |flag, name| {
        known(name).ok_or_else(|| {
            let all: Vec<_> = ProviderKind::ALL.into_iter().map(ProviderKind::flag).collect();
            ConfigError::new(flag, format!("{name:?} is not a provider; use {}", all.join(", ")))
        })
    })?;
    Ok(if chosen.is_empty() { ProviderKind::ALL.into_iter().collect() } else { chosen.into_iter().collect() })
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

/// A number of bytes, as Kubernetes writes quantities.
fn size(flag: &'static str, text: &str) -> Result<u64, ConfigError> {
    let text = text.trim();
    let suffixes = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let found = suffixes.into_iter().find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, shift)));
    let (number, shift) = found.unwrap_or((text, 0));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| ConfigError::new(flag, format!("{text:?} is not a size, such as 512Mi or 2Gi")))
}

fn log_format(text: &str) -> Result<LogFormat, ConfigError> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(ConfigError::new("log-format", format!("{other:?} is neither text nor json"))),
    }
}

fn own_namespace() -> String {
    let of_pod = std::fs::read_to_string(Path::new(SERVICE_ACCOUNT_NAMESPACE)).ok();
    of_pod.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
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
