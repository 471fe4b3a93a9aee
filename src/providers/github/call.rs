//! The headers of every call to the API.

use http::header::ACCEPT;
use http::{HeaderName, HeaderValue};

use crate::providers::transport::Call;

/// The API version whose documents this client reads. Enterprise Server supports it since 3.9; older servers ignore the
/// header.
const API_VERSION: HeaderValue = HeaderValue::from_static("2022-11-28");
const API_VERSION_HEADER: HeaderName = HeaderName::from_static("x-github-api-version");
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.github+json");

/// Adds the headers that GitHub expects on every call.
pub(super) fn api_call(call: Call) -> Call {
    call.header(ACCEPT, MEDIA_TYPE).header(API_VERSION_HEADER, API_VERSION)
}
