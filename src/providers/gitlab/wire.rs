//! Types of GitLab's JSON documents, limited to the fields that are read. No type implements `Debug`, so none can be
//! logged: the URL of a hook is a secret.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::providers::scalar::Scalar;

use crate::providers::lenient::{self, Id};

/// `GET /personal_access_tokens/self`, for personal, project and group access tokens.
#[derive(Deserialize)]
pub(super) struct Token {
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) scopes: Vec<String>,
    pub(super) user_id: Option<Id>,
    /// A date. The token expires at the first second of that day.
    pub(super) expires_at: Option<String>,
}

/// `GET /user`.
#[derive(Deserialize)]
pub(super) struct User {
    pub(super) id: Id,
    pub(super) username: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) bot: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) is_admin: bool,
}

/// `GET /version`.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

#[derive(Deserialize)]
pub(super) struct Group {
    pub(super) full_path: String,
}

#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) id: Id,
    pub(super) path_with_namespace: String,
    pub(super) web_url: Option<String>,
    pub(super) http_url_to_repo: Option<String>,
    pub(super) ssh_url_to_repo: Option<String>,
    pub(super) default_branch: Option<String>,
    pub(super) visibility: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) archived: bool,
    pub(super) empty_repo: Option<bool>,
    pub(super) marked_for_deletion_on: Option<String>,
    pub(super) topics: Option<Vec<String>>,
    pub(super) permissions: Option<Permissions>,
}

/// Roles of the account from its own memberships. Groups that the project is shared with are not included.
#[derive(Deserialize)]
pub(super) struct Permissions {
    pub(super) project_access: Option<Access>,
    pub(super) group_access: Option<Access>,
}

#[derive(Deserialize)]
pub(super) struct Access {
    #[serde(deserialize_with = "lenient::integer")]
    pub(super) access_level: i64,
}

/// `GET /projects/:id/members/all/:user_id`: the role including inherited and invited memberships.
#[derive(Deserialize)]
pub(super) struct Member {
    #[serde(deserialize_with = "lenient::integer")]
    pub(super) access_level: i64,
    pub(super) member_role: Option<MemberRole>,
}

/// A custom role of a group.
#[derive(Deserialize)]
pub(super) struct MemberRole {
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Branch {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Hook {
    pub(super) id: Id,
    pub(super) url: String,
    pub(super) enable_ssl_verification: Option<bool>,
    pub(super) push_events_branch_filter: Option<String>,
    pub(super) branch_filter_strategy: Option<String>,
    pub(super) custom_webhook_template: Option<String>,
    pub(super) url_variables: Option<Vec<Keyed>>,
    pub(super) custom_headers: Option<Vec<Keyed>>,
    pub(super) alert_status: Option<String>,
    pub(super) disabled_until: Option<String>,
    /// Present since 19.0.
    pub(super) token_present: Option<bool>,
    /// Present since 19.0.
    pub(super) signing_token_present: Option<bool>,
    /// All other fields, among them one boolean for each event.
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, Scalar>,
}

/// A URL variable or a custom header. Its value is a user's secret and is not read.
#[derive(Deserialize)]
pub(super) struct Keyed {
    pub(super) key: String,
}

/// An entry of `GET /projects/:id/hooks/:hook_id/events`.
#[derive(Deserialize)]
pub(super) struct HookEvent {
    /// An HTTP status, or `internal error` if there was no answer.
    pub(super) response_status: Option<Scalar>,
}

/// Major and minor version.
pub(super) type VersionNumber = (u64, u64);
