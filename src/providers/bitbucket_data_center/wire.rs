//! Types of the API's JSON documents, limited to the fields that are read. No type implements `Debug`, so none can be
//! logged: a hook may contain its secret in plain text.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::providers::lenient::{self, Id};
use crate::providers::listing::Entries;
use crate::providers::scalar::Scalar;

/// `application-properties`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApplicationProperties {
    pub(super) version: String,
    pub(super) display_name: String,
}

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub(super) values: Entries<T>,
    #[serde(rename = "isLastPage")]
    pub(super) is_last: bool,
    #[serde(rename = "nextPageStart")]
    pub(super) next_start: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct User {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) key: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) public: bool,
}

#[derive(Deserialize)]
pub(super) struct Repository {
    pub(super) id: Id,
    pub(super) slug: String,
    pub(super) project: Project,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) public: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) archived: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) links: Links,
}

#[derive(Default, Deserialize)]
pub(super) struct Links {
    #[serde(default, deserialize_with = "lenient::or_default", rename = "self")]
    pub(super) own: Vec<Link>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) clone: Vec<Link>,
}

#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) href: String,
    pub(super) name: Option<String>,
}

/// A branch or a tag: `RestMinimalRef` and `RestBranch`.
#[derive(Deserialize)]
pub(super) struct Reference {
    /// Full name of the reference.
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) id: Id,
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) url: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) active: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) events: Vec<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) configuration: BTreeMap<String, Scalar>,
    pub(super) credentials: Option<Credentials>,
    pub(super) ssl_verification_required: Option<bool>,
    pub(super) scope_type: Option<String>,
    /// Only in a list that asks for it.
    #[serde(default, deserialize_with = "lenient::if_it_fits")]
    pub(super) statistics: Statistics,
}

/// The results of a hook's deliveries. The description of the API does not name these fields.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statistics {
    #[serde(default, deserialize_with = "lenient::if_it_fits")]
    pub(super) last_success: Invocation,
    /// An answer other than 2xx.
    #[serde(default, deserialize_with = "lenient::if_it_fits")]
    pub(super) last_failure: Invocation,
    /// No answer.
    #[serde(default, deserialize_with = "lenient::if_it_fits")]
    pub(super) last_error: Invocation,
    #[serde(default, deserialize_with = "lenient::if_it_fits")]
    pub(super) counts: Counts,
}

/// A delivery.
#[derive(Default, Deserialize)]
pub(super) struct Invocation {
    /// Milliseconds since 1970.
    #[serde(default, deserialize_with = "lenient::number")]
    pub(super) start: Option<u64>,
}

/// How many deliveries ended how, in the last 24 hours.
#[derive(Default, Deserialize)]
pub(super) struct Counts {
    #[serde(default, deserialize_with = "lenient::number")]
    pub(super) errors: Option<u64>,
    #[serde(default, deserialize_with = "lenient::number")]
    pub(super) failures: Option<u64>,
}

/// The credentials that a hook uses at its target. Only their presence is read.
#[derive(Deserialize)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
}

/// The body of an error response.
#[derive(Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) errors: Vec<RefusalCause>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RefusalCause {
    /// The class of the server's exception, with its package.
    pub(super) exception_name: Option<String>,
}
