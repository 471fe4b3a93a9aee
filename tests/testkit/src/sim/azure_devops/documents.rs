//! The documents of the REST API, and the bodies of deliveries.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::state::{ORGANIZATION, Project, Repository, Subscription, guid};
use crate::sim::contents::ZERO;
use crate::sim::{Change, ProviderEvent, PullRequest, PullRequestState};

/// A time in the form of the documents.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Creates documents whose links begin with an address.
pub struct Documents<'a> {
    /// The simulator's address.
    pub url: &'a str,
    /// The present time.
    pub now: String,
}

/// A text encoded as a segment of an address.
fn encoded(text: &str) -> String {
    text.replace(' ', "%20")
}

pub fn list(value: &[Value]) -> Value {
    json!({"count": value.len(), "value": value})
}

impl Documents<'_> {
    /// The address of the organization.
    pub fn base(&self) -> String {
        format!("{}/{ORGANIZATION}", self.url)
    }

    pub fn identity(&self, name: &str) -> Value {
        let id = guid(&format!("user {name}"));
        json!({"displayName": name, "id": id, "uniqueName": name, "url": format!("{}/_apis/Identities/{id}", self.base())})
    }

    pub fn project(&self, project: &Project) -> Value {
        json!({
            "id": project.id, "name": project.name, "state": "wellFormed", "revision": 11, "visibility": "private",
            "lastUpdateTime": "2026-03-02T08:15:30.4Z", "url": format!("{}/_apis/projects/{}", self.base(), project.id),
        })
    }

    pub fn repository(&self, repository: &Repository, project: &Project) -> Value {
        let (base, id) = (self.base(), &repository.id);
        let web = format!("{base}/{}/_git/{}", encoded(&project.name), encoded(&repository.name));
        let mut document = json!({
            "id": id, "name": repository.name, "project": self.project(project),
            "url": format!("{base}/{}/_apis/git/repositories/{id}", project.id),
            "size": if repository.contents.is_empty() { 0 } else { 18044 },
            "remoteUrl": web.replacen("://", &format!("://{ORGANIZATION}@"), 1),
            "sshUrl": format!("ssh://{}/{ORGANIZATION}/{}/_git/{}", host(self.url), encoded(&project.name), encoded(&repository.name)),
            "webUrl": web, "isDisabled": repository.disabled, "isInMaintenance": false,
        });
        if repository.contents.branch("main").is_some() {
            document["defaultBranch"] = json!("refs/heads/main");
        }
        document
    }

    pub fn reference(&self, repository: &Repository, name: &str, object: &str) -> Value {
        let url = format!("{}/_apis/git/repositories/{}/refs?filter={}", self.base(), repository.id, name.trim_start_matches("refs/"));
        json!({"name": name, "objectId": object, "creator": self.identity(super::state::ADMINISTRATOR), "url": url})
    }

    /// A subscription as the API returns it: with a masked password, and inputs that were not sent.
    pub fn subscription(&self, subscription: &Subscription) -> Value {
        let id = &subscription.id;
        let mut document = Value::Object(subscription.document.clone());
        let own = format!("{}/_apis/hooks/subscriptions/{id}", self.base());
        let fields = json!({
            "id": id, "url": own, "status": subscription.status,
            "eventDescription": "Repository", "actionDescription": format!("To host {}", host(subscription.consumer("url"))),
            "createdBy": self.identity(&subscription.creator), "createdDate": subscription.created,
            "modifiedBy": self.identity(&subscription.creator), "modifiedDate": subscription.modified,
            "probationRetries": subscription.probation_retries,
            "_links": {"self": {"href": own}},
        });
        merge(&mut document, &fields);
        document["publisherInputs"]["tfsSubscriptionId"] = json!(guid(&format!("own subscription of {id}")));
        if !subscription.consumer("basicAuthPassword").is_empty() {
            document["consumerInputs"]["basicAuthPassword"] = json!("********");
        }
        document
    }

    /// The body of a delivery, without the ids of subscription and notification.
    pub fn event(&self, told: &EventContext<'_>) -> Value {
        let EventContext { event_type, provider_event, repository, project, id } = told;
        let resource = match provider_event {
            ProviderEvent::Reference { reference, before, after, message } => {
                self.push(repository, project, (reference, before.as_deref(), after.as_deref(), message))
            }
            ProviderEvent::PullRequest { pull_request, change: Change::Commented(text) } => json!({
                "comment": {
                    "id": 2, "parentCommentId": 0, "author": self.identity(super::state::ADMINISTRATOR), "content": text,
                    "publishedDate": self.now, "lastUpdatedDate": self.now, "lastContentUpdatedDate": self.now, "commentType": "text",
                },
                "pullRequest": self.pull_request(repository, project, pull_request),
            }),
            ProviderEvent::PullRequest { pull_request, .. } => self.pull_request(repository, project, pull_request),
        };
        let container = |id: &str| json!({"id": id, "baseUrl": format!("{}/", self.base())});
        json!({
            "id": id, "eventType": event_type, "publisherId": "tfs", "resource": resource,
            "message": {"text": words(provider_event, repository)},
            "detailedMessage": {"text": words(provider_event, repository)},
            "resourceVersion": if event_type.starts_with("ms.") { "2.0" } else { "1.0" },
            "resourceContainers": {
                "collection": container(&guid("collection")), "account": container(&guid("account")), "project": container(&project.id),
            },
            "createdDate": self.now,
        })
    }

    fn push(&self, repository: &Repository, project: &Project, moved: (&str, Option<&str>, Option<&str>, &str)) -> Value {
        let (reference, before, after, message) = moved;
        let person = json!({"name": "Ada", "email": super::state::ADMINISTRATOR, "date": self.now});
        let commits: Vec<_> = after
            .filter(|_| reference.starts_with("refs/heads/"))
            .map(|commit| json!({"commitId": commit, "author": person, "committer": person, "comment": message}))
            .into_iter()
            .collect();
        json!({
            "commits": commits,
            "refUpdates": [{"name": reference, "oldObjectId": before.unwrap_or(ZERO), "newObjectId": after.unwrap_or(ZERO)}],
            "repository": self.repository(repository, project),
            "pushedBy": self.identity(super::state::ADMINISTRATOR), "pushId": 14, "date": self.now,
        })
    }

    fn pull_request(&self, repository: &Repository, project: &Project, pull_request: &PullRequest) -> Value {
        let status = match pull_request.state {
            PullRequestState::Open => "active",
            PullRequestState::Merged => "completed",
            PullRequestState::Closed => "abandoned",
        };
        json!({
            "repository": self.repository(repository, project), "pullRequestId": pull_request.number, "status": status,
            "createdBy": self.identity(super::state::ADMINISTRATOR), "creationDate": self.now, "title": pull_request.title,
            "sourceRefName": format!("refs/heads/{}", pull_request.source), "targetRefName": format!("refs/heads/{}", pull_request.target),
            "mergeStatus": "succeeded", "mergeId": guid("merge"), "isDraft": false, "reviewers": [],
            "lastMergeSourceCommit": {"commitId": pull_request.head},
        })
    }
}

/// The content of a delivery.
pub struct EventContext<'a> {
    pub event_type: &'a str,
    pub provider_event: &'a ProviderEvent,
    pub repository: &'a Repository,
    pub project: &'a Project,
    /// Id of the event: the same for all subscriptions.
    pub id: String,
}

/// The line of text for people.
fn words(provider_event: &ProviderEvent, repository: &Repository) -> String {
    let name = &repository.name;
    match provider_event {
        ProviderEvent::Reference { reference, .. } => format!("Ada pushed updates to {name}:{reference}"),
        ProviderEvent::PullRequest { pull_request, change } => {
            let what = match change {
                Change::Opened => "created",
                Change::SourceMoved(_) => "updated the source branch of",
                Change::Edited => "edited",
                Change::Merged(_) => "completed",
                Change::Closed => "abandoned",
                Change::Commented(_) => "has commented on",
            };
            format!("Ada {what} pull request {} ({}) in {name}", pull_request.number, pull_request.title)
        }
    }
}

fn host(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let port = url.as_ref().and_then(url::Url::port).map(|port| format!(":{port}")).unwrap_or_default();
    url.as_ref().and_then(url::Url::host_str).map(|host| format!("{host}{port}")).unwrap_or_default()
}

fn merge(document: &mut Value, fields: &Value) {
    let more: Map<String, Value> = fields.as_object().cloned().unwrap_or_default();
    if let Some(object) = document.as_object_mut() {
        object.extend(more);
    }
}
