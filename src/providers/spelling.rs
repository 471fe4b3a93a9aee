//! How people write a repository: its path, a clone URL, the address of one of its pages.

use url::Url;

use super::PathError;
use super::address::{authority, comparable};
use super::model::Endpoint;

/// A repository as it was written. User names are dropped; passwords are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// A path in the provider's own form.
    Path(String),
    /// An http or https address.
    Web(Url),
    /// `ssh://host/path`, or `user@host:path`.
    Ssh {
        /// The host, as written.
        host: String,
        /// The path, as written.
        path: String,
    },
}

impl Spelling {
    /// Tells the spellings apart. `form` is the error for what is none: it says what the provider's form is.
    pub(super) fn read(text: &str, form: &str) -> Result<Self, PathError> {
        let text = text.trim();
        let malformed = || PathError::Malformed(form.to_owned());
        if text.contains("://") {
            let url = Url::parse(text).map_err(|_| malformed())?;
            if url.password().is_some() {
                return Err(PathError::Password);
            }
            return match url.scheme() {
                "http" | "https" => Ok(Self::Web(url)),
                "ssh" | "git+ssh" => Ok(Self::Ssh { host: url.host_str().unwrap_or_default().to_owned(), path: url.path().to_owned() }),
                _ => Err(malformed()),
            };
        }
        let Some((host, path)) = text.split_once(':') else { return Ok(Self::Path(text.strip_suffix('/').unwrap_or(text).to_owned())) };
        // `user:password@host:owner/name` splits at the wrong colon.
        if path.contains('@') {
            return Err(PathError::Password);
        }
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if host.is_empty() || host.contains('/') {
            return Err(malformed());
        }
        Ok(Self::Ssh { host: host.to_owned(), path: path.to_owned() })
    }
}

/// The segments of a path; empty ones do not count.
pub(super) fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// The segments after the web address's own path; `None` where the path does not begin with it.
pub(super) fn after_prefix<'a>(endpoint: &Endpoint, path: &'a str) -> Option<Vec<&'a str>> {
    let prefix = segments(endpoint.web.path());
    let mut rest = segments(path).into_iter();
    prefix.iter().all(|segment| rest.next() == Some(segment)).then(|| rest.collect())
}

/// Whether a host is the connection's.
pub(super) fn same_host(endpoint: &Endpoint, host: &str) -> Result<(), PathError> {
    let expected = endpoint.web.host_str().unwrap_or_default();
    if comparable(host) == comparable(expected) { Ok(()) } else { Err(another_host(endpoint, host.to_owned())) }
}

/// Whether an address is on the connection's host and, with the same scheme, its port.
pub(super) fn same_origin(endpoint: &Endpoint, url: &Url) -> Result<(), PathError> {
    same_host(endpoint, url.host_str().unwrap_or_default())?;
    if url.scheme() == endpoint.web.scheme() && url.port_or_known_default() != endpoint.web.port_or_known_default() {
        return Err(another_host(endpoint, authority(url)));
    }
    Ok(())
}

fn another_host(endpoint: &Endpoint, found: String) -> PathError {
    let expected = if found.contains(':') { authority(&endpoint.web) } else { endpoint.web.host_str().unwrap_or_default().to_owned() };
    PathError::AnotherHost { found, expected }
}
