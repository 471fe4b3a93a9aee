//! The CEL rules of the schemas in Rust, for validating an object without an API server. A rule is found by its message, which is
//! what users see of it. One test compares this table with the schemas, another one with the API server's own validation.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use regex::bytes::RegexBuilder;
use serde_json::Value;

use super::Interval;
use super::connection::ONE_PROVIDER;

/// Whether a value satisfies a rule.
pub type Rule = fn(&Value) -> bool;

macro_rules! rules {
    ($($message:tt => $rule:expr;)*) => {
        /// The messages of all rules.
        pub const MESSAGES: &[&str] = &[$($message,)*];

        /// The rule with this message; `None` for an unknown one.
        #[must_use]
        pub fn rule(message: &str) -> Option<Rule> {
            match message {
                $($message => Some($rule),)*
                _ => None,
            }
        }
    };
}

rules! {
    "sinks need webhook without url: deliveries to another url never reach them" => |spec| {
        items(spec, "sinks").next().is_none() || spec.get("webhook").is_some_and(|webhook| !has(webhook, "url"))
    };
    "a sink can only ask for events that webhook.events lists" => |spec| {
        let Some(webhook) = spec.get("webhook") else { return true };
        let events: BTreeSet<&str> = texts(webhook, "events").collect();
        items(spec, "sinks").flat_map(|sink| texts(sink, "events")).all(|event| events.contains(event))
    };
    "branch is the name of one branch, such as main or refs/heads/main, and no pattern; patterns belong in the branches of a sink" => |branch| {
        names_branches(text(branch)) && !text(branch).contains('*')
    };
    "branches are names or patterns of branches such as main, release/* or refs/heads/main; * and ** are the only wildcards, and tags are not filtered" => |branches| {
        branches.as_array().into_iter().flatten().all(|branch| names_branches(text(branch)))
    };
    "repository must not hold a password; the connection's Secret is the place for it" => |repository| {
        !fits("^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@", text(repository))
    };
    "interval must be at least 10s" => |interval| lasts(interval, 10);
    "catalog.interval must be at least 10m" => |interval| lasts(interval, 600);
    "rotationInterval must be at least 10m" => |interval| lasts(interval, 600);
    "webhook.url needs webhook.secretRef: the owner of that endpoint must know the secret" => |webhook| {
        !has(webhook, "url") || has(webhook, "secretRef")
    };
    "webhook.adopt needs webhook.url" => |webhook| webhook.get("adopt") != Some(&Value::Bool(true)) || has(webhook, "url");
    "webhook.rotationInterval excludes webhook.secretRef: a secret of your own is rotated by changing it" => |webhook| {
        !has(webhook, "rotationInterval") || !has(webhook, "secretRef")
    };
    "a sink needs exactly one of service and http" => |sink| count(sink, &["service", "http"]) == 1;
    ONE_PROVIDER => |provider| {
        // Other members are refused as unknown fields.
        provider.as_object().is_some_and(|members| members.len() == 1)
    };
    "github needs either organization or user" => |provider| count(provider, &["organization", "user"]) == 1;
    "gitea needs either organization or user" => |provider| count(provider, &["organization", "user"]) == 1;
    "must be an http or https URL without user name, query or fragment, like https://git.acme.io/path" => |address| {
        fits(r"^https?://[^/?#@\s]+(/[^?#\s]*)?$", text(address))
    };
    "must be an http or https URL without user name or fragment, like https://ci.acme.io/hooks?job=shop" => |address| {
        fits(r"^https?://[^/?#@\s]+(/[^?#\s]*)?([?][^#\s]*)?$", text(address))
    };
    "organization is a name such as acme, not a URL; a Server's address belongs in url" => |organization| !text(organization).contains('/');
    "publicURL is the name of an address in --public-url, such as internal: lower-case letters, digits and dashes" => |name| {
        fits("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", text(name))
    };
    "expiresAt must be a date such as 2027-03-01 or an RFC 3339 time such as 2027-03-01T12:00:00Z" => |end| {
        let form = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?$";
        let year = text(end).get(..4).and_then(|year| year.parse::<i16>().ok());
        let exists = text(end).parse::<Timestamp>().is_ok() || text(end).parse::<Date>().is_ok();
        fits(form, text(end)) && exists && year.is_some_and(|year| year >= 2000)
    };
    "a grant needs exactly one of connectionRef and connectionSelector" => |grant| count(grant, &["connectionRef", "connectionSelector"]) == 1;
    "selector is required with from: Selector and not allowed otherwise" => |namespaces| {
        (namespaces.get("from").map(text) == Some("Selector")) == has(namespaces, "selector")
    };
}

/// Whether a text matches a pattern as the API server reads it, with ASCII character classes. An invalid pattern matches
/// nothing.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    RegexBuilder::new(pattern).unicode(false).build().is_ok_and(|pattern| pattern.is_match(text.as_bytes()))
}

/// Whether a text can name branches or be a pattern for them. Characters that git forbids in branch names would silently
/// match nothing.
fn names_branches(text: &str) -> bool {
    (!text.starts_with("refs/") || fits("^refs/heads/.", text)) && fits(r"^[^\s~^:?\[\\]+$", text)
}

fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some()
}

fn count(value: &Value, fields: &[&str]) -> usize {
    fields.iter().filter(|field| has(value, field)).count()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn texts<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    items(value, field).map(text)
}

fn lasts(interval: &Value, seconds: u64) -> bool {
    text(interval).parse::<Interval>().is_ok_and(|interval| interval.length().as_secs() >= seconds)
}
