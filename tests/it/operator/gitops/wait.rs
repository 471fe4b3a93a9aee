//! Pipelines wait with the real kubectl and the commands of the guide.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use forgebind::clock::{Clock as _, SystemClock};

use serde_json::json;

use super::{BINDING_KIND, CONNECTION_KIND, raw};
use testkit::components::{Components, output_of};
use testkit::operator::Operator;
use testkit::test_env::{CONNECTION, TestEnv};

const GUIDE: &str = include_str!("../../../../src/docs/guide/platform/gitops.md");
/// The namespace of all commands in the guide.
const NAMESPACE: &str = "team-shop";

/// The commands of the guide with this beginning, without the shell prompt.
fn commands(beginning: &str) -> Vec<&'static str> {
    GUIDE.lines().filter(|line| line.starts_with(beginning)).collect()
}

/// Runs a line of the guide in a shell, in the namespace of the test.
async fn shell(env: &TestEnv, line: &str) -> Result<String> {
    ensure!(line.contains(NAMESPACE), "{line} names no namespace");
    let line = line.replace(NAMESPACE, &env.namespace).replace("acme-github", CONNECTION);
    let kubectl = Components::find()?.kubectl;
    let folder = kubectl.parent().context("a folder")?;
    let mut command = Command::new("bash");
    command.env("KUBECONFIG", env.cluster().kubeconfig()).env("TOOLS", folder).args(["-euc", &format!("PATH=$TOOLS:$PATH\n{line}")]);
    output_of(command).await.with_context(|| line.clone())
}

#[tokio::test]
async fn the_commands_of_the_guide_wait_request_a_reconciliation_and_wait_again() -> Result<()> {
    let env = TestEnv::new("waiting").await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let ready = commands("kubectl wait --for=condition=Ready");
    assert_eq!(ready.len(), 1, "{ready:?}");
    let operator = Operator::start(env.options().await?).await?;
    let said = shell(&env, ready[0]).await?;
    assert_eq!(said.matches("condition met").count(), 2, "{said}");

    // Annotate, then wait until it is done: two lines that belong together.
    let asked = commands("now=");
    assert_eq!(asked.len(), 1, "{asked:?}");
    let before = SystemClock.now().as_second();
    let acknowledged = GUIDE.lines().skip_while(|line| !line.starts_with("now=")).take_while(|line| !line.starts_with("```"));
    let acknowledged = acknowledged.collect::<Vec<_>>().join("\n");
    ensure!(acknowledged.contains("--for=jsonpath") && acknowledged.contains("annotate --overwrite"), "{acknowledged}");
    shell(&env, &acknowledged).await?;
    for (kind, name) in [(CONNECTION_KIND, CONNECTION), (BINDING_KIND, "shop")] {
        let object = raw(env.cluster(), &env.namespace, kind, name).await?;
        let handled = object["status"]["lastHandled"]["reconcile"].as_str().context("an acknowledgement")?;
        ensure!(handled.parse::<i64>()? >= before, "{handled}");
        assert_eq!(object["metadata"]["annotations"]["forgebind.dev/reconcile-requested-at"], handled);
    }

    // A Ready that belongs to the previous spec does not end the wait.
    operator.kill();
    env.patch_binding("shop", json!({"spec": {"interval": "2h"}})).await?;
    let impatient = ready[0].replace("--timeout=3m", "--timeout=2s");
    ensure!(impatient != ready[0], "{impatient}");
    let error = shell(&env, &impatient).await.err().context("kubectl waits for the present generation")?;
    ensure!(format!("{error:#}").contains("timed out"), "{error:#}");
    operator.restart().await?;
    shell(&env, ready[0]).await?;

    let gone = commands("kubectl wait --for=delete");
    assert_eq!(gone.len(), 1, "{gone:?}");
    let deleted = commands("kubectl delete");
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    shell(&env, deleted[0]).await?;
    shell(&env, gone[0]).await?;
    ensure!(env.bindings.get_opt("shop").await?.is_none());
    ensure!(env.hooks_at(&operator.url()).await?.is_empty(), "its hook was removed first");
    Ok(())
}

/// The output of `date` is acknowledged unchanged.
#[tokio::test]
async fn a_request_by_annotation_is_acknowledged_on_both_kinds_while_they_are_suspended_too() -> Result<()> {
    let env = TestEnv::new("requested").await?;
    let _operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    for suspend in [false, true] {
        env.patch_connection(json!({"spec": {"suspend": suspend}})).await?;
        env.patch_binding("shop", json!({"spec": {"suspend": suspend}})).await?;
        for object in ["gpc/acme-github", "repob/shop"] {
            let line = format!(
                "value=\"$(date +%s) {suspend}\"; kubectl --namespace {NAMESPACE} annotate --overwrite {object} \
                 forgebind.dev/reconcile-requested-at=\"$value\" && kubectl --namespace {NAMESPACE} wait {object} --timeout=60s \
                 --for=jsonpath='{{.status.lastHandled.reconcile}}'=\"$value\""
            );
            let said = shell(&env, &line).await?;
            ensure!(said.contains("condition met"), "{said}");
        }
    }
    Ok(())
}
