//! The network rules of the installation: which hosts and addresses may be reached.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use url::{Host, Url};

use super::address::{self, ClusterNetworks};
use super::host::HostPattern;

/// The network rules of the installation.
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicy {
    /// The hosts of the known clouds, which are always allowed on the default port of the scheme.
    pub cloud_hosts: Vec<HostPattern>,
    /// Hosts allowed for providers in addition to the known clouds; empty allows all.
    pub provider_hosts: Vec<HostPattern>,
    /// Hosts allowed for the proxies of connections. Empty allows all if `provider_hosts` is empty as well, and none otherwise: a
    /// proxy sees what its connection's own certificate authorities let it decrypt, so it is another way to reach any host.
    pub proxy_hosts: Vec<HostPattern>,
    /// Hosts allowed for `http` sinks; empty allows none.
    pub sink_hosts: Vec<HostPattern>,
    /// Address ranges allowed although they are loopback, link-local, metadata or the cluster's own.
    pub allow_cidrs: Vec<IpNet>,
    /// Whether http is allowed at all, except for `service` sinks, which may always use it.
    pub insecure_http: bool,
    /// Whether `HTTPS_PROXY` and related variables apply to connections without a proxy of their own.
    pub environment_proxy: bool,
    /// Addresses that override name resolution, by lower-case host and port. They are checked like any other. The port is not
    /// known when a name is resolved: entries for several ports of one host should agree.
    pub resolve: BTreeMap<(String, u16), IpAddr>,
    /// The cluster's own addresses. Shared by all clones, because they become known at run time.
    pub cluster: ClusterNetworks,
}

/// The purpose of a connection, which determines its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To a Git provider, with a credential.
    Provider,
    /// To an `http` sink.
    HttpSink,
    /// To a public URL of the receiver, without any secret. The administrator chooses it, so every address is allowed.
    PublicEndpoint,
    /// To a `service` sink, at the address of a Service that was judged: the cluster's own addresses are allowed, except those of
    /// its API servers.
    ServiceSink,
}

/// Why an address may not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The host is not allowed. Names the flag that would allow it.
    #[error("host {host} is not allowed; add it to {flag}")]
    Host {
        /// The host.
        host: String,
        /// The flag that would allow it.
        flag: &'static str,
    },
    /// The address is not allowed.
    #[error("{host} has the address {address}, which is not allowed; add its range to --allow-cidrs")]
    Address {
        /// The host.
        host: String,
        /// The address.
        address: IpAddr,
    },
    /// The URL uses http.
    #[error("the URL of {host} uses http; use https, or set --allow-insecure-http for local development")]
    InsecureHttp {
        /// The host.
        host: String,
    },
    /// The URL uses neither http nor https.
    #[error("URLs with {scheme} are not supported; use https")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The URL contains a user name or a password.
    #[error("the URL of {host} contains a user name; remove it and put the credential into a Secret")]
    UserInfo {
        /// The host.
        host: String,
    },
}

impl Refusal {
    /// Whether the scheme is refused, as opposed to the host or address.
    #[must_use]
    pub const fn is_insecure(&self) -> bool {
        matches!(self, Self::InsecureHttp { .. } | Self::Scheme { .. })
    }
}

impl NetworkPolicy {
    /// Checks a URL before anything is sent to it. The addresses of a name are checked again when connecting.
    ///
    /// # Errors
    /// The refusal, with the flag that would allow the URL.
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

    /// Whether the installation lists the host of a URL as a provider's.
    #[must_use]
    pub fn is_listed(&self, url: &Url) -> bool {
        self.provider_hosts.iter().any(|pattern| pattern.matches(url))
    }

    /// Whether a URL leads to one of the known clouds or to a listed host. An empty list contains no host.
    #[must_use]
    pub fn is_cloud_or_listed(&self, url: &Url) -> bool {
        let is_cloud = url.port().is_none() && self.cloud_hosts.iter().any(|pattern| pattern.matches(url));
        is_cloud || self.is_listed(url)
    }

    /// Checks the proxy of a connection. The addresses of its name are checked again when connecting.
    ///
    /// # Errors
    /// The refusal, with the flag that would allow the proxy.
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
            Purpose::ServiceSink | Purpose::PublicEndpoint => (true, ""),
        };
        if allowed { Ok(()) } else { Err(Refusal::Host { host: url.host_str().unwrap_or_default().to_owned(), flag }) }
    }

    /// Checks names with a well-known address. Connecting would also check them, but not through a proxy.
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

    /// Checks an address of a host.
    ///
    /// # Errors
    /// The address is loopback, unspecified, link-local, multicast, that of a metadata service, or the cluster's own, and not in
    /// `allow_cidrs`.
    pub fn check_address(&self, purpose: Purpose, host: &str, address: IpAddr) -> Result<(), Refusal> {
        let meant = address::unwrap_embedded(address);
        if purpose == Purpose::PublicEndpoint {
            return Ok(());
        }
        if self.allow_cidrs.iter().any(|network| network.contains(&address) || network.contains(&meant)) {
            return Ok(());
        }
        let own = match purpose {
            Purpose::ServiceSink => self.cluster.is_api_server(meant),
            Purpose::Provider | Purpose::HttpSink | Purpose::PublicEndpoint => self.cluster.contains(meant),
        };
        if own || address::is_special(meant) { Err(Refusal::Address { host: host.to_owned(), address: meant }) } else { Ok(()) }
    }

    /// The addresses that override name resolution for a host, given in lower case without a trailing dot.
    #[must_use]
    pub fn overrides(&self, host: &str) -> Vec<IpAddr> {
        let mut addresses: Vec<_> = self.resolve.iter().filter(|((name, _), _)| name == host).map(|(_, address)| *address).collect();
        addresses.dedup();
        addresses
    }
}
