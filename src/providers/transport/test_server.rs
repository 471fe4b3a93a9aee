//! A server for unit tests with scripted responses.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use prometheus_client::registry::Registry;
use url::Url;

use super::*;
use crate::clock::SystemClock;
use crate::providers::gitea::Gitea;
use crate::providers::{Endpoint, Provider as _};

pub(in crate::providers) const TOKEN: &str = "canary-0123456789abcdef";

/// One request as the server received it.
#[derive(Clone, Debug)]
pub(in crate::providers) struct Seen {
    pub(in crate::providers) line: String,
    pub(in crate::providers) head: String,
}

/// A server that returns scripted responses in order and records the requests.
pub(in crate::providers) struct Server {
    pub(in crate::providers) address: std::net::SocketAddr,
    pub(in crate::providers) seen: Arc<Mutex<Vec<Seen>>>,
    pub(in crate::providers) script: Arc<Mutex<VecDeque<Response>>>,
}

type Script = Arc<Mutex<VecDeque<Response>>>;

impl Server {
    pub(in crate::providers) async fn start(answers: impl IntoIterator<Item = Response>) -> Self {
        let script: Script = Arc::new(Mutex::new(answers.into_iter().collect()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (log, answers) = (Arc::clone(&seen), Arc::clone(&script));
        let app = axum::Router::new().fallback(move |request: Request| {
            let (script, log) = (Arc::clone(&answers), Arc::clone(&log));
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                log.lock().unwrap().push(Seen { line, head: format!("{:?}", request.headers().iter().collect::<Vec<_>>()) });
                let next = script.lock().unwrap().pop_front();
                match next {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen, script }
    }

    /// Replaces the remaining responses.
    pub(in crate::providers) fn answer(&self, answers: impl IntoIterator<Item = Response>) {
        *self.script.lock().unwrap() = answers.into_iter().collect();
    }

    pub(in crate::providers) fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    pub(in crate::providers) fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }

    pub(in crate::providers) fn endpoint(&self) -> Endpoint {
        Endpoint { web: self.url("/"), api: self.url("/api/v1"), further_origins: Vec::new(), scope: None }
    }

    pub(in crate::providers) fn transport(&self) -> Transport {
        self.transport_with(&factory(Arc::new(Unleased)), None)
    }

    pub(in crate::providers) fn transport_with(&self, factory: &TransportFactory, proxy: Option<ProxySettings>) -> Transport {
        let endpoint = self.endpoint();
        authorized(factory.transport(TransportSettings { proxy, ..settings(&endpoint, "one") }).unwrap())
    }
}

pub(in crate::providers) fn settings(endpoint: &Endpoint, credential_identity: impl Into<String>) -> TransportSettings<'_> {
    // The documented answers of several providers are read through this transport.
    let request_id_headers = &["x-github-request-id", "x-request-id"];
    TransportSettings { request_id_headers, ..Gitea.profile().transport_settings(endpoint, credential_identity) }
}

pub(in crate::providers) fn authorized(transport: Transport) -> Transport {
    transport.authorized(HeaderValue::from_str(&format!("token {TOKEN}")).unwrap(), [TOKEN])
}

pub(in crate::providers) fn local_policy() -> Arc<crate::network::NetworkPolicy> {
    let allow_cidrs = vec!["127.0.0.0/8".parse().unwrap()];
    Arc::new(crate::network::NetworkPolicy { insecure_http: true, allow_cidrs, ..crate::network::NetworkPolicy::default() })
}

pub(in crate::providers) fn factory(lease: Arc<dyn Lease>) -> TransportFactory {
    let timings = Timings { pause: Duration::from_millis(1), max_wait: Duration::ZERO, ..Timings::default() };
    TransportFactory::new(local_policy(), lease, Arc::new(SystemClock), &mut Registry::default()).with_timings(timings)
}

pub(in crate::providers) fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}

pub(in crate::providers) fn json(status: u16, body: &str) -> Response {
    answer(status, &[("content-type", "application/json")], body)
}
