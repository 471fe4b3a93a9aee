//! Leadership, and how long it still lasts.
//!
//! The lease library says whether we lead. For a write at a provider that is not enough: the answer may be older than the
//! lease. So the Lease object itself is watched, and a call may run only for what is left of the last renewal that the API
//! server confirmed. A process that was stopped and goes on, or one that cannot renew, finds no time left.

use std::pin::pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::k8s;
use crate::providers::transport::Lease;

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

/// The pause after the API server failed us: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Leader election by the lease: runs until it is resigned.
#[derive(Debug)]
pub struct LeaderElection {
    leading: watch::Receiver<bool>,
    ended: JoinHandle<kube_lease_manager::Result<()>>,
    deadline: JoinHandle<()>,
    resigned: CancellationToken,
}

impl LeaderElection {
    /// Starts the election. `identity` stays the same over restarts of one replica, so that it need not wait for itself.
    ///
    /// # Errors
    /// When the API server refuses the Lease.
    pub async fn start(client: Client, namespace: &str, identity: &str, deadline: Arc<LeaseDeadline>) -> kube_lease_manager::Result<Self> {
        let config = LeaseConfig { client: client.clone(), namespace: namespace.to_owned(), identity: identity.to_owned() };
        let manager = config.manager().await?;
        let (sender, leading) = watch::channel(false);
        let (resigned, events) = (CancellationToken::new(), Arc::new(LeaseEvents::default()));
        let ended = tokio::spawn(run_election(config, manager, sender, Arc::clone(&events), resigned.clone()));
        let leases: Api<LeaseObject> = Api::namespaced(client, namespace);
        let deadline = tokio::spawn(follow(leases, identity.to_owned(), deadline, events));
        Ok(Self { leading, ended, deadline, resigned })
    }

    /// Whether we lead, and every change of it.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Gives the lease up, so that the next replica need not wait for its end.
    pub async fn resign(self) {
        self.deadline.abort();
        self.resigned.cancel();
        match tokio::time::timeout(Duration::from_secs(5), self.ended).await {
            Ok(Ok(Ok(()))) => info!("lease released"),
            Ok(Ok(Err(error))) => warn!(error = %error, "lease not released; the next leader waits for its end"),
            Ok(Err(_)) | Err(_) => warn!("lease not released in time; the next leader waits for its end"),
        }
    }
}

/// What the watch of the Lease object tells.
#[derive(Debug, Default)]
struct LeaseEvents {
    /// Nobody holds it.
    free: Notify,
    /// Somebody deleted it, and with it all that anybody held.
    gone: Notify,
}

/// What the election needs to know.
struct LeaseConfig {
    client: Client,
    namespace: String,
    identity: String,
}

impl LeaseConfig {
    /// A manager that knows nothing of the lease yet, so that it reads it first.
    async fn manager(&self) -> kube_lease_manager::Result<LeaseManager> {
        LeaseManagerBuilder::new(self.client.clone(), NAME)
            .with_namespace(&self.namespace)
            .with_identity(&self.identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await
    }
}

/// Takes and renews the lease until it is resigned, and gives it up then.
///
/// The library sleeps to the end of somebody else's lease and does not look meanwhile. When its holder gives it up before
/// that, a manager that knows nothing takes the place of the sleeping one. The same when the object is deleted, which the library
/// makes at the beginning only: whoever led does no longer, because another one may be first to make it anew.
async fn run_election(
    config: LeaseConfig,
    mut manager: LeaseManager,
    leading: watch::Sender<bool>,
    events: Arc<LeaseEvents>,
    resigned: CancellationToken,
) -> kube_lease_manager::Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut lost = false;
    loop {
        if std::mem::take(&mut lost) {
            warn!("the Lease was deleted; it is made anew, and whoever is first leads");
            leading.send_replace(false);
            // The library and the watch both tell of one deletion.
            let _ = events.gone.notified().now_or_never();
            match config.manager().await {
                Ok(fresh) => manager = fresh,
                Err(error) => {
                    warn!(error = %error, "the Lease could not be made anew, trying again");
                    lost = true;
                    tokio::select! {
                        () = resigned.cancelled() => return Ok(()),
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                    }
                    continue;
                }
            }
        }
        let standby = !*leading.borrow();
        tokio::select! {
            biased;
            () = resigned.cancelled() => return if standby { Ok(()) } else { manager.release().await },
            changed = manager.changed() => match changed {
                Ok(leads) => {
                    leading.send_replace(leads);
                    pause = FIRST_PAUSE;
                }
                Err(error) if is_gone(&error) => lost = true,
                Err(error) => {
                    warn!(error = %error, "lease not read or renewed, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            },
            () = events.gone.notified() => lost = true,
            () = events.free.notified(), if standby => match config.manager().await {
                Ok(fresh) => manager = fresh,
                Err(error) => warn!(error = %error, "the lease is free and could not be read"),
            },
        }
    }
}

/// Follows the Lease object, notes until when it is ours, and tells when nobody holds it or it is gone.
async fn follow(leases: Api<LeaseObject>, identity: String, deadline: Arc<LeaseDeadline>, events: Arc<LeaseEvents>) {
    let mut objects = pin!(k8s::watch::object(leases, NAME));
    while let Some(object) = objects.next().await {
        match object {
            Ok(Some(object)) => {
                deadline.set(end_of(&object, &identity));
                if object.spec.as_ref().is_none_or(|spec| spec.holder_identity.is_none()) {
                    events.free.notify_one();
                }
            }
            // Nobody may call a provider on the strength of a Lease that another one may hold by now.
            Ok(None) => {
                deadline.set(None);
                events.gone.notify_one();
            }
            // An error says nothing about the lease: its last confirmed end stands.
            Err(_) => {}
        }
    }
}

/// Whether an error of the library says that there is no such Lease.
fn is_gone(error: &LeaseManagerError) -> bool {
    match error {
        LeaseManagerError::NonexistentLease(_) => true,
        LeaseManagerError::KubeError(kube::Error::Api(status)) => status.is_not_found(),
        _ => false,
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
