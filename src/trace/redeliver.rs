//! Requests that the parked events and dead letters of bindings are sent again, and waits until that was done.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::answer::{Answer, TraceError};
use super::gather::{Cluster, failure};
use super::target::name_of;
use crate::api::v1alpha1::{REDELIVER_REQUESTED_AT, RepoBinding};
use crate::cli::RedeliverArguments;
use crate::clock::{Clock as _, SystemClock};
use crate::text::wording::pluralize;

/// Pause between two reads while waiting.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(arguments: RedeliverArguments) -> Result<Answer, TraceError> {
    let timeout = arguments.timeout().map_err(TraceError)?;
    let cluster = Cluster::connect(arguments.target.context.as_deref()).await?;
    let mut notes = Vec::new();
    let bindings = cluster.find(&arguments.target, &mut notes).await?;
    // A value that no earlier request had.
    let value = SystemClock.now().to_string();
    let mut text: String = notes.iter().flat_map(|note| ["Note: ", note.as_str(), ".\n"]).collect();
    for binding in &bindings {
        request(&cluster, binding, &value).await?;
        text.extend([name_of(binding).as_str(), ": requested\n"]);
    }
    let mut ok = true;
    if arguments.wait {
        let deadline = Instant::now() + timeout;
        for binding in &bindings {
            let (told, done) = acknowledged(&cluster, binding, &value, deadline).await?;
            text.extend([name_of(binding).as_str(), ": ", told.as_str(), "\n"]);
            ok &= done;
        }
    }
    Ok(Answer { text, ok })
}

async fn request(cluster: &Cluster, binding: &RepoBinding, value: &str) -> Result<(), TraceError> {
    let patch = json!({"metadata": {"annotations": {REDELIVER_REQUESTED_AT: value}, "uid": binding.uid()}});
    let api = cluster.bindings(&binding.namespace().unwrap_or_default());
    match api.patch_metadata(&binding.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Err(TraceError(format!(
            "you may not change {}: redelivery sets the annotation {REDELIVER_REQUESTED_AT}, which needs the right to patch repobindings",
            name_of(binding)
        ))),
        Err(error) => Err(failure(&error)),
    }
}

/// Waits until every receiver has carried out the request, and says what is left.
async fn acknowledged(cluster: &Cluster, binding: &RepoBinding, value: &str, deadline: Instant) -> Result<(String, bool), TraceError> {
    let api = cluster.bindings(&binding.namespace().unwrap_or_default());
    loop {
        let Some(now) = api.get_opt(&binding.name_any()).await.map_err(|error| failure(&error))? else {
            return Ok(("it no longer exists".to_owned(), false));
        };
        let handled = now.status.as_ref().and_then(|status| status.last_handled.as_ref()?.redeliver.as_deref());
        if handled == Some(value) {
            return Ok((format!("sent again; {}", remaining(&now)), true));
        }
        if Instant::now() >= deadline {
            let text = "not acknowledged in time; the receivers or the controller may not be running".to_owned();
            return Ok((text, false));
        }
        sleep(PAUSE).await;
    }
}

/// What is not accepted yet, as the status says.
fn remaining(binding: &RepoBinding) -> String {
    let sinks = binding.status.as_ref().map(|status| status.sinks.as_slice()).unwrap_or_default();
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (pending, dead) =
        sinks.iter().fold((0, 0), |(pending, dead), sink| (pending + count(sink.pending), dead + count(sink.dead_letters)));
    format!("{pending} pending and {} as last reported; forgebind why {} says more", pluralize(dead, "dead letter"), name_of(binding))
}
