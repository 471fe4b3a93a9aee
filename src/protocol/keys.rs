//! Everything that is derived from the install key: who a hook belongs to, its secret, and this installation's
//! fingerprint. The controller has the install key; a receiver of its own has only [`ReceiverKey`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};

/// Bytes of an install key.
pub const INSTALL_KEY_LENGTH: usize = 32;
/// Characters of a hook id.
pub const HOOK_ID_LENGTH: usize = 22;
/// What the version of a secret that a user brought begins with. That of a derived secret consists of digits alone.
const BROUGHT: &str = "own";

/// The one secret of an installation. Losing it costs every hook's identity.
#[derive(Clone)]
pub struct InstallKey {
    key: hmac::Key,
    bytes: [u8; INSTALL_KEY_LENGTH],
}

/// What a receiver needs: hook ids, webhook secrets, and proof towards the controller.
#[derive(Clone)]
pub struct ReceiverKey {
    key: hmac::Key,
    bytes: [u8; 32],
}

/// What only the controller needs: the marks on hooks that deliver elsewhere.
#[derive(Clone)]
pub struct ControllerKey(hmac::Key);

/// A key of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has {INSTALL_KEY_LENGTH} bytes, this one has {0}")]
pub struct KeyLengthError(usize);

fn derive(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            context.update(&[0]);
        }
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.sign().as_ref());
    bytes
}

fn first_half(bytes: [u8; 32]) -> String {
    let [half, _] = bytes.as_chunks::<16>().0 else { unreachable!("32 bytes are two halves") };
    URL_SAFE_NO_PAD.encode(half)
}

impl InstallKey {
    /// A key from its bytes.
    ///
    /// # Errors
    /// When there are not exactly [`INSTALL_KEY_LENGTH`] of them.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyLengthError> {
        let bytes = <[u8; INSTALL_KEY_LENGTH]>::try_from(bytes).map_err(|_| KeyLengthError(bytes.len()))?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes })
    }

    /// The bytes, for the Secret that holds them.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; INSTALL_KEY_LENGTH] {
        &self.bytes
    }

    /// Bytes for a new key, or `None` where the system has no randomness.
    #[must_use]
    pub fn random_bytes() -> Option<[u8; INSTALL_KEY_LENGTH]> {
        let mut bytes = [0; INSTALL_KEY_LENGTH];
        SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
    }

    /// The receiver's part.
    #[must_use]
    pub fn receiver(&self) -> ReceiverKey {
        ReceiverKey::from_array(derive(&self.key, &[b"receiver/v1"]))
    }

    /// The controller's part.
    #[must_use]
    pub fn controller(&self) -> ControllerKey {
        ControllerKey(hmac::Key::new(hmac::HMAC_SHA256, &derive(&self.key, &[b"controller/v1"])))
    }

    /// Tells installations apart: eight hex digits, public.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut digits = hex::encode(derive(&self.key, &[b"installation/v1"]));
        digits.truncate(8);
        digits
    }
}

/// Whose hooks they are: a binding's, made through one connection. The same binding has another identity through another connection,
/// so that a hook which one connection let it make proves nothing once the binding names another one.
#[derive(Clone, Copy, Debug)]
pub struct ConnectedBinding<'a> {
    /// Namespace of the binding.
    pub namespace: &'a str,
    /// Name of the binding.
    pub name: &'a str,
    /// Namespace and name of the connection.
    pub connection: (&'a str, &'a str),
}

impl<'a> ConnectedBinding<'a> {
    const fn parts(self) -> [&'a [u8]; 4] {
        [self.namespace.as_bytes(), self.name.as_bytes(), self.connection.0.as_bytes(), self.connection.1.as_bytes()]
    }
}

impl ReceiverKey {
    /// A key from its bytes.
    ///
    /// # Errors
    /// When there are not exactly 32 of them.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyLengthError> {
        <[u8; 32]>::try_from(bytes).map(Self::from_array).map_err(|_| KeyLengthError(bytes.len()))
    }

    fn from_array(bytes: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes }
    }

    /// The bytes, for the Secret that a receiver of its own reads.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The unguessable part of the delivery URL of a binding's hooks: 22 characters.
    #[must_use]
    pub fn hook_id(&self, owner: ConnectedBinding<'_>) -> String {
        first_half(derive(&self.key, &[&[b"hook/v1".as_slice()], owner.parts().as_slice()].concat()))
    }

    /// The derived webhook secret of one secret version: 32 bytes. Providers write them in their own form.
    #[must_use]
    pub fn webhook_secret(&self, owner: ConnectedBinding<'_>, secret_version: &str) -> [u8; 32] {
        derive(&self.key, &[&[b"secret/v1".as_slice()], owner.parts().as_slice(), &[secret_version.as_bytes()]].concat())
    }

    /// A fingerprint of something secret that consists of parts: 16 hex digits, public. Each part counts with its length, so that
    /// no two lists of parts are the same text.
    #[must_use]
    pub fn fingerprint(&self, parts: &[SecretString]) -> String {
        let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.expose_secret().len() as u64).to_be_bytes()).collect();
        let mut all: Vec<&[u8]> = vec![b"fingerprint/v1"];
        all.extend(parts.iter().zip(&lengths).flat_map(|(part, length)| [length.as_slice(), part.expose_secret().as_bytes()]));
        let mut digits = hex::encode(derive(&self.key, &all));
        digits.truncate(16);
        digits
    }

    /// The version of a webhook secret that a user brought, by all of its parts. Never one that [`derived_second`] reads.
    #[must_use]
    pub fn user_secret_version(&self, parts: &[SecretString]) -> String {
        format!("{BROUGHT}{}", self.fingerprint(parts))
    }

    /// What the controller shows a receiver to be given its evidence.
    #[must_use]
    pub fn evidence_token(&self) -> SecretString {
        SecretString::from(URL_SAFE_NO_PAD.encode(derive(&self.key, &[b"evidence/v1"])))
    }
}

impl ControllerKey {
    /// The mark of a binding on a hook that delivers elsewhere: 22 characters.
    #[must_use]
    pub fn mark(&self, namespace: &str, name: &str) -> String {
        first_half(derive(&self.0, &[b"mark/v1", namespace.as_bytes(), name.as_bytes()]))
    }

    /// What proves that this installation wrote down where a binding has hooks: 22 characters, public. A status can be written
    /// by others, who cannot make one.
    #[must_use]
    pub fn seal(&self, place: [&str; 6]) -> String {
        let [namespace, name, connection_namespace, connection, id, path] = place.map(str::as_bytes);
        first_half(derive(&self.0, &[b"seal/v1", namespace, name, connection_namespace, connection, id, path]))
    }

    /// What tells marks apart that were made under different public URLs: eight characters, public. A copy of a cluster has
    /// the same key and another public URL. `public_url` is empty where there is none.
    #[must_use]
    pub fn origin(&self, public_url: &str) -> String {
        let bytes = derive(&self.0, &[b"origin/v1", public_url.as_bytes()]);
        let [first, ..] = bytes.as_chunks::<6>().0 else { unreachable!("32 bytes begin with six") };
        URL_SAFE_NO_PAD.encode(first)
    }
}

/// The second that the version of a derived secret stands for; `None` for that of a secret that a user brought and for any other
/// text. Only the canonical text counts, so that no secret version has two spellings.
#[must_use]
pub fn derived_second(secret_version: &str) -> Option<i64> {
    let second: i64 = secret_version.parse().ok()?;
    (second >= 0 && second.to_string() == secret_version).then_some(second)
}

/// The textual form of a derived webhook secret, base64url without padding.
#[must_use]
pub fn secret_text(bytes: &[u8; 32]) -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> InstallKey {
        InstallKey::new(&[7; 32]).unwrap()
    }

    fn owner<'a>(namespace: &'a str, name: &'a str) -> ConnectedBinding<'a> {
        ConnectedBinding { namespace, name, connection: ("platform", "acme") }
    }

    #[test]
    fn names_that_concatenate_alike_have_different_ids() {
        let receiver = key().receiver();
        assert_ne!(receiver.hook_id(owner("team", "a-b")), receiver.hook_id(owner("team-a", "b")));
        assert_ne!(receiver.hook_id(owner("ab", "c")), receiver.hook_id(owner("a", "bc")));
        assert_eq!(receiver.hook_id(owner("ab", "c")).len(), HOOK_ID_LENGTH);
    }

    #[test]
    fn a_binding_has_another_identity_through_another_connection() {
        let receiver = key().receiver();
        let through = |connection| ConnectedBinding { connection, ..owner("team", "shop") };
        for other in [("team", "acme"), ("platform", "other"), ("platformacme", "")] {
            assert_ne!(receiver.hook_id(owner("team", "shop")), receiver.hook_id(through(other)), "{other:?}");
            let secret = |owner| receiver.webhook_secret(owner, "1");
            assert_ne!(secret(owner("team", "shop")), secret(through(other)), "{other:?}");
        }
    }

    #[test]
    fn a_receiver_with_its_own_key_derives_the_same() {
        let receiver = key().receiver();
        let restored = ReceiverKey::new(receiver.bytes()).unwrap();
        assert_eq!(receiver.hook_id(owner("a", "b")), restored.hook_id(owner("a", "b")));
        assert_eq!(receiver.webhook_secret(owner("a", "b"), "1"), restored.webhook_secret(owner("a", "b"), "1"));
    }

    #[test]
    fn bb_20_every_binding_and_secret_version_has_its_own_secret() {
        let receiver = key().receiver();
        let secrets = [("a", "b", "1"), ("a", "b", "2"), ("a", "c", "1"), ("c", "b", "1")]
            .map(|(namespace, name, secret_version)| receiver.webhook_secret(owner(namespace, name), secret_version));
        assert!(secrets.iter().enumerate().all(|(at, one)| secrets.iter().skip(at + 1).all(|other| one != other)));
    }

    fn parts(texts: &[String]) -> Vec<SecretString> {
        texts.iter().map(|text| SecretString::from(text.clone())).collect()
    }

    proptest! {
        #[test]
        fn the_secret_version_of_a_brought_secret_is_never_taken_for_that_of_a_derived_one(bytes: [u8; 32], text in ".{0,40}", second in 0_i64..) {
            let brought = ReceiverKey::new(&bytes).unwrap().user_secret_version(&parts(&[text]));
            prop_assert_eq!(derived_second(&brought), None);
            prop_assert_eq!(derived_second(&second.to_string()), Some(second));
            prop_assert_eq!(derived_second(&format!("0{second}")), None, "a second spelling");
        }

        #[test]
        fn every_part_of_a_secret_counts_for_its_fingerprint(one in proptest::collection::vec(".{0,3}", 0..4), other in proptest::collection::vec(".{0,3}", 0..4)) {
            let fingerprint = |texts: &[String]| key().receiver().fingerprint(&parts(texts));
            prop_assert_eq!(fingerprint(&one) == fingerprint(&other), one == other);
        }
    }

    #[test]
    fn a_secret_version_is_decided_by_its_form_and_not_by_chance() {
        // The fingerprint of one in about two thousand secrets consists of digits alone.
        let receiver = key().receiver();
        let of = |number: u32| parts(&[format!("secret-{number}")]);
        let digits = (0..100_000).map(of).find(|parts| receiver.fingerprint(parts).bytes().all(|byte| byte.is_ascii_digit())).unwrap();
        assert_eq!(derived_second(&receiver.user_secret_version(&digits)), None);
    }

    #[test]
    fn lengths_are_checked() {
        assert!(InstallKey::new(&[0; 31]).is_err());
        assert!(ReceiverKey::new(&[0; 33]).is_err());
    }
}
