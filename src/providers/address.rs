//! Addresses of a connection: read from a spec, extended, compared.

use url::{Host, Url};

use super::{ErrorKind, ProviderError};
use crate::text::wording;

/// `EndpointInvalid`, with this text.
pub(super) fn invalid(message: &str) -> ProviderError {
    ProviderError::new(ErrorKind::EndpointInvalid, "read the spec", message)
}

/// `EndpointInvalid` for a field whose value cannot be what it stands for: what it is and what it should be.
pub(super) fn invalid_field(field: &str, value: &str, form: &str) -> ProviderError {
    invalid(&format!("{field} is {}; it should be {form}", wording::quoted(value)))
}

/// The http or https address in a field, without user name, query and fragment, and without a slash at the end of its path.
pub(super) fn parse(field: &str, text: &str) -> Result<Url, ProviderError> {
    let form = "an http or https URL without user name, query or fragment, such as https://git.acme.io";
    let url = Url::parse(text.trim()).map_err(|_| invalid_field(field, text, form))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err(invalid_field(field, text, form));
    }
    Ok(below(&url, ""))
}

/// The address with this text after its path.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// An address below another; each segment is one, whatever is in it.
pub(super) fn with_segments<'a>(base: &Url, segments: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// A host in the one form in which it can be compared: lower case, punycode, no dot at its end.
pub(super) fn comparable(host: &str) -> String {
    Host::parse(host.trim_end_matches('.')).map_or_else(|_| host.to_lowercase(), |host| host.to_string())
}

/// `host:port`.
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
