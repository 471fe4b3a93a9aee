//! The credential's story on real parts: wrong, missing, dead, replaced, ending, and what it may do.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::{GitProviderConnection, RECONCILE_REQUESTED_AT};
use forgebind::clock::{Clock as _, SystemClock};
use futures::StreamExt as _;
use jiff::SignedDuration;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use testkit::fault_proxy::{Exchange, FaultProxy};
use testkit::operator::Operator;
use testkit::wait::{Seen, wait_until};
use testkit::world::{
    CONNECTION, SOON, World, binding_condition, binding_message, connection_condition, connection_message, connection_says_now, event_on,
};

const DEAD_TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";

async fn put_token(world: &World, token: &str) -> Result<Secret> {
    world.cluster().apply_secret(&world.namespace, "credential", &[("token", token)]).await
}

/// The version of the Secret that the status speaks of.
fn secret_version(connection: &GitProviderConnection) -> Option<String> {
    connection.status.as_ref()?.credential.as_ref()?.secret_resource_version.clone()
}

async fn ask_again(world: &World, value: &str) -> Result<GitProviderConnection> {
    world.patch_connection(json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: value}}})).await?;
    world
        .connection_until("the request acknowledged", SOON, |connection| {
            let handled = connection.status.as_ref().and_then(|status| status.last_handled.as_ref());
            handled.and_then(|handled| handled.reconcile.as_deref()) == Some(value)
        })
        .await
}

#[tokio::test]
async fn bb_08_a_token_replaced_in_the_secret_is_ready_again_within_seconds() -> Result<()> {
    let world = World::new("replaced").await?;
    let operator = Operator::start(world.options().await?).await?;
    world.create_connection(world.connection_spec()).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    let generation = world.connection_ready().await?.metadata.generation;
    world.binding_ready("shop").await?;
    let hooks = world.hooks_at(&operator.url()).await?;

    // While all is well: the new token is looked at, and the old one is not needed any more.
    let second = world.gitea.create_token(&world.account, "second", testkit::gitea::OPERATOR_SCOPES).await?;
    let version = put_token(&world, &second).await?.resource_version();
    let began = Instant::now();
    world.connection_until("the new token examined", SOON, |connection| secret_version(connection) == version).await?;
    eprintln!("figure: Secret edited -> examined again: {:?}", began.elapsed());
    world.gitea.delete_token(&world.account, "operator").await?;
    let connection = ask_again(&world, "without-the-first").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");

    // From a token that is dead.
    world.gitea.delete_token(&world.account, "second").await?;
    let connection = ask_again(&world, "without-the-second").await?;
    assert_eq!(connection_condition(&connection, "Authenticated"), "False/CredentialRejected");
    assert_eq!(connection_condition(&connection, "Reachable"), "True/Succeeded");
    assert_eq!(connection_condition(&connection, "Ready"), "False/CredentialRejected");
    assert_eq!(connection_condition(&connection, "Stalled"), "True/CredentialRejected");
    let message = connection_message(&connection, "Ready");
    let remedy = format!("put a valid credential into Secret {}/credential, key token", world.namespace);
    assert!(message.contains(&remedy), "{message}");
    world.binding_says("shop", "ConnectionReady", "False/ConnectionNotReady").await?;
    let third = world.gitea.create_token(&world.account, "third", testkit::gitea::OPERATOR_SCOPES).await?;
    put_token(&world, &third).await?;
    let began = Instant::now();
    let connection = world.connection_ready().await?;
    eprintln!("figure: dead token replaced -> Ready: {:?}", began.elapsed());
    world.binding_ready("shop").await?;
    eprintln!("figure: dead token replaced -> binding Ready: {:?}", began.elapsed());
    assert_eq!(connection.metadata.generation, generation, "nothing but the Secret was changed");
    let now = world.hooks_at(&operator.url()).await?;
    assert_eq!(now.iter().map(|hook| hook.id).collect::<Vec<_>>(), hooks.iter().map(|hook| hook.id).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn dt_02_df_03_without_a_connection_that_is_ready_nothing_is_created_and_the_reason_is_visible() -> Result<()> {
    let world = World::new("without").await?;
    let proxy = FaultProxy::before_gitea(world.gitea).await?;
    let operator = Operator::start(world.options().await?).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    let binding = world.binding_says("shop", "ConnectionReady", "False/ConnectionNotFound").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/ConnectionNotFound");
    assert!(binding_message(&binding, "Ready").contains("create it"), "{}", binding_message(&binding, "Ready"));
    assert_eq!(binding_condition(&binding, "Stalled"), "", "it may come later");
    assert!(event_on(&world, "shop", "ConnectionNotFound").await?.contains(CONNECTION));

    put_token(&world, DEAD_TOKEN).await?;
    world.create_connection(world.connection_spec_at(&proxy.url())).await?;
    world.connection_says("Authenticated", "False/CredentialRejected").await?;
    let binding = world.binding_says("shop", "ConnectionReady", "False/ConnectionNotReady").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/ConnectionNotReady");
    let message = binding_message(&binding, "Ready");
    assert!(message.contains("CredentialRejected") && message.contains("see its conditions"), "{message}");
    event_on(&world, "shop", "ConnectionNotReady").await?;
    assert_eq!(proxy.count(Exchange::is_write), 0);
    assert_eq!(proxy.count(|exchange| exchange.path.contains("/repos/")), 0, "not even looked at");
    assert!(world.gitea.hooks(&world.repository).await?.is_empty());
    assert!(binding.finalizers().is_empty(), "there is nothing to clean up");

    put_token(&world, &world.account.token).await?;
    world.binding_ready("shop").await?;
    assert_eq!(world.hooks_at(&operator.url()).await?.len(), 1);
    Ok(())
}

/// Everything that was ever seen of the connection.
struct History {
    seen: Arc<Mutex<Vec<GitProviderConnection>>>,
    task: JoinHandle<()>,
}

impl History {
    fn of(world: &World) -> Self {
        let seen: Arc<Mutex<Vec<GitProviderConnection>>> = Arc::default();
        let (shared, connections) = (Arc::clone(&seen), world.connections.clone());
        let task = tokio::spawn(async move {
            let mut changes = watcher(connections, watcher::Config::default()).applied_objects().boxed();
            while let Some(change) = changes.next().await {
                if let Ok(connection) = change {
                    shared.lock().unwrap().push(connection);
                }
            }
        });
        Self { seen, task }
    }

    fn any(&self, condition: &str, expected: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|connection| connection_condition(connection, condition) == expected)
    }

    async fn reaches(&self, version: Option<String>) -> Result<()> {
        wait_until("the history to reach a version", SOON, async || {
            let reached = self.seen.lock().unwrap().iter().any(|connection| connection.resource_version() == version);
            Ok(if reached { Seen::Done(()) } else { Seen::NotYet("behind".to_owned()) })
        })
        .await
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn dt_19_a_failing_credential_is_never_shown_as_ready() -> Result<()> {
    let world = World::new("never").await?;
    let history = History::of(&world);
    let _operator = Operator::start(world.options().await?).await?;
    put_token(&world, DEAD_TOKEN).await?;
    world.create_connection(world.connection_spec()).await?;
    world.connection_says("Ready", "False/CredentialRejected").await?;
    world.patch_connection(json!({"spec": {"interval": "20m"}})).await?;
    connection_says_now(&world, "Ready", "False/CredentialRejected").await?;
    put_token(&world, "another-that-nobody-knows").await?;
    let connection = ask_again(&world, "again").await?;
    history.reaches(connection.resource_version()).await?;
    for status in ["True/Succeeded", "Unknown/Progressing"] {
        assert!(!history.any("Authenticated", status), "Authenticated was {status}");
    }
    assert!(!history.any("Ready", "True/Succeeded"));
    // The history does see what is Ready.
    put_token(&world, &world.account.token).await?;
    let connection = world.connection_ready().await?;
    history.reaches(connection.resource_version()).await?;
    assert!(history.any("Ready", "True/Succeeded"));
    Ok(())
}

#[tokio::test]
async fn a_missing_wrong_empty_or_ambiguous_secret_is_named_key_by_key() -> Result<()> {
    let world = World::new("keys").await?;
    let _operator = Operator::start(world.options().await?).await?;
    let mut spec = world.connection_spec();
    spec["credentials"]["secretRef"]["name"] = json!("late");
    world.create_connection(spec).await?;
    let connection = world.connection_says("Authenticated", "False/SecretNotFound").await?;
    let named = format!("Secret {}/late, which credentials.secretRef names, does not exist; create it with the key token", world.namespace);
    assert!(connection_message(&connection, "Ready").contains(&named), "{}", connection_message(&connection, "Ready"));
    assert_eq!(connection_condition(&connection, "Stalled"), "", "a missing Secret may come later");

    let (token, password) = (world.account.token.as_str(), world.account.password.as_str());
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("tokn", token)], "none of the keys token, username and password"),
        (&[("token", "")], "the key token is empty; put its value there"),
        (&[("token", "\n")], "the key token is empty; put its value there"),
        (&[("username", "ada")], "has username but lacks password"),
        (&[("password", password)], "has password but lacks username"),
        (&[("username", "ada"), ("password", "")], "the key password is empty; put its value there"),
        (&[("token", token), ("password", password)], "two kinds of credential, password and token"),
        (&[("githubAppID", "1"), ("token", token)], "two kinds of credential, githubAppID and token"),
        (&[("githubAppID", "1")], "has githubAppID but lacks githubAppPrivateKey"),
        (&[("email", "ada@acme.io"), ("token", token)], "takes a token, or username and password"),
    ];
    for (entries, expected) in cases {
        world.cluster().apply_secret(&world.namespace, "late", entries).await?;
        let fits = |connection: &GitProviderConnection| {
            connection_condition(connection, "Authenticated") == "False/SecretInvalid"
                && connection_message(connection, "Ready").contains(expected)
                && connection_message(connection, "Ready").contains(&format!("Secret {}/late", world.namespace))
        };
        let connection = world.connection_until(expected, SOON, fits).await?;
        assert_eq!(connection_condition(&connection, "Stalled"), "True/SecretInvalid");
        let whole = serde_json::to_string(&connection)?;
        assert!(!whole.contains(token) && !whole.contains(password), "{whole}");
    }
    let secrets: Api<Secret> = Api::namespaced(world.cluster().client()?, &world.namespace);
    let not_text = json!({"data": {"email": null, "token": ByteString(vec![0xff, 0xfe])}});
    secrets.patch("late", &PatchParams::default(), &Patch::Merge(&not_text)).await?;
    let fits = |connection: &GitProviderConnection| {
        connection_message(connection, "Ready").contains("the key token is not UTF-8 text; store it as text")
    };
    world.connection_until("the key that is no text", SOON, fits).await?;

    // Seconds after it is right: with a newline as editors leave it, and with a password in a token's place.
    secrets.delete("late", &kube::api::DeleteParams::default()).await?;
    world.connection_says("Authenticated", "False/SecretNotFound").await?;
    world.cluster().apply_secret(&world.namespace, "late", &[("token", &format!("{token}\n"))]).await?;
    let began = Instant::now();
    world.connection_ready().await?;
    eprintln!("figure: Secret created -> Ready: {:?}", began.elapsed());
    let basic = [("username", world.account.name.as_str()), ("password", password), ("expiresAt", "2999-01-01"), ("unknown", "kept")];
    let version = world.cluster().apply_secret(&world.namespace, "late", &basic).await?.resource_version();
    let connection = world.connection_until("the password examined", SOON, |connection| secret_version(connection) == version).await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    Ok(())
}

/// A moment from now, as RFC 3339.
fn from_now(hours: i64) -> String {
    (SystemClock.now() + SignedDuration::from_hours(hours)).to_string()
}

#[tokio::test]
async fn bb_08_a_dead_token_whose_end_has_passed_is_expired_and_not_merely_rejected() -> Result<()> {
    let world = World::new("expired").await?;
    let proxy = FaultProxy::before_gitea(world.gitea).await?;
    let _operator = Operator::start(world.options().await?).await?;
    put_token(&world, DEAD_TOKEN).await?;
    let mut spec = world.connection_spec_at(&proxy.url());
    spec["credentials"]["expiresAt"] = json!(from_now(-24));
    world.create_connection(spec).await?;
    let connection = world.connection_says("Authenticated", "False/CredentialExpired").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "False/CredentialExpired");
    let remedy = format!("put a new one into Secret {}/credential, key token", world.namespace);
    assert!(connection_message(&connection, "Ready").contains(&remedy), "{}", connection_message(&connection, "Ready"));
    assert_eq!(connection_condition(&connection, "Stalled"), "True/CredentialExpired");

    // What is declared decides, also when it is declared after the refusal: for that nobody has to be asked again.
    proxy.forget();
    world.patch_connection(json!({"spec": {"credentials": {"expiresAt": from_now(24 * 365)}}})).await?;
    connection_says_now(&world, "Authenticated", "False/CredentialRejected").await?;
    let with_end = [("token", DEAD_TOKEN), ("expiresAt", "2020-02-02")];
    world.cluster().apply_secret(&world.namespace, "credential", &with_end).await?;
    let connection = world.connection_says("Authenticated", "False/CredentialExpired").await?;
    let message = connection_message(&connection, "Ready");
    assert!(message.contains("2020-02-03T00:00:00Z"), "the Secret's own word wins, and a date ends with its day: {message}");
    assert_eq!(proxy.exchanges().len(), 0, "{:?}", proxy.exchanges());

    // A credential that works is not expired, whatever was declared; a new one needs no more than the Secret.
    let generation = connection.metadata.generation;
    put_token(&world, &world.account.token).await?;
    let connection = world.connection_ready().await?;
    assert_eq!(connection.metadata.generation, generation);
    Ok(())
}

#[tokio::test]
async fn an_end_that_is_near_is_warned_of_and_ready_stays_true() -> Result<()> {
    let world = World::new("ending").await?;
    let _operator = Operator::start(world.options().await?).await?;
    let mut spec = world.connection_spec();
    spec["credentials"]["expiresAt"] = json!(from_now(48));
    world.create_connection(spec).await?;
    let connection = world.connection_says("CredentialExpiring", "True/ExpiresSoon").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    let remedy = format!("put a new one into Secret {}/credential, key token", world.namespace);
    assert!(
        connection_message(&connection, "CredentialExpiring").contains(&remedy),
        "{}",
        connection_message(&connection, "CredentialExpiring")
    );
    assert!(connection.status.and_then(|status| status.credential?.expires_at).is_some());
    event_on(&world, CONNECTION, "CredentialExpiring").await?;
    // How early is the user's choice.
    world.patch_connection(json!({"spec": {"credentials": {"warnBefore": "1h"}}})).await?;
    let connection = connection_says_now(&world, "CredentialExpiring", "").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    // Past its declared end it goes on for as long as the provider takes it, and is said.
    world.patch_connection(json!({"spec": {"credentials": {"expiresAt": "2020-01-01"}}})).await?;
    let connection = connection_says_now(&world, "CredentialExpiring", "True/CredentialExpired").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    Ok(())
}

#[tokio::test]
async fn bb_03_the_identity_behind_the_token_is_shown() -> Result<()> {
    let world = World::new("identity").await?;
    let _operator = Operator::start(world.options().await?).await?;
    world.create_connection(world.connection_spec()).await?;
    let status = world.connection_ready().await?.status.context("a status")?;
    let identity = status.identity.context("an identity")?;
    assert_eq!((identity.name.as_deref(), format!("{:?}", identity.kind)), (Some(world.account.name.as_str()), "User".to_owned()));
    let server = status.server.context("a server")?;
    assert_eq!(server.flavor, "Gitea");
    assert!(server.version.is_some_and(|version| !version.is_empty()));
    let shown = world.cluster().kubectl(&["get", "gpc", CONNECTION, "-n", &world.namespace, "-o", "wide"]).await?;
    assert!(shown.contains("True"), "{shown}");
    // Somebody else's token shows as theirs.
    let other = world.gitea.create_user(&testkit::gitea::Gitea::unique_name("grace"), testkit::gitea::OPERATOR_SCOPES).await?;
    put_token(&world, &other.token).await?;
    let fits = |connection: &GitProviderConnection| {
        connection.status.as_ref().and_then(|status| status.identity.as_ref()?.name.as_deref()) == Some(other.name.as_str())
    };
    world.connection_until("the other identity", SOON, fits).await?;
    Ok(())
}

fn permission_rows(connection: &GitProviderConnection) -> Value {
    let rows = connection.status.as_ref().map(|status| status.permissions.clone()).unwrap_or_default();
    rows.into_iter()
        .map(|row| (row.name.to_string(), json!([format!("{:?}", row.state), row.message.unwrap_or_default()])))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn words(row: &Value) -> (&str, &str) {
    (row[0].as_str().unwrap_or_default(), row[1].as_str().unwrap_or_default())
}

#[tokio::test]
async fn df_16_permissions_are_rows_that_name_the_scope_as_far_as_gitea_tells() -> Result<()> {
    let world = World::new("rights").await?;
    let operator = Operator::start(world.options().await?).await?;
    // Gitea tells the scopes of a token that lacks the one for reading its own account, while it refuses.
    let reader = world.gitea.create_token(&world.account, "reader", &["read:repository"]).await?;
    put_token(&world, &reader).await?;
    world.create_connection(world.connection_spec()).await?;
    let mut spec = world.binding_spec();
    spec.as_object_mut().context("an object")?.retain(|key, _| key == "connectionRef" || key == "repository");
    world.create_binding("reads", spec).await?;
    world.connection_ready().await?;
    world.binding_ready("reads").await?;

    world.patch_connection(json!({"spec": {"requiredPermissions": ["CommentOnPullRequests", "ReadContents"]}})).await?;
    let connection = connection_says_now(&world, "Authorized", "False/PermissionMissing").await?;
    let rows = permission_rows(&connection);
    assert_eq!(words(&rows["ReadContents"]), ("Granted", ""));
    let (state, message) = words(&rows["CommentOnPullRequests"]);
    assert_eq!(state, "Missing");
    assert!(message.contains("needs scope write:issue") && message.contains("read:repository"), "{message}");
    assert_eq!(connection_condition(&connection, "Ready"), "False/PermissionMissing");
    assert!(connection_message(&connection, "Ready").contains("write:issue"));
    assert_eq!(connection_condition(&connection, "Authenticated"), "True/Succeeded");
    // A binding is held back only by a permission that it uses.
    let binding = world.bindings.get("reads").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
    world.create_binding("hooks", world.binding_spec()).await?;
    let binding = world.binding_says("hooks", "WebhookInSync", "False/PermissionMissing").await?;
    assert!(binding_message(&binding, "Ready").contains("write:repository"), "{}", binding_message(&binding, "Ready"));
    assert!(world.hooks_at(&operator.url()).await?.is_empty());

    // A token with the right in the same Secret is all that the binding waited for.
    put_token(&world, &world.account.token).await?;
    let began = Instant::now();
    world.binding_ready("hooks").await?;
    eprintln!("figure: Secret with the missing right -> binding Ready: {:?}", began.elapsed());
    let rows = permission_rows(&world.connections.get(CONNECTION).await?);
    let (state, message) = words(&rows["CommentOnPullRequests"]);
    assert!(state != "Granted" && message.contains("needs scope write:issue"), "{rows}");

    // What a provider does not have at all is missing, in its own words.
    world.patch_connection(json!({"spec": {"requiredPermissions": ["WriteChecks"]}})).await?;
    let connection = connection_says_now(&world, "Authorized", "False/PermissionMissing").await?;
    assert!(connection_message(&connection, "Authorized").contains("commit statuses"));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_told_of_a_permission_is_unknown_and_holds_back_nothing() -> Result<()> {
    let world = World::new("untold").await?;
    let _operator = Operator::start(world.options().await?).await?;
    let mut spec = world.connection_spec();
    spec.as_object_mut().context("an object")?.remove("credentials");
    spec["requiredPermissions"] = json!(["ReadContents"]);
    world.create_connection(spec).await?;
    let connection = connection_says_now(&world, "Authorized", "Unknown/CannotTell").await?;
    assert_eq!(words(&permission_rows(&connection)["ReadContents"]).0, "Unknown");
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    // What is missing for certain is: nobody manages hooks without a credential.
    world.gitea.edit_repository(&world.repository, &json!({"private": false})).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    world.binding_says("shop", "WebhookInSync", "False/PermissionMissing").await?;
    let connection = connection_says_now(&world, "Authorized", "False/PermissionMissing").await?;
    assert_eq!(words(&permission_rows(&connection)["ManageWebhooks"]), ("Missing", "needs a credential"));
    Ok(())
}

#[tokio::test]
async fn a_rejected_credential_is_not_tried_again_and_again() -> Result<()> {
    let world = World::new("rests").await?;
    let proxy = FaultProxy::before_gitea(world.gitea).await?;
    let _operator = Operator::start(world.options().await?).await?;
    put_token(&world, DEAD_TOKEN).await?;
    world.create_connection(world.connection_spec_at(&proxy.url())).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    let connection = world.connection_says("Authenticated", "False/CredentialRejected").await?;
    assert!(connection_message(&connection, "Ready").contains("tried again at"), "{}", connection_message(&connection, "Ready"));
    world.binding_says("shop", "ConnectionReady", "False/ConnectionNotReady").await?;
    proxy.forget();

    // A changed spec, the same token written anew, and a second connection with the same Secret: no call for any of them.
    for minutes in 20..25 {
        world.patch_connection(json!({"spec": {"interval": format!("{minutes}m")}})).await?;
        connection_says_now(&world, "Authenticated", "False/CredentialRejected").await?;
    }
    for extra in ["1", "2"] {
        let entries = [("token", DEAD_TOKEN), ("unrelated", extra)];
        let version = world.cluster().apply_secret(&world.namespace, "credential", &entries).await?.resource_version();
        world.connection_until("the new version seen", SOON, |connection| secret_version(connection) == version).await?;
    }
    let second = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
        "metadata": {"name": "second", "namespace": world.namespace}, "spec": world.connection_spec_at(&proxy.url()),
    });
    world.connections.create(&PostParams::default(), &serde_json::from_value(second)?).await?;
    wait_until("the second connection to say the same", SOON, async || {
        let said = connection_condition(&world.connections.get("second").await?, "Authenticated");
        Ok(if said == "False/CredentialRejected" { Seen::Done(()) } else { Seen::NotYet(said) })
    })
    .await?;
    assert_eq!(proxy.exchanges().len(), 0, "{:?}", proxy.exchanges());

    // Somebody who asks gets one attempt with a token, and none with a password, which servers lock accounts for.
    ask_again(&world, "by-hand").await?;
    assert_eq!(proxy.exchanges().len(), 1, "{:?}", proxy.exchanges());
    let basic = [("username", world.account.name.as_str()), ("password", "not-the-password")];
    let version = world.cluster().apply_secret(&world.namespace, "credential", &basic).await?.resource_version();
    world.connection_until("the password refused", SOON, |connection| secret_version(connection) == version).await?;
    world.connection_says("Authenticated", "False/CredentialRejected").await?;
    wait_until("the second connection to see it too", SOON, async || {
        let second = world.connections.get("second").await?;
        Ok(if secret_version(&second) == version { Seen::Done(()) } else { Seen::NotYet(format!("{:?}", secret_version(&second))) })
    })
    .await?;
    proxy.forget();
    let connection = ask_again(&world, "by-hand-again").await?;
    assert_eq!(connection_condition(&connection, "Authenticated"), "False/CredentialRejected");
    assert_eq!(proxy.exchanges().len(), 0, "{:?}", proxy.exchanges());
    Ok(())
}
