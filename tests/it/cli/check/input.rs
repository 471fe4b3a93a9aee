//! The input of a check: what it reads, what it refuses, and what the manifests alone show.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::providers::registry;
use serde_json::json;

use super::{Bench, object, row, run, stream, told};
use testkit::samples::{self, Offline};
use testkit::sim::Simulated;

#[tokio::test]
async fn reads_standard_input_files_directories_and_lists_and_refuses_input_with_its_line() -> Result<()> {
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
            "forgebind: -:4: not valid YAML",
        ),
        (&["-f", "-"], "a: b\n", "-:1: not a manifest: apiVersion and kind are required"),
        (&["-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "nothing to check"),
        (&["-f", "/no/such/file"], "", "/no/such/file: "),
        (&["-f", "-", "--public-url", "hooks"], "", "--public-url: "),
        (&["-f", "-", "--install-key-file", "/no/such/key"], "", "--install-key-file: "),
        (&[], "", "--filename"),
        (
            &["-f", "-"],
            "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {token: canary!}\n",
            "-:1: Secret x has a field of the wrong type",
        ),
    ] {
        let checked = run(flags, &[], input).await?;
        assert!(checked.code == 2 && checked.text.is_empty() && checked.complaint.contains(complaint), "{complaint}: {checked:?}");
        assert!(!checked.complaint.contains("canary"), "{checked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn offline_checks_the_manifests_alone_and_sends_no_request() -> Result<()> {
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
        ("path", "NotReady SpecInvalid []"),
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
        "spec.conectionRef: unknown field; did you mean connectionRef?",
        "did you mean Push?",
        "did you mean RepoBinding?",
        "is defined twice, first at ",
        "two kinds of credential, password and token",
        "/credential is not among the manifests and was assumed to be valid",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    assert!(!said.contains("canary"), "{said}");
    assert_eq!(bench.proxy.exchanges().len(), 0, "no request was sent");

    let good = bench.check(&[bench.connection(json!({})), bench.binding("good", json!({"webhook": {}}))], &["--offline"]).await?;
    assert!(
        good.code == 0 && good.text.ends_with("1 connection, 1 binding: the manifests are valid; no provider was contacted.\n"),
        "{good:?}"
    );
    assert_eq!(bench.proxy.exchanges().len(), 0, "no request was sent");
    Ok(())
}

#[tokio::test]
async fn offline_judges_the_manifests_of_every_provider() -> Result<()> {
    for kind in ProviderKind::ALL {
        let samples = samples::of(kind);
        let Offline { spec, repository, outside } = &samples.offline;
        let connection = json!({"provider": samples.provider(spec), "credentials": {"secretRef": {"name": "credential"}}});
        let binding =
            |repository: &str| json!({"connectionRef": {"name": "one"}, "repository": repository, "webhook": {}, "branch": "main"});
        let objects = [
            object("GitProviderConnection", "team", "one", connection),
            object("RepoBinding", "team", "shop", binding(repository)),
            object("RepoBinding", "team", "elsewhere", binding(outside)),
        ];
        let flags = ["-f", "-", "--offline", "-o", "json", "--public-url", "https://hooks.acme.test"];
        let result = run(&flags, &[], &stream(&objects)).await?.json()?;
        if registry::provider(kind).is_some() {
            assert_eq!(told(&result, "one"), "NotAsked - []", "{kind}: {result:#}");
            assert_eq!(told(&result, "shop"), "NotAsked - []", "{kind}: {result:#}");
            assert_eq!(told(&result, "elsewhere"), "NotReady OutOfScope []", "{kind}: {result:#}");
        } else {
            assert_eq!(told(&result, "one"), "NotReady ProviderNotServed []", "{kind}");
        }
    }
    Ok(())
}

/// One connection serves every owner that its credential can reach, where the provider allows several.
#[tokio::test]
async fn without_the_optional_owner_every_repository_is_allowed() -> Result<()> {
    for (kind, provider, repositories) in [
        (ProviderKind::GitLab, json!({"gitlab": {}}), ["acme/apps/shop", "globex/tools"]),
        (ProviderKind::BitbucketCloud, json!({"bitbucketCloud": {"workspace": "acme"}}), ["acme/shop", "acme/tools"]),
        (
            ProviderKind::BitbucketDataCenter,
            json!({"bitbucketDataCenter": {"url": "https://bitbucket.acme.test/git"}}),
            ["APP/shop", "~ada/notes"],
        ),
        (ProviderKind::AzureDevOps, json!({"azureDevOps": {"organization": "acme"}}), ["Shop/web", "Tools/scripts"]),
    ] {
        let connection = json!({"provider": provider, "credentials": {"secretRef": {"name": "credential"}}});
        let binding = |repository: &str| json!({"connectionRef": {"name": "one"}, "repository": repository, "webhook": {}});
        let objects = [
            object("GitProviderConnection", "team", "one", connection),
            object("RepoBinding", "team", "here", binding(repositories[0])),
            object("RepoBinding", "team", "there", binding(repositories[1])),
        ];
        let flags = ["-f", "-", "--offline", "-o", "json", "--public-url", "https://hooks.acme.test"];
        let result = run(&flags, &[], &stream(&objects)).await?.json()?;
        for name in ["one", "here", "there"] {
            assert_eq!(told(&result, name), "NotAsked - []", "{kind}: {result:#}");
        }
    }
    Ok(())
}

/// The same against a server: one connection plans the hooks of repositories in two projects, one of them personal.
#[tokio::test]
async fn one_connection_serves_the_projects_of_a_whole_data_center() -> Result<()> {
    let simulated = Simulated::new(ProviderKind::BitbucketDataCenter).await?;
    let data: serde_json::Map<_, _> = simulated.seed_data.credential.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let metadata = json!({"name": "credential", "namespace": "team"});
    let provider = json!({"bitbucketDataCenter": {"url": simulated.endpoint.web.as_str()}});
    let connection = json!({"provider": provider, "credentials": {"secretRef": {"name": "credential"}}});
    let binding = |repository: &str| json!({"connectionRef": {"name": "one"}, "repository": repository, "webhook": {}, "branch": "main"});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}),
        object("GitProviderConnection", "team", "one", connection),
        object("RepoBinding", "team", "shop", binding("APP/shop")),
        object("RepoBinding", "team", "notes", binding("~forgebind/notes")),
        object("RepoBinding", "team", "tools", binding("OPS/tools")),
    ];
    let flags = ["-f", "-", "-o", "json", "--public-url", "https://hooks.acme.test"];
    let result = run(&flags, &[], &stream(&objects)).await?.json()?;
    assert_eq!(told(&result, "one"), "Ready Succeeded []", "{result:#}");
    for name in ["shop", "notes"] {
        assert_eq!(told(&result, name), "Ready Succeeded [CreateHook]", "{result:#}");
    }
    assert_eq!(told(&result, "tools"), "NotReady PermissionMissing []", "the account may read it but not administer it: {result:#}");
    Ok(())
}

#[tokio::test]
async fn the_endpoint_that_a_connection_chooses_is_compared_with_the_names_of_the_installation() -> Result<()> {
    let bench = Bench::new().await?;
    let more = ["-o", "json", "--public-url", "internal=https://hooks.acme.corp"];
    let check = async |name: &str| {
        let objects = [
            bench.connection(json!({"receiver": {"publicURL": name}})),
            bench.secret(),
            bench.binding("shop", json!({"webhook": {"events": ["Push"]}})),
        ];
        bench.check(&objects, &more).await
    };
    let unknown = check("intern").await?;
    let result = unknown.json()?;
    assert_eq!(told(&result, "shop"), "NotReady PublicURLMissing []", "{result:#}");
    assert_eq!(told(&result, "gitea"), "Ready Succeeded []", "{result:#}");
    for row in [row(&result, "shop"), row(&result, "gitea")] {
        let text = row.to_string();
        assert!(text.contains("is intern, but --public-url has only the names internal"), "{row:#}");
    }
    assert_eq!(unknown.code, 1);
    let known = check("internal").await?;
    assert_eq!(told(&known.json()?, "shop"), "Ready Succeeded [CreateHook]", "{}", known.text);
    assert_eq!(known.code, 0);
    Ok(())
}
