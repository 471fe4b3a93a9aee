//! Says in words which grant allows a request, or what the nearest one lacks. Only for those who may read the grants.

use super::{RepositoryVerdict, Request, Rule, Rules};
use crate::api::v1alpha1::connection::Access;
use crate::api::v1alpha1::grant::NamespacesFrom;
use crate::text::wording;

/// The grant that comes nearest to allowing a request, and why it does not.
#[must_use]
pub fn nearest<'a>(rules: &'a Rules, request: Request<'_>) -> Option<(&'a Rule, Vec<String>)> {
    let fitting = |rule: &&Rule| {
        let verdict = rule.judge(request);
        let repository = match verdict.repository {
            RepositoryVerdict::Included => 2,
            RepositoryVerdict::ExcludedBy(_) => 1,
            RepositoryVerdict::NotIncluded => 0,
        };
        (verdict.namespace.map_or(1, |covers| if covers { 2 } else { 0 }), repository, verdict.destination)
    };
    // Of several that come equally near, the first by name.
    let rule = rules.grants.iter().flatten().map(|rule| &**rule).rev().max_by_key(fitting)?;
    Some((rule, obstacles(rule, request)))
}

/// Why a rule does not allow a request; empty if it does.
#[must_use]
pub fn obstacles(rule: &Rule, request: Request<'_>) -> Vec<String> {
    let verdict = rule.judge(request);
    let mut found = Vec::new();
    if let Some((field, error)) = rule.invalid_selector() {
        found.push(format!("{field} is invalid: {error}"));
    } else if verdict.namespace != Some(true) {
        found.push(namespace(rule, request, verdict.namespace));
    }
    let path = wording::quoted(request.repository.unwrap_or_default());
    match verdict.repository {
        RepositoryVerdict::Included => {}
        RepositoryVerdict::NotIncluded => {
            found.push(format!("its repositories.include ({}) does not match {path}", rule.spec.repositories.include.join(", ")));
        }
        RepositoryVerdict::ExcludedBy(pattern) => found.push(format!("its repositories.exclude has {pattern}, which matches {path}")),
    }
    if let Some(url) = request.destination.filter(|_| !verdict.destination) {
        found.push(format!("its destinationHosts does not list {}", url.host_str().unwrap_or_default()));
    }
    found
}

fn namespace(rule: &Rule, request: Request<'_>, verdict: Option<bool>) -> String {
    let name = request.namespace;
    match (rule.spec.namespaces.from, verdict) {
        (NamespacesFrom::Selector, None) => format!("the labels of namespace {name} are not known, and its namespaces.selector needs them"),
        (NamespacesFrom::Selector, _) => format!("its namespaces.selector does not match the labels of namespace {name}"),
        (NamespacesFrom::Same | NamespacesFrom::All, _) => {
            format!("its namespaces.from is Same, which is {} and not {name}", rule.namespace)
        }
    }
}

/// What is missing for a request, and how to add it.
#[must_use]
pub fn lacking(connection: &str, rules: &Rules, request: Request<'_>) -> String {
    let namespace = &rules.namespace;
    if let Some((rule, obstacles)) = nearest(rules, request) {
        return format!(
            "the nearest ConnectionGrant is {}, but {}; change it, or create another one in namespace {namespace}",
            rule.name,
            wording::enumerated(&obstacles)
        );
    }
    let own = *namespace == request.namespace;
    let why = match request.destination {
        Some(url) if own && rules.access == Access::SameNamespace => {
            format!("webhook.url leads to {}, which a grant must allow", url.host_str().unwrap_or_default())
        }
        _ if own => "the access of the connection is Granted".to_owned(),
        _ => "a binding of another namespace needs a grant".to_owned(),
    };
    let from = if own { "Same" } else { "Selector, selector: …" };
    let host = request.destination.and_then(url::Url::host_str);
    let hosts = host.map(|host| format!(", destinationHosts: [{host}]")).unwrap_or_default();
    let spec = format!(
        "connectionRef: {{name: {connection}}}, namespaces: {{from: {from}}}, repositories: {{include: [{}]}}{hosts}",
        request.repository.unwrap_or("**")
    );
    format!("{why}, and no ConnectionGrant in namespace {namespace} names the connection; create one with spec {{{spec}}}")
}
