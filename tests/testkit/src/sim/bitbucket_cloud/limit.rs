//! Rate limits: requests of a credential in an hour ("API request limits").

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::super::message::Response;
use super::documents;

/// The requests of a credential in an hour.
pub const HOURLY: usize = 1000;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The requests of the last hour, by credential.
pub struct Limit {
    requests: usize,
    made: HashMap<String, Vec<Timestamp>>,
}

impl Limit {
    /// A limit of this many requests in an hour.
    pub fn new(requests: usize) -> Self {
        Self { requests, made: HashMap::new() }
    }

    /// Counts a request of a credential, or refuses it.
    pub fn take(&mut self, credential: &str, now: Timestamp) -> Result<(), Box<Response>> {
        let made = self.made.entry(credential.to_owned()).or_default();
        made.retain(|at| now.duration_since(*at) < HOUR);
        if made.len() >= self.requests {
            return Err(refused(self.requests).into());
        }
        made.push(now);
        Ok(())
    }

    /// Adds the documented headers to an answer; none contains the remaining requests or the end of the limit.
    pub fn mark(&self, response: Response, credential: &str) -> Response {
        let made = self.made.get(credential).map_or(0, Vec::len);
        marked(response, self.requests, made * 5 > self.requests * 4)
    }
}

fn marked(response: Response, limit: usize, near: bool) -> Response {
    response
        .with("x-ratelimit-limit", &limit.to_string())
        .with("x-ratelimit-resource", "api-repository-data")
        .with("x-ratelimit-nearlimit", if near { "true" } else { "false" })
}

/// The refusal.
pub fn refused(limit: usize) -> Response {
    marked(documents::error(429, "Rate limit for this resource has been exceeded"), limit, true)
}
