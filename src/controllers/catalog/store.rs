//! Reads and writes the slices of a connection.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use futures::stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, Resource as _, ResourceExt as _};

use super::merge::Merge;
use super::slices::{self, Write};
use super::state::SeenSlice;
use crate::api::v1alpha1::catalog::{SliceContent, SliceEntry};
use crate::api::v1alpha1::{FIELD_MANAGER, GitProviderConnection, RepositorySlice};
use crate::protocol::catalog::hash;

/// Number of slices in one answer of the API server: a few megabytes at most.
const PAGE: u32 = 10;

/// A slice as it was read or written last.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    version: Option<String>,
    hash: String,
}

/// The slices of one connection.
pub(super) struct Slices {
    api: Api<RepositorySlice>,
    connection: String,
    owner: OwnerReference,
    places: BTreeMap<usize, Place>,
}

/// The repositories that the slices have.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) entries: Vec<SliceEntry>,
    /// Ids from slices that do not have the content that they were written with.
    pub(super) doubtful: BTreeSet<String>,
}

/// The owner of a slice: the connection.
fn owner(slice: &RepositorySlice) -> Option<&OwnerReference> {
    let kind = GitProviderConnection::kind(&());
    slice.metadata.owner_references.iter().flatten().find(|owner| owner.kind == kind)
}

/// What the watch keeps of a slice: the hash of what it holds, whatever it says about itself.
pub fn seen(slice: &RepositorySlice) -> SeenSlice {
    // A slice that says to be of another connection than its owner is nobody's.
    let owner = owner(slice).filter(|owner| owner.name == slice.content.connection_name);
    SeenSlice {
        connection: owner.map(|owner| owner.name.clone()).unwrap_or_default(),
        uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
        hash: actual_hash(&slice.content),
    }
}

/// The hash of the content. Fields that contradict it make it another one.
fn actual_hash(content: &SliceContent) -> String {
    let actual = hash(&content.repositories);
    let tells_the_truth = content.hash == actual && usize::try_from(content.count) == Ok(content.repositories.len());
    if tells_the_truth { actual } else { format!("changed {actual}") }
}

impl Slices {
    /// Reads the slices of a connection, and the repositories in them.
    pub(super) async fn read(client: Client, connection: &GitProviderConnection) -> kube::Result<(Self, Known)> {
        let (name, uid) = (connection.name_any(), connection.uid().unwrap_or_default());
        let api: Api<RepositorySlice> = Api::namespaced(client, &connection.namespace().unwrap_or_default());
        let mut places = BTreeMap::new();
        let mut known = Known::default();
        let mut pages = Box::pin(pages(&api, &name));
        while let Some(page) = pages.try_next().await? {
            for slice in page.into_iter().filter(|slice| owner(slice).is_some_and(|owner| owner.uid == uid)) {
                // A slice with another name is not written by this version. It gets a number that no other has, and is deleted.
                let number = slice.name_any().rsplit_once('-').and_then(|(_, number)| number.parse().ok());
                let number = number.filter(|number| slices::name(&name, &uid, *number) == slice.name_any());
                let number = number.unwrap_or(usize::MAX - places.len());
                let place = Place { name: slice.name_any(), version: slice.resource_version(), hash: actual_hash(&slice.content) };
                if place.hash != slice.content.hash {
                    known.doubtful.extend(slice.content.repositories.iter().map(|entry| entry.id.clone()));
                }
                places.insert(number, place);
                known.entries.extend(slice.content.repositories);
            }
        }
        drop(pages);
        let owner = OwnerReference {
            api_version: GitProviderConnection::api_version(&()).into_owned(),
            kind: GitProviderConnection::kind(&()).into_owned(),
            name: name.clone(),
            uid,
            controller: Some(true),
            // Otherwise some clusters demand the right to change the connection's finalizers.
            block_owner_deletion: Some(false),
        };
        Ok((Self { api, connection: name, owner, places }, known))
    }

    /// Hashes of the slices as they are stored.
    pub(super) fn hashes(&self) -> impl Iterator<Item = &str> {
        self.places.values().map(|place| place.hash.as_str())
    }

    /// Writes the slices that differ from the repositories of a listing. Goes on after a write that failed if no repository moves
    /// between slices, and returns its error at the end.
    pub(super) async fn write(&mut self, merge: &Merge) -> kube::Result<usize> {
        let present: BTreeMap<usize, String> = self.places.iter().map(|(index, place)| (*index, place.hash.clone())).collect();
        let number = present.keys().filter(|index| **index < usize::MAX / 2).max().map_or(0, |last| last + 1);
        let entries: Vec<_> = merge.entries().collect();
        let mut distributed = slices::distribute(&entries, number);
        let is_foreign = |index: &usize| *index >= usize::MAX / 2;
        let moves = slices::moves(&distributed, number) || present.keys().any(is_foreign);
        let mut failed = None;
        let wanted: BTreeMap<usize, String> = distributed.iter().map(|(index, entries)| (*index, hash(entries))).collect();
        let writes = slices::writes(&present, &wanted);
        for write in &writes {
            let written = match write {
                Write::Create(index) | Write::Replace(index) => {
                    let entries = distributed.remove(index).unwrap_or_default();
                    let hash = wanted.get(index).cloned().unwrap_or_default();
                    self.put(*index, entries, hash).await
                }
                Write::Delete(index) => self.delete(*index).await,
            };
            if let Err(error) = written {
                failed.get_or_insert(error);
                if moves {
                    break;
                }
            }
        }
        failed.map_or(Ok(writes.len()), Err)
    }

    /// Creates a slice, or replaces it if it is as it was read.
    async fn put(&mut self, index: usize, entries: Vec<&SliceEntry>, hash: String) -> kube::Result<()> {
        let known = self.places.get(&index);
        let name = known.map_or_else(|| slices::name(&self.connection, &self.owner.uid, index), |known| known.name.clone());
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            resource_version: known.and_then(|known| known.version.clone()),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        };
        let content = SliceContent {
            connection_name: self.connection.clone(),
            count: i64::try_from(entries.len()).unwrap_or(i64::MAX),
            hash: hash.clone(),
            repositories: entries.into_iter().cloned().collect(),
        };
        let slice = RepositorySlice::new(metadata, content);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let written = match known {
            None => match self.api.create(&parameters, &slice).await {
                // One that somebody changed so far that it was not found among those of the connection.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    delete(&self.api, &name, None).await?;
                    self.api.create(&parameters, &slice).await?
                }
                created => created?,
            },
            Some(_) => self.api.replace(&name, &parameters, &slice).await?,
        };
        self.places.insert(index, Place { name, version: written.resource_version(), hash });
        Ok(())
    }

    async fn delete(&mut self, index: usize) -> kube::Result<()> {
        let Some(place) = self.places.remove(&index) else { return Ok(()) };
        delete(&self.api, &place.name, place.version).await
    }
}

/// The slices of a connection, a few at a time.
fn pages<'a>(api: &'a Api<RepositorySlice>, connection: &str) -> impl futures::Stream<Item = kube::Result<Vec<RepositorySlice>>> + 'a {
    let parameters = ListParams::default().fields(&format!("connectionName={connection}")).limit(PAGE);
    stream::try_unfold(Some(parameters), move |parameters| async move {
        let Some(parameters) = parameters else { return Ok(None) };
        let list = api.list(&parameters).await?;
        let next = list.metadata.continue_.filter(|token| !token.is_empty());
        Ok(Some((list.items, next.map(|token| parameters.continue_token(&token)))))
    })
}

/// Deletes the slices of a connection that asks for no catalogue any more.
pub(super) async fn delete_all(client: Client, namespace: &str, names: impl IntoIterator<Item = String>) -> kube::Result<()> {
    let api: Api<RepositorySlice> = Api::namespaced(client, namespace);
    for name in names {
        delete(&api, &name, None).await?;
    }
    Ok(())
}

async fn delete(api: &Api<RepositorySlice>, name: &str, version: Option<String>) -> kube::Result<()> {
    let preconditions = version.map(|version| Preconditions { resource_version: Some(version), uid: None });
    match api.delete(name, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
