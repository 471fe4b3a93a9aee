//! Gathers the facts about one binding, which all later steps decide upon.

use std::sync::Arc;

use jiff::Timestamp;

use super::cleanup::{self, CleanupTarget};
use super::probe::{self, Probe};
use super::schedule;
use super::snapshot::{Connection, Snapshot};
use crate::api::v1alpha1::binding::{RepositoryStatus, RequestedRepository};
use crate::api::v1alpha1::{Reason, RepoBinding};
use crate::controllers::View;
use crate::controllers::gate::{self, GrantedRepository};

/// Facts about one binding: the input of planning.
pub struct Facts {
    /// What is known without a provider.
    pub snapshot: Snapshot,
    /// Result of the probe of the repository; `None` if no probe was due.
    pub probe: Option<Probe>,
    /// Targets with hooks that must be removed.
    pub targets: Vec<CleanupTarget>,
}

impl Facts {
    /// Gathers all facts. Calls the provider only if a probe or a cleanup is due.
    pub async fn gather(view: &View, object: Arc<RepoBinding>) -> Self {
        let snapshot = Snapshot::read(view, object).await;
        let is_due = !snapshot.object.is_being_deleted() && !snapshot.suspended && schedule::probe_due(&snapshot);
        let probe = if is_due { probe::probe(view, &snapshot).await } else { None };
        let mut targets = Vec::new();
        for target in cleanup::cleanup_targets(&snapshot, probe.as_ref()) {
            let is_in_reach = probe::out_of_reach(&snapshot, probe.as_ref()).is_none();
            let told = is_in_reach && gate::may_be_reported(view, &snapshot.object, &target);
            let listing = probe::list(view, &snapshot, &target, told).await;
            targets.push(CleanupTarget::new(&snapshot, target, told, listing));
        }
        Self { snapshot, probe, targets }
    }

    pub fn found(&self) -> Option<&Arc<GrantedRepository>> {
        self.probe.as_ref()?.repository.found()
    }

    /// As [`cleanup::withheld`].
    pub fn withheld(&self) -> Option<(Reason, &'static str)> {
        cleanup::withheld(&self.snapshot, self.probe.as_ref())
    }

    /// As [`cleanup::kept_until`].
    pub fn kept_until(&self) -> Option<Timestamp> {
        cleanup::kept_until(&self.snapshot, self.probe.as_ref())
    }

    /// Status of the repository that the probe found. A repository without a grant is not shown.
    pub fn found_status(&self) -> Option<RepositoryStatus> {
        let Connection::Ready { active_client, path, .. } = &self.snapshot.connection else { return None };
        let found = self.found()?;
        Some(RepositoryStatus {
            id: found.id.clone(),
            path: found.path.as_str().to_owned(),
            web_url: found.web_url.clone(),
            clone_url: found.clone_url.clone(),
            ssh_url: found.ssh_url.clone(),
            default_branch: found.default_branch.clone(),
            visibility: found.visibility,
            archived: found.archived,
            empty: found.empty,
            requested: Some(RequestedRepository {
                connection: self.snapshot.object.connection_target(),
                api: Some(active_client.endpoint.api.to_string()),
                path: path.as_str().to_owned(),
                seal: Some(found.repository_seal(&self.snapshot.seal)),
            }),
        })
    }
}
