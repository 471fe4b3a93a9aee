//! Writes `CloudEvents` 1.0 in binary mode over HTTP: attributes as headers, and the provider's document as received as the
//! body.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::providers::webhook::Event;

/// The characters that the HTTP binding (3.1.3.2) requires to be encoded: everything outside U+0021 to U+007E, the double
/// quote, and the percent sign itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The headers of one event. Empty attributes are left out.
pub(in crate::receiver) fn headers(id: &str, source: &str, event: &Event, time: Timestamp, redelivered: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("ce-specversion"), HeaderValue::from_static("1.0"));
    headers.insert(HeaderName::from_static("ce-type"), HeaderValue::from_static(event.kind.cloud_event_type()));
    let time = time.to_string();
    let attributes = [("ce-id", Some(id)), ("ce-source", Some(source)), ("ce-time", Some(time.as_str()))];
    for (name, value) in attributes.into_iter().chain([("ce-subject", event.reference.as_deref())]) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        // The encoded text is plain ASCII and therefore always a valid header value.
        if let Ok(value) = HeaderValue::from_str(&utf8_percent_encode(value, ENCODED).to_string()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if redelivered {
        headers.insert(HeaderName::from_static("ce-forgebindredelivered"), HeaderValue::from_static("true"));
    }
    headers
}

/// The id of the `position`-th of `count` events of one delivery.
pub(in crate::receiver) fn event_id(delivery: &str, position: usize, count: usize) -> String {
    if count > 1 { format!("{delivery}/{}", position + 1) } else { delivery.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::v1alpha1::EventKind;
    use crate::providers::webhook::Change;

    fn push(reference: &str) -> Event {
        Event { kind: EventKind::Push, reference: Some(reference.into()), commit: None, change: Change::Updated, once: None }
    }

    #[test]
    fn every_attribute_is_set() {
        let time = "2026-11-20T10:00:00.5Z".parse().unwrap();
        let headers = headers("d-1", "https://git.acme.io/acme/shop", &push("refs/heads/main"), time, false);
        for (name, value) in [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "d-1"),
            ("ce-source", "https://git.acme.io/acme/shop"),
            ("ce-type", "dev.forgebind.push"),
            ("ce-subject", "refs/heads/main"),
            ("ce-time", "2026-11-20T10:00:00.5Z"),
        ] {
            assert_eq!(headers.get(name).unwrap(), value, "{name}");
        }
    }

    #[test]
    fn values_are_encoded_as_the_http_binding_of_cloud_events_demands() {
        let headers = headers("a\r\nx: y", "https://git.acme.io/a", &push("refs/heads/grün \"50%\" 🎉~!"), Timestamp::UNIX_EPOCH, false);
        assert_eq!(headers.get("ce-id").unwrap(), "a%0D%0Ax:%20y");
        assert_eq!(headers.get("ce-subject").unwrap(), "refs/heads/gr%C3%BCn%20%2250%25%22%20%F0%9F%8E%89~!");
    }

    #[test]
    fn ids_are_numbered_only_when_there_are_several() {
        assert_eq!(event_id("d", 0, 1), "d");
        assert_eq!([event_id("d", 0, 2), event_id("d", 1, 2)], ["d/1", "d/2"]);
    }

    proptest! {
        #[test]
        fn any_text_survives_encoding_and_decoding(text in ".{1,60}") {
            let headers = headers("d", "s", &push(&text), Timestamp::UNIX_EPOCH, false);
            let carried = headers.get("ce-subject").unwrap().to_str().unwrap();
            prop_assert_eq!(percent_encoding::percent_decode_str(carried).decode_utf8().unwrap(), text);
        }
    }
}
