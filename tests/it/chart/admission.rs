//! The admission policies of the chart, evaluated by the real API server and compared with the operator's own flags.

use anyhow::{Context as _, Result, ensure};
use forgebind::network::{NetworkPolicy, Purpose, Refusal};
use forgebind::providers::registry;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use testkit::chart;
use testkit::installation::Installation;
use testkit::samples;
use testkit::test_env::{SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

const PROVIDER_HOSTS: [&str; 4] = ["gitea.acme.io", "*.git.acme.io", "gitlab.acme.io:8443", "10.1.2.3"];
const SINK_HOSTS: [&str; 2] = ["events.acme.io", "*.hooks.acme.io:8443"];

/// Addresses, and whether a provider and a sink may have them.
const CASES: [(&str, bool, bool); 34] = [
    ("https://gitea.acme.io", true, false),
    ("https://GITEA.acme.io:3000/x", true, false),
    ("https://gitea.acme.io./git", true, false),
    ("http://gitea.acme.io", true, false),
    ("https://gitea.acme.io.evil.io", false, false),
    ("https://evilgitea.acme.io", false, false),
    ("https://a.git.acme.io", true, false),
    ("https://a.b.git.acme.io:8080", true, false),
    ("https://git.acme.io", false, false),
    ("https://agit.acme.io", false, false),
    ("https://gitlab.acme.io:8443", true, false),
    ("https://gitlab.acme.io", false, false),
    ("https://gitlab.acme.io:443", false, false),
    ("https://10.1.2.3", true, false),
    ("https://10.1.2.4", false, false),
    ("https://[2001:db8::1]:8443", false, false),
    ("https://github.com", true, false),
    ("https://github.com:443/", true, false),
    ("http://github.com", true, false),
    ("https://github.com.", true, false),
    ("https://github.com:8443", false, false),
    ("https://api.github.com", true, false),
    ("https://acme.ghe.com", true, false),
    ("https://aghe.com", false, false),
    ("https://gitlab.com/x", true, false),
    ("https://bitbucket.org", true, false),
    ("https://dev.azure.com", true, false),
    ("https://acme.visualstudio.com", true, false),
    ("https://evil.io", false, false),
    ("https://events.acme.io/git", false, true),
    ("https://events.acme.io:8443", false, true),
    ("https://a.hooks.acme.io:8443", false, true),
    ("https://a.hooks.acme.io", false, false),
    ("https://hooks.acme.io:8443", false, false),
];

/// Specs with an address in one field, for every provider and both of its fields.
fn connections(url: &str) -> Vec<Value> {
    samples::all()
        .map(|samples| samples.provider(&samples.minimal))
        .flat_map(|provider| {
            ["url", "apiURL"].map(|field| {
                let mut provider = provider.clone();
                if let Some(member) = provider.as_object_mut().and_then(|members| members.values_mut().next()) {
                    if member.get("url").is_some() {
                        member["url"] = json!("https://github.com");
                    }
                    member[field] = json!(url);
                }
                json!({"provider": provider})
            })
        })
        .collect()
}

fn binding(urls: &[&str]) -> Value {
    let http = urls.iter().enumerate().map(|(position, url)| json!({"name": format!("s{position}"), "http": {"url": url}}));
    let mut sinks = vec![json!({"name": "ci", "service": {"name": "ci", "port": 80}})];
    sinks.extend(http);
    json!({"connectionRef": {"name": "git"}, "repository": "acme/shop", "webhook": {"events": ["Push"]}, "sinks": sinks})
}

/// Applies the policies of a rendering to one namespace only, because other tests of this control plane use other hosts.
async fn enforce(env: &TestEnv, values: &Value) -> Result<()> {
    let installation = Installation::named(env.plane, &env.namespace, &env.namespace)?;
    let only = ["templates/admission-policy.yaml"];
    let rendered = chart::render(&chart::folder(), &installation.release, &installation.namespace, values, &only).await?;
    for mut object in chart::objects(&rendered)? {
        if object["kind"] == "ValidatingAdmissionPolicyBinding" {
            let of_world = json!({"matchLabels": {"kubernetes.io/metadata.name": env.namespace}});
            object["spec"]["matchResources"] = json!({"namespaceSelector": of_world});
        }
        chart::create(env.cluster(), &object).await?;
    }
    Ok(())
}

/// Creates an object as a dry run: `None` when the API server admits it, or the message of the policy that refuses it.
async fn refusal(env: &TestEnv, kind: &str, spec: &Value) -> Result<Option<String>> {
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let object = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "tried", "namespace": env.namespace}, "spec": spec,
    });
    let answer = if kind == "RepoBinding" {
        env.bindings.create(&parameters, &serde_json::from_value(object)?).await.map(drop)
    } else {
        env.connections.create(&parameters, &serde_json::from_value(object)?).await.map(drop)
    };
    match answer {
        Ok(()) => Ok(None),
        Err(kube::Error::Api(status)) if status.message.contains("this installation does not allow the") => {
            Ok(Some(status.message.clone()))
        }
        Err(other) => Err(anyhow::Error::from(other).context(spec.to_string())),
    }
}

async fn in_force(env: &TestEnv, kind: &str, spec: &Value, host: &str) -> Result<()> {
    wait_until(&format!("the policy for {kind}"), SOON, async || {
        Ok(match refusal(env, kind, spec).await? {
            Some(said) => {
                ensure!(said.contains(host), "{said}");
                Seen::Done(())
            }
            None => Seen::NotYet("it is admitted".to_owned()),
        })
    })
    .await
}

/// Whether the operator's own flags allow the host, whatever else they check.
fn flags_allow(purpose: Purpose, url: &str) -> Result<bool> {
    let patterns = |hosts: &[&str]| hosts.iter().map(|host| host.parse()).collect::<Result<Vec<_>, _>>();
    let policy = NetworkPolicy {
        cloud_hosts: registry::cloud_hosts(),
        provider_hosts: patterns(&PROVIDER_HOSTS)?,
        sink_hosts: patterns(&SINK_HOSTS)?,
        allow_cidrs: vec!["0.0.0.0/0".parse()?, "::/0".parse()?],
        insecure_http: true,
        ..NetworkPolicy::default()
    };
    match policy.check(purpose, &url::Url::parse(url)?) {
        Ok(()) => Ok(true),
        Err(Refusal::Host { .. }) => Ok(false),
        Err(other) => Err(other).with_context(|| url.to_owned()),
    }
}

#[tokio::test]
async fn admission_policies_and_the_operators_flags_allow_the_same_hosts() -> Result<()> {
    let env = TestEnv::new("admission").await?;
    let before = json!({"provider": {"gitea": {"url": "https://before.acme.io", "organization": "acme"}}});
    let settled = env.create_connection_named("before", before).await?;
    env.create_binding("before", binding(&["https://before.acme.io"])).await?;
    let allow = json!({"providerHosts": PROVIDER_HOSTS, "sinkHosts": SINK_HOSTS});
    enforce(&env, &json!({"allow": allow, "admissionPolicy": {"enabled": true}})).await?;
    in_force(&env, "GitProviderConnection", &connections("https://evil.io")[0], "provider host evil.io:443").await?;
    in_force(&env, "RepoBinding", &binding(&["https://evil.io"]), "sink host evil.io:443").await?;
    for (url, provider, sink) in CASES {
        assert_eq!(flags_allow(Purpose::Provider, url)?, provider, "--allow-provider-hosts: {url}");
        assert_eq!(flags_allow(Purpose::HttpSink, url)?, sink, "--allow-sink-hosts: {url}");
        for spec in connections(url) {
            let refused = refusal(&env, "GitProviderConnection", &spec).await?;
            ensure!(refused.is_none() == provider, "{spec}: {refused:?}");
        }
        let refused = refusal(&env, "RepoBinding", &binding(&[SINK_URL, url])).await?;
        ensure!(refused.is_none() == sink, "sink {url}: {refused:?}");
    }
    for cloud in [json!({"github": {"organization": "acme"}}), json!({"azureDevOps": {"organization": "acme"}})] {
        ensure!(refusal(&env, "GitProviderConnection", &json!({"provider": cloud})).await?.is_none(), "a cloud without a url");
    }
    let several = refusal(&env, "RepoBinding", &binding(&["https://one.io", "http://two.io"])).await?.context("admitted")?;
    ensure!(several.contains("one.io:443, two.io:80"), "{several}");

    // An existing object may be labelled, but its address may not change.
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    env.connections.patch(&settled.name_any(), &PatchParams::default(), &label).await?;
    env.bindings.patch("before", &PatchParams::default(), &label).await?;
    let moved = json!({"spec": {"provider": {"gitea": {"apiURL": "https://evil.io/api"}}}});
    ensure!(env.connections.patch("before", &PatchParams::default(), &Patch::Merge(moved)).await.is_err(), "the new address is refused");
    let moved = json!({"spec": binding(&["https://evil.io"])});
    ensure!(env.bindings.patch("before", &PatchParams::default(), &Patch::Merge(moved)).await.is_err(), "the new sink is refused");
    Ok(())
}

/// A sink that every policy allows.
const SINK_URL: &str = "https://events.acme.io";

#[tokio::test]
async fn without_a_list_every_provider_host_is_admitted_and_no_http_sink() -> Result<()> {
    let env = TestEnv::new("unlisted").await?;
    enforce(&env, &json!({"admissionPolicy": {"enabled": true}})).await?;
    in_force(&env, "RepoBinding", &binding(&[SINK_URL]), "sink host events.acme.io:443").await?;
    ensure!(refusal(&env, "RepoBinding", &binding(&[])).await?.is_none(), "a sink by Service");
    let without = json!({"connectionRef": {"name": "git"}, "repository": "acme/shop"});
    ensure!(refusal(&env, "RepoBinding", &without).await?.is_none(), "no sink at all");
    for spec in connections("https://evil.io") {
        ensure!(refusal(&env, "GitProviderConnection", &spec).await?.is_none(), "{spec}");
    }
    Ok(())
}
