//! `forgebind can`: says which grant allows a namespace to use a connection for a repository, or what the nearest one lacks.

use std::collections::BTreeSet;
use std::io::Read;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ListParams, ObjectMeta};
use kube::core::DeserializeGuard;
use serde::Serialize;
use url::Url;

use super::cluster;
use super::inventory::Inventory;
use super::manifests::{self, InputError};
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection};
use crate::cli::{CanArguments, OutputFormat};
use crate::clock::{Clock as _, SystemClock};
use crate::controllers::gate;
use crate::protocol::grant::explain::{self, lacking};
use crate::protocol::grant::{Grants, Request, Rule, Rules};
use crate::text::wording;

/// The verbs, with what they ask for.
const VERBS: [&str; 1] = ["bind"];

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CanAnswer {
    /// Version of this format.
    pub version: u32,
    /// Whether it is allowed.
    pub allowed: bool,
    /// Whether that could be decided. If not, `allowed` is false.
    pub decided: bool,
    /// The connection, as namespace/name.
    pub connection: String,
    /// Name of the grant that allows it, or of the nearest one that does not; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Why, as a sentence.
    pub reason: String,
}

/// What decides.
struct Known {
    connection: Option<GitProviderConnection>,
    grants: Vec<ConnectionGrant>,
    /// Metadata of the namespace; `None` if it is not known.
    namespace: Option<ObjectMeta>,
}

/// Answers, from manifests or from the cluster of `KUBECONFIG`.
///
/// # Errors
/// Unusable input, or objects that cannot be read.
pub async fn can(arguments: &CanArguments, standard_input: &mut (dyn Read + Send)) -> Result<CanAnswer, InputError> {
    if !VERBS.contains(&arguments.verb.as_str()) {
        return Err(InputError(format!("{} is not a verb; the only verb is {}", wording::quoted(&arguments.verb), VERBS.join(", "))));
    }
    let destination = arguments.webhook_url.as_ref().map(|text| {
        Url::parse(text).map_err(|error| InputError(format!("--webhook-url: {} is not a URL: {error}", wording::quoted(text))))
    });
    let destination = destination.transpose()?;
    let target = match arguments.connection.split_once('/') {
        Some((namespace, name)) => ConnectionTarget { namespace: namespace.to_owned(), name: name.to_owned() },
        None => ConnectionTarget { namespace: arguments.namespace.clone(), name: arguments.connection.clone() },
    };
    let known = if arguments.paths.is_empty() {
        of_cluster(&target, &arguments.namespace).await?
    } else {
        of_manifests(arguments, &target, standard_input, SystemClock.now())?
    };
    Ok(answer(arguments, &target, &known, destination.as_ref()))
}

fn of_manifests(
    arguments: &CanArguments,
    target: &ConnectionTarget,
    standard_input: &mut (dyn Read + Send),
    now: Timestamp,
) -> Result<Known, InputError> {
    let read = manifests::read(&arguments.paths, standard_input)?;
    let mut inventory = Inventory::default();
    inventory.add(read.objects, "default", now)?;
    if let Some((location, violation)) = inventory.refused.first().and_then(|refused| refused.violations.first()) {
        let place = location.as_ref().map(|location| format!("{}:{}: ", location.file, location.line)).unwrap_or_default();
        return Err(InputError(format!("{place}{violation}")));
    }
    super::name_namespaces(&mut inventory, BTreeSet::from([arguments.namespace.clone()]));
    let connection = inventory.connections.get(&(target.namespace.clone(), target.name.clone()));
    Ok(Known {
        connection: connection.map(|subject| (*subject.object).clone()),
        grants: inventory.grants.values().map(|subject| (*subject.object).clone()).collect(),
        namespace: inventory.namespaces.remove(&arguments.namespace),
    })
}

async fn of_cluster(target: &ConnectionTarget, namespace: &str) -> Result<Known, InputError> {
    let client = cluster::client().await?;
    let failure = |what: &str, error: &kube::Error| InputError(format!("{what}: API server: {}", wording::of_api_server(error)));
    let connections: Api<GitProviderConnection> = Api::namespaced(client.clone(), &target.namespace);
    let connection = connections.get_opt(&target.name).await;
    let connection = connection.map_err(|error| failure(&format!("connection {}/{}", target.namespace, target.name), &error))?;
    let grants: Api<DeserializeGuard<ConnectionGrant>> = Api::namespaced(client.clone(), &target.namespace);
    let grants = grants.list(&ListParams::default()).await;
    let grants = grants.map_err(|error| failure(&format!("grants of namespace {}", target.namespace), &error))?;
    // Without the right to read namespaces, grants by label stay undecided.
    let namespace = Api::<Namespace>::all(client).get_metadata(namespace).await.ok().map(|known| known.metadata);
    Ok(Known { connection, grants: grants.items.into_iter().filter_map(|guard| guard.0.ok()).collect(), namespace })
}

fn answer(arguments: &CanArguments, target: &ConnectionTarget, known: &Known, destination: Option<&Url>) -> CanAnswer {
    let name = format!("{}/{}", target.namespace, target.name);
    let tell = |decision: Option<bool>, grant: Option<&Rule>, reason: String| CanAnswer {
        version: 1,
        allowed: decision == Some(true),
        decided: decision.is_some(),
        connection: name.clone(),
        grant: grant.map(|rule| rule.name.clone()),
        reason,
    };
    let Some(connection) = &known.connection else {
        let remedy = if arguments.paths.is_empty() { "create it or correct --connection" } else { "add its manifest with another -f" };
        return tell(Some(false), None, format!("connection {name} does not exist; {remedy}"));
    };
    let path = match gate::place_at(connection, &arguments.repository) {
        Some((_, Ok(path))) => path.as_str().to_owned(),
        Some((_, Err(error))) => return tell(Some(false), None, format!("connection {name} has no such repository: {error}")),
        None => arguments.repository.clone(),
    };
    if let Some(scope) = gate::scope_without(connection, &arguments.repository) {
        return tell(Some(false), None, format!("{path} is outside the {scope} of connection {name}, whatever grants allow"));
    }
    let rules = Grants::listing(&known.grants).of(connection);
    let labels = known.namespace.as_ref().map(|metadata| metadata.labels.clone().unwrap_or_default());
    let request = Request { namespace: &arguments.namespace, namespace_labels: labels.as_ref(), repository: Some(&path), destination };
    judge(&rules, request, &target.name, tell)
}

fn judge(
    rules: &Rules,
    request: Request<'_>,
    connection: &str,
    tell: impl Fn(Option<bool>, Option<&Rule>, String) -> CanAnswer,
) -> CanAnswer {
    if rules.need_no_grant(request) {
        return tell(
            Some(true),
            None,
            "no grant is needed: the connection is in the same namespace, and its access is SameNamespace".to_owned(),
        );
    }
    let allowing = rules.grants.iter().flatten().find(|rule| rule.allows(request) == Some(true));
    if let Some(rule) = allowing {
        return tell(Some(true), Some(rule), format!("ConnectionGrant {}/{} allows it", rule.namespace, rule.name));
    }
    let nearest = explain::nearest(rules, request).map(|(rule, _)| rule);
    let decision = rules.permit(request);
    let reason = match decision {
        None => format!(
            "it depends on the labels of namespace {}, which are not known; add its manifest with -f, or get the right to read it",
            request.namespace
        ),
        Some(_) => lacking(connection, rules, request),
    };
    tell(decision, nearest, reason)
}

impl CanAnswer {
    /// The answer in an output format.
    #[must_use]
    pub fn show(&self, output: OutputFormat) -> String {
        match output {
            OutputFormat::Json => serde_json::to_string_pretty(self).unwrap_or_default() + "\n",
            OutputFormat::Table => {
                let word = match (self.decided, self.allowed) {
                    (true, true) => "yes",
                    (true, false) => "no",
                    (false, _) => "unknown",
                };
                format!("{word}: {}\n", self.reason)
            }
        }
    }
}
