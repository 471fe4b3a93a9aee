//! Decides whether events may be sent to a Service, and to which addresses. Pure.
//!
//! The DNS name of a Service is never resolved: who may edit a Service of the type `ExternalName`, or one without selector, could
//! lead the receiver anywhere.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::glob;
use super::sink_target::{NotServed, ServiceTarget};
use crate::api::v1alpha1::DELIVER_FROM;

/// Maximum length of the annotation `forgebind.dev/deliver-from` in bytes. A longer one allows nothing.
const MOST_DELIVER_FROM: usize = 4096;
/// Maximum number of ports that a message lists.
const SHOWN_PORTS: usize = 5;

/// What is kept of a Service. Small, because a cluster has many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// UID of the object: a Service that is deleted and created again is another one.
    pub uid: Box<str>,
    /// Where it leads.
    pub address: ServiceAddress,
    /// Its TCP ports.
    pub ports: Box<[u16]>,
    /// The value of `forgebind.dev/deliver-from`.
    pub deliver_from: Option<Box<str>>,
}

/// Where a Service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAddress {
    /// To a DNS name of its owner's choice: the type `ExternalName`.
    External,
    /// To its pods, without an address of its own.
    Headless,
    /// To addresses of its owner's choice.
    WithoutSelector,
    /// Nowhere yet: no address is assigned.
    Unassigned,
    /// To its pods, by these addresses of its own.
    At(Box<[IpAddr]>),
}

impl ServiceFacts {
    /// Reads the facts from a Service.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        let ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
        let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
        let annotation = service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELIVER_FROM));
        Self {
            uid: service.metadata.uid.clone().unwrap_or_default().into(),
            address: spec.map_or(ServiceAddress::Unassigned, address),
            ports: tcp.filter_map(|port| u16::try_from(port.port).ok()).collect(),
            deliver_from: annotation.filter(|value| value.len() <= MOST_DELIVER_FROM).map(|value| value.as_str().into()),
        }
    }

    /// Whether the Service's annotation allows bindings of a namespace to send events to it.
    fn allows(&self, namespace: &str) -> bool {
        let patterns = self.deliver_from.as_deref().unwrap_or_default().split(',');
        patterns.map(str::trim).any(|pattern| glob::matches(pattern, namespace))
    }
}

fn address(spec: &ServiceSpec) -> ServiceAddress {
    if spec.type_.as_deref() == Some("ExternalName") {
        return ServiceAddress::External;
    }
    let several = spec.cluster_ips.iter().flatten();
    let texts: Vec<&String> = if spec.cluster_ips.is_some() { several.collect() } else { spec.cluster_ip.iter().collect() };
    if texts.iter().any(|text| *text == "None") {
        return ServiceAddress::Headless;
    }
    if spec.selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty) {
        return ServiceAddress::WithoutSelector;
    }
    let addresses: Box<[IpAddr]> = texts.into_iter().filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() { ServiceAddress::Unassigned } else { ServiceAddress::At(addresses) }
}

/// Judges the Service of a sink of a binding in `binding_namespace`, as the Service is now; `None` if it does not exist. Returns
/// the addresses to send to.
///
/// # Errors
/// Why nothing is sent. A Service of another namespace that does not allow the binding is not told from one that does not exist.
pub fn judge<'a>(sink: &ServiceTarget, binding_namespace: &str, facts: Option<&'a ServiceFacts>) -> Result<&'a [IpAddr], NotServed> {
    let ServiceTarget { namespace, name, port } = sink;
    let service = format!("Service {namespace}/{name}");
    if namespace != binding_namespace && !facts.is_some_and(|facts| facts.allows(binding_namespace)) {
        return Err(NotServed::not_allowed(format!(
            "{service} does not exist or does not accept events of bindings in namespace {binding_namespace}; add the annotation \
             {DELIVER_FROM}: {binding_namespace} to it"
        )));
    }
    let Some(facts) = facts else {
        return Err(NotServed::missing(format!("{service} does not exist; create it, or correct service.name")));
    };
    let addresses = match &facts.address {
        ServiceAddress::At(addresses) => addresses,
        ServiceAddress::External => {
            return Err(NotServed::not_allowed(format!(
                "{service} has the type ExternalName, which may lead anywhere; use a Service with a selector, or an http sink"
            )));
        }
        ServiceAddress::Headless => {
            return Err(NotServed::not_allowed(format!("{service} is headless (clusterIP: None); use a Service with a ClusterIP")));
        }
        ServiceAddress::WithoutSelector => {
            return Err(NotServed::not_allowed(format!(
                "{service} has no selector, so that it may lead anywhere; use a Service with a selector, or an http sink"
            )));
        }
        ServiceAddress::Unassigned => return Err(NotServed::missing(format!("{service} has no ClusterIP yet"))),
    };
    if !facts.ports.contains(port) {
        let ports = facts.ports.iter().take(SHOWN_PORTS).map(u16::to_string).collect::<Vec<_>>().join(", ");
        let ports = if ports.is_empty() { "no TCP port".to_owned() } else { ports };
        return Err(NotServed::invalid(format!("service.port {port} is no port of {service}, which has {ports}; correct it")));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::sink_target::NotServedKind;

    fn service(spec: &Value, deliver_from: Option<&str>) -> ServiceFacts {
        let mut object = json!({"metadata": {"name": "ci", "namespace": "tekton", "uid": "uid-1"}, "spec": spec});
        if let Some(value) = deliver_from {
            object["metadata"]["annotations"] = json!({DELIVER_FROM: value});
        }
        ServiceFacts::of(&serde_json::from_value(object).unwrap())
    }

    fn usual() -> Value {
        json!({
            "type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "selector": {"app": "ci"},
            "ports": [{"port": 80}, {"port": 8080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        })
    }

    fn with(change: impl FnOnce(&mut Value)) -> ServiceFacts {
        let mut spec = usual();
        change(&mut spec);
        service(&spec, None)
    }

    fn at(namespace: &str, port: u16) -> ServiceTarget {
        ServiceTarget { namespace: namespace.to_owned(), name: "ci".to_owned(), port }
    }

    type Row<'a> = (&'a str, Option<&'a ServiceFacts>, u16, Result<Vec<IpAddr>, (NotServedKind, &'a str)>);

    #[test]
    fn only_a_service_with_a_cluster_ip_a_selector_and_the_port_gets_events() {
        use NotServedKind::{Invalid, Missing, NotAllowed};
        let one = with(|spec| spec["clusterIPs"] = Value::Null);
        let balanced = with(|spec| spec["type"] = json!("LoadBalancer"));
        let external =
            with(|spec| *spec = json!({"type": "ExternalName", "externalName": "kubernetes.default.svc", "ports": [{"port": 80}]}));
        let disguised = with(|spec| spec["type"] = json!("ExternalName"));
        let headless = with(|spec| (spec["clusterIP"], spec["clusterIPs"]) = (json!("None"), json!(["None"])));
        let older_headless = with(|spec| (spec["clusterIP"], spec["clusterIPs"]) = (json!("None"), Value::Null));
        let without_selector = with(|spec| spec["selector"] = Value::Null);
        let empty_selector = with(|spec| spec["selector"] = json!({}));
        let unassigned = with(|spec| (spec["clusterIP"], spec["clusterIPs"]) = (json!(""), json!([""])));
        let addresses = vec!["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let table: [Row<'_>; 14] = [
            ("usual", Some(&with(|_| ())), 80, Ok(addresses.clone())),
            ("another port", Some(&with(|_| ())), 8080, Ok(addresses.clone())),
            ("one address", Some(&one), 80, Ok(addresses[..1].to_vec())),
            ("a load balancer has a ClusterIP", Some(&balanced), 80, Ok(addresses)),
            ("missing", None, 80, Err((Missing, "Service tekton/ci does not exist"))),
            ("external", Some(&external), 80, Err((NotAllowed, "has the type ExternalName"))),
            ("external with an address", Some(&disguised), 80, Err((NotAllowed, "has the type ExternalName"))),
            ("headless", Some(&headless), 80, Err((NotAllowed, "is headless"))),
            ("headless without the list", Some(&older_headless), 80, Err((NotAllowed, "is headless"))),
            ("no selector", Some(&without_selector), 80, Err((NotAllowed, "has no selector"))),
            ("an empty selector", Some(&empty_selector), 80, Err((NotAllowed, "has no selector"))),
            ("no address yet", Some(&unassigned), 80, Err((Missing, "has no ClusterIP yet"))),
            (
                "no such port",
                Some(&with(|_| ())),
                81,
                Err((Invalid, "service.port 81 is no port of Service tekton/ci, which has 80, 8080")),
            ),
            ("a UDP port", Some(&with(|_| ())), 53, Err((Invalid, "service.port 53"))),
        ];
        for (what, facts, port, expected) in table {
            let found = judge(&at("tekton", port), "tekton", facts);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{what}"),
                (Err(found), Err((kind, says))) => {
                    assert_eq!(found.kind, kind, "{what}: {found}");
                    assert!(found.message.contains(says), "{what}: {found}");
                }
                (found, expected) => panic!("{what}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn little_is_kept_of_a_service() {
        // With the heap and the map's own room this is some 300 bytes, 3 MiB for 10,000 Services.
        assert!(size_of::<ServiceFacts>() <= 80, "{}", size_of::<ServiceFacts>());
    }

    #[test]
    fn a_service_of_another_namespace_needs_its_owners_consent() {
        for (annotation, namespace, allowed) in [
            (None, "team-shop", false),
            (Some("team-shop"), "team-shop", true),
            (Some("team-till, team-shop"), "team-shop", true),
            (Some("team-*"), "team-shop", true),
            (Some("*"), "team-shop", true),
            (Some("team-*"), "other-team-shop", false),
            (Some("team"), "team-shop", false),
            (Some(""), "team-shop", false),
            (Some(","), "team-shop", false),
            (Some("Team-Shop"), "team-shop", false),
        ] {
            let facts = service(&usual(), annotation);
            let found = judge(&at("tekton", 80), namespace, Some(&facts));
            assert_eq!(found.is_ok(), allowed, "{annotation:?} {namespace}");
        }
        let refused = judge(&at("tekton", 80), "team-shop", Some(&service(&usual(), None))).unwrap_err();
        assert_eq!(refused.kind, NotServedKind::NotAllowed);
        assert!(refused.message.contains("forgebind.dev/deliver-from: team-shop"), "{refused}");
        assert_eq!(judge(&at("tekton", 80), "team-shop", None).unwrap_err(), refused, "who may not use it learns nothing about it");
        assert!(judge(&at("tekton", 80), "tekton", Some(&service(&usual(), Some("team-*")))).is_ok(), "its own namespace needs none");
        let long = format!("team-shop,{}", "x".repeat(MOST_DELIVER_FROM));
        assert!(judge(&at("tekton", 80), "team-shop", Some(&service(&usual(), Some(&long)))).is_err());
    }
}
