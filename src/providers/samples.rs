//! What the tests that run for every provider need from each: samples in the provider's own words.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::Provider;
use super::pull_request::PullRequestAction;
use super::webhook::{Event, Verified};
use crate::api::v1alpha1::EventKind;

pub(in crate::providers) type Headers = &'static [(&'static str, &'static str)];

/// A page of a list: the header that announces another one, and the body.
pub(in crate::providers) type Page = (Option<(&'static str, String)>, Value);

/// The samples of one provider.
pub struct Samples {
    /// A page that lists one repository with this web address, clone address, ssh address and default branch.
    pub(in crate::providers) repositories: fn([&str; 4]) -> Value,
    /// The answers to the calls of a listing, of which this page is one: the others tell which hooks may be managed.
    pub(in crate::providers) listing: fn(Value) -> Vec<Value>,
    /// Whether that list tells the default branch.
    pub(in crate::providers) lists_branches: bool,
    /// An entry with this number in a list of hooks that is also valid in a list of repositories; its hook delivers to this URL.
    pub(in crate::providers) entry: fn(usize, &str) -> Value,
    /// A page of these entries with this number, from this address, that announces another one: a header and the body.
    pub(in crate::providers) page: fn(Vec<Value>, usize, &str) -> Page,
    /// Whether lists have no pages.
    pub(in crate::providers) in_one_answer: bool,
    /// A push from [`BEFORE`] to [`PUSHED`] on the branch main, without a delivery id and without a repository.
    pub(in crate::providers) push: fn() -> (Headers, Value),
    /// The largest delivery that the provider sends.
    pub(in crate::providers) body_limit_in_mib: usize,
    /// Every documented action of pull requests.
    pub(in crate::providers) pull_requests: fn() -> Vec<Sample>,
    /// Actions that it cannot do or cannot report; the reason is next to its list.
    pub(in crate::providers) lacking: &'static [PullRequestAction],
}

pub(in crate::providers) const PUSHED: &str = "2b7d44102b7d44102b7d44102b7d44102b7d4410";
pub(in crate::providers) const BEFORE: &str = "1f0c9a7e1f0c9a7e1f0c9a7e1f0c9a7e1f0c9a7e";
/// The id of the project in lists.
pub(in crate::providers) const GUID: &str = "5b1bd0e5-6c7c-4d1b-8a64-6b33b1f3a111";
pub(in crate::providers) const OPEN: Option<EventKind> = Some(EventKind::PullRequest);
pub(in crate::providers) const MERGED: Option<EventKind> = Some(EventKind::PullRequestMerged);
pub(in crate::providers) const CLOSED: Option<EventKind> = Some(EventKind::PullRequestClosed);
pub(in crate::providers) const COMMENT: Option<EventKind> = Some(EventKind::PullRequestComment);
pub(in crate::providers) const COMMIT: &str = "2b7d44102b7d44102b7d44102b7d44102b7d4410";

/// One documented action: the name in the provider's list, and a delivery as the provider documents it.
pub(in crate::providers) struct Sample {
    pub(in crate::providers) name: &'static str,
    pub(in crate::providers) headers: Vec<(&'static str, String)>,
    pub(in crate::providers) body: Value,
    pub(in crate::providers) tells: Option<EventKind>,
}

impl Sample {
    pub(in crate::providers) fn read(&self, provider: &dyn Provider) -> Vec<Event> {
        let headers = self.headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()));
        let headers: HeaderMap = headers.collect();
        let body = self.body.to_string().into_bytes();
        provider.webhook().read(&Verified::new(&headers, Cow::Borrowed(&body), 0)).unwrap().events
    }
}

/// `base` with its members replaced by those of `more`, at every depth.
pub(in crate::providers) fn with(mut base: Value, more: &Value) -> Value {
    match (base.as_object_mut(), more.as_object()) {
        (Some(members), Some(more)) => {
            for (name, value) in more {
                let member = members.remove(name).unwrap_or(Value::Null);
                members.insert(name.clone(), with(member, value));
            }
            base
        }
        _ => more.clone(),
    }
}

pub(in crate::providers) fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// `event action` for each of the actions.
pub(in crate::providers) fn names(plain: &[(&'static str, &'static str)]) -> impl Iterator<Item = &'static str> {
    let names: Vec<_> =
        plain.iter().flat_map(|(event, actions)| actions.split(' ').map(move |action| leak(format!("{event} {action}")))).collect();
    names.into_iter()
}
