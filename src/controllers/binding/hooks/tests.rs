use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::ownership::tests::{INTERNAL, identity, settings};
use super::*;
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::WebhookSecret;

const NOW: i64 = 10_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(in crate::controllers) fn ours() -> HookIdentity {
    identity(1, &settings("https://hooks.acme.io", &["https://old.acme.io"]), None)
}

fn theirs() -> HookIdentity {
    identity(2, &settings("https://hooks.acme.io", &[]), None)
}

fn custom() -> Url {
    Url::parse("https://argocd.acme.io/api/webhook").unwrap()
}

pub(in crate::controllers) fn shape(variant: &str, events: &str) -> HookShape {
    HookShape {
        variant: variant.to_owned(),
        fields: BTreeMap::from([("events", events.to_owned())]),
        events: BTreeSet::from([EventKind::Push]),
    }
}

pub(in crate::controllers) fn hook(id: u32, url: HookUrl, shape: HookShape) -> Hook {
    Hook { id: id.to_string(), url, shape, state: HookState::Active, has_secret: None }
}

pub(in crate::controllers) fn wanted(secret_version: i64, update_sets_secret: bool) -> Wanted {
    Wanted {
        destination: Destination::Receiver,
        shapes: vec![shape("", "push")],
        secret: WantedSecret {
            version: secret_version.to_string(),
            value: WebhookSecret::Text("s".to_owned().into()),
            since: at(secret_version),
        },
        adopt: false,
        update_sets_secret,
        revoke: false,
        pending_creates: BTreeMap::new(),
        history: RecreationHistory::default(),
    }
}

/// Simulates a provider: applies each action to the hooks.
fn apply(hooks: &mut Vec<Hook>, actions: &[HookAction], next_id: &mut u32) {
    for action in actions {
        match action {
            HookAction::Create(intent) => {
                hooks.push(hook(*next_id, intent.url.clone(), intent.shape.clone()));
                *next_id += 1;
            }
            HookAction::Update { id, intent, .. } => {
                let changed = hooks.iter_mut().find(|hook| hook.id == *id).expect("an update of a hook that is there");
                changed.url = intent.url.clone();
                changed.shape = intent.shape.clone();
            }
            HookAction::Release { id, url, .. } => {
                hooks.iter_mut().find(|hook| hook.id == *id).expect("a release of a hook that is there").url = url.clone();
            }
            HookAction::Delete { id, .. } => hooks.retain(|hook| hook.id != *id),
        }
    }
}

pub(in crate::controllers) fn decide(hooks: &[Hook], wanted: &Wanted, now: i64) -> HookPlan {
    plan(hooks, &ours(), wanted, &BTreeSet::new(), at(now))
}

#[test]
fn none_is_created_and_one_is_left_alone() {
    let mut hooks = Vec::new();
    let first = decide(&hooks, &wanted(NOW, false), NOW);
    assert!(matches!(first.actions.as_slice(), [HookAction::Create(_)]));
    apply(&mut hooks, &first.actions, &mut 1);
    assert!(decide(&hooks, &wanted(NOW, false), NOW).actions.is_empty());
}

#[test]
fn a_creation_without_an_answer_is_waited_for_before_the_next() {
    let pending_creates = BTreeMap::from([("push".to_owned(), at(NOW + 10))]);
    let asked = Wanted { shapes: vec![shape("push", "push"), shape("other", "issues")], pending_creates, ..wanted(NOW, true) };
    let waiting = decide(&[], &asked, NOW + 1);
    assert!(matches!(waiting.actions.as_slice(), [HookAction::Create(intent)] if intent.shape.variant == "other"), "each part by itself");
    assert_eq!((waiting.pending_create, waiting.wake), (Some(PendingCreate { until: at(NOW + 10), lacks: true }), Some(at(NOW + 10))));
    let found = [
        hook(1, ours().receiver_url(&NOW.to_string()).unwrap(), shape("push", "push")),
        hook(2, ours().receiver_url(&NOW.to_string()).unwrap(), shape("other", "issues")),
    ];
    let found = decide(&found, &asked, NOW + 1);
    assert!(found.actions.is_empty() && found.pending_create.is_none() && found.wake.is_none(), "{found:?}");
}

#[test]
fn what_is_there_stays_while_its_successor_is_waited_for() {
    let pending_creates = BTreeMap::from([(String::new(), at(NOW + 10))]);
    let old = hook(1, ours().receiver_url("9000").unwrap(), shape("", "push"));
    let rotating = decide(std::slice::from_ref(&old), &Wanted { pending_creates: pending_creates.clone(), ..wanted(NOW, false) }, NOW + 1);
    assert!(rotating.actions.is_empty());
    assert_eq!(rotating.pending_create, Some(PendingCreate { until: at(NOW + 10), lacks: false }));
    let moving = Wanted { pending_creates, destination: Destination::Custom(custom()), ..wanted(NOW, true) };
    assert!(decide(&[old], &moving, NOW + 1).actions.is_empty(), "what delivers elsewhere goes last");
}

#[test]
fn drift_is_repaired_in_place() {
    let hooks = [hook(1, ours().receiver_url("9000").unwrap(), shape("", "issues"))];
    let plan = decide(&hooks, &wanted(9000, false), NOW);
    assert!(matches!(plan.actions.as_slice(), [HookAction::Update { id, drift, .. }] if id == "1" && drift == &["events"]));
}

#[test]
fn a_former_public_url_is_moved_to_the_present_one() {
    let url = ours().receiver_url("9000").unwrap().expose().replace("hooks.acme.io", "old.acme.io");
    let plan = decide(&[hook(1, HookUrl::new(url), shape("", "push"))], &wanted(9000, false), NOW);
    assert!(matches!(plan.actions.as_slice(), [HookAction::Update { drift, .. }] if drift == &["url"]));
}

/// A hook of ours at the public URL with the name `internal`, which the connection no longer chooses.
fn at_internal(id: u32, secret_version: &str) -> Hook {
    let there = identity(1, &settings("https://hooks.acme.io", &[]), Some("internal"));
    hook(id, there.receiver_url(secret_version).unwrap(), shape("", "push"))
}

#[test]
fn a_hook_at_another_public_url_moves_in_place_and_keeps_its_secret() {
    for update_sets_secret in [false, true] {
        let mut hooks = vec![at_internal(1, "9000")];
        let moved = decide(&hooks, &wanted(9000, update_sets_secret), NOW);
        assert!(
            matches!(moved.actions.as_slice(), [HookAction::Update { id, drift, intent, .. }]
                if id == "1" && drift == &["url"] && intent.secret_version == "9000"),
            "{:?}",
            moved.actions
        );
        assert_eq!(moved.existing[0].address, format!("{INTERNAL}/hooks/…"), "until then it is told where it is");
        apply(&mut hooks, &moved.actions, &mut 2);
        assert_eq!(hooks[0].url, ours().receiver_url("9000").unwrap());
        assert!(decide(&hooks, &wanted(9000, update_sets_secret), NOW).actions.is_empty());
    }
}

#[test]
fn of_two_hooks_the_one_at_the_chosen_url_stays_and_is_not_touched() {
    let hooks = [at_internal(1, "9000"), hook(2, ours().receiver_url("9000").unwrap(), shape("", "push"))];
    let plan = decide(&hooks, &wanted(9000, true), NOW);
    assert!(matches!(plan.actions.as_slice(), [HookAction::Delete { id, .. }] if id == "1"), "{:?}", plan.actions);
}

#[test]
fn a_move_together_with_a_new_secret_keeps_the_old_way_in_for_the_overlap() {
    let mut hooks = vec![at_internal(1, "9000")];
    let begun = decide(&hooks, &wanted(NOW, false), NOW);
    assert!(
        matches!(begun.actions.as_slice(), [HookAction::Create(intent)] if intent.url == ours().receiver_url(&NOW.to_string()).unwrap())
    );
    apply(&mut hooks, &begun.actions, &mut 2);
    assert!(decide(&hooks, &wanted(NOW, false), NOW + 59).actions.is_empty());
    let ended = decide(&hooks, &wanted(NOW, false), NOW + 60);
    assert!(matches!(ended.actions.as_slice(), [HookAction::Delete { id, .. }] if id == "1"), "{:?}", ended.actions);
    let at_once = decide(&[at_internal(1, "9000")], &wanted(NOW, true), NOW);
    assert!(matches!(at_once.actions.as_slice(), [HookAction::Update { id, .. }] if id == "1"), "URL and secret in one update");
}

#[test]
fn a_new_secret_is_an_update_where_that_sets_it() {
    let hooks = [hook(1, ours().receiver_url("9000").unwrap(), shape("", "push"))];
    let plan = decide(&hooks, &wanted(NOW, true), NOW);
    assert!(matches!(plan.actions.as_slice(), [HookAction::Update { id, .. }] if id == "1"));
}

#[test]
fn a_new_secret_is_a_second_hook_elsewhere_and_the_first_goes_after_the_overlap() {
    let mut hooks = vec![hook(1, ours().receiver_url("9000").unwrap(), shape("", "push"))];
    let begun = decide(&hooks, &wanted(NOW, false), NOW);
    assert!(matches!(begun.actions.as_slice(), [HookAction::Create(_)]), "{:?}", begun.actions);
    assert_eq!(begun.wake, Some(at(NOW) + OVERLAP));
    apply(&mut hooks, &begun.actions, &mut 2);
    assert!(decide(&hooks, &wanted(NOW, false), NOW + 59).actions.is_empty());
    let ended = decide(&hooks, &wanted(NOW, false), NOW + 60);
    assert!(matches!(ended.actions.as_slice(), [HookAction::Delete { id, .. }] if id == "1"));
    let revoked = decide(&hooks, &Wanted { revoke: true, ..wanted(NOW, false) }, NOW + 1);
    assert!(matches!(revoked.actions.as_slice(), [HookAction::Delete { id, .. }] if id == "1"));
}

#[test]
fn a_paused_hook_is_left_as_it_is_and_said() {
    let mut paused = hook(1, ours().receiver_url("9000").unwrap(), shape("", "issues"));
    paused.state = HookState::Paused;
    let plan = decide(&[paused], &wanted(9000, false), NOW);
    assert!(plan.actions.is_empty());
    assert_eq!(plan.finding.unwrap().reason, Reason::PausedAtProvider);
}

#[test]
fn a_hook_with_our_identity_under_another_host_stops_everything() {
    let url = ours().receiver_url("9000").unwrap().expose().replace("hooks.acme.io", "copy.acme.io");
    let plan = decide(&[hook(1, HookUrl::new(url), shape("", "push"))], &wanted(9000, false), NOW);
    assert!(plan.actions.is_empty() && plan.existing.is_empty());
    assert_eq!(plan.finding.unwrap().reason, Reason::HookUnderAnotherHost);
}

#[test]
fn a_foreign_hook_with_the_custom_url_is_adopted_only_when_asked() {
    let there = [hook(7, HookUrl::new(custom().into()), shape("", "push"))];
    let asked = Wanted { destination: Destination::Custom(custom()), ..wanted(9000, false) };
    let refused = decide(&there, &asked, NOW);
    assert!(refused.actions.is_empty());
    assert_eq!(refused.finding.unwrap().reason, Reason::ForeignHook);
    let mut hooks = there.to_vec();
    let adopted = decide(&hooks, &Wanted { adopt: true, ..asked.clone() }, NOW);
    assert!(matches!(adopted.actions.as_slice(), [HookAction::Update { id, adopted: true, .. }] if id == "7"));
    apply(&mut hooks, &adopted.actions, &mut 8);
    assert!(decide(&hooks, &Wanted { adopt: true, ..asked }, NOW).actions.is_empty());
    let given_back = removal(&hooks, &ours(), &BTreeSet::from(["7".to_owned()]), "gone");
    apply(&mut hooks, &given_back.actions, &mut 8);
    assert_eq!(hooks, there);
}

#[test]
fn a_hook_of_another_binding_of_this_installation_is_never_taken_over() {
    let settings = settings("https://hooks.acme.io", &[]);
    let of = |byte: u8, name: &str| {
        HookIdentity::new(
            &super::super::ownership::tests::keys(byte),
            &settings,
            None,
            ("team", name),
            &super::super::ownership::tests::connection(),
        )
    };
    let asked = Wanted { destination: Destination::Custom(custom()), adopt: true, ..wanted(9000, true) };
    let there = |identity: HookIdentity| [hook(7, identity.custom_url(&custom(), "8000"), shape("", "push"))];
    let refused = decide(&there(of(1, "orphaned")), &asked, NOW);
    assert!(refused.actions.is_empty(), "{:?}", refused.actions);
    let finding = refused.finding.unwrap();
    assert_eq!(finding.reason, Reason::ForeignHook);
    assert!(finding.message.contains("hook 7") && finding.message.contains("another binding of this installation"), "{}", finding.message);
    let lost_key = decide(&there(of(2, "shop")), &asked, NOW);
    assert!(matches!(lost_key.actions.as_slice(), [HookAction::Update { id, adopted: true, .. }] if id == "7"), "another installation's");
}

#[test]
fn a_foreign_hook_is_known_in_every_spelling_of_its_url_and_no_second_one_is_planned() {
    let wish = Url::parse("https://ci.acme.io/hooks/shop?job=a%2Fb&x=1").unwrap();
    for spelling in [
        "https://ci.acme.io/hooks/shop?job=a%2Fb&x=1",
        "https://ci.acme.io/hooks/shop/?job=a%2Fb&x=1",
        "https://ci.acme.io:443/hooks/shop?job=a%2Fb&x=1",
        "https://CI.acme.io/hooks/shop?x=1&job=a%2fb",
        "https://ci.acme.io./hooks/%73hop?job=a%2Fb&x=1",
    ] {
        let there = [hook(7, HookUrl::new(spelling.to_owned()), shape("", "push"))];
        let asked = Wanted { destination: Destination::Custom(wish.clone()), ..wanted(9000, true) };
        let refused = decide(&there, &asked, NOW);
        assert!(refused.actions.is_empty(), "{spelling}: {:?}", refused.actions);
        assert_eq!(refused.finding.unwrap().reason, Reason::ForeignHook, "{spelling}");
        let mut hooks = there.to_vec();
        let adopting = Wanted { adopt: true, ..asked };
        let adopted = decide(&hooks, &adopting, NOW);
        assert!(matches!(adopted.actions.as_slice(), [HookAction::Update { id, adopted: true, .. }] if id == "7"), "{spelling}");
        apply(&mut hooks, &adopted.actions, &mut 8);
        assert!(decide(&hooks, &adopting, NOW).actions.is_empty(), "{spelling}");
        // A hook of ours whose URL the provider spells differently is not foreign either.
        let ours_there = ours().custom_url(&Url::parse(spelling).unwrap(), "9000");
        let existing = decide(&[hook(7, ours_there, shape("", "push"))], &adopting, NOW);
        assert!(
            existing.actions.iter().all(|action| matches!(action, HookAction::Update { id, .. } if id == "7")),
            "{:?}",
            existing.actions
        );
    }
}

#[test]
fn another_hook_to_the_same_host_is_told_and_stands_against_nothing() {
    let asked = Wanted { destination: Destination::Custom(custom()), ..wanted(9000, true) };
    let there = [
        hook(5, HookUrl::new("https://argocd.acme.io:8443/other".to_owned()), shape("", "push")),
        hook(6, HookUrl::new("https://elsewhere.acme.io/api/webhook".to_owned()), shape("", "push")),
        hook(7, theirs().custom_url(&Url::parse("https://argocd.acme.io/other").unwrap(), "1"), shape("", "push")),
    ];
    let plan = decide(&there, &asked, NOW);
    assert!(matches!(plan.actions.as_slice(), [HookAction::Create(_)]) && plan.finding.is_none());
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
    assert!(plan.notes[0].contains("hook 5,") && plan.notes[0].contains("argocd.acme.io"), "{:?}", plan.notes);
    assert!(decide(&there, &wanted(9000, true), NOW).notes.is_empty(), "our own receiver has many hooks");
}

#[test]
fn a_repair_that_does_not_last_is_counted_made_with_pauses_and_told() {
    let url = ours().receiver_url("9000").unwrap();
    let hooks = [hook(1, url, shape("", "issues,push"))];
    let mut asked = wanted(9000, true);
    let mut now = NOW;
    let mut updates = Vec::new();
    while now < NOW + 3 * 86_400 {
        let plan = decide(&hooks, &asked, now);
        for action in &plan.actions {
            assert!(matches!(action, HookAction::Update { drift, .. } if drift == &["events"]), "{action:?}");
            updates.push(now - NOW);
        }
        let told = plan.finding.map(|finding| (finding.reason, finding.message));
        match updates.len() {
            1 if updates[0] == now - NOW => assert_eq!(told, None, "the first repair may hold"),
            _ => {
                let (reason, message) = told.expect("it is told");
                assert_eq!(reason, Reason::RepairDidNotLast);
                assert!(message.contains("hook 1 differs in events"), "{message}");
            }
        }
        assert!(!plan.actions.is_empty() || plan.wake.is_some(), "somebody wakes up for the next one");
        asked.history.repairs.extend(plan.repairs.into_iter().filter_map(|(variant, repair)| Some((variant, repair?))));
        now += 30;
    }
    assert_eq!(updates[..5], [0, 60, 360, 2160, 9360], "with growing pauses");
    assert!(updates.len() < 10, "{updates:?}");
}

#[test]
fn a_repair_of_something_else_is_no_repetition_and_one_that_lasts_is_forgotten() {
    let url = ours().receiver_url("9000").unwrap();
    let mut asked = wanted(9000, true);
    let first = decide(&[hook(1, url.clone(), shape("", "issues"))], &asked, NOW);
    asked.history.repairs.extend(first.repairs.into_iter().filter_map(|(variant, repair)| Some((variant, repair?))));
    // Another wanted state: the earlier repair does not count.
    let other = Wanted { shapes: vec![shape("", "push,tags")], ..asked.clone() };
    assert!(decide(&[hook(1, url.clone(), shape("", "push"))], &other, NOW + 1).finding.is_none());
    // The hook is in order.
    let good = decide(&[hook(1, url, shape("", "push"))], &asked, NOW + 1);
    assert_eq!(good.repairs, BTreeMap::from([(String::new(), None)]));
}

#[test]
fn a_changed_destination_is_made_before_the_old_hook_goes() {
    let hooks = [hook(1, ours().receiver_url("9000").unwrap(), shape("", "push"))];
    let moved = decide(&hooks, &Wanted { destination: Destination::Custom(custom()), ..wanted(9000, false) }, NOW);
    assert!(matches!(moved.actions.as_slice(), [HookAction::Create(_), HookAction::Delete { id, .. }] if id == "1"));
}

/// Any hook that a repository may have: ours in any state, and foreign ones.
fn any_hook(id: u32) -> impl Strategy<Value = Hook> {
    let secret_version = prop_oneof![Just("9000"), Just("9500"), Just("10000"), Just("99999999999"), Just("x")];
    let variant = prop_oneof![Just(""), Just("push"), Just("other")];
    let events = prop_oneof![Just("push"), Just("issues")];
    let state = prop_oneof![
        8 => Just(HookState::Active),
        1 => Just(HookState::Paused),
        1 => Just(HookState::Disabled("failures".to_owned())),
        1 => Just(HookState::HeldBack { cause: "failures".to_owned(), until: None }),
        1 => Just(HookState::HeldBack { cause: "failures".to_owned(), until: Some(at(NOW + 9000)) }),
    ];
    (0_u8..7, secret_version, variant, events, state).prop_map(move |(owner, secret_version, variant, events, state)| {
        let url = match owner {
            0 => ours().receiver_url(secret_version).unwrap(),
            1 => HookUrl::new(ours().receiver_url(secret_version).unwrap().expose().replace("hooks.acme.io", "old.acme.io")),
            2 => ours().custom_url(&custom(), secret_version),
            3 => theirs().receiver_url(secret_version).unwrap(),
            4 => HookUrl::new(custom().into()),
            5 => at_internal(id, secret_version).url,
            _ => HookUrl::new(format!("https://elsewhere.acme.io/{secret_version}")),
        };
        Hook { state, ..hook(id, url, shape(variant, events)) }
    })
}

fn any_hooks() -> impl Strategy<Value = Vec<Hook>> {
    (0_usize..8).prop_flat_map(|count| (0..count).map(|id| any_hook(u32::try_from(id).unwrap() + 1)).collect::<Vec<_>>())
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let shapes = prop_oneof![Just(vec![shape("", "push")]), Just(vec![shape("push", "push"), shape("other", "issues")])];
    (any::<bool>(), shapes, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(receiver, shapes, adopt, update_sets_secret, revoke)| Wanted {
            destination: if receiver { Destination::Receiver } else { Destination::Custom(custom()) },
            shapes,
            adopt: adopt && !receiver,
            revoke,
            ..wanted(NOW, update_sets_secret)
        },
    )
}

proptest! {
    #[test]
    fn a_plan_that_was_done_leaves_nothing_to_do(hooks in any_hooks(), wanted in any_wanted()) {
        let mut hooks = hooks;
        let mut next_id = 100;
        // The second round ends the overlap that the first one began.
        for _ in 0..2 {
            let plan = plan(&hooks, &ours(), &wanted, &BTreeSet::new(), at(NOW + 61));
            apply(&mut hooks, &plan.actions, &mut next_id);
        }
        let last = plan(&hooks, &ours(), &wanted, &BTreeSet::new(), at(NOW + 61));
        prop_assert!(last.actions.is_empty(), "{:?}", last.actions);
    }

    #[test]
    fn nobody_elses_hook_is_touched(hooks in any_hooks(), wanted in any_wanted()) {
        let foreign: Vec<Hook> = hooks.iter().filter(|hook| !ours().is_ours(&hook.url)).cloned().collect();
        let adoptable = |hook: &Hook| wanted.adopt && hook.url.expose() == custom().as_str();
        let mut after = hooks.clone();
        let planned = plan(&hooks, &ours(), &wanted, &BTreeSet::new(), at(NOW + 61));
        apply(&mut after, &planned.actions, &mut 100);
        for hook in foreign.iter().filter(|hook| !adoptable(hook)) {
            prop_assert!(after.contains(hook));
        }
        let mut emptied = hooks.clone();
        apply(&mut emptied, &removal(&hooks, &ours(), &BTreeSet::new(), "gone").actions, &mut 100);
        prop_assert_eq!(emptied, foreign);
    }

    #[test]
    fn at_most_one_hook_of_ours_remains_for_each_part_once_overlaps_are_over(hooks in any_hooks(), wanted in any_wanted()) {
        let switched_off = hooks.iter().any(|hook| hook.state != HookState::Active && ours().is_ours(&hook.url));
        let mut hooks = hooks;
        let mut last = HookPlan::default();
        for _ in 0..2 {
            last = plan(&hooks, &ours(), &wanted, &BTreeSet::new(), at(NOW + 61));
            apply(&mut hooks, &last.actions, &mut 100);
        }
        prop_assume!(last.finding.is_none() && !switched_off);
        for shape in &wanted.shapes {
            let mine = hooks.iter().filter(|hook| ours().is_ours(&hook.url) && hook.shape.variant == shape.variant).count();
            prop_assert_eq!(mine, 1);
        }
        let all = hooks.iter().filter(|hook| ours().is_ours(&hook.url)).count();
        prop_assert_eq!(all, wanted.shapes.len());
    }
}
