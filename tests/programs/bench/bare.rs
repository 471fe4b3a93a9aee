//! The least that any client would send to bring the same bindings up: the operator's own requests, sent again in the same
//! order for each binding, with nothing thought about them.

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

/// What is sent for one binding.
struct Work {
    binding: RepoBinding,
    calls: Vec<Request>,
}

/// Makes copies of the bindings in a namespace that no operator watches, and brings them to the same state. Answers the time
/// without the making. `recorded` are the provider calls of the operator's own convergence.
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
                anyhow::Ok(Work { binding: copy, calls: calls.context("the operator asked nothing about it")? })
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

/// The repository that a call is about, as the bindings are named after it.
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
