//! A check against each simulated provider: it reports what would be created, and creates nothing.

use anyhow::Result;
use forgebind::api::v1alpha1::{EventKind, ProviderKind};
use serde_json::{Map, Value, json};

use super::{PUBLIC_URL, object, row, run, stream, told};
use testkit::sim::{Simulated, registry};

/// The manifests of a connection with this credential and a binding with the default events.
fn manifests(simulated: &Simulated, credential: &[(&'static str, String)]) -> String {
    let data: Map<String, Value> = credential.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let metadata = json!({"name": "credential", "namespace": "platform"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
    let connection = json!({"provider": simulated.seed_data.provider, "credentials": {"secretRef": {"name": "credential"}}});
    let webhook = json!({"events": ["Push", "Tag", "PullRequest"]});
    let binding =
        json!({"connectionRef": {"name": "git"}, "repository": simulated.seed_data.repository, "branch": "main", "webhook": webhook});
    stream(&[secret, object("GitProviderConnection", "platform", "git", connection), object("RepoBinding", "platform", "shop", binding)])
}

#[tokio::test]
async fn a_check_reports_what_would_be_created_at_every_provider_and_creates_nothing() -> Result<()> {
    for kind in registry::simulated() {
        let simulated = Simulated::new(kind).await?;
        let flags = ["-f", "-", "--public-url", PUBLIC_URL];
        let checked = run(&[&flags[..], &["-o", "json"]].concat(), &[], &manifests(&simulated, &simulated.seed_data.credential)).await?;
        let result = checked.json()?;
        let events = [EventKind::Push, EventKind::Tag, EventKind::PullRequest].into();
        let parts = simulated.operator().hook_shapes(&events).len();
        assert_eq!(
            told(&result, "shop"),
            format!("Ready Succeeded [{}]", vec!["CreateHook"; parts].join(" ")),
            "{kind}: {:#}",
            row(&result, "shop")
        );
        assert_eq!(checked.code, 0, "{kind}: {checked:?}");
        let table = run(&flags, &[], &manifests(&simulated, &simulated.seed_data.credential)).await?;
        assert!(table.text.contains("True    Succeeded   create"), "{kind}: {}", table.text);

        let rejected = run(&[&flags[..], &["-o", "json"]].concat(), &[], &manifests(&simulated, &simulated.seed_data.rejected)).await?;
        assert_eq!(told(&rejected.json()?, "git"), "NotReady CredentialRejected []", "{kind}");
        assert_eq!(rejected.code, 1, "{kind}");
        assert_eq!(simulated.simulator.writes(), 0, "{kind}: a check writes nothing");
        for (_, secret) in simulated
            .seed_data
            .credential
            .iter()
            .chain(&simulated.seed_data.rejected)
            .filter(|(key, _)| *key != "username" && *key != "email")
        {
            assert!(!checked.text.contains(secret) && !rejected.text.contains(secret), "{kind}: a secret was printed");
        }
    }
    Ok(())
}

/// Manifests of this many bindings of one repository, all with the same events.
fn crowd(simulated: &Simulated, bindings: usize) -> String {
    let webhook = json!({"events": ["Push"]});
    let binding = json!({"connectionRef": {"name": "git"}, "repository": simulated.seed_data.repository, "webhook": webhook});
    let bindings = (0..bindings).map(|number| object("RepoBinding", "platform", &format!("shop-{number}"), binding.clone()));
    manifests(simulated, &simulated.seed_data.credential) + &stream(&bindings.collect::<Vec<_>>())
}

#[tokio::test]
async fn warns_before_bindings_of_one_repository_exceed_its_providers_limit_of_hooks() -> Result<()> {
    let (simulated, limit) = (Simulated::new(ProviderKind::GitLab).await?, 100);
    let flags = ["-f", "-", "--public-url", PUBLIC_URL, "-o", "json"];
    for (bindings, warned) in [(limit / 2, None), (limit - 3, Some("will")), (limit + 5, Some("would have"))] {
        let result = run(&flags, &[], &crowd(&simulated, bindings)).await?.json()?;
        let findings = row(&result, "shop-3")["findings"].to_string();
        match warned {
            None => assert!(!findings.contains("allows"), "{bindings}: {findings}"),
            Some(text) => {
                assert!(findings.contains(text) && findings.contains("warning"), "{bindings}: {findings}");
                assert!(findings.contains(&format!("allows {limit}")), "{bindings}: {findings}");
            }
        }
    }
    Ok(())
}
