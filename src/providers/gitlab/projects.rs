//! Lists the projects of a group, or those that the account is a member of.

use std::collections::BTreeSet;

use futures::stream::{self, BoxStream, StreamExt as _};
use url::Url;

use super::client::GitLabClient;
use super::page::Pages;
use super::{convert, role, wire};
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::lenient::Id;
use crate::providers::listing::Extent;
use crate::providers::transport::Operation;
use crate::providers::{ListedRepository, PermissionFinding, ProviderError};

/// The projects whose hooks the account may manage. Lists do not show the whole role, so they come from a list of their own.
struct Managed {
    ids: BTreeSet<Id>,
    /// The state of all other projects.
    others: PermissionState,
}

impl Managed {
    fn state(&self, project: &wire::Project) -> PermissionState {
        let granted = self.ids.contains(&project.id) || role::suffices(role::shown(project.permissions.as_ref()));
        if granted { PermissionState::Granted } else { self.others }
    }
}

impl GitLabClient {
    /// With a group: the projects of the group and its subgroups. Without a group: the projects that the account is a
    /// member of.
    pub(super) fn listed_projects(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        // Without an account there are no memberships to list.
        let Some(list) = self.list_of_projects() else { return stream::empty().boxed() };
        let pages = Pages::new(list.clone(), Extent::passing(Operation::ListRepositories));
        let begin = (pages, list, None);
        stream::try_unfold(begin, move |(mut pages, list, managed)| async move {
            let managed = match managed {
                Some(managed) => managed,
                None => self.managed(&list).await?,
            };
            // An empty page may have a next one.
            let Some(page) = self.page_of_projects(&mut pages).await? else { return Ok(None) };
            let page: Vec<_> = page.into_iter().map(|project| entry(project, &managed)).collect();
            Ok(Some((page, (pages, list, Some(managed)))))
        })
        .boxed()
    }

    fn list_of_projects(&self) -> Option<Url> {
        let mut list = match &self.endpoint.scope {
            Some(scope) => {
                let mut url = self.api(["groups", &scope.path, "projects"]);
                url.query_pairs_mut().extend_pairs([("include_subgroups", "true"), ("with_shared", "false")]);
                url
            }
            None if self.is_anonymous() => return None,
            None => {
                let mut url = self.api(["projects"]);
                url.query_pairs_mut().extend_pairs([("membership", "true"), ("pagination", "keyset")]);
                url
            }
        };
        list.query_pairs_mut().extend_pairs([("order_by", "id"), ("sort", "asc")]);
        Some(list)
    }

    /// Reads which projects of a list the account has a sufficient role in, memberships through invited groups included.
    async fn managed(&self, list: &Url) -> Result<Managed, ProviderError> {
        if self.is_anonymous() {
            return Ok(Managed { ids: BTreeSet::new(), others: PermissionState::Missing });
        }
        let mut list = list.clone();
        list.query_pairs_mut().append_pair("min_access_level", &role::MAINTAINER.to_string()).append_pair("simple", "true");
        let mut pages = Pages::new(list, Extent::passing(Operation::ListRepositories));
        let mut ids = BTreeSet::new();
        while let Some(page) = self.page_of_projects(&mut pages).await? {
            ids.extend(page.into_iter().map(|project| project.id));
        }
        // An administrator of the server needs no role, unless Admin Mode requires the scope admin_mode.
        let administers = self.token_user().await?.is_none_or(|user| user.is_admin);
        Ok(Managed { ids, others: if administers { PermissionState::Unknown } else { PermissionState::Missing } })
    }

    async fn page_of_projects(&self, pages: &mut Pages) -> Result<Option<Vec<wire::Project>>, ProviderError> {
        let Some(url) = pages.next_url() else { return Ok(None) };
        let page = pages.take(&self.transport, self.get(Operation::ListRepositories, url).await?)?;
        if pages.is_settled() { Ok(Some(page)) } else { Err(Pages::unsettled(Operation::ListRepositories.as_str())) }
    }
}

/// Converts a project of a list. Its group is the path without the last segment.
fn entry(mut project: wire::Project, managed: &Managed) -> ListedRepository {
    let (webhooks, topics) = (managed.state(&project), project.topics.take());
    let group = project.path_with_namespace.rsplit_once('/').map(|(group, _)| group.to_owned());
    let found = convert::repository(project, PermissionFinding::granted());
    ListedRepository { webhooks, topics, project: group, ..ListedRepository::of(found) }
}
