//! Reads bindings and their connections with the rights of the kubeconfig. Sends only get and list requests.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt as _};

use super::answer::TraceError;
use super::target::Target;
use crate::api::v1alpha1::{GitProviderConnection, RepoBinding};
use crate::cli::TargetArguments;
use crate::k8s::config;
use crate::text::wording::{enumerated, of_api_server, quoted};

/// Connect timeout for the API server.
const CONNECT: Duration = Duration::from_secs(10);
/// Page size of list requests.
const PAGE: u32 = 500;

/// The cluster of the kubeconfig.
pub(super) struct Cluster {
    client: Client,
    /// The namespace of the context.
    namespace: String,
}

/// What the caller sees of an object.
#[derive(Clone, Debug)]
pub(super) enum Lookup<T> {
    Found(Box<T>),
    Missing,
    /// The caller may not read it.
    Hidden,
}

/// A binding with its connection.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) binding: RepoBinding,
    pub(super) connection: Lookup<GitProviderConnection>,
}

/// The bindings that a target names.
pub(super) struct Gathered {
    pub(super) subjects: Vec<Subject>,
    /// What could not be read, and the consequences.
    pub(super) notes: Vec<String>,
}

/// Where bindings are searched.
enum Scope {
    All,
    Namespace(String),
}

impl Cluster {
    /// Connects to the cluster of a context, or of the current one.
    pub(super) async fn connect(context: Option<&str>) -> Result<Self, TraceError> {
        let no_cluster = |error: String| TraceError(format!("no cluster is configured: {error}; set KUBECONFIG"));
        let mut config = config::of_context(context).await.map_err(|error| no_cluster(error.to_string()))?;
        config.connect_timeout = Some(CONNECT);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| no_cluster(error.to_string()))?;
        Ok(Self { client, namespace })
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace of the context.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn bindings(&self, namespace: &str) -> Api<RepoBinding> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Reads the bindings that a target names, and the connection of each.
    pub(super) async fn gather(&self, arguments: &TargetArguments) -> Result<Gathered, TraceError> {
        let mut notes = Vec::new();
        let bindings = self.find(arguments, &mut notes).await?;
        let mut subjects = Vec::new();
        for binding in bindings {
            let connection = self.connection(&binding).await?;
            subjects.push(Subject { binding, connection });
        }
        Ok(Gathered { subjects, notes })
    }

    /// The bindings that a target names; at least one.
    pub(super) async fn find(&self, arguments: &TargetArguments, notes: &mut Vec<String>) -> Result<Vec<RepoBinding>, TraceError> {
        let target = Target::parse(&arguments.target)?;
        let own = arguments.namespace.clone().unwrap_or_else(|| self.namespace.clone());
        // A name without a namespace is searched in one namespace, and a repository everywhere.
        let everywhere = arguments.all_namespaces || (arguments.namespace.is_none() && target.repository.is_some());
        let mut found = if everywhere { self.search(&target, &Scope::All).await? } else { Lookup::Hidden };
        let mut place = "any namespace".to_owned();
        if matches!(found, Lookup::Hidden) {
            // The argument may also be namespace/name.
            let within = target.namespace.clone().filter(|within| arguments.namespace.is_none() && *within != own);
            let mut searched = vec![own.clone()];
            found = self.search(&target, &Scope::Namespace(own)).await?;
            if let Some(within) = within {
                let there = self.search(&target, &Scope::Namespace(within.clone())).await?;
                searched.push(within);
                found = both(found, there);
            }
            place = format!("namespace {}", enumerated(&searched));
            if everywhere {
                notes.push(format!("you may not list the bindings of all namespaces, so only {place} was searched"));
            }
        }
        match found {
            Lookup::Found(bindings) if !bindings.is_empty() => target.choose(*bindings),
            Lookup::Hidden => Err(TraceError(format!(
                "the bindings of {place} are not visible to you; ask for the right to list repobindings there, or name a namespace with -n"
            ))),
            _ => Err(TraceError(format!(
                "no binding of {} is visible to you in {place}; name a repository such as acme/shop, or a binding as NAMESPACE/NAME or \
                 with -n",
                quoted(&arguments.target)
            ))),
        }
    }

    /// The bindings within a scope that a target names. Those that do not match the schema are left out.
    async fn search(&self, target: &Target, scope: &Scope) -> Result<Lookup<Vec<RepoBinding>>, TraceError> {
        let (api, namespace): (Api<DeserializeGuard<RepoBinding>>, _) = match scope {
            Scope::All => (Api::all(self.client.clone()), None),
            Scope::Namespace(name) => (Api::namespaced(self.client.clone(), name), Some(name.as_str())),
        };
        let mut parameters = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = match api.list(&parameters).await {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(Lookup::Hidden),
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    return Err(TraceError("Forgebind is not installed in this cluster: it has no repobindings".to_owned()));
                }
                Err(error) => return Err(failure(&error)),
            };
            found.extend(page.items.into_iter().filter_map(|guard| guard.0.ok()).filter(|binding| target.is(binding, namespace)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => break,
            }
        }
        found.sort_by_key(|binding| (binding.namespace(), binding.name_any()));
        Ok(Lookup::Found(Box::new(found)))
    }

    async fn connection(&self, binding: &RepoBinding) -> Result<Lookup<GitProviderConnection>, TraceError> {
        let target = binding.connection_target();
        let api: Api<GitProviderConnection> = Api::namespaced(self.client.clone(), &target.namespace);
        match api.get_opt(&target.name).await {
            Ok(Some(connection)) => Ok(Lookup::Found(Box::new(connection))),
            Ok(None) => Ok(Lookup::Missing),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Lookup::Hidden),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// What was found in two places.
fn both(one: Lookup<Vec<RepoBinding>>, other: Lookup<Vec<RepoBinding>>) -> Lookup<Vec<RepoBinding>> {
    match (one, other) {
        (Lookup::Found(mut bindings), Lookup::Found(more)) => {
            bindings.extend(*more);
            Lookup::Found(bindings)
        }
        (Lookup::Found(bindings), _) | (_, Lookup::Found(bindings)) => Lookup::Found(bindings),
        (one, _) => one,
    }
}

pub(super) fn failure(error: &kube::Error) -> TraceError {
    TraceError(format!("API server: {}", of_api_server(error)))
}
