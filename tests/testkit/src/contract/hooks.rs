//! Hooks: created as requested, changed, paused and removed, without touching foreign ones.

use std::collections::BTreeSet;

use forgebind::api::v1alpha1::EventKind;
use forgebind::protocol::secret::WebhookSecret;
use forgebind::providers::model::HookRelease;
use forgebind::providers::model::HookState;
use forgebind::providers::{Deletion, ErrorKind, Hook, HookRequest, HookShape, HookUrl, Repository};

use super::{Prepared, Subject, secret};

pub async fn all(subject: &Subject) {
    a_hook_lives_and_goes(subject).await;
    what_was_wanted_is_what_is_read(subject).await;
    a_change_is_drift_and_an_update_ends_it(subject).await;
    a_hook_that_is_given_back_keeps_its_secret(subject).await;
    refusals_have_their_kind(subject).await;
    if let Some(prepared) = &subject.prepared {
        an_empty_repository_has_hooks_too(subject, prepared).await;
        a_pause_by_hand_is_seen(subject, prepared).await;
        a_404_is_not_yet_absence(subject, prepared).await;
        many_hooks_are_all_seen(subject, prepared).await;
    }
}

fn shapes(subject: &Subject, events: &[EventKind]) -> Vec<HookShape> {
    subject.client.hook_shapes(&events.iter().copied().collect())
}

async fn create(subject: &Subject, repository: &Repository, url: &HookUrl, shape: &HookShape) -> Hook {
    let secret = secret(1);
    subject.client.create_hook(repository, &HookRequest { url, secret: &secret, shape }).await.unwrap()
}

async fn listed(subject: &Subject, repository: &Repository, id: &str) -> Option<Hook> {
    subject.client.hooks(repository).await.unwrap().into_iter().find(|hook| hook.id == id)
}

async fn remove(subject: &Subject, repository: &Repository, hook: &Hook) {
    assert_eq!(subject.client.delete_hook(repository, &hook.id).await.unwrap(), Deletion::Deleted);
}

async fn a_hook_lives_and_goes(subject: &Subject) {
    let repository = subject.found(&subject.repository).await;
    let url = subject.hook_url("lives");
    for shape in shapes(subject, &[EventKind::Push, EventKind::Tag, EventKind::PullRequest]) {
        let before = subject.writes();
        let hook = create(subject, &repository, &url, &shape).await;
        assert_eq!(subject.writes(), before.map(|before| before + 1), "one write");
        assert_eq!((&hook.url, &hook.state), (&url, &HookState::Active));
        assert_eq!(hook.shape.variant, shape.variant);
        let seen = listed(subject, &repository, &hook.id).await.expect("a created hook is listed");
        assert_eq!(seen, hook, "the answer to a creation is the server's own view");
        remove(subject, &repository, &hook).await;
        assert_eq!(listed(subject, &repository, &hook.id).await, None);
        assert_eq!(subject.client.delete_hook(&repository, &hook.id).await.unwrap(), Deletion::Absent, "deleted twice");
    }
}

async fn an_empty_repository_has_hooks_too(subject: &Subject, prepared: &Prepared) {
    let empty = subject.found(&prepared.empty).await;
    let shape = shapes(subject, &[EventKind::Push]).remove(0);
    let hook = create(subject, &empty, &subject.hook_url("empty"), &shape).await;
    remove(subject, &empty, &hook).await;
}

async fn what_was_wanted_is_what_is_read(subject: &Subject) {
    let repository = subject.found(&subject.repository).await;
    let supported = subject.provider.profile().events;
    let mut choices: Vec<Vec<EventKind>> = supported.iter().map(|event| vec![*event]).collect();
    choices.push(supported.to_vec());
    choices.push(vec![EventKind::Push, EventKind::PullRequestMerged]);
    for events in choices.iter().filter(|events| events.iter().all(|event| supported.contains(event))) {
        let wanted = shapes(subject, events);
        let told: BTreeSet<_> = wanted.iter().flat_map(|shape| shape.events.clone()).collect();
        assert_eq!(told, events.iter().copied().collect(), "the shapes cover the requested events");
        for (position, shape) in wanted.iter().enumerate() {
            let hook = create(subject, &repository, &subject.hook_url(&format!("wanted/{position}")), shape).await;
            assert_eq!(hook.drift(shape), Vec::<&str>::new(), "{events:?}");
            let seen = listed(subject, &repository, &hook.id).await.unwrap();
            assert_eq!(seen.drift(shape), Vec::<&str>::new(), "{events:?}");
            assert!(shape.events.is_subset(&seen.shape.events), "{events:?}: {:?}", seen.shape.events);
            remove(subject, &repository, &hook).await;
        }
    }
    assert!(subject.client.hook_shapes(&BTreeSet::new()).is_empty());
}

async fn a_change_is_drift_and_an_update_ends_it(subject: &Subject) {
    let repository = subject.found(&subject.repository).await;
    let url = subject.hook_url("drift");
    let few = shapes(subject, &[EventKind::Push]).remove(0);
    let hook = create(subject, &repository, &url, &few).await;
    let (moved, new_secret) = (subject.hook_url("drift/2"), secret(2));
    let wanted = shapes(subject, &[EventKind::Push, EventKind::PullRequest])
        .into_iter()
        .find(|shape| shape.variant == few.variant)
        .expect("the hook for pushes");
    if wanted != few {
        assert!(!hook.drift(&wanted).is_empty());
    }
    let request = HookRequest { url: &moved, secret: &new_secret, shape: &wanted };
    let changed = subject.client.update_hook(&repository, &hook.id, &request).await.unwrap();
    assert_eq!((&changed.id, &changed.url, &changed.state), (&hook.id, &moved, &HookState::Active));
    assert_eq!(changed.drift(&wanted), Vec::<&str>::new());
    assert_eq!(listed(subject, &repository, &hook.id).await, Some(changed.clone()));
    remove(subject, &repository, &changed).await;
    let error = subject.client.update_hook(&repository, &hook.id, &request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

/// An adopted hook is returned to its owner with the secret that it has, even if the controller does not know that secret any
/// more. If the provider would lose the secret, the client writes nothing.
async fn a_hook_that_is_given_back_keeps_its_secret(subject: &Subject) {
    let repository = subject.found(&subject.repository).await;
    let shape = shapes(subject, &[EventKind::Push]).remove(0);
    let (url, theirs) = (subject.hook_url("adopted?forgebind=x"), subject.hook_url("adopted"));
    let secret = WebhookSecret::Text("the-secret-of-its-owner".into());
    let hook = subject.client.create_hook(&repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await.unwrap();
    match subject.client.release_hook(&repository, &hook.id, &HookRelease { url: &theirs, secret: None, shape: &hook.shape }).await {
        Ok(()) => {}
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
            assert_eq!(listed(subject, &repository, &hook.id).await.unwrap(), hook, "nothing was written");
            let known = HookRelease { url: &theirs, secret: Some(&secret), shape: &hook.shape };
            subject.client.release_hook(&repository, &hook.id, &known).await.unwrap();
        }
    }
    let left = listed(subject, &repository, &hook.id).await.unwrap();
    assert_eq!(left, Hook { url: theirs, ..hook.clone() }, "everything except the URL is unchanged, including the secret");
    remove(subject, &repository, &left).await;
    let gone = HookRelease { url: &url, secret: Some(&secret), shape: &hook.shape };
    let error = subject.client.release_hook(&repository, &hook.id, &gone).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

async fn a_pause_by_hand_is_seen(subject: &Subject, prepared: &Prepared) {
    if !prepared.can_pause {
        return;
    }
    let repository = subject.found(&subject.repository).await;
    let url = subject.hook_url("paused");
    let shape = shapes(subject, &[EventKind::Push]).remove(0);
    let hook = create(subject, &repository, &url, &shape).await;
    prepared.by_hand.pause(&repository.path, &hook.id).await;
    let paused = listed(subject, &repository, &hook.id).await.unwrap();
    assert_eq!(paused.state, HookState::Paused);
    assert_eq!(paused.drift(&shape), Vec::<&str>::new(), "paused is a separate state");
    remove(subject, &repository, &hook).await;
}

async fn a_404_is_not_yet_absence(subject: &Subject, prepared: &Prepared) {
    let repository = subject.found(&subject.repository).await;
    let shape = shapes(subject, &[EventKind::Push]).remove(0);
    let hook = create(subject, &repository, &subject.hook_url("hidden"), &shape).await;
    match prepared.outsider.delete_hook(&repository, &hook.id).await {
        Ok(deletion) => assert_eq!(deletion, Deletion::Hidden),
        Err(error) => assert!(matches!(error.kind, ErrorKind::PermissionDenied | ErrorKind::Unauthenticated), "{error}"),
    }
    assert!(prepared.outsider.hooks(&repository).await.is_err(), "a list that may not be read is an error, never empty");
    assert!(subject.rejected.delete_hook(&repository, &hook.id).await.is_err());
    assert!(listed(subject, &repository, &hook.id).await.is_some());
    remove(subject, &repository, &hook).await;
}

async fn many_hooks_are_all_seen(subject: &Subject, prepared: &Prepared) {
    let (path, foreign) = &prepared.crowded;
    let repository = subject.found(path).await;
    let before = subject.client.hooks(&repository).await.unwrap();
    assert_eq!(before.len(), *foreign);
    let url = subject.hook_url("crowded");
    let shape = shapes(subject, &[EventKind::Push]).remove(0);
    let hook = create(subject, &repository, &url, &shape).await;
    let after = subject.client.hooks(&repository).await.unwrap();
    assert_eq!(after.len(), foreign + 1);
    assert_eq!(after.iter().filter(|hook| hook.url == url).count(), 1);
    assert_eq!(after.into_iter().filter(|other| other.id != hook.id).collect::<Vec<_>>(), before, "foreign hooks are unchanged");
    remove(subject, &repository, &hook).await;
    assert_eq!(subject.client.hooks(&repository).await.unwrap(), before);
}

async fn refusals_have_their_kind(subject: &Subject) {
    let repository = subject.found(&subject.repository).await;
    let shape = shapes(subject, &[EventKind::Push]).remove(0);
    let (nonsense, secret) = (HookUrl::new("canary-of-a-url".into()), secret(3));
    let request = HookRequest { url: &nonsense, secret: &secret, shape: &shape };
    let before = subject.client.hooks(&repository).await.unwrap();
    let error = subject.client.create_hook(&repository, &request).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Rejected | ErrorKind::TargetRefused), "{error}");
    assert!(!error.to_string().contains("canary-of-a-url"), "{error}");
    assert_eq!(subject.client.hooks(&repository).await.unwrap(), before);
}
