//! Rate limits: calls of an account in an hour, and writes in a minute.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::documents::{self, error};
use crate::sim::message::Response;

const ACCOUNT: u64 = 5_000;
const NOBODY: u64 = 60;
/// Creating requests in a minute.
const WRITES: u64 = 80;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

#[derive(Clone, Debug)]
struct Window {
    since: Timestamp,
    count: u64,
}

/// Recent requests.
#[derive(Debug)]
pub struct Limits {
    /// Replaces the usual limit.
    pub each_hour: Option<u64>,
    pub writes_each_minute: u64,
    calls: BTreeMap<String, Window>,
    writes: BTreeMap<String, Window>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { each_hour: None, writes_each_minute: WRITES, calls: BTreeMap::new(), writes: BTreeMap::new() }
    }
}

fn window<'a>(windows: &'a mut BTreeMap<String, Window>, account: &str, now: Timestamp, length: SignedDuration) -> &'a mut Window {
    let window = windows.entry(account.to_owned()).or_insert(Window { since: now, count: 0 });
    if now.duration_since(window.since) >= length {
        *window = Window { since: now, count: 0 };
    }
    window
}

impl Limits {
    fn most(&self, account: &str) -> u64 {
        self.each_hour.unwrap_or(if account == "nobody" { NOBODY } else { ACCOUNT })
    }

    pub fn left(&mut self, account: &str, now: Timestamp) -> u64 {
        self.most(account).saturating_sub(window(&mut self.calls, account, now, HOUR).count)
    }

    /// Counts a call, or refuses it above the limit.
    pub fn call(&mut self, account: &str, now: Timestamp) -> Result<(), Response> {
        let most = self.most(account);
        let window = window(&mut self.calls, account, now, HOUR);
        if window.count >= most {
            let whose = if account == "nobody" { "127.0.0.1".to_owned() } else { format!("user ID {account}") };
            return Err(error(403, &format!("API rate limit exceeded for {whose}.")));
        }
        window.count += 1;
        Ok(())
    }

    /// Uncounts a call: an answer 304 costs nothing.
    pub fn give_back(&mut self, account: &str) {
        if let Some(window) = self.calls.get_mut(account) {
            window.count = window.count.saturating_sub(1);
        }
    }

    /// Counts a write, or refuses it above the limit.
    pub fn write(&mut self, account: &str, now: Timestamp) -> Result<(), Response> {
        let most = self.writes_each_minute;
        let window = window(&mut self.writes, account, now, MINUTE);
        if window.count >= most {
            return Err(secondary(403).with("retry-after", "60"));
        }
        window.count += 1;
        Ok(())
    }

    /// Adds the rate limit headers of an account to an answer.
    pub fn mark(&mut self, response: Response, account: &str, now: Timestamp) -> Response {
        let (most, window) = (self.most(account), window(&mut self.calls, account, now, HOUR));
        let (used, reset) = (window.count, (window.since + HOUR).as_second());
        response
            .with("x-ratelimit-limit", &most.to_string())
            .with("x-ratelimit-remaining", &most.saturating_sub(used).to_string())
            .with("x-ratelimit-reset", &reset.to_string())
            .with("x-ratelimit-used", &used.to_string())
            .with("x-ratelimit-resource", "core")
    }

    /// The document of the limits; requesting it costs nothing.
    pub fn document(&mut self, account: &str, now: Timestamp) -> serde_json::Value {
        let (most, window) = (self.most(account), window(&mut self.calls, account, now, HOUR));
        let (used, reset) = (window.count, (window.since + HOUR).as_second());
        let core = serde_json::json!({"limit": most, "remaining": most.saturating_sub(used), "reset": reset, "used": used});
        serde_json::json!({"resources": {"core": core, "search": {"limit": 30, "remaining": 30, "reset": reset, "used": 0}}, "rate": core})
    }
}

/// The secondary limit's refusal of writes that come too fast, without a time.
pub fn secondary(status: u16) -> Response {
    let page = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits";
    let words = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    documents::error_at(status, words, page)
}

/// The refusal when the calls of an hour are used up, with the seconds until the next hour.
pub fn primary(status: u16, now: &Timestamp, seconds: u64) -> Response {
    let reset = now.as_second() + i64::try_from(seconds).unwrap_or_default();
    error(status, "API rate limit exceeded for user ID 1.")
        .with("x-ratelimit-limit", "5000")
        .with("x-ratelimit-remaining", "0")
        .with("x-ratelimit-used", "5000")
        .with("x-ratelimit-reset", &reset.to_string())
        .with("x-ratelimit-resource", "core")
}
