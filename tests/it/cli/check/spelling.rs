//! Spelling mistakes at every provider: reported with the field, the value and the expected form, and never as an outage or as
//! something that will resolve itself.

use anyhow::Result;
use http::StatusCode;
use serde_json::{Value, json};

use super::{message, object, row, run, stream, told};
use testkit::http_server::{HttpServer, answer};
use testkit::samples::{self, Spelling};

/// A member of `spec.provider` at an address, a repository that fits it, and texts that can be none there.
fn providers(url: &str) -> impl Iterator<Item = (String, Value, Spelling)> {
    samples::all().map(move |samples| {
        let mut spec = samples.spelling.spec.clone();
        spec["url"] = json!(format!("{url}{}", samples.spelling.server));
        (samples.member, spec, samples.spelling)
    })
}

fn connection(member: &str, spec: &Value, credentials: bool) -> Value {
    let mut whole = json!({"provider": {member: spec}});
    if credentials {
        whole["credentials"] = json!({"secretRef": {"name": "credential"}});
    }
    object("GitProviderConnection", "team", "git", whole)
}

fn binding(name: &str, repository: &str) -> Value {
    object("RepoBinding", "team", name, json!({"connectionRef": {"name": "git"}, "repository": repository}))
}

fn conditions(row: &Value, kind: &str) -> String {
    let conditions = row["conditions"].as_array().into_iter().flatten();
    let found = conditions.filter(|condition| condition["type"] == kind).map(|condition| condition["status"].as_str().unwrap_or_default());
    found.collect()
}

#[tokio::test]
async fn a_text_that_can_be_no_repository_is_stalled_with_its_value_and_the_form_at_every_provider() -> Result<()> {
    for (member, spec, Spelling { repository, impossible, .. }) in providers("https://git.acme.test") {
        let names = ["first", "second", "third"];
        let bindings = names.iter().zip(&impossible).map(|(name, text)| binding(name, text));
        let objects: Vec<Value> = [connection(&member, &spec, true), binding("good", &repository)].into_iter().chain(bindings).collect();
        let result = run(&["-f", "-", "--offline", "-o", "json"], &[], &stream(&objects)).await?.json()?;
        assert_eq!(told(&result, "good"), "NotAsked - []", "{member}: {result:#}");
        for (name, text) in names.iter().zip(&impossible) {
            assert_eq!(told(&result, name), "NotReady SpecInvalid []", "{member} {text}: {:#}", row(&result, name));
            let message = message(&result, name, "SpecInvalid");
            assert!(message.contains(&format!("repository {text:?} is invalid: a repository of ")), "{member}: {message}");
            let row = row(&result, name);
            assert_eq!((conditions(row, "Stalled").as_str(), conditions(row, "Reconciling").as_str()), ("True", ""), "{member}: {row:#}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_field_of_the_provider_that_is_spelled_wrongly_is_no_outage() -> Result<()> {
    let cases = samples::all().flat_map(|samples| samples.spelling.misspelled.into_iter().map(move |case| (samples.member.clone(), case)));
    for (member, (spec, words)) in cases {
        let objects = [connection(&member, &spec, false), binding("shop", "acme/shop")];
        let result = run(&["-f", "-", "-o", "json"], &[], &stream(&objects)).await?.json()?;
        assert_eq!(told(&result, "git"), "NotReady SpecInvalid []", "{member} {spec}: {result:#}");
        let text = message(&result, "git", "SpecInvalid");
        assert!(text.contains(&words) && text.contains("it must be "), "{member}: {text}");
        assert_eq!(conditions(row(&result, "git"), "Stalled"), "True", "{member}: {result:#}");
        assert_eq!(told(&result, "shop"), "NotReady ConnectionNotReady []", "{member}: the failure is not reported as an outage");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_credential_a_server_that_shows_nothing_leads_to_a_request_for_one_at_every_provider() -> Result<()> {
    let server = HttpServer::start(0, |_| async { Ok(answer(StatusCode::UNAUTHORIZED, "")) }).await?;
    for (member, spec, Spelling { repository, .. }) in providers(&server.url()) {
        let objects = [connection(&member, &spec, false), binding("shop", &repository)];
        let checked = run(&["-f", "-", "-o", "json"], &[], &stream(&objects)).await?;
        let result = checked.json()?;
        assert_eq!(told(&result, "git"), "NotReady CredentialNeeded []", "{member}: {result:#}");
        let text = message(&result, "git", "CredentialNeeded");
        assert!(text.contains("spec.credentials.secretRef.name"), "{member}: {text}");
        let row = row(&result, "git");
        let told: Vec<_> = ["Reachable", "Authenticated", "Stalled"].iter().map(|kind| conditions(row, kind)).collect();
        assert_eq!(told, ["True", "False", "True"], "{member}: {row:#}");
        assert_eq!(checked.code, 1, "{member}");
    }
    Ok(())
}
