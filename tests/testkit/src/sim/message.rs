//! Complete requests and answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// The path as on the wire, not decoded.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    /// The decoded segments of the path: an encoded slash stays inside its segment.
    pub fn segments(&self) -> Vec<String> {
        segments(&self.path)
    }

    /// The segments of the path below a prefix; `None` if it does not begin with it.
    pub fn below(&self, prefix: &str) -> Option<Vec<String>> {
        let rest = self.path.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| segments(rest))
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query that is a number.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.parameter(name)?.parse().ok()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The token of `Authorization: Bearer` or `Authorization: token`.
    pub fn bearer(&self) -> Option<&str> {
        let value = self.header(AUTHORIZATION.as_str())?;
        value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")).or_else(|| value.strip_prefix("token "))
    }

    /// User name and password of basic authentication.
    pub fn basic(&self) -> Option<(String, String)> {
        let encoded = self.header(AUTHORIZATION.as_str())?.strip_prefix("Basic ")?;
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some((username.to_owned(), password.to_owned()))
    }
}

fn segments(path: &str) -> Vec<String> {
    let decoded = |segment: &str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
    path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect()
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    /// Boxed, because refusals are returned as errors, which should be small.
    pub headers: Box<HeaderMap>,
    pub body: Bytes,
}

impl Response {
    /// A JSON document.
    pub fn json(status: u16, document: &Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", &document.to_string())
    }

    /// A text of a content type.
    pub fn text(status: u16, content_type: &'static str, text: &str) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self { headers: Box::new(headers), body: text.to_owned().into(), ..Self::empty(status) }
    }

    /// A web page.
    pub fn page(status: u16, text: &str) -> Self {
        Self::text(status, "text/html; charset=utf-8", &format!("<!DOCTYPE html><html><body><h1>{text}</h1></body></html>"))
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), headers: Box::default(), body: Bytes::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// The body as JSON; null if it is not JSON. A byte order mark is removed.
    pub fn document(&self) -> Value {
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body);
        serde_json::from_slice(body).unwrap_or_default()
    }
}
