//! Leader election, and the time left of the lease.
//!
//! The lease library reports whether this process leads. That is not enough for a write at a provider, because the answer may
//! be older than the lease. So the Lease object itself is watched, and a call may run only for the time left since the last
//! renewal that the API server confirmed. No time is left for a process that was suspended and resumes, or that cannot renew.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::k8s;
use crate::providers::transport::Lease;

/// Name of the Lease object.
pub const NAME: &str = "forgebind-controller";
/// How long a lease lasts without a renewal, in seconds: how long other replicas wait after a crash.
const DURATION: u64 = 20;
/// How long before its end the lease is renewed, in seconds. A call that starts just before a renewal has this much time.
const GRACE: u64 = 13;

/// The end of our lease, as the API server confirmed it.
#[derive(Debug)]
pub struct LeaseDeadline {
    until: RwLock<Option<Timestamp>>,
    clock: SharedClock,
}

impl LeaseDeadline {
    /// Starts without a lease.
    #[must_use]
    pub const fn new(clock: SharedClock) -> Self {
        Self { until: RwLock::new(None), clock }
    }

    fn set(&self, until: Option<Timestamp>) {
        *self.until.write() = until;
    }
}

impl Lease for LeaseDeadline {
    fn remaining(&self) -> Option<Duration> {
        let until = (*self.until.read())?;
        let left = Duration::try_from(until.duration_since(self.clock.now())).ok()?;
        Some(left).filter(|left| !left.is_zero())
    }
}

/// The first and the longest pause after a failure of the API server.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Leader election by the lease. Runs until it resigns.
#[derive(Debug)]
pub struct LeaderElection {
    leading: watch::Receiver<bool>,
    ended: JoinHandle<kube_lease_manager::Result<()>>,
    deadline: JoinHandle<()>,
    resigned: CancellationToken,
}

impl LeaderElection {
    /// Starts the election. `identity` stays the same across restarts of a replica, so that it need not wait for its own lease
    /// to end.
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

    /// Whether this process leads, with every change.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Releases the lease, so that the next replica need not wait for its end.
    pub async fn resign(self) {
        self.deadline.abort();
        self.resigned.cancel();
        match tokio::time::timeout(Duration::from_secs(5), self.ended).await {
            Ok(Ok(Ok(()))) => info!("lease released"),
            Ok(Ok(Err(error))) => warn!(error = %error, "lease not released; the next leader waits until it expires"),
            Ok(Err(_)) | Err(_) => warn!("lease not released in time; the next leader waits until it expires"),
        }
    }
}

/// Notifications from the watch of the Lease object.
#[derive(Debug, Default)]
struct LeaseEvents {
    /// The lease has no holder.
    free: Notify,
    /// The Lease was deleted, and any leadership ended with it.
    gone: Notify,
}

/// Settings of the election.
struct LeaseConfig {
    client: Client,
    namespace: String,
    identity: String,
}

impl LeaseConfig {
    /// A new manager without state, so that it reads the lease first.
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

/// Takes and renews the lease until the election resigns, then releases it.
///
/// The library sleeps until another holder's lease ends and does not read it meanwhile. When the holder releases it earlier, a
/// new manager without state replaces the sleeping one. The same happens when the Lease is deleted, because the library creates
/// it only at the start. The process stops leading then, because another replica may be the first to create the Lease again.
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
            warn!("the Lease was deleted; creating it again for a new election");
            leading.send_replace(false);
            // The library and the watch both report the same deletion.
            let _ = events.gone.notified().now_or_never();
            match config.manager().await {
                Ok(fresh) => manager = fresh,
                Err(error) => {
                    warn!(error = %error, "the Lease could not be created, retrying");
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
                    warn!(error = %error, "lease could not be read or renewed, retrying");
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

/// Follows the Lease object, updates our deadline, and notifies when the lease has no holder or was deleted.
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
            // Another replica may hold a new Lease by now, so no provider may be called.
            Ok(None) => {
                deadline.set(None);
                events.gone.notify_one();
            }
            // An error is no information about the lease. Its last confirmed end remains valid.
            Err(_) => {}
        }
    }
}

/// Whether an error of the library means that the Lease does not exist.
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
