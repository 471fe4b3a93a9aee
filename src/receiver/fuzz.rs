//! What holds for the paths of deliveries and for the headers of events, whatever the input is.

use http::HeaderMap;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

pub(crate) use super::outbox::fuzz::{outbox_file, outbox_rows};

use super::envelope::Envelope;
use super::routes::parse_path;
use super::sinks::cloud_events::headers;
use crate::api::v1alpha1::EventKind;
use crate::protocol::keys::HOOK_ID_LENGTH;
use crate::providers::webhook::{Change, Event};
use crate::text::json;

/// A path that is read has only one spelling.
pub(crate) fn hook_path(data: &[u8]) {
    let path = String::from_utf8_lossy(data);
    let Some((hook, secret_version)) = parse_path(&path) else { return };
    assert_eq!(format!("/hooks/{hook}/{secret_version}"), path);
    assert!(hook.len() == HOOK_ID_LENGTH && path.is_ascii() && secret_version.len() <= 32, "{path:?}");
}

/// The texts of an envelope and of one event, with NUL between them. The headers are valid, and decode to these texts.
pub(crate) fn cloud_events(data: &[u8]) {
    let mut fields = data.split(|byte| *byte == 0);
    let flags = fields.next().and_then(|field| field.first()).copied().unwrap_or_default();
    let mut next = || String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
    let mut envelope = Envelope {
        uid: "uid".to_owned(),
        namespace: next(),
        name: next(),
        delivery: String::new(),
        id: next(),
        source: next(),
        repository_id: next(),
        at: Timestamp::UNIX_EPOCH,
        events: Vec::new(),
    };
    let [reference, commit, before] = [next(), next(), next()].map(|text| (!text.is_empty()).then_some(text));
    let kind = EventKind::ALL.into_iter().cycle().nth(usize::from(flags & 7)).unwrap_or(EventKind::Push);
    let change = [Change::Created, Change::Updated, Change::Deleted].into_iter().cycle().nth(usize::from(flags >> 3 & 3));
    let pull_request = (flags & 0x20 != 0).then_some(7);
    let event = Event { kind, reference, commit, before, pull_request, change: change.unwrap_or(Change::Updated), once: None };
    envelope.events = vec![event; 1 + usize::from(flags >> 6)];
    let stored = serde_json::to_vec(&envelope).unwrap_or_default();
    assert_eq!(json::read(&stored).as_ref(), Ok(&envelope));
    for position in 0..=envelope.events.len() {
        attributes(&envelope, position);
    }
}

fn attributes(envelope: &Envelope, position: usize) {
    let event = envelope.events.get(position);
    let text = |read: fn(&Event) -> &Option<String>| event.and_then(|event| read(event).clone()).unwrap_or_default();
    let headers = headers(envelope, position, true);
    for (name, value) in &headers {
        let attribute = name.as_str().strip_prefix("ce-").unwrap_or("type");
        assert!(attribute.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')), "{name} is no attribute");
        assert!(value.as_bytes().iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'"'), "{name}: {value:?}");
    }
    for (name, expected) in [
        ("ce-id", envelope.event_id(position)),
        ("ce-source", envelope.source.clone()),
        ("ce-subject", text(|event| &event.reference)),
        ("ce-forgebindbefore", text(|event| &event.before)),
        ("ce-forgebindafter", text(|event| &event.commit)),
        ("ce-forgebindrepoid", envelope.repository_id.clone()),
        ("ce-forgebindbinding", format!("{}/{}", envelope.namespace, envelope.name)),
    ] {
        assert_eq!(decoded(&headers, name), expected, "{name}");
    }
}

/// The text of an attribute; empty if it is left out.
fn decoded(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    percent_decode_str(value).decode_utf8().unwrap_or_else(|error| panic!("{name}: {error}")).into_owned()
}
