//! The values of a Secret's keys, read as they were meant: `kubectl create secret --from-file` and editors leave line breaks
//! behind them, and people paste blanks.

use std::collections::BTreeMap;

/// Why the value of a key cannot be used, and what to do. Names keys, never values. Whoever tells it names the Secret before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No known key is there.
    #[error(
        "it has none of the keys token, username and password, email and token, or githubAppID and githubAppPrivateKey; add those of one \
         kind of credential"
    )]
    NoKey,
    /// A key is missing beside others.
    #[error("it has {present} but lacks {missing}; add that key")]
    KeyMissing {
        /// The key that is there.
        present: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// A key is there and empty.
    #[error("the key {0} is empty; put its value there")]
    Empty(String),
    /// A key is not UTF-8 text.
    #[error("the key {0} is not UTF-8 text; store it as text")]
    NotText(String),
    /// A token has white space inside.
    #[error("the key {0} has white space or control characters between others, which no token has; put the token alone into it")]
    NotOneWord(String),
    /// A shared secret has white space at an end.
    #[error(
        "the key {0} begins or ends with white space, which not every provider and proxy hands on; remove it, here and at whoever shares \
         the secret"
    )]
    Edges(String),
    /// Keys of two kinds of credential are there.
    #[error("it holds two kinds of credential, {0} and {1}; remove the keys of one of them")]
    Ambiguous(&'static str, &'static str),
}

/// The keys of a Secret, read as text.
pub struct SecretKeys<'a>(pub &'a BTreeMap<String, Vec<u8>>);

impl SecretKeys<'_> {
    /// Whether a key is there, whatever its value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A name, an id, a date, an address or a key in PEM: white space at its ends is never meant, and dropped.
    ///
    /// # Errors
    /// When it is empty or no text.
    pub fn word(&self, key: &str) -> Result<String, SecretError> {
        self.text(key).map(|text| text.trim().to_owned())
    }

    /// A token: white space at its ends is dropped, and inside there is none.
    ///
    /// # Errors
    /// When it is empty, no text, or more than one word.
    pub fn token(&self, key: &str) -> Result<String, SecretError> {
        let token = self.word(key)?;
        let is_one = !token.contains(|character: char| character.is_whitespace() || character.is_control());
        if is_one { Ok(token) } else { Err(SecretError::NotOneWord(key.to_owned())) }
    }

    /// A password, and whether it begins or ends with white space. That may be meant, so it stays; one line break at the end is
    /// dropped, because no password can be typed with it.
    ///
    /// # Errors
    /// When it is empty or no text.
    pub fn password(&self, key: &str) -> Result<(String, bool), SecretError> {
        let text = self.text(key)?;
        let has_edges = text.trim().len() != text.len();
        Ok((text, has_edges))
    }

    /// A secret that somebody else knows, too: as a password, but none with white space at an end, which gets lost in headers.
    ///
    /// # Errors
    /// When it is empty, no text, or begins or ends with white space.
    pub fn shared(&self, key: &str) -> Result<String, SecretError> {
        match self.password(key)? {
            (text, false) => Ok(text),
            (_, true) => Err(SecretError::Edges(key.to_owned())),
        }
    }

    /// What a reader above makes of a key that may be absent.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn optional<T>(&self, key: &str, read: impl Fn(&Self, &str) -> Result<T, SecretError>) -> Result<Option<T>, SecretError> {
        if self.has(key) { read(self, key).map(Some) } else { Ok(None) }
    }

    /// The text without one line break at its end.
    fn text(&self, key: &str) -> Result<String, SecretError> {
        let bytes = self.0.get(key).map(Vec::as_slice).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NotText(key.to_owned()))?;
        let text = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
        if text.trim().is_empty() { Err(SecretError::Empty(key.to_owned())) } else { Ok(text.to_owned()) }
    }
}
