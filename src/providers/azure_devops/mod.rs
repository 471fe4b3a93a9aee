//! Supports Azure DevOps Services and Azure DevOps Server. Both have the same API; the address determines the product.

mod client;
mod convert;
mod error;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod inspect;
mod organization;
mod path;
mod permission;
mod repositories;
#[cfg(test)]
mod samples;
mod subscription;
mod version;
mod webhook;
mod wire;

use url::Url;

use crate::api::v1alpha1::connection::{CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{EventKind, ProviderKind};
use crate::providers::model::Scope;
use crate::providers::transport::RateBudget;
use crate::providers::{Endpoint, Provider, ProviderError, ProviderProfile, address};

use client::AzureDevOpsClient;
use organization::{further_origins, organization, web_address};
pub use webhook::AzureDevOpsWebhook;

/// The provider for Azure DevOps Services and Azure DevOps Server.
#[derive(Clone, Copy, Debug)]
pub struct AzureDevOps;

static PROFILE: ProviderProfile = ProviderProfile {
    kind: ProviderKind::AzureDevOps,
    cloud_hosts: &["dev.azure.com", "vssps.dev.azure.com", "visualstudio.com", "app.vssps.visualstudio.com", "*.visualstudio.com"],
    rate_budget: |_| RateBudget::UNLIMITED,
    request_id_headers: &["x-request-id", "x-vss-e2eid", "activityid"],
    credential_kinds: &[CredentialKind::Token, CredentialKind::BasicAuth, CredentialKind::Anonymous],
    events: &EventKind::ALL,
    disables_failing_hooks: true,
    capabilities: || inspect::capabilities(true),
    permission_words: permission::words,
    event_words: subscription::words,
    repository_path: path::parse,
    client: |endpoint, credential, transport| AzureDevOpsClient::connect(endpoint, &credential, transport),
    webhook: &AzureDevOpsWebhook,
    #[cfg(test)]
    samples: samples::SAMPLES,
    #[cfg(any(test, fuzzing))]
    fuzz: fuzz::FUZZ,
};

impl Provider for AzureDevOps {
    fn profile(&self) -> &'static ProviderProfile {
        &PROFILE
    }

    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError> {
        let spec = spec.azure_dev_ops.as_ref().ok_or_else(|| address::invalid("the spec has no member azureDevOps"))?;
        let web = web_address(spec)?;
        let api = match &spec.api_url {
            Some(api) => address::parse("azureDevOps.apiURL", &api.0)?,
            None => web.clone(),
        };
        let form = "the name of a project, such as Shop or My Shop";
        let project = |text: &String| path::project(text).ok_or_else(|| address::invalid_field("azureDevOps.project", text, form));
        let project = spec.project.as_ref().map(project).transpose()?;
        let scope = project.map(|path| Scope { word: "project", path, project: None });
        let further_origins = further_origins(&web, &organization(spec)?)?;
        Ok(Endpoint { web, api, further_origins, scope })
    }

    fn version_address(&self, endpoint: &Endpoint) -> Url {
        address::with_segments(&endpoint.api, ["_apis", "connectionData"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::ErrorKind;

    fn endpoint(document: &serde_json::Value) -> Result<Endpoint, ProviderError> {
        let spec = serde_json::from_value(serde_json::json!({ "azureDevOps": document })).unwrap();
        AzureDevOps.endpoint(&spec)
    }

    #[test]
    fn dv_18_a_name_is_enough_at_services() {
        let endpoint = endpoint(&serde_json::json!({"organization": "acme"})).unwrap();
        assert_eq!(endpoint.web.as_str(), "https://dev.azure.com/acme");
        assert_eq!(endpoint.api, endpoint.web);
        let origins: Vec<_> = endpoint.further_origins.iter().map(Url::as_str).collect();
        assert_eq!(origins, ["https://app.vssps.visualstudio.com/", "https://acme.visualstudio.com/"]);
        assert_eq!(endpoint.scope, None);
    }

    #[test]
    fn pk_14_pk_15_services_and_server_are_reached_where_they_are() {
        for (organization, url, web, services) in [
            ("acme", "https://dev.azure.com", "https://dev.azure.com/acme", true),
            ("acme", "https://dev.azure.com/acme/", "https://dev.azure.com/acme", true),
            ("Acme", "https://dev.azure.com/acme", "https://dev.azure.com/acme", true),
            ("acme", "https://acme.visualstudio.com", "https://acme.visualstudio.com/", true),
            ("acme", "https://acme.visualstudio.com/DefaultCollection", "https://acme.visualstudio.com/DefaultCollection", true),
            ("Main", "https://tfs.acme.io/tfs", "https://tfs.acme.io/tfs/Main", false),
            ("Main", "https://tfs.acme.io/tfs/main", "https://tfs.acme.io/tfs/main", false),
            ("Main", "https://tfs.acme.io:8443", "https://tfs.acme.io:8443/Main", false),
            ("Old One", "https://tfs.acme.io/tfs", "https://tfs.acme.io/tfs/Old%20One", false),
        ] {
            let endpoint = endpoint(&serde_json::json!({"organization": organization, "url": url})).unwrap();
            assert_eq!(endpoint.web.as_str(), web, "{organization} at {url}");
            assert_eq!(!endpoint.further_origins.is_empty(), services, "{url}");
        }
    }

    #[test]
    fn dt_13_an_address_of_another_organization_is_refused() {
        for (organization, url, words) in [
            ("acme", "https://dev.azure.com/other", "organization other"),
            ("acme", "https://other.visualstudio.com", "organization other"),
            ("acme", "https://dev.azure.com/acme/Shop", "page"),
            ("acme", "https://acme.visualstudio.com/Shop", "page"),
            ("acme", "https://app.vssps.visualstudio.com", "service behind"),
            ("acme", "dev.azure.com/acme", "azureDevOps.url is \"dev.azure.com/acme\""),
            ("acme", "ftp://dev.azure.com/acme", "http"),
            ("https://dev.azure.com/acme", "https://dev.azure.com", "a name such as acme"),
            ("acme%2Fshop", "https://dev.azure.com", "azureDevOps.organization is \"acme%2Fshop\""),
            (" ", "https://dev.azure.com", "a name such as acme"),
        ] {
            let error = endpoint(&serde_json::json!({"organization": organization, "url": url})).unwrap_err();
            assert_eq!(error.kind, ErrorKind::EndpointInvalid, "{organization} at {url}");
            assert!(error.message.contains(words), "{organization} at {url}: {error}");
        }
    }

    #[test]
    fn dt_12_a_project_holds_bindings_to_itself() {
        let endpoint = endpoint(&serde_json::json!({"organization": "acme", "project": "My Shop"})).unwrap();
        let scope = endpoint.scope.clone().unwrap();
        assert_eq!(scope.to_string(), "project My Shop");
        assert!(scope.contains(&AzureDevOps.repository_path(&endpoint, "my shop/web").unwrap()));
        assert!(!scope.contains(&AzureDevOps.repository_path(&endpoint, "My Shop 2/web").unwrap()));
    }

    #[test]
    fn names_copied_from_an_address_are_decoded() {
        let copied = serde_json::json!({"organization": "Old%20One", "project": "My%20Shop", "url": "https://tfs.acme.io/tfs"});
        let endpoint = endpoint(&copied).unwrap();
        assert_eq!(endpoint.web.as_str(), "https://tfs.acme.io/tfs/Old%20One");
        let scope = endpoint.scope.clone().unwrap();
        assert_eq!(scope.path, "My Shop");
        for text in ["My%20Shop/web", "My Shop/web", "https://tfs.acme.io/tfs/Old%20One/My%20Shop/_git/web"] {
            assert!(scope.contains(&AzureDevOps.repository_path(&endpoint, text).unwrap()), "{text}");
        }
    }

    #[test]
    fn the_api_may_be_elsewhere() {
        let document = serde_json::json!({"organization": "acme", "apiURL": "https://proxy.acme.io/azure/acme"});
        let endpoint = endpoint(&document).unwrap();
        assert_eq!(endpoint.api.as_str(), "https://proxy.acme.io/azure/acme");
        assert_eq!(endpoint.web.as_str(), "https://dev.azure.com/acme");
    }
}
