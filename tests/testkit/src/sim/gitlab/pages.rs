//! Lists by page or by keyset, with the headers for the other pages.

use serde_json::Value;

use super::state::State;
use crate::sim::message::{Request, Response};

const DEFAULT_LENGTH: usize = 20;
const GREATEST_LENGTH: usize = 100;
/// Longer lists do not report their length.
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

    /// The beginning of a list of projects that is sorted by id. Only a link leads to the next part: the projects after the last
    /// id, or before it in descending order.
    pub fn by_key(&self, request: &Request, entries: &[Value]) -> Response {
        let length = request.number("per_page").unwrap_or(DEFAULT_LENGTH).clamp(1, GREATEST_LENGTH);
        let shown: Vec<Value> = entries.iter().take(length).cloned().collect();
        let last = shown.last().and_then(|entry| entry["id"].as_u64()).unwrap_or_default().to_string();
        let response = Response::json(200, &shown.into());
        if entries.len() <= length {
            return response;
        }
        let beyond = if request.parameter("sort") == Some("asc") { "id_after" } else { "id_before" };
        response.with("link", &format!("<{}>; rel=\"next\"", self.address(request, beyond, &last)))
    }

    /// The address of a request with another value of a parameter.
    fn address(&self, request: &Request, name: &str, value: &str) -> String {
        let origin = url::Url::parse(&self.web).map(|web| web.origin().ascii_serialization()).unwrap_or_default();
        let others = request.query.iter().filter(|(found, _)| found != name && found != "private_token");
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(others).append_pair(name, value).finish();
        format!("{origin}{}?{query}", request.path)
    }
}
