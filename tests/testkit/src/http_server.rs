//! A small HTTP/1 server for proxies and endpoints of tests.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// A server that ends when it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Listens on 127.0.0.1 and answers with `handler`. If the handler returns an error, the connection is closed without an
    /// answer.
    pub async fn start<H, F>(port: u16, handler: H) -> Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>>> + Send + 'static,
    {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], port)), handler).await
    }

    /// The same at any address.
    ///
    /// # Errors
    ///
    /// When the address is in use or does not belong to this machine.
    pub async fn start_at<H, F>(address: SocketAddr, handler: H) -> Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (open, mut opened) = watch::channel(true);
        let handler = Arc::new(handler);
        let task = tokio::spawn(async move {
            // Connections end with the server.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                while connections.try_join_next().is_some() {}
                if !*opened.borrow_and_update() {
                    continue;
                }
                let (handler, mut opened) = (Arc::clone(&handler), opened.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| handler(request));
                    let connection =
                        hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        // Tests cause closed connections and refused answers on purpose.
                        _ = connection => {}
                        _ = opened.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Ok(Self { address, open, task })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a URL without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// When closed, drops every connection at once and each new one, until it is opened again.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with a short text.
pub fn answer(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response =
        Response::new(Full::new(Bytes::from_static(text.as_bytes())).map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}
