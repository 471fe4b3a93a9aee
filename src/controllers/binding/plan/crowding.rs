//! Warns when a repository comes near its provider's limit of hooks. Pure.

use std::collections::BTreeSet;

use crate::api::v1alpha1::{EventKind, RepoBinding};
use crate::controllers::binding::ownership::is_alike;
use crate::controllers::gate::ActiveClient;
use crate::providers::model::HookLimit;
use crate::providers::{Hook, Repository};

/// Divisor of the limit: a tenth of it is reserved, so that the note comes before nothing is left.
const RESERVE: usize = 10;

/// The note when existing hooks and those that bindings request come near the limit. `siblings`: the events of the other bindings
/// that request a hook on the same repository.
pub(super) fn note(
    object: &RepoBinding,
    siblings: &[BTreeSet<EventKind>],
    active_client: &ActiveClient,
    repository: &Repository,
    hooks: &[Hook],
) -> Option<String> {
    let limit = active_client.provider.hook_limit(&active_client.endpoint)?;
    told(limit, &object.hook_events(), siblings, hooks, repository.path.as_str())
}

fn told(limit: HookLimit, own: &BTreeSet<EventKind>, siblings: &[BTreeSet<EventKind>], hooks: &[Hook], path: &str) -> Option<String> {
    let is_others = |hook: &&Hook| !is_alike(&hook.url);
    let (most, what, count) = match limit {
        HookLimit::EachRepository(most) => {
            (most, String::new(), hooks.len().max(hooks.iter().filter(is_others).count() + siblings.len() + 1))
        }
        HookLimit::EachEvent(most) => {
            let expected = |event: &EventKind| {
                let there = hooks.iter().filter(|hook| hook.shape.events.contains(event));
                let wanted = siblings.iter().filter(|events| events.contains(event)).count() + 1;
                there.clone().count().max(there.filter(is_others).count() + wanted)
            };
            let (count, event) = own.iter().map(|event| (expected(event), event)).max_by_key(|(count, _)| *count)?;
            (most, format!(" for {event}"), count)
        }
    };
    if count > most {
        return Some(format!(
            "{path} would have {count} hooks{what}, but the provider allows {most}, so the others will be refused; use one \
             binding with several sinks, or remove hooks"
        ));
    }
    (count + most / RESERVE >= most)
        .then(|| format!("{path} has or will have {count} hooks{what}, but the provider allows {most}; more will be refused"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::binding::hooks::tests::{hook, ours, shape};
    use crate::providers::HookUrl;

    fn of(events: &[EventKind]) -> BTreeSet<EventKind> {
        events.iter().copied().collect()
    }

    #[test]
    fn the_limit_of_hooks_is_told_before_it_is_reached() {
        let push = of(&[EventKind::Push]);
        let theirs = |count: u32| -> Vec<Hook> {
            (0..count).map(|id| hook(id, HookUrl::new(format!("https://ci.acme.io/{id}")), shape("", "push"))).collect()
        };
        let said = |limit, siblings: usize, hooks: &[Hook]| told(limit, &push, &vec![push.clone(); siblings], hooks, "acme/shop");
        let (event, repository) = (HookLimit::EachEvent(20), HookLimit::EachRepository(100));
        assert_eq!(said(event, 0, &theirs(0)), None);
        assert_eq!(said(event, 16, &theirs(0)), None);
        for (siblings, hooks, count) in [(17, 0, 18), (0, 17, 18), (10, 9, 20)] {
            let text = said(event, siblings, &theirs(hooks)).unwrap();
            assert!(text.contains(&format!("{count} hooks for Push")) && text.contains("allows 20; more"), "{text}");
        }
        // None of these hooks exists yet.
        assert!(said(event, 99, &theirs(0)).unwrap().contains("would have 100 hooks for Push, but the provider allows 20"));
        assert_eq!(said(repository, 88, &theirs(0)), None);
        assert!(said(repository, 89, &theirs(0)).unwrap().contains("90 hooks, but the provider allows 100"));
        assert!(said(repository, 50, &theirs(60)).unwrap().contains("would have 111 hooks"));
    }

    #[test]
    fn hooks_of_bindings_are_not_counted_twice_and_other_events_not_at_all() {
        let own: Vec<Hook> = (0..10).map(|id| hook(id, ours().receiver_url("1").unwrap(), shape("", "push"))).collect();
        let push = of(&[EventKind::Push]);
        assert_eq!(told(HookLimit::EachEvent(20), &push, &vec![push.clone(); 9], &own, "acme/shop"), None);
        let comments = vec![of(&[EventKind::PullRequestComment]); 99];
        assert_eq!(told(HookLimit::EachEvent(20), &push, &comments, &own, "acme/shop"), None);
    }
}
