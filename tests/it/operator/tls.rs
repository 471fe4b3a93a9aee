//! Which providers a connection may reach, and how: http, addresses, hosts, certificates, provider kinds.

use std::time::Instant;

use anyhow::Result;
use forgebind::api::v1alpha1::GitProviderConnection;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use serde_json::{Value, json};

use testkit::fault_proxy::FaultProxy;
use testkit::forward_proxy::ForwardProxy;
use testkit::operator::{Operator, Options};
use testkit::test_env::{SOON, TestEnv, binding_condition, connection_condition, connection_message, connection_says_now};
use testkit::tls_proxy::{NAME, TlsProxy};
use testkit::wait::{Seen, wait_until};

/// An operator as it runs in production: https only.
async fn strict(env: &TestEnv) -> Result<Options> {
    Ok(env.options().await?.without("allow-insecure-http").with("public-url", "https://hooks.example.com"))
}

async fn is_refused(env: &TestEnv, spec: Value, reason: &str, says: &str) -> Result<()> {
    env.create_connection(spec).await?;
    let connection = env.connection_says("Reachable", &format!("False/{reason}")).await?;
    assert_eq!(connection_condition(&connection, "Ready"), format!("False/{reason}"));
    assert_eq!(connection_condition(&connection, "Stalled"), format!("True/{reason}"));
    let message = connection_message(&connection, "Ready");
    assert!(message.contains(says), "{message}");
    Ok(())
}

#[tokio::test]
async fn http_is_refused_unless_it_is_allowed() -> Result<()> {
    let env = TestEnv::new("insecure").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let _operator = Operator::start(strict(&env).await?).await?;
    is_refused(&env, env.connection_spec_at(&proxy.url()), "InsecureURL", "--allow-insecure-http").await?;
    assert_eq!(proxy.exchanges().len(), 0, "no credential is sent");
    Ok(())
}

#[tokio::test]
async fn loopback_is_refused_unless_its_range_is_allowed() -> Result<()> {
    let env = TestEnv::new("loopback").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let _operator = Operator::start(env.options().await?.without("allow-cidrs")).await?;
    is_refused(&env, env.connection_spec_at(&proxy.url()), "HostNotAllowed", "--allow-cidrs").await?;
    // A host name that resolves to loopback is refused like the address.
    let named = proxy.url().replace("127.0.0.1", "localhost");
    env.patch_connection(json!({"spec": {"provider": {"gitea": {"url": named}}}})).await?;
    connection_says_now(&env, "Reachable", "False/HostNotAllowed").await?;
    assert_eq!(proxy.exchanges().len(), 0);
    Ok(())
}

#[tokio::test]
async fn only_provider_hosts_that_are_listed_are_reached() -> Result<()> {
    let env = TestEnv::new("hosts").await?;
    let (listed, other) = (FaultProxy::before_gitea(env.gitea).await?, FaultProxy::before_gitea(env.gitea).await?);
    let host = listed.url().replace("http://", "");
    let options = env.options().await?.with("allow-provider-hosts", &format!("gitea.acme.io,{host}"));
    let _operator = Operator::start(options).await?;
    is_refused(&env, env.connection_spec_at(&other.url()), "HostNotAllowed", "--allow-provider-hosts").await?;
    env.patch_connection(json!({"spec": {"provider": {"gitea": {"url": listed.url()}}}})).await?;
    connection_says_now(&env, "Ready", "True/Succeeded").await?;
    assert_eq!(other.exchanges().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_provider_behind_a_private_proxy_needs_the_proxys_host_in_the_allowed_hosts() -> Result<()> {
    let env = TestEnv::new("proxies").await?;
    let (provider, proxy) = (TlsProxy::before(env.gitea.url()).await?, ForwardProxy::start(&[NAME]).await?);
    let options = env.options().await?.with("allow-provider-hosts", NAME);
    env.cluster().apply_secret(&env.namespace, "egress", &[("address", &proxy.url())]).await?;
    put_map(&env, "acme-ca", "ca.crt", provider.authority_pem()).await?;
    let mut spec = env.connection_spec_at(&format!("https://{NAME}:{}", provider.port()));
    spec["tls"] = json!({"caRef": {"kind": "ConfigMap", "name": "acme-ca"}});
    spec["proxySecretRef"] = json!({"name": "egress"});
    let operator = Operator::start(options.clone()).await?;
    is_refused(&env, spec, "HostNotAllowed", "--allow-proxy-hosts").await?;
    assert_eq!(proxy.targets(), Vec::<String>::new(), "no credential goes through it");
    drop(operator);
    let _operator = Operator::start(options.with("allow-proxy-hosts", "127.0.0.1")).await?;
    connection_says_now(&env, "Ready", "True/Succeeded").await?;
    assert!(!proxy.targets().is_empty());
    Ok(())
}

async fn put_map(env: &TestEnv, name: &str, key: &str, value: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(env.cluster().client()?, &env.namespace);
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some([(key.to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    };
    maps.patch(name, &PatchParams::apply("forgebind-test").force(), &Patch::Apply(&map)).await?;
    Ok(())
}

#[tokio::test]
async fn a_private_certificate_needs_its_authority_from_a_config_map_or_a_secret() -> Result<()> {
    let env = TestEnv::new("private").await?;
    let (proxy, stranger) = (TlsProxy::before(env.gitea.url()).await?, TlsProxy::before(env.gitea.url()).await?);
    let _operator = Operator::start(strict(&env).await?).await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    let connection = env.connection_says("Reachable", "False/TLSError").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "False/TLSError");
    assert_eq!(connection_condition(&connection, "Authenticated"), "", "no request was sent");

    let in_map = json!({"spec": {"tls": {"caRef": {"kind": "ConfigMap", "name": "acme-ca"}}}});
    env.patch_connection(in_map).await?;
    let connection = connection_says_now(&env, "Reachable", "False/TLSReferenceNotFound").await?;
    assert!(connection_message(&connection, "Ready").contains("/acme-ca, which tls.caRef names, does not exist; create it"));
    put_map(&env, "acme-ca", "other.crt", proxy.authority_pem()).await?;
    let lacks = |connection: &_| {
        connection_message(connection, "Ready")
            .contains("/acme-ca, which tls.caRef names, lacks the key ca.crt or it is empty; put it there")
    };
    env.connection_until("the key that is missing", testkit::test_env::SOON, lacks).await?;
    put_map(&env, "acme-ca", "ca.crt", proxy.authority_pem()).await?;
    let began = Instant::now();
    env.connection_ready().await?;
    eprintln!("figure: CA edited -> Ready: {:?}", began.elapsed());
    put_map(&env, "acme-ca", "ca.crt", stranger.authority_pem()).await?;
    env.connection_says("Reachable", "False/TLSError").await?;

    let in_secret = json!({"spec": {"tls": {"caRef": {"kind": "Secret", "name": "acme-ca", "key": "authority"}}}});
    env.patch_connection(in_secret).await?;
    let connection = connection_says_now(&env, "Reachable", "False/TLSReferenceNotFound").await?;
    assert!(connection_message(&connection, "Ready").contains("/acme-ca, which tls.caRef names, does not exist; create it"));
    env.cluster().apply_secret(&env.namespace, "acme-ca", &[("authority", "no certificate")]).await?;
    env.connection_until("the text that is not a certificate", testkit::test_env::SOON, |connection| {
        connection_condition(connection, "Reachable") == "False/TLSError"
    })
    .await?;
    env.cluster().apply_secret(&env.namespace, "acme-ca", &[("authority", proxy.authority_pem())]).await?;
    env.connection_ready().await?;
    env.create_binding("shop", {
        let mut spec = env.binding_spec();
        spec.as_object_mut().expect("an object").retain(|key, _| key == "connectionRef" || key == "repository");
        spec
    })
    .await?;
    env.binding_ready("shop").await?;
    Ok(())
}

/// Waits until one of several connections fits.
async fn until(env: &TestEnv, name: &str, what: &str, fits: impl Fn(&GitProviderConnection) -> bool) -> Result<()> {
    wait_until(&format!("connection {name}: {what}"), SOON, async || {
        let connection = env.connections.get(name).await?;
        let seen = format!("{} {}", connection_condition(&connection, "Ready"), connection_message(&connection, "Ready"));
        Ok(if fits(&connection) { Seen::Done(()) } else { Seen::NotYet(seen) })
    })
    .await
}

/// Waits until a connection is unreachable for a reason, with a message that contains these texts.
async fn fails(env: &TestEnv, name: &str, reason: &str, says: &[&str]) -> Result<()> {
    let expected = format!("False/{reason}");
    until(env, name, &format!("{expected} {says:?}"), |connection| {
        let message = connection_message(connection, "Reachable");
        connection_condition(connection, "Reachable") == expected && says.iter().all(|words| message.contains(words))
    })
    .await
}

async fn is_ready(env: &TestEnv, name: &str) -> Result<()> {
    until(env, name, "Ready", |connection| connection_condition(connection, "Ready") == "True/Succeeded").await
}

/// Puts the certificates that a server accepts and presents into a `ConfigMap` and a Secret of this name.
async fn put_certificates(env: &TestEnv, name: &str, server: &TlsProxy) -> Result<()> {
    put_map(env, &format!("{name}-ca"), "ca.crt", server.authority_pem()).await?;
    let (certificate, key) = server.client()?;
    env.cluster().apply_secret(&env.namespace, &format!("{name}-client"), &[("tls.crt", certificate), ("tls.key", key)]).await?;
    Ok(())
}

/// Changes the Secret with the client certificate that a connection presents.
async fn present(env: &TestEnv, name: &str, secret: &Value) -> Result<()> {
    let patch = json!({"spec": {"tls": {"clientCertificateRef": secret}}});
    env.connections.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[tokio::test]
async fn dt_27_each_connection_has_its_own_authority_and_client_certificate_and_failures_name_them() -> Result<()> {
    let env = TestEnv::new("mutual").await?;
    let one = TlsProxy::demanding_a_client_certificate_before(env.gitea.url()).await?;
    let two = TlsProxy::demanding_a_client_certificate_before(env.gitea.url()).await?;
    let _operator = Operator::start(strict(&env).await?).await?;
    for (name, server) in [("one", &one), ("two", &two)] {
        put_certificates(&env, name, server).await?;
        let mut spec = env.connection_spec_at(&server.url());
        spec["tls"] = json!({
            "caRef": {"kind": "ConfigMap", "name": format!("{name}-ca")},
            "clientCertificateRef": {"name": format!("{name}-client")},
        });
        env.create_connection_named(name, spec).await?;
        let binding = json!({"connectionRef": {"name": name}, "repository": env.repository});
        env.create_binding(&format!("by-{name}"), binding).await?;
    }
    for name in ["one", "two"] {
        is_ready(&env, name).await?;
        env.binding_ready(&format!("by-{name}")).await?;
    }

    // The certificate of another connection is refused, and so is having none.
    present(&env, "two", &json!({"name": "one-client"})).await?;
    fails(&env, "two", "TLSError", &["does not accept the client certificate", "/one-client"]).await?;
    present(&env, "two", &Value::Null).await?;
    fails(&env, "two", "TLSError", &["requires a client certificate", "tls.clientCertificateRef: none"]).await?;
    present(&env, "two", &json!({"name": "there-is-none"})).await?;
    fails(
        &env,
        "two",
        "TLSReferenceNotFound",
        &["/there-is-none, which tls.clientCertificateRef names, does not exist; create it with the keys tls.crt and tls.key"],
    )
    .await?;
    let (certificate, key) = two.client()?;
    for (entries, reason, says) in [
        (
            [("tls.crt", certificate), ("tls.key", "")],
            "TLSReferenceNotFound",
            "/half, which tls.clientCertificateRef names, lacks the key tls.key",
        ),
        ([("tls.crt", certificate), ("tls.key", "no key")], "TLSError", "/half"),
        ([("tls.crt", certificate), ("tls.key", one.client()?.1)], "TLSError", "/half"),
    ] {
        env.cluster().apply_secret(&env.namespace, "half", &entries).await?;
        present(&env, "two", &json!({"name": "half"})).await?;
        fails(&env, "two", reason, &[says]).await?;
    }
    env.cluster().apply_secret(&env.namespace, "half", &[("tls.crt", certificate), ("tls.key", key)]).await?;
    is_ready(&env, "two").await?;

    // A changed authority takes effect at once, for this connection only.
    put_map(&env, "one-ca", "ca.crt", two.authority_pem()).await?;
    fails(&env, "one", "TLSError", &["the certificate of 127.0.0.1 is not trusted", "/one-ca"]).await?;
    is_ready(&env, "two").await?;
    put_map(&env, "one-ca", "ca.crt", one.authority_pem()).await?;
    is_ready(&env, "one").await?;
    for name in ["one", "two"] {
        let binding = env.look_again(&format!("by-{name}")).await?;
        assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
        let whole = serde_json::to_string(&env.connections.get(name).await?)?;
        assert!(!whole.contains("PRIVATE KEY") && !whole.contains("BEGIN"), "{whole}");
    }
    Ok(())
}

#[tokio::test]
async fn a_provider_kind_that_is_not_served_is_reported() -> Result<()> {
    let env = TestEnv::new("unserved").await?;
    let _operator = Operator::start(env.options().await?.with("providers", "gitea")).await?;
    let mut spec = env.connection_spec();
    spec["provider"] = json!({"github": {"organization": "acme"}});
    is_refused(&env, spec, "ProviderNotServed", "this installation does not support GitHub").await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_says("shop", "Ready", "False/ConnectionNotReady").await?;
    Ok(())
}

#[tokio::test]
async fn a_provider_kind_that_the_installation_disables_is_reported() -> Result<()> {
    let env = TestEnv::new("leftout").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let _operator = Operator::start(env.options().await?.with("providers", "github,gitlab")).await?;
    is_refused(&env, env.connection_spec_at(&proxy.url()), "ProviderNotServed", "--providers").await?;
    assert_eq!(proxy.exchanges().len(), 0);
    Ok(())
}
