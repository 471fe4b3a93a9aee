//! Which hosts and addresses may be reached, vetted when connecting.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use url::Url;

/// What the installation allows.
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicy {
    /// Hosts that providers may have besides the known clouds; empty allows all.
    pub provider_hosts: Vec<HostPattern>,
    /// Hosts that `http` sinks may have; empty allows none.
    pub sink_hosts: Vec<HostPattern>,
    /// Whether http is allowed at all, other than to `service` sinks.
    pub insecure_http: bool,
    /// Addresses that stand in for name resolution.
    pub resolve: BTreeMap<(String, u16), IpAddr>,
}

/// `host`, `host:port` or `*.suffix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    port: Option<u16>,
}

/// A text that is no host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not host, host:port or *.suffix")]
pub struct HostPatternError(String);

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || HostPatternError(text.to_owned());
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (host, Some(port.parse().map_err(|_| refused())?)),
            _ => (text, None),
        };
        let name = host.strip_prefix("*.").unwrap_or(host);
        if name.is_empty() || name.contains(['/', '*', '@', '?', '#']) || name.contains(char::is_whitespace) {
            return Err(refused());
        }
        Ok(Self { host: host.to_lowercase(), port })
    }
}

impl HostPattern {
    /// Whether a URL's host and port are meant.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host = host.trim_end_matches('.').to_lowercase();
        let host_fits =
            self.host.strip_prefix('*').map_or_else(|| host == self.host, |suffix| host.ends_with(suffix) && host.len() > suffix.len());
        host_fits && self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(formatter, "{}:{port}", self.host),
            None => formatter.write_str(&self.host),
        }
    }
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
}

impl NetworkPolicy {
    /// Judges a URL before anything is sent to it. Names are judged again by their addresses when connecting.
    ///
    /// # Errors
    /// What is not allowed and the flag that would allow it.
    pub fn check(&self, purpose: Purpose, url: &Url) -> Result<(), Refusal> {
        let host = url.host_str().unwrap_or_default().to_owned();
        if url.scheme() != "https" && !self.insecure_http && purpose != Purpose::ServiceSink {
            return Err(Refusal::InsecureHttp { host });
        }
        Ok(())
    }

    /// A client builder that follows no redirect, ignores ambient proxies, and connects to vetted addresses only.
    #[must_use]
    pub fn client_builder(self: &Arc<Self>, _purpose: Purpose) -> reqwest::ClientBuilder {
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy()
    }
}
