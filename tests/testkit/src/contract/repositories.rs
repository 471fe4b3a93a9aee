//! Repositories and branches: found, missing, empty, archived, renamed, many.

use std::collections::BTreeSet;

use forgebind::api::v1alpha1::Permission;
use forgebind::api::v1alpha1::connection::PermissionState;
use forgebind::providers::{ErrorKind, ListedRepository, ProviderError, Repository};
use futures::TryStreamExt as _;

use super::{Prepared, Subject};

pub async fn all(subject: &Subject) {
    let before = subject.writes();
    a_repository_is_described(subject).await;
    what_is_not_there_is_not_found(subject).await;
    the_default_branch_is_matched_exactly(subject).await;
    git_answers_too(subject).await;
    every_page_is_listed(subject).await;
    if let Some(prepared) = &subject.prepared {
        every_clone_url_is_the_same_repository(subject, prepared).await;
        an_empty_and_an_archived_one_say_so(subject, prepared).await;
        what_is_hidden_is_not_found(subject, prepared).await;
        a_renamed_one_is_found_under_its_new_path(subject, prepared).await;
        branches_are_matched_exactly(subject, prepared).await;
        git_shows_and_hides(subject, prepared).await;
    }
    assert_eq!(subject.writes(), before, "reading never writes");
}

async fn every_clone_url_is_the_same_repository(subject: &Subject, prepared: &Prepared) {
    let expected = subject.found(&subject.repository).await;
    for url in &prepared.clone_urls {
        assert_eq!(subject.found(url).await, expected, "{url}");
    }
    let path = expected.path.as_str().to_lowercase();
    for url in expected.clone_url.iter().chain(&expected.web_url) {
        // Behind a proxy, the provider's own answer may contain another host, and more segments between owner and name.
        let shown = percent_encoding::percent_decode_str(url).decode_utf8_lossy().to_lowercase();
        assert!(path.split('/').all(|segment| shown.contains(segment)), "{url}");
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

async fn what_is_not_there_is_not_found(subject: &Subject) {
    let unknown = subject.path(&subject.unknown);
    assert_eq!(kind(subject.client.repository(&unknown).await), ErrorKind::NotFound);
    let rejected = kind(subject.rejected.repository(&unknown).await);
    assert!(matches!(rejected, ErrorKind::Unauthenticated | ErrorKind::NotFound), "{rejected:?}");
}

fn kind(result: Result<Repository, ProviderError>) -> ErrorKind {
    result.unwrap_err().kind
}

async fn exists(subject: &Subject, repository: &Repository, name: &str) -> bool {
    subject.client.branch_exists(repository, name).await.unwrap()
}

async fn the_default_branch_is_matched_exactly(subject: &Subject) {
    let repository = subject.found(&subject.repository).await;
    let default = repository.default_branch.clone().unwrap();
    assert!(exists(subject, &repository, &default).await);
    for name in [&default[1..], &default[..default.len() - 1], &format!("{default}x"), &default.to_uppercase(), "no/such", "a%2Fb"] {
        assert!(!exists(subject, &repository, name).await, "{name}");
    }
}

async fn git_answers_too(subject: &Subject) {
    let heads = subject.client.probe_git(&subject.path(&subject.repository)).await.unwrap().heads;
    let default = subject.found(&subject.repository).await.default_branch.unwrap();
    assert!(heads.contains_key(&format!("refs/heads/{default}")), "{heads:?}");
    assert!(heads.values().all(|object| object.len() >= 40), "{heads:?}");
    assert_eq!(subject.client.probe_git(&subject.path(&subject.unknown)).await.unwrap_err().kind, ErrorKind::NotFound);
    let refused = subject.rejected.probe_git(&subject.path(&subject.repository)).await.unwrap_err().kind;
    assert!(matches!(refused, ErrorKind::NotFound | ErrorKind::Unauthenticated | ErrorKind::PermissionDenied), "{refused:?}");
}

async fn every_page_is_listed(subject: &Subject) {
    let pages: Vec<Vec<ListedRepository>> = subject.client.repositories().try_collect().await.unwrap();
    let ids: BTreeSet<_> = pages.iter().flatten().map(|repository| repository.id.clone()).collect();
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), ids.len(), "no repository is listed twice");
    let repository = subject.found(&subject.repository).await;
    assert!(ids.contains(&repository.id), "the repository is one of its owner's");
    if let Some(prepared) = &subject.prepared {
        assert_eq!(pages.len() > 1, prepared.has_pages, "{} pages", pages.len());
        assert_eq!(ids.len(), prepared.repositories);
    }
    let listed = pages.iter().flatten().find(|listed| listed.id == repository.id).unwrap();
    agrees(listed, &repository);
    assert_ne!(listed.webhooks, PermissionState::Missing, "the account may do everything");
    if let Some(prepared) = &subject.prepared {
        let paths: Vec<_> = [Some(&prepared.empty), prepared.archived.as_ref()].into_iter().flatten().collect();
        for path in paths {
            let repository = subject.found(path).await;
            agrees(pages.iter().flatten().find(|listed| listed.id == repository.id).unwrap(), &repository);
        }
        let inspection = subject.client.inspect().await.unwrap();
        if subject.client.permission(&inspection, Permission::ManageWebhooks).state == PermissionState::Granted {
            assert_eq!(listed.webhooks, PermissionState::Granted, "the account is an administrator of every repository");
        }
        a_reader_manages_none(prepared).await;
    }
    let mut rejected = subject.rejected.repositories();
    assert!(rejected.try_next().await.is_err(), "an error, not a short list");
}

/// Whatever a list shows of a repository is what the repository's own document shows.
fn agrees(listed: &ListedRepository, repository: &Repository) {
    assert_eq!((&listed.path, &listed.web_url, listed.visibility), (&repository.path, &repository.web_url, repository.visibility));
    if let Some(archived) = listed.archived {
        assert_eq!(archived, repository.archived, "{}", listed.path);
    }
    if let Some(empty) = listed.empty {
        assert_eq!(empty, repository.empty, "{}", listed.path);
    }
    if let (Some(listed), Some(found)) = (&listed.default_branch, &repository.default_branch) {
        assert_eq!(listed, found, "{}", repository.path);
    }
}

/// Of a credential that may only read, no repository is said to be manageable: its account lacks the role, or it lacks the
/// permission itself, or the provider does not tell.
async fn a_reader_manages_none(prepared: &Prepared) {
    let Some(reader) = &prepared.reader else { return };
    let pages: Vec<Vec<ListedRepository>> = reader.repositories().try_collect().await.unwrap();
    assert!(!pages.concat().is_empty());
    let inspection = reader.inspect().await.unwrap();
    let itself = reader.permission(&inspection, Permission::ManageWebhooks).state;
    let granted = |listed: &ListedRepository| itself != PermissionState::Missing && listed.webhooks == PermissionState::Granted;
    assert!(!pages.iter().flatten().any(granted));
}

async fn an_empty_and_an_archived_one_say_so(subject: &Subject, prepared: &Prepared) {
    let empty = subject.found(&prepared.empty).await;
    assert!(empty.empty);
    assert_eq!(empty.default_branch, None);
    if let Some(archived) = &prepared.archived {
        assert!(subject.found(archived).await.archived);
    }
}

async fn what_is_hidden_is_not_found(subject: &Subject, prepared: &Prepared) {
    let path = subject.path(&subject.repository);
    let hidden = kind(prepared.outsider.repository(&path).await);
    assert!(matches!(hidden, ErrorKind::NotFound | ErrorKind::PermissionDenied), "{hidden:?}");
}

async fn a_renamed_one_is_found_under_its_new_path(subject: &Subject, prepared: &Prepared) {
    let (former, present) = &prepared.renamed;
    let repository = subject.found(present).await;
    if let Ok(found) = subject.client.repository(&subject.path(former)).await {
        assert_eq!(found, repository);
    }
    if subject.capabilities().await.lookup_by_id {
        let found = subject.client.repository_by_id(&repository.id).await.unwrap().unwrap();
        assert!(found.path.same_as(present));
    }
}

async fn branches_are_matched_exactly(subject: &Subject, prepared: &Prepared) {
    let repository = subject.found(&subject.repository).await;
    assert!(exists(subject, &repository, &prepared.branch).await, "{}", prepared.branch);
    let (first, last) = prepared.branch.split_once('/').expect("a branch with a slash");
    for name in [first, last] {
        assert!(!exists(subject, &repository, name).await, "{name}");
    }
    let empty = subject.found(&prepared.empty).await;
    assert!(!exists(subject, &empty, "main").await);
}

async fn git_shows_and_hides(subject: &Subject, prepared: &Prepared) {
    let heads = subject.client.probe_git(&subject.path(&subject.repository)).await.unwrap().heads;
    assert!(heads.contains_key(&format!("refs/heads/{}", prepared.branch)), "{heads:?}");
    assert!(subject.client.probe_git(&subject.path(&prepared.empty)).await.unwrap().heads.is_empty());
    for stranger in [&prepared.outsider, &subject.anonymous] {
        let kind = stranger.probe_git(&subject.path(&subject.repository)).await.unwrap_err().kind;
        assert!(matches!(kind, ErrorKind::NotFound | ErrorKind::Unauthenticated | ErrorKind::PermissionDenied), "{kind:?}");
    }
}
