//! Leadership, and how long it still lasts.
//!
//! The lease library says whether we lead. For a write at a provider that is not enough: the answer may be older than the
//! lease. So the Lease object itself is watched, and a call may run only for what is left of the last renewal that the API
//! server confirmed. A process that was stopped and goes on, or one that cannot renew, finds no time left.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::providers::transport::Lease;
use crate::watches::WATCH_SECONDS;

/// Name of the Lease object.
pub const NAME: &str = "forgebind-controller";
/// How long a lease lasts without being renewed, in seconds: how long others wait after a crash.
const DURATION: u64 = 20;
/// How long before its end it is renewed, in seconds: a call that starts just before a renewal has this long.
const GRACE: u64 = 13;
/// The end of our lease, as the API server confirmed it.
#[derive(Debug)]
pub struct LeaseDeadline {
    until: RwLock<Option<Timestamp>>,
    clock: SharedClock,
}

impl LeaseDeadline {
    /// No lease yet.
    #[must_use]
    pub const fn new(clock: SharedClock) -> Self {
        Self { until: RwLock::new(None), clock }
    }

    fn set(&self, until: Option<Timestamp>) {
        *self.until.write().unwrap_or_else(std::sync::PoisonError::into_inner) = until;
    }
}

impl Lease for LeaseDeadline {
    fn remaining(&self) -> Option<Duration> {
        let until = (*self.until.read().unwrap_or_else(std::sync::PoisonError::into_inner))?;
        let left = Duration::try_from(until.duration_since(self.clock.now())).ok()?;
        Some(left).filter(|left| !left.is_zero())
    }
}

/// A campaign for the lease: runs until it is resigned.
#[derive(Debug)]
pub struct Campaign {
    leading: watch::Receiver<bool>,
    manager: JoinHandle<kube_lease_manager::Result<kube_lease_manager::LeaseManager>>,
    deadline: JoinHandle<()>,
}

impl Campaign {
    /// Starts to campaign. `identity` stays the same over restarts of one replica, so that it need not wait for itself.
    ///
    /// # Errors
    /// When the API server refuses the Lease.
    pub async fn start(client: Client, namespace: &str, identity: &str, deadline: Arc<LeaseDeadline>) -> kube_lease_manager::Result<Self> {
        let manager = LeaseManagerBuilder::new(client.clone(), NAME)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await?;
        let (leading, manager) = manager.watch().await;
        let leases: Api<LeaseObject> = Api::namespaced(client, namespace);
        let deadline = tokio::spawn(follow(leases, identity.to_owned(), deadline));
        Ok(Self { leading, manager, deadline })
    }

    /// Whether we lead, and every change of it.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Gives the lease up, so that the next replica need not wait for its end.
    pub async fn resign(self) {
        let Self { leading, manager, deadline } = self;
        deadline.abort();
        // The manager ends when the last receiver is gone, and gives its lease up then.
        drop(leading);
        match tokio::time::timeout(Duration::from_secs(5), manager).await {
            Ok(Ok(Ok(_))) => info!("lease released"),
            Ok(Ok(Err(error))) => warn!(error = %error, "lease not released; the next leader waits for its end"),
            Ok(Err(_)) | Err(_) => warn!("lease not released in time; the next leader waits for its end"),
        }
    }
}

/// Follows the Lease object and notes until when it is ours.
async fn follow(leases: Api<LeaseObject>, identity: String, deadline: Arc<LeaseDeadline>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}")).timeout(WATCH_SECONDS);
    let mut objects = watcher(leases, config).default_backoff().applied_objects().into_stream().boxed();
    while let Some(object) = objects.next().await {
        // An error says nothing about the lease: its last confirmed end stands.
        if let Ok(object) = object {
            deadline.set(end_of(&object, &identity));
        }
    }
}

fn end_of(object: &LeaseObject, identity: &str) -> Option<Timestamp> {
    let spec = object.spec.as_ref()?;
    if spec.holder_identity.as_deref() != Some(identity) {
        return None;
    }
    let seconds = i64::from(spec.lease_duration_seconds?);
    let renewed = spec.renew_time.as_ref()?.0;
    renewed.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;
    use crate::clock::Clock;

    #[derive(Debug)]
    struct Stopped(Timestamp);

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    fn lease(holder: &str, renewed: i64) -> LeaseObject {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(20),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        };
        LeaseObject { spec: Some(spec), ..LeaseObject::default() }
    }

    #[test]
    fn time_left_is_that_of_the_last_confirmed_renewal() {
        let deadline = LeaseDeadline::new(Arc::new(Stopped(Timestamp::from_second(100).unwrap())));
        assert_eq!(deadline.remaining(), None);
        deadline.set(end_of(&lease("me", 95), "me"));
        assert_eq!(deadline.remaining(), Some(Duration::from_secs(15)));
        deadline.set(end_of(&lease("me", 80), "me"));
        assert_eq!(deadline.remaining(), None, "over");
        deadline.set(end_of(&lease("other", 99), "me"));
        assert_eq!(deadline.remaining(), None);
    }
}
