//! The permissions of a credential as the status shows them: at each provider, and without trying any of them.

use anyhow::Result;
use forgebind::api::v1alpha1::connection::PermissionState;
use forgebind::api::v1alpha1::{GitProviderConnection, Permission};
use serde_json::json;

use testkit::provider_env::{BINDING, ProviderEnv};
use testkit::sim::registry;
use testkit::test_namespace::{CONNECTION, connection_condition};

/// The rows of the status: permission, state, message.
fn rows(connection: GitProviderConnection) -> Vec<(Permission, PermissionState, Option<String>)> {
    let permissions = connection.status.unwrap_or_default().permissions;
    permissions.into_iter().map(|row| (row.name, row.state, row.message)).collect()
}

#[tokio::test]
async fn dv_08_dv_09_dt_22_dt_23_dt_28_pk_17_bb_06_bb_07_permissions_are_reported_and_never_tried() -> Result<()> {
    for kind in registry::simulated() {
        let env = ProviderEnv::begin(kind).await?;
        env.store(&env.simulated.seed_data.credential).await?;
        let mut spec = env.connection_spec();
        spec["requiredPermissions"] = json!(Permission::ALL.map(|permission| permission.to_string()));
        env.objects.create_connection(spec).await?;
        let told = |connection: &GitProviderConnection| !matches!(connection_condition(connection, "Authorized").as_str(), "");
        let connection = env.objects.connection_until("Authorized", testkit::test_namespace::SOON, told).await?;
        let authorized = connection_condition(&connection, "Authorized");
        let rows = rows(connection);
        assert_eq!(
            rows.iter().map(|(permission, ..)| *permission).collect::<std::collections::BTreeSet<_>>().len(),
            16,
            "{kind}: {rows:?}"
        );
        for (permission, state, message) in &rows {
            assert_eq!(
                message.is_none(),
                *state == PermissionState::Granted,
                "{kind}: {permission} says what is missing or why nobody knows"
            );
        }
        let missing: Vec<_> = rows.iter().filter(|(_, state, _)| *state == PermissionState::Missing).map(|(name, ..)| *name).collect();
        for needed in [Permission::ReadContents, Permission::ListRepositories, Permission::WriteContents, Permission::ManageWebhooks] {
            assert!(!missing.contains(&needed), "{kind}: the account may {needed}");
        }
        // A permission that the provider does not have at all is always missing.
        for permission in Permission::ALL.into_iter().filter(|permission| env.simulated.provider.permission_words(*permission).is_none()) {
            assert!(missing.contains(&permission), "{kind} has no {permission}");
        }
        assert_eq!(authorized == "False/PermissionMissing", !missing.is_empty(), "{kind}: {authorized}");
        assert_eq!(env.simulated.simulator.writes(), 0, "{kind}: no write is tried to find out");
    }
    Ok(())
}

#[tokio::test]
async fn dt_08_dt_30_df_08_bb_14_only_a_binding_that_uses_a_permission_needs_it() -> Result<()> {
    for kind in registry::simulated() {
        let env = ProviderEnv::begin(kind).await?;
        env.connect(&env.simulated.seed_data.reader).await?;
        let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": env.repository(), "branch": "main"});
        env.objects.create_binding(BINDING, spec).await?;
        env.objects.binding_ready(BINDING).await?;

        let required = json!({"spec": {"requiredPermissions": ["ListRepositories", "WriteContents", "DeleteRepositories"]}});
        let connection = env.objects.patch_connection(required).await?;
        let generation = connection.metadata.generation;
        let seen = |connection: &GitProviderConnection| {
            connection.status.as_ref().is_some_and(|status| status.observed_generation == generation && !status.permissions.is_empty())
        };
        let connection = env.objects.connection_until("the permissions inspected again", testkit::test_namespace::SOON, seen).await?;
        let ready = connection_condition(&connection, "Ready");
        let rows = rows(connection);
        let state = |name: Permission| rows.iter().find(|(permission, ..)| *permission == name).map(|(_, state, _)| *state);
        assert_ne!(state(Permission::ListRepositories), Some(PermissionState::Missing), "{kind}: a reader may list hooks");
        assert_ne!(state(Permission::DeleteRepositories), Some(PermissionState::Granted), "{kind}: a reader may not delete hooks");
        // Where one scope covers both, an account that reads may also write.
        let scope =
            |permission| env.simulated.provider.permission_words(permission).and_then(|words| words.split(';').next().map(str::to_owned));
        let one_for_both = scope(Permission::ReadContents) == scope(Permission::WriteContents);
        assert!(state(Permission::WriteContents) != Some(PermissionState::Granted) || one_for_both, "{kind}: a reader may not write hooks");
        let missing = rows.iter().any(|(_, state, _)| *state == PermissionState::Missing);
        assert_eq!(ready == "False/PermissionMissing", missing, "{kind}: {ready}, {rows:?}");
        env.objects.binding_ready(BINDING).await?;
        assert_eq!(env.simulated.simulator.writes(), 0, "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn pk_11_dv_13_a_webhook_that_may_not_be_created_is_reported_and_not_retried_endlessly() -> Result<()> {
    for kind in registry::simulated() {
        let env = ProviderEnv::begin(kind).await?;
        env.connect(&env.simulated.seed_data.reader).await?;
        let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": env.repository(), "webhook": {"events": ["Push"]}});
        env.objects.create_binding(BINDING, spec).await?;
        let binding = env.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
        let message = testkit::test_namespace::binding_message(&binding, "WebhookInSync");
        let words = env.simulated.provider.permission_words(Permission::ManageWebhooks).unwrap_or_default();
        let mut scopes = words.split([' ', ',', ';', '(', ')']).filter(|word| {
            word.contains([':', '_']) && !word.ends_with(':') || ["api", "Maintainer", "webhook", "subscriptions"].contains(word)
        });
        assert!(scopes.any(|scope| message.contains(scope)), "{kind}: the message names the missing one of {words:?}: {message}");
        assert!(env.simulated.simulator.writes() <= 1, "{kind}: {} writes", env.simulated.simulator.writes());
        env.objects.delete_binding(BINDING).await?;
        env.objects.binding_gone(BINDING, testkit::test_namespace::SOON).await?;
    }
    Ok(())
}
