//! Decides whether a connection may be used by a binding. Pure, except for the table of the known grants.

pub mod explain;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};
use parking_lot::RwLock;
use url::Url;

use crate::api::v1alpha1::connection::Access;
use crate::api::v1alpha1::grant::NamespacesFrom;
use crate::api::v1alpha1::{ConnectionGrant, ConnectionGrantSpec, GitProviderConnection};
use crate::network::HostPattern;
use crate::protocol::glob;

/// A binding's request to use a connection.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Namespace of the binding.
    pub namespace: &'a str,
    /// Labels of that namespace; `None` if they cannot be read.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// The repository's path; `None` while it cannot be parsed, in which case only the other rules are checked.
    pub repository: Option<&'a str>,
    /// The URL in `webhook.url`, if it is set.
    pub destination: Option<&'a Url>,
}

/// One `ConnectionGrant`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Namespace of the grant and of its connections.
    pub namespace: String,
    /// Name of the grant.
    pub name: String,
    /// What it allows.
    pub spec: ConnectionGrantSpec,
    /// The selectors of the spec; `Err` if one is invalid, which then selects nothing.
    connections: Option<Result<Selector, String>>,
    namespaces: Option<Result<Selector, String>>,
}

/// What a rule says about a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryVerdict<'a> {
    /// It includes the path, or no path is asked for.
    Included,
    /// It does not include the path.
    NotIncluded,
    /// It includes the path and excludes it by this pattern.
    ExcludedBy(&'a str),
}

/// What a rule says about the parts of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether it covers the namespace; `None` if that depends on labels that cannot be read.
    pub namespace: Option<bool>,
    /// What it says about the repository.
    pub repository: RepositoryVerdict<'a>,
    /// Whether it covers the destination.
    pub destination: bool,
}

impl Verdict<'_> {
    /// Whether the rule allows the request; `None` if that cannot be decided.
    #[must_use]
    pub fn allows(&self) -> Option<bool> {
        if self.repository == RepositoryVerdict::Included && self.destination { self.namespace } else { Some(false) }
    }
}

impl Rule {
    /// The rule of a grant; `None` for one that is being deleted or that has no name.
    #[must_use]
    pub fn of(grant: &ConnectionGrant) -> Option<Self> {
        if grant.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let read = |selector: &LabelSelector| Selector::try_from(selector.clone()).map_err(|error| error.to_string());
        Some(Self {
            namespace: grant.metadata.namespace.clone()?,
            name: grant.metadata.name.clone()?,
            connections: grant.spec.connection_selector.as_ref().map(read),
            namespaces: grant.spec.namespaces.selector.as_ref().map(read),
            spec: grant.spec.clone(),
        })
    }

    /// The field of an invalid selector, and what is wrong with it.
    #[must_use]
    pub fn invalid_selector(&self) -> Option<(&'static str, &str)> {
        let fields = [("spec.connectionSelector", &self.connections), ("spec.namespaces.selector", &self.namespaces)];
        fields.into_iter().find_map(|(field, selector)| Some((field, selector.as_ref()?.as_ref().err()?.as_str())))
    }

    /// Whether the rule is about a connection of its own namespace with this name and these labels.
    #[must_use]
    pub fn is_about(&self, name: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        match (&self.spec.connection_ref, &self.connections) {
            (Some(reference), _) => reference.name == name,
            (None, Some(Ok(selector))) => selector.matches(labels.unwrap_or(&BTreeMap::new())),
            (None, _) => false,
        }
    }

    /// Whether the rule covers a namespace; `None` if that depends on labels that cannot be read.
    #[must_use]
    pub fn covers_namespace(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Option<bool> {
        match (self.spec.namespaces.from, &self.namespaces) {
            (NamespacesFrom::Same, _) => Some(namespace == self.namespace),
            (NamespacesFrom::All, _) => Some(true),
            (NamespacesFrom::Selector, Some(Ok(selector))) => labels.map(|labels| selector.matches(labels)),
            (NamespacesFrom::Selector, _) => Some(false),
        }
    }

    /// What the rule says about a request.
    #[must_use]
    pub fn judge(&self, request: Request<'_>) -> Verdict<'_> {
        Verdict {
            namespace: self.covers_namespace(request.namespace, request.namespace_labels),
            repository: self.repository(request.repository),
            destination: request.destination.is_none_or(|url| self.covers_destination(url)),
        }
    }

    /// As [`Verdict::allows`]. The comparison with the patterns comes last, because it takes the most time.
    #[must_use]
    pub fn allows(&self, request: Request<'_>) -> Option<bool> {
        let namespace = self.covers_namespace(request.namespace, request.namespace_labels);
        let refused = namespace == Some(false)
            || request.destination.is_some_and(|url| !self.covers_destination(url))
            || self.repository(request.repository) != RepositoryVerdict::Included;
        if refused { Some(false) } else { namespace }
    }

    fn repository(&self, repository: Option<&str>) -> RepositoryVerdict<'_> {
        let Some(repository) = repository else { return RepositoryVerdict::Included };
        let repository = repository.to_lowercase();
        let fits = |pattern: &&String| glob::matches(&pattern.to_lowercase(), &repository);
        let repositories = &self.spec.repositories;
        if !repositories.include.iter().any(|pattern| fits(&pattern)) {
            return RepositoryVerdict::NotIncluded;
        }
        let excluded = repositories.exclude.iter().find(fits);
        excluded.map_or(RepositoryVerdict::Included, |pattern| RepositoryVerdict::ExcludedBy(pattern))
    }

    fn covers_destination(&self, url: &Url) -> bool {
        self.spec.destination_hosts.iter().filter_map(|host| host.parse::<HostPattern>().ok()).any(|host| host.matches(url))
    }
}

/// Everything that decides who may use one connection.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Namespace of the connection.
    pub namespace: String,
    /// Who may use it without a grant.
    pub access: Access,
    /// The grants that are about it, by name; `None` until the grants have been listed.
    pub grants: Option<Vec<Arc<Rule>>>,
}

impl Rules {
    /// Whether the request is one that needs no grant.
    #[must_use]
    pub fn need_no_grant(&self, request: Request<'_>) -> bool {
        self.access == Access::SameNamespace && self.namespace == request.namespace && request.destination.is_none()
    }

    /// Whether the request is permitted: it needs no grant, or any of the grants allows it. `None` if the result depends on a
    /// namespace's labels which cannot be read, or on grants that have not been listed: that grants nothing new and withdraws
    /// nothing.
    #[must_use]
    pub fn permit(&self, request: Request<'_>) -> Option<bool> {
        if self.need_no_grant(request) {
            return Some(true);
        }
        let mut result = Some(false);
        for rule in self.grants.as_ref()? {
            // A rule that cannot be decided changes nothing any more, and its patterns need not be compared.
            if result.is_none() && rule.covers_namespace(request.namespace, request.namespace_labels).is_none() {
                continue;
            }
            match rule.allows(request) {
                Some(true) => return Some(true),
                None => result = None,
                Some(false) => {}
            }
        }
        result
    }

    /// Whether these are the same rules. Grants that did not change are shared.
    #[must_use]
    pub fn are(&self, others: &Self) -> bool {
        let same = |ours: &Vec<Arc<Rule>>, theirs: &Vec<Arc<Rule>>| {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(our, their)| Arc::ptr_eq(our, their))
        };
        let grants = match (&self.grants, &others.grants) {
            (Some(ours), Some(theirs)) => same(ours, theirs),
            (None, None) => true,
            _ => false,
        };
        grants && self.access == others.access && self.namespace == others.namespace
    }
}

/// A change to a grant: what it said before and what it says now; `None` where it does not count.
#[derive(Clone, Debug)]
pub struct Changed {
    /// What it said before.
    pub before: Option<Arc<Rule>>,
    /// What it says now.
    pub after: Option<Arc<Rule>>,
}

impl Changed {
    /// The rules that said or say something.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.before.iter().chain(&self.after).map(|rule| &**rule)
    }

    /// Whether it may concern the bindings of a namespace whose labels are not known.
    #[must_use]
    pub fn may_cover(&self, namespace: &str) -> bool {
        self.rules().any(|rule| rule.covers_namespace(namespace, None) != Some(false))
    }
}

/// The known grants. Clones share one table.
#[derive(Clone, Default)]
pub struct Grants(Arc<RwLock<Table>>);

#[derive(Default)]
struct Table {
    listed: bool,
    /// By namespace and name.
    rules: HashMap<String, BTreeMap<String, Arc<Rule>>>,
}

impl Grants {
    /// The grants of a complete listing.
    #[must_use]
    pub fn listing<'a>(grants: impl IntoIterator<Item = &'a ConnectionGrant>) -> Self {
        let known = Self::default();
        for grant in grants {
            known.apply(grant);
        }
        known.listed();
        known
    }

    /// Adds or updates a grant. `None` if it says the same as before.
    #[expect(clippy::must_use_candidate, reason = "the table changes")]
    pub fn apply(&self, grant: &ConnectionGrant) -> Option<Changed> {
        let Some(rule) = Rule::of(grant) else { return self.remove(&grant.namespace().unwrap_or_default(), &grant.name_any()) };
        let mut table = self.0.write();
        let rules = table.rules.entry(rule.namespace.clone()).or_default();
        if rules.get(&rule.name).is_some_and(|known| known.spec == rule.spec) {
            return None;
        }
        let rule = Arc::new(rule);
        let before = rules.insert(rule.name.clone(), Arc::clone(&rule));
        Some(Changed { before, after: Some(rule) })
    }

    /// Removes a grant. `None` if it was not known.
    #[expect(clippy::must_use_candidate, reason = "the table changes")]
    pub fn remove(&self, namespace: &str, name: &str) -> Option<Changed> {
        let mut table = self.0.write();
        let rules = table.rules.get_mut(namespace)?;
        let before = rules.remove(name)?;
        if rules.is_empty() {
            table.rules.remove(namespace);
        }
        Some(Changed { before: Some(before), after: None })
    }

    /// Records that every existing grant is known. Until then nothing that needs a grant is decided.
    pub fn listed(&self) {
        self.0.write().listed = true;
    }

    /// Whether every existing grant is known.
    #[must_use]
    pub fn are_listed(&self) -> bool {
        self.0.read().listed
    }

    /// The rules of a connection.
    #[must_use]
    pub fn of(&self, connection: &GitProviderConnection) -> Rules {
        let ObjectMeta { namespace, name, labels, .. } = &connection.metadata;
        let (namespace, name) = (namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
        self.rules(namespace, name, labels.as_ref(), connection.spec.access)
    }

    /// The rules of a connection of this namespace, name, labels and access.
    #[must_use]
    pub fn rules(&self, namespace: &str, name: &str, labels: Option<&BTreeMap<String, String>>, access: Access) -> Rules {
        let table = self.0.read();
        let within = || table.rules.get(namespace).into_iter().flat_map(BTreeMap::values);
        let grants = table.listed.then(|| within().filter(|rule| rule.is_about(name, labels)).cloned().collect());
        Rules { namespace: namespace.to_owned(), access, grants }
    }

    /// The grants of a namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Vec<Arc<Rule>> {
        self.0.read().rules.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// All grants.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Rule>> {
        self.0.read().rules.values().flat_map(BTreeMap::values).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
