//! Which providers may be reached, and how: http, addresses, hosts, certificates, kinds.

use std::time::Instant;

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use serde_json::{Value, json};

use crate::credentials::{connection_message, connection_says_now};
use crate::support::fault_proxy::FaultProxy;
use crate::support::operator::{Operator, Options};
use crate::support::tls_proxy::TlsProxy;
use crate::world::{World, connection_condition};

/// An operator as it runs in production: https alone.
async fn strict(world: &World) -> Result<Options> {
    Ok(world.options().await?.without("allow-insecure-http").with("public-url", "https://hooks.example.com"))
}

async fn is_refused(world: &World, spec: Value, reason: &str, says: &str) -> Result<()> {
    world.create_connection(spec).await?;
    let connection = world.connection_says("Reachable", &format!("False/{reason}")).await?;
    assert_eq!(connection_condition(&connection, "Ready"), format!("False/{reason}"));
    assert_eq!(connection_condition(&connection, "Stalled"), format!("True/{reason}"));
    let message = connection_message(&connection, "Ready");
    assert!(message.contains(says), "{message}");
    Ok(())
}

#[tokio::test]
async fn http_is_refused_unless_it_is_allowed() -> Result<()> {
    let world = World::new("insecure").await?;
    let proxy = FaultProxy::before_gitea(world.gitea).await?;
    let _operator = Operator::start(strict(&world).await?).await?;
    is_refused(&world, world.connection_spec_at(&proxy.url()), "InsecureURL", "--allow-insecure-http").await?;
    assert_eq!(proxy.exchanges().len(), 0, "no credential leaves");
    Ok(())
}

#[tokio::test]
async fn loopback_is_refused_unless_its_range_is_allowed() -> Result<()> {
    let world = World::new("loopback").await?;
    let proxy = FaultProxy::before_gitea(world.gitea).await?;
    let _operator = Operator::start(world.options().await?.without("allow-cidrs")).await?;
    is_refused(&world, world.connection_spec_at(&proxy.url()), "HostNotAllowed", "--allow-cidrs").await?;
    // A name leads there no more than an address does.
    let named = proxy.url().replace("127.0.0.1", "localhost");
    world.patch_connection(json!({"spec": {"provider": {"gitea": {"url": named}}}})).await?;
    connection_says_now(&world, "Reachable", "False/HostNotAllowed").await?;
    assert_eq!(proxy.exchanges().len(), 0);
    Ok(())
}

#[tokio::test]
async fn only_provider_hosts_that_are_listed_are_reached() -> Result<()> {
    let world = World::new("hosts").await?;
    let (listed, other) = (FaultProxy::before_gitea(world.gitea).await?, FaultProxy::before_gitea(world.gitea).await?);
    let host = listed.url().replace("http://", "");
    let options = world.options().await?.with("allow-provider-hosts", &format!("gitea.acme.io,{host}"));
    let _operator = Operator::start(options).await?;
    is_refused(&world, world.connection_spec_at(&other.url()), "HostNotAllowed", "--allow-provider-hosts").await?;
    world.patch_connection(json!({"spec": {"provider": {"gitea": {"url": listed.url()}}}})).await?;
    connection_says_now(&world, "Ready", "True/Succeeded").await?;
    assert_eq!(other.exchanges().len(), 0);
    Ok(())
}

async fn put_map(world: &World, name: &str, key: &str, value: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(world.cluster().client()?, &world.namespace);
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
    let world = World::new("private").await?;
    let (proxy, stranger) = (TlsProxy::before(world.gitea.url()).await?, TlsProxy::before(world.gitea.url()).await?);
    let _operator = Operator::start(strict(&world).await?).await?;
    world.create_connection(world.connection_spec_at(&proxy.url())).await?;
    let connection = world.connection_says("Reachable", "False/TLSError").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "False/TLSError");
    assert_eq!(connection_condition(&connection, "Authenticated"), "", "nobody was asked");

    let in_map = json!({"spec": {"tls": {"caRef": {"kind": "ConfigMap", "name": "acme-ca"}}}});
    world.patch_connection(in_map).await?;
    let connection = connection_says_now(&world, "Reachable", "False/TLSReferenceNotFound").await?;
    assert!(connection_message(&connection, "Ready").contains("ConfigMap acme-ca does not exist"));
    put_map(&world, "acme-ca", "other.crt", proxy.authority_pem()).await?;
    let lacks = |connection: &_| connection_message(connection, "Ready").contains("acme-ca lacks the key ca.crt");
    world.connection_until("the key that is missing", crate::world::SOON, lacks).await?;
    put_map(&world, "acme-ca", "ca.crt", proxy.authority_pem()).await?;
    let began = Instant::now();
    world.connection_ready().await?;
    eprintln!("figure: CA edited -> Ready: {:?}", began.elapsed());
    put_map(&world, "acme-ca", "ca.crt", stranger.authority_pem()).await?;
    world.connection_says("Reachable", "False/TLSError").await?;

    let in_secret = json!({"spec": {"tls": {"caRef": {"kind": "Secret", "name": "acme-ca", "key": "authority"}}}});
    world.patch_connection(in_secret).await?;
    let connection = connection_says_now(&world, "Reachable", "False/TLSReferenceNotFound").await?;
    assert!(connection_message(&connection, "Ready").contains("Secret acme-ca does not exist"));
    world.cluster().apply_secret(&world.namespace, "acme-ca", &[("authority", "no certificate")]).await?;
    world
        .connection_until("what is no certificate", crate::world::SOON, |connection| {
            connection_condition(connection, "Reachable") == "False/TLSError"
        })
        .await?;
    world.cluster().apply_secret(&world.namespace, "acme-ca", &[("authority", proxy.authority_pem())]).await?;
    world.connection_ready().await?;
    world
        .create_binding("shop", {
            let mut spec = world.binding_spec();
            spec.as_object_mut().expect("an object").retain(|key, _| key == "connectionRef" || key == "repository");
            spec
        })
        .await?;
    world.binding_ready("shop").await?;
    Ok(())
}

#[tokio::test]
async fn a_provider_that_is_not_served_is_said() -> Result<()> {
    let world = World::new("unserved").await?;
    let _operator = Operator::start(world.options().await?.with("providers", "gitea")).await?;
    let mut spec = world.connection_spec();
    spec["provider"] = json!({"github": {"organization": "acme"}});
    is_refused(&world, spec, "ProviderNotServed", "this installation does not serve GitHub").await?;
    world.create_binding("shop", world.binding_spec()).await?;
    world.binding_says("shop", "Ready", "False/ConnectionNotReady").await?;
    Ok(())
}

#[tokio::test]
async fn a_provider_that_the_installation_leaves_out_is_said() -> Result<()> {
    let world = World::new("leftout").await?;
    let proxy = FaultProxy::before_gitea(world.gitea).await?;
    let _operator = Operator::start(world.options().await?.with("providers", "github,gitlab")).await?;
    is_refused(&world, world.connection_spec_at(&proxy.url()), "ProviderNotServed", "--providers").await?;
    assert_eq!(proxy.exchanges().len(), 0);
    Ok(())
}
