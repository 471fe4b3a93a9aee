use super::*;
use crate::api::v1alpha1::ProviderKind;
use crate::providers::registry;

/// An event of each provider that is read from the body, and the headers around it.
fn headers(kind: ProviderKind) -> HeaderMap {
    let pairs: &[(&str, &str)] = match kind {
        ProviderKind::GitHub => &[("x-github-event", "push"), ("x-github-delivery", "1")],
        ProviderKind::GitLab => {
            &[("x-gitlab-event", "Push Hook"), ("x-gitlab-event-uuid", "1"), ("idempotency-key", "1"), ("webhook-id", "1")]
        }
        ProviderKind::BitbucketCloud => &[("x-event-key", "repo:push"), ("x-request-uuid", "1"), ("x-hook-uuid", "1")],
        ProviderKind::BitbucketDataCenter => &[("x-event-key", "repo:refs_changed"), ("x-request-id", "1")],
        ProviderKind::AzureDevOps => &[],
        ProviderKind::Gitea => &[("x-gitea-event", "push"), ("x-gitea-event-type", "push"), ("x-gitea-delivery", "1")],
    };
    pairs.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
}

#[test]
fn df_20_an_unreadable_delivery_is_told_without_a_word_of_its_body_at_every_provider() {
    let long = "canary".repeat(1_500_000);
    for kind in ProviderKind::ALL {
        let headers = headers(kind);
        for body in
            [format!("\"{long}\""), format!(r#"["{long}"]"#), format!(r#"{{"repository": "{long}", "resource": "{long}"}}"#), long.clone()]
        {
            let verified = Verified::new(&headers, Cow::Borrowed(body.as_bytes()), 0);
            let Err(error) = registry::provider(kind).unwrap().webhook().read(&verified) else { continue };
            let error = error.to_string();
            assert!(!error.contains("canary") && error.len() < 200, "{kind}: {} bytes", error.len());
        }
        let text = format!("\"{long}\"");
        let verified = Verified::new(&headers, Cow::Borrowed(text.as_bytes()), 0);
        let error = registry::provider(kind).unwrap().webhook().read(&verified).unwrap_err().to_string();
        assert!(error.contains(" at line 1 column "), "{kind}: {error}");
    }
}
