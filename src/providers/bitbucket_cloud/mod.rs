//! Supports Bitbucket Cloud: bitbucket.org and its API at api.bitbucket.org, version 2.0.

mod account;
mod client;
mod convert;
mod error;
#[cfg(test)]
mod fixtures;
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
use crate::providers::transport::{Counts, HOUR, Operation, RateBudget, RateRule};
use crate::providers::{Endpoint, Provider, ProviderError, ProviderProfile, address};

use client::BitbucketCloudClient;
pub use webhook::BitbucketCloudWebhook;

const WEB: &str = "https://bitbucket.org";
const API: &str = "https://api.bitbucket.org/2.0";
/// End of the API's path, also at another address.
const API_VERSION: &str = "/2.0";

/// The provider for Bitbucket Cloud.
#[derive(Clone, Copy, Debug)]
pub struct BitbucketCloud;

static PROFILE: ProviderProfile = ProviderProfile {
    kind: ProviderKind::BitbucketCloud,
    cloud_hosts: &["bitbucket.org", "api.bitbucket.org"],
    rate_budget: |_| RateBudget { rules: RATE_RULES, ..RateBudget::UNLIMITED },
    request_id_headers: &["x-request-id", "x-arequestid"],
    credential_kinds: &[CredentialKind::EmailToken, CredentialKind::Token, CredentialKind::BasicAuth, CredentialKind::Anonymous],
    events: &EventKind::ALL,
    disables_failing_hooks: false,
    capabilities: || inspect::capabilities(true),
    permission_words: permission::words,
    event_words: convert::words,
    repository_path: path::parse,
    client: BitbucketCloudClient::connect,
    webhook: &BitbucketCloudWebhook,
    #[cfg(test)]
    samples: samples::SAMPLES,
    #[cfg(any(test, fuzzing))]
    fuzz: fuzz::FUZZ,
};

const HOOK_CALLS: &[Operation] = &[Operation::ListHooks, Operation::CreateHook, Operation::UpdateHook, Operation::DeleteHook];
const RATE_RULES: &[RateRule] = &[
    RateRule { counts: Counts::Only(HOOK_CALLS), limit: 1000, window: HOUR },
    RateRule { counts: Counts::Only(&[Operation::ListRepositories]), limit: 1000, window: HOUR },
];

impl Provider for BitbucketCloud {
    fn profile(&self) -> &'static ProviderProfile {
        &PROFILE
    }

    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError> {
        let spec = spec.bitbucket_cloud.as_ref().ok_or_else(|| address::invalid("the spec has no member bitbucketCloud"))?;
        let web = address::parse("bitbucketCloud.url", spec.url.as_ref().map_or(WEB, |url| url.0.as_str()))?;
        let api = match &spec.api_url {
            Some(api) => address::parse("bitbucketCloud.apiURL", &api.0)?,
            None => api_of(&web)?,
        };
        let workspace = spec.workspace.trim();
        if !path::is_name(workspace) {
            let form = "the workspace's ID, as in the addresses of its repositories: letters, digits, - and _";
            return Err(address::invalid_field("bitbucketCloud.workspace", &spec.workspace, form));
        }
        // Project keys are upper case, and the API compares them case-sensitively.
        let project = spec.project.as_ref().map(|key| key.trim().to_uppercase());
        if project.as_ref().is_some_and(|key| !path::is_name(key)) {
            let form = "the key of a project, such as APP: letters, digits and _";
            return Err(address::invalid_field("bitbucketCloud.project", spec.project.as_deref().unwrap_or_default(), form));
        }
        let scope = Scope { word: "workspace", path: workspace.to_owned(), project };
        Ok(Endpoint { web, api, further_origins: Vec::new(), scope: Some(scope) })
    }

    fn version_address(&self, endpoint: &Endpoint) -> Url {
        address::with_segments(&endpoint.api, ["user"])
    }
}

/// Derives the API address from the web address: a separate host for bitbucket.org, a path on the same host for any other
/// address.
fn api_of(web: &Url) -> Result<Url, ProviderError> {
    if web.host_str() == Some(path::WEB_HOST) { address::parse("bitbucketCloud.url", API) } else { Ok(address::below(web, API_VERSION)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::connection::{Address, BitbucketCloudSpec};

    use crate::providers::ErrorKind;

    fn endpoint(edit: impl FnOnce(&mut BitbucketCloudSpec)) -> Result<Endpoint, ProviderError> {
        let mut spec = BitbucketCloudSpec { workspace: "acme".into(), ..BitbucketCloudSpec::default() };
        edit(&mut spec);
        BitbucketCloud.endpoint(&ProviderSpec { bitbucket_cloud: Some(spec), ..ProviderSpec::default() })
    }

    #[test]
    fn dt_14_the_host_defaults_to_bitbucket_org() {
        let endpoint = endpoint(|_| ()).unwrap();
        assert_eq!((endpoint.web.as_str(), endpoint.api.as_str()), ("https://bitbucket.org/", "https://api.bitbucket.org/2.0"));
        assert_eq!(endpoint.scope.unwrap().to_string(), "workspace acme");
    }

    #[test]
    fn another_address_holds_its_api_below_it_unless_that_is_given() {
        let elsewhere = endpoint(|spec| spec.url = Some(Address("https://proxy.acme.io/bitbucket/".into()))).unwrap();
        assert_eq!(elsewhere.web.as_str(), "https://proxy.acme.io/bitbucket");
        assert_eq!(elsewhere.api.as_str(), "https://proxy.acme.io/bitbucket/2.0");
        let given = endpoint(|spec| spec.api_url = Some(Address("https://proxy.acme.io/api/2.0".into()))).unwrap();
        assert_eq!((given.web.as_str(), given.api.as_str()), ("https://bitbucket.org/", "https://proxy.acme.io/api/2.0"));
    }

    #[test]
    fn dt_15_the_workspace_is_required_and_is_its_id() {
        for workspace in ["", "Acme Inc", "acme/shop", "{3f0f8e6c-0000-4000-8000-000000000001}", ".."] {
            let error = endpoint(|spec| spec.workspace = workspace.into()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::EndpointInvalid, "{workspace}");
        }
        assert_eq!(BitbucketCloud.endpoint(&ProviderSpec::default()).unwrap_err().kind, ErrorKind::EndpointInvalid);
    }

    #[test]
    fn dt_16_dt_17_the_project_is_optional_and_its_key_is_upper_cased() {
        assert_eq!(endpoint(|_| ()).unwrap().scope.unwrap().project, None);
        let scope = endpoint(|spec| spec.project = Some("app".into())).unwrap().scope.unwrap();
        assert_eq!((scope.project.as_deref(), scope.to_string().as_str()), (Some("APP"), "workspace acme, project APP"));
    }

    #[test]
    fn every_event_has_its_keys() {
        for event in BitbucketCloud.profile().events {
            assert!(!BitbucketCloud.event_words(*event).is_empty(), "{event}");
        }
        assert!(BitbucketCloud.capabilities().update_sets_secret && BitbucketCloud.capabilities().scope_introspection);
    }
}
