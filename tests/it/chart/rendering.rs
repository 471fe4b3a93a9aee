//! The Helm chart as the real helm renders it, without a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{CommandFactory as _, Parser as _};
use forgebind::api::crd;
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::cli::{Cli, Command};
use forgebind::config::{Config, HooksOnUninstall, Receivers, UninstallConfig};
use forgebind::providers::registry;
use serde_json::{Value, json};

use testkit::chart::{self, NAMESPACE, objects, rendered, snapshot_path, snapshot_values};
use testkit::generated::compare;

/// The values that are rendered and compared: the chart's defaults, everything at once, and as little as possible.
const SNAPSHOTS: [&str; 3] = ["default", "all", "minimal"];

async fn rendered_objects(values: &Value) -> Result<Vec<Value>> {
    objects(&rendered(values).await?)
}

/// The arguments of every Deployment and `StatefulSet`, by its name.
async fn arguments(values: &Value) -> Result<BTreeMap<String, Vec<String>>> {
    let objects = rendered_objects(values).await?.into_iter();
    let workloads = objects.filter(|object| object["kind"] == "Deployment" || object["kind"] == "StatefulSet");
    let read = |workload: Value| {
        let arguments = &workload["spec"]["template"]["spec"]["containers"][0]["args"];
        Ok((workload["metadata"]["name"].as_str().context("a name")?.to_owned(), serde_json::from_value(arguments.clone())?))
    };
    workloads.map(read).collect()
}

#[test]
fn checked_in_definitions_are_in_the_chart() -> Result<()> {
    let folder = chart::folder().join("files/crds");
    for definition in crd::custom_resource_definitions() {
        compare(&folder.join(format!("{}.yaml", definition.spec.names.plural)), &crd::document(&definition)?)?;
    }
    ensure!(std::fs::read_dir(&folder)?.count() == crd::custom_resource_definitions().len(), "{} holds other files too", folder.display());
    Ok(())
}

#[tokio::test]
async fn helm_lint_has_no_complaints() -> Result<()> {
    let folder = chart::folder();
    for name in SNAPSHOTS {
        let values = snapshot_path(name, "values.yaml");
        let (folder, values) = (folder.to_str().context("UTF-8")?, values.to_str().context("UTF-8")?);
        chart::helm(None, &["lint", "--strict", "--quiet", "--values", values, folder]).await.with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Another test compares the definitions.
fn without_definitions(stream: &str) -> String {
    let documents = stream.split("---\n").filter(|document| !document.contains("\nkind: CustomResourceDefinition\n"));
    documents.collect::<Vec<_>>().join("---\n")
}

#[tokio::test]
async fn rendered_charts_match_the_checked_in_ones() -> Result<()> {
    for name in SNAPSHOTS {
        let stream = rendered(&snapshot_values(name)?).await?;
        compare(&snapshot_path(name, "yaml"), &without_definitions(&stream))?;
    }
    Ok(())
}

#[tokio::test]
async fn helm_flux_and_argo_cd_keep_the_definitions() -> Result<()> {
    let annotations = async |values: Value| -> Result<Vec<Value>> {
        let definitions = rendered_objects(&values).await?.into_iter().filter(|object| object["kind"] == "CustomResourceDefinition");
        Ok(definitions.map(|definition| definition["metadata"]["annotations"].clone()).collect())
    };
    let kept = annotations(json!({})).await?;
    assert_eq!(kept.len(), crd::custom_resource_definitions().len());
    for annotations in kept {
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled");
        assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false");
    }
    assert!(annotations(json!({"crds": {"install": false}})).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn pk_08_each_provider_can_be_enabled_on_its_own() -> Result<()> {
    let defaults: Value = serde_saphyr::from_str(&std::fs::read_to_string(chart::folder().join("values.yaml"))?)?;
    let names: Vec<String> = defaults["providers"].as_object().context("providers")?.keys().cloned().collect();
    let served = async |enabled: &[&str]| -> Result<BTreeSet<ProviderKind>> {
        let providers: serde_json::Map<_, _> =
            names.iter().map(|name| (name.clone(), json!({"enabled": enabled.contains(&name.as_str())}))).collect();
        let arguments = arguments(&json!({"mode": "Single", "providers": providers})).await?;
        let command = Cli::try_parse_from(std::iter::once("forgebind".to_owned()).chain(arguments["forgebind"].clone()))?.command;
        let Command::Run(arguments) = command else { anyhow::bail!("run") };
        Ok(Config::try_from(arguments)?.providers)
    };
    for kind in ProviderKind::ALL {
        let is_named = |name: &&String| name.to_lowercase() == kind.flag().replace('-', "");
        let name = names.iter().find(is_named).with_context(|| format!("no value for {kind}"))?;
        assert_eq!(served(&[name]).await?, BTreeSet::from([kind]), "{name}");
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(served(&all).await?, ProviderKind::ALL.into_iter().collect());
    let nothing = served(&[]).await.unwrap_err();
    assert!(format!("{nothing:#}").contains("enable at least one"), "{nothing:#}");
    Ok(())
}

#[tokio::test]
async fn every_flag_has_a_value_with_the_same_meaning() -> Result<()> {
    let values = snapshot_values("all")?;
    let arguments = arguments(&values).await?;
    let parse = |name: &str| Cli::try_parse_from(std::iter::once("forgebind".to_owned()).chain(arguments[name].clone()));
    let Command::Controller(flags) = parse("git-controller")?.command else { anyhow::bail!("controller") };
    let config = Config::try_from(flags)?;
    assert_eq!(config.public_urls.default.as_ref().map(url::Url::as_str), Some("https://hooks.acme.io/"));
    assert_eq!(
        config.public_urls.named.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect::<Vec<_>>(),
        [("internal", "https://hooks.acme.corp/")]
    );
    assert_eq!(config.watch_namespaces, ["platform", "team-shop"]);
    assert_eq!(config.secret_namespaces, ["platform"]);
    assert_eq!(config.install_key_secret.as_deref(), Some("acme-install-key"));
    assert!(config.read_only && config.network.environment_proxy && config.leader_election && !config.network.insecure_http);
    assert_eq!(config.network.provider_hosts.len(), 3);
    assert_eq!(config.providers.len(), 4);
    let Command::Receiver(flags) = parse("git-receiver")?.command else { anyhow::bail!("receiver") };
    let receiver = Config::try_from(flags)?;
    assert!(receiver.install_key_secret.is_none(), "a receiver never gets the install key");
    assert_eq!(receiver.public_urls, config.public_urls);
    let hands_over = |argument: &String| argument == "--hand-over" || argument.starts_with("--receivers=");
    let others: Vec<_> = arguments["git-receiver"].iter().filter(|argument| !hands_over(argument)).cloned().collect();
    assert_eq!(arguments["git-receiver-disk"], others, "both workloads run the same, but only an emptyDir is handed over");
    assert_eq!(receiver.receivers, Receivers::Service("git-receiver-admin".to_owned()));
    assert!(receiver.hand_over && receiver.drain_timeout > Duration::ZERO);
    for flag in ["--outbox=disk", "--outbox-dir=/var/lib/forgebind/outbox", "--outbox-limit=2Gi"] {
        ensure!(arguments["git-receiver"].iter().any(|argument| argument == flag), "{flag}: {:?}", arguments["git-receiver"]);
    }
    ensure!(!arguments["git-controller"].iter().any(|argument| argument.starts_with("--outbox")), "a controller has no outbox");

    let mut given: BTreeSet<String> = BTreeSet::new();
    let more = json!({"mode": "Single", "allow": {"insecureHTTP": true}, "installKey": {"beginAnew": true}});
    for arguments in [arguments, self::arguments(&more).await?] {
        let names =
            arguments.into_values().flatten().filter_map(|argument| Some(argument.strip_prefix("--")?.split('=').next()?.to_owned()));
        given.extend(names);
    }
    let command = Cli::command();
    let run = command.find_subcommand("run").context("run")?;
    let flags: BTreeSet<String> = run.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect();
    // Not set by the chart: `resolve` is not for clusters, replicas elect a leader by default, and the pod's name and addresses
    // come from the environment.
    let outside = ["resolve", "leader-election", "replica", "pod-ips", "help"].map(str::to_owned).into();
    let missing: Vec<_> = flags.difference(&given).filter(|flag| !BTreeSet::contains(&outside, *flag)).collect();
    ensure!(missing.is_empty(), "no value of the chart gives {missing:?}");
    Ok(())
}

#[tokio::test]
async fn every_public_endpoint_has_its_host_certificate_and_path() -> Result<()> {
    let values = json!({
        "publicURL": "https://hooks.acme.io",
        "publicURLs": {"again": "https://hooks.acme.io:8443", "internal": "https://hooks.acme.corp"},
        "ingress": {"enabled": true, "tls": {"secretName": ""}},
    });
    let found =
        |objects: &[Value], kind: &str| objects.iter().find(|object| object["kind"] == kind).cloned().with_context(|| kind.to_owned());
    let ingress = found(&rendered_objects(&values).await?, "Ingress")?;
    let tls = json!([
        {"hosts": ["hooks.acme.io"], "secretName": "forgebind-receiver-tls"},
        {"hosts": ["hooks.acme.corp"], "secretName": "forgebind-receiver-internal-tls"},
    ]);
    assert_eq!(ingress["spec"]["tls"], tls);
    let hosts: Vec<&Value> = ingress["spec"]["rules"].as_array().into_iter().flatten().map(|rule| &rule["host"]).collect();
    assert_eq!(hosts, ["hooks.acme.io", "hooks.acme.corp"]);

    let values = json!({
        "publicURLs": {"dmz": "https://dmz.acme.io/git", "internal": "https://hooks.acme.corp"},
        "httpRoute": {"enabled": true, "gateway": {"create": true, "className": "public"}},
    });
    let objects = rendered_objects(&values).await?;
    let route = found(&objects, "HTTPRoute")?;
    assert_eq!(route["spec"]["hostnames"], json!(["dmz.acme.io", "hooks.acme.corp"]));
    let paths: Vec<&Value> =
        route["spec"]["rules"].as_array().into_iter().flatten().map(|rule| &rule["matches"][0]["path"]["value"]).collect();
    assert_eq!(paths, ["/git/hooks", "/git/healthz", "/hooks", "/healthz"]);
    let listeners = found(&objects, "Gateway")?["spec"]["listeners"].clone();
    let read =
        |listener: &Value| (listener["name"].clone(), listener["hostname"].clone(), listener["tls"]["certificateRefs"][0]["name"].clone());
    assert_eq!(
        listeners.as_array().into_iter().flatten().map(read).collect::<Vec<_>>(),
        [
            (json!("https-dmz"), json!("dmz.acme.io"), json!("forgebind-receiver-dmz-tls")),
            (json!("https-internal"), json!("hooks.acme.corp"), json!("forgebind-receiver-internal-tls")),
        ]
    );
    Ok(())
}

/// The annotations of the Ingress, with these given.
async fn annotations_of_the_ingress(given: &Value) -> Result<BTreeMap<String, String>> {
    let values = json!({"publicURL": "https://hooks.acme.io", "ingress": {"enabled": true, "annotations": given}});
    let objects = rendered_objects(&values).await?;
    let ingress = objects.iter().find(|object| object["kind"] == "Ingress").context("an Ingress")?;
    Ok(serde_json::from_value::<Option<_>>(ingress["metadata"]["annotations"].clone())?.unwrap_or_default())
}

#[tokio::test]
async fn the_ingress_accepts_the_largest_body_of_any_provider_unless_it_is_told_otherwise() -> Result<()> {
    const SIZES: [&str; 3] =
        ["haproxy-ingress.github.io/proxy-body-size", "nginx.ingress.kubernetes.io/proxy-body-size", "nginx.org/client-max-body-size"];
    let limits = ProviderKind::ALL.into_iter().filter_map(registry::provider).map(|provider| provider.webhook().rules().body_limit);
    let largest = limits.max().context("a provider")?;
    let present = annotations_of_the_ingress(&json!({})).await?;
    assert_eq!(present.keys().map(String::as_str).collect::<Vec<_>>(), SIZES);
    for (name, size) in present {
        let mebibytes: usize = size.strip_suffix('m').with_context(|| format!("{name}: {size}"))?.parse()?;
        ensure!(mebibytes << 20 > largest, "{name}: {size} is not more than {largest} bytes");
    }
    let given = json!({SIZES[1]: "64m", SIZES[2]: "", "acme.io/team": "git"});
    let expected = [("acme.io/team", "git"), (SIZES[0], "26m"), (SIZES[1], "64m")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(annotations_of_the_ingress(&given).await?, expected);
    let none = annotations_of_the_ingress(&json!({SIZES[0]: "", SIZES[1]: "", SIZES[2]: ""})).await?;
    ensure!(none.is_empty(), "{none:?}");
    Ok(())
}

#[tokio::test]
async fn the_jobs_of_an_uninstallation_run_existing_commands() -> Result<()> {
    let jobs: Vec<Value> = rendered_objects(&snapshot_values("all")?).await?.into_iter().filter(|object| object["kind"] == "Job").collect();
    let mut seen = Vec::new();
    for job in jobs {
        let arguments: Vec<String> = serde_json::from_value(job["spec"]["template"]["spec"]["containers"][0]["args"].clone())?;
        let command = Cli::try_parse_from(std::iter::once("forgebind".to_owned()).chain(arguments))?.command;
        let Command::Uninstall(arguments) = command else { anyhow::bail!("release") };
        let config = UninstallConfig::try_from(arguments)?;
        assert_eq!((config.namespace.as_str(), config.install_key_secret.as_deref()), (NAMESPACE, Some("acme-install-key")));
        seen.push((job["metadata"]["annotations"]["helm.sh/hook"].as_str().context("a hook")?.to_owned(), config.hooks));
    }
    let before = ("pre-delete".to_owned(), HooksOnUninstall::Delete);
    let after = ("post-delete".to_owned(), HooksOnUninstall::Keep);
    assert!(seen.len() == 2 && seen.contains(&before) && seen.contains(&after), "{seen:?}");
    Ok(())
}

/// Argo CD maps the helm hooks that it knows to its own and ignores the others: it knows `post-delete` since 2.10 and
/// `pre-delete` since 3.3. In each version, Jobs run only at the end, and no webhook is deleted that was to be kept.
#[tokio::test]
async fn a_tool_that_knows_fewer_helm_hooks_keeps_webhooks() -> Result<()> {
    for (hooks, knows, runs) in [
        ("Keep", vec!["pre-delete", "post-delete"], vec!["--hooks=keep"]),
        ("Keep", vec!["post-delete"], vec!["--hooks=keep"]),
        ("Delete", vec!["post-delete"], vec!["--hooks=keep"]),
        ("Delete", vec!["pre-delete", "post-delete"], vec!["--hooks=delete", "--hooks=keep"]),
        ("Delete", vec![], vec![]),
    ] {
        let events = |object: &Value| -> Option<Vec<String>> {
            Some(object["metadata"]["annotations"]["helm.sh/hook"].as_str()?.split(',').map(str::to_owned).collect())
        };
        let all = rendered_objects(&json!({"uninstall": {"hooks": hooks}})).await?;
        let ends: Vec<_> = all.iter().filter(|object| events(object).is_some()).collect();
        ensure!(ends.iter().all(|object| events(object).unwrap_or_default().iter().all(|event| event.ends_with("-delete"))), "{ends:?}");
        let known: Vec<_> = ends
            .into_iter()
            .filter(|object| events(object).unwrap_or_default().iter().any(|event| knows.contains(&event.as_str())))
            .collect();
        let jobs = known.iter().filter(|object| object["kind"] == "Job");
        let does = |job: &&&Value| job["spec"]["template"]["spec"]["containers"][0]["args"][1].as_str().unwrap_or_default().to_owned();
        let mut ran: Vec<String> = jobs.map(|job| does(&job)).collect();
        ran.sort();
        assert_eq!(ran, runs, "{hooks}, knowing {knows:?}");
        // The account and the rights exist at the same time as the Job.
        for kind in ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
            ensure!(runs.is_empty() || known.iter().any(|object| object["kind"] == kind), "{hooks}, knowing {knows:?}: no {kind}");
        }
        // No other object is a Job that a plain apply would run.
        ensure!(all.iter().all(|object| object["kind"] != "Job" || events(object).is_some()), "a Job that is no hook");
    }
    Ok(())
}
