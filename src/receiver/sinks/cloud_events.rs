//! Writes `CloudEvents` 1.0 in binary mode over HTTP: attributes as headers, and the provider's document as received as the
//! body.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::api::v1alpha1::EventKind;
use crate::providers::webhook::{Change, Event};
use crate::receiver::envelope::Envelope;

/// The characters that the HTTP binding (3.1.3.2) requires to be encoded: everything outside U+0021 to U+007E, the double
/// quote, and the percent sign itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Type of the event that says how many events of a delivery a sink does not get.
const REFS_OMITTED: &str = "dev.forgebind.refs_omitted";

/// The headers of the event at a position; the position after the last one is that of the event about omitted ones. Attributes
/// without a value are left out.
pub(in crate::receiver) fn headers(envelope: &Envelope, position: usize, redelivered: bool) -> HeaderMap {
    let event = envelope.events.get(position);
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("ce-specversion"), HeaderValue::from_static("1.0"));
    let kind = event.map_or(REFS_OMITTED, |event| event.kind.cloud_event_type());
    headers.insert(HeaderName::from_static("ce-type"), HeaderValue::from_static(kind));
    let (id, time) = (envelope.event_id(position), envelope.at.to_string());
    let binding = format!("{}/{}", envelope.namespace, envelope.name);
    let of_event = |read: fn(&Event) -> Option<&str>| event.and_then(read);
    let attributes = [
        ("ce-id", Some(id.as_str())),
        ("ce-source", Some(envelope.source.as_str())),
        ("ce-time", Some(time.as_str())),
        ("ce-subject", of_event(|event| event.reference.as_deref())),
        ("ce-forgebindchange", of_event(change)),
        ("ce-forgebindbefore", of_event(|event| event.before.as_deref())),
        ("ce-forgebindafter", of_event(|event| event.commit.as_deref())),
        ("ce-forgebindrepoid", Some(envelope.repository_id.as_str())),
        ("ce-forgebindbinding", Some(binding.as_str())),
        ("ce-forgebindredelivered", redelivered.then_some("true")),
    ];
    for (name, value) in attributes {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        // The encoded text is plain ASCII and therefore always a valid header value.
        if let Ok(value) = HeaderValue::from_str(&utf8_percent_encode(value, ENCODED).to_string()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The body of the event that says how many events of a delivery a sink does not get.
pub(in crate::receiver) fn omitted_body(omitted: usize) -> Bytes {
    Bytes::from(format!("{{\"omitted\":{omitted}}}"))
}

/// How the reference of a push or a tag changed. A pull request is no reference, and its body tells its action.
const fn change(event: &Event) -> Option<&str> {
    match (event.kind, event.change) {
        (EventKind::Push | EventKind::Tag, Change::Created) => Some("created"),
        (EventKind::Push | EventKind::Tag, Change::Updated) => Some("updated"),
        (EventKind::Push | EventKind::Tag, Change::Deleted) => Some("deleted"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(id: &str, events: Vec<Event>) -> Envelope {
        Envelope::sample(id, id, events)
    }

    fn push(reference: &str) -> Event {
        Event::of_reference(reference, Change::Updated).unwrap()
    }

    #[test]
    fn every_attribute_is_set() {
        let event = push("refs/heads/main").moved_from(Some(&"1".repeat(40))).at(Some(&"2".repeat(40)));
        let envelope = Envelope { at: "2026-11-20T10:00:00.5Z".parse().unwrap(), ..envelope("d-1", vec![event]) };
        let headers = headers(&envelope, 0, true);
        let expected = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "d-1"),
            ("ce-source", "https://git.acme.io/acme/shop"),
            ("ce-type", "dev.forgebind.push"),
            ("ce-subject", "refs/heads/main"),
            ("ce-time", "2026-11-20T10:00:00.5Z"),
            ("ce-forgebindchange", "updated"),
            ("ce-forgebindbefore", "1111111111111111111111111111111111111111"),
            ("ce-forgebindafter", "2222222222222222222222222222222222222222"),
            ("ce-forgebindrepoid", "7"),
            ("ce-forgebindbinding", "team/shop"),
            ("ce-forgebindredelivered", "true"),
        ];
        for (name, value) in expected {
            assert_eq!(headers.get(name).unwrap(), value, "{name}");
        }
        assert_eq!(headers.len(), expected.len());
    }

    #[test]
    fn what_an_event_does_not_have_is_left_out() {
        let names = |event| {
            let headers = headers(&envelope("d", vec![event]), 0, false);
            let names = headers.keys().filter_map(|name| name.as_str().strip_prefix("ce-forgebind")).map(str::to_owned);
            let mut names: Vec<_> = names.collect();
            names.sort();
            names.join(" ")
        };
        let created = Event::of_reference("refs/heads/new", Change::Created).unwrap().at(Some("2b7d4410"));
        assert_eq!(names(created), "after binding change repoid");
        let deleted = Event::of_reference("refs/tags/v1", Change::Deleted).unwrap().moved_from(Some("2b7d4410"));
        assert_eq!(names(deleted), "before binding change repoid");
        let request = Event::of_pull_request(EventKind::PullRequest, Some(3), Some("main")).at(Some("2b7d4410"));
        assert_eq!(names(request), "after binding repoid", "a pull request is no reference that was created or updated");
    }

    #[test]
    fn the_event_about_omitted_ones_has_the_number_after_the_last_and_a_body_of_its_own() {
        let headers = headers(&envelope("d", vec![push("refs/heads/a"), push("refs/heads/b")]), 2, false);
        assert_eq!(
            (headers.get("ce-id").unwrap(), headers.get("ce-type").unwrap()),
            (&"d/3".parse().unwrap(), &REFS_OMITTED.parse().unwrap())
        );
        assert!(headers.get("ce-subject").is_none() && headers.get("ce-forgebindchange").is_none());
        assert_eq!(omitted_body(2900), r#"{"omitted":2900}"#);
    }

    #[test]
    fn values_are_encoded_as_the_http_binding_of_cloud_events_demands() {
        let headers = headers(&envelope("a\r\nx: y", vec![push("refs/heads/grün \"50%\" 🎉~!")]), 0, false);
        assert_eq!(headers.get("ce-id").unwrap(), "a%0D%0Ax:%20y");
        assert_eq!(headers.get("ce-subject").unwrap(), "refs/heads/gr%C3%BCn%20%2250%25%22%20%F0%9F%8E%89~!");
    }

    proptest! {
        #[test]
        fn any_text_survives_encoding_and_decoding(text in "[^/]{1,60}") {
            let reference = format!("refs/heads/{text}");
            let headers = headers(&envelope("d", vec![push(&reference)]), 0, false);
            let carried = headers.get("ce-subject").unwrap().to_str().unwrap();
            prop_assert_eq!(percent_encoding::percent_decode_str(carried).decode_utf8().unwrap(), reference);
        }
    }
}
