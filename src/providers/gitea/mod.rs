//! Supports Gitea and Forgejo. Both have the same API; the client detects the product at run time.

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

use client::GiteaClient;
pub use webhook::GiteaWebhook;

/// The provider for Gitea and Forgejo.
#[derive(Clone, Copy, Debug)]
pub struct Gitea;

static PROFILE: ProviderProfile = ProviderProfile {
    kind: ProviderKind::Gitea,
    cloud_hosts: &[],
    rate_budget: |_| RateBudget::UNLIMITED,
    request_id_headers: &["x-request-id"],
    credential_kinds: &[CredentialKind::Token, CredentialKind::BasicAuth, CredentialKind::Anonymous],
    events: &EventKind::ALL,
    disables_failing_hooks: false,
    capabilities: || inspect::capabilities(true),
    permission_words: permission::words,
    event_words: convert::words,
    repository_path: path::parse,
    client: GiteaClient::connect,
    webhook: &GiteaWebhook,
    #[cfg(test)]
    samples: samples::SAMPLES,
    #[cfg(any(test, fuzzing))]
    fuzz: fuzz::FUZZ,
};

impl Provider for Gitea {
    fn profile(&self) -> &'static ProviderProfile {
        &PROFILE
    }

    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError> {
        let spec = spec.gitea.as_ref().ok_or_else(|| address::invalid("the spec has no member gitea"))?;
        let web = address::parse("gitea.url", &spec.url.0)?;
        let api = match &spec.api_url {
            Some(api) => address::parse("gitea.apiURL", &api.0)?,
            None => address::below(&web, "/api/v1"),
        };
        let scope = match (&spec.organization, &spec.user) {
            (Some(path), None) => Scope { word: path::ORGANIZATION, path: path::owner("gitea.organization", path)?, project: None },
            (None, Some(path)) => Scope { word: "user", path: path::owner("gitea.user", path)?, project: None },
            _ => return Err(address::invalid("gitea needs either organization or user")),
        };
        Ok(Endpoint { web, api, further_origins: Vec::new(), scope: Some(scope) })
    }

    fn version_address(&self, endpoint: &Endpoint) -> Url {
        address::with_segments(&endpoint.api, ["version"])
    }
}
