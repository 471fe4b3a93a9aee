//! A tool that applies the same manifest again and again causes no work.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use testkit::fault_proxy::FaultProxy;
use testkit::operator::{Operator, metric};
use testkit::scratch::Scratch;
use testkit::test_env::{CONNECTION, SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

/// How often the tool applies.
const ROUNDS: usize = 8;
/// Some tools mark an object each time. One mark may then cause this many reconciliations: one of the object itself and, for a
/// connection, one of its binding.
const RECONCILIATIONS_OF_A_MARK: u64 = 3;

#[tokio::test]
async fn applying_the_same_manifest_again_causes_no_reconciliation_and_no_write() -> Result<()> {
    let env = TestEnv::new("reapply").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(env.options().await?).await?;
    let object = |kind: &str, name: &str, spec: serde_json::Value| json!({"apiVersion": "forgebind.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": env.namespace}, "spec": spec});
    let mut connection = env.connection_spec_at(&proxy.url());
    connection["interval"] = json!("1h");
    let items = [object("GitProviderConnection", CONNECTION, connection), object("RepoBinding", "shop", env.binding_spec())];
    let scratch = Scratch::new("reapply")?;
    let file = scratch.path().join("manifests.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    let file = file.to_str().context("UTF-8")?;
    let apply = async |more: &[&str]| env.cluster().kubectl(&[&["apply", "--filename", file], more].concat()).await;
    apply(&[]).await?;
    env.connection_ready().await?;
    env.binding_ready("shop").await?;
    let reconciled = async || Ok::<_, anyhow::Error>(metric(&operator.metrics().await?, "forgebind_reconciliations_total"));
    let rest = async || {
        let mut known = reconciled().await?;
        wait_until("the reconciliations of the last changes", SOON, async || {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let now = reconciled().await?;
            let before = std::mem::replace(&mut known, now);
            // The connection counts its bindings within 10 s.
            let counted = env.connections.get(CONNECTION).await?.status.and_then(|status| status.bindings) == Some(1);
            Ok(if before == now && counted { Seen::Done(now) } else { Seen::NotYet(format!("{before}, then {now}")) })
        })
        .await
    };
    let user = operator.options().user();
    let writes_since = |start: usize| -> Result<Vec<String>> {
        let events = env.plane.audit_events_since(start)?.into_iter();
        let ours = events.filter(|event| event.user.username == user && event.is_write() && event.resource() != "leases");
        Ok(ours.map(|event| format!("{} {}", event.verb, event.request_uri)).collect())
    };
    for (flags, first) in [(&[][..], &[][..]), (&["--server-side"][..], &["--server-side", "--force-conflicts"][..])] {
        // The first apply takes over the fields, which is a change.
        apply(first).await?;
        let before = rest().await?;
        proxy.forget();
        let start = env.plane.audit_position()?;
        for _ in 0..ROUNDS {
            apply(flags).await?;
        }
        assert_eq!(rest().await?, before, "applying without a change changes nothing: {flags:?}");
        assert_eq!(writes_since(start)?, [""; 0], "{flags:?}");
        assert_eq!(proxy.exchanges().len(), 0, "{flags:?}");
    }

    let (before, start) = (rest().await?, env.plane.audit_position()?);
    for round in 0..ROUNDS {
        let mark = format!("argocd.argoproj.io/refreshed={round}");
        let kinds = format!("gitproviderconnection/{CONNECTION}");
        let arguments = ["annotate", "--overwrite", "--namespace", &env.namespace, &kinds, "repobinding/shop", &mark];
        env.cluster().kubectl(&arguments).await?;
    }
    let marked = rest().await? - before;
    eprintln!("figure: reconciliations for {ROUNDS} marks on a connection and its binding: {marked}");
    ensure!(marked <= ROUNDS as u64 * RECONCILIATIONS_OF_A_MARK, "{marked} reconciliations");
    assert_eq!(writes_since(start)?, [""; 0]);
    let calls: Vec<_> = proxy.exchanges().iter().map(|exchange| format!("{} {}", exchange.method, exchange.path)).collect();
    assert_eq!(calls, [""; 0], "a tool's mark causes no request to the provider");
    Ok(())
}
