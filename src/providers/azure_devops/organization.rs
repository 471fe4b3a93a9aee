//! The addresses of an organization of Azure DevOps Services, or of a collection of a Server.

use url::Url;

use crate::api::v1alpha1::connection::AzureDevOpsSpec;
use crate::providers::address::{comparable, with_segments};
use crate::providers::repository_ref::decoded;
use crate::providers::{ProviderError, address};

/// The host of Azure DevOps Services.
pub(super) const SERVICES: &str = "dev.azure.com";
/// Suffix of the older hosts of Azure DevOps Services, such as `acme.visualstudio.com`.
const OLDER_SERVICES: &str = ".visualstudio.com";
/// Fields of the spec that error messages name.
pub(super) const URL: &str = "azureDevOps.url";
const ORGANIZATION: &str = "azureDevOps.organization";
/// Name of the only collection in URLs of the older hosts.
pub(super) const OLDER_COLLECTION: &str = "DefaultCollection";
/// Address of the accounts service, which is not part of any organization.
const ACCOUNTS: &str = "https://app.vssps.visualstudio.com";

/// The organization in an older host of Azure DevOps Services, such as `acme` in `acme.visualstudio.com`. `None` for every
/// other host.
pub(super) fn older_organization(host: &str) -> Option<String> {
    let label = comparable(host).strip_suffix(OLDER_SERVICES)?.to_owned();
    // `app.vssps` and similar labels are services, not organizations.
    (!label.is_empty() && !label.contains('.') && label != "vs-ssh").then_some(label)
}

/// Whether an address belongs to Azure DevOps Services.
pub(super) fn is_services(web: &Url) -> bool {
    let host = web.host_str().unwrap_or_default();
    comparable(host) == SERVICES || older_organization(host).is_some()
}

pub(super) fn path_segments(url: &Url) -> Vec<&str> {
    url.path().split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Parses the name of the organization or collection, as typed or as copied from a URL.
pub(super) fn organization(spec: &AzureDevOpsSpec) -> Result<String, ProviderError> {
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
pub(super) fn web_address(spec: &AzureDevOpsSpec) -> Result<Url, ProviderError> {
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
pub(super) fn further_origins(web: &Url, organization: &str) -> Result<Vec<Url>, ProviderError> {
    if !is_services(web) {
        return Ok(Vec::new());
    }
    let older = web.host_str().is_some_and(|host| older_organization(host).is_some());
    let twin = if older { format!("https://{SERVICES}") } else { format!("https://{}{OLDER_SERVICES}", organization.trim()) };
    let accounts = address::parse(URL, ACCOUNTS)?;
    // An organization whose name is not a valid host name has no older address.
    Ok(std::iter::once(accounts).chain(address::parse(URL, &twin)).collect())
}
