//! Rate limits, as an administrator sets them: requests in a minute for each user, reported in headers.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::sim::faults::Wait;
use crate::sim::message::Response;

/// Requests of a user in a minute, as on gitlab.com.
const EACH_MINUTE: u64 = 2_000;
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// Tests and resends of hooks in a minute.
const TRIALS: u64 = 5;

/// Recent requests.
#[derive(Debug)]
pub struct Limits {
    /// Requests of a user in a minute.
    pub each_minute: u64,
    seen: BTreeMap<String, (Timestamp, u64)>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { each_minute: EACH_MINUTE, seen: BTreeMap::new() }
    }
}

impl Limits {
    /// Counts a request; returns the count of this minute, and its end.
    fn count(&mut self, key: &str, now: Timestamp) -> (u64, Timestamp) {
        let (since, count) = self.seen.entry(key.to_owned()).or_insert((now, 0));
        if now.duration_since(*since) >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        (*count, *since + MINUTE)
    }

    /// Counts a request of a user: the headers of its answer, or a refusal.
    pub fn request(&mut self, user: &str, now: Timestamp) -> Result<Vec<(&'static str, String)>, Response> {
        let (seen, end) = self.count(user, now);
        let marks = marks(self.each_minute, seen, end);
        if seen <= self.each_minute {
            return Ok(marks);
        }
        let wait = end.duration_since(now).as_secs().max(1);
        Err(marks.iter().fold(refusal(Wait::Seconds(wait.unsigned_abs()), now), |response, (name, value)| response.with(name, value)))
    }

    /// Counts a test or a resend of a hook, or refuses it.
    pub fn trial(&mut self, hook: u64, user: u64, now: Timestamp) -> Result<(), Response> {
        let (seen, _) = self.count(&format!("trial {hook} {user}"), now);
        let message = "This endpoint has been requested too many times. Try again later.";
        if seen <= TRIALS { Ok(()) } else { Err(Response::json(429, &serde_json::json!({"message": {"error": message}}))) }
    }
}

fn marks(limit: u64, seen: u64, end: Timestamp) -> Vec<(&'static str, String)> {
    vec![
        ("ratelimit-limit", limit.to_string()),
        ("ratelimit-name", "throttle_authenticated_api".to_owned()),
        ("ratelimit-observed", seen.to_string()),
        ("ratelimit-remaining", limit.saturating_sub(seen).to_string()),
        ("ratelimit-reset", end.as_second().to_string()),
    ]
}

/// The refusal of the layer in front of GitLab when there are too many requests.
pub fn refusal(wait: Wait, now: Timestamp) -> Response {
    let response = wait.mark(Response::text(429, "text/plain", "Retry later\n"), now);
    match wait {
        Wait::Reset(seconds) => {
            let end = now + SignedDuration::from_secs(i64::try_from(seconds).unwrap());
            marks(EACH_MINUTE, EACH_MINUTE + 1, end).iter().fold(response, |response, (name, value)| response.with(name, value))
        }
        _ => response,
    }
}
