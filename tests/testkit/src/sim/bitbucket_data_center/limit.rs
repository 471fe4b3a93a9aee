//! Rate limiting by a token bucket for each user, as in the administration guide. Disabled unless it is set.

use std::collections::HashMap;

use jiff::Timestamp;

use super::super::message::Response;
use super::documents;

/// Tokens added in a second.
const FILL_RATE: u32 = 1;

/// A limit, and the remaining tokens of each user.
pub struct Limit {
    capacity: u32,
    buckets: HashMap<u64, (f64, Timestamp)>,
}

impl Limit {
    /// A limit of this many requests at once.
    pub fn new(capacity: u32) -> Self {
        Self { capacity, buckets: HashMap::new() }
    }

    /// Takes a token of a user, given by id, or refuses the request.
    pub fn take(&mut self, user: u64, now: Timestamp) -> Result<(), Box<Response>> {
        let capacity = f64::from(self.capacity);
        let (left, since) = self.buckets.entry(user).or_insert((capacity, now));
        *left = (*left + now.duration_since(*since).as_secs_f64().max(0.0) * f64::from(FILL_RATE)).min(capacity);
        *since = now;
        if *left < 1.0 {
            return Err(Box::new(refused(self.capacity).with("retry-after", "1")));
        }
        *left -= 1.0;
        Ok(())
    }
}

/// The refusal, which contains no time.
pub fn refused(capacity: u32) -> Response {
    documents::error(429, None, None, "You have been rate limited. Please try again later.")
        .with("x-ratelimit-limit", &capacity.to_string())
        .with("x-ratelimit-remaining", "0")
        .with("x-ratelimit-interval-seconds", "1")
        .with("x-ratelimit-fillrate", &FILL_RATE.to_string())
}
