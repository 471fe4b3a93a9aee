//! Where the events of a sink go at this moment. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use url::Url;

use super::services::{Found, Services};
use crate::network::{NetworkPolicy, Purpose, pinned_host};
use crate::protocol::signing_key::SigningKey;
use crate::protocol::sink_target::{NotServed, ServiceTarget, SinkNeeds, SinkTarget};
use crate::protocol::webhook_secrets::{Referenced, SinkSecrets};

/// Where an attempt goes. Judged anew for each one: what it depends on may change while an event is pending.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    /// The URL of the request. For a Service, its host stands for the addresses: no name is resolved.
    pub(super) url: Url,
    /// The `Host` header, if it differs from the URL's host.
    pub(super) host: Option<HeaderValue>,
    pub(super) purpose: Purpose,
    pub(super) signing_key: Option<SigningKey>,
    /// The certificate authorities instead of those of the system, as a PEM bundle.
    pub(super) authorities: Option<Arc<str>>,
}

/// What the controller has prepared for one sink.
#[derive(Clone, Debug)]
pub(super) struct PreparedSink {
    signing: Option<(String, SigningKey)>,
    authorities: Option<(String, Arc<str>)>,
}

impl PreparedSink {
    /// Reads what was prepared. A key that cannot be read counts as missing; the controller has checked it.
    pub(super) fn of(secrets: &SinkSecrets) -> Self {
        let read = |referenced: &Referenced| (referenced.reference().to_owned(), referenced.value().expose_secret().to_owned());
        let signing = secrets.signing.as_ref().map(read);
        let signing = signing.and_then(|(reference, text)| Some((reference, SigningKey::parse(&text).ok()?)));
        let authorities = secrets.authorities.as_ref().map(read).map(|(reference, pem)| (reference, Arc::from(pem)));
        Self { signing, authorities }
    }
}

impl Destination {
    /// The destination of a sink of a binding in `binding_namespace`.
    ///
    /// # Errors
    /// Why nothing may be sent there now.
    pub(super) fn of(target: &SinkTarget, binding_namespace: &str, services: &Services, policy: &NetworkPolicy) -> Result<Self, NotServed> {
        let (mut url, purpose) = (target.url.clone(), target.purpose);
        let Some(service) = &target.service else { return Ok(Self::at(url, None, purpose)) };
        let (uid, addresses) = judge(target, service, binding_namespace, services, policy)?;
        let name = url.host_str().unwrap_or_default().to_owned();
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name,
        };
        let unusable = || NotServed::invalid(format!("Service {}/{} cannot be addressed", service.namespace, service.name));
        url.set_host(Some(&pinned_host(uid, &addresses))).map_err(|_| unusable())?;
        let host = HeaderValue::from_str(&host).map_err(|_| unusable())?;
        Ok(Self::at(url, Some(host), purpose))
    }

    const fn at(url: Url, host: Option<HeaderValue>, purpose: Purpose) -> Self {
        Self { url, host, purpose, signing_key: None, authorities: None }
    }

    /// Adds what the controller has prepared.
    ///
    /// # Errors
    /// The sink needs something that is not prepared: nothing is sent unsigned or under another trust.
    pub(super) fn with_secrets(mut self, needs: &SinkNeeds, prepared: Option<&PreparedSink>) -> Result<Self, NotServed> {
        let missing = |field: &str| NotServed::missing(format!("what {field} names is not prepared for this receiver yet"));
        if let Some(reference) = &needs.signing {
            let signing = prepared.and_then(|prepared| prepared.signing.as_ref()).filter(|(known, _)| known == reference);
            self.signing_key = Some(signing.map(|(_, key)| key.clone()).ok_or_else(|| missing("secretRef"))?);
        }
        if let Some(reference) = &needs.authorities {
            let authorities = prepared.and_then(|prepared| prepared.authorities.as_ref()).filter(|(known, _)| known == reference);
            self.authorities = Some(authorities.map(|(_, pem)| Arc::clone(pem)).ok_or_else(|| missing("caRef"))?);
        }
        Ok(self)
    }

    /// Adds the headers of Standard Webhooks. The id is that of the event, the time that of the attempt: a receiver refuses an old
    /// one, and an event may be pending for days.
    pub(super) fn sign(&self, headers: &mut HeaderMap, now: Timestamp, body: &[u8]) {
        let Some(key) = &self.signing_key else { return };
        let id = headers.get("ce-id").cloned().unwrap_or_else(|| HeaderValue::from_static(""));
        let signature = key.sign(id.to_str().unwrap_or_default(), now.as_second(), body);
        headers.insert(HeaderName::from_static("webhook-id"), id);
        headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now.as_second()));
        // Base64 is always a valid header value.
        if let Ok(signature) = HeaderValue::from_str(&signature) {
            headers.insert(HeaderName::from_static("webhook-signature"), signature);
        }
    }
}

/// Whether anything may be sent to a sink now, as far as that depends on its Service. Cheaper than [`Destination::of`]: this is asked
/// for every sink in turn.
///
/// # Errors
/// Why nothing may be sent there now.
pub(super) fn check_service(
    target: &SinkTarget,
    binding_namespace: &str,
    services: &Services,
    policy: &NetworkPolicy,
) -> Result<(), NotServed> {
    match &target.service {
        Some(service) => judge(target, service, binding_namespace, services, policy).map(drop),
        None => Ok(()),
    }
}

/// The UID of the Service of a sink, and the addresses to send to.
fn judge<'s>(
    target: &SinkTarget,
    service: &ServiceTarget,
    binding_namespace: &str,
    services: &'s Services,
    policy: &NetworkPolicy,
) -> Result<(&'s str, Vec<IpAddr>), NotServed> {
    let Found { uid, addresses } = services.find(service, binding_namespace)?;
    let name = target.url.host_str().unwrap_or_default();
    let overrides = policy.overrides(name);
    Ok((uid, allowed(policy, name, if overrides.is_empty() { addresses } else { &overrides })?))
}

/// The addresses of a Service that the installation allows.
fn allowed(policy: &NetworkPolicy, name: &str, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, NotServed> {
    let mut refusal = None;
    let mut allowed = Vec::with_capacity(addresses.len());
    for address in addresses {
        match policy.check_address(Purpose::ServiceSink, name, *address) {
            Ok(()) => allowed.push(*address),
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    match refusal {
        Some(reason) if allowed.is_empty() => Err(NotServed::not_allowed(reason.to_string())),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::sink_service::{ServiceAddress, ServiceFacts};
    use crate::protocol::sink_target;

    fn none() -> Services {
        Services::of(&[], Arc::new(|_| Some(std::time::Duration::ZERO)))
    }

    fn services(uid: &str, address: &str) -> Services {
        let mut services = none();
        let address = ServiceAddress::At([address.parse().unwrap()].into());
        services.apply(
            "team".to_owned(),
            "ci".to_owned(),
            ServiceFacts { uid: uid.into(), address, ports: [80, 8080].into(), deliver_from: None },
        );
        services.complete();
        services
    }

    fn destination(port: u16, services: &Services, policy: &NetworkPolicy) -> Result<Destination, NotServed> {
        let sink = serde_json::from_value(json!({"name": "ci", "service": {"name": "ci", "port": port, "path": "/events"}})).unwrap();
        Destination::of(&sink_target::target("team", &sink, policy).unwrap(), "team", services, policy)
    }

    #[test]
    fn the_request_names_the_service_and_goes_to_its_address() {
        let policy = NetworkPolicy::default();
        for (port, host) in [(80, "ci.team.svc"), (8080, "ci.team.svc:8080")] {
            let found = destination(port, &services("uid-1", "10.96.0.7"), &policy).unwrap();
            assert_eq!(found.host.unwrap(), host);
            assert_eq!(found.url.host_str(), Some(pinned_host("uid-1", &["10.96.0.7".parse().unwrap()]).as_str()));
            assert_eq!((found.url.path(), found.url.port_or_known_default()), ("/events", Some(port)));
        }
    }

    #[test]
    fn neither_the_api_server_nor_a_special_address_is_reached_through_a_service() {
        let policy = NetworkPolicy::default();
        policy.cluster.set(["10.96.0.0/12".parse().unwrap()], ["10.96.0.1".parse().unwrap()]);
        for address in ["10.96.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:169.254.169.254"] {
            let refused = destination(80, &services("uid-1", address), &policy).unwrap_err();
            assert_eq!(refused.kind, sink_target::NotServedKind::NotAllowed, "{address}");
            assert!(refused.message.contains("ci.team.svc has the address"), "{refused}");
        }
        assert!(destination(80, &services("uid-1", "10.96.0.7"), &policy).is_ok());
    }

    #[test]
    fn an_override_counts_only_for_a_service_that_was_found_and_is_judged_itself() {
        let mut policy = NetworkPolicy::default();
        policy.resolve.insert(("ci.team.svc".to_owned(), 80), "10.1.2.3".parse().unwrap());
        let found = destination(80, &services("uid-1", "10.96.0.7"), &policy).unwrap();
        assert_eq!(found.url.host_str(), Some(pinned_host("uid-1", &["10.1.2.3".parse().unwrap()]).as_str()));
        let mut empty = none();
        empty.complete();
        assert!(destination(80, &empty, &policy).is_err());
        policy.resolve.insert(("ci.team.svc".to_owned(), 80), "169.254.169.254".parse().unwrap());
        assert!(destination(80, &services("uid-1", "10.96.0.7"), &policy).is_err());
    }
}
