//! Tests that endless lists are stopped, at every provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::response::Response;
use futures::TryStreamExt as _;

use crate::api::v1alpha1::ProviderKind;
use crate::providers::model::{Project, Repository, RepositoryPath, Scope};
use crate::providers::samples::GUID;
use crate::providers::transport::Unleased;
use crate::providers::transport::test_server::{Server, TOKEN, factory};
use crate::providers::{Client, Credential, Endpoint, ErrorKind, PermissionFinding, registry};

/// A page that announces another one.
fn page(kind: ProviderKind, number: usize, length: usize, padding: &str, at: &str) -> Response {
    let (samples, url) = (&registry::provider(kind).unwrap().profile().samples, format!("https://elsewhere.example/{padding}"));
    let entries = (0..length).map(|position| (samples.entry)(number * length + position, &url)).collect();
    let (header, document) = (samples.page)(entries, number, at);
    let response = header.into_iter().fold(Response::builder(), |response, (name, value)| response.header(name, value));
    response.header("content-type", "application/json").body(document.to_string().into()).unwrap()
}

/// Whether a provider has no pages.
fn in_one_answer(kind: ProviderKind) -> bool {
    registry::provider(kind).unwrap().profile().samples.in_one_answer
}

/// A client of a server with endless lists, and the number of requests to it.
async fn endless(kind: ProviderKind, length: usize, padding: usize) -> (Arc<dyn Client>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, padding) = (Arc::clone(&asked), "x".repeat(padding));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(move |request: Request| {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let answer = page(kind, number, length, &padding, &format!("http://{address}{}", request.uri().path()));
        async { answer }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let scope = Some(Scope { word: "organization", path: "acme".into(), project: None });
    let server = Server::start([]).await;
    let web = format!("http://{address}/").parse().unwrap();
    let api = format!("http://{address}/api/v1").parse().unwrap();
    let endpoint = Endpoint { web, api, scope, ..server.endpoint() };
    let settings = registry::provider(kind).unwrap().profile().transport_settings(&endpoint, "");
    let transport = factory(Arc::new(Unleased)).transport(settings).unwrap();
    let client = registry::provider(kind).unwrap().connect(endpoint.clone(), Credential::Token(TOKEN.into()), transport).unwrap();
    (client, asked)
}

fn repository() -> Repository {
    Repository {
        id: "0f7c9d5e-24c1-4a57-9b0e-3d5a1c8e7f22".into(),
        path: RepositoryPath::new("acme/shop".into()),
        web_url: None,
        clone_url: None,
        ssh_url: None,
        default_branch: None,
        visibility: None,
        archived: false,
        empty: false,
        manage_webhooks: PermissionFinding::granted(),
        project: Some(Project { id: GUID.into(), key: "acme".into() }),
    }
}

#[tokio::test]
async fn a_list_of_hooks_ends_by_its_entries_and_by_its_bytes_at_every_provider() {
    for kind in ProviderKind::ALL {
        let in_one_answer = in_one_answer(kind);
        // By entries: small ones, endlessly.
        let (client, asked) = endless(kind, if in_one_answer { 3000 } else { 100 }, 1).await;
        let error = client.hooks(&repository()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResponseInvalid, "{kind}: {error}");
        assert!(asked.load(Ordering::Relaxed) <= 25, "{kind}: {asked:?} pages");
        // By bytes: pages of 1 MiB.
        let (client, asked) = endless(kind, if in_one_answer { 1000 } else { 10 }, 100 * 1024).await;
        let error = client.hooks(&repository()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResponseInvalid, "{kind}: {error}");
        assert!(asked.load(Ordering::Relaxed) <= 6, "{kind}: {asked:?} pages");
    }
}

#[tokio::test]
async fn a_list_of_repositories_ends_by_its_entries_at_every_provider() {
    for kind in ProviderKind::ALL {
        let (client, asked) = endless(kind, if in_one_answer(kind) { 60_000 } else { 1000 }, 1).await;
        let mut read = 0;
        let result = client.repositories().try_for_each(|page| {
            read += page.len();
            futures::future::ready(Ok(()))
        });
        let error = result.await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResponseInvalid, "{kind}: {error}");
        assert!(asked.load(Ordering::Relaxed) <= 110 && read <= 100_000, "{kind}: {asked:?} pages, {read} repositories");
    }
}
