//! Builds the conditions and the status of deliveries: whether they arrive, and whether the sinks accept them. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::v1alpha1::binding::{RepoBindingStatus, SinkStatus, WebhookStatus};
use crate::api::v1alpha1::{ConditionType, Reason};
use crate::controllers::binding::outcome::Outcome;
use crate::controllers::binding::snapshot::Snapshot;
use crate::k8s::conditions::{self, ConditionStatus, Conditions};
use crate::protocol::sink_target::{NotServed, NotServedKind};

/// Minimum time between two writes of evidence to the status.
const EVIDENCE_INTERVAL: SignedDuration = SignedDuration::from_secs(60);
/// How long a condition tells of dropped events.
const DROPPED_LATELY: SignedDuration = SignedDuration::from_hours(1);

/// Delivery evidence from the receivers, as needed for the status.
pub(super) struct Evidence<'a> {
    pub(super) seen: Option<&'a crate::protocol::evidence::BindingEvidence>,
    pub(super) accepted_until: Option<Timestamp>,
    /// Since when deliveries have arrived, according to the status.
    pub(super) receiving_since: Option<Timestamp>,
    /// Whether the status says that deliveries are refused.
    pub(super) was_refused: bool,
    pub(super) due: bool,
    pub(super) now: Timestamp,
    /// Sinks whose keys or authorities had no room in the shared Secrets.
    without_room: &'a [(String, NotServed)],
}

impl<'a> Evidence<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, before: &RepoBindingStatus, outcome: &'a Outcome) -> Self {
        let seen = snapshot.memory.evidence.as_ref();
        let written = snapshot.memory.evidence_at;
        let due = written.is_none_or(|at| snapshot.now.duration_since(at) >= EVIDENCE_INTERVAL);
        let receiving = conditions::find(&before.conditions, ConditionType::Receiving);
        let was_refused = receiving.is_some_and(|receiving| receiving.status == "False");
        let receiving_since = receiving.filter(|receiving| receiving.status == "True").map(|receiving| receiving.last_transition_time.0);
        let accepted_until = seen.and_then(|seen| seen.accepted_until).max(before.accepted_until.as_ref().map(|time| time.0));
        Self { seen, accepted_until, receiving_since, was_refused, due, now: snapshot.now, without_room: &outcome.without_room }
    }

    pub(super) fn conditions(&self, conditions: &mut Conditions<'_>, snapshot: &Snapshot, webhook: Option<&WebhookStatus>) {
        let spec = &snapshot.object.spec;
        let ours = spec.webhook.as_ref().is_some_and(|webhook| webhook.url.is_none());
        if ours && webhook.is_some_and(|webhook| !webhook.hooks.is_empty()) {
            self.receiving(conditions);
        }
        if !spec.sinks.is_empty() {
            self.delivering(conditions, snapshot);
        }
    }

    pub(super) fn receiving(&self, conditions: &mut Conditions<'_>) {
        let kind = ConditionType::Receiving;
        let last = self.seen.and_then(|seen| seen.last_delivery.as_ref()).map(|delivery| delivery.at).max(self.receiving_since);
        let refused = self.seen.and_then(|seen| seen.refusals.as_ref()).filter(|refusals| last.is_none_or(|last| last < refusals.last));
        match (refused, last) {
            (Some(refusals), _) => {
                let message = format!("deliveries are refused: {}; forgebind.dev/rotate-requested-at sets a new secret", refusals.reason);
                conditions.set(kind, ConditionStatus::False, Reason::DeliveriesRefused, message);
            }
            (None, Some(_)) => conditions.succeed(kind, "deliveries arrive and are verified"),
            // After a restart nobody knows of the refusals, but no delivery has shown that they ended.
            (None, None) if self.was_refused => conditions.keep(kind),
            (None, None) => {
                conditions.set(kind, ConditionStatus::Unknown, Reason::AwaitingFirstDelivery, "no delivery has arrived yet; push a commit");
            }
        }
    }

    pub(super) fn delivering(&self, conditions: &mut Conditions<'_>, snapshot: &Snapshot) {
        let kind = ConditionType::Delivering;
        let unserved = self.unserved(snapshot);
        if let Some((_, first)) = unserved.first() {
            let reason = match first.kind {
                NotServedKind::NotAllowed => Reason::SinkNotAllowed,
                NotServedKind::Invalid => Reason::SinkInvalid,
                NotServedKind::ObjectNotFound => Reason::SecretNotFound,
                NotServedKind::Missing => Reason::SinkFailing,
            };
            let all = unserved.iter().map(|(name, refusal)| format!("sink {name}: {}", refusal.message));
            return conditions.set(kind, ConditionStatus::False, reason, all.collect::<Vec<_>>().join("; "));
        }
        let failing: Vec<String> = snapshot
            .object
            .spec
            .sinks
            .iter()
            .filter_map(|sink| Some((sink, self.seen?.sinks.get(&sink.name)?.last_error.as_ref()?)))
            .map(|(sink, error)| format!("sink {}: {error}", sink.name))
            .collect();
        let failing = failing.join("; ");
        if self.seen.is_some_and(|seen| seen.outbox_unavailable.is_some()) {
            let message = "deliveries are answered with 503, because the disk of a receiver's outbox is broken and its memory is full; \
                           ask the administrator of Forgebind to repair the disk";
            return conditions.set(kind, ConditionStatus::False, Reason::OutboxUnavailable, message);
        }
        match (self.dropped_lately(), failing.is_empty()) {
            (Some(count), _) => {
                let separator = if failing.is_empty() { "" } else { "; " };
                let message = format!(
                    "{count} pending events were dropped, because the binding's share of the outbox is full; repair the sink{separator}{failing}"
                );
                conditions.set(kind, ConditionStatus::False, Reason::EventsDropped, message);
            }
            (None, true) => conditions.succeed(kind, "the sinks accept events"),
            (None, false) => {
                conditions.set(kind, ConditionStatus::False, Reason::SinkFailing, format!("{failing}; pending events are sent again"));
            }
        }
    }

    /// The sinks that are not served: by their spec and what it names, for want of room, and by their Services as the receivers see them. What is only missing is told
    /// as a failure of the sink.
    fn unserved<'s>(&'s self, snapshot: &'s Snapshot) -> Vec<(&'s str, &'s NotServed)> {
        let by_spec = snapshot.unserved_sinks.iter().chain(self.without_room).map(|(name, refusal)| (name.as_str(), refusal));
        let by_service = snapshot.object.spec.sinks.iter().filter_map(|sink| {
            let seen = self.seen?.sinks.get(&sink.name)?.not_served.as_ref()?;
            // The spec may name another sink since.
            (sink.service.is_some() && seen.kind != NotServedKind::Missing).then_some((sink.name.as_str(), seen))
        });
        by_spec.chain(by_service).collect()
    }

    /// How many pending events were dropped, if that was lately.
    fn dropped_lately(&self) -> Option<u64> {
        let dropped = self.seen?.dropped.as_ref()?;
        (self.now.duration_since(dropped.last) < DROPPED_LATELY).then_some(dropped.count)
    }

    /// Whether new evidence is written to the status now: for a change of a condition or of a sink's state, or after the minimum time.
    pub(super) fn is_news(&self, before: &RepoBindingStatus, conditions: &[Condition]) -> bool {
        let says = |conditions, kind| conditions::find(conditions, kind).map(|condition| (&condition.status, &condition.reason));
        let turned = |kind| says(&before.conditions, kind) != says(conditions, kind);
        let Some(seen) = self.seen else { return false };
        let sink_turned = before.sinks.iter().any(|row| seen.sinks.get(&row.name).is_some_and(|sink| sink.state != row.state));
        self.due || turned(ConditionType::Receiving) || turned(ConditionType::Delivering) || sink_turned
    }

    pub(super) fn sinks(&self, snapshot: &Snapshot, before: &RepoBindingStatus, news: bool) -> Vec<SinkStatus> {
        let old = |name: &str| before.sinks.iter().find(|sink| sink.name == name).cloned();
        let rows = snapshot.object.spec.sinks.iter().map(|sink| {
            let seen = self.seen.and_then(|seen| seen.sinks.get(&sink.name)).filter(|_| news);
            match seen {
                Some(seen) => SinkStatus {
                    name: sink.name.clone(),
                    state: seen.state,
                    last_error: seen.last_error.clone(),
                    down_since: seen.down_since.map(Time),
                    pending: seen.pending,
                    dead_letters: seen.dead_letters,
                },
                None => old(&sink.name).unwrap_or_else(|| SinkStatus { name: sink.name.clone(), ..SinkStatus::default() }),
            }
        });
        rows.collect()
    }
}
