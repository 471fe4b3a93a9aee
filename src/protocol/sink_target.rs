//! Determines which sinks this build and this installation serve, and their URLs. Pure: shared by the controller, which reports
//! it, and the receiver, which acts on it.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::api::v1alpha1::CertificateAuthorityReference;
use crate::api::v1alpha1::binding::{HttpSink, ServiceSink, SigningSecretReference, SinkSpec};
use crate::network::{NetworkPolicy, Purpose};
use crate::text::wording;

/// Why a sink is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotServedKind {
    /// The installation does not allow the sink's host, or may not send to its Service: `SinkNotAllowed`.
    NotAllowed,
    /// The sink names no usable address: `SinkInvalid`.
    Invalid,
    /// A Secret or `ConfigMap` that the sink names does not exist: `SecretNotFound`.
    ObjectNotFound,
    /// Something else that the sink needs does not exist yet. Events are pending meanwhile: `SinkFailing`.
    Missing,
}

/// The error for a sink to which no events are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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
    /// URL to send events to. The host of a Service is its DNS name, which is not resolved: see
    /// [`sink_service`](super::sink_service).
    pub url: Url,
    /// The network rules for connections to it: [`Purpose::ServiceSink`] or [`Purpose::HttpSink`].
    pub purpose: Purpose,
    /// The Service, which is judged at each attempt.
    pub service: Option<ServiceTarget>,
    /// What the controller prepares for the receivers. Nothing is sent without it.
    pub needs: SinkNeeds,
}

/// What a sink needs beside its address, each as the reference that the spec names: what was prepared for another reference does
/// not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkNeeds {
    /// The signing key.
    pub signing: Option<String>,
    /// The certificate authorities.
    pub authorities: Option<String>,
}

impl SinkNeeds {
    /// The needs of a sink.
    #[must_use]
    pub fn of(sink: &SinkSpec) -> Self {
        let signing = sink.signing_secret().map(|reference| format!("{}/{}", reference.name, signing_key_of(reference)));
        let authorities = sink.authorities().map(|reference| {
            let kind = reference.kind.unwrap_or_default();
            format!("{kind:?}/{}/{}", reference.name, authorities_key_of(reference))
        });
        Self { signing, authorities }
    }
}

/// The key of the Secret that contains the signing key.
#[must_use]
pub fn signing_key_of(reference: &SigningSecretReference) -> &str {
    reference.key.as_deref().unwrap_or("secret")
}

/// The key of the object that contains the certificate authorities.
#[must_use]
pub fn authorities_key_of(reference: &CertificateAuthorityReference) -> &str {
    reference.key.as_deref().unwrap_or("ca.crt")
}

/// The Service that a sink names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Port of the Service.
    pub port: u16,
}

impl NotServed {
    /// The installation or the owner of a Service does not allow the sink.
    pub fn not_allowed(message: impl Into<String>) -> Self {
        Self { kind: NotServedKind::NotAllowed, message: message.into() }
    }

    /// The sink itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: NotServedKind::Invalid, message: message.into() }
    }

    /// A Secret or `ConfigMap` that the sink names does not exist.
    pub fn object_not_found(message: impl Into<String>) -> Self {
        Self { kind: NotServedKind::ObjectNotFound, message: message.into() }
    }

    /// Something else that the sink needs does not exist yet.
    pub fn missing(message: impl Into<String>) -> Self {
        Self { kind: NotServedKind::Missing, message: message.into() }
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
    let target = match (&sink.service, &sink.http) {
        (Some(service), None) => service_target(namespace, service),
        (None, Some(http)) => http_target(http, policy),
        _ => Err(NotServed::invalid("exactly one of service and http must be set")),
    };
    Ok(SinkTarget { needs: SinkNeeds::of(sink), ..target? })
}

fn service_target(binding_namespace: &str, service: &ServiceSink) -> Result<SinkTarget, NotServed> {
    // The schema limits only the length: a name like `host/` or `user@host` would turn the URL into one of another host.
    if !is_dns_label(&service.name) || !is_dns_label(binding_namespace) {
        return Err(NotServed::invalid(format!("service.name {} is not a valid name of a Service", wording::quoted(&service.name))));
    }
    let namespace = service.namespace.as_deref().unwrap_or(binding_namespace);
    if !is_dns_label(namespace) {
        return Err(NotServed::invalid(format!("service.namespace {} is not a valid name of a namespace", wording::quoted(namespace))));
    }
    let path = service.path.as_deref().unwrap_or("/");
    let host = format!("{}.{namespace}.svc", service.name);
    let target = ServiceTarget { namespace: namespace.to_owned(), name: service.name.clone(), port: service.port };
    Url::parse(&format!("http://{host}:{}{path}", service.port))
        .ok()
        .filter(|url| url.host_str() == Some(host.as_str()) && path.starts_with('/') && !path.contains(['?', '#']))
        .map(|url| SinkTarget { url, purpose: Purpose::ServiceSink, service: Some(target), needs: SinkNeeds::default() })
        .ok_or_else(|| {
            NotServed::invalid(format!(
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
            NotServed::invalid(format!("http.url {} is invalid; it must be an https URL without user name", wording::quoted(&http.url.0)))
        })?;
    if url.scheme() == "http" && !policy.insecure_http {
        return Err(NotServed::not_allowed("http.url uses http, which would send events unencrypted; use https"));
    }
    if !policy.sink_hosts.iter().any(|pattern| pattern.matches(&url)) {
        let host = url.host_str().unwrap_or_default();
        return Err(NotServed::not_allowed(format!("host {host} of http.url is not allowed; add it to --allow-sink-hosts")));
    }
    policy.check(Purpose::HttpSink, &url).map_err(|refusal| NotServed::not_allowed(refusal.to_string()))?;
    Ok(SinkTarget { url, purpose: Purpose::HttpSink, service: None, needs: SinkNeeds::default() })
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
    fn a_service_is_in_the_namespace_of_the_binding_unless_the_sink_names_another() {
        let mut value = json!({"name": "ci", "service": {"name": "ci", "port": 8080, "path": "/events"}});
        let own = target("team-shop", &sink(value.clone()), &policy()).unwrap();
        assert_eq!(own.url.as_str(), "http://ci.team-shop.svc:8080/events");
        assert_eq!(own.purpose, Purpose::ServiceSink);
        value["service"]["namespace"] = json!("tekton");
        let other = target("team-shop", &sink(value), &policy()).unwrap();
        assert_eq!(other.url.as_str(), "http://ci.tekton.svc:8080/events");
        assert_eq!(other.service, Some(ServiceTarget { namespace: "tekton".into(), name: "ci".into(), port: 8080 }));
    }

    #[test]
    fn a_service_name_cannot_point_to_another_host() {
        for name in ["evil.io/", "evil.io#", "evil.io?", "user@evil.io", "evil.io:80/", "a.b", "kubernetes.default", "", "-a", "A", "ä"] {
            let sink = sink(json!({"name": "ci", "service": {"name": name, "port": 80}}));
            assert_eq!(served(&sink, &policy()).unwrap_err().kind, NotServedKind::Invalid, "{name}");
        }
        for namespace in ["evil.io/", "user@evil.io", "a.b", "", "-a", "A"] {
            let sink = sink(json!({"name": "ci", "service": {"name": "ci", "namespace": namespace, "port": 80}}));
            assert!(served(&sink, &policy()).unwrap_err().message.contains("service.namespace"), "{namespace}");
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
