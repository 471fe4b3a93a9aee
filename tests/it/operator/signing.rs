//! What sinks name in Secrets and ConfigMaps, on real parts: signatures by Standard Webhooks, verified by the programs of the
//! guide, and certificate authorities.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::RepoBinding;
use forgebind::protocol::webhook_secrets;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use testkit::components::{output_of, repository_root};
use testkit::guides;
use testkit::operator::Operator;
use testkit::scratch::Scratch;
use testkit::sink::Delivery;
use testkit::test_env::{SOON, TestEnv, binding_condition, binding_message};
use testkit::tls_proxy::TlsProxy;
use testkit::wait::{Seen, wait_until};

/// Published with Standard Webhooks: a secret, an id, a time, a body and their signature.
const VECTOR: (&str, &str, i64, &str, &str) = (
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
    1_614_265_330,
    r#"{"test": 2432232314}"#,
    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
);

/// A main program for each verifier of the guide: arguments are the secret, the id, the time and the signature, and a file with
/// the body. It ends with an error unless the signature fits.
const GO: &str = r#"package main

import (
	"net/http"
	"os"
)

func main() {
	body, err := os.ReadFile(os.Args[5])
	if err != nil {
		panic(err)
	}
	header := http.Header{}
	header.Set("webhook-id", os.Args[2])
	header.Set("webhook-timestamp", os.Args[3])
	header.Set("webhook-signature", os.Args[4])
	if err := Verify(os.Args[1], header, body); err != nil {
		panic(err)
	}
}
"#;
const PYTHON: &str = r#"
import sys

headers = dict(zip(["webhook-id", "webhook-timestamp", "webhook-signature"], sys.argv[2:5]))
verify(sys.argv[1], headers, open(sys.argv[5], "rb").read())
"#;
const NODE: &str = r#"
import { readFileSync } from "node:fs";

const [secret, id, stamp, signature, body] = process.argv.slice(2);
const headers = { "webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": signature };
verify(secret, headers, readFileSync(body));
"#;

/// The verifiers of the guide, as programs.
struct Verifiers {
    folder: Scratch,
}

impl Verifiers {
    async fn build() -> Result<Self> {
        let page = std::fs::read_to_string(repository_root().join("src/docs/guide/deliver/sign-and-verify.md"))?;
        let (blocks, _) = guides::split(&page);
        let code = |language: &str| {
            let found: Vec<&String> = blocks.iter().filter(|(of, _)| of == language).map(|(_, text)| text).collect();
            ensure!(found.len() == 1, "the guide has {} blocks of {language}", found.len());
            Ok(found[0].clone())
        };
        let folder = Scratch::new("verifiers")?;
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text);
        write("verify.go", code("go")?.replace("package receiver", "package main"))?;
        write("main.go", GO.to_owned())?;
        write("verify.py", code("python")? + PYTHON)?;
        write("verify.mjs", code("js")? + NODE)?;
        let mut go = Command::new("go");
        go.current_dir(folder.path()).env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("GOWORK", "off");
        go.env("GOCACHE", std::env::temp_dir().join("forgebind-test-go-cache"));
        go.args(["build", "-o", "verify-go", "main.go", "verify.go"]);
        output_of(go).await?;
        Ok(Self { folder })
    }

    /// Runs every verifier. Returns the names of those that accept.
    async fn accepting(&self, secret: &str, (id, time, signature): (&str, &str, &str), body: &[u8]) -> Result<Vec<&'static str>> {
        let at = |name: &str| self.folder.path().join(name);
        std::fs::write(at("body"), body)?;
        let mut accepting = Vec::new();
        let programs: [(&str, &Path, Option<&str>); 3] = [
            ("go", &at("verify-go"), None),
            ("python", Path::new("python3"), Some("verify.py")),
            ("node", Path::new("node"), Some("verify.mjs")),
        ];
        for (language, program, script) in programs {
            let mut command = Command::new(program);
            command.args(script.map(at)).args([secret, id, time, signature]).arg(at("body"));
            match output_of(command).await {
                Ok(_) => accepting.push(language),
                Err(error) => ensure!(!format!("{error:#}").contains("cannot be started"), "{error:#}"),
            }
        }
        Ok(accepting)
    }

    async fn of(&self, secret: &str, event: &Delivery) -> Result<Vec<&'static str>> {
        let headers = (event.header("webhook-id"), event.header("webhook-timestamp"), event.header("webhook-signature"));
        self.accepting(secret, headers, &event.body).await
    }
}

const ALL: [&str; 3] = ["go", "python", "node"];

#[tokio::test]
async fn events_are_signed_by_standard_webhooks_as_the_verifiers_of_the_guide_confirm() -> Result<()> {
    let verifiers = Verifiers::build().await?;
    let env = TestEnv::new("signed").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["sinks"][0]["service"]["secretRef"] = json!({"name": "signing", "key": "webhook"});
    env.create_binding("shop", spec).await?;
    let binding = env.binding_says("shop", "Delivering", "False/SecretNotFound").await?;
    let message = binding_message(&binding, "Delivering");
    let named = format!("Secret {}/signing, which service.secretRef names", env.namespace);
    assert!(message.contains(&format!("{named}, does not exist; create it with the key webhook")), "{message}");
    assert_eq!(binding_condition(&binding, "Ready"), "False/SecretNotFound");
    assert_eq!(binding_condition(&binding, "Stalled"), "", "the Secret may be created later");
    env.push("nothing is sent unsigned").await?;
    let put = async |value: &str| env.cluster().apply_secret(&env.namespace, "signing", &[("webhook", value)]).await;
    put("whsec_canary!").await?;
    let other = |binding: &RepoBinding| {
        binding_condition(binding, "Delivering") == "False/SinkInvalid" && binding_message(binding, "Delivering").contains("must be base64")
    };
    let binding = env.binding_until("shop", "what is wrong with the key", SOON, other).await?;
    assert!(!binding_message(&binding, "Delivering").contains("canary"));
    assert_eq!(env.sink.deliveries().len(), 0);

    let first = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    put(first).await?;
    let event = env.sink.wait_for(1, SOON * 2).await?.remove(0);
    assert_eq!(event.header("webhook-id"), event.header("ce-id"));
    assert_eq!(verifiers.of(first, &event).await?, ALL);
    env.binding_ready("shop").await?;

    // A change of anything is noticed, and so is an old event: the published vector is years old.
    let second = "a plain text of 24 bytes or more";
    assert_eq!(verifiers.of(second, &event).await?, [""; 0]);
    let other_body = Delivery { body: "{}".into(), ..event.clone() };
    assert_eq!(verifiers.of(first, &other_body).await?, [""; 0]);
    let (secret, id, time, body, signature) = VECTOR;
    assert_eq!(verifiers.accepting(secret, (id, &time.to_string(), signature), body.as_bytes()).await?, [""; 0]);

    // A rotated Secret counts from the next attempt.
    put(second).await?;
    let mut count = 1;
    loop {
        env.push(&format!("signed anew {count}")).await?;
        count += 1;
        let event = env.sink.wait_for(count, SOON).await?.remove(count - 1);
        if verifiers.of(second, &event).await? == ALL {
            break;
        }
        assert_eq!(verifiers.of(first, &event).await?, ALL, "signed with the one or the other");
        ensure!(count < 30, "the new secret is never used");
    }

    // Without its Secret the sink's events wait again, and no copy of the key is left.
    env.cluster().kubectl(&["-n", &env.namespace, "delete", "secret", "signing"]).await?;
    env.binding_says("shop", "Delivering", "False/SecretNotFound").await?;
    let namespace = operator.options().namespace();
    let all = env
        .cluster()
        .kubectl(&["-n", namespace, "get", "secrets", "-o", "jsonpath={range .items[*]}{.metadata.name}={.data}{\"\\n\"}{end}"])
        .await?;
    let prepared: Vec<&str> = all.lines().filter(|line| line.starts_with("forgebind-receiver-secrets-")).collect();
    ensure!(prepared.len() == 1 && !prepared[0].contains(':'), "{} prepared Secrets, or a copy is left", prepared.len());
    env.push("waits").await?;
    operator.has_pending(1).await?;
    assert_eq!(env.sink.deliveries().len(), count, "nothing is sent unsigned");
    assert!(!operator.log().contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") && !operator.log().contains(second));
    Ok(())
}

#[tokio::test]
async fn an_endpoint_of_a_private_authority_gets_events_once_ca_ref_names_the_authority() -> Result<()> {
    let env = TestEnv::new("authority").await?;
    let proxy = TlsProxy::before(&format!("http://127.0.0.1:{}", env.sink.port())).await?;
    let options = env.options().await?.with("allow-sink-hosts", &format!("127.0.0.1:{}", proxy.port()));
    let _operator = Operator::start(options).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["sinks"][0] = json!({"name": "ci", "http": {"url": format!("{}/events", proxy.url())}});
    env.create_binding("shop", spec.clone()).await?;
    env.binding_ready("shop").await?;
    let commit = env.push("to an unknown authority").await?;
    let binding = env.binding_says("shop", "Delivering", "False/SinkFailing").await?;
    assert!(binding_message(&binding, "Delivering").contains("TLS handshake failed"), "{}", binding_message(&binding, "Delivering"));

    spec["sinks"][0]["http"]["caRef"] = json!({"name": "acme-ca", "key": "acme.pem"});
    env.patch_binding("shop", json!({"spec": {"sinks": spec["sinks"]}})).await?;
    let binding = env.binding_says("shop", "Delivering", "False/SecretNotFound").await?;
    let message = binding_message(&binding, "Delivering");
    assert!(message.contains(&format!("ConfigMap {}/acme-ca, which http.caRef names, does not exist", env.namespace)), "{message}");
    let maps: Api<ConfigMap> = Api::namespaced(env.cluster().client()?, &env.namespace);
    let data = BTreeMap::from([("acme.pem".to_owned(), proxy.authority_pem().to_owned())]);
    let metadata = kube::api::ObjectMeta { name: Some("acme-ca".to_owned()), ..Default::default() };
    maps.create(&PostParams::default(), &ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }).await?;
    let event = env.sink.wait_for(1, SOON * 2).await?.remove(0);
    assert_eq!((event.json()["after"].as_str().context("a commit")?, event.path.as_str()), (commit.as_str(), "/events"));
    assert_eq!(event.header("webhook-signature"), "", "without secretRef nothing is signed");
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    Ok(())
}

#[tokio::test]
async fn a_key_that_the_spec_dropped_while_nobody_led_is_withdrawn_by_the_next_leader() -> Result<()> {
    let env = TestEnv::new("left-key").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.cluster().apply_secret(&env.namespace, "signing", &[("secret", "a plain text of 24 bytes or more")]).await?;
    let mut spec = env.binding_spec();
    spec["sinks"][0]["service"]["secretRef"] = json!({"name": "signing"});
    env.create_binding("shop", spec).await?;
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    let uid = env.binding_ready("shop").await?.uid().context("a UID")?;
    let name = webhook_secrets::secret_name(webhook_secrets::shard(&uid));
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, operator.options().namespace());
    let holds = async || Ok::<_, anyhow::Error>(secrets.get(&name).await?.data.is_some_and(|data| data.contains_key(&uid)));
    assert!(holds().await?);

    assert!(operator.terminate(SOON).await?.success());
    env.patch_binding("shop", json!({"spec": {"sinks": env.binding_spec()["sinks"]}})).await?;
    operator.restart().await?;
    wait_until("the key to be withdrawn", SOON, async || {
        Ok(if holds().await? { Seen::NotYet("it is there".to_owned()) } else { Seen::Done(()) })
    })
    .await
}

#[tokio::test]
async fn a_sink_whose_key_has_no_room_holds_up_neither_the_webhook_nor_its_secret() -> Result<()> {
    let env = TestEnv::new("no-room").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let uid = env.binding_ready("shop").await?.uid().context("a UID")?;
    // Others have taken what sinks may take of this Secret.
    let name = webhook_secrets::secret_name(webhook_secrets::shard(&uid));
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, operator.options().namespace());
    let metadata = kube::api::ObjectMeta { name: Some(name.clone()), ..Default::default() };
    let data = BTreeMap::from([("others".to_owned(), k8s_openapi::ByteString(vec![b'x'; 750 * 1024]))]);
    secrets.create(&PostParams::default(), &Secret { metadata, data: Some(data), ..Secret::default() }).await?;

    env.cluster().apply_secret(&env.namespace, "signing", &[("secret", "a plain text of 24 bytes or more")]).await?;
    env.cluster().apply_secret(&env.namespace, "own", &[("secret", "a-good-secret-of-the-user-00001")]).await?;
    let mut spec = env.binding_spec();
    spec["webhook"]["secretRef"] = json!({"name": "own"});
    spec["sinks"][0]["service"]["secretRef"] = json!({"name": "signing"});
    env.patch_binding("shop", json!({"spec": spec})).await?;
    let binding = env.binding_says("shop", "Delivering", "False/SinkInvalid").await?;
    let message = binding_message(&binding, "Delivering");
    assert!(message.contains(&format!("no room for more of namespace {}", env.namespace)) && message.contains("caRef"), "{message}");
    let entry = async || {
        let secret = secrets.get(&name).await?;
        let entry = secret.data.and_then(|mut data| data.remove(&uid)).unwrap_or_default();
        Ok::<_, anyhow::Error>(webhook_secrets::UserSecrets::from_json(&entry.0).unwrap_or_default())
    };
    wait_until("the webhook secret to be prepared", SOON, async || {
        let entry = entry().await?;
        Ok(if entry.secrets.len() == 1 && entry.sinks.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{entry:?}")) })
    })
    .await?;
    env.binding_says("shop", "WebhookInSync", "True/Succeeded").await?;

    secrets.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"data": {"others": null}}))).await?;
    env.patch_binding("shop", json!({"metadata": {"annotations": {"forgebind.dev/reconcile-requested-at": "room"}}})).await?;
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;
    assert_eq!(entry().await?.sinks.len(), 1);
    env.push("signed").await?;
    assert!(env.sink.wait_for(1, SOON).await?[0].header("webhook-signature").starts_with("v1,"));
    Ok(())
}
