//! Which repository a binding refers to, and who may reach it: at a real Gitea.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::binding::RepositoryStatus;
use forgebind::api::v1alpha1::connection::PermissionState;
use forgebind::api::v1alpha1::{Permission, RepoBinding};
use serde_json::{Value, json};

use testkit::gitea::Hook;
use testkit::operator::Operator;
use testkit::plain_http;
use testkit::test_env::{CONNECTION, SOON, TestEnv, binding_condition, binding_message, connection_condition};
use testkit::wait::{Seen, wait_until};

fn repository(binding: &RepoBinding) -> Result<RepositoryStatus> {
    binding.status.clone().and_then(|status| status.repository).context("the status names no repository")
}

/// A binding that checks access and has no webhook.
fn access_spec(repository: &str) -> Value {
    json!({"connectionRef": {"name": CONNECTION}, "repository": repository})
}

#[tokio::test]
async fn dv_03_empty_repository_reaches_ready_and_delivers_its_first_push() -> Result<()> {
    let mut env = TestEnv::new("empty").await?;
    env.gitea.create_repository(&env.organization, "later", true).await?;
    env.repository = format!("{}/later", env.organization);
    let _operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["branch"] = json!("main");
    env.create_binding("later", spec).await?;
    let found = repository(&env.binding_ready("later").await?)?;
    assert!(found.empty && found.default_branch.is_none(), "{found:?}");
    let commit = env.push("first").await?;
    let event = env.sink.wait_for(1, SOON).await?.remove(0);
    assert_eq!(event.json()["after"], json!(commit));
    let binding = env.look_again("later").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
    let found = repository(&binding)?;
    assert!(!found.empty && found.default_branch.as_deref() == Some("main"), "{found:?}");
    Ok(())
}

#[tokio::test]
async fn an_archived_repository_takes_no_hook_but_can_be_bound() -> Result<()> {
    let env = TestEnv::new("archived").await?;
    let operator = env.operator().await?;
    env.gitea.edit_repository(&env.repository, &json!({"archived": true})).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("access", access_spec(&env.repository)).await?;
    assert!(repository(&env.binding_ready("access").await?)?.archived);
    env.create_binding("shop", env.binding_spec()).await?;
    let binding = env.binding_says("shop", "Ready", "False/RepositoryArchived").await?;
    assert_eq!(binding_condition(&binding, "WebhookInSync"), "False/RepositoryArchived");
    assert!(env.hooks_at(&operator.url()).await?.is_empty());
    env.gitea.edit_repository(&env.repository, &json!({"archived": false})).await?;
    env.look_again("shop").await?;
    env.binding_ready("shop").await?;

    // An archived repository with a correct hook is Ready, and the hook is removed with its binding.
    env.gitea.edit_repository(&env.repository, &json!({"archived": true})).await?;
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert!(env.hooks_at(&operator.url()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn df_04_path_and_clone_urls_resolve_to_the_same_repository() -> Result<()> {
    let env = TestEnv::new("urls").await?;
    let _operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    let (path, web) = (&env.repository, env.gitea.url());
    let forms = [
        path.clone(),
        path.to_uppercase(),
        format!("{web}/{path}"),
        format!("{web}/{path}.git"),
        format!("{web}/{}.git/", path.to_uppercase()),
        format!("http://someone@{}/{path}.git", web.trim_start_matches("http://")),
        format!("ssh://git@127.0.0.1:2222/{path}.git"),
        format!("git@127.0.0.1:{path}.git"),
        format!("git@127.0.0.1:{path}"),
    ];
    for (number, form) in forms.iter().enumerate() {
        env.create_binding(&format!("form-{number}"), access_spec(form)).await?;
    }
    let mut found = Vec::new();
    for number in 0..forms.len() {
        found.push(repository(&env.binding_ready(&format!("form-{number}")).await?)?);
    }
    for (form, repository) in forms.iter().zip(&found) {
        assert_eq!((&repository.id, &repository.path), (&found[0].id, path), "{form}");
    }
    env.create_binding("elsewhere", access_spec("https://gitea.example.com/acme/shop.git")).await?;
    let binding = env.binding_says("elsewhere", "RepositoryFound", "False/OutOfScope").await?;
    assert!(binding_message(&binding, "Ready").contains("gitea.example.com"), "{}", binding_message(&binding, "Ready"));
    Ok(())
}

#[tokio::test]
async fn df_05_bb_16_a_missing_branch_is_reported_and_found_once_it_exists() -> Result<()> {
    let env = TestEnv::new("branch").await?;
    let _operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    let spec = |branch: &str| {
        let mut spec = access_spec(&env.repository);
        spec["branch"] = json!(branch);
        spec
    };
    env.create_binding("main", spec("main")).await?;
    env.binding_ready("main").await?;
    env.create_binding("release", spec("release/1.0")).await?;
    let binding = env.binding_says("release", "RepositoryFound", "False/BranchNotFound").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/BranchNotFound");
    let message = binding_message(&binding, "Ready");
    assert!(message.contains("release/1.0") && message.contains(&env.repository), "{message}");
    env.gitea.push_commit(&env.account, &env.repository, "release/1.0", "release").await?;
    env.look_again("release").await?;
    env.binding_ready("release").await?;
    Ok(())
}

#[tokio::test]
async fn df_06_a_public_repository_needs_no_credential() -> Result<()> {
    let env = TestEnv::new("public").await?;
    let _operator = env.operator().await?;
    env.gitea.edit_repository(&env.repository, &json!({"private": false})).await?;
    let mut spec = env.connection_spec();
    spec.as_object_mut().context("a map")?.remove("credentials");
    env.create_connection(spec).await?;
    let mut spec = access_spec(&env.repository);
    spec["branch"] = json!("main");
    env.create_binding("shop", spec).await?;
    let binding = env.binding_ready("shop").await?;
    assert_eq!(repository(&binding)?.path, env.repository);
    let connection = env.connection_ready().await?;
    assert_eq!(connection_condition(&connection, "Authenticated"), "True/Succeeded");
    // A hook cannot be created without a credential, and the reason says so.
    env.create_binding("hooked", env.binding_spec()).await?;
    let binding = env.binding_says("hooked", "Ready", "False/PermissionMissing").await?;
    assert!(binding_message(&binding, "Ready").contains("credential"), "{}", binding_message(&binding, "Ready"));
    Ok(())
}

#[tokio::test]
async fn df_07_a_private_repository_without_access_names_the_needed_credential() -> Result<()> {
    let env = TestEnv::new("private").await?;
    let _operator = env.operator().await?;
    let stranger =
        env.gitea.create_user(&format!("{}-stranger", env.organization), &["write:repository", "read:user", "read:organization"]).await?;
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &stranger.token)]).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let binding = env.binding_says("shop", "RepositoryFound", "False/NotFoundOrHidden").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/NotFoundOrHidden");
    let message = binding_message(&binding, "Ready");
    assert!(message.contains(&env.repository) && message.contains("read access to its contents"), "{message}");
    // The right credential is enough; nobody has to request a probe.
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &env.account.token)]).await?;
    env.binding_ready("shop").await?;
    Ok(())
}

#[tokio::test]
async fn dt_25_a_repository_outside_the_organization_is_refused_with_its_name() -> Result<()> {
    let env = TestEnv::new("scope").await?;
    let operator = env.operator().await?;
    let other = format!("{}-other", env.organization);
    env.gitea.create_organization(&env.account, &other).await?;
    env.gitea.create_repository(&other, "shop", false).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec["repository"] = json!(format!("{other}/shop"));
    env.create_binding("shop", spec).await?;
    let binding = env.binding_says("shop", "Ready", "False/OutOfScope").await?;
    assert_eq!(binding_condition(&binding, "RepositoryFound"), "False/OutOfScope");
    let message = binding_message(&binding, "Ready");
    assert!(message.contains(&format!("organization {}", env.organization)), "{message}");
    assert!(env.hooks_of(&format!("{other}/shop"), &operator.url()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_renamed_repository_is_followed() -> Result<()> {
    let env = TestEnv::new("renamed").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let before = repository(&env.binding_ready("shop").await?)?;
    env.gitea.edit_repository(&env.repository, &json!({"name": "store"})).await?;
    let store = format!("{}/store", env.organization);
    for round in 0..2 {
        if round > 0 {
            // Gitea forgets that the old name redirected to the new one; after that only the id identifies the repository.
            env.gitea.create_repository(&env.organization, "shop", false).await?;
            env.gitea.call(http::Method::DELETE, &format!("/repos/{}", env.repository), None).await?;
        }
        let binding = env.look_again("shop").await?;
        assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded", "{}", binding_message(&binding, "Ready"));
        let found = repository(&binding)?;
        assert_eq!((found.id, found.path), (before.id.clone(), store.clone()));
    }
    assert_eq!(env.hooks_of(&store, &operator.url()).await?.len(), 1);
    env.gitea.push_commit(&env.account, &store, "main", "under the new name").await?;
    env.sink.wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn another_repository_under_the_same_name_is_not_taken_for_the_first() -> Result<()> {
    let env = TestEnv::new("replaced").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let before = repository(&env.binding_ready("shop").await?)?;
    env.gitea.call(http::Method::DELETE, &format!("/repos/{}", env.repository), None).await?;
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/NotFoundOrHidden");
    env.gitea.create_repository(&env.organization, "shop", false).await?;
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "RepositoryFound"), "False/RepositoryReplaced");
    assert_eq!(binding_condition(&binding, "Stalled"), "True/RepositoryReplaced");
    assert_eq!(repository(&binding)?.id, before.id, "it still refers to the first repository");
    // Another change of the spec does not accept the other repository.
    env.patch_binding("shop", json!({"spec": {"interval": "2h"}})).await?;
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/RepositoryReplaced");
    assert!(env.hooks_at(&operator.url()).await?.is_empty());

    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let after = repository(&env.binding_ready("shop").await?)?;
    assert_ne!(after.id, before.id);
    Ok(())
}

#[tokio::test]
async fn grants_admit_and_close_access_and_reveal_nothing_about_other_connections() -> Result<()> {
    let platform = TestEnv::new("grants").await?;
    let team_namespace = format!("{}-team", platform.namespace);
    platform.cluster().create_namespace_named(&team_namespace).await?;
    let team = platform.within(&team_namespace)?;
    let options = platform.options_for(&[&team_namespace]).await?.with("missing-grant-timeout", "0s");
    let operator = Operator::start(options).await?;
    let shops = json!({
        "namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}},
        "repositories": {"include": [format!("{}/sh*", platform.organization)]},
    });
    platform.apply_grant("shops", shops).await?;
    platform.create_connection(platform.connection_spec()).await?;
    platform.connection_ready().await?;
    let referring = |name: &str| {
        let mut spec = team.binding_spec();
        spec["connectionRef"] = json!({"name": name, "namespace": platform.namespace});
        spec
    };
    team.create_binding("shop", referring(CONNECTION)).await?;
    team.create_binding("guess", referring("there-is-none")).await?;
    let closed = team.binding_says("shop", "Ready", "False/RefNotPermitted").await?;
    let guessed = team.binding_says("guess", "Ready", "False/RefNotPermitted").await?;
    let guessed = binding_message(&guessed, "Ready").replace("there-is-none", CONNECTION);
    assert_eq!(binding_message(&closed, "Ready"), guessed, "the messages differ only in the name from the binding");
    assert_eq!(binding_condition(&closed, "RepositoryFound"), "");
    assert!(platform.hooks_at(&operator.url()).await?.is_empty());

    let label = async |value: &str| platform.cluster().kubectl(&["label", "--overwrite", "namespace", &team_namespace, value]).await;
    label("team=shop").await?;
    team.binding_ready("shop").await?;
    let hook = platform.hooks_at(&operator.url()).await?.remove(0);
    platform.push("granted").await?;
    platform.sink.wait_for(1, SOON).await?;

    label("team=other").await?;
    team.binding_says("shop", "Ready", "False/RefNotPermitted").await?;
    platform.hooks_until(&platform.repository, &operator.url(), "gone", <[Hook]>::is_empty).await?;
    wait_until("the route to be closed", SOON, async || {
        let client = plain_http::client()?;
        let request = client.post(&hook.config.url).header("x-gitea-event", "push").header("x-gitea-signature", "00".repeat(32));
        let status = request.body("{}").send().await?.status();
        Ok(if status == http::StatusCode::UNAUTHORIZED { Seen::Done(()) } else { Seen::NotYet(status.to_string()) })
    })
    .await?;

    label("team=shop").await?;
    team.binding_ready("shop").await?;
    assert_eq!(platform.hooks_at(&operator.url()).await?.len(), 1, "a restored grant restores the hook");
    platform.push("granted again").await?;
    platform.sink.wait_for(2, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn df_16_bb_04_reading_needs_a_token_that_reads_and_a_webhook_the_scope_that_the_message_names() -> Result<()> {
    let env = TestEnv::new("scopes").await?;
    let operator = env.operator().await?;
    let reader = env.gitea.create_token(&env.account, "reader", &["read:repository", "read:user", "read:organization"]).await?;
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &reader)]).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = access_spec(&env.repository);
    spec["branch"] = json!("main");
    env.create_binding("access", spec).await?;
    env.binding_ready("access").await?;
    env.connection_ready().await?;

    env.create_binding("shop", env.binding_spec()).await?;
    let binding = env.binding_says("shop", "Ready", "False/PermissionMissing").await?;
    assert_eq!(binding_condition(&binding, "RepositoryFound"), "True/Succeeded");
    let message = binding_message(&binding, "Ready");
    assert!(message.contains("ManageWebhooks") && message.contains("write:repository"), "{message}");
    assert!(env.hooks_at(&operator.url()).await?.is_empty());
    let row = |connection: &forgebind::api::v1alpha1::GitProviderConnection| {
        let rows = connection.status.as_ref()?.permissions.clone();
        rows.into_iter().find(|row| row.name == Permission::ManageWebhooks).map(|row| row.state)
    };
    let missing = |connection: &_| row(connection) == Some(PermissionState::Missing);
    let connection = env.connection_until("ManageWebhooks missing", SOON, missing).await?;
    assert_eq!(connection_condition(&connection, "Authorized"), "False/PermissionMissing");
    assert_eq!(connection_condition(&connection, "Ready"), "False/PermissionMissing");
    let access = env.look_again("access").await?;
    assert_eq!(binding_condition(&access, "Ready"), "True/Succeeded", "a binding without a webhook is not affected");

    // With a credential that may create a webhook, the operator creates it; nobody has to request a probe.
    let writer = env.gitea.create_token(&env.account, "writer", &["write:repository", "read:user", "read:organization"]).await?;
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &writer)]).await?;
    env.binding_ready("shop").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    env.connection_until("ManageWebhooks granted", SOON, |connection| row(connection) == Some(PermissionState::Granted)).await?;
    Ok(())
}
