//! Which hosts and addresses may be reached: URLs are judged before anything is sent, names again by their addresses when
//! connecting, so that a name cannot lead where its URL would not have been allowed to.

mod address;
mod host;
pub mod listen;
pub mod public_urls;
mod resolver;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

pub use address::ClusterNetworks;
pub use host::{HostPattern, HostPatternError};

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that a server may send ahead on a stream of HTTP/2.
const WINDOW: u32 = 256 * 1024;

/// What the installation allows.
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicy {
    /// Hosts that providers may have besides the known clouds; empty allows all.
    pub provider_hosts: Vec<HostPattern>,
    /// Hosts that the proxies of connections may have. Empty allows all where `provider_hosts` does, and none where it does not: a
    /// proxy sees what its connection's own certificate authorities let it decrypt, so that it is another way to any host.
    pub proxy_hosts: Vec<HostPattern>,
    /// Hosts that `http` sinks may have; empty allows none.
    pub sink_hosts: Vec<HostPattern>,
    /// Addresses that are reached although they are loopback, link-local, metadata or the cluster's own.
    pub allow_cidrs: Vec<IpNet>,
    /// Whether http is allowed at all, other than to `service` sinks.
    pub insecure_http: bool,
    /// Whether `HTTPS_PROXY` and its kin are obeyed where a connection names no proxy of its own.
    pub environment_proxy: bool,
    /// Addresses that stand in for name resolution, by lower-case host and port. They are vetted like any other. The
    /// port is not known when a name is resolved: entries for several ports of one host should agree.
    pub resolve: BTreeMap<(String, u16), IpAddr>,
    /// The cluster's own addresses. Shared by all clones, because they become known at run time.
    pub cluster: ClusterNetworks,
}

/// Whose connection it is: the rules differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To a Git provider, with a credential.
    Provider,
    /// To an `http` sink.
    HttpSink,
    /// To a `service` sink: its own namespace only, so cluster addresses are right.
    ServiceSink,
}

/// Why an address is not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The host is not allowed; names the flag that would.
    #[error("host {host} is not allowed; {flag} would allow it")]
    Host {
        /// The host.
        host: String,
        /// The flag.
        flag: &'static str,
    },
    /// The address is not allowed.
    #[error("{host} has the address {address}, which is not allowed; --allow-cidrs would allow it")]
    Address {
        /// The host.
        host: String,
        /// The address.
        address: IpAddr,
    },
    /// The address is http.
    #[error("{host} is addressed with http; use https, or --allow-insecure-http for local development")]
    InsecureHttp {
        /// The host.
        host: String,
    },
    /// The address is neither http nor https.
    #[error("{scheme} is not served; use https")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The address holds a user name or a password.
    #[error("the address of {host} holds a user name; a Secret is the place for it")]
    UserInfo {
        /// The host.
        host: String,
    },
}

impl Refusal {
    /// Whether it is about http rather than about where.
    #[must_use]
    pub const fn is_insecure(&self) -> bool {
        matches!(self, Self::InsecureHttp { .. } | Self::Scheme { .. })
    }
}

impl NetworkPolicy {
    /// Judges a URL before anything is sent to it. Names are judged again by their addresses when connecting.
    ///
    /// # Errors
    /// What is not allowed and the flag that would allow it.
    pub fn check(&self, purpose: Purpose, url: &Url) -> Result<(), Refusal> {
        let host = url.host_str().unwrap_or_default().to_owned();
        match url.scheme() {
            "https" => {}
            "http" if self.insecure_http || purpose == Purpose::ServiceSink => {}
            "http" => return Err(Refusal::InsecureHttp { host }),
            scheme => return Err(Refusal::Scheme { scheme: scheme.to_owned() }),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo { host });
        }
        self.check_host(purpose, url)?;
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_address(purpose, &host, address.into()),
            Some(Host::Ipv6(address)) => self.check_address(purpose, &host, address.into()),
            Some(Host::Domain(name)) => self.check_name(purpose, name),
            None => Err(Refusal::Host { host, flag: "no flag" }),
        }
    }

    /// Whether the installation names the host of a URL as one of a provider.
    #[must_use]
    pub fn is_listed(&self, url: &Url) -> bool {
        self.provider_hosts.iter().any(|pattern| pattern.matches(url))
    }

    /// Whether a URL leads to one of the known clouds or to a host that the installation names, which an empty list does not.
    #[must_use]
    pub fn is_cloud_or_listed(&self, url: &Url) -> bool {
        host::is_known_cloud(url) || self.is_listed(url)
    }

    /// Judges the proxy that a connection names. Its name is judged again by its addresses when connecting.
    ///
    /// # Errors
    /// What is not allowed and the flag that would allow it.
    pub fn check_proxy(&self, proxy: &Url) -> Result<(), Refusal> {
        let host = proxy.host_str().unwrap_or_default();
        let any = self.provider_hosts.is_empty() && self.proxy_hosts.is_empty();
        if !any && !self.proxy_hosts.iter().any(|pattern| pattern.matches(proxy)) {
            return Err(Refusal::Host { host: host.to_owned(), flag: "--allow-proxy-hosts" });
        }
        match proxy.host() {
            Some(Host::Ipv4(address)) => self.check_address(Purpose::Provider, host, address.into()),
            Some(Host::Ipv6(address)) => self.check_address(Purpose::Provider, host, address.into()),
            Some(Host::Domain(name)) => self.check_name(Purpose::Provider, name),
            None => Err(Refusal::Host { host: host.to_owned(), flag: "no flag" }),
        }
    }

    fn check_host(&self, purpose: Purpose, url: &Url) -> Result<(), Refusal> {
        let (allowed, flag) = match purpose {
            Purpose::Provider => (self.provider_hosts.is_empty() || self.is_cloud_or_listed(url), "--allow-provider-hosts"),
            Purpose::HttpSink => (self.sink_hosts.iter().any(|pattern| pattern.matches(url)), "--allow-sink-hosts"),
            Purpose::ServiceSink => (true, ""),
        };
        if allowed { Ok(()) } else { Err(Refusal::Host { host: url.host_str().unwrap_or_default().to_owned(), flag }) }
    }

    /// Names whose address everybody knows. Connecting would find out too, but not through a proxy.
    fn check_name(&self, purpose: Purpose, name: &str) -> Result<(), Refusal> {
        let host = name.trim_end_matches('.').to_lowercase();
        if !self.overrides(&host).is_empty() {
            return Ok(());
        }
        let address = match host.as_str() {
            "localhost" => Ipv4Addr::LOCALHOST,
            "metadata.google.internal" | "metadata.goog" | "instance-data" | "instance-data.ec2.internal" => {
                Ipv4Addr::new(169, 254, 169, 254)
            }
            _ if host.ends_with(".localhost") => Ipv4Addr::LOCALHOST,
            _ => return Ok(()),
        };
        self.check_address(purpose, name, address.into())
    }

    /// Judges an address that a host has.
    ///
    /// # Errors
    /// When it is loopback, unspecified, link-local, multicast, a metadata service, or the cluster's own, and
    /// `allow_cidrs` does not name it.
    pub fn check_address(&self, purpose: Purpose, host: &str, address: IpAddr) -> Result<(), Refusal> {
        let meant = address::unwrap_embedded(address);
        if self.allow_cidrs.iter().any(|network| network.contains(&address) || network.contains(&meant)) {
            return Ok(());
        }
        let own = purpose != Purpose::ServiceSink && self.cluster.contains(meant);
        if own || address::is_special(meant) { Err(Refusal::Address { host: host.to_owned(), address: meant }) } else { Ok(()) }
    }

    /// The addresses that stand in for a host's own, which is in lower case without a dot at its end.
    fn overrides(&self, host: &str) -> Vec<IpAddr> {
        let mut addresses: Vec<_> = self.resolve.iter().filter(|((name, _), _)| name == host).map(|(_, address)| *address).collect();
        addresses.dedup();
        addresses
    }

    /// A client builder that follows no redirect, obeys no ambient proxy unless the installation wants it, and connects to
    /// vetted addresses only. An address in a URL is not resolved: judge each URL with [`check`](Self::check) first.
    pub fn client_builder(self: &Arc<Self>, purpose: Purpose) -> reqwest::ClientBuilder {
        // Fails only where one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("forgebind/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            // What HTTP/2 lets a server send ahead of its being read counts in nobody's budget.
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(2 * WINDOW)
            .dns_resolver(resolver::VettedResolver::new(Arc::clone(self), purpose));
        if self.environment_proxy && purpose != Purpose::ServiceSink { builder } else { builder.no_proxy() }
    }
}
