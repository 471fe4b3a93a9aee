//! Types that both kinds share: policies, events, references, durations.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether Forgebind may make changes at the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManagementPolicy {
    /// Creates, repairs, rotates and removes webhooks.
    #[default]
    Manage,
    /// Plans and reports, but changes nothing at the provider.
    Observe,
}

/// What happens to the webhook when the binding is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Removes the webhook at the provider.
    #[default]
    Delete,
    /// Leaves the webhook in place, unless the connection no longer allows the binding or its owner could not stop the
    /// deliveries later.
    Orphan,
}

/// Kind of an event in a repository, the same for every provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EventKind {
    /// A branch was created, moved or deleted.
    Push,
    /// A tag was created, moved or deleted.
    Tag,
    /// A pull request was opened or its source branch was updated.
    PullRequest,
    /// A pull request was merged.
    PullRequestMerged,
    /// A pull request was closed without being merged.
    PullRequestClosed,
    /// Somebody commented on a pull request.
    PullRequestComment,
}

impl EventKind {
    /// Every event, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Push, Self::Tag, Self::PullRequest, Self::PullRequestMerged, Self::PullRequestClosed, Self::PullRequestComment];

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "Push",
            Self::Tag => "Tag",
            Self::PullRequest => "PullRequest",
            Self::PullRequestMerged => "PullRequestMerged",
            Self::PullRequestClosed => "PullRequestClosed",
            Self::PullRequestComment => "PullRequestComment",
        }
    }

    /// The `CloudEvents` type of an event of this kind.
    #[must_use]
    pub const fn cloud_event_type(self) -> &'static str {
        match self {
            Self::Push => "dev.forgebind.push",
            Self::Tag => "dev.forgebind.tag",
            Self::PullRequest => "dev.forgebind.pull_request",
            Self::PullRequestMerged => "dev.forgebind.pull_request.merged",
            Self::PullRequestClosed => "dev.forgebind.pull_request.closed",
            Self::PullRequestComment => "dev.forgebind.pull_request.comment",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a user wants to do at a provider. Each provider maps a permission to its own scopes, roles and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    /// Read files, branches and commits.
    ReadContents,
    /// List the repositories of the owner.
    ListRepositories,
    /// Push branches and commits.
    WriteContents,
    /// Read issues and their labels.
    ReadIssues,
    /// Open pull requests.
    OpenPullRequests,
    /// Comment on pull requests.
    CommentOnPullRequests,
    /// Set commit statuses.
    WriteCommitStatus,
    /// Write check runs.
    WriteChecks,
    /// Write deployments.
    WriteDeployments,
    /// List, create, change and delete webhooks.
    ManageWebhooks,
    /// Create repositories.
    CreateRepositories,
    /// Delete repositories.
    DeleteRepositories,
    /// Change repository settings.
    AdministerRepositories,
    /// Read the organization and its teams.
    ReadOrganization,
    /// List the projects that hold repositories.
    ListProjects,
    /// Read the account behind the credential.
    ReadAccount,
}

impl Permission {
    /// Every permission, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::ReadContents,
        Self::ListRepositories,
        Self::WriteContents,
        Self::ReadIssues,
        Self::OpenPullRequests,
        Self::CommentOnPullRequests,
        Self::WriteCommitStatus,
        Self::WriteChecks,
        Self::WriteDeployments,
        Self::ManageWebhooks,
        Self::CreateRepositories,
        Self::DeleteRepositories,
        Self::AdministerRepositories,
        Self::ReadOrganization,
        Self::ListProjects,
        Self::ReadAccount,
    ];
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Git provider, as shown in `status.provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProviderKind {
    /// github.com, data-residency hosts and GitHub Enterprise Server.
    GitHub,
    /// gitlab.com and self-managed GitLab.
    GitLab,
    /// bitbucket.org.
    BitbucketCloud,
    /// Bitbucket Data Center and Server.
    BitbucketDataCenter,
    /// Azure DevOps Services and Server.
    AzureDevOps,
    /// Gitea and Forgejo.
    Gitea,
}

impl ProviderKind {
    /// Every provider, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::GitHub, Self::GitLab, Self::BitbucketCloud, Self::BitbucketDataCenter, Self::AzureDevOps, Self::Gitea];

    /// The name in the flag `--providers` and in metrics.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::BitbucketCloud => "bitbucket-cloud",
            Self::BitbucketDataCenter => "bitbucket-data-center",
            Self::AzureDevOps => "azure-devops",
            Self::Gitea => "gitea",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// A duration of up to three groups of digits with `h`, `m` or `s`, for example `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    text: String,
    length: Duration,
}

impl Interval {
    /// The length of the duration.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }
}

/// The error for a text that is not a duration of this API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration like 30s, 10m or 1h30m")]
pub struct IntervalError(String);

impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || IntervalError(text.to_owned());
        let mut seconds: u64 = 0;
        let mut digits = String::new();
        let mut groups = 0;
        for character in text.chars() {
            if character.is_ascii_digit() && digits.len() < 5 {
                digits.push(character);
                continue;
            }
            let scale = match character {
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return Err(refused()),
            };
            let count: u64 = digits.parse().map_err(|_| refused())?;
            seconds = seconds.saturating_add(count.saturating_mul(scale));
            digits.clear();
            groups += 1;
        }
        if groups == 0 || groups > 3 || !digits.is_empty() {
            return Err(refused());
        }
        Ok(Self { text: text.to_owned(), length: Duration::from_secs(seconds) })
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Interval {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Interval".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 18,
            "pattern": "^([0-9]{1,5}(h|m|s)){1,3}$",
        })
    }
}

/// Reference to an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalReference {
    /// Name of the object, at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds that can contain a bundle of certificate authorities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateAuthorityKind {
    /// A `ConfigMap`.
    #[default]
    ConfigMap,
    /// A `Secret`.
    Secret,
}

/// Reference to a PEM bundle of certificate authorities in a `ConfigMap` or `Secret` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct CertificateAuthorityReference {
    /// Kind of the object: `ConfigMap`, the default, or Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CertificateAuthorityKind")]
    pub kind: Option<CertificateAuthorityKind>,
    /// Name of the object, at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the object that contains the PEM bundle, at most 253 characters. Defaults to ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Values of the request annotations that were handled last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastHandled {
    /// Value of `forgebind.dev/reconcile-requested-at` that was handled last: the object was reconciled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<String>,
    /// Value of `forgebind.dev/rotate-requested-at` that was handled last: the webhook secret was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_secret: Option<String>,
    /// Value of `forgebind.dev/revoke-requested-at` that was handled last: earlier webhook secrets are no longer accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_secret: Option<String>,
    /// On a connection, the value of `forgebind.dev/catalog-requested-at` that was handled last: the repositories were listed,
    /// or the condition Cataloged says why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// On a binding, the value of `forgebind.dev/redeliver-requested-at` that was handled last: parked events and dead letters
    /// were sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redeliver: Option<String>,
    /// On a binding, the value of `forgebind.dev/rotate-requested-at` of its connection that was handled last: the webhook
    /// secret was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_secret_of_connection: Option<String>,
    /// On a binding, the value of `forgebind.dev/revoke-requested-at` of its connection that was handled last: earlier
    /// webhook secrets are no longer accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_secret_of_connection: Option<String>,
}

/// Default of `status.observedGeneration`: Forgebind has not processed the object.
pub const UNOBSERVED: i64 = -1;

/// Reads an `observedGeneration`; the default of the schema becomes `None`.
pub(super) fn observed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(<Option<i64>>::deserialize(deserializer)?.filter(|generation| *generation != UNOBSERVED))
}

pub(super) const URL_PATTERN: &str = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_reads_what_the_schema_admits() {
        assert_eq!("1h30m".parse::<Interval>().unwrap().length(), Duration::from_secs(5400));
        assert_eq!("99999h99999h99999h".parse::<Interval>().unwrap().length(), Duration::from_secs(99_999 * 3 * 3600));
        for refused in ["", "5", "h", "1d", "1h1h1h1h", "100000s", "-1s", "1.5h", " 1s"] {
            assert!(refused.parse::<Interval>().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn an_object_that_nobody_looked_at_has_no_observed_generation() {
        let status: super::super::RepoBindingStatus = serde_json::from_str(r#"{"observedGeneration": -1}"#).unwrap();
        assert_eq!(status, super::super::RepoBindingStatus::default());
        let status: super::super::GitProviderConnectionStatus = serde_json::from_str(r#"{"observedGeneration": 3}"#).unwrap();
        assert_eq!(status.observed_generation, Some(3));
    }

    #[test]
    fn interval_is_written_back_as_it_was_read() {
        let interval: Interval = serde_json::from_str("\"90m\"").unwrap();
        assert_eq!(serde_json::to_string(&interval).unwrap(), "\"90m\"");
    }
}
