//! Supports GitHub: github.com, data-residency hosts (`*.ghe.com`) and GitHub Enterprise Server.

mod app;
mod call;
mod client;
mod convert;
mod error;
#[cfg(test)]
mod fixture_tests;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod inspect;
mod jwt;
mod path;
mod permission;
mod repositories;
#[cfg(test)]
mod samples;
mod webhook;
mod wire;

use std::time::Duration;

use url::Url;

use crate::api::v1alpha1::connection::{CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{EventKind, ProviderKind};
use crate::providers::model::{HookLimit, Scope};
use crate::providers::transport::{Counts, HOUR, MINUTE, RateBudget, RateRule};
use crate::providers::{Endpoint, Provider, ProviderError, ProviderProfile, address};

use client::GitHubClient;
pub use webhook::GitHubWebhook;

/// Default web address.
const CLOUD: &str = "https://github.com";
/// Scope kind of a user.
const USER: &str = "user";

/// The provider for github.com, data-residency hosts and GitHub Enterprise Server.
#[derive(Clone, Copy, Debug)]
pub struct GitHub;

static PROFILE: ProviderProfile = ProviderProfile {
    kind: ProviderKind::GitHub,
    cloud_hosts: &["github.com", "api.github.com", "ghe.com", "*.ghe.com"],
    rate_budget,
    request_id_headers: &["x-github-request-id", "x-request-id"],
    credential_kinds: &[CredentialKind::GitHubApp, CredentialKind::Token, CredentialKind::BasicAuth, CredentialKind::Anonymous],
    events: &EventKind::ALL,
    disables_failing_hooks: false,
    capabilities: || inspect::capabilities(true, true),
    permission_words: permission::words,
    event_words: convert::words,
    repository_path: path::parse,
    client: GitHubClient::connect,
    webhook: &GitHubWebhook,
    #[cfg(test)]
    samples: samples::SAMPLES,
    #[cfg(any(test, fuzzing))]
    fuzz: fuzz::FUZZ,
};

/// GitHub's documented limits for requests that create content. A GitHub Enterprise Server has none unless its administrator
/// sets some.
fn rate_budget(api: &Url) -> RateBudget {
    if !api.host_str().is_some_and(|host| host == "api.github.com" || host.ends_with(".ghe.com")) {
        return RateBudget::UNLIMITED;
    }
    RateBudget {
        serial_writes: true,
        write_spacing: Duration::from_secs(1),
        rules: &[
            RateRule { counts: Counts::Writes, limit: 80, window: MINUTE },
            RateRule { counts: Counts::Writes, limit: 500, window: HOUR },
        ],
    }
}

impl Provider for GitHub {
    fn profile(&self) -> &'static ProviderProfile {
        &PROFILE
    }

    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError> {
        let spec = spec.github.as_ref().ok_or_else(|| address::invalid("the spec has no member github"))?;
        let web = address::parse("github.url", spec.url.as_ref().map_or(CLOUD, |url| url.0.as_str()))?;
        let api = match &spec.api_url {
            Some(api) => address::parse("github.apiURL", &api.0)?,
            None => api_address(&web)?,
        };
        let (word, field, path) = match (&spec.organization, &spec.user) {
            (Some(path), None) => (path::ORGANIZATION, "github.organization", path),
            (None, Some(path)) => (USER, "github.user", path),
            _ => return Err(address::invalid("github needs either organization or user")),
        };
        let scope = Scope { word, path: path::owner(field, path)?, project: None };
        Ok(Endpoint { web, api, further_origins: Vec::new(), scope: Some(scope) })
    }

    fn hook_limit(&self, endpoint: &Endpoint) -> Option<HookLimit> {
        let host = address::comparable(endpoint.web.host_str().unwrap_or_default());
        Some(HookLimit::EachEvent(if is_cloud(&host) { 20 } else { 250 }))
    }

    fn version_address(&self, endpoint: &Endpoint) -> Url {
        address::with_segments(&endpoint.api, ["meta"])
    }
}

/// Derives the API address from the web address: a separate host for the clouds, a path on the same host for a server.
fn api_address(web: &Url) -> Result<Url, ProviderError> {
    let host = address::comparable(web.host_str().unwrap_or_default());
    if !is_cloud(&host) {
        return Ok(address::below(web, "/api/v3"));
    }
    let host = if host == "www.github.com" { "github.com" } else { &host };
    let mut api = web.clone();
    api.set_host(Some(&format!("api.{host}")))
        .map_err(|error| address::invalid(&format!("no API URL can be derived from github.url ({error}); set github.apiURL")))?;
    Ok(api)
}

/// Whether the host of a web address belongs to GitHub's cloud, with or without data residency.
fn is_cloud(host: &str) -> bool {
    matches!(host, "github.com" | "www.github.com") || host.ends_with(".ghe.com")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::connection::{Address, GitHubSpec};
    use crate::providers::ErrorKind;

    fn endpoint(url: Option<&str>, api_url: Option<&str>) -> Result<Endpoint, ProviderError> {
        let address = |text: &str| Address(text.to_owned());
        let spec = GitHubSpec { organization: Some("acme".into()), user: None, url: url.map(address), api_url: api_url.map(address) };
        GitHub.endpoint(&ProviderSpec { github: Some(spec), ..ProviderSpec::default() })
    }

    #[test]
    fn a_cloud_allows_fewer_hooks_than_a_server() {
        let limit = |url: Option<&str>| GitHub.hook_limit(&endpoint(url, None).unwrap());
        assert_eq!(limit(None), Some(HookLimit::EachEvent(20)));
        assert_eq!(limit(Some("https://acme.ghe.com")), Some(HookLimit::EachEvent(20)));
        assert_eq!(limit(Some("https://github.acme.io")), Some(HookLimit::EachEvent(250)));
    }

    #[test]
    fn dt_03_the_api_is_where_the_web_address_has_it() {
        for (url, web, api) in [
            (None, "https://github.com/", "https://api.github.com/"),
            (Some("https://GitHub.com/"), "https://github.com/", "https://api.github.com/"),
            (Some("https://www.github.com"), "https://www.github.com/", "https://api.github.com/"),
            (Some("https://acme.ghe.com"), "https://acme.ghe.com/", "https://api.acme.ghe.com/"),
            (Some("https://git.acme.io"), "https://git.acme.io/", "https://git.acme.io/api/v3"),
            (Some("https://git.acme.io:8443/hub/"), "https://git.acme.io:8443/hub", "https://git.acme.io:8443/hub/api/v3"),
            (Some("https://github.com.evil.example"), "https://github.com.evil.example/", "https://github.com.evil.example/api/v3"),
        ] {
            let endpoint = endpoint(url, None).unwrap();
            assert_eq!((endpoint.web.as_str(), endpoint.api.as_str()), (web, api));
        }
        let proxied = endpoint(None, Some("https://proxy.acme.io/github/")).unwrap();
        assert_eq!((proxied.web.as_str(), proxied.api.as_str()), ("https://github.com/", "https://proxy.acme.io/github"));
    }

    #[test]
    fn the_owner_is_an_organization_or_a_user() {
        let scope = endpoint(None, None).unwrap().scope.unwrap();
        assert_eq!(scope.to_string(), "organization acme");
        let both = GitHubSpec { organization: Some("acme".into()), user: Some("ada".into()), ..GitHubSpec::default() };
        for (spec, expected) in [
            (Some(GitHubSpec { user: Some("ada".into()), ..GitHubSpec::default() }), Ok("user ada")),
            (Some(GitHubSpec::default()), Err(ErrorKind::EndpointInvalid)),
            (Some(both), Err(ErrorKind::EndpointInvalid)),
            (None, Err(ErrorKind::EndpointInvalid)),
        ] {
            let found = GitHub.endpoint(&ProviderSpec { github: spec, ..ProviderSpec::default() });
            let found = found.map(|endpoint| endpoint.scope.unwrap().to_string()).map_err(|error| error.kind);
            assert_eq!(found, expected.map(str::to_owned));
        }
    }
}
