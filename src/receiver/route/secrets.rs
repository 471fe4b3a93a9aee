//! Which secrets may prove a delivery, by the secret version in its path.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{Route, SecretChoice};
use crate::api::v1alpha1::binding::ANY_EARLIER_VERSION;
use crate::protocol::keys::{ReceiverKey, derived_second};
use crate::protocol::secret::{DerivedSecret, WebhookSecret};

/// Tolerated clock skew.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(5);
/// How long after a change of the secret a wrong proof is attributed to our own delay.
const RECENTLY: SignedDuration = SignedDuration::from_mins(5);
/// How long after a change of the secret the former hook may still deliver: it is deleted after a minute, and its last delivery takes
/// its time.
const OVERLAPPING: SignedDuration = SignedDuration::from_mins(10);
/// When the status first records a secret older than this, the hook was found rather than created.
const FIRST_WITHIN: SignedDuration = SignedDuration::from_mins(1);

impl Route {
    /// The secrets for deliveries to the URL of a secret version.
    pub(in crate::receiver) fn secrets(&self, secret_version: &str, key: &ReceiverKey, now: Timestamp) -> SecretChoice {
        let route_config = &*self.config;
        let current = route_config.secret_version.as_deref() == Some(secret_version);
        let previous = route_config.previous.iter().find(|(previous, _)| previous == secret_version);
        let listed = current || previous.is_some_and(|(_, until)| until.is_none_or(|until| until > now));
        if previous.is_some() && !listed {
            return SecretChoice::Refused;
        }
        let Some(second) = derived_second(secret_version) else { return self.user_secret(secret_version, listed, now) };
        if listed || (!route_config.own_secret && self.may_be_next(second, now)) || self.may_be_earlier(second, now) {
            let bytes = key.webhook_secret(route_config.owner(), secret_version);
            return SecretChoice::Any(vec![WebhookSecret::Derived(DerivedSecret::new(bytes))]);
        }
        SecretChoice::Refused
    }

    /// Whether a secret version that the status does not name may be its next one: hooks are written before the status.
    fn may_be_next(&self, second: i64, now: Timestamp) -> bool {
        let present = self.config.secret_version.as_deref();
        let newer = match present.and_then(derived_second) {
            Some(present) => second > present,
            // The present secret is the user's own. Only a secret that was created after it can be the next.
            None if present.is_some() => self.config.changed_at.is_none_or(|at| second >= at.as_second()),
            None => true,
        };
        newer && second <= now.saturating_add(CLOCK_SKEW).map_or(i64::MAX, Timestamp::as_second)
    }

    /// Whether a secret version may be an earlier one whose grace period was lost with the status.
    fn may_be_earlier(&self, second: i64, now: Timestamp) -> bool {
        let any = self.config.previous.iter().find(|(previous, _)| previous == ANY_EARLIER_VERSION);
        any.is_some_and(|(_, until)| until.is_some_and(|until| until > now)) && second <= now.as_second()
    }

    fn user_secret(&self, secret_version: &str, listed: bool, now: Timestamp) -> SecretChoice {
        if !self.config.own_secret && !listed {
            return SecretChoice::Refused;
        }
        let Some(secrets) = &self.user_secrets else { return SecretChoice::Unknown };
        match secrets.iter().find(|(known, _)| known == secret_version) {
            Some((_, secret)) => SecretChoice::Any(vec![secret.clone()]),
            None if listed || self.is_recently_rotated(now) => SecretChoice::Unknown,
            None => SecretChoice::Refused,
        }
    }

    /// Whether the secret changed so recently that a wrong proof may be caused by our own delay.
    pub(in crate::receiver) fn is_recently_rotated(&self, now: Timestamp) -> bool {
        self.config.changed_at.is_some_and(|at| now.duration_since(at) < RECENTLY && !self.is_first(at))
    }

    /// Whether the secret is the first one of a hook that was created with it: no delivery can carry an earlier one.
    fn is_first(&self, changed_at: Timestamp) -> bool {
        let made_at = self.config.secret_version.as_deref().and_then(derived_second).and_then(|second| Timestamp::from_second(second).ok());
        self.config.previous.is_empty() && made_at.is_some_and(|made_at| changed_at.duration_since(made_at) < FIRST_WITHIN)
    }

    /// Records a secret version that verified a delivery. Returns whether two hooks may report the same events at present: of two
    /// connections, or of two secret versions at a provider where a rotation creates a second hook.
    pub(in crate::receiver) fn may_have_several_hooks(&self, secret_version: &str, now: Timestamp) -> bool {
        let proved = derived_second(secret_version).unwrap_or_default();
        let newest = self.state.newest.fetch_max(proved, Ordering::AcqRel).max(proved);
        let present = self.config.secret_version.as_deref();
        if self.config.moved {
            return true;
        }
        let provider = self.connection.as_ref().and_then(|connection| connection.provider);
        if provider.is_some_and(|provider| provider.capabilities().update_sets_secret) {
            return false;
        }
        present != Some(secret_version)
            || present.and_then(derived_second).is_some_and(|present| newest > present)
            || self.config.changed_at.is_some_and(|at| now.duration_since(at) < OVERLAPPING && !self.is_first(at))
    }
}
