//! Supports Azure DevOps Services and Azure DevOps Server. Both have the same API; the address determines the product.

mod client;
mod convert;
mod error;
mod inspect;
mod path;
mod permission;
mod subscription;
mod version;
mod webhook;
mod wire;

use std::sync::Arc;

use url::Url;

use crate::api::v1alpha1::connection::{AzureDevOpsSpec, CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{EventKind, Permission, ProviderKind};
use crate::providers::address::{comparable, with_segments};
use crate::providers::model::Scope;
use crate::providers::repository_ref::decoded;
use crate::providers::transport::Transport;
use crate::providers::{Capabilities, Client, Credential, Endpoint, PathError, Provider, ProviderError, RepositoryPath, Webhook, address};

use client::AzureDevOpsClient;
pub use webhook::AzureDevOpsWebhook;

/// The host of Azure DevOps Services.
const SERVICES: &str = "dev.azure.com";
/// Suffix of the older hosts of Azure DevOps Services, such as `acme.visualstudio.com`.
const OLDER_SERVICES: &str = ".visualstudio.com";
/// Fields of the spec that error messages name.
const URL: &str = "azureDevOps.url";
const ORGANIZATION: &str = "azureDevOps.organization";
/// Name of the only collection in URLs of the older hosts.
const OLDER_COLLECTION: &str = "DefaultCollection";
/// Address of the accounts service, which is not part of any organization.
const ACCOUNTS: &str = "https://app.vssps.visualstudio.com";

/// The provider for Azure DevOps Services and Azure DevOps Server.
#[derive(Clone, Copy, Debug)]
pub struct AzureDevOps;

/// The organization in an older host of Azure DevOps Services, such as `acme` in `acme.visualstudio.com`. `None` for every
/// other host.
fn older_organization(host: &str) -> Option<String> {
    let label = comparable(host).strip_suffix(OLDER_SERVICES)?.to_owned();
    // `app.vssps` and similar labels are services, not organizations.
    (!label.is_empty() && !label.contains('.') && label != "vs-ssh").then_some(label)
}

/// Whether an address belongs to Azure DevOps Services.
fn is_services(web: &Url) -> bool {
    let host = web.host_str().unwrap_or_default();
    comparable(host) == SERVICES || older_organization(host).is_some()
}

fn path_segments(url: &Url) -> Vec<&str> {
    url.path().split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Parses the name of the organization or collection, as typed or as copied from a URL.
fn organization(spec: &AzureDevOpsSpec) -> Result<String, ProviderError> {
    let name = decoded(spec.organization.trim()).filter(|name| {
        !name.is_empty()
            && name != "."
            && name != ".."
            && !name.contains(['/', '\\', ':', '?', '#', '@'])
            && !name.contains(char::is_control)
    });
    let form = "a name such as acme, not an address; the address belongs in azureDevOps.url";
    name.ok_or_else(|| address::invalid_field(ORGANIZATION, &spec.organization, form))
}

/// The organization's address: `https://dev.azure.com/acme`, `https://acme.visualstudio.com`, or a Server's address
/// followed by the collection.
fn web_address(spec: &AzureDevOpsSpec) -> Result<Url, ProviderError> {
    let organization = organization(spec)?;
    let organization = organization.as_str();
    let Some(url) = &spec.url else {
        let services = address::parse(URL, &format!("https://{SERVICES}"))?;
        return Ok(with_segments(&services, [organization]));
    };
    let url = address::parse(URL, &url.0)?;
    let host = url.host_str().unwrap_or_default();
    let segments = path_segments(&url);
    let same = |named: &str| {
        let named = decoded(named).unwrap_or_default();
        if named.eq_ignore_ascii_case(organization) {
            return Ok(());
        }
        let message =
            format!("{URL} is the address of the organization {named}, and {ORGANIZATION} is {organization}; correct one of them");
        Err(address::invalid(&message))
    };
    if comparable(host) == SERVICES {
        return match segments.as_slice() {
            [] => Ok(with_segments(&url, [organization])),
            [named] => same(named).map(|()| url.clone()),
            _ => Err(address::invalid_field(URL, url.as_str(), "https://dev.azure.com, not the address of a page")),
        };
    }
    if let Some(named) = older_organization(host) {
        same(&named)?;
        return match segments.as_slice() {
            [] => Ok(url),
            [collection] if collection.eq_ignore_ascii_case(OLDER_COLLECTION) => Ok(url.clone()),
            _ => Err(address::invalid_field(URL, url.as_str(), "an address that ends after visualstudio.com, not that of a page")),
        };
    }
    if comparable(host).ends_with(OLDER_SERVICES) {
        return Err(address::invalid_field(URL, url.as_str(), "https://dev.azure.com, not the address of a service behind it"));
    }
    // A Server's address may be given with or without the collection.
    let given = segments.last().is_some_and(|last| same(last).is_ok());
    Ok(if given { url } else { with_segments(&url, [organization]) })
}

/// Further addresses that the credential may be sent to at Azure DevOps Services: the accounts service first, then the same
/// organization under its other host.
fn further_origins(web: &Url, organization: &str) -> Result<Vec<Url>, ProviderError> {
    if !is_services(web) {
        return Ok(Vec::new());
    }
    let older = web.host_str().is_some_and(|host| older_organization(host).is_some());
    let twin = if older { format!("https://{SERVICES}") } else { format!("https://{}{OLDER_SERVICES}", organization.trim()) };
    let accounts = address::parse(URL, ACCOUNTS)?;
    // An organization whose name is not a valid host name has no older address.
    Ok(std::iter::once(accounts).chain(address::parse(URL, &twin)).collect())
}

impl Provider for AzureDevOps {
    fn kind(&self) -> ProviderKind {
        ProviderKind::AzureDevOps
    }

    fn credential_kinds(&self) -> &'static [CredentialKind] {
        &[CredentialKind::Token, CredentialKind::BasicAuth, CredentialKind::Anonymous]
    }

    fn events(&self) -> &'static [EventKind] {
        &EventKind::ALL
    }

    fn capabilities(&self) -> Capabilities {
        inspect::capabilities(true)
    }

    fn permission_words(&self, permission: Permission) -> Option<String> {
        permission::words(permission)
    }

    fn event_words(&self, event: EventKind) -> &'static [&'static str] {
        subscription::words(event)
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

    fn repository_path(&self, endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
        path::parse(endpoint, text)
    }

    fn client(&self, endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        AzureDevOpsClient::connect(endpoint, &credential, transport)
    }

    fn webhook(&self) -> &dyn Webhook {
        &AzureDevOpsWebhook
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
