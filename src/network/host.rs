//! Matches hosts against patterns.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// `host`, `host:port` or `*.suffix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// Lower case, punycode. If `any_below` is set: the suffix after the asterisk, including its dot.
    host: String,
    any_below: bool,
    port: Option<u16>,
}

/// The error for a text that is not a host pattern.
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
        let (name, any_below) = host.strip_prefix("*.").map_or((host, false), |suffix| (suffix, true));
        if name.is_empty() || name.contains(['/', '*', '@', '?', '#']) || name.contains(char::is_whitespace) {
            return Err(refused());
        }
        let name = canonical(name, any_below).ok_or_else(refused)?;
        Ok(Self { host: if any_below { format!(".{name}") } else { name }, any_below, port })
    }
}

/// The name as it is in URLs, without a dot at its end; `None` if there is no such host, or nothing below it. A dot or an asterisk
/// may be written in another way, so that it shows only here.
fn canonical(name: &str, any_below: bool) -> Option<String> {
    let host = Host::parse(name.trim_end_matches('.')).ok()?.to_string();
    let host = host.trim_end_matches('.');
    let again = Host::parse(host).ok()?;
    let can_be = !any_below || matches!(again, Host::Domain(_));
    (can_be && !host.contains('*') && again.to_string() == host).then(|| host.to_owned())
}

impl HostPattern {
    /// Whether the pattern matches a URL's host and port.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host = host.trim_end_matches('.').to_lowercase();
        let host_fits = if self.any_below { host.ends_with(&self.host) && host.len() > self.host.len() } else { host == self.host };
        host_fits && self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asterisk = if self.any_below { "*" } else { "" };
        match self.port {
            Some(port) => write!(formatter, "{asterisk}{}:{port}", self.host),
            None => write!(formatter, "{asterisk}{}", self.host),
        }
    }
}
