//! Determines which sinks this build and this installation serve, and their URLs. Pure: shared by the controller, which reports
//! it, and the receiver, which acts on it.

use url::Url;

use crate::api::v1alpha1::binding::{HttpSink, ServiceSink, SinkSpec};
use crate::network::{NetworkPolicy, Purpose};
use crate::text::wording;

/// Why a sink is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotServedKind {
    /// The installation does not allow the sink's host: `SinkNotAllowed`.
    NotAllowed,
    /// The sink names no usable address: `SinkInvalid`.
    Invalid,
}

/// The error for a sink to which no events are sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotServed {
    /// The kind of reason.
    pub kind: NotServedKind,
    /// The reason and what to do. Safe to show; does not name the sink.
    pub message: String,
}

/// The target of a sink that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkTarget {
    /// URL to send events to.
    pub url: Url,
    /// The network rules for connections to it: [`Purpose::ServiceSink`] or [`Purpose::HttpSink`].
    pub purpose: Purpose,
}

impl NotServed {
    fn allowed(message: impl Into<String>) -> Self {
        Self { kind: NotServedKind::NotAllowed, message: message.into() }
    }

    fn unusable(message: impl Into<String>) -> Self {
        Self { kind: NotServedKind::Invalid, message: message.into() }
    }
}

/// Checks whether a sink is served.
///
/// # Errors
/// The reason why it is not served.
pub fn served(sink: &SinkSpec, policy: &NetworkPolicy) -> Result<(), NotServed> {
    // The result is the same for every valid namespace.
    target("default", sink, policy).map(drop)
}

/// The target of a sink of a binding in `namespace`.
///
/// # Errors
/// The reason why it is not served.
pub fn target(namespace: &str, sink: &SinkSpec, policy: &NetworkPolicy) -> Result<SinkTarget, NotServed> {
    match (&sink.service, &sink.http) {
        (Some(service), None) => service_target(namespace, service),
        (None, Some(http)) => http_target(http, policy),
        _ => Err(NotServed::unusable("exactly one of service and http must be set")),
    }
}

fn service_target(namespace: &str, service: &ServiceSink) -> Result<SinkTarget, NotServed> {
    // The schema limits only the length: a name like `host/` or `user@host` would turn the URL into one of another host.
    if !is_dns_label(&service.name) || !is_dns_label(namespace) {
        return Err(NotServed::unusable(format!("service.name {} is not a valid name of a Service", wording::quoted(&service.name))));
    }
    let path = service.path.as_deref().unwrap_or("/");
    let host = format!("{}.{namespace}.svc", service.name);
    Url::parse(&format!("http://{host}:{}{path}", service.port))
        .ok()
        .filter(|url| url.host_str() == Some(host.as_str()) && path.starts_with('/') && !path.contains(['?', '#']))
        .map(|url| SinkTarget { url, purpose: Purpose::ServiceSink })
        .ok_or_else(|| {
            NotServed::unusable(format!(
                "service.port {} or service.path {} is invalid; a path must begin with / and must not have a query",
                service.port,
                wording::quoted(path)
            ))
        })
}

fn http_target(http: &HttpSink, policy: &NetworkPolicy) -> Result<SinkTarget, NotServed> {
    let url = Url::parse(&http.url.0)
        .ok()
        .filter(|url| matches!(url.scheme(), "https" | "http") && url.host_str().is_some() && url.username().is_empty())
        .filter(|url| url.password().is_none())
        .ok_or_else(|| {
            NotServed::unusable(format!("http.url {} is invalid; it must be an https URL without user name", wording::quoted(&http.url.0)))
        })?;
    if url.scheme() == "http" && !policy.insecure_http {
        return Err(NotServed::allowed("http.url uses http, which would send events unencrypted; use https"));
    }
    if !policy.sink_hosts.iter().any(|pattern| pattern.matches(&url)) {
        let host = url.host_str().unwrap_or_default();
        return Err(NotServed::allowed(format!("host {host} of http.url is not allowed; add it to --allow-sink-hosts")));
    }
    policy.check(Purpose::HttpSink, &url).map_err(|refusal| NotServed::allowed(refusal.to_string()))?;
    Ok(SinkTarget { url, purpose: Purpose::HttpSink })
}

fn is_dns_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
        && name.bytes().next().is_some_and(plain)
        && name.bytes().next_back().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sink(value: Value) -> SinkSpec {
        serde_json::from_value(value).unwrap()
    }

    fn policy() -> NetworkPolicy {
        NetworkPolicy { sink_hosts: vec!["events.acme.io".parse().unwrap(), "*.hooks.io:8443".parse().unwrap()], ..Default::default() }
    }

    #[test]
    fn a_service_is_in_the_namespace_of_the_binding() {
        let sink = sink(json!({"name": "ci", "service": {"name": "ci", "port": 8080, "path": "/events"}}));
        let target = target("team-shop", &sink, &policy()).unwrap();
        assert_eq!(target.url.as_str(), "http://ci.team-shop.svc:8080/events");
        assert_eq!(target.purpose, Purpose::ServiceSink);
    }

    #[test]
    fn a_service_name_cannot_point_to_another_host() {
        for name in ["evil.io/", "evil.io#", "evil.io?", "user@evil.io", "evil.io:80/", "a.b", "kubernetes.default", "", "-a", "A", "ä"] {
            let sink = sink(json!({"name": "ci", "service": {"name": name, "port": 80}}));
            assert_eq!(served(&sink, &policy()).unwrap_err().kind, NotServedKind::Invalid, "{name}");
        }
        for path in ["?a", "#a", "events", "@evil.io", ":1@evil.io/"] {
            let sink = sink(json!({"name": "ci", "service": {"name": "ci", "port": 80, "path": path}}));
            assert!(served(&sink, &policy()).is_err(), "{path}");
        }
    }

    #[test]
    fn an_http_sink_needs_an_allowed_host_and_https() {
        for (url, expected) in [
            ("https://events.acme.io/git", None),
            ("https://a.hooks.io:8443/", None),
            ("https://a.hooks.io/", Some(NotServedKind::NotAllowed)),
            ("https://evil.io/", Some(NotServedKind::NotAllowed)),
            ("https://events.acme.io.evil.io/", Some(NotServedKind::NotAllowed)),
            ("http://events.acme.io/git", Some(NotServedKind::NotAllowed)),
            ("https://user:password@events.acme.io/", Some(NotServedKind::Invalid)),
            ("ftp://events.acme.io/", Some(NotServedKind::Invalid)),
        ] {
            let sink = sink(json!({"name": "out", "http": {"url": url}}));
            assert_eq!(served(&sink, &policy()).err().map(|refusal| refusal.kind), expected, "{url}");
        }
    }

    #[test]
    fn a_sink_without_an_address_or_with_two_is_refused() {
        let service = json!({"name": "ci", "port": 80});
        for value in [json!({"name": "s"}), json!({"name": "s", "service": service, "http": {"url": "https://events.acme.io"}})] {
            let refusal = served(&sink(value), &policy()).unwrap_err();
            assert_eq!(refusal.kind, NotServedKind::Invalid);
            assert!(refusal.message.contains("exactly one"), "{refusal}");
        }
    }
}
