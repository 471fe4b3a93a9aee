//! Deliveries on real parts: refused, accepted once, pending, filtered, and received during an outage.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::protocol::keys::{InstallKey, secret_text};
use http::{Method, StatusCode};
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use testkit::fault_proxy::FaultProxy;
use testkit::operator::{Operator, metric};
use testkit::plain_http;
use testkit::sink::{Behavior, SinkServer};
use testkit::test_env::{OVERLAPPED, SOON, TestEnv, binding_condition, binding_message, connection_condition, install_key};
use testkit::wait::{Seen, stays, wait_until};

/// The largest accepted body, in bytes.
const BODY_LIMIT: usize = 25 * 1024 * 1024;
/// Longer than any pause between two attempts at a provider that was unreachable.
const RECOVERED: Duration = Duration::from_secs(180);

/// Posts to the operator's receiver and returns the status and the text of the answer.
async fn post(url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<(StatusCode, String)> {
    let client = plain_http::client()?;
    let mut request = client.post(url).header("Content-Type", "application/json").body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await?;
    Ok((answer.status(), answer.text().await?))
}

fn signature(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// A push of the first repository as Gitea would send it, padded to a length.
fn push_body(repository_id: &str, repository: &str, commit: &str, length: usize) -> Result<Vec<u8>> {
    let mut value = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": commit, "filler": "",
        "repository": {"id": repository_id.parse::<i64>()?, "full_name": repository},
    });
    let missing = length.saturating_sub(serde_json::to_vec(&value)?.len());
    value["filler"] = json!("x".repeat(missing));
    Ok(serde_json::to_vec(&value)?)
}

#[tokio::test]
async fn bb_21_a_delivery_that_is_not_authentic_gets_the_right_status_code_and_reaches_no_sink() -> Result<()> {
    let env = TestEnv::new("refused").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let status = env.binding_ready("shop").await?.status.context("a status")?;
    let url = env.hooks_at(&operator.url()).await?.remove(0).config.url;
    let secret_version = url.rsplit('/').next().context("a secret version")?.to_owned();
    let key = InstallKey::new(&install_key(&env, &operator).await?)?.receiver();
    let secret = secret_text(&key.webhook_secret(env.hook_owner("shop"), &secret_version));
    let repository_id = status.repository.context("a repository")?.id;
    let body = |commit: &str, length| push_body(&repository_id, &env.repository, commit, length);
    let common = [("X-Gitea-Event", "push"), ("X-Gitea-Event-Type", "push")];
    let signed = |id: &'static str, signature: &str| {
        let owned: Vec<(String, String)> = common.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let more = [("X-Gitea-Delivery", id), ("X-Gitea-Signature", signature)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        owned.into_iter().chain(more).collect::<Vec<_>>()
    };
    let send = async |url: &str, headers: Vec<(String, String)>, body: Vec<u8>| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        post(url, &headers, body).await
    };

    let small = body("a", 0)?;
    let wrong = signature("a secret of somebody else", &small);
    let (status, text) = send(&url, signed("wrong", &wrong), small.clone()).await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a wrong signature is refused at once, even for a new hook");
    assert!(!text.contains(&wrong), "the answer does not repeat the wrong signature: {text}");
    let unsigned: Vec<_> = signed("none", "").into_iter().filter(|(name, _)| name != "X-Gitea-Signature").collect();
    assert_eq!(send(&url, unsigned, small.clone()).await?.0, StatusCode::UNAUTHORIZED, "no signature");
    let empty_key = signature("", &small);
    assert_eq!(send(&url, signed("empty", &empty_key), small.clone()).await?.0, StatusCode::UNAUTHORIZED, "signed with an empty key");
    let right = signature(secret.expose_secret(), &small);
    assert_eq!(send(&url, signed("changed", &right), body("b", 0)?).await?.0, StatusCode::UNAUTHORIZED, "another body");
    let mut stranger = url.clone();
    let position = url.rfind("/hooks/").context("a path")? + "/hooks/".len();
    stranger.replace_range(position..=position, if url[position..].starts_with('A') { "B" } else { "A" });
    for unknown in [stranger.as_str(), &format!("{}/", operator.url()), &format!("{}/hooks/x/1", operator.url())] {
        assert_eq!(send(unknown, signed("unknown", &right), small.clone()).await?.0, StatusCode::UNAUTHORIZED, "{unknown}");
    }
    let over = body("c", BODY_LIMIT + 1)?;
    assert_eq!(over.len(), BODY_LIMIT + 1);
    let proof = signature(secret.expose_secret(), &over);
    assert_eq!(send(&url, signed("over", &proof), over).await?.0, StatusCode::PAYLOAD_TOO_LARGE, "one byte above the limit");
    let status = plain_http::client()?.get(&url).send().await?.status();
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(env.sink.deliveries().is_empty(), "{:?}", env.sink.deliveries());
    env.binding_says("shop", "Receiving", "False/DeliveriesRefused").await?;

    // The receiver accepts an authentic delivery of the maximum size; one of another repository is accepted but reaches no sink.
    let at_cap = body("d", BODY_LIMIT)?;
    let proof = signature(secret.expose_secret(), &at_cap);
    assert_eq!(send(&url, signed("at-cap", &proof), at_cap).await?.0, StatusCode::OK);
    let foreign = push_body("999999", "somebody/else", "e", 0)?;
    let proof = signature(secret.expose_secret(), &foreign);
    assert_eq!(send(&url, signed("foreign", &proof), foreign).await?.0, StatusCode::OK);
    let events = env.sink.wait_for(1, SOON).await?;
    assert_eq!(events.iter().map(|event| event.json()["after"].clone()).collect::<Vec<_>>(), [json!("d")]);
    env.binding_says("shop", "Receiving", "True/Succeeded").await?;
    let metrics = operator.metrics().await?;
    for (reason, count) in [("proof_wrong", 3), ("proof_missing", 1), ("unknown_path", 3), ("body_too_large", 1), ("method", 1)] {
        let line = format!("forgebind_receiver_refusals_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&metrics, &line), count, "{reason}: {metrics}");
    }
    Ok(())
}

fn commits(sink: &SinkServer) -> Vec<String> {
    sink.accepted().iter().map(|event| event.json()["after"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until the receiver has answered every pushed delivery: `count` of them with this outcome.
async fn deliveries_counted(operator: &Operator, outcome: &str, count: u64) -> Result<()> {
    wait_until(&format!("{count} deliveries {outcome}"), SOON, async || {
        let metrics = operator.metrics().await?;
        let line = format!("forgebind_receiver_deliveries_total{{provider=\"gitea\",outcome=\"{outcome}\"}}");
        let seen = metric(&metrics, &line);
        let lines: Vec<_> = metrics.lines().filter(|line| line.starts_with("forgebind_receiver_deliveries_total")).collect();
        Ok(if seen >= count { Seen::Done(()) } else { Seen::NotYet(lines.join("; ")) })
    })
    .await
}

#[tokio::test]
async fn a_rotation_during_twenty_pushes_refuses_loses_and_repeats_none() -> Result<()> {
    let env = TestEnv::new("rotation").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let first = env.hooks_at(&operator.url()).await?;
    let mut pushed = Vec::new();
    let mut push = async |count: usize| -> Result<()> {
        for _ in 0..count {
            pushed.push(env.push(&format!("push {}", pushed.len())).await?);
        }
        Ok(())
    };
    push(4).await?;
    env.annotate_binding("shop", forgebind::api::v1alpha1::ROTATE_REQUESTED_AT, "under-load").await?;
    push(4).await?;
    wait_until("both hooks side by side", SOON, async || {
        let hooks = env.hooks_at(&operator.url()).await?;
        Ok(if hooks.len() == 2 { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    push(6).await?;
    wait_until("the old hook to be gone", OVERLAPPED, async || {
        let hooks = env.hooks_at(&operator.url()).await?;
        Ok(if hooks.len() == 1 && hooks[0].id != first[0].id { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    push(6).await?;
    env.sink.wait_for(20, SOON).await?;
    // The duplicates of the overlap arrived too and were recognised.
    deliveries_counted(&operator, "duplicate", 6).await?;
    let arrived = commits(&env.sink);
    assert_eq!(arrived.iter().collect::<BTreeSet<_>>(), pushed.iter().collect::<BTreeSet<_>>(), "none lost");
    assert_eq!(arrived.len(), 20, "none twice: {arrived:?}");
    assert_eq!(env.sink.deliveries().len(), 20);
    let metrics = operator.metrics().await?;
    assert_eq!(metric(&metrics, "forgebind_receiver_refusals_total"), 0, "{metrics}");
    let answered_200 = metric(&metrics, "forgebind_receiver_requests_total{code=\"200\"}");
    assert_eq!(metric(&metrics, "forgebind_receiver_requests_total"), answered_200, "{metrics}");
    eprintln!("figure: 20 pushes over a rotation: {answered_200} deliveries, all answered 200, 20 events");
    let binding = env.binding_ready("shop").await?;
    assert_ne!(binding_condition(&binding, "Receiving"), "False/DeliveriesRefused");
    Ok(())
}

fn sink_status(binding: &forgebind::api::v1alpha1::RepoBinding, name: &str) -> Value {
    let sinks = binding.status.as_ref().map(|status| status.sinks.clone()).unwrap_or_default();
    sinks.iter().find(|sink| sink.name == name).map(|sink| json!({"state": sink.state, "lastError": sink.last_error})).unwrap_or_default()
}

#[tokio::test]
async fn an_event_is_pending_while_its_sink_is_down_and_the_provider_gets_its_answer() -> Result<()> {
    let env = TestEnv::new("pending").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.sink.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
    let first = env.push("to a sink that is down").await?;
    let second = env.push("and another").await?;
    deliveries_counted(&operator, "pending", 2).await?;
    let metrics = operator.metrics().await?;
    assert_eq!(metric(&metrics, "forgebind_receiver_requests_total{code=\"202\"}"), 2, "{metrics}");
    assert_eq!(metric(&metrics, "forgebind_receiver_requests_total"), 2, "every answer to the provider was 2xx: {metrics}");
    let binding = env.binding_says("shop", "Delivering", "False/SinkFailing").await?;
    assert!(binding_message(&binding, "Delivering").contains("sink ci: answered 503"), "{}", binding_message(&binding, "Delivering"));
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded", "a sink that fails does not lower Ready");
    assert_eq!(env.sink.accepted().len(), 0);

    env.sink.behave(Behavior::Accept);
    env.sink.wait_for(2, SOON).await?;
    let binding = env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    assert_eq!(sink_status(&binding, "ci"), json!({"state": "Accepting", "lastError": null}));
    assert_eq!(commits(&env.sink), [first, second], "each once, in the order of their arrival");
    assert_eq!(metric(&operator.metrics().await?, "forgebind_receiver_pending_deliveries"), 0);
    Ok(())
}

#[tokio::test]
async fn one_failing_sink_does_not_delay_the_other() -> Result<()> {
    let env = TestEnv::new("two").await?;
    let other = SinkServer::start().await?;
    let resolve = format!("{},{}", env.sink.resolve("ci", &env.namespace), other.resolve("audit", &env.namespace));
    let operator = Operator::start(env.options().await?.with("resolve", &resolve)).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    let audit = json!({"name": "audit", "service": {"name": "audit", "port": other.port(), "path": "/log"}});
    spec["sinks"].as_array_mut().context("a list")?.push(audit);
    env.create_binding("shop", spec).await?;
    env.binding_ready("shop").await?;
    other.behave(Behavior::Hang);
    let commit = env.push("to one of two").await?;
    // The healthy sink has the event while the provider still waits for its answer.
    env.sink.wait_for(1, SOON).await?;
    deliveries_counted(&operator, "pending", 1).await?;
    let binding = env.binding_says("shop", "Delivering", "False/SinkFailing").await?;
    assert!(binding_message(&binding, "Delivering").contains("sink audit"), "{}", binding_message(&binding, "Delivering"));
    assert!(!binding_message(&binding, "Delivering").contains("sink ci"));
    assert_eq!(sink_status(&binding, "ci"), json!({"state": "Accepting", "lastError": null}));
    other.behave(Behavior::Accept);
    assert_eq!(other.wait_for(1, SOON).await?[0].path, "/log");
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    assert_eq!((commits(&env.sink), commits(&other)), (vec![commit.clone()], vec![commit]), "each has it once");
    Ok(())
}

#[tokio::test]
async fn df_22_a_push_to_another_branch_triggers_nothing_and_a_tag_arrives_as_a_tag() -> Result<()> {
    let env = TestEnv::new("branches").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["branch"] = json!("main");
    env.create_binding("shop", spec).await?;
    env.binding_ready("shop").await?;
    env.gitea.push_commit(&env.account, &env.repository, "dev", "not meant").await?;
    deliveries_counted(&operator, "unwanted", 1).await?;
    let commit = env.push("meant").await?;
    env.sink.wait_for(1, SOON).await?;
    assert_eq!(commits(&env.sink), [commit]);

    env.patch_binding("shop", json!({"spec": {"branch": null, "webhook": {"events": ["Tag"]}}})).await?;
    env.binding_ready("shop").await?;
    env.push("no tag").await?;
    deliveries_counted(&operator, "unwanted", 2).await?;
    env.gitea.push_tag(&env.account, &env.repository, "v1").await?;
    let event = env.sink.wait_for(2, SOON).await?.remove(1);
    assert_eq!((event.header("ce-type"), event.header("ce-subject")), ("dev.forgebind.tag", "refs/tags/v1"));
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_provider_leaves_bindings_ready_and_deliveries_accepted() -> Result<()> {
    let env = TestEnv::new("outage").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(env.options().await?).await?;
    let mut spec = env.connection_spec_at(&proxy.url());
    spec["interval"] = json!("10s");
    env.create_connection(spec).await?;
    let mut spec = env.binding_spec();
    spec["interval"] = json!("10s");
    env.create_binding("shop", spec).await?;
    env.binding_ready("shop").await?;
    let hooks = env.hooks_at(&operator.url()).await?;

    proxy.cut();
    let connection = env.connection_says("Reachable", "False/Unreachable").await?;
    assert_eq!(connection_condition(&connection, "Authenticated"), "True/Succeeded", "the known facts about the credential stay");
    env.binding_says("shop", "ConnectionReady", "Unknown/ConnectionUnreachable").await?;
    // Longer than both intervals: probes become due and fail.
    stays("the binding's Ready", Duration::from_secs(25), async || {
        let binding = env.bindings.get("shop").await?;
        let ready = binding_condition(&binding, "Ready");
        anyhow::ensure!(ready == "True/Succeeded", "Ready is {ready}: {}", binding_message(&binding, "Ready"));
        Ok(())
    })
    .await?;
    // Only the connection to the API is cut: deliveries that the provider still sends are accepted.
    let commit = env.push("through the outage").await?;
    env.sink.wait_for(1, SOON).await?;
    assert_eq!(commits(&env.sink), [commit]);

    proxy.restore();
    env.connection_until("reached again", RECOVERED, |connection| connection_condition(connection, "Ready") == "True/Succeeded").await?;
    env.binding_says("shop", "ConnectionReady", "True/Succeeded").await?;
    env.binding_ready("shop").await?;
    let now = env.hooks_at(&operator.url()).await?;
    assert_eq!(now.iter().map(|hook| hook.id).collect::<Vec<_>>(), hooks.iter().map(|hook| hook.id).collect::<Vec<_>>());
    assert_eq!(proxy.count(|exchange| exchange.method == Method::POST), 1, "only one hook was created");
    assert_eq!(metric(&operator.metrics().await?, "forgebind_receiver_refusals_total"), 0);
    Ok(())
}
