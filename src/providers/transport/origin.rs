//! Restricts the origins to which a credential may be sent, and rewrites links to them.

use url::{Origin, Url};

use crate::providers::Endpoint;

#[derive(Clone, Debug)]
pub(super) struct Origins {
    api: Url,
    /// The host that serves the API in the cloud offering of this web address.
    cloud: Option<String>,
    allowed: Vec<Origin>,
}

impl Origins {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let allowed = [&endpoint.api, &endpoint.web].into_iter().chain(&endpoint.further_origins).map(Url::origin).collect();
        Self { api: endpoint.api.clone(), cloud: endpoint.web.domain().map(|host| format!("api.{host}")), allowed }
    }

    /// Whether the credential may be sent to this URL.
    pub(super) fn contain(&self, url: &Url) -> bool {
        self.allowed.contains(&url.origin())
    }

    /// Rewrites a link from a response to the API's own address. Behind a proxy, links name the host that the provider considers
    /// its own; only their path below the API's base matters. `None` if the link cannot belong to the API.
    pub(super) fn rebase(&self, from: &Url, link: &str) -> Option<Url> {
        let link = from.join(link).ok()?;
        if link.origin() == from.origin() {
            return Some(link);
        }
        let base: Vec<_> = segments(&self.api).collect();
        let path: Vec<_> = segments(&link).collect();
        // On the cloud's own API host the path needs no prefix; a proxy in front of it may have a path of its own.
        let skipped = if link.host_str() == self.cloud.as_deref() { base.len() + 1 } else { base.len().max(1) };
        let tails = (0..skipped).filter_map(|skipped| path.strip_prefix(base.get(skipped..)?));
        let tail = tails.into_iter().next()?;
        let mut url = self.api.clone();
        url.path_segments_mut().ok()?.pop_if_empty();
        url.set_path(&format!("{}/{}", self.api.path().trim_end_matches('/'), tail.join("/")));
        url.set_query(link.query());
        Some(url)
    }
}

fn segments(url: &Url) -> impl Iterator<Item = &str> {
    url.path().split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(api: &str) -> Origins {
        let api = Url::parse(api).unwrap();
        Origins::new(&Endpoint { web: api.join("/").unwrap(), api, further_origins: Vec::new(), scope: None })
    }

    #[test]
    fn links_are_brought_onto_the_api() {
        for (api, from, link, expected) in [
            ("https://a.io/api/v1", "https://a.io/api/v1/x", "/api/v1/repositories/5", Some("https://a.io/api/v1/repositories/5")),
            ("https://a.io/api/v1", "https://a.io/api/v1/x", "https://a.io/other?page=2", Some("https://a.io/other?page=2")),
            ("https://a.io/api/v1", "https://a.io/api/v1/x", "http://git:3000/api/v1/x?page=2", Some("https://a.io/api/v1/x?page=2")),
            ("https://a.io/git/api/v1", "https://a.io/git/api/v1/x", "http://git:3000/api/v1/x", Some("https://a.io/git/api/v1/x")),
            ("https://a.io/git/api/v1", "https://a.io/git/api/v1/x", "http://git:3000/git/api/v1/x", Some("https://a.io/git/api/v1/x")),
            ("https://api.a.io", "https://api.a.io/x", "https://api.real.io/repositories/1", Some("https://api.a.io/repositories/1")),
            ("https://a.io/api/v1", "https://a.io/api/v1/x", "https://login.io/sign-in", None),
            ("https://a.io/api/v1", "https://a.io/api/v1/x", "https://", None),
        ] {
            let found = origins(api).rebase(&Url::parse(from).unwrap(), link);
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{link} at {api}");
        }
    }

    #[test]
    fn links_of_a_cloud_are_brought_onto_a_proxy_with_a_path_of_its_own() {
        let (web, api) = (Url::parse("https://a.io").unwrap(), Url::parse("https://proxy.io/a").unwrap());
        let origins = Origins::new(&Endpoint { web, api, further_origins: Vec::new(), scope: None });
        let rebased = |link: &str| origins.rebase(&Url::parse("https://proxy.io/a/x").unwrap(), link).map(String::from);
        assert_eq!(rebased("https://api.a.io/repositories/1?page=2").unwrap(), "https://proxy.io/a/repositories/1?page=2");
        assert_eq!(rebased("https://proxy.io/a/x?page=2").unwrap(), "https://proxy.io/a/x?page=2");
        assert_eq!(rebased("https://api.b.io/repositories/1"), None);
        assert_eq!(rebased("https://a.io/login"), None);
    }

    #[test]
    fn a_credential_stays_with_its_origins() {
        let origins = origins("https://a.io/api/v1");
        for (url, allowed) in [
            ("https://a.io/anything", true),
            ("https://a.io:443/", true),
            ("https://a.io:8443/", false),
            ("http://a.io/", false),
            ("https://b.a.io/", false),
            ("https://a.io.evil.example/", false),
        ] {
            assert_eq!(origins.contain(&Url::parse(url).unwrap()), allowed, "{url}");
        }
    }
}
