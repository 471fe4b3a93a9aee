//! What a credential may do, as the status tells it: at each provider, and without ever trying it.

use anyhow::Result;
use forgebind::api::v1alpha1::connection::PermissionState;
use forgebind::api::v1alpha1::{GitProviderConnection, Permission};
use serde_json::json;

use testkit::objects::{CONNECTION, connection_condition};
use testkit::sim::registry;
use testkit::story::{BINDING, Story};

/// The rows of the status: permission, state, message.
fn rows(connection: GitProviderConnection) -> Vec<(Permission, PermissionState, Option<String>)> {
    let permissions = connection.status.unwrap_or_default().permissions;
    permissions.into_iter().map(|row| (row.name, row.state, row.message)).collect()
}

#[tokio::test]
async fn dv_08_dv_09_dt_22_dt_23_dt_28_pk_17_bb_06_bb_07_acts_are_reported_and_never_tried() -> Result<()> {
    for kind in registry::simulated() {
        let story = Story::begin(kind).await?;
        story.store(&story.simulated.welcome.credential).await?;
        let mut spec = story.connection_spec();
        spec["requiredPermissions"] = json!(Permission::ALL.map(|permission| permission.to_string()));
        story.objects.create_connection(spec).await?;
        let told = |connection: &GitProviderConnection| !matches!(connection_condition(connection, "Authorized").as_str(), "");
        let connection = story.objects.connection_until("Authorized", testkit::objects::SOON, told).await?;
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
        // What the provider has no such thing of is missing for good.
        for permission in Permission::ALL.into_iter().filter(|permission| story.simulated.provider.permission_words(*permission).is_none())
        {
            assert!(missing.contains(&permission), "{kind} has no {permission}");
        }
        assert_eq!(authorized == "False/PermissionMissing", !missing.is_empty(), "{kind}: {authorized}");
        assert_eq!(story.simulated.simulator.writes(), 0, "{kind}: nothing is made, sent or deleted to find out");
    }
    Ok(())
}

#[tokio::test]
async fn dt_08_dt_30_df_08_bb_14_a_right_is_demanded_only_by_who_uses_it() -> Result<()> {
    for kind in registry::simulated() {
        let story = Story::begin(kind).await?;
        story.connect(&story.simulated.welcome.reader).await?;
        let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": story.repository(), "branch": "main"});
        story.objects.create_binding(BINDING, spec).await?;
        story.objects.binding_ready(BINDING).await?;

        let required = json!({"spec": {"requiredPermissions": ["ListRepositories", "WriteContents", "DeleteRepositories"]}});
        let connection = story.objects.patch_connection(required).await?;
        let generation = connection.metadata.generation;
        let seen = |connection: &GitProviderConnection| {
            connection.status.as_ref().is_some_and(|status| status.observed_generation == generation && !status.permissions.is_empty())
        };
        let connection = story.objects.connection_until("judged anew", testkit::objects::SOON, seen).await?;
        let ready = connection_condition(&connection, "Ready");
        let rows = rows(connection);
        let state = |name: Permission| rows.iter().find(|(permission, ..)| *permission == name).map(|(_, state, _)| *state);
        assert_ne!(state(Permission::ListRepositories), Some(PermissionState::Missing), "{kind}: a reader lists");
        assert_ne!(state(Permission::DeleteRepositories), Some(PermissionState::Granted), "{kind}: a reader deletes nothing");
        // Where one scope stands for both, who reads may write.
        let scope =
            |permission| story.simulated.provider.permission_words(permission).and_then(|words| words.split(';').next().map(str::to_owned));
        let one_for_both = scope(Permission::ReadContents) == scope(Permission::WriteContents);
        assert!(state(Permission::WriteContents) != Some(PermissionState::Granted) || one_for_both, "{kind}: a reader does not write");
        let missing = rows.iter().any(|(_, state, _)| *state == PermissionState::Missing);
        assert_eq!(ready == "False/PermissionMissing", missing, "{kind}: {ready}, {rows:?}");
        story.objects.binding_ready(BINDING).await?;
        assert_eq!(story.simulated.simulator.writes(), 0, "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn pk_11_dv_13_a_webhook_that_may_not_be_made_is_said_and_not_tried_again_and_again() -> Result<()> {
    for kind in registry::simulated() {
        let story = Story::begin(kind).await?;
        story.connect(&story.simulated.welcome.reader).await?;
        let spec = json!({"connectionRef": {"name": CONNECTION}, "repository": story.repository(), "webhook": {"events": ["Push"]}});
        story.objects.create_binding(BINDING, spec).await?;
        let binding = story.objects.binding_says(BINDING, "WebhookInSync", "False/PermissionMissing").await?;
        let message = testkit::objects::binding_message(&binding, "WebhookInSync");
        let words = story.simulated.provider.permission_words(Permission::ManageWebhooks).unwrap_or_default();
        let mut scopes = words.split([' ', ',', ';', '(', ')']).filter(|word| {
            word.contains([':', '_']) && !word.ends_with(':') || ["api", "Maintainer", "webhook", "subscriptions"].contains(word)
        });
        assert!(scopes.any(|scope| message.contains(scope)), "{kind}: it names what is missing of {words:?}: {message}");
        assert!(story.simulated.simulator.writes() <= 1, "{kind}: {} writes", story.simulated.simulator.writes());
        story.objects.delete_binding(BINDING).await?;
        story.objects.binding_gone(BINDING, testkit::objects::SOON).await?;
    }
    Ok(())
}
