//! Reads rate limit headers.

use http::{HeaderMap, HeaderName};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

/// The longest accepted wait: one wrong header must not block an account for good.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// Larger numbers are seconds since 1970, smaller ones seconds from now.
const LEAST_EPOCH: i64 = 1_000_000_000;

/// The rate limit headers of one response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RateMarks {
    /// Earliest time for a retry, from `Retry-After`.
    pub(super) retry_at: Option<Timestamp>,
    /// Remaining calls until `reset`.
    pub(super) remaining: Option<u64>,
    /// Total calls in the period.
    pub(super) limit: Option<u64>,
    /// When `remaining` is reset.
    pub(super) reset: Option<Timestamp>,
}

impl RateMarks {
    pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Self {
        let number = |names: [HeaderName; 2]| names.iter().find_map(|name| text(headers, name)?.parse::<u64>().ok());
        let names = |[first, second]: [&'static str; 2]| [HeaderName::from_static(first), HeaderName::from_static(second)];
        let reset = names(["x-ratelimit-reset", "ratelimit-reset"]).iter().find_map(|name| moment(text(headers, name)?, now));
        Self {
            retry_at: text(headers, &http::header::RETRY_AFTER).and_then(|text| moment(text, now)),
            remaining: number(names(["x-ratelimit-remaining", "ratelimit-remaining"])),
            limit: number(names(["x-ratelimit-limit", "ratelimit-limit"])),
            reset,
        }
    }

    /// Whether these headers show that a refusal is due to the rate limit.
    pub(super) fn tell_of_exhaustion(&self) -> bool {
        self.retry_at.is_some() || self.remaining == Some(0)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Parses seconds from now, seconds since 1970, or an HTTP date. Never in the past, and limited to the longest accepted wait.
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    let told = match text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "a cast of f64 to i64 saturates, and what is far away is cut off below")]
        Ok(seconds) => match seconds.ceil() as i64 {
            seconds if seconds >= LEAST_EPOCH => Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX),
            seconds => now.checked_add(SignedDuration::from_secs(seconds.clamp(0, LONGEST_WAIT.as_secs()))).ok()?,
        },
        Err(_) => rfc2822::parse(text).ok()?.timestamp(),
    };
    Some(told.clamp(now, now.checked_add(LONGEST_WAIT).ok()?))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn read(pairs: &[(&'static str, &str)]) -> RateMarks {
        let headers = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        RateMarks::read(&headers.collect(), now())
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        for (value, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("-5", Some(0)),
            ("1.2", Some(2)),
            ("99999999", Some(3600)),
            ("1e300", Some(3600)),
            ("1795176030", Some(30)),
            ("Fri, 20 Nov 2026 12:01:30 GMT", Some(90)),
            ("Fri, 20 Nov 2026 12:01:30 +0000", Some(90)),
            ("Thu, 19 Nov 2026 12:00:00 GMT", Some(0)),
            ("Fri, 20 Nov 2037 12:00:00 GMT", Some(3600)),
            ("soon", None),
            ("", None),
        ] {
            let expected = seconds.map(|seconds| now() + SignedDuration::from_secs(seconds));
            assert_eq!(read(&[("retry-after", value)]).retry_at, expected, "{value:?}");
        }
    }

    #[test]
    fn both_families_of_headers_are_read() {
        let expected =
            RateMarks { retry_at: None, remaining: Some(3), limit: Some(60), reset: Some(now() + SignedDuration::from_secs(30)) };
        assert_eq!(read(&[("x-ratelimit-remaining", "3"), ("x-ratelimit-limit", "60"), ("x-ratelimit-reset", "1795176030")]), expected);
        assert_eq!(read(&[("ratelimit-remaining", "3"), ("ratelimit-limit", "60"), ("ratelimit-reset", "30")]), expected);
        assert_eq!(read(&[]), RateMarks::default());
        assert_eq!(read(&[("x-ratelimit-remaining", "many")]), RateMarks::default());
    }
}
