//! What the API server accepts and refuses, with the message that a user reads: every rule and every limit of all kinds.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::rules;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use testkit::samples;
use testkit::shared;
use testkit::test_namespace::{judged_offline, object, untyped};

/// Sets what `pointer` names in a copy of `base`; `null` removes it.
fn with(base: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = base.clone();
    let mut place = &mut changed;
    let (path, last) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    for step in path.split('/').skip(1) {
        place = match place {
            Value::Array(items) => items.get_mut(step.parse::<usize>().expect("an index")).expect("an item"),
            other => other.as_object_mut().expect("an object").entry(step).or_insert_with(|| json!({})),
        };
    }
    let place = place.as_object_mut().expect("an object");
    if value.is_null() {
        place.remove(last);
    } else {
        place.insert(last.to_owned(), value);
    }
    changed
}

/// Creates objects as a dry run and collects every answer that differs from the expected one.
struct Admission {
    api: Api<DynamicObject>,
    kind: &'static str,
    surprises: Vec<String>,
}

impl Admission {
    async fn of(kind: &'static str) -> Result<Self> {
        let client = shared::control_plane().await?.cluster().client()?;
        Ok(Self { api: untyped(client, "default", kind), kind, surprises: Vec::new() })
    }

    async fn answer(&self, spec: &Value) -> Result<Result<DynamicObject, String>> {
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        match self.api.create(&parameters, &object(self.kind, "case", spec)?).await {
            Ok(object) => Ok(Ok(object)),
            Err(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => Ok(Err(status.message.clone())),
            Err(other) => Err(other).context("the API server does not judge"),
        }
    }

    /// `forgebind check` must give the same result as the API server.
    fn compare_offline(&mut self, spec: &Value, refused: bool) {
        let said = judged_offline(self.kind, spec);
        if said.is_empty() == refused {
            self.surprises.push(format!("judged otherwise without an API server: {spec}\n    refused: {refused}, offline: {said:?}"));
        }
    }

    async fn admits(&mut self, spec: Value) -> Result<()> {
        self.compare_offline(&spec, false);
        if let Err(message) = self.answer(&spec).await? {
            self.surprises.push(format!("refused: {spec}\n    {message}"));
        }
        Ok(())
    }

    async fn refuses(&mut self, spec: Value, expected: &str) -> Result<()> {
        self.compare_offline(&spec, true);
        // Both sides use the same message of the rule.
        if rules::MESSAGES.contains(&expected) && !judged_offline(self.kind, &spec).iter().any(|said| said.contains(expected)) {
            self.surprises.push(format!("refused with other words without an API server: {spec}\n    expected {expected:?}"));
        }
        match self.answer(&spec).await? {
            Err(message) if message.contains(expected) => {}
            Err(message) => self.surprises.push(format!("refused with other words: {spec}\n    expected {expected:?}\n    {message}")),
            Ok(_) => self.surprises.push(format!("admitted: {spec}\n    expected {expected:?}")),
        }
        Ok(())
    }

    /// Checks that a text may have between `least` and `most` characters.
    async fn bounds_text(&mut self, base: &Value, pointer: &str, least: usize, most: usize) -> Result<()> {
        self.admits(with(base, pointer, json!("a".repeat(most)))).await?;
        self.refuses(with(base, pointer, json!("a".repeat(most + 1))), &too_long(pointer, most)).await?;
        if least > 0 {
            self.admits(with(base, pointer, json!("a".repeat(least)))).await?;
            self.refuses(with(base, pointer, json!("a".repeat(least - 1))), "should be at least").await?;
        }
        Ok(())
    }

    /// Checks that a list may have up to `most` items.
    async fn bounds_list(&mut self, base: &Value, pointer: &str, most: usize, item: impl Fn(usize) -> Value) -> Result<()> {
        self.admits(with(base, pointer, (0..most).map(&item).collect())).await?;
        self.refuses(with(base, pointer, (0..=most).map(&item).collect()), &format!("must have at most {most} items")).await
    }

    async fn refuses_duplicates(&mut self, base: &Value, pointer: &str, item: Value) -> Result<()> {
        self.refuses(with(base, pointer, json!([item.clone(), item])), "Duplicate value").await
    }

    fn verdict(self) -> Result<()> {
        anyhow::ensure!(self.surprises.is_empty(), "{} surprises:\n{}", self.surprises.len(), self.surprises.join("\n"));
        Ok(())
    }
}

fn too_long(pointer: &str, most: usize) -> String {
    let field = pointer.rsplit('/').next().unwrap_or_default();
    format!("{field}: Too long: may not be more than {most} bytes")
}

fn github() -> Value {
    json!({ "provider": { "github": { "organization": "acme" } } })
}

const URL_MESSAGE: &str = "must be an http or https URL without user name, query or fragment, like https://git.acme.io/path";

const HOOK_URL_MESSAGE: &str = "must be an http or https URL without user name or fragment, like https://ci.acme.io/hooks?job=shop";

/// Checks an address: the addresses of a connection have no query, an endpoint outside Forgebind may have one.
async fn judges_addresses(admission: &mut Admission, base: &Value, pointer: &str) -> Result<()> {
    judges_plain_addresses(admission, base, pointer, URL_MESSAGE).await?;
    for bad in ["https://git.acme.io?a=b", "https://git.acme.io/x?a=b"] {
        admission.refuses(with(base, pointer, json!(bad)), URL_MESSAGE).await?;
    }
    Ok(())
}

async fn judges_hook_addresses(admission: &mut Admission, base: &Value, pointer: &str) -> Result<()> {
    judges_plain_addresses(admission, base, pointer, HOOK_URL_MESSAGE).await?;
    for good in ["https://ci.acme.io?job=x", "https://ci.acme.io/hooks?job=a/b&token=%20y?z", "https://ci.acme.io/?", "http://ci/x?a@b"] {
        admission.admits(with(base, pointer, json!(good))).await?;
    }
    for bad in ["https://ci.acme.io?job=x#part", "https://ci.acme.io?job=a b", "https://user@ci.acme.io/?job=x"] {
        admission.refuses(with(base, pointer, json!(bad)), HOOK_URL_MESSAGE).await?;
    }
    Ok(())
}

async fn judges_plain_addresses(admission: &mut Admission, base: &Value, pointer: &str, message: &str) -> Result<()> {
    for good in ["https://git.acme.io", "http://127.0.0.1:3000/", "https://git.acme.io/gitlab/x", "https://[::1]:8443/a"] {
        admission.admits(with(base, pointer, json!(good))).await?;
    }
    let bad = ["", "git.acme.io", "ftp://git.acme.io", "https://", "https://user@git.acme.io", "https://a:b@git.acme.io/x"];
    for bad in bad.into_iter().chain(["https://git.acme.io/#a", "https://git acme.io", "https://git.acme.io/a\nb"]) {
        admission.refuses(with(base, pointer, json!(bad)), message).await?;
    }
    let long = |length: usize| json!(format!("https://a/{}", "a".repeat(length - 10)));
    admission.admits(with(base, pointer, long(2048))).await?;
    admission.refuses(with(base, pointer, long(2049)), &too_long(pointer, 2048)).await
}

async fn judges_durations(admission: &mut Admission, base: &Value, pointer: &str, too_short: Option<(&str, &str)>) -> Result<()> {
    for good in ["10m", "1h30m", "99999h99999m99999s", "3600s"] {
        admission.admits(with(base, pointer, json!(good))).await?;
    }
    for bad in ["", "5", "1d", "1.5h", "-1h", "1h1h1h1h", "100000h", " 1h"] {
        admission.refuses(with(base, pointer, json!(bad)), "should match").await?;
    }
    if let Some((value, message)) = too_short {
        admission.refuses(with(base, pointer, json!(value)), message).await?;
    }
    Ok(())
}

#[tokio::test]
async fn dt_01_a_connection_has_exactly_one_provider() -> Result<()> {
    let mut admission = Admission::of("GitProviderConnection").await?;
    let members: Vec<_> = samples::all().map(|samples| (samples.member, samples.minimal)).collect();
    let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    let (last, others) = names.split_last().context("providers")?;
    let one = &format!("provider needs exactly one of {} and {last}", others.join(", "));
    let all: serde_json::Map<_, _> = members.iter().cloned().collect();
    admission.refuses(json!({ "provider": all }), one).await?;
    admission.refuses(json!({ "provider": {} }), one).await?;
    admission.refuses(json!({}), "spec.provider: Required value").await?;
    for (position, (name, member)) in members.iter().enumerate() {
        let spec = json!({ "provider": { name.as_str(): member } });
        admission.admits(spec.clone()).await?;
        let (other, value) = &members[(position + 1) % members.len()];
        admission.refuses(with(&spec, &format!("/provider/{other}"), value.clone()), one).await?;
        for field in ["url", "apiURL"] {
            judges_addresses(&mut admission, &spec, &format!("/provider/{name}/{field}")).await?;
        }
    }
    admission.verdict()
}

#[tokio::test]
async fn dt_04_refuses_a_provider_without_its_owner() -> Result<()> {
    let mut admission = Admission::of("GitProviderConnection").await?;
    for samples in samples::all() {
        for (spec, expected) in &samples.refused {
            admission.refuses(json!({ "provider": samples.provider(spec) }), expected).await?;
        }
        for spec in &samples.admitted {
            admission.admits(json!({ "provider": samples.provider(spec) })).await?;
        }
        for (spec, field, most) in &samples.texts {
            let pointer = format!("/provider/{}/{field}", samples.member);
            admission.bounds_text(&json!({ "provider": samples.provider(spec) }), &pointer, 1, *most).await?;
        }
    }
    admission.verdict()
}

#[tokio::test]
async fn validates_the_receiver_of_a_connection() -> Result<()> {
    let mut admission = Admission::of("GitProviderConnection").await?;
    admission.admits(with(&github(), "/receiver", json!({}))).await?;
    let base = with(&github(), "/receiver", json!({ "publicURL": "internal" }));
    for good in ["internal", "a", "on-prem-2", "7"] {
        admission.admits(with(&base, "/receiver/publicURL", json!(good))).await?;
    }
    let form = "publicURL is the name of an address in --public-url, such as internal: lower-case letters, digits and dashes";
    for bad in ["https://hooks.acme.corp", "Internal", "-a", "a-", "a_b", "a.b", "a b"] {
        admission.refuses(with(&base, "/receiver/publicURL", json!(bad)), form).await?;
    }
    admission.bounds_text(&base, "/receiver/publicURL", 1, 63).await?;
    admission.verdict()
}

#[tokio::test]
async fn validates_credentials_and_intervals_of_a_connection() -> Result<()> {
    let mut admission = Admission::of("GitProviderConnection").await?;
    let base = with(&github(), "/credentials", json!({ "secretRef": { "name": "acme" } }));
    admission.admits(base.clone()).await?;
    admission.refuses(with(&github(), "/credentials", json!({})), "spec.credentials.secretRef: Required value").await?;
    admission.bounds_text(&base, "/credentials/secretRef/name", 1, 253).await?;
    let good = ["2027-03-01", "2027-03-01T12:00:00Z", "2027-03-01T12:00:00.123456789+02:00", "2028-02-29"];
    for good in good {
        admission.admits(with(&base, "/credentials/expiresAt", json!(good))).await?;
    }
    let message = "expiresAt must be a date such as 2027-03-01 or an RFC 3339 time such as 2027-03-01T12:00:00Z";
    for bad in ["2027-03-01T12:00", "tomorrow at noon", "1999-01-01", "01.03.2027", "2027-03-01 12:00:00Z"] {
        admission.refuses(with(&base, "/credentials/expiresAt", json!(bad)), message).await?;
    }
    // Well-formed, but no such day or hour exists.
    for bad in ["2027-13-01", "2027-02-30", "2027-03-01T25:00:00Z"] {
        admission.refuses(with(&base, "/credentials/expiresAt", json!(bad)), "spec.credentials.expiresAt").await?;
    }
    admission.refuses(with(&base, "/credentials/expiresAt", json!("2027")), "should be at least 10 chars").await?;
    let long = format!("2027-03-01T12:00:00Z{}", " ".repeat(21));
    admission.refuses(with(&base, "/credentials/expiresAt", json!(long)), &too_long("expiresAt", 40)).await?;
    judges_durations(&mut admission, &base, "/credentials/warnBefore", None).await?;
    judges_durations(&mut admission, &github(), "/interval", Some(("9s", "interval must be at least 10s"))).await?;
    admission.admits(with(&github(), "/interval", json!("10s"))).await?;
    admission.admits(with(&github(), "/managementPolicy", json!("Observe"))).await?;
    admission.refuses(with(&github(), "/managementPolicy", json!("Watch")), "Unsupported value").await?;
    admission.bounds_text(&github(), "/proxySecretRef/name", 1, 253).await?;
    admission.bounds_text(&github(), "/tls/clientCertificateRef/name", 1, 253).await?;
    admission.bounds_text(&github(), "/tls/caRef/name", 1, 253).await?;
    let authority = with(&github(), "/tls/caRef", json!({ "name": "acme-ca", "kind": "Secret" }));
    admission.admits(authority.clone()).await?;
    admission.bounds_text(&authority, "/tls/caRef/key", 1, 253).await?;
    admission.refuses(with(&authority, "/tls/caRef/kind", json!("Pod")), "Unsupported value").await?;
    admission.verdict()
}

#[tokio::test]
async fn validates_permissions_and_access_of_a_connection() -> Result<()> {
    let mut admission = Admission::of("GitProviderConnection").await?;
    let all: Vec<Value> = forgebind::api::v1alpha1::Permission::ALL.iter().map(|permission| json!(permission)).collect();
    admission.admits(with(&github(), "/requiredPermissions", json!(all))).await?;
    admission.refuses(with(&github(), "/requiredPermissions", json!(["Everything"])), "Unsupported value").await?;
    admission.refuses_duplicates(&github(), "/requiredPermissions", json!("ReadContents")).await?;
    let seventeen: Vec<&Value> = all.iter().chain(all.first()).collect();
    admission.refuses(with(&github(), "/requiredPermissions", json!(seventeen)), "must have at most 16 items").await?;

    for access in ["SameNamespace", "Granted"] {
        admission.admits(with(&github(), "/access", json!(access))).await?;
    }
    admission.refuses(with(&github(), "/access", json!("Everybody")), "Unsupported value").await?;
    admission.verdict()
}

fn grant() -> Value {
    json!({ "connectionRef": { "name": "acme" }, "namespaces": { "from": "Same" }, "repositories": { "include": ["**"] } })
}

#[tokio::test]
async fn validates_connections_namespaces_and_repositories_of_a_grant() -> Result<()> {
    let mut admission = Admission::of("ConnectionGrant").await?;
    let (one, selector) = (
        "a grant needs exactly one of connectionRef and connectionSelector",
        "selector is required with from: Selector and not allowed otherwise",
    );
    let labels = json!({ "matchLabels": { "team": "shop" } });
    let expressions = json!({ "matchExpressions": [{ "key": "team", "operator": "In", "values": ["shop"] }] });
    admission.admits(grant()).await?;
    admission.bounds_text(&grant(), "/connectionRef/name", 1, 253).await?;
    let selecting = with(&with(&grant(), "/connectionRef", Value::Null), "/connectionSelector", labels.clone());
    admission.admits(selecting.clone()).await?;
    admission.admits(with(&selecting, "/connectionSelector", expressions.clone())).await?;
    admission.admits(with(&selecting, "/connectionSelector", json!({}))).await?;
    admission.refuses(with(&grant(), "/connectionRef", Value::Null), one).await?;
    admission.refuses(with(&grant(), "/connectionSelector", labels.clone()), one).await?;

    let from = |namespaces: Value| with(&grant(), "/namespaces", namespaces);
    admission.admits(from(json!({ "from": "All" }))).await?;
    admission.admits(from(json!({ "from": "Selector", "selector": labels }))).await?;
    admission.admits(from(json!({ "from": "Selector", "selector": expressions }))).await?;
    admission.refuses(from(json!({ "from": "Selector" })), selector).await?;
    admission.refuses(from(json!({ "from": "Same", "selector": labels })), selector).await?;
    admission.refuses(from(json!({ "from": "All", "selector": labels })), selector).await?;
    admission.refuses(from(json!({ "from": "Some" })), "Unsupported value").await?;
    admission.refuses(from(json!({})), "from: Required value").await?;
    admission.refuses(with(&grant(), "/namespaces", Value::Null), "namespaces: Required value").await?;

    admission.refuses(with(&grant(), "/repositories", Value::Null), "repositories: Required value").await?;
    admission.refuses(with(&grant(), "/repositories", json!({ "exclude": ["a"] })), "include: Required value").await?;
    admission.refuses(with(&grant(), "/repositories/include", json!([])), "should have at least 1 items").await?;
    for (list, most, longest) in [("/repositories/include", 64, 512), ("/repositories/exclude", 64, 512), ("/destinationHosts", 32, 262)] {
        admission.bounds_list(&grant(), list, most, |n| json!(format!("acme-{n}"))).await?;
        admission.refuses_duplicates(&grant(), list, json!("acme")).await?;
        admission.admits(with(&grant(), list, json!(["a".repeat(longest)]))).await?;
        admission.refuses(with(&grant(), list, json!(["a".repeat(longest + 1)])), &format!("may not be more than {longest} bytes")).await?;
        admission.refuses(with(&grant(), list, json!([""])), "should be at least 1 chars").await?;
    }
    admission.verdict()
}

fn binding() -> Value {
    json!({ "connectionRef": { "name": "acme" }, "repository": "acme/shop" })
}

fn hooked() -> Value {
    with(&binding(), "/webhook", json!({}))
}

#[tokio::test]
async fn validates_reference_and_repository_of_a_binding() -> Result<()> {
    let mut admission = Admission::of("RepoBinding").await?;
    admission.admits(binding()).await?;
    admission.refuses(with(&binding(), "/connectionRef", Value::Null), "spec.connectionRef: Required value").await?;
    admission.refuses(with(&binding(), "/repository", Value::Null), "spec.repository: Required value").await?;
    admission.bounds_text(&binding(), "/connectionRef/name", 1, 253).await?;
    admission.bounds_text(&binding(), "/connectionRef/namespace", 1, 63).await?;
    admission.bounds_text(&binding(), "/repository", 1, 2048).await?;
    admission.bounds_text(&binding(), "/branch", 1, 255).await?;
    let one_branch =
        "branch is the name of one branch, such as main or refs/heads/main, and no pattern; patterns belong in the branches of a sink";
    for right in ["main", "refs/heads/main", "release/1.0", "refs", "größe"] {
        admission.admits(with(&binding(), "/branch", json!(right))).await?;
    }
    for wrong in [
        "release/*",
        "refs/tags/v1",
        "refs/heads/",
        "refs/pull/1/head",
        " main",
        "main ",
        "a b",
        "main\n",
        "a~1",
        "a:b",
        "a?",
        "[a]",
        "a\\b",
    ] {
        admission.refuses(with(&binding(), "/branch", json!(wrong)), one_branch).await?;
    }
    let good = ["acme/shop", "https://git.acme.io/acme/shop.git", "https://ada@git.acme.io/acme/shop.git", "git@git.acme.io:acme/shop.git"];
    for good in good.into_iter().chain(["ssh://git@git.acme.io:2222/acme/shop.git", "Project/a repository"]) {
        admission.admits(with(&binding(), "/repository", json!(good))).await?;
    }
    let message = "repository must not hold a password; the connection's Secret is the place for it";
    for bad in ["https://ada:secret@git.acme.io/acme/shop.git", "ssh://git:secret@git.acme.io/acme/shop", "https://:secret@git.acme.io/a"] {
        admission.refuses(with(&binding(), "/repository", json!(bad)), message).await?;
    }
    judges_durations(&mut admission, &binding(), "/interval", Some(("9s", "interval must be at least 10s"))).await?;
    for (field, good, bad) in [("deletionPolicy", "Orphan", "Keep"), ("managementPolicy", "Observe", "Watch")] {
        admission.admits(with(&binding(), &format!("/{field}"), json!(good))).await?;
        admission.refuses(with(&binding(), &format!("/{field}"), json!(bad)), "Unsupported value").await?;
    }
    admission.verdict()
}

#[tokio::test]
async fn validates_the_webhook_of_a_binding() -> Result<()> {
    let mut admission = Admission::of("RepoBinding").await?;
    let all: Vec<Value> = forgebind::api::v1alpha1::EventKind::ALL.iter().map(|event| json!(event)).collect();
    admission.admits(hooked()).await?;
    admission.admits(with(&hooked(), "/webhook/events", json!(all))).await?;
    admission.refuses(with(&hooked(), "/webhook/events", json!([])), "should have at least 1 items").await?;
    admission.refuses(with(&hooked(), "/webhook/events", json!(["Star"])), "Unsupported value").await?;
    admission.refuses_duplicates(&hooked(), "/webhook/events", json!("Push")).await?;
    let seven: Vec<&Value> = all.iter().chain(all.first()).collect();
    admission.refuses(with(&hooked(), "/webhook/events", json!(seven)), "must have at most 6 items").await?;

    let secret = json!({ "name": "shop-hook" });
    let custom = with(&hooked(), "/webhook", json!({ "url": "https://argocd.acme.io/api/webhook", "secretRef": secret }));
    admission.admits(custom.clone()).await?;
    admission.admits(with(&custom, "/webhook/adopt", json!(true))).await?;
    admission.admits(with(&hooked(), "/webhook/adopt", json!(false))).await?;
    admission.admits(with(&hooked(), "/webhook/secretRef", secret.clone())).await?;
    judges_hook_addresses(&mut admission, &custom, "/webhook/url").await?;
    admission.bounds_text(&custom, "/webhook/secretRef/name", 1, 253).await?;
    admission.bounds_text(&custom, "/webhook/secretRef/key", 1, 253).await?;
    admission.admits(with(&custom, "/webhook/secretRef/key", json!("webhook.github.secret"))).await?;
    admission.refuses(with(&custom, "/webhook/secretRef/key", json!("a/b")), "should match").await?;
    admission
        .refuses(
            with(&custom, "/webhook/secretRef", Value::Null),
            "webhook.url needs webhook.secretRef: the owner of that endpoint must know the secret",
        )
        .await?;
    admission.refuses(with(&hooked(), "/webhook/adopt", json!(true)), "webhook.adopt needs webhook.url").await?;
    let rotation = "webhook.rotationInterval excludes webhook.secretRef: a secret of your own is rotated by changing it";
    admission.refuses(with(&custom, "/webhook/rotationInterval", json!("2160h")), rotation).await?;
    let least = Some(("9m", "rotationInterval must be at least 10m"));
    judges_durations(&mut admission, &hooked(), "/webhook/rotationInterval", least).await?;
    admission.verdict()
}

fn with_sink(sink: &Value) -> Value {
    with(&hooked(), "/sinks", json!([sink]))
}

#[tokio::test]
async fn validates_the_sinks_of_a_binding() -> Result<()> {
    let mut admission = Admission::of("RepoBinding").await?;
    let service = json!({ "name": "ci", "service": { "name": "ci", "port": 80 } });
    let base = with_sink(&service);
    admission.admits(base.clone()).await?;
    let kinds =
        [("service", json!({ "name": "ci", "port": 80, "path": "/events" })), ("http", json!({ "url": "https://events.acme.io/git" }))];
    let one = "a sink needs exactly one of service and http";
    admission.refuses(with_sink(&json!({ "name": "ci" })), one).await?;
    for (position, (name, value)) in kinds.iter().enumerate() {
        let (other, other_value) = &kinds[(position + 1) % kinds.len()];
        admission.admits(with_sink(&json!({ "name": "ci", *name: value }))).await?;
        admission.refuses(with_sink(&json!({ "name": "ci", *name: value, *other: other_value })), one).await?;
    }
    let place = "sinks need webhook without url: deliveries to another url never reach them";
    admission.refuses(with(&binding(), "/sinks", json!([service])), place).await?;
    admission.admits(with(&binding(), "/sinks", json!([]))).await?;
    let elsewhere = json!({ "url": "https://argocd.acme.io/api/webhook", "secretRef": { "name": "shop-hook" } });
    admission.refuses(with(&base, "/webhook", elsewhere), place).await?;

    let wider = "a sink can only ask for events that webhook.events lists";
    let push = with(&base, "/webhook/events", json!(["Push"]));
    admission.admits(with(&push, "/sinks/0/events", json!(["Push"]))).await?;
    admission.refuses(with(&push, "/sinks/0/events", json!(["Tag"])), wider).await?;
    admission.refuses(with(&base, "/sinks/0/events", json!(["PullRequestComment"])), wider).await?;

    admission.bounds_list(&base, "/sinks", 8, |n| json!({ "name": format!("ci-{n}"), "service": { "name": "ci", "port": 80 } })).await?;
    admission.refuses_duplicates(&base, "/sinks", service).await?;
    admission.bounds_text(&base, "/sinks/0/name", 1, 63).await?;
    for bad in ["CI", "-ci", "ci-", "c i"] {
        admission.refuses(with(&base, "/sinks/0/name", json!(bad)), "should match").await?;
    }
    admission.refuses(with(&base, "/sinks/0/name", Value::Null), "name: Required value").await?;
    admission.refuses(with(&base, "/sinks/0/events", json!([])), "should have at least 1 items").await?;
    admission.refuses_duplicates(&base, "/sinks/0/events", json!("Push")).await?;
    let seven = json!(["Push", "Push", "Push", "Push", "Push", "Push", "Push"]);
    admission.refuses(with(&base, "/sinks/0/events", seven), "must have at most 6 items").await?;
    admission.bounds_list(&base, "/sinks/0/branches", 32, |n| json!(format!("release/{n}"))).await?;
    admission.refuses(with(&base, "/sinks/0/branches", json!([])), "should have at least 1 items").await?;
    admission.refuses_duplicates(&base, "/sinks/0/branches", json!("main")).await?;
    admission.admits(with(&base, "/sinks/0/branches", json!(["a".repeat(255)]))).await?;
    admission.refuses(with(&base, "/sinks/0/branches", json!(["a".repeat(256)])), "may not be more than 255 bytes").await?;
    admission.refuses(with(&base, "/sinks/0/branches", json!([""])), "should be at least 1 chars").await?;
    let patterns = "branches are names or patterns of branches such as main, release/* or refs/heads/main; * and ** are the only wildcards, and tags are not filtered";
    for right in ["main", "**", "release/*", "refs/heads/main", "refs/heads/**", "refs*"] {
        admission.admits(with(&base, "/sinks/0/branches", json!(["other", right]))).await?;
    }
    for wrong in ["refs/tags/v*", "refs/heads/", "refs/*", " main", "main,develop ", "release/?", "release/[0-9]", "^main$", "a\\*"] {
        admission.refuses(with(&base, "/sinks/0/branches", json!(["other", wrong])), patterns).await?;
    }
    admission.verdict()
}

#[tokio::test]
async fn validates_each_kind_of_sink() -> Result<()> {
    let mut admission = Admission::of("RepoBinding").await?;
    let service = with_sink(&json!({ "name": "ci", "service": { "name": "ci", "port": 80 } }));
    admission.bounds_text(&service, "/sinks/0/service/name", 1, 63).await?;
    for port in [1, 65_535] {
        admission.admits(with(&service, "/sinks/0/service/port", json!(port))).await?;
    }
    admission.refuses(with(&service, "/sinks/0/service/port", json!(0)), "should be greater than or equal to 1").await?;
    admission.refuses(with(&service, "/sinks/0/service/port", json!(65_536)), "should be less than or equal to 65535").await?;
    for bad in ["events", "/a?b", "/a#b", "/a b", ""] {
        admission.refuses(with(&service, "/sinks/0/service/path", json!(bad)), "should match").await?;
    }
    admission.admits(with(&service, "/sinks/0/service/path", json!(format!("/{}", "a".repeat(2047))))).await?;
    let long = json!(format!("/{}", "a".repeat(2048)));
    admission.refuses(with(&service, "/sinks/0/service/path", long), &too_long("path", 2048)).await?;

    let http = with_sink(&json!({ "name": "ci", "http": { "url": "https://events.acme.io" } }));
    judges_addresses(&mut admission, &http, "/sinks/0/http/url").await?;
    admission.verdict()
}

/// Null counts as absent, in the rules as in the Rust types.
#[tokio::test]
async fn null_does_not_bypass_a_rule() -> Result<()> {
    let mut admission = Admission::of("GitProviderConnection").await?;
    admission.refuses(json!({ "provider": { "github": null } }), "provider needs exactly one of").await?;
    admission.refuses(json!({ "provider": { "github": { "organization": null } } }), "github needs either organization or user").await?;
    admission.verdict()?;
    let mut admission = Admission::of("RepoBinding").await?;
    let url = "https://argocd.acme.io/api/webhook";
    let mut spec = hooked();
    spec["webhook"] = json!({ "url": url, "secretRef": null });
    admission.refuses(spec.clone(), "webhook.url needs webhook.secretRef").await?;
    spec["webhook"] = json!({ "url": null, "adopt": true });
    admission.refuses(spec, "webhook.adopt needs webhook.url").await?;
    admission.verdict()
}

#[tokio::test]
async fn the_provider_of_a_connection_cannot_change_while_bindings_use_it() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    let namespace = cluster.create_namespace("fixed").await?;
    let api = untyped(cluster.client()?, &namespace, "GitProviderConnection");
    let parameters = PatchParams::default();
    let all: Vec<_> = samples::all().collect();
    for (position, samples) in all.iter().enumerate() {
        let (member, changes) = (samples.member.as_str(), &samples.fixed.changes);
        let (name, value) = (member.to_lowercase(), samples.provider(&samples.fixed.spec));
        api.create(&PostParams::default(), &object("GitProviderConnection", &name, &json!({ "provider": value }))?).await?;
        for bindings in [1, 0] {
            api.patch_status(&name, &parameters, &Patch::Merge(json!({ "status": { "bindings": bindings } }))).await?;
            let dry = PatchParams { dry_run: true, ..PatchParams::default() };
            let another = &all[(position + 1) % all.len()];
            let swap = json!({ member: null, another.member.as_str(): another.minimal });
            for change in changes.iter().map(|change| json!({ member: change })).chain([swap]) {
                let answer = api.patch(&name, &dry, &Patch::Merge(json!({ "spec": { "provider": change } }))).await;
                match (bindings, answer) {
                    (0, answer) => drop(answer.with_context(|| format!("{member} {change} without bindings"))?),
                    (_, Ok(_)) => panic!("{member} {change} is accepted while bindings use the connection"),
                    (_, Err(error)) => {
                        assert!(error.to_string().contains("create a second connection and move the bindings to it"), "{error}");
                    }
                }
            }
            let address = json!({ "spec": { "provider": { member: { "apiURL": "https://api.acme.io" } }, "suspend": true } });
            api.patch(&name, &dry, &Patch::Merge(address))
                .await
                .with_context(|| format!("{member}: apiURL and the other fields may change"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn defaults_are_stored_in_the_object_but_never_inside_lists() -> Result<()> {
    let connection = Admission::of("GitProviderConnection").await?;
    let spec = with(&github(), "/credentials", json!({ "secretRef": { "name": "acme" } }));
    let stored = connection.answer(&spec).await?.map_err(anyhow::Error::msg)?;
    let expected = json!({
        "provider": { "github": { "organization": "acme" } },
        "credentials": { "secretRef": { "name": "acme" }, "warnBefore": "720h" },
        "access": "SameNamespace", "managementPolicy": "Manage", "interval": "10m",
    });
    assert_eq!(stored.data["spec"], expected);

    let admission = Admission::of("RepoBinding").await?;
    let sink = json!({ "name": "ci", "service": { "name": "ci", "port": 80 } });
    let stored = admission.answer(&with_sink(&sink)).await?.map_err(anyhow::Error::msg)?;
    let expected = json!({
        "connectionRef": { "name": "acme" }, "repository": "acme/shop",
        "webhook": { "events": ["Push", "Tag", "PullRequest"] },
        "sinks": [sink], "deletionPolicy": "Delete", "managementPolicy": "Manage", "interval": "1h",
    });
    assert_eq!(stored.data["spec"], expected);
    Ok(())
}
