use serde_json::{Value, json};

use super::explain::{lacking, nearest};
use super::*;

fn connection(access: &str) -> GitProviderConnection {
    serde_json::from_value(json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
        "metadata": {"name": "acme", "namespace": "platform", "labels": {"tier": "shared"}},
        "spec": {"provider": {"gitea": {"url": "https://gitea.acme.io", "organization": "acme"}}, "access": access},
    }))
    .unwrap()
}

fn grant(name: &str, spec: &Value) -> ConnectionGrant {
    let mut whole = json!({"connectionRef": {"name": "acme"}, "namespaces": {"from": "Same"}, "repositories": {"include": ["**"]}});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    if spec.get("connectionSelector").is_some() {
        whole.as_object_mut().unwrap().remove("connectionRef");
    }
    serde_json::from_value(json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "ConnectionGrant",
        "metadata": {"name": name, "namespace": "platform"}, "spec": whole,
    }))
    .unwrap()
}

fn rules(access: &str, grants: &[Value]) -> Rules {
    let grants: Vec<_> = grants.iter().enumerate().map(|(number, spec)| grant(&format!("g{number}"), spec)).collect();
    Grants::listing(&grants).of(&connection(access))
}

fn ask<'a>(namespace: &'a str, repository: &'a str, labels: Option<&'a BTreeMap<String, String>>) -> Request<'a> {
    Request { namespace, namespace_labels: labels, repository: Some(repository), destination: None }
}

fn labels(team: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("team".to_owned(), team.to_owned())])
}

fn of_team(team: &str) -> Value {
    json!({"from": "Selector", "selector": {"matchLabels": {"team": team}}})
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn without_grants_only_the_own_namespace_is_permitted_and_only_our_own_receiver() {
    let open = rules("SameNamespace", &[]);
    assert_eq!(open.permit(ask("platform", "acme/shop", None)), Some(true));
    assert_eq!(open.permit(ask("team", "acme/shop", None)), Some(false));
    let elsewhere = url("https://argocd.acme.io/api/webhook");
    assert_eq!(open.permit(Request { destination: Some(&elsewhere), ..ask("platform", "acme/shop", None) }), Some(false));
    assert_eq!(rules("Granted", &[]).permit(ask("platform", "acme/shop", None)), Some(false));
    let same = [json!({"namespaces": {"from": "Same"}, "repositories": {"include": ["acme/sh*"]}})];
    assert_eq!(rules("Granted", &same).permit(ask("platform", "acme/shop", None)), Some(true));
    assert_eq!(rules("Granted", &same).permit(ask("platform", "acme/cart", None)), Some(false));
}

#[test]
fn a_binding_may_do_what_the_union_of_the_grants_allows_each_taken_as_a_whole() {
    let shop = labels("shop");
    let (argocd, evil) = (url("https://argocd.acme.io/api/webhook"), url("https://evil.example/hook"));
    let rules = rules(
        "SameNamespace",
        &[
            json!({"namespaces": of_team("shop"), "repositories": {"include": ["Acme/shop-*"], "exclude": ["acme/shop-secret*"]}}),
            json!({"namespaces": of_team("shop"), "repositories": {"include": ["acme/shop-secret-doc"]}}),
            json!({"namespaces": {"from": "Same"}, "destinationHosts": ["argocd.acme.io"]}),
        ],
    );
    for (request, expected, about) in [
        (ask("team", "acme/SHOP-api", Some(&shop)), Some(true), "case makes no difference"),
        (ask("team", "acme/cart", Some(&shop)), Some(false), "no grant includes it"),
        (ask("team", "acme/shop-secrets", Some(&shop)), Some(false), "exclude wins over include within a grant"),
        (ask("team", "acme/shop-secret-doc", Some(&shop)), Some(true), "but not over another grant's include"),
        (ask("team", "acme/shop-api", Some(&labels("other"))), Some(false), "another team's labels"),
        (ask("team", "acme/shop-api", None), None, "without readable labels there is no decision"),
        (ask("team", "acme/cart", None), Some(false), "no labels could grant this"),
        (Request { destination: Some(&argocd), ..ask("platform", "acme/cart", None) }, Some(true), "the host is listed"),
        (Request { destination: Some(&evil), ..ask("platform", "acme/cart", None) }, Some(false), "the host is not listed"),
        // One grant covers the namespace and the repository, another the host: neither covers the request.
        (
            Request { destination: Some(&argocd), ..ask("team", "acme/shop-api", Some(&shop)) },
            Some(false),
            "rights of two grants are not mixed",
        ),
        (Request { repository: None, ..ask("team", "", Some(&shop)) }, Some(true), "a path that cannot be parsed is not judged"),
        (Request { repository: None, ..ask("team", "", Some(&labels("other"))) }, Some(false), "but the namespace is"),
    ] {
        assert_eq!(rules.permit(request), expected, "{about}");
    }
}

#[test]
fn a_grant_is_about_the_connections_of_its_own_namespace_that_it_names_or_selects() {
    let all = json!({"from": "All"});
    let permits = |spec: Value| rules("SameNamespace", &[spec]).permit(ask("team", "acme/shop", None)) == Some(true);
    assert!(permits(json!({"namespaces": all})));
    assert!(!permits(json!({"namespaces": all, "connectionRef": {"name": "other"}})));
    assert!(permits(json!({"namespaces": all, "connectionSelector": {"matchLabels": {"tier": "shared"}}})));
    assert!(permits(json!({"namespaces": all, "connectionSelector": {}})), "an empty selector selects every connection");
    assert!(!permits(json!({"namespaces": all, "connectionSelector": {"matchLabels": {"tier": "private"}}})));
    let mut elsewhere = grant("elsewhere", &json!({"namespaces": all}));
    elsewhere.metadata.namespace = Some("team".to_owned());
    let known = Grants::listing(&[elsewhere]);
    assert_eq!(known.of(&connection("SameNamespace")).permit(ask("team", "acme/shop", None)), Some(false), "a grant of another namespace");
}

#[test]
fn an_invalid_selector_selects_nothing() {
    let broken = json!({"matchExpressions": [{"key": "team", "operator": "Contains", "values": ["shop"]}]});
    let shop = labels("shop");
    for (spec, field) in [
        (json!({"namespaces": {"from": "Selector", "selector": broken}}), "spec.namespaces.selector"),
        (json!({"namespaces": {"from": "All"}, "connectionSelector": broken}), "spec.connectionSelector"),
    ] {
        assert_eq!(
            rules("SameNamespace", std::slice::from_ref(&spec)).permit(ask("team", "acme/shop", Some(&shop))),
            Some(false),
            "{field}"
        );
        assert_eq!(Rule::of(&grant("g", &spec)).unwrap().invalid_selector().unwrap().0, field);
    }
}

#[test]
fn nothing_that_needs_a_grant_is_decided_before_all_grants_are_known() {
    let known = Grants::default();
    let connection = connection("SameNamespace");
    known.apply(&grant("other-team", &json!({"namespaces": of_team("cart")})));
    assert_eq!(known.of(&connection).permit(ask("team", "acme/shop", Some(&labels("shop")))), None);
    assert_eq!(known.of(&connection).permit(ask("platform", "acme/shop", None)), Some(true), "this needs no grant");
    known.listed();
    assert_eq!(known.of(&connection).permit(ask("team", "acme/shop", Some(&labels("shop")))), Some(false));
}

#[test]
fn a_change_is_one_of_the_spec_and_a_grant_that_is_being_deleted_does_not_count() {
    let known = Grants::listing(&[]);
    let mut shop = grant("shop", &json!({"namespaces": {"from": "All"}}));
    let first = known.apply(&shop).unwrap();
    assert!(first.before.is_none() && first.after.is_some());
    let before = known.of(&connection("SameNamespace"));
    shop.status = Some(serde_json::from_value(json!({"bindings": 7})).unwrap());
    assert!(known.apply(&shop).is_none(), "a status says nothing about who may use a connection");
    assert!(before.are(&known.of(&connection("SameNamespace"))));
    shop.spec.repositories.include = vec!["acme/*".to_owned()];
    assert_eq!(known.apply(&shop).unwrap().rules().count(), 2);
    assert!(!before.are(&known.of(&connection("SameNamespace"))));
    shop.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    assert!(known.apply(&shop).unwrap().after.is_none());
    assert_eq!(known.of(&connection("SameNamespace")).permit(ask("team", "acme/shop", None)), Some(false));
    assert!(known.remove("platform", "shop").is_none(), "it was removed already");
}

/// For those who may see it, the message names the nearest grant, its field, and what to add.
#[test]
fn names_the_nearest_grant_and_what_it_lacks() {
    let argocd = url("https://argocd.acme.io/api/webhook");
    let shop = labels("shop");
    let far = json!({"namespaces": of_team("cart"), "repositories": {"include": ["acme/cart-*"]}});
    for (access, grants, destination, words) in [
        (
            "SameNamespace",
            vec![],
            Some(&argocd),
            vec!["webhook.url leads to argocd.acme.io", "destinationHosts: [argocd.acme.io]", "connectionRef: {name: acme}"],
        ),
        ("Granted", vec![], None, vec!["the access of the connection is Granted", "include: [acme/shop]"]),
        ("SameNamespace", vec![json!({})], Some(&argocd), vec!["is g0", "destinationHosts does not list argocd.acme.io"]),
        (
            "Granted",
            vec![far.clone(), json!({"repositories": {"include": ["acme/cart", "acme/pay-*"]}})],
            None,
            vec!["is g1", "repositories.include (acme/cart, acme/pay-*) does not match \"acme/shop\""],
        ),
        (
            "Granted",
            vec![far, json!({"repositories": {"include": ["**"], "exclude": ["acme/sh*"]}})],
            None,
            vec!["is g1", "repositories.exclude has acme/sh*, which matches \"acme/shop\""],
        ),
        (
            "Granted",
            vec![json!({"namespaces": of_team("cart")})],
            None,
            vec!["is g0", "namespaces.selector does not match the labels of namespace platform"],
        ),
    ] {
        let rules = rules(access, &grants);
        let request = Request { destination, ..ask("platform", "acme/shop", Some(&shop)) };
        assert_eq!(rules.permit(request), Some(false), "{words:?}");
        let text = lacking("acme", &rules, request);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
    assert!(nearest(&rules("Granted", &[]), ask("team", "acme/shop", None)).is_none());
}
