//! Reads the values of flags. Every error is one line that names the flag.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use ipnet::IpNet;
use url::Url;

use crate::api::v1alpha1::ProviderKind;
use crate::network::public_urls::{PublicUrls, is_name};

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

pub(super) fn namespaces(flag: &'static str, texts: &[String]) -> Result<Vec<String>, ConfigError> {
    each(flag, texts, namespace)
}

fn namespace(flag: &'static str, name: &str) -> Result<String, ConfigError> {
    let name = name.trim();
    if is_dns_label(name) {
        return Ok(name.to_owned());
    }
    Err(ConfigError::new(flag, format!("{name:?} is not a namespace name; use at most 63 lower-case letters, digits and dashes")))
}

pub(super) fn operator_namespace(name: Option<String>) -> Result<String, ConfigError> {
    match name.filter(|name| !name.trim().is_empty()) {
        Some(name) => namespace("namespace", &name),
        None => Ok(own_namespace()),
    }
}

pub(super) fn parse<T: FromStr<Err: Display>>(flag: &'static str, text: &str) -> Result<T, ConfigError> {
    text.trim().parse().map_err(|error: T::Err| ConfigError::new(flag, format!("{text:?}: {error}")))
}

pub(super) fn listener(flag: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let form = || ConfigError::new(flag, format!("{text:?} is not an address with a port, such as 0.0.0.0:8080 or [::]:8080"));
    text.trim().parse().map_err(|_| form())
}

pub(super) fn each<T>(
    flag: &'static str,
    texts: &[String],
    read: impl Fn(&'static str, &str) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    items(flag, texts)?.into_iter().map(|text| read(flag, text)).collect()
}

/// The entries of `--public-url`: each a URL, or a name and a URL.
pub(super) fn public_urls(entries: &[String], insecure: bool) -> Result<PublicUrls, ConfigError> {
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

pub(super) fn public_url(flag: &'static str, text: &str, insecure: bool) -> Result<Url, ConfigError> {
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

pub(super) fn range(flag: &'static str, text: &str) -> Result<IpNet, ConfigError> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| ConfigError::new(flag, format!("{text:?} is not an address range such as 10.0.0.0/8")))
}

pub(super) fn resolve(flag: &'static str, text: &str) -> Result<((String, u16), IpAddr), ConfigError> {
    let refused = || ConfigError::new(flag, format!("{text:?} is not HOST:PORT=ADDRESS, such as git.acme.io:443=10.1.2.3"));
    let (name, address) = text.split_once('=').ok_or_else(refused)?;
    let (host, port) = name.rsplit_once(':').ok_or_else(refused)?;
    let address = address.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| refused())?;
    Ok(((host.to_lowercase(), port.parse().map_err(|_| refused())?), address))
}

pub(super) fn providers(names: &[String]) -> Result<BTreeSet<ProviderKind>, ConfigError> {
    let known = |name: &str| ProviderKind::ALL.into_iter().find(|kind| kind.flag() == name);
    let chosen = each("providers", names, |flag, name| {
        known(name).ok_or_else(|| {
            let all: Vec<_> = ProviderKind::ALL.into_iter().map(ProviderKind::flag).collect();
            ConfigError::new(flag, format!("{name:?} is not a provider; use {}", all.join(", ")))
        })
    })?;
    Ok(if chosen.is_empty() { ProviderKind::ALL.into_iter().collect() } else { chosen.into_iter().collect() })
}

/// A number of bytes, as Kubernetes writes quantities.
pub(super) fn size(flag: &'static str, text: &str) -> Result<u64, ConfigError> {
    let text = text.trim();
    let suffixes = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let found = suffixes.into_iter().find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, shift)));
    let (number, shift) = found.unwrap_or((text, 0));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| ConfigError::new(flag, format!("{text:?} is not a size, such as 512Mi or 2Gi")))
}

fn own_namespace() -> String {
    let of_pod = std::fs::read_to_string(Path::new(SERVICE_ACCOUNT_NAMESPACE)).ok();
    of_pod.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}
