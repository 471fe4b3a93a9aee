//! The locations of resources, which every official client requests first.

use serde_json::{Value, json};

use super::documents::{Documents, list};
use super::errors;
use crate::sim::Response;

/// A resource: its id, area, name, the template of its addresses, its own version, and whether it has left its preview.
type Location = (&'static str, &'static str, &'static str, &'static str, u32, bool);

/// The simulated resources.
const LOCATIONS: [Location; 9] = [
    ("00d9565f-ed9c-4a06-9a50-00e7896ccab4", "Location", "ConnectionData", "_apis/{resource}", 1, false),
    ("e81700f7-3be2-46de-8624-2eb35882fcaa", "Location", "ResourceAreas", "_apis/{resource}/{areaId}", 1, false),
    ("603fe2ac-9723-48b9-88ad-09305aa6c6e1", "core", "projects", "_apis/{resource}/{*projectId}", 4, true),
    ("225f7195-f9c7-4d14-ab28-a83f7ff77e1f", "git", "repositories", "{project}/_apis/{area}/{resource}/{repositoryId}", 1, true),
    (
        "2d874a60-a811-4f62-9c9f-963a6ea0a55b",
        "git",
        "refs",
        "{project}/_apis/{area}/repositories/{repositoryId}/{resource}/{*filter}",
        1,
        true,
    ),
    ("fc50d02a-849f-41fb-8af1-0a5216103269", "hooks", "Subscriptions", "_apis/{area}/{resource}/{subscriptionId}", 1, true),
    ("c7c3c1cf-9e05-4c0d-a425-a0f922c2c6ed", "hooks", "SubscriptionsQuery", "_apis/{area}/{resource}", 1, true),
    (
        "0c62d343-21b0-4732-997b-017fde84dc28",
        "hooks",
        "Notifications",
        "_apis/{area}/Subscriptions/{subscriptionId}/{resource}/{notificationId}",
        1,
        true,
    ),
    ("dd3b8bd6-c7fc-4cbd-929a-933d9c011c9d", "Security", "Permissions", "_apis/{resource}/{securityNamespaceId}/{permissions}", 2, true),
];

/// Areas with an address of their own: id and name.
const AREAS: [(&str, &str); 2] = [("79134c72-4a58-4b42-976c-04e7115f32bf", "Core"), ("4e080c62-fa21-4fbc-8fef-2a10a2b38049", "git")];

/// The locations of an area, or of all areas.
pub fn answer(newest: &str, area: Option<&str>) -> Response {
    let wanted = |location: &&Location| area.is_none_or(|area| location.1.eq_ignore_ascii_case(area));
    let document = |(id, area, name, template, version, released): &Location| {
        json!({
            "id": id, "area": area, "resourceName": name, "routeTemplate": template, "resourceVersion": version, "minVersion": "1.0",
            "maxVersion": newest, "releasedVersion": if *released { newest } else { "0.0" },
        })
    };
    let found: Vec<Value> = LOCATIONS.iter().filter(wanted).map(document).collect();
    Response::json(200, &list(&found))
}

/// The areas, or one of them. A Server has none: everything is at its own address.
pub fn areas(is_hosted: bool, documents: &Documents<'_>, rest: &[&str]) -> Response {
    let document = |(id, name): &(&str, &str)| json!({"id": id, "name": name, "locationUrl": format!("{}/", documents.base())});
    let mut known = AREAS.iter().filter(|_| is_hosted);
    match rest {
        [] => Response::json(200, &list(&known.map(document).collect::<Vec<_>>())),
        [wanted] => match known.find(|(id, _)| id.eq_ignore_ascii_case(wanted)) {
            Some(found) => Response::json(200, &document(found)),
            None => errors::no_such_address(),
        },
        _ => errors::no_such_address(),
    }
}
