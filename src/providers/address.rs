//! Parses, extends and compares the URLs of a connection.

use url::{Host, Url};

use super::{ErrorKind, ProviderError};
use crate::text::wording;

/// An [`ErrorKind::EndpointInvalid`] error with this message.
pub(super) fn invalid(message: &str) -> ProviderError {
    ProviderError::new(ErrorKind::EndpointInvalid, "read the spec", message)
}

/// `EndpointInvalid` for an unusable field value: the message names the field, the value and the expected form.
pub(super) fn invalid_field(field: &str, value: &str, form: &str) -> ProviderError {
    invalid(&format!("{field} is {}; it must be {form}", wording::quoted(value)))
}

/// Parses a field as an http or https URL. A user name, query or fragment is an error; trailing slashes of the path are removed.
pub(super) fn parse(field: &str, text: &str) -> Result<Url, ProviderError> {
    let form = "an http or https URL without user name, query or fragment, such as https://git.acme.io";
    let url = Url::parse(text.trim()).map_err(|_| invalid_field(field, text, form))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err(invalid_field(field, text, form));
    }
    Ok(below(&url, ""))
}

/// Appends text to the path of a URL.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// Appends path segments to a URL. Each segment stays one segment: slashes and question marks inside it are percent-encoded.
pub(super) fn with_segments<'a>(base: &Url, segments: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// Normalises a host for comparison: lower case, punycode, no trailing dot.
pub(super) fn comparable(host: &str) -> String {
    Host::parse(host.trim_end_matches('.')).map_or_else(|_| host.to_lowercase(), |host| host.to_string())
}

/// `host:port`, with the scheme's default port where the URL has none.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_plain_and_ends_without_a_slash() {
        assert_eq!(parse("url", "https://git.acme.io/git/").unwrap().as_str(), "https://git.acme.io/git");
        for text in ["git.acme.io", "ftp://git.acme.io", "https://ada@git.acme.io", "https://git.acme.io/?a=b", "https://git.acme.io/#a"] {
            let error = parse("gitea.url", text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::EndpointInvalid, "{text}");
            assert!(error.message.starts_with("gitea.url is \"") && error.message.contains("git.acme.io"), "{error}");
        }
    }

    #[test]
    fn segments_stay_segments() {
        let base = parse("url", "https://git.acme.io/git").unwrap();
        assert_eq!(with_segments(&base, ["a/b", "c?d"]).as_str(), "https://git.acme.io/git/a%2Fb/c%3Fd");
        assert_eq!(below(&base, "/api/v1").as_str(), "https://git.acme.io/git/api/v1");
        assert_eq!(authority(&base), "git.acme.io:443");
        assert_eq!(comparable("BÜCHER.example."), "xn--bcher-kva.example");
    }
}
