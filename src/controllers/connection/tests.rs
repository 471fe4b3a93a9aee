//! Tests of the plan and the report of a connection.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::facts::Facts;
use super::failure::failure_of;
use super::plan::{self, Action};
use super::report::{Report, report};
use super::snapshot::Snapshot;
use crate::api::v1alpha1::catalog::{CatalogSpec, CatalogStatus};
use crate::api::v1alpha1::connection::{GitProviderConnectionStatus, IdentityKind, PermissionState};
use crate::api::v1alpha1::{ConditionType, FINALIZER, GitProviderConnection, Permission, ProviderKind, Reason};
use crate::clock::SystemClock;
use crate::controllers::catalog::state::{Finding, Outcome};
use crate::controllers::gate::ActiveClient;
use crate::controllers::public_endpoints::Unreachable;
use crate::controllers::sessions::{ConditionFailure, Session, Usage};
use crate::k8s::conditions;
use crate::network::NetworkPolicy;
use crate::providers::model::Identity;
use crate::providers::permission::Grants;
use crate::providers::transport::{TransportFactory, Unleased};
use crate::providers::{Capabilities, Credential, ErrorKind, Inspection, PermissionFinding, ProviderError, registry};

const WARNING: &str = "the token is for all accessible organizations (acme, umbrella); such tokens end on 1 December 2026";

/// Facts with these warnings of an inspection, the previous status and a failure.
fn facts(warnings: &[&str], status: Option<&GitProviderConnectionStatus>, failure: Option<ConditionFailure>) -> Facts {
    let object: GitProviderConnection = serde_json::from_value(json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
        "metadata": {"name": "acme", "namespace": "platform", "uid": "u", "generation": 1},
        "spec": {"provider": {"azureDevOps": {"organization": "acme"}}, "credentials": {"secretRef": {"name": "acme"}}},
        "status": status,
    }))
    .unwrap();
    let provider = registry::provider(ProviderKind::AzureDevOps).unwrap();
    let endpoint = provider.endpoint(&object.spec.provider).unwrap();
    let policy = Arc::new(NetworkPolicy::default());
    let factory = TransportFactory::new(policy, Arc::new(Unleased), Arc::new(SystemClock), &mut Registry::default());
    let settings = provider.profile().transport_settings(&endpoint, "u");
    let transport = factory.transport(settings).unwrap();
    let client = provider.connect(endpoint.clone(), Credential::Anonymous, transport).unwrap();
    let inspection = Inspection {
        flavor: "AzureDevOpsServices".to_owned(),
        version: None,
        identity: Some(Identity { name: Some("ada".to_owned()), kind: IdentityKind::User }),
        credential_name: None,
        expires_at: None,
        grants: Grants::Unknown("it does not tell".to_owned()),
        capabilities: Capabilities { api: true, ..Capabilities::default() },
        scope: None,
        warnings: warnings.iter().map(|warning| (*warning).to_owned()).collect(),
    };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let snapshot = Snapshot {
        catalog: None,
        object: Arc::new(object),
        now,
        fingerprint: "f".to_owned(),
        inputs: Err(ConditionFailure::pending("not read")),
        session: None,
        terminating: false,
        read_only: false,
        cleanup_timeout: None,
        unreachable: None,
    };
    Facts {
        snapshot,
        probe: None,
        session: Session {
            uid: "u".to_owned(),
            inputs: String::new(),
            inspected_at: now,
            works_since: failure.is_none().then_some(now),
            next: None,
            failures: 0,
            hung: false,
            failure,
            active_client: Some(ActiveClient::new(provider, endpoint, client, inspection, String::new(), "way".into())),
            inspection_requested: false,
            usage: Usage::default(),
        },
        usage: Usage::default(),
        permissions: Vec::new(),
    }
}

fn say(facts: &Facts) -> Report {
    report(facts, &plan::plan(facts))
}

fn authenticated(report: &Report) -> (String, String) {
    let condition = conditions::find(&report.status.conditions, ConditionType::Authenticated).unwrap();
    (condition.status.clone(), condition.message.clone())
}

fn events(report: &Report) -> Vec<&str> {
    report.events.iter().filter(|event| event.reason == "CredentialWarning").map(|event| event.message.as_str()).collect()
}

#[test]
fn bb_12_a_warning_of_the_inspection_is_told_in_the_condition_and_by_one_event() {
    let first = say(&facts(&[WARNING], None, None));
    assert_eq!(authenticated(&first), ("True".to_owned(), format!("the credential belongs to ada; {WARNING}")));
    assert_eq!(conditions::find(&first.status.conditions, ConditionType::Ready).unwrap().status, "True", "it works all the same");
    assert_eq!(events(&first), [WARNING]);

    let again = say(&facts(&[WARNING], Some(&first.status), None));
    assert_eq!(again.status, first.status, "nothing is written");
    assert_eq!(again.events, Vec::new());

    let outage = failure_of(&ProviderError::new(ErrorKind::Unreachable, "inspect", "no route"), None);
    let unreachable = say(&facts(&[WARNING], Some(&first.status), Some(outage)));
    let back = say(&facts(&[WARNING], Some(&unreachable.status), None));
    assert_eq!(events(&back), Vec::<&str>::new(), "an outage makes it no news");

    let second = say(&facts(&[WARNING, "project Shop does not exist"], Some(&first.status), None));
    assert_eq!(events(&second), ["project Shop does not exist"]);
    let gone = say(&facts(&[], Some(&second.status), None));
    assert_eq!(authenticated(&gone).1, "the credential belongs to ada");
    assert_eq!(events(&gone), Vec::<&str>::new());
}

/// A refused credential must have no condition that calls it good, whatever was known before.
#[test]
fn of_a_credential_that_is_not_accepted_no_permission_is_claimed() {
    let state =
        |report: &Report, kind| conditions::find(&report.status.conditions, kind).map(|found| format!("{}/{}", found.status, found.reason));
    let with = |status: Option<&GitProviderConnectionStatus>, failure: Option<ConditionFailure>| {
        let mut facts = facts(&[], status, failure);
        facts.permissions = vec![(Permission::ReadContents, PermissionFinding::granted())];
        say(&facts)
    };
    let good = with(None, None);
    assert_eq!(state(&good, ConditionType::Authorized).as_deref(), Some("True/Succeeded"));
    let rejected = ConditionFailure::new(ConditionType::Authenticated, Reason::CredentialRejected, "401");
    let refused = with(Some(&good.status), Some(rejected.clone()));
    assert_eq!(state(&refused, ConditionType::Authenticated).as_deref(), Some("False/CredentialRejected"));
    assert_eq!(state(&refused, ConditionType::Authorized).as_deref(), Some("Unknown/CannotTell"));
    assert_eq!(refused.status.permissions[0].state, PermissionState::Unknown);
    // A credential that never worked was never judged.
    assert_eq!(state(&with(None, Some(rejected)), ConditionType::Authorized), None);
    // During an outage, the last results stay.
    let outage = ConditionFailure::new(ConditionType::Reachable, Reason::Unreachable, "no route");
    let unreachable = with(Some(&good.status), Some(outage));
    assert_eq!(state(&unreachable, ConditionType::Authorized).as_deref(), Some("True/Succeeded"));
    assert_eq!(unreachable.status.permissions[0].state, PermissionState::Granted);
}

/// Failures that a person must correct last until then, so they must never be reported as an outage.
#[test]
fn what_a_person_has_to_correct_is_never_an_outage() {
    use ErrorKind::{
        AppPasswordRetired, CredentialKindNotAccepted, EndpointInvalid, HostNotAllowed, InsecureUrl, InstallationNotFound, NotFound,
        PermissionDenied, RateLimited, ResponseInvalid, Transient, Unauthenticated, Unreachable,
    };
    let corrected = [
        AppPasswordRetired,
        CredentialKindNotAccepted,
        EndpointInvalid,
        HostNotAllowed,
        InsecureUrl,
        InstallationNotFound,
        NotFound,
        PermissionDenied,
        Unauthenticated,
    ];
    let waited_for = [RateLimited, ResponseInvalid, Transient, Unreachable];
    let failure = |kind| failure_of(&ProviderError::new(kind, "inspect the credential", "words"), None);
    for (kind, is_outage) in corrected.map(|kind| (kind, false)).into_iter().chain(waited_for.map(|kind| (kind, true))) {
        let failure = failure(kind);
        assert_eq!(failure.is_outage(), is_outage, "{kind:?}: {}", failure.reason);
        assert!(failure.message.contains("words"), "{kind:?}: {}", failure.message);
    }
    assert_eq!(failure(EndpointInvalid).message, "words", "the field, its value and the form are all there is to say");
    let observed = say(&facts(&[], None, Some(failure(NotFound)))).status.conditions;
    let state = |kind| conditions::find(&observed, kind).map(|found| format!("{}/{}", found.status, found.reason)).unwrap_or_default();
    assert_eq!(state(ConditionType::Reachable), "True/Succeeded", "the provider answered");
    assert_eq!(state(ConditionType::Authorized), "False/OwnerNotFound");
    assert_eq!(state(ConditionType::Ready), "False/OwnerNotFound");
}

#[test]
fn a_connection_that_works_gives_its_bindings_time_however_long_ago_its_deletion_was() {
    let deleted = |failure: Option<ConditionFailure>, works_for: i64| {
        let mut facts = facts(&[], None, failure);
        let object = Arc::make_mut(&mut facts.snapshot.object);
        object.metadata.deletion_timestamp = Some(Time(facts.snapshot.now - SignedDuration::from_hours(7 * 24)));
        object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        facts.session.works_since = facts.session.works_since.map(|now| now - SignedDuration::from_secs(works_for));
        facts.usage.holding = 1;
        (plan::plan(&facts).actions, say(&facts).requeue)
    };
    let (actions, requeue) = deleted(None, 2);
    assert_eq!(actions, []);
    assert!(requeue.is_some_and(|pause| pause.as_secs() < 30), "{requeue:?}");
    assert_eq!(deleted(None, 60).0, [Action::RemoveFinalizer], "its bindings do not end");
    let rejected = failure_of(&ProviderError::new(ErrorKind::Unauthenticated, "inspect", "401"), None);
    assert_eq!(deleted(Some(rejected), 0).0, [Action::RemoveFinalizer]);
}

#[test]
fn a_public_url_that_does_not_answer_is_told_and_lowers_nothing() {
    let mut facts = facts(&[], None, None);
    let told = |facts: &Facts| {
        let report = report(facts, &plan::plan(facts));
        let condition = |kind| conditions::find(&report.status.conditions, kind).cloned();
        (condition(ConditionType::EndpointReachable), condition(ConditionType::Ready).unwrap().status)
    };
    assert_eq!(told(&facts), (None, "True".to_owned()));
    let since = Timestamp::from_second(1_799_999_000).unwrap();
    let unreachable = Unreachable { since, error: "HEAD /healthz was answered 404".to_owned() };
    facts.snapshot.unreachable = Some(("https://hooks.acme.io/".parse().unwrap(), unreachable));
    assert_eq!(told(&facts).0, None, "no binding of it has a webhook");
    facts.usage.webhooks = true;
    let (condition, ready) = told(&facts);
    let condition = condition.unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str(), ready.as_str()), ("False", "EndpointUnreachable", "True"));
    for part in ["https://hooks.acme.io/", "as seen from inside the cluster", "HEAD /healthz was answered 404", "2027-01-15T07:43:20Z"] {
        assert!(condition.message.contains(part), "{part}: {}", condition.message);
    }
}

#[test]
fn the_result_of_a_listing_is_told_and_kept_and_lowers_nothing() {
    let mut facts = facts(&[], None, None);
    let condition = |report: &Report| {
        let find = |kind| conditions::find(&report.status.conditions, kind);
        let told = find(ConditionType::Cataloged).map(|found| format!("{}/{}: {}", found.status, found.reason, found.message));
        (told, find(ConditionType::Ready).unwrap().status.clone(), find(ConditionType::Stalled).is_some())
    };
    let listed = |reason, message: &str, repositories| {
        let status = CatalogStatus { repositories, digest: "d".to_owned(), ..CatalogStatus::default() };
        let finding = Finding { reason, message: message.to_owned() };
        Some(Outcome { status: Some(status), finding, handled: Some("now".to_owned()) })
    };
    facts.snapshot.catalog = listed(Reason::Succeeded, "all of them", 7);
    assert_eq!((condition(&say(&facts)).0, say(&facts).status.catalog), (None, None), "the spec asks for no catalogue");

    let spec = CatalogSpec { interval: "24h".parse().unwrap(), include: vec![], exclude: vec![], include_archived: false };
    Arc::make_mut(&mut facts.snapshot.object).spec.catalog = Some(spec);
    let first = say(&facts);
    assert_eq!(condition(&first), (Some("True/Succeeded: all of them".to_owned()), "True".to_owned(), false));
    assert_eq!(first.status.catalog.as_ref().unwrap().repositories, 7);
    assert_eq!(first.status.last_handled.as_ref().unwrap().catalog.as_deref(), Some("now"));

    // A new leader has listed nothing yet.
    facts.snapshot.catalog = None;
    Arc::make_mut(&mut facts.snapshot.object).status = Some(first.status.clone());
    assert_eq!(say(&facts).status, first.status);

    facts.snapshot.catalog = listed(Reason::PermissionMissing, "no", 7);
    let failed = condition(&say(&facts));
    assert_eq!(failed, (Some("False/PermissionMissing: no".to_owned()), "True".to_owned(), false));
}
