//! Injected faults: each is a known failure of real providers, or of the proxies in front of them.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use serde_json::Value;

use super::contents::UserAction;
use super::message::{Request, Response};
use super::simulated_provider::{Refusal, SimulatedProvider};
use crate::http_server::Body;

/// The length of a body that no client should read completely, in bytes.
const HUGE: usize = 100 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// How a rate limit reports when to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Unsaid,
    /// `Retry-After: <seconds>`.
    Seconds(u64),
    /// `Retry-After: <HTTP date>`, this many seconds from now.
    Date(u64),
    /// The provider's own header for the end of the limit, this many seconds from now, without `Retry-After`.
    Reset(u64),
    /// `Retry-After` with neither a number nor a date.
    Nonsense,
}

impl Wait {
    /// Adds `Retry-After` to an answer at a time; the provider adds its own header for [`Wait::Reset`].
    #[must_use]
    pub fn mark(self, response: Response, now: Timestamp) -> Response {
        match self {
            Self::Unsaid | Self::Reset(_) => response,
            Self::Seconds(seconds) => response.with(RETRY_AFTER.as_str(), &seconds.to_string()),
            Self::Date(seconds) => {
                let at = now.as_second() + i64::try_from(seconds).unwrap_or_default();
                let at = Timestamp::from_second(at).unwrap_or(Timestamp::MAX);
                response.with(RETRY_AFTER.as_str(), &at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
            Self::Nonsense => response.with(RETRY_AFTER.as_str(), "soon"),
        }
    }
}

/// The kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The provider refuses the request in its own form.
    Refuse(Refusal),
    /// The answer is delayed by this time.
    Slow(Duration),
    /// A web page with this status; the request is not performed.
    WebPage(u16),
    /// The request is performed; the answer breaks off in the middle.
    CutAnswer,
    /// The request is performed; the connection is closed instead of an answer.
    LostAnswer,
    /// This action happens first.
    Meanwhile(UserAction),
    /// The request is performed; an entry of the list in the answer appears twice.
    Duplicate,
    /// The previous answer to the same request.
    Stale,
    /// The request is performed; the answer also has this header.
    Header(&'static str, &'static str),
    /// A redirect to this address; the request is not performed. `None`: to its own address.
    Redirect(Option<String>),
    /// The request is performed; links in the answer contain this origin (`http://host:port`) instead of the simulator's.
    ForeignLinks(String),
    /// A body of 100 MB; the request is not performed.
    HugeBody,
}

/// The requests that fail.
#[derive(Clone, Debug)]
pub struct Order {
    /// With this method; `None`: with any.
    pub method: Option<Method>,
    /// With this text in path and query; empty: all.
    pub containing: String,
    /// The number of matching requests that pass first.
    pub skip: usize,
    /// The number of requests that fail after those.
    pub times: usize,
    pub fault: Fault,
}

impl Order {
    /// The next request with a method to an address that contains a text.
    pub fn once(method: Method, containing: &str, fault: Fault) -> Self {
        Self { method: Some(method), containing: containing.to_owned(), skip: 0, times: 1, fault }
    }

    /// Every request from now on.
    pub fn always(fault: Fault) -> Self {
        Self { method: None, containing: String::new(), skip: 0, times: usize::MAX, fault }
    }

    /// Whether it is about a request.
    pub fn fits(&self, request: &Request) -> bool {
        let query = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        let text = format!("{}?{query}", request.path);
        self.method.as_ref().is_none_or(|method| *method == request.method) && text.contains(&self.containing)
    }
}

/// How an answer is sent.
pub enum Wire {
    /// Completely.
    Whole(Response),
    /// Only its first half.
    Cut(Response),
    /// Not at all: the connection is closed.
    Nothing,
    /// With a huge body.
    Huge,
}

impl Wire {
    /// The answer as the server sends it; `None` closes the connection.
    pub fn into_http(self) -> Option<http::Response<Body>> {
        Some(match self {
            Self::Whole(response) => {
                let body = Full::new(response.body).map_err(|never| match never {}).boxed_unsync();
                head(response.status, *response.headers, body)
            }
            Self::Cut(mut response) => {
                let (length, half) = (response.body.len(), response.body.len() / 2);
                response.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                let pieces = [Ok(Frame::data(response.body.slice(..half))), Err(anyhow::anyhow!("cut by an injected fault"))];
                head(response.status, *response.headers, StreamBody::new(stream::iter(pieces)).boxed_unsync())
            }
            Self::Huge => {
                let headers = http::HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
                let piece = Bytes::from(vec![b' '; PIECE]);
                let pieces = (0..HUGE / PIECE).map(move |_| Ok(Frame::data(piece.clone())));
                head(http::StatusCode::OK, headers, StreamBody::new(stream::iter(pieces)).boxed_unsync())
            }
            Self::Nothing => return None,
        })
    }
}

fn head(status: http::StatusCode, headers: http::HeaderMap, body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The answer that replaces the provider's; `None` if the provider performs the request first.
pub fn instead(fault: &Fault, product: &dyn SimulatedProvider, url: &str, request: &Request) -> Option<Wire> {
    match fault {
        Fault::Refuse(refusal) => Some(Wire::Whole(product.refusal(*refusal))),
        Fault::WebPage(status) => Some(Wire::Whole(Response::page(*status, "Sign in"))),
        Fault::HugeBody => Some(Wire::Huge),
        Fault::Redirect(target) => {
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&request.query).finish();
            let target = target.clone().unwrap_or_else(|| url.to_owned());
            Some(Wire::Whole(Response::empty(307).with(LOCATION.as_str(), &format!("{target}{}?{query}", request.path))))
        }
        _ => None,
    }
}

/// The provider's answer, changed by the fault.
pub fn afterwards(fault: &Fault, url: &str, response: Response) -> Wire {
    match fault {
        Fault::CutAnswer => Wire::Cut(response),
        Fault::LostAnswer => Wire::Nothing,
        Fault::Header(name, value) => Wire::Whole(response.with(name, value)),
        Fault::Duplicate => Wire::Whole(duplicated(response)),
        Fault::ForeignLinks(origin) => Wire::Whole(relinked(response, url, origin)),
        _ => Wire::Whole(response),
    }
}

fn duplicated(response: Response) -> Response {
    let mut document = response.document();
    if let Some(list) = list_of(&mut document)
        && let Some(first) = list.first().cloned()
    {
        list.push(first);
    }
    Response { body: document.to_string().into(), ..response }
}

/// The list in an answer: the answer itself, or the member in which providers return it.
fn list_of(document: &mut Value) -> Option<&mut Vec<Value>> {
    if document.is_array() {
        return document.as_array_mut();
    }
    let member = ["values", "value", "results", "data"].into_iter().find(|name| document[*name].is_array())?;
    document[member].as_array_mut()
}

fn relinked(mut response: Response, url: &str, origin: &str) -> Response {
    for name in [LINK, LOCATION] {
        if let Some(value) = response.headers.get(&name).and_then(|value| value.to_str().ok()) {
            let value = HeaderValue::from_str(&value.replace(url, origin)).unwrap();
            response.headers.insert(name, value);
        }
    }
    let mut document = response.document();
    if let Some(next) = document.get_mut("next")
        && let Some(text) = next.as_str().map(|text| text.replace(url, origin))
    {
        *next = Value::String(text);
        response.body = document.to_string().into();
    }
    response
}
