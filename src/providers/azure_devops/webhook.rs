//! Verifies and reads deliveries from Azure DevOps. Deliveries are not signed: a password or a header of the subscription
//! authenticates them, and only the body describes the event.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::{SignedDuration, Timestamp};
use ring::digest;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::subscription::{self, OWN_USERNAME};
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::WebhookSecret;
use crate::providers::pull_request::PullRequestAction::{
    Administered, Classified, Closed, CommentChanged, Commented, Drafted, Edited, Merged, Opened, Ready, Reopened, Reviewed, SourceMoved,
};
use crate::providers::pull_request::{self, ActionName};
use crate::providers::webhook::{Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, derived_id};
use crate::providers::{lenient, signature};
use crate::text::json;

/// The scheme before the user name and the password.
const BASIC: &str = "basic ";
/// The ID that stands for no subscription. A test delivery may contain it.
const NO_SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";
/// Texts of updates, with the suffix of the action's name in [`ACTIONS`].
const TEXTS: [(&str, &str); 4] = [
    ("updated the source branch", " (source branch)"),
    ("reactivated ", " (reactivated)"),
    ("published the pull request", " (published)"),
    ("marked the pull request as a draft", " (draft)"),
];
/// Minimum time between a comment and an edit of it. Smaller differences come from the provider's rounding.
const EDITED_AFTER: SignedDuration = SignedDuration::from_secs(1);

/// Azure DevOps's pull request actions: the event type with its status or text. A changed target is not reported: an update
/// is a push to the source branch or a change of status, reviewers or votes ("Service hooks events", pull request updated,
/// with the four values of `notificationType`). A subscription without a `notificationType` would deliver all four, and
/// nothing beyond them is documented. No body contains the former target either, so a changed target could not be
/// distinguished from other updates. A reactivated pull request is delivered by the subscription for status changes, which
/// exists for `PullRequestClosed`.
const ACTIONS: &[ActionName] = &[
    ("git.pullrequest.created", Opened),
    ("git.pullrequest.updated (reactivated)", Reopened),
    ("git.pullrequest.updated (source branch)", SourceMoved),
    ("git.pullrequest.updated (published)", Ready),
    ("git.pullrequest.merged (completed)", Merged),
    ("git.pullrequest.updated (abandoned)", Closed),
    ("ms.vss-code.git-pullrequest-comment-event", Commented),
    ("git.pullrequest.updated (draft)", Drafted),
    ("git.pullrequest.updated", Edited),
    ("ms.vss-code.git-pullrequest-comment-event (edited)", CommentChanged),
    ("ms.vss-code.git-pullrequest-comment-event (deleted)", CommentChanged),
    ("git.pullrequest.updated", Reviewed),
    ("git.pullrequest.updated", Classified),
    ("git.pullrequest.updated (completed)", Administered),
    ("git.pullrequest.merged", Administered),
    ("ms.vss-code.git-pullrequest-comment-event (system)", Administered),
];

/// Verifies and reads deliveries from Azure DevOps.
#[derive(Clone, Copy, Debug)]
pub struct AzureDevOpsWebhook;

impl Webhook for AzureDevOpsWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            body_limit: 10 * 1024 * 1024,
            // The sender's timeout is not documented.
            // The sender retries the last delivery of a subscription on probation for 36 hours.
            secret_grace: Duration::from_secs(36 * 60 * 60),
            proof_in_header: true,
        }
    }

    /// Accepted, because most error responses put the subscription on probation.
    fn accepts_oversized(&self) -> bool {
        true
    }

    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection> {
        let names = secrets.iter().filter_map(|secret| match secret {
            WebhookSecret::Header { name, .. } => Some(name.as_str()),
            _ => None,
        });
        let mut offered = false;
        for name in names.chain([AUTHORIZATION.as_str()]) {
            match signature::only_header(headers, name) {
                Ok(_) => offered = true,
                Err(Rejection::ProofMissing) => {}
                Err(rejection) => return Err(rejection),
            }
        }
        if !offered {
            return Err(Rejection::ProofMissing);
        }
        let position = signature::prove(secrets, |secret| is_proven(secret, headers))?;
        Ok(Verified::new(headers, Cow::Borrowed(body), position))
    }

    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError> {
        let body: Body = json::read(verified.payload())?;
        let subscription = body.subscription_id.as_deref().unwrap_or(NO_SUBSCRIPTION);
        let ping = subscription == NO_SUBSCRIPTION;
        let events = if ping { Vec::new() } else { body.events()? };
        let repository = body.resource.repository();
        let id = body.id.clone().unwrap_or_else(|| derived_id(&body.event_type, verified.payload()));
        Ok(Content {
            delivery_id: format!("{id}:{subscription}"),
            repository_id: repository.and_then(|repository| repository.id.clone()),
            repository_path: repository.and_then(RepositoryBody::path),
            events,
            ping,
        })
    }

    fn pull_request_actions(&self) -> &'static [ActionName] {
        ACTIONS
    }
}

/// Whether the headers contain the secret.
fn is_proven(secret: &WebhookSecret, headers: &HeaderMap) -> bool {
    match secret {
        WebhookSecret::Header { name, value } => {
            let told = headers.get(name.as_str()).map(http::HeaderValue::as_bytes).unwrap_or_default();
            are_same(told, value.expose_secret().trim().as_bytes())
        }
        WebhookSecret::BasicAuth { username, password } => is_login(headers, username, password.expose_secret()),
        WebhookSecret::Derived(_) | WebhookSecret::Text(_) => is_login(headers, OWN_USERNAME, secret.text().expose_secret()),
    }
}

fn is_login(headers: &HeaderMap, username: &str, password: &str) -> bool {
    let told = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, encoded) = told.split_at_checked(BASIC.len()).unwrap_or_default();
    let login = STANDARD.decode(encoded.trim()).unwrap_or_default();
    scheme.eq_ignore_ascii_case(BASIC) & are_same(&login, format!("{username}:{password}").as_bytes())
}

/// Whether two texts are equal. It compares their digests, so that the time taken reveals nothing about either text.
fn are_same(one: &[u8], other: &[u8]) -> bool {
    let [one, other] = [one, other].map(|text| digest::digest(&digest::SHA256, text));
    one.as_ref().iter().zip(other.as_ref()).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

/// Fields read from a body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    id: Option<String>,
    /// Absent in some test deliveries.
    subscription_id: Option<String>,
    event_type: String,
    message: Option<Message>,
    resource: Resource,
}

#[derive(Deserialize)]
struct Message {
    text: Option<String>,
}

/// The union of the documents that Azure DevOps sends for pushes, pull requests and comments.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    repository: Option<RepositoryBody>,
    ref_updates: Option<Vec<ReferenceUpdate>>,
    status: Option<String>,
    target_ref_name: Option<String>,
    last_merge_source_commit: Option<CommitBody>,
    #[serde(default, deserialize_with = "lenient::number")]
    pull_request_id: Option<u64>,
    pull_request: Option<PullRequest>,
    comment: Option<Comment>,
}

#[derive(Deserialize)]
struct RepositoryBody {
    id: Option<String>,
    name: Option<String>,
    project: Option<ProjectBody>,
}

#[derive(Deserialize)]
struct ProjectBody {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferenceUpdate {
    name: String,
    old_object_id: String,
    new_object_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PullRequest {
    #[serde(rename = "pullRequestId", default, deserialize_with = "lenient::number")]
    id: Option<u64>,
    repository: Option<RepositoryBody>,
    target_ref_name: Option<String>,
    last_merge_source_commit: Option<CommitBody>,
}

#[derive(Deserialize)]
struct CommitBody {
    #[serde(rename = "commitId")]
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Comment {
    #[serde(rename = "commentType")]
    kind: Option<String>,
    published_date: Option<String>,
    last_content_updated_date: Option<String>,
    #[serde(default)]
    is_deleted: bool,
}

impl RepositoryBody {
    fn path(&self) -> Option<String> {
        let project = self.project.as_ref()?.name.as_ref()?;
        Some(format!("{project}/{}", self.name.as_ref()?))
    }
}

impl Resource {
    fn repository(&self) -> Option<&RepositoryBody> {
        self.repository.as_ref().or_else(|| self.pull_request.as_ref()?.repository.as_ref())
    }

    /// Makes an event of the pull request, with its target branch.
    fn event(&self, kind: EventKind) -> Event {
        let target = self.target_ref_name.as_deref().or_else(|| self.pull_request.as_ref()?.target_ref_name.as_deref());
        let commit = self.last_merge_source_commit.as_ref();
        let commit = commit.or_else(|| self.pull_request.as_ref()?.last_merge_source_commit.as_ref());
        let number = self.pull_request_id.or_else(|| self.pull_request.as_ref()?.id);
        // The target is a full name already.
        let event = Event { reference: target.map(str::to_owned), ..Event::of_pull_request(kind, number, None) };
        event.at(commit.and_then(|commit| commit.id.as_deref()))
    }
}

impl Comment {
    /// Suffix for a comment that is not a new comment of a person: the system writes comments, and a deleted comment leaves
    /// an entry.
    fn detail(&self) -> &'static str {
        if self.is_deleted {
            " (deleted)"
        } else if self.kind.as_deref() == Some("system") {
            " (system)"
        } else if self.is_edited() {
            " (edited)"
        } else {
            ""
        }
    }

    fn is_edited(&self) -> bool {
        let time = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let times = time(&self.published_date).zip(time(&self.last_content_updated_date));
        times.is_some_and(|(published, changed)| changed.duration_since(published) > EDITED_AFTER)
    }
}

impl Body {
    fn events(&self) -> Result<Vec<Event>, ContentError> {
        let status = self.resource.status.as_deref();
        let detail = match self.event_type.as_str() {
            subscription::PUSH => return self.pushed(),
            subscription::PULL_REQUEST_UPDATED => self.update(),
            // Sent for every attempted merge, including those that only test whether a merge is possible.
            subscription::PULL_REQUEST_MERGED if status == Some("completed") => " (completed)",
            subscription::PULL_REQUEST_COMMENT => self.resource.comment.as_ref().map_or("", Comment::detail),
            _ => "",
        };
        let kind = pull_request::told_by(ACTIONS, &format!("{}{detail}", self.event_type));
        Ok(kind.map(|kind| self.resource.event(kind)).into_iter().collect())
    }

    fn pushed(&self) -> Result<Vec<Event>, ContentError> {
        let updates = self.resource.ref_updates.as_ref().ok_or_else(|| ContentError("a push without refUpdates".into()))?;
        let read = |update: &ReferenceUpdate| {
            let change = Change::between(&update.old_object_id, &update.new_object_id);
            Event::of_reference(&update.name, change)
                .map(|event| event.moved_from(Some(&update.old_object_id)).at(Some(&update.new_object_id)))
        };
        Ok(updates.iter().filter_map(read).collect())
    }

    /// Returns the kind of update. The body does not repeat which updates the subscription requested. A push notification
    /// has no text. A status change has one, and so does a notification of a subscription that somebody edited by hand.
    fn update(&self) -> &'static str {
        let text = self.message.as_ref().and_then(|message| message.text.as_deref()).unwrap_or_default();
        match self.resource.status.as_deref() {
            Some("abandoned") => " (abandoned)",
            Some("completed") => " (completed)",
            _ if text.is_empty() => " (source branch)",
            _ => TEXTS.iter().find(|(words, _)| text.contains(words)).map_or("", |(_, detail)| detail),
        }
    }
}

#[cfg(test)]
mod tests;
