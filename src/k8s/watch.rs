//! Watches objects: one watch per kind and namespace, each filling a store and calling listeners.
//!
//! A relist in the API server's watch protocol contains the existing objects but not the deleted ones. The watches here compare
//! it with the objects that they knew, so that listeners see every deletion, including one that happened while a watch was
//! interrupted.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::stream::{self, BoxStream, SelectAll};
use futures::{Stream, StreamExt as _, future};
use kube::api::PartialObjectMeta;
use kube::core::error_boundary::InvalidObject;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::{ObjectRef, store::Writer};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

/// Duration of a watch before it is reopened, in seconds. A connection that died silently is noticed 5 s later.
pub const WATCH_SECONDS: u32 = 50;

/// First and maximum backoff of a failing watch: short, so that it resumes soon after the API server is back.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Backoff of a failing watch. kube's own backoff grows to half a minute.
#[derive(Debug)]
pub struct WatchBackoff(ExponentialBackoff);

/// The backoff of a watch, starting with the first delay. It never ends, and is reset by every event of the watch.
#[must_use]
pub fn backoff() -> WatchBackoff {
    let backoff = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE).without_max_times();
    WatchBackoff(backoff.with_jitter().build())
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        *self = backoff();
    }
}

/// A change to the objects of one kind.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// The object was created or changed, or was found by a listing.
    Applied(Arc<K>),
    /// The object was deleted.
    Deleted(Arc<K>),
    /// The object exists but does not match the type.
    Invalid(Box<InvalidObject>),
    /// The first listing is complete: every existing object has been reported.
    Ready,
}

/// A callback for changes. Called in order, so it must not block.
pub type Listener<K> = Box<dyn FnMut(&Change<K>) + Send>;

type Guarded<K> = Result<K, Box<InvalidObject>>;

/// The namespaces to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    All,
    /// Only these namespaces.
    Namespaces(Vec<String>),
}

impl Scope {
    fn apis<K>(&self, client: &Client) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::All => vec![Api::all(client.clone())],
            Self::Namespaces(names) => names.iter().map(|name| Api::namespaced(client.clone(), name)).collect(),
        }
    }
}

fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Watches objects of one of our kinds until the future is dropped. An object that cannot be parsed is reported, and the watch
/// continues. `trim` removes what nobody reads from the cache.
pub async fn objects<K>(client: Client, scope: Scope, writer: Writer<K>, listeners: Vec<Listener<K>>, trim: fn(&mut K))
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let streams = scope.apis::<K>(&client).into_iter().map(|api| {
        let guarded: Api<DeserializeGuard<K>> = match api.namespace() {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let read = move |guard: DeserializeGuard<K>| guard.0.map(|object| trimmed(strip(object), trim)).map_err(Box::new);
        let events = watch(guarded, config()).backoff(backoff()).map(move |event| event.map(|event| map_event(event, read)));
        events.boxed()
    });
    merge(K::kind(&()).into_owned(), streams.collect(), Some(writer), listeners).await;
}

/// Watches the metadata of objects of a namespaced kind until the future is dropped. Stores nothing.
pub async fn namespaced_metadata<K>(client: Client, scope: Scope, listeners: Vec<Listener<PartialObjectMeta<K>>>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let streams = scope.apis::<PartialObjectMeta<K>>(&client).into_iter().map(metadata_stream).collect();
    merge(K::kind(&()).into_owned(), streams, None, listeners).await;
}

/// Watches the metadata of objects of a cluster-scoped kind until the future is dropped.
pub async fn cluster_metadata<K>(
    api: Api<PartialObjectMeta<K>>,
    writer: Writer<PartialObjectMeta<K>>,
    listeners: Vec<Listener<PartialObjectMeta<K>>>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    merge(K::kind(&()).into_owned(), vec![metadata_stream(api)], Some(writer), listeners).await;
}

/// A change to the parts that are kept of objects.
#[derive(Clone, Debug)]
pub enum PartChange<P> {
    /// The object, by namespace and name, was created or changed, or was found by a listing.
    Applied(String, String, P),
    /// The object, by namespace and name, was deleted.
    Deleted(String, String),
    /// A listing of this namespace, or of all, is complete: it found exactly these objects.
    Listed(Option<String>, HashSet<(String, String)>),
    /// The first listing of every namespace is complete.
    Ready,
}

/// Number of objects in one answer to a listing of objects of which only a part is kept: they are large.
const LARGE_OBJECTS: u32 = 10;

/// Watches objects of which only a part is kept, until the future is dropped. Keeps nothing itself, so that memory stays small
/// however large the objects are.
pub async fn parts<K, P>(client: Client, scope: Scope, part: fn(&K) -> P, mut hear: impl FnMut(PartChange<P>) + Send)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    P: Send + 'static,
{
    let kind = K::kind(&()).into_owned();
    let apis = scope.apis::<K>(&client);
    let mut listings: Vec<PartListing> = apis.iter().map(|api| PartListing::of(api.namespace())).collect();
    let mut ready = false;
    let reduce = move |object: K| (object.namespace().unwrap_or_default(), object.name_any(), part(&object));
    let streams = apis.into_iter().enumerate().map(|(number, api)| {
        let events = watch(api, config().page_size(LARGE_OBJECTS)).backoff(backoff());
        events.map(move |event| (number, event.map(|event| map_event(event, reduce)))).boxed()
    });
    let mut numbered: SelectAll<BoxStream<'static, _>> = stream::select_all(streams);
    while let Some((number, event)) = numbered.next().await {
        let Some(listing) = listings.get_mut(number) else { continue };
        listing.note(&kind, event.as_ref().err());
        match event {
            Ok(Event::Init) => listing.seen.clear(),
            Ok(Event::InitApply((namespace, name, part))) => {
                listing.seen.insert((namespace.clone(), name.clone()));
                hear(PartChange::Applied(namespace, name, part));
            }
            Ok(Event::InitDone) => {
                listing.complete = true;
                hear(PartChange::Listed(listing.namespace.clone(), std::mem::take(&mut listing.seen)));
                if !std::mem::replace(&mut ready, listings.iter().all(|listing| listing.complete)) && ready {
                    hear(PartChange::Ready);
                }
            }
            Ok(Event::Apply((namespace, name, part))) => hear(PartChange::Applied(namespace, name, part)),
            Ok(Event::Delete((namespace, name, _))) => hear(PartChange::Deleted(namespace, name)),
            Err(_) => {}
        }
    }
}

/// The state of one of the watches of [`parts`].
struct PartListing {
    namespace: Option<String>,
    /// The objects that the listing in progress has found.
    seen: HashSet<(String, String)>,
    complete: bool,
    failing: bool,
}

impl PartListing {
    fn of(namespace: Option<&str>) -> Self {
        Self { namespace: namespace.map(str::to_owned), seen: HashSet::new(), complete: false, failing: false }
    }

    /// Logs the first failure, and the first success after it.
    fn note(&mut self, kind: &str, error: Option<&watcher::Error>) {
        match (error, std::mem::replace(&mut self.failing, error.is_some())) {
            (Some(error), false) => warn!(kind, error = crate::text::wording::of_watch(error), "watch failed, retrying"),
            (None, true) => info!(kind, "watch works again"),
            _ => {}
        }
    }
}

/// Watches one object by name: yields its current state, or `None` while it does not exist. Reports a deletion even if the watch
/// was interrupted at the time.
pub fn object<K>(api: Api<K>, name: &str) -> impl Stream<Item = watcher::Result<Option<K>>> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watch(api, config().fields(&format!("metadata.name={name}"))).backoff(backoff());
    let seen = events.scan(false, |seen, event| {
        match &event {
            Ok(Event::Init) => *seen = false,
            Ok(Event::InitApply(_)) => *seen = true,
            _ => {}
        }
        future::ready(Some((*seen, event)))
    });
    seen.filter_map(|(seen, event)| {
        future::ready(match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => Some(Ok(Some(object))),
            Ok(Event::Delete(_)) => Some(Ok(None)),
            Ok(Event::InitDone) if !seen => Some(Ok(None)),
            Ok(Event::Init | Event::InitDone) => None,
            Err(error) => Some(Err(error)),
        })
    })
}

fn metadata_stream<K>(api: Api<PartialObjectMeta<K>>) -> BoxStream<'static, watcher::Result<Event<Guarded<PartialObjectMeta<K>>>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    watch(api, config()).backoff(backoff()).map(|event| event.map(|event| map_event(event, |object| Ok(strip(object))))).boxed()
}

fn map_event<A, B>(event: Event<A>, mut map: impl FnMut(A) -> B) -> Event<B> {
    match event {
        Event::Apply(object) => Event::Apply(map(object)),
        Event::Delete(object) => Event::Delete(map(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(map(object)),
        Event::InitDone => Event::InitDone,
    }
}

/// Removes fields that are never read and take most of an object's memory.
fn strip<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    object
}

fn trimmed<K>(mut object: K, trim: fn(&mut K)) -> K {
    trim(&mut object);
    object
}

/// The state of one of the merged watches.
struct Listing<K: Resource<DynamicType = ()>> {
    /// The objects, until the store has them: keeping two copies would double the memory.
    known: HashMap<ObjectRef<K>, Option<Arc<K>>>,
    /// The keys seen by the listing in progress.
    seen: Vec<ObjectRef<K>>,
    complete: bool,
}

impl<K: Resource<DynamicType = ()>> Default for Listing<K> {
    fn default() -> Self {
        Self { known: HashMap::new(), seen: Vec::new(), complete: false }
    }
}

struct Merged<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    kind: String,
    listings: Vec<Listing<K>>,
    writer: Option<Writer<K>>,
    listeners: Vec<Listener<K>>,
    ready: bool,
    /// The streams that failed last: each logs a failure once, even while others succeed.
    failing: HashSet<usize>,
}

async fn merge<K>(
    kind: String,
    streams: Vec<BoxStream<'static, watcher::Result<Event<Guarded<K>>>>>,
    writer: Option<Writer<K>>,
    listeners: Vec<Listener<K>>,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let listings = streams.iter().map(|_| Listing::default()).collect();
    let mut merged = Merged { kind, listings, writer, listeners, ready: false, failing: HashSet::new() };
    let numbered: SelectAll<_> =
        stream::select_all(streams.into_iter().enumerate().map(|(number, events)| events.map(move |event| (number, event)).boxed()));
    let mut numbered = pin!(numbered);
    while let Some((number, event)) = numbered.next().await {
        match event {
            Ok(event) => merged.take(number, event),
            Err(error) => merged.fail(number, &error),
        }
    }
}

impl<K> Merged<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    fn take(&mut self, number: usize, event: Event<Guarded<K>>) {
        if self.failing.remove(&number) {
            info!(kind = self.kind, "watch works again");
        }
        let Some(listing) = self.listings.get_mut(number) else { return };
        match event {
            Event::Init => listing.seen.clear(),
            Event::InitApply(object) => {
                if let Ok(object) = &object {
                    listing.seen.push(ObjectRef::from_obj(object));
                }
                self.apply(number, object);
            }
            Event::InitDone => self.finish_listing(number),
            Event::Apply(object) => self.apply(number, object),
            Event::Delete(Ok(object)) => self.delete(number, &ObjectRef::from_obj(&object), Some(Arc::new(object))),
            Event::Delete(Err(invalid)) => {
                info!(kind = self.kind, name = invalid.metadata.name, "an object that did not match the schema was deleted");
            }
        }
    }

    fn apply(&mut self, number: usize, object: Guarded<K>) {
        let object = match object {
            Ok(object) => Arc::new(object),
            Err(invalid) => return self.tell(&Change::Invalid(invalid)),
        };
        if let Some(listing) = self.listings.get_mut(number) {
            let kept = (self.writer.is_none() || !self.ready).then(|| Arc::clone(&object));
            listing.known.insert(ObjectRef::from_obj(&*object), kept);
        }
        if let (Some(writer), true) = (&mut self.writer, self.ready) {
            writer.apply_watcher_event(&Event::Apply(K::clone(&object)));
        }
        self.tell(&Change::Applied(object));
    }

    fn delete(&mut self, number: usize, key: &ObjectRef<K>, last: Option<Arc<K>>) {
        let Some(listing) = self.listings.get_mut(number) else { return };
        let known = listing.known.remove(key).flatten();
        let stored = || self.writer.as_ref().and_then(|writer| writer.as_reader().get(key));
        let Some(object) = last.or(known).or_else(stored) else { return };
        if let (Some(writer), true) = (&mut self.writer, self.ready) {
            writer.apply_watcher_event(&Event::Delete(K::clone(&object)));
        }
        self.tell(&Change::Deleted(object));
    }

    /// Ends a listing: objects that were known but not listed were deleted. The store is complete once every watch has finished a
    /// listing.
    fn finish_listing(&mut self, number: usize) {
        let Some(listing) = self.listings.get_mut(number) else { return };
        listing.complete = true;
        let seen: HashSet<_> = std::mem::take(&mut listing.seen).into_iter().collect();
        let gone: Vec<_> = listing.known.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        for key in gone {
            self.delete(number, &key, None);
        }
        if !self.ready && self.listings.iter().all(|listing| listing.complete) {
            self.ready = true;
            if let Some(writer) = &mut self.writer {
                writer.apply_watcher_event(&Event::Init);
                for object in self.listings.iter_mut().flat_map(|listing| listing.known.values_mut()).filter_map(Option::take) {
                    writer.apply_watcher_event(&Event::InitApply(Arc::unwrap_or_clone(object)));
                }
                writer.apply_watcher_event(&Event::InitDone);
            }
            self.tell(&Change::Ready);
        }
    }

    fn fail(&mut self, number: usize, error: &watcher::Error) {
        if self.failing.insert(number) {
            warn!(kind = self.kind, error = crate::text::wording::of_watch(error), "watch failed, retrying");
        }
    }

    fn tell(&mut self, change: &Change<K>) {
        for listener in &mut self.listeners {
            listener(change);
        }
    }
}
