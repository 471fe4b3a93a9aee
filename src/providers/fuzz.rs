//! What holds for the deliveries and the repository references of every provider, whatever the input is.

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use secrecy::ExposeSecret as _;
use url::Url;

use super::webhook::{ContentError, Event, Rejection, Verified, Webhook};
use super::{Endpoint, PathError, Provider, registry};
use crate::api::v1alpha1::{EventKind, ProviderKind};
use crate::protocol::secret::{DerivedSecret, WebhookSecret};
use crate::text::json;

/// What the targets have to know of a provider.
pub struct FuzzFacts {
    /// Web addresses of connections.
    pub(in crate::providers) endpoints: &'static [&'static str],
    /// Every header that may contain a proof or a credential.
    pub(in crate::providers) proof_headers: &'static [&'static str],
    /// The headers with which the provider proves a delivery with a secret: once for each form of proof.
    pub(in crate::providers) proofs: fn(&WebhookSecret, &HeaderMap, &[u8]) -> Vec<Proof>,
}

/// The names and the values of headers.
pub(in crate::providers) type Proof = Vec<(String, String)>;

/// Part of every secret and of many texts of the corpus. It must not occur in an error.
const CANARY: &str = "canary";
const LONGEST_ERROR: usize = 200;
const MOST_HEADERS: usize = 64;

/// The hex HMAC-SHA256 of a payload.
pub(in crate::providers) fn hmac_hex(secret: &WebhookSecret, payload: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.text().expose_secret().as_bytes());
    hex::encode(hmac::sign(&key, payload))
}

/// Secrets of every kind; each number gives others.
fn secrets(number: u8) -> [WebhookSecret; 4] {
    let value = |kind: &str| format!("{CANARY}-{kind}-{number}").into();
    [
        WebhookSecret::Derived(DerivedSecret::new([number; 32])),
        WebhookSecret::Text(value("text")),
        WebhookSecret::BasicAuth { username: "ada".to_owned(), password: value("password") },
        WebhookSecret::Header { name: "x-own-proof".to_owned(), value: value("header") },
    ]
}

/// Secrets that prove nothing, because everybody knows them.
fn empty_secrets() -> [WebhookSecret; 3] {
    [
        WebhookSecret::Text("".into()),
        WebhookSecret::BasicAuth { username: String::new(), password: "".into() },
        WebhookSecret::Header { name: "x-own-proof".to_owned(), value: "".into() },
    ]
}

/// Lines of headers, an empty line, and the body. Nobody without the secret proves a delivery, whoever has it does, and no error
/// tells anything of the delivery.
pub(crate) fn webhook(kind: ProviderKind, data: &[u8]) {
    let provider = provider(kind);
    let webhook = provider.webhook();
    let (mut headers, body) = delivery(data);
    for secrets in [&[], empty_secrets().as_slice(), &secrets(1)] {
        let forged = webhook.verify(secrets, &headers, body).map(|verified| verified.secret());
        assert!(forged.is_err(), "proven by nobody: {forged:?}");
    }
    for name in provider.profile().fuzz.proof_headers.iter().copied().chain(["x-own-proof"]) {
        headers.remove(name);
    }
    let known = secrets(1);
    for (position, secret) in known.iter().enumerate() {
        for proof in (provider.profile().fuzz.proofs)(secret, &headers, body) {
            let mut proven = headers.clone();
            for (name, value) in &proof {
                proven.insert(name_of(name), value_of(value));
            }
            match webhook.verify(&known, &proven, body) {
                Ok(verified) => {
                    assert_eq!(verified.secret(), position);
                    content(webhook, &verified);
                }
                // A form without a document, or with two.
                Err(rejection) => assert_eq!(rejection, Rejection::Unreadable),
            }
            assert!(webhook.verify(&secrets(2), &proven, body).is_err(), "proven with another secret");
            for (name, value) in &proof {
                let mut twice = proven.clone();
                twice.append(name_of(name), value_of(value));
                assert!(webhook.verify(&known, &twice, body).is_err(), "proven although {name} is there twice");
            }
        }
    }
}

/// Headers and a body.
fn delivery(data: &[u8]) -> (HeaderMap, &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.and_then(|end| data.split_at_checked(end)).unwrap_or((&[], data));
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(MOST_HEADERS) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    (headers, body.strip_prefix(b"\n\n").unwrap_or(body))
}

fn name_of(text: &str) -> HeaderName {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no name of a header"))
}

fn value_of(text: &str) -> HeaderValue {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no value of a header"))
}

/// Reads a delivery: the result is always the same, the events have their documented form, and survive being stored.
fn content(webhook: &dyn Webhook, verified: &Verified<'_>) {
    let content = webhook.read(verified);
    assert_eq!(content, webhook.read(verified));
    match content {
        Ok(content) => content.events.iter().for_each(event),
        Err(ContentError(message)) => {
            assert!(!message.contains(CANARY) && message.len() <= LONGEST_ERROR, "an error tells what was delivered: {message:?}");
        }
    }
}

fn event(event: &Event) {
    let is_id = |id: &String| (7..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(event.commit.iter().chain(&event.before).all(is_id), "{event:?}");
    let begins = |beginning| event.reference.as_ref().is_some_and(|reference| reference.starts_with(beginning));
    let is_named = match event.kind {
        EventKind::Push => begins("refs/heads/"),
        EventKind::Tag => begins("refs/tags/"),
        _ => true,
    };
    assert!(is_named, "{event:?}");
    let _ = (event.subject(), event.branch());
    let stored = serde_json::to_vec(event).unwrap_or_default();
    assert_eq!(json::read(&stored).as_ref(), Ok(event));
}

/// A reference that is accepted gives a path that names one repository and means itself, at every provider. A password is refused
/// and not repeated.
pub(crate) fn repository_path(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for kind in ProviderKind::ALL {
        let provider = provider(kind);
        for web in provider.profile().fuzz.endpoints {
            let endpoint = endpoint(web);
            match provider.repository_path(&endpoint, &text) {
                Ok(path) => {
                    let again = provider.repository_path(&endpoint, path.as_str());
                    assert_eq!(again.as_ref(), Ok(&path), "{kind} at {web} reads {text:?}, and then its result");
                    let is_plain = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains(char::is_control);
                    assert!(path.as_str().contains('/') && path.as_str().split('/').all(is_plain), "{kind} at {web}: {path:?}");
                }
                Err(error) => password(&text, &error),
            }
        }
    }
}

/// A password in a URL, or before the host of `user:password@host:path`.
fn password(text: &str, error: &PathError) {
    let text = text.trim();
    if !text.contains("://") {
        let quotes = text.contains(":canary@") && error.to_string().contains(CANARY);
        assert!(!quotes, "{text:?}: {error}");
    } else if Url::parse(text).is_ok_and(|url| url.password().is_some()) {
        assert_eq!(*error, PathError::Password, "{text:?}");
    }
}

fn provider(kind: ProviderKind) -> &'static dyn Provider {
    registry::provider(kind).unwrap_or_else(|| panic!("{kind} is not in the registry"))
}

fn endpoint(web: &str) -> Endpoint {
    let web = Url::parse(web).unwrap_or_else(|error| panic!("{web}: {error}"));
    Endpoint { api: web.clone(), web, further_origins: Vec::new(), scope: None }
}
