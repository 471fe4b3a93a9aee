//! Judges the chain of a binding, up to its deliveries. Pure.

use kube::ResourceExt as _;
use url::Url;

use super::chain::{Chain, Link};
use super::conditions::{as_condition, condition, failing, remedy};
use super::deliveries;
use super::gather::{Lookup, Subject};
use crate::api::v1alpha1::binding::RepoBindingStatus;
use crate::api::v1alpha1::{ConditionType, GitProviderConnection, Reason, RepoBinding};
use crate::k8s::conditions::find;
use crate::text::wording::enumerated;

/// The chain of a binding; with a commit, as of the delivery with that commit.
pub(super) fn chain(subject: &Subject, sha: Option<&str>) -> Chain {
    let binding = &subject.binding;
    let target = binding.connection_target();
    let mut links = vec![connection(subject), grant(subject)];
    links.extend(own(binding));
    links.push(repository(binding));
    links.push(webhook(binding));
    if binding.spec.webhook.as_ref().is_some_and(|webhook| webhook.url.is_none()) {
        links.extend(endpoint(subject));
        links.extend(deliveries::links(binding, sha));
    }
    Chain {
        namespace: binding.namespace().unwrap_or_default(),
        name: binding.name_any(),
        repository: binding.known_repository().map_or_else(|| binding.spec.repository.clone(), |known| known.path.clone()),
        connection: format!("{}/{}", target.namespace, target.name),
        links,
        basis: deliveries::basis(binding),
    }
}

fn connection(subject: &Subject) -> Link {
    let link = "connection";
    let target = subject.binding.connection_target();
    let name = format!("{}/{}", target.namespace, target.name);
    match &subject.connection {
        Lookup::Found(found) => visible_connection(found, &name),
        Lookup::Missing => {
            Link::fail(link, format!("{name} does not exist"), "Create the connection, or correct spec.connectionRef of the binding.")
        }
        Lookup::Hidden => hidden_connection(&subject.binding, &name),
    }
}

fn visible_connection(connection: &GitProviderConnection, name: &str) -> Link {
    let status = connection.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let expiring = find(conditions, ConditionType::CredentialExpiring).filter(|expiring| expiring.status == "True");
    as_condition("connection", find(conditions, ConditionType::Ready), || {
        let account = status.and_then(|status| status.identity.as_ref()?.name.as_ref());
        let account = account.map(|account| format!(" as {account}")).unwrap_or_default();
        let expiring = expiring.map(|expiring| format!("; {}", expiring.message)).unwrap_or_default();
        format!("{name} works{account}{expiring}")
    })
}

/// What the binding's own status says of a connection that the caller may not read.
fn hidden_connection(binding: &RepoBinding, name: &str) -> Link {
    let link = "connection";
    let owner = name.split('/').next().unwrap_or_default();
    match condition(binding, ConditionType::ConnectionReady) {
        Some(found) if found.status == "True" => Link::ok(link, format!("{name} works; the rest is not visible to you")),
        Some(found) if found.status == "False" && found.reason == Reason::ConnectionNotReady.as_str() => Link::fail(
            link,
            format!("{}; the rest is not visible to you", found.message),
            format!("Ask whoever manages namespace {owner} to look at the conditions of the connection: kubectl -n {owner} describe gpc"),
        ),
        // Whether the binding may use it is the next link.
        Some(found) if found.status == "False" && found.reason != Reason::RefNotPermitted.as_str() => failing(link, found),
        Some(found) if found.status == "Unknown" => Link::unknown(link, found.message.clone()),
        _ => Link::skipped(link, format!("{name} is not visible to you")),
    }
}

fn grant(subject: &Subject) -> Link {
    let link = "grant";
    let binding = &subject.binding;
    let target = binding.connection_target();
    let found = condition(binding, ConditionType::ConnectionReady);
    let is = |reason: Reason| found.is_some_and(|found| found.reason == reason.as_str());
    match found {
        Some(found) if is(Reason::RefNotPermitted) => failing(link, found),
        _ if matches!(subject.connection, Lookup::Missing) || is(Reason::ConnectionNotFound) => {
            Link::skipped(link, "there is no connection that could allow anything")
        }
        // A connection that does not work, or is out of reach, was found to allow the binding before that.
        Some(_) if binding.namespace().as_deref() == Some(&target.namespace) => {
            Link::ok(link, "the connection allows this namespace, its own")
        }
        Some(_) => Link::ok(link, format!("a ConnectionGrant of {}/{} allows this binding", target.namespace, target.name)),
        None => Link::unknown(link, "not checked yet"),
    }
}

/// What stops the binding itself; nothing while it is in order.
fn own(binding: &RepoBinding) -> Option<Link> {
    let link = "binding";
    let (namespace, name) = (binding.namespace().unwrap_or_default(), binding.name_any());
    let status = binding.status.as_ref();
    if binding.is_being_deleted() {
        return Some(Link::fail(link, "it is being deleted, and its webhook with it", "Create the binding again once it is gone."));
    }
    if let Some(stalled) = condition(binding, ConditionType::Stalled).filter(|stalled| stalled.status == "True") {
        return Some(failing(link, stalled));
    }
    let ready = condition(binding, ConditionType::Ready);
    if binding.spec.suspend || ready.is_some_and(|ready| ready.reason == Reason::Suspended.as_str()) {
        let text = "suspended: its webhook is neither created nor repaired; deliveries of an existing webhook are still accepted";
        let patch = r#"--type=merge -p '{"spec":{"suspend":false}}'"#;
        let fix = format!("kubectl -n {namespace} patch repob {name} {patch} (and the same on the connection, if that is suspended)");
        return Some(Link::fail(link, text, fix));
    }
    let observed = status.and_then(|status| status.observed_generation);
    (observed != binding.metadata.generation && binding.metadata.generation.is_some())
        .then(|| Link::unknown(link, "Forgebind has not processed the present spec yet, so what follows may be outdated"))
}

fn repository(binding: &RepoBinding) -> Link {
    as_condition("repository", condition(binding, ConditionType::RepositoryFound), || {
        let Some(known) = binding.known_repository() else { return "found".to_owned() };
        let branch =
            known.default_branch.as_ref().map_or_else(|| ", no commit yet".to_owned(), |branch| format!(", default branch {branch}"));
        format!("id {}{branch}{}", known.id, if known.archived { ", archived" } else { "" })
    })
}

fn webhook(binding: &RepoBinding) -> Link {
    let link = "webhook";
    let Some(spec) = &binding.spec.webhook else {
        return Link::fail(
            link,
            "the binding has no spec.webhook, so the provider sends nothing",
            "Add webhook: {} to the spec of the binding.",
        );
    };
    let found = condition(binding, ConditionType::WebhookInSync);
    let hooks = hooks(binding.status.as_ref());
    let observing = found.is_some_and(|found| found.reason == Reason::Observing.as_str());
    if observing && hooks.is_none() {
        let text = "there is no webhook: Forgebind only observes, and would create one";
        return Link::fail(link, text, remedy(Reason::Observing.as_str()));
    }
    match (found, hooks) {
        (Some(found), _) if observing => Link::unknown(link, format!("{}: {}", found.reason, found.message)),
        (Some(found), None) if found.status == "True" => {
            Link::unknown(link, format!("no webhook is recorded, although the condition says: {}", found.message))
        }
        (found, hooks) => as_condition(link, found, || {
            let custom = spec.url.as_ref().map(|_| "; it delivers to spec.webhook.url, whose owner knows what became of a delivery");
            format!("{}, as it should be{}", hooks.unwrap_or_default(), custom.unwrap_or_default())
        }),
    }
}

/// The hooks at the provider, with their events.
fn hooks(status: Option<&RepoBindingStatus>) -> Option<String> {
    let hooks = &status?.webhook.as_ref()?.hooks;
    let one = |id: &str, events: &[_]| {
        let events: Vec<String> = events.iter().map(|event: &crate::api::v1alpha1::EventKind| format!("{event:?}")).collect();
        format!("hook {id} ({})", events.join(", "))
    };
    let all: Vec<String> = hooks.iter().map(|hook| one(&hook.id, &hook.events)).collect();
    (!all.is_empty()).then(|| enumerated(&all))
}

/// The public endpoint, as the connection reports it: its condition is present only while a check fails.
fn endpoint(subject: &Subject) -> Option<Link> {
    let link = "endpoint";
    let url = Url::parse(subject.binding.webhook_status()?.url.as_deref()?).ok()?;
    let url = url.origin().ascii_serialization();
    match &subject.connection {
        Lookup::Found(connection) => {
            let conditions = &connection.status.as_ref()?.conditions;
            let failed = find(conditions, ConditionType::EndpointReachable).filter(|found| found.status == "False");
            Some(match failed {
                Some(failed) => failing(link, failed),
                None => Link::ok(link, format!("{url}: no check has failed, as seen from inside the cluster")),
            })
        }
        Lookup::Hidden => Some(Link::skipped(link, format!("{url}: whether its checks fail is not visible to you"))),
        Lookup::Missing => None,
    }
}
