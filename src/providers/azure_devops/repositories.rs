//! Lists the repositories of a project or an organization, which the API returns in one answer.

use std::collections::BTreeMap;

use super::client::{ALL_BITS, AzureDevOpsClient};
use super::{convert, wire};
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::transport::Operation;
use crate::providers::{ListedRepository, PermissionFinding, ProviderError};

/// Maximum number of repositories in the list.
const MOST_REPOSITORIES: usize = 50_000;

impl AzureDevOpsClient {
    pub(super) async fn listed(&self) -> Result<Vec<ListedRepository>, ProviderError> {
        let answer = self.read(Operation::ListRepositories, &self.repositories_url(self.project()), None).await?;
        let list: wire::List<wire::Repository, MOST_REPOSITORIES> = answer.json()?;
        let mut projects = BTreeMap::new();
        for found in &list.value.0 {
            if !projects.contains_key(&found.project.id) {
                projects.insert(found.project.id.clone(), self.webhooks_of(&found.project.id).await?);
            }
        }
        let state = |project: &str| projects.get(project).copied().unwrap_or(PermissionState::Unknown);
        let entry = |found: wire::Repository| {
            let webhooks = state(&found.project.id);
            ListedRepository { webhooks, ..ListedRepository::of(convert::repository(found, PermissionFinding::granted())) }
        };
        Ok(list.value.0.into_iter().map(entry).collect())
    }

    /// Whether the account may change the subscriptions of a project, which is where Azure DevOps grants it.
    async fn webhooks_of(&self, project: &str) -> Result<PermissionState, ProviderError> {
        if self.is_anonymous() {
            return Ok(PermissionState::Missing);
        }
        Ok(match self.has_permission(Operation::ListRepositories, ALL_BITS, project).await? {
            Some(true) => PermissionState::Granted,
            Some(false) => PermissionState::Missing,
            None => PermissionState::Unknown,
        })
    }
}
