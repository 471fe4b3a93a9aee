//! Reads documented messages from `tests/fixtures/bitbucket_cloud`: a first line, headers, an empty line, a body.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::providers::transport::test_server;

pub(super) struct Message {
    pub(super) first_line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

pub(super) fn read(name: &str) -> Message {
    let path = format!("{}/tests/fixtures/bitbucket_cloud/{name}.http", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (head, body) = text.split_once("\n\n").unwrap();
    let (first_line, lines) = head.split_once('\n').unwrap();
    let headers = lines.lines().map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    });
    Message { first_line: first_line.to_owned(), headers: headers.collect(), body: body.trim_end().as_bytes().to_vec() }
}

/// Converts the message to an answer of the API.
pub(super) fn answer(name: &str) -> Response {
    let message = read(name);
    let status = message.first_line.split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = message.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap())).collect();
    let headers: Vec<_> = headers.into_iter().map(|(name, value)| (&*Box::leak(name.into_boxed_str()), value)).collect();
    test_server::answer(status, &headers, std::str::from_utf8(&message.body).unwrap())
}
