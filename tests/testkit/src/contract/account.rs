//! The credential: its identity and its permissions.

use forgebind::api::v1alpha1::Permission;
use forgebind::api::v1alpha1::connection::{CredentialKind, PermissionState};
use forgebind::providers::ErrorKind;
use forgebind::providers::permission::Grants;

use super::Subject;

pub async fn all(subject: &Subject) {
    a_good_credential_is_known(subject).await;
    a_bad_credential_is_told_apart(subject).await;
    permissions_are_judged_without_a_call(subject).await;
    no_credential_is_no_error(subject).await;
}

async fn a_good_credential_is_known(subject: &Subject) {
    let inspection = subject.client.inspect().await.unwrap();
    let identity = inspection.identity.as_ref().expect("an identity");
    assert!(!inspection.flavor.is_empty());
    if let Some(prepared) = &subject.prepared {
        assert_eq!(identity.name.as_deref(), Some(prepared.account.as_str()));
        assert_eq!(inspection.version.is_some(), prepared.tells_version);
    }
    assert!(inspection.capabilities.api);
    match &inspection.grants {
        Grants::Known(grants) => assert!(grants.is_sorted() && inspection.capabilities.scope_introspection, "{grants:?}"),
        Grants::Unknown(reason) => assert!(!reason.is_empty() && !inspection.capabilities.scope_introspection),
    }
    assert_eq!(subject.client.inspect().await.unwrap(), inspection, "an inspection changes nothing");
}

async fn a_bad_credential_is_told_apart(subject: &Subject) {
    let error = subject.rejected.inspect().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated, "{error}");
}

async fn permissions_are_judged_without_a_call(subject: &Subject) {
    let inspection = subject.client.inspect().await.unwrap();
    for permission in Permission::ALL {
        let finding = subject.client.permission(&inspection, permission);
        match finding.state {
            PermissionState::Granted => assert_eq!(finding.message, None, "{permission}"),
            PermissionState::Missing | PermissionState::Unknown => {
                assert!(finding.message.is_some_and(|message| !message.is_empty()), "{permission} has no message");
            }
        }
    }
    for permission in [Permission::ReadContents, Permission::ManageWebhooks] {
        let state = subject.client.permission(&inspection, permission).state;
        assert_ne!(state, PermissionState::Missing, "the account must have {permission}");
    }
}

async fn no_credential_is_no_error(subject: &Subject) {
    if !subject.provider.profile().credential_kinds.contains(&CredentialKind::Anonymous) {
        return;
    }
    // A server that shows nothing to anonymous clients refuses them.
    let inspection = match subject.anonymous.inspect().await {
        Ok(inspection) => inspection,
        Err(error) => return assert_eq!(error.kind, ErrorKind::Unauthenticated, "{error}"),
    };
    assert_eq!(inspection.identity, None);
    let finding = subject.anonymous.permission(&inspection, Permission::ManageWebhooks);
    assert_eq!(finding.state, PermissionState::Missing);
}
