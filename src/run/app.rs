//! The parts of a process while it is assembled, and what they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::error::RunError;
use super::role::Role;
use crate::clock::SharedClock;
use crate::telemetry::admin::{self, Admin, Check, EvidenceEndpoint, OutboxEndpoint, Refresh};
use crate::telemetry::freshness::WatchHealth;
use crate::telemetry::process::ProcessMetrics;

/// The parts of the process while it is assembled.
pub(super) struct App {
    pub(super) tasks: JoinSet<Result<(), RunError>>,
    pub(super) registry: Registry,
    pub(super) refresh: Vec<Refresh>,
    pub(super) ready: Vec<Check>,
    /// What the admin port offers of a receiver.
    pub(super) evidence: Option<EvidenceEndpoint>,
    pub(super) outbox: Option<OutboxEndpoint>,
    pub(super) stop: CancellationToken,
    pub(super) health: WatchHealth,
}

impl App {
    pub(super) fn new(role: Role, health: WatchHealth, stop: CancellationToken, clock: &SharedClock) -> Self {
        let mut registry = Registry::default();
        let process = ProcessMetrics::register(&mut registry, role.name(), clock);
        health.register(&mut registry);
        let (watches, now) = (health.clone(), clock.clone());
        let refresh: Vec<Refresh> = vec![Box::new(move || process.refresh()), Box::new(move || watches.refresh(now.now()))];
        Self { tasks: JoinSet::new(), registry, refresh, ready: Vec::new(), evidence: None, outbox: None, stop, health }
    }

    /// Spawns a task that must run as long as the process.
    pub(super) fn spawn(&mut self, name: &'static str, endless: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = endless => Err(RunError::Ended(name)),
                () = stop.cancelled() => Ok(()),
            }
        });
    }

    /// Serves the admin port and runs all tasks until the stop, or until a task ends or fails unexpectedly.
    pub(super) async fn run(self, listener: tokio::net::TcpListener) -> Result<(), RunError> {
        let Self { mut tasks, registry, refresh, ready, evidence, outbox, stop, .. } = self;
        let alive = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&alive);
        let live: Vec<Check> = vec![(
            "tasks",
            Box::new(move || if still.load(Ordering::Relaxed) { Ok(()) } else { Err("a task ended unexpectedly".to_owned()) }),
        )];
        let admin_stop = CancellationToken::new();
        let admin = tokio::spawn(admin::serve(listener, Admin { registry, refresh, live, ready, evidence, outbox }, admin_stop.clone()));
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Ok(())) if stop.is_cancelled() => {}
                Ok(Ok(())) => result = Err(RunError::Ended("a task")),
                Ok(Err(error)) => result = Err(error),
                Err(error) if error.is_cancelled() => {}
                Err(error) => {
                    error!(error = %error, "a task panicked");
                    result = Err(RunError::Ended("a task"));
                }
            }
            if result.is_err() {
                alive.store(false, Ordering::Relaxed);
                stop.cancel();
            }
        }
        admin_stop.cancel();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), admin).await;
        result
    }
}
