//! Types of the API's JSON documents, limited to the fields that are read.

use serde::Deserialize;

use crate::providers::lenient;
use crate::providers::listing::Entries;

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub(super) values: Entries<T>,
    /// Number of entries in the whole list. Not every list reports it.
    pub(super) size: Option<usize>,
    /// URL of the next page. Absent on the last page.
    pub(super) next: Option<String>,
}

/// The account of an API token. The account's privacy settings determine which of the names are present.
#[derive(Deserialize)]
pub(super) struct User {
    pub(super) username: Option<String>,
    pub(super) nickname: Option<String>,
    pub(super) display_name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Repository {
    pub(super) uuid: String,
    pub(super) full_name: String,
    pub(super) is_private: Option<bool>,
    /// `null` until the first push.
    pub(super) mainbranch: Option<Branch>,
    pub(super) project: Option<Project>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) links: Links,
}

#[derive(Deserialize)]
pub(super) struct Branch {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) uuid: String,
    pub(super) key: String,
}

#[derive(Default, Deserialize)]
pub(super) struct Links {
    pub(super) html: Option<Link>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) clone: Vec<Link>,
}

#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) href: String,
    /// `https` or `ssh` for clone URLs.
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Hook {
    pub(super) uuid: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) url: String,
    pub(super) description: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) active: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) events: Vec<String>,
    pub(super) secret_set: Option<bool>,
    /// Not in the API's documentation, but present in answers.
    pub(super) skip_cert_verification: Option<bool>,
}

/// The body of an error response that states scopes.
#[derive(Deserialize)]
pub(super) struct Refusal {
    pub(super) error: RefusalError,
}

#[derive(Deserialize)]
pub(super) struct RefusalError {
    pub(super) detail: RefusalDetail,
}

#[derive(Deserialize)]
pub(super) struct RefusalDetail {
    pub(super) granted: Vec<String>,
}
