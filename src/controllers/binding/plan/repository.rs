//! Judges the repository and the branch. Pure.

use super::model::{Finding, Plan};
use crate::api::v1alpha1::Reason;
use crate::controllers::binding::probe::{Probe, out_of_reach};
use crate::controllers::binding::requested::is_same_repository;
use crate::controllers::binding::snapshot::{Connection, Snapshot};
use crate::controllers::gate::{OutOfReach, RepositoryLookup};
use crate::providers::model::Scope;
use crate::providers::{Disposition, ErrorKind, PathError};
use crate::text::wording;

/// Judges what is known without a probe.
pub(super) fn without_probe(plan: &mut Plan, snapshot: &Snapshot) {
    let object = &snapshot.object;
    match &snapshot.connection {
        Connection::Path(error) => plan.repository = Some(no_repository(&object.spec.repository, error)),
        Connection::Ready { active_client, path, .. } => {
            if let Some(scope) = active_client.scope().filter(|scope| !scope.contains(path)) {
                plan.repository = Some(out_of_scope(path.as_str(), scope));
            }
        }
        _ => {}
    }
    if plan.repository.is_none() && out_of_reach(snapshot, None).is_some() {
        plan.repository = Some(out_of_reach_finding(&object.spec.repository, OutOfReach::WithoutGrant, None));
    }
}

/// The finding for a text that is not a repository of the connection.
fn no_repository(text: &str, error: &PathError) -> Finding {
    match error {
        PathError::AnotherHost { .. } => Finding::bad(Reason::OutOfScope, error.to_string()),
        PathError::Password => Finding::bad(Reason::SpecInvalid, error.to_string()),
        PathError::Malformed(form) => Finding::bad(Reason::SpecInvalid, format!("repository {} is invalid: {form}", wording::quoted(text))),
    }
}

fn out_of_scope(path: &str, scope: &Scope) -> Finding {
    Finding::bad(Reason::OutOfScope, format!("{path} is outside the {scope} of the connection; use a connection of its owner"))
}

/// The finding for a repository that is out of reach. It never shows the present path.
fn out_of_reach_finding(path: &str, out_of_reach: OutOfReach, scope: Option<&Scope>) -> Finding {
    let message = match (out_of_reach, scope) {
        (OutOfReach::OutOfScope, Some(scope)) => {
            format!("{path} leads to a repository outside the {scope} of the connection: it was moved; use a connection of its owner")
        }
        _ => format!(
            "{path} leads to a repository for which the connection has no grant: it was renamed or moved; ask the connection's owner for a \
             ConnectionGrant that includes its current path"
        ),
    };
    Finding::bad(Reason::RepositoryMovedOutOfScope, message)
}

pub(super) fn repository(plan: &mut Plan, snapshot: &Snapshot, found: &Probe) {
    let Connection::Ready { active_client, path, .. } = &snapshot.connection else { return };
    let object = &snapshot.object;
    let repository = match &found.repository {
        RepositoryLookup::Found(repository) => repository,
        RepositoryLookup::OutOfReach(out_of_reach) => {
            plan.repository = Some(out_of_reach_finding(path.as_str(), *out_of_reach, active_client.scope()));
            return;
        }
        RepositoryLookup::Failed(error) => {
            let reason = match error.kind {
                ErrorKind::NotInstalled => Reason::NotInstalled,
                ErrorKind::AccessPolicy => {
                    let message = format!(
                        "{path}: {error}; ask an administrator of the owner to allow the addresses of the cluster or the \
                         credential's account"
                    );
                    plan.repository = Some(Finding::bad(Reason::AccessPolicyRefused, message));
                    return;
                }
                kind if is_refusal(kind) => Reason::NotFoundOrHidden,
                _ => return,
            };
            let remedy = match reason {
                Reason::NotInstalled => "correct repository, or add it to the App's installation",
                _ => "correct repository, or give the credential's account read access",
            };
            let message = format!("{path} does not exist, or the credential has no read access to its contents ({error}); {remedy}");
            plan.repository = Some(Finding::bad(reason, message));
            return;
        }
    };
    plan.repository = Some(if is_same_repository(object, &active_client.endpoint.api, path, repository) {
        match (object.spec.branch_name(), &found.branch) {
            (Some(branch), Some(Ok(false))) => {
                let message = format!("{} has no branch {branch}; correct branch, remove it, or push the branch", repository.path);
                Finding::bad(Reason::BranchNotFound, message)
            }
            (Some(branch), Some(Err(error))) if is_refusal(error.kind) => Finding::bad(
                Reason::NotFoundOrHidden,
                format!("branch {branch} of {} cannot be read: the credential needs read access to contents ({error})", repository.path),
            ),
            (_, Some(Err(_))) => return,
            _ if repository.empty => Finding::good(format!("{} exists and has no commits yet", repository.path)),
            _ => Finding::good(format!("{} exists", repository.path)),
        }
    } else {
        let message = format!(
            "{path} now leads to another repository; if it is intended, delete this binding and create it again; otherwise \
             correct repository"
        );
        Finding::bad(Reason::RepositoryReplaced, message)
    });
}

/// Whether a provider's answer means that something is missing or hidden, and not that the call failed.
pub fn is_refusal(kind: ErrorKind) -> bool {
    kind.disposition() == Disposition::Hidden
}
