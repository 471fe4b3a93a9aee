//! Makes a provider's text safe to show: one short line without secrets.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::providers::error::LENGTH;
use crate::text::sanitize;

/// Placeholder for redacted text.
const LEFT_OUT: &str = "…";

/// Holds the texts that must not be shown. Its own `Debug` output hides them.
#[derive(Clone, Debug, Default)]
pub(super) struct Redactor(Arc<Vec<SecretString>>);

impl Redactor {
    /// A redactor that also removes these texts, both plain and percent-encoded.
    pub(super) fn with<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = (*self.0).clone();
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            let encoded = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            all.extend([form, encoded].into_iter().filter(|encoded| encoded != text).map(SecretString::from));
            all.push(text.to_owned().into());
        }
        // The longest first: one secret may be part of another.
        all.sort_by_key(|text| std::cmp::Reverse(text.expose_secret().len()));
        Self(Arc::new(all))
    }

    /// Redacts a text so that it is safe to show.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.0.iter() {
            text = text.replace(secret.expose_secret(), LEFT_OUT);
        }
        let words = text.split(|character: char| character.is_whitespace() || character.is_control()).map(without_url_secrets);
        sanitize::line(&words.collect::<Vec<_>>().join(" "), LENGTH)
    }
}

/// Removes user name, password, query and fragment from a URL in a word.
fn without_url_secrets(word: &str) -> String {
    let Some((before, after)) = word.split_once("://") else { return word.to_owned() };
    let scheme_start =
        before.rfind(|character: char| !character.is_ascii_alphanumeric() && character != '+').map_or(0, |position| position + 1);
    let (lead, scheme) = before.split_at_checked(scheme_start).unwrap_or(("", before));
    let end = after.find(['"', '\'', '<', '>', ')', ',', '`']).unwrap_or(after.len());
    let (address, trail) = after.split_at_checked(end).unwrap_or((after, ""));
    match Url::parse(&format!("{scheme}://{address}")) {
        Ok(mut url) => {
            // Both fail only for URLs that cannot have a user name.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.set_fragment(None);
            format!("{lead}{url}{trail}")
        }
        Err(_) => format!("{lead}{scheme}://{LEFT_OUT}{trail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn df_20_no_secret_survives() {
        let redactor = Redactor::default().with(["canary-token", "canary", "pass word/1"]);
        for text in [
            "token canary-token is invalid",
            "https://ada:canary@host/x",
            "no canary",
            "pass%20word%2F1 pass+word%2F1 pass word/1",
            "{\"Authorization\":\"token canary-token\"}",
        ] {
            let clean = redactor.clean(text);
            assert!(!clean.contains("canary") && !clean.contains("word%2F1") && !clean.contains("pass word"), "{clean}");
        }
        assert_eq!(redactor.clean("token canary-token is invalid"), "token … is invalid");
    }

    #[test]
    fn urls_keep_their_place_and_lose_their_secrets() {
        let clean = |text: &str| Redactor::default().clean(text);
        assert_eq!(clean("see https://ada:pw@host/path?token=x#y now"), "see https://host/path now");
        assert_eq!(clean("(\"https://host/a?sig=1\")"), "(\"https://host/a\")");
        assert_eq!(clean("at https://[broken?x=1 end"), "at https://… end");
        assert_eq!(clean("nothing:// here"), "nothing:// here");
    }

    #[test]
    fn a_message_is_one_short_line() {
        let clean = Redactor::default().clean(&format!("a\r\n\tb\u{0}c\u{1b}[31m \u{202e}d {}", "x".repeat(1000)));
        assert!(clean.starts_with("a b c [31m d xxx"), "{clean}");
        assert_eq!(clean.chars().count(), 300);
        assert!(clean.ends_with('…'));
    }

    #[test]
    fn df_20_what_it_knows_does_not_print() {
        assert!(!format!("{:?}", Redactor::default().with(["canary"])).contains("canary"));
    }
}
