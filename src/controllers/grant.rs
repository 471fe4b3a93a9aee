//! Whether a connection lets a binding use it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use url::Url;

use crate::api::v1alpha1::connection::{AllowedBinding, GitProviderConnection, NamespacesFrom};
use crate::glob;
use crate::providers::transport::network::HostPattern;

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Namespace of the binding.
    pub namespace: &'a str,
    /// Labels of that namespace; `None` where they cannot be read.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// The repository's path.
    pub repository: &'a str,
    /// Where `webhook.url` points, when it is set.
    pub destination: Option<&'a Url>,
}

/// What the rules say. `None` where only a namespace's labels could tell and they cannot be read: that grants nothing new
/// and withdraws nothing.
///
/// Without rules: the same namespace, every repository, and no destination of somebody else's.
#[must_use]
pub fn permits(connection: &GitProviderConnection, request: Request<'_>) -> Option<bool> {
    let own = connection.metadata.namespace.as_deref() == Some(request.namespace);
    let Some(rules) = &connection.spec.allowed_bindings else { return Some(own && request.destination.is_none()) };
    let verdicts: Vec<_> = rules.iter().map(|rule| covers(rule, own, request)).collect();
    if verdicts.contains(&Some(true)) {
        Some(true)
    } else if verdicts.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn covers(rule: &AllowedBinding, own: bool, request: Request<'_>) -> Option<bool> {
    if !repository_fits(rule, request.repository) || !destination_fits(rule, request.destination) {
        return Some(false);
    }
    match (rule.namespaces.from, &rule.namespaces.selector) {
        (NamespacesFrom::Same, _) => Some(own),
        (NamespacesFrom::All, _) => Some(true),
        (NamespacesFrom::Selector, Some(selector)) => request.namespace_labels.map(|labels| selects(selector, labels)),
        (NamespacesFrom::Selector, None) => Some(false),
    }
}

fn repository_fits(rule: &AllowedBinding, repository: &str) -> bool {
    // The schema demands patterns from all rules but those for the own namespace.
    let unrestricted = rule.repositories.is_empty() && rule.namespaces.from == NamespacesFrom::Same;
    let repository = repository.to_lowercase();
    unrestricted || rule.repositories.iter().any(|pattern| glob::matches(&pattern.to_lowercase(), &repository))
}

fn destination_fits(rule: &AllowedBinding, destination: Option<&Url>) -> bool {
    let Some(url) = destination else { return true };
    rule.destination_hosts.iter().filter_map(|host| host.parse::<HostPattern>().ok()).any(|host| host.matches(url))
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn connection(rules: Option<serde_json::Value>) -> GitProviderConnection {
        let mut spec = json!({"provider": {"gitea": {"url": "https://gitea.acme.io", "organization": "acme"}}});
        if let Some(rules) = rules {
            spec["allowedBindings"] = rules;
        }
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
            "metadata": {"name": "c", "namespace": "platform"}, "spec": spec,
        }))
        .unwrap()
    }

    fn ask<'a>(namespace: &'a str, repository: &'a str, labels: Option<&'a BTreeMap<String, String>>) -> Request<'a> {
        Request { namespace, namespace_labels: labels, repository, destination: None }
    }

    #[test]
    fn without_rules_only_the_own_namespace_may() {
        let connection = connection(None);
        assert_eq!(permits(&connection, ask("platform", "acme/shop", None)), Some(true));
        assert_eq!(permits(&connection, ask("team", "acme/shop", None)), Some(false));
        let url = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        assert_eq!(permits(&connection, Request { destination: Some(&url), ..ask("platform", "acme/shop", None) }), Some(false));
    }

    #[test]
    fn no_rule_is_nobody() {
        assert_eq!(permits(&connection(Some(json!([]))), ask("platform", "acme/shop", None)), Some(false));
    }

    #[test]
    fn rules_choose_namespaces_repositories_and_destinations() {
        let connection = connection(Some(json!([
            {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}, "repositories": ["Acme/shop-*"]},
            {"namespaces": {"from": "Same"}, "destinationHosts": ["argocd.acme.io"]},
        ])));
        let shop = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let other = BTreeMap::from([("team".to_owned(), "other".to_owned())]);
        assert_eq!(permits(&connection, ask("team", "acme/SHOP-api", Some(&shop))), Some(true));
        assert_eq!(permits(&connection, ask("team", "acme/cart", Some(&shop))), Some(false));
        assert_eq!(permits(&connection, ask("team", "acme/shop-api", Some(&other))), Some(false));
        assert_eq!(permits(&connection, ask("team", "acme/shop-api", None)), None, "labels that cannot be read decide nothing");
        assert_eq!(permits(&connection, ask("team", "acme/cart", None)), Some(false), "no labels could grant this");
        let url = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        assert_eq!(permits(&connection, Request { destination: Some(&url), ..ask("platform", "acme/cart", None) }), Some(true));
        let elsewhere = Url::parse("https://evil.example/hook").unwrap();
        assert_eq!(permits(&connection, Request { destination: Some(&elsewhere), ..ask("platform", "acme/cart", None) }), Some(false));
    }
}
