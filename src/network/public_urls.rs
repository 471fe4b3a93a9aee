//! The public endpoints: the URLs at which providers reach the receiver. One may be the default, others have names by which
//! connections choose them, and some are former ones.

use std::collections::BTreeMap;
use std::fmt;

use url::Url;

/// Maximum length of a name in characters: that of a DNS label.
const LONGEST_NAME: usize = 63;

/// The URLs at which providers reach the receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicUrls {
    /// The URL for connections that choose none. A named URL is never the default, even if it is the only one: adding a second
    /// name would change the meaning of not choosing.
    pub default: Option<Url>,
    /// URLs that connections choose by name.
    pub named: BTreeMap<String, Url>,
    /// URLs at which providers reached the receiver before, whatever their names were.
    pub former: Vec<Url>,
}

/// Why there is no URL for a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlError {
    /// No URL is configured.
    #[error("the public URL of Forgebind is not set; start it with --public-url")]
    None,
    /// The connection chooses none, and every URL has a name.
    #[error(
        "every URL of --public-url has a name ({names}), but the connection selects none; set its spec.receiver.publicURL to one of the \
         names, or start Forgebind with a URL without a name"
    )]
    NotChosen {
        /// The configured names.
        names: String,
    },
    /// The connection chooses a name that is not configured.
    #[error(
        "the connection's spec.receiver.publicURL is {name}, but --public-url has {known}; correct the name, or start Forgebind with \
         --public-url …,{name}=URL (existing hooks stay and continue to deliver)"
    )]
    Unknown {
        /// The chosen name.
        name: String,
        /// The configured names, as text for the message.
        known: String,
    },
}

impl PublicUrls {
    /// The URL for a connection's choice.
    ///
    /// # Errors
    /// There is no such URL.
    pub fn choose(&self, name: Option<&str>) -> Result<&Url, PublicUrlError> {
        let names = self.named.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self.named.get(name).ok_or_else(|| {
                let known = if names.is_empty() { "no names".to_owned() } else { format!("only the names {names}") };
                PublicUrlError::Unknown { name: name.to_owned(), known }
            }),
            None => self.default.as_ref().ok_or(if names.is_empty() { PublicUrlError::None } else { PublicUrlError::NotChosen { names } }),
        }
    }

    /// Every URL under which a hook belongs to this installation: the current and the former ones.
    pub fn all(&self) -> impl Iterator<Item = &Url> {
        self.default.iter().chain(self.named.values()).chain(&self.former)
    }
}

/// The current URLs, in the format of the flag.
impl fmt::Display for PublicUrls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.named.iter().map(|(name, url)| format!("{name}={url}"));
        let all: Vec<String> = self.default.iter().map(Url::to_string).chain(named).collect();
        formatter.write_str(&all.join(","))
    }
}

/// Whether a text is a valid name of a URL: lower-case letters, digits and inner dashes, at most 63 characters, and not
/// `default`, which refers to the URL without a name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain && (1..=LONGEST_NAME).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-') && text != "default"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn urls(default: Option<&str>, named: &[(&str, &str)]) -> PublicUrls {
        let named = named.iter().map(|(name, text)| ((*name).to_owned(), url(text))).collect();
        PublicUrls { default: default.map(url), named, former: Vec::new() }
    }

    #[test]
    fn a_name_selects_its_url_and_no_name_the_default() {
        let both = urls(Some("https://hooks.acme.io"), &[("internal", "https://hooks.acme.corp")]);
        assert_eq!(both.choose(None), Ok(&url("https://hooks.acme.io")));
        assert_eq!(both.choose(Some("internal")), Ok(&url("https://hooks.acme.corp")));
        assert_eq!(both.to_string(), "https://hooks.acme.io/,internal=https://hooks.acme.corp/");
    }

    #[test]
    fn a_missing_url_is_reported_with_the_flag_and_the_known_names() {
        let named = urls(None, &[("internal", "https://hooks.acme.corp"), ("dmz", "https://dmz.acme.io")]);
        for (urls, choice, says) in [
            (urls(None, &[]), None, "start it with --public-url"),
            (named.clone(), None, "has a name (dmz, internal), but the connection selects none"),
            // A single named URL is not a default either.
            (urls(None, &[("internal", "https://hooks.acme.corp")]), None, "has a name (internal)"),
            (named, Some("intern"), "is intern, but --public-url has only the names dmz, internal"),
            (urls(Some("https://hooks.acme.io"), &[]), Some("internal"), "--public-url has no names"),
            (urls(None, &[]), Some("internal"), "--public-url …,internal=URL"),
        ] {
            let message = urls.choose(choice).unwrap_err().to_string();
            assert!(message.contains(says) && message.contains("--public-url") && message.lines().count() == 1, "{message}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        for name in ["internal", "a", "7", "on-prem-2", &"a".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "Internal", "in_ternal", "-a", "a-", "default", "in.ternal", "intérieur", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
