//! `forgebind repositories`: the repositories that the credentials of connections reach, from the slices of their catalogues. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kube::ResourceExt as _;
use serde::Serialize;

use super::deliveries::shown;
use super::print::safe;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::catalog::{CatalogStatus, SliceEntry, SliceState};
use crate::api::v1alpha1::{ConditionType, GitProviderConnection, RepoBinding, RepositorySlice};
use crate::protocol::catalog::{Selection, digest, hash};

/// The catalogue of one connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Catalog {
    pub(super) namespace: String,
    pub(super) connection: String,
    /// What the connection reports of its last listing.
    #[serde(rename = "catalog")]
    pub(super) listing: Option<CatalogStatus>,
    /// Why the slices may not have every repository.
    pub(super) problem: Option<String>,
    pub(super) repositories: Vec<Row>,
}

/// One repository, with the bindings that it has.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) entry: SliceEntry,
    /// `namespace/name` of each binding that the caller may see.
    pub(super) bindings: Vec<String>,
}

/// The catalogue of a connection, as its slices have it. `unbound`: only repositories without a binding.
pub(super) fn catalog(
    connection: &GitProviderConnection,
    slices: Vec<RepositorySlice>,
    bindings: &[RepoBinding],
    unbound: bool,
) -> Catalog {
    let target = ConnectionTarget::of(connection);
    let unseen = unseen(connection, &slices);
    let known = Bindings::of(bindings, &target);
    // A repository is in two slices while it moves from one to the other.
    let entries: BTreeMap<String, SliceEntry> =
        slices.into_iter().flat_map(|slice| slice.content.repositories).map(|entry| (entry.id.clone(), entry)).collect();
    let rows = entries.into_values().map(|entry| Row { bindings: known.for_repository(&entry), entry });
    let mut repositories: Vec<_> = rows.filter(|row| !unbound || row.bindings.is_empty()).collect();
    repositories.sort_by(|one, other| (group(&one.entry), &one.entry.path).cmp(&(group(&other.entry), &other.entry.path)));
    Catalog {
        problem: problem(connection).or(unseen),
        listing: connection.status.as_ref().and_then(|status| status.catalog.clone()),
        namespace: target.namespace,
        connection: target.name,
        repositories,
    }
}

fn problem(connection: &GitProviderConnection) -> Option<String> {
    if connection.spec.catalog.is_none() {
        return Some("it keeps no catalogue; set spec.catalog".to_owned());
    }
    let conditions = connection.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let find = |kind: ConditionType| conditions.iter().find(|condition| condition.type_ == kind.as_str());
    match find(ConditionType::Cataloged) {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => Some(format!("{}: {}", condition.reason, condition.message)),
        None => {
            let ready = find(ConditionType::Ready).filter(|ready| ready.status != "True");
            let why = ready.map_or_else(String::new, |ready| format!("; the connection is not Ready: {}", ready.message));
            Some(format!("its repositories were not listed yet{why}"))
        }
    }
}

/// What to say if the slices are not those that the status describes.
fn unseen(connection: &GitProviderConnection, slices: &[RepositorySlice]) -> Option<String> {
    let told = &connection.status.as_ref()?.catalog.as_ref()?.digest;
    let selection = Selection::of(connection.spec.catalog.as_ref()?);
    let hashes: Vec<_> = slices.iter().map(|slice| hash(&slice.content.repositories)).collect();
    let differs = digest(&selection, hashes.iter().map(String::as_str)) != *told;
    differs.then(|| "the slices are not those of its last listing: one is running, or somebody changed them; try again".to_owned())
}

/// The bindings of one connection, by the id and the path of their repository.
struct Bindings {
    by_id: BTreeMap<String, BTreeSet<String>>,
    by_path: BTreeMap<String, BTreeSet<String>>,
}

impl Bindings {
    fn of(bindings: &[RepoBinding], connection: &ConnectionTarget) -> Self {
        let mut known = Self { by_id: BTreeMap::new(), by_path: BTreeMap::new() };
        for binding in bindings.iter().filter(|binding| binding.connection_target() == *connection) {
            let name = format!("{}/{}", binding.namespace().unwrap_or_default(), binding.name_any());
            match binding.known_repository() {
                Some(found) => known.by_id.entry(found.id.clone()).or_default().insert(name),
                // Nothing was found for it yet, so only what it asks for is known.
                None => known.by_path.entry(binding.spec.repository.to_lowercase()).or_default().insert(name),
            };
        }
        known
    }

    fn for_repository(&self, entry: &SliceEntry) -> Vec<String> {
        let found = [self.by_id.get(&entry.id), self.by_path.get(&entry.path.to_lowercase())];
        found.into_iter().flatten().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The project or group of a repository; at a provider without them its owner.
fn group(entry: &SliceEntry) -> &str {
    let owner = entry.path.rsplit_once('/').map_or("", |(owner, _)| owner);
    entry.project.as_deref().unwrap_or(owner)
}

/// Formats catalogues for people, each grouped by project.
pub(super) fn table(catalogs: &[Catalog], unbound: bool) -> String {
    catalogs.iter().map(|catalog| one(catalog, unbound)).collect::<Vec<_>>().join("\n")
}

fn one(catalog: &Catalog, unbound: bool) -> String {
    let Catalog { namespace, connection, listing, problem, repositories } = catalog;
    let what = if unbound { " without a binding" } else { "" };
    let listed = listing.as_ref().and_then(|status| status.listed_at.as_ref()).map(|time| format!(", listed at {}", shown(time)));
    // Writing to a string never fails.
    let mut text = safe(&format!("{namespace}/{connection}: {}{what}{}", repositories_of(repositories.len()), listed.unwrap_or_default()));
    text.push('\n');
    if let Some(problem) = problem {
        let _ = writeln!(text, "Note: {}.", safe(problem.trim_end_matches('.')));
    }
    let mut groups: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in repositories {
        groups.entry(group(&row.entry)).or_default().push(row);
    }
    let heading = ["REPOSITORY", "BRANCH", "VISIBILITY", "WEBHOOKS", "STATE", "BINDINGS"].map(str::to_owned);
    for (name, rows) in groups {
        let _ = writeln!(text, "\n{} ({})", safe(name), rows.len());
        let rows: Vec<[String; 6]> = std::iter::once(heading.clone()).chain(rows.into_iter().map(cells)).collect();
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in &rows {
            let line = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>().join("   ");
            let _ = writeln!(text, "  {}", line.trim_end());
        }
    }
    text
}

fn repositories_of(count: usize) -> String {
    if count == 1 { "1 repository".to_owned() } else { format!("{count} repositories") }
}

fn cells(row: &Row) -> [String; 6] {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { safe(&text) };
    let entry = &row.entry;
    let visibility = entry.visibility.map(|visibility| format!("{visibility:?}").to_lowercase()).unwrap_or_default();
    let states = [
        (entry.state == SliceState::NotVisible).then_some("NotVisible"),
        (entry.archived == Some(true)).then_some("archived"),
        (entry.empty == Some(true)).then_some("empty"),
    ];
    [
        safe(&entry.path),
        or_dash(entry.default_branch.clone().unwrap_or_default()),
        or_dash(visibility),
        format!("{:?}", entry.webhooks),
        or_dash(states.into_iter().flatten().collect::<Vec<_>>().join(", ")),
        or_dash(row.bindings.join(", ")),
    ]
}

/// The note about bindings that the caller may not see.
pub(super) fn hidden_bindings(namespace: &str) -> String {
    format!("you may not list the bindings of all namespaces, so only those of namespace {namespace} are known")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn connection(catalog: bool) -> GitProviderConnection {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-11-30T02:00:00Z"});
        let mut object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection", "metadata": {"namespace": "platform", "name": "acme"},
            "spec": {"provider": {"bitbucketDataCenter": {"url": "https://git.acme.io"}}, "catalog": {}},
            "status": {
                "conditions": [condition("Ready"), condition("Cataloged")],
                "catalog": {"repositories": 4, "webhooksManageable": 1, "projects": 2, "listedAt": "2026-11-30T02:00:00Z", "digest": "d"},
            },
        });
        if !catalog {
            object["spec"].as_object_mut().unwrap().remove("catalog");
        }
        of(object)
    }

    fn slice(entries: &Value) -> RepositorySlice {
        of(json!({"metadata": {"name": "acme-0"}, "connectionName": "acme", "count": 0, "hash": "", "repositories": entries}))
    }

    /// The connection, with the digest of these slices.
    fn with_digest(slices: &[RepositorySlice]) -> GitProviderConnection {
        let mut connection = connection(true);
        let hashes: Vec<_> = slices.iter().map(|slice| hash(&slice.content.repositories)).collect();
        let selection = Selection::of(connection.spec.catalog.as_ref().unwrap());
        connection.status.as_mut().unwrap().catalog.as_mut().unwrap().digest = digest(&selection, hashes.iter().map(String::as_str));
        connection
    }

    fn slices() -> Vec<RepositorySlice> {
        let shop = json!({"id": "1", "path": "APP/shop", "project": "APP", "visibility": "private", "webhooks": "Granted", "state": "Visible", "defaultBranch": "main"});
        vec![
            slice(
                &json!([shop, {"id": "2", "path": "OPS/tools", "project": "OPS", "webhooks": "Missing", "state": "Visible", "archived": true}]),
            ),
            slice(&json!([shop, {"id": "3", "path": "APP/cart", "project": "APP", "webhooks": "Unknown", "state": "NotVisible"}])),
        ]
    }

    fn bindings() -> Vec<RepoBinding> {
        let binding = |name: &str, namespace: &str, repository: &str| {
            json!({
                "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding", "metadata": {"namespace": "team", "name": name},
                "spec": {"connectionRef": {"name": "acme", "namespace": namespace}, "repository": repository},
            })
        };
        let mut found = binding("shop", "platform", "APP/old-name");
        found["status"] = json!({"repository": {"id": "1", "path": "APP/shop", "archived": false, "empty": false}});
        vec![of(found), of(binding("tools", "platform", "ops/Tools")), of(binding("cart", "elsewhere", "APP/cart"))]
    }

    #[test]
    fn pk_17_repositories_are_grouped_by_project() {
        let text = table(&[catalog(&with_digest(&slices()), slices(), &bindings(), false)], false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "platform/acme: 3 repositories, listed at 2026-11-30T02:00:00Z");
        assert_eq!((lines[2], lines[6], lines.len()), ("APP (2)", "", 10), "{text}");
        assert_eq!(lines[7], "OPS (1)");
        assert!(lines[3].contains("REPOSITORY") && lines[4].contains("APP/cart") && lines[4].contains("NotVisible"), "{text}");
        assert!(lines[5].contains("APP/shop") && lines[5].contains("Granted") && lines[5].ends_with("team/shop"), "{text}");
        assert!(lines[9].contains("archived") && lines[9].ends_with("team/tools"), "{text}");
    }

    #[test]
    fn repositories_without_a_binding_are_those_that_no_binding_of_the_connection_has() {
        let catalog = catalog(&connection(true), slices(), &bindings(), true);
        let paths: Vec<_> = catalog.repositories.iter().map(|row| row.entry.path.as_str()).collect();
        assert_eq!(paths, ["APP/cart"], "the binding of another namespace's connection does not count");
        assert!(table(&[catalog], true).starts_with("platform/acme: 1 repository without a binding"));
    }

    #[test]
    fn slices_that_are_not_those_of_the_status_are_told() {
        let whole = catalog(&with_digest(&slices()), slices(), &[], false);
        assert_eq!(whole.problem, None);
        let partial = catalog(&with_digest(&slices()), slices().split_off(1), &[], false);
        assert!(partial.problem.as_ref().unwrap().contains("not those of its last listing"));
        assert!(table(&[partial], false).contains("\nNote: the slices are not"));
    }

    #[test]
    fn why_a_list_may_not_be_complete_is_told() {
        assert_eq!(problem(&connection(true)), None);
        assert!(problem(&connection(false)).unwrap().contains("spec.catalog"));
        let mut failing = connection(true);
        let conditions = &mut failing.status.as_mut().unwrap().conditions;
        conditions[1] = of(
            json!({"type": "Cataloged", "status": "False", "reason": "ListingFailed", "message": "no answer", "lastTransitionTime": "2026-11-30T02:00:00Z"}),
        );
        assert_eq!(problem(&failing).unwrap(), "ListingFailed: no answer");
        failing.status.as_mut().unwrap().conditions.remove(1);
        assert_eq!(problem(&failing).unwrap(), "its repositories were not listed yet");
    }

    #[test]
    fn a_provider_without_projects_is_grouped_by_owner() {
        let slice = slice(&json!([{"id": "1", "path": "acme/shop", "webhooks": "Granted", "state": "Visible"}]));
        assert!(table(&[catalog(&connection(true), vec![slice], &[], false)], false).contains("\nacme (1)\n"));
    }
}
