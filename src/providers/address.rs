//! Addresses of a connection: read from a spec, extended, compared.

use url::{Host, Url};

use super::{ErrorKind, ProviderError};

/// `EndpointInvalid`, with this text.
pub(super) fn invalid(message: &str) -> ProviderError {
    ProviderError::new(ErrorKind::EndpointInvalid, "read the address", message)
}

/// An http or https address without user name, query and fragment, and without a slash at the end of its path.
pub(super) fn parse(text: &str) -> Result<Url, ProviderError> {
    let url = Url::parse(text).map_err(|error| invalid(&format!("the address is no URL: {error}")))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err(invalid("the address must be an http or https URL without user name, query or fragment"));
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
        assert_eq!(parse("https://git.acme.io/git/").unwrap().as_str(), "https://git.acme.io/git");
        for text in ["git.acme.io", "ftp://git.acme.io", "https://ada@git.acme.io", "https://git.acme.io/?a=b", "https://git.acme.io/#a"] {
            assert_eq!(parse(text).unwrap_err().kind, ErrorKind::EndpointInvalid, "{text}");
        }
    }

    #[test]
    fn segments_stay_segments() {
        let base = parse("https://git.acme.io/git").unwrap();
        assert_eq!(with_segments(&base, ["a/b", "c?d"]).as_str(), "https://git.acme.io/git/a%2Fb/c%3Fd");
        assert_eq!(below(&base, "/api/v1").as_str(), "https://git.acme.io/git/api/v1");
        assert_eq!(authority(&base), "git.acme.io:443");
        assert_eq!(comparable("BÜCHER.example."), "xn--bcher-kva.example");
    }
}
