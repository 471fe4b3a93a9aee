//! Lists by page or by key, with the headers that tell of the other pages.

use serde_json::Value;

use super::state::State;
use crate::sim::message::{Request, Response};

const DEFAULT_LENGTH: usize = 20;
const GREATEST_LENGTH: usize = 100;
/// Longer lists do not tell how long they are.
const GREATEST_TOTAL: usize = 10_000;

impl State {
    /// The page of a list that a request asks for.
    pub fn page(&self, request: &Request, entries: &[Value]) -> Response {
        let length = request.number("per_page").unwrap_or(DEFAULT_LENGTH).clamp(1, GREATEST_LENGTH);
        let page = request.number("page").unwrap_or(1).max(1);
        let pages = entries.len().div_ceil(length).max(1);
        let shown: Vec<_> = entries.iter().skip((page - 1) * length).take(length).cloned().collect();
        let next = if page < pages { (page + 1).to_string() } else { String::new() };
        let previous = if page > 1 { (page - 1).to_string() } else { String::new() };
        let links = [("prev", previous.clone()), ("next", next.clone()), ("first", "1".to_owned()), ("last", pages.to_string())];
        let links = links.iter().filter(|(_, number)| !number.is_empty());
        let links: Vec<_> = links.map(|(name, number)| format!("<{}>; rel=\"{name}\"", self.address(request, "page", number))).collect();
        let response = Response::json(200, &shown.into())
            .with("x-page", &page.to_string())
            .with("x-per-page", &length.to_string())
            .with("x-next-page", &next)
            .with("x-prev-page", &previous)
            .with("link", &links.join(", "));
        if entries.len() > GREATEST_TOTAL {
            return response;
        }
        response.with("x-total", &entries.len().to_string()).with("x-total-pages", &pages.to_string())
    }

    /// The part of a list of projects, sorted by id, that comes after a key. Nothing but a link leads on.
    pub fn after_key(&self, request: &Request, entries: &[Value]) -> Response {
        let length = request.number("per_page").unwrap_or(DEFAULT_LENGTH).clamp(1, GREATEST_LENGTH);
        let after = request.number("id_after").unwrap_or_default() as u64;
        let rest: Vec<_> = entries.iter().filter(|entry| entry["id"].as_u64() > Some(after)).collect();
        let shown: Vec<Value> = rest.iter().take(length).map(|entry| (*entry).clone()).collect();
        let last = shown.last().and_then(|entry| entry["id"].as_u64()).unwrap_or_default().to_string();
        let response = Response::json(200, &shown.into());
        if rest.len() <= length {
            return response;
        }
        response.with("link", &format!("<{}>; rel=\"next\"", self.address(request, "id_after", &last)))
    }

    /// The address of a request with another value of a parameter.
    fn address(&self, request: &Request, name: &str, value: &str) -> String {
        let origin = url::Url::parse(&self.web).map(|web| web.origin().ascii_serialization()).unwrap_or_default();
        let others = request.query.iter().filter(|(found, _)| found != name && found != "private_token");
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(others).append_pair(name, value).finish();
        format!("{origin}{}?{query}", request.path)
    }
}
