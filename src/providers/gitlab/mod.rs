//! Supports GitLab: gitlab.com and self-managed servers, with any port and path prefix.

mod client;
mod convert;
mod error;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod inspect;
mod page;
mod path;
mod permission;
mod projects;
mod role;
#[cfg(test)]
mod samples;
mod signing;
mod webhook;
mod wire;

use url::Url;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::v1alpha1::connection::{CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{EventKind, ProviderKind};
use crate::providers::model::{HookLimit, Scope};
use crate::providers::transport::{Counts, MINUTE, Operation, RateBudget, RateRule};
use crate::providers::{Endpoint, Provider, ProviderError, ProviderProfile, address};

use client::GitLabClient;
pub use webhook::GitLabWebhook;

/// Default web address.
const CLOUD: &str = "https://gitlab.com";
/// Scope kind of a group.
const GROUP: &str = "group";

/// The provider for gitlab.com and self-managed GitLab.
#[derive(Clone, Copy, Debug)]
pub struct GitLab;

static PROFILE: ProviderProfile = ProviderProfile {
    kind: ProviderKind::GitLab,
    cloud_hosts: &["gitlab.com"],
    rate_budget: |_| RateBudget { rules: RATE_RULES, ..RateBudget::UNLIMITED },
    request_id_headers: &["x-request-id"],
    credential_kinds: &[CredentialKind::Token, CredentialKind::BasicAuth, CredentialKind::Anonymous],
    events: &EventKind::ALL,
    disables_failing_hooks: true,
    capabilities: || inspect::capabilities(Some(inspect::NEWEST), true, true),
    permission_words: permission::words,
    event_words: convert::words,
    repository_path: path::parse,
    client: GitLabClient::connect,
    webhook: &GitLabWebhook,
    #[cfg(test)]
    samples: samples::SAMPLES,
    #[cfg(any(test, fuzzing))]
    fuzz: fuzz::FUZZ,
};

const RATE_RULES: &[RateRule] = &[RateRule { counts: Counts::Only(&[Operation::LookUpRepository]), limit: 400, window: MINUTE }];

impl Provider for GitLab {
    fn profile(&self) -> &'static ProviderProfile {
        &PROFILE
    }

    /// A group given by number stays a number here. Only the server knows its path, which the inspection reads.
    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError> {
        let spec = spec.gitlab.as_ref().ok_or_else(|| address::invalid("the spec has no member gitlab"))?;
        let web = address::parse("gitlab.url", spec.url.as_ref().map_or(CLOUD, |url| &url.0))?;
        let api = match &spec.api_url {
            Some(api) => address::parse("gitlab.apiURL", &api.0)?,
            None => address::below(&web, "/api/v4"),
        };
        let scope = match &spec.group {
            None => None,
            Some(IntOrString::Int(number)) => Some(number.to_string()),
            Some(IntOrString::String(text)) => {
                Some(path::group(text).ok_or_else(|| address::invalid_field("gitlab.group", text, path::GROUP_FORM))?)
            }
        };
        let scope = scope.map(|path| Scope { word: GROUP, path, project: None });
        Ok(Endpoint { web, api, further_origins: Vec::new(), scope })
    }

    /// The default of a server. Its administrator may change it.
    fn hook_limit(&self, _: &Endpoint) -> Option<HookLimit> {
        Some(HookLimit::EachRepository(100))
    }

    fn version_address(&self, endpoint: &Endpoint) -> Url {
        address::with_segments(&endpoint.api, ["version"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::connection::{Address, GitLabSpec};

    fn endpoint(url: Option<&str>, api_url: Option<&str>, group: Option<IntOrString>) -> Result<Endpoint, ProviderError> {
        let address = |text: &str| Address(text.to_owned());
        let gitlab = GitLabSpec { url: url.map(address), api_url: api_url.map(address), group };
        GitLab.endpoint(&ProviderSpec { gitlab: Some(gitlab), ..ProviderSpec::default() })
    }

    #[test]
    fn dt_09_the_host_is_gitlab_com_unless_it_is_named() {
        let cloud = endpoint(None, None, None).unwrap();
        assert_eq!((cloud.web.as_str(), cloud.api.as_str(), cloud.scope), ("https://gitlab.com/", "https://gitlab.com/api/v4", None));
    }

    #[test]
    fn dv_16_host_port_and_path_prefix_are_kept() {
        let prefixed = endpoint(Some("https://git.acme.io:8443/gitlab/"), None, None).unwrap();
        assert_eq!(prefixed.api.as_str(), "https://git.acme.io:8443/gitlab/api/v4");
        let behind = endpoint(Some("https://git.acme.io"), Some("https://proxy.acme.io/gl/api/v4/"), None).unwrap();
        assert_eq!((behind.web.as_str(), behind.api.as_str()), ("https://git.acme.io/", "https://proxy.acme.io/gl/api/v4"));
    }

    #[test]
    fn dt_10_a_group_is_a_number_or_a_path() {
        let scope = |group| endpoint(None, None, Some(group)).unwrap().scope.unwrap().path;
        assert_eq!(scope(IntOrString::Int(42)), "42");
        assert_eq!(scope(IntOrString::String("42".into())), "42");
        assert_eq!(scope(IntOrString::String("/platform/apps/".into())), "platform/apps");
        assert_eq!(scope(IntOrString::String("platform%2Fapps".into())), "platform/apps", "as the API has it in its addresses");
        for text in ["", "/", "plat form", "https://gitlab.com/platform", "platform/../x"] {
            assert!(endpoint(None, None, Some(IntOrString::String(text.into()))).is_err(), "{text:?}");
        }
    }
}
