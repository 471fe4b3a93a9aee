//! Supports Bitbucket Data Center, and Bitbucket Server 8.9, which has the same API.
//!
//! Facts are from the product's REST API reference and its administration guide: pages "Event payload", "Manage webhooks",
//! "HTTP access tokens", "Improving instance stability with rate limiting".

mod client;
mod convert;
mod error;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod inspect;
mod page;
mod path;
mod permission;
mod repositories;
#[cfg(test)]
mod samples;
mod webhook;
mod wire;

use url::Url;

use crate::api::v1alpha1::connection::{CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{EventKind, ProviderKind};
use crate::providers::model::Scope;
use crate::providers::transport::RateBudget;
use crate::providers::{Endpoint, Provider, ProviderError, ProviderProfile, address};

use client::BitbucketDataCenterClient;
pub use webhook::BitbucketDataCenterWebhook;

/// Path of the core API below `/rest`, in the newest version that the server has.
const CORE_API: &str = "/api/latest";

/// The provider for Bitbucket Data Center.
#[derive(Clone, Copy, Debug)]
pub struct BitbucketDataCenter;

static PROFILE: ProviderProfile = ProviderProfile {
    kind: ProviderKind::BitbucketDataCenter,
    cloud_hosts: &[],
    rate_budget: |_| RateBudget::UNLIMITED,
    request_id_headers: &["x-request-id", "x-arequestid"],
    credential_kinds: &[CredentialKind::Token, CredentialKind::BasicAuth, CredentialKind::Anonymous],
    events: &EventKind::ALL,
    disables_failing_hooks: true,
    capabilities: inspect::capabilities,
    permission_words: permission::words,
    event_words: convert::words,
    repository_path: path::parse,
    client: BitbucketDataCenterClient::connect,
    webhook: &BitbucketDataCenterWebhook,
    #[cfg(test)]
    samples: samples::SAMPLES,
    #[cfg(any(test, fuzzing))]
    fuzz: fuzz::FUZZ,
};

impl Provider for BitbucketDataCenter {
    fn profile(&self) -> &'static ProviderProfile {
        &PROFILE
    }

    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError> {
        let spec = spec.bitbucket_data_center.as_ref();
        let spec = spec.ok_or_else(|| address::invalid("the spec has no member bitbucketDataCenter"))?;
        let web = address::parse("bitbucketDataCenter.url", &spec.url.0)?;
        let api = match &spec.api_url {
            Some(api) => core_api(&address::parse("bitbucketDataCenter.apiURL", &api.0)?),
            None => core_api(&address::below(&web, "/rest")),
        };
        let form = "the key of a project, such as APP, or ~user for a personal one";
        let scope = |text: &String| {
            let path = path::project(text).ok_or_else(|| address::invalid_field("bitbucketDataCenter.project", text, form))?;
            Ok(Scope { word: "project", path, project: None })
        };
        let scope = spec.project.as_ref().map(scope).transpose()?;
        Ok(Endpoint { web, api, further_origins: Vec::new(), scope })
    }

    fn version_address(&self, endpoint: &Endpoint) -> Url {
        address::with_segments(&endpoint.api, ["application-properties"])
    }
}

/// Returns the address of the core API for the address of `/rest`. An address that already names the core API and its
/// version is returned unchanged.
fn core_api(rest: &Url) -> Url {
    let named = ["/api/latest", "/api/1.0"].iter().any(|end| rest.path().ends_with(end));
    if named { rest.clone() } else { address::below(rest, CORE_API) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoint(member: &serde_json::Value) -> Result<Endpoint, ProviderError> {
        let spec: ProviderSpec = serde_json::from_value(json!({"bitbucketDataCenter": member})).unwrap();
        BitbucketDataCenter.endpoint(&spec)
    }

    #[test]
    fn the_project_may_be_left_out() {
        let found = endpoint(&json!({"url": "https://git.acme.io"})).unwrap();
        assert_eq!((found.api.as_str(), found.scope), ("https://git.acme.io/rest/api/latest", None));
    }

    #[test]
    fn dt_29_host_and_project_are_all_an_address_needs() {
        let found = endpoint(&json!({"url": "https://git.acme.io/bitbucket/", "project": "APP"})).unwrap();
        assert_eq!(found.web.as_str(), "https://git.acme.io/bitbucket");
        assert_eq!(found.api.as_str(), "https://git.acme.io/bitbucket/rest/api/latest", "the context path stays");
        assert_eq!(found.scope.unwrap().to_string(), "project APP");
        let accepted = BitbucketDataCenter.profile().credential_kinds;
        assert!(accepted.contains(&CredentialKind::BasicAuth) && accepted.contains(&CredentialKind::Token));
    }

    #[test]
    fn an_api_behind_a_proxy_is_named_as_people_know_it() {
        for (text, expected) in [
            ("https://proxy.acme.io/rest", "https://proxy.acme.io/rest/api/latest"),
            ("https://proxy.acme.io/rest/", "https://proxy.acme.io/rest/api/latest"),
            ("https://proxy.acme.io/rest/api/1.0", "https://proxy.acme.io/rest/api/1.0"),
            ("https://proxy.acme.io/rest/api/latest/", "https://proxy.acme.io/rest/api/latest"),
            ("https://proxy.acme.io/dc", "https://proxy.acme.io/dc/api/latest"),
        ] {
            let found = endpoint(&json!({"url": "https://git.acme.io", "apiURL": text, "project": "~ada"})).unwrap();
            assert_eq!((found.web.as_str(), found.api.as_str()), ("https://git.acme.io/", expected));
        }
    }

    #[test]
    fn what_is_no_project_is_refused() {
        for project in ["APP/shop", "APP%2Fshop", "a b", "~", "~a b", "", "..", "A?B", "A\nB"] {
            let error = endpoint(&json!({"url": "https://git.acme.io", "project": project})).unwrap_err();
            let value = format!("bitbucketDataCenter.project is {project:?}; it must be the key of a project, such as APP");
            assert!(error.message.starts_with(&value), "{error}");
        }
    }

    #[test]
    fn a_project_key_is_whatever_the_server_takes() {
        for (project, path) in [
            ("APP", "APP"),
            ("MY-APP", "MY-APP"),
            ("my_app.2", "my_app.2"),
            ("2FAST", "2FAST"),
            ("ÄPP", "ÄPP"),
            (" APP ", "APP"),
            ("~ada", "~ada"),
            ("%7Eada", "~ada"),
            ("~ada.l@acme.io", "~ada.l@acme.io"),
        ] {
            let found = endpoint(&json!({"url": "https://git.acme.io", "project": project})).unwrap();
            let scope = found.scope.clone().unwrap();
            assert_eq!(scope.path, path);
            let repository = BitbucketDataCenter.repository_path(&found, &format!("{path}/shop")).unwrap();
            assert!(scope.contains(&repository), "{project}");
        }
    }
}
