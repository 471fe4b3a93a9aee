//! Makes the entry of a slice from an entry of a provider's list.

use crate::api::v1alpha1::catalog::{SliceEntry, SliceState};
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::ListedRepository;

/// Limits in bytes, at most those of the schema in characters. 250 entries of the largest size stay below the 1.5 MiB that etcd
/// stores of one object.
const PROJECT: usize = 512;
const BRANCH: usize = 255;
const ADDRESS: usize = 1536;

/// The entry of a listed repository. `may_manage`: what the credential itself may do with hooks; an account's role is of no use
/// without it. A text that is too long for a slice is left out.
#[must_use]
pub fn entry(found: ListedRepository, may_manage: PermissionState) -> SliceEntry {
    let short = |text: Option<String>, most| text.filter(|text| text.len() <= most);
    SliceEntry {
        id: found.id,
        path: found.path.as_str().to_owned(),
        project: short(found.project, PROJECT),
        default_branch: short(found.default_branch, BRANCH),
        visibility: found.visibility,
        archived: found.archived,
        empty: found.empty,
        topics: found.topics,
        webhooks: if may_manage == PermissionState::Missing { PermissionState::Missing } else { found.webhooks },
        web_url: short(found.web_url, ADDRESS),
        missing_since: None,
        state: SliceState::Visible,
    }
}
