//! Selects the version of the REST API: the newest that the server accepts.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Versions that support every operation used here, the newest first. Azure DevOps Services and Server 2022.1 accept the
/// first, Server 2022 the second, Server 2020 the third.
const VERSIONS: [&str; 3] = ["7.1", "7.0", OLDEST];
const OLDEST: &str = "6.0";
/// Text before the newest accepted version in an error about a version that is too new.
const CEILING: &str = "this server supports is ";
const OUT_OF_RANGE: &str = "out of range for this server";

/// The version in use. It only decreases.
#[derive(Debug, Default)]
pub(super) struct ApiVersion(AtomicUsize);

impl ApiVersion {
    /// The version for the next call.
    pub(super) fn get(&self) -> &'static str {
        VERSIONS.get(self.0.load(Ordering::Relaxed)).copied().unwrap_or(OLDEST)
    }

    /// Steps down to the version that the server reports as its newest. Returns whether repeating the call makes sense.
    pub(super) fn step_down(&self, asked: &str, refusal: &str) -> bool {
        if !refusal.contains(OUT_OF_RANGE) {
            return false;
        }
        let Some(position) = VERSIONS.iter().position(|version| *version == asked) else { return false };
        let ceiling = refusal.split_once(CEILING).and_then(|(_, rest)| number(rest));
        let next = VERSIONS
            .iter()
            .enumerate()
            .skip(position + 1)
            .find(|(_, version)| ceiling.is_none_or(|ceiling| number(version) <= Some(ceiling)));
        let Some((next, _)) = next else { return false };
        self.0.fetch_max(next, Ordering::Relaxed);
        true
    }
}

/// Parses the version number at the beginning of a text: `7.0.`, `6.1-preview`.
fn number(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.trim().parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(newest: &str) -> String {
        format!(
            "The requested REST API version of 7.1 is out of range for this server. The latest REST API version this server supports is {newest}."
        )
    }

    #[test]
    fn an_older_server_is_asked_in_its_own_version() {
        for (newest, used) in [("7.0", "7.0"), ("6.0", "6.0"), ("6.1", "6.0"), ("7.1", "7.1")] {
            let version = ApiVersion::default();
            assert_eq!(version.get(), "7.1");
            let again = version.step_down("7.1", &refusal(newest));
            assert_eq!(version.get(), if newest == "7.1" { "7.0" } else { used }, "{newest}");
            assert!(again, "{newest}");
        }
    }

    #[test]
    fn what_is_too_old_or_about_something_else_is_left() {
        let version = ApiVersion::default();
        assert!(!version.step_down("7.1", &refusal("5.1")));
        assert!(!version.step_down("7.1", "TF400813: The user is not authorized"));
        assert!(!version.step_down("6.0", &refusal("6.0")));
        assert!(version.step_down("7.1", "is out of range for this server"), "one that names no ceiling");
        assert_eq!(version.get(), "7.0");
    }
}
