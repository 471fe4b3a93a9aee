//! Judges the Services of sinks as the receivers do, by the manifests and by the cluster.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, ResourceExt as _};

use super::inventory::Key;
use crate::api::v1alpha1::RepoBinding;
use crate::network::NetworkPolicy;
use crate::protocol::sink_service::{self, ServiceAddress, ServiceFacts};
use crate::protocol::sink_target::{self, NotServed, ServiceTarget};
use crate::text::wording;

/// Where Services are found: a manifest goes before the cluster.
pub(super) struct Services {
    manifests: HashMap<Key, Service>,
    cluster: Option<Client>,
}

/// What is known of the Services of a binding's sinks.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// The sinks to which nothing would be sent, with the reason.
    pub(super) unserved: Vec<(String, NotServed)>,
    /// The Services that could not be seen, with the reason.
    pub(super) unseen: Vec<String>,
}

/// What is known of one Service.
enum Found {
    /// A manifest has no address and may leave ports out that a cluster adds.
    InManifest(ServiceFacts),
    InCluster(Option<ServiceFacts>),
    Unseen(String),
}

impl Services {
    pub(super) const fn new(manifests: HashMap<Key, Service>, cluster: Option<Client>) -> Self {
        Self { manifests, cluster }
    }

    /// Judges the Services of all sinks of a binding.
    pub(super) async fn judge(&self, binding: &RepoBinding, network: &NetworkPolicy) -> Judged {
        let mut judged = Judged::default();
        let namespace = binding.namespace().unwrap_or_default();
        for sink in &binding.spec.sinks {
            // A sink that is wrong by itself is reported from its spec.
            let Ok(Some(target)) = sink_target::target(&namespace, sink, network).map(|target| target.service) else { continue };
            let refusal = match self.find(&target).await {
                Found::InManifest(facts) => judge_manifest(&target, &namespace, facts),
                Found::InCluster(facts) => sink_service::judge(&target, &namespace, facts.as_ref()).err(),
                Found::Unseen(why) => {
                    judged.unseen.push(format!(
                        "Service {}/{} of sink {} {why}, so it was not checked whether events can be sent to it",
                        target.namespace, target.name, sink.name
                    ));
                    None
                }
            };
            judged.unserved.extend(refusal.map(|refusal| (sink.name.clone(), refusal)));
        }
        judged
    }

    async fn find(&self, target: &ServiceTarget) -> Found {
        if let Some(service) = self.manifests.get(&(target.namespace.clone(), target.name.clone())) {
            return Found::InManifest(ServiceFacts::of(service));
        }
        let Some(client) = &self.cluster else {
            return Found::Unseen("is not among the manifests".to_owned());
        };
        match Api::<Service>::namespaced(client.clone(), &target.namespace).get_opt(&target.name).await {
            Ok(service) => Found::InCluster(service.as_ref().map(ServiceFacts::of)),
            Err(error) => Found::Unseen(format!("cannot be read ({})", wording::of_api_server(&error))),
        }
    }
}

/// Judges a Service of a manifest. The cluster assigns the address later.
fn judge_manifest(target: &ServiceTarget, namespace: &str, mut facts: ServiceFacts) -> Option<NotServed> {
    if facts.address == ServiceAddress::Unassigned {
        facts.address = ServiceAddress::At(Box::default());
    }
    sink_service::judge(target, namespace, Some(&facts)).err()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::sink_target::NotServedKind;

    fn binding(service: &Value) -> RepoBinding {
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding", "metadata": {"name": "shop", "namespace": "team"},
            "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop", "sinks": [{"name": "ci", "service": service}]},
        }))
        .unwrap()
    }

    fn services(manifests: &[Value]) -> Services {
        let objects = manifests.iter().map(|object| serde_json::from_value::<Service>(object.clone()).unwrap());
        Services::new(objects.map(|service| ((service.namespace().unwrap(), service.name_any()), service)).collect(), None)
    }

    fn service(namespace: &str, spec: &Value, deliver_from: &str) -> Value {
        let annotations = json!({"forgebind.dev/deliver-from": deliver_from});
        json!({"metadata": {"name": "ci", "namespace": namespace, "annotations": annotations}, "spec": spec})
    }

    #[tokio::test]
    async fn a_service_of_a_manifest_is_judged_by_what_the_manifest_decides() {
        use NotServedKind::{Invalid, NotAllowed};
        let usual = json!({"selector": {"app": "ci"}, "ports": [{"port": 80}]});
        let external = json!({"type": "ExternalName", "externalName": "kubernetes.default.svc", "ports": [{"port": 80}]});
        let headless = json!({"clusterIP": "None", "selector": {"app": "ci"}, "ports": [{"port": 80}]});
        let own = json!({"name": "ci", "port": 80});
        let other = json!({"name": "ci", "namespace": "tekton", "port": 80});
        let port = json!({"name": "ci", "port": 81});
        for (what, names, present, expected) in [
            ("fine", &own, service("team", &usual, ""), None),
            ("a wrong port", &port, service("team", &usual, ""), Some(Invalid)),
            ("a name of DNS", &own, service("team", &external, ""), Some(NotAllowed)),
            ("headless", &own, service("team", &headless, ""), Some(NotAllowed)),
            ("no selector", &own, service("team", &json!({"ports": [{"port": 80}]}), ""), Some(NotAllowed)),
            ("another namespace consents", &other, service("tekton", &usual, "team"), None),
            ("another namespace does not", &other, service("tekton", &usual, "blog"), Some(NotAllowed)),
        ] {
            let judged = services(&[present]).judge(&binding(names), &NetworkPolicy::default()).await;
            assert_eq!(judged.unserved.first().map(|(_, refusal)| refusal.kind), expected, "{what}: {judged:?}");
            assert_eq!(judged.unseen, [""; 0], "{what}");
        }
    }

    #[tokio::test]
    async fn a_service_that_nobody_sees_is_neither_right_nor_wrong() {
        let judged = services(&[]).judge(&binding(&json!({"name": "ci", "port": 80})), &NetworkPolicy::default()).await;
        assert!(judged.unserved.is_empty());
        let [unseen] = &judged.unseen[..] else { panic!("{judged:?}") };
        assert!(unseen.starts_with("Service team/ci of sink ci is not among the manifests"), "{unseen}");
        let wrong = services(&[]).judge(&binding(&json!({"name": "user@evil.io", "port": 80})), &NetworkPolicy::default()).await;
        assert!(wrong.unserved.is_empty() && wrong.unseen.is_empty(), "what the spec alone decides is reported once");
    }
}
