//! What kstatus, Argo CD and Flux report for the recorded statuses, with the very files of `deploy/gitops/`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::recorded_folder;
use testkit::components::{component, repository_root};
use testkit::generated::compare;

/// A recorded status, and the results that kstatus, Argo CD and the expressions of Flux must give for it.
const EXPECTED: &[(&str, &str, &str, &str)] = &[
    ("connection-never-reconciled", "InProgress", "Progressing", "InProgress"),
    ("binding-never-reconciled", "InProgress", "Progressing", "InProgress"),
    ("binding-reconciling", "InProgress", "Progressing", "InProgress"),
    ("connection-ready", "Current", "Healthy", "Current"),
    ("binding-ready", "Current", "Healthy", "Current"),
    // The same commit may still bring the Secret.
    ("connection-secret-not-found", "InProgress", "Progressing", "InProgress"),
    ("binding-secret-not-found", "InProgress", "Progressing", "InProgress"),
    ("connection-credential-rejected", "Failed", "Degraded", "Failed"),
    // The binding itself is fine: it continues once the connection is Ready.
    ("binding-credential-rejected", "InProgress", "Progressing", "InProgress"),
    ("connection-permission-missing", "Failed", "Degraded", "Failed"),
    ("binding-permission-missing", "Failed", "Degraded", "Failed"),
    ("connection-provider-unreachable", "InProgress", "Progressing", "InProgress"),
    ("binding-provider-unreachable", "Current", "Healthy", "Current"),
    ("binding-foreign-hook", "Failed", "Degraded", "Failed"),
    // Held back by a person: kstatus has no word for it.
    ("connection-suspended", "InProgress", "Suspended", "Current"),
    ("binding-suspended", "InProgress", "Suspended", "Current"),
    ("connection-observing", "Current", "Healthy", "Current"),
    // A dry run is in the requested state; its message lists what would be done.
    ("binding-observing", "Current", "Healthy", "Current"),
    ("connection-deleting", "Terminating", "Progressing", "InProgress"),
    ("binding-deleting", "Terminating", "Progressing", "InProgress"),
    ("connection-credential-expiring", "Current", "Healthy", "Current"),
    ("connection-stale-generation", "InProgress", "Progressing", "InProgress"),
    ("binding-stale-generation", "InProgress", "Progressing", "InProgress"),
    ("binding-sink-failing", "Current", "Healthy", "Current"),
    ("grant-never-reconciled", "InProgress", "Progressing", "InProgress"),
    ("grant-ready", "Current", "Healthy", "Current"),
    // The connection may be in the same commit.
    ("grant-connection-not-found", "InProgress", "Progressing", "InProgress"),
    ("grant-selector-invalid", "Failed", "Degraded", "Failed"),
];

/// Health scripts must give a reason: words that their messages contain.
const TOLD_BY_ARGO_CD: &[(&str, &str)] = &[
    ("connection-credential-rejected", "CredentialRejected: "),
    ("connection-secret-not-found", "SecretNotFound: "),
    ("binding-foreign-hook", "ForeignHook: "),
    ("grant-selector-invalid", "SelectorInvalid: spec.namespaces.selector"),
    ("connection-credential-expiring", "ExpiresSoon: the credential expires at"),
    ("binding-sink-failing", "SinkFailing: sink ci"),
    ("binding-stale-generation", "current spec"),
    ("binding-observing", "status.plan lists what would be done: UpdateHook"),
];

fn shipped(file: &str) -> PathBuf {
    repository_root().join("deploy/gitops").join(file)
}

/// The results of the tools for these objects, in the same order.
pub fn judge(objects: &[Value]) -> Result<Vec<Value>> {
    let mut command = Command::new(component("GITOPS_VERDICTS")?);
    command.arg(shipped("argocd/argocd-cm.yaml")).arg(shipped("flux/connections.yaml"));
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = process.stdin.take().context("standard input")?;
    let lines = objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = process.wait_with_output()?;
    ensure!(output.status.success(), "gitops-verdicts: {}", String::from_utf8_lossy(&output.stderr));
    writer.join().ok().context("the writer")??;
    String::from_utf8(output.stdout)?.lines().map(|line| serde_json::from_str(line).context("a verdict")).collect()
}

fn recorded() -> Result<Vec<(String, Value)>> {
    let files = std::fs::read_dir(recorded_folder()).context("run `make generate`")?;
    let mut found = Vec::new();
    for file in files {
        let path = file?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
        found.push((name, serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

#[test]
fn kstatus_argo_cd_and_flux_report_for_every_recorded_status_what_a_user_expects() -> Result<()> {
    let recorded = recorded()?;
    let (names, objects): (Vec<&str>, Vec<Value>) = recorded.iter().map(|(name, object)| (name.as_str(), object.clone())).unzip();
    let expected: BTreeSet<&str> = EXPECTED.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), expected, "each recorded file has a row");
    let verdicts = judge(&objects)?;
    assert_eq!(verdicts.len(), names.len());
    let verdict = |name: &str| names.iter().position(|found| *found == name).and_then(|position| verdicts.get(position));
    let mut wrong = Vec::new();
    for (name, kstatus, argocd, flux) in EXPECTED {
        let said = verdict(name).with_context(|| format!("no verdict on {name}"))?;
        for (tool, word) in [("kstatus", kstatus), ("argocd", argocd), ("flux", flux)] {
            if said[tool]["status"] != **word {
                wrong.push(format!("{name}: {tool} says {}, not {word}", said[tool]));
            }
        }
        ensure!(said["argocd"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{name}: Argo CD shows no message");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, words) in TOLD_BY_ARGO_CD {
        let message = verdict(name).and_then(|said| said["argocd"]["message"].as_str()).unwrap_or_default();
        ensure!(message.contains(words), "{name}: {message:?} does not say {words:?}");
    }
    Ok(())
}

/// A status of an older version, or a missing status, breaks no script.
#[test]
fn tools_wait_for_an_object_without_any_status() -> Result<()> {
    let mut object = recorded()?.into_iter().find(|(name, _)| name == "binding-ready").context("a binding")?.1;
    object["status"] = serde_json::json!({});
    let said = judge(&[object.clone()])?.remove(0);
    assert_eq!(said["argocd"]["status"], "Progressing", "{said}");
    assert_eq!(said["flux"]["status"], "InProgress", "{said}");
    object.as_object_mut().context("an object")?.remove("status");
    let said = judge(&[object])?.remove(0);
    assert_eq!(said["argocd"]["status"], "Progressing");
    // The expressions fail on such an object; Flux keeps checking it.
    assert_eq!(said["flux"]["status"], "Error");
    Ok(())
}

/// The ConfigMap contains the script once for each kind, because Argo CD's keys have no wildcard.
#[test]
fn checked_in_health_script_is_in_the_config_map_of_argo_cd() -> Result<()> {
    let script = std::fs::read_to_string(shipped("argocd/health.lua"))?;
    let mut text = "# health.lua for all kinds, generated by `make generate`. It adds three keys to the ConfigMap of Argo CD:
#   kubectl --namespace argocd apply --server-side --filename argocd-cm.yaml
# If the chart of Argo CD manages that ConfigMap, put the keys into its configs.cm instead.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
data:
"
    .to_owned();
    for kind in ["GitProviderConnection", "ConnectionGrant", "RepoBinding"] {
        writeln!(text, "  resource.customizations.health.forgebind.dev_{kind}: |")?;
        for line in script.lines() {
            let line = format!("    {line}");
            writeln!(text, "{}", line.trim_end())?;
        }
    }
    compare(&shipped("argocd/argocd-cm.yaml"), &text)?;
    let parsed: Value = serde_saphyr::from_str(&text)?;
    assert_eq!(parsed["data"]["resource.customizations.health.forgebind.dev_RepoBinding"], script);
    Ok(())
}
