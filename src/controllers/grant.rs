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

/// Whether some rule of the connection covers the request. Without rules: the same namespace, every repository, and no
/// destination of somebody else's.
#[must_use]
pub fn permits(connection: &GitProviderConnection, request: Request<'_>) -> bool {
    let own = connection.metadata.namespace.as_deref() == Some(request.namespace);
    match &connection.spec.allowed_bindings {
        None => own && request.destination.is_none(),
        Some(rules) => rules.iter().any(|rule| covers(rule, own, request)),
    }
}

fn covers(rule: &AllowedBinding, own: bool, request: Request<'_>) -> bool {
    let namespace_fits = match rule.namespaces.from {
        NamespacesFrom::Same => own,
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => rule.namespaces.selector.as_ref().is_some_and(|selector| selects(selector, request.namespace_labels)),
    };
    namespace_fits && repository_fits(rule, request.repository) && destination_fits(rule, request.destination)
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

fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let Some(labels) = labels else { return false };
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
        assert!(permits(&connection, ask("platform", "acme/shop", None)));
        assert!(!permits(&connection, ask("team", "acme/shop", None)));
        let url = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        assert!(!permits(&connection, Request { destination: Some(&url), ..ask("platform", "acme/shop", None) }));
    }

    #[test]
    fn no_rule_is_nobody() {
        assert!(!permits(&connection(Some(json!([]))), ask("platform", "acme/shop", None)));
    }

    #[test]
    fn rules_choose_namespaces_repositories_and_destinations() {
        let connection = connection(Some(json!([
            {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}, "repositories": ["Acme/shop-*"]},
            {"namespaces": {"from": "Same"}, "destinationHosts": ["argocd.acme.io"]},
        ])));
        let shop = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let other = BTreeMap::from([("team".to_owned(), "other".to_owned())]);
        assert!(permits(&connection, ask("team", "acme/SHOP-api", Some(&shop))));
        assert!(!permits(&connection, ask("team", "acme/cart", Some(&shop))));
        assert!(!permits(&connection, ask("team", "acme/shop-api", Some(&other))));
        assert!(!permits(&connection, ask("team", "acme/shop-api", None)), "labels that cannot be read grant nothing");
        let url = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        assert!(permits(&connection, Request { destination: Some(&url), ..ask("platform", "acme/cart", None) }));
        let elsewhere = Url::parse("https://evil.example/hook").unwrap();
        assert!(!permits(&connection, Request { destination: Some(&elsewhere), ..ask("platform", "acme/cart", None) }));
    }
}
