//! Tests of the detection of duplicates.

use super::*;
use crate::receiver::outbox::SinkPart;

fn identity<'a>(id: &'a str, secret_version: &'a str, several_hooks: bool, payload: &'a [u8]) -> Identity<'a> {
    let derived_id = several_hooks.then(|| std::str::from_utf8(payload).unwrap());
    Identity { uid: "uid", id, hook: ("hook", secret_version), derived_id, events: &[EventKind::Push], once: &[], payload }
}

fn first(begin: Begin) -> Claim {
    match begin {
        Begin::First(claim) => claim,
        Begin::Duplicate(_) => panic!("it is a duplicate"),
    }
}

fn is_duplicate(begin: &Begin) -> bool {
    matches!(begin, Begin::Duplicate(_))
}

#[tokio::test]
async fn an_id_counts_as_seen_when_it_was_accepted_or_is_pending() {
    let dedupe = Dedupe::new();
    let push = identity("1", "100", false, b"{}");
    first(dedupe.begin(&push)).finish(DeliveryResult::Overloaded);
    let claim = first(dedupe.begin(&push));
    let Begin::Duplicate(waiting) = dedupe.begin(&push) else { panic!("two claims") };
    claim.finish(DeliveryResult::Pending);
    assert_eq!(waiting.answer().await, DeliveryResult::Pending);
    assert!(is_duplicate(&dedupe.begin(&push)));
    let elsewhere = Identity { uid: "other", ..push };
    assert!(!is_duplicate(&dedupe.begin(&elsewhere)), "ids of different bindings are independent");
}

#[tokio::test]
async fn a_dropped_claim_lets_the_same_delivery_be_processed_again() {
    let dedupe = Dedupe::new();
    let push = identity("1", "100", false, b"{}");
    let claim = first(dedupe.begin(&push));
    let Begin::Duplicate(waiting) = dedupe.begin(&push) else { panic!("two claims") };
    drop(claim);
    assert_eq!(waiting.answer().await, DeliveryResult::Overloaded);
    first(dedupe.begin(&push)).finish(DeliveryResult::Accepted);
}

#[test]
fn an_event_that_a_sink_accepted_is_not_sent_to_it_again_at_a_retry() {
    let dedupe = Dedupe::new();
    let push = identity("1", "100", false, b"{}");
    let claim = first(dedupe.begin(&push));
    claim.entry().accept("ci", 0);
    claim.finish(DeliveryResult::Overloaded);
    let claim = first(dedupe.begin(&push));
    assert!(claim.entry().has_accepted("ci", 0));
    assert!(!claim.entry().has_accepted("other", 0));
}

#[test]
fn the_same_content_from_hooks_with_two_secret_versions_is_one_event() {
    let dedupe = Dedupe::new();
    // The first delivery arrives before the second hook is known.
    first(dedupe.begin(&identity("1", "100", false, b"push"))).finish(DeliveryResult::Accepted);
    assert!(is_duplicate(&dedupe.begin(&identity("2", "200", true, b"push"))));
    assert!(is_duplicate(&dedupe.begin(&identity("2", "200", true, b"push"))), "its id is seen as well");
    first(dedupe.begin(&identity("3", "200", true, b"push again"))).finish(DeliveryResult::Accepted);
    assert!(is_duplicate(&dedupe.begin(&identity("4", "100", true, b"push again"))));
}

#[test]
fn the_same_content_through_two_connections_is_one_event() {
    let dedupe = Dedupe::new();
    first(dedupe.begin(&identity("1", "100", true, b"push"))).finish(DeliveryResult::Accepted);
    assert!(is_duplicate(&dedupe.begin(&Identity { hook: ("other", "100"), ..identity("2", "100", true, b"push") })));
}

#[test]
fn the_same_content_twice_from_one_hook_is_two_events() {
    let dedupe = Dedupe::new();
    first(dedupe.begin(&identity("1", "100", true, b"push"))).finish(DeliveryResult::Accepted);
    first(dedupe.begin(&identity("2", "100", true, b"push"))).finish(DeliveryResult::Accepted);
    // The other hook reports both as well, and then the event happens a third time.
    assert!(is_duplicate(&dedupe.begin(&identity("3", "200", true, b"push"))));
    assert!(is_duplicate(&dedupe.begin(&identity("4", "200", true, b"push"))));
    first(dedupe.begin(&identity("5", "200", true, b"push"))).finish(DeliveryResult::Accepted);
    assert!(is_duplicate(&dedupe.begin(&identity("6", "100", true, b"push"))));
}

#[test]
fn a_state_is_a_duplicate_until_another_state_was_reported() {
    let dedupe = Dedupe::new();
    let once = |subject: &str, state: &str| StateKey { subject: subject.into(), state: state.into() };
    let (moved, edited, other) = (once("7", "b"), once("7", "a"), once("8", "a"));
    let begin = |id: &str, once: &StateKey| dedupe.begin(&Identity { once: &[once], ..identity(id, "100", false, id.as_bytes()) });
    first(begin("1", &edited)).finish(DeliveryResult::Overloaded);
    first(begin("2", &edited)).finish(DeliveryResult::Accepted);
    assert!(is_duplicate(&begin("1", &edited)), "a retry of the first delivery");
    assert!(is_duplicate(&begin("3", &edited)));
    first(begin("4", &other)).finish(DeliveryResult::Accepted);
    first(begin("5", &moved)).finish(DeliveryResult::Accepted);
    first(begin("6", &edited)).finish(DeliveryResult::Accepted);
    assert!(is_duplicate(&begin("5", &moved)), "an id stays seen");
    let elsewhere = dedupe.begin(&Identity { uid: "other", once: &[&edited], ..identity("7", "100", false, b"{}") });
    assert!(!is_duplicate(&elsewhere), "states of different bindings are independent");
}

#[test]
fn ids_are_derived_while_several_hooks_deliver_and_stay_what_they_were() {
    let dedupe = Dedupe::new();
    let id_of =
        |id: &str, secret_version: &str, several: bool, payload: &[u8]| match dedupe.begin(&identity(id, secret_version, several, payload))
        {
            Begin::First(claim) => {
                let id = claim.entry().event_id().to_owned();
                claim.finish(DeliveryResult::Overloaded);
                id
            }
            Begin::Duplicate(_) => "duplicate".to_owned(),
        };
    assert_eq!(id_of("1", "100", false, b"a"), "1");
    assert_eq!(id_of("1", "100", true, b"a"), "1", "a sink may have accepted it under this id");
    assert_eq!(id_of("2", "200", true, b"a"), "1", "the other hook reports the same event");
    assert_eq!((id_of("3", "100", true, b"b"), id_of("4", "200", true, b"b")), ("b".into(), "b".into()));
    assert_eq!((id_of("5", "100", true, b"b"), id_of("6", "200", true, b"b")), ("b-2".into(), "b-2".into()), "it happened again");
}

#[test]
fn many_repetitions_of_one_content_are_many_events() {
    let dedupe = Dedupe::new();
    let mut ids = BTreeSet::new();
    for number in 0..3 * REPETITIONS {
        let claim = first(dedupe.begin(&identity(&format!("id-{number}"), "100", true, b"push")));
        assert!(ids.insert(claim.entry().event_id().to_owned()), "{number}");
        claim.finish(DeliveryResult::Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_content_is_another_event_once_no_other_hook_can_report_it() {
    let dedupe = Dedupe::new();
    first(dedupe.begin(&identity("1", "100", true, b"push"))).finish(DeliveryResult::Accepted);
    tokio::time::advance(SIDE_BY_SIDE + Duration::from_secs(1)).await;
    first(dedupe.begin(&identity("2", "100", true, b"push"))).finish(DeliveryResult::Accepted);
    tokio::time::advance(SIDE_BY_SIDE + Duration::from_secs(1)).await;
    first(dedupe.begin(&identity("3", "100", false, b"push"))).finish(DeliveryResult::Accepted);
}

#[test]
fn what_was_discarded_before_it_was_stored_may_be_sent_again_by_the_provider() {
    let dedupe = Dedupe::new();
    let push = identity("1", "100", false, b"{}");
    let claim = first(dedupe.begin(&push));
    claim.entry().reopen();
    claim.finish(DeliveryResult::Accepted);
    assert!(!is_duplicate(&dedupe.begin(&push)));
}

#[test]
fn a_restart_during_a_rotation_keeps_the_id_and_knows_the_event_by_either_hook() {
    let record = |delivery: &str, id: &str| {
        let part = SinkPart { name: "ci".into(), events: vec![(0, EventState::Pending)], omitted: 0 };
        Record { envelope: Envelope::sample(delivery, id, Vec::new()), sinks: vec![part], not_served: Vec::new() }
    };
    let dedupe = Dedupe::new();
    let restored = dedupe.restore(&record("1", "push"));
    assert_eq!(restored.event_id(), "push");
    assert!(is_duplicate(&dedupe.begin(&identity("1", "100", true, b"push"))), "the same delivery again");
    assert!(is_duplicate(&dedupe.begin(&identity("2", "200", true, b"push"))), "the same event by the other hook");
    restored.reopen();
    let claim = first(dedupe.begin(&identity("2", "200", true, b"push")));
    assert_eq!(claim.entry().event_id(), "push", "what was sent under an id stays under it");
}

#[test]
fn what_this_receiver_accepted_stays_accepted_when_another_one_hands_the_delivery_over() {
    let dedupe = Dedupe::new();
    let push = identity("1", "100", false, b"{}");
    first(dedupe.begin(&push)).finish(DeliveryResult::Accepted);
    let part = SinkPart { name: "ci".into(), events: vec![(0, EventState::Pending)], omitted: 0 };
    let entry = dedupe.restore(&Record { envelope: Envelope::sample("1", "1", Vec::new()), sinks: vec![part], not_served: Vec::new() });
    assert!(entry.has_accepted("ci", 0));
    assert!(is_duplicate(&dedupe.begin(&push)));
}

#[test]
fn a_state_that_waits_is_known_after_a_restart() {
    let dedupe = Dedupe::new();
    let once = StateKey { subject: "7".into(), state: "a".into() };
    let event = crate::providers::webhook::Event::of_pull_request(EventKind::PullRequest, Some(7), None).once("7", "a");
    let restored = |state| Record {
        envelope: Envelope::sample("1", "1", vec![event.clone()]),
        sinks: vec![SinkPart { name: "ci".into(), events: vec![(0, state)], omitted: 0 }],
        not_served: Vec::new(),
    };
    let begin = |dedupe: &Dedupe| is_duplicate(&dedupe.begin(&Identity { once: &[&once], ..identity("2", "100", false, b"{}") }));
    dedupe.restore(&restored(EventState::Pending));
    assert!(begin(&dedupe));
    let dedupe = Dedupe::new();
    let dead = EventState::DeadLetter { at: jiff::Timestamp::UNIX_EPOCH, reason: crate::receiver::outbox::DeadLetterCause::TooOld };
    dedupe.restore(&restored(dead));
    assert!(!begin(&dedupe), "a dead letter is no duplicate");
}

#[test]
fn different_event_kinds_with_the_same_content_are_not_duplicates() {
    let dedupe = Dedupe::new();
    first(dedupe.begin(&identity("1", "100", true, b"{}"))).finish(DeliveryResult::Accepted);
    let tag = Identity { events: &[EventKind::Tag], derived_id: Some("tag"), ..identity("2", "200", true, b"{}") };
    assert!(!is_duplicate(&dedupe.begin(&tag)));
}
