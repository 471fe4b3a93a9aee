//! Repositories and branches: found, missing, empty, archived, renamed, many.

use std::collections::BTreeSet;

use forgebind::providers::{ErrorKind, Repository};
use futures::TryStreamExt as _;

use super::Subject;

pub async fn all(subject: &Subject) {
    let before = subject.by_hand.writes();
    every_clone_url_is_the_same_repository(subject).await;
    a_repository_is_described(subject).await;
    an_empty_and_an_archived_one_say_so(subject).await;
    what_is_not_there_is_not_found(subject).await;
    a_renamed_one_is_found_under_its_new_path(subject).await;
    branches_are_matched_exactly(subject).await;
    git_answers_too(subject).await;
    every_page_is_listed(subject).await;
    assert_eq!(subject.by_hand.writes(), before, "reading never writes");
}

async fn every_clone_url_is_the_same_repository(subject: &Subject) {
    let expected = subject.found(&subject.repository).await;
    for url in &subject.clone_urls {
        assert_eq!(subject.found(url).await, expected, "{url}");
    }
    for url in expected.clone_url.iter().chain(&expected.web_url) {
        // What the provider itself tells may name another host behind a proxy; the path is what counts.
        assert!(url.to_lowercase().contains(&expected.path.as_str().to_lowercase()), "{url}");
    }
}

async fn a_repository_is_described(subject: &Subject) {
    let repository = subject.found(&subject.repository).await;
    assert!(!repository.id.is_empty());
    assert!(repository.path.same_as(subject.path(&subject.repository).as_str()));
    assert!(repository.default_branch.is_some());
    assert!(!repository.empty && !repository.archived);
    assert_ne!(repository.manage_webhooks.state, forgebind::api::v1alpha1::connection::PermissionState::Missing);
    let upper = subject.found(&subject.repository.to_uppercase()).await;
    assert_eq!(upper, repository, "the answer's path is the canonical one");
    if subject.capabilities().await.lookup_by_id {
        assert_eq!(subject.client.repository_by_id(&repository.id).await.unwrap().as_ref(), Some(&repository));
    }
}

async fn an_empty_and_an_archived_one_say_so(subject: &Subject) {
    let empty = subject.found(&subject.empty).await;
    assert!(empty.empty);
    assert_eq!(empty.default_branch, None);
    if let Some(archived) = &subject.archived {
        assert!(subject.found(archived).await.archived);
    }
}

async fn what_is_not_there_is_not_found(subject: &Subject) {
    let unknown = subject.path(&subject.unknown);
    let kind = |result: Result<Repository, forgebind::providers::ProviderError>| result.unwrap_err().kind;
    assert_eq!(kind(subject.client.repository(&unknown).await), ErrorKind::NotFound);
    assert_eq!(kind(subject.outsider.repository(&subject.path(&subject.repository)).await), ErrorKind::NotFound, "hidden is not there");
    let rejected = kind(subject.rejected.repository(&unknown).await);
    assert!(matches!(rejected, ErrorKind::Unauthenticated | ErrorKind::NotFound), "{rejected:?}");
}

async fn a_renamed_one_is_found_under_its_new_path(subject: &Subject) {
    let (former, present) = &subject.renamed;
    let repository = subject.found(present).await;
    if let Ok(found) = subject.client.repository(&subject.path(former)).await {
        assert_eq!(found, repository);
    }
    if subject.capabilities().await.lookup_by_id {
        let found = subject.client.repository_by_id(&repository.id).await.unwrap().unwrap();
        assert!(found.path.same_as(present));
    }
}

async fn branches_are_matched_exactly(subject: &Subject) {
    let repository = subject.found(&subject.repository).await;
    let exists = async |name: &str| subject.client.branch_exists(&repository, name).await.unwrap();
    let default = repository.default_branch.clone().unwrap();
    assert!(exists(&default).await);
    assert!(exists(&subject.branch).await, "{}", subject.branch);
    let (first, last) = subject.branch.split_once('/').expect("a branch with a slash");
    for name in
        [first, last, &default[1..], &default[..default.len() - 1], &format!("{default}x"), &default.to_uppercase(), "no/such", "a%2Fb"]
    {
        assert!(!exists(name).await, "{name}");
    }
    let empty = subject.found(&subject.empty).await;
    assert!(!subject.client.branch_exists(&empty, "main").await.unwrap());
}

async fn git_answers_too(subject: &Subject) {
    let heads = subject.client.probe_git(&subject.path(&subject.repository)).await.unwrap().heads;
    assert!(heads.contains_key(&format!("refs/heads/{}", subject.branch)), "{heads:?}");
    assert!(heads.values().all(|object| object.len() >= 40), "{heads:?}");
    assert!(subject.client.probe_git(&subject.path(&subject.empty)).await.unwrap().heads.is_empty());
    assert_eq!(subject.client.probe_git(&subject.path(&subject.unknown)).await.unwrap_err().kind, ErrorKind::NotFound);
    for stranger in [&subject.outsider, &subject.rejected, &subject.anonymous] {
        let kind = stranger.probe_git(&subject.path(&subject.repository)).await.unwrap_err().kind;
        assert!(matches!(kind, ErrorKind::NotFound | ErrorKind::Unauthenticated | ErrorKind::PermissionDenied), "{kind:?}");
    }
}

async fn every_page_is_listed(subject: &Subject) {
    let pages: Vec<Vec<Repository>> = subject.client.repositories().try_collect().await.unwrap();
    assert_eq!(pages.len() > 1, subject.has_pages, "{} pages", pages.len());
    let ids: BTreeSet<_> = pages.iter().flatten().map(|repository| repository.id.clone()).collect();
    assert_eq!(ids.len(), subject.repositories);
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), subject.repositories, "none twice");
    let mut rejected = subject.rejected.repositories();
    assert!(rejected.try_next().await.is_err(), "an error, not a short list");
}
