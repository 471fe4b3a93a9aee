//! The cost of a binding: nothing at rest, little over its life. Counted in the API server's audit log and at the provider.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use forgebind::api::v1alpha1::RepoBinding;
use serde_json::json;

use testkit::control_plane::AuditEvent;
use testkit::fault_proxy::{Exchange, FaultProxy};
use testkit::operator::Operator;
use testkit::test_env::{CONNECTION, SOON, TestEnv, binding_condition, connection_condition};
use testkit::wait::{Seen, stays, wait_until};

/// How long a test watches the operator at rest. Longer than every interval below a minute: the controller reads evidence every
/// 10 s and renews the Lease more often than that.
const WINDOW: Duration = Duration::from_secs(25);
const BINDINGS: [&str; 3] = ["shop", "cart", "till"];

/// The operator's requests since a position in the audit log.
fn requests_since(env: &TestEnv, operator: &Operator, position: usize) -> Result<Vec<AuditEvent>> {
    let user = operator.options().user();
    let events = env.plane.audit_events_since(position)?;
    Ok(events.into_iter().filter(|event| event.user.username == user).collect())
}

fn position(env: &TestEnv) -> Result<usize> {
    env.plane.audit_position()
}

/// Requests by verb and resource.
fn grouped<'a>(events: impl IntoIterator<Item = &'a AuditEvent>) -> BTreeMap<String, usize> {
    let mut groups = BTreeMap::new();
    for event in events {
        *groups.entry(format!("{} {}", event.verb, event.resource())).or_insert(0) += 1;
    }
    groups
}

fn calls(exchanges: &[Exchange]) -> Vec<String> {
    exchanges.iter().map(|exchange| format!("{} {}", exchange.method, exchange.path)).collect()
}

fn is_lease(event: &AuditEvent) -> bool {
    event.resource() == "leases"
}

#[tokio::test]
async fn a_binding_at_rest_costs_no_write_and_no_provider_call() -> Result<()> {
    let env = TestEnv::new("rest").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(env.options().await?.with("leader-election", "true")).await?;
    let mut spec = env.connection_spec_at(&proxy.url());
    spec["interval"] = json!("1h");
    env.create_connection(spec).await?;
    for name in BINDINGS {
        if name != "shop" {
            env.gitea.create_repository(&env.organization, name, false).await?;
        }
        let mut spec = env.binding_spec();
        spec["repository"] = json!(format!("{}/{name}", env.organization));
        spec["interval"] = json!("1h");
        env.create_binding(name, spec).await?;
    }
    for name in BINDINGS {
        env.binding_ready(name).await?;
    }
    // One of the bindings has had a delivery.
    env.push("before the rest").await?;
    env.binding_says("shop", "Receiving", "True/Succeeded").await?;
    let is_listed = |binding: &RepoBinding| binding.status.as_ref().is_some_and(|status| !status.recent_deliveries.is_empty());
    env.binding_until("shop", "the delivery to be listed", SOON, is_listed).await?;
    env.connection_until("its bindings counted", SOON, |connection| {
        let status = connection.status.clone().unwrap_or_default();
        status.bindings == Some(3) && !status.permissions.is_empty() && connection_condition(connection, "Ready") == "True/Succeeded"
    })
    .await?;
    let reconciled =
        async || Ok::<_, anyhow::Error>(testkit::operator::metric(&operator.metrics().await?, "forgebind_reconciliations_total"));
    // The reactions to the last writes are finished when the count of reconciliations stays the same.
    let mut known = reconciled().await?;
    wait_until("the reconciliations of the last changes", SOON, async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = reconciled().await?;
        let before = std::mem::replace(&mut known, now);
        Ok(if before == now { Seen::Done(()) } else { Seen::NotYet(format!("{before}, then {now}")) })
    })
    .await?;

    proxy.forget();
    let (start, reconciled_before) = (position(&env)?, reconciled().await?);
    stays("the rest", WINDOW, async || {
        let seen = requests_since(&env, &operator, start)?;
        let writes: Vec<_> = seen.iter().filter(|event| event.is_write() && !is_lease(event)).collect();
        ensure!(writes.is_empty(), "writes: {writes:?}");
        ensure!(proxy.exchanges().is_empty(), "provider calls: {:?}", calls(&proxy.exchanges()));
        Ok(())
    })
    .await?;
    let seen = requests_since(&env, &operator, start)?;
    eprintln!("figure: requests to the API server in {WINDOW:?} at rest with {} bindings: {:?}", BINDINGS.len(), grouped(&seen));
    eprintln!("figure: reconciliations in that time: {}", reconciled().await? - reconciled_before);
    assert!(seen.iter().any(|event| is_lease(event) && event.is_write()), "the Lease is renewed: {:?}", grouped(&seen));
    // Each watch is reopened every 50 s, which may happen in this time; apart from that and the Lease the operator reads nothing.
    let reads: Vec<_> = seen.iter().filter(|event| !event.is_write() && event.verb != "watch" && !is_lease(event)).collect();
    assert!(reads.is_empty(), "{reads:?}");
    Ok(())
}

/// Whether a request concerns one binding, or is an event in its namespace.
fn concerns(event: &AuditEvent, namespace: &str, name: &str) -> bool {
    let Some(object) = &event.object_ref else { return false };
    object.namespace == namespace && ((object.resource == "repobindings" && object.name == name) || object.resource == "events")
}

fn writes<'a>(seen: &'a [AuditEvent], namespace: &str, name: &str) -> (Vec<&'a AuditEvent>, usize) {
    let about: Vec<_> = seen.iter().filter(|event| event.is_write() && concerns(event, namespace, name)).collect();
    let events = about.iter().filter(|event| event.resource() == "events").count();
    (about.into_iter().filter(|event| event.resource() != "events").collect(), events)
}

/// Waits until the audit log contains a matching write of the operator, so that it contains everything before it too.
async fn audited(env: &TestEnv, operator: &Operator, start: usize, what: &str, count: usize) -> Result<Vec<AuditEvent>> {
    wait_until(&format!("{count} of {what} in the audit log"), SOON, async || {
        let seen = requests_since(env, operator, start)?;
        let found =
            seen.iter().filter(|event| event.is_write() && event.resource() == what && concerns(event, &env.namespace, "shop")).count();
        Ok(if found >= count { Seen::Done(seen) } else { Seen::NotYet(format!("{:?}", grouped(&seen))) })
    })
    .await
}

#[tokio::test]
async fn the_whole_life_of_a_binding_costs_few_writes_and_calls() -> Result<()> {
    let env = TestEnv::new("life").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(env.options().await?).await?;
    let start = position(&env)?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.connection_ready().await?;
    let seen = requests_since(&env, &operator, start)?;
    let of_connection =
        seen.iter().filter(|event| event.is_write() && event.object_ref.as_ref().is_some_and(|object| object.name == CONNECTION));
    eprintln!("figure: writes of a new connection: {:?}", grouped(of_connection));
    eprintln!("figure: provider calls of a new connection: {:?}", calls(&proxy.exchanges()));
    // The event is sent after the status.
    wait_until("the connection's event", SOON, async || {
        let seen = requests_since(&env, &operator, start)?;
        let told = seen.iter().any(|event| event.resource() == "events" && concerns(event, &env.namespace, ""));
        Ok(if told { Seen::Done(()) } else { Seen::NotYet(format!("{:?}", grouped(&seen))) })
    })
    .await?;

    proxy.forget();
    let start = position(&env)?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    audited(&env, &operator, start, "events", 1).await?;
    // All reactions to the creation are finished when the connection has counted the binding.
    env.connection_until("the binding counted", SOON, |connection| {
        connection.status.as_ref().is_some_and(|status| status.bindings == Some(1) && !status.permissions.is_empty())
    })
    .await?;
    let seen = requests_since(&env, &operator, start)?;
    let (created, events) = writes(&seen, &env.namespace, "shop");
    let made = calls(&proxy.exchanges());
    eprintln!("figure: writes of a creation: {:?} and {events} event", grouped(created.iter().copied()));
    eprintln!("figure: provider calls of a creation: {made:?}");
    // The finalizer, the intention to create the hook, and the created hook: src/docs/decisions/0013-one-gate-for-credentials.md.
    let of_status = created.iter().filter(|event| event.resource() == "repobindings/status").count();
    assert_eq!((created.len(), of_status), (3, 2), "{created:?}");
    assert_eq!(events, 1, "{:?}", grouped(&seen));
    let about_repository: Vec<_> = made.iter().filter(|call| call.contains("/repos/") || call.contains("/repositories/")).collect();
    assert_eq!(about_repository.len(), 3, "one look-up, one list, one creation: {made:?}");
    assert_eq!(made.len(), 3, "{made:?}");

    proxy.forget();
    let start = position(&env)?;
    for number in 0..3 {
        env.push(&format!("push {number}")).await?;
    }
    let binding = env.binding_says("shop", "Receiving", "True/Succeeded").await?;
    assert_eq!(binding_condition(&binding, "Delivering"), "True/Succeeded");
    let seen = audited(&env, &operator, start, "repobindings/status", 2).await?;
    let (received, events) = writes(&seen, &env.namespace, "shop");
    eprintln!("figure: writes of the first Receiving: {:?} and {events} events", grouped(received.iter().copied()));
    assert_eq!((received.len(), events), (2, 0), "the conditions, and the list of the last deliveries: {received:?}");
    assert_eq!(proxy.exchanges().len(), 0, "{:?}", calls(&proxy.exchanges()));

    let start = position(&env)?;
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    let seen = audited(&env, &operator, start, "repobindings", 1).await?;
    let (deleted, events) = writes(&seen, &env.namespace, "shop");
    let made = calls(&proxy.exchanges());
    eprintln!("figure: writes of a deletion: {:?} and {events} events", grouped(deleted.iter().copied()));
    eprintln!("figure: provider calls of a deletion: {made:?}");
    assert!(deleted.len() <= 2, "{deleted:?}");
    assert_eq!(made.iter().filter(|call| call.starts_with("DELETE ")).count(), 1, "{made:?}");
    assert!(made.len() <= 3, "the repository, its hooks, the removal: {made:?}");
    env.connection_until("no binding left", SOON, |connection| connection.status.as_ref().and_then(|status| status.bindings) == Some(0))
        .await?;
    Ok(())
}

/// How many keys of sinks the operator read since a position in the audit log.
fn keys_read(env: &TestEnv, operator: &Operator, start: usize) -> Result<usize> {
    let is_key = |event: &&AuditEvent| {
        let Some(object) = &event.object_ref else { return false };
        event.verb == "get" && object.namespace == env.namespace && object.resource == "secrets" && object.name.starts_with("key-")
    };
    Ok(requests_since(env, operator, start)?.iter().filter(is_key).count())
}

#[tokio::test]
async fn keys_of_sinks_are_read_when_they_change_and_not_at_each_reconciliation() -> Result<()> {
    const SINKS: usize = 8;
    const RECONCILIATIONS: usize = 10;
    let env = TestEnv::new("keys-read").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    let value = |number: usize| format!("a plain text of 24 bytes or more {number}");
    let mut spec = env.binding_spec();
    let mut sinks = Vec::new();
    for number in 0..SINKS {
        env.cluster().apply_secret(&env.namespace, &format!("key-{number}"), &[("secret", &value(number))]).await?;
        let mut sink = spec["sinks"][0].clone();
        sink["name"] = json!(format!("ci-{number}"));
        sink["service"]["secretRef"] = json!({"name": format!("key-{number}")});
        sinks.push(sink);
    }
    spec["sinks"] = json!(sinks);
    let start = position(&env)?;
    env.create_binding("shop", spec).await?;
    env.binding_ready("shop").await?;
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    eprintln!("figure: keys read for a new binding with {SINKS} sinks: {}", keys_read(&env, &operator, start)?);

    let start = position(&env)?;
    for number in 0..RECONCILIATIONS {
        let asked = format!("again-{number}");
        let annotations = json!({"metadata": {"annotations": {"forgebind.dev/reconcile-requested-at": asked}}});
        env.patch_binding("shop", annotations).await?;
        env.binding_until("shop", "the request to be handled", SOON, |binding: &RepoBinding| {
            let handled = binding.status.as_ref().and_then(|status| status.last_handled.as_ref()?.reconcile.clone());
            handled.as_deref() == Some(asked.as_str())
        })
        .await?;
    }
    // The status is written after everything was read, so the audit log has it.
    let read = keys_read(&env, &operator, start)?;
    eprintln!("figure: keys read in {RECONCILIATIONS} reconciliations with {SINKS} sinks: {read}");
    assert_eq!(read, 0);

    env.cluster().apply_secret(&env.namespace, "key-3", &[("secret", &value(100))]).await?;
    wait_until("the changed key to be read", SOON, async || {
        let read = keys_read(&env, &operator, start)?;
        Ok(if read >= SINKS { Seen::Done(()) } else { Seen::NotYet(read.to_string()) })
    })
    .await
}
