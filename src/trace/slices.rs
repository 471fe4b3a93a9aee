//! Reads the slices of catalogues with the rights of the kubeconfig.

use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::answer::TraceError;
use super::gather::{Cluster, failure};
use super::repositories::{self, Catalog};
use crate::api::v1alpha1::{GitProviderConnection, RepoBinding, RepositorySlice};
use crate::cli::RepositoriesArguments;

/// Page sizes of list requests.
const PAGE: u32 = 500;
const PAGE_OF_SLICES: u32 = 10;

/// The catalogues of the connections that the arguments name, and notes about what could not be read.
pub(super) async fn catalogs(cluster: &Cluster, arguments: &RepositoriesArguments) -> Result<(Vec<Catalog>, Vec<String>), TraceError> {
    let namespace = arguments.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    let place = if arguments.all_namespaces { "all namespaces".to_owned() } else { format!("namespace {namespace}") };
    let within = Some(namespace.as_str()).filter(|_| !arguments.all_namespaces);
    let connections =
        visible(list::<GitProviderConnection>(cluster, within, ListParams::default().limit(PAGE)).await, "gitproviderconnections", &place)?;
    let wanted: Vec<_> =
        connections.into_iter().filter(|found| arguments.connection.as_ref().is_none_or(|name| found.name_any() == *name)).collect();
    if let (true, Some(name)) = (wanted.is_empty(), &arguments.connection) {
        return Err(TraceError(format!("no connection {name} is visible to you in {place}; correct -c, or name its namespace with -n")));
    }
    // Without a name, those that keep no catalogue are of no interest.
    let wanted: Vec<_> = wanted.into_iter().filter(|found| arguments.connection.is_some() || found.spec.catalog.is_some()).collect();
    if wanted.is_empty() {
        return Err(TraceError(format!("no connection in {place} keeps a catalogue; set spec.catalog on one")));
    }
    let mut notes = Vec::new();
    let bindings = bindings(cluster, &namespace, &mut notes).await?;
    let mut catalogs = Vec::new();
    for connection in wanted {
        let within = connection.namespace().unwrap_or_default();
        let parameters = ListParams::default().limit(PAGE_OF_SLICES).fields(&format!("connectionName={}", connection.name_any()));
        let slices = list::<RepositorySlice>(cluster, Some(&within), parameters).await;
        let slices = visible(slices, "repositoryslices", &format!("namespace {within}"))?;
        let uid = connection.uid();
        let is_own =
            |slice: &RepositorySlice| slice.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid.as_ref());
        let slices = slices.into_iter().filter(is_own).collect();
        catalogs.push(repositories::catalog(&connection, slices, &bindings, arguments.unbound));
    }
    Ok((catalogs, notes))
}

/// The bindings of all namespaces or, if the caller may not list these, of one.
async fn bindings(cluster: &Cluster, namespace: &str, notes: &mut Vec<String>) -> Result<Vec<RepoBinding>, TraceError> {
    let parameters = || ListParams::default().limit(PAGE);
    if let Some(all) = list(cluster, None, parameters()).await? {
        return Ok(all);
    }
    notes.push(repositories::hidden_bindings(namespace));
    visible(list(cluster, Some(namespace), parameters()).await, "repobindings", &format!("namespace {namespace}"))
}

fn visible<K>(listed: Result<Option<Vec<K>>, TraceError>, kind: &str, place: &str) -> Result<Vec<K>, TraceError> {
    listed?.ok_or_else(|| TraceError(format!("the {kind} of {place} are not visible to you; ask for the right to list them there")))
}

/// The objects of a kind that match its schema; `None` if the caller may not list them.
async fn list<K>(cluster: &Cluster, namespace: Option<&str>, mut parameters: ListParams) -> Result<Option<Vec<K>>, TraceError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let client = cluster.client();
    let api: Api<DeserializeGuard<K>> = namespace.map_or_else(|| Api::all(client.clone()), |name| Api::namespaced(client.clone(), name));
    let mut found = Vec::new();
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(None),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                return Err(TraceError(format!("Forgebind is not installed in this cluster: it has no {}", K::plural(&()))));
            }
            Err(error) => return Err(failure(&error)),
        };
        found.extend(page.items.into_iter().filter_map(|guard| guard.0.ok()));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(Some(found)),
        }
    }
}
