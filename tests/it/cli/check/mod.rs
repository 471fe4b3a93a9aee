//! `forgebind check` as people and their CI run it: the real binary over manifests, a real Gitea behind a proxy that counts
//! requests, and a real API server behind another one.

mod cluster;
mod input;
mod providers;
mod simulated;
mod spelling;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use testkit::fault_proxy::{Exchange, FaultProxy};
use testkit::gitea::{Account, Gitea, OPERATOR_SCOPES};
use testkit::scratch::Scratch;
use testkit::shared;

const PUBLIC_URL: &str = "https://hooks.acme.test";

/// The output of a check and its exit code.
#[derive(Debug)]
struct Checked {
    code: i32,
    text: String,
    complaint: String,
}

impl Checked {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{self:?}"))
    }
}

fn row<'a>(result: &'a Value, name: &str) -> &'a Value {
    let rows = result["objects"].as_array().expect("objects");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:#?}"))
}

/// The outcome of an object, its reason, and the planned actions.
fn told(result: &Value, name: &str) -> String {
    let row = row(result, name);
    let actions: Vec<&str> = row["actions"].as_array().expect("actions").iter().filter_map(|action| action["action"].as_str()).collect();
    format!("{} {} [{}]", row["outcome"].as_str().unwrap_or("?"), row["reason"].as_str().unwrap_or("-"), actions.join(" "))
}

/// The message of an object's finding with this reason.
fn message(result: &Value, name: &str, reason: &str) -> String {
    let findings = row(result, name)["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["reason"] == reason).unwrap_or_else(|| panic!("no {reason} in {findings:#?}"));
    assert!(found["remedy"].as_str().is_some_and(|remedy| remedy.len() > 10), "every reason has its remedy: {found}");
    found["message"].as_str().unwrap_or_default().to_owned()
}

/// A Gitea with an organization and a repository, and a counting proxy in front of it.
struct Bench {
    gitea: &'static Gitea,
    proxy: Arc<FaultProxy>,
    account: Account,
    organization: String,
    folder: Scratch,
}

impl Bench {
    async fn new() -> Result<Self> {
        let gitea = shared::gitea().await?;
        let account = gitea.create_user(&Gitea::unique_name("checker"), OPERATOR_SCOPES).await?;
        let organization = Gitea::unique_name("checked");
        gitea.create_organization(&account, &organization).await?;
        gitea.create_repository(&organization, "shop", false).await?;
        let proxy = Arc::new(FaultProxy::before_gitea(gitea).await?);
        Ok(Self { gitea, proxy, account, organization, folder: Scratch::new("check")? })
    }

    fn repository(&self) -> String {
        format!("{}/shop", self.organization)
    }

    fn connection(&self, spec: Value) -> Value {
        let mut whole = json!({
            "provider": {"gitea": {"url": self.proxy.url(), "organization": self.organization}},
            "credentials": {"secretRef": {"name": "credential"}},
        });
        merge(&mut whole, spec);
        object("GitProviderConnection", "platform", "gitea", whole)
    }

    fn binding(&self, name: &str, spec: Value) -> Value {
        self.binding_in("platform", name, spec)
    }

    fn binding_in(&self, namespace: &str, name: &str, spec: Value) -> Value {
        let reference = if namespace == "platform" { json!({"name": "gitea"}) } else { json!({"name": "gitea", "namespace": "platform"}) };
        let mut whole = json!({"connectionRef": reference, "repository": self.repository()});
        merge(&mut whole, spec);
        object("RepoBinding", namespace, name, whole)
    }

    fn secret(&self) -> Value {
        secret("platform", "credential", &self.account.token)
    }

    /// Writes manifests into one file and returns its path.
    fn file(&self, objects: &[Value]) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{}.yaml", Gitea::unique_name("manifests")));
        std::fs::write(&path, stream(objects))?;
        Ok(path)
    }

    /// Checks manifests, and asserts that nothing was written.
    async fn check(&self, objects: &[Value], flags: &[&str]) -> Result<Checked> {
        let file = self.file(objects)?;
        let file = file.to_str().context("a path")?;
        let flags = [&["-f", file, "--public-url", PUBLIC_URL], flags].concat();
        let checked = run(&flags, &[], "").await?;
        ensure!(self.proxy.count(Exchange::is_write) == 0, "a check wrote: {:?}", self.proxy.exchanges());
        ensure!(!checked.text.contains(&self.account.token), "a token was printed");
        Ok(checked)
    }

    async fn check_json(&self, objects: &[Value]) -> Result<Value> {
        self.check(objects, &["-o", "json"]).await?.json()
    }
}

fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "forgebind.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}});
    object["spec"] = spec;
    object
}

fn secret(namespace: &str, name: &str, token: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": {"token": token}})
}

fn merge(whole: &mut Value, part: Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.into_iter().for_each(|(key, value)| {
            whole.insert(key, value);
        }),
        (whole, part) => *whole = part,
    }
}

/// JSON is YAML.
fn stream(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object:#}\n")).collect::<Vec<_>>().concat()
}

/// Runs a check without the environment of the person who runs the tests.
async fn run(flags: &[&str], environment: &[(&str, &str)], input: &str) -> Result<Checked> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forgebind"));
    command.args(["check", "--allow-insecure-http", "--allow-cidrs", "127.0.0.0/8"]).args(flags);
    command.env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    // The proxy needs this runtime while the check runs.
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            std::io::Write::write_all(&mut pipe, input.as_bytes())?;
        }
        child.wait_with_output()
    })
    .await??;
    Ok(Checked {
        code: output.status.code().context("the check was killed")?,
        text: String::from_utf8(output.stdout)?,
        complaint: String::from_utf8(output.stderr)?,
    })
}
