//! Checks a single object: gathers facts, plans and reports as its controller does, and applies nothing.

use std::sync::Arc;

use kube::{Resource, ResourceExt as _};

use super::inventory::{Inventory, Key, Subject};
use super::result::{Finding, Level, Outcome, Row};
use super::services::Services;
use super::summary;
use crate::api::v1alpha1::{ConditionType, ConnectionGrant, GitProviderConnection, RECONCILE_REQUESTED_AT, Reason, RepoBinding};
use crate::controllers::binding::{self, outcome};
use crate::controllers::connection::facts::Facts;
use crate::controllers::connection::snapshot::Snapshot;
use crate::controllers::{Managed, View, connection, foreign_owner_message, grant};
use crate::network::HostPattern;
use crate::network::public_urls::PublicUrls;
use crate::providers::registry;
use crate::text::wording;

/// The inputs of a check.
pub(super) struct Checker {
    pub(super) view: View,
    pub(super) inventory: Inventory,
    pub(super) services: Services,
    pub(super) offline: bool,
    pub(super) from_cluster: bool,
    /// Whether the installation's own install key is known, so that its hooks can be recognised.
    pub(super) knows_key: bool,
}

impl Checker {
    /// Whether the object belongs to another installation, so that its controller would skip it. Adds the reason to the row.
    fn left_alone<K: Managed + Resource<DynamicType = ()>>(&self, object: &K, row: &mut Row) -> bool {
        let foreign = if self.knows_key { foreign_owner_message(object, &self.view.keys.fingerprint) } else { None };
        let Some(message) = foreign else { return false };
        let reason = Reason::ManagedByAnotherInstallation.as_str();
        row.reason = Some(reason.to_owned());
        row.findings.push(Finding::of(Level::Error, Some(ConditionType::Stalled), reason, &message));
        row.message = Some(message);
        true
    }

    /// Checks a connection. Its bindings can only be checked afterwards.
    pub(super) async fn connection(&self, key: &Key, subject: &Subject<GitProviderConnection>) -> Row {
        let location = subject.location.as_ref();
        let mut row = Row::new("GitProviderConnection", key, location, Outcome::NotReady);
        if self.left_alone(&*subject.object, &mut row) {
            return row;
        }
        let snapshot = Snapshot::read(&self.view, Arc::clone(&subject.object)).await;
        let facts = Facts::gather(&self.view, snapshot).await;
        // The bindings of this connection are checked through its session.
        connection::remember(&self.view, &facts);
        let plan = connection::plan::plan(&facts);
        let report = connection::report::report(&facts, &plan);
        row.tell(&report.status.conditions, location, self.offline);
        if !self.offline {
            row.found = summary::phrases(&report.status);
        }
        if let Some(active_client) = &facts.session.active_client {
            row.findings
                .extend(active_client.inspection.warnings.iter().map(|warning| Finding::plain(Level::Warning, warning).at(location)));
        }
        row.findings.extend(lints(&subject.object, &self.view.settings.public_urls).into_iter().map(|finding| finding.at(location)));
        if subject.object.metadata.deletion_timestamp.is_some() {
            row.outcome = Outcome::Deleting;
        }
        hint(&mut row);
        row
    }

    /// Checks a binding. Its connection must be checked first.
    pub(super) async fn binding(&self, key: &Key, subject: &Subject<RepoBinding>) -> Row {
        let location = subject.location.as_ref();
        let mut row = Row::new("RepoBinding", key, location, Outcome::NotReady);
        if self.left_alone(&*subject.object, &mut row) {
            return row;
        }
        let mut object = (*subject.object).clone();
        // Forces a probe, as an explicit request would, because the last status may be outdated.
        object.annotations_mut().insert(RECONCILE_REQUESTED_AT.to_owned(), "check".to_owned());
        let mut facts = binding::facts::Facts::gather(&self.view, Arc::new(object)).await;
        // In a cluster the receivers judge them, and report it as evidence.
        let services = self.services.judge(&subject.object, &self.view.network).await;
        facts.snapshot.unserved_sinks.extend(services.unserved);
        if let Some(probe) = facts.probe.as_mut().filter(|_| !self.from_cluster) {
            // The manifests may not contain all bindings.
            probe.orphaned_hooks.clear();
        }
        let plan = binding::plan::plan(&facts);
        let nothing_done = outcome::Outcome::nothing(Arc::clone(&facts.snapshot.object));
        let report = binding::report::report(&facts, &plan, &nothing_done);
        row.tell(&report.status.conditions, location, self.offline);
        if !self.offline {
            row.actions = plan.at_providers();
        }
        row.findings.extend(services.unseen.iter().map(|unseen| Finding::plain(Level::Note, unseen).at(location)));
        row.findings.extend(plan.notes.iter().map(|note| Finding::plain(Level::Warning, note).at(location)));
        if subject.object.metadata.deletion_timestamp.is_some() {
            row.outcome = Outcome::Deleting;
        }
        hint(&mut row);
        self.hint_of_connection(&mut row, &subject.object);
        if !self.knows_key {
            unrecognised(&mut row, &facts);
        }
        row
    }

    /// Checks a grant.
    pub(super) fn grant(&self, key: &Key, subject: &Subject<ConnectionGrant>) -> Row {
        let location = subject.location.as_ref();
        let mut row = Row::new("ConnectionGrant", key, location, Outcome::NotReady);
        let facts = grant::facts::Facts::read(&self.view, &subject.object, None);
        let report = grant::report::report(&facts);
        row.tell(&report.status.conditions, location, self.offline);
        row.findings.extend(lints_of_grant(&subject.object).into_iter().map(|finding| finding.at(location)));
        if subject.object.metadata.deletion_timestamp.is_some() {
            row.outcome = Outcome::Deleting;
        }
        let missing = row.findings.iter_mut().filter(|finding| finding.is(Reason::ConnectionNotFound) && !self.from_cluster);
        for finding in missing {
            finding.hint = Some("if the connection has a manifest of its own, add it with another -f".to_owned());
        }
        row
    }

    fn hint_of_connection(&self, row: &mut Row, object: &RepoBinding) {
        let target = object.connection_target();
        let known = self.inventory.connections.get(&(target.namespace.clone(), target.name.clone()));
        let refused = |kind: &str| {
            let same = |key: &Key| key.0 == target.namespace && key.1 == target.name;
            self.inventory.refused.iter().any(|refused| refused.kind == kind && same(&refused.key))
        };
        let namespace = object.namespace().unwrap_or_default();
        let hint = if known.is_none() && refused("GitProviderConnection") {
            format!("the manifest of connection {}/{} is invalid; see its findings", target.namespace, target.name)
        } else if known.is_none() && !self.from_cluster {
            format!(
                "connection {}/{} is not among the manifests; add it with another -f, or read the cluster with --from-cluster",
                target.namespace, target.name
            )
        } else if !self.inventory.namespaces.contains_key(&namespace) {
            format!(
                "the labels of namespace {namespace} are not known, and a ConnectionGrant may depend on them; add its manifest with \
                 another -f"
            )
        } else if !self.from_cluster
            && self.view.connection(&target).is_some_and(|known| self.view.grants.of(&known).grants.is_none_or(|grants| grants.is_empty()))
        {
            format!(
                "no ConnectionGrant of connection {}/{} is among the manifests; add them with another -f, or read the cluster with \
                 --from-cluster",
                target.namespace, target.name
            )
        } else {
            return;
        };
        let concerned = [Reason::ConnectionNotFound, Reason::RefNotPermitted, Reason::Progressing];
        for finding in row.findings.iter_mut().filter(|finding| concerned.iter().any(|reason| finding.is(*reason))) {
            finding.hint = Some(hint.clone());
        }
    }
}

/// Adds hints to findings where a check knows less than the controller would.
fn hint(row: &mut Row) {
    for finding in &mut row.findings {
        let credential = finding.condition.as_deref() == Some(ConditionType::Authenticated.as_str());
        let hint = match () {
            () if finding.is(Reason::SecretNotFound) && credential => {
                "if the credential is not in Git, pass an environment variable with --token-env, or add its Secret with another -f"
            }
            () if finding.is(Reason::SecretNotFound) || finding.is(Reason::TLSReferenceNotFound) => {
                "if the object is not in Git, add it with another -f, or read it from the cluster with --from-cluster"
            }
            () if finding.is(Reason::PublicURLMissing) => "run this check with the --public-url of the installation",
            // No flag decides about the Service of a sink.
            () if finding.is(Reason::SinkNotAllowed) && !finding.message.contains("http.url") => continue,
            () if finding.is(Reason::HostNotAllowed) || finding.is(Reason::InsecureURL) || finding.is(Reason::SinkNotAllowed) => {
                "run this check with the flags of the installation"
            }
            () => continue,
        };
        finding.hint = Some(hint.to_owned());
    }
}

/// Warns about hooks that look like Forgebind's: without the install key, their owner cannot be determined.
fn unrecognised(row: &mut Row, facts: &binding::facts::Facts) {
    let hooks = facts.probe.iter().filter_map(|probe| probe.hooks.as_ref()?.as_ref().ok()).flatten();
    let identity = &facts.snapshot.identity;
    let alike = hooks.filter(|hook| {
        let like_ours = identity.is_at_our_receiver(&hook.url) || binding::ownership::is_marked(&hook.url);
        like_ours && !identity.is_ours(&hook.url)
    });
    let ids: Vec<&str> = alike.map(|hook| hook.id.as_str()).collect();
    if !ids.is_empty() {
        let (hooks, verb, own) = match ids.as_slice() {
            [one] => (format!("hook {one}"), "looks", "the hook of this binding"),
            several => (format!("hooks {}", wording::enumerated(several)), "look", "hooks of this binding"),
        };
        let message = format!("{hooks} of the repository {verb} like Forgebind's and may be {own}; pass --install-key-file to find out");
        row.findings.push(Finding::plain(Level::Warning, message));
    }
}

/// Lints: valid but probably mistaken.
fn lints(object: &GitProviderConnection, public_urls: &PublicUrls) -> Vec<Finding> {
    let warning = |message: String| Finding::plain(Level::Warning, message);
    let mut found = Vec::new();
    // Bindings report this as well; here it is reported even if there are none yet.
    let choice = object.spec.receiver.as_ref().and_then(|receiver| receiver.public_url.as_deref());
    if let Some(Err(missing)) = choice.map(|choice| public_urls.choose(Some(choice))) {
        found.push(warning(missing.to_string()));
    }
    let provider = object.spec.provider.kind().and_then(registry::provider);
    for permission in &object.spec.required_permissions {
        if provider.is_some_and(|provider| provider.permission_words(*permission).is_none()) {
            found.push(warning(format!("spec.requiredPermissions: the provider has no permission {permission}; remove it")));
        }
    }
    found
}

/// Lints of a grant: hosts that allow nothing.
fn lints_of_grant(object: &ConnectionGrant) -> Vec<Finding> {
    let invalid = object.spec.destination_hosts.iter().filter(|host| host.parse::<HostPattern>().is_err());
    let warning = |host: &String| {
        let text = format!("spec.destinationHosts: {host:?} is not host, host:port or *.suffix, so it allows no host");
        Finding::plain(Level::Warning, text)
    };
    invalid.map(warning).collect()
}
