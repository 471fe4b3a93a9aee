//! Summarises in short phrases what the provider reported about a connection's credential.

use crate::api::v1alpha1::connection::{CredentialStatus, GitProviderConnectionStatus, IdentityKind, PermissionState};
use crate::api::v1alpha1::{ConditionType, ProviderKind};
use crate::k8s::conditions;

/// The phrases; empty if the credential does not work, because the status may hold earlier results.
pub(super) fn phrases(status: &GitProviderConnectionStatus) -> Vec<String> {
    let authenticated = conditions::find(&status.conditions, ConditionType::Authenticated);
    if authenticated.is_none_or(|condition| condition.status != "True") {
        return Vec::new();
    }
    let mut phrases = vec![server(status), identity(status)];
    phrases.extend(status.credential.as_ref().into_iter().flat_map(credential));
    phrases.extend(status.permissions.iter().map(|permission| match permission.state {
        // The permissions of the role at a single repository are reported for its binding.
        PermissionState::Granted => format!("scopes sufficient for {}", permission.name),
        PermissionState::Missing => format!("{} missing", permission.name),
        PermissionState::Unknown => format!("{} not reported by the provider", permission.name),
    }));
    phrases
}

fn server(status: &GitProviderConnectionStatus) -> String {
    let provider = || status.provider.as_ref().map(ProviderKind::to_string).unwrap_or_default();
    status.server.as_ref().map_or_else(provider, |server| match &server.version {
        Some(version) => format!("{} {version}", server.flavor),
        None => server.flavor.clone(),
    })
}

fn identity(status: &GitProviderConnectionStatus) -> String {
    let Some(identity) = &status.identity else { return "anonymous".to_owned() };
    let kind = match identity.kind {
        IdentityKind::User => "user",
        IdentityKind::App => "App",
        IdentityKind::ServiceAccount => "service account",
        IdentityKind::Token => "token",
    };
    identity.name.as_ref().map_or_else(|| format!("as an unnamed {kind}"), |name| format!("as {kind} {name}"))
}

fn credential(credential: &CredentialStatus) -> Vec<String> {
    let end = credential.expires_at.as_ref().map(|end| format!("expires {}", end.0));
    let grants = (!credential.grants.is_empty()).then(|| format!("granted {}", credential.grants.join(", ")));
    [grants, end].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(authenticated: &str) -> Vec<String> {
        let status = json!({
            "conditions": [{"type": "Authenticated", "status": authenticated, "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "provider": "Gitea",
            "server": {"flavor": "Forgejo", "version": "16.0.0"},
            "identity": {"name": "ada", "kind": "User"},
            "credential": {"kind": "Token", "expiresAt": "2027-03-01T23:59:59Z", "grants": ["read:user", "write:repository"]},
            "permissions": [{"name": "ManageWebhooks", "state": "Granted"}, {"name": "ReadIssues", "state": "Unknown"}],
        });
        phrases(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn the_summary_lists_server_identity_scopes_expiry_and_permissions() {
        let expected = [
            "Forgejo 16.0.0",
            "as user ada",
            "granted read:user, write:repository",
            "expires 2027-03-01T23:59:59Z",
            "scopes sufficient for ManageWebhooks",
            "ReadIssues not reported by the provider",
        ];
        assert_eq!(told("True"), expected);
    }

    #[test]
    fn a_rejected_credential_has_no_summary() {
        assert_eq!(told("False"), Vec::<String>::new());
    }
}
