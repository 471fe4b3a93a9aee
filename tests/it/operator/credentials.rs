//! The life of a credential on real parts: wrong, missing, rejected, replaced, expiring, and its permissions.

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
use testkit::test_env::{
    CONNECTION, SOON, TestEnv, binding_condition, binding_message, connection_condition, connection_message, connection_says_now, event_on,
};
use testkit::wait::{Seen, wait_until};

const DEAD_TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";

async fn put_token(env: &TestEnv, token: &str) -> Result<Secret> {
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", token)]).await
}

/// The version of the Secret that the status was computed from.
fn secret_version(connection: &GitProviderConnection) -> Option<String> {
    connection.status.as_ref()?.credential.as_ref()?.secret_resource_version.clone()
}

async fn ask_again(env: &TestEnv, value: &str) -> Result<GitProviderConnection> {
    env.patch_connection(json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: value}}})).await?;
    env.connection_until("the request acknowledged", SOON, |connection| {
        let handled = connection.status.as_ref().and_then(|status| status.last_handled.as_ref());
        handled.and_then(|handled| handled.reconcile.as_deref()) == Some(value)
    })
    .await
}

#[tokio::test]
async fn bb_08_a_token_replaced_in_the_secret_makes_the_connection_ready_within_seconds() -> Result<()> {
    let env = TestEnv::new("replaced").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let generation = env.connection_ready().await?.metadata.generation;
    env.binding_ready("shop").await?;
    let hooks = env.hooks_at(&operator.url()).await?;

    // While all is well: the controller inspects the new token, and the old one is not needed any more.
    let second = env.gitea.create_token(&env.account, "second", testkit::gitea::OPERATOR_SCOPES).await?;
    let version = put_token(&env, &second).await?.resource_version();
    let began = Instant::now();
    env.connection_until("the new token examined", SOON, |connection| secret_version(connection) == version).await?;
    eprintln!("figure: Secret edited -> examined again: {:?}", began.elapsed());
    env.gitea.delete_token(&env.account, "operator").await?;
    let connection = ask_again(&env, "without-the-first").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");

    // Starting from a token that no longer works.
    env.gitea.delete_token(&env.account, "second").await?;
    let connection = ask_again(&env, "without-the-second").await?;
    assert_eq!(connection_condition(&connection, "Authenticated"), "False/CredentialRejected");
    assert_eq!(connection_condition(&connection, "Reachable"), "True/Succeeded");
    assert_eq!(connection_condition(&connection, "Ready"), "False/CredentialRejected");
    assert_eq!(connection_condition(&connection, "Stalled"), "True/CredentialRejected");
    let message = connection_message(&connection, "Ready");
    let remedy = format!("put a valid credential into Secret {}/credential, key token", env.namespace);
    assert!(message.contains(&remedy), "{message}");
    env.binding_says("shop", "ConnectionReady", "False/ConnectionNotReady").await?;
    let third = env.gitea.create_token(&env.account, "third", testkit::gitea::OPERATOR_SCOPES).await?;
    put_token(&env, &third).await?;
    let began = Instant::now();
    let connection = env.connection_ready().await?;
    eprintln!("figure: dead token replaced -> Ready: {:?}", began.elapsed());
    env.binding_ready("shop").await?;
    eprintln!("figure: dead token replaced -> binding Ready: {:?}", began.elapsed());
    assert_eq!(connection.metadata.generation, generation, "nothing but the Secret was changed");
    let now = env.hooks_at(&operator.url()).await?;
    assert_eq!(now.iter().map(|hook| hook.id).collect::<Vec<_>>(), hooks.iter().map(|hook| hook.id).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn dt_02_df_03_without_a_ready_connection_no_hook_is_created_and_the_status_says_why() -> Result<()> {
    let env = TestEnv::new("without").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let binding = env.binding_says("shop", "ConnectionReady", "False/ConnectionNotFound").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/ConnectionNotFound");
    assert!(binding_message(&binding, "Ready").contains("create it"), "{}", binding_message(&binding, "Ready"));
    assert_eq!(binding_condition(&binding, "Stalled"), "", "the Secret may be created later");
    assert!(event_on(&env, "shop", "ConnectionNotFound").await?.contains(CONNECTION));

    put_token(&env, DEAD_TOKEN).await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.connection_says("Authenticated", "False/CredentialRejected").await?;
    let binding = env.binding_says("shop", "ConnectionReady", "False/ConnectionNotReady").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/ConnectionNotReady");
    let message = binding_message(&binding, "Ready");
    assert!(message.contains("CredentialRejected") && message.contains("see its conditions"), "{message}");
    event_on(&env, "shop", "ConnectionNotReady").await?;
    assert_eq!(proxy.count(Exchange::is_write), 0);
    assert_eq!(proxy.count(|exchange| exchange.path.contains("/repos/")), 0, "not probed");
    assert!(env.gitea.hooks(&env.repository).await?.is_empty());
    assert!(binding.finalizers().is_empty(), "there is nothing to clean up");

    put_token(&env, &env.account.token).await?;
    env.binding_ready("shop").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    Ok(())
}

/// Every state of the connection that the watch reported.
struct History {
    seen: Arc<Mutex<Vec<GitProviderConnection>>>,
    task: JoinHandle<()>,
}

impl History {
    fn of(env: &TestEnv) -> Self {
        let seen: Arc<Mutex<Vec<GitProviderConnection>>> = Arc::default();
        let (shared, connections) = (Arc::clone(&seen), env.connections.clone());
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
    let env = TestEnv::new("never").await?;
    let history = History::of(&env);
    let _operator = Operator::start(env.options().await?).await?;
    put_token(&env, DEAD_TOKEN).await?;
    env.create_connection(env.connection_spec()).await?;
    env.connection_says("Ready", "False/CredentialRejected").await?;
    env.patch_connection(json!({"spec": {"interval": "20m"}})).await?;
    connection_says_now(&env, "Ready", "False/CredentialRejected").await?;
    put_token(&env, "another-that-nobody-knows").await?;
    let connection = ask_again(&env, "again").await?;
    history.reaches(connection.resource_version()).await?;
    for status in ["True/Succeeded", "Unknown/Progressing"] {
        assert!(!history.any("Authenticated", status), "Authenticated was {status}");
    }
    assert!(!history.any("Ready", "True/Succeeded"));
    // The history does record the state Ready.
    put_token(&env, &env.account.token).await?;
    let connection = env.connection_ready().await?;
    history.reaches(connection.resource_version()).await?;
    assert!(history.any("Ready", "True/Succeeded"));
    Ok(())
}

#[tokio::test]
async fn names_the_key_of_a_missing_wrong_empty_or_ambiguous_secret() -> Result<()> {
    let env = TestEnv::new("keys").await?;
    let _operator = Operator::start(env.options().await?).await?;
    let mut spec = env.connection_spec();
    spec["credentials"]["secretRef"]["name"] = json!("late");
    env.create_connection(spec).await?;
    let connection = env.connection_says("Authenticated", "False/SecretNotFound").await?;
    let named = format!("Secret {}/late, which credentials.secretRef names, does not exist; create it with the key token", env.namespace);
    assert!(connection_message(&connection, "Ready").contains(&named), "{}", connection_message(&connection, "Ready"));
    assert_eq!(connection_condition(&connection, "Stalled"), "", "a missing Secret may come later");

    let (token, password) = (env.account.token.as_str(), env.account.password.as_str());
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("tokn", token)], "none of the keys token, username and password"),
        (&[("token", "")], "the key token is empty; set its value"),
        (&[("token", "\n")], "the key token is empty; set its value"),
        (&[("username", "ada")], "has username but lacks password"),
        (&[("password", password)], "has password but lacks username"),
        (&[("username", "ada"), ("password", "")], "the key password is empty; set its value"),
        (&[("token", token), ("password", password)], "two kinds of credential, password and token"),
        (&[("githubAppID", "1"), ("token", token)], "two kinds of credential, githubAppID and token"),
        (&[("githubAppID", "1")], "has githubAppID but lacks githubAppPrivateKey"),
        (&[("email", "ada@acme.io"), ("token", token)], "takes a token, or username and password"),
    ];
    for (entries, expected) in cases {
        env.cluster().apply_secret(&env.namespace, "late", entries).await?;
        let fits = |connection: &GitProviderConnection| {
            connection_condition(connection, "Authenticated") == "False/SecretInvalid"
                && connection_message(connection, "Ready").contains(expected)
                && connection_message(connection, "Ready").contains(&format!("Secret {}/late", env.namespace))
        };
        let connection = env.connection_until(expected, SOON, fits).await?;
        assert_eq!(connection_condition(&connection, "Stalled"), "True/SecretInvalid");
        let whole = serde_json::to_string(&connection)?;
        assert!(!whole.contains(token) && !whole.contains(password), "{whole}");
    }
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, &env.namespace);
    let not_text = json!({"data": {"email": null, "token": ByteString(vec![0xff, 0xfe])}});
    secrets.patch("late", &PatchParams::default(), &Patch::Merge(&not_text)).await?;
    let fits = |connection: &GitProviderConnection| {
        connection_message(connection, "Ready").contains("the key token is not UTF-8 text; store it as text")
    };
    env.connection_until("the key that is not text", SOON, fits).await?;

    // Seconds after the Secret is correct: with a trailing newline, as editors write it, and with a password in place of a token.
    secrets.delete("late", &kube::api::DeleteParams::default()).await?;
    env.connection_says("Authenticated", "False/SecretNotFound").await?;
    env.cluster().apply_secret(&env.namespace, "late", &[("token", &format!("{token}\n"))]).await?;
    let began = Instant::now();
    env.connection_ready().await?;
    eprintln!("figure: Secret created -> Ready: {:?}", began.elapsed());
    let basic = [("username", env.account.name.as_str()), ("password", password), ("expiresAt", "2999-01-01"), ("unknown", "kept")];
    let version = env.cluster().apply_secret(&env.namespace, "late", &basic).await?.resource_version();
    let connection = env.connection_until("the password examined", SOON, |connection| secret_version(connection) == version).await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    Ok(())
}

/// A time some hours from now, as RFC 3339.
fn from_now(hours: i64) -> String {
    (SystemClock.now() + SignedDuration::from_hours(hours)).to_string()
}

#[tokio::test]
async fn bb_08_a_rejected_token_whose_expiry_has_passed_is_reported_as_expired() -> Result<()> {
    let env = TestEnv::new("expired").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let _operator = Operator::start(env.options().await?).await?;
    put_token(&env, DEAD_TOKEN).await?;
    let mut spec = env.connection_spec_at(&proxy.url());
    spec["credentials"]["expiresAt"] = json!(from_now(-24));
    env.create_connection(spec).await?;
    let connection = env.connection_says("Authenticated", "False/CredentialExpired").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "False/CredentialExpired");
    let remedy = format!("put a new one into Secret {}/credential, key token", env.namespace);
    assert!(connection_message(&connection, "Ready").contains(&remedy), "{}", connection_message(&connection, "Ready"));
    assert_eq!(connection_condition(&connection, "Stalled"), "True/CredentialExpired");

    // The declared expiry decides, also when it is declared after the refusal; for that the controller sends no request.
    proxy.forget();
    env.patch_connection(json!({"spec": {"credentials": {"expiresAt": from_now(24 * 365)}}})).await?;
    connection_says_now(&env, "Authenticated", "False/CredentialRejected").await?;
    let with_end = [("token", DEAD_TOKEN), ("expiresAt", "2020-02-02")];
    env.cluster().apply_secret(&env.namespace, "credential", &with_end).await?;
    let connection = env.connection_says("Authenticated", "False/CredentialExpired").await?;
    let message = connection_message(&connection, "Ready");
    assert!(
        message.contains("2020-02-03T00:00:00Z"),
        "the expiry in the Secret takes precedence, and a date expires at the end of its day: {message}"
    );
    assert_eq!(proxy.exchanges().len(), 0, "{:?}", proxy.exchanges());

    // A working credential is not expired, whatever expiry is declared; for a new one, changing the Secret is enough.
    let generation = connection.metadata.generation;
    put_token(&env, &env.account.token).await?;
    let connection = env.connection_ready().await?;
    assert_eq!(connection.metadata.generation, generation);
    Ok(())
}

#[tokio::test]
async fn an_expiry_that_is_near_causes_a_warning_and_ready_stays_true() -> Result<()> {
    let env = TestEnv::new("ending").await?;
    let _operator = Operator::start(env.options().await?).await?;
    let mut spec = env.connection_spec();
    spec["credentials"]["expiresAt"] = json!(from_now(48));
    env.create_connection(spec).await?;
    let connection = env.connection_says("CredentialExpiring", "True/ExpiresSoon").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    let remedy = format!("put a new one into Secret {}/credential, key token", env.namespace);
    assert!(
        connection_message(&connection, "CredentialExpiring").contains(&remedy),
        "{}",
        connection_message(&connection, "CredentialExpiring")
    );
    assert!(connection.status.and_then(|status| status.credential?.expires_at).is_some());
    event_on(&env, CONNECTION, "CredentialExpiring").await?;
    // The user chooses how early the warning comes.
    env.patch_connection(json!({"spec": {"credentials": {"warnBefore": "1h"}}})).await?;
    let connection = connection_says_now(&env, "CredentialExpiring", "").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    // Past its declared expiry the credential stays in use as long as the provider accepts it, with a warning.
    env.patch_connection(json!({"spec": {"credentials": {"expiresAt": "2020-01-01"}}})).await?;
    let connection = connection_says_now(&env, "CredentialExpiring", "True/CredentialExpired").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    Ok(())
}

#[tokio::test]
async fn bb_03_the_status_shows_the_identity_behind_the_token() -> Result<()> {
    let env = TestEnv::new("identity").await?;
    let _operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    let status = env.connection_ready().await?.status.context("a status")?;
    let identity = status.identity.context("an identity")?;
    assert_eq!((identity.name.as_deref(), format!("{:?}", identity.kind)), (Some(env.account.name.as_str()), "User".to_owned()));
    let server = status.server.context("a server")?;
    assert_eq!(server.flavor, "Gitea");
    assert!(server.version.is_some_and(|version| !version.is_empty()));
    let shown = env.cluster().kubectl(&["get", "gpc", CONNECTION, "-n", &env.namespace, "-o", "wide"]).await?;
    assert!(shown.contains("True"), "{shown}");
    // A token of another account shows that account.
    let other = env.gitea.create_user(&testkit::gitea::Gitea::unique_name("grace"), testkit::gitea::OPERATOR_SCOPES).await?;
    put_token(&env, &other.token).await?;
    let fits = |connection: &GitProviderConnection| {
        connection.status.as_ref().and_then(|status| status.identity.as_ref()?.name.as_deref()) == Some(other.name.as_str())
    };
    env.connection_until("the other identity", SOON, fits).await?;
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
async fn df_16_permission_rows_name_the_scope_where_gitea_reveals_it() -> Result<()> {
    let env = TestEnv::new("rights").await?;
    let operator = Operator::start(env.options().await?).await?;
    // When Gitea refuses a token without the scope for reading its own account, the refusal names the token's scopes.
    let reader = env.gitea.create_token(&env.account, "reader", &["read:repository"]).await?;
    put_token(&env, &reader).await?;
    env.create_connection(env.connection_spec()).await?;
    let mut spec = env.binding_spec();
    spec.as_object_mut().context("an object")?.retain(|key, _| key == "connectionRef" || key == "repository");
    env.create_binding("reads", spec).await?;
    env.connection_ready().await?;
    env.binding_ready("reads").await?;

    env.patch_connection(json!({"spec": {"requiredPermissions": ["CommentOnPullRequests", "ReadContents"]}})).await?;
    let connection = connection_says_now(&env, "Authorized", "False/PermissionMissing").await?;
    let rows = permission_rows(&connection);
    assert_eq!(words(&rows["ReadContents"]), ("Granted", ""));
    let (state, message) = words(&rows["CommentOnPullRequests"]);
    assert_eq!(state, "Missing");
    assert!(message.contains("needs scope write:issue") && message.contains("read:repository"), "{message}");
    assert_eq!(connection_condition(&connection, "Ready"), "False/PermissionMissing");
    assert!(connection_message(&connection, "Ready").contains("write:issue"));
    assert_eq!(connection_condition(&connection, "Authenticated"), "True/Succeeded");
    // Only a permission that a binding uses keeps it from becoming Ready.
    let binding = env.bindings.get("reads").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
    env.create_binding("hooks", env.binding_spec()).await?;
    let binding = env.binding_says("hooks", "WebhookInSync", "False/PermissionMissing").await?;
    assert!(binding_message(&binding, "Ready").contains("write:repository"), "{}", binding_message(&binding, "Ready"));
    assert!(env.hooks_at(&operator.url()).await?.is_empty());

    // A token with the missing permission in the same Secret is enough for the binding to become Ready.
    put_token(&env, &env.account.token).await?;
    let began = Instant::now();
    env.binding_ready("hooks").await?;
    eprintln!("figure: Secret with the missing right -> binding Ready: {:?}", began.elapsed());
    let rows = permission_rows(&env.connections.get(CONNECTION).await?);
    let (state, message) = words(&rows["CommentOnPullRequests"]);
    assert!(state != "Granted" && message.contains("needs scope write:issue"), "{rows}");

    // A permission that the provider does not have at all is missing, with a message of its own.
    env.patch_connection(json!({"spec": {"requiredPermissions": ["WriteChecks"]}})).await?;
    let connection = connection_says_now(&env, "Authorized", "False/PermissionMissing").await?;
    assert!(connection_message(&connection, "Authorized").contains("commit statuses"));
    Ok(())
}

#[tokio::test]
async fn a_permission_that_cannot_be_determined_is_unknown_and_blocks_nothing() -> Result<()> {
    let env = TestEnv::new("untold").await?;
    let _operator = Operator::start(env.options().await?).await?;
    let mut spec = env.connection_spec();
    spec.as_object_mut().context("an object")?.remove("credentials");
    spec["requiredPermissions"] = json!(["ReadContents"]);
    env.create_connection(spec).await?;
    let connection = connection_says_now(&env, "Authorized", "Unknown/CannotTell").await?;
    assert_eq!(words(&permission_rows(&connection)["ReadContents"]).0, "Unknown");
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded");
    // A permission that is certainly missing blocks: without a credential nobody can manage hooks.
    env.gitea.edit_repository(&env.repository, &json!({"private": false})).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_says("shop", "WebhookInSync", "False/PermissionMissing").await?;
    let connection = connection_says_now(&env, "Authorized", "False/PermissionMissing").await?;
    assert_eq!(words(&permission_rows(&connection)["ManageWebhooks"]), ("Missing", "needs a credential"));
    Ok(())
}

#[tokio::test]
async fn a_rejected_credential_is_not_retried_endlessly() -> Result<()> {
    let env = TestEnv::new("rests").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let _operator = Operator::start(env.options().await?).await?;
    put_token(&env, DEAD_TOKEN).await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let connection = env.connection_says("Authenticated", "False/CredentialRejected").await?;
    assert!(connection_message(&connection, "Ready").contains("retrying at"), "{}", connection_message(&connection, "Ready"));
    env.binding_says("shop", "ConnectionReady", "False/ConnectionNotReady").await?;
    proxy.forget();

    // A changed spec, the same token written again, and a second connection with the same Secret: none causes a call.
    for minutes in 20..25 {
        env.patch_connection(json!({"spec": {"interval": format!("{minutes}m")}})).await?;
        connection_says_now(&env, "Authenticated", "False/CredentialRejected").await?;
    }
    for extra in ["1", "2"] {
        let entries = [("token", DEAD_TOKEN), ("unrelated", extra)];
        let version = env.cluster().apply_secret(&env.namespace, "credential", &entries).await?.resource_version();
        env.connection_until("the new version seen", SOON, |connection| secret_version(connection) == version).await?;
    }
    let second = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
        "metadata": {"name": "second", "namespace": env.namespace}, "spec": env.connection_spec_at(&proxy.url()),
    });
    env.connections.create(&PostParams::default(), &serde_json::from_value(second)?).await?;
    wait_until("the second connection to say the same", SOON, async || {
        let said = connection_condition(&env.connections.get("second").await?, "Authenticated");
        Ok(if said == "False/CredentialRejected" { Seen::Done(()) } else { Seen::NotYet(said) })
    })
    .await?;
    assert_eq!(proxy.exchanges().len(), 0, "{:?}", proxy.exchanges());

    // A manual request causes one attempt with a token and none with a password, because servers lock accounts after wrong
    // passwords.
    ask_again(&env, "by-hand").await?;
    assert_eq!(proxy.exchanges().len(), 1, "{:?}", proxy.exchanges());
    let basic = [("username", env.account.name.as_str()), ("password", "not-the-password")];
    let version = env.cluster().apply_secret(&env.namespace, "credential", &basic).await?.resource_version();
    env.connection_until("the password refused", SOON, |connection| secret_version(connection) == version).await?;
    env.connection_says("Authenticated", "False/CredentialRejected").await?;
    wait_until("the second connection to see it too", SOON, async || {
        let second = env.connections.get("second").await?;
        Ok(if secret_version(&second) == version { Seen::Done(()) } else { Seen::NotYet(format!("{:?}", secret_version(&second))) })
    })
    .await?;
    proxy.forget();
    let connection = ask_again(&env, "by-hand-again").await?;
    assert_eq!(connection_condition(&connection, "Authenticated"), "False/CredentialRejected");
    assert_eq!(proxy.exchanges().len(), 0, "{:?}", proxy.exchanges());
    Ok(())
}
