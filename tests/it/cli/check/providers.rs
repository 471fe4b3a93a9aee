//! The requests to the provider, and the conclusions from its answers.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use testkit::fault_proxy::Exchange;
use testkit::gitea::{Gitea, OPERATOR_SCOPES};
use testkit::test_namespace::grant;

use super::{Bench, PUBLIC_URL, message, object, row, run, secret, told};

const OWN_SECRET: &str = "a-secret-that-somebody-else-knows";

#[tokio::test]
async fn an_aligned_table_shows_a_hook_that_would_be_created() -> Result<()> {
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
    let result = bench.check_json(&objects).await?;
    let (user, server) = (&bench.account.name, row(&result, "gitea")["found"][0].as_str().context("what the provider reported")?);
    ensure!(server.starts_with("Gitea 1."), "{server}");
    let expected = format!(
        "\
KIND         NAMESPACE   NAME          READY   REASON      PLAN
connection   platform    gitea         True    Succeeded   -
binding      platform    access-only   True    Succeeded   -
binding      platform    shop          True    Succeeded   create

FOUND
  platform/gitea
         {server}; as user {user}; granted read:organization, read:user, write:repository; scopes sufficient for ManageWebhooks

PLANNED CHANGES AT THE PROVIDERS
  create   platform/shop   {repository}   it does not exist

Note: without --install-key-file, existing hooks of the installation are not recognised.

1 connection, 2 bindings: all objects would become Ready. Plan: create. Not checked: 1 object of other kinds \
         (Deployment.apps).
"
    );
    assert_eq!(checked.text, expected);
    assert_eq!((checked.code, checked.complaint.as_str()), (0, ""));
    assert!(bench.proxy.count(|exchange| exchange.path.ends_with("/hooks?limit=50&page=1") || exchange.path.contains("/hooks")) > 0);
    // Without a webhook there is no hook to recognise.
    let checked = bench.check(&[bench.secret(), bench.connection(json!({})), bench.binding("access-only", json!({}))], &[]).await?;
    assert!(checked.code == 0 && !checked.text.contains("--install-key-file"), "{}", checked.text);
    Ok(())
}

#[tokio::test]
async fn an_object_that_would_not_become_ready_is_reported_with_condition_reason_and_remedy() -> Result<()> {
    let bench = Bench::new().await?;
    let repository = bench.repository();
    let shops = json!({
        "namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}},
        "repositories": {"include": [format!("{}/shop*", bench.organization)]},
    });
    let namespace =
        |name: &str, team: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}});
    let objects = [
        bench.secret(),
        bench.connection(json!({})),
        grant("platform", "shops", "gitea", &shops),
        grant("platform", "no-connection-here", "nobody", &json!({})),
        grant(
            "platform",
            "invalid",
            "gitea",
            &json!({"namespaces": {"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "Is"}]}}}),
        ),
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
        ("shops", "Ready Succeeded []"),
        ("no-connection-here", "NotReady ConnectionNotFound []"),
        ("invalid", "NotReady SelectorInvalid []"),
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
    assert_eq!(
        message(&result, "branch-missing", "BranchNotFound"),
        format!("{repository} has no branch mian; correct branch, remove it, or push the branch")
    );
    let finding = &row(&result, "branch-missing")["findings"][0];
    assert_eq!((finding["level"].as_str(), finding["condition"].as_str()), (Some("error"), Some("RepositoryFound")));
    assert!(finding["file"].as_str().is_some_and(|file| file.contains("manifests-")) && finding["line"].as_u64() > Some(10), "{finding}");
    let hint = |name: &str| row(&result, name)["findings"][0]["hint"].as_str().unwrap_or_default().to_owned();
    assert!(hint("no-connection").contains("platform/nobody is not among the manifests"), "{}", hint("no-connection"));
    assert!(hint("labels-unknown").contains("labels of namespace team-nowhere"), "{}", hint("labels-unknown"));
    assert!(hint("sink").contains("flags"), "{}", hint("sink"));

    let table = bench.check(&objects, &[]).await?;
    for expected in [
        "binding      platform       branch-missing       False       BranchNotFound       -\n",
        &format!(
            "         BranchNotFound: {repository} has no branch mian; correct branch, remove it, or push the branch\n         What to do: Correct `branch`"
        ),
        "1 connection, 3 grants, 11 bindings: 10 objects would not become Ready.",
    ] {
        assert!(table.text.contains(expected), "{expected:?} is not in\n{}", table.text);
    }
    assert!(!table.text.contains('\u{1b}'), "no colours where there is no terminal");
    Ok(())
}

#[tokio::test]
async fn credentials_come_from_secrets_or_the_environment_and_are_verified() -> Result<()> {
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

    // White space around a token is ignored: its scopes are still reported.
    let spaced = [secret("platform", "credential", &format!(" {} \n", bench.account.token)), bench.connection(json!({}))];
    let result = bench.check_json(&spaced).await?;
    assert_eq!(told(&result, "gitea"), "Ready Succeeded []", "{result:#}");
    assert!(row(&result, "gitea")["found"].to_string().contains("granted read:organization"), "{result:#}");

    let reader = bench.gitea.create_token(&bench.account, "reader", &["read:repository", "read:user"]).await?;
    let weak = [secret("platform", "credential", &reader), bench.connection(json!({})), binding.clone()];
    let result = bench.check_json(&weak).await?;
    assert_eq!(told(&result, "gitea"), "NotReady PermissionMissing []");
    assert_eq!(told(&result, "shop"), "NotReady PermissionMissing []");
    let missing = message(&result, "shop", "PermissionMissing");
    assert!(missing.contains("ManageWebhooks") && missing.contains("write:repository"), "{missing}");

    // Without a Secret in Git: first another kind that will create it, then none; an environment variable replaces it.
    let without = [bench.connection(json!({})), binding];
    let result = bench.check_json(&without).await?;
    assert_eq!(told(&result, "gitea"), "NotReady SecretNotFound []");
    assert!(row(&result, "gitea")["findings"][0]["hint"].as_str().is_some_and(|hint| hint.contains("--token-env")), "{result:#}");
    let file = bench.file(&without)?;
    let file = file.to_str().context("a path")?;
    for named in ["TOKEN", "gitea=TOKEN", "platform/gitea=TOKEN"] {
        let flags = ["-f", file, "--public-url", PUBLIC_URL, "-o", "json", "--token-env", named, "--allow-provider-hosts", "127.0.0.1"];
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
async fn a_foreign_hook_with_the_same_url_is_reported_and_adopted_only_when_asked() -> Result<()> {
    let bench = Bench::new().await?;
    let url = "https://argocd.acme.test/api/webhook";
    let id = bench.gitea.create_hook(&bench.repository(), url, &["push"]).await?;
    let spec = |adopt: bool| json!({"webhook": {"events": ["Push"], "url": url, "secretRef": {"name": "own"}, "adopt": adopt}});
    let connection = bench.connection(json!({}));
    let allowed = grant("platform", "argocd", "gitea", &json!({"destinationHosts": ["argocd.acme.test"]}));
    let own = secret("platform", "own", OWN_SECRET);
    for (adopt, expected) in [(false, "NotReady ForeignHook []"), (true, "Ready Succeeded [AdoptHook]")] {
        let objects = [bench.secret(), own.clone(), connection.clone(), allowed.clone(), bench.binding("shop", spec(adopt))];
        let result = bench.check_json(&objects).await?;
        assert_eq!(told(&result, "shop"), expected, "{result:#}");
        assert!(result.to_string().contains(&format!("hook {id}")), "{result:#}");
        assert!(!result.to_string().contains(OWN_SECRET));
    }
    // A Secret that a controller will create from a sealed one in Git counts as existing.
    let sealed =
        json!({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "own", "namespace": "platform"}});
    let objects = [bench.secret(), sealed, connection.clone(), allowed.clone(), bench.binding("shop", spec(true))];
    assert_eq!(told(&bench.check_json(&objects).await?, "shop"), "Ready Succeeded [AdoptHook]");
    let objects = [bench.secret(), connection, allowed, bench.binding("shop", spec(true))];
    assert_eq!(told(&bench.check_json(&objects).await?, "shop"), "NotReady SecretNotFound []");
    assert_eq!(bench.gitea.hooks(&bench.repository()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_binding_without_a_grant_causes_no_call_whatever_its_manifest_contains() -> Result<()> {
    let bench = Bench::new().await?;
    let forged = |deleted: bool| {
        let mut binding = bench.binding_in("team-cart", if deleted { "going" } else { "held" }, json!({"webhook": {}}));
        binding["metadata"]["uid"] = json!("forged");
        binding["metadata"]["finalizers"] = json!(["forgebind.dev/cleanup"]);
        if deleted {
            binding["metadata"]["deletionTimestamp"] = json!("2026-11-20T00:00:00Z");
        }
        let connection = json!({"namespace": "platform", "name": "gitea"});
        binding["status"] = json!({"webhook": {
            "hooks": [{"id": "1"}],
            "target": {"connection": connection, "repositoryID": "1", "repository": bench.repository(), "host": "hooks.acme.test"},
        }});
        binding
    };
    let connection = bench.connection(json!({"access": "Granted"}));
    let objects = [bench.secret(), connection, bench.binding("own", json!({"webhook": {}})), forged(false), forged(true)];
    let result = bench.check_json(&objects).await?;
    assert_eq!(told(&result, "own"), "NotReady RefNotPermitted []");
    assert_eq!(told(&result, "held"), "NotReady RefNotPermitted []");
    assert_eq!(row(&result, "going")["actions"], json!([]));
    assert_eq!(told(&result, "gitea"), "Ready Succeeded []", "a binding that only names the connection needs none of its permissions");
    let asks = |exchange: &Exchange| exchange.path.contains("/repos/") || exchange.path.contains("/repositories/");
    assert_eq!(bench.proxy.count(asks), 0, "{:?}", bench.proxy.exchanges());
    Ok(())
}

/// The author of a merge request chooses host, proxy and the Secret's name, and must not get a credential that is not in the
/// manifests.
#[tokio::test]
async fn a_credential_from_another_source_is_not_sent_to_a_host_that_a_manifest_chooses() -> Result<()> {
    let bench = Bench::new().await?;
    let token = bench.account.token.clone();
    let own = bench.file(&[bench.connection(json!({}))])?;
    let proxied = json!({
        "provider": {"github": {"organization": "acme"}}, "proxySecretRef": {"name": "way"},
        "credentials": {"secretRef": {"name": "credential"}},
    });
    let way = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "way", "namespace": "platform"}, "stringData": {"address": bench.proxy.url()},
    });
    let proxied = bench.file(&[object("GitProviderConnection", "platform", "gitea", proxied), way])?;
    let kept = bench.file(&[bench.secret()])?;
    let together = bench.file(&[bench.connection(json!({})), bench.secret()])?;
    let path = |path: &std::path::Path| path.to_str().unwrap_or_default().to_owned();
    let (own, proxied, kept, together) = (path(&own), path(&proxied), path(&kept), path(&together));
    for (flags, from) in [
        (vec!["-f", &own, "--token-env", "TOKEN"], "--token-env"),
        (vec!["-f", &own, "--token-env", "platform/gitea=TOKEN"], "--token-env"),
        (vec!["-f", &together, "--token-env", "gitea=TOKEN"], "--token-env"),
        (vec!["-f", &own, "-f", &kept], "another -f"),
        (vec!["-f", &proxied, "--token-env", "TOKEN"], "--token-env"),
        (vec!["-f", &proxied, "-f", &kept], "another -f"),
    ] {
        let checked = run(&[&flags[..], &["-o", "json"]].concat(), &[("TOKEN", &token)], "").await?;
        let result = checked.json()?;
        assert_eq!((told(&result, "gitea").as_str(), checked.code), ("NotReady HostNotAllowed []", 1), "{flags:?}: {result:#}");
        let message = message(&result, "gitea", "HostNotAllowed");
        assert!(message.contains(from) && message.contains("--allow-provider-hosts 127.0.0.1"), "{flags:?}: {message}");
        assert!(!checked.text.contains(&token) && !checked.complaint.contains(&token), "{flags:?}");
        assert_eq!(bench.proxy.exchanges().len(), 0, "{flags:?}: no request was sent");
    }
    for flags in [
        vec!["-f", &together],
        vec!["-f", &own, "-f", &kept, "--allow-provider-hosts", "127.0.0.1"],
        vec!["-f", &own, "--token-env", "TOKEN", "--allow-provider-hosts", "127.0.0.1"],
    ] {
        let checked = run(&[&flags[..], &["-o", "json"]].concat(), &[("TOKEN", &token)], "").await?;
        assert_eq!(told(&checked.json()?, "gitea"), "Ready Succeeded []", "{flags:?}: {checked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_webhook_url_without_destination_hosts_is_reported_with_the_missing_field_of_the_connection() -> Result<()> {
    let bench = Bench::new().await?;
    let spec = json!({"webhook": {"events": ["Push"], "url": "https://argocd.acme.test/api/webhook", "secretRef": {"name": "own"}}});
    let objects = |grants: Option<serde_json::Value>| {
        let own = [bench.secret(), secret("platform", "own", OWN_SECRET), bench.connection(json!({})), bench.binding("shop", spec.clone())];
        own.into_iter().chain(grants.map(|fields| grant("platform", "argocd", "gitea", &fields))).collect::<Vec<_>>()
    };
    for (fields, words) in [
        (None, "webhook.url leads to argocd.acme.test, which a grant must allow"),
        (Some(json!({})), "the nearest ConnectionGrant is argocd, but its destinationHosts does not list argocd.acme.test"),
    ] {
        let result = bench.check_json(&objects(fields)).await?;
        assert_eq!(told(&result, "shop"), "NotReady RefNotPermitted []", "{result:#}");
        let text = message(&result, "shop", "RefNotPermitted");
        assert!(text.contains(&format!("connection gitea does not allow this binding: {words}")), "{text}");
        assert!(text.contains("destinationHosts") && !text.contains("does not exist"), "{text}");
    }
    let fields = json!({"destinationHosts": ["argocd.acme.test"]});
    assert_eq!(
        told(&bench.check_json(&objects(Some(fields))).await?, "shop"),
        "Ready Succeeded [CreateHook]",
        "the grant that the message recommends"
    );
    // For a connection in another namespace the message does not reveal whether it exists, only what a grant would have to
    // cover.
    let elsewhere =
        [bench.secret(), secret("team", "own", OWN_SECRET), bench.connection(json!({})), bench.binding_in("team", "shop", spec.clone())];
    let text = message(&bench.check_json(&elsewhere).await?, "shop", "RefNotPermitted");
    assert!(
        text.contains("does not exist in that namespace or does not allow") && text.contains("argocd.acme.test in destinationHosts"),
        "{text}"
    );
    Ok(())
}

/// A dry run is in Git like any other object: it is Ready in its requested state, and a pipeline that allows no plan sets a flag.
#[tokio::test]
async fn an_observing_binding_with_a_plan_is_ready_and_fails_a_check_only_when_asked() -> Result<()> {
    let bench = Bench::new().await?;
    let observing = json!({"webhook": {"events": ["Push"]}, "managementPolicy": "Observe"});
    let objects = [bench.secret(), bench.connection(json!({})), bench.binding("shop", observing)];
    let checked = bench.check(&objects, &["-o", "json"]).await?;
    let result = checked.json()?;
    assert_eq!((told(&result, "shop").as_str(), checked.code), ("Ready Observing [CreateHook]", 0), "{result:#}");
    let finding = &row(&result, "shop")["findings"][0];
    assert_eq!((finding["level"].as_str(), finding["reason"].as_str()), (Some("note"), Some("Observing")), "{finding}");
    assert!(message(&result, "shop", "Observing").contains("status.plan lists what would be done: CreateHook"), "{finding}");

    let strict = bench.check(&objects, &["--fail-on-plan"]).await?;
    assert_eq!(strict.code, 1, "{strict:?}");
    let verdict = "all objects would become Ready, but changes would be made at the providers (--fail-on-plan). Plan: create.";
    assert!(strict.text.contains(verdict), "{}", strict.text);
    let nothing = [bench.secret(), bench.connection(json!({})), bench.binding("shop", json!({}))];
    assert_eq!(bench.check(&nothing, &["--fail-on-plan"]).await?.code, 0, "nothing would be done");
    Ok(())
}

/// The scopes of a token and the role of its account are separate facts, and each has its own message.
#[tokio::test]
async fn a_missing_role_is_not_shown_together_with_a_granted_permission() -> Result<()> {
    let bench = Bench::new().await?;
    let reader = bench.gitea.create_user(&Gitea::unique_name("reader"), OPERATOR_SCOPES).await?;
    bench.gitea.edit_repository(&bench.repository(), &json!({"private": false})).await?;
    let objects =
        [secret("platform", "credential", &reader.token), bench.connection(json!({})), bench.binding("shop", json!({"webhook": {}}))];
    let checked = bench.check(&objects, &[]).await?;
    assert!(checked.text.contains("scopes sufficient for ManageWebhooks"), "{}", checked.text);
    assert!(!checked.text.contains("ManageWebhooks granted"), "{}", checked.text);
    let words = "PermissionMissing: ManageWebhooks: at this repository the credential does not suffice";
    assert!(checked.text.contains(words), "{}", checked.text);
    Ok(())
}
