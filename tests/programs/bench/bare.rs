//! The minimum that any client must send for the same bindings: repeats the operator's own requests for each binding in the same
//! order, without any logic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::{FINALIZER, RepoBinding};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::installation::AT_ONCE;
use testkit::control_plane::ControlPlane;
use testkit::sim::{Request, Simulator};

/// The requests for one binding.
struct Work {
    binding: RepoBinding,
    calls: Vec<Request>,
}

/// Copies the bindings into a namespace that no operator watches, and brings them to the same state. Returns the time without the
/// copying. `recorded` are the provider calls that the operator sent for them.
///
/// # Errors
///
/// When a server refuses.
pub async fn converge(plane: &ControlPlane, simulator: &Simulator, recorded: &[Request], from: &[String]) -> Result<Duration> {
    let client = plane.cluster().client()?;
    let namespace = plane.cluster().create_namespace("bare").await?;
    let bindings: Api<RepoBinding> = Api::namespaced(client.clone(), &namespace);
    let mut calls: BTreeMap<String, Vec<Request>> = BTreeMap::new();
    for request in recorded {
        if let Some(repository) = repository(&request.path) {
            calls.entry(repository).or_default().push(request.clone());
        }
    }
    let mut originals = Vec::new();
    for namespace in from {
        let api: Api<RepoBinding> = Api::namespaced(client.clone(), namespace);
        originals.extend(api.list(&ListParams::default()).await?.items);
    }
    let work: Vec<Work> = stream::iter(originals)
        .map(|original| {
            let (bindings, calls) = (bindings.clone(), calls.get(&original.name_any()).cloned());
            async move {
                let mut copy = RepoBinding::new(&original.name_any(), original.spec.clone());
                copy = bindings.create(&PostParams::default(), &copy).await?;
                copy.status = original.status;
                anyhow::Ok(Work { binding: copy, calls: calls.context("the operator sent no request for this binding")? })
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let began = Instant::now();
    stream::iter(work)
        .map(|work| send(&bindings, &http, simulator.url(), work))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    Ok(began.elapsed())
}

/// The repository of a call; the bindings are named after it.
pub fn repository(path: &str) -> Option<String> {
    let rest = path.split_once("/repos/")?.1;
    rest.split('/').next().map(str::to_lowercase)
}

async fn send(bindings: &Api<RepoBinding>, http: &reqwest::Client, url: &str, work: Work) -> Result<()> {
    let name = work.binding.name_any();
    let finalizer = json!([{"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}]);
    let held = bindings.patch(&name, &PatchParams::default(), &Patch::Json::<()>(serde_json::from_value(finalizer)?)).await?;
    for call in work.calls {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&call.query).finish();
        let address = format!("{url}{}{}{query}", call.path, if query.is_empty() { "" } else { "?" });
        let mut headers = call.headers.clone();
        headers.remove(http::header::HOST);
        let answer = http.request(call.method, address).headers(headers).body(call.body).send().await?;
        let status = answer.status();
        answer.bytes().await?;
        ensure!(status.is_success(), "{} {status}", call.path);
    }
    let status = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
        "metadata": {"uid": held.uid(), "resourceVersion": held.resource_version()}, "status": work.binding.status,
    });
    bindings.patch_status(&name, &PatchParams::apply("bare").force(), &Patch::Apply(&status)).await?;
    Ok(())
}
