//! Limits the rate of calls. There is one limiter for each API origin and identity, shared by all connections that use it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::budget::{RateBudget, RateRule};
use super::call::{Access, Operation};
use super::limits::RateMarks;
use crate::clock::SharedClock;

/// Wait after a refusal without a retry time: a minute, doubled with each repetition.
const UNSPECIFIED_WAIT: SignedDuration = SignedDuration::from_secs(60);
const MOST_DOUBLINGS: u32 = 4;
/// The part of a budget that the list of an owner's repositories leaves to all other calls: one fifth. Nobody waits for that list.
const LEFT_BY_LISTINGS: u64 = 5;
/// Maximum number of calls that are reserved for deletes out of the remaining calls that a provider reports. The reserve is a
/// tenth of the limit.
const LARGEST_RESERVE: u64 = 100;

/// The rate limiter. Waits if the wait is short; otherwise refuses with a retry time.
pub(super) struct RateLimiter {
    budget: RateBudget,
    clock: SharedClock,
    writes: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// No call is sent before this time.
    parked_until: Option<Timestamp>,
    /// The last rate limit that the provider reported.
    told: RateMarks,
    /// Consecutive refusals without a retry time.
    unspecified: u32,
    last_write: Option<Instant>,
    /// When the counted calls of each rule were sent, oldest first.
    sent: Vec<VecDeque<Instant>>,
}

/// A call that may be sent. Some providers need serial writes: the next one waits until this is dropped.
pub(super) struct Permit(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

/// A refusal, with the earliest time for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) retry_at: Timestamp,
}

/// The state of an account's rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateLimitStatus {
    /// Whether calls of this account are held back now.
    pub(super) rests: bool,
    /// Remaining calls, as last reported by the provider; `None` if the reported period is over.
    pub(super) remaining: Option<u64>,
}

impl RateLimiter {
    pub(super) fn new(budget: RateBudget, clock: SharedClock) -> Self {
        let state = State { sent: budget.rules.iter().map(|_| VecDeque::new()).collect(), ..State::default() };
        Self { budget, clock, writes: Arc::new(Semaphore::new(1)), state: Mutex::new(state) }
    }

    /// The current state.
    pub(super) fn status(&self) -> RateLimitStatus {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let current = state.told.reset.is_none_or(|reset| reset > now);
        RateLimitStatus { rests: !state.parked(now).is_zero(), remaining: state.told.remaining.filter(|_| current) }
    }

    /// Waits until the call may be sent, at most for `patience`.
    pub(super) async fn enter(&self, access: Access, operation: Operation, patience: Duration) -> Result<Permit, Refused> {
        let turn = if self.budget.serial_writes && access != Access::Read {
            // The semaphore is never closed.
            Arc::clone(&self.writes).acquire_owned().await.ok()
        } else {
            None
        };
        let started = Instant::now();
        loop {
            let wait = self.pass(access, operation);
            if wait.is_zero() {
                return Ok(Permit(turn));
            }
            if wait > patience.saturating_sub(started.elapsed()) {
                let now = self.clock.now();
                let retry_at = SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok());
                return Err(Refused { retry_at: retry_at.unwrap_or(now) });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Counts the call and returns zero if it may be sent now, or returns how long it has to wait.
    fn pass(&self, access: Access, operation: Operation) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, instant) = (self.clock.now(), Instant::now());
        let counted: Vec<_> = self.budget.rules.iter().enumerate().filter(|(_, rule)| rule.counts(access, operation)).collect();
        let by_rules =
            counted.iter().filter_map(|(position, rule)| Some(by_rule(rule, state.sent.get_mut(*position)?, (access, operation), instant)));
        let longest_by_rules = by_rules.max().unwrap_or_default();
        let by_spacing = match state.last_write {
            Some(last) if access != Access::Read => (last + self.budget.write_spacing).saturating_duration_since(instant),
            _ => Duration::ZERO,
        };
        let wait = longest_by_rules.max(by_spacing).max(state.parked(now)).max(state.reserved(access, operation, now));
        if wait.is_zero() {
            for (position, _) in counted {
                if let Some(sent) = state.sent.get_mut(position) {
                    sent.push_back(instant);
                }
            }
            if access != Access::Read {
                state.last_write = Some(instant);
            }
        }
        wait
    }

    /// Updates the state from a response. Returns the time until which the provider requests no calls, if it does.
    pub(super) fn learn(&self, marks: RateMarks, limited: bool) -> Option<Timestamp> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if marks.remaining.is_some() {
            state.told = marks;
        }
        let exhausted = marks.reset.filter(|_| marks.remaining == Some(0));
        let until = match (marks.retry_at.or(exhausted), limited) {
            (Some(until), _) => Some(until),
            (None, true) => {
                let wait = UNSPECIFIED_WAIT.checked_mul(1 << state.unspecified).unwrap_or(UNSPECIFIED_WAIT);
                state.unspecified = (state.unspecified + 1).min(MOST_DOUBLINGS);
                now.checked_add(wait).ok()
            }
            (None, false) => None,
        };
        if !limited || marks.retry_at.is_some() {
            state.unspecified = 0;
        }
        if until.is_some_and(|until| until > now) {
            state.parked_until = state.parked_until.max(until);
        }
        if limited { state.parked_until.or(until) } else { until }
    }
}

/// How long a rule holds a call back: until the oldest call that blocks it leaves the window.
fn by_rule(rule: &RateRule, sent: &mut VecDeque<Instant>, (access, operation): (Access, Operation), now: Instant) -> Duration {
    while sent.front().is_some_and(|oldest| now.saturating_duration_since(*oldest) >= rule.window) {
        sent.pop_front();
    }
    let limit = match access {
        Access::Delete => rule.limit,
        _ if operation.is_listing() => rule.limit - rule.limit.div_ceil(usize::try_from(LEFT_BY_LISTINGS).unwrap_or(1)).max(rule.reserve()),
        _ => rule.limit - rule.reserve(),
    };
    let in_the_way = sent.len().checked_sub(limit).and_then(|position| sent.get(position));
    in_the_way.map_or(Duration::ZERO, |sent_at| (*sent_at + rule.window).saturating_duration_since(now))
}

impl State {
    fn parked(&self, now: Timestamp) -> Duration {
        self.parked_until.map_or(Duration::ZERO, |until| between(now, until))
    }

    /// Keeps a part of the reported remaining calls for deletes, and a larger one for everything but listings.
    fn reserved(&self, access: Access, operation: Operation, now: Timestamp) -> Duration {
        let (Some(remaining), Some(reset)) = (self.told.remaining, self.told.reset) else { return Duration::ZERO };
        let for_deletes = self.told.limit.map_or(1, |limit| (limit / 10).clamp(1, LARGEST_RESERVE));
        let from_listings = self.told.limit.map_or(1, |limit| limit.div_ceil(LEFT_BY_LISTINGS));
        let reserve = if operation.is_listing() { from_listings.max(for_deletes) } else { for_deletes };
        if access == Access::Delete || remaining > reserve { Duration::ZERO } else { between(now, reset) }
    }
}

fn between(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::transport::budget::Counts;

    #[derive(Debug)]
    struct Fixed(Mutex<Timestamp>);

    impl crate::clock::Clock for Fixed {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    fn start() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn after(seconds: i64) -> Timestamp {
        start() + SignedDuration::from_secs(seconds)
    }

    fn limiter(budget: RateBudget) -> (RateLimiter, Arc<Fixed>) {
        let clock = Arc::new(Fixed(Mutex::new(start())));
        (RateLimiter::new(budget, clock.clone()), clock)
    }

    async fn refused(limiter: &RateLimiter, access: Access) -> Option<Timestamp> {
        limiter.enter(access, Operation::ListHooks, Duration::ZERO).await.err().map(|refused| refused.retry_at)
    }

    #[tokio::test]
    async fn an_exhausted_limit_holds_everything_until_its_reset() {
        let (limiter, clock) = limiter(RateBudget::UNLIMITED);
        let marks = RateMarks { remaining: Some(0), limit: Some(60), reset: Some(after(50)), retry_at: None };
        assert_eq!(limiter.learn(marks, true), Some(after(50)));
        assert_eq!(refused(&limiter, Access::Read).await, Some(after(50)));
        assert_eq!(refused(&limiter, Access::Delete).await, Some(after(50)));
        assert_eq!(limiter.status(), RateLimitStatus { rests: true, remaining: Some(0) });
        *clock.0.lock().unwrap() = after(50);
        assert_eq!(refused(&limiter, Access::Read).await, None);
        assert_eq!(limiter.status(), RateLimitStatus { rests: false, remaining: None });
    }

    #[tokio::test]
    async fn what_is_nearly_used_up_is_kept_for_deletes() {
        let (limiter, _clock) = limiter(RateBudget::UNLIMITED);
        limiter.learn(RateMarks { remaining: Some(6), limit: Some(60), reset: Some(after(50)), retry_at: None }, false);
        assert_eq!(refused(&limiter, Access::Write).await, Some(after(50)));
        assert_eq!(refused(&limiter, Access::Delete).await, None);
        limiter.learn(RateMarks { remaining: Some(7), limit: Some(60), reset: Some(after(50)), retry_at: None }, false);
        assert_eq!(refused(&limiter, Access::Write).await, None);
    }

    #[tokio::test]
    async fn a_listing_leaves_the_last_fifth_to_everything_else() {
        let (limiter, _clock) = limiter(RateBudget::UNLIMITED);
        let enters = async |operation| limiter.enter(Access::Read, operation, Duration::ZERO).await.err().map(|refused| refused.retry_at);
        for (limit, remaining, refused) in
            [(5000, 1001, false), (5000, 1000, true), (60, 13, false), (60, 12, true), (3, 2, false), (3, 1, true)]
        {
            limiter.learn(RateMarks { remaining: Some(remaining), limit: Some(limit), reset: Some(after(50)), retry_at: None }, false);
            assert_eq!(enters(Operation::ListRepositories).await, refused.then(|| after(50)), "{remaining} of {limit}");
        }
        limiter.learn(RateMarks { remaining: Some(1000), limit: Some(5000), reset: Some(after(50)), retry_at: None }, false);
        for operation in [Operation::LookUpRepository, Operation::InspectCredential, Operation::ListHooks] {
            assert_eq!(enters(operation).await, None, "{operation:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_leaves_the_last_fifth_of_a_counted_budget() {
        const COUNTED: Counts = Counts::Only(&[Operation::ListRepositories, Operation::LookUpRepository]);
        const RULES: &[RateRule] = &[RateRule { counts: COUNTED, limit: 10, window: Duration::from_secs(60) }];
        let (limiter, _clock) = limiter(RateBudget { rules: RULES, ..RateBudget::UNLIMITED });
        let enters = async |operation| limiter.enter(Access::Read, operation, Duration::ZERO).await.is_ok();
        for _ in 0..8 {
            assert!(enters(Operation::ListRepositories).await);
        }
        assert!(!enters(Operation::ListRepositories).await);
        assert!(enters(Operation::LookUpRepository).await && !enters(Operation::LookUpRepository).await, "the last one is for deletes");
    }

    #[tokio::test]
    async fn retry_after_counts_on_a_success_too() {
        let (limiter, _clock) = limiter(RateBudget::UNLIMITED);
        limiter.learn(RateMarks { retry_at: Some(after(20)), ..RateMarks::default() }, false);
        assert_eq!(refused(&limiter, Access::Read).await, Some(after(20)));
    }

    #[tokio::test]
    async fn a_refusal_that_tells_no_time_waits_longer_each_time() {
        let (limiter, clock) = limiter(RateBudget::UNLIMITED);
        for (now, until) in [(0, 60), (60, 180), (180, 420)] {
            *clock.0.lock().unwrap() = after(now);
            assert_eq!(limiter.learn(RateMarks::default(), true), Some(after(until)));
        }
        *clock.0.lock().unwrap() = after(420);
        limiter.learn(RateMarks::default(), false);
        assert_eq!(limiter.learn(RateMarks::default(), true), Some(after(480)), "an answer in between starts anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_counts_what_it_names_and_keeps_room_for_deletes() {
        const RULES: &[RateRule] = &[RateRule { counts: Counts::Writes, limit: 3, window: Duration::from_secs(60) }];
        let (limiter, _clock) = limiter(RateBudget { rules: RULES, ..RateBudget::UNLIMITED });
        for _ in 0..2 {
            assert_eq!(refused(&limiter, Access::Write).await, None);
        }
        assert_eq!(refused(&limiter, Access::Write).await, Some(after(60)));
        assert_eq!(refused(&limiter, Access::Read).await, None);
        assert_eq!(refused(&limiter, Access::Delete).await, None);
        assert_eq!(refused(&limiter, Access::Delete).await, Some(after(60)));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(refused(&limiter, Access::Write).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_go_one_at_a_time_and_apart() {
        let (limiter, _clock) = limiter(RateBudget { serial_writes: true, write_spacing: Duration::from_secs(1), ..RateBudget::UNLIMITED });
        let started = Instant::now();
        let first = limiter.enter(Access::Write, Operation::CreateHook, Duration::from_secs(5)).await;
        let second = limiter.enter(Access::Write, Operation::CreateHook, Duration::from_secs(5));
        let mut second = std::pin::pin!(second);
        assert!(futures::poll!(&mut second).is_pending(), "the first is under way");
        assert!(limiter.enter(Access::Read, Operation::ListHooks, Duration::ZERO).await.is_ok());
        drop(first);
        assert!(second.await.is_ok());
        assert!(started.elapsed() >= Duration::from_secs(1));
    }
}
