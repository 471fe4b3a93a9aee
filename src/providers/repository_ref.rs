//! Parses every form in which people write a repository: its path, a clone URL, the URL of one of its pages.

use percent_encoding::percent_decode_str;
use url::Url;

use super::address::{authority, comparable, invalid_field};
use super::model::{Endpoint, RepositoryPath};
use super::{PathError, ProviderError};

/// A repository reference as written. User names are dropped; passwords are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RepositoryRef {
    /// A path in the provider's own form.
    Path(String),
    /// An http or https URL.
    Web(Url),
    /// `ssh://host/path`, or `user@host:path`.
    Ssh {
        /// The host, as written.
        host: String,
        /// The path, as written.
        path: String,
    },
}

impl RepositoryRef {
    /// Parses a reference. `form` is the error message for malformed text: it describes the provider's form.
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

/// Syntax of repositories written `owner/name`: the settings in which providers with this syntax differ.
pub(super) struct OwnerRepoSyntax {
    /// The error message for malformed text: it describes the provider's form.
    pub(super) form: &'static str,
    /// Pages below a repository whose URLs people copy from a browser.
    pub(super) pages: &'static [&'static str],
    /// Maximum length of a name in bytes.
    pub(super) longest: usize,
    /// A connection's web host, and another host that is equivalent to it, such as one for ssh over port 443.
    pub(super) host_aliases: &'static [(&'static str, &'static str)],
}

impl OwnerRepoSyntax {
    /// Parses a path, a clone URL or the URL of a page.
    pub(super) fn read(&self, endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
        match RepositoryRef::read(text, self.form)? {
            RepositoryRef::Path(path) => self.path_of(path.split('/')),
            RepositoryRef::Web(mut url) => {
                if self.is_host_alias(endpoint, url.host_str().unwrap_or_default()) {
                    // Cannot fail: replaces one registered name by another.
                    let _ = url.set_host(endpoint.web.host_str());
                }
                same_origin(endpoint, &url)?;
                match after_prefix(endpoint, url.path()).ok_or_else(|| self.malformed())?.as_slice() {
                    [owner, name] => self.path_of([*owner, *name]),
                    [owner, name, page, ..] if self.pages.contains(page) => self.path_of([*owner, *name]),
                    _ => Err(self.malformed()),
                }
            }
            RepositoryRef::Ssh { host, path } => {
                if !self.is_host_alias(endpoint, &host) {
                    same_host(endpoint, &host)?;
                }
                // Over ssh, the path prefix of the web address is not part of the path; references that include it are accepted.
                let rest = after_prefix(endpoint, &path).filter(|rest| rest.len() == 2);
                self.path_of(rest.unwrap_or_else(|| segments(&path)))
            }
        }
    }

    /// Validates an owner's name from a field of the spec.
    pub(super) fn owner(&self, field: &str, text: &str) -> Result<String, ProviderError> {
        let name = text.trim();
        let form = "a name such as acme, as in the addresses of its repositories: letters, digits, -, _ and .";
        if is_name(name, self.longest) { Ok(name.to_owned()) } else { Err(invalid_field(field, text, form)) }
    }

    fn is_host_alias(&self, endpoint: &Endpoint, host: &str) -> bool {
        let (web, host) = (endpoint.web.host_str().unwrap_or_default(), comparable(host));
        self.host_aliases.iter().any(|(of, twin)| *of == web && *twin == host)
    }

    fn path_of<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Result<RepositoryPath, PathError> {
        let mut segments = segments.into_iter();
        let (Some(owner), Some(name), None) = (segments.next(), segments.next(), segments.next()) else { return Err(self.malformed()) };
        let (owner, name) = decoded(owner).zip(decoded(name)).ok_or_else(|| self.malformed())?;
        let name = without_git(&name).ok_or_else(|| self.malformed())?;
        let fit = is_name(&owner, self.longest) && is_name(name, self.longest);
        if fit { Ok(RepositoryPath::new(format!("{owner}/{name}"))) } else { Err(self.malformed()) }
    }

    fn malformed(&self) -> PathError {
        PathError::Malformed(self.form.to_owned())
    }
}

/// Whether a text is a valid name of an owner or a repository: letters, digits, `-`, `_` and `.`.
pub(super) fn is_name(text: &str, longest: usize) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    !text.is_empty() && text != "." && text != ".." && text.len() <= longest && text.chars().all(fits)
}

/// The name without the suffix that clone URLs add. `None` if it has the suffix twice: the result is read again in other places, and
/// would then name another repository.
pub(super) fn without_git(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".git").unwrap_or(name);
    name.strip_suffix(".git").is_none().then_some(name)
}

/// Percent-decodes a text; `None` if the result is not UTF-8.
pub(super) fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The non-empty segments of a path.
pub(super) fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// The segments after the path of the web address; `None` if the path does not start with it.
pub(super) fn after_prefix<'a>(endpoint: &Endpoint, path: &'a str) -> Option<Vec<&'a str>> {
    let prefix = segments(endpoint.web.path());
    let mut rest = segments(path).into_iter();
    prefix.iter().all(|segment| rest.next() == Some(segment)).then(|| rest.collect())
}

/// Checks that a host is the connection's host.
pub(super) fn same_host(endpoint: &Endpoint, host: &str) -> Result<(), PathError> {
    let expected = endpoint.web.host_str().unwrap_or_default();
    if comparable(host) == comparable(expected) { Ok(()) } else { Err(another_host(endpoint, host.to_owned())) }
}

/// Checks that a URL is on the connection's host and, if the scheme is the same, on its port.
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
