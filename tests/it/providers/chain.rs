//! The whole chain at each provider, on the real API server with its simulator: connection, binding, hook, delivery, rotation,
//! repair, move, removal. Nothing here depends on the provider.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::binding::RepoBindingStatus;
use forgebind::api::v1alpha1::connection::IdentityKind;
use forgebind::api::v1alpha1::{ProviderKind, ROTATE_REQUESTED_AT};
use forgebind::providers::{Hook, RepositoryPath};
use serde_json::json;

use testkit::provider_env::{BINDING, ProviderEnv};
use testkit::sim::UserAction;
use testkit::sim::github::seed::app_credential;
use testkit::test_namespace::{CONNECTION, SINK, SOON, connection_condition};

/// A foreign hook, which exists from the beginning and must still exist at the end.
const FOREIGN: &str = "https://ci.elsewhere.example/hook";
/// A binding with fewer events than the other one.
const NARROW: &str = "narrow";

/// Checks that the status of a new hook equals the result of the next probe, also where a hook cannot be as narrow as requested:
/// otherwise every start would write the status of every binding.
async fn rest(env: &ProviderEnv) -> Result<()> {
    let spec = json!({
        "connectionRef": {"name": CONNECTION}, "repository": env.repository(), "webhook": {"events": ["Push", "PullRequest"]},
        "sinks": [{"name": "ci", "service": {"name": SINK, "port": env.objects.sink.port(), "path": "/narrow"}}],
    });
    env.objects.create_binding(NARROW, spec).await?;
    let made = env.objects.binding_ready(NARROW).await?.status.unwrap_or_default();
    let seen = env.objects.look_again(NARROW).await?.status.unwrap_or_default();
    assert_eq!(RepoBindingStatus { last_handled: None, ..seen }, made);
    env.objects.delete_binding(NARROW).await?;
    env.objects.binding_gone(NARROW, SOON).await
}

/// Checks that every requested event arrives exactly once, and no other event.
async fn deliver(env: &ProviderEnv) -> Result<()> {
    let repository = env.repository();
    env.push(&repository, "main").await?;
    env.push(&repository, "topic").await?;
    env.act(UserAction::Tag { repository: repository.clone(), name: "v1".into() }).await?;
    let (source, target, title) = ("topic".to_owned(), "main".to_owned(), "A change".to_owned());
    env.act(UserAction::OpenPullRequest { repository: repository.clone(), source, target, title }).await?;
    env.act(UserAction::EditPullRequest { repository: repository.clone(), number: 1, title: "Another title".into() }).await?;
    env.act(UserAction::CommentOnPullRequest { repository: repository.clone(), number: 1, text: "Fine".into() }).await?;
    env.push(&repository, "topic").await?;
    env.act(UserAction::ClosePullRequest { repository: repository.clone(), number: 1 }).await?;
    env.push(&repository, "main").await?;
    let expected = [
        ("dev.forgebind.push", "refs/heads/main"),
        ("dev.forgebind.push", "refs/heads/topic"),
        ("dev.forgebind.tag", "refs/tags/v1"),
        ("dev.forgebind.pull_request", "refs/heads/main"),
        ("dev.forgebind.push", "refs/heads/topic"),
        ("dev.forgebind.pull_request", "refs/heads/main"),
        ("dev.forgebind.push", "refs/heads/main"),
    ];
    env.objects.sink.wait_for(expected.len(), SOON).await?;
    env.objects.binding_says(BINDING, "Receiving", "True/Succeeded").await?;
    let events = env.objects.sink.deliveries();
    let told: Vec<_> = events.iter().map(|event| (event.header("ce-type"), event.header("ce-subject"))).collect();
    assert_eq!(told, expected);
    let found = env.objects.bindings.get(BINDING).await?.status.and_then(|status| status.repository).context("a repository")?;
    // The HTTP binding of CloudEvents demands that the percent sign of an address is itself encoded.
    let source = percent_encoding::percent_decode_str(events[0].header("ce-source")).decode_utf8()?.into_owned();
    // It is an address of the connection's server, though not at every provider that of the repository's page.
    let (source, web): (url::Url, url::Url) = (source.parse()?, found.web_url.context("a page")?.parse()?);
    let path = percent_encoding::percent_decode_str(source.path()).decode_utf8()?;
    assert_eq!((source.origin(), path.ends_with(&format!("/{}", found.path))), (web.origin(), true), "{source}");
    Ok(())
}

/// Rotates the secret and checks that no delivery is refused or duplicated meanwhile.
async fn rotate(env: &ProviderEnv) -> Result<()> {
    let repository = env.repository();
    let before: Vec<_> = env.hooks(&repository).await?.into_iter().map(|hook| hook.url).collect();
    let accepted = env.objects.sink.accepted().len();
    env.objects.annotate_binding(BINDING, ROTATE_REQUESTED_AT, "once").await?;
    env.push(&repository, "main").await?;
    let changed = |hooks: &[Hook]| hooks.len() == env.variants() && hooks.iter().all(|hook| !before.contains(&hook.url));
    env.hooks_until(&repository, "the new URL", changed).await?;
    env.push(&repository, "main").await?;
    env.objects.sink.wait_for(accepted + 2, SOON).await?;
    env.objects.binding_ready(BINDING).await?;
    assert_eq!(env.objects.sink.accepted().len(), accepted + 2);
    Ok(())
}

/// Checks that a hook that somebody changes or deletes is repaired.
async fn repair(env: &ProviderEnv) -> Result<()> {
    let repository = env.repository();
    let hooks = env.hooks(&repository).await?;
    let (bent, removed) = (hooks[0].clone(), hooks[hooks.len() - 1].id.clone());
    env.act(UserAction::ChangeHook { repository: repository.clone(), hook: bent.id.clone() }).await?;
    assert_ne!(env.hooks(&repository).await?, hooks, "the manual change is in effect");
    env.objects.look_again(BINDING).await?;
    env.hooks_until(&repository, "repaired", |found| found.len() == hooks.len() && found.contains(&bent)).await?;
    env.act(UserAction::RemoveHook { repository: repository.clone(), hook: removed.clone() }).await?;
    env.objects.look_again(BINDING).await?;
    let whole = |found: &[Hook]| found.len() == env.variants() && found.iter().all(|hook| hook.id != removed);
    env.hooks_until(&repository, "made again", whole).await?;
    env.objects.binding_ready(BINDING).await?;
    Ok(())
}

/// Checks that a revoked credential is reported, that a new one in the Secret suffices, and that the routes keep accepting
/// meanwhile.
async fn lose_the_credential(env: &ProviderEnv, credential: &[(&'static str, String)]) -> Result<()> {
    env.store(&env.simulated.seed_data.rejected).await?;
    let connection = env.objects.connection_says("Authenticated", "False/CredentialRejected").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "False/CredentialRejected");
    env.store(credential).await?;
    env.objects.connection_ready().await?;
    env.objects.binding_ready(BINDING).await?;
    Ok(())
}

async fn move_on(env: &ProviderEnv) -> Result<()> {
    let other = env.simulated.seed_data.other.clone();
    env.objects.patch_binding(BINDING, json!({"spec": {"repository": other}})).await?;
    env.hooks_until(&other, "created at the new repository", |hooks| hooks.len() == env.variants()).await?;
    env.hooks_until(&env.repository(), "removed from the former repository", <[Hook]>::is_empty).await?;
    env.objects.binding_ready(BINDING).await?;
    let accepted = env.objects.sink.accepted().len();
    env.push(&other, "main").await?;
    env.objects.sink.wait_for(accepted + 1, SOON).await?;
    Ok(())
}

async fn variant(env: &ProviderEnv) -> Result<()> {
    env.objects.delete_binding(BINDING).await?;
    env.objects.binding_gone(BINDING, SOON).await?;
    let client = env.simulated.operator();
    for repository in [env.repository(), env.simulated.seed_data.other.clone()] {
        let path: RepositoryPath = env.simulated.path(&repository);
        let hooks = client.hooks(&client.repository(&path).await?).await?;
        let theirs = hooks.iter().filter(|hook| hook.url.expose() == FOREIGN).count();
        assert_eq!(hooks.len(), theirs, "no hook of ours is left in {repository}");
        assert_eq!(theirs > 0, repository == env.repository(), "and the foreign hook still exists");
    }
    Ok(())
}

async fn tell(kind: ProviderKind) -> Result<()> {
    let env = ProviderEnv::begin(kind).await?;
    let credential = env.simulated.seed_data.credential.clone();
    tell_with(env, &credential).await
}

async fn tell_with(env: ProviderEnv, credential: &[(&'static str, String)]) -> Result<()> {
    let foreign = UserAction::AddHook { repository: env.repository(), url: FOREIGN.to_owned() };
    env.act(foreign).await?;
    let identity = env.connect(credential).await?.status.and_then(|status| status.identity).and_then(|identity| identity.name);
    assert!(identity.is_some(), "the status of the connection shows the identity");
    env.bind().await?;
    rest(&env).await?;
    deliver(&env).await?;
    rotate(&env).await?;
    repair(&env).await?;
    lose_the_credential(&env, credential).await?;
    move_on(&env).await?;
    variant(&env).await
}

mod dv_01_dv_12_dv_15_df_01_bb_01_pk_20_pk_25_the_whole_chain_at {
    testkit::at_each_simulated_provider!(super::tell);
}

#[tokio::test]
async fn df_01_dv_04_dv_10_the_whole_chain_at_github_with_an_app() -> Result<()> {
    let credential = app_credential();
    let env = ProviderEnv::begin_as(ProviderKind::GitHub, "github-app").await?;
    assert!(credential.iter().all(|(key, _)| key.starts_with("githubApp")), "no token of a person");
    let (objects, simulated) = (env.objects.clone(), env.simulated.clone());
    tell_with(env, &credential).await?;
    let status = objects.connections.get(CONNECTION).await?.status.unwrap_or_default();
    assert_eq!(status.identity.map(|identity| identity.kind), Some(IdentityKind::App));
    // Hooks are changed with a token of the installation; this token belongs to a person.
    let person = simulated.seed_data.credential[0].1.clone();
    let exchanges = simulated.simulator.exchanges();
    let writes: Vec<_> = exchanges.iter().filter(|exchange| exchange.is_write() && exchange.request.path.contains("/hooks")).collect();
    assert!(!writes.is_empty());
    assert!(writes.iter().all(|exchange| exchange.request.bearer() != Some(person.as_str())), "an App needs no token of a person");
    Ok(())
}
