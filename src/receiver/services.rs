//! The Services of the watched namespaces, as the watch shows them. Judged at each attempt at a sink.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::sink_service::{self, ServiceFacts};
use crate::protocol::sink_target::{NotServed, ServiceTarget};

/// How long an address is trusted while the watch that would report its change is not answered. The address may belong to a Service
/// of another namespace by then: whoever creates one may choose a free `ClusterIP`. Longer than the restart of an API server, during
/// which deliveries go on.
const TRUSTED: Duration = Duration::from_secs(5 * 60);

/// Returns how long the watch of the Services of a namespace, or of all, has not been answered; `None` if it never was.
pub type ServiceWatch = Arc<dyn Fn(Option<&str>) -> Option<Duration> + Send + Sync>;

/// The Services by namespace and name.
pub(super) struct Services {
    known: HashMap<String, HashMap<String, ServiceFacts>>,
    /// The watched namespaces; empty for all.
    watched: Vec<String>,
    watch: ServiceWatch,
    /// When the first listing was complete.
    listed: Option<Instant>,
}

/// The Service of a sink that may be sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// Identifies the Service: another one of the same name has another UID.
    pub(super) uid: &'a str,
    pub(super) addresses: &'a [IpAddr],
}

impl Services {
    pub(super) fn of(watched: &[String], watch: ServiceWatch) -> Self {
        Self { known: HashMap::new(), watched: watched.to_vec(), watch, listed: None }
    }

    /// Adds or updates a Service.
    pub(super) fn apply(&mut self, namespace: String, name: String, facts: ServiceFacts) {
        self.known.entry(namespace).or_default().insert(name, facts);
    }

    pub(super) fn remove(&mut self, namespace: &str, name: &str) {
        if let Some(services) = self.known.get_mut(namespace) {
            services.remove(name);
            if services.is_empty() {
                self.known.remove(namespace);
            }
        }
    }

    /// Removes the Services of a namespace, or of all, that a complete listing did not find.
    pub(super) fn keep(&mut self, namespace: Option<&str>, listed: &HashSet<(String, String)>) {
        self.known.retain(|of, services| {
            if namespace.is_none_or(|namespace| namespace == of) {
                // One pair for all look-ups, because a set of pairs cannot be asked for a pair of references.
                let mut pair = (of.clone(), String::new());
                services.retain(|name, _| {
                    pair.1.clone_from(name);
                    listed.contains(&pair)
                });
            }
            !services.is_empty()
        });
    }

    /// Records that the first listing is complete.
    pub(super) fn complete(&mut self) {
        self.listed.get_or_insert_with(Instant::now);
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.listed.is_some()
    }

    /// The Service of a sink of a binding in `binding_namespace`.
    ///
    /// # Errors
    /// Why nothing may be sent to it now.
    pub(super) fn find(&self, sink: &ServiceTarget, binding_namespace: &str) -> Result<Found<'_>, NotServed> {
        let Some(listed) = self.listed else {
            return Err(NotServed::missing("the Services of the cluster are not listed yet"));
        };
        let namespace = &sink.namespace;
        if namespace != binding_namespace && !self.watched.is_empty() && !self.watched.contains(namespace) {
            return Err(NotServed::not_allowed(format!(
                "service.namespace {namespace} is not watched by this installation; ask the administrator to add it to \
                 --watch-namespaces, or use a Service of namespace {binding_namespace}"
            )));
        }
        let watch = Some(namespace.as_str()).filter(|_| !self.watched.is_empty());
        if (self.watch)(watch).unwrap_or_else(|| listed.elapsed()) >= TRUSTED {
            let of = watch.map_or_else(|| "the cluster".to_owned(), |namespace| format!("namespace {namespace}"));
            // Without the time: a text that changed by itself would be written to every status.
            return Err(NotServed::missing(format!(
                "the Services of {of} could not be watched for more than {} minutes, so that the address of Service {namespace}/{} may \
                 belong to another one by now; ask the administrator to restore the receivers' watch of services at the API server",
                TRUSTED.as_secs() / 60,
                sink.name
            )));
        }
        let facts = self.known.get(namespace).and_then(|services| services.get(&sink.name));
        let addresses = sink_service::judge(sink, binding_namespace, facts)?;
        Ok(Found { uid: facts.map_or("", |facts| &facts.uid), addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sink_service::ServiceAddress;

    fn facts(uid: &str) -> ServiceFacts {
        let address = ServiceAddress::At(["10.96.0.7".parse().unwrap()].into());
        ServiceFacts { uid: uid.into(), address, ports: [80].into(), deliver_from: None }
    }

    fn services_of(watched: &[&str]) -> Services {
        let watched: Vec<_> = watched.iter().map(|namespace| (*namespace).to_owned()).collect();
        Services::of(&watched, Arc::new(|_| Some(Duration::ZERO)))
    }

    fn sink(namespace: &str) -> ServiceTarget {
        ServiceTarget { namespace: namespace.to_owned(), name: "ci".to_owned(), port: 80 }
    }

    #[test]
    fn nothing_is_found_before_the_listing_and_what_a_later_listing_lacks_is_forgotten() {
        let mut services = services_of(&["team", "shop"]);
        services.apply("team".to_owned(), "ci".to_owned(), facts("one"));
        services.apply("shop".to_owned(), "ci".to_owned(), facts("two"));
        assert!(services.find(&sink("team"), "team").is_err(), "it may be listed only in part");
        services.complete();
        assert_eq!(services.find(&sink("team"), "team").unwrap().uid, "one");
        services.keep(Some("team"), &HashSet::new());
        assert!(services.find(&sink("team"), "team").unwrap_err().message.contains("does not exist"));
        assert!(services.find(&sink("shop"), "shop").is_ok(), "another namespace's listing says nothing of it");
        services.keep(None, &HashSet::from([("shop".to_owned(), "ci".to_owned())]));
        assert!(services.find(&sink("shop"), "shop").is_ok());
        services.remove("shop", "ci");
        assert!(services.find(&sink("shop"), "shop").is_err());
    }

    #[test]
    fn a_namespace_that_is_not_watched_is_named_with_the_flag() {
        let mut services = services_of(&["team"]);
        services.complete();
        let refused = services.find(&sink("tekton"), "team").unwrap_err();
        assert!(refused.message.contains("tekton") && refused.message.contains("--watch-namespaces"), "{refused}");
        let mut everywhere = services_of(&[]);
        everywhere.complete();
        assert!(everywhere.find(&sink("tekton"), "team").unwrap_err().message.contains("forgebind.dev/deliver-from"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_not_trusted_when_the_watch_of_its_namespace_has_long_not_been_answered() {
        let silence = |namespace: Option<&str>| match namespace {
            Some("shop") => Some(TRUSTED),
            Some("late") => None,
            _ => TRUSTED.checked_sub(Duration::from_secs(1)),
        };
        let mut services = Services::of(&["team".to_owned(), "shop".to_owned(), "late".to_owned()], Arc::new(silence));
        for namespace in ["team", "shop", "late"] {
            services.apply(namespace.to_owned(), "ci".to_owned(), facts(namespace));
        }
        services.complete();
        assert!(services.find(&sink("team"), "team").is_ok(), "another namespace's watch says nothing of it");
        let refused = services.find(&sink("shop"), "shop").unwrap_err();
        assert!(refused.message.starts_with("the Services of namespace shop could not be watched for more than 5 minutes"), "{refused}");
        assert!(services.find(&sink("late"), "late").is_ok(), "it was listed just now");
        tokio::time::advance(TRUSTED).await;
        assert!(services.find(&sink("late"), "late").is_err(), "listed, and never watched");

        let mut everywhere =
            Services::of(&[], Arc::new(|namespace| if namespace.is_none() { Some(TRUSTED) } else { Some(Duration::ZERO) }));
        everywhere.apply("team".to_owned(), "ci".to_owned(), facts("team"));
        everywhere.complete();
        assert!(everywhere.find(&sink("team"), "team").unwrap_err().message.contains("the Services of the cluster"));
    }
}
