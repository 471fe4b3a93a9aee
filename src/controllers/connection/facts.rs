//! All facts about one connection: the input of planning.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::probe::Probe;
use super::schedule;
use super::snapshot::Snapshot;
use super::usage;
use crate::api::v1alpha1::Permission;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::controllers::View;
use crate::controllers::sessions::{ConditionFailure, Session, Usage};
use crate::providers::PermissionFinding;

/// All facts about one connection. Complete when constructed, and never changed.
pub struct Facts {
    /// What was known before the provider was called.
    pub snapshot: Snapshot,
    /// The inspection of the credential; `None` if none was due.
    pub probe: Option<Probe>,
    /// Session with the results of this inspection, or of the last one if none was due.
    pub session: Session,
    /// Usage of the connection by bindings, after the inspection.
    pub usage: Usage,
    /// The needed permissions with their findings; empty without an active client.
    pub permissions: Vec<(Permission, PermissionFinding)>,
}

impl Facts {
    /// Inspects the credential if an inspection is due.
    pub async fn gather(view: &View, snapshot: Snapshot) -> Self {
        let known = snapshot.session.clone().filter(|_| !schedule::inspection_due(&snapshot));
        let (session, probe) = if let Some(known) = known {
            (known, None)
        } else {
            let probe = Probe::run(view, &snapshot).await;
            (session_after(&snapshot, &probe), Some(probe))
        };
        let usage = usage::of(view, &ConnectionTarget::of(&snapshot.object));
        let permissions = judge(&session, &needed(&snapshot, usage));
        Self { snapshot, probe, session, usage, permissions }
    }

    /// Expiry of the credential: as the provider reports it, else as declared.
    #[must_use]
    pub fn expiry(&self) -> Option<Timestamp> {
        let reported = self.session.active_client.as_ref().and_then(|active_client| active_client.inspection.expires_at);
        reported.or_else(|| schedule::declared_expiry(&self.snapshot))
    }
}

/// The session after an inspection.
fn session_after(snapshot: &Snapshot, probe: &Probe) -> Session {
    let (known, now) = (snapshot.session.as_ref(), snapshot.now);
    let (uid, inputs) = (snapshot.uid(), snapshot.inputs_version());
    let failure = probe.result.as_ref().err().cloned();
    let is_outage = failure.as_ref().is_some_and(ConditionFailure::is_outage);
    let failures = if is_outage { known.map_or(0, |known| known.failures).saturating_add(1) } else { 0 };
    let rejected = failure.as_ref().is_some_and(ConditionFailure::is_rejection);
    // Keeps the last working client of the same object, unless the credential of that client was rejected.
    let kept = known.filter(|known| known.uid == uid).and_then(|known| known.active_client.clone());
    let kept = kept.filter(|active_client| !rejected || active_client.inputs != inputs);
    Session {
        inspected_at: now,
        works_since: failure.is_none().then(|| known.and_then(|known| known.works_since).unwrap_or(now)),
        next: schedule::next_inspection(failure.as_ref(), failures, snapshot.object.spec.interval.length(), &uid, now),
        failures,
        hung: probe.hung,
        active_client: probe.result.as_ref().ok().cloned().or(kept),
        failure,
        inspection_requested: false,
        usage: Usage::default(),
        uid,
        inputs,
    }
}

fn needed(snapshot: &Snapshot, usage: Usage) -> BTreeSet<Permission> {
    let required = snapshot.object.spec.required_permissions.iter().copied();
    required.chain(usage.webhooks.then_some(Permission::ManageWebhooks)).collect()
}

fn judge(session: &Session, needed: &BTreeSet<Permission>) -> Vec<(Permission, PermissionFinding)> {
    let Some(active_client) = &session.active_client else { return Vec::new() };
    needed.iter().map(|permission| (*permission, active_client.permission(*permission))).collect()
}
