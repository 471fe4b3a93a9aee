//! Reads evidence from receivers of their own, over their admin ports.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, future};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher};
use kube::{Api, Client};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::warn;
use url::Url;

use crate::evidence::{Collected, Evidence, EvidenceSource};
use crate::keys::ReceiverKey;
use crate::watches::{self, WATCH_SECONDS};

/// How long one receiver may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Name of the admin port in the receivers' Service.
const PORT: &str = "admin";

/// Receivers of their own.
pub(super) struct Remote {
    place: Place,
    token: SecretString,
    http: Option<reqwest::Client>,
}

enum Place {
    Urls(Vec<Url>),
    Slices(Store<EndpointSlice>),
}

impl Remote {
    /// Receivers at known admin URLs.
    pub(super) fn at(urls: Vec<Url>, key: &ReceiverKey) -> Self {
        Self::new(Place::Urls(urls), key)
    }

    /// Receivers behind a Service, and the watch that finds them.
    pub(super) fn behind(
        client: Client,
        namespace: &str,
        service: &str,
        key: &ReceiverKey,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (store, writer) = reflector::store();
        let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}")).timeout(WATCH_SECONDS);
        let watch = watcher(slices, config).backoff(watches::pauses()).reflect(writer).for_each(|_| future::ready(()));
        (Self::new(Place::Slices(store), key), watch)
    }

    fn new(place: Place, key: &ReceiverKey) -> Self {
        // Receivers are ours and in the cluster: no proxy, no redirect.
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT).build();
        Self { place, token: key.evidence_token(), http: http.ok() }
    }

    fn urls(&self) -> Vec<Url> {
        match &self.place {
            Place::Urls(urls) => urls.clone(),
            Place::Slices(slices) => slices.state().iter().flat_map(|slice| addresses(slice)).collect(),
        }
    }

    async fn ask(&self, http: &reqwest::Client, base: Url) -> Option<Evidence> {
        let url = base.join("evidence").ok()?;
        let answer = http.get(url).bearer_auth(self.token.expose_secret()).send().await.and_then(reqwest::Response::error_for_status);
        let evidence = match answer {
            Ok(answer) => answer.json::<Evidence>().await,
            Err(error) => Err(error),
        };
        evidence.map_err(|error| warn!(receiver = %base, error = %error.without_url(), "receiver does not tell what it saw")).ok()
    }
}

fn addresses(slice: &EndpointSlice) -> Vec<Url> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let Some(port) = ports.iter().find(|port| port.name.as_deref() == Some(PORT)).and_then(|port| port.port) else { return Vec::new() };
    // One that is not ready may still have deliveries to tell of.
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let bracketed = addresses.map(|address| if address.contains(':') { format!("[{address}]") } else { address.clone() });
    bracketed.filter_map(|address| Url::parse(&format!("http://{address}:{port}/")).ok()).collect()
}

#[async_trait]
impl EvidenceSource for Remote {
    async fn collect(&self) -> Collected {
        let urls = self.urls();
        let asked = urls.len();
        let Some(http) = &self.http else { return Collected { evidence: Vec::new(), silent: asked } };
        let answers = future::join_all(urls.into_iter().map(|url| self.ask(http, url))).await;
        let evidence: Vec<Evidence> = answers.into_iter().flatten().collect();
        Collected { silent: asked.saturating_sub(evidence.len()), evidence }
    }
}
