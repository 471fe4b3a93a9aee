//! Reads and normalises the values of a Secret's keys: `kubectl create secret --from-file` and editors add line breaks at the
//! end, and people paste spaces.

use std::collections::BTreeMap;

/// Why the value of a key is unusable, and what to do. Names keys, never values. Callers prepend the name of the Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// None of the known keys is present.
    #[error(
        "it has none of the keys token, username and password, email and token, or githubAppID and githubAppPrivateKey; add the \
         keys of one kind of credential"
    )]
    NoKey,
    /// A key that another present key requires is missing.
    #[error("it has {present} but lacks {missing}; add that key")]
    KeyMissing {
        /// The key that is present.
        present: &'static str,
        /// The key that is missing.
        missing: &'static str,
    },
    /// A key is present but empty.
    #[error("the key {0} is empty; set its value")]
    Empty(String),
    /// A key is not UTF-8 text.
    #[error("the key {0} is not UTF-8 text; store it as text")]
    NotText(String),
    /// A token has white space inside.
    #[error("the key {0} contains white space or control characters, which no token has; set it to the token only")]
    NotOneWord(String),
    /// A shared secret has white space at an end.
    #[error(
        "the key {0} begins or ends with white space, which some providers and proxies drop; remove it here and wherever the \
         secret is shared"
    )]
    Edges(String),
    /// Keys of two kinds of credential are present.
    #[error("it contains two kinds of credential, {0} and {1}; remove the keys of one of them")]
    Ambiguous(&'static str, &'static str),
}

/// The keys of a Secret, read as text.
pub struct SecretKeys<'a>(pub &'a BTreeMap<String, Vec<u8>>);

impl SecretKeys<'_> {
    /// Whether a key is present, whatever its value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Reads a name, an id, a date, an address or a PEM key. Drops white space at both ends, which is never intended.
    ///
    /// # Errors
    /// The value is empty or not UTF-8 text.
    pub fn word(&self, key: &str) -> Result<String, SecretError> {
        self.text(key).map(|text| text.trim().to_owned())
    }

    /// Reads a token. Drops white space at both ends; white space inside is an error.
    ///
    /// # Errors
    /// The value is empty, not UTF-8 text, or more than one word.
    pub fn token(&self, key: &str) -> Result<String, SecretError> {
        let token = self.word(key)?;
        let is_one = !token.contains(|character: char| character.is_whitespace() || character.is_control());
        if is_one { Ok(token) } else { Err(SecretError::NotOneWord(key.to_owned())) }
    }

    /// Reads a password, and whether it begins or ends with white space. That may be intended, so it is kept; one line break at
    /// the end is dropped, because no password can be typed with it.
    ///
    /// # Errors
    /// The value is empty or not UTF-8 text.
    pub fn password(&self, key: &str) -> Result<(String, bool), SecretError> {
        let text = self.text(key)?;
        let has_edges = text.trim().len() != text.len();
        Ok((text, has_edges))
    }

    /// Reads a secret that another party shares: like a password, but without white space at either end, which gets lost in
    /// headers.
    ///
    /// # Errors
    /// The value is empty, not UTF-8 text, or begins or ends with white space.
    pub fn shared(&self, key: &str) -> Result<String, SecretError> {
        match self.password(key)? {
            (text, false) => Ok(text),
            (_, true) => Err(SecretError::Edges(key.to_owned())),
        }
    }

    /// Applies one of the readers above to a key that may be absent.
    ///
    /// # Errors
    /// The errors of the reader.
    pub fn optional<T>(&self, key: &str, read: impl Fn(&Self, &str) -> Result<T, SecretError>) -> Result<Option<T>, SecretError> {
        if self.has(key) { read(self, key).map(Some) } else { Ok(None) }
    }

    /// The text without one trailing line break.
    fn text(&self, key: &str) -> Result<String, SecretError> {
        let bytes = self.0.get(key).map(Vec::as_slice).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NotText(key.to_owned()))?;
        let text = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
        if text.trim().is_empty() { Err(SecretError::Empty(key.to_owned())) } else { Ok(text.to_owned()) }
    }
}
