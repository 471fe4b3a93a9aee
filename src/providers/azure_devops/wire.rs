//! Types of the API's JSON documents, limited to the fields that are read. No type implements `Debug`, so none can be
//! logged: a subscription may contain headers in plain text.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::providers::lenient;
use crate::providers::listing::Entries;

/// A list: `{"count": 1, "value": []}`.
#[derive(Deserialize)]
pub(super) struct List<T, const MOST: usize = 1000> {
    pub(super) value: Entries<T, MOST>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Repository {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) project: Project,
    /// Full name of the default branch. Absent if the repository has no commits.
    pub(super) default_branch: Option<String>,
    pub(super) remote_url: Option<String>,
    pub(super) ssh_url: Option<String>,
    pub(super) web_url: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) is_disabled: bool,
}

#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) visibility: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
}

/// The account that the server recognizes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionData {
    pub(super) authenticated_user: Option<ConnectedUser>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectedUser {
    pub(super) id: String,
    pub(super) provider_display_name: Option<String>,
}

/// The profile of an account, which is not part of any organization.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    pub(super) public_alias: String,
}

/// An organization that an account is a member of.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Organization {
    pub(super) account_name: String,
}

#[derive(Deserialize)]
pub(super) struct SubscriptionsQuery {
    /// Absent if no subscription matches.
    #[serde(default)]
    pub(super) results: Option<Entries<Subscription, 2000>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscription {
    pub(super) id: String,
    pub(super) event_type: String,
    pub(super) resource_version: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) consumer_id: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) consumer_action_id: String,
    pub(super) status: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) publisher_inputs: BTreeMap<String, Option<String>>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) consumer_inputs: BTreeMap<String, Option<String>>,
}
