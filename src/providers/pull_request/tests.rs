use std::collections::BTreeSet;

use super::*;
use crate::api::v1alpha1::ProviderKind;
use crate::providers::samples::Sample;
use crate::providers::webhook::Webhook;
use crate::providers::{Provider, registry};

fn webhook(provider: ProviderKind) -> &'static dyn Webhook {
    registry::provider(provider).unwrap().webhook()
}

/// Every documented action of every provider, with a sample delivery.
fn samples() -> impl Iterator<Item = (&'static dyn Provider, Sample)> {
    let providers = ProviderKind::ALL.into_iter().filter_map(registry::provider);
    providers.flat_map(|provider| (provider.profile().samples.pull_requests)().into_iter().map(move |sample| (provider, sample)))
}

#[test]
fn every_documented_action_of_every_provider_tells_what_the_table_says() {
    for (provider, sample) in samples() {
        let what = format!("{} {}: {}", provider.kind(), sample.name, sample.body);
        let events = sample.read(provider);
        assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), Vec::from_iter(sample.tells), "{what}");
        let listed = provider.webhook().pull_request_actions();
        assert!(listed.iter().any(|(name, _)| *name == sample.name), "not in the list: {what}");
        assert_eq!(told_by(listed, sample.name), sample.tells, "{what}");
        // The only delivery that has neither the target of the pull request nor its commit.
        let knows = (provider.kind(), sample.name) != (ProviderKind::GitHub, "issue_comment created");
        for event in events {
            assert_eq!(event.reference.as_deref(), knows.then_some("refs/heads/main"), "{what}");
            assert_eq!(event.commit.is_some(), knows, "{what}");
        }
    }
}

#[test]
fn no_action_of_a_list_is_without_a_sample() {
    for provider in ProviderKind::ALL {
        let listed: BTreeSet<_> = webhook(provider).pull_request_actions().iter().map(|(name, _)| *name).collect();
        let tried: BTreeSet<_> = samples().filter(|(of, _)| of.kind() == provider).map(|(_, sample)| sample.name).collect();
        assert_eq!(listed, tried, "{provider}");
    }
}

#[test]
fn what_one_provider_tells_all_tell_that_have_it() {
    for action in PullRequestAction::ALL.into_iter().filter(|action| action.event().is_some()) {
        for provider in ProviderKind::ALL {
            let has = webhook(provider).pull_request_actions().iter().any(|(_, listed)| *listed == action);
            let lacks = registry::provider(provider).unwrap().profile().samples.lacking.contains(&action);
            assert_eq!(has, !lacks, "{provider}: {}", action.words());
        }
    }
}

#[test]
fn the_first_entry_of_a_name_counts_and_an_unknown_name_tells_nothing() {
    let actions = [("update", PullRequestAction::SourceMoved), ("update", PullRequestAction::Edited)];
    assert_eq!(told_by(&actions, "update"), Some(EventKind::PullRequest));
    assert_eq!(told_by(&actions, "updated"), None);
}

#[test]
fn a_draft_is_known_by_its_prefix() {
    for title in ["Draft: x", "draft:x", "[Draft] x", "(draft) x", "WIP: x", "[wip] x", "  Draft: x"] {
        assert!(is_draft_title(title), "{title}");
    }
    for title in ["x", "", "Drafting: x", "A draft: x", "WIPE: x", "ü"] {
        assert!(!is_draft_title(title), "{title}");
    }
}
