//! `forgebind why`, `deliveries` and `redeliver` as a member of a team runs them: with the rights of a namespace, against a real
//! operator and a real Gitea.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::RepoBinding;
use forgebind::api::v1alpha1::deliveries::DeliveryOutcome;
use http::StatusCode;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::Value;

use testkit::operator::{Operator, executable};
use testkit::scratch::Scratch;
use testkit::sink::Behavior;
use testkit::test_env::{SOON, TestEnv};

/// Longer than the list of deliveries may be behind: a poll of the receivers and the pause between two writes.
const LISTED: Duration = Duration::from_secs(120);

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Answered {
    code: i32,
    text: String,
    complaint: String,
}

async fn run(program: &Path, arguments: &[&str], kubeconfig: &Path) -> Result<Answered> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("KUBECONFIG", kubeconfig);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(Answered {
        code: output.status.code().context("it was killed")?,
        text: String::from_utf8(output.stdout)?,
        complaint: String::from_utf8(output.stderr)?,
    })
}

/// The kubeconfig of a service account that may only get and list these kinds in its own namespace.
async fn member(env: &TestEnv, account: &str, resources: &[&str]) -> Result<PathBuf> {
    let client = env.cluster().client()?;
    let token = env.cluster().service_account_token(&env.namespace, account).await?;
    let metadata = ObjectMeta { name: Some(account.to_owned()), ..ObjectMeta::default() };
    let readable = PolicyRule {
        api_groups: Some(vec!["forgebind.dev".to_owned()]),
        resources: Some(resources.iter().map(|resource| (*resource).to_owned()).collect()),
        verbs: ["get", "list"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    let role = Role { metadata: metadata.clone(), rules: Some(vec![readable]) };
    Api::<Role>::namespaced(client.clone(), &env.namespace).create(&PostParams::default(), &role).await?;
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        namespace: Some(env.namespace.clone()),
        ..Subject::default()
    };
    let role_ref = RoleRef { api_group: "rbac.authorization.k8s.io".to_owned(), kind: "Role".to_owned(), name: account.to_owned() };
    let bound = RoleBinding { metadata, role_ref, subjects: Some(vec![subject]) };
    Api::<RoleBinding>::namespaced(client, &env.namespace).create(&PostParams::default(), &bound).await?;
    env.plane.kubeconfig_for(&format!("{}-{account}", env.namespace), &token, None)
}

fn outcome_of(binding: &RepoBinding, commit: &str) -> Option<DeliveryOutcome> {
    let recent = &binding.status.as_ref()?.recent_deliveries;
    recent.iter().find(|delivery| delivery.sha.as_deref() == Some(&commit[..8])).map(|delivery| delivery.outcome)
}

/// Waits until the delivery of a commit is listed with an outcome.
async fn listed(env: &TestEnv, commit: &str, outcome: DeliveryOutcome) -> Result<RepoBinding> {
    let what = format!("{commit} to be listed as {outcome:?}");
    env.binding_until("shop", &what, LISTED, |binding| outcome_of(binding, commit) == Some(outcome)).await
}

#[tokio::test]
async fn a_dead_letter_is_explained_to_a_member_of_the_namespace_and_sent_again_on_request() -> Result<()> {
    let env = TestEnv::new("why").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let forgebind = executable()?;
    let viewer = member(&env, "viewer", &["repobindings", "gitproviderconnections"]).await?;
    let narrow = member(&env, "narrow", &["repobindings"]).await?;
    let administrator = env.cluster().kubeconfig();
    let within = ["-n", env.namespace.as_str()];
    let why = async |kubeconfig: &Path, more: &[&str]| {
        run(&forgebind, &[&["why", &env.repository], &within[..], more].concat(), kubeconfig).await
    };

    let nothing_yet = why(&viewer, &[]).await?;
    assert_eq!(nothing_yet.code, 1, "{nothing_yet:?}");
    assert!(nothing_yet.text.contains("FAIL  delivery    no delivery has arrived yet"), "{}", nothing_yet.text);

    // The sink never accepts the first push and accepts the next one of the branch, so the first becomes a dead letter.
    env.sink.behave(Behavior::Fail(StatusCode::PAYLOAD_TOO_LARGE));
    let refused = env.push("too large for the sink").await?;
    env.binding_says("shop", "Delivering", "False/SinkFailing").await?;
    env.sink.behave(Behavior::Accept);
    let accepted = env.push("accepted").await?;
    env.sink.wait_for(1, SOON).await?;
    listed(&env, &refused, DeliveryOutcome::DeadLetter).await?;
    let fine = why(&viewer, &["--sha", &accepted]).await?;
    assert_eq!(fine.code, 0, "{fine:?}");
    assert!(fine.text.contains("ok    sink ci     accepted at ") && !fine.text.contains("Fix"), "{}", fine.text);
    let dead = why(&viewer, &["--sha", &refused[..7]]).await?;
    assert_eq!(dead.code, 1, "{dead:?}");
    let expected = format!("Fix (sink ci): Repair the sink, then: forgebind redeliver {}/shop", env.namespace);
    assert!(dead.text.contains("FAIL  sink ci     dead letter (answered 413)") && dead.text.contains(&expected), "{}", dead.text);
    let unseen = why(&viewer, &["--sha", "0000000000", "-o", "json"]).await?;
    let unseen_json: Value = serde_json::from_str(&unseen.text)?;
    assert_eq!(unseen.code, 1, "{unseen:?}");
    let links = unseen_json["bindings"][0]["links"].as_array().context("links")?;
    let delivery = links.iter().find(|link| link["link"] == "delivery").context("a link of the delivery")?;
    assert!(delivery["text"].as_str().is_some_and(|text| text.starts_with("no delivery with this commit")), "{delivery}");

    // What the caller may not read is no error.
    let without_connection = why(&narrow, &["--sha", &accepted]).await?;
    assert_eq!(without_connection.code, 0, "{without_connection:?}");
    assert!(without_connection.text.contains("works; the rest is not visible to you"), "{}", without_connection.text);
    let deliveries = run(&forgebind, &["deliveries", &format!("{}/shop", env.namespace)], &narrow).await?;
    assert_eq!(deliveries.code, 1, "a dead letter is listed: {deliveries:?}");
    assert!(
        deliveries.text.contains("ci: DeadLetter (answered 413)") && deliveries.text.contains("Note: you may not list"),
        "{deliveries:?}"
    );
    let elsewhere = run(&forgebind, &["why", "shop", "-n", "default"], &viewer).await?;
    assert!(elsewhere.code == 2 && elsewhere.complaint.contains("not visible to you"), "{elsewhere:?}");
    let unknown = run(&forgebind, &["why", "nobody/nothing", "-A"], administrator).await?;
    assert!(unknown.code == 2 && unknown.complaint.contains("no binding of \"nobody/nothing\""), "{unknown:?}");

    let binding = format!("{}/shop", env.namespace);
    let forbidden = run(&forgebind, &["redeliver", "shop", "-n", &env.namespace], &viewer).await?;
    assert!(forbidden.code == 2 && forbidden.complaint.contains("needs the right to patch repobindings"), "{forbidden:?}");
    let sent = run(&forgebind, &["redeliver", &binding, "--wait"], administrator).await?;
    assert!(sent.code == 0 && sent.text.contains(&format!("{binding}: sent again")), "{sent:?}");
    let events = env.sink.wait_for(2, SOON).await?;
    let commits: Vec<_> = events.iter().map(|event| event.json()["after"].as_str().unwrap_or_default().to_owned()).collect();
    ensure!(commits.contains(&refused) && commits.contains(&accepted), "{commits:?}");
    listed(&env, &refused, DeliveryOutcome::Accepted).await?;
    let healed = why(&viewer, &["--sha", &refused]).await?;
    assert_eq!(healed.code, 0, "{healed:?}");

    // Nobody answers any more: the request is not acknowledged, and the command says so.
    operator.kill();
    let unanswered = run(&forgebind, &["redeliver", &binding, "--wait", "--timeout", "3s"], administrator).await?;
    assert!(unanswered.code == 1 && unanswered.text.contains("not acknowledged in time"), "{unanswered:?}");
    Ok(())
}

#[tokio::test]
async fn the_binary_is_a_plugin_of_kubectl_by_its_name_and_has_completion_for_each_shell() -> Result<()> {
    let folder = Scratch::new("plugin")?;
    let plugin = folder.path().join("kubectl-forgebind");
    std::os::unix::fs::symlink(executable()?, &plugin)?;
    let nowhere = Path::new("/no/such/kubeconfig");
    let help = run(&plugin, &["why", "--help"], nowhere).await?;
    assert!(help.code == 0 && help.text.contains("Usage: kubectl forgebind why"), "{help:?}");
    let help = run(&executable()?, &["why", "--help"], nowhere).await?;
    assert!(help.text.contains("Usage: forgebind why"), "{help:?}");
    for shell in ["bash", "zsh", "fish"] {
        for (program, name) in [(&plugin, "kubectl-forgebind"), (&executable()?, "forgebind")] {
            let script = run(program, &["completion", shell], nowhere).await?;
            assert!(script.code == 0 && script.text.contains(name) && script.text.contains("redeliver"), "{shell}: {script:?}");
        }
    }
    let script = run(&executable()?, &["completion", "bash"], nowhere).await?;
    let path = folder.path().join("completion");
    std::fs::write(&path, script.text)?;
    let checked = Command::new("bash").arg("-n").arg(&path).status()?;
    assert!(checked.success(), "bash reads the script");
    for arguments in
        [&["why", "acme/shop", "--sha", "xyz"][..], &["why", "acme/shop"], &["why"], &["deliveries", "acme/shop", "--context", "x"]]
    {
        let failed = run(&executable()?, arguments, nowhere).await?;
        assert!(failed.code == 2 && !failed.complaint.is_empty(), "{arguments:?}: {failed:?}");
    }
    Ok(())
}
