//! Decides whether a connection lets a binding use it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use url::Url;

use crate::api::v1alpha1::connection::{AllowedBinding, GitProviderConnection, NamespacesFrom};
use crate::network::HostPattern;
use crate::protocol::glob;
use crate::text::wording;

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

/// The rules of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Its namespace.
    pub namespace: Option<&'a str>,
    /// Its `allowedBindings`.
    pub allowed: Option<&'a [AllowedBinding]>,
}

impl<'a> Rules<'a> {
    /// The rules of this connection.
    #[must_use]
    pub fn of(connection: &'a GitProviderConnection) -> Self {
        Self { namespace: connection.metadata.namespace.as_deref(), allowed: connection.spec.allowed_bindings.as_deref() }
    }
}

/// Whether the rules permit the request. `None` if the result depends on a namespace's labels and these cannot be read: that
/// grants nothing new and withdraws nothing.
///
/// Without rules, a connection permits every repository for bindings of its own namespace, and no `webhook.url`.
#[must_use]
pub fn permits(rules: Rules<'_>, request: Request<'_>) -> Option<bool> {
    let own = rules.namespace == Some(request.namespace);
    let Some(rules) = rules.allowed else { return Some(own && request.destination.is_none()) };
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

fn repository_fits(rule: &AllowedBinding, repository: Option<&str>) -> bool {
    let Some(repository) = repository else { return true };
    // The schema requires patterns in all rules except those for the own namespace.
    let unrestricted = rule.repositories.is_empty() && rule.namespaces.from == NamespacesFrom::Same;
    let repository = repository.to_lowercase();
    unrestricted || rule.repositories.iter().any(|pattern| glob::matches(&pattern.to_lowercase(), &repository))
}

fn destination_fits(rule: &AllowedBinding, destination: Option<&Url>) -> bool {
    let Some(url) = destination else { return true };
    rule.destination_hosts.iter().filter_map(|host| host.parse::<HostPattern>().ok()).any(|host| host.matches(url))
}

/// What a connection lacks to permit a binding of its own namespace, and how to add it, as text for users.
#[must_use]
pub fn lacking(
    connection: &GitProviderConnection,
    labels: Option<&BTreeMap<String, String>>,
    repository: &str,
    destination: Option<&Url>,
) -> String {
    let host = destination.and_then(Url::host_str).unwrap_or_default();
    let Some(rules) = &connection.spec.allowed_bindings else {
        return format!(
            "webhook.url leads to {host}, and a connection without allowedBindings allows no webhook.url; add the rule {{namespaces: {{from: \
             Same}}, destinationHosts: [{host}]}} to its spec.allowedBindings"
        );
    };
    let here = rules.iter().filter(|rule| match (rule.namespaces.from, &rule.namespaces.selector) {
        (NamespacesFrom::Same | NamespacesFrom::All, _) => true,
        (NamespacesFrom::Selector, Some(selector)) => labels.is_some_and(|labels| selects(selector, labels)),
        (NamespacesFrom::Selector, None) => false,
    });
    let (fitting, others): (Vec<_>, Vec<_>) = here.partition(|rule| repository_fits(rule, Some(repository)));
    let patterns: Vec<&str> = others.iter().flat_map(|rule| &rule.repositories).map(String::as_str).collect();
    match (fitting.is_empty(), patterns.is_empty()) {
        (true, true) => "none of its allowedBindings allows its own namespace; add the rule {namespaces: {from: Same}}".to_owned(),
        (true, false) => format!(
            "the rules in its allowedBindings for this namespace list the repositories {}, which do not match {}; extend a rule",
            patterns.join(", "),
            wording::quoted(repository)
        ),
        (false, _) => format!(
            "webhook.url leads to {host}, which is not in destinationHosts of any rule in its allowedBindings for this namespace and \
             repository; add {host} there"
        ),
    }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn permits(connection: &GitProviderConnection, request: Request<'_>) -> Option<bool> {
        super::permits(Rules::of(connection), request)
    }

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
        Request { namespace, namespace_labels: labels, repository: Some(repository), destination: None }
    }

    #[test]
    fn without_rules_only_the_own_namespace_is_permitted() {
        let connection = connection(None);
        assert_eq!(permits(&connection, ask("platform", "acme/shop", None)), Some(true));
        assert_eq!(permits(&connection, ask("team", "acme/shop", None)), Some(false));
        let url = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        assert_eq!(permits(&connection, Request { destination: Some(&url), ..ask("platform", "acme/shop", None) }), Some(false));
    }

    #[test]
    fn an_empty_list_of_rules_permits_nobody() {
        assert_eq!(permits(&connection(Some(json!([]))), ask("platform", "acme/shop", None)), Some(false));
    }

    #[test]
    fn a_namespace_is_checked_even_if_the_path_is_invalid() {
        let connection = connection(Some(json!([{"namespaces": {"from": "Same"}, "repositories": ["acme/shop"]}])));
        let asks = |namespace| Request { repository: None, ..ask(namespace, "", None) };
        assert_eq!(permits(&connection, asks("platform")), Some(true));
        assert_eq!(permits(&connection, asks("team")), Some(false));
    }

    #[test]
    fn rules_select_namespaces_repositories_and_destinations() {
        let connection = connection(Some(json!([
            {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}, "repositories": ["Acme/shop-*"]},
            {"namespaces": {"from": "Same"}, "destinationHosts": ["argocd.acme.io"]},
        ])));
        let shop = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let other = BTreeMap::from([("team".to_owned(), "other".to_owned())]);
        assert_eq!(permits(&connection, ask("team", "acme/SHOP-api", Some(&shop))), Some(true));
        assert_eq!(permits(&connection, ask("team", "acme/cart", Some(&shop))), Some(false));
        assert_eq!(permits(&connection, ask("team", "acme/shop-api", Some(&other))), Some(false));
        assert_eq!(permits(&connection, ask("team", "acme/shop-api", None)), None, "without readable labels there is no decision");
        assert_eq!(permits(&connection, ask("team", "acme/cart", None)), Some(false), "no labels could grant this");
        let url = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        assert_eq!(permits(&connection, Request { destination: Some(&url), ..ask("platform", "acme/cart", None) }), Some(true));
        let elsewhere = Url::parse("https://evil.example/hook").unwrap();
        assert_eq!(permits(&connection, Request { destination: Some(&elsewhere), ..ask("platform", "acme/cart", None) }), Some(false));
    }

    /// For the own namespace, the message names the part of the rules that does not match, and what to add.
    #[test]
    fn names_the_missing_part_of_a_rule_for_the_own_namespace() {
        let url = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        let labels = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let same = |more: serde_json::Value| {
            let mut rule = json!({"namespaces": {"from": "Same"}});
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Some(json!([rule]))
        };
        let selected =
            json!([{"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}, "repositories": ["acme/*"]}]);
        for (rules, destination, words) in [
            (
                None,
                Some(&url),
                "a connection without allowedBindings allows no webhook.url; add the rule {namespaces: {from: Same}, \
                 destinationHosts: [argocd.acme.io]}",
            ),
            (same(json!({})), Some(&url), "add argocd.acme.io there"),
            (
                same(json!({"destinationHosts": ["ci.acme.io"]})),
                Some(&url),
                "which is not in destinationHosts of any rule in its allowedBindings for this namespace and repository",
            ),
            (
                same(json!({"repositories": ["acme/cart", "acme/pay-*"]})),
                None,
                "list the repositories acme/cart, acme/pay-*, which do not match \"acme/shop\"",
            ),
            (Some(json!([])), None, "add the rule {namespaces: {from: Same}}"),
            (Some(selected), Some(&url), "repository; add argocd.acme.io there"),
        ] {
            let connection = connection(rules);
            let request = Request { destination, ..ask("platform", "acme/shop", Some(&labels)) };
            assert_eq!(permits(&connection, request), Some(false), "{words}");
            let text = lacking(&connection, Some(&labels), "acme/shop", destination);
            assert!(text.contains(words), "{text}");
        }
    }
}
