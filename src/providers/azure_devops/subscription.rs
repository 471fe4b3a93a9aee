//! Converts between subscriptions and hooks: one subscription for each kind of event, always limited to one project and one
//! repository.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::wire;
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::WebhookSecret;
use crate::providers::model::{Hook, HookRelease, HookShape, HookState, HookUrl, Repository};
use crate::providers::transport::Operation;
use crate::providers::{ErrorKind, ProviderError};

/// The publisher of repository events.
const PUBLISHER: &str = "tfs";
/// The consumer that posts to a URL, and its action.
const CONSUMER: &str = "webHooks";
const ACTION: &str = "httpRequest";

const PROJECT: &str = "projectId";
const REPOSITORY: &str = "repository";
const NOTIFICATION_TYPE: &str = "notificationType";
const RESOURCE_VERSION: &str = "resourceVersion";
const RESOURCE_DETAILS: &str = "resourceDetailsToSend";
const MESSAGES: &str = "messagesToSend";
const DETAILED_MESSAGES: &str = "detailedMessagesToSend";
const UNTRUSTED_CERTIFICATES: &str = "acceptUntrustedCerts";
const HEADERS: &str = "httpHeaders";
const URL: &str = "url";
const USERNAME: &str = "basicAuthUsername";
const PASSWORD: &str = "basicAuthPassword";

/// User name for a secret that has none of its own.
pub(super) const OWN_USERNAME: &str = "forgebind";
/// Maximum length of a subscription's password in characters.
const LONGEST_PASSWORD: usize = 256;

/// Inputs that filter events in addition to the project and the repository. An unset filter matches every event.
const FILTERS: [&str; 5] = ["branch", "pushedBy", "pullrequestCreatedBy", "pullrequestReviewersContains", "mergeResult"];

/// A kind of event that a subscription can have.
struct Kind {
    event_type: &'static str,
    /// The kind of update of a pull request. Empty for every other kind of event.
    notification_type: &'static str,
    resource_version: &'static str,
    /// The filters of [`FILTERS`] that the kind has.
    filters: &'static [&'static str],
    /// Whether deliveries include the one-line text, which is all that distinguishes a reactivated pull request from other
    /// status changes.
    messages: &'static str,
    events: &'static [EventKind],
}

const PULL_REQUEST_FILTERS: &[&str] = &["branch", "pullrequestCreatedBy", "pullrequestReviewersContains"];

pub(super) const PUSH: &str = "git.push";
pub(super) const PULL_REQUEST_CREATED: &str = "git.pullrequest.created";
pub(super) const PULL_REQUEST_UPDATED: &str = "git.pullrequest.updated";
pub(super) const PULL_REQUEST_MERGED: &str = "git.pullrequest.merged";
pub(super) const PULL_REQUEST_COMMENT: &str = "ms.vss-code.git-pullrequest-comment-event";

/// All supported kinds. The default events need the first three.
const KINDS: [Kind; 6] = [
    Kind {
        event_type: PUSH,
        notification_type: "",
        resource_version: "1.0",
        filters: &["branch", "pushedBy"],
        messages: "none",
        events: &[EventKind::Push, EventKind::Tag],
    },
    Kind {
        event_type: PULL_REQUEST_CREATED,
        notification_type: "",
        resource_version: "1.0",
        filters: PULL_REQUEST_FILTERS,
        messages: "none",
        events: &[EventKind::PullRequest],
    },
    Kind {
        event_type: PULL_REQUEST_UPDATED,
        notification_type: "PushNotification",
        resource_version: "1.0",
        filters: PULL_REQUEST_FILTERS,
        messages: "none",
        events: &[EventKind::PullRequest],
    },
    Kind {
        event_type: PULL_REQUEST_MERGED,
        notification_type: "",
        resource_version: "1.0",
        filters: PULL_REQUEST_FILTERS,
        messages: "none",
        events: &[EventKind::PullRequestMerged],
    },
    Kind {
        event_type: PULL_REQUEST_UPDATED,
        notification_type: "StatusUpdateNotification",
        resource_version: "1.0",
        filters: PULL_REQUEST_FILTERS,
        messages: "text",
        events: &[EventKind::PullRequestClosed],
    },
    Kind {
        event_type: PULL_REQUEST_COMMENT,
        notification_type: "",
        resource_version: "2.0",
        filters: &["branch"],
        messages: "none",
        events: &[EventKind::PullRequestComment],
    },
];

impl Kind {
    fn variant(&self) -> String {
        variant(self.event_type, self.notification_type)
    }

    fn of_variant(variant: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.variant() == variant)
    }
}

/// Distinguishes the subscriptions of one binding.
fn variant(event_type: &str, notification_type: &str) -> String {
    if notification_type.is_empty() { event_type.to_owned() } else { format!("{event_type}/{notification_type}") }
}

/// Event types that report `event`, with the notification type if it narrows them.
pub(super) const fn words(event: EventKind) -> &'static [&'static str] {
    match event {
        EventKind::Push | EventKind::Tag => &[PUSH],
        EventKind::PullRequest => &[PULL_REQUEST_CREATED, "git.pullrequest.updated (PushNotification)"],
        EventKind::PullRequestMerged => &[PULL_REQUEST_MERGED],
        EventKind::PullRequestClosed => &["git.pullrequest.updated (StatusUpdateNotification)"],
        EventKind::PullRequestComment => &[PULL_REQUEST_COMMENT],
    }
}

/// Returns one hook for each kind of event that reports any of `events`.
pub(super) fn shapes(events: &BTreeSet<EventKind>) -> Vec<HookShape> {
    let shape = |kind: &Kind| {
        let told: BTreeSet<_> = kind.events.iter().copied().filter(|event| events.contains(event)).collect();
        let unset = FILTERS.iter().map(|filter| (*filter, String::new()));
        let fields = [
            (NOTIFICATION_TYPE, kind.notification_type),
            (RESOURCE_VERSION, kind.resource_version),
            (RESOURCE_DETAILS, "all"),
            (MESSAGES, kind.messages),
            (DETAILED_MESSAGES, "none"),
            (UNTRUSTED_CERTIFICATES, ""),
            (HEADERS, ""),
        ];
        let fields = fields.map(|(name, value)| (name, value.to_owned())).into_iter().chain(unset).collect();
        HookShape { variant: kind.variant(), fields, events: told }
    };
    KINDS.iter().map(shape).filter(|shape| !shape.events.is_empty()).collect()
}

/// The project and the repository that a subscription is limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HookLocation {
    pub(super) project: String,
    pub(super) repository: String,
}

impl HookLocation {
    /// The location of a repository. Both IDs are required for every query and write: the provider treats an empty input as
    /// `any`, so a subscription without one would deliver the events of a whole project or organization.
    ///
    /// # Errors
    /// `Rejected` if either ID is unknown. Nothing was sent.
    pub(super) fn of(repository: &Repository, operation: Operation) -> Result<Self, ProviderError> {
        let project = repository.project.as_ref().map_or("", |project| project.id.as_str());
        if is_guid(project) && is_guid(&repository.id) {
            return Ok(Self { project: project.to_owned(), repository: repository.id.clone() });
        }
        let message = "the ids of the project and the repository are not known, and a subscription without them would apply to \
                       all repositories";
        Err(ProviderError::new(ErrorKind::Rejected, operation.as_str(), message))
    }

    /// The query for the subscriptions of this location.
    pub(super) fn query(&self) -> Value {
        let equals = |input: &str, value: &str| json!({"inputId": input, "operator": "equals", "inputValue": value});
        json!({
            "publisherId": PUBLISHER,
            "consumerId": CONSUMER,
            "consumerActionId": ACTION,
            "publisherInputFilters": [{"conditions": [equals(PROJECT, &self.project), equals(REPOSITORY, &self.repository)]}],
        })
    }

    /// Whether a subscription is limited to this location and posts to a URL.
    pub(super) fn has(&self, subscription: &wire::Subscription) -> bool {
        let is = |input: &str, id: &str| value(&subscription.publisher_inputs, input).eq_ignore_ascii_case(id);
        let posts = subscription.consumer_id == CONSUMER && subscription.consumer_action_id == ACTION;
        posts && is(PROJECT, &self.project) && is(REPOSITORY, &self.repository)
    }
}

/// Whether a text has the format of an Azure DevOps ID.
pub(super) fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn value<'a>(inputs: &'a BTreeMap<String, Option<String>>, name: &str) -> &'a str {
    inputs.get(name).and_then(Option::as_deref).unwrap_or_default()
}

/// How deliveries are authenticated.
enum Proof<'a> {
    None,
    Password { username: &'a str, password: SecretString },
    Header { name: &'a str, value: &'a SecretString },
}

fn proof(secret: &WebhookSecret, operation: Operation) -> Result<Proof<'_>, ProviderError> {
    let refused = |message: &str| Err(ProviderError::new(ErrorKind::Rejected, operation.as_str(), message));
    if let WebhookSecret::Header { name, value } = secret {
        let is_name = http::HeaderName::try_from(name.as_str()).is_ok();
        let is_value = http::HeaderValue::from_str(value.expose_secret()).is_ok();
        if !is_name || !is_value {
            return refused("the webhook's header has a name or a value that cannot be sent");
        }
        return Ok(Proof::Header { name, value });
    }
    let username = if let WebhookSecret::BasicAuth { username, .. } = secret { username.as_str() } else { OWN_USERNAME };
    let password = secret.text();
    if password.expose_secret().is_empty() {
        return Ok(Proof::None);
    }
    let text = password.expose_secret();
    if text.chars().count() > LONGEST_PASSWORD || text.contains(char::is_whitespace) {
        return refused("Azure DevOps accepts no webhook password with white space or more than 256 characters; use another secret");
    }
    Ok(Proof::Password { username, password })
}

/// The whole subscription, for creating and for replacing it. It always includes the secret, because a replacement deletes
/// what is left out, and the secret is masked when it is read.
///
/// # Errors
/// `Rejected` for a secret that Azure DevOps does not accept. Nothing was sent.
pub(super) fn document(
    location: &HookLocation,
    url: &HookUrl,
    shape: &HookShape,
    secret: &WebhookSecret,
    operation: Operation,
) -> Result<Value, ProviderError> {
    let field = |name: &str| shape.fields.get(name).map_or("", String::as_str);
    let (event_type, notification_type) = shape.variant.split_once('/').unwrap_or((&shape.variant, ""));
    let kind = Kind::of_variant(&shape.variant);
    let mut publisher =
        Map::from_iter([(PROJECT.to_owned(), json!(location.project)), (REPOSITORY.to_owned(), json!(location.repository))]);
    for filter in kind.map_or(&[][..], |kind| kind.filters) {
        publisher.insert((*filter).to_owned(), json!(field(filter)));
    }
    if !notification_type.is_empty() {
        publisher.insert(NOTIFICATION_TYPE.to_owned(), json!(notification_type));
    }
    let mut consumer = Map::from_iter([(URL.to_owned(), json!(url.expose()))]);
    for name in [RESOURCE_DETAILS, MESSAGES, DETAILED_MESSAGES, UNTRUSTED_CERTIFICATES] {
        if !field(name).is_empty() {
            consumer.insert(name.to_owned(), json!(field(name)));
        }
    }
    match proof(secret, operation)? {
        Proof::None => {}
        Proof::Password { username, password } => {
            consumer.insert(USERNAME.to_owned(), json!(username));
            consumer.insert(PASSWORD.to_owned(), json!(password.expose_secret()));
        }
        Proof::Header { name, value } => {
            consumer.insert(HEADERS.to_owned(), json!(format!("{name}:{}", value.expose_secret())));
        }
    }
    Ok(json!({
        "publisherId": PUBLISHER,
        "eventType": event_type,
        "resourceVersion": kind.map_or("1.0", |kind| kind.resource_version),
        "consumerId": CONSUMER,
        "consumerActionId": ACTION,
        "publisherInputs": publisher,
        "consumerInputs": consumer,
    }))
}

/// The present subscription with another URL and its existing proof. The API returns headers but not the password.
///
/// # Errors
/// `Rejected` if the subscription has a password that the caller does not know.
pub(super) fn released(location: &HookLocation, release: &HookRelease<'_>, present: &wire::Subscription) -> Result<Value, ProviderError> {
    let consumer = |name: &str| value(&present.consumer_inputs, name);
    let operation = Operation::UpdateHook;
    let has_login = !consumer(PASSWORD).is_empty() || !consumer(USERNAME).is_empty();
    let none = WebhookSecret::Text(SecretString::default());
    let secret = if has_login { release.secret.ok_or_else(|| HookRelease::would_lose_the_secret(operation.as_str()))? } else { &none };
    let mut document = document(location, release.url, release.shape, secret, operation)?;
    let headers = Some(consumer(HEADERS)).filter(|headers| !headers.is_empty());
    if let (Some(headers), Some(inputs)) = (headers, document.get_mut("consumerInputs").and_then(Value::as_object_mut)) {
        inputs.entry(HEADERS).or_insert_with(|| json!(headers));
    }
    Ok(document)
}

pub(super) fn hook(subscription: &wire::Subscription) -> Hook {
    let publisher = |name: &str| value(&subscription.publisher_inputs, name);
    let consumer = |name: &str| value(&subscription.consumer_inputs, name);
    // The provider treats an empty value like `all` or, for flags, like `false`.
    let all = |name: &str| Some(consumer(name)).filter(|value| !value.is_empty()).unwrap_or("all").to_owned();
    let untrusted = Some(consumer(UNTRUSTED_CERTIFICATES)).filter(|value| !value.eq_ignore_ascii_case("false")).unwrap_or_default();
    let has_password = !consumer(PASSWORD).is_empty();
    let has_login = has_password || !consumer(USERNAME).is_empty();
    let (proving, further) = headers(consumer(HEADERS), has_login);
    let mut fields: BTreeMap<&'static str, String> = FILTERS.iter().map(|filter| (*filter, publisher(filter).to_owned())).collect();
    fields.insert(NOTIFICATION_TYPE, publisher(NOTIFICATION_TYPE).to_owned());
    fields.insert(RESOURCE_DETAILS, all(RESOURCE_DETAILS));
    fields.insert(MESSAGES, all(MESSAGES));
    fields.insert(DETAILED_MESSAGES, all(DETAILED_MESSAGES));
    fields.insert(UNTRUSTED_CERTIFICATES, untrusted.to_owned());
    fields.insert(HEADERS, further);
    if let Some(version) = &subscription.resource_version {
        fields.insert(RESOURCE_VERSION, version.clone());
    }
    let variant = variant(&subscription.event_type, publisher(NOTIFICATION_TYPE));
    let events = Kind::of_variant(&variant).map(|kind| kind.events.iter().copied().collect()).unwrap_or_default();
    Hook {
        id: subscription.id.clone(),
        url: HookUrl::new(consumer(URL).to_owned()),
        shape: HookShape { variant, fields, events },
        state: state(subscription.status.as_deref().unwrap_or_default()),
        // If there is only a user name, a password may still be set but hidden.
        has_secret: if has_password || proving { Some(true) } else { Some(false).filter(|_| !has_login) },
    }
}

/// Whether a header may authenticate deliveries, and the names of the other headers. In a subscription without a login, the
/// first header may do so.
fn headers(text: &str, has_login: bool) -> (bool, String) {
    let lines: Vec<_> = text.split(['\r', '\n']).filter(|line| !line.trim().is_empty()).collect();
    let proving = !has_login && !lines.is_empty();
    let names = lines.iter().skip(usize::from(proving)).map(|line| line.split(':').next().unwrap_or_default().trim());
    (proving, names.collect::<Vec<_>>().join(","))
}

fn state(status: &str) -> HookState {
    let disabled = |cause: &str| HookState::Disabled(cause.to_owned());
    match status {
        "disabledByUser" => HookState::Paused,
        "onProbation" => disabled("it is on probation: a delivery failed, and Azure DevOps repeats only that one and drops new events"),
        "disabledBySystem" => disabled("deliveries failed for too long"),
        "disabledByInactiveIdentity" => disabled("the owner of the subscription has left or lost the permission for it"),
        _ => HookState::Active,
    }
}

#[cfg(test)]
mod tests;
