//! Executes the plan of a connection.

use std::sync::Arc;

use super::facts::Facts;
use super::plan::{Action, Plan};
use crate::api::v1alpha1::GitProviderConnection;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::controllers::{Context, Error};
use crate::k8s::finalizer;

/// Executes the actions in order. Returns the changed object; `None` if its finalizer was removed, so that no status is written.
///
/// # Errors
/// Errors of the API server.
pub async fn apply(context: &Context, facts: &Facts, plan: &Plan) -> Result<Option<Arc<GitProviderConnection>>, Error> {
    let mut object = Arc::clone(&facts.snapshot.object);
    for action in &plan.actions {
        match action {
            Action::RetryLeftovers => context.leftovers.try_now(&ConnectionTarget::of(&object)),
            Action::AddFinalizer => {
                let held = finalizer::add(&context.client, &*object).await?;
                context.writes.note(&held);
                object = Arc::new(held);
            }
            Action::RemoveFinalizer => {
                finalizer::remove(&context.client, &*object).await?;
                return Ok(None);
            }
        }
    }
    Ok(Some(object))
}
