//! `forgebind check`, run as people and their CI run it: the real binary over manifests, a real Gitea behind a proxy that
//! counts, and a real API server behind another one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use forgebind::check::schema::Schema;
use serde_json::{Value, json};

use crate::deliveries::install_key;
use crate::support::control_plane::ADMIN_TOKEN;
use crate::support::fault_proxy::{Exchange, FaultProxy};
use crate::support::gitea::{Account, Gitea, OPERATOR_SCOPES};
use crate::support::operator::Operator;
use crate::support::scratch::Scratch;
use crate::support::shared;
use crate::world::{CONNECTION, SOON, World};

const PUBLIC_URL: &str = "https://hooks.acme.test";
const OWN_SECRET: &str = "a-secret-that-somebody-else-knows";

/// What a check printed and how it ended.
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

/// The row of an object.
fn row<'a>(result: &'a Value, name: &str) -> &'a Value {
    let rows = result["objects"].as_array().expect("objects");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:#?}"))
}

/// The outcome of an object and its reason, with what would be done.
fn told(result: &Value, name: &str) -> String {
    let row = row(result, name);
    let actions: Vec<&str> = row["actions"].as_array().expect("actions").iter().filter_map(|action| action["action"].as_str()).collect();
    format!("{} {} [{}]", row["outcome"].as_str().unwrap_or("?"), row["reason"].as_str().unwrap_or("-"), actions.join(" "))
}

/// What a finding of an object says, by its reason.
fn message(result: &Value, name: &str, reason: &str) -> String {
    let findings = row(result, name)["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["reason"] == reason).unwrap_or_else(|| panic!("no {reason} in {findings:#?}"));
    assert!(found["remedy"].as_str().is_some_and(|remedy| remedy.len() > 10), "every reason has its remedy: {found}");
    found["message"].as_str().unwrap_or_default().to_owned()
}

/// A Gitea with an organization and a repository, and a proxy before it that counts.
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

    /// Writes manifests as one stream and answers the file.
    fn file(&self, objects: &[Value]) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{}.yaml", Gitea::unique_name("manifests")));
        std::fs::write(&path, stream(objects))?;
        Ok(path)
    }

    /// Checks manifests, and proves that nothing was written.
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
    json!({"apiVersion": "forgebind.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
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
    objects.iter().map(|object| format!("---\n{object:#}\n")).collect()
}

/// Runs a check without the settings of whoever runs the tests.
async fn run(flags: &[&str], environment: &[(&str, &str)], input: &str) -> Result<Checked> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forgebind"));
    command.args(["check", "--allow-insecure-http", "--allow-cidrs", "127.0.0.0/8"]).args(flags);
    command.env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    // The proxy serves on this runtime meanwhile.
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            std::io::Write::write_all(&mut pipe, input.as_bytes())?;
        }
        child.wait_with_output()
    })
    .await??;
    Ok(Checked {
        code: output.status.code().context("it was killed")?,
        text: String::from_utf8(output.stdout)?,
        complaint: String::from_utf8(output.stderr)?,
    })
}

#[tokio::test]
async fn a_hook_that_would_be_created_is_told_in_an_aligned_table() -> Result<()> {
    let bench = Bench::new().await?;
    let objects = [
        bench.secret(),
        bench.connection(json!({})),
        bench.binding("shop", json!({"webhook": {"events": ["Push"]}, "branch": "main"})),
        bench.binding("access-only", json!({})),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"}}),
    ];
    let checked = bench.check(&objects, &[]).await?;
    let repository = bench.repository();
    let expected = format!(
        "\
KIND         NAMESPACE   NAME          READY   REASON      PLAN
connection   platform    gitea         True    Succeeded   -
binding      platform    access-only   True    Succeeded   -
binding      platform    shop          True    Succeeded   create

WOULD BE DONE AT THE PROVIDERS
  create   platform/shop   {repository}   there is none

Note: without --install-key-file, hooks that Forgebind made before are not recognised as its own.

1 connection, 2 bindings: nothing stands against their becoming Ready. Plan: create. Not checked: 1 object of other kinds \
         (Deployment.apps).
"
    );
    assert_eq!(checked.text, expected);
    assert_eq!((checked.code, checked.complaint.as_str()), (0, ""));
    assert!(bench.proxy.count(|exchange| exchange.path.ends_with("/hooks?limit=50&page=1") || exchange.path.contains("/hooks")) > 0);
    Ok(())
}

#[tokio::test]
async fn what_would_not_become_ready_is_told_with_condition_reason_and_remedy() -> Result<()> {
    let bench = Bench::new().await?;
    let repository = bench.repository();
    let grant = json!([
        {"namespaces": {"from": "Same"}},
        {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}, "repositories": [format!("{}/shop*", bench.organization)]},
    ]);
    let namespace =
        |name: &str, team: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}});
    let objects = [
        bench.secret(),
        bench.connection(json!({"allowedBindings": grant})),
        namespace("team-shop", "shop"),
        namespace("team-cart", "cart"),
        bench.binding("good", json!({"branch": "main"})),
        bench.binding("branch-missing", json!({"branch": "mian"})),
        bench.binding("repository-missing", json!({"repository": format!("{}/chop", bench.organization)})),
        bench.binding("out-of-scope", json!({"repository": "somebody-else/shop"})),
        bench.binding("elsewhere", json!({"repository": format!("https://git.elsewhere.test/{repository}.git")})),
        bench.binding("suspended", json!({"suspend": true})),
        bench.binding("no-connection", json!({"connectionRef": {"name": "nobody"}})),
        bench.binding("sink", json!({"webhook": {}, "sinks": [{"name": "ci", "http": {"url": "https://ci.acme.test"}}]})),
        bench.binding_in("team-shop", "granted", json!({})),
        bench.binding_in("team-cart", "not-granted", json!({})),
        bench.binding_in("team-nowhere", "labels-unknown", json!({})),
    ];
    let checked = bench.check(&objects, &["-o", "json"]).await?;
    let result = checked.json()?;
    for (name, expected) in [
        ("gitea", "Ready Succeeded []"),
        ("good", "Ready Succeeded []"),
        ("branch-missing", "NotReady BranchNotFound []"),
        ("repository-missing", "NotReady NotFoundOrHidden []"),
        ("out-of-scope", "NotReady OutOfScope []"),
        ("elsewhere", "NotReady OutOfScope []"),
        ("suspended", "Suspended Suspended []"),
        ("no-connection", "NotReady ConnectionNotFound []"),
        ("sink", "NotReady SinkNotAllowed [CreateHook]"),
        ("granted", "Ready Succeeded []"),
        ("not-granted", "NotReady RefNotPermitted []"),
        ("labels-unknown", "Unknown Progressing []"),
    ] {
        assert_eq!(told(&result, name), expected, "{name}: {:#}", row(&result, name));
    }
    assert_eq!((checked.code, result["ok"].as_bool(), result["version"].as_u64()), (1, Some(false), Some(1)));
    assert_eq!(message(&result, "branch-missing", "BranchNotFound"), format!("{repository} has no branch mian"));
    let finding = &row(&result, "branch-missing")["findings"][0];
    assert_eq!((finding["level"].as_str(), finding["condition"].as_str()), (Some("error"), Some("RepositoryFound")));
    assert!(finding["file"].as_str().is_some_and(|file| file.ends_with(".yaml")) && finding["line"].as_u64() > Some(10), "{finding}");
    let hint = |name: &str| row(&result, name)["findings"][0]["hint"].as_str().unwrap_or_default().to_owned();
    assert!(hint("no-connection").contains("platform/nobody is not among the manifests"), "{}", hint("no-connection"));
    assert!(hint("labels-unknown").contains("labels of namespace team-nowhere"), "{}", hint("labels-unknown"));
    assert!(hint("sink").contains("flags"), "{}", hint("sink"));

    let table = bench.check(&objects, &[]).await?;
    for expected in [
        "binding      platform       branch-missing       False       BranchNotFound       -\n",
        &format!(
            "         BranchNotFound: {repository} has no branch mian\n         What to do: Correct `branch`, remove it, or push the branch"
        ),
        "1 connection, 11 bindings: 8 would not become Ready.",
    ] {
        assert!(table.text.contains(expected), "{expected:?} is not in\n{}", table.text);
    }
    assert!(!table.text.contains('\u{1b}'), "no colours where there is no terminal");
    Ok(())
}

#[tokio::test]
async fn credentials_are_judged_and_come_from_secrets_or_the_environment() -> Result<()> {
    let bench = Bench::new().await?;
    let binding = bench.binding("shop", json!({"webhook": {}}));
    let wrong =
        [secret("platform", "credential", "0123456789012345678901234567890123456789"), bench.connection(json!({})), binding.clone()];
    let checked = bench.check(&wrong, &["-o", "json"]).await?;
    let result = checked.json()?;
    assert_eq!(told(&result, "gitea"), "NotReady CredentialRejected []");
    assert_eq!(told(&result, "shop"), "NotReady ConnectionNotReady []");
    assert_eq!(checked.code, 1);
    assert!(!checked.text.contains("0123456789012345678901234567890123456789"));

    let reader = bench.gitea.create_token(&bench.account, "reader", &["read:repository", "read:user"]).await?;
    let weak = [secret("platform", "credential", &reader), bench.connection(json!({})), binding.clone()];
    let result = bench.check_json(&weak).await?;
    assert_eq!(told(&result, "gitea"), "NotReady PermissionMissing []");
    assert_eq!(told(&result, "shop"), "NotReady PermissionMissing []");
    let missing = message(&result, "shop", "PermissionMissing");
    assert!(missing.contains("ManageWebhooks") && missing.contains("write:repository"), "{missing}");

    // Not in Git at all: a Secret of another kind, then none; and a variable stands in.
    let without = [bench.connection(json!({})), binding];
    let result = bench.check_json(&without).await?;
    assert_eq!(told(&result, "gitea"), "NotReady SecretNotFound []");
    assert!(row(&result, "gitea")["findings"][0]["hint"].as_str().is_some_and(|hint| hint.contains("--token-env")), "{result:#}");
    let file = bench.file(&without)?;
    let file = file.to_str().context("a path")?;
    for named in ["TOKEN", "gitea=TOKEN", "platform/gitea=TOKEN"] {
        let flags = ["-f", file, "--public-url", PUBLIC_URL, "-o", "json", "--token-env", named];
        let checked = run(&flags, &[("TOKEN", &bench.account.token)], "").await?;
        assert_eq!((told(&checked.json()?, "shop").as_str(), checked.code), ("Ready Succeeded [CreateHook]", 0), "{named}: {checked:?}");
        assert!(!checked.text.contains(&bench.account.token) && !checked.complaint.contains(&bench.account.token));
    }
    for (named, complaint) in [("NOT_SET", "NOT_SET is not set"), ("elsewhere/gitea=TOKEN", "there is no connection elsewhere/gitea")] {
        let checked = run(&["-f", file, "--token-env", named], &[("TOKEN", &bench.account.token)], "").await?;
        assert!(checked.code == 2 && checked.complaint.contains(complaint), "{checked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn input_comes_from_standard_input_files_directories_and_lists_and_is_refused_with_its_line() -> Result<()> {
    let bench = Bench::new().await?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [bench.secret(), bench.connection(json!({}))]});
    let folder = bench.folder.path().join("deep/er");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("list.yaml"), list.to_string())?;
    let text = stream(&[bench.binding("shop", json!({}))]);
    let folder = bench.folder.path().join("deep");
    let folder = folder.to_str().context("a path")?;
    let checked = run(&["-f", folder, "-f", "-", "-o", "json"], &[], &text).await?;
    let result = checked.json()?;
    assert_eq!((told(&result, "shop").as_str(), row(&result, "shop")["file"].as_str()), ("Ready Succeeded []", Some("-")), "{checked:?}");

    for (flags, input, complaint) in [
        (
            &["-f", "-"][..],
            "kind: RepoBinding\napiVersion: forgebind.dev/v1alpha1\nspec:\n  webhook: {events: [Push\n",
            "forgebind: -:4: no YAML",
        ),
        (&["-f", "-"], "a: b\n", "-:1: no manifest: it needs apiVersion and kind"),
        (&["-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "nothing to check"),
        (&["-f", "/no/such/file"], "", "/no/such/file: "),
        (&["-f", "-", "--public-url", "hooks"], "", "--public-url: "),
        (&["-f", "-", "--install-key-file", "/no/such/key"], "", "--install-key-file: "),
        (&[], "", "--filename"),
        (
            &["-f", "-"],
            "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {token: canary!}\n",
            "-:1: Secret x has a field of the wrong form",
        ),
    ] {
        let checked = run(flags, &[], input).await?;
        assert!(checked.code == 2 && checked.text.is_empty() && checked.complaint.contains(complaint), "{complaint}: {checked:?}");
        assert!(!checked.complaint.contains("canary"), "{checked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn offline_judges_the_manifests_alone_and_asks_nobody() -> Result<()> {
    let bench = Bench::new().await?;
    let mut misspelt = bench.binding("misspelt", json!({"webhook": {"events": ["Psuh"]}}));
    misspelt["spec"]["conectionRef"] = misspelt["spec"]["connectionRef"].take();
    misspelt["spec"].as_object_mut().context("a spec")?.remove("connectionRef");
    let two_kinds = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "two-kinds", "namespace": "platform"},
        "stringData": {"token": "canary-of-a-token", "password": "canary-of-a-password"},
    });
    let ambiguous = object(
        "GitProviderConnection",
        "platform",
        "ambiguous",
        json!({"provider": {"gitea": {"url": bench.proxy.url(), "organization": "acme"}}, "credentials": {"secretRef": {"name": "two-kinds"}}}),
    );
    let objects = [
        bench.connection(json!({})),
        ambiguous,
        two_kinds,
        bench.binding("good", json!({"webhook": {}})),
        bench.binding("path", json!({"repository": "no-path"})),
        bench.binding("refused", json!({"webhook": {"url": "https://ci.acme.test"}})),
        bench.binding("twice", json!({})),
        bench.binding("twice", json!({})),
        misspelt,
        object("RepoBindings", "platform", "plural", json!({})),
    ];
    let checked = bench.check(&objects, &["--offline", "-o", "json"]).await?;
    let result = checked.json()?;
    for (name, expected) in [
        ("gitea", "NotAsked - []"),
        ("good", "NotAsked - []"),
        ("ambiguous", "NotReady SecretInvalid []"),
        ("path", "NotReady NotFoundOrHidden []"),
        ("refused", "NotReady InvalidObject []"),
        ("misspelt", "NotReady InvalidObject []"),
        ("plural", "NotReady InvalidObject []"),
    ] {
        assert_eq!(told(&result, name), expected, "{name}: {:#}", row(&result, name));
    }
    assert_eq!(checked.code, 1);
    let said = checked.text.as_str();
    for expected in [
        "webhook.url needs webhook.secretRef",
        "spec.conectionRef: there is no such field; did you mean connectionRef?",
        "did you mean Push?",
        "did you mean RepoBinding?",
        "is there already, at ",
        "two kinds of credential, password and token",
        "Secret credential is not among the manifests and was taken as right",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    assert!(!said.contains("canary"), "{said}");
    assert_eq!(bench.proxy.exchanges().len(), 0, "nobody was asked");

    let good = bench.check(&[bench.connection(json!({})), bench.binding("good", json!({"webhook": {}}))], &["--offline"]).await?;
    assert!(
        good.code == 0 && good.text.ends_with("1 connection, 1 binding: the manifests are in order; no provider was asked.\n"),
        "{good:?}"
    );
    assert_eq!(bench.proxy.exchanges().len(), 0, "nobody was asked");
    Ok(())
}

#[tokio::test]
async fn a_foreign_hook_with_the_same_url_is_named_and_adopted_only_when_asked() -> Result<()> {
    let bench = Bench::new().await?;
    let url = "https://argocd.acme.test/api/webhook";
    let id = bench.gitea.create_hook(&bench.repository(), url, &["push"]).await?;
    let spec = |adopt: bool| json!({"webhook": {"events": ["Push"], "url": url, "secretRef": {"name": "own"}, "adopt": adopt}});
    let connection =
        bench.connection(json!({"allowedBindings": [{"namespaces": {"from": "Same"}, "destinationHosts": ["argocd.acme.test"]}]}));
    let own = secret("platform", "own", OWN_SECRET);
    for (adopt, expected) in [(false, "NotReady ForeignHook []"), (true, "Ready Succeeded [AdoptHook]")] {
        let objects = [bench.secret(), own.clone(), connection.clone(), bench.binding("shop", spec(adopt))];
        let result = bench.check_json(&objects).await?;
        assert_eq!(told(&result, "shop"), expected, "{result:#}");
        assert!(result.to_string().contains(&format!("hook {id}")), "{result:#}");
        assert!(!result.to_string().contains(OWN_SECRET));
    }
    // One that somebody else will make from what is sealed in Git is taken as there.
    let sealed =
        json!({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "own", "namespace": "platform"}});
    let objects = [bench.secret(), sealed, connection.clone(), bench.binding("shop", spec(true))];
    assert_eq!(told(&bench.check_json(&objects).await?, "shop"), "Ready Succeeded [AdoptHook]");
    let objects = [bench.secret(), connection, bench.binding("shop", spec(true))];
    assert_eq!(told(&bench.check_json(&objects).await?, "shop"), "NotReady SecretNotFound []");
    assert_eq!(bench.gitea.hooks(&bench.repository()).await?.len(), 1);
    Ok(())
}

/// A world with a binding that an operator made Ready and then left alone.
async fn settled(name: &str) -> Result<(World, FaultProxy, Operator, Vec<u8>)> {
    let world = World::new(name).await?;
    let proxy = FaultProxy::before_gitea(world.gitea).await?;
    let operator = world.operator().await?;
    world.create_connection(world.connection_spec_at(&proxy.url())).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    world.binding_ready("shop").await?;
    let key = install_key(&world, &operator).await?;
    operator.terminate(SOON).await?;
    proxy.forget();
    Ok((world, proxy, operator, key))
}

#[tokio::test]
async fn our_own_hook_is_recognised_by_the_install_key_and_its_drift_is_told() -> Result<()> {
    let (world, proxy, operator, key) = settled("check-own").await?;
    let folder = Scratch::new("check-own")?;
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, &key)?;
    let key_file = key_file.to_str().context("a path")?;
    let objects = [
        secret(&world.namespace, "credential", &world.account.token),
        object("GitProviderConnection", &world.namespace, CONNECTION, world.connection_spec_at(&proxy.url())),
        object("RepoBinding", &world.namespace, "shop", world.binding_spec()),
    ];
    let (url, text) = (operator.url(), stream(&objects));
    let flags = ["-f", "-", "-o", "json", "--public-url", &url];
    let with_key = [&flags[..], &["--install-key-file", key_file]].concat();
    let result = run(&with_key, &[], &text).await?.json()?;
    assert_eq!(told(&result, "shop"), "Ready Succeeded []", "{result:#}");

    let unknown = run(&flags, &[], &text).await?;
    assert_eq!(told(&unknown.json()?, "shop"), "Ready Succeeded [CreateHook]");
    assert!(
        unknown.text.contains("looks like Forgebind's and may be this binding's own; --install-key-file would tell"),
        "{}",
        unknown.text
    );

    let hook = world.hooks_at(&url).await?.remove(0);
    world.gitea.edit_hook(&world.repository, hook.id, &json!({"active": true, "events": ["issues"]})).await?;
    let shown = async || anyhow::Ok(world.hooks_at(&url).await?.remove(0).events.into_iter().collect::<BTreeSet<_>>());
    let drifted = shown().await?;
    let result = run(&with_key, &[], &text).await?.json()?;
    assert_eq!(told(&result, "shop"), "Ready Succeeded [UpdateHook]");
    let action = &row(&result, "shop")["actions"][0];
    assert_eq!(action["target"], format!("{} hook {}", world.repository, hook.id));
    assert!(action["reason"].as_str().is_some_and(|reason| reason.contains("differs in") && reason.contains("events")), "{action}");
    assert_eq!(proxy.count(Exchange::is_write), 0, "{:?}", proxy.exchanges());
    assert_eq!(shown().await?, drifted, "the hook was left as it is");
    Ok(())
}

#[tokio::test]
async fn a_live_cluster_is_read_and_never_written_to() -> Result<()> {
    let (world, proxy, operator, _) = settled("check-live").await?;
    let before = serde_json::to_value((world.bindings.get("shop").await?, world.connections.get(CONNECTION).await?))?;
    let api = FaultProxy::before_control_plane(world.plane).await?;
    let kubeconfig = world.plane.kubeconfig_for("check", ADMIN_TOKEN, Some(&api.url()))?;
    let environment = [("KUBECONFIG", kubeconfig.to_str().context("a path")?)];
    let url = operator.url();
    let flags = ["--from-cluster", "-o", "json", "--public-url", &url, "--namespace", operator.options().namespace()];
    let resolve = world.sink.resolve(crate::world::SINK, &world.namespace);
    let flags = [&flags[..], &["--watch-namespaces", &world.namespace, "--resolve", &resolve]].concat();
    let checked = run(&flags, &environment, "").await?;
    let result = checked.json()?;
    assert_eq!(
        (told(&result, "shop").as_str(), told(&result, CONNECTION).as_str()),
        ("Ready Succeeded []", "Ready Succeeded []"),
        "{result:#}"
    );
    assert_eq!((checked.code, result["notes"].as_array().map(Vec::len)), (0, Some(0)), "{result:#}");

    // What a change in Git would do there: the spec of the manifest on the status of the cluster.
    let mut changed = world.binding_spec();
    changed["webhook"]["events"] = json!(["Push", "PullRequest"]);
    let overlay = [
        object("RepoBinding", &world.namespace, "shop", changed),
        object(
            "RepoBinding",
            &world.namespace,
            "new",
            json!({"connectionRef": {"name": CONNECTION}, "repository": world.repository, "branch": "mian"}),
        ),
    ];
    let with_manifests = [&flags[..], &["-f", "-"]].concat();
    let result = run(&with_manifests, &environment, &stream(&overlay)).await?.json()?;
    assert_eq!(told(&result, "shop"), "Ready Succeeded [UpdateHook]", "{result:#}");
    assert_eq!(told(&result, "new"), "NotReady BranchNotFound []");
    let mut moved = world.connection_spec_at(&proxy.url());
    moved["provider"]["gitea"]["organization"] = json!("another");
    let moved = object("GitProviderConnection", &world.namespace, CONNECTION, moved);
    let result = run(&with_manifests, &environment, &stream(&[moved])).await?.json()?;
    assert!(result.to_string().contains("spec.provider cannot change"), "{result:#}");

    assert!(api.count(|exchange| exchange.path.contains("/repobindings")) > 0, "it was read through the proxy");
    assert_eq!(api.count(Exchange::is_write), 0, "{:?}", api.exchanges());
    assert_eq!(proxy.count(Exchange::is_write), 0, "{:?}", proxy.exchanges());
    let after = serde_json::to_value((world.bindings.get("shop").await?, world.connections.get(CONNECTION).await?))?;
    assert_eq!(after, before);
    let nowhere = run(&["--from-cluster"], &[("KUBECONFIG", "/no/such/kubeconfig")], "").await?;
    assert!(nowhere.code == 2 && nowhere.complaint.contains("--from-cluster: no cluster"), "{nowhere:?}");
    Ok(())
}

/// What the offline judgement says of a spec.
pub fn judged_offline(kind: &str, spec: &Value) -> Vec<String> {
    let mut object = object(kind, "default", "case", spec.clone());
    let schema = Schema::of(kind).expect("a kind of ours");
    schema.judge(&mut object).into_iter().map(|violation| violation.message).collect()
}
